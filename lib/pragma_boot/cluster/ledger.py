"""The ledger of reservations: the folders TEMP/clusters/NAME, each with a document.xml."""
import contextlib
import io
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager

from lxml import etree

from ..document import edits, tree
from ..engine.registry import engine_uri
from ..image import overlay
from ..system import files, log, names
from ..system.failure import Failure, cause
from ..system.lock import exclusive
from . import mark
from .identity import Identity

LONGEST = 40
"""Characters of a cluster's name, with which domain names and the frontend's FQDN begin."""


class Ledger:
    """The clusters of one temporary directory."""

    def __init__(self, temporary_directory: str) -> None:
        self.root = temporary_directory
        self.clusters = os.path.join(temporary_directory, 'clusters')
        self._identity = Identity(temporary_directory)
        self._identity.refuse_copy()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the ledger's lock for the block, so that no address is given twice."""
        os.makedirs(self.clusters, exist_ok=True)
        with exclusive(os.path.join(self.root, 'lock')):
            self._identity.make()
            yield

    @property
    def identity(self) -> str:
        """32 hexadecimal digits that tell this ledger from every other; made at the first use.

        Domains, instances and volumes are marked with it. Raises Failure for a damaged file.
        """
        if not self._identity.exists():
            with self.changing():
                pass
        return self._identity.read()

    def alone(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock of a cluster, on its folder: no other process makes its disks."""
        return exclusive(self.folder(name), os.O_RDONLY | os.O_DIRECTORY)

    def resizing(self, name: str) -> AbstractContextManager[None]:
        """Hold the lock of a cluster's nodes: none joins or leaves it. Taken before ``alone``."""
        return exclusive(os.path.join(self.folder(name), 'resize.lock'))

    def folder(self, name: str) -> str:
        """The folder of a cluster; raises Failure for a wrong name."""
        return os.path.join(self.clusters, names.checked(name, 'cluster'))

    def names(self) -> list[str]:
        """The names of all clusters, incomplete ones included, sorted."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(entry.name for entry in os.scandir(self.clusters)
                          if entry.is_dir() and names.is_name(entry.name))
        return []

    def has(self, name: str) -> bool:
        """Whether there is a cluster of that name, complete or not; raises OSError."""
        try:
            return stat.S_ISDIR(os.stat(self.folder(name)).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def document(self, name: str) -> etree._Element | None:
        """The document of a cluster, None for an incomplete one; raises Failure for a bad one."""
        data = self.stored(name)
        return None if data is None else tree.read(
            io.BytesIO(data), subject=f"'{self.folder(name)}/document.xml'")

    def stored(self, name: str) -> bytes | None:
        """The document of a cluster as it is in its file, valid or not; None for none.

        Raises Failure for one that cannot be read.
        """
        path = os.path.join(self.folder(name), 'document.xml')
        try:
            with open(path, 'rb') as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"cannot read '{path}': {cause(error)}") from None

    def known(self, name: str) -> etree._Element:
        """The document of a cluster; raises Failure where there is none, or an incomplete one."""
        if not self.has(name):
            raise Failure(f"no cluster '{name}' in the ledger of '{self.root}'")
        root = self.document(name)
        if root is None:
            if mark.is_allocating(self.folder(name)):
                raise Failure(f"cluster '{name}' is being allocated: wait until pragma_boot has "
                              'started it')
            raise Failure(f"cluster '{name}' is being allocated, or was left by a killed tool: "
                          f"'vc-clean {name}' removes it")
        return root

    def documents(self) -> list[etree._Element]:
        """The documents of all complete clusters. A bad one is named and left out."""
        documents = []
        for name in self.names():
            try:
                documents.append(self.document(name))
            except Failure as failure:
                log.warn(f"cluster '{name}' is left out: {failure}")
        return [root for root in documents if root is not None]

    def free_name(self, wanted: str) -> str:
        """``wanted`` as a name, with a number from 2 on where there is such a cluster."""
        wanted = re.sub(r'[.-]*\.[.-]*', '.', re.sub('[^A-Za-z0-9.-]+', '-', wanted)).lstrip('.-')
        if names.is_of_nodes(wanted):
            wanted = f'vc-{wanted}'
        wanted = wanted[:LONGEST - 4].rstrip('.-') or 'cluster'
        count, name = 1, wanted
        while self.has(name):
            count += 1
            name = f'{wanted}-{count}'
        return name

    def new_name(self, wanted: str | None, entry: str) -> str:
        """The name of a new cluster: ``wanted``, or a free one of an entry's; raises Failure."""
        name = wanted or self.free_name(entry)
        if self.has(names.checked_cluster(name, '--name')):
            raise self.taken(name)
        return name

    @staticmethod
    def taken(name: str) -> Failure:
        """The Failure of a new cluster with a name that another one has."""
        return Failure(f"cluster '{name}' exists already: choose another --name, "
                       f"or 'vc-clean {name}' first")

    def proposed_name(self, root: etree._Element) -> str:
        """A new name, from the document's database entry, or from the folder of its vc-in.xml."""
        source = root.find('source')
        if source is None:
            return self.free_name('cluster')
        folder = os.path.basename(os.path.dirname(source.get('path')))
        return self.free_name(source.get('name') or folder)

    def write(self, root: etree._Element) -> None:
        """Replace the document of a cluster, which must be in the ledger.

        Raises Failure for an invalid document.
        """
        tree.validate(root, 'document', 'the document')
        path = os.path.join(self.folder(tree.cluster(root).get('name')), 'document.xml')
        files.write(path, tree.serialize(root), 0o600)

    @contextlib.contextmanager
    def entering(self, name: str) -> Iterator[str]:
        """Add a new cluster: yields its folder, in which the block writes its document last.

        A folder without a document, left by an allocation that was killed, is used again. If the
        block fails, no folder is left.
        """
        folder = self.folder(name)
        if os.path.exists(os.path.join(folder, 'document.xml')):
            raise Failure(f"cluster '{name}' exists already")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        try:
            yield folder
        except BaseException:
            self.remove(name)
            raise

    def begin(self, name: str, driver: str) -> None:
        """Make the folder of a cluster that ``driver`` is about to allocate, with its name in it.

        Raises FileExistsError where the name is taken.
        """
        os.makedirs(self.clusters, exist_ok=True)
        os.mkdir(self.folder(name), mode=0o700)
        mark.write(self.folder(name), driver)

    def remove(self, name: str) -> None:
        """Remove a cluster. Its document goes last, so that it is reserved until all is removed."""
        folder = self.folder(name)
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(folder):
                if entry.name == 'document.xml':
                    continue
                _remove(entry)
            files.remove(os.path.join(folder, 'document.xml'))
            os.rmdir(folder)

    def discard(self, name: str, nodes: Collection[str]) -> None:
        """Remove the files of nodes from a cluster's folder: disks, console logs, host keys."""
        for entry in list(os.scandir(self.folder(name))):
            if entry.name.removeprefix('.').partition('.')[0] in nodes:
                _remove(entry)

    def follow(self, moved: Iterable[etree._Element]) -> None:
        """Write the new hosts of nodes that were moved, unless their cluster was removed."""
        hosts: dict[str, dict[str, str]] = {}
        for node in moved:
            hosts.setdefault(node.getparent().get('name'), {})[node.get('name')] = node.get('host')
        for name, now in hosts.items():
            with self.changing():
                known = self.document(name) if self.has(name) else None
                if known is not None:
                    for node in tree.nodes(known, now):
                        node.set('host', now[node.get('name')])
                    self.write(known)

    def require(self, root: etree._Element) -> tuple[str, etree._Element]:
        """The folder of a document's cluster, and its document in the ledger; raises Failure."""
        name = tree.cluster(root).get('name')
        known = self.document(name) if self.has(name) else None
        if known is None:
            raise Failure(f"cluster '{name}' is not in the ledger of '{self.root}': "
                          'run vc-allocate')
        if edit := edits.refused(known, root):
            raise Failure(f"cluster '{name}': {edit}: it was edited too late, change it back "
                          f"(pragma_boot(7)), or remove the cluster with 'vc-clean {name}'")
        hosts = {node.get('name'): node.get('host') for node in tree.nodes(known)}
        for node in tree.nodes(root):
            there = hosts.get(node.get('name'), '')
            if engine_uri(there) == engine_uri(node.get('host')):
                # Its engine may have moved the node since the document was written.
                node.set('host', there)
            else:
                raise Failure(f"node '{node.get('name')}' of cluster '{name}' is on "
                              f"'{hosts.get(node.get('name'))}' by the ledger, "
                              f"on '{node.get('host')}' by the document")
        return self.folder(name), known


def _remove(entry: os.DirEntry) -> None:
    """Remove a file or folder of a cluster's."""
    if entry.is_dir(follow_symlinks=False):
        overlay.discard(entry.path)
    else:
        os.unlink(entry.path)
