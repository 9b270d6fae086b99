"""What is done for each node or cluster is done once for each: no list is searched for each item.

Operations are counted, or the CPU time of N and of several N is compared: not the time on a clock.
"""
import io
import os
import threading
import time

import pytest
from lxml import etree

from lab.documents import large
from lab.needs import need
from pragma_boot.cluster import boot, capacity, readiness, states
from pragma_boot.cluster.ledger import Ledger
from pragma_boot.document import edits, rules, tree
from pragma_boot.document.seed import Seeds
from pragma_boot.document.vcout import Projection
from pragma_boot.engine import console
from pragma_boot.engine.registry import ASKED_AT_ONCE, Engines
from pragma_boot.image import seed
from pragma_boot.system import workers
from pragma_boot.system.settings import Settings

FEW, MANY = 200, 2000


def seconds(work):
    before = time.process_time()
    work()
    return time.process_time() - before


def each(make, ask):
    """Ask what ``make`` made of a document for every node."""
    def work(root):
        made = make(root)
        for node in tree.nodes(root):
            ask(made, node)
    return work


@pytest.mark.parametrize('work', [
    each(Projection, lambda made, node: made.of(node.get('name'))),
    each(Projection, lambda made, node: made.node(node.get('fqdn'))),
    each(Seeds, lambda made, node: made.of(node.get('name'))),
    lambda root: edits.refused(root, root),
    rules.check, rules.explain,
    lambda root: tree.read(io.BytesIO(etree.tostring(root)))],
    ids=['vc-out', 'by FQDN', 'seeds', 'edits', 'rules', 'explain', 'read'])
def test_time_is_linear_in_nodes(work):
    work(large(2))
    few, many = large(FEW), large(MANY)
    # What is quadratic takes 100 times as long.
    assert seconds(lambda: work(many)) < 30 * max(seconds(lambda: work(few)), 0.002)


def test_a_compute_node_is_told_the_same_as_in_a_small_cluster():
    small, many = large(1), large(40)
    assert Projection(small).of('compute-0') == Projection(many).of('compute-0')
    assert Projection(many).of('frontend').count(b'<node ') == 40


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A ledger of ten clusters, with the list of the clusters that are read of it."""
    (tmp_path / 'site_conf.conf').write_text('temporary_directory = temp\n')
    made = Ledger(str(tmp_path / 'temp'))
    for index in range(10):
        folder = tmp_path / 'temp' / 'clusters' / f'c{index}'
        folder.mkdir(parents=True)
        (folder / 'document.xml').write_bytes(etree.tostring(large(1, f'c{index}')))
    opened = []
    stored = Ledger.stored
    monkeypatch.setattr(Ledger, 'stored', lambda self, name: opened.append(name)
                        or stored(self, name))
    return made, opened


def test_the_states_of_one_cluster_read_that_cluster(ledger):
    made, opened = ledger
    states.documents(['c3'], made, None)
    assert opened == ['c3']
    states.documents([], made, None)
    assert len(opened) == 11


def test_the_ledger_is_read_where_a_node_was_given_more_and_not_else(ledger, tmp_path, monkeypatch):
    made, opened = ledger
    known = made.document('c3')
    settings = Settings.read(str(tmp_path / 'site_conf.conf'))
    capacity.check_edited(known, known, made.documents, settings)
    assert len(opened) == 1
    monkeypatch.setattr(capacity, 'Capacity', lambda _: type('', (), {'free': lambda *_: []})())
    edited = large(1, 'c3')
    edited.find('cluster/node').set('cpus', '64')
    capacity.check_edited(known, edited, made.documents, settings)
    assert len(opened) == 11


def test_a_bounded_number_of_engines_is_asked_at_once(tmp_path):
    (tmp_path / 'site_conf.conf').touch()
    now, most, lock = [0], [0], threading.Lock()

    def question(engine):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return engine.uri
    hosts = [f'test+tcp://h{index}/default' for index in range(100)]
    answers = Engines(Settings.read(str(tmp_path / 'site_conf.conf'))).ask(hosts, question)
    assert answers == {host: host for host in hosts}
    assert 2 <= most[0] <= ASKED_AT_ONCE


def test_time_to_order_the_start_is_linear_in_nodes(tmp_path, monkeypatch):
    """The frontend first, then all compute nodes. None is started here."""
    (tmp_path / 'site_conf.conf').write_text('temporary_directory = temp\naccel = tcg\n')
    monkeypatch.setattr(workers, 'each', lambda work, items, jobs: [work(item) for item in items])
    monkeypatch.setattr(boot.Boot, '_look', lambda self: None)
    monkeypatch.setattr(boot.Boot, '_check', lambda self: None)
    monkeypatch.setattr(boot.Boot, '_stopped', lambda self, node: True)
    started = []
    monkeypatch.setattr(boot.Boot, '_start',
                        lambda self, node, paused, saved: started.append(node.get('name')))
    monkeypatch.setattr(boot.Boot, '_await_parent',
                        lambda self, node, dependency: started.append('waited'))

    def start(count):
        root = large(count)
        one = boot.Boot(root, tree.nodes(root), Settings.read(str(tmp_path / 'site_conf.conf')))
        started.clear()
        spent = seconds(one.start)
        assert started == ['frontend', 'waited', *(f'compute-{n}' for n in range(count))]
        return spent
    few = start(500)
    assert start(5000) < 30 * max(few, 0.002)


def test_reports_are_found_in_a_long_console_quickly():
    """Of 1,000 clusters' consoles, the lines of the guest part are few."""
    line = b'[    1.000000] some driver: some line of a kernel that boots\r\n'
    data = line * 50_000 + b'pragma_boot: ready compute-0\r\n' + line
    assert console.reports(data) == {'ready': ''}
    assert console.reports(b'x pragma_boot: ready compute-0\n') == {}
    assert seconds(lambda: console.reports(data)) < 20 * max(
        seconds(lambda: data.find(b'no such line')), 0.001)


def test_seed_disks_are_made_in_groups(tmp_path, monkeypatch):
    """So that the texts of ten thousand nodes are not in memory at once."""
    need('mkfs.vfat', 'mcopy')
    root, groups = large(7), []
    (tmp_path / 'id_ed25519').write_text('key')
    made = seed._made
    monkeypatch.setattr(seed, 'TOGETHER', 3)
    monkeypatch.setattr(seed, '_made', lambda seeds, key, folder, nodes, *rest: groups.append(
        len(nodes)) or made(seeds, key, folder, nodes, *rest))

    def keep(draft, node):
        path = tmp_path / node.get('name')
        os.rename(draft, path)
        return str(path)
    found = seed.make(root, str(tmp_path), tree.nodes(root), 2, keep)
    assert groups == [3, 3, 2]
    for node in tree.nodes(root):
        path = tmp_path / node.get('name')
        assert found[node.get('name')].get('path') == str(path)
        assert f'"local-hostname": "{node.get("name")}"'.encode() in path.read_bytes()


def test_reading_many_consoles_leaves_time_for_other_work(tmp_path, monkeypatch):
    """The pause grows with the time that a read takes."""
    (tmp_path / 'site_conf.conf').touch()
    clock, pauses = [0.0], []

    class Judge:
        def __init__(self, *_):
            self.looks = 0

        def look(self, nodes, ask):
            self.looks += 1
            clock[0] += 3

        def state(self, node):
            return 'ready' if self.looks > 2 else 'running'

        def warning(self, node):
            return ''

        def slowest(self, nodes):
            return ''
    monkeypatch.setattr(readiness, '_Judge', Judge)
    monkeypatch.setattr(readiness.time, 'monotonic', lambda: clock[0])
    monkeypatch.setattr(readiness.time, 'sleep', pauses.append)
    readiness.wait(tree.nodes(large(2)), None, None, 600)
    assert pauses == [12, 12]
