"""The root partition of a staged image, and whether its ext2, ext3 or ext4 file system is sound.

``root`` finds it.
"""
from __future__ import annotations

import re
from typing import NamedTuple

from lxml import etree

from ..document import rules
from ..system import confinement, debugfs, process
from ..system.confinement import Confined
from ..system.failure import Failure

INSPECTED = ('LVM2_member', 'btrfs')
"""Signatures of partitions in which the root file system is a volume, which libguestfs finds."""

NAME = f'(?a:{rules.PARTITION.pattern})'
"""The root partition in <partition> and <image partition=>: its number, or the volume as libguestfs
names it."""


class Partition(NamedTuple):
    """The root partition of an image: offset and length in bytes, and its file system.

    ``inject`` names the program that writes files into it, 'debugfs' or 'guestfs'. ``name`` matches
    NAME; offset and length are those of the first partition of a volume.
    """

    offset: int
    length: int
    filesystem: str
    inject: str
    name: str = '1'

    @property
    def device(self) -> str:
        """The name of the file system for libguestfs, where the image is the only disk."""
        return f'/dev/sda{self.name}' if self.name.isdigit() else self.name

    @property
    def is_alone(self) -> bool:
        """Whether libguestfs can mount it only where no copy of the image is another disk."""
        return not self.name.isdigit() or self.filesystem in INSPECTED


def of(image: etree._Element) -> Partition:
    """The root partition of a staged <image>; raises Failure for a name that is none."""
    name = image.get('partition', '1')
    if not re.fullmatch(NAME, name):
        raise Failure(f"'{name}' is no partition of a staged image: run vc-stage again")
    return Partition(int(image.get('offset')), int(image.get('length')), image.get('filesystem'),
                     image.get('inject'), name)


def is_seeded(image: etree._Element) -> bool:
    """Whether the nodes of a staged <image> have seed disks: its partitions are not looked at."""
    return bool(image.get('inject') == 'seed')


def fields(volume: Confined, length: int, subject: str) -> dict[str, str]:
    """The fields of the superblock of an ext2, ext3 or ext4 file system; raises Failure."""
    fields = debugfs.superblock(volume, f'{subject}: the file system is damaged')
    if 'error' in fields.get('Filesystem state', ''):
        raise Failure(f'{subject}: the file system has its error flag set: run e2fsck on it')
    if int(fields['Block count']) * int(fields['Block size']) > length:
        raise Failure(f'{subject}: the file system is larger than its partition')
    if 'First orphan inode' in fields:
        raise Failure(f'{subject}: the file system has orphaned inodes: run e2fsck on it')
    return fields


def needs_recovery(path: str, partition: Partition) -> bool:
    """Whether the journal of an ext3 or ext4 partition must be replayed."""
    with confinement.opened(path) as image:
        found = fields(image.at(partition.offset), partition.length, f"'{path}'")
    return 'needs_recovery' in found['Filesystem features'].split()


def last_write(path: str, partition: Partition) -> int:
    """When an ext2, ext3 or ext4 file system was last written, in seconds since the epoch.

    This is s_wtime of the superblock, at least 1.
    """
    with open(path, 'rb') as file:
        file.seek(partition.offset + 1024 + 0x30)
        return max(1, int.from_bytes(file.read(4), 'little'))


def check(volume: Confined, subject: str) -> None:
    """Raise Failure unless an ext2, ext3 or ext4 file system is sound (e2fsck -fn)."""
    done = volume.run(['e2fsck', '-f', '-n', volume.device], subject, statuses=None)
    if done.returncode:
        found = [line for line in done.stdout.decode(errors='replace').splitlines()
                 if line.strip() and not line.startswith(('Pass ', 'e2fsck '))]
        raise Failure(f'{subject}: the file system is damaged: '
                      f'{found[0] if found else process.last_line(done)}')
