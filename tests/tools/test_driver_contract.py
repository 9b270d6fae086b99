"""The contract of a driver (pragma_boot-driver(7)): the same tests for each of them, ours and others'."""
import os
import re
import signal
import socket
import subprocess
import time

import pytest
from lxml import etree

from lab import DATA, ROOT
from lab.drivers import OPTIONAL, Wrapped
from lab.leftovers import mounts, processes
from lab.nodes import without_dependency
from lab.site import lines

SEED = ['calit2-119-222.ucsd.edu', 'hosted-vm-0-1-0', 'hosted-vm-0-0-0']
"""The nodes of the driver seed, in the order of its vc-out.xml, which is not that of their names."""


@pytest.fixture
def wrapped(site):
    """A function that wraps a driver for the site; all that it started is gone afterwards."""
    made = []

    def make(name, without=()):
        without_dependency(site)
        made.append(Wrapped(site, name, without))
        return made[-1]
    yield make
    for one in made:
        one.end()


@pytest.fixture(params=['kvm', 'own', 'seed', 'perl'])
def driver(wrapped, request):
    return wrapped(request.param)


def names_of(driver):
    return {'kvm': [f'{driver.site.entry}.local', 'compute-0', 'compute-1'],
            'own': [f'{driver.site.entry}.local', 'compute-0', 'compute-1'],
            'seed': SEED, 'perl': ['perl.example.org', 'vm-1', 'vm-2']}[driver.name]


def images_of(driver):
    """The file_path of each node's boot."""
    if driver.name in ('kvm', 'own'):
        return [str(driver.folder_of() / f'{node}.qcow2') for node in ('frontend', 'compute-0', 'compute-1')]
    return [str(driver.site.temp / f'{image}.img')
            for image in ('calit2-119-222', 'hosted-vm-0-0-1', 'hosted-vm-0-0-1')]


@pytest.mark.parametrize('num_cpus', [0, 4])
def test_calls_by_position_and_in_order(driver, num_cpus):
    """fix_images once, allocate once, boot once a node or once for all compute nodes."""
    with open(driver.site.conf, 'a', encoding='utf-8') as conf:
        conf.write('jobs = 1\n')
    driver.boot(num_cpus=num_cpus)
    site, temp = driver.site, str(driver.site.temp)
    vc_out = str(driver.folder_of() / 'vc-out.xml')
    booted = [['boot', path, name, temp, vc_out] for path, name in zip(images_of(driver), names_of(driver))]
    if num_cpus == 0:
        booted = booted[:1]
    elif driver.has('boot_compute'):
        booted = [booted[0], ['boot_compute', temp, vc_out]]
    assert driver.calls()[:2 + len(booted)] == [
        ['fix_images', str(site.vc_in), temp, 'frontend,compute' if num_cpus else 'frontend'],
        ['allocate', str(num_cpus), str(site.vc_in), vc_out, temp, str(site.key)], *booted]
    # What pragma_boot shows at the end.
    assert set(driver.called()[2 + len(booted):]) <= {'status'}
    assert driver.host_names() == names_of(driver)[:1 + num_cpus // 2]
    assert len(driver.machines()) == 1 + num_cpus // 2


@pytest.mark.parametrize('name', ['kvm', 'perl'])
def test_without_boot_compute_it_boots_each_node(wrapped, name):
    driver = wrapped(name, ['boot_compute'])
    driver.boot()
    assert sorted(call[2] for call in driver.calls() if call[0] == 'boot') == sorted(names_of(driver))
    assert len(driver.machines()) == 3


def test_the_folder_of_vc_out_path_is_there(wrapped):
    driver = wrapped('seed')
    (driver.folder / 'allocate').write_text(
        '#!/bin/sh\nls -A "$(dirname "$3")" >>"$4/seen"; env | grep ^PRAGMA >>"$4/seen"; exit 3\n')
    assert lines(driver.boot(status=3).stderr) == [
        f"pragma_boot: driver '{driver.folder}/allocate' ended with status 3"]
    seen = (driver.site.temp / 'seen').read_text().splitlines()
    assert seen[0] == 'driver' and f'PRAGMA_SITE_CONF={driver.site.conf}' in seen
    assert 'PRAGMA_DRIVER=seed' in seen
    assert driver.site.clusters() == []


def test_shortage_is_passed_on(driver):
    line = lines(driver.boot(num_cpus=9999, status=3).stderr)[-1]
    assert re.match('(vc-allocate|seed|allocate): ', line) and driver.called() == ['fix_images', 'allocate']
    assert driver.site.clusters() == [] and driver.machines() == []


@pytest.mark.parametrize('where', ['fix_images-fails', 'allocate-fails', 'allocate-fails-after'])
def test_nothing_is_left_where_an_allocation_fails(driver, where):
    """Also not where allocate has written its vc-out.xml, and fails then."""
    driver.demand(where)
    done = driver.boot(status=1)
    assert lines(done.stderr) == [f"{where.split('-')[0]}: refused"]
    assert driver.site.clusters() == [] and driver.machines() == [] and mounts(driver.site) == []
    driver.forgive(where)
    driver.boot()
    assert len(driver.machines()) == 3


@pytest.mark.parametrize('node, when', [(0, 'fails'), (1, 'fails'), (2, 'fails-after')])
def test_the_cluster_is_removed_where_a_boot_fails(driver, node, when):
    if driver.has('boot_compute') and node:
        driver.demand(f'boot_compute-{when}')
    else:
        driver.demand(f'boot-{when}', names_of(driver)[node])
    told = said(driver.boot(status=1).stderr)
    assert told[0] in ('boot: refused', 'boot_compute: refused')
    if driver.name == 'seed':
        # It cannot remove machines, and so its cluster is not forgotten.
        clean, = told[1:]
        assert f"driver '{driver.folder}' has no executable 'clean'" in clean and 'may still run' in clean
        assert driver.site.clusters() == [driver.site.entry] and driver.folder_of().joinpath('document.xml').exists()
    else:
        assert told[1:] == [] and driver.site.clusters() == [] and driver.machines() == []
        assert 'clean' in driver.called() or driver.name in ('kvm', 'own')


def said(stderr):
    """The lines of stderr, without what a shell says of a job that was terminated."""
    return [line for line in lines(stderr) if line != 'Terminated']


@pytest.mark.parametrize('where, how', [
    ('fix_images-waits', signal.SIGTERM), ('allocate-waits', signal.SIGINT),
    ('allocate-waits-after', signal.SIGTERM), ('boot-waits', signal.SIGINT),
    ('boot-waits-after', signal.SIGTERM)])
def test_a_signal_ends_the_call_and_gives_back(driver, where, how):
    driver.demand(where)
    site = driver.site
    running = site.start('pragma_boot', '--vcname', site.entry, '--key', site.key, '--num_cpus', 4)
    while not driver.waits():
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.02)
    running.send_signal(how)
    told = said(running.communicate()[1])
    assert running.returncode == 130 and told[-1] == 'pragma_boot: interrupted', told
    left = [line for line in processes(site) if 'qemu-system' not in line]
    if driver.name == 'seed' and where.startswith('boot'):
        assert "has no executable 'clean'" in told[0] and site.clusters() == [site.entry]
        # Its machine, if it was started, but nothing of the driver itself.
        assert all(' sleep 600' in line for line in left) and len(left) == len(driver.machines()) <= 1
    else:
        assert len(told) == 1 and left == [] and site.clusters() == [] and driver.machines() == []


@pytest.mark.parametrize('name', ['kvm', 'own', 'perl'])
def test_the_life_of_a_cluster(wrapped, name):
    """By the tools, whatever driver booted it."""
    driver = wrapped(name)
    site = driver.site
    driver.boot()

    def states():
        return [line.split()[2] for line in lines(site.run('vc-status', site.entry).stdout)[1:]]

    assert states() == ['running'] * 3
    document = site.run('vc-status', '--xml', site.entry).stdout
    graph = site.run('vc-graph', input=document).stdout.decode()
    assert graph.count('\\nrunning"') == 3 and graph.count(' -- ') == 4
    site.run('vc-shutdown', '--timeout', 0 if name != 'perl' else 5, site.entry)
    assert states() == ['stopped'] * 3
    assert driver.machines() == ([] if name == 'perl' else sorted(
        f'{site.entry}-{node}' for node in ('frontend', 'compute-0', 'compute-1')))
    frontend, *others = [node.get('name') for node in etree.fromstring(document).iterfind('cluster/node')]
    site.run('vc-start', '--node', names_of(driver)[0], site.entry)
    assert states() == ['running', 'stopped', 'stopped']
    site.run('vc-boot', '--node', others[1], input=document)
    assert states() == ['running', 'stopped', 'running']
    site.run('vc-start', site.entry)
    assert states() == ['running'] * 3
    site.run('vc-shutdown', '--timeout', 0 if name != 'perl' else 5, '--node', frontend, site.entry)
    assert states() == ['stopped', 'running', 'running']
    site.run('vc-clean', site.entry)
    assert site.clusters() == [] and driver.machines() == []
    if name == 'perl':
        # The nodes by name, or all in one call.
        temp, vc_out = str(site.temp), str(driver.folder_of() / 'vc-out.xml')
        assert ['shutdown', temp, vc_out] in driver.calls()
        assert ['shutdown', temp, vc_out, 'perl.example.org'] in driver.calls()
        assert ['start', temp, vc_out, 'vm-2'] in driver.calls()
        assert driver.calls()[-1] == ['clean', temp, vc_out]


@pytest.mark.parametrize('name', ['kvm', 'perl'])
def test_the_executables_by_hand(wrapped, name):
    """Of our own drivers the optional executables are not called by our tools, but they do the same."""
    driver = wrapped(name)
    site = driver.site
    driver.boot()
    first, second, third = names_of(driver)

    def run(executable, *host):
        done = subprocess.run([driver.folder / executable, site.temp, driver.folder_of() / 'vc-out.xml', *host],
                              env={**site.environment(), 'PRAGMA_TIMEOUT': '0'}, capture_output=True, check=True)
        time.sleep(0.2)
        return lines(done.stdout)

    assert run('status') == [f'{host} running' for host in (first, second, third)]
    assert run('shutdown', second) == [] and run('status', second) == [f'{second} stopped']
    assert run('status') == [f'{first} running', f'{second} stopped', f'{third} running']
    run('start')
    assert run('status') == [f'{host} running' for host in (first, second, third)]
    run('shutdown')
    run('start', third)
    assert run('status') == [f'{first} stopped', f'{second} stopped', f'{third} running']
    run('clean')
    run('clean')
    assert driver.machines() == []


@pytest.mark.parametrize('driver', ['kvm', 'ganeti'])
@pytest.mark.parametrize('executable', OPTIONAL)
def test_usage_of_our_own(driver, executable):
    done = subprocess.run([ROOT / 'drivers' / driver / executable], capture_output=True, check=False)
    assert done.returncode == 2 and f'usage: {executable} '.encode() in done.stderr


def test_without_the_optional_executables(wrapped):
    """One line from each tool that names the driver and what it lacks; machines are never forgotten."""
    driver = wrapped('seed')
    site = driver.site
    done = driver.boot()
    without = f"driver '{driver.folder}' has no executable"
    assert lines(done.stderr) == [f"vc-status: {without} 'status': the states of its nodes are not known"]
    assert [line.split()[1:4] for line in lines(done.stdout)[1:]] == [
        [name, 'unknown', 'driver:seed'] for name in ('frontend', *SEED[1:])]
    assert len(driver.machines()) == 3
    assert site.fails('vc-shutdown', site.entry) == \
        f"vc-shutdown: {without} 'shutdown': it cannot shut nodes down"
    assert site.fails('vc-start', site.entry) == f"vc-start: {without} 'start': it cannot start nodes again"
    document = site.run('vc-status', '--xml', site.entry).stdout
    assert without in site.fails('vc-boot', input=document)
    assert 'is not a libvirt domain' in site.fails('vc-boot', '--print', input=document)
    assert 'has no console log' in site.fails('vc-console', site.entry)
    assert site.run('vc-graph', input=document).stdout.count(b'unknown') == 3
    line = site.fails('vc-clean', site.entry)
    assert line.startswith(f"vc-clean: {without} 'clean': it cannot remove machines; ")
    assert 'stays in the ledger' in line and f"'vc-clean --forget {site.entry}'" in line
    assert site.clusters() == [site.entry] and len(driver.machines()) == 3
    line, = lines(site.run('vc-clean', '--forget', site.entry).stderr)
    assert 'is dropped from the ledger, and its machines may still run' in line
    assert site.clusters() == [] and len(driver.machines()) == 3


def test_shutdown_and_start_without_status(wrapped):
    """shutdown is called once for all nodes and not awaited; start for every node."""
    driver = wrapped('perl', ['status'])
    site = driver.site
    driver.boot()
    line, = lines(site.run('vc-shutdown', site.entry).stderr)
    assert "has no executable 'status'" in line
    assert driver.machines() == [] and driver.called().count('shutdown') == 1
    site.run('vc-start', site.entry)
    assert driver.machines() == sorted(names_of(driver))
    assert sorted(call[3] for call in driver.calls() if call[0] == 'start') == sorted(names_of(driver))


def test_a_failure_of_an_optional_executable_is_quoted(wrapped):
    driver = wrapped('perl')
    site = driver.site
    driver.boot()
    for executable in OPTIONAL[1:]:
        driver.demand(f'{executable}-fails')
    said = f"driver '{driver.folder}/{{0}}': {{0}}: refused"
    done = site.run('vc-status', site.entry)
    assert lines(done.stderr) == [f"vc-status: {said.format('status')}"] and done.stdout.count(b'unknown') == 3
    assert site.fails('vc-start', site.entry) == f"vc-start: {said.format('status')}"
    driver.forgive('status-fails')
    assert site.fails('vc-shutdown', site.entry) == f"vc-shutdown: {said.format('shutdown')}"
    line = site.fails('vc-clean', site.entry)
    assert line.startswith(f"vc-clean: {said.format('clean')}; ") and 'stays in the ledger' in line
    for status in (3, 130):
        for executable in ('shutdown', 'clean'):
            (driver.folder / executable).write_text(f'#!/bin/sh\necho no more >&2\nexit {status}\n')
            assert 'no more' in site.fails(f'vc-{executable}', site.entry, status=status)
    line, = lines(site.run('vc-clean', '--forget', site.entry).stderr)
    assert 'no more; ' in line and site.clusters() == [] and len(driver.machines()) == 3


@pytest.mark.parametrize('text, told', [
    ('x running', "status printed 'x running'"), ('perl.example.org', "status printed 'perl.example.org'"),
    ('perl.example.org asleep', 'one of running, ready, stopped, failed, unknown')])
def test_a_status_of_another_form_is_refused(wrapped, text, told):
    driver = wrapped('perl')
    driver.boot()
    (driver.folder / 'status').write_text(f'#!/bin/sh\necho "{text}"\n')
    done = driver.site.run('vc-status', driver.site.entry)
    line, = lines(done.stderr)
    assert told in line and done.stdout.count(b'unknown') == 3


@pytest.mark.parametrize('tool', ['vc-shutdown', 'vc-start', 'vc-clean', 'vc-status'])
def test_a_signal_ends_an_optional_executable(wrapped, tool):
    driver = wrapped('perl')
    site = driver.site
    driver.boot()
    if tool == 'vc-start':
        site.run('vc-shutdown', '--timeout', 5, site.entry)
    driver.demand(f"{tool.removeprefix('vc-')}-waits")
    running = site.start(tool, site.entry)
    while not driver.waits():
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.02)
    running.terminate()
    assert said(running.communicate()[1]) == [f'{tool}: interrupted'] and running.returncode == 130
    assert all(' sleep 600' in line for line in processes(site)) and site.clusters() == [site.entry]
    assert len(processes(site)) == len(driver.machines())


@pytest.mark.parametrize('name, content', [('seed', b'<vc>'), ('seed', None), ('perl', b'<vc>'), ('perl', None),
                                           ('kvm', b'<vc>')])
def test_clean_with_a_broken_document_asks_the_driver(wrapped, name, content):
    """Machines of a cluster whose document is broken, or was never written, are not forgotten."""
    driver = wrapped(name)
    site = driver.site
    driver.boot()
    path = driver.folder_of() / 'document.xml'
    path.unlink()
    if content:
        path.write_bytes(content)
    if name == 'seed':
        told = lines(site.run('vc-clean', site.entry, status=1).stderr)
        assert "has no executable 'clean'" in told[-1] and len(told) == 1 + bool(content)
        assert site.clusters() == [site.entry] and len(driver.machines()) == 3
        site.run('vc-clean', '--forget', site.entry)
        assert site.clusters() == [] and len(driver.machines()) == 3
    else:
        site.run('vc-clean', site.entry)
        assert site.clusters() == [] and driver.machines() == [] and driver.called()[-1] == 'clean'


def left(driver, content):
    """Have the driver leave another vc-out.xml; None for none."""
    path = driver.site.folder / 'left'
    path.write_bytes(content or b'')
    command = ':' if content is None else f"cat '{path}' >\"$3\""
    (driver.folder / 'allocate').write_text(f'#!/bin/sh\n{command}\n')


VC = '<vc><frontend><public fqdn="a.b" ip="192.0.2.1"/>{}</frontend><compute>{}</compute></vc>'


@pytest.mark.parametrize('content, told', [
    (None, "cannot open '.*vc-out.xml': No such file or directory"),
    ('', "vc-out.xml' is empty"), ('# no XML', 'is not well-formed XML'),
    ('<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><vc>&e;</vc>', 'has a DOCTYPE'),
    ('<html/>', 'its root element is <html>, not <vc>'), ('<vc/>', 'it has no <frontend>'),
    ('<vc><frontend/></vc>', 'it has no <frontend><public>'),
    ('<vc><frontend><public/></frontend></vc>', "fqdn of <public> '' is not a name"),
    ((DATA / 'vc-out-compute.xml').read_text(), 'it has no <frontend>'),
    (VC.format('', '<node/>'), "name of <node> '' is not a name"),
    (VC.format('', '<node name="../../x"/>'), r"name of <node> '\.\./\.\./x' is not a name"),
    (VC.format('', '<node name="x;reboot"/>'), 'is not a name'), (VC.format('', '<node name="-v"/>'), 'is not a name'),
    (VC.format('', '<node name="x"/><node name="y"/><node name="x"/>'), "the name 'x' is there twice"),
    (VC.format('', '<node name="a.b"/>'), "the name 'a.b' is there twice"),
    (VC.format('', '<node name="x" ip="10.1.1"/>'), "ip='10.1.1' of <node> is not an IPv4 address"),
    (VC.format('<private ip="::1"/>', ''), "ip='::1' of <private> is not an IPv4 address"),
    (VC.format('', '<node name="x" mac="02:00"/>'), "mac='02:00' of <node> is not a MAC address"),
    (VC.format('', '<node name="x" cpus="-1"/>'), "cpus='-1' of <node> is not a number of CPUs"),
    (VC.format('', '<private ip="10.1.1.2"/>'), 'it has a <compute><private>'),
    (VC.format('', ''.join(f'<node name="n{n}"/>' for n in range(70_000))), 'it has 70000 compute nodes'),
    (VC.format('', ''.join(f'<node name="node-{n}"/>' for n in range(1_000_000))), 'is larger than 16 MiB'),
], ids=range(22))
def test_a_wrong_vc_out_is_refused_in_one_line(wrapped, content, told):
    """It names the driver; what was allocated is given back, by the driver's clean."""
    driver = wrapped('perl')
    left(driver, content and content.encode() if content is not None else None)
    line, = lines(driver.boot(status=1).stderr)
    assert re.match(rf"pragma_boot: driver '{driver.folder}' left a wrong result: .*{told}", line), line
    assert driver.called()[-1] == 'clean' and driver.site.clusters() == []


def test_a_wrong_vc_out_of_a_driver_without_clean(wrapped):
    driver = wrapped('seed')
    left(driver, b'<vc/>')
    wrong, clean = lines(driver.boot(status=1).stderr)
    assert 'left a wrong result' in wrong and "has no executable 'clean'" in clean
    assert driver.site.clusters() == [driver.site.entry] and driver.called() == ['fix_images']


@pytest.mark.parametrize('kind', ['fifo', 'folder', 'zero'])
def test_a_vc_out_that_is_no_file_is_refused(wrapped, kind):
    driver = wrapped('perl')
    (driver.folder / 'allocate').write_text('#!/bin/sh\n' + {
        'fifo': 'mkfifo "$3"', 'folder': 'mkdir "$3"', 'zero': 'ln -s /dev/zero "$3"'}[kind])
    line, = lines(driver.boot(status=1).stderr)
    assert "vc-out.xml' is not a regular file" in line and driver.site.clusters() == []


def test_the_least_vc_out(wrapped):
    """Names alone are enough to boot; what is not known is not made up."""
    driver = wrapped('perl')
    left(driver, b'<vc><frontend><public fqdn="a.b"/></frontend><compute><node name="frontend"/></compute></vc>')
    (driver.folder / 'boot').write_text('#!/bin/sh\n:\n')
    for executable in ('boot_compute', 'status'):
        (driver.folder / executable).unlink()
    done = driver.boot()
    assert [line.split()[1:6] for line in lines(done.stdout)[1:]] == [
        ['a.b', 'unknown', 'driver:perl', '-', '1'], ['frontend', 'unknown', 'driver:perl', '-', '1']]
    site = driver.site
    document = site.run('vc-status', '--xml', site.entry).stdout
    assert site.run('vc-graph', input=document).stdout.count(b' -- ') == 2
    assert 'has no public address' in site.fails('vc-ssh', site.entry)


def test_the_document_made_of_vc_out(wrapped):
    """What the seed's example tells, and the memory of vc-in.xml."""
    driver = wrapped('perl')
    left(driver, (DATA / 'vc-out-frontend.xml').read_bytes())
    for executable in ('boot', 'boot_compute'):
        (driver.folder / executable).write_text('#!/bin/sh\n:\n')
    driver.boot()
    cluster = etree.parse(driver.folder_of() / 'document.xml').find('cluster')
    told = [(node.get('role'), node.get('name'), node.get('fqdn'), node.get('cpus'), node.get('memory'),
             [dict(interface.attrib) for interface in node.findall('interface')]) for node in cluster.iterfind('node')]
    private = {'network': 'private', 'netmask': '255.255.0.0'}
    assert told == [
        ('frontend', 'frontend', 'calit2-119-222.ucsd.edu', '1', '1048576', [
            {**private, 'ip': '10.1.1.1'},
            {'network': 'public', 'ip': '137.110.119.222', 'netmask': '255.255.255.0', 'gw': '137.110.119.1'}]),
        *(('compute', name, name, '2', '1048576', [{**private, 'mac': mac, 'ip': ip, 'gw': '10.1.1.1'}])
          for name, mac, ip in (('hosted-vm-0-1-0', '7a:77:6e:40:00:15', '10.1.0.254'),
                                ('hosted-vm-0-0-0', '7a:77:6e:40:00:14', '10.1.0.253')))]
    assert dict(cluster.find('dns').attrib) == {'ip': '8.8.8.8', 'search': 'local', 'domain': ''}
    assert cluster.findtext('key').startswith('ssh-rsa ')
    # Our own drivers' nodes have a MAC on each interface, as before.
    text = (driver.folder_of() / 'document.xml').read_text().replace('driver:perl', 'qemu:///session')
    assert 'is not valid' in driver.site.fails('vc-graph', input=text.encode())


def test_a_document_cannot_name_a_program_elsewhere(wrapped):
    driver = wrapped('perl')
    driver.boot()
    site = driver.site
    document = site.run('vc-status', '--xml', site.entry).stdout
    for name in ('../perl', '/bin', ''):
        bad = document.replace(b'driver:perl', f'driver:{name}'.encode())
        done = subprocess.run([ROOT / 'bin/vc-status', '-'], input=bad, env=site.environment(), capture_output=True,
                              check=False)
        assert b'status' not in done.stdout and 'is not valid' in done.stderr.decode(), done


def test_ssh_asks_for_the_host_key_as_it_does(wrapped):
    """No key of the guest's is known: nothing is pinned, and nothing is taken unasked."""
    driver = wrapped('perl')
    driver.boot()
    site = driver.site
    fake = site.folder / 'path'
    fake.mkdir()
    (fake / 'ssh').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (fake / 'ssh').chmod(0o755)

    def words(*arguments):
        done = subprocess.run([ROOT / 'bin/vc-ssh', *arguments], capture_output=True, check=True,
                              env={**site.environment(), 'PATH': f"{fake}:{os.environ['PATH']}"})
        return lines(done.stdout)

    assert words(site.entry, 'true') == ['root@127.0.0.9', '--', 'true']
    told = words('--node', 'vm-1', site.entry)
    assert told == ['-o', f'HostKeyAlias=vm-1.{site.entry}', '-o', 'ProxyCommand=ssh -W %h:%p root@127.0.0.9',
                    'root@10.1.1.11']


@pytest.fixture
def sshd():
    """A function that has a server answer on the frontend's ssh port; needs root."""
    servers = []

    def answer():
        server = socket.create_server(('127.0.0.9', 22))
        servers.append(server)
    if os.geteuid():
        pytest.skip('port 22 needs root')
    yield answer
    for server in servers:
        server.close()


@pytest.mark.parametrize('without, told', [
    ((), ['frontend is ready', 'vm-1 is ready', 'vm-2 is ready']),
    (('status',), ["has no executable 'status': the states of its nodes are not known; only the frontend's ssh port "
                   'is awaited', 'frontend is ready'])])
def test_wait_for_a_driver_that_cannot_see_readiness(wrapped, sshd, without, told):
    """The frontend is ready when its ssh port answers, a compute node when it runs."""
    driver = wrapped('perl', without)
    sshd()
    said = lines(driver.boot('--wait').stderr)
    assert all(words in line for words, line in zip(told, said)) and said[0].startswith('pragma_boot: ')
    assert len(said) == len(told) + len(without)


def test_wait_for_a_driver_that_sees_readiness(wrapped, sshd):
    """A compute node is not ready because it runs, where status said ready of another."""
    driver = wrapped('perl')
    driver.boot()
    site = driver.site
    (driver.folder / 'status').write_text('#!/bin/sh\necho perl.example.org ready\necho vm-1 running\n'
                                          'echo vm-2 running\n')
    told = lines(site.run('vc-start', '--wait', '--timeout', 1, site.entry, status=1).stderr)
    assert "frontend is ready after 0 s" in told[0] and "'vm-1', 'vm-2' not ready after 1 s" in told[1]
    (driver.folder / 'status').write_text('#!/bin/sh\nfor host in perl.example.org vm-1 vm-2; do echo $host ready; done\n')
    assert len(lines(site.run('vc-start', '--wait', '--timeout', 1, site.entry).stderr)) == 3


def test_wait_has_a_bound_whatever_the_driver(wrapped):
    driver = wrapped('perl')
    driver.boot()
    site = driver.site
    line = lines(site.run('vc-start', '--wait', '--timeout', 1, site.entry, status=1).stderr)[-1]
    assert "'frontend', 'vm-1', 'vm-2' not ready after 1 s" in line or "'frontend' not ready after 1 s" in line
    driver.demand('status-fails')
    assert 'status: refused' in lines(site.run('vc-start', '--wait', site.entry, status=1).stderr)[-1]


def test_machines_of_a_killed_pragma_boot_can_be_removed(wrapped):
    """A kill -9 in the middle of allocate or boot leaves what vc-clean finds, by the driver's name."""
    driver = wrapped('perl')
    site = driver.site
    for where in ('allocate-waits-after', 'boot-waits-after'):
        driver.demand(where)
        running = site.start('pragma_boot', '--vcname', site.entry, '--key', site.key, '--num_cpus', 4)
        while not driver.waits():
            time.sleep(0.02)
        running.kill()
        running.wait()
        assert site.clusters() == [site.entry]
        site.run('vc-clean', site.entry)
        assert site.clusters() == [] and driver.machines() == [] and driver.called()[-1] == 'clean'
        driver.forgive(where)
        (site.folder / 'waits').unlink()


def test_two_at_once_have_names_of_their_own(wrapped):
    driver = wrapped('perl')
    site = driver.site
    running = [site.start('pragma_boot', '--vcname', site.entry, '--key', site.key) for _ in range(4)]
    told = [one.communicate()[1] for one in running]
    assert [one.returncode for one in running] == [0] * 4, told
    assert site.clusters() == [site.entry, *(f'{site.entry}-{number}' for number in (2, 3, 4))]


def test_the_example_in_a_storage_pool(wrapped, host):
    """A disk's path says nothing of its node there."""
    driver = wrapped('own')
    site = driver.site
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('storage = pool:default\n')
    driver.boot()
    assert [line.split()[2] for line in lines(site.run('vc-status', site.entry).stdout)[1:]] == ['running'] * 3
    path, name = [call[1:3] for call in driver.calls() if call[0] == 'boot'][0]
    assert path.endswith(f'/{site.entry}_frontend.qcow2') and name == 'a.example.org'
    site.run('vc-clean', site.entry)
    assert site.clusters() == []


def test_a_driver_of_the_name_of_a_folder_elsewhere(site):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('ve_driver = ../drivers/kvm\n')
    line = site.fails('pragma_boot', '--vcname', site.entry, '--key', site.key)
    assert "driver '../drivers/kvm' is not the name of a folder" in line
