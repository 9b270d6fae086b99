"""vc-start: starts the nodes of a cluster that do not run. The counterpart of vc-shutdown."""
import pytest

from lab.nodes import all_nodes, boot, mine, virsh, without_dependency
from lab.site import lines


@pytest.fixture
def stopped(site):
    """A cluster with disks, of which no node runs."""
    without_dependency(site)
    site.document(site.entry, 'vc-inject')
    return site


def states(site):
    output = [line.split() for line in lines(site.run('vc-status', site.entry).stdout)[1:]]
    return {name: state for _, name, state, *_ in output}


def test_starts_what_does_not_run(stopped):
    assert stopped.run('vc-start', stopped.entry).stdout == b''
    assert mine(stopped) == all_nodes(stopped)
    before = [virsh('domid', name) for name in all_nodes(stopped)]
    assert stopped.run('vc-start', stopped.entry).stderr == b''
    assert before == [virsh('domid', name) for name in all_nodes(stopped)]


def test_is_the_counterpart_of_vc_shutdown(stopped):
    stopped.run('vc-start', stopped.entry)
    stopped.run('vc-shutdown', '--timeout', 0, stopped.entry)
    assert set(states(stopped).values()) == {'stopped'}
    stopped.run('vc-start', stopped.entry)
    assert set(states(stopped).values()) == {'running'}


def test_lets_paused_nodes_go_on(stopped):
    document = (stopped.temp / 'clusters' / stopped.entry / 'document.xml').read_bytes()
    boot(stopped, document)
    assert {virsh('domstate', name).strip() for name in all_nodes(stopped)} == {'paused'}
    stopped.run('vc-start', '--node', 'compute-0', stopped.entry)
    assert [virsh('domstate', name).strip() for name in all_nodes(stopped)] == [
        'running', 'paused', 'paused']
    assert stopped.run('vc-start', stopped.entry).stderr == b''
    assert {virsh('domstate', name).strip() for name in all_nodes(stopped)} == {'running'}


@pytest.mark.parametrize('name', ['frontend', '{}.local'])
def test_one_node_by_its_name_or_fqdn(stopped, name):
    stopped.run('vc-start', '--node', name.format(stopped.entry), stopped.entry)
    assert mine(stopped) == [f'{stopped.entry}-frontend']
    stopped.run('vc-start', '--node', 'compute-1', stopped.entry)
    stopped.run('vc-shutdown', '--timeout', 0, '--node', name.format(stopped.entry), stopped.entry)
    assert states(stopped) == {'frontend': 'stopped', 'compute-0': '-', 'compute-1': 'running'}
    assert "has no node 'x'" in stopped.fails('vc-start', '--node', 'x', stopped.entry)
    assert "has no node 'x'" in stopped.fails('vc-shutdown', '--node', 'x', stopped.entry)


def test_wait_has_a_bound(stopped):
    done = stopped.run('vc-start', '--wait', '--timeout', 1, stopped.entry, status=1)
    line = lines(done.stderr)[-1]
    assert line.startswith(f"vc-start: cluster '{stopped.entry}' is not ready: ")
    assert "'frontend', 'compute-0', 'compute-1' not ready after 1 s" in line
    # So early, the image is not to blame.
    assert 'vc-check' not in line
    assert mine(stopped) == all_nodes(stopped)


def test_dependencies_are_those_of_vc_boot(site):
    site.document(site.entry, 'vc-inject')
    line = site.fails('vc-start', '--node', 'compute-0', site.entry)
    assert "depends on 'frontend', which does not run" in line


def test_bad_input(site):
    assert "no cluster 'x'" in site.fails('vc-start', 'x')
    site.document(site.entry, 'vc-allocate', 0)
    assert 'has no disk: run vc-inject' in site.fails('vc-start', site.entry)
    line = site.fails('vc-start', '--timeout', 'x', site.entry, status=2)
    assert 'must be a whole number' in line
