"""Allocation: what a cluster gets of a site's CPUs, memory, addresses and ports. Pure.

Nothing here reads a file or asks a host: the caller says what is taken.
"""
from collections.abc import Callable
from typing import NamedTuple

from lxml import etree

from ..document import attachment, disksize
from ..document.hardware import cpus, memory
from ..document.tree import ROLES, domain, put
from ..system import names
from ..system.failure import Shortage
from ..system.settings import Settings
from . import pool
from .kinds import Wanted


class Free(NamedTuple):
    """What a host has left for new nodes: its URI, CPUs, memory in KiB."""

    host: str
    cpus: int
    memory: int


def pack(num_cpus: int, cpus_per_node: int) -> list[int]:
    """CPUs of each compute node: the fewest nodes of at most ``cpus_per_node``, evenly filled."""
    if not num_cpus:
        return []
    count = -(-num_cpus // cpus_per_node)
    return [num_cpus // count + (index < num_cpus % count) for index in range(count)]


def place(nodes: list[tuple[int, int]], free: list[Free]) -> list[str] | None:
    """Choose each node's host, or None where there is not enough room for all.

    ``nodes`` are (cpus, memory) pairs. The host with the most free CPUs is filled first, then
    the next; of two that are equal the one whose URI sorts first.
    """
    left = {place.host: place
            for place in sorted(free, key=lambda place: (-place.cpus, place.host))}
    chosen = []
    for count, kib in nodes:
        host = next((place for place in left.values()
                     if place.cpus >= count and place.memory >= kib), None)
        if host is None:
            return None
        left[host.host] = host._replace(cpus=host.cpus - count, memory=host.memory - kib)
        chosen.append(host.host)
    return chosen


def spread(first: list[tuple[int, int]], num_cpus: int, cpus_per_node: int,
           size: Callable[[int], int],
           free: list[Free]) -> tuple[list[tuple[int, int]], list[str]]:
    """Nodes as (cpus, memory) pairs, those of ``first`` and compute nodes, and their hosts.

    The fewest compute nodes of at most ``cpus_per_node`` CPUs that there is room for: smaller
    ones are tried where larger ones fit nowhere. ``size`` tells a compute node's memory in KiB by
    its CPUs. Raises Shortage, all or nothing.
    """
    room = sum(max(place.cpus, 0) for place in free)
    wanted = first
    for most in range(min(cpus_per_node, max(num_cpus, 1)), 0, -1):
        wanted = first + [(count, size(count)) for count in pack(num_cpus, most)]
        if sum(count for count, _ in first) + num_cpus > room:
            break
        hosts = place(wanted, free)
        if hosts:
            return wanted, hosts
    raise _shortage(wanted, free)


def fit(wanted: list[tuple[int, int]], free: list[Free]) -> list[str]:
    """The hosts of nodes that are (cpus, memory) pairs, in their order; raises Shortage.

    Larger nodes are placed first: smaller ones fit where they leave room.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index], reverse=True)
    hosts = place([wanted[index] for index in order], free)
    if hosts is None:
        raise _shortage(wanted, free)
    return [host for _, host in sorted(zip(order, hosts, strict=True))]


def _shortage(wanted: list[tuple[int, int]], free: list[Free]) -> Shortage:
    """The Shortage of nodes that are (cpus, memory) pairs."""
    largest = max(free, key=lambda place: (place.cpus, place.memory), default=Free('', 0, 0))
    return Shortage(
        f"not enough room: {'1 node needs' if len(wanted) == 1 else f'{len(wanted)} nodes need'} "
        f'{names.cpus(sum(count for count, _ in wanted))} and '
        f'{sum(kib for _, kib in wanted) >> 10} MiB, but '
        f'{names.cpus(sum(max(place.cpus, 0) for place in free))} and '
        f'{sum(max(place.memory, 0) for place in free) >> 10} MiB are free on '
        f"{len(free)} host{'s' * (len(free) > 1)}"
        + f', the largest of which has {names.cpus(largest.cpus)} and {largest.memory >> 10} MiB'
        * (len(free) > 1)
        + " ('vc-status' shows the clusters; the setting cpu_overcommit allows more CPUs)")


def private_attachment(settings: Settings, address: str, netmask: str, taken: pool.Taken,
                       usable: Callable[[int], bool]) -> attachment.Attachment:
    """The Attachment of every private interface of a cluster; raises Shortage and Failure."""
    kind, name = attachment.choose(settings, 'private_network')
    if kind.pool:
        return kind(port=pool.port(settings, kind.pool, taken, usable))
    vlan = pool.vlan(settings, taken)
    if not vlan:
        pool.check_subnet(name, address, netmask, taken)
    return kind(name, vlan=vlan)


def public_interface(settings: Settings, name: str, taken: pool.Taken,
                     usable: Callable[[int], bool]) -> tuple[str, dict[str, str]]:
    """The frontend's FQDN, and the attributes of its public <interface>.

    Raises Shortage and Failure.
    """
    kind, network = attachment.choose(settings, 'public_network')
    if kind.pool:
        joined = kind(port=pool.port(settings, kind.pool, taken, usable))
        fqdn = f'{name}.{(pool.search(settings) or ["local"])[0]}'
        if not names.is_name(fqdn):
            settings.refuse('search', f"a domain in which '{name}' has a name of at most "
                            '253 characters')
        return fqdn, {**dict(kind.guest), **joined.attributes()}
    public = pool.public(settings, taken)
    return public.fqdn, {'ip': public.ip, 'netmask': settings['netmask'],
                         'gw': settings['gateway'], **kind(network).attributes()}


def dns(settings: Settings) -> str:
    """The address of the guests' DNS server: the site's, else that of the public network."""
    server = settings['dns'] or attachment.choose(settings, 'public_network')[0].dns
    if not pool.is_address(server):
        settings.refuse('dns', "the DNS server's address")
    return server


def nodes_of(root: etree._Element, wanted: Wanted, settings: Settings,
             free: list[Free]) -> tuple[list[tuple[int, int]], list[str]]:
    """The nodes of a cluster as (cpus, memory) pairs, the frontend first, and their hosts.

    What ``wanted`` leaves open is the author's. A compute node has memory_per_cpu more for each
    CPU after the first, unless the user says how much it has.
    """
    authors = {role: domain(root, role) for role in ROLES[:2 if wanted.num_cpus else 1]}
    step = settings.size('memory_per_cpu') // 1024
    least = memory(authors['compute']) if wanted.num_cpus else 0

    def size(count: int) -> int:
        return wanted.memory or least + (count - 1) * step

    frontend = (wanted.frontend.cpus or cpus(authors['frontend']),
                wanted.frontend.memory or memory(authors['frontend']))
    if wanted.nodes:
        nodes = [frontend, *((node.cpus, node.memory or size(node.cpus)) for node in wanted.nodes)]
        return nodes, fit(nodes, free)
    return spread([frontend], wanted.num_cpus, settings.number('cpus_per_node') or 1, size, free)


def allocate(root: etree._Element, name: str, wanted: Wanted, key: str, settings: Settings,
             free: list[Free], taken: pool.Taken,
             usable: Callable[[int], bool]) -> etree._Element:
    """The <cluster> for a document: a frontend, and the compute nodes that are ``wanted``.

    ``free`` is a list of Free, ``taken`` a pool.Taken, ``usable`` tells whether a port can be
    had, ``key`` is the text of the user's public keys, '' for none. Raises Shortage and Failure.
    """
    nodes, hosts = nodes_of(root, wanted, settings, free)
    disks = {role: disksize.of(root, role, settings.size('disk_size'))
             for role in ROLES[:2 if wanted.num_cpus else 1]}
    netmask, addresses = pool.private_addresses(root, len(nodes) - 1)
    macs = pool.macs(settings, taken, len(nodes) + 1)
    private = private_attachment(settings, addresses[0], netmask, taken, usable)
    taken = taken._replace(ports=taken.ports | {private.port})
    fqdn, public = public_interface(settings, name, taken, usable)
    pool.check_public(root, netmask, public)

    cluster = etree.Element('cluster', name=name, ledger=taken.identity)
    for index, ((count, size), host) in enumerate(zip(nodes, hosts, strict=True)):
        role = ROLES[index > 0]
        short = role if role == 'frontend' else f'{role}-{index - 1}'
        node = etree.SubElement(cluster, 'node', role=role, name=short,
                                fqdn=fqdn if role == 'frontend' else short, host=host,
                                cpus=str(count), memory=str(size))
        if disks[role]:
            node.set('disk_size', str(disks[role]))
        card = etree.SubElement(node, 'interface', network='private', mac=macs[index],
                                ip=addresses[index], netmask=netmask)
        if role == 'compute':
            card.set('gw', addresses[0])
        card.attrib.update(private.attributes())
        if role == 'frontend':
            etree.SubElement(node, 'interface', network='public', mac=macs[-1], **public)
    etree.SubElement(cluster, 'dns', ip=dns(settings), search=' '.join(pool.search(settings)),
                     domain='')
    if key:
        etree.SubElement(cluster, 'key').text = key
    return cluster


UPDATE = '/usr/local/sbin/pragma-guest update'
"""What a frontend runs for whoever has the cluster's own key, and nothing else."""


def add_cluster_keys(cluster: etree._Element, public: str) -> None:
    """Let the cluster's own key into the nodes.

    By it, the frontend logs in to the compute nodes, and we tell the frontend a new document:
    there it is accepted for a forced command alone (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
    """
    for role, line in (('compute', public),
                       ('frontend', f'command="{UPDATE}",restrict {public}')):
        key = etree.Element('key', role=role)
        key.text = line
        put(cluster, key)
