"""Capacity: what the engines of a site have left for new nodes; free ports of this machine."""
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable

from lxml import etree

from ..document import attachment
from ..document.hardware import exceeds_this_machine, memory
from ..document.requirement import Requirement
from ..document.tree import ROLES, domain_name
from ..engine.protocol import Domain
from ..engine.registry import Engines, site_uris
from ..system import names
from ..system.failure import Failure, Shortage
from ..system.settings import Settings
from .allocation import Free

LOOPBACK = '127.0.0.1'


def refuse_larger(root: etree._Element, settings: Settings) -> None:
    """Raise Failure where a role's <memory> is more than any host of the site has.

    The hosts are asked only where this machine has less. One that does not answer may have enough.
    """
    authors = {role: author for role in ROLES
               if (author := root.find(f'{role}/domain')) is not None
               and exceeds_this_machine(author)}
    if not authors:
        return
    answers = Engines(settings).ask(site_uris(settings), lambda engine: engine.capacity())
    sizes = [0 if isinstance(one, Failure) else one[1] for one in answers.values()]
    for role, author in authors.items():
        kib = memory(author)
        if min(sizes) > 0 and max(sizes) < kib:
            line = author.find('memory').sourceline
            raise Failure(f'line {line}: <memory> of the {role} is {kib >> 10} MiB, '
                          f'and the largest host of the site has {max(sizes) >> 10} MiB')


def requirement(settings: Settings) -> Requirement:
    """That no role of a vc-in.xml has more <memory> than the largest host, for vc-check."""
    def look(root: etree._Element) -> str:
        refuse_larger(root, settings)
        return 'a host of the site has enough memory for a node'
    return Requirement('memory of the hosts', look, 'change it in the vc-in.xml', vital=False)


class Capacity:
    """The capacity and domains of the site's engines, without those that do not answer."""

    def __init__(self, settings: Settings):
        uris = site_uris(settings)
        if len(uris) > 1 and attachment.choose(settings, 'private_network')[0].one_host:
            settings.refuse('private_network',
                            'bridge:NAME or ovs:NAME where there are several hosts')
        self._settings = settings
        self._answers = Engines(settings).answers(
            uris, lambda engine: (engine.capacity(), engine.domains()))

    def free(self, documents: Iterable[etree._Element]) -> list[Free]:
        """What each engine has left beside ``documents``' reservations and all other domains."""
        reserved = _reservations(documents)
        return [self._free(uri, capacity, domains, reserved[uri])
                for uri, (capacity, domains) in self._answers.items()]

    def _free(self, uri: str, capacity: tuple[int, int], domains: dict[str, Domain],
              reserved: dict[str, tuple[int, int]]) -> Free:
        used = [*reserved.values(),
                *((domain.cpus, domain.memory) for name, domain in domains.items()
                  if name not in reserved)]
        cpus, memory = capacity
        settings = self._settings
        return Free(uri,
                    int(cpus * settings.ratio('cpu_overcommit')) - settings.number('reserved_cpus')
                    - sum(count for count, _ in used),
                    memory - settings.size('reserved_memory') // 1024 - sum(kib for _, kib in used))


def check_edited(known: etree._Element, root: etree._Element,
                 documents: Callable[[], Iterable[etree._Element]], settings: Settings) -> None:
    """Raise Shortage where nodes were given more than their host has left, by hand.

    ``known`` is the cluster's document in the ledger, one of ``documents``, which are read only
    where a node was given more, and ``root`` the edited one.
    """
    before, now = _reservations([known]), _reservations([root])
    grown = {uri for uri, nodes in now.items()
             for domain, asked in nodes.items()
             if any(map(int.__gt__, asked, before[uri].get(domain, (0, 0))))}
    if not grown:
        return
    name = known.find('cluster').get('name')
    others = [other for other in documents() if other.find('cluster').get('name') != name]
    for free in Capacity(settings).free([*others, root]):
        if free.host in grown and (free.cpus < 0 or free.memory < 0):
            cpus, memory = max(-free.cpus, 0), max(-free.memory, 0) >> 10
            raise Shortage(f"not enough room on '{free.host}' for the edited nodes of cluster "
                           f"'{name}': {names.cpus(cpus)} and {memory} MiB are missing")


def _reservations(
        documents: Iterable[etree._Element]) -> dict[str, dict[str, tuple[int, int]]]:
    """The CPUs and memory in KiB of the nodes on each engine: {URI: {domain: (CPUs, memory)}}."""
    promised: dict[str, dict] = defaultdict(dict)
    for root in documents:
        for node in root.iterfind('cluster/node'):
            promised[node.get('host')][domain_name(node)] = (int(node.get('cpus')),
                                                             int(node.get('memory')))
    return promised


def port_free(number: int) -> bool:
    """Whether no process of this machine uses a port of the loopback interface now.

    QEMU binds a multicast socket to the group's address, not to the interface's.
    """
    import socket
    for kind, address in ((socket.SOCK_STREAM, LOOPBACK), (socket.SOCK_DGRAM, LOOPBACK),
                          (socket.SOCK_DGRAM, attachment.MULTICAST_GROUP)):
        with contextlib.closing(socket.socket(socket.AF_INET, kind)) as probe:
            try:
                probe.bind((address, number))
            except OSError:
                return False
    return True
