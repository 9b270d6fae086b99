"""Network attachments: how a node's interface is joined to a network, one class a kind.

``choose`` reads the settings private_network and public_network, ``of`` an <interface> of a
document. A new kind is a class here and its word in KINDS.
"""

from lxml import etree

from ..system.settings import Settings

MULTICAST_GROUP = '230.0.0.1'
"""The group of every private socket network, joined on the loopback interface alone."""


class Attachment:
    """What an <interface> says of its network: the name of a bridge or network, a port, a VLAN."""

    pool: str | None = None
    """The setting that is the pool of ports, for a kind that needs one."""

    one_host = False
    """Whether it joins nodes of one host only."""

    guest: tuple[tuple[str, str], ...] = ()
    dns = ''
    """The guest's ip, netmask and gw, and its DNS server, for a kind that fixes them."""

    def __init__(self, name: str = '', port: int | None = None, vlan: int | None = None):
        self.name = name
        self.port = port
        self.vlan = vlan

    def attributes(self) -> dict[str, str]:
        """The attributes of the <interface>."""
        return {}

    def label(self) -> str:
        """A short description for people."""
        return self.name + (f', VLAN {self.vlan}' if self.vlan else '')

    def backend(self) -> str:
        """QEMU's -netdev, for a kind that libvirt's <interface> cannot express; else ''."""
        return ''

    def element(self) -> etree._Element:
        """libvirt's <interface> with its source, for a kind without ``backend``."""
        raise NotImplementedError

    def passt(self) -> etree._Element | None:
        """libvirt's <interface> for a host that has passt, where the kind has one."""
        return None

    def linux_bridge(self) -> str:
        """The name of the Linux bridge, where the attachment is one without a VLAN; else ''."""
        return ''


class Socket(Attachment):
    """A private network of multicast sockets on one host's loopback interface: no privilege."""

    pool = 'private_ports'
    one_host = True

    def attributes(self) -> dict[str, str]:
        return {'port': str(self.port)}

    def label(self) -> str:
        return f'sockets of port {self.port}'

    def backend(self) -> str:
        # libvirt's <interface type='mcast'> cannot bind to a local address.
        return f'socket,id=private,mcast={MULTICAST_GROUP}:{self.port},localaddr=127.0.0.1'


class User(Attachment):
    """User mode: a port of the host's loopback interface leads to the guest's sshd.

    By passt, or by QEMU itself, from which the guest reaches services on the host's loopback
    interface. The addresses are those of QEMU's documentation (Network emulation).
    """

    pool = 'ssh_ports'
    guest = (('ip', '10.0.2.15'), ('netmask', '255.255.255.0'), ('gw', '10.0.2.2'))
    dns = '10.0.2.3'

    def attributes(self) -> dict[str, str]:
        return {'port': str(self.port)}

    def label(self) -> str:
        return f'127.0.0.1:{self.port}, user mode'

    def backend(self) -> str:
        # libvirt's <interface type='user'> cannot forward a port of the host.
        return f'user,id=public,hostfwd=tcp:127.0.0.1:{self.port}-:22'

    def passt(self) -> etree._Element:
        interface = etree.Element('interface', type='user')
        etree.SubElement(interface, 'ip', family='ipv4', address=self.guest[0][1], prefix='24')
        forward = etree.SubElement(interface, 'portForward', proto='tcp', address='127.0.0.1')
        etree.SubElement(forward, 'range', start=str(self.port), to='22')
        etree.SubElement(interface, 'backend', type='passt')
        return interface


class Bridge(Attachment):
    """A Linux bridge. A VLAN on it needs libvirt 11; an older libvirt refuses the domain."""

    def attributes(self) -> dict[str, str]:
        return {'bridge': self.name, **({'vlan': str(self.vlan)} if self.vlan else {})}

    def element(self) -> etree._Element:
        interface = etree.Element('interface', type='bridge')
        etree.SubElement(interface, 'source', bridge=self.name)
        if self.vlan:
            etree.SubElement(etree.SubElement(interface, 'vlan'), 'tag', id=str(self.vlan))
        return interface

    def linux_bridge(self) -> str:
        return '' if self.vlan else self.name


class OpenVSwitch(Bridge):
    """A bridge of Open vSwitch."""

    def attributes(self) -> dict[str, str]:
        return {**super().attributes(), 'virtualport': 'openvswitch'}

    def element(self) -> etree._Element:
        interface = super().element()
        interface.insert(1, etree.Element('virtualport', type='openvswitch'))
        return interface

    def linux_bridge(self) -> str:
        return ''


class Network(Attachment):
    """A network that libvirt manages."""

    def attributes(self) -> dict[str, str]:
        return {'source': self.name}

    def element(self) -> etree._Element:
        interface = etree.Element('interface', type='network')
        etree.SubElement(interface, 'source', network=self.name)
        return interface


KINDS: dict[str, dict[str, type[Attachment]]] = {
    'private_network': {'socket': Socket, 'bridge:': Bridge, 'ovs:': OpenVSwitch},
    'public_network': {'user': User, 'bridge:': Bridge, 'ovs:': OpenVSwitch, 'network:': Network},
}
"""The class of each word of these settings; a word with ':' is followed by a name."""


def choose(settings: Settings, key: str) -> tuple[type[Attachment], str]:
    """The class that the setting ``key`` of KINDS chooses, and the name in it; raises Failure."""
    word, name = settings.kind(key, KINDS[key])
    return KINDS[key][word], name


def of(interface: etree._Element) -> Attachment:
    """The attachment of a node's <interface>; a plain Attachment where the document names none."""
    port, vlan = interface.get('port'), interface.get('vlan')
    if port:
        return (Socket if interface.get('network') == 'private' else User)(port=int(port))
    if interface.get('bridge'):
        kind = OpenVSwitch if interface.get('virtualport') else Bridge
        return kind(interface.get('bridge'), vlan=int(vlan) if vlan else None)
    return Network(interface.get('source')) if interface.get('source') else Attachment()
