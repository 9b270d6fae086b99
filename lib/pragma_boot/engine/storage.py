"""Storage of disks and console logs in folders, or by a driver; volume has that in libvirt pools.

Each class is a protocol.Storage; an engine chooses one.
"""
import contextlib
import os
from contextlib import AbstractContextManager
from typing import Any

from lxml import etree

from ..document.tree import domain_name
from ..system.failure import Failure
from . import console
from .protocol import Folders, Tail, Unsupported


class Shared:
    """The cluster's own folder: on this machine, or under the same path on every host."""

    reads_images = True

    def __init__(self, engine: Any, ledger: Folders) -> None:
        self._engine = engine
        self._ledger = ledger
        self.key = engine.uri, None

    def _folder(self, node: etree._Element) -> str:
        return self._ledger.folder(node.getparent().get('name'))

    def prepare(self, folder: str) -> None:
        """Let the user that QEMU runs as into the cluster's folder."""
        self._engine.admit(folder)

    def receive(self, path: str) -> str:
        """The path itself: the image is on this machine or on storage that the host shares."""
        return path

    def keep(self, draft: str, node: etree._Element, backing: str) -> etree._Element:
        """Make the finished overlay ``draft`` the node's disk; its <disk>."""
        path = os.path.join(self._folder(node), f"{node.get('name')}.qcow2")
        self._engine.give(draft)
        os.replace(draft, path)
        return etree.Element('disk', path=path, format='qcow2', backing=backing)

    def keep_seed(self, draft: str, node: etree._Element) -> str:
        """Make the finished seed disk ``draft`` the node's; its path."""
        path = self._seed(node)
        self._engine.give(draft)
        os.replace(draft, path)
        return path

    def reading(self, node: etree._Element,
                folder: str) -> AbstractContextManager[tuple[str, str]]:
        """The node's disk and its backing image, which this machine has or shares."""
        disk = node.find('disk')
        return contextlib.nullcontext((disk.get('path'), disk.get('backing')))

    def _seed(self, node: etree._Element) -> str:
        return os.path.join(self._folder(node), f"{node.get('name')}.seed.img")

    def lacking_seed(self, nodes: list[etree._Element]) -> list[etree._Element]:
        """Those of ``nodes`` whose seed disk does not exist."""
        return [node for node in nodes if not os.path.exists(self._seed(node))]

    def lacking(self, nodes: list[etree._Element]) -> list[etree._Element]:
        """Those of ``nodes`` whose disk does not exist."""
        return [node for node in nodes if node.find('disk') is None
                or not os.path.exists(node.find('disk').get('path'))]

    def console(self, node: etree._Element) -> str:
        """The path of the node's console log on its host."""
        return console.path(self._folder(node), node.get('name'))

    def empty_console(self, node: etree._Element) -> None:
        """Begin the node's console log anew."""
        # libvirt would make it anew in a folder that its user cannot write to.
        with open(self.console(node), 'wb'):
            pass
        self._engine.give(self.console(node))

    def consoles(self, nodes: list[etree._Element]) -> dict[etree._Element, bytes]:
        """The end of each node's console log: bytes by node."""
        return {node: console.read(self.console(node)) for node in nodes}

    def tail(self, node: etree._Element) -> Tail:
        """The node's console log, to be read as it grows."""
        return console.Tail(self.console(node))

    def discard(self, nodes: list) -> None:
        """Nothing: the ledger removes the files of nodes in the cluster's folder."""

    def remove(self, cluster: str) -> None:
        """Nothing: the ledger removes the cluster's folder."""


class WithInstances(Shared):
    """Disks that the engine makes with their instances; console logs in the cluster's folder."""

    def reading(self, node: etree._Element,
                folder: str) -> AbstractContextManager[tuple[str, str]]:
        """Raises Unsupported: the engine keeps the disks of its instances itself."""
        raise Unsupported(f"the disk of node '{node.get('name')}' cannot be read: "
                          f"'{self._engine.uri}' keeps the disks of its instances itself")

    def lacking(self, nodes: list[etree._Element]) -> list[etree._Element]:
        """Those of ``nodes`` that have no instance."""
        instances = self._engine.domains()
        return [node for node in nodes
                if node.find('disk') is None or domain_name(node) not in instances]


class Elsewhere:
    """Disks and consoles that only an external driver knows."""

    reads_images = False

    def __init__(self, engine: Any) -> None:
        self.key = engine.uri, None

    def prepare(self, folder: str) -> None:
        """Nothing."""

    def receive(self, path: str) -> str:
        """The path itself."""
        return path

    def keep(self, draft: str, node: etree._Element, backing: str) -> etree._Element:
        """Raises Failure: only the driver makes disks."""
        raise Failure(f"the driver of node '{node.get('name')}' makes its disk itself")

    def keep_seed(self, draft: str, node: etree._Element) -> str:
        """Raises Failure: only the driver makes disks."""
        raise Failure(f"the driver of node '{node.get('name')}' makes its disks itself")

    def reading(self, node: etree._Element,
                folder: str) -> AbstractContextManager[tuple[str, str]]:
        """Raises Unsupported: only the driver knows where the disk is."""
        raise Unsupported(f"the disk of node '{node.get('name')}' cannot be read: only its driver "
                          'knows where it is')

    def lacking(self, nodes: list[etree._Element]) -> list[etree._Element]:
        """None: the driver made the disks."""
        return []

    def lacking_seed(self, nodes: list[etree._Element]) -> list[etree._Element]:
        """None: the driver made the disks."""
        return []

    def console(self, node: etree._Element) -> str:
        """Empty: there is no console log that anybody here can read."""
        return ''

    def empty_console(self, node: etree._Element) -> None:
        """Nothing."""

    def consoles(self, nodes: list[etree._Element]) -> dict[etree._Element, bytes]:
        """Nothing of each node."""
        return dict.fromkeys(nodes, b'')

    def tail(self, node: etree._Element) -> Tail:
        """Raises Failure: there is no console log."""
        raise Failure(f"node '{node.get('name')}' has no console log: an external driver booted it")

    def discard(self, nodes: list) -> None:
        """Nothing: there are none here."""

    def remove(self, cluster: str) -> None:
        """Nothing: the driver's ``clean`` did."""
