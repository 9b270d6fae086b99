"""vc-boot --from-saved with real guests of the demo image: nodes start from two that booted."""
import os
import re

import pytest
from lxml import etree

from lab import ROOT
from lab.nodes import virsh
from lab.site import guest_site, lines

pytestmark = pytest.mark.guest

WAIT = 3000
"""Seconds; a guest on a busy machine without KVM is slow."""

EACH = ('hostname; cat /etc/machine-id; cut -d" " -f2 /etc/ssh/ssh_host_*_key.pub; '
        'cat /sys/class/net/eth0/address; ip -o -4 address show scope global; '
        'head -c 16 /dev/urandom | base64; date +%s; cat /proc/uptime; findmnt -no SOURCE /; '
        'ip -o -6 address show dev eth0 scope link; journalctl --list-boots -q | wc -l; '
        'grep -cE "192.0.2|private-key" /root/vc-out.xml || true')


RANDOM = re.compile('^[A-Za-z0-9+/]{22}==$', re.M)

WHO = 'cat /etc/machine-id; cut -d" " -f2 /etc/ssh/ssh_host_*_key.pub'

LOGIN = "ssh -o StrictHostKeyChecking=accept-new compute-0 hostname 2>/dev/null"


class Cluster:
    """A cluster with nodes of one CPU, which start from saved states."""

    def __init__(self, site, name, num_cpus):
        self.site, self.name = site, name
        parsed = site.run('vc-parse', ROOT / 'images' / 'debian' / 'vc-in.xml').stdout
        staged = site.run('vc-stage', input=parsed, timeout=WAIT).stdout
        allocated = site.run('vc-allocate', '--num-cpus', num_cpus, '--name', name, '--key',
                             site.folder / 'key.pub', input=staged).stdout
        self.document = site.run('vc-inject', input=allocated).stdout

    def boot(self, *options):
        done = self.site.run('vc-boot', '--wait', '--timeout', WAIT, *options, timeout=WAIT,
                             input=self.document)
        return done.stderr.decode()

    def ssh(self, command):
        return lines(self.site.run('vc-ssh', '-i', self.site.folder / 'key', self.name,
                                   command).stdout)

    @property
    def fqdn(self):
        return etree.fromstring(self.document).find("cluster/node[@role='frontend']").get('fqdn')

    def nodes(self):
        root = etree.fromstring(self.document)
        return {node.get('name'): node.find("interface[@network='private']")
                for node in root.iterfind('cluster/node')}


@pytest.fixture(scope='module')
def site():
    with guest_site('cpus_per_node = 1\n') as site:
        yield site


@pytest.fixture(scope='module')
def cluster(site):
    name = f't{os.getpid()}-saved'
    try:
        cluster = Cluster(site, name, 3)
        cluster.said = cluster.boot('--from-saved')
        yield cluster
    finally:
        site.run('vc-clean', name)


def test_nodes_are_what_their_documents_say(cluster):
    assert cluster.said.count('booting a guest to save its state') == 2
    assert 'is booted, not' not in cluster.said
    found = {}
    for name, card in cluster.nodes().items():
        words = cluster.ssh(EACH if name == 'frontend' else
                            f"ssh -o StrictHostKeyChecking=accept-new {name} '{EACH}' 2>/dev/null")
        assert words[0] == (cluster.fqdn if name == 'frontend' else name)
        assert card.get('mac') in words
        said = '\n'.join(words)
        assert re.search(rf'inet {card.get("ip")}/', said)
        assert '192.0.2.' not in said and words[-1] == '0'
        keys = set(re.findall(r'\bAAAA\S+', said))
        links = set(re.findall(r'inet6 (fe80:\S+)', said))
        assert len(keys) == 2 and len(links) == 1
        found[name] = {words[1], *keys, *links, RANDOM.search(said)[0]}
    # Machine-ids, host keys, link-local addresses and random numbers: no two nodes have one.
    assert len(set.union(*found.values())) == 5 * 4


def test_no_guest_can_change_a_state(site, cluster):
    """QEMU runs as another user; the guests of later clusters must not get what it wrote."""
    folders = [path for path in (site.temp / 'saved').iterdir() if path.is_dir()]
    assert len(folders) == 2
    for path in (*folders, *(path for folder in folders for path in folder.iterdir())):
        status = path.stat()
        assert (status.st_uid, status.st_mode & 0o77) == (os.geteuid(), 0), path


def test_a_state_serves_another_cluster_and_is_pruned_with_its_image(site, cluster):
    """Also by pragma_boot, with the setting."""
    name = f't{os.getpid()}-later'
    states = site.temp / 'saved'
    before = sorted(os.listdir(states))
    with site.conf.open('a') as file:
        file.write('from_saved = yes\n')
    try:
        done = site.run('pragma_boot', '--vcname', 'debian', '--name', name, '--num_cpus', 1,
                        '--key', site.folder / 'key.pub', '--wait', timeout=WAIT)
        assert b'booting' not in done.stderr and b'is booted, not' not in done.stderr
        other = lines(site.run('vc-ssh', '-i', site.folder / 'key', name, WHO).stdout)
        assert not set(other) & set(cluster.ssh(WHO)) and len(other) == 3
        assert lines(site.run('vc-ssh', '-i', site.folder / 'key', name, LOGIN).stdout) == [
            'compute-0']
        assert sorted(os.listdir(states)) == before
    finally:
        site.run('vc-clean', name)
    site.run('vc-stage', '--prune')
    assert sorted(os.listdir(states)) == before


def test_a_node_boots_from_its_own_disk_the_second_time(cluster):
    """Also where its domain was undefined: nothing that the guest wrote is lost."""
    cluster.ssh('ssh compute-1 "echo kept >/root/kept; sync"')
    keys = cluster.ssh('ssh compute-1 cat /etc/ssh/ssh_host_ed25519_key.pub')
    virsh('destroy', f'{cluster.name}-compute-1')
    virsh('undefine', f'{cluster.name}-compute-1')
    said = cluster.boot('--from-saved')
    assert "'compute-1' is booted, not started from a saved state: it has run before" in said
    assert cluster.ssh('ssh compute-1 cat /root/kept /etc/ssh/ssh_host_ed25519_key.pub') == [
        'kept', *keys]
