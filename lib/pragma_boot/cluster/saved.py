"""Starting nodes from saved states: a guest of each kind is booted once, and nodes are its copies.

A state is the memory of a guest that was booted and waits for a document, and the disk that it had
then. It is kept in TEMP/saved, and serves all nodes with the same image, hardware and engine. The
disk of a node that starts from it is a copy of that disk, in which the blocks of /root/vc-out.xml
have the node's own document; the private key of its cluster follows that of a frontend. The guest
part sees it, and sets the node up (pragma-guest, ready). A node that is started again boots, from
its own disk and with its own document.
"""
from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from lxml import etree

from ..document import firmware, tree
from ..document.vcout import Projection
from ..engine.protocol import SavedStates, Unsupported
from ..engine.registry import Engines
from ..image import injection, overlay, partition
from ..system import files, log
from ..system.failure import Failure
from ..system.lock import exclusive
from .ledger import Ledger
from .saved_guest import DISK, DOCUMENT_BYTES, MEMORY, RECORD, Guest, Unfit, mounted

FOLDER = 'saved'

PRIVATE_KEY = b'<?pragma-private-key %s?>\n'
"""What follows a frontend's document: its private key in base64. The guest part moves it."""


class State(NamedTuple):
    """A saved state: its folder, its disk with a place for a document, and when that was mounted.

    ``mounted`` is the field of the superblock before the guest was booted.
    """

    folder: str
    disk: overlay.Template
    mounted: str

    @property
    def memory(self) -> str:
        return os.path.join(self.folder, MEMORY)


class Saved:
    """The saved states for the nodes of one document."""

    def __init__(self, root: etree._Element, engines: Engines, ledger: Ledger,
                 accelerations: dict[str, str]) -> None:
        self._root = root
        self._engines = engines
        self._ledger = ledger
        self._accelerations = accelerations
        self._folder = os.path.join(ledger.root, FOLDER)
        self._states: dict[tuple, State | Unfit] = {}
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        self._projection = Projection(root)

    def prepare(self, nodes: list[etree._Element]) -> None:
        """Make the states that ``nodes`` need and that are missing: each boots a guest."""
        for node in nodes:
            try:
                # Before a guest is booted for nothing.
                self._states_of(node)
                self._content(node)
                self._state(node)
            except Unfit as reason:
                self._warn(node, reason)

    def start(self, node: etree._Element, define: Callable[[], etree._Element],
              paused: bool) -> bool:
        """Start a node from a state; False, with a warning, where it has to boot.

        ``define`` makes the definition of its domain.
        """
        try:
            state = self._state(node)
            self._replace_disk(node, state)
            self._restore(node, define(), state, paused)
        except Unfit as reason:
            self._warn(node, reason)
            return False
        return True

    def _restore(self, node: etree._Element, definition: etree._Element, state: State,
                 paused: bool) -> None:
        """Start the node from the state's memory; raises Unfit, and then it can boot."""
        draft = files.temporary(f"{node.find('disk').get('path')}.memory")
        with _unfit_after_failure(f"the state in '{state.folder}' cannot be restored"):
            self._states_of(node).restore(node, definition, state.memory, draft, paused)

    def _replace_disk(self, node: etree._Element, state: State) -> None:
        """Make the node's disk that of the state, with the node's own document; raises Unfit.

        The node can boot from it, too.
        """
        content = self._content(node)
        self._require_new(node, state)
        draft = files.temporary(node.find('disk').get('path'))
        files.remove(draft)
        try:
            state.disk.copy(draft, content)
            self._engines.storage(node, self._ledger).keep(
                draft, node, node.find('disk').get('backing'))
        finally:
            files.remove(draft)

    def _content(self, node: etree._Element) -> bytes:
        """The node's document and what follows it, as they are in its disk; raises Unfit."""
        with self._lock:
            vc_out = self._projection.of(node.get('name'))
        folder = self._ledger.folder(tree.cluster(self._root).get('name'))
        document, *keys = injection.secrets(node, vc_out, folder)
        content = document.content + b''.join(
            PRIVATE_KEY % base64.b64encode(key.content) for key in keys)
        if len(content) > DOCUMENT_BYTES:
            raise Unfit(f'its vc-out.xml is larger than {DOCUMENT_BYTES >> 10} KiB')
        return content.ljust(DOCUMENT_BYTES, b'\n')

    def _warn(self, node: etree._Element, reason: Failure) -> None:
        """Say once why nodes boot instead."""
        with self._lock:
            if str(reason) not in self._warned:
                self._warned.add(str(reason))
                log.warn(f"node '{node.get('name')}' is booted, not started from a saved state: "
                         f'{reason}')

    def _states_of(self, node: etree._Element) -> SavedStates:
        try:
            return self._engines[node.get('host')].saved_states()
        except Unsupported as reason:
            raise Unfit(str(reason)) from None

    def _require_new(self, node: etree._Element, state: State) -> None:
        """Raise Unfit where a guest has used the node's disk: what it wrote must not be lost."""
        image = tree.image(self._root, node.get('role'))
        if mounted(node.find('disk').get('path'), image) != state.mounted:
            raise Unfit('it has run before, and its disk is kept')

    def _state(self, node: etree._Element) -> State:
        """The state for a node, made if there is none; raises Unfit."""
        kind = tuple(map(node.get, ('host', 'role', 'cpus', 'memory', 'disk_size')))
        with self._lock:
            if kind not in self._states:
                try:
                    self._states[kind] = self._made(node)
                except Unfit as reason:
                    self._states[kind] = reason
            found = self._states[kind]
        if isinstance(found, Unfit):
            raise found
        return found

    def _made(self, node: etree._Element) -> State:
        image = tree.image(self._root, node.get('role'))
        if partition.is_seeded(image) or partition.of(image).inject != 'debugfs':
            raise Unfit('its document is not a file of an ext2, ext3 or ext4 file system')
        if firmware.element(tree.domain(self._root, node.get('role'))) is not None:
            raise Unfit('it has UEFI, whose variables are not part of a state')
        if node.find('disk').get('pool'):
            raise Unfit('its disk is in a storage pool')
        states, host = self._states_of(node), node.get('host')
        guest = Guest(node, self._engines[host], self._accelerations[host])
        folder = os.path.join(self._folder, guest.name(states.version()))
        os.makedirs(self._folder, mode=0o711, exist_ok=True)
        with exclusive(f'{folder}.lock'):
            if not os.path.exists(folder):
                with _unfit_after_failure('no state can be saved'):
                    guest.make(folder, states)
        return _read(folder)


@contextlib.contextmanager
def _unfit_after_failure(what: str) -> Iterator[None]:
    """For the block, a Failure means that the node has to boot: raises Unfit."""
    try:
        yield
    except Unfit:
        raise
    except Failure as failure:
        raise Unfit(f'{what}: {failure}') from None


def unused(ledger: Ledger, images: Collection[str]) -> list[str]:
    """The paths of the states whose images, by their file names, are not among ``images``."""
    folder = os.path.join(ledger.root, FOLDER)
    kept = tuple(f"{image.removesuffix('.raw')}-" for image in images)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [os.path.join(folder, name) for name in names if not name.startswith(kept)]


def _read(folder: str) -> State:
    """The state in a folder; raises Unfit where the document's place is not found."""
    with open(os.path.join(folder, RECORD), 'rb') as file:
        record = json.load(file)
    template = overlay.template(os.path.join(folder, DISK), record['extents'],
                                record['document'].encode())
    if template is None:
        raise Unfit(f"the document has no place of its own in the disk of '{folder}'")
    return State(folder, template, record['mounted'])
