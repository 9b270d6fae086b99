"""The pools of a site: addresses, names, MACs, ports, VLANs. Each cluster gets its own part.

Pure: the caller passes what is taken. An empty pool raises Shortage with its name. A setting that
does not describe a pool raises Failure.
"""
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from lxml import etree

from ..document.subnet import of as _subnet
from ..document.subnet import private as private_subnet
from ..document.subnet import usable
from ..document.tree import text
from ..system import names
from ..system.failure import Failure, Shortage, Usage
from ..system.settings import Settings


class Public(NamedTuple):
    """A public address, and the name that it has in the site's DNS."""

    ip: str
    fqdn: str


class Taken(NamedTuple):
    """What other clusters of the ledger have; ``subnets`` are pairs of a bridge and a subnet."""

    macs: frozenset
    ports: frozenset
    vlans: frozenset
    publics: frozenset
    subnets: frozenset
    identity: str
    """The ledger's own: pools shared with other ledgers are searched from a place of its own."""

    @classmethod
    def by(cls, documents: Iterable[etree._Element], identity: str) -> 'Taken':
        """What the clusters of ``documents``, of the ledger ``identity``, have."""
        cards = [card for root in documents for card in root.iterfind('cluster/node/interface')]
        return cls(
            frozenset(card.get('mac') for card in cards),
            frozenset(int(card.get('port')) for card in cards if card.get('port')),
            frozenset(int(card.get('vlan')) for card in cards if card.get('vlan')),
            frozenset(card.get('ip') for card in cards if card.get('network') == 'public'),
            # Of a cluster's private cards one tells as much as all.
            frozenset((card.get('bridge'), _subnet(card.get('ip'), card.get('netmask')))
                      for root in documents
                      for card in root.xpath("(cluster/node/interface[@network='private'])[1]")
                      if card.get('bridge') and not card.get('vlan')),
            identity)


def subnet_of(word: str) -> ipaddress.IPv4Network:
    """The private subnet that a user names, such as 10.2.0.0/16; raises Usage."""
    try:
        subnet = ipaddress.IPv4Network(word, strict=False)
    except ValueError:
        subnet = None
    if subnet is None or '/' not in word or not 8 <= subnet.prefixlen <= 30:
        raise Usage('--private-network must be a subnet of /8 to /30 such as 10.2.0.0/16, '
                    f"not '{word}'")
    if str(subnet.network_address) != word.partition('/')[0]:
        raise Usage(f"--private-network '{word}' is an address in a subnet: write '{subnet}'")
    if not usable(subnet):
        raise Usage(f"--private-network '{word}' is loopback, link-local, multicast or reserved: "
                    'use a private one such as 10.2.0.0/16')
    return subnet


def set_private(root: etree._Element, subnet: ipaddress.IPv4Network) -> None:
    """Give <networks> another private subnet; the frontend has its first address."""
    network = root.find("networks/network[@name='private']")
    network.find('ipaddress').text = str(subnet.network_address + 1)
    network.find('netmask').text = str(subnet.netmask)


def private_addresses(root: etree._Element, count: int) -> tuple[str, list[str]]:
    """The private network's netmask, and the addresses of the frontend and ``count`` others.

    The frontend has the address that <networks> names. The others count down from the top of
    the subnet; its network and broadcast addresses stay free.
    """
    address, subnet = private_subnet(root)
    frontend = ipaddress.IPv4Address(address)
    if count > subnet.num_addresses - 3:
        raise Shortage(f"pool 'private' ({subnet}) has {subnet.num_addresses - 3} addresses "
                       f'for compute nodes, {count} asked for')
    top = int(subnet.broadcast_address)
    chosen = (candidate for candidate in range(top - 1, int(subnet.network_address), -1)
              if candidate != int(frontend))
    others = [str(ipaddress.IPv4Address(next(chosen))) for _ in range(count)]
    return str(subnet.netmask), [address, *others]


def check_public(root: etree._Element, netmask: str, public: Mapping[str, str]) -> None:
    """Raise Failure where a public <interface>'s attributes lie in the private network.

    The frontend would have two ways to each address there, and route between neither.
    """
    network = root.find("networks/network[@name='private']")
    private = _subnet(text(network.find('ipaddress')), netmask)
    outside = _subnet(public['ip'], public['netmask'])
    if private.overlaps(outside):
        raise Failure(f'line {network.sourceline}: the private network {private} overlaps the '
                      f"public network {outside}, in which the frontend would have "
                      f"'{public['ip']}': choose another with --private-network or in "
                      '<network>, or other public_ips for the site')


def check_subnet(bridge: str, address: str, netmask: str, taken: Taken) -> None:
    """Raise Shortage where a cluster on the same bridge has addresses of the same subnet."""
    subnet = _subnet(address, netmask)
    there = [used for other, used in taken.subnets if other == bridge]
    for used in there:
        if used.overlaps(subnet):
            free = next((one for one in ipaddress.IPv4Network('10.0.0.0/8').subnets(8)
                         if one.network_address.packed[1] and not any(map(one.overlaps, there))),
                        'SUBNET')
            raise Shortage(f"pool 'private_network' ({bridge}) has {used} in use by another "
                           f'cluster: use --private-network {free}, or another <ipaddress> in the '
                           'vc-in.xml, or the setting vlans (Open vSwitch, or libvirt 11), or on '
                           'one host private_network = socket')


def macs(settings: Settings, taken: Taken, count: int) -> list[str]:
    """``count`` free MACs under the site's prefix of three bytes.

    They begin at a number from the ledger's identity, so that two ledgers have different ones.
    """
    prefix = settings['mac_prefix'].lower()
    if not re.fullmatch('[0-9a-f][02468ace](:[0-9a-f]{2}){2}', prefix):
        settings.refuse('mac_prefix', 'three bytes of a unicast MAC such as 52:54:00')
    found: list[str] = []
    start = int(taken.identity[:6], 16)
    for offset in range(1 << 24):
        if len(found) == count:
            return found
        number = (start + offset) % (1 << 24)
        mac = f'{prefix}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}'
        if mac not in taken.macs:
            found.append(mac)
    raise Shortage(f"pool 'mac_prefix' ({prefix}) has no {count} MACs left")


def _numbers(settings: Settings, key: str, least: int, most: int, example: str) -> range:
    """A setting that is a range of numbers, such as 22000-22999."""
    match = re.fullmatch('([0-9]{1,5})-([0-9]{1,5})', settings[key])
    if not match or not least <= int(match[1]) <= int(match[2]) <= most:
        settings.refuse(key, f'a range within {least}-{most}, such as {example}')
    return range(int(match[1]), int(match[2]) + 1)


def port(settings: Settings, key: str, taken: Taken, usable: Callable[[int], bool]) -> int:
    """The first port of the pool ``key`` that no cluster has and that is ``usable`` here now.

    The search begins at a place from the ledger's identity: two ledgers that allocate at the
    same moment, before either's QEMU holds its port, rarely choose the same one.
    """
    ports = _numbers(settings, key, 1024, 65535, '22000-22999')
    start = int(taken.identity[6:14], 16) % len(ports)
    for candidate in [*ports[start:], *ports[:start]]:
        if candidate not in taken.ports and usable(candidate):
            return candidate
    raise Shortage(f"pool '{key}' ({settings[key]}) has no port left")


def vlan(settings: Settings, taken: Taken) -> int | None:
    """The lowest VLAN id of the site that no cluster has (IEEE 802.1Q), None for a site without."""
    if not settings['vlans']:
        return None
    for candidate in _numbers(settings, 'vlans', 1, 4094, '100-199'):
        if candidate not in taken.vlans:
            return candidate
    raise Shortage(f"pool 'vlans' ({settings['vlans']}) has no VLAN left")


def public(settings: Settings, taken: Taken) -> Public:
    """The first Public of the site's pool that no cluster has."""
    pool = _publics(settings)
    for candidate in pool:
        if candidate.ip not in taken.publics:
            return candidate
    raise Shortage(f"pool 'public_ips' ({len(pool)} addresses) has no address left")


def search(settings: Settings) -> list[str]:
    """The search domains of the site's guests; raises Failure for what no guest takes."""
    domains = settings['search'].split()
    if not all(map(names.is_name, domains)):
        settings.refuse('search', "domains with spaces between them, such as 'a.example.org "
                        "example.org', of letters, digits and '-', without a '.' at the end")
    return domains


def _publics(settings: Settings) -> list[Public]:
    if not settings['gateway'] or not settings['netmask']:
        raise Failure(f"{settings.path}: public_network = {settings['public_network']} needs the "
                      'settings gateway and netmask')
    try:
        subnet = _subnet(settings['gateway'], settings['netmask'])
    except ValueError:
        raise Failure(f"{settings.path}: gateway and netmask must be the public network's, "
                      f"not '{settings['gateway']}' and '{settings['netmask']}'") from None
    # ipaddress takes 24 and 0.0.0.255 for 255.255.255.0.
    if str(subnet.netmask) != settings['netmask']:
        settings.refuse('netmask', f"written in full, such as '{subnet.netmask}'")
    hosts = range(int(subnet.network_address) + 1, int(subnet.broadcast_address))
    pool = []
    for entry in filter(None, (part.strip() for part in settings['public_ips'].split(','))):
        ip, _, fqdn = entry.partition(' ')
        if is_address(ip) and not fqdn.strip():
            raise Failure(f"{settings.path}: '{ip}' of public_ips has no name for the frontend: "
                          f"add it, as in '{ip} vc0.example.org'")
        if not is_address(ip) or not names.is_name(fqdn.strip()):
            settings.refuse('public_ips', 'pairs such as 192.0.2.10 vc0.example.org, with commas')
        if names.is_of_nodes(fqdn.strip()):
            settings.refuse('public_ips', "names of frontends, not 'localhost' or 'compute-N'")
        if int(ipaddress.IPv4Address(ip)) not in hosts or ip == settings['gateway']:
            raise Failure(f"{settings.path}: '{ip}' of public_ips is no guest's address "
                          f'in {subnet}')
        pool.append(Public(ip, fqdn.strip()))
    if len({one.ip for one in pool}) < len(pool):
        settings.refuse('public_ips', 'addresses that differ')
    return pool


def is_address(word: str) -> bool:
    """Whether a text is an IPv4 address."""
    try:
        return bool(ipaddress.IPv4Address(word))
    except ValueError:
        return False
