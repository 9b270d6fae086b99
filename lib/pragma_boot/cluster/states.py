"""The states of clusters' nodes, as their engines and consoles report them now."""
from typing import Any, BinaryIO

from lxml import etree

from ..document import tree
from ..document.tree import domain_name, nodes, put
from ..engine import console
from ..engine.protocol import ACTIVE, PAUSED, READY, RUNNING, UNKNOWN, Domain
from ..engine.registry import Engines, by_engine, engine_uri
from ..system import log
from ..system.failure import Failure
from .ledger import Ledger

TOGETHER = 64
"""Nodes whose console logs are in memory at a time; each may have several MiB."""

END_BYTES = 4096
"""Bytes at the end of a console log that are kept of a node that is not ready."""


class View:
    """What the engines of some nodes report. Each engine is asked once for all of its nodes."""

    def __init__(self, engines: Engines, ledger: Ledger):
        self._engines = engines
        self._ledger = ledger
        self._domains: dict[str, Any] = {}
        self._own: dict[etree._Element, Domain] = {}
        self._foreign: set[etree._Element] = set()
        self._reports: dict[etree._Element, dict[str, str]] = {}
        self._ends: dict[etree._Element, bytes] = {}
        self.moved: list[etree._Element] = []

    def look(self, some: list, ask: bool = True) -> dict[str, Failure]:
        """Look at ``some`` nodes now; without ``ask`` at their consoles only.

        Returns the Failure of each engine that does not answer, by its URI. The state of its nodes
        is 'unknown'.
        """
        if ask:
            groups = by_engine(some)
            self._domains = self._engines.ask(
                groups, lambda engine: engine.domains(groups[engine.uri]))
            self._sort(some)
        self._reports, self._ends = {}, {}
        running = [node for node in some if self._runs(node)]
        for place, group in self._engines.by_storage(running, self._ledger):
            for start in range(0, len(group), TOGETHER):
                for node, data in place.consoles(group[start:start + TOGETHER]).items():
                    self._reports[node] = console.reports(data)
                    if READY not in self._reports[node]:
                        self._ends[node] = data[-END_BYTES:]
        return {uri: answer for uri, answer in self._domains.items() if isinstance(answer, Failure)}

    def require(self, some: list) -> None:
        """Look at ``some`` nodes now; raises the Failure of an engine that does not answer."""
        for failure in self.look(some).values():
            raise failure

    def domain(self, node: etree._Element) -> Domain | None:
        """The node's Domain; None where its engine knows of none, or does not answer."""
        return self._own.get(node)

    def foreign(self, node: etree._Element) -> bool:
        """Whether a domain that is not ours has the name of the node's."""
        return node in self._foreign

    def _sort(self, some: list) -> None:
        """Tell the domains of ``some`` nodes from those of others that have the same name."""
        self._own, self._foreign = {}, set()
        for node in some:
            domains = self._domains[engine_uri(node.get('host'))]
            domain = None if isinstance(domains, Failure) else domains.get(domain_name(node))
            if domain is None:
                continue
            if self._engines[node.get('host')].marked(node, domain):
                self._own[node] = domain
            else:
                self._foreign.add(node)

    def active(self, node: etree._Element) -> bool:
        """Whether the node's domain has a process."""
        domain = self.domain(node)
        return domain is not None and domain.state in ACTIVE

    def _runs(self, node: etree._Element) -> bool:
        domain = self.domain(node)
        return domain is not None and domain.state in (RUNNING, READY)

    def reports(self, node: etree._Element) -> dict[str, str]:
        """What a running node's guest reported since it was started: {'ready': '', …}."""
        return self._reports.get(node, {})

    def last_line(self, node: etree._Element) -> str:
        """The last line on the console of a node that is not ready, '' for none."""
        return console.last_line(self._ends.get(node, b''))

    def stage(self, node: etree._Element) -> tuple[int, str]:
        """How far a running node's guest has come: a rank, and words for it."""
        return console.stage(self._ends.get(node, b''))

    def state(self, node: etree._Element) -> str | None:
        """A node's state; None for a node that its engine does not know.

        A guest itself reports 'ready' and 'failed' on its console.
        """
        if isinstance(self._domains[engine_uri(node.get('host'))], Failure):
            return UNKNOWN
        domain = self.domain(node)
        if domain is None or domain.state not in (RUNNING, PAUSED):
            return domain and domain.state
        reports = self.reports(node)
        return next((state for state in (READY, 'failed') if state in reports), RUNNING)

    def set_states(self, some: list) -> None:
        """Put a <state> into each node that its engine knows, and take it from the others.

        A node that its engine moved gets the ``host`` where it is now, and is added to ``moved``.
        """
        for node in some:
            domain = self.domain(node)
            if domain is not None and domain.host != node.get('host'):
                node.set('host', domain.host)
                self.moved.append(node)
            state, old = self.state(node), node.find('state')
            if state is None:
                if old is not None:
                    node.remove(old)
            elif old is not None:
                old.text = state
            else:
                element = etree.Element('state')
                element.text = state
                put(node, element)


def documents(chosen: list[str], ledger: Ledger, stdin: BinaryIO | None) -> list[etree._Element]:
    """The documents of the ``chosen`` clusters, or of all if there are none; '-' is that on stdin.

    Raises Failure for a chosen cluster that is missing or broken; of all, one that is broken is
    named and left out.
    """
    found = []
    for name in chosen or ledger.names():
        try:
            found.append(tree.read(stdin) if name == '-' else ledger.known(name))
        except Failure as error:
            if chosen:
                raise
            log.warn(error)
    return found


def view_of(roots: list, engines: Engines, ledger: Ledger) -> tuple[View, dict[str, Failure]]:
    """The View of all nodes of ``roots``, and the Failures of engines by URI. Sets the states."""
    view = View(engines, ledger)
    every = [node for root in roots for node in nodes(root)]
    failures = view.look(every)
    view.set_states(every)
    return view, failures
