"""The root partition of an image: which one it is, where it lies, and whether it is sound.

``NUMBER`` decides which partition is the root partition.
"""
from __future__ import annotations

import contextlib
import os
import re
from typing import NamedTuple, NoReturn

from lxml import etree

from ..document.requirement import Requirement, Unseen, insist
from ..system import confinement, debugfs, process
from ..system.confinement import Confined
from ..system.failure import Failure
from .formats import SECTOR

NUMBER = 1
NAME = f'partition {NUMBER}'

EXTENDED = ('5', 'f', '85')
PROTECTIVE = 'ee'
UNUSABLE = {'82': 'swap', '8e': 'an LVM physical volume', 'fd': 'a RAID member',
            'swap': 'swap', 'LVM2_member': 'an LVM physical volume',
            'linux_raid_member': 'a RAID member', 'crypto_LUKS': 'encrypted'}
"""Types of partitions (sfdisk --list-types) and signatures (blkid) that no root file system has."""

FEATURES = frozenset((
    '64bit', 'dir_index', 'dir_nlink', 'ext_attr', 'extent', 'extra_isize', 'filetype', 'flex_bg',
    'has_journal', 'huge_file', 'large_file', 'metadata_csum', 'metadata_csum_seed',
    'needs_recovery', 'orphan_file', 'resize_inode', 'sparse_super', 'sparse_super2',
    'uninit_bg'))
"""Features (ext4(5)) with which debugfs writes a file system safely.

With any other (inline_data, quota, casefold, encrypt, verity, …) libguestfs writes it.
"""


class Partition(NamedTuple):
    """The root partition of an image: offset and length in bytes, and its file system.

    ``inject`` names the program that writes files into it, 'debugfs' or 'guestfs'.
    """

    offset: int
    length: int
    filesystem: str
    inject: str
    number: int = NUMBER


def of(image: etree._Element) -> Partition:
    """The root partition of a staged <image>."""
    return Partition(int(image.get('offset')), int(image.get('length')), image.get('filesystem'),
                     image.get('inject'))


def is_seeded(image: etree._Element) -> bool:
    """Whether the nodes of a staged <image> have seed disks: its partitions are not looked at."""
    return bool(image.get('inject') == 'seed')


class Look:
    """What is known so far of the root partition of a raw image of ``size`` bytes."""

    def __init__(self, image: Confined, size: int, subject: str) -> None:
        self.image = image
        self.size = size
        self.subject = subject
        self.kind = self.filesystem = ''
        self.offset = self.length = 0
        self.fields: dict[str, str] = {}

    def volume(self) -> Confined:
        """The file system."""
        return self.image.at(self.offset)

    def partition(self) -> Partition:
        """The Partition, after all REQUIREMENTS were checked."""
        known = self.filesystem.startswith('ext') and self.features() <= FEATURES
        return Partition(self.offset, self.length, self.filesystem,
                         'debugfs' if known else 'guestfs')

    def features(self) -> frozenset[str]:
        """The features of an ext2, ext3 or ext4 file system."""
        return frozenset(self.fields['Filesystem features'].split())


def is_ext(look: Look) -> bool:
    """Whether the root partition is where we look for it, and an ext2, ext3 or ext4."""
    with contextlib.suppress(Failure):
        insist(REQUIREMENTS, look)
    return bool(look.fields)


def find(path: str, source: str) -> Partition:
    """The root partition of the raw image ``path``, which was unpacked from ``source``.

    Raises Failure where it is missing, lies outside the image, or cannot be a root file system.
    """
    with confinement.opened(path) as image:
        look = Look(image, os.path.getsize(path), f"image '{source}'")
        insist(REQUIREMENTS, look)
        return look.partition()


def _table(look: Look) -> str:
    import json
    device = look.image.device
    done = look.image.run(['sfdisk', '--json', device], f'{look.subject} has no partition table')
    table = json.loads(done.stdout)['partitiontable']
    found = next((entry for entry in table.get('partitions', ())
                  if re.fullmatch(f'{re.escape(device)}p?{NUMBER}', entry['node'])), None)
    if found is None:
        raise Failure(f'{look.subject} has no {NAME}')
    sector = table.get('sectorsize', SECTOR)
    look.kind = found['type'].lower()
    if look.kind == PROTECTIVE and table.get('label') == 'dos':
        _refuse_gpt(look, done.stderr.decode(errors='replace'), sector)
    look.offset, look.length = found['start'] * sector, found['size'] * sector
    return f"there is a {NAME} ({table.get('label', 'no')} table)"


def _refuse_gpt(look: Look, warning: str, sector: int) -> NoReturn:
    """Raise Failure for a GPT of which sfdisk reads only the protective table."""
    sizes = re.search(r'size mismatch \(([0-9]+) != ', warning)
    whole = (int(sizes[1]) + 1) * sector if sizes else look.size
    raise Failure(f"{look.subject}: its GPT is {'cut short' if whole > look.size else 'damaged'}: "
                  f'it was written for a disk of {whole} bytes, and the image has {look.size}')


def _kind(look: Look) -> str:
    kind = 'extended' if look.kind in EXTENDED else UNUSABLE.get(look.kind)
    if kind:
        raise Failure(f'{look.subject}: {NAME} is {kind}, not a root file system')
    return f'{NAME} is no swap, LVM or RAID'


def _bounds(look: Look) -> str:
    # sfdisk accepts entries that lie outside the disk.
    if look.offset <= 0 or look.length <= 0 or look.offset + look.length > look.size:
        raise Failure(f'{look.subject}: {NAME} lies outside the disk')
    return f'{NAME} lies inside the disk, at {look.offset} bytes'


def _filesystem(look: Look) -> str:
    done = look.image.run(['blkid', '--probe', '--output', 'value', '--match-tag', 'TYPE',
                           '--offset', str(look.offset), '--size', str(look.length),
                           look.image.device],
                          f'{look.subject}: cannot probe {NAME}', statuses=(0, 2))
    look.filesystem = done.stdout.decode().strip()
    if not look.filesystem:
        raise Failure(f'{look.subject}: {NAME} has no file system')
    if look.filesystem in UNUSABLE:
        raise Failure(f'{look.subject}: {NAME} is {UNUSABLE[look.filesystem]}, '
                      'not a root file system')
    return f'{NAME} is a file system ({look.filesystem}, {look.length >> 20} MiB)'


def _superblock(look: Look) -> str:
    if not look.filesystem.startswith('ext'):
        return f'{look.filesystem} is written through libguestfs, in seconds a node'
    look.fields = _fields(look.volume(), look.length, look.subject)
    unknown = look.features() - FEATURES
    if unknown:
        return f"{look.filesystem} with {' '.join(sorted(unknown))} is written through libguestfs"
    return f'{look.filesystem} is written by debugfs, in milliseconds a node'


def _clean(look: Look) -> str:
    if not look.filesystem.startswith('ext'):
        raise Unseen(f'not checked: {look.filesystem} is clean '
                     '(vc-check reads ext2, ext3 and ext4)')
    if 'needs_recovery' in look.features():
        raise Failure(f'{look.subject}: the journal was not replayed')
    check(look.volume(), look.subject)
    return 'the file system is clean'


REQUIREMENTS = (
    Requirement(f'{NAME} is there', _table, f'make / {NAME} of a DOS or GPT table'),
    Requirement(f'{NAME} is no swap, LVM or RAID', _kind, 'install without LVM and RAID, / first'),
    Requirement(f'{NAME} lies inside the disk', _bounds, 'write the table anew'),
    Requirement(f'{NAME} is a file system', _filesystem,
                'install without LVM, RAID and encryption, / first'),
    Requirement('the file system is one that can be written', _superblock,
                'run e2fsck -f on it, or make it anew'),
)
"""What an image must be; their subject is a Look."""

CLEAN = Requirement('the file system is clean', _clean,
                    'shut the guest down, or run e2fsck -f on it')
"""vc-check requires this too; vc-stage replays the journal in its copy first."""


def _fields(volume: Confined, length: int, subject: str) -> dict[str, str]:
    """The fields of the superblock of an ext2, ext3 or ext4 file system; raises Failure."""
    fields = debugfs.superblock(volume, f'{subject}: {NAME} is damaged')
    if 'error' in fields.get('Filesystem state', ''):
        raise Failure(f'{subject}: the file system has its error flag set: run e2fsck on it')
    if int(fields['Block count']) * int(fields['Block size']) > length:
        raise Failure(f'{subject}: the file system is larger than {NAME}')
    if 'First orphan inode' in fields:
        raise Failure(f'{subject}: the file system has orphaned inodes: run e2fsck on it')
    return fields


def needs_recovery(path: str, partition: Partition) -> bool:
    """Whether the journal of an ext3 or ext4 partition must be replayed."""
    with confinement.opened(path) as image:
        fields = _fields(image.at(partition.offset), partition.length, f"'{path}'")
    return 'needs_recovery' in fields['Filesystem features'].split()


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
