"""Three clusters on three hosts: real guests on real bridges, disks in storage pools.

``wide`` has a node on each host and its own VLAN; ``twin`` has the same private addresses on
another VLAN; ``plain`` is on the Linux bridges of the hosts, its frontend on a libvirt network.
"""
import os
import re
import shutil
import subprocess
import tempfile

import pytest
from lxml import etree

from lab import ROOT, SCRATCH, hosts
from lab.needs import need
from lab.site import Site, lines

pytestmark = pytest.mark.guest

SETTINGS = '''
hosts = {uris}
cpu_overcommit = 1
cpus_per_node = 1
storage = pool:default
private_network = ovs:trunk
vlans = 100-101
public_network = bridge:public
public_ips = 192.0.2.10 wide.example.org, 192.0.2.11 twin.example.org, \
192.0.2.12 plain.example.org
netmask = 255.255.255.0
gateway = 192.0.2.1
dns = 192.0.2.1
'''

# An Open vSwitch in user space, which needs no kernel module, replaces the Linux bridge at the end
# of the host's uplink. Debian's version cannot fill in the checksums that a guest leaves to its
# host, so QEMU must not offer guests to leave them.
SWITCH = '''
touch /run/qemu
mount --bind /usr/bin/qemu-system-x86_64 /run/qemu
printf '#!/bin/sh\\nexec /run/qemu -L /usr/share/qemu -L /usr/share/seabios %s "$@"\\n' \
    '-global virtio-net-pci.csum=off' >/run/qemu.sh
chmod 755 /run/qemu.sh
mount --bind /run/qemu.sh /usr/bin/qemu-system-x86_64
mkdir /run/openvswitch
ovsdb-tool create /run/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server /run/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock --detach --pidfile \
    --log-file=/run/openvswitch/db.log -vconsole:off
ovs-vswitchd --detach --pidfile --log-file=/run/openvswitch/switch.log -vconsole:off
ovs-vsctl --timeout=10 add-br trunk -- set bridge trunk datapath_type=netdev
ip link set uplink-private nomaster
ovs-vsctl --timeout=10 add-port trunk uplink-private
ip link add plain up type bridge
'''

NETWORK = b"""<network><name>site</name><forward mode='bridge'/><bridge name='public'/></network>"""

FOREIGN = b"""<domain type='qemu'><name>foreign</name><memory unit='MiB'>64</memory><vcpu>5</vcpu>
<os><type>hvm</type></os></domain>"""


class Place:
    """The site, its hosts, and logins to the frontends of its clusters."""

    def __init__(self, site, lab):
        self.site, self.lab = site, lab

    def set(self, **values):
        """Change settings."""
        text = self.site.conf.read_text()
        for key, value in values.items():
            text = re.sub(f'^{key} *=.*\n', '', text, flags=re.M) + f'{key} = {value}\n'
        self.site.conf.write_text(text)

    def boot(self, name, num_cpus, entry='debian'):
        return self.site.run('pragma_boot', '--vcname', entry, '--name', name, '--num_cpus',
                             num_cpus, '--key', self.site.folder / 'key.pub',
                             timeout=3600).stderr.decode()

    def document(self, name):
        return (self.site.temp / 'clusters' / name / 'document.xml').read_bytes()

    def nodes(self, name):
        return etree.fromstring(self.document(name)).findall('cluster/node')

    def host_of(self, name):
        """The host of a cluster's frontend."""
        uri = self.nodes(name)[0].get('host')
        return next(host for host in self.lab.hosts if host.uri == uri)

    def wait(self, name):
        return self.site.wait(name)

    def virsh(self, host, *command, **options):
        return subprocess.run(['virsh', '-q', '-c', host.uri, *command], check=True,
                              capture_output=True, **options).stdout.decode()

    def digits(self):
        """What the names of volumes have of the ledger's identity."""
        return (self.site.temp / 'identity').read_text()[:8]

    def volumes(self, host):
        return {line.split()[0] for line in self.virsh(host, 'vol-list', 'default').splitlines()}

    def ports(self, host):
        """The ports of the host's switch, with their VLAN tags."""
        return sorted(host.run(['ovs-vsctl', '--bare', '--columns=tag', 'find', 'port', 'tag!=[]'],
                               capture_output=True).stdout.decode().split())

    def ssh(self, name, command, status=0):
        """Run a command as root on a frontend, from the public network; its output."""
        frontend = self.nodes(name)[0]
        console = self.virsh(self.host_of(name), 'vol-download', '--pool', 'default',
                             f'{name}_frontend_{self.digits()}.console.log', '/dev/stdout')
        address = frontend.find('interface[@network="public"]').get('ip')
        key = re.search('^pragma_boot: hostkey [^ ]+ (ssh-ed25519 [^\r\n]*)', console, re.M)[1]
        known = self.site.folder / f'known_hosts-{name}'
        known.write_text(f'{address} {key}\n')
        done = self.lab.run(
            ['ssh', '-F', 'none', '-i', self.site.folder / 'key', '-o', 'IdentitiesOnly=yes',
             '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=60', '-o', f'UserKnownHostsFile={known}',
             '-o', 'StrictHostKeyChecking=yes', f'root@{address}', command],
            check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        assert done.returncode == status, done
        return done.stdout.decode()


def make_database(site):
    """The demo image as the entry ``debian``, and as ``patient``, whose compute nodes wait."""
    demo = ROOT / 'images/debian'
    text = (demo / 'vc-in.xml').read_text()
    shutil.copy(demo / 'debian.img.gz', site.base)
    waiting = ("<boot_dependency parent='frontend'><wait type='ready' value='3000'/>"
               '</boot_dependency>')
    for name, dependency in (('debian', ''), ('patient', waiting)):
        (site.base / f'{name}.xml').write_text(text.replace(
            '<compute>', f'<compute>{dependency}'))
        with open(site.base / 'vcdb.txt', 'a', encoding='utf-8') as database:
            database.write(f'{name},{name}.xml\n')


@pytest.fixture(scope='module')
def place():
    hosts.need_namespaces()
    need('libvirtd', 'virtlogd', 'ovs-vswitchd', 'ssh')
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(folder, 0o755)
    try:
        with hosts.Lab(3, folder) as lab:
            for host in lab.hosts:
                host.run(['sh', '-ec', SWITCH], capture_output=True)
            found = Place(Site(folder, SETTINGS.format(
                uris=' '.join(host.uri for host in lab.hosts))), lab)
            subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f',
                            found.site.folder / 'key'], check=True)
            make_database(found.site)
            for host in lab.hosts:
                found.virsh(host, 'net-create', '/dev/stdin', input=NETWORK)
            # One CPU for guests on each host, then two, then four.
            cpus = os.cpu_count()
            found.set(reserved_cpus=cpus - 1, cpu_overcommit=1)
            found.boot('wide', 2)
            found.set(cpu_overcommit=2, reserved_cpus=2 * cpus - 2)
            found.boot('twin', 0)
            found.set(cpu_overcommit=3, reserved_cpus=3 * cpus - 4, private_network='bridge:plain',
                      vlans='', public_network='network:site')
            # Both nodes are on the host with most room, the second after the first is ready.
            found.output = {'boot': found.boot('plain', 1, 'patient')}
            for name in ('wide', 'twin', 'plain'):
                found.output[name] = found.wait(name)
            yield found
    finally:
        shutil.rmtree(folder)


def test_a_cluster_over_three_hosts(place):
    uris = [host.uri for host in place.lab.hosts]
    assert [node.get('host') for node in place.nodes('wide')] == uris
    assert [line.split()[1:4] for line in lines(place.site.run('vc-status', 'wide').stdout)][1:] \
        == [['frontend', 'ready', uris[0]], ['compute-0', 'ready', uris[1]],
            ['compute-1', 'ready', uris[2]]]
    assert place.ssh('wide', 'hostname; for node in compute-0 compute-1; do '
                     'ssh -o BatchMode=yes $node hostname; done').split() == \
        ['wide.example.org', 'compute-0', 'compute-1']
    # Compute nodes on two hosts reach each other, also with large packets.
    assert place.ssh('wide', "ssh compute-0 'head -c 9000000 /dev/zero' | "
                             "ssh compute-1 'cat >/tmp/zeros'; ssh compute-1 'wc -c </tmp/zeros'"
                     ).split() == ['9000000']


def test_clusters_with_the_same_subnet_do_not_see_each_other(place):
    """The frontend of ``twin`` has the same address, and sees no compute node of ``wide``."""
    def private(name):
        return [node.find('interface[@network="private"]').get('ip') for node in place.nodes(name)]
    assert private('wide')[0] == private('twin')[0]
    assert {node.find('interface').get('vlan') for node in place.nodes('wide')} == {'100'}
    assert {node.find('interface').get('vlan') for node in place.nodes('twin')} == {'101'}
    assert [place.ports(host) for host in place.lab.hosts] == [['100', '101'], ['100'], ['100']]
    greeting = f'exec 3<>/dev/tcp/{private("wide")[1]}/22 && head -c 4 <&3'
    assert place.ssh('wide', f'timeout 20 bash -c {greeting!r}') == 'SSH-'
    assert place.ssh('twin', f'timeout 20 bash -c {greeting!r} || echo nobody') == 'nobody\n'
    # Each of two nodes with the same address reaches its own cluster.
    assert place.ssh('wide', f'ssh compute-1 ssh-keyscan -t ed25519 {private("wide")[0]}') \
        == place.ssh('wide', f'ssh-keyscan -t ed25519 {private("wide")[0]}') \
        != place.ssh('twin', f'ssh-keyscan -t ed25519 {private("twin")[0]}')


def test_a_cluster_on_linux_bridges(place):
    assert len({node.get('host') for node in place.nodes('plain')}) == 1
    cards = place.host_of('plain').run(['ip', '-o', 'link', 'show', 'master', 'plain'],
                                       capture_output=True)
    assert len(lines(cards.stdout)) == 2
    assert place.ssh('plain', 'hostname; ssh -o BatchMode=yes compute-0 hostname').split() \
        == ['plain.example.org', 'compute-0']


def test_an_image_reaches_a_host_once(place):
    images = {os.path.basename(image.get('path'))
              for image in etree.fromstring(place.document('wide')).iterfind('image')}
    assert len(images) == 1
    for host in place.lab.hosts:
        disks = {f"{name}_{node.get('name')}_{place.digits()}.{kind}"
                 for name in ('wide', 'twin', 'plain')
                 for node in place.nodes(name) if node.get('host') == host.uri
                 for kind in ('qcow2', 'console.log')}
        assert place.volumes(host) == disks | images | {f'{image}.whole' for image in images}
        image, = images
        staged = place.site.temp / 'images' / image
        held = host.folder / 'lib/images' / image
        assert subprocess.run(['cmp', staged, held], check=False).returncode == 0
        assert held.stat().st_mode & 0o777 == 0o444 and held.stat().st_uid == 0
        assert held.stat().st_blocks <= 1.1 * staged.stat().st_blocks
        # The first cluster on the host needed it, before the second one was allocated.
        later = place.site.temp / 'clusters/plain/id_ed25519'
        assert held.stat().st_mtime < later.stat().st_mtime


def test_a_compute_node_starts_when_its_frontend_is_ready(place):
    """As the vc-in.xml of ``plain`` says: not earlier, and long before the limit of 3000 s."""
    host = place.host_of('plain')
    begun = [int(re.search('started="([0-9]+)"', place.virsh(
        host, 'metadata', f'plain-{node}', 'urn:pragma_boot:node'))[1])
        for node in ('frontend', 'compute-0')]
    said = re.search('^vc-boot: frontend is ready after ([0-9]+) s$', place.output['boot'], re.M)
    # In whole seconds; a busy machine also takes time between two processes.
    assert int(said[1]) > 3 and -2 <= begun[1] - begun[0] - int(said[1]) <= 60


def test_stops_and_starts_where_the_nodes_are(place):
    place.site.run('vc-shutdown', '--timeout', 120, 'twin')
    output = place.site.run('vc-status').stdout.decode()
    assert re.search('^twin +frontend +stopped ', output, re.M) and output.count(' ready ') == 5
    place.site.run('vc-boot', input=place.document('twin'))
    assert re.search('^twin +frontend +running ', place.site.run('vc-status').stdout.decode(), re.M)


def test_row_31_a_host_that_is_down_is_named_and_left_out(place):
    down = place.lab.hosts[2]
    document = place.document('wide')
    down.stop()
    try:
        output = place.site.run('vc-status', 'wide')
        assert re.search(f"^vc-status: libvirt at '{re.escape(down.uri)}'", output.stderr.decode())
        assert [line.split()[2] for line in lines(output.stdout)[1:]] == ['ready', 'ready',
                                                                          'unknown']
        place.set(private_network='bridge:public', public_network='user')
        allocated = place.site.run('vc-allocate', '--dry-run', '--num-cpus', 0,
                                   input=not_allocated(document))
        assert f"'{down.uri}'" in allocated.stderr.decode()
        assert 'this host is left out' in allocated.stderr.decode()
        assert down.uri not in allocated.stdout.decode()
        # Nothing is lost when a cluster cannot be removed completely.
        line = place.site.fails('vc-clean', 'wide')
        assert 'stays in the ledger' in line
        assert 'wide' in place.site.clusters()
        assert down.uri in place.site.fails('vc-boot', input=document)
    finally:
        down.start()
    assert [line.split()[2] for line in lines(place.site.run('vc-status', 'wide').stdout)[1:]][2] \
        == 'ready'


def not_allocated(document):
    """A document without its cluster."""
    root = etree.fromstring(document)
    root.remove(root.find('cluster'))
    return etree.tostring(root)


def test_a_dependency_on_a_port_of_a_public_address(place):
    """From the public network, where the frontend's sshd answers and port 23 does not."""
    host = place.host_of('plain')
    place.virsh(host, 'destroy', 'plain-compute-0')
    for port, status in ((23, 1), (22, 0)):
        document = etree.fromstring(place.document('plain'))
        document.find('compute/boot_dependency/wait').attrib.update(
            {'type': 'port', 'value': '2', 'port': str(port)})
        done = place.lab.run([ROOT / 'bin/vc-boot'], input=etree.tostring(document), check=False,
                             env=place.site.environment(), capture_output=True)
        assert done.returncode == status, done
    assert place.virsh(host, 'domstate', 'plain-compute-0').strip() == 'running'


def test_row_25_domains_that_are_not_ours_count_as_taken(place):
    """Stopped or running."""
    def free():
        line = place.site.fails('vc-allocate', '--num-cpus', 10_000, status=3,
                                input=not_allocated(place.document('plain')))
        return int(re.search('([0-9]+) CPUs and [0-9]+ MiB are free on 3 hosts', line)[1])
    place.set(cpu_overcommit=100, reserved_cpus=0)
    assert free() == 3 * 100 * os.cpu_count() - 6      # the six nodes of our clusters
    host = place.lab.hosts[1]
    place.virsh(host, 'define', '/dev/stdin', input=FOREIGN)
    assert free() == 3 * 100 * os.cpu_count() - 6 - 5
    place.virsh(host, 'start', '--paused', 'foreign')
    assert free() == 3 * 100 * os.cpu_count() - 6 - 5
    place.virsh(host, 'destroy', 'foreign')
    place.virsh(host, 'undefine', 'foreign')


def test_pools_run_dry_by_their_names(place):
    document = not_allocated(place.document('wide'))
    place.set(private_network='bridge:public', public_network='bridge:public')
    assert "pool 'public_ips' (3 addresses) has no address left" in place.site.fails(
        'vc-allocate', '--num-cpus', 0, input=document, status=3)
    place.set(private_network='bridge:plain', public_network='user')
    assert "pool 'private_network' (plain) has 10.1.0.0/16 in use" in place.site.fails(
        'vc-allocate', '--num-cpus', 0, input=document, status=3)
    place.set(private_network='ovs:trunk', vlans='100-100')
    assert "pool 'vlans' (100-100) has no VLAN left" in place.site.fails(
        'vc-allocate', '--num-cpus', 0, input=document, status=3)


def test_clean_leaves_nothing_on_any_host(place):
    for name in ('wide', 'twin', 'plain'):
        place.site.run('vc-clean', name)
    assert place.site.clusters() == []
    for host in place.lab.hosts:
        assert place.virsh(host, 'list', '--all', '--name').split() == []
        assert not [name for name in place.volumes(host) if '_' in name]
        assert place.ports(host) == []
