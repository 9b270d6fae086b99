"""The partition table of an image, as sfdisk(8) reads it, and what its partitions are for."""
from __future__ import annotations

import re
from typing import Any, NamedTuple, NoReturn

from ..system.confinement import Confined
from ..system.failure import Failure
from .formats import SECTOR

ROOT = '4f68bce3-e8cd-4db1-96e7-fbcaf984b709'
"""The GPT type of a root partition for x86-64."""

ESP = ('c12a7328-f81f-11d2-ba4b-00a0c93ec93b', 'ef')
BIOS_BOOT = '21686148-6449-6e6f-744e-656564454649'
POWERPC_BOOT = '9e1a2d38-c612-4316-aa26-8b49521e5a8b'
RESERVED = 'e3c9e316-0b5c-4db8-817d-f92df00215ae'
SWAP = ('82', '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f')
EXTENDED = ('5', 'f', '85')
"""Types in a DOS table, of at most two digits, and in a GPT."""

PROTECTIVE = 'ee'
KINDS = {
    **dict.fromkeys(EXTENDED, 'extended'), **dict.fromkeys((*SWAP, 'swap'), 'swap'),
    **dict.fromkeys(('fd', 'a19d880f-05fc-4d3b-a006-743f0f84911e', 'linux_raid_member'),
                    'a RAID member'),
    **dict.fromkeys((*ESP, 'vfat'), 'an EFI system partition'),
    **dict.fromkeys(('ea', 'bc13c2ff-59e6-4262-a352-b275fd6f7172'), 'for /boot'),
    **dict.fromkeys(('ca7d7ccb-63ed-4c53-861c-1742536059cc', 'crypto_LUKS'), 'encrypted'),
    BIOS_BOOT: 'for the boot loader of BIOS',
    POWERPC_BOOT: 'for the boot loader of PowerPC',
    RESERVED: 'reserved by Microsoft',
    '8484680c-9521-48c6-9c11-b0720656f69e': 'for /usr',
    '4d21b016-b534-45c2-a9fb-5c16e091fd2d': 'for /var',
    '933ac7e1-2eb4-4f13-b844-0e14e2aef915': 'for /home',
    '3b8f8425-20e0-4f3b-907f-1a25a76f98e8': 'for /srv',
}
"""Types of partitions (sfdisk --list-types) and signatures (blkid) that no root partition has."""


class Entry(NamedTuple):
    """An entry of a partition table; offset and length in bytes, and its type, in lower case."""

    number: int
    offset: int
    length: int
    kind: str

    def __str__(self) -> str:
        return f'partition {self.number}'


def dump(image: Confined, subject: str) -> tuple[dict[str, Any], str]:
    """The table of a raw image as ``sfdisk --json`` writes it, and sfdisk's warnings.

    Raises Failure where there is none.
    """
    import json
    done = image.run(['sfdisk', '--json', image.device], f'{subject} has no partition table')
    return json.loads(done.stdout)['partitiontable'], done.stderr.decode(errors='replace')


def read(image: Confined, size: int, subject: str) -> tuple[str, list[Entry]]:
    """The kind of the table of a raw image of ``size`` bytes, and its entries.

    Entries may lie outside the image. Raises Failure where there are none, or the table is damaged.
    """
    table, warnings = dump(image, subject)
    sector = table.get('sectorsize', SECTOR)
    entries = []
    for entry in table.get('partitions', ()):
        number = re.fullmatch(f'{re.escape(image.device)}p?([0-9]+)', entry['node'])
        if number:
            entries.append(Entry(int(number[1]), entry['start'] * sector, entry['size'] * sector,
                                 entry['type'].lower()))
    if not entries:
        raise Failure(f'{subject} has no partition')
    if entries[0].kind == PROTECTIVE and table.get('label') == 'dos':
        _refuse_gpt(size, subject, warnings, sector)
    return table.get('label', 'partition'), entries


def _refuse_gpt(size: int, subject: str, warning: str, sector: int) -> NoReturn:
    """Raise Failure for a GPT of which sfdisk reads only the protective table."""
    sizes = re.search(r'size mismatch \(([0-9]+) != ', warning)
    whole = (int(sizes[1]) + 1) * sector if sizes else size
    raise Failure(f"{subject}: its GPT is {'cut short' if whole > size else 'damaged'}: "
                  f'it was written for a disk of {whole} bytes, and the image has {size}')
