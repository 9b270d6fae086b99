"""vc-capture: a stopped cluster becomes an entry of the database, without what must not travel."""
import hashlib
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from lxml import etree

from lab import ROOT
from lab.hosts import need_namespaces
from lab.images import make_image, pack
from lab.kills import KILL_AT
from lab.leftovers import processes, settled
from lab.needs import need
from lab.site import lines
from pragma_boot.image import traces

WORD = b'SECRET-%s-6a1f'
"""What is searched for: one for each place."""

FILES = ('root/vc-out.xml', 'root/.ssh/id_rsa', 'root/.ssh/known_hosts',
         'home/ann/.ssh/id_ed25519', 'etc/ssh/ssh_host_rsa_key', 'etc/ssh/ssh_host_rsa_key.pub',
         'etc/machine-id', 'var/lib/dbus/machine-id', 'var/lib/systemd/random-seed',
         'var/lib/dhcp/dhclient.eth0.leases', 'var/lib/NetworkManager/secret_key',
         'var/lib/cloud/instances/i-1/user-data.txt', 'var/lib/cloud/data/instance-id',
         'etc/munge/munge.key', 'etc/shadow-', 'var/lib/pragma_boot/node', 'root/machinefile',
         'tmp/x/y', 'var/tmp/z', 'var/crash/core', 'opt/own/tool.key',
         'opt/own/deep/er/token')
KEYS = ('root/.ssh/authorized_keys', 'home/ann/.ssh/authorized_keys')
LOGS = ('var/log/syslog', 'var/log/journal/0123/system@a~.journal~', 'var/log/wtmp',
        "var/log/a b'\"\nc", 'root/.bash_history', 'home/ann/.bash_history', 'root/.lesshst')
STAYS = ('root/.bashrc', 'home/ann/results/data', 'etc/ssh/sshd_config', 'usr/bin/tool')


def word(name):
    return WORD % re.sub('[^a-z0-9]', '-', name).encode()


def debugfs(path, *commands):
    done = subprocess.run(['debugfs', '-w', '-f', '-', f'{path}?offset=1048576'], check=True,
                          capture_output=True, input='\n'.join(commands).encode())
    return done.stdout.decode(errors='replace')


def plant(path, offset, data):
    with open(path, 'rb+') as file:
        file.seek((1 << 20) + offset)
        file.write(data)


def planted(path, mkfs=('mke2fs', '-t', 'ext4', '-b', '1024')):
    """A raw image with secrets in files, in deleted files, and where no file is."""
    files = [(name, word(name) * 100 + b'\n') for name in (*FILES, *KEYS, *LOGS, *STAYS)]
    files += [('deleted', word('deleted') * 500), ('slack', b'short\n'), ('var/log/empty/x', b''),
              ('swapfile', b'\0' * 4086 + b'SWAPSPACE2' + word('swapfile') * 500),
              ('etc/pragma_boot/identity.d/own',
               b'# of a package\n/opt/own/*.key  # a key\n/opt/own/deep/**\n')]
    files += [(f'removed/{word("name").decode()}{count}', b'') for count in range(100)]
    make_image(path, files, size='32M', mkfs=mkfs)
    debugfs(path, 'rm /deleted', *(f'rm /removed/{word("name").decode()}{count}'
                                   for count in range(100)),
            'write /dev/null sparse', 'fallocate /sparse 0 9', 'set_inode_field /sparse size 10000',
            'symlink /var/lib/dbus/link /etc/machine-id')
    shown = {name: re.search(r'\(0[^)]*\):(\d+)', debugfs(path, f'stat {name}'))
             for name in ('/slack', '<8>')}
    where = {name: int(block[1]) * 1024 if block else 0 for name, block in shown.items()}
    plant(path, where['/slack'] + 100, word('slack'))
    if 'ext4' in mkfs:
        unwritten = re.search(r'\[u\]\):(\d+)', debugfs(path, 'stat /sparse'))
        plant(path, int(unwritten[1]) * 1024 + 1024, word('unwritten'))
    if where['<8>']:
        plant(path, where['<8>'] + 5 * 1024, word('journal'))
    # A free inode at the end of the first table.
    table = re.search(r'Inode table at (\d+)-(\d+)', subprocess.run(
        ['bash', '-c', f'tail -c +1048577 "{path}" > "{path}.part" && dumpe2fs "{path}.part"'],
        capture_output=True, check=True).stdout.decode())
    os.unlink(f'{path}.part')
    plant(path, int(table[2]) * 1024 + 800, word('inode'))
    return path


ELSEWHERE = ('deleted', 'slack', 'unwritten', 'journal', 'inode', 'swapfile', 'name')


def allocate(site, name, num_cpus=4, upto='vc-inject'):
    """A cluster with disks that was never started."""
    document = site.document(name, upto, num_cpus)
    return etree.fromstring(document).find('cluster').get('name')


@pytest.fixture
def source(empty_site):
    """A site with a cluster, made of an image with secrets."""
    site = empty_site
    need('mke2fs', 'debugfs', 'qemu-img')
    raw = planted(site.folder / 'planted.img')
    site.raw = raw.read_bytes()
    site.entry = f't{os.getpid()}-{site.folder.name[7:].replace("_", "x")}'
    site.vc_in = site.add_entry(site.entry, pack(raw))
    site.cluster = allocate(site, site.entry)
    return site


def unpack(path):
    command = ['zstd', '-dc', path] if str(path).endswith('.zst') else ['gzip', '-dc', path]
    return subprocess.run(command, capture_output=True, check=True).stdout


def captured(site, entry, role='frontend', suffix='gz'):
    """The raw image of an entry; its file system is sound."""
    data = unpack(site.base / entry / f'{entry}-{role}.img.{suffix}')
    raw = site.folder / f'{entry}-{role}.raw'
    raw.write_bytes(data)
    subprocess.run(['e2fsck', '-fn', f'{raw}?offset=1048576'], check=True, capture_output=True)
    return raw


def state(folder):
    """Mode, owner, times and content of all files of a folder, without locks."""
    return {str(path): (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid,
                        path.is_file() and (path.stat().st_mtime_ns,
                                            hashlib.sha256(path.read_bytes()).digest()))
            for path in sorted(folder.rglob('*')) if path.suffix != '.lock'}


def test_a_cluster_becomes_an_entry(source):
    before = state(source.temp / 'clusters')
    said = lines(source.run('vc-capture', source.cluster, '--as', 'new').stdout)
    assert re.match(r"frontend: node 'frontend', 32 MiB, packed \d+ MiB; \d+ files remov",
                    said[0])
    assert said[1].startswith("compute: node 'compute-0', ")
    assert said[2] == f"entry 'new' is made: {source.base}/new/vc-in.xml"
    assert state(source.temp / 'clusters') == before
    assert (source.base / 'vcdb.txt').read_text().endswith('new,new/vc-in.xml\n')
    assert sorted(os.listdir(source.base)) == sorted([source.entry, 'new', 'vcdb.txt'])
    folder = source.base / 'new'
    assert {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {
        'new': 0o755, 'vc-in.xml': 0o644, 'new-frontend.img.gz': 0o444,
        'new-compute.img.gz': 0o444}
    # A vc-in.xml that boots anywhere: what our filters added is not in it.
    root = etree.parse(folder / 'vc-in.xml').getroot()
    assert [one.tag for one in root if isinstance(one.tag, str)] == [
        'virtualization', 'driver', 'frontend', 'compute', 'networks']
    assert root.xpath('//source/@file') == ['new-frontend.img.gz', 'new-compute.img.gz']
    # The new entry is a cluster's again.
    name = allocate(source, 'new')
    assert sorted(source.clusters()) == sorted([source.cluster, name])


def test_no_byte_of_a_secret_is_left(source):
    private = (source.temp / 'clusters' / source.cluster / 'id_ed25519').read_bytes()
    document = (source.temp / 'clusters' / source.cluster / 'vc-out.xml')
    assert all(word(name) in source.raw for name in (*FILES, *KEYS, *LOGS, *STAYS, *ELSEWHERE))
    source.run('vc-capture', source.cluster, '--as', 'new')
    for role in ('frontend', 'compute'):
        raw = captured(source, 'new', role)
        data = raw.read_bytes()
        found = [name for name in (*FILES, *KEYS, *LOGS, *ELSEWHERE) if word(name) in data]
        assert found == []
        assert [name for name in STAYS if word(name) not in data] == []
        assert private.splitlines()[2] not in data and b'PRIVATE KEY' not in data
        assert not document.exists() or document.read_bytes()[:200] not in data
        names = debugfs(raw, 'ls -p /root/.ssh', 'ls -p /etc/ssh', 'ls -p /var/log', 'ls -p /tmp',
                        'ls -p /removed', 'ls -p /opt/own')
        assert set(re.findall(r'/([^/\n]+)/\d*/$', names, re.M)) - {'.', '..'} == {
            'sshd_config', 'empty', 'journal', 'wtmp', 'deep'}
        shown = debugfs(raw, 'stat /etc/machine-id', 'stat /var/log/wtmp', 'stat /sparse')
        assert re.findall(r'^User:.*Size: (\d+)$', shown, re.M) == ['0', '0', '10000']
        # Free space is zeros: what is left is what files have.
        assert len(data) == len(source.raw)


@pytest.mark.parametrize('option, stays', [('--keep-keys', KEYS), ('--keep-logs', LOGS)])
def test_what_an_option_keeps(source, option, stays):
    source.run('vc-capture', source.cluster, '--as', 'new', option)
    data = captured(source, 'new').read_bytes()
    rest = {*FILES, *KEYS, *LOGS, *ELSEWHERE} - set(stays)
    assert [name for name in stays if word(name) not in data] == []
    assert [name for name in rest if word(name) in data] == []


def test_zstd_and_another_compute_node(source):
    need('zstd')
    source.run('vc-capture', source.cluster, '--as', 'new', '--format', 'zst', '--node',
               'compute-1')
    for role in ('frontend', 'compute'):
        data = captured(source, 'new', role, 'zst').read_bytes()
        assert word(STAYS[0]) in data and not any(word(name) in data for name in FILES)
    assert allocate(source, 'new')


@pytest.mark.parametrize('kind', [('mke2fs', '-t', 'ext3', '-b', '1024'),
                                  ('mke2fs', '-t', 'ext2', '-b', '1024')])
def test_older_file_systems(empty_site, kind):
    site = empty_site
    raw = planted(site.folder / 'planted.img', kind)
    site.add_entry('old', pack(raw))
    site.run('vc-capture', allocate(site, 'old'), '--as', 'new')
    data = captured(site, 'new').read_bytes()
    assert [name for name in (*FILES, *KEYS, *LOGS, *ELSEWHERE) if word(name) in data] == []
    assert [name for name in STAYS if word(name) not in data] == []


def test_a_journal_is_replayed_and_a_swap_partition_emptied(empty_site):
    """Three partitions: one that was not unmounted, one for swap, one of /home."""
    site = empty_site
    from lab.images import parted
    files = [('etc/passwd', b'x'), ('root/x', b'x')]
    home = [('ann/.ssh/id_rsa', word('home')), ('ann/data', word('data'))]
    raw = parted(site.folder / 'three.img', 'label: gpt\nstart=1MiB, size=16MiB, type=linux\n'
                 'start=17MiB, size=8MiB, type=swap\nstart=25MiB, size=16MiB, type=home\n', {
                     1: (('mke2fs', '-t', 'ext4', '-F'), files, 15),
                     17: (('mkswap',), (), 8),
                     25: (('mke2fs', '-t', 'ext4', '-M', '/home', '-F'), home, 16)})
    plant(raw, (17 << 20), word('swapped'))
    # Behind the end of the file system.
    plant(raw, (15 << 20) + 100, word('behind'))
    debugfs(raw, 'set_super_value feature_incompat 0x2c6')
    site.add_entry('three', pack(raw))
    data = site.run('vc-capture', allocate(site, 'three'), '--as', 'new') and captured(
        site, 'new').read_bytes()
    assert not [name for name in ('home', 'swapped', 'behind') if word(name) in data]
    assert word('data') in data and b'SWAPSPACE2' in data


REFUSALS = {
    'unknown cluster': (('nobody', '--as', 'new'), 1, "no cluster 'nobody'"),
    'a name that is none': (('{cluster}', '--as', '../x'), 1, "entry '../x' is not a name"),
    'an entry that is there': (('{cluster}', '--as', '{entry}'), 1, 'there is an entry'),
    'a frontend as compute node': (('{cluster}', '--as', 'new', '--node', 'frontend'), 1,
                                   'is the frontend'),
    'an unknown node': (('{cluster}', '--as', 'new', '--node', 'x'), 1, "has no node 'x'"),
    'no database': (('{cluster}', '--as', 'new', '--base_path', '/nowhere'), 1,
                    "there is no folder '/nowhere'"),
    'a format': (('{cluster}', '--as', 'new', '--format', 'xz'), 2, '--format must be gz or zst')}


def test_refusals_leave_nothing(source):
    before = state(source.base)
    for arguments, status, message in REFUSALS.values():
        said = source.fails('vc-capture', *(one.format(cluster=source.cluster, entry=source.entry)
                                            for one in arguments), status=status)
        assert message in said
    (source.base / 'new').mkdir()
    assert 'is no entry of the database' in source.fails('vc-capture', source.cluster, '--as',
                                                         'new')
    (source.base / 'new').rmdir()
    assert state(source.base) == before


def test_a_bad_line_of_the_image_is_named(empty_site):
    site = empty_site
    site.add_entry('bad', pack(make_image(site.folder / 'bad.img', [
        ('etc/pragma_boot/identity.d/x', b'/a\n../b\n')])))
    said = site.fails('vc-capture', allocate(site, 'bad'), '--as', 'new')
    assert "'/etc/pragma_boot/identity.d/x' line 2 is not an absolute path: '../b'" in said
    assert sorted(os.listdir(site.base)) == ['bad', 'vcdb.txt']


def test_a_damaged_file_system_is_refused(source):
    disk = source.temp / 'clusters' / source.cluster / 'frontend.qcow2'
    subprocess.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 77 1M 64k', disk], check=True,
                   capture_output=True)
    before = state(source.base)
    assert 'frontend' in source.fails('vc-capture', source.cluster, '--as', 'new')
    assert state(source.base) == before


def test_a_header_that_names_another_file_is_refused(source):
    """A guest that took over its QEMU may have written it."""
    disk = source.temp / 'clusters' / source.cluster / 'frontend.qcow2'
    secret = source.folder / 'host secret'
    secret.write_bytes(word('host') * 1000 + bytes(32 << 20))
    subprocess.run(['qemu-img', 'rebase', '-u', '-F', 'raw', '-b', secret, disk], check=True)
    source.run('vc-capture', source.cluster, '--as', 'new')
    assert word('host') not in captured(source, 'new').read_bytes()


def test_a_node_that_runs(source):
    document = source.run('vc-status', '--xml', source.cluster).stdout
    source.run('vc-boot', '--paused', '--ignore-dependencies', input=document)
    said = source.fails('vc-capture', source.cluster, '--as', 'new')
    assert f"node 'frontend' of cluster '{source.cluster}' runs: shut it down with" in said
    done = source.run('vc-capture', source.cluster, '--as', 'new', '--shutdown', '--timeout', '0')
    assert 'is destroyed' in done.stderr.decode() and (source.base / 'new').is_dir()
    source.run('vc-start', source.cluster, '--node', 'frontend')


def test_disks_in_a_storage_pool(site, host):
    """They are downloaded, with their backing image."""
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('storage = pool:default\n')
    site.add_entry('planted', pack(planted(site.folder / 'planted.img')))
    name = allocate(site, 'planted')
    assert host.uri and etree.parse(site.temp / 'clusters' / name / 'document.xml').xpath(
        '//disk/@pool')
    site.run('vc-capture', name, '--as', 'new')
    data = captured(site, 'new').read_bytes()
    assert not [one for one in (*FILES, *KEYS, *LOGS, *ELSEWHERE) if word(one) in data]
    assert not [one for one in STAYS if word(one) not in data]


def test_two_at_once_make_one_entry(source):
    def run(_):
        return subprocess.run([ROOT / 'bin' / 'vc-capture', source.cluster, '--as', 'new'],
                              capture_output=True, env=source.environment(), check=False)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(run, range(2)))
    assert sorted(one.returncode for one in done) == [0, 1]
    assert (source.base / 'vcdb.txt').read_text().count('new,') == 1
    assert sorted(os.listdir(source.base)) == sorted([source.entry, 'new', 'vcdb.txt'])


def test_a_full_database_is_named(source):
    need_namespaces()
    base = source.folder / 'full'
    base.mkdir()
    done = subprocess.run(
        ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs -o size=16k none "$0" && exec "$@"', base,
         ROOT / 'bin' / 'vc-capture', source.cluster, '--as', 'new', '--base_path', base],
        capture_output=True, env=source.environment(), check=False)
    line, = lines(done.stderr)
    assert line == (f"vc-capture: cannot use '{base}/.vc-capture.new/new-frontend.img.gz': "
                    'No space left on device')


def test_a_full_disk_leaves_nothing(source):
    need('prlimit')
    done = subprocess.run(['prlimit', '--fsize=100000', ROOT / 'bin' / 'vc-capture',
                           source.cluster, '--as', 'new'], capture_output=True,
                          env=source.environment(), check=False)
    assert done.returncode == 1 and len(lines(done.stderr)) == 1
    assert sorted(os.listdir(source.base)) == sorted([source.entry, 'vcdb.txt'])


@pytest.mark.parametrize('points', [8, pytest.param(40, marks=pytest.mark.long)])
def test_killed_at_some_points(source, points):
    """kill -9: the entry is whole or not there, the same command works, nothing is left."""
    temporary = source.folder / 'tmp'
    temporary.mkdir()
    environment = {**source.environment(), 'TMPDIR': str(temporary)}
    document = (source.temp / 'clusters' / source.cluster / 'document.xml').read_bytes()
    disks = state(source.temp / 'clusters')

    def capture(step):
        with open(source.folder / 'err', 'w+b') as err:
            done = subprocess.run([*KILL_AT, 'KILL', str(step), ROOT / 'bin' / 'vc-capture',
                                   source.cluster, '--as', 'new'], stdout=subprocess.DEVNULL,
                                  stderr=err, env=environment, check=False, timeout=1800)
            err.seek(0)
            return done.returncode, err.read().decode().splitlines()[-1]

    status, said = capture(0)
    assert status == 0
    last, images = int(said.split()[0]), None
    # The last steps are those in which the entry appears.
    late = points // 3
    steps = {*range(1, last, max(1, last // (points - late))), *range(last - late, last + 1)}
    assert len(steps) >= points
    for step in [0, *sorted(steps)]:
        if step:
            status, said = capture(step)
            assert status in (137, 0), said
            assert settled(source), processes(source)
        there = 'new,' in (source.base / 'vcdb.txt').read_text()
        again = source.run('vc-capture', source.cluster, '--as', 'new', status=int(there))
        assert not there or b'there is an entry' in again.stderr, said
        found = {path.name: path.stat().st_mode for path in (source.base / 'new').iterdir()}
        images = images or found
        assert found == images, (said, found)
        # Times in the file system differ from run to run, and so the sizes by some bytes.
        assert (source.base / 'new/new-compute.img.gz').stat().st_size > 20000, said
        assert sorted(os.listdir(source.base)) == sorted([source.entry, 'new', 'vcdb.txt']), said
        assert os.listdir(temporary) == [] and not processes(source), said
        shutil.rmtree(source.base / 'new')
        (source.base / 'vcdb.txt').write_text(f'{source.entry},{source.entry}/vc-in.xml\n')
    assert state(source.temp / 'clusters') == disks
    assert (source.temp / 'clusters' / source.cluster / 'document.xml').read_bytes() == document


def test_interrupted_it_leaves_nothing(source):
    tool = source.start('vc-capture', source.cluster, '--as', 'new')
    while not list(source.base.glob('.vc-capture.new/*')) and tool.poll() is None:
        pass
    tool.terminate()
    tool.communicate()
    assert tool.returncode in (0, 130)
    if tool.returncode == 130:
        assert sorted(os.listdir(source.base)) == sorted([source.entry, 'vcdb.txt'])


def test_the_table_has_a_reason_for_each_path():
    assert all(trace.reason and re.fullmatch(traces.PATTERN, trace.pattern)
               for trace in traces.TRACES)
    patterns = [trace.pattern for trace in traces.TRACES]
    assert len(patterns) == len(set(patterns))


