"""Resizing a cluster that runs: nodes join it or leave it, and its frontend is told.

Each step is safe to repeat, and the ledger has every node of which anything exists: after a kill
at any moment, the same call goes on.
"""
import contextlib
import copy
import os
from collections.abc import Iterator

from lxml import etree

from ..document import tree
from ..document.vcout import Projection
from ..engine.protocol import READY, Storage
from ..engine.registry import Engines, by_engine
from ..image import staged, staging
from ..system import files
from ..system.failure import Failure
from ..system.names import cpus
from ..system.settings import Settings
from . import disks, growth, pool, update
from .boot import Boot
from .capacity import Capacity
from .hooks import Hooks
from .kinds import Wanted
from .ledger import Ledger
from .states import View


class Resize:
    """Resizes clusters of one site."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ledger = Ledger(settings.temporary_directory)
        self._engines = Engines(settings)

    def to(self, name: str, wanted: int, seconds: int, force: bool = False,
           wait: bool = False) -> None:
        """Give the compute nodes of a cluster ``wanted`` CPUs in all.

        Nodes that are to leave are drained within ``seconds``, unless ``force`` is true. With
        ``wait``, nodes that are not ready are awaited as long. Raises Shortage and Failure; the
        message says whether the resize is kept, and what to type.
        """
        self.refuse_drivers(self._ledger.known(name))
        with self._ledger.resizing(name):
            root = self._ledger.known(name)
            have = growth.num_cpus(root)
            if not force or wanted > have:
                self._require_frontend(root)
            if wanted < have:
                failure = self._shrink(root, wanted, None if force else seconds)
            elif wanted > have:
                self._reserve(name, wanted)
            self._start(name)
            root = self._ledger.known(name)
            if wanted >= have:
                failure = self._tell(root)
            if failure is not None:
                raise Failure(f"cluster '{name}' has {cpus(wanted)} now, but {failure}; "
                              f'{update.remedy(root)}')
            update.end(name, self._ledger)
        if wait:
            self._await(root, seconds)

    def refuse_drivers(self, root: etree._Element) -> None:
        """Raise Failure for a cluster whose engine cannot resize it."""
        for node in tree.nodes(root):
            if not self._engines[node.get('host')].resizes:
                name = tree.cluster(root).get('name')
                raise Failure(f"cluster '{name}' cannot be resized: an external driver booted it, "
                              'and no driver can add nodes to a cluster or remove them')

    def _require_frontend(self, root: etree._Element) -> None:
        """Raise Failure for a cluster whose frontend does not run: it could not be told."""
        front, view = tree.frontend(root), View(self._engines, self._ledger)
        view.require([front])
        if not view.active(front):
            name = tree.cluster(root).get('name')
            raise Failure(f"the frontend of cluster '{name}' does not run: 'vc-start {name}' first")

    def _await(self, root: etree._Element, seconds: int) -> None:
        """Wait for the nodes that are not ready: those of an earlier call that was killed, too."""
        view, nodes = View(self._engines, self._ledger), tree.nodes(root)
        view.require(nodes)
        waiting = [node for node in nodes if view.state(node) != READY]
        if waiting:
            Hooks(self._settings).wait(root, waiting, self._engines, self._ledger, seconds)

    def _tell(self, root: etree._Element, drain: int | None = None) -> Failure | None:
        """Tell the frontend; why that failed, None for success."""
        try:
            update.tell(root, self._engines, self._ledger, drain)
        except Failure as failure:
            return failure
        return None

    def _reserve(self, name: str, wanted: int) -> None:
        """Add nodes to the cluster in the ledger, all or none."""
        root = self._ledger.known(name)
        images = [] if root.find("image[@role='compute']") is not None else staging.stage(
            root, ['compute'], self._settings)
        with self.adding(root, wanted, images):
            pass

    @contextlib.contextmanager
    def filtering(self, root: etree._Element, asked: Wanted, dry_run: bool) -> Iterator[None]:
        """Add the nodes that the document of a filter lacks for the ``asked`` CPUs, for a block.

        With ``dry_run``, the ledger stays as it is. Raises Shortage and Failure.
        """
        name, have, wanted = (tree.cluster(root).get('name'), growth.num_cpus(root),
                              asked.num_cpus)
        if wanted == have:
            yield
            return
        self.refuse_drivers(root)
        if wanted < have:
            raise Failure(f"cluster '{name}' has {cpus(have)}, and a filter removes no nodes: "
                          f"'vc-resize --num-cpus {wanted} {name}' does")
        if asked.nodes:
            raise Failure(f"cluster '{name}' has its nodes already: --nodes is for a new cluster, "
                          'use --num-cpus')
        if not dry_run:
            with self.adding(root, wanted):
                yield
            return
        capacity = Capacity(self._settings)
        with self._ledger.changing():
            self._grow(root, wanted, capacity)
        yield

    @contextlib.contextmanager
    def adding(self, root: etree._Element, wanted: int,
               images: list[etree._Element] | None = None) -> Iterator[None]:
        """Add the nodes that a cluster lacks for ``wanted`` CPUs, to ``root`` and in the ledger.

        Raises Shortage and Failure. If the block fails, they are removed again.
        """
        name = tree.cluster(root).get('name')
        # As for a new cluster, the engines are asked before the lock is taken.
        capacity = Capacity(self._settings)
        with self._ledger.changing():
            _, known = self._ledger.require(root)
            for image in images or ():
                tree.replace(known, f"image[@role='{image.get('role')}']", image)
            staging.restage(known, staged.missing(known), self._settings)
            added = self._grow(known, wanted, capacity)
            names = [node.get('name') for node in added]
            joining = update.begun(name, self._ledger) or []
            update.begin(name, self._ledger, [*joining, *names])
            self._write(known)
        for node in added:
            cluster = tree.cluster(root)
            cluster.insert(cluster.index(tree.nodes(root)[-1]) + 1, copy.deepcopy(node))
        try:
            yield
        except BaseException:
            self._forget(name, set(names))
            if joining:
                update.begin(name, self._ledger, joining)
            else:
                update.end(name, self._ledger)
            raise

    def _grow(self, root: etree._Element, wanted: int,
              capacity: Capacity) -> list[etree._Element]:
        """Add the nodes that a document lacks, of what the ledger leaves free; the new nodes."""
        documents = self._ledger.documents()
        return growth.grow(root, wanted, self._settings, capacity.free(documents),
                           pool.Taken.by(documents, self._ledger.identity))

    def _start(self, name: str) -> None:
        """Make the disks that nodes lack, and start the nodes that joined."""
        root, joining = self._ledger.known(name), update.begun(name, self._ledger) or []
        if all(node.find('disk') is not None for node in tree.nodes(root)) and not joining:
            return
        disks.make(root, self._settings)
        chosen = [node for node in tree.nodes(root) if node.get('name') in joining]
        if chosen:
            Boot(root, chosen, self._settings).start()

    def _shrink(self, root: etree._Element, wanted: int, drain: int | None) -> Failure | None:
        """Remove nodes. Returns why the frontend was not told; without ``drain``, that is no error.

        The frontend is told first: it drains the nodes that leave, and uses them no more.
        """
        name = tree.cluster(root).get('name')
        names = {node.get('name') for node in growth.leaving(root, wanted)}
        smaller = copy.deepcopy(root)
        growth.remove(smaller, names)
        failure = self._tell(smaller, drain)
        if failure is not None and drain is not None:
            raise Failure(f"cluster '{name}' is not resized: {failure}; with --force, nodes are "
                          'removed without asking it')
        joining = [node for node in update.begun(name, self._ledger) or [] if node not in names]
        update.begin(name, self._ledger, joining)
        self._remove(tree.nodes(root, names))
        self._forget(name, names)
        return failure

    def _remove(self, nodes: list[etree._Element]) -> None:
        """Destroy and undefine the domains of nodes, and remove their disks."""
        name = nodes[0].getparent().get('name')
        storages: dict[tuple, tuple[Storage, list[etree._Element]]] = {}
        for uri, some in by_engine(nodes).items():
            self._engines[uri].remove(some)
            # A node whose disk is taken from the document may have one where new disks are made.
            for node in [*some, None]:
                storage = self._engines[uri].storage(self._ledger, node)
                storages.setdefault(storage.key, (storage, some))
        # Without its <disk>, a node of which this is all that a kill leaves can be made anew.
        with self._ledger.changing():
            known = self._ledger.known(name)
            for node in tree.nodes(known, {node.get('name') for node in nodes}):
                for element in [*node.findall('disk'), *node.findall('seed')]:
                    node.remove(element)
            self._write(known)
        for storage, some in storages.values():
            storage.discard(some)
        self._ledger.discard(name, {node.get('name') for node in nodes})

    def _forget(self, name: str, names: set[str]) -> None:
        """Remove nodes from the ledger, and release what was reserved for them."""
        with self._ledger.changing():
            known = self._ledger.known(name)
            growth.remove(known, names)
            self._write(known)

    def _write(self, root: etree._Element) -> None:
        """Write a document to the ledger, and the vc-out.xml that a driver has left beside it."""
        self._ledger.write(root)
        path = os.path.join(self._ledger.folder(tree.cluster(root).get('name')), 'vc-out.xml')
        if os.path.exists(path):
            front = tree.frontend(root).get('name')
            files.write(path, Projection(root).of(front))
