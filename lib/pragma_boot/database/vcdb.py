"""The image database: BASE_PATH/vcdb.txt, a line ``name,relative/path/vc-in.xml`` an entry.

The format is that of the PRAGMA sites' databases.
"""
import contextlib
import os
import re
from collections.abc import Callable, Mapping

from ..system import files, log
from ..system.failure import Failure, cause

FILE = 'vcdb.txt'

RECORD = '.fetched.xml'
"""The file in the folder of a fetched entry, whose name is the entry's."""

LABEL = '[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?'
PATTERN = rf'(?=.{{1,63}}\Z){LABEL}(\.{LABEL})*'
"""Names of entries: like the names of clusters and nodes, with '_' too."""


def is_name(text: str) -> bool:
    """Whether a text matches PATTERN."""
    return bool(re.fullmatch(PATTERN, text))


def checked(name: str) -> str:
    """``name`` itself; raises Failure for what is no name of an entry."""
    if not is_name(name):
        raise Failure(f"entry {name!r} is not a name: at most 63 letters, digits, '-', '_' and "
                      "'.', without '-' at an end or beside a '.'")
    return name


def skipped(message: str) -> None:
    """Say of a bad line that it is passed over."""
    log.warn(f'{message}: the line is skipped')


def entries(base_path: str, complain: Callable[[str], None] = skipped) -> dict[str, str]:
    """The entries of the database below ``base_path``: {name: absolute path of its vc-in.xml}.

    ``complain`` is called with a message for each line that is not an entry, which is skipped.
    Raises Failure for a folder without vcdb.txt.
    """
    path = os.path.join(os.path.abspath(folder(base_path)), FILE)
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        raise Failure(f"cannot read image database '{path}': {cause(error)} (a base_path in "
                      'site_conf.conf is relative to the folder of that file)') from None
    return {name: os.path.join(os.path.dirname(path), relative)
            for name, relative in parse(content, path, complain).items()}


def is_remote(base_path: str) -> bool:
    """Whether a database is named by a URL."""
    return bool(re.match('[A-Za-z][A-Za-z0-9+.-]*:/', base_path))


def folder(base_path: str) -> str:
    """``base_path`` itself; raises Failure where it is a URL."""
    if is_remote(base_path):
        raise Failure(f"image database '{base_path}' is on a web server: this needs a folder")
    return base_path


def parse(content: bytes, path: str, complain: Callable[[str], None]) -> dict[str, str]:
    """The entries of a vcdb.txt: {name: path of its vc-in.xml as written there}.

    ``complain`` is called for each bad line, with ``path`` and the number of the line.
    """
    found: dict[str, str] = {}
    for count, line in enumerate(content.splitlines(), 1):
        try:
            name, relative = _entry(line)
            if name in found:
                raise Failure(f"duplicate entry '{name}'")
        except Failure as failure:
            complain(f'{path}:{count}: {failure}')
            continue
        if name:
            found[name] = relative
    return found


def _entry(line: bytes) -> tuple[str, str]:
    """The name and the path of a line, '' and '' for a line without an entry; raises Failure."""
    try:
        text = line.decode().split('#', 1)[0].strip().removeprefix('\ufeff')
    except UnicodeDecodeError:
        raise Failure('not UTF-8 text') from None
    if not text:
        return '', ''
    name, _, relative = (part.strip() for part in text.partition(','))
    if not relative:
        raise Failure(f"not a 'name,path' line: '{text}'")
    checked(name)
    if '\0' in relative:
        raise Failure(f'path {relative!r} has a NUL character')
    return name, relative


def entry(base_path: str, name: str) -> str:
    """The path of the vc-in.xml of one entry; raises Failure where there is none."""
    return chosen(entries(base_path), base_path, name)


def chosen(found: Mapping[str, str], base_path: str, name: str) -> str:
    """The path of the entry ``name`` of those that a database has; raises Failure."""
    if name not in found:
        raise Failure(f"no entry '{name}' in image database '{base_path}': "
                      f"it has {', '.join(sorted(found)) or 'none'}")
    return found[name]


def name_of(base_path: str, path: str) -> str | None:
    """The name under which the database has a vc-in.xml, None where it does not have it.

    Bad lines are not named: the caller was not asked about the database.
    """
    base = os.path.dirname(os.path.realpath(path))
    if os.path.exists(os.path.join(base, RECORD)):
        return os.path.basename(base)
    if is_remote(base_path):
        return None
    try:
        found = entries(base_path, log.detail)
    except Failure:
        return None
    real = os.path.realpath(path)
    return next((name for name, at in found.items() if os.path.realpath(at) == real), None)


def add(base_path: str, name: str, relative: str) -> None:
    """Add the entry ``name`` to vcdb.txt, whose other lines stay as they are, byte for byte.

    The caller holds the lock of the folder.
    """
    path = os.path.realpath(os.path.join(base_path, FILE))
    content, mode = b'', 0o644
    with contextlib.suppress(FileNotFoundError), open(path, 'rb') as file:
        content, mode = file.read(), os.fstat(file.fileno()).st_mode & 0o777
    end = b'\n' if content and not content.endswith(b'\n') else b''
    files.write(path, content + end + f'{name},{relative}\n'.encode(), mode)
