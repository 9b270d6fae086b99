"""Storage of disks and console logs in a libvirt storage pool. Pool is a protocol.Storage."""
import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from lxml import etree

from ..system import process
from ..system.lock import exclusive
from .protocol import Folders, Tail

LEDGER_DIGITS = 8
"""Digits of the ledger's identity in the names of volumes: several sites may share a pool."""

ENDS = ('qcow2', 'seed.img', 'console.log')
"""Of the names of a node's volumes: its disk, seed disk and console log."""

VOLUME = """<volume><name>{name}</name><capacity unit='bytes'>{size}</capacity>
<allocation>0</allocation><target><format type='raw'/>
<permissions><mode>{mode}</mode></permissions></target></volume>"""


class Pool:
    """A storage pool of the host: disks are its volumes CLUSTER_NODE_LEDGER.qcow2 and .seed.img.

    Names have no '_', so that a volume's name identifies cluster and node.
    """

    reads_images = False

    def __init__(self, engine: Any, pool: str, ledger: Folders) -> None:
        self._engine = engine
        self._pool = pool
        self._ledger = ledger
        self.key = engine.uri, pool

    def _volumes(self) -> dict[str, str]:
        """The paths of the pool's volumes by their names."""
        output = self._engine.virsh('vol-list', '--pool', self._pool).stdout.decode()
        return dict(line.split(None, 1) for line in map(str.strip, output.splitlines())
                    if ' ' in line)

    def _create(self, name: str, size: int, mode: str) -> None:
        """Make an empty volume of ``size`` bytes; an old one of that name is replaced."""
        self._delete([name])
        self._engine.virsh('vol-create', '--pool', self._pool, '/dev/stdin',
                           input=VOLUME.format(name=name, size=size, mode=mode).encode())

    def _delete(self, names: Iterable[str]) -> None:
        """Delete volumes; one that does not exist is no error."""
        there = self._volumes()
        for name in names:
            if name in there:
                self._engine.virsh('vol-delete', '--pool', self._pool, name)

    def _upload(self, path: str, name: str, mode: str) -> str:
        """Make a volume with the content of a file; its path on the host."""
        self._create(name, os.path.getsize(path), mode)
        self._engine.virsh('vol-upload', '--sparse', '--pool', self._pool, name, path)
        return self._engine.virsh('vol-path', '--pool', self._pool, name).stdout.decode().strip()

    def prepare(self, folder: str) -> None:
        """Nothing: the host does not read the cluster's folder."""

    def receive(self, path: str) -> str:
        """Upload a staged image to the pool, once; the path of its volume.

        libvirt cannot rename a volume, so that a second, empty volume marks the first as complete.
        """
        name = os.path.basename(path)
        whole = f'{name}.whole'
        with exclusive(f'{path}.lock'):
            volumes = self._volumes()
            if name in volumes and whole in volumes and self._size(name) == os.path.getsize(path):
                return volumes[name]
            self._delete([whole])
            there = self._upload(path, name, '0444')
            self._create(whole, 0, '0444')
            return there

    def _size(self, name: str) -> int:
        output = self._engine.virsh('vol-info', '--bytes', '--pool', self._pool, name).stdout
        return int(re.findall(rb'Capacity:\s+(\d+)', output)[0])

    def keep(self, draft: str, node: etree._Element, backing: str) -> etree._Element:
        """Upload the finished overlay ``draft`` as the node's disk; its <disk>."""
        process.run(['qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', backing, draft],
                    f"cannot rebase '{draft}'")
        path = self._upload(draft, f'{_stem(node)}.qcow2', '0600')
        os.unlink(draft)
        return etree.Element('disk', path=path, format='qcow2', backing=backing, pool=self._pool)

    def keep_seed(self, draft: str, node: etree._Element) -> str:
        """Upload the finished seed disk ``draft`` as the node's; its path on the host."""
        path = self._upload(draft, f'{_stem(node)}.seed.img', '0600')
        os.unlink(draft)
        return path

    @contextlib.contextmanager
    def reading(self, node: etree._Element, folder: str) -> Iterator[tuple[str, str]]:
        """Copies of the node's disk and of its backing image, in files without a name."""
        import tempfile
        names = f'{_stem(node)}.qcow2', os.path.basename(node.find('disk').get('backing'))
        with contextlib.ExitStack() as stack:
            paths = []
            for name in names:
                file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
                paths.append(f'/proc/{os.getpid()}/fd/{file.fileno()}')
                self._engine.virsh('vol-download', '--sparse', '--pool', self._pool, name,
                                   paths[-1])
            yield paths[0], paths[1]

    def lacking(self, nodes: list[etree._Element]) -> list[etree._Element]:
        """Those of ``nodes`` whose disk does not exist."""
        volumes = self._volumes()
        return [node for node in nodes
                if node.find('disk') is None or f'{_stem(node)}.qcow2' not in volumes]

    def lacking_seed(self, nodes: list[etree._Element]) -> list[etree._Element]:
        """Those of ``nodes`` whose seed disk does not exist."""
        volumes = self._volumes()
        return [node for node in nodes if f'{_stem(node)}.seed.img' not in volumes]

    def console(self, node: etree._Element) -> str:
        """The path of the node's console log on its host."""
        return os.path.join(os.path.dirname(node.find('disk').get('path')),
                            f'{_stem(node)}.console.log')

    def empty_console(self, node: etree._Element) -> None:
        """Begin the node's console log anew."""
        self._create(f'{_stem(node)}.console.log', 0, '0600')

    def consoles(self, nodes: list[etree._Element]) -> dict[etree._Element, bytes]:
        """The end of each node's console log, read by one connection: bytes by node."""
        # A random separator, which no guest can know.
        mark = os.urandom(16).hex()
        script = ''.join(f'vol-download --pool {self._pool} {_stem(node)}.console.log /dev/stdout; '
                         f'echo {mark}; ' for node in nodes)
        output = self._engine.virsh(script, statuses=(0, 1)).stdout
        return dict(zip(nodes, output.split(mark.encode()), strict=False))

    def tail(self, node: etree._Element) -> Tail:
        """The node's console log, to be read as it grows."""
        return VolumeTail(self._engine, self._pool, f'{_stem(node)}.console.log')

    def discard(self, nodes: list) -> None:
        """Remove disks and consoles of ``nodes``, which have no domain any more."""
        self._delete([f'{_stem(node)}.{end}' for node in nodes
                      for end in ENDS])

    def remove(self, cluster: str) -> None:
        """Remove disks and consoles of a cluster that has no domain any more."""
        end = re.compile(rf'_{self._ledger.identity[:LEDGER_DIGITS]}\.'
                         rf"({'|'.join(map(re.escape, ENDS))})")
        self._delete([name for name in self._volumes()
                      if name.startswith(f'{cluster}_') and end.search(name)])


class VolumeTail:
    """A console log that is a volume of a pool, read as it grows."""

    seconds = 2.0
    """Between two reads: each one is a connection to the host."""

    def __init__(self, engine: Any, pool: str, name: str) -> None:
        self._engine = engine
        self._words = '--pool', pool, name, '/dev/stdout'
        self._position = 0

    def read(self) -> bytes:
        """What was added since the last call; the first time the whole log."""
        # Status 1: a node that was never started has no volume.
        data = self._engine.virsh('vol-download', *self._words, '--offset', str(self._position),
                                  statuses=(0, 1)).stdout
        self._position += len(data)
        return data


def _stem(node: etree._Element) -> str:
    cluster = node.getparent()
    ledger = cluster.get('ledger', '')[:LEDGER_DIGITS]
    return '_'.join(filter(None, (cluster.get('name'), node.get('name'), ledger)))
