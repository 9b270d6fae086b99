"""What of an author's <domain> is carried over, and what is refused; the rest is dropped.

vc-in.xml(5) has the same two tables. ``permitted`` is all that a node's domain is built from.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from lxml import etree

from ..system.failure import Failure
from .tree import text

FEATURES = ('acpi', 'apic', 'pae')
MACHINES = ('q35', 'pc')
CLOCKS = ('utc', 'localtime')
DISK_BUSES = {'ide': 'hda', 'sata': 'sda', 'scsi': 'sda', 'virtio': 'vda'}
"""Buses of the disk, with the name of the first disk on each."""

CARDS = {'virtio': 'virtio-net-pci', 'e1000': 'e1000', 'e1000e': 'e1000e', 'rtl8139': 'rtl8139'}
"""Models of network interfaces: the names of libvirt and of QEMU."""

TEXT = '#text'

Rules = Mapping[str, Collection[str] | None]
"""The attributes of one element that are carried over, and TEXT for its text.

Each has the values that are permitted, or None for any value, which is checked where it is used. A
value may also contain a permitted one as a word: pc-q35-7.2 is q35, virtio-transitional is virtio.
"""


class Group(NamedTuple):
    """Elements that are carried over for one reason: {path below <domain>: Rules}."""

    reason: str
    elements: Mapping[str, Rules]


ALLOWED = (
    Group('the memory and CPUs that the image needs',
          {'memory': {TEXT: None, 'unit': None}, 'vcpu': {TEXT: None}}),
    Group('the machine type that the guest was installed on',
          {'os': {}, 'os/type': {'machine': MACHINES}, 'features': {},
           **{f'features/{flag}': {} for flag in FEATURES}}),
    Group('the time base that the guest expects of the hardware clock',
          {'clock': {'offset': CLOCKS}}),
    Group("the disk bus that the guest's boot loader and fstab depend on",
          {'devices': {}, 'devices/disk': {}, 'devices/disk/target': {'bus': tuple(DISK_BUSES)}}),
    Group('the models of network interfaces that the guest has drivers for',
          {'devices/interface': {}, 'devices/interface/model': {'type': tuple(CARDS)}}),
)

REPLACED = frozenset((
    'name', 'uuid', 'os/boot', 'devices/disk/driver', 'devices/disk/source', 'devices/disk@type',
    'devices/disk@device', 'devices/disk/target@dev'))
"""What each node's domain has of its own: that the author's is dropped is not reported."""

RULES = {path: rules for group in ALLOWED for path, rules in group.elements.items()}


def _types(*names: str) -> str:
    return '[' + ' or '.join(f"@type='{name}'" for name in names) + ']'


FILE = 'names a file of the host'
DEVICE = 'takes a device of the host'
SOCKET = 'opens a socket of the host'
MEMORY = 'shares memory with the host'
PROGRAM = 'runs a program of the host'
SCRIPT = 'runs a script of the host'
COMMAND = "adds to QEMU's command line"
IMAGE = 'adds a file to the image'

SERIAL = ('serial', 'parallel', 'console', 'channel')
OTHER_RANDOM = (".//rng/backend[@model='random'][starts-with(normalize-space(), '/') "
                "and not(normalize-space()='/dev/random') "
                "and not(normalize-space()='/dev/urandom')]")
BACKENDS = _types('file', 'dev', 'pipe', 'unix', 'tcp', 'udp', 'spiceport', 'nmdm')

REFUSED = (
    ('.//filesystem', 'shares a folder of the host'),
    ('.//hostdev', DEVICE), ('.//redirdev', DEVICE), ('.//smartcard', DEVICE), ('.//vsock', DEVICE),
    ('.//tpm/backend' + _types('passthrough', 'external'), DEVICE),
    ('.//input' + _types('passthrough', 'evdev'), DEVICE),
    ('.//interface' + _types('direct', 'hostdev', 'vdpa', 'ethernet'), DEVICE),
    ('.//audio' + _types('file', 'oss', 'alsa'), DEVICE),
    ('.//interface' + _types('vhostuser', 'server', 'client', 'udp', 'mcast'), SOCKET),
    (".//rng/backend[@model='egd']", SOCKET),
    ('.//graphics[@socket]', SOCKET), ('.//graphics/listen' + _types('socket'), SOCKET),
    ('.//graphics/gl[@rendernode]', DEVICE),
    *((f'.//{kind}{BACKENDS}', 'reaches a file or port of the host') for kind in SERIAL),
    *((f'.//{kind}/log', FILE) for kind in SERIAL),
    ('.//shmem', MEMORY), ('.//memoryBacking/source' + _types('file'), MEMORY),
    ('.//memory/source/path', MEMORY),
    *((f'os/{kind}', 'boots a file of the host')
      for kind in ('kernel', 'initrd', 'dtb', 'loader', 'nvram')),
    ('os/acpi/table', FILE), ('.//sysinfo/entry[@file]', FILE),
    (OTHER_RANDOM, FILE),
    ('.//disk/mirror', IMAGE), ('.//backingStore[*]', IMAGE),
    ('bootloader', PROGRAM), ('.//interface/script', SCRIPT), ('.//interface/downscript', SCRIPT),
    ("*[namespace-uri()='http://libvirt.org/schemas/domain/qemu/1.0']", COMMAND),
)
"""Elements that reach into the host, an XPath from <domain> each, with what they do."""


def refuse(author: etree._Element, role: str) -> None:
    """Raise Failure for the first element of an author's <domain> that is REFUSED."""
    for where, reason in REFUSED:
        for bad in author.xpath(where):
            kind = f" type='{bad.get('type')}'" if bad.get('type') else ''
            raise Failure(f'line {bad.sourceline}: <{etree.QName(bad).localname}{kind}> '
                          f'of the {role} is refused: it {reason}')


def permitted(author: etree._Element) -> etree._Element:
    """A new <domain> with those parts of an author's that are ALLOWED."""
    top = etree.Element('domain')
    _carry(author, top, '')
    return top


def _carry(old: etree._Element, new: etree._Element, above: str) -> None:
    for child in old.iterchildren(etree.Element):
        path = above + child.tag
        if path in RULES:
            copy = etree.SubElement(new, child.tag)
            for name in RULES[path]:
                value = _permitted_value(child, path, name)
                if value is not None and name == TEXT:
                    copy.text = value
                elif value is not None:
                    copy.set(name, value)
            _carry(child, copy, f'{path}/')


def _permitted_value(element: etree._Element, path: str, name: str) -> str | None:
    """The value of an attribute, or of the text, that is carried over; None for no value."""
    value = text(element) if name == TEXT else element.get(name)
    values = RULES[path][name]
    if value is None or values is None:
        return value
    words = value.split('-')
    return next((one for one in values if one in words), None)


def dropped(author: etree._Element, above: str = '') -> list[str]:
    """What is neither carried over nor REPLACED: sorted paths of elements, and path@attribute."""
    found = set()
    for child in author.iterchildren(etree.Element):
        path = above + etree.QName(child).localname
        if path in REPLACED:
            continue
        if child.tag == path.rsplit('/', 1)[-1] and path in RULES:
            found |= {f'{path}@{name}' for name in map(str, child.attrib)
                      if name not in RULES[path] or _permitted_value(child, path, name) is None}
            found |= set(dropped(child, f'{path}/'))
        else:
            found.add(path)
    return sorted(found - REPLACED)
