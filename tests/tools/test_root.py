"""The root partition of an image: named, by its type, or by what it holds."""
import os
import subprocess

import pytest

from lab.images import parted, use_file
from lab.needs import need
from lab.nodes import disks, files, parsed, staged

EXT4, FAT = ('mke2fs', '-q', '-t', 'ext4', '-F'), ('mkfs.vfat',)
XFS, SWAP = ('mkfs.xfs', '-q'), ('mkswap',)
RELEASE = [('etc/os-release', b'ID=debian\n')]
ROOT = '4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709'
ESP = 'C12A7328-F81F-11D2-BA4B-00A0C93EC93B'
BIOS = '21686148-6449-6E6F-744E-656564454649'
LINUX = '0FC63DAF-8483-4772-8E79-3D69D8477DE4'
SWAP_TYPE = '0657FD6D-A4AB-43C4-84E5-0933C84B4F4F'


def gpt(*entries):
    """An sfdisk script: (number, start in MiB, size in MiB, type) entries."""
    return 'label: gpt\n' + ''.join(f'{number}: start={start}MiB, size={size}MiB, type={kind}\n'
                                    for number, start, size, kind in entries)


def stage(site, path, partition=''):
    """The <image> that vc-stage makes of a raw disk."""
    use_file(site, path, partition=partition)
    document = site.run('vc-stage', '--types', 'frontend', input=parsed(site)).stdout
    return staged(document)['frontend']


def refused(site, path, partition=''):
    use_file(site, path, partition=partition)
    line = site.fails('vc-stage', '--types', 'frontend', input=parsed(site))
    assert files(site) == []
    return line


FOUND = {
    'Debian: / is 1, BIOS boot 14, ESP 15': (
        gpt((1, 20, 40, ROOT), (14, 1, 2, BIOS), (15, 4, 8, ESP)),
        {20: (EXT4, RELEASE, 40), 4: (FAT, [], 8)}, '1'),
    'Ubuntu: / is 1, /boot 16': (
        gpt((1, 20, 40, LINUX), (14, 1, 2, BIOS), (16, 4, 8, LINUX)),
        {20: (EXT4, RELEASE, 40), 4: (EXT4, [('vmlinuz', b'')], 8)}, '1'),
    'vmdb2: ESP 1, / is 2': (
        gpt((1, 1, 8, ESP), (2, 20, 40, LINUX)),
        {20: (EXT4, RELEASE, 40), 1: (FAT, [], 8)}, '2'),
    'Alma: / is 4, and has the type of a root': (
        gpt((1, 1, 2, BIOS), (2, 4, 8, ESP), (3, 12, 8, LINUX), (4, 20, 40, ROOT)),
        {20: (EXT4, RELEASE, 40), 12: (EXT4, RELEASE, 8)}, '4'),
    'MBR: swap 1, a logical / 5': (
        ('label: dos\n1: start=1MiB, size=8MiB, type=82\n2: start=10MiB, size=53MiB, type=5\n'
         '5: start=20MiB, size=40MiB, type=83\n'),
        {20: (EXT4, RELEASE, 40), 1: (SWAP, [], 8)}, '5'),
    'swap has the type of Linux': (
        gpt((1, 1, 8, LINUX), (2, 20, 40, LINUX)),
        {20: (EXT4, [], 40), 1: (SWAP, [], 8)}, '2'),
    'an ext4 of type 8e': (
        'label: dos\n1: start=20MiB, size=40MiB, type=8e\n', {20: (EXT4, RELEASE, 40)}, '1'),
}


@pytest.mark.parametrize('name', FOUND)
def test_finds_the_root_partition(site, name):
    script, contents, number = FOUND[name]
    need('mkfs.vfat')
    image = stage(site, parted(site.folder / 'disk.img', script, contents))
    assert (image.get('partition'), image.get('inject')) == (number, 'debugfs')
    assert (image.get('offset'), image.get('length')) == (str(20 << 20), str(40 << 20))
    found = site.run('vc-check', site.folder / 'disk.img', status=1).stdout.decode()
    assert f'ok    partition {number} is the root partition (ext4): ' in found
    assert 'ok    the file system is clean' in found


def test_a_node_gets_its_files_in_the_root_partition(site):
    script, contents, _ = FOUND['vmdb2: ESP 1, / is 2']
    use_file(site, parted(site.folder / 'disk.img', script, contents))
    output = site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 0)).stdout
    raw = site.folder / 'raw'
    subprocess.run(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', disks(output)['frontend'],
                    raw], check=True)
    listed = subprocess.run(['debugfs', '-R', 'ls /root', f'{raw}?offset={20 << 20}'],
                            capture_output=True, check=True).stdout
    assert b'vc-out.xml' in listed


TWO = (gpt((1, 1, 8, LINUX), (2, 20, 40, LINUX)),
       {20: (EXT4, RELEASE, 40), 1: (EXT4, RELEASE, 8)})


def test_several_are_refused_and_the_author_can_name_one(site):
    path = parted(site.folder / 'disk.img', *TWO)
    line = refused(site, path)
    assert ('several partitions have /etc/os-release (of 1 (ext4), 2 (ext4)): '
            'name the root partition in <partition>') in line
    assert 'has no partition 7, which <partition> names: name one of 1, 2' in refused(site, path,
                                                                                      '7')


@pytest.mark.parametrize('number', ['1', '2'])
def test_the_author_names_it(site, number):
    image = stage(site, parted(site.folder / 'disk.img', *TWO), number)
    assert image.get('partition') == number


def test_none_is_refused(site):
    path = parted(site.folder / 'disk.img', TWO[0], {20: (EXT4, [], 40), 1: (EXT4, [], 8)})
    assert 'no partition has /etc/os-release (of 1 (ext4), 2 (ext4)): name' in refused(site, path)
    path = parted(site.folder / 'none.img', gpt((1, 1, 8, ESP), (2, 20, 40, SWAP_TYPE)), {})
    assert ('partition 1 is an EFI system partition; partition 2 is swap: install'
            in refused(site, path))


@pytest.mark.parametrize('name', ['0', '1000', 'sda1', '/dev/vg/lv;x', '!id',
                                  'btrfsvol:/dev/sdb1/x'])
def test_a_partition_that_is_none_is_refused(site, name):
    use_file(site, parted(site.folder / 'disk.img', *TWO), partition=name)
    line = site.fails('vc-parse', site.vc_in)
    assert f"<partition> is '{name}': it must be the number of a partition" in line


def guestfish(path, *commands):
    subprocess.run(['guestfish', '--format=raw', '-a', path], check=True, capture_output=True,
                   input='\n'.join(['run', *commands]).encode(),
                   env={**os.environ, 'LIBGUESTFS_BACKEND': 'direct',
                        'LIBGUESTFS_BACKEND_SETTINGS': 'force_tcg'})


SYSTEM = ['mkdir /etc', 'mkdir /root', 'mkdir /bin', 'mkdir /usr', 'mkdir /boot', 'mkdir /lib',
          'write /etc/os-release "ID=debian\\nVERSION_ID=12\\nNAME=Debian\\n"',
          'write /etc/debian_version "12.0\\n"',
          'write /etc/fstab "/dev/root / auto defaults 0 1\\n"']

VOLUMES = {
    'LVM: / is a logical volume': (
        'label: dos\n1: start=1MiB, size=300MiB, type=8e\n', {},
        ['pvcreate /dev/sda1', 'vgcreate vg0 /dev/sda1', 'lvcreate swap vg0 16',
         'lvcreate root vg0 200', 'mkswap /dev/vg0/swap', 'mkfs ext4 /dev/vg0/root',
         'mount /dev/vg0/root /', *SYSTEM], '/dev/vg0/root', 'ext4'),
    'Fedora: / is a subvolume of btrfs': (
        gpt((1, 1, 8, ESP), (2, 20, 500, LINUX), (3, 520, 64, LINUX)),
        {1: (FAT, [], 8), 520: (EXT4, [], 64)},
        ['mkfs btrfs /dev/sda2', 'mount /dev/sda2 /', 'btrfs-subvolume-create /root',
         'btrfs-subvolume-create /home', 'umount /', 'mount btrfsvol:/dev/sda2/root /', *SYSTEM],
        'btrfsvol:/dev/sda2/root', 'btrfs'),
    'XFS, with /boot before it': (
        gpt((1, 1, 64, LINUX), (2, 70, 400, LINUX)), {1: (EXT4, [], 64), 70: (XFS, [], 400)},
        ['mount /dev/sda2 /', *SYSTEM], '2', 'xfs'),
}
"""How disks are made: their tables, {offset: file system}, commands of guestfish; what is found."""


@pytest.mark.long
@pytest.mark.parametrize('name', VOLUMES)
def test_finds_the_root_file_system_through_libguestfs(site, name):
    """And writes into it: two nodes, since the volumes of two disks have the same names."""
    need('guestfish')
    script, contents, commands, partition, filesystem = VOLUMES[name]
    need('mkfs.xfs' if filesystem == 'xfs' else 'mkfs.btrfs')
    path = parted(site.folder / 'disk.img', script, contents, '700M')
    guestfish(path, *commands, 'umount-all')
    image = stage(site, path)
    assert (image.get('partition'), image.get('filesystem'), image.get('inject')) \
        == (partition, filesystem, 'guestfs')
    site.run('vc-inject', input=site.document(site.entry, 'vc-allocate', 1))
    for node in ('frontend', 'compute-0'):
        disk = site.temp / 'clusters' / site.entry / f'{node}.qcow2'
        device = f'/dev/sda{partition}' if partition.isdigit() else partition
        done = subprocess.run(
            ['guestfish', '--ro', '--format=qcow2', '-a', disk, 'run', ':', 'mount', device, '/',
             ':', 'cat', '/root/vc-out.xml'], capture_output=True, check=True,
            env={**os.environ, 'LIBGUESTFS_BACKEND': 'direct',
                 'LIBGUESTFS_BACKEND_SETTINGS': 'force_tcg'})
        assert f'{node}'.encode() in done.stdout
    found = site.run('vc-check', path, status=1).stdout.decode()
    assert f'({filesystem}): libguestfs found it' in found
