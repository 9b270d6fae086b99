"""Find the root partition of an image.

The author may name it. Otherwise it is the one whose GPT type says that it is a root partition (the
Discoverable Partitions Specification of UAPI), the only one that can hold a root file system, or
the only one that has /etc/os-release. libguestfs looks into what is not ext2, ext3 or ext4.
"""
from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import NoReturn

from ..document.requirement import Requirement, Unseen, insist
from ..system import confinement, debugfs, guestfish
from ..system.confinement import Confined
from ..system.failure import Failure
from . import partition, table
from .partition import INSPECTED, NAME, Partition
from .table import KINDS, ROOT, Entry

INSTALL = 'install the system in a partition for Linux'
REMEDY = 'name the root partition in <partition> (vc-in.xml(5))'

FEATURES = frozenset((
    '64bit', 'dir_index', 'dir_nlink', 'ext_attr', 'extent', 'extra_isize', 'filetype', 'flex_bg',
    'has_journal', 'huge_file', 'large_file', 'metadata_csum', 'metadata_csum_seed',
    'needs_recovery', 'orphan_file', 'resize_inode', 'sparse_super', 'sparse_super2',
    'uninit_bg'))
"""Features (ext4(5)) with which debugfs writes a file system safely.

With any other (inline_data, quota, casefold, encrypt, verity, …) libguestfs writes it.
"""


class Look:
    """What is known so far of the partitions of a raw image of ``size`` bytes.

    ``path`` is its name, and ``told`` the root partition that the author names, or ''.
    """

    def __init__(self, image: Confined, path: str, size: int, subject: str, told: str = '') -> None:
        self.image = image
        self.path = path
        self.size = size
        self.subject = subject
        self.told = told
        self.entries: list[Entry] = []
        self.root = Entry(0, 0, 0, '')
        self.name = self.filesystem = ''
        self.fields: dict[str, str] = {}

    def volume(self) -> Confined:
        """The file system."""
        return self.image.at(self.root.offset)

    def partition(self) -> Partition:
        """The Partition, after all REQUIREMENTS were checked."""
        known = self.is_ext() and self.features() <= FEATURES
        return Partition(self.root.offset, self.root.length, self.filesystem,
                         'debugfs' if known else 'guestfs', self.name)

    def is_ext(self) -> bool:
        """Whether the root partition itself is an ext2, ext3 or ext4 file system."""
        return self.filesystem.startswith('ext') and self.name.isdigit()

    def features(self) -> frozenset[str]:
        """The features of an ext2, ext3 or ext4 file system."""
        return frozenset(self.fields['Filesystem features'].split())


def find(path: str, source: str, told: str = '') -> Partition:
    """The root partition of the raw image ``path``, which was unpacked from ``source``.

    ``told`` is its name where the author gives it. Raises Failure where it is missing or not
    the only one, lies outside the image, or cannot be a root file system.
    """
    with confinement.opened(path) as image:
        look = Look(image, path, os.path.getsize(path), f"image '{source}'", told)
        insist(REQUIREMENTS, look)
        return look.partition()


def _table(look: Look) -> str:
    label, look.entries = table.read(look.image, look.size, look.subject)
    several = 's' if len(look.entries) > 1 else ''
    numbers = ', '.join(str(entry.number) for entry in look.entries)
    return f'there is a {label} table with partition{several} {numbers}'


def _root(look: Look) -> str:
    """Find the root partition; raises Failure where there is none, or are several."""
    if look.told and not look.told.isdigit():
        return _inspect(look, look.entries)
    candidates, why = _candidates(look)
    signatures = {entry: _signature(look, entry) for entry in candidates}
    usable = [entry for entry in candidates if signatures[entry] not in ('', *KINDS)]
    if not usable:
        kinds = '; '.join(f'{entry} {_described(signatures[entry])}' for entry in candidates)
        raise Failure(f'{look.subject}: {kinds}: {INSTALL}')
    if len(usable) > 1:
        why = 'only it has /etc/os-release'
        known = [entry for entry in usable if signatures[entry].startswith('ext')
                 and _has_os_release(look, entry)]
        if not known and any(not signatures[entry].startswith('ext') for entry in usable):
            return _inspect(look, usable)
        if len(known) != 1:
            _refuse(look, [f'{entry.number} ({signatures[entry]})' for entry in known or usable],
                    bool(known))
        usable = known
    if signatures[usable[0]] in INSPECTED:
        return _inspect(look, usable)
    look.root, look.name = usable[0], str(usable[0].number)
    look.filesystem = signatures[look.root]
    return _finding(look, why)


def _candidates(look: Look) -> tuple[list[Entry], str]:
    """The entries that may be the root partition by the table alone, and why."""
    if look.told:
        named = [entry for entry in look.entries if str(entry.number) == look.told]
        if not named:
            raise Failure(f'{look.subject} has no partition {look.told}, which <partition> names: '
                          f"name one of {', '.join(str(entry.number) for entry in look.entries)}")
        return named, '<partition> names it'
    typed = [entry for entry in look.entries if entry.kind == ROOT]
    if typed:
        return typed, 'by its type in the GPT'
    found = [entry for entry in look.entries if entry.kind not in KINDS]
    if not found:
        kinds = '; '.join(f'{entry} is {KINDS[entry.kind]}' for entry in look.entries)
        raise Failure(f'{look.subject}: {kinds}: {INSTALL}')
    return found, 'no other can be'


def _signature(look: Look, entry: Entry) -> str:
    return signature(look.image, look.size, entry, look.subject)


def signature(image: Confined, size: int, entry: Entry, subject: str) -> str:
    """The type of the file system in a partition by its signature, '' where there is none.

    ``size`` is that of the disk in bytes. Raises Failure for a partition outside it.
    """
    # sfdisk accepts entries that lie outside the disk.
    if entry.offset <= 0 or entry.length <= 0 or entry.offset + entry.length > size:
        raise Failure(f'{subject}: {entry} lies outside the disk: write the table anew')
    done = image.run(['blkid', '--probe', '--output', 'value', '--match-tag', 'TYPE',
                      '--offset', str(entry.offset), '--size', str(entry.length), image.device],
                     f'{subject}: cannot probe {entry}', statuses=(0, 2))
    return done.stdout.decode().strip()


def _described(signature: str) -> str:
    return f'is {KINDS[signature]}' if signature else 'has no file system'


def _has_os_release(look: Look, entry: Entry) -> bool:
    # The dot at the end makes debugfs follow a folder that is a link.
    listed = debugfs.listing(look.image.at(entry.offset), ['/etc/.'], look.subject)
    return 'os-release' in listed['/etc/.']


def _inspect(look: Look, entries: Sequence[Entry]) -> str:
    """Find the root file system through libguestfs, in one of ``entries`` or a volume in them."""
    filesystems, roots = guestfish.inspect(look.path, look.subject)
    numbers = {str(entry.number): entry for entry in entries}
    found = {}
    for name in [look.told] if look.told in filesystems else roots:
        part = re.fullmatch('(?:btrfsvol:)?/dev/sda([0-9]+)(?:/.*)?', name)
        if part and part[1] in numbers:
            found[name] = numbers[part[1]]
        elif not part and look.told in ('', name):
            found[name] = entries[0]
    if len(found) != 1:
        _refuse(look, list(found or filesystems), bool(found))
    (device, look.root), = found.items()
    look.name = device.removeprefix('/dev/sda')
    look.filesystem = filesystems.get(device, 'unknown')
    if not re.fullmatch(NAME, look.name):
        raise Failure(f'{look.subject}: the name of its root file system {device!r} has characters '
                      'that are not supported: rename it')
    return _finding(look, 'libguestfs found it')


def _refuse(look: Look, names: Sequence[str], several: bool) -> NoReturn:
    what = 'several partitions have' if several else 'no partition has'
    raise Failure(f"{look.subject}: {what} /etc/os-release (of {', '.join(names)}): {REMEDY}")


def _finding(look: Look, why: str) -> str:
    name = f'partition {look.name}' if look.name.isdigit() else look.name
    return f'{name} is the root partition ({look.filesystem}): {why}'


def _superblock(look: Look) -> str:
    if not look.is_ext():
        return f'{look.filesystem} is written through libguestfs, in seconds a node'
    look.fields = partition.fields(look.volume(), look.root.length, look.subject)
    unknown = look.features() - FEATURES
    if unknown:
        return f"{look.filesystem} with {' '.join(sorted(unknown))} is written through libguestfs"
    return f'{look.filesystem} is written by debugfs, in milliseconds a node'


def _clean(look: Look) -> str:
    if not look.is_ext():
        raise Unseen(f'not checked: {look.filesystem} is clean '
                     '(vc-check reads ext2, ext3 and ext4)')
    if 'needs_recovery' in look.features():
        raise Failure(f'{look.subject}: the journal was not replayed')
    partition.check(look.volume(), look.subject)
    return 'the file system is clean'


REQUIREMENTS = (
    Requirement('there is a partition table', _table, 'make / a partition of a DOS or GPT table'),
    Requirement('the root partition is found', _root),
    Requirement('the file system is one that can be written', _superblock,
                'run e2fsck -f on it, or make it anew'),
)
"""What an image must be; their subject is a Look."""

CLEAN = Requirement('the file system is clean', _clean,
                    'shut the guest down, or run e2fsck -f on it')
"""vc-check requires this too; vc-stage replays the journal in its copy first."""




def is_ext(look: Look) -> bool:
    """Whether the root partition can be found, and is an ext2, ext3 or ext4."""
    with contextlib.suppress(Failure):
        insist(REQUIREMENTS, look)
    return bool(look.fields)
