"""The manual pages agree with the tools and the code, and their examples run."""
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from lxml import etree

from lab import ROOT, SCRATCH
from lab.images import make_image, pack
from lab.needs import need, need_fuse
from lab.nodes import without_dependency
from lab.site import Site, lines
from pragma_boot.document import difference, permit, refusal
from pragma_boot.engine import registry
from pragma_boot.system import settings

PAGES = sorted((ROOT / 'man').glob('*.[1-9]'))
TOOLS = sorted(os.listdir(ROOT / 'bin'))
PAGE = ROOT / 'man' / 'vc-in.xml.5'

pages = pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
tools = pytest.mark.parametrize('tool', TOOLS)


def rendered(page, width=78, device='ascii'):
    """A page as a terminal of ``width`` columns shows it, without bold and underlined."""
    need('groff')
    # AD: groff 1.23 would otherwise warn of each line that it cannot adjust; 1.22 does not know it.
    done = subprocess.run(['groff', '-mdoc', f'-T{device}', '-ww', f'-rLL={width}n', '-dAD=l',
                           '-P-c', page],
                          capture_output=True, check=True)
    assert done.stderr == b''
    return re.sub('.\b', '', done.stdout.decode())


def section(text, name):
    """The text of a rendered page below a heading, '' without such a heading."""
    found = re.search(rf'^{name}\n(.*?)(?=^\S|\Z)', text, re.M | re.S)
    return found[1] if found else ''


def options(text):
    return set(re.findall(r'(?<![\w<>-])--?[A-Za-z][A-Za-z_-]*', text))


@pages
def test_a_page_is_sound(page):
    """groff has no warning, lines have 80 columns, sections are in order, references exist."""
    text = rendered(page, device='utf8')
    assert [line for line in text.splitlines() if len(line) > 80] == []
    headings = re.findall(r'^([A-Z][A-Z ]+)$', text, re.M)
    wanted = ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'OPTIONS', 'ENVIRONMENT', 'FILES', 'EXIT STATUS',
              'EXAMPLES',
              'SEE ALSO', 'CAVEATS']
    assert headings == [name for name in wanted if name in headings]
    assert {'NAME', 'DESCRIPTION', 'EXAMPLES', 'SEE ALSO'} <= set(headings)
    assert page.suffix != '.1' or {'SYNOPSIS', 'OPTIONS', 'EXIT STATUS'} <= set(headings)
    there = {path.name for path in PAGES}
    for name, number in re.findall(r'^\.(?:It )?Xr (\S+) (\d)', page.read_text(), re.M):
        assert f'{name}.{number}' in there or not re.match('vc-|pragma_boot|site_conf', name), name


@tools
def test_options_are_those_of_the_tool(empty_site, tool):
    help = empty_site.run(tool, '--help').stdout.decode()
    text = rendered(ROOT / 'man' / f'{tool}.1', width=1000)
    usage, listed = re.search('Usage:\n(.*?)\n\n', help, re.S)[1], help.split('Options:\n',
                                                                              1)[1].split('\n\n')[0]
    assert options(section(text, 'SYNOPSIS')) == options(usage)
    names = re.findall('^ {2}(-.*?)(?: {2}|$)', listed, re.M)
    # groff indents by 5, 1.23 by 7.
    shown = re.findall(r'^(?: {5}| {7})(-.*?)(?: {2}|$)', section(text, 'OPTIONS'), re.M)
    assert [' '.join(name.split()).lower() for name in shown] == [name.lower() for name in names]
    title = re.search(r'^\.Nd (.*)$', (ROOT / 'man' / f'{tool}.1').read_text(), re.M)[1]
    assert help.splitlines()[0] == f'{tool}: {title}' or tool == 'vc-graph'
    for status in ('0', '1', '2', '130'):
        assert re.search(rf'^ +{status} ', section(text, 'EXIT STATUS'), re.M) or tool == 'vc-ssh'


def test_settings_are_those_of_the_code():
    """Each key with its default."""
    text = (ROOT / 'man/site_conf.conf.5').read_text()
    output = {key: value.removeprefix('Pa ')
            for key, value in re.findall(r'^\.It Li ([a-z_]+) Bq ?(.*)$', text, re.M)}
    assert output == {key: os.path.relpath(value, ROOT) if value.startswith(str(ROOT)) else value
                    for key, value in settings.DEFAULTS.items()}
    written = settings.Settings.read(ROOT / 'site_conf.conf')
    assert all(written[key] == value or written.path_of(key) == value
               for key, value in settings.DEFAULTS.items())


def test_the_example_of_settings_is_valid(tmp_path):
    (tmp_path / 'site_conf.conf').write_text('\n'.join(blocks(ROOT / 'man/site_conf.conf.5')))
    assert len(registry.site_uris(settings.Settings.read(tmp_path / 'site_conf.conf'))) == 2


def test_vc_out_is_what_the_stylesheet_makes():
    """The page lists every element with text and every attribute, for both roles."""
    text = (ROOT / 'man/vc-out.xml.5').read_text()
    output = {name.strip() for line in re.findall(r'^\.It Li (.*)$', text, re.M)
            for name in line.split(' , ')}
    # The size of a disk is there if the disk is larger than its image.
    found = {'vc', 'vc/network', 'vc/frontend@disk_size', 'vc/compute@disk_size'}
    for name in ('frontend', 'compute'):
        root = etree.parse(ROOT / 'tests/data' / f'vc-out-{name}-out.xml').getroot()
        for element in root.iter():
            path = '/'.join([*(parent.tag for parent in reversed(list(element.iterancestors()))),
                             element.tag])
            found.update(f'{path}@{attribute}' for attribute in element.attrib)
            if not len(element) and not element.attrib:
                found.add(path)
    assert output == found


def blocks(page):
    """The literal blocks in a page's EXAMPLES, as a user would type them."""
    text = page.read_text().split('.Sh EXAMPLES\n', 1)[1].split('.Sh SEE ALSO', 1)[0]
    found = re.findall(r'^\.Bd -literal.*?\n(.*?)^\.Ed$|^\.Dl ([^\n]*)$', text, re.M | re.S)
    return [(block or line).replace('\\e', '\\').replace('\\&', '').strip('\n')
            for block, line in found]


def needs_a_guest(example):
    """Whether an example needs a running guest or a Ganeti cluster."""
    return re.search(r'vc-ssh|vc-console|vc-resize|--wait|gnt-|scp |ansible -', example)


def examples():
    """The examples in pages of sections 1 and 7 and at the end of each --help, by their place."""
    found = {f'{page.name} {number}': block for page in PAGES if page.suffix in ('.1', '.7')
             for number, block in enumerate(blocks(page), 1)}
    for tool in TOOLS:
        help = (ROOT / 'bin' / tool).read_text().split('"""')[1]
        found[f'{tool} --help'] = help.split('Example:\n', 1)[1].strip()
    return found


@pytest.fixture(scope='module')
def desk():
    """A site with what the examples use: an entry debian, a cluster debian, its documents."""
    need('dot')
    need_fuse()
    folder = Path(tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH))
    folder.chmod(0o755)
    site = Site(folder, f'drivers_path = {ROOT}/drivers\n')
    site.vc_in = site.add_entry('debian', pack(make_image(folder / 'my.img')))
    without_dependency(site)
    for path in site.vc_in.parent.iterdir():
        os.link(path, folder / path.name)
    for name in ('drivers', 'examples'):
        (folder / name).symlink_to(ROOT / name)
    (folder / 'home/.ssh').mkdir(parents=True)
    shutil.copy(site.key, folder / 'home/.ssh/id_ed25519.pub')
    parsed = site.run('vc-parse', site.vc_in).stdout
    site.staged = site.run('vc-stage', input=parsed).stdout
    yield site
    for name in site.clusters():
        site.run('vc-clean', name)
    shutil.rmtree(folder)


@pytest.mark.parametrize('where', [where for where, example in examples().items()
                                   if not needs_a_guest(example)])
def test_an_example_runs(desk, where):
    for name in desk.clusters():
        desk.run('vc-clean', name)
    allocated = desk.run('vc-allocate', '--num-cpus', 4, '--name', 'debian',
                         input=desk.staged).stdout
    documents = {'staged': desk.staged, 'allocated': allocated, 'document': allocated,
                 'injected': desk.run('vc-inject', input=allocated).stdout}
    for name, document in documents.items():
        (desk.folder / f'{name}.xml').write_bytes(document)
    done = subprocess.run(
        ['bash', '-euo', 'pipefail', '-c', examples()[where]], cwd=desk.folder, capture_output=True,
        check=False,
        timeout=300, env={**desk.environment(), 'PATH': f"{ROOT}/bin:{os.environ['PATH']}",
                          'HOME': str(desk.folder / 'home')})
    # vc-check exits 1 for an image that has no system in it.
    assert done.returncode in ((0, 1) if 'vc-check' in where else (0,)), done
    assert not [line for line in lines(done.stderr) if 'usage' in line
                or 'internal error' in line], done


def test_make_help_fits_a_terminal(empty_site):
    output = lines(empty_site.make().stdout)
    assert any(line.startswith('  make demo ') for line in output) and max(map(len, output)) <= 80


def test_most_examples_run():
    assert sum(map(bool, map(needs_a_guest, examples().values()))) < len(examples()) / 2


def item(reason, names):
    """A list's item of mdoc(7)."""
    return f'.It {reason[0].upper()}{reason[1:]}\n' + ' ,\n'.join(f'.Li {quoted(name)}'
                                                                  for name in names) + '\n'


def quoted(name):
    return f'"{name}"' if ' ' in name else name


BAR = r'|\:'
"""Between values, where a line may be broken."""


def allowed():
    """The items of what is carried over: elements, attributes, and permitted values."""
    for group in permit.ALLOWED:
        names = []
        for path, rules in group.elements.items():
            if not rules and not any(other.startswith(f'{path}/') for other in group.elements):
                names.append(path)
            for name, values in rules.items():
                where = path if name == permit.TEXT else f'{path}@{name}'
                names.append(where if values is None else f'{where}={BAR.join(values)}')
        yield item(group.reason, names)


def refused():
    """The items of what is refused, by what it does."""
    reasons = list(dict.fromkeys(reason for _, reason in refusal.REFUSED))
    for reason in reasons:
        yield item(reason, [shown(where) for where, why in refusal.REFUSED if why == reason])


def different():
    """The items of what nodes have otherwise, by what they have instead."""
    for reason in dict.fromkeys(reason for _, reason in difference.DIFFERENT):
        yield item(reason, [shown(where) for where, why in difference.DIFFERENT if why == reason])


def shown(where):
    """An XPath as the page shows it: serial@type=file|dev for [@type='file' or @type='dev']."""
    types = re.search(r"\[(@type='[^]]*)\]$", where)
    if types:
        where = where[:types.start()] + '@type=' + '|'.join(re.findall("'([^']*)'", types[1]))
    return where.removeprefix('.//')


@pytest.mark.parametrize('table', [allowed, refused, different])
def test_the_page_has_the_codes_table(table):
    text = PAGE.read_text(encoding='utf-8')
    module = {allowed: 'permit', refused: 'refusal', different: 'difference'}[table]
    begin = (f'.\\" table of lib/pragma_boot/document/{module}.py: {table.__name__}\n'
             '.Bl -tag -width Ds\n')
    assert begin in text
    assert text.split(begin, 1)[1].split('.El\n', 1)[0] == ''.join(table())
