"""The private network of a vc-in.xml: its addresses, and those that it must not overlap."""
from __future__ import annotations

import ipaddress

from lxml import etree

from ..system.failure import Failure
from ..system.settings import Settings
from . import attachment
from .tree import text


def of(address: str, netmask: str) -> ipaddress.IPv4Network:
    """The subnet of an address; raises ValueError."""
    return ipaddress.IPv4Network(f'{address}/{netmask}', strict=False)


def usable(subnet: ipaddress.IPv4Network) -> bool:
    """Whether hosts can have the addresses of a subnet (RFC 6890)."""
    return not (subnet.is_loopback or subnet.is_multicast or subnet.is_link_local
                or subnet.is_reserved or subnet.network_address.packed[0] == 0)


def private(root: etree._Element) -> tuple[str, ipaddress.IPv4Network]:
    """The frontend's address on the private network, and the subnet; raises Failure."""
    network = root.find("networks/network[@name='private']")
    address, netmask = text(network.find('ipaddress')), text(network.find('netmask'))
    line = network.find('netmask').sourceline
    try:
        subnet = of(address, netmask)
    except ValueError:
        raise Failure(f"line {line}: '{netmask}' is not a netmask") from None
    # ipaddress takes 0.0.255.255 for 255.255.0.0; and a subnet of everything has every route.
    if str(subnet.netmask) != netmask or subnet.prefixlen < 8 or not usable(subnet):
        raise Failure(f"line {line}: '{address}' with netmask '{netmask}' is no private network")
    if (subnet.prefixlen > 30 or ipaddress.IPv4Address(address)
            in (subnet.network_address, subnet.broadcast_address)):
        raise Failure(f"line {network.find('ipaddress').sourceline}: '{address}' is no host's "
                      f'address in {subnet}')
    return address, subnet


def check(root: etree._Element, settings: Settings) -> str:
    """Check the private network of a vc-in.xml for a site; returns it, raises Failure.

    A public network in user mode has addresses that QEMU fixes.
    """
    address, subnet = private(root)
    guest = dict(attachment.choose(settings, 'public_network')[0].guest)
    if guest:
        public = of(guest['ip'], guest['netmask'])
        if subnet.overlaps(public):
            network = root.find("networks/network[@name='private']")
            raise Failure(f"line {network.find('ipaddress').sourceline}: the private network "
                          f'{subnet} overlaps the public network {public} of user mode: '
                          'choose another')
    return f'the private network is {subnet}, the frontend has {address}'
