"""How the tree is laid out: rules that no tool checks by itself."""
import ast

from lab import ROOT


def test_no_test_file_imports_another():
    """Helpers are in conftest.py and lab/, so that a test file can be changed or moved alone."""
    for path in (ROOT / 'tests').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else \
                [node.module or ''] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith(('test_', 'conftest'))], f'{path}: {names}'
