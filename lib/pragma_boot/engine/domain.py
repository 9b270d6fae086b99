"""The libvirt domain of a node: rebuilt for this host, with only what is allowed of its author's.

Of an author's <domain> only what is permitted gets here, so that no path, address, bridge or device
of another host, or a hostile one, survives.
"""
from lxml import etree

from ..document.permit import CARDS, DISK_BUSES, FEATURES, permitted
from ..document.tree import domain as author_of
from ..document.tree import image
from . import session

QEMU = 'http://libvirt.org/schemas/domain/qemu/1.0'

METADATA = 'urn:pragma_boot:node'
"""The namespace of the <metadata> by which a domain tells the cluster and node it is."""

GROUP = '230.0.0.1'
"""The multicast group of every private socket network, joined on the loopback interface alone."""

FIRST_SLOT = 0x10
"""PCI slot of the first network card, above those that libvirt gives; guests count cards by slot."""


def domain_name(node):
    """The name of a node's domain: cluster and node."""
    return f"{node.getparent().get('name')}-{node.get('name')}"


def build(root, node, acceleration, console, started):
    """The <domain> of ``node``.

    ``acceleration`` is 'kvm' or 'tcg', ``console`` the file of its serial console, ``started``
    the time that its metadata tells, in seconds since the epoch.
    """
    import uuid
    author = permitted(author_of(root, node.get('role')))
    machine = author.xpath('string(os/type/@machine)') or 'pc'
    cards = node.findall('interface')
    domain = etree.Element('domain', type='kvm' if acceleration == 'kvm' else 'qemu',
                           nsmap={'qemu': QEMU})
    _add(domain, 'name', domain_name(node))
    # MACs are given once in a site, so that this is as unique, and the same at every boot.
    _add(domain, 'uuid', str(uuid.uuid5(uuid.NAMESPACE_URL, f"{domain_name(node)}/{cards[0].get('mac')}")))
    metadata = etree.SubElement(domain, 'metadata')
    etree.SubElement(metadata, f'{{{METADATA}}}node', nsmap={'pragma': METADATA},
                     cluster=node.getparent().get('name'), name=node.get('name'),
                     started=str(int(started)))
    _add(domain, 'memory', node.get('memory'), unit='KiB')
    _add(domain, 'vcpu', node.get('cpus'))
    system = etree.SubElement(domain, 'os')
    _add(system, 'type', 'hvm', arch='x86_64', machine=machine)
    etree.SubElement(system, 'boot', dev='hd')
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
    _add_cards(domain, author, cards, machine)
    etree.indent(domain)
    return domain


def _add(parent, tag, content, **attributes):
    element = etree.SubElement(parent, tag, **attributes)
    element.text = content
    return element


def _add_devices(devices, root, node, author, console):
    disk = etree.SubElement(devices, 'disk', type='file', device='disk')
    etree.SubElement(disk, 'driver', name='qemu', type='qcow2')
    etree.SubElement(disk, 'source', file=node.find('disk').get('path'))
    # Told, not probed: a guest that writes a qcow2 header into its disk stays in its disk.
    backing = etree.SubElement(disk, 'backingStore', type='file')
    etree.SubElement(backing, 'format', type='raw')
    source = etree.SubElement(backing, 'source', file=node.find('disk').get('backing')
                              or image(root, node.get('role')).get('path'))
    if node.get('host') != session.URI:
        # All nodes have it: it stays root's, and no QEMU may write to it.
        etree.SubElement(source, 'seclabel', model='dac', relabel='no')
    etree.SubElement(backing, 'backingStore')
    bus = author.xpath('string(devices/disk/target/@bus)') or 'virtio'
    etree.SubElement(disk, 'target', dev=DISK_BUSES[bus], bus=bus)
    if bus == 'scsi':
        etree.SubElement(devices, 'controller', type='scsi', model='virtio-scsi')
    etree.SubElement(devices, 'controller', type='usb', model='none')
    serial = etree.SubElement(devices, 'serial', type='file')
    etree.SubElement(serial, 'source', path=console, append='on')
    etree.SubElement(serial, 'target', port='0')
    random = etree.SubElement(devices, 'rng', model='virtio')
    _add(random, 'backend', '/dev/urandom', model='random')
    etree.SubElement(devices, 'memballoon', model='none')


def _add_cards(domain, author, cards, machine):
    """The network cards, at the slots by which the guest counts them.

    Those of the embedded default by QEMU's own options: libvirt's <interface> can bind a
    multicast socket to no local address, and a user-mode network to no port of the host, which
    are what keeps both on the loopback interface.
    """
    models = [card.xpath('string(model/@type)') for card in author.findall('devices/interface')]
    arguments = []
    for index, card in enumerate(cards):
        model = next(iter(models[index:index + 1]), '') or 'virtio'
        slot = f'{FIRST_SLOT + index:#x}'
        if card.get('port'):
            arguments += _socket_card(card, CARDS[model], 'pcie.0' if machine == 'q35' else 'pci.0',
                                      slot)
        else:
            domain.find('devices').append(_card(card, model, slot))
    if arguments:
        commandline = etree.SubElement(domain, f'{{{QEMU}}}commandline')
        for argument in arguments:
            etree.SubElement(commandline, f'{{{QEMU}}}arg', value=argument)


def _socket_card(card, device, bus, slot):
    """QEMU's options for a card of the embedded default."""
    network = card.get('network')
    backend = (f"socket,id=private,mcast={GROUP}:{card.get('port')},localaddr=127.0.0.1"
               if network == 'private' else
               f"user,id=public,hostfwd=tcp:127.0.0.1:{card.get('port')}-:22")
    return ['-netdev', backend, '-device', f'{device},netdev={network},id=net-{network},'
                                           f"mac={card.get('mac')},bus={bus},addr={slot}"]


def _card(card, model, slot):
    """libvirt's <interface> for a card on a bridge, or on one of its networks.

    A VLAN's tag comes and goes with the card: Open vSwitch knows tags, a Linux bridge with
    vlan_filtering does from libvirt 11 on, and where neither is so libvirt refuses the domain.
    """
    kind = 'bridge' if card.get('bridge') else 'network'
    interface = etree.Element('interface', type=kind)
    etree.SubElement(interface, 'mac', address=card.get('mac'))
    etree.SubElement(interface, 'source', {kind: card.get('bridge') or card.get('source')})
    if card.get('virtualport'):
        etree.SubElement(interface, 'virtualport', type=card.get('virtualport'))
    if card.get('vlan'):
        etree.SubElement(etree.SubElement(interface, 'vlan'), 'tag', id=card.get('vlan'))
    etree.SubElement(interface, 'model', type=model)
    etree.SubElement(interface, 'address', type='pci', domain='0x0000', bus='0x00', slot=slot,
                     function='0x0')
    return interface
