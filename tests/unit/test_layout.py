"""How the tree is laid out: rules that no other tool checks."""
import ast
import graphlib
import re

import grimp
import pytest

from lab import ROOT
from pragma_boot.engine import registry

LAYERS = ('cli', 'cluster', 'database', 'engine', 'image', 'document', 'system')
"""The packages of lib/pragma_boot from top to bottom."""

LIB = ROOT / 'lib' / 'pragma_boot'
MODULES = sorted(LIB.rglob('*.py'))
TOOLS = sorted((ROOT / 'bin').iterdir())


@pytest.fixture(scope='module')
def graph():
    """The imports between our modules, those inside functions included."""
    return grimp.build_graph('pragma_boot', cache_dir=None)


def test_imports_run_downwards(graph):
    assert {path.name for path in LIB.iterdir() if path.is_dir() and path.name[0] != '_'} \
        == set(LAYERS)
    assert graph.find_illegal_dependencies_for_layers(
        layers=[f'pragma_boot.{layer}' for layer in LAYERS]) == set()


def test_no_modules_import_each_other(graph):
    """graphlib raises CycleError, with the cycle in it."""
    imports = {module: graph.find_modules_directly_imported_by(module)
               for module in graph.modules}
    assert list(graphlib.TopologicalSorter(imports).static_order())
    # The registry imports these by name, which grimp does not see.
    for kind in {*registry.KINDS.values(), registry.LIBVIRT, registry.EXTERNAL}:
        assert 'pragma_boot.engine.registry' not in \
            graph.find_upstream_modules(f'pragma_boot.engine.{kind.module}')


def test_tools_and_modules_are_short():
    for path in TOOLS:
        assert len(path.read_text(encoding='utf-8').splitlines()) <= 100, path
    for path in MODULES:
        assert len(path.read_text(encoding='utf-8').splitlines()) <= 250, path


def test_packages_and_modules_say_what_they_are():
    for path in MODULES:
        text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
        assert text, path
        # What lives in a package, and what does not.
        if path.name == '__init__.py' and path.parent != LIB:
            assert 'Not here: ' in text and len(text.splitlines()) <= 6, path


def strings(path):
    """The string constants of a file by line, without docstrings."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [(node.lineno, node.value) for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            and id(node) not in documentation]


def test_only_engines_know_their_names():
    """No other module decides by the name of an engine or the scheme of a URI."""
    settings = LIB / 'system' / 'settings.py'    # has default values
    for path in {*TOOLS, *MODULES} - {settings} - set((LIB / 'engine').iterdir()):
        for line, text in strings(path):
            assert not re.fullmatch(r'ganeti|libvirt|qemu|[\w+]*://.*', text), \
                f'{path}:{line}: {text}'


@pytest.mark.parametrize('page', ['HACKING.md', 'README.md', 'CHANGELOG.md'])
def test_paths_that_pages_name_exist(page):
    """Relative to the tree or to lib/pragma_boot; words in capitals are placeholders."""
    text = (ROOT / page).read_text(encoding='utf-8')
    for path in re.findall(r'`([a-z][\w.-]*/[\w./-]+)`', text):
        if not re.search('[A-Z]{3}', path):
            assert (ROOT / path).exists() or (LIB / path).exists(), path


def test_no_test_file_imports_another():
    """Helpers are in conftest.py and lab/, so that a test file can be changed or moved alone."""
    for path in (ROOT / 'tests').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or '']
            assert not [name for name in names if name.startswith(('test_', 'conftest'))], path


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
