"""Starting a cluster's nodes in the order that their <boot_dependency> asks for, and waiting."""
import time

from ..document.tree import SSH, boot_dependency, cluster, domain_name
from ..system import log, terminal, workers
from ..system.failure import Failure
from . import frontend, hostkey
from .states import View

POLL_SECONDS = 0.5
ASK_SECONDS = 5
"""Between two reads of the consoles, and between two questions to the engines, while waiting."""


class Boot:
    """One boot of (some of) a document's nodes, each on its host."""

    def __init__(self, root, engines, ledger, accelerations):
        self._root = root
        self._engines = engines
        self._ledger = ledger
        self._accelerations = accelerations
        self._view = View(engines, ledger)
        self._valid = set()

    def domain(self, node, started=0):
        """The node's libvirt <domain>; raises Failure where it has no disk."""
        if node.find('disk') is None:
            raise Failure(f"node '{node.get('name')}' has no disk: run vc-inject")
        return self._engines[node.get('host')].definition(
            self._root, node, self._accelerations[node.get('host')],
            self._engines.storage(node, self._ledger).console(node), started)

    def start(self, chosen, jobs, paused=False, wait=True):
        """Start the nodes that do not run, ``jobs`` at a time, each after what it depends on.

        What runs is left alone. Without ``wait`` dependencies are passed over. Raises Failure
        for a host that does not answer, before anything is started, and for the first node that
        cannot be started; the others that were begun are brought to their end.
        """
        for failure in self._view.look(chosen).values():
            raise failure
        self._check(chosen)
        missing = [node for node in chosen if self._view.state(node) in (None, 'stopped')]
        first = [node for node in missing if not wait or self._dependency(node) is None]
        for group in (first, [node for node in missing if node not in first]):
            if group and group is not first:
                self._await_parent(group[0])
            workers.each(lambda node: self._start(node, paused), group, jobs)

    def _check(self, chosen):
        """Raise Failure for a node without its disk, or with somebody else's domain in its place."""
        for place, nodes in self._engines.by_storage(chosen, self._ledger):
            for node in place.lacking(nodes):
                raise Failure(f"node '{node.get('name')}' has no disk: run vc-inject")
        for node in chosen:
            engine = self._engines[node.get('host')]
            if (self._view.domain(node) is not None
                    and engine.cluster_of(node) != cluster(self._root).get('name')):
                raise Failure(f"'{engine.uri}' has a domain '{domain_name(node)}' that is not ours")

    def _start(self, node, paused):
        self._engines.storage(node, self._ledger).empty_console(node)
        hostkey.forget(node, self._ledger)
        # By libvirt's schema the first of a kind: what differs in the others is of our own making.
        kind = node.get('role'), node.get('host')
        self._engines[node.get('host')].start(
            node, lambda: self.domain(node, time.time()), paused, kind not in self._valid,
            self._view.domain(node) is not None)
        self._valid.add(kind)
        log.detail(f"node '{node.get('name')}' is started")

    def _dependency(self, node):
        return boot_dependency(self._root, node.get('role'))

    def _await_parent(self, node):
        """Wait for what the nodes of a role depend on; raises Failure when its bound is over."""
        dependency = self._dependency(node)
        parent = next(other for other in cluster(self._root).iterfind('node')
                      if other.get('role') == dependency.parent)
        view = View(self._engines, self._ledger)
        view.look([parent])
        if view.state(parent) in (None, 'stopped', 'unknown'):
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
            self.wait([parent], dependency.seconds)
        else:
            self._await_port(parent, dependency)

    def _await_port(self, parent, dependency):
        """Wait until a port of the parent answers."""
        port = dependency.port
        if not frontend.reachable(parent, self._engines[parent.get('host')], port):
            raise Failure(f"port {port} of '{parent.get('name')}' cannot be reached from here: of a "
                          f'public network in user mode port {SSH} alone can, on its host')
        begin = time.monotonic()
        with terminal.Progress() as progress:
            while not frontend.answers(parent, port):
                waited = time.monotonic() - begin
                if waited > dependency.seconds:
                    raise Failure(f"port {port} of '{parent.get('name')}' does not answer "
                                  f'after {dependency.seconds} s')
                progress.draw(f"waiting for port {port} of {parent.get('name')}", waited / dependency.seconds,
                              f'{waited:.0f} s of {dependency.seconds} s')
                time.sleep(POLL_SECONDS)

    def wait(self, chosen, seconds):
        """Wait until every node is ready, with a line for each on stderr.

        Raises Failure that names those that are not ready after ``seconds``, or that failed;
        nothing is stopped.
        """
        view = View(self._engines, self._ledger)
        begin, asked = time.monotonic(), None
        waiting, failed = list(chosen), []
        with terminal.Progress() as progress:
            while waiting:
                now = time.monotonic()
                ask = asked is None or now - asked > ASK_SECONDS
                view.look(waiting, ask)
                asked = now if ask else asked
                for node in list(waiting):
                    told = view.state(node)
                    if told == 'running':
                        continue
                    waiting.remove(node)
                    if told == 'ready':
                        log.warn(f"{node.get('name')} is ready after {now - begin:.0f} s")
                    else:
                        failed.append(f"'{node.get('name')}' {self._reason(node, told, view)}")
                if now - begin > seconds:
                    break
                if waiting:
                    left = f'{len(waiting)} nodes' if len(waiting) > 1 else waiting[0].get('name')
                    ready = len(chosen) - len(waiting) - len(failed)
                    progress.draw(f'waiting for {left}', ready / len(chosen),
                                  f'{ready} of {len(chosen)} ready, {now - begin:.0f} s of {seconds} s')
                    time.sleep(POLL_SECONDS)
        if waiting:
            failed.append(', '.join(f"'{node.get('name')}'" for node in waiting)
                          + f' not ready after {seconds} s')
        if failed:
            name = cluster(self._root).get('name')
            where = '' if any(node.find('disk').get('pool') for node in chosen) else \
                f' (consoles: {self._ledger.folder(name)}/*.console.log)'
            raise Failure(f"cluster '{name}' is not ready: {'; '.join(failed)}{where}")

    @staticmethod
    def _reason(node, told, view):
        """Why a node will not be ready."""
        if told == 'unknown':
            return f"is on '{node.get('host')}', which does not answer"
        return (view.reports(node).get('failed') or 'failed') if told == 'failed' else 'does not run'
