"""A real cluster of the demo image, booted by pragma_boot, inspected from the inside.

One frontend and two compute nodes, with KVM if this host has it; under TCG it takes minutes.
"""
import contextlib
import hashlib
import inspect
import os
import re
import shutil
import socketserver
import subprocess
import tempfile
import threading

import pytest
from lxml import etree

from lab import ROOT, SCRATCH
from lab.generations import NEWER, OLDER_COMPUTE, OLDER_FRONTEND, check_newer, check_older
from lab.leftovers import mounts, processes
from lab.needs import do_without
from lab.site import Site, connection, lines

pytestmark = pytest.mark.guest

COMPUTE = ('compute-0', 'compute-1')
NODES = ('frontend', *COMPUTE)


class Cluster:
    """A running cluster, and a login to its frontend."""

    def __init__(self, site, name):
        self.site, self.name = site, name
        self.folder = site.temp / 'clusters' / name
        self.document = (self.folder / 'document.xml').read_bytes()
        root = etree.fromstring(self.document)
        self.nodes = {node.get('name'): node for node in root.iterfind('cluster/node')}
        self.images = {image.get('path') for image in root.iterfind('image')}
        self.port = root.find('cluster/node/interface[@network="public"]').get('port')

    def console(self, node):
        return (self.folder / f'{node}.console.log').read_bytes().decode(errors='replace')

    def command(self, key='key'):
        """The ssh command for the frontend, whose host key must be that on the console."""
        return ['ssh', '-F', 'none', '-i', self.site.folder / key, '-p', self.port,
                '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=60',
                '-o', f'UserKnownHostsFile={self.site.folder}/known_hosts',
                '-o', 'StrictHostKeyChecking=yes', 'root@127.0.0.1']

    def connect(self):
        """Log in once to each node: under TCG each login takes seconds."""
        nobody = subprocess.DEVNULL
        subprocess.run([*self.command(), '-fNMS', self.site.folder / 'login'], check=True,
                       stdin=nobody, stdout=nobody, stderr=nobody, timeout=300)
        for node in COMPUTE:
            self.ssh(f'ssh -fNMS /root/.login-%h -o BatchMode=yes {node} '
                     '</dev/null >/dev/null 2>&1')

    def disconnect(self):
        subprocess.run([*self.command(), '-S', self.site.folder / 'login', '-O', 'exit'],
                       check=True, capture_output=True)

    def ssh(self, command, key='key', input=b'', status=0):
        """Run a command as root on the frontend; its output."""
        login = ['-S', self.site.folder / 'login'] if key == 'key' else []
        done = subprocess.run([*self.command(key), *login, command],
                              input=input, capture_output=True, timeout=300, check=False)
        assert done.returncode == status, done
        return done.stdout if status == 0 else done.stderr

    def on(self, node, command):
        """The command that runs ``command`` on a node, from the frontend."""
        if node == 'frontend':
            return command
        return f'ssh -S /root/.login-%h -o BatchMode=yes {node} {command!r}'


@pytest.fixture(scope='module')
def cluster():
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(folder, 0o755)
    site = Site(folder, f'base_path = {ROOT}/images\naccel = auto\n')
    for key in ('key', 'other key'):
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'a <&> b', '-f',
                        site.folder / key], check=True)
    name = f't{os.getpid()}-real'
    try:
        done = site.run('pragma_boot', '--vcname', 'debian', '--name', name, '--num_cpus', 4,
                        '--key', site.folder / 'key.pub', '--wait')
        found = Cluster(site, name)
        found.output = done
        hostkey = re.search('^pragma_boot: hostkey [^ ]+ (ssh-ed25519 [^\r\n]*)',
                            found.console('frontend'), re.M)[1]
        (site.folder / 'known_hosts').write_text(f'[127.0.0.1]:{found.port} {hostkey}\n')
        yield found
    finally:
        site.run('vc-clean', name)
        shutil.rmtree(folder)


def test_ready_is_reported_and_shown(cluster):
    output = lines(cluster.output.stderr)
    for node in NODES:
        assert any(re.fullmatch(rf'pragma_boot: {node} is ready after \d+ s', line)
                   for line in output)
    assert cluster.output.stdout.decode().count(' ready ') == 3


def test_login_with_the_key_and_no_other(cluster):
    assert cluster.ssh('id -un; hostname').decode() == f'root\n{cluster.name}.local\n'
    assert b'Permission denied' in cluster.ssh('true', key='other key', status=255)
    cluster.connect()


@pytest.mark.parametrize('node', COMPUTE)
def test_frontend_reaches_compute_nodes_by_name(cluster, node):
    output = cluster.ssh(cluster.on(node, 'hostname; nproc')).decode().split()
    assert output == [node, cluster.nodes[node].get('cpus')]


def test_machine_file_has_a_line_a_cpu(cluster):
    expected = ''.join(f'{node}\n' * int(cluster.nodes[node].get('cpus')) for node in COMPUTE)
    assert cluster.ssh('cat /root/machinefile').decode() == expected
    assert len(expected.splitlines()) == 4


@pytest.mark.parametrize('node', NODES)
def test_vc_out_is_the_projection_byte_for_byte(cluster, node):
    inside = cluster.ssh(cluster.on(node, 'cat /root/vc-out.xml'))
    assert inside == cluster.site.run('vc-out', '--node', node, input=cluster.document).stdout


@pytest.mark.parametrize('node', NODES)
def test_both_generations_of_parsers_find_what_they_read(cluster, node):
    """The checks of lab.generations, run by the guest's Python on the guest's file."""
    role = cluster.nodes[node].get('role')
    older = OLDER_FRONTEND if role == 'frontend' else OLDER_COMPUTE
    script = '\n'.join([
        'from xml.etree import ElementTree', f'NEWER = {NEWER!r}',
        inspect.getsource(check_older), inspect.getsource(check_newer),
        "vc_out = ElementTree.parse('/root/vc-out.xml').getroot()",
        f'check_older(vc_out, {older!r})', f'check_newer(vc_out, {role!r})',
        f"assert (vc_out.find('compute/private') is not None) == {role == 'compute'}",
        "print('checked')"])
    assert cluster.ssh(cluster.on(node, 'python3 -'), input=script.encode()) == b'checked\n'


@pytest.mark.parametrize('node', NODES)
def test_interfaces_have_the_addresses_of_their_macs(cluster, node):
    output = cluster.ssh(cluster.on(node, 'ip -o link; ip -o -4 address')).decode()
    macs = dict(re.findall(r'^\d+: (eth\d):.*link/ether (\S+)', output, re.M))
    addresses = dict(re.findall(r'^\d+: (eth\d)\s+inet ([0-9.]+)/', output, re.M))
    cards = cluster.nodes[node].findall('interface')
    assert [(macs[f'eth{index}'], addresses[f'eth{index}']) for index in range(len(cards))] == \
        [(card.get('mac'), card.get('ip')) for card in cards]


@contextlib.contextmanager
def answering():
    """The address and port of a server that says 'beyond', on an address of this machine.

    Not 127.0.0.1: passt, which libvirt 11 has for the frontend, does not lead there.
    """
    listing = subprocess.run(['ip', '-o', '-4', 'address', 'show', 'scope', 'global', 'up'],
                             check=True, stdout=subprocess.PIPE).stdout.decode()
    addresses = re.findall(r'inet ([0-9.]+)', listing)
    if not addresses:
        do_without('this machine has no address but that of its loopback interface')

    class Answer(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b'beyond')
    with socketserver.ThreadingTCPServer((addresses[0], 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address
        finally:
            server.shutdown()


def test_routes_and_names(cluster):
    assert cluster.ssh('ip route show default').decode().startswith('default via 10.0.2.2')
    for node in COMPUTE:
        route = cluster.ssh(cluster.on(node, 'ip route show default')).decode()
        assert route.startswith('default via 10.1.1.1 ')
        # Of this machine: beyond the frontend, and so through its NAT.
        with answering() as (address, port):
            assert cluster.ssh(cluster.on(node, f"bash -c 'cat </dev/tcp/{address}/{port}'")) == \
                b'beyond'
        hosts = cluster.ssh(f'getent hosts {node}').decode().split()
        assert hosts[0] == cluster.nodes[node].find('interface').get('ip')
    for node in NODES:
        resolv = cluster.ssh(cluster.on(node, 'cat /etc/resolv.conf')).decode()
        assert 'nameserver 10.0.2.3' in resolv and 'search local' in resolv


def test_identities_are_unique(cluster):
    for file in ('/etc/machine-id', '/etc/ssh/ssh_host_ed25519_key.pub'):
        found = {cluster.ssh(cluster.on(node, f'cat {file}')).strip() for node in NODES}
        assert len(found) == 3 and all(found)


def test_the_clusters_key_is_on_the_frontend_alone(cluster):
    private = (cluster.folder / 'id_ed25519').read_bytes()
    assert cluster.ssh('cat /root/.ssh/id_ed25519; stat -c %a /root/.ssh/id_ed25519') == \
        private + b'600\n'
    for node in COMPUTE:
        assert cluster.ssh(cluster.on(node, 'ls /root/.ssh')).split() == [b'authorized_keys']
    assert private.splitlines()[1] not in cluster.document
    # A compute node cannot log in to the frontend.
    denied = cluster.ssh(cluster.on('compute-0', 'ssh -o BatchMode=yes -o '
                                    'StrictHostKeyChecking=accept-new 10.1.1.1 true; echo $?'))
    assert denied.strip() == b'255'


def test_the_guest_part_is_safe_to_run_again(cluster):
    state = ('cat /etc/hosts /root/.ssh/authorized_keys /etc/machine-id; ip -4 -o address; '
             'ip route; nft list ruleset; md5sum /etc/ssh/ssh_host_*')
    before = re.sub(rb'valid_lft.*', b'', cluster.ssh(state))
    cluster.ssh('pragma-guest configure')
    assert re.sub(rb'valid_lft.*', b'', cluster.ssh(state)) == before


def test_the_private_network_stays_on_the_loopback_interface(cluster):
    """The multicast group 230.0.0.1 is joined on lo only."""
    with open('/proc/net/igmp', encoding='ascii') as file:
        device, joined = None, set()
        for line in file:
            if not line.startswith('\t'):
                device = line.split()[1]
            elif line.split()[0] == '010000E6':
                joined.add(device)
    assert joined == {'lo'}


def test_shutdown_and_boot_again(cluster):
    """The guests shut down by ACPI, and boot as the same nodes with the same disks.

    The compute nodes boot after the frontend's sshd answers, as the document now says.
    """
    cluster.ssh('echo kept > /root/note')
    cluster.disconnect()
    done = cluster.site.run('vc-shutdown', '--timeout', 120, cluster.name)
    assert done.stderr == b''
    assert cluster.site.run('vc-status', cluster.name).stdout.decode().count(' stopped ') == 3
    output = cluster.site.run('vc-status', '--xml', cluster.name).stdout
    output = output.replace(b'<compute>', b"<compute><boot_dependency parent='frontend'>"
                                      b"<wait type='port' value='300'/></boot_dependency>")
    cluster.site.run('vc-boot', '--wait', input=output)
    frontend, *computes = (started(cluster, node) for node in NODES)
    assert min(computes) > frontend + 3
    # The host key is that of the first boot, which ssh checks.
    assert cluster.ssh('cat /root/note; ssh -o BatchMode=yes compute-1 hostname') == \
        b'kept\ncompute-1\n'


def test_clean_leaves_the_staged_image_alone(cluster):
    """The last test in this file: it removes the cluster."""
    def digests():
        return {path: hashlib.file_digest(open(path, 'rb'), 'sha256').hexdigest()
                for path in cluster.images}

    assert len(mine_of(cluster)) == 3 and processes(cluster.site)
    before = digests()
    cluster.site.run('vc-clean', cluster.name)
    assert mine_of(cluster) == [] and processes(cluster.site) == []
    assert mounts(cluster.site) == [] and cluster.site.clusters() == []
    assert not cluster.folder.exists()
    assert digests() == before and len(before) == 1


def started(cluster, node):
    """When a node was started, by the metadata of its domain."""
    done = subprocess.run(['virsh', '-q', '-c', connection(), 'metadata', f'{cluster.name}-{node}',
                           'urn:pragma_boot:node'], capture_output=True, check=True)
    return int(re.search(b'started="([0-9]+)"', done.stdout)[1])


def mine_of(cluster):
    return [name for name in cluster.site.domains() if name.startswith(f'{cluster.name}-')]
