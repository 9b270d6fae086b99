"""Bad inputs and faults, made for real: those of tests/faults.md that no other file's tests make.

``row_NN`` in the name of a test is the number of the row.
"""
import contextlib
import gzip
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from lxml import etree

from lab import ROOT, SCRATCH
from lab.images import FIRST, disk, entry, inside, make_image, pack, superblock, use_image
from lab.leftovers import mounts, processes
from lab.needs import do_without, need, need_fuse
from lab.nodes import disks, files, parsed, staged
from lab.site import lines
from pragma_boot.system.lock import exclusive

START = 1 << 20
"""Where partition 1 of make_image's disks begins, in bytes."""


def debugfs(path, *commands):
    """Change the file system of a raw image by debugfs."""
    done = subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset={START}'], check=True,
                          input='\n'.join(commands).encode(), capture_output=True)
    assert len(lines(done.stderr)) <= 1 + sum('write' in one for one in commands), done.stderr


def refuses(site, path, reason):
    """vc-stage refuses an image with ``reason``, leaves nothing, and then stages a good one."""
    original = (site.vc_in.parent / 'calit2-119-222.img.gz').read_bytes()
    content = path if isinstance(path, bytes) else path.read_bytes()
    (site.vc_in.parent / 'calit2-119-222.img.gz').write_bytes(content)
    before = files(site) if (site.temp / 'images').exists() else []
    line = site.fails('vc-stage', '--types', 'frontend', input=parsed(site))
    assert re.search(reason, line), line
    assert files(site) == before and processes(site) == [] and mounts(site) == []
    assert (site.vc_in.parent / 'calit2-119-222.img.gz').read_bytes() == content
    (site.vc_in.parent / 'calit2-119-222.img.gz').write_bytes(original)
    assert staged(site.run('vc-stage', '--types', 'frontend',
                           input=parsed(site)).stdout)['frontend'] is not None


def test_row_09_a_wrong_length(site, little_image):
    whole = little_image.read_bytes()
    refuses(site, whole[:-4] + struct.pack('<I', 4096), 'cannot unpack image')


def test_row_11_a_bomb_fills_no_disk(site, small_disk):
    """2 MB that unpack to 2 GB, where 64 MB are free, and where a setting allows less."""
    bomb = gzip.compress(b'\1' * (8 << 20), 9) * 256
    assert len(bomb) < 3 << 20
    refuses(site, bomb, 'No space left on device')
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('image_max_size = 32M\n')
    refuses(site, bomb, 'unpacks to more than 33554432 bytes')


def test_row_12_a_qcow2_that_calls_itself_raw(site):
    """Its backing file is /etc/shadow, which a conversion would copy."""
    path = site.folder / 'liar.img'
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', '/etc/shadow',
                    path, '16M'],
                   check=True)
    with open(path, 'ab') as file:
        file.truncate(-(-path.stat().st_size // 512) * 512)
    refuses(site, pack(path), 'is qcow2, not raw')


def test_row_12_a_guest_that_writes_a_qcow2_header_stays_in_its_disk(site):
    """The domain names the format of each layer, so QEMU does not probe it."""
    document = site.document(site.entry, 'vc-inject', 0)
    domain = etree.fromstring(site.run('vc-boot', '--print', input=document).stdout)
    found = domain.find('devices/disk')
    assert found.find('driver').get('type') == 'qcow2'
    assert found.find('backingStore/format').get('type') == 'raw'
    assert len(found.find('backingStore/backingStore')) == 0


@pytest.mark.parametrize('kind', ['fifo', 'device'])
def test_row_13_what_is_not_a_file(site, kind):
    """It replaces the image after vc-parse found a file."""
    document = parsed(site)
    path = site.vc_in.parent / 'calit2-119-222.img.gz'
    path.unlink()
    if kind == 'fifo':
        os.mkfifo(path)
    else:
        path.symlink_to('/dev/zero')
    assert 'is not a regular file' in site.fails('vc-stage', '--types', 'frontend', input=document)
    assert not (site.temp / 'images').exists() or files(site) == []


TABLES = {
    'outside': ([(FIRST, entry(2048, 1 << 20))], 'lies outside the disk|no partition'),
    'start 0': ([(FIRST, entry(0, 2048))], 'lies outside the disk|no partition'),
    'overflow': ([(FIRST, entry(0xffffffff, 0xffffffff))], 'lies outside the disk|no partition'),
    'extended that loops': ([(FIRST, entry(2048, 8192, 5)), (START + FIRST, entry(0, 8192, 5)),
                             (START + 510, b'\x55\xaa')], 'partition 1 is extended'),
    'empty': ([(FIRST, bytes(64))], 'has no partition$'),
    'GPT cut off': ([(512, b'EFI PART' + os.urandom(84))], 'partition'),
}


@pytest.mark.parametrize('name', TABLES)
def test_row_14_wrong_partition_tables(site, name):
    content, reason = TABLES[name]
    refuses(site, pack(disk(site, 'label: dos\nstart=1MiB, type=83\n', content=content)), reason)


@pytest.mark.parametrize('table, reason', [
    ('label: dos\nstart=1MiB, type=5\n', 'partition 1 is extended'),
    ('label: dos\n2: start=1MiB, type=83\n', 'partition 2 has no file system'),
    ('label: gpt\nstart=1MiB, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n', 'partition 1'),
])
def test_row_15_partitions_of_other_kinds(site, table, reason):
    refuses(site, pack(disk(site, table)), reason)


def signature(name, *command):
    """The content of a sparse file of 8 MiB after a program has formatted it."""
    need(command[0])
    path = Path(name)
    with open(path, 'wb') as file:
        file.truncate(8 << 20)
    subprocess.run([*command, path], check=True, capture_output=True)
    return path.read_bytes()


LVM = (512, b'LABELONE' + struct.pack('<QII', 1, 0, 32) + b'LVM2 001' + bytes(32))
"""The label of an LVM physical volume (lvm2, lib/format_text/layout.h); blkid checks its CRC."""


@pytest.mark.parametrize('command, reason', [
    (('mkswap',), 'partition 1 is swap'),
    (('cryptsetup', '-q', 'luksFormat', '--key-file', '/dev/urandom', '--keyfile-size', '32',
      '--pbkdf',
      'pbkdf2', '--pbkdf-force-iterations', '1000'), 'encrypted|no file system'),
    (('true',), 'partition 1 has no file system'),
])
def test_row_15_by_the_content_of_the_partition(site, command, reason):
    """Whatever type the table has."""
    if not shutil.which(command[0]):
        pytest.skip(f"'{command[0]}' is not installed")
    content = signature(site.folder / 'part', *command)
    refuses(site, pack(disk(site, 'label: dos\nstart=1MiB, type=83\n', content=[(START, content)])),
            reason)


def test_row_16_a_file_system_larger_than_its_partition(site):
    """e2fsck -fn exits 0 for it."""
    path = make_image(site.folder / 'large.img')
    subprocess.run(['sfdisk', '-q', '--no-reread', path],
                   input=b'label: dos\nstart=1MiB, size=8MiB, type=83\n',
                   check=True, capture_output=True)
    done = subprocess.run(['e2fsck', '-fn', f'{path}?offset={START}'], capture_output=True,
                          check=False)
    assert done.returncode == 0
    refuses(site, pack(path), 'the file system is larger than its partition')


def test_row_17_a_journal_restores_nothing_old(site, tmp_path):
    """The journal has the old block of vc-out.xml, and a mount would replay it."""
    need_fuse()
    path = make_image(site.folder / 'crashed.img', [('root/vc-out.xml', b'old' + bytes(1000))])
    output = subprocess.run(['debugfs', '-R', 'blocks /root/vc-out.xml', f'{path}?offset={START}'],
                          check=True,
                          capture_output=True).stdout
    block = int(output.split()[-1])
    (tmp_path / 'old').write_bytes(b'OLD'.ljust(1024, b'x'))
    debugfs(path, 'journal_open', f'journal_write -b {block} {tmp_path}/old', 'journal_close')
    use_image(site, pack(path))
    output = site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 0)).stdout
    raw = site.folder / 'guest.raw'
    subprocess.run(['qemu-img', 'dd', '-f', 'qcow2', '-O', 'raw', f"if={disks(output)['frontend']}",
                    f'of={raw}',
                    'bs=1M', 'skip=1'], check=True, capture_output=True)
    # As a guest's kernel does first.
    subprocess.run(['e2fsck', '-p', '-E', 'journal_only', raw], check=False, capture_output=True)
    found = subprocess.run(['debugfs', '-R', 'cat /root/vc-out.xml', raw], check=True,
                           capture_output=True).stdout
    assert found == site.run('vc-out', input=output).stdout
    subprocess.run(['e2fsck', '-fn', raw], check=True, capture_output=True)


def fill_inodes(site, path):
    """Take all inodes of the file system of a raw image."""
    free = int(re.search(r'Free inodes: +(\d+)', superblock(path))[1])
    (site.folder / 'x').write_text('x')
    debugfs(path, *(f'write {site.folder}/x file{count}' for count in range(free)))


def test_row_18_no_inode_is_left(site):
    need_fuse()
    path = make_image(site.folder / 'inodes.img', mkfs=('mke2fs', '-t', 'ext4', '-N', '16'))
    fill_inodes(site, path)
    use_image(site, pack(path))
    document = site.document(site.entry, 'vc-allocate', 0)
    assert "node 'frontend'" in site.fails('vc-inject', input=document)
    assert not (site.temp / 'clusters' / site.entry / 'frontend.qcow2').exists()
    assert processes(site) == [] and mounts(site) == []


@pytest.mark.parametrize('shim, reason', [
    ('[ "$1" = -w ] || exec {real} "$@"; sed "s/^write in0 /write in1 /" | {real} "$@"',
     'does not read back as written'),
    ('echo "ext2fs_something: it went wrong" >&2; exec {real} "$@"', 'it went wrong'),
], ids=['reads back', 'complains'])
def test_row_18_each_guard_alone(site, monkeypatch, shim, reason):
    """One debugfs writes something else without a message; one complains, and does all well."""
    need_fuse()
    document = site.document(site.entry, 'vc-allocate', 0)
    (site.folder / 'bin').mkdir()
    script = shim.format(real=shutil.which('debugfs'))
    (site.folder / 'bin' / 'debugfs').write_text(f'#!/bin/sh\n{script}\n')
    (site.folder / 'bin' / 'debugfs').chmod(0o755)
    monkeypatch.setenv('PATH', f"{site.folder}/bin:{os.environ['PATH']}")
    assert reason in site.fails('vc-inject', input=document)


@pytest.mark.parametrize('harm', [('rmdir root', 'write /etc/hostname root'), ('rmdir root',)],
                         ids=['a file', 'absent'])
def test_row_18_root_is_not_a_folder(site, harm):
    need_fuse()
    path = make_image(site.folder / 'root.img')
    debugfs(path, *harm)
    use_image(site, pack(path))
    document = site.document(site.entry, 'vc-allocate', 0)
    assert '/root is not a directory' in site.fails('vc-inject', input=document)


def test_row_19_a_hard_link_at_the_target(site):
    need_fuse()
    path = make_image(site.folder / 'link.img', [('etc/shadow', b'secret')])
    debugfs(path, 'ln /etc/shadow /root/vc-out.xml', 'set_inode_field /etc/shadow links_count 2')
    use_image(site, pack(path))
    output = site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 0)).stdout
    assert inside(disks(output)['frontend'], 'cat', '/etc/shadow') == b'secret'
    assert inside(disks(output)['frontend'], 'cat', '/root/vc-out.xml') == site.run('vc-out',
                                                                                  input=output).stdout


def test_row_20_corruption_is_not_left_to_libguestfs(site):
    """libguestfs writes a file system with an unknown feature, unless it is damaged."""
    path = make_image(site.folder / 'both.img', mkfs=('mke2fs', '-t', 'ext4', '-O', 'quota'))
    assert staged_as(site, path) == 'guestfs'
    debugfs(path, 'set_super_value state 2')
    refuses(site, pack(path), 'has its error flag set')
    path = make_image(site.folder / 'known.img')
    debugfs(path, 'clri /root')
    refuses(site, pack(path), 'the file system is damaged')


@pytest.mark.parametrize('features',
                         ['inline_data', 'quota', 'casefold', 'encrypt', 'verity', 'project,quota'])
def test_row_20_features_outside_the_list(site, features):
    path = make_image(site.folder / 'feature.img', mkfs=('mke2fs', '-t', 'ext4', '-O', features))
    assert staged_as(site, path) == 'guestfs'


def staged_as(site, path):
    """The program that vc-stage names for files in the image ``path``."""
    use_image(site, pack(path))
    return staged(site.run('vc-stage', '--types', 'frontend',
                           input=parsed(site)).stdout)['frontend'].get('inject')


def test_row_21_no_name_reaches_a_shell(site):
    """Folders and files have names that are commands of debugfs, guestfish, make and the shell."""
    need_fuse()
    odd = "!touch pwned $(touch pwned) `touch pwned` 'x' \"y\" ;touch pwned %d"
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'temporary_directory = {odd}\n')
    site.temp = site.folder / odd
    for name in ('calit2-119-222.img.gz', 'hosted-vm-0-0-1.img.gz'):
        (site.vc_in.parent / name).rename(site.vc_in.parent / f'!touch pwned;$(touch pwned) {name}')
    site.vc_in.write_text(re.sub("<source file='", "<source file='!touch pwned;$(touch pwned) ",
                                 site.vc_in.read_text()))
    path = make_image(site.folder / 'odd.img',
                      [('root/!touch pwned', b'x'), ('root/.ssh/$(touch pwned)', b'x')])
    for name in site.vc_in.parent.glob('*.img.gz'):
        name.write_bytes(pack(path).read_bytes())
    output = site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 1)).stdout
    assert set(disks(output)) == {'frontend', 'compute-0'}
    assert list(site.folder.rglob('pwned')) == []
    assert not (Path.cwd() / 'pwned').exists()


def test_row_24_waits_for_the_ledgers_lock(site):
    """Nothing is reserved while another process holds it."""
    document = site.document(site.entry, 'vc-stage')
    with exclusive(site.temp / 'lock'):
        running = subprocess.Popen([ROOT / 'bin/vc-allocate', '--num-cpus', '1'],
                                   stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, env=site.environment())
        running.stdin.write(document)
        running.stdin.close()
        # A line with '->' is a process that waits (proc(5), locks).
        while not re.search(rf'-> FLOCK .* {running.pid} ', Path('/proc/locks').read_text()):
            assert running.poll() is None
            time.sleep(0.01)
        assert site.clusters() == []
    assert running.stdout.read() and running.wait() == 0 and len(site.clusters()) == 1


@pytest.mark.parametrize('num_cpus, netmask, status', [
    (0, '255.255.0.0', 0), (1, '255.255.0.0', 0), (250, '255.255.255.0', 0),
    (253, '255.255.255.0', 0),
    (254, '255.255.255.0', 3), (65533, '255.255.0.0', 0), (65534, '255.255.0.0', 3)])
def test_row_26_as_many_nodes_as_there_are_addresses(site, num_cpus, netmask, status):
    """A /24 has 254 addresses; the frontend has one of them."""
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('cpus_per_node = 1\ncpu_overcommit = 1000000\n')
    document = site.document(site.entry, 'vc-stage').replace(b'255.255.0.0', netmask.encode())
    document = re.sub(rb'<memory>\d+</memory>', b'<memory>1</memory>', document)
    # A dry run: removing a reservation of 65,533 nodes would take a minute.
    done = site.run('vc-allocate', '--num-cpus', num_cpus, '--dry-run', input=document,
                    status=status)
    if status:
        assert b"pool 'private'" in done.stderr and site.clusters() == []
        return
    addresses = [node.find("interface[@network='private']").get('ip')
                 for node in etree.fromstring(done.stdout,
                                              etree.XMLParser(huge_tree=True)).iterfind('cluster/node')]
    assert len(set(addresses)) == num_cpus + 1


def test_row_27_a_private_key_is_never_copied(site):
    secret = site.folder / 'secret'
    subprocess.run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', secret], check=True)
    document = site.document(site.entry, 'vc-stage')
    assert 'is a private key' in site.fails('vc-allocate', '--num-cpus', 0, '--key', secret,
                                            input=document)
    line = secret.read_bytes().splitlines()[1]
    assert [path for path in site.temp.rglob('*') if path.is_file()
            and line in path.read_bytes()] == []


@pytest.fixture
def small_disk(site):
    """The site's temporary directory on a file system of 64 MiB, mounted for the test."""
    if os.geteuid():
        do_without('only root can mount')
    folder = Path(tempfile.mkdtemp(prefix='pragma-small-', dir=SCRATCH))
    with open(folder / 'ext4', 'wb') as file:
        file.truncate(64 << 20)
    at = folder / 'disk'
    at.mkdir()
    subprocess.run(['mke2fs', '-q', '-t', 'ext4', '-m', '0', folder / 'ext4'], check=True)
    subprocess.run(['mount', '-o', 'loop', folder / 'ext4', at], check=True)
    for path in (folder, at):
        path.chmod(0o755)
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'temporary_directory = {at}/temp\n')
    site.temp = at / 'temp'
    yield at
    for name in site.clusters():
        site.run('vc-clean', name)
    subprocess.run(['umount', at], check=True)
    shutil.rmtree(folder)


@contextlib.contextmanager
def full(folder, room=0):
    """Fill a file system up to ``room`` bytes for the block."""
    with open(folder / 'ballast', 'wb', buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
        file.truncate(file.tell() - room)
    try:
        yield
    finally:
        (folder / 'ballast').unlink()


def test_row_29_the_disk_is_full(site, small_disk):
    """It is full while vc-stage, vc-allocate and vc-inject run; each works when there is room."""
    need_fuse()
    document = parsed(site)
    site.temp.mkdir()
    for tool, *arguments in (('vc-stage',), ('vc-allocate', '--num-cpus', 1, '--key', site.key),
                             ('vc-inject',)):
        before = sorted(path for path in site.temp.rglob('*') if path.suffix != '.lock')
        with full(small_disk):
            line = site.fails(tool, *arguments, input=document)
        assert 'space left' in line or "node '" in line or 'cannot' in line, line
        left = [path for path in site.temp.rglob('*') if path.suffix != '.lock'
                and path.name != 'lock'
                and path not in before and path.name not in ('images', 'clusters')]
        assert left == [] and processes(site) == [] and mounts(site) == [], line
        document = site.run(tool, *arguments, input=document).stdout
    assert inside_all(document)


def test_row_29_the_disk_fills_as_a_nodes_disk_is_written(site, small_disk):
    """With more space each time: a disk is whole where vc-inject says so; else there is none."""
    need_fuse()
    document = site.document(site.entry, 'vc-allocate', 1)
    failures = set()
    for room in range(0, 2 << 20, 64 << 10):
        with full(small_disk, room):
            running = site.start('vc-inject')
            output, complaints = running.communicate(document)
        left = sorted(path.name for path in (site.temp / 'clusters' / site.entry).iterdir())
        if running.returncode == 0:
            break
        assert running.returncode == 1 and not output and len(lines(complaints)) == 1, complaints
        assert processes(site) == [] == mounts(site) and not [name for name in left
                                                              if name.startswith('.')]
        failures.add(re.sub("'.*?'|[0-9]+", '', complaints.decode()))
    assert inside_all(output) and len(failures) > 1, failures


def inside_all(document):
    return all(inside(path, 'cat', '/root/vc-out.xml') for path in disks(document).values())


def test_row_30_a_staged_image_that_was_shrunk_or_replaced(site):
    need_fuse()
    document = site.document(site.entry, 'vc-allocate', 0)
    image = Path(etree.fromstring(document).find('image').get('path'))
    content, before = image.read_bytes(), image.stat()
    for change in ('shrunk', 'replaced', 'writable'):
        if change == 'replaced':
            # Another one of the same size, read-only and sound.
            image.unlink()
            image.write_bytes(content[:-1] + b'x')
        elif change == 'shrunk':
            image.write_bytes(content[:-512])
        else:
            os.utime(image, ns=(before.st_mtime_ns,) * 2)
        image.chmod(0o644 if change == 'writable' else 0o444)
        for tool in ('vc-inject', 'vc-boot'):
            line = site.fails(tool, input=document)
            assert 'was changed after it was made' in line or 'has no disk' in line, (change, line)
        image.write_bytes(content)
        image.chmod(0o444)
        os.utime(image, ns=(before.st_mtime_ns,) * 2)
    site.run('vc-inject', input=document)
    # Removed and staged again, it is accepted.
    image.unlink()
    site.run('vc-stage', input=parsed(site))
    assert image.stat().st_mtime_ns == before.st_mtime_ns
    site.run('vc-inject', input=document)


def test_row_31_libvirtd_dies_between_define_and_start(site, host, monkeypatch):
    """With a virsh that waits before it starts a domain, while libvirtd is killed."""
    document = site.document(site.entry, 'vc-inject', 0)
    path = site.folder / 'bin'
    path.mkdir()
    (path / 'virsh').write_text(f'#!/bin/sh\ncase " $* " in *" start "*) touch {site.folder}/now; '
                                f'while [ -e {site.folder}/now ]; do sleep 0.05; done;; esac\n'
                                'exec /usr/bin/virsh "$@"\n')
    (path / 'virsh').chmod(0o755)
    monkeypatch.setenv('PATH', f"{path}:{os.environ['PATH']}")
    output = []
    running = threading.Thread(target=lambda: output.append(
        site.fails('vc-boot', '--paused', '--node', 'frontend', input=document)))
    running.start()
    while not (site.folder / 'now').exists():
        assert running.is_alive()
    host.stop()
    (site.folder / 'now').unlink()
    running.join()
    assert host.uri in output[0]
    host.start()
    monkeypatch.undo()
    site.run('vc-boot', '--paused', '--node', 'frontend', input=document)
    assert site.run('vc-status', site.entry).stdout.count(b' running ') == 1
    site.run('vc-clean', site.entry)
    assert site.clusters() == []
