"""The records of a cluster's snapshots: ``snapshots.xml`` in its folder.

A <snapshot> has a <node> for each node of the cluster at that time, unless it is incomplete.
"""
import os
from collections.abc import Iterator

from lxml import etree

from ..document import tree
from ..system import files
from ..system.failure import Failure
from .ledger import Ledger

FILE = 'snapshots.xml'

HEADER = ('SNAPSHOT', 'TAKEN', 'NODES', 'MEMORY')

COMPLETE, INCOMPLETE = 'complete', 'incomplete'
"""The states of a snapshot: all nodes have it, or perhaps not all."""


class Records:
    """The records of one cluster's snapshots. Raises Failure for a file that is not ours."""

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._cluster = name
        self._path = os.path.join(ledger.folder(name), FILE)
        try:
            with open(self._path, 'rb') as file:
                self._root = tree.parse(file.read(), f"'{self._path}'")
        except FileNotFoundError:
            self._root = etree.Element('snapshots')
        self._check()

    def _check(self) -> None:
        for test, fault in (('self::snapshots', 'its root is not <snapshots>'),
                            ('not(snapshot[not(@name) or not(@taken) or not(@state)])',
                             'a <snapshot> has no name, taken or state'),
                            ("not(snapshot[@state='complete'][not(node)])",
                             'a complete <snapshot> has no <node>'),
                            ('not(snapshot/node[not(@name)])', 'a <node> has no name')):
            if not self._root.xpath(f'boolean({test})'):
                raise Failure(f"'{self._path}' is not as vc-snapshot writes it: {fault}")

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The rows of a table with HEADER, one for each snapshot."""
        for one in self._root.iterfind('snapshot'):
            nodes = one.findall('node')
            memory = [node.get('name') for node in nodes if node.get('memory') == 'yes']
            if one.get('state') == COMPLETE:
                yield (one.get('name'), one.get('taken'), str(len(nodes)),
                       'all' if len(memory) == len(nodes) else ','.join(memory) or 'none')
            else:
                yield one.get('name'), one.get('taken'), INCOMPLETE, '-'

    def find(self, label: str) -> etree._Element | None:
        """The <snapshot> of a label, None for none."""
        return next((one for one in self._root.iterfind('snapshot') if one.get('name') == label),
                    None)

    def require(self, label: str) -> etree._Element:
        """The <snapshot> of a label; raises Failure."""
        record = self.find(label)
        if record is None:
            there = ', '.join(one.get('name') for one in self._root.iterfind('snapshot')) or 'none'
            raise Failure(f"cluster '{self._cluster}' has no snapshot '{label}': it has {there}")
        return record

    def add(self, label: str, taken: str) -> etree._Element:
        """Add an incomplete <snapshot>, and write the file."""
        record = tree.put(self._root, etree.Element('snapshot', name=label, state=INCOMPLETE,
                                                    taken=taken))
        self.write()
        return record

    def remove(self, record: etree._Element) -> None:
        """Remove a <snapshot>, and write the file."""
        self._root.remove(record)
        self.write()

    def write(self) -> None:
        """Write the file."""
        files.write(self._path, tree.serialize(self._root), 0o600)
