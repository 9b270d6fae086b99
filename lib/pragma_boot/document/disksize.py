"""The size of nodes' disks: what was asked for, beside what the image has.

An author asks for it with <capacity> in the <disk>, in the units of libvirt's storage volumes.
"""
from __future__ import annotations

import re

from lxml import etree

from ..system.failure import Failure
from . import hardware, tree
from .tree import text

MAXIMUM = 1 << 46
"""64 TiB. The tables of a larger overlay take more than a MiB."""

STEP = 1 << 20
"""A disk is a whole number of MiB, as Ganeti's are."""


def asked(domain: etree._Element) -> int:
    """The bytes that the <capacity> of a <domain>'s disk asks for, 0 for none; raises Failure."""
    found = next((disk.find('capacity') for disk in domain.findall('devices/disk')
                  if hardware.is_disk(disk)), None)
    if found is None:
        return 0
    amount, unit = text(found), found.get('unit') or 'bytes'
    scale = hardware.unit_bytes(unit)
    if not scale:
        raise Failure(f"line {found.sourceline}: <capacity unit='{unit}'> is not valid: unit may "
                      'be bytes, KiB, MiB, GiB, TiB, KB, MB, GB or TB')
    if not re.fullmatch('[0-9]{1,15}', amount) or not amount.isascii() or not (
            0 < int(amount) * scale <= MAXIMUM):
        raise Failure(f"line {found.sourceline}: <capacity> is '{amount}' {unit}, which is not a "
                      f'whole number between 1 byte and {MAXIMUM >> 40} TiB')
    return int(amount) * scale


def ask(root: etree._Element, size: int) -> None:
    """Have the disks of all nodes ``size`` bytes, whatever the author asked for."""
    for disk in root.xpath('frontend/domain/devices/disk | compute/domain/devices/disk'):
        if hardware.is_disk(disk):
            for old in disk.findall('capacity'):
                disk.remove(old)
            etree.SubElement(disk, 'capacity', unit='bytes').text = str(size)


def of(root: etree._Element, role: str, least: int) -> int | None:
    """The bytes of the disk of a role's nodes, None where it has the size of its image.

    ``least`` is the site's, which matters where nobody asked. Raises Failure for less than the
    image has.
    """
    wanted, image = asked(tree.domain(root, role)), root.find(f"image[@role='{role}']")
    size = -(-(wanted or least) // STEP) * STEP
    if image is None:
        return size or None
    has = int(image.get('size'))
    if wanted or size > has:
        _require(size, has, role)
    return size if size > has else None


def check(root: etree._Element) -> None:
    """Raise Failure for a node whose disk would be smaller than its image."""
    for node in tree.nodes(root):
        if node.get('disk_size') is not None:
            _require(int(node.get('disk_size')),
                     int(tree.image(root, node.get('role')).get('size')), node.get('role'))


def _require(size: int, image: int, role: str) -> None:
    if size < image:
        raise Failure(f'the disk of the {role} would have {size >> 20} MiB, which is less than the '
                      f'{-(-image // STEP)} MiB of its image: ask for more (--disk-size, or '
                      '<capacity>), or for nothing to have the size of the image')
    if size > MAXIMUM:
        raise Failure(f'the disk of the {role} would have more than {MAXIMUM >> 40} TiB')
