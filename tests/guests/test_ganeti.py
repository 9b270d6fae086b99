"""A cluster of the demo image on a real Ganeti cluster of three nodes, one of which dies."""
import os
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lxml import etree

from lab import ROOT, SCRATCH, hosts
from lab.ganeti_lab import MASTER_IP, Lab, LabSite
from lab.needs import need
from lab.site import lines

pytestmark = [pytest.mark.guest, pytest.mark.long]


def left_of(folder, netns):
    """What is left of a lab: processes in its namespaces, mounts, network namespaces."""
    mounts = [line for line in Path('/proc/self/mountinfo').read_text().splitlines()
              if str(folder) in line]
    ours = {Path(f'/proc/self/ns/{kind}').readlink() for kind in ('net', 'pid', 'mnt')}
    processes = []
    for process in filter(str.isdigit, os.listdir('/proc')):
        try:
            words = Path(f'/proc/{process}/cmdline').read_bytes()
            strange = Path(f'/proc/{process}/ns/net').readlink() not in ours
            if str(folder).encode() in words or (strange and b'ganeti' in words):
                processes.append(words)
        except OSError:
            continue
    networks = [name
                for name in subprocess.run(['ip', 'netns', 'list'], capture_output=True, text=True,
                                                check=True).stdout.split()
                if name.startswith(netns[:-1])]
    return processes, mounts, networks


class Place:
    """A site on a lab."""

    def __init__(self, lab):
        self.lab = lab
        self.site = LabSite(lab, MASTER_IP)
        subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', lab.folder / 'key'],
                       check=True)
        demo = ROOT / 'images/debian'
        for file in ('vc-in.xml', 'debian.img.gz'):
            shutil.copy(demo / file, self.site.base)
        (self.site.base / 'vcdb.txt').write_text('debian,vc-in.xml\n')

    def nodes(self):
        return etree.parse(self.site.temp / 'clusters/wide/document.xml').findall('cluster/node')

    def hosts(self):
        """The short names of the machines that the cluster's nodes are on, by the ledger."""
        return {node.get('name'): re.fullmatch(f'ganeti://{MASTER_IP}/(h[0-2])[.]example[.]org',
                                               node.get('host'))[1]
                for node in self.nodes()}

    def ssh(self, command):
        """The output of a command on the frontend."""
        return self.site.run('vc-ssh', '-i', self.lab.folder / 'key', 'wide',
                             command).stdout.decode()

    def reached(self):
        """The names of the compute nodes that the frontend logs in to."""
        return self.ssh('for node in $(sort -u /root/machinefile); do '
                        'ssh -o ConnectTimeout=60 $node hostname; done').split()

    def entry(self):
        """The demo image's vc-in.xml."""
        return (self.site.base / 'vc-in.xml').read_text()

    def allocated(self, name, number, text):
        """The document of an allocated cluster of four nodes, on a subnet of its own."""
        entry = self.site.base / f'{name}.xml'
        entry.write_text(text.replace('10.1.1.1', f'10.{number}.1.1'))
        staged = self.site.run('vc-stage', input=self.site.run('vc-parse', entry).stdout).stdout
        return self.site.run('vc-allocate', '--num-cpus', 3, '--name', name, input=staged).stdout

    def disks(self):
        """The files of all instances' disks."""
        return sorted(path for path in (self.lab.folder / 'storage').rglob('*') if path.is_file())

    def instances(self, name):
        """The names of a cluster's instances."""
        output = self.lab.master.do('gnt-instance', 'list', '--no-headers', '-o', 'name').split()
        return [instance for instance in output if instance.startswith(f'{name}-')]


@pytest.fixture(scope='module')
def place():
    hosts.need_namespaces()
    need('gnt-cluster', 'sshd', 'openssl')
    folder = tempfile.mkdtemp(prefix='pragma-', dir=SCRATCH)
    os.chmod(folder, 0o755)
    try:
        with Lab(3, folder) as lab:
            yield Place(lab)
        assert left_of(folder, lab.netns) == ([], [], [])
    finally:
        shutil.rmtree(folder)


def test_boots_where_ganeti_places(place):
    """Four instances, on more than one machine of Ganeti, with their files in their disks."""
    place.site.run('pragma_boot', '--vcname', 'debian', '--name', 'wide', '--num_cpus', 3, '--key',
                   place.lab.folder / 'key.pub', '--wait')
    assert len(place.nodes()) == 4 and len(set(place.hosts().values())) > 1
    output = place.lab.master.do('gnt-instance', 'list', '--no-headers', '--separator=,', '-o',
                               'name,pnode,tags')
    for line in output.splitlines():
        name, node, tags = line.split(',', 2)
        assert node == f"{place.hosts()[name.removeprefix('wide-')]}.example.org"
        assert re.search(r'(^|,)pragma_boot:cluster:[0-9a-f]{32}:wide(,|$)', tags)
    assert len(output.splitlines()) == 4
    assert place.reached() == ['compute-0', 'compute-1', 'compute-2']
    assert place.ssh('stat -c %a /root/vc-out.xml').strip() == '600'
    disks = [path.stat() for path in place.disks()]
    assert len(disks) == 4 and all(disk.st_blocks * 512 < disk.st_size / 2 for disk in disks)


def test_grows_and_shrinks(place):
    """One more instance, which the running frontend is told of; the others are left alone."""
    before, disks = place.hosts(), place.disks()
    uptime = float(place.ssh('cut -d " " -f 1 /proc/uptime'))
    place.site.run('vc-resize', '--num-cpus', 4, '--wait', 'wide')
    assert place.reached() == [f'compute-{count}' for count in range(4)]
    assert {name: place.hosts()[name] for name in before} == before
    assert len(place.instances('wide')) == len(place.disks()) == 5
    place.site.run('vc-resize', '--num-cpus', 3, 'wide')
    assert place.reached() == ['compute-0', 'compute-1', 'compute-2']
    assert place.hosts() == before and place.disks() == disks
    assert len(place.instances('wide')) == 4
    assert float(place.ssh('cut -d " " -f 1 /proc/uptime')) > uptime


def test_only_one_of_two_requests_at_once_succeeds(place):
    """There is memory for six nodes, and each of two clusters has four: one gets status 3."""
    free = min(map(int, place.lab.master.do('gnt-node', 'list', '--no-headers', '--units=m', '-o',
                                            'mfree').split()))
    text = place.entry().replace('262144', str(free * 2 // 5 << 10))
    documents = {name: place.allocated(name, number, text)
                 for number, name in enumerate(('first', 'second'), 2)}
    with ThreadPoolExecutor() as pool:
        done = dict(zip(documents, pool.map(lambda document: place.lab.run(
            [ROOT / 'bin/vc-inject'], input=document, check=False, capture_output=True,
            env=place.site.environment()), documents.values()), strict=True))
    assert sorted(one.returncode for one in done.values()) == [0, 3], done
    for name, one in done.items():
        assert len(place.instances(name)) == (0 if one.returncode else 4)
        place.site.run('vc-clean', name)


def test_vc_clean_removes_what_a_kill_left(place):
    """vc-inject is killed while Ganeti makes instances: they are cancelled or removed later."""
    document = place.allocated('killed', 4, place.entry())
    with subprocess.Popen(['ip', 'netns', 'exec', place.lab.netns, ROOT / 'bin/vc-inject'],
                          stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, env=place.site.environment()) as running:
        running.stdin.write(document)
        running.stdin.close()
        while 'INSTANCE_CREATE(killed-frontend)' not in place.lab.master.do('gnt-job', 'list',
                                                                            '--running'):
            assert running.poll() is None
        running.kill()
    place.site.run('vc-clean', 'killed')
    assert place.instances('killed') == []
    jobs = place.lab.master.do('gnt-job', 'list', '--no-headers', '-o',
                               'status,summary').splitlines()
    assert {job.split()[0] for job in jobs if 'killed' in job} <= {'success', 'canceled', 'error'}
    assert 'killed' not in place.site.clusters()


def test_a_node_dies_and_ganeti_fails_over(place):
    """vc-status shows nodes as unknown, then on the machine that Ganeti moved them to."""
    before = place.hosts()
    lost = next(node for node in place.lab.nodes[1:] if node.name in before.values())
    there = {name for name, host in before.items() if host == lost.name}
    lost.kill()
    states = {line.split()[1]: line.split()[2]
              for line in lines(place.site.run('vc-status', 'wide').stdout)[1:]}
    assert {name for name, state in states.items() if state == 'unknown'} == there
    assert place.hosts() == before
    place.lab.master.do('gnt-node', 'modify', '--offline=yes', lost.fqdn)
    place.lab.master.do('gnt-node', 'failover', '-f', '--ignore-consistency', lost.fqdn)
    place.site.run('vc-status', 'wide')
    after = place.hosts()
    assert lost.name not in after.values()
    assert {name for name in before if before[name] != after[name]} == there
    deadline = time.monotonic() + 300
    while True:
        try:
            assert place.reached() == ['compute-0', 'compute-1', 'compute-2']
            break
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(5)


def test_stops_and_starts_again(place):
    place.site.run('vc-shutdown', 'wide')
    states = [line.split()[2] for line in lines(place.site.run('vc-status', 'wide').stdout)[1:]]
    assert set(states) == {'stopped'}
    document = place.site.run('vc-status', '--xml', 'wide').stdout
    place.site.run('vc-boot', '--wait', input=document)
    assert place.reached() == ['compute-0', 'compute-1', 'compute-2']


def test_clean_leaves_nothing(place):
    place.site.run('vc-clean', 'wide')
    assert place.site.clusters() == []
    assert place.lab.master.do('gnt-instance', 'list', '--no-headers') == ''
    assert not place.disks()


def test_an_incomplete_clean_keeps_the_cluster(place):
    """An instance is on a dead machine: its cluster stays in the ledger until it was moved."""
    place.site.run('vc-inject', input=place.allocated('left', 5, place.entry()))
    lost = next(node for node in place.lab.nodes[1:] if node.init)
    document = (place.site.temp / 'clusters/left/document.xml').read_bytes()
    assert f'{lost.name}.example.org'.encode() in document
    lost.kill()
    done = place.site.run('vc-clean', 'left', status=1)
    assert re.search(r'job [0-9]+ \(remove left-[a-z0-9-]+\) ended with error: '
                     r'.*stays in the ledger',
                     done.stderr.decode()), done
    assert 'left' in place.site.clusters() and place.instances('left')
    place.lab.master.do('gnt-node', 'modify', '--offline=yes', lost.fqdn)
    place.lab.master.do('gnt-node', 'failover', '-f', '--ignore-consistency', lost.fqdn)
    place.site.run('vc-clean', 'left')
    assert 'left' not in place.site.clusters() and place.instances('left') == []
