"""SHA256SUMS and SHA512SUMS beside vcdb.txt: the digests of a published database.

The format is that of sha256sum(1). Paths are below the folder of the file.
"""
from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from ..system.failure import Failure

FILES = {'SHA256SUMS': 'sha256', 'SHA512SUMS': 'sha512'}
"""The names, in the order in which they are looked for, and their algorithms."""

SIGNATURES = ('.asc', '.gpg')
"""Suffixes of detached signatures."""

LINE = r'([0-9a-fA-F]+) [ *](?:\./)?(.+)'
CHUNK = 1 << 20

LONGEST, LONGEST_PATH = 200, 1000
"""Characters of a file's name, and of its path: file systems take 255 bytes of a name."""


class Digest(NamedTuple):
    """An algorithm of hashlib, and a digest, hexadecimal in lower case."""

    algorithm: str
    hex: str


def parse(content: bytes, algorithm: str, subject: str) -> dict[str, Digest]:
    """The digests by path. Other lines are passed over, and paths that only a hostile file has."""
    length = hashlib.new(algorithm).digest_size * 2
    found = {}
    for line in content.decode(errors='replace').splitlines():
        match = re.fullmatch(LINE, line)
        if match and len(match[1]) == length:
            found[match[2]] = Digest(algorithm, match[1].lower())
    if not found:
        raise Failure(f"{subject} has no digest in the format of {algorithm}sum")
    return found


def text(digests: Mapping[str, Digest]) -> bytes:
    """The lines of a file of digests, in order of path."""
    return ''.join(f'{digest.hex}  {path}\n' for path, digest in sorted(digests.items())).encode()


def of_file(path: str, algorithm: str = 'sha256') -> Digest:
    """The digest of a file; raises OSError."""
    with open(path, 'rb') as file:
        return Digest(algorithm, hashlib.file_digest(file, algorithm).hexdigest())


def checked(path: str, what: str) -> str:
    """``path``, of ``what``, in its shortest form; raises Failure where it may lead elsewhere.

    It comes from an author, and becomes part of a URL and of a path in our own folder.
    """
    parts = path.split('/')
    kept = [part for part in parts if part != '.']
    if (not kept or not path.isprintable() or '\\' in path or ':' in path
            or len(path) > LONGEST_PATH
            or any(part.startswith('.') or not part or len(part) > LONGEST for part in kept)):
        raise Failure(f"{what} {path!r} is not a path below the folder of its database, of names "
                      "that do not begin with '.'")
    return '/'.join(kept)
