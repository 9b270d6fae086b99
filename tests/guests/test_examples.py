"""The examples, each run unchanged; vc-ssh and vc-console use the real cluster of one of them."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

from lab import ROOT
from lab.needs import need
from lab.nodes import all_nodes, mine, virsh, without_dependency
from lab.site import guest_site, lines

EXAMPLES = ROOT / 'examples'
COMPUTE = ('compute-0', 'compute-1')


def run(site, example, *arguments, input=b'', status=0, **environment):
    """Run an example in the site's folder; its CompletedProcess, whose status is asserted."""
    done = subprocess.run([EXAMPLES / example, *map(str, arguments)], input=input, cwd=site.folder,
                          capture_output=True, timeout=900, check=False,
                          env={**site.environment(), **environment})
    assert done.returncode == status, done
    return done


def test_all_are_short_and_executable():
    found = [path for path in EXAMPLES.rglob('*') if path.is_file()]
    assert len(found) == 9
    for path in found:
        text = path.read_text()
        assert os.access(path, os.X_OK) and text.startswith('#!'), path
        assert len(text.splitlines()) <= 30, path
        assert max(map(len, text.splitlines())) <= 110, path


def test_a_cluster_a_project(site):
    without_dependency(site)
    variables = {'LAB': site.entry, 'VC': site.entry, 'KEYS': str(site.folder)}
    for project in ('physics', 'chemistry'):
        shutil.copy(site.key, site.folder / f'{project}.pub')
        run(site, 'projects.mk', project, **variables)
    assert mine(site) == sorted(f'{site.entry}-{node}' for node in (
        'physics-frontend', 'physics-compute-0', 'physics-compute-1', 'chemistry-frontend',
        'chemistry-compute-0'))
    run(site, 'projects.mk', 'clean-physics', **variables)
    assert site.clusters() == [f'{site.entry}-chemistry']
    assert site.entry in run(site, 'projects.mk', 'status').stdout.decode()


def test_a_document_moved_by_hand(site):
    (site.folder / 'edit.sed').write_text(
        '/<boot_dependency/,/<.boot_dependency>/d\n'
        '/<node role="compute"/s/memory="1048576"/memory="524288"/\n')
    done = run(site, 'by-hand', site.entry, 4, site.key, EDITOR='sed -i -f edit.sed')
    assert '> ' in done.stdout.decode() and mine(site) == all_nodes(site)
    for name, size in zip(all_nodes(site), (524288, 524288, 1048576), strict=True):
        assert re.search(f'Max memory: +{size} KiB', virsh('dominfo', name))
    assert (site.folder / 'booted.xml').read_text().count('<state>running') == 3
    # Run again by hand, as the example says, it changes nothing.
    again = site.run('vc-inject', input=(site.folder / 'edited.xml').read_bytes()).stdout
    assert site.run('vc-boot', input=again).stdout == (site.folder / 'booted.xml').read_bytes()


def test_a_filter_of_the_sites_own(site):
    parsed = site.run('vc-parse', site.vc_in).stdout
    more = run(site, 'more-memory', 4, input=parsed).stdout
    staged = site.run('vc-stage', input=more).stdout
    output = etree.fromstring(site.run('vc-allocate', '--num-cpus', 4, '--dry-run',
                                     input=staged).stdout)
    assert [node.get('memory') for node in output.iterfind('cluster/node')] == [
        '1048576', '4194304', '4194304']

    def canonical(document):
        return etree.tostring(etree.fromstring(document), method='c14n2')

    # Nothing else changes, comments included.
    assert canonical(run(site, 'more-memory', 1, input=parsed).stdout) == canonical(parsed)
    assert 'no document' in run(site, 'more-memory', 4, input=b'', status=1).stderr.decode()
    assert 'usage' in run(site, 'more-memory', 'x', status=1).stderr.decode()


def test_a_driver_of_the_sites_own(site):
    without_dependency(site)
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'drivers_path = {EXAMPLES}/drivers\nve_driver = own\n')
    site.run('pragma_boot', '--vcname', site.entry, '--num_cpus', 2, '--key', site.key)
    assert mine(site) == [f'{site.entry}-compute-0', f'{site.entry}-frontend']
    log = (site.temp / 'started.log').read_text().splitlines()
    assert [line.split(None, 1)[1] for line in log] == [
        f'{site.entry} {node}' for node in (f'{site.entry}.local', 'compute-0')]
    done = site.run('pragma_boot', '--vcname', site.entry, '--num_cpus', 10, '--key', site.key,
                    status=3)
    assert '10 CPUs are more than the maximum of a cluster: 8' in done.stderr.decode()
    assert site.clusters() == [site.entry]


@pytest.fixture(scope='module')
def cluster():
    """A site with the cluster that the example of MPI booted, and the output of the example."""
    with guest_site() as site:
        site.name = f't{os.getpid()}-hello'
        try:
            site.output = run(site, 'mpi-hello', site.name,
                              site.folder / 'key.pub').stdout.decode()
            yield site
        finally:
            site.run('vc-clean', site.name)


def ssh(cluster, *arguments, **options):
    """Run vc-ssh with the user's key, without the ssh configuration of this user."""
    return cluster.run('vc-ssh', '-i', cluster.folder / 'key', *arguments, **options)


@pytest.mark.guest
def test_mpi_hello(cluster):
    ranks = sorted(re.findall('^hello from rank ([0-9]) on (.*)$', cluster.output, re.M))
    assert ranks == [('0', 'compute-0'), ('1', 'compute-0'), ('2', 'compute-1'), ('3', 'compute-1')]
    # The cluster exists now, and is used again.
    again = run(cluster, 'mpi-hello', cluster.name, cluster.folder / 'key.pub').stdout.decode()
    assert sorted(re.findall('^hello from rank ([0-9]) on (.*)$', again, re.M)) == ranks


@pytest.mark.guest
def test_ssh_runs_commands_and_exits_with_their_status(cluster):
    done = ssh(cluster, cluster.name, 'cat; hostname; exit 7', input=b'piped\n', status=7)
    assert lines(done.stdout) == ['piped', f'{cluster.name}.local']
    # ssh printed nothing about an unknown key, and stored none.
    assert done.stderr == b''


@pytest.mark.guest
def test_ssh_goes_on_to_a_compute_node(cluster):
    done = ssh(cluster, '--node', 'compute-1', cluster.name, 'hostname')
    assert done.stdout == b'compute-1\n' and done.stderr == b''
    folder = cluster.temp / 'clusters' / cluster.name
    keys = [(folder / f'{node}.known_hosts').read_text().split()[2]
            for node in ('frontend', 'compute-1')]
    assert len(set(keys)) == 2
    there = ssh(cluster, cluster.name, 'cat /etc/ssh/ssh_host_ed25519_key.pub').stdout.split()[1]
    assert there.decode() == keys[0]


@pytest.mark.guest
def test_ssh_with_a_file_of_ours(cluster):
    config = cluster.folder / 'config'
    config.write_bytes(cluster.run('vc-status', '--ssh-config', '-i', cluster.folder / 'key',
                                   cluster.name).stdout)
    for node, name in (('frontend', f'{cluster.name}.local'), ('compute-1', 'compute-1')):
        done = subprocess.run(['ssh', '-F', config, '-o', 'BatchMode=yes',
                               f'{node}.{cluster.name}', 'hostname'], capture_output=True,
                              check=False)
        # ssh printed nothing about an unknown key.
        assert done.stdout.decode() == f'{name}\n' and done.stderr == b'', done


@pytest.mark.guest
def test_ansible_with_an_inventory_of_ours(cluster):
    ansible = Path(sys.executable).with_name('ansible')
    if not ansible.exists():
        need('ansible')
    inventory = cluster.folder / 'hosts.yml'
    inventory.write_bytes(cluster.run('vc-status', '--ansible', '-i', cluster.folder / 'key',
                                      cluster.name).stdout)
    # -T: a login takes seconds under TCG, and three of them compete.
    done = subprocess.run([ansible, '-i', inventory, '-T', '120', 'all', '-m', 'ping'],
                          capture_output=True, check=False, timeout=900,
                          env={'PATH': os.environ['PATH'], 'HOME': str(cluster.folder),
                               'LC_ALL': 'C.UTF-8',
                               'ANSIBLE_SSH_ARGS': '-o ControlMaster=auto -o ControlPersist=5s'})
    assert done.returncode == 0, done
    found = re.findall(r'^(\S+) \| SUCCESS => (\{.*?^\})', done.stdout.decode(), re.M | re.S)
    assert sorted(name for name, _ in found) == [
        f'{node}.{cluster.name}' for node in (*COMPUTE, 'frontend')]
    assert all('"ping": "pong"' in text for _, text in found)


@pytest.mark.guest
def test_ssh_refuses_another_host_key(cluster):
    known = cluster.temp / 'clusters' / cluster.name / 'frontend.known_hosts'
    right = known.read_text()
    subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', cluster.folder / 'other'],
                   check=True)
    known.write_text(right.split()[0] + ' ' + (cluster.folder / 'other.pub').read_text())
    try:
        assert 'Host key verification failed' in ssh(cluster, cluster.name, 'true',
                                                     status=255).stderr.decode()
    finally:
        known.write_text(right)


@pytest.mark.guest
def test_console_of_a_guest(cluster):
    for node in ('frontend', *COMPUTE):
        output = cluster.run('vc-console', '--no-follow', cluster.name, node).stdout.decode()
        # A frontend is called by the first label of its FQDN.
        name = cluster.name if node == 'frontend' else node
        assert re.search(rf'^pragma_boot: ready {name}\r*$', output, re.M)
