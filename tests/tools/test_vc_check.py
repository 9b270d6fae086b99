"""vc-check: an image that meets each requirement, and one that does not."""
import contextlib
import gzip
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from lxml import etree

from lab import ROOT
from lab.images import FIRST, disk, entry, make_image, pack
from lab.needs import do_without, need
from lab.site import lines
from pragma_boot.document import libvirt_schema, vcin
from pragma_boot.image import guest, root, services, traces

SYSTEM, WANTS = 'etc/systemd/system', 'etc/systemd/system/multi-user.target.wants'
PART = {f'{SYSTEM}/{name}': b'[Unit]\n'
        for name in guest.UNITS} | {'usr/local/sbin/pragma-guest': b'#!/usr/bin/python3\n'}
PROGRAMS = {f'usr/sbin/{name}': b'' for name in (
    *services.PACKAGES, *services.FRONTEND, 'hostname')}
KERNEL = 'usr/lib/modules/6.1.0'
DEP = [f'kernel/drivers/{name}.ko.xz: kernel/x.ko.xz' for name in (
    'virtio/virtio_pci', 'net/virtio_net', 'net/e1000/e1000', 'scsi/virtio_scsi', 'scsi/sd_mod',
    'ata/ata-piix')]
BUILTIN = ['kernel/drivers/block/virtio_blk.ko']


def guest_image(path, without=(), dep=DEP, builtin=BUILTIN, commands=(), files=(), **options):
    """A raw image with the guest part and a kernel's lists of modules."""
    listed = {**PART, **PROGRAMS, f'{KERNEL}/modules.dep': '\n'.join([*dep, '']).encode(),
             f'{KERNEL}/modules.builtin': '\n'.join([*builtin, '']).encode(), f'{WANTS}/x': b''}
    kept = [(name, data) for name, data in listed.items() if name not in without]
    make_image(path, [*kept, *files], **options)
    links = [f'symlink /{WANTS}/{name} ../{name}' for name in guest.UNITS
             if f'{WANTS}/{name}' not in without]
    harm(path, 'symlink /lib usr/lib', 'set_inode_field /usr/local/sbin/pragma-guest mode 0100755',
         *links, *commands)
    with open(path, 'rb+') as file:
        file.write(b'\xeb\x63\x90GRUB')
    return path


def harm(path, *commands):
    subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset=1048576'], check=True,
                   capture_output=True,
                   input='\n'.join(commands).encode())


def check(site, path, status=1, **options):
    """The findings of vc-check on a file: (result, of, text) tuples."""
    done = site.run('vc-check', '--xml', path, status=status, **options)
    assert done.stderr == b''
    root = etree.fromstring(done.stdout)
    assert root.get('result') == ('failed' if status else 'ok')
    return [(one.get('result'), one.get('of'), one.text) for one in root]


TITLES = ['the image can be unpacked', *(one.title for one in (
    *root.REQUIREMENTS, root.CLEAN, *guest.REQUIREMENTS,
    *guest.drivers(['virtio'], ['virtio']), services.commands(''), *services.REQUIREMENTS,
    traces.REQUIREMENT))]
VITAL = len(root.REQUIREMENTS) + 2
"""Where one of these fails, later ones are not checked."""


def raw(**options):
    return lambda site: guest_image(site.folder / 'image.img', **options)


def bare(table='type=83'):
    """A disk with an empty partition 1."""
    return lambda site: disk(site, f'label: dos\nstart=1MiB, {table}\n')


def put(site, name, *command):
    """A disk whose partition 1 is a file of 8 MiB that a program has formatted."""
    need(command[0])
    path, part = disk(site, 'label: dos\nstart=1MiB, type=83\n'), site.folder / name
    part.write_bytes(bytes(8 << 20))
    subprocess.run([*command, part], check=True, capture_output=True)
    with open(path, 'rb+') as file:
        file.seek(1 << 20)
        file.write(part.read_bytes())
    return path


def created(name, kind):
    """An empty image of 16 MiB in a format of QEMU."""
    def make(site):
        path = site.folder / name
        subprocess.run(['qemu-img', 'create', '-q', '-f', kind, path, '16M'], check=True)
        return path
    return make


def cut(site):
    path = site.folder / 'cut.img.gz'
    path.write_bytes(pack(guest_image(site.folder / 'whole.img')).read_bytes()[:-9])
    return path


def written(name, content):
    def make(site):
        (site.folder / name).write_bytes(content)
        return site.folder / name
    return make


FAILS = [
    (0, cut, 'cannot unpack the image: '),
    (0, created('liar.raw', 'qcow2'), 'the image is not raw, though its name says so'),
    (0, created('other.img', 'vmdk'), 'the image is vmdk, not raw or qcow2: convert it with '),
    (0, written('odd.img', b'x' * 777), 'the image has 777 bytes, not whole sectors'),
    (0, written('empty.img', b''), 'the image is empty'),
    (0, written('not.gz', b'x' * 512), 'the image is not gzip, though its name says so'),
    (1, written('zeros.img', bytes(1 << 20)),
     'the image has no partition table: .*: make / a partition'),
    (1, lambda site: disk(site, 'label: dos\n'), 'the image has no partition: make / a partition'),
    (2, bare(table='type=8e'), 'partition 1 has no file system: install the system'),
    (2, bare(table='type=fd'), 'partition 1 is a RAID member: install'),
    (2, bare(table='type=82'), 'partition 1 is swap: install'),
    (2, bare(table='type=5'), 'partition 1 is extended: install'),
    (2, lambda site: disk(site, 'label: dos\nstart=1MiB, type=83\n',
                          content=[(FIRST, entry(2048, 1 << 20))]),
     'partition 1 lies outside the disk: write the table anew'),
    (2, bare(), 'partition 1 has no file system: install'),
    (2, lambda site: put(site, 'swap', 'mkswap'), 'partition 1 is swap'),
    (3, raw(commands=['set_super_value state 2']), 'has its error flag set: run e2fsck on it'),
    (3, raw(commands=['set_super_value last_orphan 12']), 'has orphaned inodes: run e2fsck on it'),
    (4, raw(commands=['clri /root']),
     'the file system is damaged: .*: shut the guest down, or run e2fsck'),
    (4, raw(commands=['journal_open', 'journal_write -b 14000 /dev/zero', 'journal_close']),
     'the journal was not replayed: shut the guest down'),
    (5, raw(without=['usr/local/sbin/pragma-guest']),
     r'not there \(pragma-guest\): run images/guest/install'),
    (5, raw(commands=['set_inode_field /usr/local/sbin/pragma-guest mode 0100644']),
     r'not there \(pragma-guest\)'),
    (5, raw(without=[f'{SYSTEM}/pragma-guest-ready.service']),
     r'not there \(pragma-guest-ready.service\)'),
    (5, raw(commands=['rm /etc/systemd/system/pragma-guest.service',
                      'symlink /etc/systemd/system/pragma-guest.service /dev/null']),
     r'not there \(pragma-guest.service\)'),
    (6, raw(without=[f'{WANTS}/pragma-guest.service']),
     r'not enabled \(pragma-guest.service\): run images/guest/install'),
    (6, raw(without=[f'{WANTS}/pragma-guest-ready.service']),
     r'not enabled \(pragma-guest-ready.service\)'),
    (7, raw(builtin=[]),
     'kernel 6.1.0 has no virtio_blk for a disk on the bus virtio: install one'),
    (7, raw(builtin=['virtio_blk_more.ko', 'virtio_blk.ko.d/x.ko']), 'has no virtio_blk '),
    (7, raw(without=[f'{KERNEL}/modules.builtin']), 'has no virtio_blk '),
    (7, raw(commands=['mkdir /usr/lib/modules/7.0']),
     'kernel 7.0 has no virtio_pci, no virtio_blk'),
    (8, raw(dep=DEP[:1]), 'kernel 6.1.0 has no virtio_net for a network interface virtio'),
    (9, raw(without=['usr/sbin/ip', 'usr/sbin/sshd']),
     'runs ip, sshd, and the image has no such command: install iproute2, openssh-server'),
    (10, raw(commands=[f'symlink /{WANTS}/connman.service ../x']),
     'connman would change the node.s interfaces, .*: disable the service'),
    (10, raw(files=[('etc/sysconfig/network-scripts/ifcfg-eth0', b''),
                    ('etc/rc.d/init.d/network', b'')]), 'network, which reads ifcfg-eth0'),
    (11, raw(files=[('etc/pragma_boot/identity.d/x', b'../b\n')]),
     "identity.d/x' line 1 is not an absolute path: '../b': make the image"),
]


RIVALS = {
    'systemd-networkd': {'files': [('etc/systemd/network/20-dhcp.network', b'[Network]\n')],
                         'commands': [f'symlink /{WANTS}/systemd-networkd.service /lib/x']},
    'NetworkManager': {'commands': [f'symlink /{WANTS}/NetworkManager.service /lib/x']},
    'netplan': {'files': [('etc/netplan/50-cloud-init.yaml', b'network: {}\n')]},
    'ifupdown': {'files': [('sbin/ifup', b''), ('etc/network/interfaces', b'auto lo\n'),
                           ('etc/network/interfaces.d/eth0', b'iface eth0 inet dhcp\n')]},
    'dhcpcd': {'commands': [f'symlink /{WANTS}/dhcpcd.service /lib/x']},
}
NO_RIVALS = {
    'networkd of systemd alone': {
        'files': [('usr/lib/systemd/network/80-container-host0.network', b'[Network]\nDHCP=yes\n'),
                  ('etc/systemd/network/00-00-pragma_boot.network', b'[Link]\nUnmanaged=yes\n')],
        'commands': [f'symlink /{WANTS}/systemd-networkd.service /lib/x']},
    'networkd that is not enabled': {
        'files': [('etc/systemd/network/20-dhcp.network', b'[Network]\nDHCP=yes\n')]},
    'ifupdown for lo': {'files': [
        ('sbin/ifup', b''), ('etc/network/interfaces', b'auto lo\niface lo inet loopback\n')]},
}


@pytest.mark.parametrize('rival', [*RIVALS, *NO_RIVALS])
def test_row_47_network_services_that_the_guest_part_keeps_away(site, rival):
    path = guest_image(site.folder / 'image.img', **{**RIVALS, **NO_RIVALS}[rival])
    found = check(site, path, status=0)
    warned = [text for result, _, text in found if result == 'warning']
    if rival in NO_RIVALS:
        assert not warned
    else:
        assert len(warned) == 1 and warned[0].startswith(f'{rival} has a configuration')
        assert 'warn  ' in site.run('vc-check', path).stdout.decode()


@pytest.mark.parametrize('name, reason', [
    ('hostname', 'no command hostname: .*: install hostname'),
    ('nft', 'there is no nft, which a frontend runs: install nftables')])
def test_row_47_commands_that_not_every_node_needs(site, name, reason):
    path = guest_image(site.folder / 'image.img', without=[f'usr/sbin/{name}'])
    (text,) = [text for result, _, text in check(site, path, 0) if result == 'warning']
    assert re.search(reason, text)


def test_a_frontend_needs_its_commands(site):
    image = pack(guest_image(site.folder / 'image.img', without=['usr/sbin/nft']))
    found = check(site, vc_in(site, image))
    assert [of for result, of, text in found if result == 'failed'] == ['frontend']


@pytest.mark.parametrize('size, warned', [
    ('>131071', True), ('>131072', False), (">512", True), (" unit='MiB'>127", True),
    (" unit='MiB'>128", False)])
def test_little_memory_is_a_warning(site, packed, size, warned):
    found = check(site, vc_in(site, packed, [('<memory>1048576', f'<memory{size}')]), status=0)
    warnings = [text for result, of, text in found if result == 'warning' and of == 'frontend']
    assert bool(warnings) == warned
    assert all('less than the 128 MiB' in text and 'KiB' in text for text in warnings)


def test_an_unknown_driver_is_a_warning(site, packed):
    path = vc_in(site, packed, [('rocks6_client', 'rocks6_cleint')])
    (text,) = [text for result, _, text in check(site, path, 0) if result == 'warning']
    assert "no guest profile 'rocks6_cleint'" in text and "is it 'rocks6_client'?" in text
    assert "is it 'rocks6_client'?" in site.run(
        'vc-stage', input=site.run('vc-parse', path).stdout).stderr.decode()


@pytest.mark.parametrize('number, make, reason', FAILS)
def test_says_what_is_not_met(site, number, make, reason):
    path = make(site)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # The last one is about its firmware: tests/tools/test_firmware.py.
    *found, _ = check(site, path)
    assert len(found) == len(TITLES), found
    assert [result for result, _, _ in found[:number]] == ['ok'] * number, found
    assert found[number][0] == 'failed' and re.search(reason, found[number][2]), found[number]
    remedies = 'convert|make|install|name|write|run|shut|disable|ask'
    assert re.search(f': ({remedies}) ', found[number][2]), found[number]
    after = {result for result, _, _ in found[number + 1:]}
    expected = {'unseen'} if number < VITAL else {'ok', 'failed'} if '7.0' in reason else {'ok'}
    assert after <= expected, found
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_each_requirement_can_fail():
    assert {number for number, _, _ in FAILS} == set(range(len(TITLES)))


def test_what_belongs_to_one_machine_is_a_warning(site):
    path = guest_image(site.folder / 'image.img', files=[
        ('etc/ssh/ssh_host_rsa_key', b'key'), ('etc/machine-id', b'0123\n'),
        ('etc/hosts', b'127.0.0.1 localhost\n'), ('var/log/syslog', b'x')])
    warned = [text for result, _, text in check(site, path, status=0) if result == 'warning']
    assert [text for text in warned if 'would share' in text] == [
        ('it has what belongs to one machine, and its nodes would share: '
        '/etc/ssh/ssh_host_rsa_key, /etc/machine-id: make the image without it')]


def test_without_a_kernel_both_devices_fail(site):
    found = check(site, guest_image(site.folder / 'image.img',
                                    without=[f'{KERNEL}/modules.dep', f'{KERNEL}/modules.builtin']))
    reason = ('there is no kernel in /lib/modules: install one that has, or ask for what it drives '
              'in vc-in.xml')
    assert [text for result, _, text in found if result == 'failed'] == [reason] * 2


@pytest.mark.parametrize('packed', [False, True])
def test_an_image_that_meets_all(site, packed):
    path = guest_image(site.folder / 'image.img')
    path = pack(path) if packed else path
    output = lines(site.run('vc-check', path).stdout)
    assert len(output) == len(TITLES) + 1 and all(line.startswith('ok    ') and len(line) <= 80
                                            for line in output), output
    assert output[0].startswith('ok    the image is raw, in .gz (16 MiB; ' if packed
                              else 'ok    the image is raw (16 MiB)')
    assert output[2] == 'ok    partition 1 is the root partition (ext4): no other can be'


def vc_in(site, image, change=()):
    """The site's entry with an image for both roles, and its vc-in.xml changed."""
    for name in ('calit2-119-222.img.gz', 'hosted-vm-0-0-1.img.gz'):
        shutil.copy(image, site.vc_in.parent / name)
    text = site.vc_in.read_text()
    for old, new in change:
        assert old in text
        text = text.replace(old, new, 1)
    site.vc_in.write_text(text)
    return site.vc_in


CARD = """<interface type='bridge'>
          <source bridge='eth1'/>
          <mac address='7a:77:6e:40:00:08'/>
          <model type='virtio' />
        </interface>"""
DISK = "<source file='calit2-119-222.img.gz'/>"

VC_FAILS = [
    (0, [('<devices>', "<devices><hostdev mode='subsystem'/>")],
     'refused: it takes a device of the host: change or remove it'),
    (2, [(CARD, '')], 'the frontend has 1 network interfaces, not 2: private first, public second'),
    (2, [('<devices>', f'<devices>{CARD}')], 'the frontend has 3 network interfaces'),
    (3, [('</disk>', "</disk><disk type='file'><source file='b'/></disk>")],
     'the frontend has 2 disks, not one'),
    (3, [("type='raw'", "type='vmdk'")], "disk is 'vmdk': an image must be raw or qcow2"),
    (4, [(DISK, "<source file='../x'/>")], "image '../x' of the frontend lies outside"),
    (4, [(DISK, "<source file='nothing.img'/>")],
     "cannot open image 'nothing.img' of the frontend: No such file"),
    (6, [('</disk>', '<serial>a,b</serial></disk>')], 'is not valid for libvirt'),
    (5, [("bus='ide'", "bus='usb'")], 'bus may be ide or sata or scsi or virtio'),
    (1, [('<memory>1048576', '<memory>much')], 'which is not a whole number'),
]


@pytest.fixture
def packed(site):
    return pack(guest_image(site.folder / 'image.img'))


@pytest.mark.parametrize('number, change, reason', VC_FAILS)
def test_says_what_a_vc_in_does_not_meet(site, packed, number, change, reason):
    if number == 6 and not libvirt_schema.installed():
        do_without('libvirt is not installed')
    found = check(site, vc_in(site, packed, change))
    assert found[0] == ('ok', None, 'the vc-in.xml is well-formed and valid')
    frontend = [one for one in found if one[1] == 'frontend']
    assert frontend[number][0] == 'failed' and reason in frontend[number][2], frontend
    if number in (3, 4, 5):
        assert frontend[-1] == ('unseen', 'frontend', 'not checked: the content of its image')
    assert {result for result, of, _ in found if of == 'compute'} == {'ok'}
    # As vc-parse says it.
    reason = reason.split(': change or remove it')[0].split("'nothing")[0]
    assert reason in site.fails('vc-parse', site.vc_in)


def test_each_requirement_of_a_vc_in_can_fail():
    """The doubts are only ever warnings (tests/tools/test_domains.py)."""
    assert {number for number, _, _ in VC_FAILS} == set(range(len(vcin.REQUIREMENTS)))


def test_a_compute_node_with_two_cards(site, packed):
    old = ("<interface type='bridge'>\n          <source bridge='eth0.2'/>\n          "
           "<mac address='7a:77:6e:40:00:0a'/>")
    new = f"{CARD}<interface type='bridge'><source bridge='x'/>"
    found = check(site, vc_in(site, packed, [(old, new)]))
    text = next(text for result, of, text in found if result == 'failed' and of == 'compute')
    assert 'the compute has 2 network interfaces, not 1: change it in the vc-in.xml' in text


@pytest.mark.parametrize('change', [('<public>eth1', '<public>eth0'),
                                    ("engine='kvm'", "engine='xen'"), ('</vc>', '')])
def test_a_vc_in_that_is_not_valid(site, packed, change):
    found = check(site, vc_in(site, packed, [change]))
    assert [(result, of) for result, of, _ in found] == [('failed', None), ('unseen', None)]


def test_asks_for_the_drivers_that_the_vc_in_asks_for(site, packed):
    """The example's disk is on IDE; the frontend's first interface gets another model."""
    found = check(site, vc_in(site, packed), status=0)
    assert ('ok', 'frontend', 'kernel 6.1.0 drives a disk on the bus ide') in found
    found = check(site, vc_in(site, packed, [("<model type='virtio' />", "<model type='rtl8139'/>"),
                                             ("bus='ide'", "bus='sata'")]))
    assert [(of, text.split(':')[0]) for result, of, text in found if result == 'failed'] == [
        ('frontend', 'kernel 6.1.0 has no ahci for a disk on the bus sata'),
        ('frontend', 'kernel 6.1.0 has no 8139cp or 8139too for a network interface rtl8139')]


def test_one_image_of_both_roles_is_checked_once(site, packed):
    path = vc_in(site, packed, [('hosted-vm-0-0-1.img.gz', 'calit2-119-222.img.gz')])
    found = check(site, path, status=0)
    assert [text for _, of, text in found if of == 'both'][1:3] == [
        'there is a dos table with partition 1',
        'partition 1 is the root partition (ext4): no other can be']
    # The file, its profile, its network and the memory of the hosts.
    assert len(found) == 1 + 3 + 2 * len((*vcin.REQUIREMENTS, *vcin.DOUBTS)) + len(TITLES) + 1


def test_the_drivers_of_all_permitted_devices_are_known():
    from pragma_boot.document import permit
    assert guest.BUSES.keys() == {*permit.DISK_BUSES,
                                  *(f'scsi {model}' for model in permit.SCSI_CONTROLLERS)}
    assert guest.CARDS.keys() == permit.CARDS.keys()


def test_links_to_folders_are_followed(site):
    path = guest_image(site.folder / 'image.img', without=['usr/local/sbin/pragma-guest'])
    assert check(site, path)[5][0] == 'failed'
    (site.folder / 'program').write_bytes(b'#!/usr/bin/python3')
    harm(path, 'mkdir /usr/local', 'mkdir /usr/local/bin', 'cd /usr/local/bin',
         f"write {site.folder / 'program'} pragma-guest",
         'set_inode_field pragma-guest mode 0100755',
         'symlink /usr/local/sbin bin')
    assert check(site, path, status=0)


def test_another_file_system_is_not_read(site):
    found = check(site, put(site, 'minix', 'mkfs.minix'))
    assert found[3][0] == 'ok' and 'libguestfs' in found[3][2]
    assert {result for result, _, _ in found[4:-1]} == {'unseen'}
    assert 'vc-check reads ext2' in found[4][2]


NOBODY = ('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--')


@pytest.mark.parametrize('pack_it', [False, True])
def test_needs_no_root_and_leaves_nothing(site, public_tree, pack_it):
    path = guest_image(site.folder / 'image.img')
    path = pack(path) if pack_it else path
    path.chmod(0o444)
    scratch = site.folder / 'scratch'
    scratch.mkdir()
    scratch.chmod(0o777)
    before = path.stat()
    done = subprocess.run([*(NOBODY if os.geteuid() == 0 else ()), public_tree / 'bin/vc-check',
                           path], capture_output=True,
                          env={**site.environment(), 'TMPDIR': str(scratch)}, check=False)
    assert (done.returncode, done.stderr) == (0, b''), done
    after = path.stat()
    assert (after.st_mode, after.st_ctime_ns,
            after.st_mtime_ns) == (before.st_mode, before.st_ctime_ns, before.st_mtime_ns)
    assert os.listdir(scratch) == [] and not site.temp.exists()
    assert (f'{scratch} to look' in done.stdout.decode()) == pack_it


@pytest.mark.parametrize('mode', [0o600, 0o644])
def test_as_root_the_file_stays_as_it_is(site, mode):
    """Programs read it as nobody: a file that others cannot read is checked in a copy."""
    path = guest_image(site.folder / 'image.img')
    path.chmod(mode)
    before = path.stat()
    check(site, path, status=0)
    after = path.stat()
    assert (after.st_mode, after.st_gid, after.st_ctime_ns) == (before.st_mode, before.st_gid,
                                                                before.st_ctime_ns)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(site, number, monkeypatch):
    scratch = site.folder / 'scratch'
    scratch.mkdir()
    source = site.folder / 'large.img.gz'
    source.write_bytes(gzip.compress(os.urandom(1 << 20), 1) * 1200)
    monkeypatch.setenv('TMPDIR', str(scratch))
    running = site.start('vc-check', source)
    for _ in range(1000):
        links = []
        for one in os.listdir(f'/proc/{running.pid}/fd'):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f'/proc/{running.pid}/fd/{one}'))
        if any(str(scratch) in link for link in links):
            break
        time.sleep(0.005)
    running.send_signal(number)
    output, said = running.communicate()
    assert running.returncode == (-9 if number == signal.SIGKILL else 130)
    assert output == b'' and (number == signal.SIGKILL or said == b'vc-check: interrupted\n')
    assert any(str(scratch) in link for link in links)
    assert os.listdir(scratch) == []


def test_a_file_that_cannot_be_read(site, tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', '/nonexistent')
    assert "TMPDIR '/nonexistent' of the environment is not a folder" in site.fails(
        'vc-check', site.vc_in)
    monkeypatch.delenv('TMPDIR')
    assert "cannot open image '/nonexistent': No such file" in site.fails('vc-check',
                                                                          '/nonexistent')
    assert 'is not a regular file' in site.fails('vc-check', tmp_path)
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    assert 'is not a regular file' in site.fails('vc-check', fifo)


def test_an_image_that_unpacks_to_too_much(site, packed):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('image_max_size = 8M\n')
    for path in (packed, site.folder / 'image.img'):
        assert 'unpacks to more than 8388608 bytes' in check(site, path)[0][2]


def test_a_full_output_is_an_error(site, packed):
    with open('/dev/full', 'wb') as full:
        done = site.run('vc-check', packed, status=1, stdout=full, stderr=subprocess.PIPE)
    assert lines(done.stderr) == ['vc-check: cannot write standard output: No space left on device']


def test_the_page_has_the_tools_options(site):
    page = (ROOT / 'man/vc-check.1').read_text(encoding='utf-8')
    page = page.split('.Sh OPTIONS\n')[1].split('.Sh ')[0]
    listed = {'-' + word for line in page.splitlines() if line.startswith('.It Fl ')
              for word in re.findall(r'-[a-z-]+', line)}
    output = site.run('vc-check', '-h').stdout.decode().split('Options:\n')[1].split('Exit')[0]
    assert listed == set(re.findall(r'--[a-z-]+', output))
