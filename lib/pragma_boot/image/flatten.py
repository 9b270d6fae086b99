"""Copy the disk of a node, an overlay and its backing image, to one sparse raw file."""
from __future__ import annotations

import os
from typing import BinaryIO

from . import overlay, qcow2, sparse


def flatten(path: str, backing: str, target: BinaryIO, maximum: int, subject: str) -> None:
    """Write the disk ``path``, an overlay on the raw image ``backing``, to the empty ``target``.

    Both are only read. Raises Failure for a disk of more than ``maximum`` bytes, and where a guest
    has it open.
    """
    with open(path, 'rb') as file:
        size = qcow2.require_harmless(file.fileno(), maximum, subject, overlay=True)
        owner, ours = os.fstat(file.fileno()), os.fstat(target.fileno())
    os.ftruncate(target.fileno(), size)
    # QEMU opens files anew, so this one must be its user's too.
    os.fchown(target.fileno(), owner.st_uid, owner.st_gid)
    with overlay.described(path, backing, size) as disk:
        disk.run(['qemu-img', 'convert', '-O', 'raw', '-n', '--target-is-zero', '-W', disk.device,
                  f'/dev/fd/{target.fileno()}'], f'{subject}: cannot copy the disk',
                 descriptors=(target.fileno(),))
    os.fchown(target.fileno(), ours.st_uid, ours.st_gid)


def copy(path: str, target: BinaryIO) -> None:
    """Copy the raw image ``path`` to the empty ``target``, sparse."""
    with open(path, 'rb') as file:
        sparse.copy(file.raw, target.fileno(), os.fstat(file.fileno()).st_size)
