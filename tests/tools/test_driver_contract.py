"""The contract of a driver (pragma_boot-driver(7)): the same tests for our own and for others."""
import os
import re
import signal
import socket
import subprocess

import pytest
from lxml import etree

from lab import ROOT
from lab.drivers import OPTIONAL, Wrapped
from lab.leftovers import mounts, processes, settled
from lab.needs import do_without
from lab.nodes import without_dependency
from lab.site import lines

OURS = ('kvm', 'own')
"""The drivers whose nodes are libvirt domains."""

SHUTDOWN = ('vc-shutdown', '--timeout')


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


# The example is made of the same filters as the driver kvm: twice as long, it would find no more.
@pytest.fixture(params=['kvm', pytest.param('own', marks=pytest.mark.long), 'seed', 'perl'])
def driver(wrapped, request):
    return wrapped(request.param)


@pytest.fixture
def perl(wrapped):
    """A driver that has every executable, and has booted a cluster."""
    driver = wrapped('perl')
    driver.boot()
    return driver


def names_of(driver):
    """The host_names in the order of vc-out.xml; that of the driver seed is not sorted."""
    return {'seed': ['calit2-119-222.ucsd.edu', 'hosted-vm-0-1-0', 'hosted-vm-0-0-0'],
            'perl': ['perl.example.org', 'vm-1', 'vm-2']}.get(
                driver.name, [f'{driver.site.entry}.local', 'compute-0', 'compute-1'])


def images_of(driver):
    """The file_path of each node."""
    if driver.name in OURS:
        return [str(driver.folder_of() / f'{node}.qcow2')
                for node in ('frontend', 'compute-0', 'compute-1')]
    return [str(driver.site.temp / f'{name}.img')
            for name in ('calit2-119-222', 'hosted-vm-0-0-1', 'hosted-vm-0-0-1')]


def states(driver):
    site = driver.site
    return [line.split()[2] for line in lines(site.run('vc-status', site.entry).stdout)[1:]]


def said(stderr):
    """The lines of stderr, without what a shell prints of a job that was terminated."""
    return [line for line in lines(stderr) if line != 'Terminated']


@pytest.mark.parametrize('num_cpus', [0, 4])
@pytest.mark.parametrize('name', [*OURS, 'seed', 'perl'])
def test_calls_by_position_and_in_order(wrapped, name, num_cpus):
    """fix_images once, allocate once, boot once a node, or once for all compute nodes."""
    driver = wrapped(name)
    site, temp = driver.site, str(driver.site.temp)
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('jobs = 1\n')
    driver.boot(num_cpus=num_cpus)
    vc_out, count = str(driver.folder_of() / 'vc-out.xml'), 1 + num_cpus // 2
    boots = [['boot', path, name, temp, vc_out] for path, name
             in zip(images_of(driver)[:count], names_of(driver)[:count], strict=True)]
    if driver.has('boot_compute') and num_cpus:
        boots[1:] = [['boot_compute', temp, vc_out]]
    calls = driver.calls()
    assert calls[:2 + len(boots)] == [
        ['fix_images', str(site.vc_in), temp, 'frontend,compute' if num_cpus else 'frontend'],
        ['allocate', str(num_cpus), str(site.vc_in), vc_out, temp, str(site.key)], *boots]
    # What pragma_boot shows at the end.
    assert {call[0] for call in calls[2 + len(boots):]} <= {'status'}
    assert driver.host_names() == names_of(driver)[:count] and len(driver.machines()) == count


@pytest.mark.parametrize('name', ['kvm', 'perl'])
def test_without_boot_compute_each_node_is_booted(wrapped, name):
    driver = wrapped(name, ['boot_compute'])
    driver.boot()
    booted = sorted(call[2] for call in driver.calls() if call[0] == 'boot')
    assert booted == sorted(names_of(driver)) and len(driver.machines()) == 3


def test_what_an_executable_finds(wrapped):
    """The folder of vc_out_path, and the variables of the environment; standard input is empty."""
    driver = wrapped('seed')
    driver.write('allocate', 'ls -A "$(dirname "$3")" >"$4/seen"; env | grep ^PRAGMA >>"$4/seen"\n'
                             'wc -c >>"$4/seen"; echo told; exit 3')
    assert lines(driver.boot('-v', status=3).stderr)[0] == 'told'
    seen = (driver.site.temp / 'seen').read_text().splitlines()
    assert seen[0] == 'driver' and seen[-1] == '0' and set(seen[1:-1]) >= {
        f'PRAGMA_SITE_CONF={driver.site.conf}', 'PRAGMA_DRIVER=seed', 'PRAGMA_VERBOSE=1'}
    assert driver.site.clusters() == []


def test_a_shortage_is_passed_on(driver):
    line = lines(driver.boot(num_cpus=9999, status=3).stderr)[-1]
    assert re.match('(vc-allocate|seed|allocate): ', line)
    assert driver.called() == ['fix_images', 'allocate']
    assert driver.site.clusters() == [] and driver.machines() == []


@pytest.mark.parametrize('where', ['fix_images-fails', 'allocate-fails', 'allocate-fails-after'])
def test_nothing_is_left_where_an_allocation_fails(driver, where):
    """Also not where allocate has written its vc-out.xml, and fails then."""
    driver.demand(where)
    assert lines(driver.boot(status=1).stderr) == [f"{where.split('-')[0]}: refused"]
    assert driver.site.clusters() == [] and driver.machines() == [] and mounts(driver.site) == []


@pytest.mark.parametrize('node, when', [(0, 'fails'), (1, 'fails'), (2, 'fails-after')])
def test_the_cluster_is_removed_where_a_boot_fails(driver, node, when):
    if driver.has('boot_compute') and node:
        driver.demand(f'boot_compute-{when}')
    else:
        driver.demand(f'boot-{when}', names_of(driver)[node])
    first, *rest = said(driver.boot(status=1).stderr)
    assert first in ('boot: refused', 'boot_compute: refused')
    if driver.name == 'seed':
        # It cannot remove machines, and so its cluster is not forgotten.
        line, = rest
        assert f"'{driver.folder}' has no executable 'clean'" in line and 'may still run' in line
        assert driver.site.clusters() == [driver.site.entry]
        assert (driver.folder_of() / 'document.xml').exists()
    else:
        assert rest == [] and driver.site.clusters() == [] and driver.machines() == []
        assert driver.name in OURS or driver.called()[-1] == 'clean'


@pytest.mark.parametrize('where, how', [
    ('fix_images-waits', signal.SIGTERM), ('allocate-waits', signal.SIGINT),
    ('allocate-waits-after', signal.SIGTERM), ('boot-waits', signal.SIGINT),
    ('boot-waits-after', signal.SIGTERM)])
def test_a_signal_ends_the_call_and_removes_the_cluster(driver, where, how):
    driver.demand(where)
    running = driver.start()
    running.send_signal(how)
    *first, last = said(running.communicate()[1])
    assert running.returncode == 130 and last == 'pragma_boot: interrupted'
    left = [line for line in processes(driver.site) if 'qemu-system' not in line]
    if driver.name == 'seed' and where.startswith('boot'):
        assert "has no executable 'clean'" in first[0]
        assert driver.site.clusters() == [driver.site.entry]
        # Its machine, if it was started, but nothing of the driver itself.
        assert all(' sleep 600' in line for line in left)
        assert len(left) == len(driver.machines()) <= 1
    else:
        assert first == [] and settled(driver.site), left
        assert driver.machines() == [] and driver.site.clusters() == []


def test_a_signal_while_an_executable_is_started(wrapped):
    """The executable itself sends it, first of all: it gets SIGTERM and is waited for."""
    driver = wrapped('seed')
    driver.write('fix_images', 'kill -TERM $PPID; exec sleep 600')
    for _ in range(5):
        assert said(driver.boot(status=130).stderr) == ['pragma_boot: interrupted']
        assert processes(driver.site) == [] and driver.site.clusters() == []


@pytest.mark.parametrize('where', ['allocate-waits-after', 'boot-waits-after'])
def test_what_a_killed_pragma_boot_left_can_be_removed(wrapped, where):
    """vc-clean calls the driver that was chosen, whether or not there is a document."""
    driver = wrapped('perl')
    driver.demand(where)
    running = driver.start()
    running.kill()
    running.wait()
    with open(driver.site.conf, 'a', encoding='utf-8') as conf:
        conf.write('ve_driver = kvm\n')
    assert driver.site.clusters() == [driver.site.entry]
    driver.site.run('vc-clean', driver.site.entry)
    assert driver.site.clusters() == [] and driver.machines() == []
    assert driver.called()[-1] == 'clean'


@pytest.mark.parametrize('name', ['kvm', pytest.param('own', marks=pytest.mark.long), 'perl'])
def test_the_life_of_a_cluster(wrapped, name):
    """By our tools, whatever driver booted it."""
    driver = wrapped(name)
    site, entry, bound = driver.site, driver.site.entry, 5 if name == 'perl' else 0
    driver.boot()
    assert states(driver) == ['running'] * 3
    document = site.run('vc-status', '--xml', entry).stdout
    graph = site.run('vc-graph', input=document).stdout.decode()
    assert graph.count('\\nrunning"') == 3 and graph.count(' -- ') == 4
    site.run(*SHUTDOWN, bound, entry)
    assert states(driver) == ['stopped'] * 3
    frontend, _, last = [node.get('name') for node in etree.fromstring(document).iter('node')]
    site.run('vc-start', '--node', names_of(driver)[0], entry)
    site.run('vc-boot', '--node', last, input=document)
    assert states(driver) == ['running', 'stopped', 'running']
    site.run('vc-start', entry)
    site.run(*SHUTDOWN, bound, '--node', frontend, entry)
    assert states(driver) == ['stopped', 'running', 'running']
    site.run('vc-clean', entry)
    assert site.clusters() == [] and driver.machines() == []
    if name == 'perl':
        # One call where all nodes are meant, else one a node.
        vc_out = str(driver.folder_of() / 'vc-out.xml')
        calls = [[call[0], *call[3:]] for call in driver.calls()
                 if call[1:3] == [str(site.temp), vc_out] and call[0] != 'status']
        assert calls == [['boot_compute'], ['shutdown'], ['start', 'perl.example.org'],
                         ['start', 'vm-2'], ['start', 'vm-1'], ['shutdown', 'perl.example.org'],
                         ['clean']]


@pytest.mark.parametrize('name', ['kvm', 'perl'])
def test_the_optional_executables_by_hand(wrapped, name):
    """Our tools do not call those of our own drivers, but they do the same."""
    driver = wrapped(name)
    driver.boot()
    first, second, third = names_of(driver)

    def run(executable, *host):
        done = subprocess.run(
            [driver.folder / executable, driver.site.temp, driver.folder_of() / 'vc-out.xml',
             *host],
            env={**driver.site.environment(), 'PRAGMA_TIMEOUT': '0'}, capture_output=True,
            check=True)
        return lines(done.stdout)

    assert run('status') == [f'{host} running' for host in (first, second, third)]
    assert run('shutdown', second) == [] and run('status', second) == [f'{second} stopped']
    assert run('status') == [f'{first} running', f'{second} stopped', f'{third} running']
    run('start')
    assert run('status', second) == [f'{second} running']
    run('shutdown')
    run('start', third)
    assert run('status') == [f'{first} stopped', f'{second} stopped', f'{third} running']
    run('clean')
    run('clean')
    assert driver.machines() == []


@pytest.mark.parametrize('driver', ['kvm', 'ganeti'])
@pytest.mark.parametrize('executable', OPTIONAL)
def test_usage_of_our_own(driver, executable):
    done = subprocess.run([ROOT / 'drivers' / driver / executable], capture_output=True,
                          check=False)
    assert done.returncode == 2 and f'usage: {executable} '.encode() in done.stderr


def test_without_the_optional_executables(wrapped):
    """Each tool names in one line what the driver lacks; machines are never forgotten."""
    driver = wrapped('seed')
    site, entry = driver.site, driver.site.entry
    lacks = f"driver '{driver.folder}' has no executable"
    done = driver.boot()
    assert lines(done.stderr) == [
        f"vc-status: {lacks} 'status': the states of its nodes are not known"]
    assert [line.split()[1:4] for line in lines(done.stdout)[1:]] == [
        [name, 'unknown', 'driver:seed'] for name in ('frontend', *names_of(driver)[1:])]
    assert site.fails('vc-shutdown', entry) == \
        f"vc-shutdown: {lacks} 'shutdown': it cannot shut nodes down"
    assert site.fails('vc-start', entry) == \
        f"vc-start: {lacks} 'start': it cannot start nodes again"
    document = site.run('vc-status', '--xml', entry).stdout
    assert f"{lacks} 'start'" in site.fails('vc-boot', input=document)
    assert 'is not a libvirt domain' in site.fails('vc-boot', '--print', input=document)
    assert 'has no console log' in site.fails('vc-console', entry)
    assert site.run('vc-graph', input=document).stdout.count(b'unknown') == 3
    line = site.fails('vc-clean', entry)
    assert line.startswith(f"vc-clean: {lacks} 'clean': it cannot remove machines; ")
    assert 'stays in the ledger' in line and f"'vc-clean --forget {entry}'" in line
    assert site.clusters() == [entry] and len(driver.machines()) == 3
    line, = lines(site.run('vc-clean', '--forget', entry).stderr)
    assert 'is dropped from the ledger, and its machines may still run' in line
    assert site.clusters() == [] and len(driver.machines()) == 3


def test_shutdown_and_start_without_status(wrapped):
    """shutdown is called once for all nodes, and not awaited; start for every node."""
    driver = wrapped('perl', ['status'])
    driver.boot()
    line, = lines(driver.site.run('vc-shutdown', driver.site.entry).stderr)
    assert "has no executable 'status'" in line and driver.machines() == []
    assert driver.called().count('shutdown') == 1
    driver.site.run('vc-start', driver.site.entry)
    started = sorted(call[3] for call in driver.calls() if call[0] == 'start')
    assert driver.machines() == started == sorted(names_of(driver))


def test_a_failure_of_an_optional_executable_is_quoted(perl):
    site, entry = perl.site, perl.site.entry
    for executable in OPTIONAL[1:]:
        perl.demand(f'{executable}-fails')
    refused = f"driver '{perl.folder}/{{0}}': {{0}}: refused"
    done = site.run('vc-status', entry)
    assert lines(done.stderr) == [f"vc-status: {refused.format('status')}"]
    assert done.stdout.count(b'unknown') == 3
    assert site.fails('vc-start', entry) == f"vc-start: {refused.format('status')}"
    perl.forgive('status-fails')
    assert site.fails('vc-shutdown', entry) == f"vc-shutdown: {refused.format('shutdown')}"
    line = site.fails('vc-clean', entry)
    assert line.startswith(f"vc-clean: {refused.format('clean')}; ")
    assert 'stays in the ledger' in line
    for status in (3, 130):
        for executable in ('shutdown', 'clean'):
            perl.write(executable, f'echo no more >&2; exit {status}')
            assert 'no more' in site.fails(f'vc-{executable}', entry, status=status)
    line, = lines(site.run('vc-clean', '--forget', entry).stderr)
    assert 'no more; ' in line and site.clusters() == [] and len(perl.machines()) == 3


@pytest.mark.parametrize('text, told', [
    ('x running', "status printed 'x running'"),
    ('perl.example.org', "status printed 'perl.example.org'"),
    ('perl.example.org asleep', 'one of running, ready, stopped, failed, unknown')])
def test_a_status_of_another_form_is_refused(perl, text, told):
    perl.write('status', f'echo "{text}"')
    done = perl.site.run('vc-status', perl.site.entry)
    line, = lines(done.stderr)
    assert told in line and done.stdout.count(b'unknown') == 3


def test_one_cluster_that_cannot_be_seen_does_not_hide_another(perl):
    perl.boot('--name', f'{perl.site.entry}-b')
    perl.write('status', f'''case $2 in */{perl.site.entry}/*) echo lost >&2; exit 1;; esac
        echo perl.example.org ready''')
    done = perl.site.run('vc-status')
    assert [line.split()[2] for line in lines(done.stdout)[1:]] == \
        ['unknown'] * 3 + ['ready', '-', '-']
    assert lines(done.stderr) == [f"vc-status: driver '{perl.folder}/status': lost"]


@pytest.mark.parametrize('tool', ['shutdown', 'start', 'clean', 'status'])
def test_a_signal_ends_an_optional_executable(perl, tool):
    if tool == 'start':
        perl.site.run(*SHUTDOWN, 5, perl.site.entry)
    perl.demand(f'{tool}-waits')
    running = perl.site.start(f'vc-{tool}', perl.site.entry)
    perl.await_demand(running)
    running.terminate()
    assert said(running.communicate()[1]) == [f'vc-{tool}: interrupted']
    assert running.returncode == 130 and perl.site.clusters() == [perl.site.entry]
    assert len(processes(perl.site)) == len(perl.machines())


@pytest.mark.parametrize('name, content', [
    ('seed', b'<vc>'), ('seed', None), ('perl', b'<vc>'), ('perl', None), ('kvm', b'<vc>')])
def test_without_a_sound_document_the_driver_is_asked(wrapped, name, content):
    """Machines of a cluster whose document is broken or missing are not forgotten."""
    driver = wrapped(name)
    site, entry, path = driver.site, driver.site.entry, driver.folder_of() / 'document.xml'
    driver.boot()
    path.unlink()
    if content:
        path.write_bytes(content)
    if name == 'seed':
        told = lines(site.run('vc-clean', entry, status=1).stderr)
        assert "has no executable 'clean'" in told[-1] and len(told) == 1 + bool(content)
        assert site.clusters() == [entry]
        site.run('vc-clean', '--forget', entry)
        assert len(driver.machines()) == 3
    else:
        site.run('vc-clean', entry)
        assert driver.machines() == [] and driver.called()[-1] == 'clean'
    assert site.clusters() == []


@pytest.mark.parametrize('name, script, told', [
    ('perl', ':', "cannot open '.*/vc-out.xml': No such file or directory"),
    ('perl', ': >"$3"', "/vc-out.xml' is empty"),
    ('perl', 'mkfifo "$3"', "/vc-out.xml' is not a regular file"),
    ('perl', 'echo "<vc/>" >"$3"', "is not a frontend's vc-out.xml: it has no <frontend>"),
    ('seed', 'echo "<html/>" >"$3"', 'its root element is <html>'),
    ('record', 'echo "<vc>" >"${3%/*}/document.xml"; echo "<vc/>" >"$3"', 'it has no <frontend>'),
    ('record', """echo "<vc>" >"${3%/*}/document.xml"
        echo '<vc><frontend><public fqdn="a"/></frontend></vc>' >"$3" """,
     "/document.xml' is not well-formed XML")])
def test_a_wrong_result_of_allocate(wrapped, name, script, told):
    """One line names the driver. What was allocated is removed by clean, or not forgotten."""
    driver = wrapped(name)
    driver.write('allocate', script)
    first, *rest = lines(driver.boot(status=1).stderr)
    assert re.match(f"pragma_boot: driver '{driver.folder}' left a wrong result: .*{told}", first)
    if name == 'seed':
        assert "has no executable 'clean'" in rest[0] and driver.called() == ['fix_images']
        assert driver.site.clusters() == [driver.site.entry]
    else:
        assert driver.called()[-1] == 'clean' and driver.site.clusters() == []


def test_the_least_result_of_allocate(wrapped):
    """Names are enough to boot."""
    driver = wrapped('seed')
    driver.write('allocate', '''echo '<vc><frontend><public fqdn="a.b"/></frontend>
        <compute><node name="c"/></compute></vc>' >"$3"''')
    done = driver.boot()
    assert [line.split()[1:6] for line in lines(done.stdout)[1:]] == [
        ['frontend', 'unknown', 'driver:seed', '-', '1'], ['c', 'unknown', 'driver:seed', '-', '1']]
    site, entry = driver.site, driver.site.entry
    document = site.run('vc-status', '--xml', entry).stdout
    assert site.run('vc-graph', input=document).stdout.count(b' -- ') == 2
    assert 'has no public address' in site.fails('vc-ssh', entry)
    driver.write('start', ':')
    told = lines(site.run('vc-start', '--wait', entry).stderr)
    assert "has no executable 'status'" in told[0] and 'has no public address' in told[1]


def test_a_document_cannot_name_a_program_elsewhere(perl):
    document = perl.site.run('vc-status', '--xml', perl.site.entry).stdout
    for name in ('../perl', '/bin', '.', ''):
        bad = document.replace(b'driver:perl', f'driver:{name}'.encode())
        assert 'is not valid' in perl.site.fails('vc-status', '-', input=bad)


def test_a_driver_is_a_folder_of_drivers_path(site):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('ve_driver = ../drivers/kvm\n')
    line = site.fails('pragma_boot', '--vcname', site.entry, '--key', site.key)
    assert "driver '../drivers/kvm' is not the name of a folder" in line


def test_a_driver_that_calls_a_tool_for_its_own_work(perl):
    """It is told so, instead of calling itself for ever."""
    perl.write('clean', f"'{ROOT}/bin/vc-clean' {perl.site.entry}")
    line = perl.site.fails('vc-clean', perl.site.entry)
    assert 'would call itself' in line and perl.site.clusters() == [perl.site.entry]


def test_ssh_asks_about_a_host_key_as_usual(perl):
    """No key of the guests is known: nothing is pinned, and nothing is accepted unasked."""
    fake = perl.site.folder / 'path'
    fake.mkdir()
    (fake / 'ssh').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (fake / 'ssh').chmod(0o755)

    def words(*arguments):
        done = subprocess.run(
            [ROOT / 'bin/vc-ssh', *arguments], capture_output=True, check=True,
            env={**perl.site.environment(), 'PATH': f"{fake}:{os.environ['PATH']}"})
        return lines(done.stdout)

    entry, patience = perl.site.entry, ['-o', 'ConnectTimeout=60']
    assert words(entry, 'true') == [*patience, 'root@127.0.0.9', '--', 'true']
    assert words('--node', 'vm-1', entry) == [
        *patience, '-o', f'HostKeyAlias=vm-1.{entry}',
        '-o', 'ProxyCommand=ssh -W %h:%p root@127.0.0.9', 'root@10.1.1.11']


@pytest.fixture
def sshd():
    """A server on the ssh port of the driver perl's frontend."""
    try:
        server = socket.create_server(('127.0.0.9', 22))
    except PermissionError:
        do_without('port 22 needs root')
    with server:
        yield


@pytest.mark.parametrize('without, told', [
    ((), ['frontend is ready', 'vm-1 is ready', 'vm-2 is ready']),
    (('status',), ["are not known; only the frontend's ssh port is awaited",
                   'frontend is ready'])])
def test_wait_where_the_driver_cannot_see_readiness(wrapped, sshd, without, told):
    """The frontend is ready when its ssh port answers, a compute node when it runs."""
    driver = wrapped('perl', without)
    waited = lines(driver.boot('--wait').stderr)[:len(told)]
    assert all(words in line for words, line in zip(told, waited, strict=True))
    assert all(line.startswith('pragma_boot: ') for line in waited)


def test_wait_where_the_driver_sees_readiness(perl, sshd):
    """A compute node that runs is not ready, as status printed ready of another node."""
    wait = ('vc-start', '--wait', '--timeout', 1, perl.site.entry)
    perl.write('status', 'echo perl.example.org ready; echo vm-1 running; echo vm-2 running')
    told = lines(perl.site.run(*wait, status=1).stderr)
    assert 'frontend is ready' in told[0] and "'vm-1', 'vm-2' not ready after 1 s" in told[1]
    perl.write('status', 'for host in perl.example.org vm-1 vm-2; do echo $host ready; done')
    assert len(lines(perl.site.run(*wait).stderr)) == 3


def test_wait_has_a_bound(perl):
    told = lines(perl.site.run('vc-start', '--wait', '--timeout', 1, perl.site.entry,
                               status=1).stderr)
    assert "'frontend'" in told[-1] and told[-1].endswith('not ready after 1 s')
    perl.write('status', 'echo perl.example.org stopped')
    perl.write('start', ':')
    told = lines(perl.site.run('vc-start', '--wait', perl.site.entry, status=1).stderr)
    assert "'frontend' does not run" in told[-1]


def test_four_at_once_have_names_of_their_own(wrapped):
    site = wrapped('perl').site
    running = [site.start('pragma_boot', '--vcname', site.entry, '--key', site.key)
               for _ in range(4)]
    told = [one.communicate()[1] for one in running]
    assert [one.returncode for one in running] == [0] * 4, told
    assert site.clusters() == [site.entry, *(f'{site.entry}-{number}' for number in (2, 3, 4))]


def test_the_example_in_a_storage_pool(wrapped, host):
    """The path of a disk there does not have the node's name as its own."""
    driver = wrapped('own')
    with open(driver.site.conf, 'a', encoding='utf-8') as conf:
        conf.write('storage = pool:default\n')
    driver.boot()
    assert states(driver) == ['running'] * 3
    path, name = next(call[1:3] for call in driver.calls() if call[0] == 'boot')
    digits = (driver.site.temp / 'identity').read_text()[:8]
    assert path.endswith(f'/{driver.site.entry}_frontend_{digits}.qcow2')
    assert name == 'a.example.org'
    driver.site.run('vc-clean', driver.site.entry)
    assert driver.site.clusters() == []
