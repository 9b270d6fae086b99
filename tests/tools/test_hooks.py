"""Hooks of a site (pragma_boot(7)): programs that get a cluster's document at four moments."""
import os
import signal
import time

import pytest
from lxml import etree

from lab.drivers import Wrapped
from lab.leftovers import processes, settled
from lab.nodes import boot, without_dependency
from lab.site import lines

MOMENTS = ('allocated', 'ready', 'failed', 'cleaned')

RECORD = '''echo "$(basename "$0") $PRAGMA_HOOK $PRAGMA_CLUSTER" >>{record}
cat >{folder}/$(basename "$0").$PRAGMA_HOOK.xml'''


class Hooks:
    """The hooks of a site, which record their calls."""

    def __init__(self, site):
        self.site = site
        self.folder = site.folder / 'hooks of the site'
        self.record = site.folder / 'record'
        with open(site.conf, 'a', encoding='utf-8') as conf:
            conf.write('hooks_path = hooks of the site\n')
        for moment in MOMENTS:
            (self.folder / f'{moment}.d').mkdir(parents=True)
            self.add(moment, 'record')

    def add(self, moment, name, script=None, mode=0o755):
        path = self.folder / f'{moment}.d' / name
        path.write_text('#!/bin/sh\n' + (script or RECORD.format(
            record=self.record, folder=self.site.folder)) + '\n')
        path.chmod(mode)
        return path

    def calls(self):
        """The lines of the record since the last call."""
        output = self.record.read_text().splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return output

    def document(self, moment, name='record'):
        """What a hook read on its standard input."""
        return (self.site.folder / f'{name}.{moment}.xml').read_bytes()


@pytest.fixture
def hooks(site):
    without_dependency(site)
    return Hooks(site)


@pytest.fixture
def perl(site, hooks):
    """A site whose driver is the one in Perl; its machines are processes."""
    driver = Wrapped(site, 'perl')
    yield driver
    driver.end()


def states(document):
    return [node.findtext('state') for node in etree.fromstring(document).iter('node')]


def test_of_the_filters(site, hooks):
    name = site.entry
    allocated = site.document(name, 'vc-allocate')
    assert hooks.calls() == [f'record allocated {name}']
    assert hooks.document('allocated') == allocated
    site.run('vc-allocate', '--num-cpus', 4, input=allocated)
    document = site.run('vc-inject', input=allocated).stdout
    assert hooks.calls() == []
    boot(site, document, '--wait', '--timeout', 0, status=1)
    assert hooks.calls() == [f'record failed {name}']
    assert states(hooks.document('failed')) == ['running'] * 3
    last = (site.temp / 'clusters' / name / 'document.xml').read_bytes()
    site.run('vc-clean', name)
    assert hooks.calls() == [f'record cleaned {name}'] and hooks.document('cleaned') == last
    site.run('vc-clean', name)
    assert hooks.calls() == []


def test_a_dry_run_and_a_refusal_have_none(site, hooks):
    document = site.document(site.entry, 'vc-stage')
    site.run('vc-allocate', '--num-cpus', 2, '--dry-run', input=document)
    site.fails('vc-allocate', '--nodes', '1x1:900T', input=document, status=3)
    assert hooks.calls() == []


def test_of_pragma_boot_each_once(site, hooks):
    """Although its driver calls our own tools, which have hooks when they are called alone."""
    site.run('pragma_boot', '--vcname', site.entry, '--key', site.key, '--num_cpus', 2)
    assert hooks.calls() == [f'record allocated {site.entry}']
    assert etree.fromstring(hooks.document('allocated')).find('cluster/node/disk') is not None
    site.run('vc-clean', site.entry)
    assert hooks.calls() == [f'record cleaned {site.entry}']


def test_of_a_driver_that_knows_no_hooks(site, hooks, perl):
    (site.temp).mkdir(exist_ok=True)
    (site.temp / 'ready').touch()
    perl.boot('--wait')
    assert hooks.calls() == [f'record {moment} {site.entry}' for moment in ('allocated', 'ready')]
    assert states(hooks.document('ready')) == ['ready'] * 3
    site.run('vc-start', '--wait', site.entry)
    assert hooks.calls() == [f'record ready {site.entry}']
    # Of a part of the cluster nobody can say that it is ready.
    site.run('vc-start', '--wait', '--node', 'vm-1', site.entry)
    assert hooks.calls() == []
    perl.demand('status-fails')
    site.run('vc-start', '--wait', '--timeout', 0, site.entry, status=1)
    perl.forgive('status-fails')
    perl.demand('start-fails')
    site.run('vc-shutdown', site.entry)
    hooks.calls()
    site.run('vc-start', site.entry, status=1)
    assert hooks.calls() == [f'record failed {site.entry}']


@pytest.mark.parametrize('what, calls', [
    ('allocate-fails', []), ('boot-fails', ['allocated', 'failed', 'cleaned'])])
def test_of_a_driver_that_fails(site, hooks, perl, what, calls):
    perl.demand(what)
    perl.boot(status=1)
    assert hooks.calls() == [f'record {moment} {site.entry}' for moment in calls]


def test_order_and_what_is_no_hook(site, hooks):
    folder = hooks.folder / 'allocated.d'
    for name in ('20-b', '10-a', '.hidden', '30-c~', 'Z', 'a b'):
        hooks.add('allocated', name)
    hooks.add('allocated', '15-not-executable', mode=0o644)
    (folder / '16-folder').mkdir()
    (folder / '17-dangling').symlink_to('nowhere')
    (folder / '18-link').symlink_to('10-a')
    site.document(site.entry, 'vc-allocate')
    assert [call.rsplit(' ', 2)[0] for call in hooks.calls()] == [
        '10-a', '18-link', '20-b', 'Z', 'a b', 'record']


def test_one_that_fails_is_a_warning_with_its_name_and_status(site, hooks):
    document = site.document(site.entry, 'vc-stage')
    bad = hooks.add('allocated', '10-bad', 'echo first >&2; echo "no such zone" >&2; exit 4')
    silent = hooks.add('allocated', '11-silent', 'exit 5')
    killed = hooks.add('allocated', '12-killed', 'kill -KILL $$')
    broken = hooks.add('allocated', '13-broken')
    broken.write_text('#!/nonexistent/interpreter\n')
    talks = hooks.add('allocated', '14-talks', 'echo to stdout; echo to stderr >&2')
    done = site.run('vc-allocate', '--num-cpus', 2, '--key', site.key, input=document)
    assert etree.fromstring(done.stdout).find('cluster') is not None
    found = lines(done.stderr)
    assert found[:2] == [f"vc-allocate: hook '{bad}' exited with status 4: no such zone",
                         f"vc-allocate: hook '{silent}' exited with status 5"]
    assert found[2] == f"vc-allocate: hook '{killed}' failed: {killed} was killed: Killed"
    assert f"hook '{broken}' exited with status 12" in found[3]
    assert found[4:] == ['to stdout', 'to stderr'] and talks.exists()
    assert hooks.calls() == [f'record allocated {site.entry}']


def test_one_that_does_not_end(site, hooks):
    with open(site.conf, 'a', encoding='utf-8') as conf:
        conf.write('hook_timeout = 1\n')
    # It does not end at SIGTERM, and neither does what it started.
    slow = hooks.add('allocated', '10-slow', 'trap "" TERM; sleep 600 & sleep 600')
    document = site.document(site.entry, 'vc-stage')
    done = site.run('vc-allocate', '--num-cpus', 2, '--key', site.key, input=document)
    assert lines(done.stderr) == [
        f"vc-allocate: hook '{slow}' did not end in 1 s: it was terminated"]
    assert hooks.calls() == [f'record allocated {site.entry}']
    assert [line for line in processes(site) if 'sleep' in line] == []


def test_one_that_reads_nothing_of_a_large_document(site, hooks):
    hooks.add('allocated', '10-deaf', 'exec <&-; true')
    document = site.document(site.entry, 'vc-stage').replace(
        b'</vc>', b'<note>' + b'x' * (1 << 20) + b'</note></vc>')
    done = site.run('vc-allocate', '--num-cpus', 2, '--key', site.key, input=document)
    assert lines(done.stderr) == [] and len(hooks.document('allocated')) > 1 << 20


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_reaches_it(site, hooks, number):
    """The reservation, of which nobody knows, is released; what the first hooks did is undone."""
    document = site.document(site.entry, 'vc-stage')
    hooks.add('allocated', '99-waits', f'trap "echo stopped >>{hooks.record}; exit 1" TERM\n'
              f'echo waits >>{hooks.record}; sleep 600 & wait $!')
    running = site.start('vc-allocate', '--num-cpus', 2, '--name', 'mine')
    running.stdin.write(document)
    running.stdin.close()
    while not hooks.record.exists() or 'waits' not in hooks.record.read_text():
        assert running.poll() is None
        time.sleep(0.05)
    os.kill(running.pid, number)
    assert running.wait() == 130 and running.stdout.read() == b''
    found = hooks.calls()
    # record comes after 99-waits.
    assert found == ['waits', 'stopped', 'record cleaned mine']
    assert site.clusters() == [] and not [line for line in processes(site) if 'sleep' in line]


def test_it_does_not_hold_the_lock_and_can_use_our_tools(site, hooks, public_tree):
    tools = public_tree / 'bin'
    hooks.add('allocated', '10-uses',
              f'flock -n {site.temp}/lock true || exit 9\n'
              f'{tools}/vc-status --names >{site.folder}/names\n'
              f'PRAGMA_TEMP={site.temp} {tools}/vc-clean $PRAGMA_CLUSTER')
    document = site.document(site.entry, 'vc-stage')
    done = site.run('vc-allocate', '--num-cpus', 2, '--key', site.key, input=document)
    assert lines(done.stderr) == [] and site.clusters() == []
    assert (site.folder / 'names').read_text() == f'{site.entry}\n'
    # A tool that a hook calls runs no hooks.
    assert hooks.calls() == [f'record allocated {site.entry}']


@pytest.mark.parametrize('what', ['hooks', 'above', 'owner'])
def test_a_folder_that_others_may_write_to_is_refused(site, hooks, what):
    document = site.document(site.entry, 'vc-stage')
    path = hooks.folder
    if what == 'above':
        path = site.folder
        mode = path.stat().st_mode
        path.chmod(0o777)
    elif what == 'owner':
        if os.geteuid():
            pytest.skip('needs root')
        os.chown(path, 65534, 0)
    else:
        path.chmod(0o775)
    line = site.fails('vc-allocate', '--num-cpus', 2, input=document)
    assert f"hooks_path: others may write to '{path}'" in line and 'chmod go-w' in line
    assert site.clusters() == [] and hooks.calls() == []
    if what == 'above':
        path.chmod(mode)


def test_a_hook_that_others_may_write_to_is_not_run(site, hooks):
    document = site.document(site.entry, 'vc-stage')
    hooks.add('allocated', 'record', mode=0o777)
    done = site.run('vc-allocate', '--num-cpus', 2, '--key', site.key, input=document)
    assert "/allocated.d/record': hooks run with your rights" in lines(done.stderr)[0]
    assert lines(done.stderr)[0].endswith('it is not run') and hooks.calls() == []
    (hooks.folder / 'cleaned.d').chmod(0o777)
    done = site.run('vc-clean', site.entry)
    assert "/cleaned.d'" in lines(done.stderr)[0] and hooks.calls() == []
    assert lines(done.stderr)[0].endswith('its hooks are not run')


@pytest.mark.parametrize('what', ['nowhere', 'mode'])
def test_a_wrong_path_does_not_keep_a_cluster(site, hooks, what):
    site.document(site.entry, 'vc-allocate')
    hooks.calls()
    if what == 'mode':
        hooks.folder.chmod(0o777)
        said = f"hooks_path: others may write to '{hooks.folder}'"
    else:
        with open(site.conf, 'a', encoding='utf-8') as conf:
            conf.write('hooks_path = nowhere\n')
        said = 'hooks_path must be a folder that exists'
        assert said in site.fails('vc-allocate', '--num-cpus', 2,
                                  input=site.document(site.entry, 'vc-stage'))
    line, = lines(site.run('vc-clean', site.entry).stderr)
    assert said in line and line.endswith('; no hook is run')
    assert site.clusters() == [] and hooks.calls() == []


def test_a_kill_of_the_tool_ends_what_a_hook_has_started(site, hooks):
    document = site.document(site.entry, 'vc-stage')
    hooks.add('allocated', '10-slow', f"sh -c 'echo $$ >{hooks.record}; sleep 600; true'; true")
    running = site.start('vc-allocate', '--num-cpus', 2, '--name', 'mine')
    running.stdin.write(document)
    running.stdin.close()
    while not hooks.record.exists() or not hooks.record.read_text():
        assert running.poll() is None
        time.sleep(0.05)
    running.kill()
    running.wait()
    running.stdout.close()
    assert settled(site), processes(site)
    assert not [line for line in processes(site) if 'sleep' in line]
