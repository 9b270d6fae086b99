"""Make the disks of nodes: an overlay each, with the node's own files in its /root.

Nothing of a guest is mounted on the host. debugfs writes into ext2, ext3 and ext4, through a
partition that is exported by FUSE. guestfish writes into other file systems, and where FUSE is
unavailable: one appliance, which takes seconds to boot, serves all nodes that need it. The disks of
compute nodes with the same image differ in the content of one file: debugfs makes the first one,
and the others are copies of it. Nothing is written into the disk of a node that has a seed disk
(image.seed).
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from lxml import etree

from ..document.tree import image
from ..document.vcout import Projection
from ..system import files, guestfish, log, rootfiles, workers
from ..system.scratch import Secret
from . import overlay, partition

Kind = tuple[str, str, str]
"""What decides the content of a node's disk, except its vc-out.xml: image, role, size."""


class Store(Protocol):
    """Where disks are stored; engine.protocol.Storage says more of it."""

    def prepare(self, folder: str) -> None:
        """Make the cluster's folder fit for use by the engine."""

    def receive(self, path: str) -> str:
        """Have the staged image ``path`` where domains can read it; its path there."""

    def keep(self, draft: str, node: etree._Element, backing: str) -> etree._Element:
        """Make the finished overlay ``draft`` the node's disk; its <disk>."""


def secrets(node: etree._Element, vc_out: bytes, folder: str) -> list[Secret]:
    """The files for one node: its vc-out.xml, and for a frontend the private key of the cluster.

    ``folder`` is the cluster's, which holds the key.
    """
    files = [Secret('vc-out.xml', vc_out)]
    if node.get('role') == 'frontend':
        with open(os.path.join(folder, 'id_ed25519'), 'rb') as file:
            files.append(Secret('.ssh/id_ed25519', file.read()))
    return files


def write_raw(disk: str, staged: etree._Element, files: Sequence[Secret], subject: str) -> None:
    """Write files into the raw disk ``disk``, which holds a staged <image>; raises Failure.

    The checks are those of a Plan.
    """
    import tempfile
    part = partition.of(staged)
    with tempfile.TemporaryDirectory() as scratch:
        if part.inject == 'debugfs':
            try:
                with overlay.exported(disk, 'raw', part, scratch) as volume:
                    rootfiles.write(volume, scratch, files, subject)
                    partition.check(volume, subject)
                return
            except overlay.NoFuse as error:
                _warn_without_fuse(error)
        guestfish.write([(disk, part.device, scratch, files, subject)], 'raw')


def write_overlay(draft: str, backing: str, part: partition.Partition, scratch: str,
                  files: Sequence[Secret], subject: str, locate: bool) -> overlay.Extents:
    """Write files into an overlay by debugfs, and check it.

    With ``locate``, where in the disk the first of them lies. Raises Failure, and NoFuse where
    guestfish must do it.
    """
    with overlay.exported(draft, 'qcow2', part, scratch, backing) as volume:
        rootfiles.write(volume, scratch, files, subject)
        partition.check(volume, subject)
        found = rootfiles.extents(volume, files[0], subject) if locate else []
    return [(part.offset + start, length) for start, length in found]


class Plan:
    """Makes the disks of a document's nodes.

    ``folder`` is the cluster's, ``stores`` tells by each host's URI where its disks go.
    """

    def __init__(self, root: etree._Element, folder: str, stores: Mapping[str, Store]) -> None:
        self._root = root
        self._folder = folder
        self._stores = stores
        self._backings: dict[tuple[str, str], str] = {}
        self._disks: dict[str, etree._Element] = {}
        self._vc_outs: dict[str, bytes] = {}
        self._templates: dict[Kind, overlay.Template | None] = {}
        self._projection = Projection(root)

    def carry_out(self, nodes: Sequence[etree._Element], jobs: int) -> dict[str, etree._Element]:
        """Make the disks of ``nodes``, ``jobs`` at a time; their <disk>s by the nodes' names.

        Each disk is made whole or not at all. Falls back to guestfish only where FUSE is
        unavailable, and warns; any other error of the faster way raises Failure.
        """
        for uri in {node.get('host') for node in nodes}:
            self._stores[uri].prepare(self._folder)
        images = sorted({(node.get('host'), self._image(node)) for node in nodes})
        self._backings = dict(zip(images, workers.each(
            lambda pair: self._stores[pair[0]].receive(pair[1]), images, jobs), strict=True))
        kinds: dict[Kind, list[etree._Element]] = {}
        for node in nodes:
            kinds.setdefault(self._kind(node), []).append(node)
        for alike in kinds.values():
            if not self._is_seeded(alike[0]):
                self._project(alike)
        reasons = dict(zip((alike[0] for alike in kinds.values()), workers.each(
            lambda alike: self._by_debugfs(alike[0], len(alike) > 1), kinds.values(), jobs),
            strict=True))
        others = [node for alike in kinds.values() for node in alike[1:]]
        reasons.update(zip(others, workers.each(self._by_copy, others, jobs), strict=True))
        slow = [node for node in nodes if reasons[node]]
        for reason in sorted({reasons[node] for node in slow} - {guestfish.NEEDED})[:1]:
            _warn_without_fuse(reason)
        alone = [node for node in slow if self._partition(node).is_alone]
        others = [node for node in slow if not self._partition(node).is_alone]
        size = len(guestfish.LETTERS)
        for batch in [*([node] for node in alone), *(others[start:start + size]
                                                     for start in range(0, len(others), size))]:
            self._by_guestfish(batch)
        return self._disks

    def _project(self, alike: Sequence[etree._Element]) -> None:
        """Make the vc-out.xml of nodes of one kind, all of the same length.

        White space after the root element means nothing in XML.
        """
        contents = {node.get('name'): self._projection.of(node.get('name')) for node in alike}
        longest = max(map(len, contents.values()))
        self._vc_outs.update((name, content.ljust(longest, b'\n'))
                             for name, content in contents.items())

    def _files(self, node: etree._Element) -> list[Secret]:
        return secrets(node, self._vc_outs[node.get('name')], self._folder)

    def _image(self, node: etree._Element) -> str:
        return image(self._root, node.get('role')).get('path')

    def _partition(self, node: etree._Element) -> partition.Partition:
        return partition.of(image(self._root, node.get('role')))

    def _kind(self, node: etree._Element) -> Kind:
        return self._image(node), node.get('role'), node.get('disk_size', '')

    def _is_seeded(self, node: etree._Element) -> bool:
        return partition.is_seeded(image(self._root, node.get('role')))

    def _create(self, draft: str, node: etree._Element) -> None:
        overlay.create(draft, self._image(node), node.get('disk_size'))

    def _by_copy(self, node: etree._Element) -> str | None:
        """Make a disk from the Template of its kind, or by debugfs where there is no Template."""
        template = self._templates.get(self._kind(node))
        if template is None:
            return self._by_debugfs(node)
        with self._draft(node) as draft:
            template.copy(draft, self._files(node)[0].content if template.extents else b'')
        return None

    def _by_debugfs(self, node: etree._Element, keep: bool = False) -> str | None:
        """Make a disk by debugfs; None, or why guestfish must make it.

        With ``keep`` the disk is kept as the Template of its kind.
        """
        if self._is_seeded(node):
            with self._draft(node) as draft:
                self._create(draft, node)
                if keep:
                    self._templates[self._kind(node)] = overlay.empty_template(draft)
            return None
        part = self._partition(node)
        if part.inject != 'debugfs':
            return guestfish.NEEDED
        try:
            with self._draft(node) as draft:
                self._create(draft, node)
                files = self._files(node)
                with overlay.scratch_folder(draft) as scratch:
                    extents = write_overlay(draft, self._image(node), part, scratch, files,
                                            _subject(node), keep)
                if keep:
                    self._templates[self._kind(node)] = overlay.template(
                        draft, extents, files[0].content)
        except overlay.NoFuse as error:
            return str(error)
        return None

    def _by_guestfish(self, nodes: Sequence[etree._Element]) -> None:
        """Make the disks of several nodes by one appliance of libguestfs."""
        with contextlib.ExitStack() as stack:
            drafts = [stack.enter_context(self._draft(node)) for node in nodes]
            disks = []
            for node, draft in zip(nodes, drafts, strict=True):
                self._create(draft, node)
                scratch = stack.enter_context(overlay.scratch_folder(draft))
                disks.append((draft, self._partition(node).device, scratch, self._files(node),
                              _subject(node)))
            guestfish.write(disks)

    @contextlib.contextmanager
    def _draft(self, node: etree._Element) -> Iterator[str]:
        """The path of a new overlay, which becomes the node's disk after the block."""
        draft = files.temporary(os.path.join(self._folder, f"{node.get('name')}.qcow2"))
        files.remove(draft)
        # A killed tool may have left it, and not every disk needs a new one.
        overlay.discard(overlay.scratch_of(draft))
        try:
            yield draft
            with open(draft, 'rb+') as file:
                os.fsync(file.fileno())
            host = node.get('host')
            self._disks[node.get('name')] = self._stores[host].keep(
                draft, node, self._backings[host, self._image(node)])
        finally:
            files.remove(draft)


def _warn_without_fuse(reason: object) -> None:
    log.warn(f'no FUSE ({reason}): writing through libguestfs, which is slower')


def _subject(node: etree._Element) -> str:
    return f"node '{node.get('name')}'"
