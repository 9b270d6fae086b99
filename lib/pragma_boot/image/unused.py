"""Where an ext2, ext3 or ext4 file system keeps bytes that nobody reads any more.

Free blocks and free inodes still have what was deleted, unwritten extents and the ends of last
blocks what was there before, and the journal copies of changed blocks. A copy of the file system
can have zeros in their place. The file system is clean: its journal holds nothing that counts.
"""
from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from ..system import inodes, process
from ..system.confinement import Confined
from ..system.failure import Failure

JOURNAL, FIRST = 8, 11
"""Inodes: the journal, and the first that a file can have (ext2_fs.h)."""

JOURNAL_HEADER = 1024
"""Bytes of a journal that count while it is empty: its superblock (jbd2.h)."""

SWAP_HEADER = 4096
"""Bytes of a swap file or partition without the memory that was swapped out (mkswap(8))."""

EXTENT = r'\((\d+)(?:-(\d+))?(\[u\])?\):(\d+)(?:-\d+)?'
"""Blocks of a file as debugfs prints them: first and last in the file, whether they are unwritten,
and the first on the disk. Blocks that list others have words in the place of numbers."""

Range = tuple[int, int]
"""Bytes of a file system: offset and end."""


class Group(NamedTuple):
    """What dumpe2fs prints of a group: its inode table's block, free blocks and free inodes."""

    table: int
    blocks: list[Range]
    inodes: list[Range]


def ranges(volume: Confined, length: int, swap: Collection[int], subject: str) -> list[Range]:
    """The unused ranges, in order, none of which touches the next; raises Failure.

    ``length`` is that of the partition in bytes, which may be larger. ``swap`` are the inodes of
    swap files, of which only the header is used. Ends of ranges are behind their last byte.
    """
    done = volume.run(['dumpe2fs', volume.device], f'{subject}: the file system is damaged')
    text = done.stdout.decode(errors='replace')
    head, *parts = re.split(r'^Group \d+: ', text, flags=re.M)
    fields = dict(re.findall(r'^([^:\n]+):\s+(\d+)\s*$', head, re.M))
    try:
        block, size = int(fields['Block size']), int(fields['Inode size'])
        each, count = int(fields['Inodes per group']), int(fields['Inode count'])
        groups = [_group(part) for part in parts]
    except (KeyError, ValueError):
        raise Failure(f'{subject}: dumpe2fs: {process.last_line(done)}') from None
    if len(groups) * each != count:
        raise Failure(f'{subject}: dumpe2fs shows {len(groups)} groups of {each} inodes, and '
                      f'{count} inodes')
    found, used = [(int(fields['Block count']) * block, length)], [JOURNAL]
    for index, group in enumerate(groups):
        found += [(first * block, (last + 1) * block) for first, last in group.blocks]
        begin = index * each + 1
        found += [(group.table * block + (first - begin) * size,
                   group.table * block + (last + 1 - begin) * size)
                  for first, last in group.inodes]
        used += _others(begin, begin + each, group.inodes)
    for number, text in inodes.describe(volume, used, subject):
        found += _of_inode(number, text, block, number in swap)
    return _merged(found)


def _group(text: str) -> Group:
    table = re.search(r'Inode table at (\d+)', text)
    lists = [re.search(rf'^  Free {name}: ([-0-9, ]*)$', text, re.M)
             for name in ('blocks', 'inodes')]
    if not table or not all(lists):
        raise ValueError
    return Group(int(table[1]), *(
        [(int(first), int(last or first)) for first, last
         in re.findall(r'(\d+)(?:-(\d+))?', one[1] if one else '')] for one in lists))


def _others(begin: int, end: int, free: Iterable[Range]) -> Iterator[int]:
    """The inodes of files from ``begin`` to before ``end`` that are not free."""
    position = max(begin, FIRST)
    for first, last in [*free, (end, end)]:
        yield from range(position, first)
        position = max(position, last + 1)


def _of_inode(number: int, text: str, block: int, swap: bool) -> Iterator[Range]:
    """The unused ranges of one file's blocks."""
    size = re.search(r'^User:.* Size: (\d+)$', text, re.M)
    regular = bool(re.search(r'^Inode: \d+\s+Type: regular', text, re.M))
    _, _, blocks = text.partition('\nBLOCKS:\n' if '\nBLOCKS:\n' in text else '\nEXTENTS:\n')
    if number == JOURNAL:
        valid: int | None = JOURNAL_HEADER
    elif regular and size:
        valid = min(int(size[1]), SWAP_HEADER) if swap else int(size[1])
    else:
        valid = None
    for first, last, unwritten, start in re.findall(EXTENT, blocks):
        length = (int(last or first) - int(first) + 1) * block
        used = length
        if unwritten:
            used = 0
        elif valid is not None:
            used = min(length, max(0, valid - int(first) * block))
        if used < length:
            yield int(start) * block + used, int(start) * block + length


def _merged(found: list[Range]) -> list[Range]:
    merged: list[Range] = []
    for begin, end in sorted(one for one in found if one[0] < one[1]):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged
