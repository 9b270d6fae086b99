"""pragma_boot, and the driver contract (pragma_boot-driver(7))."""
import os
import re
import subprocess

import pytest
from lxml import etree

from lab import ROOT
from lab.leftovers import mounts, processes
from lab.nodes import mine, without_dependency
from lab.site import connection, lines

KVM = ROOT / 'drivers' / 'kvm'


@pytest.fixture
def quick(site):
    """The site's entry without its wait of 300 s."""
    without_dependency(site)
    return site


@pytest.fixture
def recorder(site, monkeypatch):
    """The site with the driver tests/drivers/record in place of kvm."""
    monkeypatch.setenv('PRAGMA_BIN', str(ROOT / 'bin'))
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'drivers_path = {ROOT}/tests/drivers\nve_driver = record\n')
    return site


def calls(site):
    path = site.temp / 'calls'
    return [line.split('|') for line in path.read_text().splitlines()] if path.exists() else []


def test_list(site):
    assert site.run('pragma_boot', '--list').stdout == site.run('vc-list').stdout
    other = site.folder / 'other'
    other.mkdir()
    (other / 'vcdb.txt').write_text('')
    assert site.run('pragma_boot', '--list', '--base_path', other).stdout == b''
    # the name of the option in the first version
    assert site.run('pragma_boot', '--list', '--basepath', other).stdout == b''
    assert 'wrong usage' in site.fails('pragma_boot', '--list', '--basepath', other,
                                       '--base_path', other, status=2)


@pytest.mark.parametrize('num_cpus, types',
                         [((), 'frontend'), (('--num_cpus', 2), 'frontend,compute')])
def test_calls_any_driver_by_position_and_in_order(recorder, num_cpus, types):
    recorder.run('pragma_boot', '--vcname', recorder.entry, '--name', 'mine', '--key', recorder.key,
                 *num_cpus)
    temp, count = str(recorder.temp), str(num_cpus[1] if num_cpus else 0)
    folder = f'{temp}/clusters/mine'
    vc_out = f'{folder}/vc-out.xml'
    assert calls(recorder) == [
        ['fix_images', str(recorder.vc_in), temp, types],
        ['allocate', count, str(recorder.vc_in), vc_out, temp, str(recorder.key)],
        ['boot', f'{folder}/frontend.img', 'frontend.local', temp, vc_out],
        ['boot', f'{folder}/compute-0.img', 'compute-0', temp, vc_out]]


def test_passes_the_shortage_of_a_driver_on(recorder):
    line = recorder.run('pragma_boot', '--vcname', recorder.entry, '--num_cpus', 9, '--key',
                        recorder.key, status=3).stderr.decode()
    assert line == 'record: only 8 CPUs here\n'
    assert [call[0] for call in calls(recorder)] == ['fix_images', 'allocate']


def test_removes_the_cluster_when_a_boot_fails(recorder):
    recorder.temp.mkdir()
    (recorder.temp / 'boot-fails').write_text('')
    line = recorder.fails('pragma_boot', '--vcname', recorder.entry, '--key', recorder.key)
    assert line == f"pragma_boot: driver '{ROOT}/tests/drivers/record/boot' ended with status 7"
    # Its two hosts are one driver's.
    assert recorder.clusters() == [] and [call[0] for call in calls(recorder)][-1] == 'clean'
    assert [call[0] for call in calls(recorder)].count('clean') == 1


def test_a_driver_that_is_not_there(recorder):
    with open(recorder.conf, 'a', encoding='utf-8') as conf:
        conf.write('ve_driver = none\n')
    line = recorder.fails('pragma_boot', '--vcname', recorder.entry, '--key', recorder.key)
    assert "has no executable 'fix_images'" in line


def test_bad_input(site):
    def fails(*arguments, **options):
        return site.fails('pragma_boot', *arguments, **options)

    assert "no entry 'x' in image database" in fails('--vcname', 'x', '--key', site.key)
    assert "vcdb.txt': No such file" in fails('--vcname', 'x', '--base_path', '/nonexistent')
    entry = ('--vcname', site.entry)
    assert "cannot open key '/nonexistent'" in fails(*entry, '--key', '/nonexistent')
    private = site.folder / 'private'
    private.write_text('-----BEGIN OPENSSH PRIVATE KEY-----\n')
    assert 'is a private key' in fails(*entry, '--key', private)
    assert 'must be a whole number' in fails(*entry, '--num_cpus=-1', status=2)
    assert 'is not a name' in fails(*entry, '--key', site.key, '--name', '../x')
    assert 'not enough room' in fails(*entry, '--key', site.key, '--num_cpus', 9999, status=3)
    assert site.clusters() == []
    (site.vc_in.parent / 'calit2-119-222.img.gz').write_bytes(b'\x1f\x8b')
    assert 'cannot unpack image' in fails(*entry, '--key', site.key)
    (site.vc_in.parent / 'calit2-119-222.img.gz').unlink()
    assert 'cannot open image' in fails(*entry, '--key', site.key)
    site.vc_in.write_text('<vc/>')
    assert 'is not valid' in fails(*entry, '--key', site.key)
    assert site.clusters() == []


def test_the_default_key_is_the_owners(site):
    output = site.run('pragma_boot', '--help').stdout.decode()
    assert '[default: /root/.ssh/id_rsa.pub]' in output


@pytest.mark.skipif(os.path.exists('/root/.ssh/id_rsa.pub'), reason='the default key is there')
def test_without_the_default_key_the_users_own_is_taken(site, monkeypatch):
    monkeypatch.setenv('HOME', str(site.folder))
    folder = site.folder / '.ssh'
    folder.mkdir()
    words = ('pragma_boot', '--vcname', site.entry, '--dry-run')
    assert f"the default public key, and none in '{folder}'" in site.fails(*words)
    for name in ('id_rsa', 'id_ecdsa', 'id_ed25519'):
        key = site.make_key(name)
        (folder / f'{name}.pub').write_bytes(key.with_suffix('.pub').read_bytes())
        key.unlink()
        done = site.run(*words)
        line, = lines(done.stderr)
        assert line == ("pragma_boot: there is no '/root/.ssh/id_rsa.pub', the default public key: "
                        f"'{folder}/{name}.pub' is used")
        assert f' {name}</key>' in done.stdout.decode()


def test_dry_run_changes_nothing(site):
    output = site.run('pragma_boot', '--vcname', site.entry, '--num_cpus', 3, '--key', site.key,
                    '--dry-run').stdout
    assert len(etree.fromstring(output).findall('cluster/node')) == 3
    assert site.clusters() == [] and not (site.temp / 'images').exists()


def test_an_allocation_that_cannot_be_injected_gives_the_reservation_back(quick):
    from lab.images import make_image, pack
    path = make_image(quick.folder / 'trap.img')
    subprocess.run(['debugfs', '-w', '-R', 'mkdir /root/vc-out.xml', f'{path}?offset=1048576'],
                   check=True, capture_output=True)
    (quick.vc_in.parent / 'calit2-119-222.img.gz').write_bytes(pack(path).read_bytes())
    done = quick.run('pragma_boot', '--vcname', quick.entry, '--key', quick.key, status=1)
    assert lines(done.stderr)[-1] == "vc-inject: node 'frontend': /root/vc-out.xml is a directory"
    assert quick.clusters() == [] and processes(quick) == [] and mounts(quick) == []


def test_the_pipe_typed_in_a_shell_gives_the_same_cluster(quick):
    """The document, domains and files equal those of pragma_boot."""
    def result():
        folder = quick.temp / 'clusters' / quick.entry
        document = re.sub(rb'(<key role="[a-z]+">)[^<]*', rb'\1',
                          (folder / 'document.xml').read_bytes())
        files = sorted(set(os.listdir(folder)) - {'vc-out.xml', 'driver'})
        domains = [re.sub(rb'started="\d+"', b'', subprocess.run(
            ['virsh', '-q', '-c', connection(), 'dumpxml', '--inactive', name],
            capture_output=True, check=True).stdout) for name in mine(quick)]
        return document, files, domains

    pipe = ('vc-parse "$0" | vc-stage | vc-allocate --num-cpus 4 --key "$1" | vc-inject | vc-boot')
    subprocess.run(['bash', '-o', 'pipefail', '-c', pipe, quick.vc_in, quick.key], check=True,
                   env={**quick.environment(), 'PATH': f"{ROOT}/bin:{os.environ['PATH']}"},
                   capture_output=True)
    by_pipe = result()
    quick.run('vc-clean', quick.entry)
    output = quick.run('pragma_boot', '--vcname', quick.entry, '--num_cpus', 4, '--key', quick.key)
    assert result() == by_pipe
    assert len(by_pipe[2]) == 3
    assert output.stdout.decode().count(' running ') == 3


def test_names_clusters_of_one_entry_apart(quick):
    for name in (quick.entry, f'{quick.entry}-2'):
        quick.run('pragma_boot', '--vcname', quick.entry, '--key', quick.key)
        assert name in quick.clusters()
    line = quick.fails('pragma_boot', '--vcname', quick.entry, '--key', quick.key, '--name',
                       quick.entry)
    assert 'exists already' in line and len(mine(quick)) == 2


def driver(site, name, *arguments, status=0):
    done = subprocess.run([KVM / name, *map(str, arguments)], env=site.environment(),
                          capture_output=True, check=False)
    assert done.returncode == status, done
    return done


def test_kvm_driver_by_hand(quick):
    """Each executable by itself, with another temporary directory."""
    temp = quick.folder / 'by hand'
    folder = temp / 'clusters' / quick.entry
    driver(quick, 'fix_images', quick.vc_in, temp, 'frontend,compute')
    assert len([name for name in os.listdir(temp / 'images') if name.endswith('.raw')]) == 2
    driver(quick, 'allocate', 2, quick.vc_in, folder / 'vc-out.xml', temp, quick.key)
    assert {'vc-out.xml', 'document.xml', 'frontend.qcow2', 'compute-0.qcow2'} \
        <= set(os.listdir(folder))
    document = (folder / 'document.xml').read_bytes()
    assert (folder / 'vc-out.xml').read_bytes() == quick.run('vc-out', input=document).stdout
    try:
        driver(quick, 'boot', folder / 'frontend.qcow2', f'{quick.entry}.local', temp,
               folder / 'vc-out.xml')
        assert mine(quick) == [f'{quick.entry}-frontend']
        line = driver(quick, 'allocate', 2, quick.vc_in, folder / 'vc-out.xml', temp, quick.key,
                      status=1).stderr.decode()
        assert 'exists already' in line and mine(quick) == [f'{quick.entry}-frontend']
    finally:
        subprocess.run([ROOT / 'bin/vc-clean', quick.entry], check=True,
                       env={**quick.environment(), 'PRAGMA_TEMP': str(temp)})
    assert mine(quick) == [] and not folder.exists()


@pytest.mark.parametrize('name', ['fix_images', 'allocate', 'boot'])
def test_kvm_driver_usage(site, name):
    assert f'usage: {name} ' in driver(site, name, status=2).stderr.decode()


def test_kvm_driver_is_short_of_resources(site):
    vc_out = site.temp / 'clusters' / 'x' / 'vc-out.xml'
    driver(site, 'allocate', 9999, site.vc_in, vc_out, site.temp, site.key, status=3)
    assert site.clusters() == []


def test_another_private_network_reaches_the_driver(site):
    without_dependency(site)
    arguments = ('pragma_boot', '--vcname', site.entry, '--num_cpus', 2, '--key', site.key,
                 '--private-network', '10.2.0.0/16')
    shown = site.run(*arguments, '--dry-run').stdout
    site.run(*arguments)
    entered = (site.temp / 'clusters' / site.entry / 'document.xml').read_bytes()
    for document in (shown, entered):
        assert etree.fromstring(document).xpath(
            "cluster/node/interface[@network='private']/@ip") == ['10.2.0.1', '10.2.255.254']
    line = site.fails(*arguments[:-1], '10.2.0.0', status=2)
    assert 'such as 10.2.0.0/16' in line
