"""Starting a cluster's nodes in the order that their <boot_dependency> asks for."""
from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from lxml import etree

from ..document import tree
from ..document.tree import ROLES, SSH, Dependency, cluster, domain_name
from ..engine.protocol import PAUSED, STOPPED, Unsupported
from ..engine.registry import Engines, by_engine, engine_uri
from ..image import staged
from ..system import log, terminal, workers
from ..system.failure import Failure
from ..system.settings import Settings
from . import acceleration, frontend, hostkey, readiness
from .hooks import Hooks
from .ledger import Ledger
from .states import View

if TYPE_CHECKING:
    from .saved import Saved

POLL_SECONDS = 0.5


class Boot:
    """One boot of ``chosen`` nodes of a document, each on its host."""

    def __init__(self, root: etree._Element, chosen: list,
                 settings: Settings) -> None:
        self._root = root
        self._chosen = chosen
        self._jobs = settings.number('jobs')
        self._from_saved = settings.yes('from_saved')
        self._engines = Engines(settings)
        self._ledger = Ledger(settings.temporary_directory)
        self._hooks = Hooks(settings)
        self._accelerations = acceleration.find(
            self._engines, {node.get('host') for node in chosen}, settings)
        self._view = View(self._engines, self._ledger)
        self._failures: dict[str, Failure] = {}
        self._valid: set[tuple] = set()

    def domain(self, node: etree._Element, started: float = 0) -> etree._Element:
        """The node's libvirt <domain>; raises Failure where it has no disk."""
        storage = self._engines.storage(node, self._ledger)
        if node.find('disk') is None and storage.lacking([node]):
            raise Failure(f"node '{node.get('name')}' has no disk: run vc-inject")
        return self._engines[node.get('host')].definition(
            self._root, node, self._accelerations[node.get('host')], storage.console(node), started)

    def start(self, paused: bool = False, ignore_dependencies: bool = False,
              resume: bool = False, from_saved: bool = False) -> None:
        """Start the nodes that do not run, several at a time, each after its dependency.

        A node that runs is left alone; with ``resume``, a paused one goes on; with ``from_saved``,
        or the setting, a new one starts from a saved state where it can. Raises Failure for a
        host that does not answer, before anything is started, and for the first node that cannot
        be started; those that were begun are brought to their end.
        """
        self._look()
        self._check()
        if resume:
            self._resume()
        missing = [node for node in self._chosen if self._stopped(node)]
        roles = {role for role in ROLES if tree.boot_dependency(self._root, role) is None}
        saved = self._saved() if from_saved or self._from_saved else None
        first = [node for node in missing if ignore_dependencies or node.get('role') in roles]
        later = [] if ignore_dependencies else [node for node in missing
                                                if node.get('role') not in roles]
        with self._hooks.failing(self._root):
            for group in (first, later):
                dependency = self._dependency(group[0]) if group and group is not first else None
                if saved:
                    # While the node runs that they depend on.
                    saved.prepare([node for node in group if self._is_new(node)])
                if dependency:
                    self._await_parent(group[0], dependency)
                self._start_all(group, paused, saved)

    def wait(self, seconds: int) -> None:
        """Wait until every node is ready; raises Failure that names the nodes that are not."""
        self._hooks.wait(self._root, self._chosen, self._engines, self._ledger, seconds)

    def set_states(self) -> None:
        """Put the nodes' states of this moment into the document."""
        # Only of the chosen: a driver's many calls for one node each do not look at every node.
        self._view.look(self._chosen)
        self._view.set_states(self._chosen)

    def _look(self) -> None:
        """Look at the nodes; raises the Failure of an engine that does not answer."""
        self._failures = self._view.look(self._chosen)
        for failure in self._failures.values():
            if not isinstance(failure, Unsupported):
                raise failure

    def _resume(self) -> None:
        """Let paused nodes go on."""
        paused = [node for node in self._chosen if (domain := self._view.domain(node))
                  and domain.state == PAUSED]
        for uri, some in by_engine(paused).items():
            self._engines[uri].snapshots().resume(some)

    def _stopped(self, node: etree._Element) -> bool:
        """Whether the node is to be started. A driver without states leaves one that runs alone."""
        unseen = engine_uri(node.get('host')) in self._failures
        return unseen or self._view.state(node) in (None, STOPPED)

    def _check(self) -> None:
        """Raise Failure for a node without its disk, or whose domain is somebody else's."""
        for place, nodes in self._engines.by_storage(self._chosen, self._ledger):
            if place.reads_images:
                for role in {node.get('role') for node in nodes}:
                    staged.require(self._root, role)
            for node in place.lacking(nodes):
                raise Failure(f"node '{node.get('name')}' has no disk: run vc-inject")
            for node in place.lacking_seed([node for node in nodes
                                            if node.find('seed') is not None]):
                raise Failure(f"node '{node.get('name')}' has no seed disk: run vc-inject")
        for node in self._chosen:
            if self._view.foreign(node):
                raise Failure(f"'{node.get('host')}' has a domain '{domain_name(node)}' "
                              'that is not ours')

    def _saved(self) -> Saved:
        """The saved states that the nodes can start from."""
        from .saved import Saved
        return Saved(self._root, self._engines, self._ledger, self._accelerations)

    def _is_new(self, node: etree._Element) -> bool:
        """Whether a node has no domain yet."""
        return self._view.domain(node) is None

    def _start_all(self, group: list, paused: bool, saved: Saved | None) -> None:
        """Start the nodes of a group, several at a time."""
        with contextlib.ExitStack() as stack:
            if saved:
                # Another vc-boot may have started nodes while guests booted: their disks must stay.
                stack.enter_context(self._ledger.alone(cluster(self._root).get('name')))
                self._look()
                group = [node for node in group if self._stopped(node)]
            workers.each(lambda node: self._start(node, paused, saved), group, self._jobs)

    def _start(self, node: etree._Element, paused: bool, saved: Saved | None) -> None:
        self._engines.storage(node, self._ledger).empty_console(node)
        hostkey.forget(node, self._ledger)

        def define() -> etree._Element:
            return self.domain(node, time.time())
        if saved and self._is_new(node) and saved.start(node, define, paused):
            log.detail(f"node '{node.get('name')}' is started from a saved state")
            return
        # By libvirt's schema the first of a kind: the others differ in values that we made.
        kind = node.get('role'), node.get('host')
        self._engines[node.get('host')].start(
            node, define, paused, kind not in self._valid,
            self._view.domain(node) is not None)
        self._valid.add(kind)
        log.detail(f"node '{node.get('name')}' is started")

    def _dependency(self, node: etree._Element) -> Dependency | None:
        return tree.boot_dependency(self._root, node.get('role'))

    def _await_parent(self, node: etree._Element, dependency: Dependency) -> None:
        """Wait for the node that the nodes of a role depend on; raises Failure after its bound."""
        parent = next(other for other in cluster(self._root).iterfind('node')
                      if other.get('role') == dependency.parent)
        view = View(self._engines, self._ledger)
        failures = view.look([parent]).values()
        unseen = any(isinstance(failure, Unsupported) for failure in failures)
        if not unseen and view.state(parent) in (None, 'stopped', 'unknown'):
            raise Failure(f"node '{node.get('name')}' depends on '{parent.get('name')}', "
                          'which does not run: boot it first')
        if dependency.type == 'clock':
            end = self._engines[parent.get('host')].started(parent) + dependency.seconds
            if end > time.time():
                log.detail(f"waiting {end - time.time():.0f} s for '{parent.get('name')}'")
            with terminal.Progress() as progress:
                while (left := end - time.time()) > 0:
                    progress.draw(f"waiting for {parent.get('name')}'s clock",
                                  1 - left / dependency.seconds, f'{left:.0f} s left')
                    time.sleep(min(left, POLL_SECONDS))
        elif dependency.type == 'ready':
            readiness.wait([parent], self._engines, self._ledger, dependency.seconds)
        else:
            self._await_port(parent, dependency)

    def _await_port(self, parent: etree._Element, dependency: Dependency) -> None:
        """Wait until a port of the parent answers."""
        port = dependency.port
        if not frontend.reachable(parent, self._engines[parent.get('host')], port):
            raise Failure(f"port {port} of '{parent.get('name')}' cannot be reached from here: in "
                          f'a public network in user mode only port {SSH} can, from its own host')
        begin = time.monotonic()
        with terminal.Progress() as progress:
            while not frontend.answers(parent, port):
                waited = time.monotonic() - begin
                if waited > dependency.seconds:
                    raise Failure(f"port {port} of '{parent.get('name')}' does not answer "
                                  f'after {dependency.seconds} s')
                progress.draw(f"waiting for port {port} of {parent.get('name')}",
                              waited / dependency.seconds,
                              f'{waited:.0f} s of {dependency.seconds} s')
                time.sleep(POLL_SECONDS)
