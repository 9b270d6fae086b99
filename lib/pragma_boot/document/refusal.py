"""What of an author's <domain> is refused: it reaches into the host, or no node can have it.

vc-in.xml(5) has the same table.
"""
from __future__ import annotations

from lxml import etree

from ..system.failure import Failure


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
MEDIUM = 'has a medium, which nodes do not get: eject it'
OTHERWISE = 'is something that a guest notices and no node has: remove it'

SERIAL = ('serial', 'parallel', 'console', 'channel')
OTHER_RANDOM = (".//rng/backend[@model='random'][starts-with(normalize-space(), '/') "
                "and not(normalize-space()='/dev/random') "
                "and not(normalize-space()='/dev/urandom') "
                "and not(normalize-space()='/dev/hwrng')]")
BACKENDS = ('file', 'dev', 'pipe', 'unix', 'tcp', 'udp', 'nmdm')
REACHES = 'reaches a file or port of the host'
OTHER_SOCKET = (".//channel[@type='unix']/source[@path][not(contains(@path, '/libvirt/qemu/')) "
                "or contains(@path, '/../')]")
"""A socket that is not one that libvirt makes for a guest's agent."""

REFUSED = (
    ('.//filesystem', 'shares a folder of the host'),
    ('.//hostdev', DEVICE), ('.//vsock', DEVICE),
    (".//redirdev[not(@type='spicevmc')]", DEVICE),
    (".//smartcard[not(@type='spicevmc')]", DEVICE),
    ('.//tpm/backend' + _types('passthrough', 'external'), DEVICE),
    ('.//input' + _types('passthrough', 'evdev'), DEVICE),
    ('.//audio' + _types('file', 'oss', 'alsa'), DEVICE),
    (".//rng/backend[@model='egd']", SOCKET),
    ('.//graphics[@socket]', SOCKET), ('.//graphics/listen[@socket]', SOCKET),
    ('.//graphics/gl[@rendernode]', DEVICE),
    *((f'.//{kind}' + _types(*BACKENDS), REACHES) for kind in SERIAL if kind != 'channel'),
    ('.//channel' + _types(*(kind for kind in BACKENDS if kind != 'unix')), REACHES),
    (OTHER_SOCKET, REACHES),
    *((f'.//{kind}/log', FILE) for kind in SERIAL),
    ('.//shmem', MEMORY), ('.//memoryBacking/source' + _types('file'), MEMORY),
    ('.//memory/source/path', MEMORY),
    *((f'os/{kind}', 'boots a file of the host')
      for kind in ('kernel', 'initrd', 'dtb')),
    (("devices/disk[@device='cdrom' or @device='floppy']"
     "[source/@*[string() and not(name()='index' or name()='startupPolicy')]]"), MEDIUM),
    ('os/acpi/table', FILE), ('.//sysinfo/entry[@file]', FILE),
    (OTHER_RANDOM, FILE),
    ('.//disk/mirror', IMAGE), ('.//backingStore[*]', IMAGE),
    ('devices/disk/source/slices', OTHERWISE), ('.//disk//encryption', OTHERWISE),
    ("devices/disk[not(@device) or @device='disk']/readonly", OTHERWISE),
    ("devices/disk[not(@device) or @device='disk']/transient", OTHERWISE),
    (".//interface/link[@state='down']", OTHERWISE), ('launchSecurity', OTHERWISE),
    ('bootloader', PROGRAM), ('.//interface/script', SCRIPT), ('.//interface/downscript', SCRIPT),
    ("*[namespace-uri()='http://libvirt.org/schemas/domain/qemu/1.0']", COMMAND),
)
"""Elements that reach into the host, or that a node cannot have, with what they do.

An XPath from <domain> each.
"""


def refuse(author: etree._Element, role: str) -> None:
    """Raise Failure for the first element of an author's <domain> that is REFUSED."""
    for where, reason in REFUSED:
        for bad in author.xpath(where):
            kind = f" type='{bad.get('type')}'" if bad.get('type') else ''
            raise Failure(f'line {bad.sourceline}: <{etree.QName(bad).localname}{kind}> '
                          f'of the {role} is refused: it {reason}')
