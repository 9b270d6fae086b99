"""Guest profiles: what they change in the staged copy of an image, and that nothing else changes.

mke2fs -d and debugfs make the images, with the files that such systems have.
"""
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lab.images import make_image, pack, use_image
from lab.nodes import parsed, staged
from lab.site import lines
from pragma_boot.image import profile
from pragma_boot.system.failure import Failure

CARD = (b'DEVICE=eth%d\n# HWADDR of old\nHWADDR=00:16:3e:00:00:0%d\nHWADDRESS=kept\n'
        b'ONBOOT=yes\n  HWADDR = x')
MENDED = b'DEVICE=eth%d\n# HWADDR of old\nHWADDRESS=kept\nONBOOT=yes\n'

SCRIPTS = 'etc/sysconfig/network-scripts'

ROCKS = {
    'etc/udev/rules.d/70-persistent-net.rules': (b'SUBSYSTEM=="net", NAME="eth0"\n', None),
    'etc/udev/rules.d/60-other.rules': (b'kept', b'kept'),
    f'{SCRIPTS}/ifcfg-eth0': (CARD % (0, 0), MENDED % 0),
    f'{SCRIPTS}/ifcfg-eth1': (CARD % (1, 1) + b'\nMACADDR=x\n', MENDED % 1),
    f'{SCRIPTS}/ifcfg-lo': (b'DEVICE=lo\nHWADDR=kept\n', b'DEVICE=lo\nHWADDR=kept\n'),
    f'{SCRIPTS}/route-eth0': (b'10.1.0.0/16 via 10.1.1.1\n', None),
    'etc/sysconfig/network': (b'NETWORKING=yes\nGATEWAY=10.1.1.1\nGATEWAYDEV=eth0\n',
                              b'NETWORKING=yes\n'),
    'etc/sysconfig/networking/devices/ifcfg-eth0': (CARD % (0, 0), MENDED % 0),
    'etc/sysconfig/networking/profiles/default/ifcfg-eth0': (b'HWADDR=x\n', b''),
    'etc/sysconfig/static-routes': (b'any host 10.1.1.1\n', None),
    'etc/fstab': (b'HWADDR=kept\n', b'HWADDR=kept\n'),
}

DEBIAN = {
    'etc/udev/rules.d/70-persistent-net.rules': (b'stale', None),
    'var/lib/dhcp/dhclient.eth0.leases': (b'lease {}', None),
    'var/lib/dhcp/dhclient.leases': (b'', None),
    'var/lib/dhcp/dhclient.conf': (b'kept', b'kept'),
    f'{SCRIPTS}/ifcfg-eth0': (CARD % (0, 0), CARD % (0, 0)),
}


def contents(path, folder):
    """All files in a raw image, read by debugfs: {path: (bytes or link, mode, uid, gid)}."""
    folder.mkdir()
    subprocess.run(['debugfs', '-R', f'rdump / {folder}', f'{path}?offset=1048576'], check=True,
                   capture_output=True)
    found = {}
    for file in sorted(folder.rglob('*')):
        kind = file.lstat()
        output = None
        if file.is_symlink():
            output = os.readlink(file)
        elif file.is_file():
            output = file.read_bytes()
        found[str(file.relative_to(folder))] = (output, kind.st_mode, kind.st_uid, kind.st_gid)
    return found


def debugfs(path, *commands, write=False):
    done = subprocess.run(['debugfs', *['-w'] * write, '-f', '-', f'{path}?offset=1048576'],
                          check=True,
                          input='\n'.join(commands).encode(), capture_output=True)
    return done.stdout


def use(site, path, kind='rocks6_client'):
    """Use a raw image for both roles, with the guest profile ``kind``."""
    use_image(site, pack(path))
    site.vc_in.write_text(site.vc_in.read_text().replace('rocks6_client', kind))


def stage(site, *arguments):
    """Stage the frontend's image: its path, its <change>s, and the CompletedProcess."""
    done = site.run('vc-stage', '--types', 'frontend', *arguments, input=parsed(site))
    image = staged(done.stdout)['frontend']
    return image.get('path'), [change.text for change in image.findall('change')], done


@pytest.fixture
def own_profile(site):
    """Write a profile of the site, which the entry names."""
    folder = site.folder / 'profiles'
    folder.mkdir()
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('profiles_path = profiles\n')

    def write(text, name='mine'):
        (folder / name).write_text(text)
        return folder / name
    return write


@pytest.mark.parametrize('kind, files',
                         [('rocks6_client', ROCKS), ('debian', DEBIAN), ('generic', ROCKS),
                                         ('unknown', ROCKS)])
def test_changes_what_the_profile_names_and_nothing_else(site, tmp_path, kind, files):
    path = make_image(site.folder / 'old.img', [(name, old) for name, (old, _) in files.items()])
    card = f'/{SCRIPTS}/ifcfg-eth0'
    debugfs(path, f'set_inode_field {card} mode 0100640', f'set_inode_field {card} uid 12',
            f'set_inode_field {card} gid 70000',
            f'ea_set {card} security.selinux system_u:net_conf_t', write=True)
    label = debugfs(path, f'ea_get {card} security.selinux')
    use(site, path, kind)
    source = (site.vc_in.parent / 'calit2-119-222.img.gz').read_bytes()
    before = contents(path, tmp_path / 'before')
    result, changes, done = stage(site, '-v')
    after = contents(result, tmp_path / 'after')
    mends = kind in ('rocks6_client', 'debian')
    expected = dict(before)
    for name, (_, new) in files.items() if mends else ():
        if new is None:
            del expected[name]
        else:
            expected[name] = (new, *before[name][1:])
    assert after == expected
    assert debugfs(result, f'ea_get {card} security.selinux') == label
    assert (site.vc_in.parent / 'calit2-119-222.img.gz').read_bytes() == source
    changed = {name for name in before if after.get(name) != before[name]}
    assert {change.split()[-1] for change in changes} == {f'/{name}' for name in changed}
    output = [line for line in lines(done.stderr) if "calit2-119-222.img.gz': " in line]
    assert [line.split("img.gz': ")[1] for line in output] == changes
    assert (b"'generic' is used" in done.stderr) == (kind == 'unknown')
    subprocess.run(['e2fsck', '-fn', f'{result}?offset=1048576'], check=True, capture_output=True)


def test_a_second_staging_gives_the_same_bytes(site):
    use(site,
        make_image(site.folder / 'old.img', [(name, old) for name, (old, _) in ROCKS.items()]))
    digests = set()
    for _ in range(2):
        result, changes, _ = stage(site)
        assert changes
        digests.add((os.path.basename(result),
                     hashlib.sha256(Path(result).read_bytes()).hexdigest()))
        for name in os.listdir(site.temp / 'images'):
            (site.temp / 'images' / name).unlink()
        time.sleep(1.1)     # the times of the file system are in seconds
    assert len(digests) == 1


def test_other_names_of_a_file_keep_their_bytes(site, tmp_path):
    path = make_image(site.folder / 'old.img', [
        ('etc/shadow', b'HWADDR=secret\n'), ('root/rules', b'kept'), (f'{SCRIPTS}/x', b''),
        ('etc/udev/rules.d/x', b'')])
    debugfs(path, f'ln /etc/shadow /{SCRIPTS}/ifcfg-eth0',
            'set_inode_field /etc/shadow links_count 2',
            'ln /root/rules /etc/udev/rules.d/70-persistent-net.rules',
            'set_inode_field /root/rules links_count 2',
            write=True)
    subprocess.run(['e2fsck', '-fn', f'{path}?offset=1048576'], check=True, capture_output=True)
    use(site, path)
    result, changes, _ = stage(site)
    after = contents(result, tmp_path / 'after')
    assert after['etc/shadow'][0] == b'HWADDR=secret\n' and after[f'{SCRIPTS}/ifcfg-eth0'][0] == b''
    assert after['root/rules'][0] == b'kept'
    assert 'etc/udev/rules.d/70-persistent-net.rules' not in after
    assert len(changes) == 2


def test_links_are_not_followed(site, tmp_path):
    path = make_image(site.folder / 'old.img', [
        ('etc/shadow', b'HWADDR=secret\n'), ('root/rules.d/70-persistent-net.rules', b'kept'),
        ('root/devices/ifcfg-eth0', b'HWADDR=kept\n'),
        ('root/profiles/default/ifcfg-eth0', b'HWADDR=kept\n'),
        (f'{SCRIPTS}/x', b''), ('etc/sysconfig/networking/x', b''), ('etc/udev/rules.d/x', b'')])
    debugfs(path, f'symlink /{SCRIPTS}/ifcfg-eth0 /etc/shadow',
            f'symlink /{SCRIPTS}/route-eth0 /etc/shadow',
            'symlink /etc/udev/rules.d/70-persistent-net.rules '
            '/root/rules.d/70-persistent-net.rules',
            'symlink /etc/sysconfig/networking/devices /root/devices',
            'symlink /etc/sysconfig/networking/profiles /root/profiles', write=True)
    use(site, path)
    before = contents(path, tmp_path / 'before')
    result, changes, _ = stage(site)
    after = contents(result, tmp_path / 'after')
    gone = {'etc/udev/rules.d/70-persistent-net.rules', f'{SCRIPTS}/route-eth0'}
    assert after == {name: output for name, output in before.items() if name not in gone}
    assert f'left /{SCRIPTS}/ifcfg-eth0: it is not a file of at most 1 MiB' in changes
    networking = '/etc/sysconfig/networking'
    assert (f'left {networking}/devices/ifcfg-eth*: {networking}/devices is not a folder'
            in changes)
    assert (f'left {networking}/profiles/default/ifcfg-eth*: {networking}/profiles is not a folder'
            in changes)


@pytest.mark.parametrize('trap', ['mkdir', 'mknod'])
def test_folders_and_devices_in_the_place_of_files(site, tmp_path, trap):
    path = make_image(site.folder / 'old.img', [(f'{SCRIPTS}/x', b''), ('etc/udev/rules.d/x', b'')])
    for place in (f'/{SCRIPTS}/ifcfg-eth0', '/etc/udev/rules.d/70-persistent-net.rules'):
        folder, name = os.path.split(place)
        debugfs(path, f'cd {folder}', f'mkdir {name}' if trap == 'mkdir' else f'mknod {name} c 1 3',
                write=True)
    use(site, path)
    _, changes, _ = stage(site)
    assert changes[0] == ('left /etc/udev/rules.d/70-persistent-net.rules: it is a folder' if trap
                          == 'mkdir' else
                          'removed /etc/udev/rules.d/70-persistent-net.rules')
    assert changes[1:] == [f'left /{SCRIPTS}/ifcfg-eth0: it is not a file of at most 1 MiB']


@pytest.mark.parametrize('name', ['ifcfg-eth0 x', 'ifcfg-eth0;touch x', 'ifcfg-eth0\n!touch x',
                                  'ifcfg-eth"', '<2>',
                                  'ifcfg-eth0\ndebugfs: ls -p ', 'ifcfg-eth$(id)', "ifcfg-eth'",
                                  '-f'])
def test_an_unsafe_name_is_never_part_of_a_command(site, tmp_path, own_profile, name):
    """The pattern matches them all, but only the plain name is used."""
    path = make_image(site.folder / 'old.img',
                      [(f'{SCRIPTS}/{name}', b'HWADDR=x\n'), (f'{SCRIPTS}/plain', b'HWADDR=x\n')])
    own_profile(f'strip HWADDR /{SCRIPTS}/*\nremove /{SCRIPTS}/if*\n')
    use(site, path, 'mine')
    result, changes, _ = stage(site)
    assert changes == [f'stripped HWADDR from /{SCRIPTS}/plain']
    assert contents(result, tmp_path / 'after')[f'{SCRIPTS}/{name}'][0] == b'HWADDR=x\n'


@pytest.mark.parametrize('line', [
    'remove etc/passwd', 'remove', 'remove /', 'remove /etc/', 'remove /a b', 'delete /a',
    'strip /a', 'strip A B /a',
    'strip A= /a', 'remove /*/a', 'remove /etc/../a', 'remove /a/.', 'remove //a', 'remove /a;b',
    'remove /"a"',
    'remove /[a]', 'rm /a', '!touch /tmp/x', 'remove /-a',
])
def test_refuses_a_wrong_line(site, own_profile, line):
    path = own_profile(f'# mine\nremove /a\n{line}\n')
    site.vc_in.write_text(site.vc_in.read_text().replace('rocks6_client', 'mine'))
    assert site.fails('vc-stage', input=parsed(site)) == \
        f"vc-stage: {path}:3: not 'remove /path' or 'strip WORD /path': '{line}'"


def test_a_sites_own_profile_comes_first_and_a_change_of_it_is_noticed(site, own_profile):
    own_profile('remove /etc/udev/rules.d/*\n', 'rocks6_client')
    use(site, make_image(site.folder / 'old.img',
                         [('etc/udev/rules.d/b', b''), ('etc/udev/rules.d/a', b'')]))
    first, changes, _ = stage(site)
    assert changes == ['removed /etc/udev/rules.d/a', 'removed /etc/udev/rules.d/b']
    own_profile('remove /etc/udev/rules.d/?\t# comment\n', 'rocks6_client')
    second, again, _ = stage(site)
    assert again == changes and second != first
    own_profile('', 'rocks6_client')
    assert stage(site)[1] == []


def test_says_where_it_is_not_applied(site):
    use(site, make_image(site.folder / 'inline.img',
                         [('etc/udev/rules.d/70-persistent-net.rules', b'stale')],
                         mkfs=('mke2fs', '-t', 'ext4', '-O', 'inline_data')))
    _, changes, done = stage(site)
    assert changes == []
    assert b"guest profile 'rocks6_client' is not applied" in done.stderr
    site.vc_in.write_text(site.vc_in.read_text().replace('rocks6_client', 'generic'))
    assert stage(site)[2].stderr == b''


def test_a_file_is_changed_once_and_a_large_one_is_not(site, tmp_path, own_profile):
    large = b'A=1\n' * (300 << 10)
    own_profile('remove /etc/a\nstrip A /etc/a\nstrip A /etc/?\nstrip B /etc/b\n'
                'remove /etc/c\nremove /etc/*c\n')
    use(site, make_image(site.folder / 'old.img',
                         [('etc/a', b'A=1\n'), ('etc/b', b'A=1\nB=1\nC=1\n'), ('etc/c', b''),
                                                   ('etc/d', large)]), 'mine')
    result, changes, _ = stage(site)
    assert changes == ['removed /etc/a', 'stripped A from /etc/b',
                       'left /etc/d: it is not a file of at most 1 MiB',
                       'stripped B from /etc/b', 'removed /etc/c']
    after = contents(result, tmp_path / 'after')
    assert {name: after[name][0] for name in after
            if name.startswith('etc/')} == {'etc/b': b'C=1\n', 'etc/d': large}


def test_what_debugfs_did_not_do_is_noticed(site, monkeypatch):
    """With a debugfs that writes nothing, and exits 0 without a message."""
    folder = site.folder / 'bin'
    folder.mkdir()
    real = shutil.which('debugfs')
    (folder / 'debugfs').write_text(f'#!/bin/sh\n[ "$1" = -w ] || exec {real} "$@"\n')
    (folder / 'debugfs').chmod(0o755)
    monkeypatch.setenv('PATH', f"{folder}:{os.environ['PATH']}")
    line = site.fails('vc-stage', input=parsed(site))
    assert "'/etc/udev/rules.d/70-persistent-net.rules' does not read back as written" in line


def test_a_full_file_system_leaves_no_image(site):
    """debugfs prints nothing where no block is left."""
    path = make_image(site.folder / 'full.img',
                      [(f'{SCRIPTS}/ifcfg-eth0', b'HWADDR=x\n' + b'A=1\n' * 2000)])
    debugfs(path, f'ln /{SCRIPTS}/ifcfg-eth0 /root/other',
            f'set_inode_field /{SCRIPTS}/ifcfg-eth0 links_count 2', write=True)
    (site.folder / 'filler').write_bytes(os.urandom(13 << 20))
    for size in (1 << 20, 64 << 10, 4096, 1024):
        (site.folder / 'piece').write_bytes(os.urandom(size))
        for count in range(20):
            subprocess.run(['debugfs', '-w', '-R', f'write piece f{size}-{count}',
                            f'{path}?offset=1048576'],
                           cwd=site.folder, capture_output=True, check=True)
    subprocess.run(['e2fsck', '-fy', f'{path}?offset=1048576'], capture_output=True, check=False)
    use(site, path)
    line = site.fails('vc-stage', input=parsed(site))
    assert 'ifcfg-eth0' in line or 'debugfs' in line
    assert not [name for name in os.listdir(site.temp / 'images') if not name.endswith('.lock')]


def test_our_profiles_are_valid(tmp_path):
    for name in os.listdir(profile.FOLDER):
        rules = profile.read(os.path.join(profile.FOLDER, name))
        assert bool(rules) == (name not in ('generic', profile.SEED))
    with pytest.raises(Failure, match='cannot open guest profile'):
        profile.read(tmp_path)
