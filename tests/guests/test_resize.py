"""vc-resize with real guests of the demo image: 1 + 1 nodes, then 3, 1 and 2."""
import os
import subprocess

import pytest
from lxml import etree

from lab.nodes import virsh
from lab.site import guest_site, lines

pytestmark = [pytest.mark.guest, pytest.mark.long]

WAIT = 3000
"""Seconds; a guest on a busy machine without KVM is slow."""

DRAIN = """mkdir -p /etc/pragma_boot/drain.d /etc/pragma_boot/configure.d
cat >/etc/pragma_boot/drain.d/10-test <<'END'
#!/bin/sh
shift 2
echo "$*" >>/root/drained
! [ -e /root/busy ] || { echo "$1 has a job" >&2; exit 1; }
END
cat >/etc/pragma_boot/configure.d/10-test <<'END'
#!/bin/sh
[ $# = 2 ] && grep -o 'compute count="[0-9]*"' "$1" >>/root/configured
END
chmod 755 /etc/pragma_boot/*/10-test
"""


class Cluster:
    """A cluster with nodes of one CPU."""

    def __init__(self, site, name):
        self.site, self.name = site, name
        self.folder = site.temp / 'clusters' / name

    def ssh(self, command, *options):
        done = self.site.run('vc-ssh', '-i', self.site.folder / 'key', *options, self.name, command)
        assert done.stderr == b''
        return done.stdout.decode()

    def resize(self, num_cpus, *options, **others):
        return self.site.run('vc-resize', '--num-cpus', num_cpus, '--timeout', WAIT, *options,
                             self.name, timeout=WAIT, **others)

    def check(self, count):
        """The frontend knows the compute nodes that there are, and logs in to each by its name."""
        nodes = [f'compute-{number}' for number in range(count)]
        document = (self.folder / 'document.xml').read_bytes()
        root = etree.fromstring(document)
        cards = {node.get('name'): node.find('interface').get('ip')
                 for node in root.iterfind('cluster/node')}
        assert [*cards] == ['frontend', *nodes]
        assert self.ssh('cat /root/vc-out.xml').encode() == self.site.run(
            'vc-out', input=document).stdout
        assert self.ssh('cat /root/machinefile').split() == nodes
        hosts = [line.split() for line in self.ssh('cat /etc/hosts').splitlines()]
        assert {words[-1]: words[0] for words in hosts if words[-1].startswith('compute')} == {
            name: cards[name] for name in nodes}
        command = 'for node in $(cat machinefile); do ssh -n -o BatchMode=yes $node hostname; done'
        assert self.ssh(f'({command}) 2>&1 | grep -v "Permanently added"').split() == nodes
        states = [line.split()[1:3] for line in lines(
            self.site.run('vc-status', self.name).stdout)[1:]]
        assert states == [[name, 'ready'] for name in ('frontend', *nodes)]

    def boots(self):
        """What changes when the frontend or the first compute node is started again."""
        return self.ssh('cat /proc/sys/kernel/random/boot_id; ip -o -4 address; ip route; '
                        'ssh -n compute-0 cat /proc/sys/kernel/random/boot_id'), [
            virsh('domid', f'{self.name}-{node}') for node in ('frontend', 'compute-0')]


@pytest.fixture(scope='module')
def cluster():
    name = f't{os.getpid()}-resize'
    with guest_site('cpus_per_node = 1\n') as site:
        try:
            site.run('pragma_boot', '--vcname', 'debian', '--name', name, '--num_cpus', 1,
                     '--key', site.folder / 'key.pub')
            site.wait(name)
            yield Cluster(site, name)
        finally:
            site.run('vc-clean', name)


def test_grows_and_shrinks_while_it_runs(cluster):
    cluster.check(1)
    before = cluster.boots()
    cluster.ssh(DRAIN)
    cluster.resize(3, '--wait')
    cluster.check(3)
    assert cluster.boots() == before
    # Busy nodes stay, and the programs of configure.d run again.
    cluster.ssh('touch /root/busy')
    done = cluster.site.run('vc-resize', '--num-cpus', 1, '--timeout', 5, cluster.name, status=1)
    assert 'the nodes are not idle after 5 s: drain.d/10-test: compute-1 has a job' in (
        done.stderr.decode())
    cluster.check(3)
    cluster.ssh('rm /root/busy /root/drained')
    cluster.resize(1)
    cluster.check(1)
    assert cluster.ssh('cat /root/drained') == 'compute-1 compute-2\n'
    assert cluster.ssh('cat /root/configured').split('\n') == [
        'compute count="3"', 'compute count="3"', 'compute count="1"', '']
    assert cluster.boots() == before
    # A new node with the name and address of an old one has another host key.
    cluster.resize(2, '--wait')
    cluster.check(2)
    assert cluster.boots() == before


def test_the_clusters_own_key_updates_the_frontend_alone(cluster):
    port = etree.parse(cluster.folder / 'document.xml').getroot().find(
        "cluster/node/interface[@network='public']").get('port')
    before = cluster.ssh('cat /root/vc-out.xml')
    login = ['ssh', '-F', 'none', '-i', cluster.folder / 'id_ed25519', '-p', port,
             '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=60',
             '-o', f'UserKnownHostsFile={cluster.folder}/frontend.known_hosts',
             '-o', f'HostKeyAlias=frontend.{cluster.name}', 'root@127.0.0.1']
    forward = ['-N', '-R', '7777:127.0.0.1:22', '-o', 'ExitOnForwardFailure=yes']
    for options, command, said in (([], ['id'], b'cannot use the new document: no element'),
                                   ([], [], b'cannot use the new document: no element'),
                                   (forward, [], b'forwarding failed')):
        done = subprocess.run([*login[:-1], *options, login[-1], *command], input=b'<vc/>',
                              capture_output=True, timeout=300, check=False)
        assert done.returncode in (1, 255) and done.stdout == b'' and said in done.stderr, done
    assert cluster.ssh('cat /root/vc-out.xml') == before
