"""The vc-in.xml of a stock image, as a person would write it."""
from __future__ import annotations

from typing import NamedTuple

from lxml import etree
from lxml.builder import E

from . import firmware
from .vcin import INTERFACES

PRIVATE = ('10.1.1.1', '255.255.0.0')
"""The frontend's address on the private network, and the netmask: those of the demo image."""

BRIDGES = ('private', 'public')


class Entry(NamedTuple):
    """What a vc-in.xml is made from: the guest profile ``driver``, memory in MiB.

    ``format`` is '' where the image is packed. ``about`` is a comment for people.
    """

    name: str
    driver: str
    image: str
    format: str
    memory: int
    cpus: int
    uefi: bool
    about: str


def document(entry: Entry) -> etree._Element:
    """The <vc> of an entry: a frontend and compute nodes of the same image."""
    about = ''.join(filter(str.isprintable, entry.about)).replace('--', '- ').rstrip('-')
    root = E.vc(
        etree.Comment(f' {about} '),
        E.virtualization(engine='kvm', type='hvm', arch='x86_64'),
        E.driver(entry.driver),
        *(etree.Element(role) for role in INTERFACES),
        E.networks(E.network(E.ipaddress(PRIVATE[0]), E.netmask(PRIVATE[1]), name='private'),
                   E.frontend(E.public('eth1'))), version='0.1')
    for role, interfaces in INTERFACES.items():
        root.find(role).append(_domain(entry, role, interfaces))
    etree.indent(root)
    return root


def _domain(entry: Entry, role: str, interfaces: int) -> etree._Element:
    driver = etree.fromstring("<driver name='qemu'/>")
    if entry.format:
        driver.set('type', entry.format)
    # The machine pc has a floppy controller, which costs a guest seconds.
    system = E.os(E.type('hvm', arch='x86_64', machine='q35'), E.boot(dev='hd'))
    if entry.uefi:
        system.set('firmware', firmware.UEFI)
    return E.domain(
        E.name(f'{entry.name}-{role}'), system, E.memory(str(entry.memory), unit='MiB'),
        E.vcpu(str(entry.cpus)), E.features(E.acpi(), E.apic(), E.pae()),
        E.devices(
            *(E.interface(E.source(bridge=bridge), E.model(type='virtio'), type='bridge')
              for bridge in BRIDGES[:interfaces]),
            E.disk(driver, E.source(file=entry.image),
                   E.target(dev='vda', bus='virtio'), type='file', device='disk'),
            E.graphics(type='vnc'), E.console(type='pty')),
        type='kvm')
