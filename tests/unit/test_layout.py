"""How the tree is laid out: rules that no tool checks by itself."""
import ast
import re

from lab import ROOT


def test_no_test_file_imports_another():
    """Helpers are in conftest.py and lab/, so that a test file can be changed or moved alone."""
    for path in (ROOT / 'tests').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module or ''] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names
                        if name.startswith(('test_', 'conftest'))], f'{path}: {names}'


def test_every_fault_has_a_test():
    """The rows of faults.md that are handled, by the names of all tests."""
    handled, _, others = (ROOT / 'tests/faults.md').read_text(encoding='utf-8').partition(
        '\n## Not handled yet')
    rows, later = ([int(number) for number in re.findall(r'^(\d+)\. ', text, re.M)]
                   for text in (handled, others))
    assert sorted(rows + later) == list(range(1, len(rows) + len(later) + 1))
    text = ''.join(path.read_text(encoding='utf-8')
                   for path in (ROOT / 'tests').glob('*/test_*.py'))
    names = re.findall(r'^def test_row_((?:\d\d_)+)', text, re.M)
    assert {int(number) for name in names for number in name.split('_') if number} == set(rows)
