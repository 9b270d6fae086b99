"""images/hpc: the recipe, and pragma-hpc, as far as they can be tested without an image."""
import contextlib
import json
import os
import pwd
import re
import subprocess
import sys

import pytest
from lxml import etree

from lab import DATA, ROOT

HPC = ROOT / 'images/hpc'
OVERLAY = HPC / 'overlay'

sys.path.insert(0, str(OVERLAY / 'usr/local/lib'))
sys.dont_write_bytecode, written = True, sys.dont_write_bytecode
from pragma_hpc import accounts, document, join, machine, render, scheduler  # noqa: E402

sys.dont_write_bytecode = written

FRONTEND = b"""<vc>
  <frontend name="demo" fqdn="demo.example.org" gw="">
    <public name="demo" fqdn="demo.example.org" ip="10.0.2.15" netmask="255.255.255.0"/>
    <private ip="10.1.1.1" netmask="255.255.0.0" mac="52:54:00:00:00:01"/>
  </frontend>
  <compute count="2">
    <node name="compute-0" ip="10.1.255.254" cpus="8" memory="67108864"/>
    <node name="compute-1" ip="10.1.255.253" cpus="2" memory="524288"/>
  </compute>
  <user name="ann"/>
  <key>ssh-ed25519 AAAA ann@host
# a comment
command="/usr/local/sbin/pragma-guest update",restrict ssh-ed25519 AAAB root@demo</key>
</vc>"""

COMPUTE = b"""<vc>
  <frontend fqdn="demo.example.org"><public fqdn="demo.example.org"/></frontend>
  <compute name="compute-1" gw="10.1.1.1" cpus="2" memory="524288">
    <private fqdn="compute-1" ip="10.1.255.253" netmask="255.255.0.0" gw="10.1.1.1"/>
  </compute>
  <key>ssh-ed25519 AAAA ann@host</key>
</vc>"""


def files(data):
    return {file.path: file.text for file in render.files(document.parse(data))}


def test_the_document_of_a_frontend():
    node = document.parse(FRONTEND)
    assert node.frontend and node.name == 'demo' and str(node.address) == '10.1.1.1/16'
    assert node.peers == [('compute-0', '10.1.255.254', 8, 67108864),
                          ('compute-1', '10.1.255.253', 2, 524288)]
    # The key that may only tell the guest part of a document is not the user's.
    assert (node.user, node.keys) == ('ann', ['ssh-ed25519 AAAA ann@host'])


def test_the_document_of_a_compute_node():
    node = document.parse(COMPUTE)
    assert not node.frontend and (node.name, node.cpus, node.memory) == ('compute-1', 2, 524288)
    # A document of an older pragma_boot names no user.
    assert node.user == 'user'


@pytest.mark.parametrize('name', ('frontend', 'compute'))
def test_the_documents_of_the_tools(name):
    """The golden files of vc-out."""
    node = document.parse((DATA / f'vc-out-{name}-out.xml').read_bytes())
    assert node.frontend is (name == 'frontend')
    assert document.USER.fullmatch(node.user)
    for one in node.peers if node.frontend else [node]:
        assert one.cpus > 0 and one.memory > 0


@pytest.mark.parametrize('old, new, reason', [
    (b'<user name="ann"/>', b'<user name="root"/>', "'root' is not the name of an ordinary user"),
    (b'<user name="ann"/>', b'<user name="a b"/>', "'a b' is not"),
    (b'<user name="ann"/>', b'<user/>', 'None is not'),
    (b'<private ip', b'<other ip', 'no private interface'),
    (b'</vc>', b'', 'not well-formed')])
def test_a_bad_document_is_one_line(old, new, reason):
    with pytest.raises(document.HpcError, match=reason) as caught:
        document.parse(FRONTEND.replace(old, new))
    assert '\n' not in str(caught.value)


def test_slurm_conf_names_no_node():
    """Nodes come and go without a change of the file."""
    text = files(FRONTEND)['/etc/slurm/slurm.conf']
    settings = dict(line.split('=', 1) for line in text.splitlines() if not line.startswith('#'))
    assert settings['SlurmctldHost'] == 'demo(10.1.1.1)' and settings['ClusterName'] == 'demo'
    assert settings['SlurmctldParameters'] == 'enable_configless'
    assert settings['PartitionName'].startswith('compute Nodes=ALL ')
    assert not any('Accounting' in key or key == 'NodeName' for key in settings)
    fewer = re.sub(b'<node name="compute-0".*?/>', b'', FRONTEND)
    assert files(fewer)['/etc/slurm/slurm.conf'] == text


def test_control_groups_are_disabled_where_slurm_can():
    assert render.cgroup_conf('slurm-wlm 22.05.8\n') == 'IgnoreSystemd=yes\n'
    assert render.cgroup_conf('slurm-wlm 24.11.5\n') == 'CgroupPlugin=disabled\n'


def test_a_node_registers_with_the_size_of_the_document():
    assert files(COMPUTE)['/etc/default/slurmd'].splitlines()[-1] == (
        'SLURMD_OPTIONS="-Z --conf-server frontend '
        "--conf 'CPUs=2 RealMemory=416 Feature=cpu2,mem512M'\"")
    older = COMPUTE.replace(b' cpus="2" memory="524288"', b'')
    assert files(older)['/etc/default/slurmd'].splitlines()[-1] == (
        'SLURMD_OPTIONS="-Z --conf-server frontend"')
    assert render.features(8, 64 << 20) == ['cpu8', 'mem64G']


def test_the_frontend_shares_folders_and_names():
    made = files(FRONTEND)
    assert made['/etc/exports.d/pragma_hpc.exports'] == (
        '/home 10.1.0.0/16(rw,sync,no_subtree_check)\n/opt 10.1.0.0/16(ro,sync,no_subtree_check)\n')
    assert made['/etc/genders'] == 'compute-0 compute,cpus=8\ncompute-1 compute,cpus=2\n'
    assert made['/etc/clustershell/groups.d/local.cfg'] == (
        'all: compute-0,compute-1\ncompute: compute-0,compute-1\n')
    assert 'allow 10.1.0.0/16\n' in made['/etc/chrony/conf.d/pragma_hpc.conf']
    assert files(COMPUTE)['/etc/chrony/conf.d/pragma_hpc.conf'] == 'server frontend iburst\n'


def test_a_compute_node_learns_the_names_of_the_others():
    peers = document.parse(FRONTEND).peers
    hosts = '127.0.0.1\tlocalhost\n10.1.255.253\tcompute-1\n'
    once = render.with_peers(hosts, peers, 'compute-1')
    assert once == f'{hosts}{render.BEGIN}\n10.1.255.254\tcompute-0\n{render.END}\n'
    assert render.with_peers(once, peers, 'compute-1') == once
    assert render.with_peers(once, peers[1:], 'compute-1') == hosts


def test_authorized_keys_keep_the_users_own_lines():
    once = accounts.with_keys('ssh-rsa OWN\n', ['one', 'two'])
    assert once == f'ssh-rsa OWN\n{accounts.BEGIN}\none\ntwo\n{accounts.END}\n'
    assert accounts.with_keys(once, ['three']) == (
        f'ssh-rsa OWN\n{accounts.BEGIN}\nthree\n{accounts.END}\n')


def test_an_account_of_the_system_is_refused():
    assert accounts.find('nosuchuser') is None
    with pytest.raises(document.HpcError, match="'daemon' is an account of the system"):
        accounts.find('daemon')


def test_files_are_replaced_only_if_they_change(tmp_path):
    file = render.File(str(tmp_path / 'folder/file'), 'text', 0o640)
    assert machine.write(file) and not machine.write(file)
    before = os.stat(file.path)
    assert before.st_mode & 0o777 == 0o640
    assert machine.write(file._replace(text=b'\xff'))
    assert os.listdir(tmp_path / 'folder') == ['file']


def test_a_failed_program_is_one_line():
    with pytest.raises(document.HpcError, match=r"^'sh -c' failed: two$"):
        machine.run('sh', '-c', 'echo one >&2; echo two >&2; exit 3')
    with pytest.raises(document.HpcError, match=r"^cannot run 'no-such-program'"):
        machine.run('no-such-program')


@pytest.fixture
def frontend(tmp_path, monkeypatch):
    """The files of join in a folder, and munge's account this user's own."""
    for name in ('MUNGE_KEY', 'CLUSTER_KEY', 'STAMP', 'SHARED', 'JOINED', 'GIVEN'):
        monkeypatch.setattr(join, name, str(tmp_path / name))
    monkeypatch.setattr(join, 'SLURM_STATE', str(tmp_path / 'state'))
    owner = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(join.pwd, 'getpwnam', lambda name: owner)
    (tmp_path / 'CLUSTER_KEY').write_text('the key of one cluster')
    return tmp_path


def test_each_cluster_has_a_munge_key_of_its_own(frontend):
    node = document.parse(FRONTEND)
    assert join.own_cluster(node)
    first = (frontend / 'MUNGE_KEY').read_bytes()
    assert len(first) == join.MUNGE_BYTES
    assert (frontend / 'MUNGE_KEY').stat().st_mode & 0o777 == 0o400
    assert not join.own_cluster(node) and (frontend / 'MUNGE_KEY').read_bytes() == first
    # The image of the frontend was captured, and is booted as another cluster.
    (frontend / 'state').mkdir()
    (frontend / 'state/job_state').touch()
    (frontend / 'CLUSTER_KEY').write_text('the key of another cluster')
    assert join.own_cluster(node) and (frontend / 'MUNGE_KEY').read_bytes() != first
    assert os.listdir(frontend / 'state') == []


def test_only_nodes_of_the_cluster_are_answered_and_each_once(frontend, monkeypatch, capsys):
    (frontend / 'vc-out.xml').write_bytes(FRONTEND)
    server, commands = join.Server(str(frontend / 'vc-out.xml')), []
    connection = contextlib.nullcontext()

    def run(*command, **options):
        commands.append((command, options['input']))
        # The same node asks again meanwhile.
        server.answer(connection, '10.1.255.253')
    monkeypatch.setattr(machine, 'run', run)
    monkeypatch.setattr(join, 'shared', lambda node: 'all of it')
    server.answer(connection, '10.1.255.253')
    server.answer(connection, '10.1.1.99')
    (command, text), = commands
    assert command[-2:] == ('root@compute-1', '/usr/local/sbin/pragma-hpc take')
    assert text == 'all of it' and os.listdir(frontend / 'GIVEN') == ['compute-1']
    assert '10.1.1.99 is not a node of this cluster' in capsys.readouterr().err


def test_what_the_frontend_gives_is_what_a_node_takes(frontend, monkeypatch):
    node = document.parse(FRONTEND)
    join.own_cluster(node)
    user = pwd.struct_passwd(('ann', 'x', 1000, 1001, '', '/home/ann', '/bin/bash'))
    monkeypatch.setattr(accounts, 'find', lambda name: user)
    given, made, started = join.shared(node), [], []
    key = (frontend / 'MUNGE_KEY').read_bytes()
    os.unlink(frontend / 'MUNGE_KEY')
    monkeypatch.setattr(accounts, 'make', lambda *words, home: made.append((*words, home)))
    monkeypatch.setattr(join, 'take_peers', lambda: made.append('peers'))
    monkeypatch.setattr(join.subprocess, 'run', lambda command, check: started.append(command))
    join.take(given)
    assert (frontend / 'MUNGE_KEY').read_bytes() == key and (frontend / 'JOINED').exists()
    assert made == [('ann', 1000, 1001, False), 'peers']
    assert json.loads((frontend / 'SHARED').read_text()) == [list(peer) for peer in node.peers]
    # At the next boot nothing has changed, and munge is not restarted.
    join.take(given)
    assert started == [['systemctl', '--no-block', 'try-restart', 'munge.service']]


def test_nodes_that_left_vanish_and_nodes_that_stay_are_used(monkeypatch, tmp_path):
    commands = []

    def run(*command):
        commands.append(' '.join(command))
        return 'compute-0 leaves the cluster\ncompute-1 none\ncompute-2 none\n'
    monkeypatch.setattr(machine, 'run', run)
    monkeypatch.setattr(scheduler, 'GIVEN', str(tmp_path))
    (tmp_path / 'compute-2').touch()
    scheduler.follow(document.parse(FRONTEND).peers)
    assert commands[1:] == [
        'scontrol update NodeName=compute-0 State=RESUME',
        'scontrol update NodeName=compute-2 State=DOWN Reason=leaves the cluster',
        'scontrol delete NodeName=compute-2']
    assert os.listdir(tmp_path) == []


def test_only_nodes_that_slurm_knows_are_drained(monkeypatch, capsys):
    answers = iter(['compute-0 idle\ncompute-1 mixed\n', '', '7\n', ''])
    commands = []

    def run(*command):
        commands.append(' '.join(command))
        return next(answers)
    monkeypatch.setattr(machine, 'run', run)
    monkeypatch.setattr(scheduler.time, 'sleep', lambda seconds: None)
    scheduler.drain(['compute-1', 'compute-2'])
    assert commands[1] == ('scontrol update NodeName=compute-1 State=DRAIN '
                           'Reason=leaves the cluster')
    assert len(commands) == 4 and all(' -w compute-1 ' in one for one in commands[2:])
    assert capsys.readouterr().err == 'pragma-hpc: jobs run on compute-1: 7\n'


@pytest.mark.parametrize('state, fine', [
    ('idle', True), ('mixed', True), ('allocated', True), ('idle*', False), ('down', False),
    ('unknown', False)])
def test_a_node_is_ready_when_slurm_can_use_it(state, fine, monkeypatch, tmp_path):
    monkeypatch.setattr(scheduler, 'JOINED', str(tmp_path))
    monkeypatch.setattr(scheduler, 'MUNGE_SOCKET', str(tmp_path))
    monkeypatch.setattr(machine, 'run', lambda *command: f'{state}\n')
    if fine:
        scheduler.ready(document.parse(COMPUTE))
    else:
        with pytest.raises(document.HpcError, match=r'in sinfo$'):
            scheduler.ready(document.parse(COMPUTE))


def test_the_reason_is_told_once_while_a_node_waits(monkeypatch, capsys):
    reasons = iter(['one', 'one', 'two', None])

    def not_yet(node):
        if reason := next(reasons):
            raise document.HpcError(reason)
    monkeypatch.setattr(scheduler, 'ready', not_yet)
    monkeypatch.setattr(scheduler.time, 'sleep', lambda seconds: None)
    scheduler.await_ready(document.parse(COMPUTE))
    assert capsys.readouterr().err == 'pragma-hpc: one\npragma-hpc: two\n'
    reasons = iter(['three'])
    with pytest.raises(document.HpcError, match='three'):
        scheduler.await_ready(document.parse(COMPUTE), seconds=-1)


def test_what_names_the_cluster_does_not_travel():
    """Files with the cluster's name or addresses, which a node writes again at each boot."""
    table = (OVERLAY / 'etc/pragma_boot/identity.d/50-hpc').read_text()
    removed = {line.split()[0] for line in table.splitlines()}
    assert {path for path, text in files(FRONTEND).items()
            if re.search(r'demo|10\.1\.', text)} <= removed


def test_the_programs_of_the_guest_part_are_there():
    for name in ('configure', 'ready', 'drain'):
        path = OVERLAY / f'etc/pragma_boot/{name}.d/50-hpc'
        assert os.access(path, os.X_OK)
        assert path.read_text().endswith(f'exec /usr/local/sbin/pragma-hpc {name} "$@"\n')


def test_help_and_bad_usage():
    for arguments, status in ((['--help'], 0), ([], 2), (['fly'], 2)):
        program = OVERLAY / 'usr/local/sbin/pragma-hpc'
        done = subprocess.run([sys.executable, '-B', program, *arguments],
                              capture_output=True, check=False,
                              env={**os.environ, 'PYTHONPATH': str(OVERLAY / 'usr/local/lib')})
        assert done.returncode == status and b'usage: pragma-hpc' in done.stdout, done


def test_the_recipe_takes_the_options_of_the_demo_image():
    def build(*arguments):
        return subprocess.run([HPC / 'build', *arguments], capture_output=True, check=False)
    assert b'images/debian/build, which does the work' in build('--help').stdout
    done = build('--table=mbr')
    assert done.returncode == 2 and b'--table must be dos or gpt' in done.stderr
    assert subprocess.run(['bash', '-n', HPC / 'build'], check=False).returncode == 0


def test_vc_in():
    root = etree.parse(str(HPC / 'vc-in.xml')).getroot()
    assert [int(root.findtext(f'{role}/domain/memory')) for role in ('frontend', 'compute')] == [
        1 << 20, 1 << 19]
    assert {source.get('file') for source in root.iter('source')} - {None} == {'hpc.img.gz'}
