"""vc-import: an entry of the database from a stock image, all or nothing; and what is refused."""
import gzip
import os
import re
import struct
import subprocess

import pytest
from lxml import etree

from lab import ROOT
from lab.images import make_image, pack
from lab.kills import KILL_AT
from lab.needs import need
from lab.site import lines
from pragma_boot.image import guest, operating_system, services
from pragma_boot.system import confinement

RELEASE = b'PRETTY_NAME="Example Linux 1 (first -- one)"\nID=example\nID_LIKE="debian"\n'
CONFIG = b'datasource_list: [ NoCloud, ConfigDrive, None ]\n'
DEP = b''.join(b'kernel/drivers/%s.ko.xz: x.ko\n' % name for name in (
    b'virtio/virtio_pci', b'net/virtio_net', b'block/virtio_blk'))
GRUB = b'\xeb\x63\x90GRUB \0'


def program(machine=62):
    """The beginning of a program for an architecture (elf(5))."""
    return b'\x7fELF\x02\x01\x01' + bytes(9) + struct.pack('<HH', 2, machine) + bytes(44)


FILES = {'usr/lib/os-release': RELEASE, 'usr/bin/env': program(), 'usr/bin/cloud-init': b'#!\n',
         'etc/cloud/cloud.cfg.d/90_dpkg.cfg': CONFIG, 'usr/lib/modules/6.1.0/modules.dep': DEP,
         'etc/systemd/system/multi-user.target.wants/x': b'',
         **{f'usr/bin/{name}': b'#!\n' for name in
            (*services.PACKAGES, *services.FRONTEND, 'hostname', 'netplan')}}
PART = {'usr/local/sbin/pragma-guest': b'#!\n',
        **{f'etc/systemd/system/{name}': b'' for name in guest.UNITS}}


def stock(path, changes=(), code=GRUB, **options):
    """A raw image of a stock system, with ``changes`` to its files: None removes one."""
    files = {name: data for name, data in {**FILES, **dict(changes)}.items() if data is not None}
    make_image(path, files.items(), **options)
    commands = ['symlink /lib usr/lib', 'symlink /etc/os-release ../usr/lib/os-release']
    for name in guest.UNITS:
        if f'etc/systemd/system/{name}' in files:
            commands.append(f'symlink {guest.WANTS[:-1]}{name} ../{name}')
            commands.append(f'set_inode_field /etc/systemd/system/{name} mode 0100644')
    commands.append('set_inode_field /usr/local/sbin/pragma-guest mode 0100755')
    subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset=1048576'],
                   input='\n'.join(commands).encode(), capture_output=True, check=True)
    with open(path, 'rb+') as file:
        file.write(code)
    return path


@pytest.fixture
def image(empty_site):
    return stock(empty_site.folder / 'example-1.raw')


def tree_of(site):
    """All files of the database with their content and modes."""
    return {path.relative_to(site.base): (path.stat().st_mode, path.is_file() and path.read_bytes())
            for path in sorted(site.base.rglob('*'))}


def vc_in(site, name):
    return etree.parse(site.base / name / 'vc-in.xml').getroot()


def test_an_image_becomes_an_entry(empty_site, image):
    site = empty_site
    said = lines(site.run('vc-import', image).stdout)
    assert said == [
        "entry 'example-1' is made: Example Linux 1 (first -- one), starts by BIOS, cloud-init",
        f'description: {site.base}/example-1/vc-in.xml',
        'next: pragma_boot --vcname example-1 --num_cpus 4 --key ~/.ssh/id_ed25519.pub']
    assert (site.base / 'vcdb.txt').read_bytes() == b'example-1,example-1/vc-in.xml\n'
    copy = site.base / 'example-1' / 'example-1.raw'
    assert copy.read_bytes() == image.read_bytes() and copy.stat().st_mode & 0o777 == 0o444
    assert image.stat().st_mode & 0o777 == 0o644
    assert copy.stat().st_blocks <= image.stat().st_blocks
    root = vc_in(site, 'example-1')
    assert root.findtext('driver') == 'cloud_init'
    for role, interfaces in (('frontend', 2), ('compute', 1)):
        domain = root.find(f'{role}/domain')
        assert len(domain.findall('devices/interface')) == interfaces
        assert (domain.findtext('memory'), domain.find('memory').get('unit')) == ('1024', 'MiB')
        assert domain.findtext('vcpu') == '1'
        assert domain.find('devices/disk/driver').get('type') == 'raw'
    assert lines(site.run('vc-list').stdout) == ['example-1']
    site.run('vc-parse', site.base / 'example-1' / 'vc-in.xml')


def test_again_changes_nothing(empty_site, image):
    site = empty_site
    site.run('vc-import', image)
    before = tree_of(site)
    for arguments in ([image], ['--memory', '2G', image]):
        said = lines(site.run('vc-import', *arguments).stdout)
        assert said[0] == ("entry 'example-1' is there already, of this image: nothing is changed")
    assert tree_of(site) == before


def test_another_image_needs_another_name(empty_site, image):
    site = empty_site
    site.run('vc-import', image)
    before = tree_of(site)
    other = stock(site.folder / 'other.img', {'usr/bin/ls': b'other'})
    line = site.fails('vc-import', '--name', 'example-1', other)
    assert line.endswith("there is an entry 'example-1' of another image: choose another name with "
                         '--name')
    assert tree_of(site) == before
    site.run('vc-import', '--name', 'example_1.b', other)
    assert lines(site.run('vc-list').stdout) == ['example-1', 'example_1.b']


def test_options(empty_site, image):
    site = empty_site
    base = site.folder / 'other base'
    base.mkdir()
    said = site.run('vc-import', '--base_path', base, '--memory', '1500M', '--cpus', 3, '--name',
                    'x', image).stdout.decode()
    assert f"--base_path '{base}'" in said
    domain = etree.parse(base / 'x' / 'vc-in.xml').find('compute/domain')
    assert (domain.findtext('memory'), domain.findtext('vcpu')) == ('1500', '3')
    for arguments in (('--memory', 'much'), ('--memory', '0'), ('--cpus', '0'), ('--cpus', 'x')):
        site.fails('vc-import', *arguments, image, status=2)
    assert 'make it, or name another' in site.fails('vc-import', '--base_path', base / 'x' / 'y',
                                                    image)
    assert 'is not a name' in site.fails('vc-import', '--name', 'a/b', image)


@pytest.mark.parametrize('file, name', [
    ('debian-12-genericcloud-amd64.raw', 'debian-12-genericcloud-amd64'),
    ('A_b.1.x86_64.img', 'A_b.1.x86_64'), ('my image+2.raw', 'my-image-2'), ('plain', 'plain')])
def test_names_are_made_from_files(empty_site, image, file, name):
    os.rename(image, empty_site.folder / file)
    empty_site.run('vc-import', empty_site.folder / file)
    assert lines(empty_site.run('vc-list').stdout) == [name]


def test_a_name_that_is_none(empty_site, image):
    for file in ('.raw', f'{"x" * 64}.raw'):
        os.link(image, empty_site.folder / file)
        assert 'choose one with --name' in empty_site.fails('vc-import', empty_site.folder / file)


def test_other_lines_stay_as_they_are(empty_site, image):
    site = empty_site
    old = b'\xef\xbb\xbf# database\r\nbad line\n\xff\xfe,x\n a , a/vc-in.xml'
    (site.base / 'vcdb.txt').write_bytes(old)
    os.chmod(site.base / 'vcdb.txt', 0o640)
    done = site.run('vc-import', image)
    assert done.stderr == b''
    assert (site.base / 'vcdb.txt').read_bytes() == old + b'\nexample-1,example-1/vc-in.xml\n'
    assert (site.base / 'vcdb.txt').stat().st_mode & 0o777 == 0o640


def test_a_read_only_image_is_linked(empty_site, image):
    image.chmod(0o444)
    empty_site.run('vc-import', image)
    assert (empty_site.base / 'example-1' / 'example-1.raw').samefile(image)
    assert 'nothing is changed' in empty_site.run('vc-import', image).stdout.decode()


def test_a_packed_image_stays_packed(empty_site, image):
    empty_site.run('vc-import', pack(image))
    folder = empty_site.base / 'example-1'
    assert gzip.decompress((folder / 'example-1.raw.gz').read_bytes()) == image.read_bytes()
    assert vc_in(empty_site, 'example-1').find('.//disk/driver').get('type') is None
    empty_site.run('vc-parse', folder / 'vc-in.xml')


def test_a_folder_that_is_in_the_way(empty_site, image):
    (empty_site.base / 'example-1').mkdir()
    (empty_site.base / 'example-1' / 'mine').write_bytes(b'')
    assert 'choose another name with --name' in empty_site.fails('vc-import', image)
    assert (empty_site.base / 'example-1' / 'mine').exists()


def test_the_guest_part_is_used_where_it_is(empty_site):
    image = stock(empty_site.folder / 'own.raw', PART)
    assert 'the guest part' in empty_site.run('vc-import', image).stdout.decode()
    root = vc_in(empty_site, 'own')
    assert (root.findtext('driver'), root.findtext('.//memory')) == ('generic', '512')


@pytest.mark.parametrize('release, memory', [
    (b'ID=fedora\n', '2048'), (b'ID="rocky"\nID_LIKE="rhel centos fedora"\n', '2048'),
    (b'ID=ubuntu\nID_LIKE=debian\n', '1024')])
def test_memory_by_the_system(empty_site, release, memory):
    empty_site.run('vc-import', stock(empty_site.folder / 'a.raw', {'usr/lib/os-release': release}))
    assert vc_in(empty_site, 'a').findtext('.//memory') == memory


REFUSED = {
    'no-system': ({'usr/lib/os-release': None}, 'has no os-release'),
    'arm': ({'usr/bin/env': program(183)}, 'is for aarch64: nodes are x86_64'),
    'no-kernel': ({'usr/lib/modules/6.1.0/modules.dep': None}, 'has no kernel in /lib/modules'),
    'no-virtio': ({'usr/lib/modules/6.1.0/modules.dep': DEP.replace(b'virtio_blk', b'x')},
                  'has no virtio_blk: install a kernel'),
    'no-cloud-init': ({'usr/bin/cloud-init': None}, 'install cloud-init in it, or run'),
    'disabled': ({'etc/cloud/cloud-init.disabled': b''}, 'they are not enabled'),
    'azure': ({'etc/cloud/cloud.cfg.d/90_dpkg.cfg': b'datasource_list:\n  - Azure\n  - None\n'},
              'looks for settings in Azure, None only: take the image for generic clouds'),
}


@pytest.mark.parametrize('name', sorted(REFUSED))
def test_what_cannot_work_is_refused(empty_site, name):
    changes, reason = REFUSED[name]
    assert reason in empty_site.fails('vc-import', stock(empty_site.folder / 'a.raw', changes))
    assert tree_of(empty_site) == {}


def test_no_boot_loader_is_refused(empty_site):
    image = stock(empty_site.folder / 'a.raw', code=b'')
    assert 'has no boot loader' in empty_site.fails('vc-import', image)


def test_what_is_no_disk_is_refused(empty_site):
    path = empty_site.folder / 'a.img'
    for content in (b'', b'text\n', bytes(1 << 20)):
        path.write_bytes(content)
        assert str(path) in empty_site.fails('vc-import', path)
    for other in (empty_site.folder, empty_site.folder / 'not there', '/dev/null'):
        assert 'image' in empty_site.fails('vc-import', other)
    assert tree_of(empty_site) == {}


@pytest.mark.parametrize('changes, doubt', [
    ({'usr/bin/nft': None}, 'there is no nft, which a frontend runs: install nftables'),
    ({'usr/bin/python3': None}, 'the guest part runs python3, and the image has no such command'),
    ({'usr/bin/netplan': None}, 'there is no network service that cloud-init could configure')])
def test_what_an_image_may_lack_is_a_warning(empty_site, changes, doubt):
    image = stock(empty_site.folder / 'example-1.raw', changes)
    warning, = lines(empty_site.run('vc-import', image).stderr)
    assert warning.startswith(f'vc-import: nodes of this image may fail: {doubt}'), warning


def test_cloud_init_is_not_looked_for_where_the_guest_part_is(empty_site):
    changes = {**PART, 'usr/bin/netplan': None, 'usr/bin/cloud-init': None}
    done = empty_site.run('vc-import', stock(empty_site.folder / 'a.raw', changes))
    assert done.stderr == b'' and b'the guest part\n' in done.stdout


def test_a_later_file_of_the_configuration_wins(empty_site):
    image = stock(empty_site.folder / 'a.raw', {
        'etc/cloud/cloud.cfg': b'datasource_list: [Azure]\n', 'etc/cloud/cloud.cfg.d/README': b'x'})
    empty_site.run('vc-import', image)


def test_two_at_once_make_one_entry_each(empty_site, image):
    site = empty_site
    tools = [site.start('vc-import', '--name', name, image) for name in ('a', 'a', 'b', 'b', 'c')]
    said = [tool.communicate() for tool in tools]
    assert [tool.returncode for tool in tools] == [0] * 5, said
    assert sorted((site.base / 'vcdb.txt').read_text().splitlines()) == [
        f'{name},{name}/vc-in.xml' for name in 'abc']
    assert sorted(os.listdir(site.base)) == ['a', 'b', 'c', 'vcdb.txt']


@pytest.mark.parametrize('part', range(4))
def test_killed_at_any_step_it_is_all_or_nothing(empty_site, image, part):
    site = empty_site
    (site.base / 'vcdb.txt').write_bytes(b'# mine\n')
    counted = subprocess.run([*KILL_AT, 'KILL', '0', ROOT / 'bin' / 'vc-import', image], check=True,
                             capture_output=True, env=site.environment())
    steps = int(re.search(rb'(\d+)\D*$', counted.stderr)[1])
    whole = tree_of(site)
    for step in range(1 + part, steps + 1, 4 * max(1, steps // 40)):
        subprocess.run(['rm', '-rf', site.base], check=True)
        site.base.mkdir()
        (site.base / 'vcdb.txt').write_bytes(b'# mine\n')
        subprocess.run([*KILL_AT, 'KILL', str(step), ROOT / 'bin' / 'vc-import', image],
                       capture_output=True, env=site.environment(), check=False)
        database = (site.base / 'vcdb.txt').read_bytes()
        assert database in (b'# mine\n', b'# mine\nexample-1,example-1/vc-in.xml\n'), step
        if b'example' in database:
            assert lines(site.run('vc-list').stdout) == ['example-1'], step
        site.run('vc-import', image)
        assert tree_of(site) == whole, step


def test_interrupted_it_leaves_nothing(empty_site, image):
    """What the user interrupts is removed at once."""
    (empty_site.base / 'vcdb.txt').mkdir()
    assert empty_site.fails('vc-import', image)
    assert os.listdir(empty_site.base) == ['vcdb.txt']


@pytest.mark.guest
def test_both_readers_say_the_same(empty_site):
    """What debugfs reads, and what an appliance reads of other file systems."""
    need('guestfish')
    image = stock(empty_site.folder / 'a.raw', size='64M')
    with confinement.opened(str(image)) as opened:
        fast = operating_system.read(opened.at(1 << 20), 'image')
    slow = operating_system.read_through_guestfish(str(image), '/dev/sda1', 'image')
    assert slow._replace(modules=set().union(*slow.modules.values()), settings='') == \
        fast._replace(modules=set().union(*fast.modules.values()), settings='')
    assert slow.sources == fast.sources == ['NoCloud', 'ConfigDrive', 'None']
