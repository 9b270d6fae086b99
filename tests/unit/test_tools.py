"""lib/tools.tsv, the one list of tools, and all that must agree with it."""
import csv
import re

import pytest

from lab import ROOT

with open(ROOT / 'lib' / 'tools.tsv', encoding='utf-8', newline='') as file:
    TOOLS = list(csv.DictReader(file, delimiter='\t'))


def names(argument=None):
    return [tool['tool'] for tool in TOOLS if argument in (None, tool['argument'])]


def test_has_every_tool_with_its_page():
    files = [path.name for path in (ROOT / 'bin').iterdir() if path.is_file()]
    assert sorted(names()) == sorted(files)
    pages = {path.name for path in (ROOT / 'man').glob('*.1')}
    assert pages == {f'{name}.1' for name in names()}


@pytest.mark.parametrize('tool', TOOLS, ids=names())
def test_the_summary_is_that_of_the_tool_and_its_page(tool):
    text = (ROOT / 'bin' / tool['tool']).read_text(encoding='utf-8')
    assert text.split('"""')[1].splitlines()[0] == f"{tool['tool']}: {tool['summary']}"
    page = (ROOT / 'man' / f"{tool['tool']}.1").read_text(encoding='utf-8')
    assert f"\n.Nd {tool['summary']}\n" in page


@pytest.mark.parametrize('path, begin, end, row', [
    ('README.md', '| tool | purpose |\n|---|---|\n', '\n', '| `{tool}` | {summary} |\n'),
    ('man/pragma_boot.7', '.\\" table of lib/tools.tsv\n.Bl -tag -width vc-allocate\n', '.El\n',
     '.It Xr {tool} 1\n{summary}\n'),
])
def test_tables_are_made_from_it(request, path, begin, end, row):
    """pytest --regenerate writes them."""
    text = (ROOT / path).read_text(encoding='utf-8')
    table = begin + ''.join(row.format(**tool) for tool in TOOLS) + end
    if request.config.getoption('--regenerate'):
        old = re.compile(f'{re.escape(begin)}(?:.*\n)*?{re.escape(end)}')
        text = old.sub(lambda _: table, text, count=1)
        (ROOT / path).write_text(text, encoding='utf-8')
    assert table in text


@pytest.mark.parametrize('shell', ['bash', 'zsh'])
def test_completions_name_no_tool_of_their_own(shell):
    text = (ROOT / 'lib' / 'completion' / shell).read_text(encoding='utf-8')
    assert text.count('@clusters@') == 1 and text.count('@tools@') == (shell == 'bash')
    named = {name for name in names() if re.search(rf'{name}(?![\w-])', text)}
    # They ask vc-list and vc-status for entries, clusters and nodes. vc-console takes a node.
    assert named == {'pragma_boot', 'vc-list', 'vc-status', 'vc-console'}
