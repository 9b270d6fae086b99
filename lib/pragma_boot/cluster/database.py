"""The image database: BASE_PATH/vcdb.txt, a line ``name,relative/path/vc-in.xml`` an entry.

The format is that of the PRAGMA sites' databases.
"""
import os

from ..system import names
from ..system.failure import Failure, cause


def entries(base_path: str) -> dict[str, str]:
    """The entries of the database below ``base_path``: {name: absolute path of its vc-in.xml}.

    Raises Failure for a folder without vcdb.txt and for a line that is not an entry.
    """
    path = os.path.join(os.path.abspath(base_path), 'vcdb.txt')
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.read().splitlines()
    except UnicodeDecodeError:
        raise Failure(f"cannot read image database '{path}': not UTF-8 text") from None
    except OSError as error:
        raise Failure(f"cannot read image database '{path}': {cause(error)}") from None
    found = {}
    for count, line in enumerate(lines, 1):
        line = line.split('#', 1)[0].strip()
        if not line:
            continue
        name, comma, relative = (part.strip() for part in line.partition(','))
        if not comma or not relative:
            raise Failure(f"{path}:{count}: not a 'name,path' line: '{line}'")
        names.checked(name, f'{path}:{count}: entry')
        if name in found:
            raise Failure(f"{path}:{count}: entry '{name}' is there twice")
        found[name] = os.path.join(os.path.dirname(path), relative)
    return found


def entry(base_path: str, name: str) -> str:
    """The path of the vc-in.xml of one entry; raises Failure where there is none."""
    found = entries(base_path)
    if name not in found:
        raise Failure(f"no entry '{name}' in image database '{base_path}': "
                      f"it has {', '.join(sorted(found)) or 'none'}")
    return found[name]


def name_of(base_path: str, path: str) -> str | None:
    """The name under which the database has a vc-in.xml, None where it does not have it."""
    try:
        found = entries(base_path)
    except Failure:
        return None
    real = os.path.realpath(path)
    return next((name for name, at in found.items() if os.path.realpath(at) == real), None)
