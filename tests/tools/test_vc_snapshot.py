"""vc-snapshot: all nodes of a cluster at one moment, and back; nothing is left half done."""
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from lxml import etree

from lab import ROOT
from lab.images import pack, uefi_image, use_image
from lab.kills import KILL_AT
from lab.leftovers import processes, settled
from lab.needs import do_without, need
from lab.nodes import all_nodes, mine, virsh, without_dependency
from lab.site import lines
from pragma_boot.system import lock

NODES = ('frontend', 'compute-0', 'compute-1')


@pytest.fixture
def cluster(site):
    """A site whose cluster has run; its images have no operating system."""
    need('virsh', 'qemu-io')
    without_dependency(site)
    site.document(site.entry, 'vc-inject')
    site.name, = site.clusters()
    site.boot = lambda: site.run('vc-start', site.name)
    site.boot()
    return site


def disk(site, node):
    return site.temp / 'clusters' / site.name / f'{node}.qcow2'


def states(site):
    return {name: virsh('domstate', name).strip() for name in mine(site)}


def stop(site):
    site.run('vc-shutdown', '--timeout', '0', site.name)


def put(site, node, byte):
    """Fill 4 KiB of a running node's disk with a byte, by its QEMU."""
    answer = virsh('qemu-monitor-command', f'{site.name}-{node}', '--hmp', 'info block')
    device = re.search(r'qcow2.*?Attached to: +(\S+)', answer, re.S)[1]
    said = virsh('qemu-monitor-command', f'{site.name}-{node}', '--hmp',
                 f'qemu-io -d {device} "write -P {byte} 8M 4k"')
    assert 'wrote 4096' in said or said.strip() == '', said


def has(site, node, byte):
    """Whether the disk of a stopped node has the bytes of ``put``."""
    done = subprocess.run(['qemu-io', '-U', '-r', '-f', 'qcow2', '-c', f'read -P {byte} 8M 4k',
                           disk(site, node)], capture_output=True, check=False)
    return b'verification failed' not in done.stdout


def listed(site):
    return [line.split() for line in lines(site.run('vc-snapshot', site.name, '--list').stdout)]


def labels(site, node):
    done = subprocess.run(['qemu-img', 'snapshot', '-U', '-l', disk(site, node)],
                          capture_output=True, check=True)
    return [line.split()[1] for line in lines(done.stdout)[2:]]


def test_running_nodes_go_back_with_their_memory(cluster):
    site = cluster
    assert listed(site) == []
    for node in NODES:
        put(site, node, 17)
    done = site.run('vc-snapshot', site.name, '--as', 'one')
    assert done.stderr == b'' and set(states(site).values()) == {'running'}
    header, row = listed(site)
    assert header == ['SNAPSHOT', 'TAKEN', 'NODES', 'MEMORY']
    assert row[0] == 'one' and row[2:] == ['3', 'all']
    for node in NODES:
        put(site, node, 34)
    site.run('vc-snapshot', site.name, '--revert', 'one')
    assert set(states(site).values()) == {'running'} and len(states(site)) == 3
    stop(site)
    assert all(has(site, node, 17) for node in NODES)
    # Stopped nodes go back to their running selves too.
    site.run('vc-snapshot', site.name, '--revert', 'one')
    assert set(states(site).values()) == {'running'}
    site.run('vc-snapshot', site.name, '--delete', 'one')
    assert listed(site) == [] and not any(labels(site, node) for node in NODES)
    assert set(states(site).values()) == {'running'}


def test_stopped_nodes(cluster):
    site = cluster
    put(site, 'compute-0', 17)
    stop(site)
    site.run('vc-snapshot', site.name, '--as', 'stopped')
    assert listed(site)[1][2:] == ['3', 'none'] and labels(site, 'compute-0') == ['stopped']
    site.boot()
    put(site, 'compute-0', 34)
    done = site.run('vc-snapshot', site.name, '--revert', 'stopped')
    assert f"'vc-start {site.name}' starts them" in done.stderr.decode()
    assert set(states(site).values()) == {'shut off'} and has(site, 'compute-0', 17)
    site.boot()
    site.run('vc-snapshot', site.name, '--delete', 'stopped')
    assert labels(site, 'compute-0') == []


def test_vc_clean_removes_them(cluster):
    site = cluster
    site.run('vc-snapshot', site.name, '--as', 'one')
    site.run('vc-snapshot', site.name, '--as', 'two')
    assert [row[0] for row in listed(site)[1:]] == ['one', 'two']
    site.run('vc-clean', site.name)
    assert site.clusters() == [] and mine(site) == []


def test_refusals(cluster):
    site = cluster
    site.run('vc-snapshot', site.name, '--as', 'one')
    for arguments, message in (
            (('--as', 'one'), "has a snapshot 'one' already"),
            (('--as', '../x'), "snapshot '../x' is not a name"),
            (('--revert', 'two'), "has no snapshot 'two': it has one"),
            (('--delete', 'two'), "has no snapshot 'two': it has one")):
        assert message in site.fails('vc-snapshot', site.name, *arguments)
    assert "no cluster 'nobody'" in site.fails('vc-snapshot', 'nobody', '--list')
    assert 'wrong usage' in site.fails('vc-snapshot', site.name, status=2)
    assert set(states(site).values()) == {'running'}


def test_a_node_that_was_never_started(site):
    site.document(site.entry, 'vc-inject')
    name, = site.clusters()
    assert 'was never started' in site.fails('vc-snapshot', name, '--as', 'one')


def test_a_snapshot_of_another_is_left_alone(cluster):
    site = cluster
    virsh('snapshot-create-as', f'{site.name}-compute-1', 'one')
    said = site.fails('vc-snapshot', site.name, '--as', 'one')
    assert "node 'compute-1' has a snapshot 'one' that vc-snapshot did not take" in said
    assert set(states(site).values()) == {'running'} and listed(site) == []
    assert labels(site, 'frontend') == labels(site, 'compute-0') == []
    assert labels(site, 'compute-1') == ['one']


def test_one_that_fails_leaves_all_running_and_no_snapshot(cluster):
    """The disk of one node cannot be written."""
    site = cluster
    site.run('vc-shutdown', '--timeout', '0', '--node', 'compute-1', site.name)
    path = disk(site, 'compute-1')
    owner = path.stat()
    os.chown(path, os.geteuid(), os.getegid())
    path.chmod(0o400)
    site.fails('vc-snapshot', site.name, '--as', 'one')
    assert sorted(states(site).values()) == ['running', 'running', 'shut off']
    assert listed(site) == [] == labels(site, 'frontend') == labels(site, 'compute-0')
    os.chown(path, owner.st_uid, owner.st_gid)
    path.chmod(owner.st_mode & 0o777)
    site.run('vc-snapshot', site.name, '--as', 'one')


def test_uefi_keeps_the_disk_alone(site):
    """The variables of UEFI are in a raw file, of which libvirt of Debian 12 takes no snapshot."""
    need('mkfs.vfat', 'mcopy', 'grub-mkimage')
    if not os.path.exists('/usr/lib/grub/x86_64-efi'):
        do_without('grub-efi-amd64-bin is not installed')
    use_image(site, pack(uefi_image(site.folder / 'uefi.img')))
    without_dependency(site)
    site.vc_in.write_text(re.sub("<os>.*?</os>", "<os firmware='efi'><type arch='x86_64' "
                                 "machine='q35'>hvm</type></os>", site.vc_in.read_text(),
                                 flags=re.S).replace("dev='hda' bus='ide'",
                                                     "dev='vda' bus='virtio'"))
    site.document(site.entry, 'vc-inject', 1)
    site.name, = site.clusters()
    site.run('vc-start', site.name)
    put(site, 'compute-0', 17)
    done = site.run('vc-snapshot', site.name, '--as', 'one')
    assert len(lines(done.stderr)) == 2
    assert all('cannot be kept, its disk alone is: libvirt takes no snapshot' in line
               for line in lines(done.stderr))
    assert listed(site)[1][2:] == ['2', 'none'] and set(states(site).values()) == {'running'}
    put(site, 'compute-0', 34)
    done = site.run('vc-snapshot', site.name, '--revert', 'one')
    assert b'without memory: frontend, compute-0' in done.stderr
    assert set(states(site).values()) == {'shut off'} and has(site, 'compute-0', 17)
    # Stopped ones too, and each is deleted whether its node runs or not.
    site.run('vc-snapshot', site.name, '--as', 'two')
    assert labels(site, 'compute-0') == ['one', 'two']
    site.run('vc-snapshot', site.name, '--delete', 'two')
    site.run('vc-start', site.name)
    site.run('vc-snapshot', site.name, '--delete', 'one')
    assert listed(site) == [] == labels(site, 'compute-0')


@pytest.mark.parametrize('points', [4, pytest.param(12, marks=pytest.mark.long)])
def test_killed_it_leaves_the_cluster_running(cluster, points):
    site = cluster
    arguments = [ROOT / 'bin' / 'vc-snapshot', site.name, '--as', 'one']

    def run(step):
        with open(site.folder / 'err', 'w+b') as err:
            subprocess.run([*KILL_AT, 'KILL', str(step), *arguments], stderr=err, check=False,
                           stdout=subprocess.DEVNULL, env=site.environment(), timeout=600)
            err.seek(0)
            return err.read().decode().splitlines()[-1]

    last = int(run(0).split()[0])
    site.run('vc-snapshot', site.name, '--delete', 'one')
    for step in range(1, last, max(1, last // points)):
        said = run(step)
        for _ in range(1200):
            if set(states(site).values()) == {'running'}:
                break
            time.sleep(0.1)
        assert set(states(site).values()) == {'running'}, said
        assert settled(site), processes(site)
        if ['one'] not in [row[:1] for row in listed(site) if 'incomplete' not in row]:
            site.run('vc-snapshot', site.name, '--as', 'one')
        assert listed(site)[1][2:] == ['3', 'all'], said
        assert {tuple(labels(site, node)) for node in NODES} == {('one',)}, said
        site.run('vc-snapshot', site.name, '--delete', 'one')
    assert mine(site) == sorted(all_nodes(site)) or mine(site)


def resize(site, num_cpus, status=0):
    """vc-resize without a frontend that can be told: the nodes are as asked for all the same."""
    return site.run('vc-resize', '--force', '--num-cpus', num_cpus, site.name, status=status)


@pytest.fixture
def told(cluster, monkeypatch):
    """The cluster, whose frontend a fake ssh tells; the file with what it was told last."""
    programs = cluster.folder / 'fake'
    programs.mkdir()
    (programs / 'ssh').write_text(f'#!/bin/sh\nexec cat >{cluster.folder}/told\n')
    (programs / 'ssh').chmod(0o755)
    monkeypatch.setenv('PATH', f"{programs}:{os.environ['PATH']}")
    folder = cluster.temp / 'clusters' / cluster.name
    (folder / 'frontend.known_hosts').write_text('frontend ssh-ed25519 AAAA\n')
    return cluster.folder / 'told'


def test_a_node_of_an_old_name_is_not_destroyed(cluster, told):
    """A cluster that shrank and grew again has other nodes under the same names."""
    site = cluster
    site.run('vc-snapshot', site.name, '--as', 'one')
    resize(site, 2)
    resize(site, 4)
    ids = {name: virsh('domid', name) for name in mine(site)}
    line = site.fails('vc-snapshot', site.name, '--revert', 'one')
    assert line == ("vc-snapshot: snapshot 'one' is older than node 'compute-1': shrink the "
                    f"cluster first ('vc-resize --num-cpus 2 {site.name}')")
    assert ids == {name: virsh('domid', name) for name in mine(site)}
    assert set(states(site).values()) == {'running'}
    # The remedy of the message.
    resize(site, 2)
    told.unlink()
    done = site.run('vc-snapshot', site.name, '--revert', 'one')
    assert lines(done.stderr) == ['vc-snapshot: not in the cluster any more: compute-1']
    assert set(states(site).values()) == {'running'} and len(states(site)) == 2
    assert b'name="compute-0"' in told.read_bytes() and b'compute-1' not in told.read_bytes()


def test_a_newer_node_is_named_before_anything_is_destroyed(cluster, told):
    site = cluster
    resize(site, 0)
    site.run('vc-snapshot', site.name, '--as', 'one')
    resize(site, 4)
    ids = {name: virsh('domid', name) for name in mine(site)}
    line = site.fails('vc-snapshot', site.name, '--revert', 'one')
    assert "older than node 'compute-0': shrink the cluster first ('vc-resize --num-cpus 0" in line
    assert ids == {name: virsh('domid', name) for name in mine(site)}


def test_a_frontend_that_cannot_be_told_after_a_revert(cluster, told):
    site = cluster
    site.run('vc-snapshot', site.name, '--as', 'running')
    stop(site)
    site.run('vc-snapshot', site.name, '--as', 'stopped')
    site.boot()
    (site.temp / 'clusters' / site.name / 'frontend.known_hosts').write_text('x\n')
    resize(site, 0)
    done = site.run('vc-snapshot', site.name, '--revert', 'stopped')
    gone, told_later = lines(done.stderr)[:2]
    assert gone == 'vc-snapshot: not in the cluster any more: compute-0, compute-1'
    assert told_later == ('vc-snapshot: the frontend does not run; when it can be reached, '
                          f"'vc-resize --num-cpus 0 {site.name}' tells it its nodes")
    (site.folder / 'fake' / 'ssh').write_text('#!/bin/sh\necho refused >&2; exit 255\n')
    done = site.run('vc-snapshot', site.name, '--revert', 'running')
    assert 'its frontend cannot be reached: refused; when it can' in lines(done.stderr)[1]
    assert set(states(site).values()) == {'running'}


def test_a_failure_in_the_middle_leaves_no_node_suspended(cluster):
    """The disk of one node cannot be written."""
    site = cluster
    site.run('vc-snapshot', site.name, '--as', 'one')
    path = disk(site, 'compute-1')
    virsh('destroy', f'{site.name}-compute-1')
    subprocess.run(['chattr', '+i', path], check=False)
    if not immutable(path):
        do_without('chattr +i does nothing here')
    try:
        line = site.fails('vc-snapshot', site.name, '--revert', 'one')
    finally:
        subprocess.run(['chattr', '-i', path], check=True)
    assert line.endswith("; nodes that are back go on, and the others are stopped: repeat the "
                         f"command, or 'vc-start {site.name}'")
    assert states(site)[f'{site.name}-compute-1'] == 'shut off'
    assert 'paused' not in states(site).values()
    site.run('vc-snapshot', site.name, '--revert', 'one')
    assert set(states(site).values()) == {'running'}


def immutable(path):
    """Whether a file cannot be written, even by root."""
    try:
        with open(path, 'ab'):
            return False
    except OSError:
        return True


def test_paused_nodes_stay_paused(cluster):
    site = cluster
    virsh('suspend', f'{site.name}-compute-1')
    one = {f'{site.name}-{node}': 'running' for node in NODES} | {
        f'{site.name}-compute-1': 'paused'}
    site.run('vc-snapshot', site.name, '--as', 'one')
    assert states(site) == one
    virsh('resume', f'{site.name}-compute-1')
    site.run('vc-snapshot', site.name, '--revert', 'one')
    assert states(site) == one


@pytest.mark.parametrize('content, fault', [
    ('<snapshots><snapshot/></snapshots>', 'a <snapshot> has no name, taken or state'),
    ('<x/>', 'its root is not <snapshots>'),
    ("<snapshots><snapshot name='a' taken='b' state='complete'/></snapshots>",
     'a complete <snapshot> has no <node>'),
    ("<snapshots><snapshot name='a' taken='b' state='complete'><node/></snapshot></snapshots>",
     'a <node> has no name'),
])
def test_a_file_that_was_edited(site, content, fault):
    site.document(site.entry, 'vc-allocate')
    path = site.temp / 'clusters' / site.entry / 'snapshots.xml'
    path.write_text(content)
    for words in (('--list',), ('--revert', 'a'), ('--as', 'a'), ('--delete', 'a')):
        line = site.fails('vc-snapshot', site.entry, *words)
        assert line == f"vc-snapshot: '{path}' is not as vc-snapshot writes it: {fault}"


@pytest.mark.parametrize('tool', ['vc-snapshot', 'vc-capture'])
def test_a_node_that_leaves_meanwhile(cluster, tool):
    """The tool waits for the resize, and then works on the nodes that are left."""
    site = cluster
    stop(site)
    path = site.temp / 'clusters' / site.name / 'document.xml'
    root = etree.parse(path).getroot()
    leaving = root.find("cluster/node[@name='compute-0']")
    with lock.exclusive(str(path.parent / 'resize.lock')):
        if tool == 'vc-snapshot':
            running = site.start(tool, site.name, '--as', 'one')
        else:
            running = site.start(tool, site.name, '--as', 'one', '--node', 'compute-0',
                                 '--base_path', site.base)
        wait_for_lock(running, path.parent / 'resize.lock')
        leaving.getparent().remove(leaving)
        path.write_bytes(etree.tostring(root))
    stderr = running.communicate(timeout=300)[1].decode()
    if tool == 'vc-snapshot':
        assert running.returncode == 0, stderr
        assert listed(site)[1][2] == '2' and labels(site, 'compute-0') == []
    else:
        assert running.returncode == 1 and "'compute-0'" in stderr


def wait_for_lock(running, path):
    """Wait until a process waits for the lock on a file (proc_locks(5): a line with '->')."""
    inode = path.stat().st_ino
    end = time.monotonic() + 300
    while not any('->' in line and f':{inode} ' in line
                  for line in lines(Path('/proc/locks').read_bytes())):
        assert running.poll() is None and time.monotonic() < end
        time.sleep(0.02)
