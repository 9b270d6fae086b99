"""libvirt as an engine: one host, asked through virsh."""
import functools
import os
import pwd
import re
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from lxml import etree

from ..document.tree import domain_name, domain_uuid
from ..image import injection
from ..system import process
from ..system.failure import Failure
from ..system.settings import Settings
from . import batch, capabilities, domain, probe, protocol, session, storage, volume
from .domain import METADATA
from .protocol import FAILED, PAUSED, RUNNING, STOPPED, UNKNOWN, Domain, Unsupported

if TYPE_CHECKING:
    import subprocess

STATES = {1: RUNNING, 2: RUNNING, 3: PAUSED, 4: RUNNING, 5: STOPPED, 6: FAILED, 7: STOPPED}
"""virDomainState: running, blocked, paused, in shutdown, shut off, crashed, suspended to disk."""


class Libvirt:
    """One libvirt URI."""

    reports = True
    resizes = True

    def __init__(self, uri: str, settings: Settings) -> None:
        self.uri = uri
        self._settings = settings
        self._connection = ''

    def virsh(self, *command: str, input: bytes | None = None,
              statuses: Collection[int] = (0,)) -> 'subprocess.CompletedProcess[bytes]':
        """Run one virsh command; the CompletedProcess. Raises Failure in libvirt's words."""
        if not self._connection:
            self._connection = session.connection(self.uri, self._settings['session_user'])
        # virsh gives up a connection that is silent for 30 s, as a daemon on a busy machine may be.
        # On this machine, a daemon that has exited is noticed without that.
        patience = [] if self.server else ['--keepalive-interval', '0']
        done = process.run(['virsh', '-q', *patience, '-c', self._connection, *command],
                           f"libvirt at '{self.uri}'", input=input, statuses=(0, 1))
        if done.returncode not in statuses:
            reason = batch.lines(done.stderr) or f'{command[0]} failed'
            raise Failure(f"libvirt at '{self.uri}': {reason}")
        return done

    @property
    def server(self) -> str:
        """The [user@]name of the server in the URI; '' for this machine."""
        return self.uri.partition('://')[2].partition('/')[0].partition(':')[0]

    def give(self, path: str) -> None:
        """Give a file to the user that QEMU runs as on this host, and to nobody else."""
        if self._user:
            os.chown(path, *self._user)
        os.chmod(path, 0o600)

    def admit(self, folder: str) -> None:
        """Let the user that QEMU runs as into a folder.

        Raises Failure where that user cannot reach it.
        """
        user = self._user
        if user is None:
            # QEMU runs as we do; or as libvirt's user, which needs to pass through the folder only.
            os.chmod(folder, 0o700 if self.uri == session.URI else 0o711)
            return
        os.chown(folder, -1, user[1])
        os.chmod(folder, 0o710)
        if process.run(['setpriv', f'--reuid={user[0]}', f'--regid={user[1]}',
                        '--clear-groups', 'test', '-x', folder],
                       f'cannot become user {user[0]}', statuses=(0, 1)).returncode:
            raise Failure(f"user '{pwd.getpwuid(user[0]).pw_name}', which QEMU runs as, cannot "
                          f"reach '{folder}': choose a temporary_directory in folders that every "
                          'user may enter')

    @functools.cached_property
    def _user(self) -> tuple[int, int] | None:
        """The user and group ids that QEMU runs as where they are not ours, else None."""
        if os.geteuid() != 0:
            return None
        if self.uri == session.URI:
            account = session.account(self._settings['session_user'])
            return account.pw_uid, account.pw_gid
        capabilities = etree.fromstring(self.virsh('capabilities').stdout)
        label = capabilities.findtext("host/secmodel[model='dac']/baselabel")
        ids = re.fullmatch(r'\+(\d+):\+(\d+)', label or '')
        return (int(ids[1]), int(ids[2])) if ids and int(ids[1]) else None

    def capacity(self) -> tuple[int, int]:
        """CPUs, and memory in KiB, that the host has in all."""
        # nodeinfo's own memory leaves out memory that was plugged in after the boot (libvirt 9).
        answer = self.virsh('nodeinfo; nodememstats').stdout.decode()
        return (int(re.findall(r'^CPU\(s\):\s+(\d+)', answer, re.M)[0]),
                int(re.findall(r'^total\s*:\s+(\d+) KiB', answer, re.M)[0]))

    def domains(self, nodes: list[etree._Element] | None = None) -> dict[str, Domain]:
        """The Domain of each domain by its name: all, ours or not.

        For ``nodes``, without CPUs and memory: libvirt asks each QEMU for those, and waits for one
        that is busy.
        """
        more = ' --vcpu --balloon' if nodes is None else ''
        return {name: Domain(STATES.get(int(facts.get('state.state', 0)), UNKNOWN),
                             int(facts.get('vcpu.maximum', 0)),
                             int(facts.get('balloon.maximum', 0)), self.uri, facts.get('uuid', ''))
                for name, facts in batch.statistics(self.virsh, more).items()}

    def marked(self, node: etree._Element, domain: Domain) -> bool:
        """Whether the domain has the UUID that was made from the node and its ledger."""
        return domain.mark == domain_uuid(node)

    @staticmethod
    def _mark(definition: bytes) -> etree._Element | None:
        """The <pragma:node> in a domain's metadata, None where the domain is not ours."""
        return etree.fromstring(definition).find(f'metadata/{{{METADATA}}}node')

    def started(self, node: etree._Element) -> int:
        """When the node's domain was started, in seconds since the epoch."""
        mark = self._mark(self.virsh('dumpxml', '--domain', domain_name(node)).stdout)
        return int(mark.get('started')) if mark is not None else 0

    def probe(self) -> str | None:
        """None where guests run under KVM, else the reason why they do not."""
        return probe.kvm(self)

    def storage(self, ledger: protocol.Folders,
                node: etree._Element | None = None) -> protocol.Storage:
        """A storage pool or the clusters' folders, by the node's <disk>, else by the settings."""
        if node is None:
            _, pool = self._settings.kind('storage', ('shared', 'pool:'))
        else:
            pool = node.xpath('string(disk/@pool)')
        return volume.Pool(self, pool, ledger) if pool else storage.Shared(self, ledger)

    def definition(self, root: etree._Element, node: etree._Element, acceleration: str,
                   console: str, started: float) -> etree._Element:
        """The libvirt <domain> of a node."""
        return domain.build(root, node, acceleration, console, started, lambda: self._has_passt)

    @functools.cached_property
    def _has_passt(self) -> bool:
        """Whether guests in user mode can be kept from this machine's loopback interface."""
        return (capabilities.knows('interface') and session.runs_our_passt(self.uri)
                and 'passt' in capabilities.values(self, 'interface', 'backendType'))

    def plan(self, root: etree._Element, folder: str, storages: dict[str, protocol.Storage],
             publish: Callable[[], None]) -> protocol.Plan:
        """How the disks of a document's nodes are made: here, as overlays."""
        return injection.Plan(root, folder, storages)

    def start(self, node: etree._Element, define: Callable[[], etree._Element],
              paused: bool = False, validate: bool = True, known: bool = False) -> None:
        """Define the node's domain and start it; one that does not start is not newly defined."""
        name = domain_name(node)
        session.require_room(self.uri, name)
        if known:
            # Redefined, not undefined before: the variables of its UEFI stay.
            self._destroy(name)
        definition = define()
        if known:
            # By itself: where the old definition cannot be replaced, it must not be started.
            try:
                self.virsh('define', '/dev/stdin', *(['--validate'] if validate else []),
                           input=etree.tostring(definition))
            except Failure as failure:
                raise capabilities.explained(failure, definition, self) from None
        try:
            if known:
                self.virsh('start', '--domain', name, *(['--paused'] if paused else []))
            else:
                self._define_and_start(node, definition, validate, paused)
        except BaseException:
            if domain.is_active(self, node):
                return
            if not known:
                self.virsh('undefine', '--domain', domain_uuid(node), '--nvram', statuses=(0, 1))
            raise

    def _define_and_start(self, node: etree._Element, definition: etree._Element, validate: bool,
                          paused: bool) -> None:
        """Define a new domain and start it; raises Failure."""
        is_defined, reason = batch.defined_and_started(
            self.virsh, etree.tostring(definition), domain_uuid(node), validate, paused)
        if reason:
            failure = Failure(f"libvirt at '{self.uri}': {reason}")
            raise failure if is_defined else capabilities.explained(failure, definition, self)

    def shutdown(self, nodes: list, seconds: int) -> None:
        """Press the ACPI power button of each guest; no error where a domain is gone."""
        for node in nodes:
            self.virsh('shutdown', '--domain', domain_name(node), '--mode', 'acpi', statuses=(0, 1))

    def destroy(self, node: etree._Element) -> None:
        """Stop the node's domain at once and keep its definition; no error where it is gone."""
        self._destroy(domain_name(node))

    def _destroy(self, name: str) -> None:
        self.virsh('destroy', '--domain', name, statuses=(0, 1))

    def remove(self, nodes: list) -> None:
        """Destroy and undefine the domains of ``nodes``; no error where one is gone."""
        domains = self.domains(nodes)
        self._undefine([name for node in nodes if (name := domain_name(node)) in domains
                        and self.marked(node, domains[name])])

    def snapshots(self) -> protocol.Snapshots:
        """Internal snapshots of the domains."""
        from . import snapshot
        return snapshot.Snapshots(self)

    def saved_states(self) -> protocol.SavedStates:
        """The states that libvirt on this machine saves; Unsupported for another machine's."""
        from . import saved
        if self.server:
            raise Unsupported(f"'{self.uri}' is another machine: no state is saved there")
        return saved.SavedStates(self)

    def clear(self, cluster: str, ledger: str) -> list[str]:
        """Destroy and undefine every domain of a cluster, complete or not; their names."""
        # By the domains' metadata, not the document's nodes: an incomplete cluster has no document.
        alike = [name for name in sorted(self.domains([])) if name.startswith(f'{cluster}-')]
        marks = {name: self._mark(definition) for name, definition
                 in batch.definitions(self.virsh, alike).items()}
        names = [name for name, mark in marks.items() if mark is not None and (
            mark.get('cluster'), mark.get('ledger', '')) == (cluster, ledger)]
        self._undefine(names)
        return names

    def _undefine(self, names: list[str]) -> None:
        """Destroy and undefine domains by their names; raises Failure for one that stays."""
        if names:
            batch.undefined(self.virsh, names)
            for name in set(names) & set(self.domains([])):
                raise Failure(f"libvirt at '{self.uri}' keeps domain '{name}'")
