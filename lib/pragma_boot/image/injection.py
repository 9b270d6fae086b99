"""Making nodes' disks: an overlay each, with the node's own files written into its /root.

Nothing of a guest is mounted on the host. Two ways: debugfs on the partition exported by FUSE, for
ext2/3/4; and guestfish, one appliance of seconds for all nodes that need it, for any other file
system and where there is no FUSE. Compute nodes of one image and host differ in the content of one
file alone: by debugfs the first is made, and checked, and the others are copies of it.
"""
import contextlib
import os
from typing import NamedTuple

from ..document.tree import image
from ..document.vcout import Projection
from ..system import debugfs, guestfish, log, workers
from ..system.files import temporary
from . import overlay, partition


class Secret(NamedTuple):
    """A file for /root of a guest: its path below /root, fixed by us, and its bytes; mode 0600."""

    path: str
    content: bytes


def secrets(node, content, folder):
    """The Secrets of one node: its vc-out.xml, and on the frontend the key, in the cluster's folder, to the others."""
    files = [Secret('vc-out.xml', content)]
    if node.get('role') == 'frontend':
        with open(os.path.join(folder, 'id_ed25519'), 'rb') as file:
            files.append(Secret('.ssh/id_ed25519', file.read()))
    return files


def part_of(found):
    """The Partition 1 of a staged <image>."""
    return partition.Partition(int(found.get('offset')), int(found.get('length')),
                               found.get('filesystem'), found.get('inject'))


def write_raw(disk, found, files, subject):
    """Write Secrets into the raw disk at ``disk``, which holds the staged <image> ``found``; raises Failure.

    As a Plan does into an overlay, with the same checks.
    """
    import tempfile
    with tempfile.TemporaryDirectory() as scratch:
        if found.get('inject') == 'debugfs':
            try:
                with overlay.exported(disk, 'raw', part_of(found), scratch) as volume:
                    debugfs.write(volume, scratch, files, subject)
                    partition.check(volume, subject)
                return
            except overlay.NoFuse as error:
                log.warn(f'no FUSE ({error}): writing through libguestfs, which is slower')
        guestfish.write([(disk, scratch, files, subject)], 'raw')


class Plan:
    """What is to be written into each node's disk of a document, in its cluster's folder."""

    def __init__(self, root, folder, places):
        """``places`` tells the storage of the new disks on each host, by its URI."""
        self._root = root
        self._folder = folder
        self._places = places
        self._backings = {}
        self._disks = {}
        self._contents = {}
        self._templates = {}
        self._projection = Projection(root)

    def files(self, node):
        """The files of one node: vc-out.xml, and on the frontend the key to the compute nodes."""
        return secrets(node, self._contents[node.get('name')], self._folder)

    def carry_out(self, nodes, jobs):
        """Make the disks of ``nodes``, each whole or not at all, ``jobs`` at a time.

        Returns their <disk>s by the nodes' names. Raises Failure. Where the quick way cannot be gone for want of FUSE, and for no other
        reason, the slow one is, with a line that says so: corruption is an error, no reason.
        """
        needed = sorted({(node.get('host'), self._image(node)) for node in nodes})
        for uri in {node.get('host') for node in nodes}:
            self._places[uri].prepare(self._folder)
        self._backings = dict(zip(needed, workers.each(
            lambda need: self._places[need[0]].receive(need[1]), needed, jobs)))
        kinds = {}
        for node in nodes:
            kinds.setdefault(self._kind(node), []).append(node)
        for alike in kinds.values():
            contents = {node.get('name'): self._projection.of(node.get('name')) for node in alike}
            longest = max(map(len, contents.values()))
            # All as long as one another: white space after the root says nothing in XML.
            self._contents.update((name, content.ljust(longest, b'\n'))
                                  for name, content in contents.items())
        refusals = dict(zip((alike[0] for alike in kinds.values()), workers.each(
            lambda alike: self._quickly(alike[0], len(alike) > 1), kinds.values(), jobs)))
        rest = [node for alike in kinds.values() for node in alike[1:]]
        refusals.update(zip(rest, workers.each(self._alike, rest, jobs)))
        slow = [node for node in nodes if refusals[node]]
        for reason in sorted({refusals[node] for node in slow} - {guestfish.NEEDED})[:1]:
            log.warn(f'no FUSE ({reason}): writing through libguestfs, which is slower')
        for start in range(0, len(slow), guestfish.MOST_DISKS):
            self._slowly(slow[start:start + guestfish.MOST_DISKS])
        return self._disks

    def _image(self, node):
        return image(self._root, node.get('role')).get('path')

    def _kind(self, node):
        """What decides on a node's disk but for the content of its vc-out.xml."""
        return node.get('host'), self._image(node), node.get('role')

    def _alike(self, node):
        """Make one disk as a copy of the first of its kind, or as that was to be made, if it was not."""
        template = self._templates.get(self._kind(node))
        if template is None:
            return self._quickly(node)
        with self._drafted(node) as (draft, _):
            template.copy(draft, self.files(node)[0].content)
        return None

    def _quickly(self, node, more=False):
        """Make one disk by debugfs; None, or why it must be made the other way.

        With ``more`` of its kind to be made, it is kept as their Template.
        """
        found = image(self._root, node.get('role'))
        if found.get('inject') != 'debugfs':
            return guestfish.NEEDED
        part = part_of(found)
        try:
            with self._drafted(node) as (draft, scratch):
                overlay.create(draft, self._image(node))
                with overlay.exported(draft, 'qcow2', part, scratch, self._image(node)) as volume:
                    files = self.files(node)
                    debugfs.write(volume, scratch, files, _subject(node))
                    partition.check(volume, _subject(node))
                    places = debugfs.places(volume, files[0], _subject(node)) if more else []
                if more:
                    self._templates[self._kind(node)] = overlay.template(
                        draft, [(part.offset + start, length) for start, length in places],
                        files[0].content)
        except overlay.NoFuse as error:
            return str(error)
        return None

    def _slowly(self, nodes):
        """Make the disks of several nodes by one appliance of libguestfs."""
        with contextlib.ExitStack() as stack:
            drafts = [stack.enter_context(self._drafted(node)) for node in nodes]
            for node, (draft, _) in zip(nodes, drafts):
                overlay.create(draft, self._image(node))
            guestfish.write([(draft, scratch, self.files(node), _subject(node))
                             for node, (draft, scratch) in zip(nodes, drafts)])

    @contextlib.contextmanager
    def _drafted(self, node):
        """The path of a new overlay, the node's disk once the block has made it, and a scratch folder."""
        path = os.path.join(self._folder, f"{node.get('name')}.qcow2")
        draft, scratch = temporary(path), f'{temporary(path)}.scratch'
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        overlay.discard(scratch)
        os.mkdir(scratch, 0o700)
        try:
            yield draft, scratch
            with open(draft, 'rb+') as file:
                os.fsync(file.fileno())
            backing = self._backings[node.get('host'), self._image(node)]
            self._disks[node.get('name')] = self._places[node.get('host')].keep(draft, node, backing)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            overlay.discard(scratch)


def _subject(node):
    return f"node '{node.get('name')}'"
