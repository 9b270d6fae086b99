"""The libvirt <domain> of a node, built anew for this site.

Of the image author's <domain> only the permitted elements are used (document.permit). No path,
address, bridge or device of the author's reaches the host.
"""
from collections.abc import Callable
from typing import Any

from lxml import etree

from ..document import attachment, firmware
from ..document.permit import AGENT, CARDS, DISK_BUSES, FEATURES, permitted
from ..document.tree import domain as author_of
from ..document.tree import domain_name, domain_uuid, image
from ..system.failure import Failure
from . import session
from .protocol import ACTIVE

QEMU = 'http://libvirt.org/schemas/domain/qemu/1.0'

METADATA = 'urn:pragma_boot:node'
"""The namespace of the <metadata> that names a domain's cluster and node."""

SEED_DISKS = {'virtio': 'vdb', 'scsi': 'sdb'}
"""Buses of seed disks, with the name of the second disk on each."""

FIRST_SLOT = 0x10
"""PCI slot of the first interface, above those that libvirt assigns; guests number them by slot."""


def build(root: etree._Element, node: etree._Element, acceleration: str, console: str,
          started: float, has_passt: Callable[[], bool]) -> etree._Element:
    """The <domain> of ``node``. ``has_passt`` tells whether its host can use passt.

    ``acceleration`` is 'kvm' or 'tcg'. ``console`` is the path of the console log. ``started`` goes
    into the metadata, in seconds since the epoch.
    """
    author = permitted(author_of(root, node.get('role')))
    machine = author.xpath('string(os/type/@machine)') or 'pc'
    domain = etree.Element('domain', type='kvm' if acceleration == 'kvm' else 'qemu',
                           nsmap={'qemu': QEMU})
    _add(domain, 'name', domain_name(node))
    _add(domain, 'uuid', domain_uuid(node))
    metadata = etree.SubElement(domain, 'metadata')
    etree.SubElement(metadata, f'{{{METADATA}}}node', nsmap={'pragma': METADATA},
                     cluster=node.getparent().get('name'), name=node.get('name'),
                     ledger=node.getparent().get('ledger', ''), started=str(int(started)))
    _add(domain, 'memory', node.get('memory'), unit='KiB')
    _add(domain, 'vcpu', node.get('cpus'))
    _add_system(domain, author, machine)
    features = etree.SubElement(domain, 'features')
    for flag in FEATURES:
        if author.find(f'features/{flag}') is not None:
            etree.SubElement(features, flag)
    etree.SubElement(domain, 'cpu',
                     mode='host-passthrough' if acceleration == 'kvm' else 'maximum')
    etree.SubElement(domain, 'clock', offset=author.xpath('string(clock/@offset)') or 'utc')
    for event, action in (('poweroff', 'destroy'), ('reboot', 'restart'), ('crash', 'destroy')):
        _add(domain, f'on_{event}', action)
    _add_devices(etree.SubElement(domain, 'devices'), root, node, author, console)
    _add_interfaces(domain, author, node, machine, has_passt)
    etree.indent(domain)
    return domain


def _add(parent: etree._Element, tag: str, content: str, **attributes: str) -> etree._Element:
    element = etree.SubElement(parent, tag, **attributes)
    element.text = content
    return element


def _add_system(domain: etree._Element, author: etree._Element, machine: str) -> None:
    """Add the <os>. libvirt chooses the file of UEFI, and makes the variables of the domain."""
    system = etree.SubElement(domain, 'os')
    _add(system, 'type', 'hvm', arch='x86_64', machine=machine)
    uefi = firmware.element(author)
    if uefi is not None:
        system.set('firmware', firmware.UEFI)
        system.append(uefi)
    etree.SubElement(system, 'boot', dev='hd')


def _add_display(devices: etree._Element, author: etree._Element) -> None:
    """Add the display adapter, and VNC where the author has a console for a viewer.

    Without an adapter some GRUBs hang. VNC listens on a socket that libvirt makes for the domain:
    only those who may use this libvirt can connect.
    """
    if author.find('devices/graphics') is not None:
        etree.SubElement(etree.SubElement(devices, 'graphics', type='vnc'), 'listen', type='socket')
    video = etree.SubElement(devices, 'video')
    etree.SubElement(video, 'model',
                     type=author.xpath('string(devices/video/model/@type)') or 'vga')


def _add_devices(devices: etree._Element, root: etree._Element, node: etree._Element,
                 author: etree._Element, console: str) -> None:
    authors = author.find('devices/disk')
    disk = etree.SubElement(devices, 'disk', type='file', device='disk', **authors.attrib)
    etree.SubElement(disk, 'driver', name='qemu', type='qcow2')
    etree.SubElement(disk, 'source', file=node.find('disk').get('path'))
    # The format is stated, not probed: a guest may write a qcow2 header into its disk.
    backing = etree.SubElement(disk, 'backingStore', type='file')
    etree.SubElement(backing, 'format', type='raw')
    source = etree.SubElement(backing, 'source', file=node.find('disk').get('backing')
                              or image(root, node.get('role')).get('path'))
    if node.get('host') != session.URI:
        # All nodes share the staged image: libvirt must not give it to QEMU's user.
        etree.SubElement(source, 'seclabel', model='dac', relabel='no')
    etree.SubElement(backing, 'backingStore')
    bus = authors.find('target').get('bus')
    etree.SubElement(disk, 'target', dev=DISK_BUSES[bus], bus=bus)
    for element in authors:
        if element.tag != 'target':
            _add(disk, element.tag, element.text, **element.attrib)
    if node.find('seed') is not None:
        _add_seed(devices, node, bus)
    controller = author.find('devices/controller')
    if controller is not None:
        # Without a model, or without the element, libvirt chooses the same as for the author.
        etree.SubElement(devices, 'controller', **controller.attrib)
    if author.find('devices/channel') is not None:
        channel = etree.SubElement(devices, 'channel', type='unix')
        if node.get('host') == session.URI:
            etree.SubElement(channel, 'source', mode='bind',
                             path=session.agent_socket(domain_uuid(node)))
        etree.SubElement(channel, 'target', type='virtio', name=AGENT)
    etree.SubElement(devices, 'controller', type='usb', model='none')
    serial = etree.SubElement(devices, 'serial', type='file')
    etree.SubElement(serial, 'source', path=console, append='on')
    etree.SubElement(serial, 'target', port='0')
    _add_display(devices, author)
    random = etree.SubElement(devices, 'rng', model='virtio')
    _add(random, 'backend', '/dev/urandom', model='random')
    etree.SubElement(devices, 'memballoon', model='none')


def _add_seed(devices: etree._Element, node: etree._Element, bus: str) -> None:
    """Add the seed disk after the disk, whose ``bus`` it shares: the first one is booted from.

    QEMU has no read-only disk on the buses ide and sata.
    """
    bus = bus if bus in SEED_DISKS else 'virtio'
    disk = etree.SubElement(devices, 'disk', type='file', device='disk')
    etree.SubElement(disk, 'driver', name='qemu', type='raw')
    etree.SubElement(disk, 'source', file=node.find('seed').get('path'))
    etree.SubElement(disk, 'target', dev=SEED_DISKS[bus], bus=bus)
    etree.SubElement(disk, 'readonly')


def _add_interfaces(domain: etree._Element, author: etree._Element, node: etree._Element,
                    machine: str, has_passt: Callable[[], bool]) -> None:
    """Add the network interfaces at ascending PCI slots.

    Attachments that libvirt's <interface> cannot express become QEMU options.
    """
    interfaces = node.findall('interface')
    models = [model.get('type') for model in author.findall('devices/interface/model')]
    if len(models) < len(interfaces):
        raise Failure(f"line {author.sourceline}: the <domain> has {len(models)} network "
                      f"interfaces, and node '{node.get('name')}' has {len(interfaces)}")
    arguments = []
    for index, interface in enumerate(interfaces):
        model = models[index]
        slot = f'{FIRST_SLOT + index:#x}'
        joined = attachment.of(interface)
        element = joined.passt()
        if element is None or not has_passt():
            element = None if joined.backend() else joined.element()
        if element is None:
            network = interface.get('network')
            bus = 'pcie.0' if machine == 'q35' else 'pci.0'
            device = (f'{CARDS[model]},netdev={network},id=net-{network},'
                      f"mac={interface.get('mac')},bus={bus},addr={slot}")
            arguments += ['-netdev', joined.backend(), '-device', device]
            continue
        element.insert(0, etree.Element('mac', address=interface.get('mac')))
        etree.SubElement(element, 'model', type=model)
        etree.SubElement(element, 'address', type='pci', domain='0x0000', bus='0x00', slot=slot,
                         function='0x0')
        domain.find('devices').append(element)
    if arguments:
        commandline = etree.SubElement(domain, f'{{{QEMU}}}commandline')
        for argument in arguments:
            etree.SubElement(commandline, f'{{{QEMU}}}arg', value=argument)


def is_active(engine: Any, node: etree._Element) -> bool:
    """Whether the node's own domain is active: another vc-boot may have started it meanwhile."""
    found = engine.domains([node]).get(domain_name(node))
    return found is not None and found.state in ACTIVE and engine.marked(node, found)
