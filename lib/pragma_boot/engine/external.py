"""External drivers as an engine: the optional executables of a driver folder (pragma_boot-driver(7)).

A node's ``host`` is driver:NAME, or whatever a driver wrote into a document of its own. ``status``, ``start``,
``shutdown`` and ``clean`` are called as ``EXECUTABLE CLUSTER temp_directory vc_out_path [host_name]``.
"""
import os

from ..document.tree import host_name
from ..system import process
from ..system.failure import Failure
from . import storage
from .protocol import FAILED, READY, RUNNING, STOPPED, UNKNOWN, Domain

STATES = (RUNNING, READY, STOPPED, FAILED, UNKNOWN)
"""What ``status`` may print of a node."""


class External:
    """The driver that booted a cluster."""

    server = ''
    reports = False

    def __init__(self, uri, settings):
        self.uri = uri
        name = uri.partition(':')[2] if uri.startswith('driver:') else settings['ve_driver']
        self._folder = os.path.join(settings.path_of('drivers_path'), name)
        self._temp = settings.temporary_directory

    def _call(self, executable, cluster, *arguments):
        """Run an optional executable to its end; its output. Raises Failure, also where there is none."""
        path = os.path.join(self._folder, executable)
        if not os.access(path, os.X_OK):
            raise Failure(f"driver '{self._folder}' cannot {executable} clusters: "
                          f"it has no executable '{executable}'")
        vc_out_path = os.path.join(self._temp, 'clusters', cluster, 'vc-out.xml')
        return process.run([path, cluster, self._temp, vc_out_path, *arguments], f"driver '{path}'").stdout

    def capacity(self):
        """Raises Failure: only the driver itself allocates."""
        raise Failure(f"driver '{self._folder}' allocates by itself")

    def domains(self, nodes=None):
        """The Domain of each of ``nodes`` that ``status`` names, by its name."""
        domains = {}
        for cluster in sorted({node.getparent().get('name') for node in nodes or ()}):
            some = {host_name(node): node for node in nodes if node.getparent().get('name') == cluster}
            for line in self._call('status', cluster).decode(errors='replace').splitlines():
                name, _, state = line.strip().partition(' ')
                if name not in some or state.strip() not in STATES:
                    raise Failure(f"driver '{self._folder}': status printed '{line}', not the name of a node "
                                  f"and one of {', '.join(STATES)}")
                node = some[name]
                domains[f"{cluster}-{node.get('name')}"] = Domain(
                    state.strip(), int(node.get('cpus')), int(node.get('memory')), node.get('host'))
        return domains

    def marked(self, node, domain):
        """True: only the driver knows whose its machines are."""
        return True

    def started(self, node):
        """The epoch: a driver does not tell."""
        return 0

    def probe(self):
        """None: the driver decides."""

    def storage(self, ledger, node=None):
        """Disks and consoles that only the driver knows."""
        return storage.Elsewhere(self)

    def definition(self, root, node, acceleration, console, started):
        """Raises Failure: there is no libvirt <domain>."""
        raise Failure(f"node '{node.get('name')}' is not a libvirt domain: driver '{self._folder}' made it")

    def plan(self, root, folder, storages, publish):
        """Raises Failure: only the driver makes disks."""
        raise Failure(f"driver '{self._folder}' makes the disks of its nodes itself")

    def start(self, node, define, paused=False, validate=True, known=False):
        """Start a node by the driver's ``start``."""
        self._call('start', node.getparent().get('name'), host_name(node))

    def shutdown(self, nodes, seconds):
        """Shut nodes down by the driver's ``shutdown``."""
        for node in nodes:
            self._call('shutdown', node.getparent().get('name'), host_name(node))

    def destroy(self, node):
        """Raises Failure: the contract has no executable that stops a node at once."""
        raise Failure(f"node '{node.get('name')}' still runs: driver '{self._folder}' did not shut it down")

    def clear(self, cluster, ledger):
        """Remove all machines of a cluster by the driver's ``clean``."""
        self._call('clean', cluster)
        return [cluster]
