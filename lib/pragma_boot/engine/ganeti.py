"""Ganeti as an engine: a Ganeti cluster, which places instances on nodes of its own.

A node's ``host`` is ganeti://MASTER before Ganeti has placed it, ganeti://MASTER/NODE afterwards.
An instance carries its cluster's name as a tag.
"""
import contextlib
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from lxml import etree

from ..document.tree import domain_name
from ..system.failure import Failure, Shortage
from ..system.settings import Settings
from . import instance, storage
from .instance import CLUSTER
from .protocol import (
    RUNNING,
    STOPPED,
    UNKNOWN,
    Domain,
    Folders,
    Plan,
    SavedStates,
    Snapshots,
    Storage,
    Unsupported,
)
from .rapi import ENDED, Missing, Rapi

STARTED = 'pragma_boot:started:'
"""The tag that tells when an instance was started, in seconds since the epoch."""

STATES = {'running': RUNNING, 'ERROR_up': RUNNING, 'ERROR_wrongnode': RUNNING,
          'ERROR_down': STOPPED, 'ADMIN_down': STOPPED, 'USER_down': STOPPED,
          'ADMIN_offline': STOPPED}
"""States by Ganeti's own. The state of an instance whose node is down is unknown."""

ROOM = 10 ** 9
"""CPUs and KiB of a cluster: no limit of ours. Ganeti decides when it places the instances."""


class Ganeti:
    """One Ganeti cluster, by the URI of its master."""

    server = ''
    reports = True
    resizes = True

    def __init__(self, uri: str, settings: Settings) -> None:
        self.uri = uri
        self._settings = settings
        if not settings['ganeti_credentials']:
            settings.refuse('ganeti_credentials', 'a file with a user and a password')
        self._rapi = Rapi(uri, settings.path_of('ganeti_credentials'),
                          settings['ganeti_ca'] and settings.path_of('ganeti_ca'))

    def give(self, path: str) -> None:
        """Restrict a file to root: Ganeti runs QEMU as root."""
        os.chmod(path, 0o600)

    def admit(self, folder: str) -> None:
        """Restrict a folder to root: Ganeti runs QEMU as root."""
        os.chmod(folder, 0o700)

    def capacity(self) -> tuple[int, int]:
        """CPUs, and memory in KiB: more than any cluster asks for."""
        return ROOM, ROOM

    def probe(self) -> str | None:
        """None where the Ganeti cluster is configured to use KVM, else its parameter."""
        parameters = self._rapi.ask('GET', '/2/info')['hvparams']['kvm']
        return None if parameters['kvm_flag'] == 'enabled' else f"kvm_flag={parameters['kvm_flag']}"

    def _instances(self) -> list[dict]:
        return self._rapi.ask('GET', '/2/instances', bulk=1)

    def domains(self, nodes: list[etree._Element] | None = None) -> dict[str, Domain]:
        """The Domain of each instance by its name: all, ours or not."""
        return {one['name']: Domain(STATES.get(one['status'], UNKNOWN), one['beparams']['vcpus'],
                                    one['beparams']['maxmem'] << 10, f"{self.uri}/{one['pnode']}",
                                    _tagged(one['tags'], CLUSTER) or '')
                for one in self._instances()}

    def _tags(self, name: str) -> list[str]:
        return self._rapi.ask('GET', f'/2/instances/{name}/tags')

    def marked(self, node: etree._Element, domain: Domain) -> bool:
        """Whether the instance has the tag of the node's cluster and ledger."""
        return domain.mark == instance.mark(node.getparent())

    def started(self, node: etree._Element) -> int:
        """When the instance was started, in seconds since the epoch."""
        return int(_tagged(self._tags(domain_name(node)), STARTED) or 0)

    def storage(self, ledger: Folders, node: etree._Element | None = None) -> Storage:
        """Disks that Ganeti makes and removes with their instances."""
        return storage.WithInstances(self, ledger)

    def definition(self, root: etree._Element, node: etree._Element, acceleration: str,
                   console: str, started: float) -> etree._Element:
        """Raises Failure: an instance has no libvirt <domain>."""
        raise Failure(f"'{domain_name(node)}' is an instance of Ganeti, not a libvirt domain: "
                      f"'gnt-instance info {domain_name(node)}' shows it")

    def start(self, node: etree._Element, define: Callable[[], etree._Element],
              paused: bool = False, validate: bool = True, known: bool = False) -> None:
        """Start an instance, whose definition Ganeti has."""
        name = domain_name(node)
        if paused:
            raise Failure(f"instance '{name}' cannot be started paused: "
                          "Ganeti's REST API does not offer it")
        old = [tag for tag in self._tags(name) if tag.startswith(STARTED)]
        if old:
            self._rapi.do('DELETE', f'/2/instances/{name}/tags', f'untag {name}', tag=old[0])
        self._rapi.do('PUT', f'/2/instances/{name}/tags', f'tag {name}',
                      tag=f'{STARTED}{int(time.time())}')
        self._rapi.do('PUT', f'/2/instances/{name}/startup', f'start {name}')

    def shutdown(self, nodes: list, seconds: int) -> None:
        """Ask guests to shut down; Ganeti destroys them after ``seconds``.

        No error where one is gone.
        """
        for node in nodes:
            with contextlib.suppress(Missing):
                self._rapi.ask('PUT', f'/2/instances/{domain_name(node)}/shutdown',
                               {'timeout': seconds})

    def destroy(self, node: etree._Element) -> None:
        """Stop an instance at once and keep it; no error where it is gone."""
        name = domain_name(node)
        try:
            self._rapi.do('PUT', f'/2/instances/{name}/shutdown', f'stop {name}', {'timeout': 0})
        except Missing:
            return

    def remove(self, nodes: list) -> None:
        """Remove the instances of ``nodes``, those that are being made too."""
        self._cancel_all(instance.mark(nodes[0].getparent()))
        domains = self.domains()
        self._remove([name for node in nodes if (name := domain_name(node)) in domains
                      and self.marked(node, domains[name])])

    def snapshots(self) -> Snapshots:
        """Raises Unsupported: Ganeti's own snapshots are for backups of LVM disks."""
        raise Unsupported(f"no snapshots: '{self.uri}' cannot take them of its instances")

    def saved_states(self) -> SavedStates:
        """Raises Unsupported: Ganeti restores no instance under another name."""
        raise Unsupported(f"no saved states: '{self.uri}' restores no instance under another "
                          'name')

    def clear(self, cluster: str, ledger: str) -> list[str]:
        """Remove every instance of a cluster, those that are being made too; their names."""
        mark = instance.tag_value(ledger, cluster)
        self._cancel_all(mark)
        names = sorted(one['name'] for one in self._instances()
                       if _tagged(one['tags'], CLUSTER) == mark)
        self._remove(names)
        return names

    def _cancel_all(self, mark: str) -> None:
        """Cancel the jobs that make instances with a cluster's tag."""
        while pending := [job for job in self._rapi.ask('GET', '/2/jobs', bulk=1)
                          if job['status'] not in ENDED and _makes(job, mark)]:
            for job in pending:
                self._cancel(job['id'])

    def _cancel(self, job: Any) -> list:
        """Cancel a job, or wait for its end; its results where it succeeded, else []."""
        self._rapi.ask('DELETE', f'/2/jobs/{job}')
        try:
            return self._rapi.follow(job, 'canceled')
        except Failure:
            return []

    def _remove(self, names: list[str]) -> None:
        jobs = {name: self._rapi.ask('DELETE', f'/2/instances/{name}', {'shutdown_timeout': 0})
                for name in names}
        for name, job in jobs.items():
            self._rapi.follow(job, f'remove {name}')

    def plan(self, root: etree._Element, folder: str, storages: dict[str, Storage],
             publish: Callable[[], None]) -> Plan:
        """How Ganeti makes the disks of a document's nodes: with their instances."""
        return instance.Plan(root, folder, self, storages[self.uri], self._settings, publish)

    def create(self, instances: list[dict]) -> dict[str, str]:
        """Make instances, placed by Ganeti's allocator, all or none; their hosts' URIs by name.

        Raises Shortage where there is no room for all.
        """
        names = [instance['instance_name'] for instance in instances]
        placing = self._rapi.ask('POST', '/2/instances-multi-alloc', {'instances': instances})
        try:
            placed, = self._rapi.follow(placing, f'place {len(names)} instances')
            if failed := placed['failed']:
                raise self._rapi.failure(
                    f'job {placing}: no room for {len(failed)} of {len(names)} instances: '
                    f"{', '.join(sorted(failed))}", Shortage)
            for (_, job), name in zip(placed['jobs'], placed['allocatable'], strict=True):
                self._rapi.follow(job, f'make {name}')
            domains = self.domains()
            return {name: domains[name].host for name in names}
        except BaseException:
            self._undo(placing)
            raise

    def _undo(self, placing: Any) -> None:
        """Cancel the job of a placement, and remove the instances that it made."""
        for placed in self._cancel(placing):
            for _, job in placed['jobs']:
                self._cancel(job)
            existing = {one['name'] for one in self._instances()}
            self._remove([name for name in placed['allocatable'] if name in existing])


def _tagged(tags: Iterable[str], kind: str) -> str | None:
    """The value of the first tag with the prefix ``kind``, None where there is none."""
    return next((tag[len(kind):] for tag in tags if tag.startswith(kind)), None)


def _makes(job: dict, mark: str) -> bool:
    """Whether a job makes instances with a cluster's tag."""
    made = [one for operation in job['ops']
            for one in (operation, *operation.get('instances', ()))]
    return any(_tagged(one.get('tags') or (), CLUSTER) == mark for one in made)
