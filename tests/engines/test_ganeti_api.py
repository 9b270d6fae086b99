"""The driver ganeti with recorded answers of a real REST API (tests/data/ganeti)."""
import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from lxml import etree

from lab import DATA, ROOT, tape
from lab.drivers import Wrapped
from lab.ganeti_lab import PASSWORD, SETTINGS, USER
from lab.needs import do_without, need, need_fuse
from lab.site import lines
from pragma_boot.engine import ganeti, instance

DRIVER = ROOT / 'drivers' / 'ganeti'


@pytest.fixture
def play(empty_site, little_image):
    """A function that plays a tape; it returns the site, the vc-in.xml, and the player."""
    need('openssl')
    with contextlib.ExitStack() as stack:
        def begin(name):
            site = empty_site
            tape.make_certificate(site.folder, 'IP:127.0.0.1')
            tape.make_credentials(site.folder, USER, PASSWORD)
            player = stack.enter_context(tape.Player(site.folder, DATA / 'ganeti' / f'{name}.json',
                                                     USER, PASSWORD))
            with open(site.conf, 'a', encoding='utf-8') as conf:
                conf.write(SETTINGS.format(master=player.master))
            site.base.chmod(0o755)
            vc_in = site.add_entry(name, little_image)
            tape.edit(name, vc_in)
            tape.identify(site.temp)
            return site, vc_in, player
        yield begin
        # While the tape still plays.
        for name in empty_site.clusters():
            empty_site.run('vc-clean', name)


def drive(site, name, *arguments, status=0):
    """Run an executable of the driver; its CompletedProcess."""
    done = subprocess.run([DRIVER / name, *map(str, arguments)], env=site.environment(),
                          capture_output=True,
                          check=False)
    assert done.returncode == status, done
    return done


@pytest.mark.parametrize('name, recorded',
                         [('life', tape.live), ('large', tape.too_large), ('bad', tape.bad)])
def test_as_recorded(play, name, recorded):
    site, vc_in, _ = play(name)
    recorded(site, name, vc_in)


def test_contract_of_a_driver(play):
    """Each executable by hand, with another temporary directory."""
    site, vc_in, player = play('life')
    temp = site.folder / 'by hand'
    tape.identify(temp)
    folder = temp / 'clusters' / 'life'
    drive(site, 'fix_images', vc_in, temp, 'frontend,compute')
    assert [name for name in os.listdir(temp / 'images') if name.endswith('.raw')]
    line = lines(drive(site, 'allocate', 2, vc_in, folder / 'vc-out.xml', temp, site.key,
                       status=1).stderr)[0]
    assert 'Ganeti takes no space or comma in the path of temporary_directory' in line
    assert not os.listdir(temp / 'clusters')
    temp = temp.rename(site.folder / 'by-hand')
    folder = temp / 'clusters' / 'life'
    drive(site, 'allocate', 2, vc_in, folder / 'vc-out.xml', temp, site.key)
    document = (folder / 'document.xml').read_bytes()
    assert (folder / 'vc-out.xml').read_bytes() == site.run('vc-out', input=document).stdout
    front = tape.nodes(document)[0]
    drive(site, 'boot', front.find('disk').get('path'), front.get('fqdn'), temp,
          folder / 'vc-out.xml')
    started = [request for request, _ in player.asked if request.endswith('/startup')]
    assert started == ['PUT /2/instances/life-frontend/startup']


def test_contract_by_pragma_boot(play):
    """The calls of test_driver_contract.py, as far as the recording goes."""
    site, vc_in, player = play('life')
    driver = Wrapped(site, 'ganeti')
    site.entry = 'life'
    driver.boot(num_cpus=2)
    temp, vc_out = str(site.temp), str(driver.folder_of() / 'vc-out.xml')
    assert driver.calls() == [
        ['fix_images', str(vc_in), temp, 'frontend,compute'],
        ['allocate', '2', str(vc_in), vc_out, temp, str(site.key)],
        ['boot', '/run/ganeti/instance-disks/life-frontend:0', driver.host_names()[0], temp,
         vc_out],
        ['boot_compute', temp, vc_out]]
    started = [request for request, _ in player.asked if request.endswith('/startup')]
    # In the recording, Ganeti shows the frontend as stopped once more.
    assert started[0] == 'PUT /2/instances/life-frontend/startup' and set(started) == {
        f'PUT /2/instances/life-{node}/startup' for node in ('frontend', 'compute-0', 'compute-1')}
    status = subprocess.run([driver.folder / 'status', temp, vc_out], env=site.environment(),
                            capture_output=True, check=True)
    assert [line.split()[0] for line in lines(status.stdout)] == driver.host_names()


def test_contract_where_a_boot_fails(play):
    """The instances are removed, and with them the cluster."""
    site, _, player = play('life')
    driver = Wrapped(site, 'ganeti')
    site.entry = 'life'
    driver.demand('boot-fails')
    assert lines(driver.boot(num_cpus=2, status=1).stderr) == ['boot: refused']
    removed = [request for request, _ in player.asked if request.startswith('DELETE /2/instances/')]
    assert len(removed) == 3 and site.clusters() == []


@pytest.mark.parametrize('name', ['fix_images', 'allocate', 'boot'])
def test_bad_usage_of_a_driver_is_status_2(empty_site, name):
    assert b'usage: ' in drive(empty_site, name, 'one', status=2).stderr


def test_what_ganeti_is_asked_for(play):
    """One request for all nodes, with a tag and our addresses, without a machine or a secret."""
    site, vc_in, player = play('life')
    document = tape.allocated(site, 'life', vc_in)
    site.run('vc-inject', input=document)
    (request, body), = [asked for asked in player.asked if asked[0].startswith('POST')]
    assert request == 'POST /2/instances-multi-alloc'
    instances = body['instances']
    assert [one['instance_name'] for one in instances] == ['life-frontend', 'life-compute-0',
                                                           'life-compute-1']
    for one, node in zip(instances, tape.nodes(document), strict=True):
        assert 'pnode' not in one and not one['start']
        assert one['tags'] == [f'pragma_boot:cluster:{tape.IDENTITY}:life']
        assert [nic['mac'] for nic in one['nics']] == [card.get('mac')
                                                       for card in node.findall('interface')]
        assert one['osparams'] == {'document': str(site.temp / 'clusters/life/document.xml'),
                                   'node': node.get('name')}
    assert 'PRIVATE KEY' not in str(body)


def test_a_seed_disk_and_a_larger_disk(play):
    """QEMU's own options give an instance its seed disk, which is in the shared folder."""
    site, vc_in, player = play('life')
    vc_in.write_text(re.sub('<driver>[^<]*', '<driver>cloud_init', vc_in.read_text()))
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('disk_size = 1G\n')
    document = site.run('vc-inject', input=tape.allocated(site, 'life', vc_in)).stdout
    (_, body), = [asked for asked in player.asked if asked[0].startswith('POST')]
    for one, node in zip(body['instances'], tape.nodes(document), strict=True):
        assert one['disks'] == [{'size': 1024}]
        path = node.find('seed').get('path')
        assert path == str(site.temp / f"clusters/life/{node.get('name')}.seed.img")
        assert one['hvparams']['kvm_extra'].endswith(
            f' -drive file={path},format=raw,if=none,id=seed,readonly=on'
            ' -device virtio-blk-pci,drive=seed,addr=0x1e')
        assert os.stat(path).st_mode & 0o777 == 0o600
    assert site.run('vc-inject', input=document).stdout == document


def test_a_disk_that_a_seed_disk_would_come_before_is_refused(play):
    """SeaBIOS would boot from the seed disk, as Ganeti gives no order of disks."""
    site, vc_in, player = play('life')
    text = re.sub('<driver>[^<]*', '<driver>cloud_init', vc_in.read_text())
    vc_in.write_text(text.replace("bus='ide'", "bus='scsi'").replace('bus="ide"', 'bus="scsi"'))
    document = tape.allocated(site, 'life', vc_in)
    player.asked.clear()
    line = site.fails('vc-inject', input=document)
    assert 'with a seed disk, Ganeti boots from a disk on virtio, ide' in line
    assert not [request for request, _ in player.asked if request.startswith('POST')]


def test_no_room_leaves_nothing(play):
    """No room is status 3, a failed job status 1; neither leaves a reservation."""
    site, vc_in, _ = play('large')
    done = drive(site, 'allocate', 2, vc_in, site.temp / 'clusters/large/vc-out.xml', site.temp,
                 site.key, status=3)
    assert b'FailMem' in done.stderr and site.clusters() == []


def test_a_failed_job_leaves_nothing(play):
    """None of the three instances is kept."""
    site, vc_in, player = play('bad')
    site.run('vc-inject', input=tape.allocated(site, 'bad', vc_in), status=1)
    asked = [request for request, _ in player.asked]
    cancelled = [request for request in asked if request.startswith('DELETE /2/jobs/')]
    # The job that places, and three that make an instance each.
    assert len(cancelled) == 4
    # Ganeti keeps an instance whose OS could not be made.
    removed = [request for request in asked if request.startswith('DELETE /2/instances/')]
    assert removed == [f'DELETE /2/instances/bad-{node}'
                       for node in ('frontend', 'compute-0', 'compute-1')]


def test_refuses_another_certificate(play):
    site, vc_in, player = play('life')
    tape.allocated(site, 'life', vc_in)
    other, proper = site.folder / 'other', site.folder / 'proper'
    other.mkdir()
    proper.mkdir()
    shutil.copy(site.folder / 'ca.pem', proper)
    tape.make_certificate(other, 'IP:127.0.0.1')
    shutil.copy(other / 'ca.pem', site.folder / 'ca.pem')
    player.asked.clear()
    assert 'certificate verify failed' in site.run('vc-status', 'life').stderr.decode()
    shutil.copytree(site.folder / 'proper', site.folder, dirs_exist_ok=True)
    assert player.asked == []


def test_refuses_another_name(play):
    site, vc_in, player = play('life')
    site.conf.write_text(site.conf.read_text().replace('127.0.0.1', 'localhost'))
    assert "'localhost'" in site.fails('vc-allocate', '--num-cpus', 0, input=staged(site, vc_in))
    assert player.asked == []


def staged(site, vc_in):
    return site.run('vc-stage', input=site.run('vc-parse', vc_in).stdout).stdout


@pytest.mark.parametrize('mode', [0o644, 0o640, 0o604, 0o620])
def test_refuses_credentials_that_others_can_read(play, mode):
    site, vc_in, player = play('life')
    path = site.folder / 'credentials'
    path.chmod(mode)
    line = site.fails('vc-allocate', '--num-cpus', 0, input=staged(site, vc_in))
    assert f"(mode {mode:04o}): chmod 600 '{path}'" in line and PASSWORD not in line
    assert player.asked == []


def test_a_wrong_password_is_not_repeated(play):
    site, vc_in, _ = play('life')
    tape.make_credentials(site.folder, USER, 'wrong-password')
    line = site.fails('vc-allocate', '--num-cpus', 0, input=staged(site, vc_in))
    assert f"refuses the user and password of '{site.folder}/credentials'" in line
    assert 'wrong-password' not in line


def test_the_password_is_in_no_process_list(play):
    """Nor in an environment, a document, or another file of the site."""
    site, vc_in, player = play('life')
    document = tape.allocated(site, 'life', vc_in)
    answer, seen = player.answer, []

    def look(*request):
        for process in filter(str.isdigit, os.listdir('/proc')):
            for file in ('cmdline', 'environ'):
                with contextlib.suppress(OSError), open(f'/proc/{process}/{file}', 'rb') as output:
                    seen.append(PASSWORD.encode() in output.read())
        return answer(*request)
    player.answer = look
    site.run('vc-inject', '-v', input=document)
    assert len(seen) > 100 and not any(seen)
    done = subprocess.run(['grep', '-rlF', PASSWORD, site.folder], capture_output=True, check=False)
    assert lines(done.stdout) == [str(site.folder / 'credentials')]


def test_a_master_that_does_not_answer(play):
    """Its nodes are unknown, and a cluster stays in the ledger until it answers."""
    site, vc_in, player = play('life')
    site.run('vc-inject', input=tape.allocated(site, 'life', vc_in))
    text = site.conf.read_text()
    document = (site.temp / 'clusters/life/document.xml').read_text()
    site.conf.write_text(text.replace(player.master, '127.0.0.1:9'))
    (site.temp / 'clusters/life/document.xml').write_text(
        document.replace(player.master, '127.0.0.1:9'))
    done = site.run('vc-status', 'life')
    assert ("Ganeti at 'ganeti://127.0.0.1:9': Failed to establish a new connection"
            in done.stderr.decode())
    assert [line.split()[2] for line in lines(done.stdout)[1:]] == ['unknown'] * 3
    assert 'stays in the ledger' in site.fails('vc-clean', 'life')
    site.conf.write_text(text)
    (site.temp / 'clusters/life/document.xml').write_text(document)


def test_the_ledger_follows_a_failover(play):
    """vc-status shows the node's machine as Ganeti does, not as a saved document does."""
    site, vc_in, _ = play('life')
    saved = site.run('vc-inject', input=tape.allocated(site, 'life', vc_in)).stdout
    path = site.temp / 'clusters/life/document.xml'
    now = path.read_bytes()
    path.write_bytes(now.replace(b'.example.org" cpus', b'.elsewhere.org" cpus'))
    assert all(host.endswith('.example.org') for _, host in tape.table(site, 'life'))
    assert path.read_bytes() == now
    site.run('vc-boot', '--node', 'frontend',
             input=saved.replace(b'.example.org" cpus', b'.elsewhere.org" cpus'))


def test_says_what_it_does_not_support(play):
    site, vc_in, _ = play('life')
    document = site.run('vc-inject', input=tape.allocated(site, 'life', vc_in)).stdout
    assert 'is an instance of Ganeti' in site.fails('vc-boot', '--print', input=document)
    assert 'cannot be started paused' in site.fails('vc-boot', '--paused', '--node', 'frontend',
                                                    input=document)


@pytest.mark.parametrize('setting, words', [
    ('ganeti_master =', "ganeti_master must be the name of a Ganeti cluster's master"),
    ('ganeti_credentials =', 'ganeti_credentials must be a file'),
    ('ganeti_credentials = missing', "missing': No such file or directory"),
    ('ganeti_ca = missing', "missing': No such file or directory"),
    ('private_network = ovs:trunk', 'private_network and public_network must be bridge:NAME'),
])
def test_bad_settings(play, setting, words):
    site, vc_in, _ = play('life')
    parsed = staged(site, vc_in)
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write(f'{setting}\n')
    if setting.startswith('private'):
        allocated = site.run('vc-allocate', '--num-cpus', 0, '--name', 'life', input=parsed).stdout
        assert words in site.fails('vc-inject', input=allocated)
    else:
        assert words in site.fails('vc-allocate', '--num-cpus', 0, input=parsed)


@pytest.fixture(params=['file', 'loop'])
def disk(request, tmp_path):
    """An instance's disk as Ganeti gives it to an OS definition, with old data."""
    path = tmp_path / 'disk'
    with open(path, 'wb') as file:
        file.write(b'old' * (1 << 20))
        file.truncate(17 << 20)
    if request.param == 'file':
        yield path
        return
    done = subprocess.run(['losetup', '--find', '--show', path], capture_output=True, check=False)
    if done.returncode:
        do_without(f'no loop device: {done.stderr.decode().strip()}')
    device = done.stdout.decode().strip()
    try:
        yield device
    finally:
        subprocess.run(['losetup', '--detach', device], check=True)


def create(site, document, disk, node='frontend', status=0):
    """Run create of the OS definition as a node of Ganeti does; its messages."""
    done = subprocess.run([DRIVER / 'os/pragma/create'], check=False, capture_output=True,
                          env={'PATH': os.environ['PATH'], 'OSP_DOCUMENT': str(document),
                               'OSP_NODE': node,
                               'DISK_0_PATH': str(disk)})
    assert done.returncode == status, done
    return done.stderr.decode()


def debugfs(disk, command):
    return subprocess.run(['debugfs', '-R', command, f'{disk}?offset=1048576'], capture_output=True,
                          check=True).stdout


def vc_out(site, document):
    return site.run('vc-out', input=document.read_bytes()).stdout


def test_the_os_definition_fills_a_disk(play, disk):
    """With the image and the node's files, which only root can read; nothing old is left."""
    need_fuse()
    site, vc_in, _ = play('life')
    document = site.temp / 'clusters/life/document.xml'
    root = etree.fromstring(tape.allocated(site, 'life', vc_in))
    for _ in 'new', 'reinstalled':
        assert create(site, document, disk) == ''
        assert debugfs(disk, 'cat /root/vc-out.xml') == vc_out(site, document)
        key = (document.parent / 'id_ed25519').read_bytes()
        assert debugfs(disk, 'cat /root/.ssh/id_ed25519') == key
        assert b'Mode:  0600' in debugfs(disk, 'stat /root/vc-out.xml')
    image = root.find('image').get('path')
    with open(disk, 'rb') as file, open(image, 'rb') as staged_image:
        assert b'oldold' not in file.read()
        assert staged_image.read(1 << 20)[446:] == os.pread(file.fileno(), 1 << 20, 0)[446:]
    create(site, document, disk, 'compute-0')
    assert debugfs(disk, 'cat /root/.ssh/id_ed25519') == b''
    if not Path(disk).is_block_device():
        assert os.stat(disk).st_blocks * 512 < 2 * os.stat(image).st_blocks * 512 + (1 << 20)


def test_the_os_definition_uses_libguestfs_where_needed(play, tmp_path):
    need('guestfish')
    site, vc_in, _ = play('life')
    document, disk = site.temp / 'clusters/life/document.xml', tmp_path / 'disk'
    tape.allocated(site, 'life', vc_in)
    document.write_bytes(document.read_bytes().replace(b'inject="debugfs"', b'inject="guestfs"'))
    disk.write_bytes(b'')
    os.truncate(disk, 17 << 20)
    create(site, document, disk)
    assert debugfs(disk, 'cat /root/vc-out.xml') == vc_out(site, document)


def test_the_os_definition_refuses_what_vc_inject_does(play, tmp_path):
    site, vc_in, _ = play('life')
    document, disk = site.temp / 'clusters/life/document.xml', tmp_path / 'disk'
    root = etree.fromstring(tape.allocated(site, 'life', vc_in))
    disk.write_bytes(b'')
    os.truncate(disk, 17 << 20)
    assert "has no node 'compute-7'" in create(site, document, disk, 'compute-7', status=1)
    assert 'No such file' in create(site, site.folder / 'missing.xml', disk, status=1)
    image = root.find('image').get('path')
    os.chmod(image, 0o644)
    assert 'was changed after it was made' in create(site, document, disk, status=1)
    assert os.stat(disk).st_blocks == 0
    os.chmod(image, 0o444)
    tape.damage(image)
    line = create(site, document, disk, status=1)
    assert "create: node 'frontend': the file system is damaged" in line


@pytest.mark.parametrize('name', ['import', 'export', 'rename'])
def test_the_os_definition_refuses_import_export_and_rename(name):
    done = subprocess.run([DRIVER / 'os/pragma' / name], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f'{name}: instances of pragma_boot cannot be ')


class Instances:
    """A REST API with instances of two ledgers, and a job that makes one."""

    def __init__(self, tags):
        self.jobs = [{'id': 7, 'status': 'running', 'ops': [
            {'instances': [{'tags': [tags['c-compute-1']]}]}]},
            {'id': 8, 'status': 'running', 'ops': [{'tags': ['pragma_boot:cluster:other']}]}]
        self.instances = [{'name': name, 'tags': [tag], 'status': 'running', 'pnode': 'a',
                           'beparams': {'vcpus': 1, 'maxmem': 64}} for name, tag in tags.items()]
        self.deleted = []

    def ask(self, method, path, body=None, **query):
        if method == 'DELETE' and path.startswith('/2/jobs/'):
            self.jobs = [job for job in self.jobs if f"/2/jobs/{job['id']}" != path]
        elif method == 'DELETE':
            self.deleted.append(path)
        return {'/2/jobs': self.jobs, '/2/instances': self.instances}.get(path, 99)

    def follow(self, job, what):
        return []


def test_nodes_are_removed_from_a_cluster():
    """Their instances alone, and jobs that make instances of the cluster are cancelled before."""
    cluster = etree.Element('cluster', name='c', ledger='ab')
    nodes = [etree.SubElement(cluster, 'node', name=f'compute-{number}') for number in range(3)]
    tag = instance.CLUSTER + instance.mark(cluster)
    rapi = Instances({'c-frontend': tag, 'c-compute-0': tag, 'c-compute-1': tag,
                      'c-compute-2': instance.CLUSTER + 'cd:c'})
    engine = ganeti.Ganeti.__new__(ganeti.Ganeti)
    engine.uri, engine._rapi = 'ganeti://x', rapi
    engine.remove(nodes[1:])
    assert rapi.deleted == ['/2/instances/c-compute-1']
    assert [job['id'] for job in rapi.jobs] == [8]
