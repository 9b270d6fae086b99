"""Take the traces of its machine out of a copy of a node's disk.

The copy is a raw file. An ext2, ext3 or ext4 file system becomes a file of its own, so that
e2fsprogs work on it as on any other, and is read without its unused bytes afterwards. Nothing is
mounted, and no appliance is started.
"""
from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator
from typing import BinaryIO, NamedTuple

from ..system import confinement, inodes
from ..system.failure import Failure
from . import partition, root, table, traces, unused
from .sparse import CHUNK
from .unused import SWAP_HEADER, Range

WITHOUT = (table.BIOS_BOOT, table.POWERPC_BOOT, table.RESERVED, *table.EXTENDED)
"""Types of partitions that have no file system: of boot loaders, reserved, and extended ones."""

_ZEROS = bytes(CHUNK)


class Part(NamedTuple):
    """Bytes of a disk from ``offset`` to ``end`` that are read from ``file``, from ``start`` on.

    What is in ``unused`` (offsets on the disk) is read as zeros.
    """

    offset: int
    end: int
    file: BinaryIO
    start: int
    unused: list[Range]


class Removed(NamedTuple):
    """What was taken out: files, and bytes that the copy has no more."""

    files: int
    bytes: int


class Copy:
    """The copy of a disk without traces, to be read from its beginning to its end."""

    def __init__(self, parts: list[Part], removed: Removed) -> None:
        self._parts = parts
        self.removed = removed
        self.size = parts[-1].end

    def chunks(self) -> Iterator[bytes | bytearray]:
        """The bytes of the disk, in pieces of at most CHUNK."""
        for part in self._parts:
            ranges = iter([*part.unused, (part.end, part.end)])
            begin, end = next(ranges)
            position = part.offset
            while position < part.end:
                size = min(CHUNK, part.end - position)
                while end <= position and end < part.end:
                    begin, end = next(ranges)
                if begin <= position and position + size <= end:
                    yield _ZEROS[:size]
                    position += size
                    continue
                data = bytearray(os.pread(part.file.fileno(), size,
                                          position - part.offset + part.start))
                data.extend(bytes(size - len(data)))
                while begin < position + size:
                    first, last = max(begin, position), min(end, position + size)
                    data[first - position:last - position] = bytes(last - first)
                    if end > position + size or end >= part.end:
                        break
                    begin, end = next(ranges)
                yield data
                position += size


@contextlib.contextmanager
def copy(disk: BinaryIO, folder: str, kept: Collection[str], subject: str) -> Iterator[Copy]:
    """The Copy of the raw file ``disk`` for the block; raises Failure.

    ``kept`` are the kinds of traces that stay. Files without a name in ``folder`` hold what is
    changed.
    """
    size = os.fstat(disk.fileno()).st_size
    path = f'/proc/self/fd/{disk.fileno()}'
    with confinement.opened(path) as image, contextlib.ExitStack() as stack:
        _, entries = table.read(image, size, subject)
        kinds = {entry: root.signature(image, size, entry, subject) for entry in entries}
        parts: list[Part] = []
        files = 0
        for entry in sorted(entries, key=lambda one: one.offset):
            kind, end = kinds[entry], entry.offset + entry.length
            if kind.startswith('ext'):
                file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
                _extract(disk, entry.offset, entry.length, file)
                count, ranges = _ext(file, entry.length, kept, f'{subject}, {entry}')
                files += count
                parts.append(Part(entry.offset, end, file, 0, [
                    (begin + entry.offset, last + entry.offset) for begin, last in ranges]))
            elif kind == 'swap' or entry.kind in table.SWAP:
                parts.append(Part(entry.offset, end, disk, entry.offset,
                                  [(entry.offset + SWAP_HEADER, end)]))
            elif kind != 'vfat' and (kind or entry.kind not in WITHOUT):
                raise Failure(f"{subject}: {entry} is {kind or 'damaged, or has no file system'}: "
                              'only ext2, ext3 and ext4 can be captured')
        if not any(part.file is not disk for part in parts):
            raise Failure(f'{subject} has no partition with ext2, ext3 or ext4, which alone can be '
                          'captured')
        parts = _whole(parts, disk, size, subject)
        yield Copy(parts, Removed(files, sum(last - begin for part in parts
                                             for begin, last in part.unused)))


def _whole(parts: list[Part], disk: BinaryIO, size: int, subject: str) -> list[Part]:
    """``parts`` and what lies between them, which is read from the disk."""
    result: list[Part] = []
    position = 0
    for part in parts:
        if part.offset < position:
            raise Failure(f'{subject}: its partitions overlap')
        if part.offset > position:
            result.append(Part(position, part.offset, disk, position, []))
        result.append(part)
        position = part.end
    if position < size:
        result.append(Part(position, size, disk, position, []))
    return result


def _extract(disk: BinaryIO, offset: int, length: int, file: BinaryIO) -> None:
    """Copy a range of a disk to an empty file, sparse."""
    source, end = disk.fileno(), offset + length
    os.ftruncate(file.fileno(), length)
    position = offset
    while position < end:
        try:
            position = os.lseek(source, position, os.SEEK_DATA)
        except OSError:
            return
        hole = min(os.lseek(source, position, os.SEEK_HOLE), end)
        while position < hole:
            data = os.pread(source, min(CHUNK, hole - position), position)
            os.pwrite(file.fileno(), data, position - offset)
            position += len(data)


def _ext(file: BinaryIO, length: int, kept: Collection[str],
         subject: str) -> tuple[int, list[Range]]:
    """Take the traces out of a file system in a file: how many files, and its unused ranges."""
    with confinement.opened(f'/proc/self/fd/{file.fileno()}', writing=True) as volume:
        # The journal of a guest that did not shut down is replayed, and its deleted files go.
        done = volume.run(['e2fsck', '-f', '-p', volume.device], subject, statuses=None)
        if done.returncode not in (0, 1):
            raise Failure(f'{subject}: the file system is damaged: run e2fsck in the guest')
        fields = partition.fields(volume, length, subject)
        features = frozenset(fields['Filesystem features'].split())
        if unknown := features - root.FEATURES:
            raise Failure(f"{subject}: a file system with {' '.join(sorted(unknown))} cannot be "
                          'captured')
        chosen = traces.choose(inodes.Tree(volume, subject), kept, volume, subject,
                               fields.get('Last mounted on', '/').strip())
        inodes.clear(volume, chosen.removed, chosen.emptied, subject)
        partition.check(volume, subject)
        swap = {one.inode for one in chosen.swap}
        return len(chosen.removed), unused.ranges(volume, length, swap, subject)
