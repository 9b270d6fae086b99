"""What firmware an image starts by: BIOS, UEFI or either, read from its partition table.

BIOS runs code in the first sector: GRUB's, or code that starts the active partition. UEFI without
variables runs /EFI/BOOT/BOOTX64.EFI of the EFI system partition (UEFI specification, 3.5.1.1).
Nothing of an image is run.
"""
from __future__ import annotations

import contextlib
import os
from typing import Any, NamedTuple

from lxml import etree

from ..document import firmware
from ..document.requirement import Doubt, Requirement, Unseen
from ..system import confinement
from ..system.confinement import Confined
from ..system.failure import Failure
from .formats import SECTOR
from .table import BIOS_BOOT, ESP, dump

CODE_BYTES = 440
SIGNATURE = b'\x55\xaa'

LOADER = '::/EFI/BOOT/BOOTX64.EFI'
"""The name by which mtools find the boot loader of a new machine."""

UNKNOWN = 'its serial console shows at boot only'


class Bootable(NamedTuple):
    """Whether an image starts by BIOS, and by UEFI."""

    bios: bool
    uefi: bool

    def __str__(self) -> str:
        return ' or '.join(name for name, there in (('BIOS', self.bios), ('UEFI', self.uefi))
                           if there) or 'neither BIOS nor UEFI'


class Disk(NamedTuple):
    """A raw image for confined programs, its ``path`` for us, and the beginning of messages."""

    image: Confined
    path: str
    subject: str
    firmware: tuple[str, ...] = ()
    """The firmware of the domains that use it, 'BIOS' or 'UEFI' (document.firmware.of)."""


def look(disk: Disk) -> Bootable:
    """What an image starts by; raises Failure for one without a partition table."""
    table, _ = dump(disk.image, disk.subject)
    size = int(table.get('sectorsize', SECTOR))
    systems = [partition['start'] * size for partition in table.get('partitions', [])
               if partition['type'].lower() in ESP]
    with open(disk.path, 'rb') as file:
        code = file.read(SECTOR)[:CODE_BYTES]
        # Code that we do not know is taken for a boot loader, unless the image is one for UEFI.
        bios = any(code) and (b'GRUB' in code or not systems
                              or _continues(file.fileno(), table, size))
    return Bootable(bios, any(_has_loader(disk, offset) for offset in systems))


def _continues(descriptor: int, table: dict[str, Any], size: int) -> bool:
    """Whether there is something that the code in the first sector can start.

    parted(8) writes code into each DOS table, also of a disk that has no boot loader.
    """
    for partition in table.get('partitions', []):
        start = os.pread(descriptor, SECTOR, partition['start'] * size)
        active = partition.get('bootable') or 'LegacyBIOSBootable' in partition.get('attrs', '')
        if active and start.endswith(SIGNATURE):
            return True
        if partition['type'].lower() == BIOS_BOOT and any(start):
            return True
    return False


def _has_loader(disk: Disk, offset: int) -> bool:
    """Whether the EFI system partition at ``offset`` bytes has a boot loader for this machine."""
    argv = ['mdir', '-b', '-i', f'{disk.image.device}@@{offset}', LOADER]
    return disk.image.run(argv, f'{disk.subject}: cannot read the EFI system partition',
                          statuses=None).returncode == 0


def mismatch(found: Bootable, wanted: str) -> str:
    """Why a domain with the firmware 'BIOS' or 'UEFI' does not start an image; '' where it may."""
    if not any(found) or {'BIOS': found.bios, 'UEFI': found.uefi}[wanted]:
        return ''
    remedy = ("write <os firmware='efi'> in the vc-in.xml" if wanted == 'BIOS' else
              "remove firmware='efi' and the <loader> from <os> in the vc-in.xml")
    return f'it starts by {found} only, and the domain has {wanted}: {remedy}'


def words(path: str, source: str) -> str:
    """What starts the raw image ``path``, as <image firmware=> has it; '' where it is not known.

    ``source`` is the author's file.
    """
    with contextlib.suppress(Failure), confinement.opened(path) as image:
        found = look(Disk(image, path, f"image '{source}'"))
        return ' '.join(name for name, there in (('BIOS', found.bios), ('UEFI', found.uefi))
                        if there)
    return ''


def require(image: etree._Element, domain: etree._Element) -> None:
    """Raise Failure where a permitted <domain> has a firmware that does not start its <image>."""
    names = image.get('firmware', '').split()
    if reason := mismatch(Bootable('BIOS' in names, 'UEFI' in names), firmware.of(domain)):
        raise Failure(f"image '{image.get('source')}' of the {image.get('role')}: {reason}")


def _firmware(disk: Disk) -> str:
    try:
        found = look(disk)
    except Failure:
        raise Unseen(f'not checked: {TITLE}') from None
    if not any(found):
        raise Doubt('there is no boot loader for BIOS or UEFI: install one in the image')
    for wanted in disk.firmware:
        if reason := mismatch(found, wanted):
            raise Failure(reason)
    if not disk.firmware and not found.bios:
        raise Doubt(f"it starts by {found} only: write <os firmware='efi'> in its vc-in.xml")
    return f'it starts by {found}; {UNKNOWN}'


TITLE = 'the firmware that starts it'
REQUIREMENT = Requirement(TITLE, _firmware, vital=False)
"""That the image has a boot loader for the firmware of its domains; its subject is a Disk."""
