"""The engines of a site, each by its URI. The one table of engines."""
import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from lxml import etree

from ..system import log, workers
from ..system.failure import Failure
from ..system.settings import Settings
from .protocol import Engine, Folders, Storage


class Kind(NamedTuple):
    """A module of this package, its class, and whether the engine places nodes on hosts of its own.

    Such an engine adds the host to its URI in a node's ``host``: ganeti://MASTER/HOST.
    """

    module: str
    name: str
    places: bool = False


LIBVIRT = Kind('libvirt', 'Libvirt')
GANETI = 'ganeti'
DRIVER = 'driver'
EXTERNAL = Kind('external', 'External')
KINDS = {GANETI: Kind('ganeti', 'Ganeti', places=True), DRIVER: EXTERNAL}
"""Engines by the scheme of their URIs. Other URIs are libvirt's; other text is a driver's own."""


def _kind(host: str) -> Kind:
    return KINDS.get(host.partition(':')[0]) or (LIBVIRT if '://' in host else EXTERNAL)


def engine_uri(host: str) -> str:
    """The URI of the engine that a node's ``host`` belongs to."""
    kind = _kind(host)
    if kind is EXTERNAL and not host.startswith(f'{DRIVER}:'):
        # A driver's own text: the cluster's folder has the driver's name.
        return driver_uri('')
    return '/'.join(host.split('/')[:3]) if kind.places else host


def by_engine(nodes: Iterable[etree._Element]) -> dict[str, list[etree._Element]]:
    """The nodes of each engine, by its URI."""
    groups: dict[str, list[etree._Element]] = {}
    for node in nodes:
        groups.setdefault(engine_uri(node.get('host')), []).append(node)
    return groups


def same_kind(one: str, other: str) -> bool:
    """Whether two hosts are of the same kind of engine."""
    return _kind(one) is _kind(other)


def driver_uri(name: str) -> str:
    """The URI of an external driver as an engine."""
    return f'{DRIVER}:{name}'


def to_clear(uris: set[str], settings: Settings) -> set[str]:
    """The engines to ask for the domains of a cluster whose nodes are on the engines ``uris``.

    These are the site's, and those of external drivers, which the settings need not name. A
    cluster that only drivers know has no domain elsewhere.
    """
    drivers = {uri for uri in uris if _kind(uri) is EXTERNAL}
    return drivers if uris and drivers == uris else {*drivers, *site_uris(settings)}


def site_uris(settings: Settings) -> list[str]:
    """The URIs of the site's engines, by the settings ve_driver and hosts; raises Failure."""
    if settings['ve_driver'] == GANETI:
        if not re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?', settings['ganeti_master']):
            settings.refuse('ganeti_master', "the name of a Ganeti cluster's master, MASTER[:PORT]")
        return [f"{GANETI}://{settings['ganeti_master']}"]
    uris = settings['hosts'].split()
    if (not uris or len(set(uris)) < len(uris)
            or not all(re.fullmatch(r'[a-z0-9+]+://\S+', uri) for uri in uris)):
        settings.refuse('hosts', 'one or more libvirt URIs, each once')
    return uris


ASKED_AT_ONCE = 32
"""Engines asked at a time: each may be asked by a process of its own, of several MiB."""


class Engines:
    """The engines of a site, made when they are first asked for."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._engines: dict[str, Engine] = {}

    def __getitem__(self, host: str) -> Engine:
        uri = engine_uri(host)
        if uri not in self._engines:
            kind = _kind(uri)
            module = importlib.import_module(f'.{kind.module}', __package__)
            self._engines[uri] = getattr(module, kind.name)(uri, self._settings)
        return self._engines[uri]

    def storage(self, node: etree._Element, ledger: Folders) -> Storage:
        """The Storage that a node's disk is in."""
        return self[node.get('host')].storage(ledger, node)

    def by_storage(self, nodes: Iterable[etree._Element],
                   ledger: Folders) -> list[tuple[Storage, list[etree._Element]]]:
        """Pairs of a Storage and those of ``nodes`` that are in it."""
        groups: dict[tuple, tuple[Storage, list]] = {}
        for node in nodes:
            storage = self.storage(node, ledger)
            groups.setdefault(storage.key, (storage, []))[1].append(node)
        return list(groups.values())

    def ask(self, hosts: Iterable[str], question: Callable[[Engine], Any]) -> dict[str, Any]:
        """Put ``question`` to the engine of each host, several at a time.

        The answers by host; that of an engine that failed is its Failure.
        """
        def answer(engine: Engine) -> Any:
            try:
                return question(engine)
            except Failure as failure:
                return failure
        hosts = sorted(set(hosts))
        engines = {engine_uri(host): self[host] for host in hosts}
        answers = dict(zip(engines, workers.each(answer, engines.values(), ASKED_AT_ONCE),
                           strict=True))
        return {host: answers[engine_uri(host)] for host in hosts}

    def answers(self, hosts: Iterable[str], question: Callable[[Engine], Any]) -> dict[str, Any]:
        """As ``ask``, without the engines that failed, which are named on stderr.

        Raises the Failure of one where all failed.
        """
        answers = self.ask(hosts, question)
        failed = {host: answer for host, answer in answers.items() if isinstance(answer, Failure)}
        if failed and len(failed) == len(answers):
            raise next(iter(failed.values()))
        for failure in failed.values():
            log.warn(f'{failure}: this host is left out')
        return {host: answer for host, answer in answers.items() if host not in failed}
