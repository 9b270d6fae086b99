"""Hosts for tests, all on this machine: each a real libvirtd in namespaces of its own.

``with Lab(3, folder) as lab:`` makes three hosts whose bridges are joined by a switch::

    network namespace of the switch            network namespace of each host
      bridge public, 192.0.2.1/24  -- veth --    bridge public, 192.0.2.200/24, .201, ...
      bridge private               -- veth --    bridge private

Both bridges pass tagged frames too. No route leads out of 192.0.2.0/24, nor to this machine.
Each host has its own hostname, process ids, /run and folders of libvirt's. Seen from outside the
latter lie in ``folder``, and so does the socket by which this machine's tools reach libvirtd.
They stay when the lab ends, to be looked at; all else is gone.
"""
import contextlib
import os
import shutil
import subprocess
import uuid
from pathlib import Path
from urllib.parse import quote

from lab.needs import do_without

BRIDGES = ('private', 'public')
IMAGES = '/var/lib/libvirt/images'

# The folders of a host and where its processes see them. All of /run, because this machine's
# services must not hear of the host's domains (as systemd-machined would by D-Bus).
MOUNTS = {'run': '/run', 'etc': '/etc/libvirt', 'lib': '/var/lib/libvirt',
          'cache': '/var/cache/libvirt', 'log': '/var/log/libvirt'}

# The first process of a host. It ends with its standard input, so at the latest when the test
# does, and then the kernel ends all others in its PID namespace. While it ignores SIGCHLD the
# kernel reaps what daemons leave to it: to libvirtd a zombie is a QEMU that refuses to end.
INIT = '''
set -eu
hostname "$1"; shift
while [ $# -gt 0 ]; do mount --bind "$1" "$2"; shift 2; done
echo ready
exec env --ignore-signal=CHLD cat
'''

LIBVIRTD = '''
host_uuid = "{uuid}"
auth_unix_rw = "none"
listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
auth_tcp = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
'''

# As on a real Debian host, with virtlogd, dynamic ownership and a /dev of each QEMU's own.
QEMU = '''
user = "libvirt-qemu"
group = "libvirt-qemu"
security_driver = "none"
'''


def need_namespaces():
    """Skip a test where hosts cannot be made; in CI, where they can, fail it."""
    trial = ('ip netns add "$0" && trap \'ip netns delete "$0"\' EXIT && ip netns exec "$0" '
             'unshare --uts --pid --fork --mount-proc ip link add public type bridge')
    done = subprocess.run(['sh', '-c', trial, f'pb{os.getpid()}trial'], stderr=subprocess.PIPE,
                          check=False)
    if done.returncode:
        do_without(f'no namespaces can be made here: {done.stderr.decode().strip()}')


def set_network(netns, *commands):
    """Run ip(8)'s commands in a network namespace."""
    subprocess.run(['ip', '-n', netns, '-batch', '-'], input='\n'.join(commands), text=True,
                   check=True)


@contextlib.contextmanager
def network(netns, address):
    """A network namespace with the bridges, ``address`` on the public one."""
    subprocess.run(['ip', 'netns', 'add', netns], check=True)
    try:
        subprocess.run(['ip', 'netns', 'exec', netns, 'sysctl', '-eqw',
                        'net.ipv6.conf.all.disable_ipv6=1',
                        'net.ipv6.conf.default.disable_ipv6=1'], check=True)
        set_network(netns, 'link set lo up',
                    *(f'link add {bridge} up type bridge' for bridge in BRIDGES),
                    f'address add {address}/24 dev public')
        yield
    finally:
        subprocess.run(['ip', 'netns', 'delete', netns], check=True)


class Host:
    """A host of a lab.

    ``uri`` reaches its libvirtd from outside all namespaces, ``tcp`` from inside the lab's network.
    """

    def __init__(self, number, folder):
        self.name = f'h{number}'
        self.netns = f'pb{os.getpid()}{self.name}'
        self.address = f'192.0.2.{200 + number}'
        self.tcp = f'qemu+tcp://{self.address}/system'
        self.folder = Path(folder).resolve() / self.name
        socket = str(self.folder / 'run/libvirt/libvirt-sock')
        assert len(socket.encode()) < 107, f'too long for a socket: {socket}'
        self.uri = f'qemu+unix:///system?socket={quote(socket)}'
        self.init = None

    def install(self):
        """Make the folders, as Debian's packages do, and configure libvirtd."""
        for name in MOUNTS:
            (self.folder / name).mkdir(parents=True)
            (self.folder / name).chmod(0o755)
        (self.folder / 'lib/images').mkdir()
        (self.folder / 'lib/images').chmod(0o711)
        (self.folder / 'etc/libvirtd.conf').write_text(
            LIBVIRTD.format(uuid=uuid.uuid4(), address=self.address))
        (self.folder / 'etc/qemu.conf').write_text(QEMU)

    def run(self, argv, check=True, **options):
        """Run a command on the host, in its /; the CompletedProcess."""
        process = self.init.pid
        # What a timeout kills is nsenter: the command must end with it.
        return subprocess.run(
            ['nsenter', f'--target={process}', '--net', '--mount', '--uts',
             f'--pid=/proc/{process}/ns/pid_for_children',
             'setpriv', '--pdeathsig', 'KILL', *argv], check=check, **options)

    def boot(self):
        """Start the first process, and virtlogd, with an empty /run."""
        shutil.rmtree(self.folder / 'run')
        (self.folder / 'run').mkdir()
        (self.folder / 'run').chmod(0o755)
        self.init = subprocess.Popen(
            ['ip', 'netns', 'exec', self.netns, 'unshare', '--uts', '--pid', '--fork',
             '--mount-proc', 'sh', '-c', INIT, 'init', self.name,
             *(path for name, place in MOUNTS.items() for path in (self.folder / name, place))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self.init.stdout.readline() == b'ready\n', f'{self.name} does not boot'
        self.run(['virtlogd', '-d'])

    def start(self):
        """Start libvirtd, after stop() with the guests there were, after kill() with none."""
        if not self.init:
            self.boot()
        self.run(['libvirtd', '-d', '--listen'])

    def stop(self):
        """Stop libvirtd: the host cannot be reached, and its guests run on."""
        self.run(['start-stop-daemon', '--stop', '--quiet', '--retry', '30',
                  '--pidfile', '/run/libvirtd.pid'])

    def kill(self):
        """Cut the power: all processes end at once, guests too; what is on disks stays."""
        if self.init:
            self.init.communicate()
            self.init = None


class Lab:
    """A number of hosts, ``hosts``, joined by a switch, whose network namespace is ``netns``."""

    def __init__(self, count, folder):
        self.netns = f'pb{os.getpid()}s'
        self.hosts = [Host(number, folder) for number in range(count)]
        self.undo = None

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            undo.enter_context(network(self.netns, '192.0.2.1'))
            for host in self.hosts:
                undo.enter_context(network(host.netns, host.address))
                self.connect(host)
                host.install()
                undo.callback(host.kill)
                host.start()
                commands = (f'pool-define-as default dir --target {IMAGES}; '
                            'pool-autostart default; pool-start default')
                subprocess.run(['virsh', '-q', '-c', host.uri, commands], check=True,
                               stdout=subprocess.DEVNULL)
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *raised):
        return self.undo.__exit__(*raised)

    def connect(self, host):
        """Join the bridges of a host with those of the switch."""
        for bridge in BRIDGES:
            port = f'{bridge}-{host.name}'
            set_network(host.netns, f'link add uplink-{bridge} up master {bridge} '
                                    f'type veth peer name {port} netns {self.netns}')
            set_network(self.netns, f'link set {port} up master {bridge}')

    def run(self, argv, check=True, **options):
        """Run a command in the switch's network; the CompletedProcess."""
        return subprocess.run(['ip', 'netns', 'exec', self.netns, *argv], check=check, **options)
