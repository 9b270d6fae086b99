"""A real Ganeti cluster for tests, all on this machine: each node in namespaces of its own.

``with Lab(3, folder) as lab:`` makes three nodes, h0 the master, whose bridges are joined as those
of lab.hosts. A node has its own network, mounts, host name and process ids. Its / is an overlay on
this machine's: Ganeti's packages are there, and this machine is not changed. The overlays are in
memory and disappear with the nodes. All nodes and this machine share ``folder``: Ganeti's shared
file storage, a site's ``temporary_directory``, and what a client of the REST API needs.

As a program, run by root, it records the answers of the REST API for engines/test_ganeti_api.py:

    cd tests && ../.venv/bin/python -m lab.ganeti_lab data/ganeti
"""
import contextlib
import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import ROOT, SCRATCH, hosts, tape
from lab.images import make_image, pack
from lab.site import Site

MASTER, MASTER_IP, PORT = 'ganeti.example.org', '192.0.2.100', 5080
USER, PASSWORD = 'pragma', 'not-for-process-lists'

# The first process of a node. It ends with its standard input, and all others of the node with it.
# /sys is that of the network namespace, by `ip netns exec`.
INIT = '''
set -eu
name=$1 mountpoint=$2 shared=$3
mount --make-rprivate /
mount -t tmpfs -o size=4g,mode=755 node "$mountpoint"
cd "$mountpoint"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
for each in dev sys; do mount --rbind /$each $each; done
mount -t proc proc proc
for each in run tmp root mnt; do mount -t tmpfs -o mode=755 $each $each; done
chmod 1777 tmp
mkdir run/lock run/sshd
mount --bind "$shared" ".$shared"
pivot_root . mnt
umount -l /mnt
hostname "$name"
echo ready
exec env --ignore-signal=CHLD cat
'''

SSHD = '''
HostKey /etc/ssh/ssh_host_rsa_key
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
'''

# What a site's administrator would do once on every node.
PREPARE = r'''
set -u
shared=$1
printf '%s\n' "$2" >/etc/hosts
printf '%s\n' "$3" >/etc/ssh/sshd_config
printf '%s\n' "$shared/storage" >/etc/ganeti/file-storage-paths
sed -i 's/^RAPI_ARGS=.*/RAPI_ARGS="-b 0.0.0.0 --require-authentication"/' /etc/default/ganeti
rm -f /etc/ssh/ssh_host_* /etc/ssh/sshd_config.d/*
cp "$shared/root_key" /etc/ssh/ssh_host_rsa_key
cp "$shared/root_key.pub" /etc/ssh/ssh_host_rsa_key.pub
mkdir -m 700 /root/.ssh
cp "$shared/root_key" /root/.ssh/id_rsa
cp "$shared/root_key.pub" /root/.ssh/authorized_keys
chmod 600 /root/.ssh/* /etc/ssh/ssh_host_rsa_key
/usr/sbin/sshd
"$4/drivers/ganeti/os/install"
'''

# The cluster may have small instances, and many virtual CPUs, as this machine has two.
CLUSTER = r'''
each=disk-count=1,nic-count=1,spindle-use=1,cpu-count=1
smallest=min:$each,disk-size=1,memory-size=16
largest=max:disk-count=16,nic-count=8,spindle-use=12,cpu-count=8,disk-size=1048576,memory-size=32768
/usr/lib/ganeti/ensure-dirs
printf '%s\n' "$2" >/var/lib/ganeti/rapi/users
gnt-cluster init --no-ssh-init --no-etc-hosts --enabled-hypervisors=kvm \
    --enabled-disk-templates=sharedfile --shared-file-storage-dir="$1/storage" \
    --master-netdev=public \
    --nic-parameters=mode=bridged,link=private --default-iallocator=hail \
    --hypervisor-parameters=kvm:kvm_flag=disabled,kernel_path= --ipolicy-vcpu-ratio=1000 \
    --ipolicy-bounds-specs="$smallest/$largest" \
    --ipolicy-std-specs=$each,disk-size=1024,memory-size=128 "$3"
cat "$1/rapi.pem" >/var/lib/ganeti/rapi.pem
/usr/lib/ganeti/daemon-util stop ganeti-rapi
/usr/lib/ganeti/daemon-util start ganeti-rapi
'''


class Node:
    """A node of the cluster."""

    def __init__(self, number, folder):
        self.name = f'h{number}'
        self.fqdn = f'{self.name}.example.org'
        self.netns = f'pg{os.getpid()}{self.name}'
        self.address = f'192.0.2.{200 + number}'
        self._folder = folder
        self._mountpoint = folder / self.name
        self.init = None

    def command(self, argv):
        """The command that runs ``argv`` on the node."""
        process = self.init.pid
        return ['nsenter', f'--target={process}', '--net', '--mount', '--uts', '--root',
                f'--pid=/proc/{process}/ns/pid_for_children', 'env', '--chdir=/',
                'setpriv', '--pdeathsig', 'KILL', *argv]

    def run(self, argv, check=True, **options):
        """Run a command on the node; the CompletedProcess."""
        return subprocess.run(self.command(argv), check=check, stdin=subprocess.DEVNULL, **options)

    def do(self, *argv):
        """Run a command on the node that must not fail; what it says."""
        done = self.run(argv, check=False, capture_output=True, text=True)
        assert not done.returncode, done
        return done.stdout

    def boot(self):
        """Start the first process, in a new overlay."""
        self._mountpoint.mkdir(exist_ok=True)
        self.init = subprocess.Popen(
            ['ip', 'netns', 'exec', self.netns, 'unshare', '--uts', '--pid', '--fork',
             '--mount-proc',
             'sh', '-c', INIT, 'init', self.fqdn, self._mountpoint, self._folder],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self.init.stdout.readline() == b'ready\n', f'{self.name} does not boot'

    # What is not shared is lost, too.
    kill = hosts.Host.kill


class Lab:
    """Nodes, a Ganeti cluster of them, and a switch, whose network namespace is ``netns``."""

    def __init__(self, count, folder):
        self.folder = Path(folder).resolve()
        self.netns = f'pg{os.getpid()}s'
        self.nodes = [Node(number, self.folder) for number in range(count)]
        self.master = self.nodes[0]
        self.undo = None

    connect = hosts.Lab.connect
    run = hosts.Lab.run

    @contextlib.contextmanager
    def inside(self):
        """Have this thread, and those that it starts, in the switch's network for the block."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open('/proc/thread-self/ns/net') as before, open(f'/run/netns/{self.netns}') as there:
            assert libc.setns(there.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                libc.setns(before.fileno(), 0)

    def __enter__(self):
        (self.folder / 'storage').mkdir()
        subprocess.run(['ssh-keygen', '-q', '-t', 'rsa', '-N', '', '-f', self.folder / 'root_key'],
                       check=True)
        tape.make_certificate(self.folder, f'DNS:{MASTER},IP:{MASTER_IP}')
        with contextlib.ExitStack() as undo:
            undo.enter_context(hosts.network(self.netns, '192.0.2.1'))
            for node in self.nodes:
                undo.enter_context(hosts.network(node.netns, node.address))
                self.connect(node)
                undo.callback(node.kill)
                node.boot()
            self._form()
            self.undo = undo.pop_all()
        return self

    def _form(self):
        """Make the cluster of the nodes."""
        names = '\n'.join(['127.0.0.1 localhost', f'{MASTER_IP} {MASTER}',
                           *(f'{node.address} {node.fqdn} {node.name}' for node in self.nodes)])
        for node in self.nodes:
            node.do('sh', '-ec', PREPARE, 'prepare', self.folder, names, SSHD, ROOT)
        self.master.do('sh', '-ec', CLUSTER, 'cluster', self.folder, f'{USER} {PASSWORD} write',
                       MASTER)
        for node in self.nodes[1:]:
            self.master.do('gnt-node', 'add', '--no-ssh-key-check', node.fqdn)

    def __exit__(self, *raised):
        return self.undo.__exit__(*raised)


SETTINGS = '''
ve_driver = ganeti
ganeti_master = {master}
ganeti_credentials = credentials
ganeti_ca = ca.pem
cpus_per_node = 1
private_network = bridge:private
public_network = bridge:public
public_ips = 192.0.2.10 vc0.example.org, 192.0.2.11 vc1.example.org, 192.0.2.12 vc2.example.org
netmask = 255.255.255.0
gateway = 192.0.2.1
dns = 192.0.2.1
'''


class LabSite(Site):
    """A site in a lab's folder, whose tools run in the network of the lab's switch."""

    def __init__(self, lab, master):
        super().__init__(lab.folder, SETTINGS.format(master=master))
        self._lab = lab
        tape.make_credentials(self.folder, USER, PASSWORD)

    def run(self, tool, *arguments, input=b'', status=0, **options):
        done = self._lab.run([ROOT / 'bin' / tool, *map(str, arguments)], input=input, check=False,
                             capture_output=True, env=self.environment(), timeout=900, **options)
        assert done.returncode == status, done
        return done


def record(lab, data):
    """Record three clusters: one that works, one that is too large, one with a damaged image."""
    (lab.folder / 'proxy').mkdir()
    tape.make_certificate(lab.folder / 'proxy', 'IP:192.0.2.1')
    site = LabSite(lab, f'192.0.2.1:{PORT}')
    site.conf.write_text(site.conf.read_text().replace('ca.pem', 'proxy/ca.pem'))
    tape.identify(site.temp)
    image = pack(make_image(lab.folder / 'little.img'))
    for name, recorded in (('life', tape.live), ('large', tape.too_large), ('bad', tape.bad)):
        entry = site.add_entry(name, image)
        tape.edit(name, entry)
        with lab.inside(), tape.Recorder(lab.folder / 'proxy', ('192.0.2.1', PORT),
                                         f'https://{MASTER_IP}:{PORT}',
                                         lab.folder / 'ca.pem') as proxy:
            recorded(site, name, entry)
        proxy.save(data / f'{name}.json', [(str(lab.folder), '/site')])


if __name__ == '__main__':
    with tempfile.TemporaryDirectory(prefix='pragma-', dir=SCRATCH) as folder:
        os.chmod(folder, 0o755)
        with Lab(3, folder) as lab:
            record(lab, Path(sys.argv[1]))
