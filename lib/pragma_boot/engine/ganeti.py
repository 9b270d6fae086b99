"""Ganeti as an engine: its cluster as a host that places instances on nodes of its own.

A node's ``host`` is ganeti://MASTER before Ganeti has placed it, ganeti://MASTER/NODE afterwards. What
Ganeti knows of an instance is asked for, never remembered: it carries its cluster's name as a tag.
"""
import os
import time

from ..system.failure import Failure, Shortage
from .domain import domain_name
from .rapi import ENDED, Missing, Rapi

CLUSTER, STARTED = 'pragma_boot:cluster:', 'pragma_boot:started:'
"""Tags: of which cluster an instance is; when it was started, in seconds since the epoch."""

STATES = {'running': 1, 'ERROR_up': 1, 'ERROR_wrongnode': 1,
          'ERROR_down': 5, 'ADMIN_down': 5, 'USER_down': 5, 'ADMIN_offline': 5}
"""Ganeti's states as virDomainState; of an instance whose node is down nobody knows: 0, no state."""

ROOM = 10 ** 9
"""CPUs and KiB of a cluster, to us: what there is room for Ganeti says when it is asked to place."""


class Ganeti:
    """A Ganeti cluster, with the methods of host.Host."""

    keeps_disks = True
    server = ''

    def __init__(self, uri, settings):
        self.uri = uri
        self._settings = settings
        if not settings['ganeti_credentials']:
            settings.refuse('ganeti_credentials', 'a file with a user and a password')
        self._rapi = Rapi(uri, settings.path_of('ganeti_credentials'),
                          settings['ganeti_ca'] and settings.path_of('ganeti_ca'))

    def give(self, path):
        """Keep a file to root, as whom Ganeti runs QEMU."""
        os.chmod(path, 0o600)

    def admit(self, folder):
        """Keep a folder to root, as whom Ganeti runs QEMU."""
        os.chmod(folder, 0o700)

    def size(self):
        """The cluster's CPUs and memory in KiB: more than anybody asks for."""
        return ROOM, ROOM

    def probe(self):
        """None where the cluster's administrator has KVM used, else why it is not."""
        parameters = self._rapi.ask('GET', '/2/info')['hvparams']['kvm']
        return None if parameters['kvm_flag'] == 'enabled' else f"kvm_flag={parameters['kvm_flag']}"

    def _instances(self):
        return self._rapi.ask('GET', '/2/instances', bulk=1)

    def domains(self):
        """Every instance, ours or not: {name: {'state', 'cpus', 'memory', 'host'}}."""
        return {found['name']: {'state': STATES.get(found['status'], 0),
                                'cpus': found['beparams']['vcpus'],
                                'memory': found['beparams']['maxmem'] << 10,
                                'host': f"{self.uri}/{found['pnode']}"}
                for found in self._instances()}

    def _tags(self, name):
        return self._rapi.ask('GET', f'/2/instances/{name}/tags')

    def cluster_of(self, name):
        """The cluster that an instance's tag says it belongs to, None where it is not ours."""
        return _tagged(self._tags(name), CLUSTER)

    def started(self, name):
        """When an instance was started, in seconds since the epoch."""
        return int(_tagged(self._tags(name), STARTED) or 0)

    def definition(self, root, node, acceleration, console, started):
        """There is no libvirt domain to be shown: raises Failure."""
        raise Failure(f"'{domain_name(node)}' is an instance of Ganeti, no domain of libvirt: "
                      f"'gnt-instance info {domain_name(node)}' shows it")

    def start(self, define, name, paused=False, validate=True, known=True):
        """Start an instance; its definition is Ganeti's."""
        if paused:
            raise Failure(f"instance '{name}' cannot be started paused: Ganeti's REST API does not offer it")
        old = [tag for tag in self._tags(name) if tag.startswith(STARTED)]
        if old:
            self._rapi.do('DELETE', f'/2/instances/{name}/tags', f'untag {name}', tag=old[0])
        self._rapi.do('PUT', f'/2/instances/{name}/tags', f'tag {name}', tag=f'{STARTED}{int(time.time())}')
        self._rapi.do('PUT', f'/2/instances/{name}/startup', f'start {name}')

    def press_power(self, name, seconds):
        """Ask a guest to stop; after ``seconds`` Ganeti ends it. One that is gone is no error."""
        try:
            self._rapi.ask('PUT', f'/2/instances/{name}/shutdown', {'timeout': seconds})
        except Missing:
            return

    def end(self, name):
        """End an instance at once and keep it; one that is gone is no error."""
        try:
            self._rapi.do('PUT', f'/2/instances/{name}/shutdown', f'stop {name}', {'timeout': 0})
        except Missing:
            return

    def clear(self, cluster):
        """End and remove all instances of a cluster, those being made too; their names."""
        while pending := [job for job in self._rapi.ask('GET', '/2/jobs', bulk=1)
                          if job['status'] not in ENDED and _makes(job, cluster)]:
            for job in pending:
                self._cancel(job['id'])
        names = sorted(found['name'] for found in self._instances()
                       if _tagged(found['tags'], CLUSTER) == cluster)
        self._remove(names)
        return names

    def _cancel(self, job):
        """Cancel a job, or wait until it has ended; its results where it succeeded, else []."""
        self._rapi.ask('DELETE', f'/2/jobs/{job}')
        try:
            return self._rapi.follow(job, 'canceled')
        except Failure:
            return []

    def _remove(self, names):
        jobs = {name: self._rapi.ask('DELETE', f'/2/instances/{name}', {'shutdown_timeout': 0}) for name in names}
        for name, job in jobs.items():
            self._rapi.follow(job, f'remove {name}')

    def plan(self, root, folder, places):
        """What has Ganeti make the disks of a document's nodes."""
        from .instance import Plan
        return Plan(root, folder, self, places[self.uri], self._settings)

    def create(self, instances):
        """Make instances, placed by Ganeti's allocator, all or none; their nodes' URIs by name.

        Raises Shortage where there is not room for all.
        """
        names = [instance['instance_name'] for instance in instances]
        placing = self._rapi.ask('POST', '/2/instances-multi-alloc', {'instances': instances})
        try:
            told, = self._rapi.follow(placing, f'place {len(names)} instances')
            if told['failed']:
                raise self._rapi.failure(f"job {placing}: no room for {len(told['failed'])} of {len(names)} "
                                         f"instances: {', '.join(sorted(told['failed']))}", Shortage)
            for (_, job), name in zip(told['jobs'], told['allocatable']):
                self._rapi.follow(job, f'make {name}')
            there = self.domains()
            return {name: there[name]['host'] for name in names}
        except BaseException:
            self._undo(placing)
            raise

    def _undo(self, placing):
        """Remove what the job of a placement made, or would have."""
        for told in self._cancel(placing):
            for _, job in told['jobs']:
                self._cancel(job)
            there = {found['name'] for found in self._instances()}
            self._remove([name for name in told['allocatable'] if name in there])


def _tagged(tags, kind):
    """What a tag says, None where there is none of its kind."""
    return next((tag[len(kind):] for tag in tags if tag.startswith(kind)), None)


def _makes(job, cluster):
    """Whether a job makes instances of a cluster."""
    made = [one for operation in job['ops'] for one in (operation, *operation.get('instances', ()))]
    return any(_tagged(one.get('tags') or (), CLUSTER) == cluster for one in made)
