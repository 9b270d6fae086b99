"""Shutting the nodes of a cluster down, and destroying those that still run after a time."""
import time

from lxml import etree

from ..document.tree import domain_name
from ..engine.protocol import Unsupported
from ..engine.registry import Engines, engine_uri
from ..system import log, workers
from .ledger import Ledger
from .states import View

POLL_SECONDS = 0.5
DESTROYED_AT_ONCE = 8


def shutdown(chosen: list, engines: Engines, ledger: Ledger, seconds: int) -> None:
    """Shut ``chosen`` nodes down.

    Where a driver cannot show states, each of its nodes is shut down, and none is awaited. Raises
    the Failure of an engine that does not answer, when the nodes of the others are shut down.
    """
    view = View(engines, ledger)
    failures = view.look(chosen)
    unseen = {uri for uri, failure in failures.items() if isinstance(failure, Unsupported)}
    groups: dict[str, list] = {}
    for node in chosen:
        uri = engine_uri(node.get('host'))
        if uri in unseen or view.active(node):
            groups.setdefault(uri, []).append(node)
    for uri, nodes in groups.items():
        engines[uri].shutdown(nodes, seconds)
        if uri in unseen:
            log.warn(f'{failures[uri]}; whether they have shut down is not known')
    seen = [node for node in chosen if engine_uri(node.get('host')) not in unseen]
    left = _await(seen, view, failures, seconds)
    for node in left:
        log.warn(f"domain '{domain_name(node)}' did not shut down in {seconds} s: "
                 'it is destroyed')
    workers.each(lambda node: engines[node.get('host')].destroy(node), left, DESTROYED_AT_ONCE)
    for uri, failure in failures.items():
        if uri not in unseen:
            raise failure


def _await(nodes: list, view: View, failures: dict, seconds: int) -> list[etree._Element]:
    """The nodes that still run after ``seconds``, none if all stop before; adds to ``failures``."""
    deadline = time.monotonic() + seconds
    while True:
        failures.update(view.look(nodes))
        left = [node for node in nodes if view.active(node)]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(POLL_SECONDS)
