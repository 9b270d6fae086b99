"""Publish an image database: the digests of its files, and their signature, beside vcdb.txt."""
from __future__ import annotations

import fcntl
import os
import posixpath
from collections.abc import Iterator

from ..document import tree, vcin
from ..system import files, lock, openpgp
from ..system.failure import Failure
from ..system.settings import Settings
from . import sums, vcdb

NAME = 'SHA256SUMS'


def publish(base_path: str, key: str | None, settings: Settings) -> int:
    """Write SHA256SUMS, and its signature by ``key``; the number of files in it.

    All entries are checked first: raises Failure, and writes nothing, where one cannot be used.
    """
    base = os.path.abspath(vcdb.folder(base_path))
    path = os.path.join(base, NAME)
    signatures = [path + suffix for suffix in sums.SIGNATURES if os.path.exists(path + suffix)]
    if signatures and not key:
        raise Failure(f"the database is signed: name the key with --key, or remove "
                      f"'{signatures[0]}' first")
    if not os.path.isdir(base):
        raise Failure(f"there is no folder '{base}'")
    with lock.on_folder(base, fcntl.LOCK_EX):
        digests = {name: sums.of_file(os.path.join(base, name))
                   for name in sorted(_files(base, settings))}
        _write(path, sums.text(digests), key)
        for other in signatures:
            if other != path + sums.SIGNATURES[0]:
                os.unlink(other)
    return len(digests)


def _write(path: str, content: bytes, key: str | None) -> None:
    """Write the digests and their signature, whole; raises Failure."""
    draft, signature = files.temporary(path), path + sums.SIGNATURES[0]
    signed = files.temporary(signature)
    with files.draft(path) as file:
        file.write(content)
        file.flush()
        try:
            if key:
                openpgp.sign(draft, signed, key, f"'{path}'")
            files.commit(file, draft, path, 0o644)
            if key:
                with open(signed, 'r+b') as other:
                    files.commit(other, signed, signature, 0o644)
        finally:
            files.remove(signed)


def _files(base: str, settings: Settings) -> Iterator[str]:
    """The paths of vcdb.txt, and of the vc-in.xml and images of each entry; raises Failure."""
    def refuse(message: str) -> None:
        raise Failure(f'{message}: mend or remove this line')
    yield vcdb.FILE
    for name, path in vcdb.entries(base, refuse).items():
        try:
            relative = sums.checked(os.path.relpath(path, base), 'vc-in.xml')
            yield relative
            root = tree.read_file(path, 'vc-in')
            vcin.resolve(root, os.path.dirname(path), path, settings)
            for image in vcin.files(root):
                yield sums.checked(posixpath.relpath(image, base), 'image')
        except Failure as failure:
            raise Failure(f"entry '{name}' cannot be published: {failure}: mend it, or remove its "
                          f"line from '{os.path.join(base, vcdb.FILE)}'") from None
