"""Where nodes' disks and consoles lie: in the ledger's folders, in a libvirt storage pool of a host, or with
instances that a host keeps itself.

All kinds have the same methods. A node of a document says by its <disk pool=> which it is in.
"""
import os
import re

from lxml import etree

from ..system import process
from ..system.lock import exclusive
from . import console
from .domain import domain_name

VOLUME = """<volume><name>{name}</name><capacity unit='bytes'>{size}</capacity>
<allocation>0</allocation><target><format type='raw'/>
<permissions><mode>{mode}</mode></permissions></target></volume>"""


def chosen(host, ledger, settings):
    """The storage that the site's settings choose for new disks on a host."""
    kind, name = settings.kind('storage')
    if host.keeps_disks:
        return Kept(host, ledger)
    return Pool(host, name) if kind == 'pool' else Shared(host, ledger)


def of(node, hosts, ledger):
    """The storage that a node's disk is in."""
    disk, host = node.find('disk'), hosts[node.get('host')]
    pool = disk.get('pool') if disk is not None else None
    if host.keeps_disks:
        return Kept(host, ledger)
    return Pool(host, pool) if pool else Shared(host, ledger)


def by_place(nodes, hosts, ledger):
    """Pairs of a storage and those of ``nodes`` that are in it."""
    groups = {}
    for node in nodes:
        place = of(node, hosts, ledger)
        groups.setdefault(place.key, (place, []))[1].append(node)
    return list(groups.values())


class Shared:
    """The cluster's own folder: on this machine, or under the same path on every host."""

    def __init__(self, host, ledger):
        self._host = host
        self._ledger = ledger
        self.key = host.uri, None

    def _folder(self, node):
        return self._ledger.folder(node.getparent().get('name'))

    def prepare(self, folder):
        """Let the user that QEMU runs as into the cluster's folder; raises Failure."""
        self._host.admit(folder)

    def receive(self, path):
        """Have a staged image, ``path`` here, on the host; its path there."""
        return path

    def keep(self, draft, node, backing):
        """Make the finished overlay ``draft`` the node's disk; its <disk>."""
        path = os.path.join(self._folder(node), f"{node.get('name')}.qcow2")
        self._host.give(draft)
        os.replace(draft, path)
        return etree.Element('disk', path=path, format='qcow2')

    def lacking(self, nodes):
        """Those of ``nodes`` whose disk is not there."""
        return [node for node in nodes if node.find('disk') is None
                or not os.path.exists(node.find('disk').get('path'))]

    def console(self, node):
        """The path of the node's console log on its host."""
        return console.path(self._folder(node), node.get('name'))

    def empty_console(self, node):
        """Begin the node's console log anew."""
        # Not left to libvirt, which makes it anew in a folder that its user cannot write to.
        with open(self.console(node), 'wb'):
            pass
        self._host.give(self.console(node))

    def consoles(self, nodes):
        """What the consoles of nodes said: bytes by node."""
        return {node: console.read(self.console(node)) for node in nodes}

    def tail(self, node):
        """The node's console log, to be read as it grows."""
        return console.Tail(self.console(node))

    def remove(self, cluster):
        """Remove disks and consoles of a cluster that has no domain any more."""
        # They go with its folder.


class Kept(Shared):
    """Disks that the host makes and removes with their instances; consoles in the cluster's folder."""

    def lacking(self, nodes):
        """Those of ``nodes`` of which there is no instance."""
        there = self._host.domains()
        return [node for node in nodes if node.find('disk') is None or domain_name(node) not in there]

    def publish(self, root):
        """Have a document read by those who make its nodes' disks; raises Failure."""
        with self._ledger.changing():
            self._ledger.require(root)
            self._ledger.write(root)


class Pool:
    """A storage pool of the host: disks are its volumes CLUSTER_NODE.qcow2.

    No name has a '_' in it, so that a volume's name tells both.
    """

    def __init__(self, host, pool):
        self._host = host
        self._pool = pool
        self.key = host.uri, pool

    def _volumes(self):
        """The paths of the pool's volumes by their names."""
        told = self._host.virsh('vol-list', '--pool', self._pool).stdout.decode()
        return dict(line.split(None, 1) for line in map(str.strip, told.splitlines()) if ' ' in line)

    def _create(self, name, size, mode):
        """An empty volume of ``size`` bytes, in the place of one of that name."""
        self._delete([name])
        self._host.virsh('vol-create', '--pool', self._pool, '/dev/stdin',
                         input=VOLUME.format(name=name, size=size, mode=mode).encode())

    def _delete(self, names):
        """Delete volumes; one that is not there is no error."""
        there = self._volumes()
        for name in names:
            if name in there:
                self._host.virsh('vol-delete', '--pool', self._pool, name)

    def _upload(self, path, name, mode):
        """A volume with the content of a file, which the host had not; its path there."""
        self._create(name, os.path.getsize(path), mode)
        self._host.virsh('vol-upload', '--sparse', '--pool', self._pool, name, path)
        return self._host.virsh('vol-path', '--pool', self._pool, name).stdout.decode().strip()

    def prepare(self, folder):
        """Nothing that is here is needed there."""

    def receive(self, path):
        """Have a staged image, ``path`` here, on the host, where it is sent once; its path there.

        A volume of a second name says that the first is whole, as libvirt cannot rename one.
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

    def _size(self, name):
        told = self._host.virsh('vol-info', '--bytes', '--pool', self._pool, name).stdout.decode()
        return int(re.search(r'Capacity:\s+(\d+)', told)[1])

    def keep(self, draft, node, backing):
        """Send the finished overlay ``draft`` to the host as the node's disk; its <disk>."""
        process.run(['qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', backing, draft],
                    f"cannot rebase '{draft}'")
        path = self._upload(draft, f'{_stem(node)}.qcow2', '0600')
        os.unlink(draft)
        return etree.Element('disk', path=path, format='qcow2', backing=backing, pool=self._pool)

    def lacking(self, nodes):
        """Those of ``nodes`` whose disk is not there."""
        volumes = self._volumes()
        return [node for node in nodes
                if node.find('disk') is None or f'{_stem(node)}.qcow2' not in volumes]

    def console(self, node):
        """The path of the node's console log on its host."""
        return os.path.join(os.path.dirname(node.find('disk').get('path')),
                            f'{_stem(node)}.console.log')

    def empty_console(self, node):
        """Begin the node's console log anew."""
        self._create(f'{_stem(node)}.console.log', 0, '0600')

    def consoles(self, nodes):
        """What the consoles of nodes said, by one connection: bytes by node."""
        # A word of its own between two, which no guest can know.
        mark = os.urandom(16).hex()
        script = ''.join(f'vol-download --pool {self._pool} {_stem(node)}.console.log /dev/stdout; '
                         f'echo {mark}; ' for node in nodes)
        told = self._host.virsh(script, statuses=(0, 1)).stdout
        return dict(zip(nodes, told.split(mark.encode())))

    def tail(self, node):
        """The node's console log, to be read as it grows."""
        return VolumeTail(self._host, self._pool, f'{_stem(node)}.console.log')

    def remove(self, cluster):
        """Remove disks and consoles of a cluster that has no domain any more."""
        self._delete([name for name in self._volumes() if name.startswith(f'{cluster}_')])


class VolumeTail:
    """A console log that is a volume of a pool, read as it grows."""

    seconds = 2
    """How often it is worth reading: each time is a connection to the host."""

    def __init__(self, host, pool, name):
        self._host = host
        self._words = '--pool', pool, name, '/dev/stdout'
        self._position = 0

    def read(self):
        """What was added since the last time, bytes; the first time all that there is."""
        # Status 1: there is none where the node was never started.
        data = self._host.virsh('vol-download', *self._words, '--offset', str(self._position),
                                statuses=(0, 1)).stdout
        self._position += len(data)
        return data


def _stem(node):
    return f"{node.getparent().get('name')}_{node.get('name')}"
