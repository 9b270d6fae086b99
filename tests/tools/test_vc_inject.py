"""vc-inject: overlays with each node's own files in them, written and read back."""
import os
import re
import subprocess

import pytest
from lxml import etree

from lab.images import inside, make_image, pack, superblock, use_image
from lab.leftovers import mounts, processes
from lab.needs import need
from lab.nodes import disks


@pytest.fixture
def document(site):
    return site.document(site.entry, 'vc-allocate')


def test_golden(site, document, golden, replacements):
    golden('vc-inject', site.run('vc-inject', input=document).stdout, *replacements)


def test_each_disk_has_its_own_vc_out(site, document):
    output = site.run('vc-inject', input=document).stdout
    paths = disks(output)
    assert list(paths) == ['frontend', 'compute-0', 'compute-1']
    for name, path in paths.items():
        assert inside(path, 'cat', '/root/vc-out.xml') == \
            site.run('vc-out', '--node', name, input=output).stdout
        assert b'Mode:  0600' in inside(path, 'stat', '/root/vc-out.xml')
        assert os.stat(path).st_blocks * 512 < 1 << 20
    private = (site.temp / 'clusters' / site.entry / 'id_ed25519').read_bytes()
    assert inside(paths['frontend'], 'cat', '/root/.ssh/id_ed25519') == private
    assert b'Mode:  0700' in inside(paths['frontend'], 'stat', '/root/.ssh')
    assert inside(paths['compute-0'], 'cat', '/root/.ssh/id_ed25519') == b''
    info = subprocess.run(['qemu-img', 'info', paths['frontend']], capture_output=True, check=True)
    assert b'backing file format: raw' in info.stdout
    assert processes(site) == [] and mounts(site) == []


@pytest.mark.parametrize('kind, keys', [('ext4', 1), ('ext4', 200), ('ext2', 200)])
def test_copies_of_a_disk_are_sound(site, kind, keys):
    """Of names with one more letter, and of content in many blocks."""
    path = make_image(site.folder / 'other.img', mkfs=('mke2fs', '-t', kind, '-b', '1024'))
    use_image(site, pack(path))
    site.key.write_text(''.join(f'{site.key.read_text().strip()}{count}\n'
                                for count in range(keys)))
    output = site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 22)).stdout
    paths = disks(output)
    for name in ('compute-0', 'compute-1', 'compute-9', 'compute-10'):
        wanted = site.run('vc-out', '--node', name, input=output).stdout
        assert inside(paths[name], 'cat', '/root/vc-out.xml').rstrip(b'\n') == wanted.rstrip(b'\n')
        assert b'Mode:  0600' in inside(paths[name], 'stat', '/root/vc-out.xml')
        raw = site.folder / 'copy.raw'
        subprocess.run(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', paths[name], raw],
                       check=True)
        subprocess.run(['e2fsck', '-fn', f'{raw}?offset=1048576'], check=True, capture_output=True)
        subprocess.run(['qemu-img', 'check', '-f', 'qcow2', paths[name]], check=True,
                       capture_output=True)
        assert os.stat(paths[name]).st_blocks * 512 < 1 << 20
    assert processes(site) == [] and mounts(site) == []


def test_existing_disks_stay_unchanged(site, document):
    output = site.run('vc-inject', input=document).stdout

    def look():
        """Without the time of access, which reading changes."""
        found = {path: os.stat(path) for path in disks(output).values()}
        return {path: (one.st_ino, one.st_size, one.st_mode, one.st_mtime_ns, one.st_ctime_ns)
                for path, one in found.items()}
    before = look()
    # The earlier document, too: the disks may hold a guest's data.
    for again in (output, document):
        assert site.run('vc-inject', input=again).stdout == output
    assert look() == before


def test_an_incomplete_disk_is_made_again(site, document):
    folder = site.temp / 'clusters' / site.entry
    (folder / 'compute-0.qcow2').write_bytes(b'half')
    (folder / '.compute-1.qcow2.tmp').write_bytes(b'half')
    output = site.run('vc-inject', input=document).stdout
    assert inside(disks(output)['compute-0'], 'cat', '/root/vc-out.xml')
    assert [name for name in os.listdir(folder) if name.startswith('.')] == []


@pytest.mark.parametrize('harm, reason', [
    (['rmdir root', 'symlink root /etc'], '/root is not a directory'),
    (['mkdir /root/vc-out.xml'], '/root/vc-out.xml is a directory'),
    (['symlink /root/.ssh /etc'], '/root/.ssh is not a directory'),
])
def test_row_18_19_refuses_images_with_traps(site, harm, reason):
    path = make_image(site.folder / 'trap.img', [('etc/shadow', b'secret')])
    subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset=1048576'],
                   input='\n'.join(harm).encode(), check=True, capture_output=True)
    use_image(site, pack(path))
    document = site.document(site.entry, 'vc-allocate')
    assert reason in site.fails('vc-inject', input=document)
    folder = site.temp / 'clusters' / site.entry
    # Disks of compute nodes that were made before the frontend was refused stay.
    assert set(os.listdir(folder)) - {'compute-0.qcow2', 'compute-1.qcow2'} == {'document.xml',
                                                                                'id_ed25519'}
    assert processes(site) == [] and mounts(site) == []


def test_row_19_a_link_at_the_target_is_removed_not_followed(site):
    path = make_image(site.folder / 'link.img', [('etc/shadow', b'secret')])
    subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset=1048576'], check=True,
                   input=b'symlink /root/vc-out.xml /etc/shadow\n', capture_output=True)
    use_image(site, pack(path))
    output = site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 0)).stdout
    disk = disks(output)['frontend']
    assert inside(disk, 'cat', '/etc/shadow') == b'secret'
    assert b'Type: regular' in inside(disk, 'stat', '/root/vc-out.xml')


def test_row_18_a_full_file_system(site):
    path = make_image(site.folder / 'full.img')
    # debugfs says nothing and returns 0 when there is no block left.
    (site.folder / 'filler').write_bytes(os.urandom(13 << 20))
    for size in (1 << 20, 64 << 10, 4096, 1024):
        (site.folder / 'piece').write_bytes(os.urandom(size))
        for count in range(20):
            subprocess.run(['debugfs', '-w', '-R', f'write piece f{size}-{count}',
                            f'{path}?offset=1048576'], cwd=site.folder, capture_output=True,
                           check=True)
    free = superblock(path)
    if 'Free blocks:              0' not in free:
        pytest.fail(f'the test did not fill the file system: {free}')
    subprocess.run(['e2fsck', '-fy', f'{path}?offset=1048576'], capture_output=True, check=False)
    use_image(site, pack(path))
    document = site.document(site.entry, 'vc-allocate', 0)
    assert "node 'frontend'" in site.fails('vc-inject', input=document)
    assert 'frontend.qcow2' not in os.listdir(site.temp / 'clusters' / site.entry)


def test_row_30_without_the_staged_image_or_the_reservation(site, document):
    image = etree.fromstring(document).find('image').get('path')
    os.rename(image, f'{image}.away')
    assert 'is missing: run vc-stage again' in site.fails('vc-inject', input=document)
    os.rename(f'{image}.away', image)
    site.run('vc-clean', site.entry)
    assert 'is not in the ledger' in site.fails('vc-inject', input=document)


@pytest.mark.guest
def test_row_19_20_libguestfs_writes_what_debugfs_cannot(site):
    """A file system with a feature outside the list: the appliance of libguestfs."""
    need('guestfish')
    path = make_image(site.folder / 'inline.img', [('etc/shadow', b'secret')], size='48M',
                      mkfs=('mke2fs', '-t', 'ext4', '-O', 'inline_data'))
    subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset=1048576'], check=True,
                   input=b'symlink /root/vc-out.xml /etc/shadow\n', capture_output=True)
    use_image(site, pack(path))
    output = site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 0)).stdout
    disk = disks(output)['frontend']
    assert inside(disk, 'cat', '/root/vc-out.xml') == site.run('vc-out', input=output).stdout
    # debugfs pads content in the inode.
    assert inside(disk, 'cat', '/etc/shadow').rstrip(b'\0') == b'secret'
    assert b'Mode:  0600' in inside(disk, 'stat', '/root/vc-out.xml')
    assert inside(disk, 'cat', '/root/.ssh/id_ed25519').startswith(b'-----BEGIN')


@pytest.mark.parametrize('pattern, by, message', [
    ('<dns ip="[^"]*"', '<dns ip="not"', '<dns> has ip="not": it must be an IPv4 address'),
    (' ip="10.1.255.254"', ' ip="10.1.1.1"', 'which \'frontend\' has: it must be another'),
    (' ip="10.1.255.254"', ' ip="10.9.1.1"', 'in the private network 10.1.0.0/16'),
    (' name="compute-0"', ' name="other"', "the ledger has no <node> 'other'"),
    (' memory="[0-9]+"', ' memory="512M"', '<node> has memory="512M": it must be a whole number'),
])
def test_an_edited_document_is_checked(site, pattern, by, message):
    document = site.document(site.entry, 'vc-allocate', 2).decode()
    assert re.search(pattern, document)
    edited = re.sub(pattern, by, document, count=1).encode()
    assert message in site.fails('vc-inject', input=edited)
    assert not list((site.temp / 'clusters' / site.entry).glob('*.qcow2'))


def test_an_edited_document_asks_for_more_than_there_is(site):
    document = site.document(site.entry, 'vc-allocate', 2)
    edited = re.sub(b'(role="compute".* memory=")[0-9]+"', rb'\g<1>9999999999"', document)
    assert edited != document
    assert "for the edited nodes of cluster" in site.fails('vc-inject', input=edited, status=3)


def test_an_edit_after_vc_inject_is_refused_and_changes_nothing(site):
    document = site.document(site.entry, 'vc-inject', 2)
    ledger = site.temp / 'clusters' / site.entry / 'document.xml'
    before = ledger.read_bytes()
    for tool in ('vc-inject', 'vc-boot'):
        for pattern, by, said in (
                (b'search="local"', b'search="example.org"', 'search="example.org", but "local"'),
                (b' cpus="2"', b' cpus="4"', 'cpus="4", but "2" in the ledger'),
                (b'/compute-0.qcow2', b'/other.qcow2', '/other.qcow2", but "/'),
                (b'bus="ide"', b'bus="virtio"',
                 'devices/disk/target/@bus "virtio", but "ide" in the ledger'),
                (b'<memory>1048576', b'<memory>524288', '<domain> of the frontend has memory'),
                (b'<driver>rocks6_client', b'<driver>generic', '<driver> is "generic", but')):
            edited = document.replace(pattern, by)
            assert edited != document
            line = site.fails(tool, input=edited)
            assert said in line and 'it was edited too late' in line, line
    assert ledger.read_bytes() == before


def test_an_edit_before_vc_inject_is_applied(site):
    document = site.document(site.entry, 'vc-allocate', 2)
    edited = document.replace(b'search="local"', b'search="example.org"')
    told = site.run('vc-inject', input=edited).stdout
    assert b'search="example.org"' in told
    assert (site.temp / 'clusters' / site.entry / 'document.xml').read_bytes() == told
