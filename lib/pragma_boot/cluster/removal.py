"""Removing a cluster: its domains and disks, and then its entry in the ledger."""
import contextlib
import os

from lxml import etree

from ..document import tree
from ..engine.registry import Engines, driver_uri, engine_uri, site_uris, to_clear
from ..system import log
from ..system.failure import Failure
from ..system.settings import Settings
from . import mark
from .hooks import CLEANED, Hooks
from .ledger import Ledger


def remove(name: str, settings: Settings, forget: bool = False) -> None:
    """Remove all that there is of a cluster, complete or not; safe to repeat.

    Raises the Failure of an engine that cannot remove its part: the cluster then stays in the
    ledger, unless ``forget`` is true.
    """
    ledger, engines = Ledger(settings.temporary_directory), Engines(settings)
    hooks = _hooks(settings)
    nodes, document = _nodes(ledger, name), None
    with contextlib.suppress(Failure):
        document = ledger.stored(name)
    if nodes is None:
        needed = uris = _unseen(ledger, name, settings)
    else:
        needed = {engine_uri(node.get('host')) for node in nodes}
        uris = to_clear(needed, settings)
        for uri in sorted(needed - uris):
            log.warn(f"'{uri}' is not one of the site's hosts any more: what is on it stays there")
    identity = ledger.identity
    if nodes and nodes[0].getparent().get('ledger') is None:
        # A cluster of an older version has no mark of its ledger, and neither have its domains.
        identity = ''
    answers = engines.ask(uris, lambda engine: engine.clear(name, identity))
    for uri, answer in answers.items():
        if not isinstance(answer, Failure):
            if answer:
                log.detail(f"removed: {', '.join(answer)}")
        elif uri not in needed:
            log.warn(answer)
        elif forget:
            log.warn(f"{answer}; cluster '{name}' is dropped from the ledger, and its machines "
                     'may still run')
        else:
            # A host that does not answer may run guests with the cluster's addresses: those stay
            # reserved.
            raise Failure(f"{answer}; cluster '{name}' stays in the ledger, as its machines may "
                          f"still run ('vc-clean --forget {name}' removes it from the ledger "
                          'anyway)', answer.status)
    cleared = {uri for uri, answer in answers.items() if not isinstance(answer, Failure)}
    if nodes is None:
        storages = [engines[uri].storage(ledger) for uri in sorted(cleared)]
    else:
        storages = [storage for storage, _ in engines.by_storage(
            [node for node in nodes if engine_uri(node.get('host')) in cleared], ledger)]
    for storage in storages:
        storage.remove(name)
    with ledger.changing():
        if ledger.has(name):
            ledger.remove(name)
        else:
            log.detail(f"no cluster '{name}' in the ledger")
    if hooks and document:
        hooks.run(CLEANED, name, document)


def _hooks(settings: Settings) -> Hooks | None:
    """The site's hooks; None for a wrong hooks_path, a warning: the cluster is removed anyway."""
    try:
        return Hooks(settings)
    except Failure as failure:
        log.warn(f'{failure}; no hook is run')
        return None


def _nodes(ledger: Ledger, name: str) -> list[etree._Element] | None:
    """The cluster's nodes; None where its document is broken or missing."""
    if not ledger.has(name):
        return []
    try:
        root = ledger.document(name)
    except Failure as error:
        asked = 'its driver' if mark.driver(ledger.folder(name)) else 'every host'
        log.warn(f'{error}: {asked} is asked for what is there')
        return None
    return tree.nodes(root) if root is not None else None


def _unseen(ledger: Ledger, name: str, settings: Settings) -> set[str]:
    """The engines that may have domains of a cluster whose document does not tell.

    Its driver knows them. A driver that calls vc-clean itself means the site's engines.
    """
    driver = mark.driver(ledger.folder(name))
    if driver is None or 'PRAGMA_DRIVER' in os.environ:
        return set(site_uris(settings))
    return {driver_uri(driver)}
