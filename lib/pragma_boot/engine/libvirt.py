"""A host: what libvirt knows of it and does on it, asked through virsh; and several of them."""
import functools
import os
import pwd
import re

from lxml import etree

from ..system import process, workers
from ..system.failure import Failure
from . import session
from .domain import METADATA

ACTIVE = (1, 2, 3, 4)
"""Of virDomainState: running, blocked, paused, being shut down."""

ENDED_AT_ONCE = 8
"""Domains ended at a time, as most of it is waiting until their QEMUs are gone."""


class Host:
    """One libvirt URI, as the site's settings name it."""

    keeps_disks = False
    """Whether nodes' disks are made and removed with what they belong to, by the host itself."""

    def __init__(self, uri, settings):
        self.uri = uri
        self._settings = settings
        self._connection = None

    def virsh(self, *command, input=None, statuses=(0,)):
        """Run one virsh command; the CompletedProcess. Raises Failure in libvirt's words."""
        if self._connection is None:
            self._connection = session.connection(self.uri, self._settings['session_user'])
        done = process.run(['virsh', '-q', '-c', self._connection, *command],
                           f"libvirt at '{self.uri}'", input=input, statuses=(0, 1))
        if done.returncode not in statuses:
            lines = [line.removeprefix('error: ') for line
                     in done.stderr.decode(errors='replace').splitlines() if line.strip()]
            raise Failure(f"libvirt at '{self.uri}': {'; '.join(lines) or command[0] + ' failed'}")
        return done

    @property
    def server(self):
        """The [user@]name of the host's server in its URI, '' for this machine."""
        found = re.match('[a-z0-9+]+://([^/:]*)', self.uri)
        return found[1] if found else ''

    def give(self, path):
        """Give a file to the user that QEMU runs as on this host, and to nobody else."""
        user = self._user
        if user:
            os.chown(path, *user)
        os.chmod(path, 0o600)

    def admit(self, folder):
        """Let QEMU's user into a folder of ours; raises Failure where it cannot get there."""
        user = self._user
        if user is None:
            # QEMU is we ourselves; or libvirt's, and all that it needs is a way through.
            os.chmod(folder, 0o700 if self.uri == session.URI else 0o711)
            return
        os.chown(folder, -1, user[1])
        os.chmod(folder, 0o710)
        if process.run(['setpriv', f'--reuid={user[0]}', f'--regid={user[1]}',
                        '--clear-groups', 'test', '-x', folder],
                       f'cannot become user {user[0]}', statuses=(0, 1)).returncode:
            raise Failure(f"user '{pwd.getpwuid(user[0]).pw_name}', as which QEMU runs, cannot reach "
                          f"'{folder}': choose a temporary_directory below folders that all may enter")

    @functools.cached_property
    def _user(self):
        """The user and group ids that QEMU runs as where they are not ours, else None."""
        if os.geteuid() != 0:
            return None
        if self.uri == session.URI:
            account = session.account(self._settings['session_user'])
            return account.pw_uid, account.pw_gid
        told = etree.fromstring(self.virsh('capabilities').stdout)
        label = told.findtext("host/secmodel[model='dac']/baselabel")
        ids = re.fullmatch(r'\+(\d+):\+(\d+)', label or '')
        return (int(ids[1]), int(ids[2])) if ids and int(ids[1]) else None

    def size(self):
        """The host's CPUs and memory in KiB."""
        # Not nodeinfo's memory, which leaves out what was plugged in after the boot (libvirt 9).
        told = self.virsh('nodeinfo; nodememstats').stdout.decode()
        return (int(re.search(r'^CPU\(s\):\s+(\d+)', told, re.M)[1]),
                int(re.search(r'^total\s*:\s+(\d+) KiB', told, re.M)[1]))

    def domains(self):
        """Every domain, ours or not, running or defined: {name: {'state', 'cpus', 'memory'}}."""
        found, name = {}, None
        answer = self.virsh('domstats', '--raw', '--state', '--vcpu', '--balloon').stdout.decode()
        for line in answer.splitlines():
            line = line.strip()
            if line.startswith("Domain: '"):
                name = line[len("Domain: '"):-1]
                found[name] = {}
            elif name and '=' in line:
                key, value = line.split('=', 1)
                found[name][key] = value
        return {name: {'state': int(facts.get('state.state', 0)),
                       'cpus': int(facts.get('vcpu.maximum', 0)),
                       'memory': int(facts.get('balloon.maximum', 0))}
                for name, facts in found.items()}

    def xml(self, name):
        """The <domain> that libvirt has under a name."""
        return etree.fromstring(self.virsh('dumpxml', '--domain', name).stdout)

    def cluster_of(self, name):
        """The cluster that a domain says it belongs to, None where it is not ours."""
        mark = self.xml(name).find(f'metadata/{{{METADATA}}}node')
        return mark.get('cluster') if mark is not None else None

    def started(self, name):
        """When a domain was started, in seconds since the epoch."""
        return int(self.xml(name).find(f'metadata/{{{METADATA}}}node').get('started'))

    def probe(self):
        """None where a guest runs under KVM, else why it does not; raises Failure."""
        from . import acceleration
        return acceleration.probe(self)

    def definition(self, root, node, acceleration, console, started):
        """The libvirt <domain> of a node."""
        from . import domain
        return domain.build(root, node, acceleration, console, started)

    def plan(self, root, folder, places):
        """What makes the disks of a document's nodes."""
        from ..image import injection
        return injection.Plan(root, folder, places)

    def start(self, define, name, paused=False, validate=True, known=False):
        """Define the domain that ``define`` makes, checked by libvirt's schema or not, and start it.

        One that is ``known``, of an earlier boot, is forgotten first. What is not started is not left
        defined.
        """
        if known:
            self.stop(name)
        self.virsh('define', '/dev/stdin', *(['--validate'] if validate else []), input=etree.tostring(define()))
        try:
            self.virsh('start', '--domain', name, *(['--paused'] if paused else []))
        except BaseException:
            # Somebody else's vc-boot may have started it in this moment: then it is well.
            if self.domains().get(name, {}).get('state') in ACTIVE:
                return
            self.virsh('undefine', '--domain', name, statuses=(0, 1))
            raise

    def press_power(self, name, seconds):
        """Ask a guest to stop, by its ACPI power button; one that is gone is no error.

        An engine that ends it by force itself does after ``seconds``.
        """
        self.virsh('shutdown', '--domain', name, '--mode', 'acpi', statuses=(0, 1))

    def end(self, name):
        """End a domain at once and keep it defined; one that is gone is no error."""
        self.virsh('destroy', '--domain', name, statuses=(0, 1))

    def clear(self, cluster):
        """End and undefine every domain of a cluster; their names."""
        # By the domains' own words, not the document's nodes: a half-made cluster has no document.
        names = [name for name in sorted(self.domains())
                 if name.startswith(f'{cluster}-') and self.cluster_of(name) == cluster]
        self.stop(*names)
        return names

    def stop(self, *names):
        """End domains at once and forget them; one that is gone is no error."""
        def forget(name):
            self.end(name)
            self.virsh('undefine', '--domain', name, '--nvram', statuses=(0, 1))
        workers.each(forget, names, ENDED_AT_ONCE)
        for name in set(names) & set(self.domains()):
            raise Failure(f"libvirt at '{self.uri}' keeps domain '{name}'")
