"""The hardware that an author's <domain> describes: what each element means, as libvirt reads it.

Each function takes an element of the author's. Where the author left a value out, the function
returns the value that libvirt derives.
"""
from __future__ import annotations

import os
import re

from lxml import etree

from ..system.failure import Failure
from .tree import text

AGENT = 'org.qemu.guest_agent.0'
"""The name of the guest agent's channel."""

DEFAULT_CARD = 'rtl8139'
"""The model of a network interface without <model> on x86_64."""

VIDEOS = ('vga', 'cirrus', 'bochs', 'virtio', 'none')
"""Models of display adapters. A QXL is a VGA that SPICE draws faster: nodes have a VGA for it."""

VIEWERS = ('vnc', 'spice')
"""Types of <graphics> that a viewer connects to. Nodes have VNC for either."""

PREFIXES = {'hd': 'ide', 'sd': 'scsi', 'vd': 'virtio', 'fd': 'fdc', 'xvd': 'xen', 'ubd': 'uml'}
"""The bus of a disk without bus=, by the beginning of its name."""

EXPONENTS = {'': 0, 'k': 1, 'm': 2, 'g': 3, 't': 4, 'p': 5, 'e': 6}
MAXIMUM_MEMORY = 1 << 50


def memory(author: etree._Element) -> int:
    """The <memory> of a <domain>, in KiB rounded up; raises Failure."""
    found = author.findall('memory')
    if not found:
        raise Failure(f'line {author.sourceline}: <memory> is missing')
    element = found[0]
    amount, unit = text(element), element.get('unit') or 'KiB'
    if not re.fullmatch('[0-9]{1,30}', amount) or not amount.isascii():
        raise Failure(f"line {element.sourceline}: <memory> is '{amount}', which is not a whole "
                      'number')
    scale = unit_bytes(unit)
    if not scale:
        raise Failure(f"line {element.sourceline}: <memory unit='{unit}'> is not valid: unit may "
                      'be b, KiB, MiB, GiB, TiB, KB, MB, GB or TB')
    size = int(amount) * scale
    if not 0 < size <= MAXIMUM_MEMORY:
        raise Failure(f"line {element.sourceline}: <memory> is {amount} {unit}, which is not "
                      'between 1 byte and 1 PiB')
    return -(-size // 1024)


def exceeds_this_machine(author: etree._Element) -> bool:
    """Whether the <memory> of a <domain> is more than this machine has; raises Failure."""
    return memory(author) << 10 > os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def unit_bytes(unit: str) -> int:
    """The bytes of a unit of libvirt's, 0 for no unit: k and KiB are 1024, KB is 1000."""
    match = re.fullmatch('(b|bytes?)|([kmgtpe])(ib|b)?', unit.lower())
    if not match or not unit.isascii():
        return 0
    base = 1000 if match[3] == 'b' else 1024
    return int(base ** EXPONENTS[match[2] or ''])


def cpus(author: etree._Element) -> int:
    """The <vcpu> of a <domain>, 1 where it has none; raises Failure."""
    element = author.find('vcpu')
    count = text(element) or '1'
    if not re.fullmatch('[1-9][0-9]{0,3}', count) or not count.isascii():
        line = author.sourceline if element is None else element.sourceline
        raise Failure(f"line {line}: <vcpu> is '{count}', which is not a number of CPUs from 1 to "
                      '9999')
    return int(count)


def machine(kind: etree._Element) -> str | None:
    """'q35' or 'pc' for a version of these machines, otherwise the machine= of an <os><type>."""
    value = kind.get('machine')
    if value is None or not re.fullmatch('[A-Za-z0-9_.-]+', value):
        return value
    words = value.split('-')
    if words[0] not in ('pc', 'q35', 'ubuntu', 'fedora') and not re.match(r'rhel[0-9]', words[0]):
        return value
    return 'q35' if 'q35' in words else 'pc'


def clock_offset(clock: etree._Element) -> str | None:
    """The offset= of a <clock>; a variable one is that of its basis."""
    offset = clock.get('offset')
    return clock.get('basis', 'utc') if offset == 'variable' else offset


def bus(target: etree._Element) -> str:
    """The bus of a disk's <target>."""
    name = re.match('[a-z]*', target.get('dev') or '')
    prefix = name[0] if name else ''
    return target.get('bus') or next(
        (derived for begin, derived in PREFIXES.items() if prefix.startswith(begin)), '')


def controller_model(controller: etree._Element) -> str | None:
    """The model= of a <controller>, None where libvirt chooses it."""
    model = controller.get('model')
    return None if model == 'auto' else model


def is_disk(disk: etree._Element) -> bool:
    """Whether a <disk> is one of the guest's disks, not a CD-ROM or floppy drive."""
    return disk.get('device') not in ('cdrom', 'floppy')


def serves_the_disk(controller: etree._Element) -> bool:
    """Whether a <controller> is the SCSI controller that the disk is attached to."""
    devices = controller.getparent()
    disk = next(filter(is_disk, devices.findall('disk')), None)
    if disk is None or controller.get('type') != 'scsi':
        return False
    target = disk.find('target')
    if target is None or bus(target) != 'scsi':
        return False
    all_of_them = devices.findall("controller[@type='scsi']")
    index = controller.get('index') or str(all_of_them.index(controller))
    address = disk.find('address')
    return index == (address.get('controller') or '0' if address is not None else '0')


def video_model(model: etree._Element) -> str | None:
    """The type= of the <model> of a display adapter."""
    kind = model.get('type')
    return 'vga' if kind == 'qxl' else kind


def is_viewer(graphics: etree._Element) -> bool:
    """Whether a <graphics> is the first that a viewer connects to."""
    return graphics.get('type') in VIEWERS and not any(
        before.get('type') in VIEWERS
        for before in graphics.itersiblings(graphics.tag, preceding=True))


def is_first(element: etree._Element) -> bool:
    """Whether an element is the first of its kind: the guest's console is on it."""
    return next(element.itersiblings(element.tag, preceding=True), None) is None


def is_agent(channel: etree._Element) -> bool:
    """Whether a <channel> is the guest agent's."""
    return channel.find(f"target[@name='{AGENT}']") is not None


def check_disk(disk: etree._Element, kind: str) -> None:
    """Raise Failure for a carried <disk> that a machine of this ``kind`` cannot have."""
    target = disk.find('target')
    if target is None:
        raise Failure(f"line {disk.sourceline}: the <disk> has no <target dev=…>")
    on = target.get('bus')
    if on == 'ide' and kind == 'q35':
        raise Failure(f"line {target.sourceline}: <target bus='ide'> is refused: the machine q35 "
                      'has no IDE controller; use bus sata or the machine pc')
    for tag, value, buses in (('disk', disk.get('model'), ('virtio',)),
                              ('wwn', disk.find('wwn'), ('ide', 'scsi')),
                              ('vendor', disk.find('vendor'), ('scsi',)),
                              ('product', disk.find('product'), ('scsi',))):
        if value is not None and on not in buses:
            what = f"<disk model='{value}'>" if tag == 'disk' else f'<{tag}>'
            raise Failure(f"line {disk.sourceline}: {what} is refused: it needs bus "
                          f"{' or '.join(buses)}, not {on}")


def complete_interface(author: etree._Element, interface: etree._Element) -> None:
    """Set the model that libvirt derives for a carried <interface> that names none."""
    model = interface.find('model')
    if model is None or model.get('type') is None:
        if author.get('type') == 'hostdev':
            raise Failure(f"line {author.sourceline}: <interface type='hostdev'> is refused: nodes "
                          'do not get a device of the host; give it a <model type=…>')
        if model is None:
            model = etree.SubElement(interface, 'model')
            model.sourceline = interface.sourceline
        model.set('type', DEFAULT_CARD)
