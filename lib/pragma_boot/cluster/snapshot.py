"""Snapshots of a whole cluster: all of its nodes at one moment.

``snapshots.xml`` in the cluster's folder has them, and which are not complete. A process of its own
lets suspended guests go on if this one is killed.
"""
from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from lxml import etree

from ..document import tree
from ..engine.protocol import ACTIVE
from ..engine.registry import Engines, by_engine, engine_uri
from ..system import files, log, names, workers
from ..system.failure import Failure
from ..system.settings import Settings
from .ledger import Ledger
from .states import View

FILE = 'snapshots.xml'

HEADER = ('SNAPSHOT', 'TAKEN', 'NODES', 'MEMORY')

TRIES = 60
"""Attempts of the guard, one a second: libvirt may still be busy with the snapshot."""


class Snapshots:
    """The snapshots of one cluster."""

    def __init__(self, name: str, settings: Settings) -> None:
        self._name = name
        self._ledger = Ledger(settings.temporary_directory)
        self._engines = Engines(settings)
        self._jobs = settings.number('jobs')
        self._nodes = tree.nodes(self._ledger.known(name))
        self._path = os.path.join(self._ledger.folder(name), FILE)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows of a table with HEADER, one for each snapshot."""
        for one in self._read():
            nodes = one.findall('node')
            memory = [node.get('name') for node in nodes if node.get('memory') == 'yes']
            if one.get('state') == 'complete':
                yield (one.get('name'), one.get('taken'), str(len(nodes)),
                       'all' if len(memory) == len(nodes) else ','.join(memory) or 'none')
            else:
                yield one.get('name'), one.get('taken'), 'incomplete', '-'

    def take(self, label: str) -> None:
        """Take a snapshot of all nodes; raises Failure, and then none is left."""
        names.checked(label, 'snapshot')
        with self._ledger.alone(self._name):
            records = self._read()
            old = self._find(records, label)
            if old is not None and old.get('state') == 'complete':
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
            record = tree.put(records, etree.Element(
                'snapshot', name=label, state='incomplete',
                taken=time.strftime('%Y-%m-%dT%H:%M:%S%z')))
            self._write(records)
            running = [node for node in self._nodes
                       if (domain := view.domain(node)) and domain.state in ACTIVE]
            try:
                with self._suspended(running):
                    memory = workers.each(
                        lambda node: groups[engine_uri(node.get('host'))].take(node, label),
                        self._nodes, self._jobs)
            except BaseException:
                with contextlib.suppress(Failure):
                    self._delete(label)
                    records.remove(record)
                    self._write(records)
                raise
            for node, kept in zip(self._nodes, memory, strict=True):
                tree.put(record, etree.Element(
                    'node', name=node.get('name'), memory='yes' if kept else 'no',
                    state='running' if node in running else 'stopped'))
            record.set('state', 'complete')
            self._write(records)

    def revert(self, label: str) -> list[str]:
        """Bring all nodes back to a snapshot; the names of those that stay stopped.

        Those whose disk alone was kept while they ran are among them. Safe to repeat.
        """
        with self._ledger.alone(self._name):
            record = self._require(label)
            known = {node.get('name') for node in record.iterfind('node')}
            for node in self._nodes:
                if node.get('name') not in known:
                    raise Failure(f"node '{node.get('name')}' is not in snapshot '{label}', which "
                                  'was taken before it was made')
            self._view()
            groups = self._groups(self._nodes)
            # All stop before the first one goes back: no node meets another one's past.
            workers.each(lambda node: self._engines[node.get('host')].destroy(node), self._nodes,
                         self._jobs)
            back = workers.each(
                lambda node: groups[engine_uri(node.get('host'))].revert(node, label),
                self._nodes, self._jobs)
            self._resume([node for node, runs in zip(self._nodes, back, strict=True) if runs])
            return [node.get('name') for node, runs in zip(self._nodes, back, strict=True)
                    if not runs]

    def delete(self, label: str) -> None:
        """Delete a snapshot, complete or not. Safe to repeat after a failure."""
        with self._ledger.alone(self._name):
            records = self._read()
            record = self._find(records, label)
            if record is None:
                raise self._missing(label)
            self._view()
            record.set('state', 'incomplete')
            self._write(records)
            self._delete(label)
            records.remove(record)
            self._write(records)

    def _require(self, label: str) -> etree._Element:
        record = self._find(self._read(), label)
        if record is None:
            raise self._missing(label)
        if record.get('state') != 'complete':
            raise Failure(f"snapshot '{label}' of cluster '{self._name}' is not complete: take it "
                          'again, or delete it')
        return record

    def _missing(self, label: str) -> Failure:
        there = ', '.join(one.get('name') for one in self._read()) or 'none'
        return Failure(f"cluster '{self._name}' has no snapshot '{label}': it has {there}")

    def _read(self) -> etree._Element:
        try:
            with open(self._path, 'rb') as file:
                return tree.parse(file.read(), f"'{self._path}'")
        except FileNotFoundError:
            return etree.Element('snapshots')

    def _write(self, records: etree._Element) -> None:
        files.write(self._path, tree.serialize(records), 0o600)

    @staticmethod
    def _find(records: etree._Element, label: str) -> etree._Element | None:
        return next((one for one in records if one.get('name') == label), None)

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
        with self._guard(nodes):
            try:
                for uri, some in by_engine(nodes).items():
                    self._engines[uri].snapshots().suspend(some)
                yield
            finally:
                self._resume(nodes)

    @contextlib.contextmanager
    def _guard(self, nodes: list[etree._Element]) -> Iterator[None]:
        """A process that resumes nodes if we end within the block."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            self._watch(reader, nodes)
        os.close(reader)
        try:
            yield
        finally:
            os.write(writer, b'.')
            os.close(writer)
            os.waitpid(child, 0)

    def _watch(self, reader: int, nodes: list[etree._Element]) -> None:
        """What the guard does. It does not return."""
        from ..system import interruption
        try:
            interruption.ignore()
            os.setsid()
            if not os.read(reader, 1):
                for _ in range(TRIES):
                    with contextlib.suppress(Failure):
                        self._resume(nodes)
                        log.detail(f"the nodes of '{self._name}' go on")
                        break
                    time.sleep(1)
        finally:
            os._exit(0)
