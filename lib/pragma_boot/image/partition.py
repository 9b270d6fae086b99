"""Partition 1 of a staged image: where it lies, what it holds, whether it is sound."""
import os
import re
from typing import NamedTuple

from ..document.requirement import Requirement, Unseen, insist
from ..system import confinement, debugfs, process
from ..system.failure import Failure
from .formats import SECTOR

EXTENDED = ('5', 'f', '85')
UNUSABLE = {'82': 'swap', '8e': 'an LVM physical volume', 'fd': 'a RAID member',
            'swap': 'swap', 'LVM2_member': 'an LVM physical volume',
            'linux_raid_member': 'a RAID member', 'crypto_LUKS': 'encrypted'}
"""Partition types and signatures (sfdisk --list-types, blkid) that no root file system has."""

FEATURES = frozenset(
    '64bit dir_index dir_nlink ext_attr extent extra_isize filetype flex_bg has_journal '
    'huge_file large_file metadata_csum metadata_csum_seed needs_recovery orphan_file '
    'resize_inode sparse_super sparse_super2 uninit_bg'.split())
"""Features of ext2/3/4 (ext4(5)) that debugfs writes safely; a file system with any other
(inline_data, quota, casefold, encrypt, verity …) goes through libguestfs."""


class Partition(NamedTuple):
    """Partition 1 of an image: byte offset and length, file system, and who writes into it."""

    offset: int
    length: int
    filesystem: str
    inject: str


class Look:
    """Partition 1 of the raw image in a Confined, ``size`` bytes, as far as it was looked at."""

    def __init__(self, image, size, subject):
        self.image = image
        self.size = size
        self.subject = subject
        self.kind, self.offset, self.length, self.filesystem, self.fields = '', 0, 0, '', {}

    def volume(self):
        """The file system, a Confined."""
        return self.image.at(self.offset)

    def partition(self):
        """The Partition, once all is looked at."""
        known = self.filesystem.startswith('ext') and self.features() <= FEATURES
        return Partition(self.offset, self.length, self.filesystem, 'debugfs' if known else 'guestfs')

    def features(self):
        """The features of an ext2/3/4 file system."""
        return frozenset(self.fields['Filesystem features'].split())


def find(path, source):
    """The Partition 1 of the raw image at ``path``, which was unpacked from ``source``.

    Raises Failure where there is none with a root file system inside the image's bounds.
    """
    with confinement.lent(path) as image:
        look = Look(image, os.path.getsize(path), f"image '{source}'")
        insist(REQUIREMENTS, look)
        return look.partition()


def _table(look):
    import json
    done = look.image.run(['sfdisk', '--json', look.image.device], f'{look.subject} has no partition table')
    table = json.loads(done.stdout)['partitiontable']
    first = next((entry for entry in table.get('partitions', ())
                  if re.fullmatch(re.escape(look.image.device) + 'p?1', entry['node'])), None)
    if first is None:
        raise Failure(f'{look.subject} has no partition 1')
    sector = table.get('sectorsize', SECTOR)
    look.kind, look.offset, look.length = first['type'].lower(), first['start'] * sector, first['size'] * sector
    return f"there is a partition 1 ({table.get('label', 'no')} table)"


def _kind(look):
    if look.kind in EXTENDED:
        raise Failure(f"{look.subject}: partition 1 is extended, not a root file system")
    if look.kind in UNUSABLE:
        raise Failure(f"{look.subject}: partition 1 is {UNUSABLE[look.kind]}, not a root file system")
    return 'partition 1 is no swap, LVM or RAID'


def _bounds(look):
    # sfdisk takes tables whose entries lie outside the disk.
    if look.offset <= 0 or look.length <= 0 or look.offset + look.length > look.size:
        raise Failure(f'{look.subject}: partition 1 lies outside the disk')
    return f'partition 1 lies inside the disk, at {look.offset} bytes'


def _filesystem(look):
    done = look.image.run(['blkid', '--probe', '--output', 'value', '--match-tag', 'TYPE',
                           '--offset', str(look.offset), '--size', str(look.length), look.image.device],
                          f'{look.subject}: cannot probe partition 1', statuses=(0, 2))
    look.filesystem = done.stdout.decode().strip()
    if not look.filesystem:
        raise Failure(f'{look.subject}: partition 1 has no file system')
    if look.filesystem in UNUSABLE:
        raise Failure(f'{look.subject}: partition 1 is {UNUSABLE[look.filesystem]}, not a root file system')
    return f'partition 1 is a file system ({look.filesystem}, {look.length >> 20} MiB)'


def _superblock(look):
    if not look.filesystem.startswith('ext'):
        return f'{look.filesystem} is written through libguestfs, in seconds a node'
    look.fields = _fields(look.volume(), look.length, look.subject)
    unknown = look.features() - FEATURES
    if unknown:
        return f"{look.filesystem} with {' '.join(sorted(unknown))} is written through libguestfs"
    return f'{look.filesystem} is written by debugfs, in milliseconds a node'


def _clean(look):
    if not look.filesystem.startswith('ext'):
        raise Unseen(f'not looked at: {look.filesystem} is clean (vc-check reads ext2, ext3 and ext4)')
    if 'needs_recovery' in look.features():
        raise Failure(f'{look.subject}: the journal was not replayed')
    check(look.volume(), look.subject)
    return 'the file system is clean'


REQUIREMENTS = (
    Requirement('partition 1 is there', _table, 'make / partition 1 of a DOS or GPT table'),
    Requirement('partition 1 is no swap, LVM or RAID', _kind, 'install without LVM and RAID, / first'),
    Requirement('partition 1 lies inside the disk', _bounds, 'write the table anew'),
    Requirement('partition 1 is a file system', _filesystem, 'install without LVM, RAID and encryption, / first'),
    Requirement('the file system is one that can be written', _superblock),
)

CLEAN = Requirement('the file system is clean', _clean, 'shut the guest down, or run e2fsck -f on it')
"""What staging sees to itself, in its copy: it replays the journal before it looks."""


def _fields(volume, length, subject):
    """The fields of an ext2/3/4 superblock, which is checked: {name: value}."""
    fields = debugfs.superblock(volume, f'{subject}: partition 1 is damaged')
    if 'error' in fields.get('Filesystem state', ''):
        raise Failure(f'{subject}: the file system has its error flag set: run e2fsck on it')
    if int(fields['Block count']) * int(fields['Block size']) > length:
        raise Failure(f'{subject}: the file system is larger than partition 1')
    if 'First orphan inode' in fields:
        raise Failure(f'{subject}: the file system has orphaned inodes: run e2fsck on it')
    return fields


def needs_recovery(path, partition):
    """Whether the journal of an ext3/4 partition was not replayed."""
    with confinement.lent(path) as image:
        return 'needs_recovery' in _fields(image.at(partition.offset), partition.length,
                                           f"'{path}'")['Filesystem features'].split()


def written(path, partition):
    """When an ext2/3/4 file system was last written, in seconds since the epoch: s_wtime, at least 1."""
    with open(path, 'rb') as file:
        file.seek(partition.offset + 1024 + 0x30)
        return max(1, int.from_bytes(file.read(4), 'little'))


def check(volume, subject):
    """Raise Failure unless the ext2/3/4 file system in a Confined is sound (e2fsck -fn)."""
    done = volume.run(['e2fsck', '-f', '-n', volume.device], subject, statuses=None)
    if done.returncode:
        found = [line for line in done.stdout.decode(errors='replace').splitlines()
                 if line.strip() and not line.startswith(('Pass ', 'e2fsck '))]
        raise Failure(f"{subject}: the file system is damaged: "
                      f"{found[0] if found else process.last_line(done)}")
