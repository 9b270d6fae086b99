"""Partition 1 of a staged image: where it lies, what it holds, whether it is sound."""
import os
import re
from typing import NamedTuple

from . import confinement, process
from .failure import Failure
from .image import SECTOR

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


def find(path, source):
    """The Partition 1 of the raw image at ``path``, which was unpacked from ``source``.

    Raises Failure where there is none with a root file system inside the image's bounds.
    """
    with confinement.lent(path) as image:
        return _find(image, os.path.getsize(path), f"image '{source}'")


def _find(image, size, subject):
    import json
    done = image.run(['sfdisk', '--json', image.device], f'{subject} has no partition table')
    table = json.loads(done.stdout)['partitiontable']
    first = next((entry for entry in table.get('partitions', ())
                  if re.fullmatch(re.escape(image.device) + 'p?1', entry['node'])), None)
    if first is None:
        raise Failure(f'{subject} has no partition 1')
    kind = first['type'].lower()
    if kind in EXTENDED:
        raise Failure(f"{subject}: partition 1 is extended, not a root file system")
    if kind in UNUSABLE:
        raise Failure(f"{subject}: partition 1 is {UNUSABLE[kind]}, not a root file system")
    sector = table.get('sectorsize', SECTOR)
    offset, length = first['start'] * sector, first['size'] * sector
    # sfdisk takes tables whose entries lie outside the disk.
    if offset <= 0 or length <= 0 or offset + length > size:
        raise Failure(f'{subject}: partition 1 lies outside the disk')
    filesystem = _filesystem(image, offset, length, subject)
    if not filesystem.startswith('ext'):
        return Partition(offset, length, filesystem, 'guestfs')
    features = _superblock(image.at(offset), length, subject)
    known = features <= FEATURES
    return Partition(offset, length, filesystem, 'debugfs' if known else 'guestfs')


def _filesystem(image, offset, length, subject):
    done = image.run(['blkid', '--probe', '--output', 'value', '--match-tag', 'TYPE',
                      '--offset', str(offset), '--size', str(length), image.device],
                     f'{subject}: cannot probe partition 1', statuses=(0, 2))
    kind = done.stdout.decode().strip()
    if not kind:
        raise Failure(f'{subject}: partition 1 has no file system')
    if kind in UNUSABLE:
        raise Failure(f'{subject}: partition 1 is {UNUSABLE[kind]}, not a root file system')
    return kind


def _superblock(volume, length, subject):
    """The features of an ext2/3/4 file system, whose superblock is checked (dumpe2fs(8))."""
    done = volume.run(['dumpe2fs', '-h', volume.device], f'{subject}: partition 1 is damaged')
    fields = dict(re.findall(r'^([^:\n]+):\s+(.*)$', done.stdout.decode(errors='replace'), re.M))
    if 'error' in fields.get('Filesystem state', ''):
        raise Failure(f'{subject}: the file system has its error flag set: run e2fsck on it')
    if int(fields['Block count']) * int(fields['Block size']) > length:
        raise Failure(f'{subject}: the file system is larger than partition 1')
    if 'First orphan inode' in fields:
        raise Failure(f'{subject}: the file system has orphaned inodes: run e2fsck on it')
    return frozenset(fields['Filesystem features'].split())


def needs_recovery(path, partition):
    """Whether the journal of an ext3/4 partition was not replayed."""
    with confinement.lent(path) as image:
        return 'needs_recovery' in _superblock(image.at(partition.offset), partition.length, f"'{path}'")


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
