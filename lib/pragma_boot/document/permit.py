"""What of an author's <domain> is carried over; document.refusal has what is refused.

What a guest would notice is carried over or refused. vc-in.xml(5) has the same table.
``permitted`` is all that a node's domain is built from; document.hardware reads its elements.
"""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from lxml import etree

from ..system.failure import Failure
from . import firmware, hardware
from .hardware import AGENT
from .tree import text

ENGINES = tuple('kvm qemu kqemu hvf'.split())    # noqa: SIM905
"""Types of an author's <domain> whose guests find the hardware of QEMU."""

FEATURES = ('acpi', 'apic', 'pae')
MACHINES = ('q35', 'pc')
CLOCKS = ('utc', 'localtime')
DISK_BUSES = {'ide': 'hda', 'sata': 'sda', 'scsi': 'sda', 'virtio': 'vda'}
"""Buses of the disk, with the name of the first disk on each."""

VIRTIO = ('virtio', 'virtio-transitional', 'virtio-non-transitional')

SCSI_CONTROLLERS = ('lsilogic', 'lsisas1068', 'lsisas1078', 'vmpvscsi', 'virtio-scsi',
                    *VIRTIO[1:])

CARDS = {'virtio': 'virtio-net-pci', 'virtio-transitional': 'virtio-net-pci-transitional',
         'virtio-non-transitional': 'virtio-net-pci-non-transitional',
         'e1000': 'e1000', 'e1000e': 'e1000e', 'rtl8139': 'rtl8139'}
"""Models of network interfaces: the names of libvirt and of QEMU."""

TEXT = '#text'

Rules = Mapping[str, Collection[str] | None]
"""The attributes of one element that are carried over, and TEXT for its text.

Each has the values that are permitted; a domain with another value is refused. None permits any
value, which libvirt's schema checks.
"""


class Group(NamedTuple):
    """Elements that are carried over for one reason: {path below <domain>: Rules}."""

    reason: str
    elements: Mapping[str, Rules]


ALLOWED = (
    Group('the memory and CPUs that the image needs',
          {'memory': {TEXT: None, 'unit': None}, 'vcpu': {TEXT: None}}),
    Group('the machine type that the guest was installed on',
          {'os/type': {TEXT: ('hvm',), 'arch': ('x86_64',), 'machine': MACHINES},
           'features': {}, **{f'features/{flag}': {} for flag in FEATURES}}),
    Group('the firmware that the boot loader was installed for',
          {'os': {'firmware': (firmware.UEFI,)}, 'os/firmware': {},
           'os/firmware/feature': {'name': firmware.FEATURES, 'enabled': ('yes', 'no')}}),
    Group('the time base that the guest expects of the hardware clock',
          {'clock': {'offset': CLOCKS}}),
    Group("the disk that the guest's boot loader and fstab depend on",
          {'devices': {}, 'devices/disk': {'model': VIRTIO},
           'devices/disk/target': {'bus': tuple(DISK_BUSES)},
           **{f'devices/disk/{tag}': {TEXT: None}
              for tag in ('serial', 'wwn', 'vendor', 'product')},
           'devices/disk/blockio': {'logical_block_size': ('512',), 'physical_block_size': None},
           'devices/controller': {'type': ('scsi',), 'model': SCSI_CONTROLLERS}}),
    Group('the models of network interfaces that the guest has drivers for',
          {'devices/interface': {}, 'devices/interface/model': {'type': tuple(CARDS)}}),
    Group('the display adapter that the boot loader and the console of the guest use',
          {'devices/video': {}, 'devices/video/model': {'type': hardware.VIDEOS}}),
    Group('a console for a viewer, on a socket of its own',
          {'devices/graphics': {'type': hardware.VIEWERS}}),
    Group('the channel of the guest agent',
          {'devices/channel': {}, 'devices/channel/target': {'name': (AGENT,)}}),
)

READ: Mapping[tuple[str, str], Callable[[etree._Element], str | None]] = {
    ('os', 'firmware'): firmware.asked_for,
    ('devices/video/model', 'type'): hardware.video_model,
    ('os/type', 'machine'): hardware.machine,
    ('clock', 'offset'): hardware.clock_offset,
    ('devices/disk/target', 'bus'): hardware.bus,
    ('devices/controller', 'model'): hardware.controller_model,
}
"""How a value is read that is not simply the attribute."""

KEPT: Mapping[str, Callable[[etree._Element], bool]] = {
    'devices/disk': hardware.is_disk,
    'devices/controller': hardware.serves_the_disk,
    'devices/channel': hardware.is_agent,
    'devices/video': hardware.is_first,
    'devices/graphics': hardware.is_viewer,
    'os/firmware': lambda element: firmware.asked_for(element.getparent()) == firmware.UEFI,
}
"""Which of several elements of a path are carried over."""

COMPLETED: Mapping[str, Callable[[etree._Element, etree._Element], None]] = {
    'devices/interface': hardware.complete_interface,
    'os': firmware.complete,
}
"""What adds the values that libvirt derives to a carried element."""

REPLACED = frozenset((
    'name', 'uuid', 'os/boot', 'devices/disk/driver', 'devices/disk/source',
    'devices/disk/capacity', 'devices/disk@type', 'devices/disk@device',
    'devices/disk/target@dev', 'devices/controller@index', 'devices/channel@type',
    'devices/channel/target@type', 'devices/graphics@port', 'devices/graphics@autoport',
    'devices/graphics@listen', 'devices/graphics/listen'))
"""What each node's domain has of its own: that the author's is dropped is not reported."""

RULES = {path: rules for group in ALLOWED for path, rules in group.elements.items()}


def permitted(author: etree._Element) -> etree._Element:
    """A new <domain> with those parts of an author's that are ALLOWED, at the author's lines.

    It has one disk with a <target>, and a model in each interface. Raises Failure, with the line,
    for a value that a node cannot have.
    """
    kind = author.get('type', ENGINES[0])
    if kind not in ENGINES:
        raise _refusal(author, 'type', kind, ENGINES)
    top = etree.Element('domain')
    top.sourceline = author.sourceline
    _carry(author, top, '')
    firmware.check(top)
    disks = top.findall('devices/disk')
    if len(disks) != 1:
        raise Failure(f'line {author.sourceline}: the <domain> has {len(disks)} disks, not one')
    hardware.check_disk(disks[0], top.xpath('string(os/type/@machine)'))
    return top


def _carried(child: etree._Element, path: str) -> bool:
    return path in RULES and (path not in KEPT or KEPT[path](child))


def _carry(old: etree._Element, new: etree._Element, above: str) -> None:
    for child in old.iterchildren(etree.Element):
        path = above + child.tag
        if not _carried(child, path):
            continue
        copy = etree.SubElement(new, child.tag)
        copy.sourceline = child.sourceline
        for name in RULES[path]:
            value = _value(child, path, name)
            if value is not None and name == TEXT:
                copy.text = value
            elif value is not None:
                copy.set(name, value)
        _carry(child, copy, f'{path}/')
        if path in COMPLETED:
            COMPLETED[path](child, copy)


def _value(element: etree._Element, path: str, name: str) -> str | None:
    """The value of an attribute, or of the text, that is carried over; None for no value."""
    if (path, name) in READ:
        value = READ[path, name](element)
    else:
        value = text(element) if name == TEXT else element.get(name)
    values = RULES[path][name]
    if value is not None and values is not None and value not in values:
        raise _refusal(element, name, value, values)
    return value


def _refusal(element: etree._Element, name: str, value: str, values: Collection[str]) -> Failure:
    what = f"<{element.tag}> '{value}'" if name == TEXT else f"<{element.tag} {name}='{value}'>"
    return Failure(f"line {element.sourceline}: {what} is refused: "
                   f"{'it' if name == TEXT else name} may be {' or '.join(values)}")


def dropped(author: etree._Element, above: str = '') -> list[str]:
    """What is neither carried over nor REPLACED: sorted paths of elements, and path@attribute."""
    found = set()
    for child in author.iterchildren(etree.Element):
        path = above + etree.QName(child).localname
        if path in REPLACED:
            continue
        if child.tag == path.rsplit('/', 1)[-1] and _carried(child, path):
            found |= {f'{path}@{name}' for name in map(str, child.attrib)
                      if name not in RULES[path]}
            found |= set(dropped(child, f'{path}/'))
        elif path in KEPT:
            kind = next((f"[@{name}='{child.get(name)}']" for name in ('device', 'type')
                         if child.get(name)), '')
            found.add(path + kind)
        else:
            found.add(path)
    return sorted(found - REPLACED)
