"""A guest that is booted once, and whose state is saved while it waits for a document."""
from __future__ import annotations

import copy
import hashlib
import json
import os
import time

from lxml import etree

from ..document import tree
from ..document.vcout import Projection
from ..engine import console
from ..engine.protocol import ACTIVE, Engine, SavedStates
from ..image import injection, overlay, partition
from ..system import debugfs, files, guard, log, terminal
from ..system.failure import Failure
from ..system.scratch import Secret

PREFIX, NAME = 'pragma-saved-', 'guest'
"""The guest's domain is PREFIX, a hash, and NAME."""

NODES = {'frontend': 'frontends', 'compute': 'compute nodes'}

ADDRESS, MAC = '192.0.2.{}', '52:54:00:5a:7e:{:02x}'
"""Of its interfaces: an address for documentation (RFC 5737), alone in its network."""

DOCUMENT_BYTES = 64 << 10
"""Every vc-out.xml has this size there, filled with white space."""

DISK, MEMORY, RECORD, CONSOLE = 'disk.qcow2', 'memory', 'state.json', 'console.log'
"""The files in the folder of a state."""

BOOT_SECONDS = 600
POLL_SECONDS = 0.2


class Unfit(Failure):
    """Why a node cannot start from a saved state."""


class Guest:
    """The guest for the state of nodes that are like ``node``, in a document of its own."""

    def __init__(self, node: etree._Element, engine: Engine, acceleration: str) -> None:
        self._engine = engine
        self._acceleration = acceleration
        self._root = copy.deepcopy(node.getroottree().getroot())
        cluster = tree.cluster(self._root)
        for other in cluster.findall('node'):
            if other.get('name') != node.get('name'):
                cluster.remove(other)
        for key in cluster.findall('key'):
            cluster.remove(key)
        self._node = cluster.find('node')
        self._node.set('name', NAME)
        self._node.set('fqdn', NAME)
        for index, interface in enumerate(self._node.findall('interface')):
            interface.attrib.pop('gw', None)
            interface.set('ip', ADDRESS.format(index + 1))
            interface.set('netmask', '255.255.255.255')
            interface.set('mac', MAC.format(index + 1))
        cluster.set('name', PREFIX.rstrip('-'))

    def name(self, version: str) -> str:
        """The name of its state: of its image, and a hash of what a node must have in common."""
        alike = copy.deepcopy(self._root)
        # These differ from cluster to cluster, and a guest does not see them.
        for name in ('port', 'vlan'):
            for interface in alike.iterfind(f'cluster/node/interface[@{name}]'):
                interface.set(name, '1')
        definition = self._definition(alike.find('cluster/node'), '')
        rest = f"{self._node.get('disk_size')} {DOCUMENT_BYTES} {version}"
        description = etree.tostring(definition) + rest.encode()
        image = os.path.basename(self._image().get('path'))
        return f"{image.removesuffix('.raw')}-{hashlib.sha256(description).hexdigest()[:16]}"

    def make(self, folder: str, states: SavedStates) -> None:
        """Boot the guest, save its state when it waits, and keep both in the new ``folder``."""
        draft = f'{folder}.new'
        tree.cluster(self._root).set('name', f'{PREFIX}{folder[-16:]}')

        def clear() -> None:
            self._engine.remove([self._node])
            overlay.discard(draft)
        clear()
        log.warn(f"booting a guest to save its state for {NODES[self._node.get('role')]}")
        try:
            with guard.on_death(clear, 'the guest whose state was to be saved is removed'):
                os.mkdir(draft)
                self._boot(draft, states)
                states.save(self._node, os.path.join(draft, MEMORY))
                self._engine.remove([self._node])
                _take_back(draft)
                files.sync_folder(draft)
                os.rename(draft, folder)
                files.sync_folder(os.path.dirname(folder))
        except BaseException:
            clear()
            raise

    def _image(self) -> etree._Element:
        return tree.image(self._root, self._node.get('role'))

    def _definition(self, node: etree._Element, folder: str) -> etree._Element:
        node.find('disk').set('path', os.path.join(folder, DISK))
        return self._engine.definition(node.getroottree().getroot(), node, self._acceleration,
                                       os.path.join(folder, CONSOLE), 0)

    def _boot(self, folder: str, states: SavedStates) -> None:
        """Make the guest's disk in ``folder``, start it, and wait until it waits."""
        disk, log_file = os.path.join(folder, DISK), os.path.join(folder, CONSOLE)
        document = etree.fromstring(Projection(self._root).of(NAME))
        document.set('wait', 'yes')
        content = etree.tostring(document).ljust(DOCUMENT_BYTES, b'\n')
        overlay.create(disk, self._image().get('path'), self._node.get('disk_size'))
        before = mounted(disk, self._image())
        with overlay.scratch_folder(disk) as scratch:
            try:
                extents = injection.write_overlay(
                    disk, self._image().get('path'), partition.of(self._image()), scratch,
                    [Secret('vc-out.xml', content)], 'the guest to be saved', True)
            except overlay.NoFuse as reason:
                raise Unfit(str(reason)) from None
        files.write(os.path.join(folder, RECORD), json.dumps(
            {'extents': extents, 'mounted': before, 'document': content.decode()}).encode())
        with open(log_file, 'xb'):
            pass
        states.share(folder, disk, log_file)
        self._engine.start(self._node, lambda: self._definition(self._node, folder))
        with terminal.Progress() as progress:
            self._await(log_file, progress)

    def _await(self, log_file: str, progress: terminal.Progress) -> None:
        """Wait until the guest waits; raises Unfit where it cannot."""
        begin = time.monotonic()
        while 'waiting' not in (reports := console.reports(console.read(log_file))):
            if 'failed' in reports:
                raise Unfit(f"the guest cannot wait: {reports['failed']}")
            if 'ready' in reports:
                raise Unfit("the image's guest part is too old to wait: install it again")
            waited = time.monotonic() - begin
            domain = self._engine.domains([self._node]).get(tree.domain_name(self._node))
            if waited > BOOT_SECONDS or domain is None or domain.state not in ACTIVE:
                raise Unfit(f'a guest did not boot and wait within {waited:.0f} s')
            progress.draw('booting a guest to save', waited / BOOT_SECONDS,
                          f'{waited:.0f} s of {BOOT_SECONDS} s')
            time.sleep(POLL_SECONDS)


def _take_back(folder: str) -> None:
    """Close a folder and its files to the user that QEMU runs as.

    What is restored as later nodes must not be in the reach of the guests of other clusters.
    """
    for path in (folder, *(os.path.join(folder, name) for name in os.listdir(folder))):
        os.chown(path, os.geteuid(), os.getegid())
        os.chmod(path, 0o700 if path == folder else 0o600)


def mounted(disk: str, image: etree._Element) -> str:
    """When the root file system in an overlay was last mounted, and how often, as text."""
    part = partition.of(image)
    with (overlay.scratch_folder(f'{disk}.look') as scratch,
          overlay.exported(disk, 'qcow2', part, scratch, image.get('path')) as volume):
        # Without the checks of an image: a guest that was destroyed leaves orphaned inodes.
        fields = debugfs.superblock(volume, f"'{disk}'")
    return f"{fields.get('Last mount time')}, {fields.get('Mount count')}"
