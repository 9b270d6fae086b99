"""Starting a cluster's nodes in the order that their <boot_dependency> asks for, and waiting."""
import time
from concurrent.futures import ThreadPoolExecutor

from . import console, domain, node as nodes, tool
from .document import boot_dependency, cluster, has_disk
from .failure import Failure
from .host import METADATA

POLL_SECONDS = 0.5
ASK_SECONDS = 5
"""How often consoles are read, and how often libvirt is asked, while waiting."""


class Boot:
    """One boot of (some of) a document's nodes on a host."""

    def __init__(self, root, folder, host, acceleration):
        self._root = root
        self._folder = folder
        self._host = host
        self._acceleration = acceleration

    def domain(self, node, started=0):
        """The node's libvirt domain."""
        return domain.build(self._root, node, self._acceleration,
                            console.path(self._folder, node.get('name')), started)

    def start(self, chosen, jobs, paused=False, wait=True):
        """Start the nodes that do not run, ``jobs`` at a time, each after what it depends on.

        What runs is left alone. Without ``wait`` dependencies are passed over. Raises Failure
        for the first node that cannot be started; the others that were begun are brought to
        their end.
        """
        domains = self._host.domains()
        for node in chosen:
            self._check(node, domains)
        missing = [node for node in chosen
                   if nodes.state(node, domains, self._folder) in (None, 'stopped')]
        first = [node for node in missing if not wait or self._dependency(node) is None]
        for group in (first, [node for node in missing if node not in first]):
            with ThreadPoolExecutor(max(jobs, 1)) as pool:
                if group and group is not first:
                    self._await_parent(group[0])
                list(pool.map(lambda node: self._start(node, domains, paused), group))

    def _check(self, node, domains):
        """Raise Failure for a node without its disk, or with somebody else's domain in its place."""
        name = domain.domain_name(node)
        if not has_disk(node):
            raise Failure(f"node '{node.get('name')}' has no disk: run vc-inject")
        if name in domains and self._host.cluster_of(name) != cluster(self._root).get('name'):
            raise Failure(f"libvirt at '{self._host.uri}' has a domain '{name}' that is not ours")

    def _start(self, node, domains, paused):
        name = domain.domain_name(node)
        if name in domains:
            self._host.stop(name)
        # Emptied here: libvirt would make it anew, in a folder that its user cannot write to.
        log = console.path(self._folder, node.get('name'))
        with open(log, 'wb'):
            pass
        self._host.give(log)
        self._host.start(self.domain(node, time.time()), name, paused)
        tool.detail(f"node '{node.get('name')}' is started")

    def _dependency(self, node):
        return boot_dependency(self._root, node.get('role'))

    def _await_parent(self, node):
        """Wait for what the nodes of a role depend on; raises Failure when its bound is over."""
        dependency = self._dependency(node)
        parent = next(other for other in cluster(self._root).iterfind('node')
                      if other.get('role') == dependency.parent)
        if nodes.state(parent, self._host.domains(), self._folder) in (None, 'stopped'):
            raise Failure(f"node '{node.get('name')}' depends on '{parent.get('name')}', "
                          'which does not run: boot it first')
        if dependency.type == 'clock':
            mark = self._host.xml(domain.domain_name(parent)).find(f'metadata/{{{METADATA}}}node')
            left = int(mark.get('started')) + dependency.seconds - time.time()
            if left > 0:
                tool.detail(f"waiting {left:.0f} s for '{parent.get('name')}'")
                time.sleep(left)
        else:
            self.wait([parent], dependency.seconds)

    def wait(self, chosen, seconds):
        """Wait until every node is ready, with a line for each on stderr.

        Raises Failure that names those that are not ready after ``seconds``, or that failed;
        nothing is stopped.
        """
        begin = time.monotonic()
        waiting, asked, domains = list(chosen), None, {}
        failed = []
        while waiting:
            now = time.monotonic()
            if asked is None or now - asked > ASK_SECONDS:
                domains, asked = self._host.domains(), now
            for node in list(waiting):
                told = nodes.state(node, domains, self._folder)
                if told in (None, 'stopped', 'failed', 'ready'):
                    waiting.remove(node)
                    if told == 'ready':
                        tool.warn(f"{node.get('name')} is ready after {now - begin:.0f} s")
                    else:
                        reason = console.said(self._folder, node.get('name')).get('failed')
                        failed.append(f"'{node.get('name')}' "
                                      f"{'does not run' if told != 'failed' else reason or 'failed'}")
            if now - begin > seconds:
                break
            if waiting:
                time.sleep(POLL_SECONDS)
        if waiting:
            failed.append(', '.join(f"'{node.get('name')}'" for node in waiting)
                          + f' not ready after {seconds} s')
        if failed:
            raise Failure(f"cluster '{cluster(self._root).get('name')}' is not ready: "
                          f"{'; '.join(failed)} (consoles: {self._folder}/*.console.log)")
