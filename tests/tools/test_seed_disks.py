"""Seed disks: the nodes of stock cloud images get their settings from a disk of their own."""
import os
import re
import subprocess
from pathlib import Path

import pytest
from lxml import etree

from lab import ROOT
from lab.images import pack, use_image
from lab.needs import need
from lab.nodes import boot, disks, mine, without_dependency
from lab.site import lines

TEXTS = ['meta-data', 'user-data', 'network-config']


@pytest.fixture
def seeded(site):
    """The site, whose entry has cloud-init in it as far as its vc-in.xml says."""
    need('mkfs.vfat', 'mcopy')
    choose(site)
    without_dependency(site)
    # Of no format that anything here could read.
    path = site.folder / 'stock.img'
    path.write_bytes(os.urandom(4096) * 64)
    use_image(site, pack(path))
    return site


def choose(site):
    text, count = re.subn('<driver>[^<]*', '<driver>cloud_init', site.vc_in.read_text())
    assert count == 1
    site.vc_in.write_text(text)


def seeds(document):
    return {node.get('name'): node.find('seed').get('path')
            for node in etree.fromstring(document).iterfind('cluster/node')}


def state(paths):
    """The content and the time of files."""
    return {name: (Path(path).read_bytes(), os.stat(path).st_mtime_ns)
            for name, path in paths.items()}


def content(path, name):
    return subprocess.run(['mtype', '-i', path, f'::{name}'], capture_output=True, check=True,
                          env={**os.environ, 'MTOOLSRC': '/dev/null'}).stdout


def told(site, document, name):
    """What vc-out --seed says: each text by its name."""
    output = site.run('vc-out', '--seed', '--node', name, input=document).stdout
    parts = re.split(rb'^==> (\S+) <==\n', output, flags=re.M)[1:]
    found = {file.decode(): text.rstrip(b'\n')
             for file, text in zip(parts[::2], parts[1::2], strict=True)}
    assert list(found) == TEXTS
    return found


def test_staging_looks_for_no_root_partition(seeded):
    document = seeded.document(seeded.entry, 'vc-stage')
    for image in etree.fromstring(document).findall('image'):
        assert image.get('inject') == 'seed' and len(image) == 0
        assert not {'offset', 'length', 'filesystem'} & set(image.attrib)
        assert os.path.getsize(image.get('path')) == int(image.get('size'))
    assert seeded.run('vc-stage', input=document).stdout == document


def test_another_image_than_that_of_other_drivers(site):
    """Staging may replay a journal, which is then another file."""
    before = {image.get('path') for image in
              etree.fromstring(site.document(site.entry, 'vc-stage')).findall('image')}
    choose(site)
    after = {image.get('path') for image in
             etree.fromstring(site.document(site.entry, 'vc-stage')).findall('image')}
    assert not before & after


def test_each_node_has_its_own_seed_disk(seeded):
    document = seeded.document(seeded.entry, 'vc-inject')
    paths, folder = seeds(document), seeded.temp / 'clusters' / seeded.entry
    assert list(paths) == ['frontend', 'compute-0', 'compute-1']
    key = (folder / 'id_ed25519').read_bytes()
    for name, path in paths.items():
        assert path == str(folder / f'{name}.seed.img')
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert os.stat(path).st_uid == os.stat(disks(document)[name]).st_uid
        assert os.stat(path).st_blocks * 512 <= 2 << 20
        found = subprocess.run(['blkid', '-p', '-o', 'value', '-s', 'LABEL', '-s', 'TYPE', path],
                               capture_output=True, check=True).stdout.split()
        assert found == [b'CIDATA', b'vfat']
        subprocess.run(['fsck.vfat', '-n', path], check=True, capture_output=True)
        said = told(seeded, document, name)
        for file in ('meta-data', 'network-config'):
            assert content(path, file).rstrip(b'\n') == said[file]
        user_data = content(path, 'user-data')
        assert user_data.startswith(b'#cloud-config\n')
        # vc-out does not know the private key.
        assert (user_data.rstrip(b'\n') == said['user-data']) == (name != 'frontend')
        assert (b'id_ed25519' in user_data) == (name == 'frontend')
        assert b'id_ed25519' not in said['user-data'] and key not in said['user-data']
    assert sorted(os.listdir(folder)) == sorted([
        'document.xml', 'id_ed25519', *(os.path.basename(path) for path in paths.values()),
        *(os.path.basename(path) for path in disks(document).values())])


def test_nothing_is_written_into_the_disks(seeded):
    document = seeded.document(seeded.entry, 'vc-inject')
    for node in etree.fromstring(document).iterfind('cluster/node'):
        disk = node.find('disk')
        subprocess.run(['qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', disk.get('path'),
                        disk.get('backing')], check=True, capture_output=True)
    copied = node.find('disk').get('path')      # a copy of the first compute node's disk
    assert os.stat(copied).st_blocks * 512 < 64 << 10


def test_run_again_changes_nothing_and_makes_what_is_lacking(seeded):
    document = seeded.document(seeded.entry, 'vc-inject')
    paths = seeds(document)
    before = state(paths)
    os.unlink(paths['compute-0'])
    assert seeded.run('vc-inject', input=document).stdout == document
    without = re.sub(b'<seed [^>]*>', b'', document)
    assert seeds(seeded.run('vc-inject', input=without).stdout) == paths
    after = state(paths)
    # The same bytes, whenever they are made.
    assert {name: data for name, (data, _) in after.items()} == \
        {name: data for name, (data, _) in before.items()}
    assert after['frontend'] == before['frontend'] and after['compute-0'] != before['compute-0']


def test_a_lacking_disk_is_never_made_again(seeded):
    document = seeded.document(seeded.entry, 'vc-inject')
    os.unlink(disks(document)['compute-0'])
    assert 'is missing' in seeded.fails('vc-inject', input=document)


def test_the_domain_has_it_as_a_second_disk(seeded):
    document = seeded.document(seeded.entry, 'vc-inject')
    for name, path in seeds(document).items():
        output = seeded.run('vc-boot', '--print', '--node', name, input=document).stdout
        root, seed = etree.fromstring(output).findall('devices/disk')
        assert root.find('source').get('file') == disks(document)[name]
        assert root.find('readonly') is None
        assert seed.find('source').get('file') == path
        assert seed.find('readonly') is not None
        assert seed.find('driver').get('type') == 'raw'
        # The example's root disk is on ide, where QEMU has no read-only disks.
        assert seed.find('target').attrib == {'dev': 'vdb', 'bus': 'virtio'}
        file = seeded.folder / 'domain.xml'
        file.write_bytes(output)
        done = subprocess.run(['virt-xml-validate', file, 'domain'], capture_output=True,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('bus', ['ide', 'virtio', 'scsi'])
def test_it_starts_and_is_removed_with_the_node(seeded, bus):
    """QEMU boots from the first disk, whatever the bus."""
    seeded.vc_in.write_text(seeded.vc_in.read_text().replace('bus="ide"', f'bus="{bus}"')
                            .replace("bus='ide'", f"bus='{bus}'"))
    document = seeded.document(seeded.entry, 'vc-inject', 0)
    boot(seeded, document)
    assert mine(seeded) == [f'{seeded.entry}-frontend']
    path = seeds(document)['frontend']
    command = next(words for words in processes() if f'guest={seeded.entry}-frontend' in words)
    devices = [word for word in command.split('\0') if 'bootindex' in word]
    assert len(devices) == 1 and 'libvirt-1-format' not in devices[0], devices
    assert path in command
    seeded.run('vc-clean', seeded.entry)
    assert not os.path.exists(path) and mine(seeded) == []


def test_a_node_with_a_seed_disk_boots_without_a_saved_state(seeded):
    done = boot(seeded, seeded.document(seeded.entry, 'vc-inject', 2), '--from-saved')
    _, line = lines(done.stderr)
    assert line == (
        "vc-boot: node 'frontend' is booted, not started from a saved state: its document is not "
        'a file of an ext2, ext3 or ext4 file system')
    assert len(mine(seeded)) == 2 and not os.path.exists(seeded.temp / 'saved')


def processes():
    """The command lines of all processes."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as file:
                found.append(file.read().decode(errors='replace'))
        except OSError:
            continue
    return found


def test_a_node_without_its_seed_disk_does_not_start(seeded):
    document = seeded.document(seeded.entry, 'vc-inject')
    os.unlink(seeds(document)['compute-1'])
    assert "node 'compute-1' has no seed disk: run vc-inject" in seeded.fails(
        'vc-boot', input=document)
    assert mine(seeded) == []


def test_a_node_that_joins_gets_one_and_a_node_that_leaves_has_none(seeded):
    """No guest runs that could be told: vc-resize says so, and the seed disks of others stay."""
    document = seeded.document(seeded.entry, 'vc-boot', 2)
    before, folder = state(seeds(document)), seeded.temp / 'clusters' / seeded.entry
    assert sorted(before) == ['compute-0', 'frontend']
    assert 'has 4 CPUs now' in seeded.fails('vc-resize', '--num-cpus', 4, seeded.entry)
    paths = seeds((folder / 'document.xml').read_bytes())
    assert b'"local-hostname": "compute-1"' in content(paths.pop('compute-1'), 'meta-data')
    assert state(paths) == before
    assert 'has 2 CPUs now' in seeded.fails('vc-resize', '--num-cpus', 2, '--force', seeded.entry)
    assert state(seeds((folder / 'document.xml').read_bytes())) == before
    assert sorted(path.name for path in folder.glob('*.seed.img')) == [
        'compute-0.seed.img', 'frontend.seed.img']


def test_in_a_storage_pool(seeded, host):
    """Volumes beside the disks, which vc-inject makes again and vc-clean removes."""
    with open(seeded.conf, 'a', encoding='utf-8') as conf:
        conf.write('storage = pool:default\n')

    def virsh(*words):
        return lines(subprocess.run(['virsh', '-q', '-c', host.uri, *words], capture_output=True,
                                    check=True).stdout)

    def volumes():
        return [line.split()[0] for line in virsh('vol-list', 'default') if '.seed.img' in line]
    document = seeded.document(seeded.entry, 'vc-inject', 2)
    wanted = sorted(os.path.basename(path) for path in seeds(document).values())
    assert sorted(volumes()) == wanted and len(wanted) == 2
    virsh('vol-delete', '--pool', 'default', wanted[0])
    assert seeded.run('vc-inject', input=document).stdout == document
    assert sorted(volumes()) == wanted
    assert [name for name in os.listdir(seeded.temp / 'clusters' / seeded.entry)
            if 'seed' in name] == []
    seeded.run('vc-clean', seeded.entry)
    assert volumes() == []


def test_vc_check_asks_for_cloud_init_alone(seeded):
    # Its image has no partition table: what starts it is not known.
    output = seeded.run('vc-check', seeded.vc_in, status=1).stdout.decode()
    assert 'not checked: the firmware' in output and 'FAIL' not in output
    assert 'nodes have seed disks: nothing is written into the image' in output
    assert 'partition 1' not in output and 'guest part' not in output


def test_vc_check_looks_into_an_image_that_it_can_read(site):
    choose(site)
    output = site.run('vc-check', site.vc_in, status=1).stdout.decode()
    assert 'there is no cloud-init, which a seed disk is for: install cloud-init in it' in output


def test_a_failure_leaves_nothing(seeded):
    """mcopy is not there, and then it is."""
    document = seeded.document(seeded.entry, 'vc-allocate')
    folder = seeded.temp / 'clusters' / seeded.entry
    before = sorted(os.listdir(folder))
    tools = seeded.folder / 'tools'
    tools.mkdir()
    (tools / 'mcopy').write_text('#!/bin/sh\necho "Disk full" >&2\nexit 1\n')
    (tools / 'mcopy').chmod(0o755)
    done = subprocess.run(['env', f'PATH={tools}:{os.environ["PATH"]}',
                           ROOT / 'bin' / 'vc-inject'],
                          input=document, capture_output=True, env=seeded.environment(),
                          check=False)
    assert done.returncode == 1 and done.stdout == b''
    line, = lines(done.stderr)
    assert re.fullmatch("vc-inject: cannot write a seed disk: Disk full", line)
    assert sorted(os.listdir(folder)) == before
    assert list(seeds(seeded.run('vc-inject', input=document).stdout)) == [
        'frontend', 'compute-0', 'compute-1']
