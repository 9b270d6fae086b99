"""A host: what libvirt knows of it and does on it, asked through virsh."""
import os
import re
import time

from lxml import etree

from . import files, process, session, tool
from .failure import Failure

METADATA = 'urn:pragma_boot:node'
"""The namespace of the <metadata> by which a domain tells the cluster and node it is."""

ACTIVE = (1, 2, 3, 4)
"""Of virDomainState: running, blocked, paused, being shut down."""

PROBE_SECONDS = 15

PROBE = '''<domain type='kvm'>
  <name>pragma-boot-probe-{pid}</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64'>hvm</type><bios rebootTimeout='0'/></os>
  <cpu mode='host-passthrough'/>
  <on_reboot>destroy</on_reboot>
  <devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
</domain>'''
"""The smallest guest: firmware that finds no disk and restarts, which ends the domain."""


class Host:
    """One libvirt URI, as the site's settings name it."""

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

    def give(self, path):
        """Give a file to the user that QEMU runs as on this host, and to nobody else."""
        user = self._user()
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)
        os.chmod(path, 0o600)

    def admit(self, folder):
        """Let QEMU's user into a folder of ours; raises Failure where it cannot get there."""
        user = self._user()
        if user:
            os.chown(folder, -1, user.pw_gid)
        os.chmod(folder, 0o710)
        if user and process.run(['setpriv', f'--reuid={user.pw_uid}', f'--regid={user.pw_gid}',
                                 '--clear-groups', 'test', '-x', folder],
                                f"cannot become user '{user.pw_name}'", statuses=(0, 1)).returncode:
            raise Failure(f"user '{user.pw_name}', as which QEMU runs, cannot reach '{folder}': "
                          'choose a temporary_directory below folders that all may enter')

    def _user(self):
        """The passwd entry of QEMU's user where it is not we ourselves, else None."""
        if self.uri == session.URI and os.geteuid() == 0:
            return session.account(self._settings['session_user'])
        return None

    def size(self):
        """The host's CPUs and memory in KiB."""
        cpus = self.virsh('nodeinfo').stdout.decode()
        # Not nodeinfo's memory, which leaves out what was plugged in after the boot (libvirt 9).
        memory = self.virsh('nodememstats').stdout.decode()
        return (int(re.search(r'^CPU\(s\):\s+(\d+)', cpus, re.M)[1]),
                int(re.search(r'^total\s*:\s+(\d+) KiB', memory, re.M)[1]))

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

    def start(self, domain, name, paused=False):
        """Define a domain and start it; what is not started is not left defined."""
        self.virsh('define', '/dev/stdin', '--validate', input=etree.tostring(domain))
        try:
            self.virsh('start', '--domain', name, *(['--paused'] if paused else []))
        except BaseException:
            # Somebody else's vc-boot may have started it in this moment: then it is well.
            if self.domains().get(name, {}).get('state') in ACTIVE:
                return
            self.virsh('undefine', '--domain', name, statuses=(0, 1))
            raise

    def press_power(self, name):
        """Ask a guest to stop, by its ACPI power button; one that is gone is no error."""
        self.virsh('shutdown', '--domain', name, '--mode', 'acpi', statuses=(0, 1))

    def end(self, name):
        """End a domain at once and keep it defined; one that is gone is no error."""
        self.virsh('destroy', '--domain', name, statuses=(0, 1))

    def stop(self, name):
        """End a domain at once and forget it; one that is gone is no error."""
        self.end(name)
        self.virsh('undefine', '--domain', name, '--nvram', statuses=(0, 1))
        if name in self.domains():
            raise Failure(f"libvirt at '{self.uri}' keeps domain '{name}'")

    def acceleration(self, cache):
        """'kvm' where a guest runs under it on this host, else 'tcg', as settings or a probe say.

        The probe's answer is kept in the file ``cache`` until the host boots again.
        """
        if self._settings['accel'] != 'auto':
            return self._settings['accel']
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as file:
            question = f'{file.read().strip()} {self.uri}'
        try:
            with open(cache, encoding='utf-8') as file:
                told, _, answer = file.read().rpartition(' ')
            if told == question and answer in ('kvm', 'tcg'):
                return answer
        except (OSError, UnicodeDecodeError):
            pass
        reason = self._probe()
        answer = 'tcg' if reason else 'kvm'
        if reason:
            tool.warn(f'KVM cannot be used ({reason}): guests run under TCG, which is slower')
        files.write(cache, f'{question} {answer}'.encode())
        return answer

    def _probe(self):
        """Run the smallest guest under KVM; None where it ran, else why it did not."""
        name = f'pragma-boot-probe-{os.getpid()}'
        try:
            self.virsh('create', '/dev/stdin', input=PROBE.format(pid=os.getpid()).encode())
            deadline = time.monotonic() + PROBE_SECONDS
            while name in self.domains():
                if time.monotonic() > deadline:
                    return f'a guest did not run in {PROBE_SECONDS} s'
                time.sleep(0.1)
        except Failure as error:
            # QEMU's own word where it has one, else the last and most exact of libvirt's.
            told = str(error).split('; ')
            return next((part.rsplit('error: ', 1)[1] for part in told if 'error: ' in part),
                        told[-1])
        finally:
            self.end(name)
        return None
