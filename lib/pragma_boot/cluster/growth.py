"""Growing and shrinking: which nodes join a cluster, and which ones leave it. Pure.

New nodes are numbered from the highest number on, and those with the highest numbers leave: what a
node is called never changes.
"""
from collections.abc import Callable

from lxml import etree

from ..document import disksize, tree
from ..document.attachment import of as attachment_of
from ..document.hardware import memory
from ..document.tree import domain
from ..engine.registry import engine_uri, same_kind
from ..system import names
from ..system.failure import Failure
from ..system.settings import Settings
from . import allocation, pool
from .allocation import Free

COPIED = ('port', 'bridge', 'virtualport', 'vlan', 'source')
"""The attributes of a private <interface> that tell how libvirt attaches it."""


def compute_nodes(root: etree._Element) -> list[etree._Element]:
    """The compute nodes of a document, by their numbers."""
    return sorted((node for node in tree.nodes(root) if node.get('role') == 'compute'), key=_number)


def num_cpus(root: etree._Element) -> int:
    """The CPUs of all compute nodes."""
    return sum(int(node.get('cpus')) for node in compute_nodes(root))


def _number(node: etree._Element) -> int:
    """The number at the end of a compute node's name."""
    word = node.get('name').rpartition('-')[2]
    return int(word) if word.isdecimal() else -1


def leaving(root: etree._Element, wanted: int) -> list[etree._Element]:
    """The nodes without which a cluster has ``wanted`` CPUs: those with the highest numbers.

    Raises Failure where that would take a part of a node.
    """
    nodes, left = compute_nodes(root), num_cpus(root)
    chosen: list[etree._Element] = []
    while left > wanted:
        chosen.insert(0, nodes.pop())
        above, left = left, left - int(chosen[0].get('cpus'))
    if left < wanted:
        raise Failure(f"cluster '{tree.cluster(root).get('name')}' cannot shrink to "
                      f"{names.cpus(wanted)}: "
                      f"node '{chosen[0].get('name')}' has {above - left}, and nodes are not "
                      f'divided: use --num-cpus {left} or {above}')
    return chosen


def remove(root: etree._Element, names: set[str]) -> None:
    """Remove nodes from a document."""
    for node in compute_nodes(root):
        if node.get('name') in names:
            node.getparent().remove(node)


def grow(root: etree._Element, wanted: int, settings: Settings, free: list[Free],
         taken: pool.Taken) -> list[etree._Element]:
    """Add the nodes to a document that it lacks for ``wanted`` CPUs in all; the new nodes.

    A new node has at most as many CPUs as the largest compute node or the setting cpus_per_node
    says, and the memory of the smallest node with at least as many CPUs. Raises Shortage, all or
    nothing, and Failure.
    """
    old, more = compute_nodes(root), wanted - num_cpus(root)
    front = tree.frontend(root)
    most = max([settings.number('cpus_per_node') or 1, *(int(node.get('cpus')) for node in old)])
    card = tree.interface(front, 'private')
    if card is None:
        raise Failure('the frontend has no private interface')
    sizes, hosts = allocation.spread([], more, most, _memory(root, old, settings),
                                     _reachable(front, card, free))
    disk = old[0].get('disk_size') if old else disksize.of(root, 'compute',
                                                           settings.size('disk_size'))
    netmask, candidates = pool.private_addresses(root, len(old) + len(sizes))
    used = {one.get('ip') for one in tree.cluster(root).iterfind('node/interface')}
    addresses = [address for address in candidates if address not in used]
    macs = pool.macs(settings, taken, len(sizes))
    first = 1 + max(map(_number, old), default=-1)
    return [_add(root, f'compute-{first + index}', host, cpus, kib, disk, {
                 'mac': macs[index], 'ip': addresses[index], 'netmask': netmask,
                 'gw': card.get('ip'),
                 **{key: card.get(key) for key in COPIED if card.get(key) is not None}})
            for index, ((cpus, kib), host) in enumerate(zip(sizes, hosts, strict=True))]


def _memory(root: etree._Element, old: list[etree._Element],
            settings: Settings) -> Callable[[int], int]:
    """Tells the KiB of a new node by its CPUs."""
    kinds = [(int(node.get('cpus')), int(node.get('memory'))) for node in old]
    least, step = memory(domain(root, 'compute')), settings.size('memory_per_cpu') // 1024

    def size(count: int) -> int:
        alike = [kib for cpus, kib in kinds if cpus >= count]
        return min(alike) if alike else max([least + (count - 1) * step,
                                             *(kib for _, kib in kinds)])
    return size


def _reachable(front: etree._Element, card: etree._Element, free: list[Free]) -> list[Free]:
    """Those of the site's hosts whose nodes reach the cluster's private network."""
    home = engine_uri(front.get('host'))
    one_host = attachment_of(card).one_host
    return [place for place in free
            if (place.host == home if one_host else same_kind(place.host, home))]


def _add(root: etree._Element, name: str, host: str, cpus: int, kib: int, disk: object,
         card: dict[str, str]) -> etree._Element:
    """Add a compute node after the last node."""
    node = etree.Element('node', role='compute', name=name, fqdn=name, host=host, cpus=str(cpus),
                         memory=str(kib))
    if disk:
        node.set('disk_size', str(disk))
    etree.SubElement(node, 'interface', network='private', **card)
    etree.indent(node, level=2)
    last = tree.nodes(root)[-1]
    node.tail = last.tail
    last.getparent().insert(last.getparent().index(last) + 1, node)
    return node
