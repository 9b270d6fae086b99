"""Snapshots of a whole cluster: all of its nodes at one moment.

``snapshots.xml`` in the cluster's folder has them, and which are not complete. A process of its own
lets suspended guests go on if this one is killed.
"""
from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from lxml import etree

from ..document import tree
from ..engine.protocol import PAUSED, READY, RUNNING
from ..engine.registry import Engines, by_engine, engine_uri
from ..system import guard, log, names, workers
from ..system.failure import Failure
from ..system.settings import Settings
from .ledger import Ledger
from .snapshot_records import COMPLETE, INCOMPLETE, Records
from .states import View


class Snapshots:
    """The snapshots of one cluster."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._settings = settings
        self._ledger = Ledger(settings.temporary_directory)
        self._engines = Engines(settings)
        self._jobs = settings.number('jobs')
        self._read()

    def _read(self) -> None:
        self._root = self._ledger.known(self._name)
        self._nodes = tree.nodes(self._root)

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """For the block no node joins the cluster or leaves it, and no disk is made."""
        with self._ledger.resizing(self._name), self._ledger.alone(self._name):
            self._read()
            yield

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows of a table with snapshot_records.HEADER, one for each snapshot."""
        return self._records().rows()

    def take(self, label: str) -> None:
        """Take a snapshot of all nodes; raises Failure, and then none is left."""
        names.checked(label, 'snapshot')
        with self._unchanged():
            records = self._records()
            old = records.find(label)
            if old is not None and old.get('state') == COMPLETE:
                raise Failure(f"cluster '{self._name}' has a snapshot '{label}' already: choose "
                              f"another label, or 'vc-snapshot {self._name} --delete {label}'")
            view = self._view()
            for node in self._nodes:
                if view.domain(node) is None:
                    raise Failure(f"node '{node.get('name')}' was never started: run 'vc-start "
                                  f"{self._name}' first")
            groups = self._groups(self._nodes)
            if old is not None:
                self._delete(label)
                records.remove(old)
            for node in self._nodes:
                if label in groups[engine_uri(node.get('host'))].labels(node):
                    raise Failure(f"node '{node.get('name')}' has a snapshot '{label}' that "
                                  'vc-snapshot did not take: choose another label')
            record = records.add(label, time.strftime('%Y-%m-%dT%H:%M:%S%z'))
            running = self._in(view, RUNNING, READY)
            try:
                with self._suspended(running):
                    memory = workers.each(
                        lambda node: groups[engine_uri(node.get('host'))].take(node, label),
                        self._nodes, self._jobs)
            except BaseException:
                with contextlib.suppress(Failure):
                    self._delete(label)
                    records.remove(record)
                raise
            paused = self._in(view, PAUSED)
            for node, kept in zip(self._nodes, memory, strict=True):
                tree.put(record, etree.Element(
                    'node', name=node.get('name'), memory='yes' if kept else 'no',
                    state='running' if node in running else PAUSED if node in paused
                    else 'stopped'))
            record.set('state', COMPLETE)
            records.write()

    def revert(self, label: str) -> list[str]:
        """Bring all nodes back to a snapshot; the names of those that stay stopped.

        Those whose disk alone was kept while they ran are among them. Safe to repeat. The frontend
        is told its document if nodes of the snapshot have left the cluster.
        """
        with self._unchanged():
            record = self._records().require(label)
            if record.get('state') != COMPLETE:
                raise Failure(f"snapshot '{label}' of cluster '{self._name}' is not complete: "
                              'take it again, or delete it')
            states = {node.get('name'): node.get('state') for node in record.iterfind('node')}
            self._view()
            groups = self._groups(self._nodes)
            self._refuse_newer(label, set(states), groups)
            # All stop before the first one goes back: no node meets another one's past.
            workers.each(lambda node: self._engines[node.get('host')].destroy(node), self._nodes,
                         self._jobs)
            try:
                back = workers.each(
                    lambda node: groups[engine_uri(node.get('host'))].revert(node, label),
                    self._nodes, self._jobs)
            except Failure as failure:
                raise Failure(f'{failure}; nodes that are back go on, and the others are stopped: '
                              f"repeat the command, or 'vc-start {self._name}'") from None
            finally:
                # Where one fails, too: the others would stay suspended.
                self._resume([node for node in self._in(self._view(), PAUSED)
                              if states[node.get('name')] != PAUSED])
            stopped = [node.get('name') for node, runs in zip(self._nodes, back, strict=True)
                       if not runs]
            gone = set(states) - {node.get('name') for node in self._nodes}
            if gone:
                self._tell(sorted(gone), stopped)
        return stopped

    def delete(self, label: str) -> None:
        """Delete a snapshot, complete or not. Safe to repeat after a failure."""
        with self._unchanged():
            records = self._records()
            record = records.require(label)
            self._view()
            record.set('state', INCOMPLETE)
            records.write()
            self._delete(label)
            records.remove(record)

    def _records(self) -> Records:
        return Records(self._name, self._ledger)

    def _refuse_newer(self, label: str, known: set[str], groups: dict[str, Any]) -> None:
        """Raise Failure if a node was made after a snapshot that has the nodes ``known``.

        A name alone does not tell: a cluster that shrank and grew has other nodes of old names.
        """
        from . import growth

        def lacks(node: etree._Element) -> bool:
            return (node.get('name') not in known or node.find('disk') is None
                    or label not in groups[engine_uri(node.get('host'))].labels(node))

        lacking = workers.each(lacks, self._nodes, self._jobs)
        newer = [node for node, is_newer in zip(self._nodes, lacking, strict=True) if is_newer]
        if tree.frontend(self._root) in newer:
            raise Failure(f"the disk of the frontend has no snapshot '{label}': cluster "
                          f"'{self._name}' cannot go back to it")
        staying = 0
        for node in growth.compute_nodes(self._root):
            if node in newer:
                raise Failure(f"snapshot '{label}' is older than node '{node.get('name')}': shrink "
                              f"the cluster first ('vc-resize --num-cpus {staying} {self._name}')")
            staying += int(node.get('cpus'))

    def _tell(self, gone: list[str], stopped: list[str]) -> None:
        """Tell the frontend its document again: it is back in a time before ``gone`` had left."""
        from . import update
        log.warn(f"not in the cluster any more: {', '.join(gone)}")
        update.begin(self._name, self._ledger, update.begun(self._name, self._ledger) or [])
        if tree.frontend(self._root).get('name') in stopped:
            log.warn(f'the frontend does not run; {update.remedy(self._root)}')
        else:
            update.settle(self._root, self._settings)

    def _in(self, view: View, *states: str) -> list[etree._Element]:
        """The nodes whose domains are in one of ``states``."""
        return [node for node in self._nodes
                if (domain := view.domain(node)) and domain.state in states]

    def _view(self) -> View:
        """What the engines report of the nodes; raises Failure where one does not answer."""
        view = View(self._engines, self._ledger)
        view.require(self._nodes)
        return view

    def _groups(self, nodes: list[etree._Element]) -> dict[str, Any]:
        """The snapshots of each engine that the nodes are on, by its URI; raises Unsupported."""
        return {uri: self._engines[uri].snapshots()
                for uri in sorted(by_engine(nodes))}

    def _delete(self, label: str) -> None:
        groups = self._groups(self._nodes)
        workers.each(lambda node: groups[engine_uri(node.get('host'))].delete(node, label),
                     self._nodes, self._jobs)

    def _resume(self, nodes: list[etree._Element]) -> None:
        for uri, some in by_engine(nodes).items():
            self._engines[uri].snapshots().resume(some)

    @contextlib.contextmanager
    def _suspended(self, nodes: list[etree._Element]) -> Iterator[None]:
        """Suspend nodes for the block. If we are killed in it, another process resumes them."""
        if not nodes:
            yield
            return
        with guard.on_death(lambda: self._resume(nodes), f"the nodes of '{self._name}' go on"):
            try:
                for uri, some in by_engine(nodes).items():
                    self._engines[uri].snapshots().suspend(some)
                yield
            finally:
                self._resume(nodes)
