"""Allocation: what a cluster gets of a site's CPUs, memory, addresses and ports. Pure.

Nothing here reads a file or asks a host: the caller says what is taken.
"""
import ipaddress
import re
from typing import NamedTuple

from lxml import etree

from .document import ROLES, domain, text
from .failure import Failure, Shortage

MEMORY_UNITS = {'b': 1, 'bytes': 1, 'KB': 10 ** 3, 'k': 2 ** 10, 'KiB': 2 ** 10, 'MB': 10 ** 6,
                'M': 2 ** 20, 'MiB': 2 ** 20, 'GB': 10 ** 9, 'G': 2 ** 30, 'GiB': 2 ** 30,
                'TB': 10 ** 12, 'T': 2 ** 40, 'TiB': 2 ** 40}
"""Units of libvirt's <memory unit=> in bytes (formatdomain, Memory Allocation)."""

USER_MODE = {'ip': '10.0.2.15', 'netmask': '255.255.255.0', 'gw': '10.0.2.2'}
"""The guest's place in QEMU's user-mode network (QEMU documentation, Network emulation)."""


class Free(NamedTuple):
    """What a host has left for new nodes: its URI, CPUs, memory in KiB."""

    host: str
    cpus: int
    memory: int


class Taken(NamedTuple):
    """What other clusters of the site have."""

    macs: frozenset
    ports: frozenset

    @classmethod
    def by(cls, documents):
        """What the clusters of ``documents`` have."""
        cards = [card for root in documents for card in root.iterfind('cluster/node/interface')]
        return cls(frozenset(card.get('mac') for card in cards),
                   frozenset(int(card.get('port')) for card in cards if card.get('port')))


def pack(num_cpus, cpus_per_node):
    """CPUs of each compute node: the fewest nodes of at most ``cpus_per_node``, evenly filled."""
    count = -(-num_cpus // cpus_per_node)
    return [num_cpus // count + (index < num_cpus % count) for index in range(count)]


def memory(author):
    """The <memory> of an author's domain, in KiB rounded up."""
    element = author.find('memory')
    amount = text(element)
    unit = element.get('unit', 'KiB') if element is not None else 'KiB'
    if not re.fullmatch('[0-9]{1,15}', amount) or unit not in MEMORY_UNITS:
        raise Failure(f"line {author.sourceline}: the domain's <memory> is not a number "
                      'in a unit of libvirt')
    return -(-int(amount) * MEMORY_UNITS[unit] // 1024)


def cpus(author):
    """The <vcpu> of an author's domain, 1 where it has none."""
    count = text(author.find('vcpu')) or '1'
    if not re.fullmatch('[1-9][0-9]{0,3}', count):
        raise Failure(f"line {author.sourceline}: the domain's <vcpu> is not a number of CPUs")
    return int(count)


def private_addresses(root, count):
    """The private network's netmask, and the addresses of the frontend and ``count`` others.

    The frontend has the address that <networks> names. The others count down from the top of
    the subnet; its network and broadcast addresses stay free.
    """
    network = root.find("networks/network[@name='private']")
    address, netmask = text(network.find('ipaddress')), text(network.find('netmask'))
    try:
        subnet = ipaddress.IPv4Network(f'{address}/{netmask}', strict=False)
    except ValueError as error:
        raise Failure(f'line {network.sourceline}: the private network is wrong: {error}') from None
    frontend = ipaddress.IPv4Address(address)
    if subnet.prefixlen > 30 or frontend in (subnet.network_address, subnet.broadcast_address):
        raise Failure(f"line {network.sourceline}: '{address}' is no host's address in {subnet}")
    if count > subnet.num_addresses - 3:
        raise Shortage(f"pool 'private' ({subnet}) has {subnet.num_addresses - 3} addresses "
                       f'for compute nodes, {count} asked for')
    top = int(subnet.broadcast_address)
    chosen = (candidate for candidate in range(top - 1, int(subnet.network_address), -1)
              if candidate != int(frontend))
    return netmask, [address] + [str(ipaddress.IPv4Address(next(chosen))) for _ in range(count)]


def macs(prefix, taken, count):
    """The ``count`` lowest MACs under a prefix of three bytes that nobody has."""
    found = []
    for number in range(1, 1 << 24):
        if len(found) == count:
            return found
        mac = f'{prefix}:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}'
        if mac not in taken:
            found.append(mac)
    raise Shortage(f"pool 'mac_prefix' ({prefix}) has no {count} MACs left")


def port(pool, ports, taken, usable):
    """The lowest port of a pool that no cluster has and that is ``usable`` on this host now."""
    for candidate in ports:
        if candidate not in taken and usable(candidate):
            return str(candidate)
    raise Shortage(f"pool '{pool}' ({ports.start}-{ports.stop - 1}) has no port left")


def place(nodes, free):
    """Choose each node's host, the one with the most CPUs left first; all or nothing.

    ``nodes`` are (cpus, memory) pairs. Returns their hosts' URIs; raises Shortage.
    """
    left = {place.host: [place.cpus, place.memory] for place in free}
    chosen = []
    for wanted_cpus, wanted_memory in nodes:
        fitting = [(-have[0], host) for host, have in left.items()
                   if have[0] >= wanted_cpus and have[1] >= wanted_memory]
        if not fitting:
            raise Shortage(
                f'not enough room: {sum(node[0] for node in nodes)} CPUs and '
                f'{sum(node[1] for node in nodes) >> 10} MiB asked for by {len(nodes)} nodes, '
                f'{sum(max(place.cpus, 0) for place in free)} CPUs and '
                f'{sum(max(place.memory, 0) for place in free) >> 10} MiB free')
        host = min(fitting)[1]
        left[host][0] -= wanted_cpus
        left[host][1] -= wanted_memory
        chosen.append(host)
    return chosen


def allocate(root, name, num_cpus, key, settings, free, taken, usable):
    """The <cluster> for a document: a frontend, and compute nodes of ``num_cpus`` CPUs in all.

    ``free`` is a list of Free, ``taken`` a Taken, ``usable`` tells whether a port can be had,
    ``key`` is the text of the user's public keys, '' for none. Raises Shortage and Failure.
    """
    sizes = pack(num_cpus, settings.number('cpus_per_node') or 1) if num_cpus else []
    authors = {role: domain(root, role) for role in ROLES[:2 if sizes else 1]}
    kib = {role: memory(author) for role, author in authors.items()}
    wanted = [(cpus(authors['frontend']), kib['frontend'])]
    wanted += [(size, kib['compute']) for size in sizes]
    hosts = place(wanted, free)
    netmask, addresses = private_addresses(root, len(sizes))
    cards = macs(settings.mac_prefix(), taken.macs, len(wanted) + 1)
    private_port = port('private_ports', settings.ports('private_ports'), taken.ports, usable)
    ssh_port = port('ssh_ports', settings.ports('ssh_ports'),
                    taken.ports | {int(private_port)}, usable)

    cluster = etree.Element('cluster', name=name)
    for index, ((count, size), host) in enumerate(zip(wanted, hosts)):
        role = ROLES[index > 0]
        short = role if role == 'frontend' else f'{role}-{index - 1}'
        fqdn = f"{name}.{settings['search'] or 'local'}" if role == 'frontend' else short
        node = etree.SubElement(cluster, 'node', role=role, name=short, fqdn=fqdn, host=host,
                                cpus=str(count), memory=str(size))
        card = etree.SubElement(node, 'interface', network='private', mac=cards[index],
                                ip=addresses[index], netmask=netmask)
        if role == 'compute':
            card.set('gw', addresses[0])
        card.set('port', private_port)
        if role == 'frontend':
            etree.SubElement(node, 'interface', network='public', mac=cards[-1], **USER_MODE,
                             port=ssh_port)
    etree.SubElement(cluster, 'dns', ip=settings['dns'], search=settings['search'], domain='')
    if key:
        etree.SubElement(cluster, 'key').text = key
    return cluster


def add_cluster_key(cluster, public):
    """Let the cluster's own key, by which its frontend reaches them, into the compute nodes."""
    key = etree.SubElement(cluster, 'key', role='compute')
    key.text = public
    return key
