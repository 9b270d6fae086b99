"""Tables that stand in the code and in a manual page: the same in both."""
import re
import subprocess

import pytest
from conftest import ROOT, need
from pragma_boot import permit

PAGE = ROOT / 'man' / 'vc-in.xml.5'


def item(reason, names):
    """A list's item of mdoc(7)."""
    return f'.It {reason[0].upper()}{reason[1:]}\n' + ' ,\n'.join(f'.Li {quoted(name)}' for name in names) + '\n'


def quoted(name):
    return f'"{name}"' if ' ' in name else name


def allowed():
    """The items of what is carried over: elements, attributes, and the values that are taken."""
    for group in permit.ALLOWED:
        names = []
        for path, rules in group.elements.items():
            if not rules and not any(other.startswith(f'{path}/') for other in group.elements):
                names.append(path)
            for name, values in rules.items():
                where = path if name == permit.TEXT else f'{path}@{name}'
                names.append(where if values is None else f'{where}={"|".join(values)}')
        yield item(group.reason, names)


def refused():
    """The items of what is refused, by what it does."""
    reasons = list(dict.fromkeys(reason for _, reason in permit.REFUSED))
    for reason in reasons:
        yield item(reason, [shown(where) for where, why in permit.REFUSED if why == reason])


def shown(where):
    """An XPath as the page has it: serial@type=file|dev for serial[@type='file' or @type='dev']."""
    types = re.search(r"\[(@type='[^]]*)\]$", where)
    if types:
        where = where[:types.start()] + '@type=' + '|'.join(re.findall("'([^']*)'", types[1]))
    return where.removeprefix('.//')


@pytest.mark.parametrize('table', [allowed, refused])
def test_the_page_has_the_codes_table(table):
    text = PAGE.read_text(encoding='utf-8')
    begin = f'.\\" table of lib/pragma_boot/permit.py: {table.__name__}\n.Bl -tag -width Ds\n'
    assert begin in text
    assert text.split(begin, 1)[1].split('.El\n', 1)[0] == ''.join(table())


@pytest.mark.parametrize('page', sorted(PAGE.parent.iterdir()), ids=lambda page: page.name)
def test_groff_has_nothing_to_say(page):
    need('groff')
    done = subprocess.run(['groff', '-mdoc', '-Tutf8', '-ww', '-z', page], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b'', b'')
