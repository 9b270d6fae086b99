"""A mirror: the entries of a remote database in a folder that is an image database itself."""
from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..system import files, lock, log
from ..system.failure import Failure
from . import sums, vcdb
from .fetching import CHANGED, FETCHED, KEPT, Site


class Result(NamedTuple):
    """A line for each entry that is new here, and whether an entry failed."""

    lines: list[str]
    failed: bool


def run(site: Site, patterns: Sequence[str], update: bool) -> Result:
    """Fetch the entries whose names match a pattern, all for no pattern; raises Failure.

    An entry that fails is named on stderr, and the others are fetched all the same. vcdb.txt and
    SHA256SUMS are written last, for the entries that are here.
    """
    names = [name for name in sorted(site.remote.entries)
             if not patterns or any(fnmatch.fnmatchcase(name, one) for one in patterns)]
    if not names:
        raise Failure(f"no entry of '{site.remote.url}' matches {' or '.join(map(repr, patterns))}"
                      if patterns else f"'{site.remote.url}' has no entries")
    lines, failed = [], False
    with _alone(site.folder):
        for name in names:
            try:
                done = site.fetch(name, update)
                failed |= done == KEPT
                lines += [f'{done} {name}'] if done in (CHANGED, FETCHED) else []
            except Failure as failure:
                failed = True
                log.warn(f"entry '{name}': {failure}")
        _write(site)
    return Result(lines, failed)


@contextlib.contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Hold the lock of a mirror; raises Failure where another process holds it."""
    path = os.path.join(folder, '.mirror.lock')
    if os.path.exists(os.path.join(folder, vcdb.FILE)) and not os.path.exists(path):
        raise Failure(f"'{folder}' is an image database, but not a mirror: choose another folder")
    os.makedirs(folder, exist_ok=True)
    try:
        with lock.exclusive(path, wait=False):
            yield
    except BlockingIOError:
        raise Failure(f"another vc-fetch --mirror writes to '{folder}'") from None


def _write(site: Site) -> None:
    """Write vcdb.txt and the digests of all entries that are here, unless they are so already."""
    lines, digests = [], {}
    for name in sorted(os.listdir(site.folder)):
        entry = site.entry(name) if vcdb.is_name(name) else None
        if entry:
            lines.append(f'{name},{name}/{entry.vc_in}\n')
            digests.update({f'{name}/{path}': digest for path, digest in entry.digests.items()})
    content = ''.join(lines).encode()
    path = os.path.join(site.folder, vcdb.FILE)
    if _read(path) != content:
        files.write(path, content)
    used = {digest.algorithm for digest in digests.values()} or {'sha256'}
    if len(used) > 1:
        digests = {path: sums.of_file(os.path.join(site.folder, path)) for path in digests}
        used = {'sha256'}
    for name, algorithm in sums.FILES.items():
        path = os.path.join(site.folder, name)
        if algorithm not in used:
            files.remove(path)
            continue
        digests[vcdb.FILE] = sums.of_file(os.path.join(site.folder, vcdb.FILE), algorithm)
        if _read(path) != sums.text(digests):
            files.write(path, sums.text(digests))


def _read(path: str) -> bytes | None:
    """The content of a file, None where it is not there."""
    try:
        with open(path, 'rb') as file:
            return file.read()
    except FileNotFoundError:
        return None
