"""What of an author's <domain> is carried over, what is refused, and why; the rest is dropped.

vc-in.xml(5) has the same two tables. ``permitted`` is all that the domain of a node is built from.
"""
from typing import NamedTuple

from lxml import etree

from ..system.failure import Failure
from .tree import text

FEATURES = ('acpi', 'apic', 'pae')
MACHINES = ('q35', 'pc')
CLOCKS = ('utc', 'localtime')
DISK_BUSES = {'ide': 'hda', 'sata': 'sda', 'scsi': 'sda', 'virtio': 'vda'}
"""Buses of the disk, with the first disk's name on each."""

CARDS = {'virtio': 'virtio-net-pci', 'e1000': 'e1000', 'e1000e': 'e1000e', 'rtl8139': 'rtl8139'}
"""Models of network card: libvirt's names, QEMU's."""

TEXT = '#text'


class Group(NamedTuple):
    """Elements that are carried over for one reason.

    ``elements`` tells for each, by its path below <domain>, the attributes that are, and TEXT where
    its text is; with the values that are taken of it, None for any, which is checked where it is used.
    A value counts as its first word that is taken: pc-q35-7.2 is q35, virtio-transitional virtio.
    """

    reason: str
    elements: dict


ALLOWED = (
    Group('the memory and CPUs that the image needs',
          {'memory': {TEXT: None, 'unit': None}, 'vcpu': {TEXT: None}}),
    Group('the machine type that the guest was installed on',
          {'os': {}, 'os/type': {'machine': MACHINES}, 'features': {},
           **{f'features/{flag}': {} for flag in FEATURES}}),
    Group('the time base that the guest expects of the hardware clock', {'clock': {'offset': CLOCKS}}),
    Group("the disk bus that the guest's boot loader and fstab depend on",
          {'devices': {}, 'devices/disk': {}, 'devices/disk/target': {'bus': tuple(DISK_BUSES)}}),
    Group('the models of network interfaces that the guest has drivers for',
          {'devices/interface': {}, 'devices/interface/model': {'type': tuple(CARDS)}}),
)

REPLACED = frozenset(('name', 'uuid', 'os/boot', 'devices/disk/driver', 'devices/disk/source', 'devices/disk@type',
                      'devices/disk@device', 'devices/disk/target@dev'))
"""What each domain has of its own in the place of the author's: nobody is told that it was dropped."""

RULES = {path: rules for group in ALLOWED for path, rules in group.elements.items()}


def _types(*names):
    return '[' + ' or '.join(f"@type='{name}'" for name in names) + ']'


FILE, DEVICE, SOCKET = 'names a file of the host', 'takes a device of the host', 'opens a socket of the host'
MEMORY, PROGRAM, COMMAND = 'shares memory with the host', 'runs a program of the host', "adds to QEMU's command line"
CHARACTER = ('file', 'dev', 'pipe', 'unix', 'tcp', 'udp', 'spiceport', 'nmdm')

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
    *((f'.//{kind}' + _types(*CHARACTER), 'reaches a file or port of the host')
      for kind in ('serial', 'parallel', 'console', 'channel')),
    *((f'.//{kind}/log', FILE) for kind in ('serial', 'parallel', 'console', 'channel')),
    ('.//shmem', MEMORY), ('.//memoryBacking/source' + _types('file'), MEMORY), ('.//memory/source/path', MEMORY),
    *((f'os/{kind}', 'boots a file of the host') for kind in ('kernel', 'initrd', 'dtb', 'loader', 'nvram')),
    ('os/acpi/table', FILE), ('.//sysinfo/entry[@file]', FILE),
    (".//rng/backend[@model='random'][starts-with(normalize-space(), '/') and not(normalize-space()='/dev/random') "
     "and not(normalize-space()='/dev/urandom')]", FILE),
    ('.//disk/mirror', 'adds a file to the image'), ('.//backingStore[*]', 'adds a file to the image'),
    ('bootloader', PROGRAM), ('.//interface/script', 'runs a script of the host'),
    ('.//interface/downscript', 'runs a script of the host'),
    ("*[namespace-uri()='http://libvirt.org/schemas/domain/qemu/1.0']", COMMAND),
)
"""Elements that reach into the host (XPath, from <domain>), with what they do: a mistake, or worse."""


def refuse(author, role):
    """Raise Failure for what is REFUSED of an author's <domain>."""
    for where, reason in REFUSED:
        for bad in author.xpath(where):
            kind = f" type='{bad.get('type')}'" if bad.get('type') else ''
            raise Failure(f'line {bad.sourceline}: <{etree.QName(bad).localname}{kind}> of the {role} '
                          f'is refused: it {reason}')


def permitted(author):
    """A <domain> with what is ALLOWED of an author's, and nothing else."""
    top = etree.Element('domain')
    _carry(author, top, '')
    return top


def _carry(old, new, above):
    for child in old.iterchildren(etree.Element):
        path = above + child.tag
        if path in RULES:
            kept = etree.SubElement(new, child.tag)
            for name in RULES[path]:
                value = _taken(child, path, name)
                if value is not None and name == TEXT:
                    kept.text = value
                elif value is not None:
                    kept.set(name, value)
            _carry(child, kept, f'{path}/')


def _taken(element, path, name):
    """The value of an attribute, or of the text, as it is carried over; None where it is not."""
    value = text(element) if name == TEXT else element.get(name)
    values = RULES[path][name]
    if value is None or values is None:
        return value
    words = value.split('-')
    return next((one for one in values if one in words), None)


def dropped(author, above=''):
    """What is neither carried over nor replaced, for -v: sorted paths of elements and path@attribute."""
    found = set()
    for child in author.iterchildren(etree.Element):
        path = above + etree.QName(child).localname
        if path in REPLACED:
            continue
        if child.tag == path.rsplit('/', 1)[-1] and path in RULES:
            found |= {f'{path}@{name}' for name in child.attrib
                      if name not in RULES[path] or _taken(child, path, name) is None} - REPLACED
            found |= set(dropped(child, f'{path}/'))
        else:
            found.add(path)
    return sorted(found)
