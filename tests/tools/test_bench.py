"""make bench measures time and memory, and reports goals that are missed."""
import os
import subprocess
import sys

from bench import bench, rows
from lab import ROOT
from lab.needs import need
from lab.site import connection, lines


def test_table_shows_missed_goals():
    row = rows.Row('cut', 'cut wood', None, lambda medians: [
        ('of the time of an axe', medians['ours'].seconds / medians['axe'].seconds, 0.5, ''),
        ('memory', medians['ours'].memory / 1000, 10, ' MB')])
    samples = {'ours': [bench.Sample(3, 9000, 5 * 10 ** 6), bench.Sample(1, 9000, 5 * 10 ** 6),
                        bench.Sample(2, 9000, 5 * 10 ** 6)],
               'axe': [bench.Sample(3, 100, None)]}
    output = bench.report('some machine', [(row, samples)]).splitlines()
    assert output[0] == 'some machine' and '| **cut wood** | | | | | |' in output
    assert '| ours | 3 | 2.000 | 1.00 | 9 | 5.00 |' in output
    assert '| axe | 1 | 3.000 | 1.50 | 0 |  |' in output
    assert '| cut: of the time of an axe | 0.667 | 0.5 | NOT reached |' in output
    assert '| cut: memory | 9 MB | 10 MB | reached |' in output


def test_memory_is_that_of_the_largest_process(tmp_path):
    """A child of the command, not the process that measures."""
    big = bench.measure(rows.Way('big', rows.shell(
        f'{sys.executable} -c "bytearray(200 << 20)"; true')), os.environ)
    small = bench.measure(rows.Way('small', ['true']), os.environ)
    assert 200_000 < big.memory < 300_000 and small.memory < 10_000
    assert big.disk is None


def test_a_row_runs_and_leaves_nothing():
    need('time')
    before = set(os.listdir('/var/tmp'))
    done = subprocess.run([sys.executable, '-m', 'bench.bench', '--rounds', '1', '--row',
                           'startup'],
                          cwd=ROOT / 'tests', capture_output=True, check=True)
    output = lines(done.stdout)
    names = [line.split('|')[1].strip() for line in output if line.startswith('| ')]
    assert names[0] == 'way' and names[1] == rows.IMPORT and 'vc-inject' in names[2:9]
    assert sum(line.endswith('reached |') for line in output) == 7
    assert not [name for name in set(os.listdir('/var/tmp')) - before if 'bench' in name]
    names = subprocess.run(['virsh', '-q', '-c', connection(), 'list', '--all', '--name'],
                           capture_output=True, check=True).stdout
    assert b'bench' not in names


SMALL = """
from bench import bench, scale
scale.COUNTS, scale.HOSTS, scale.CLUSTERS = (2, 4), 2, 4
bench.main()
"""


def test_the_row_of_large_sites_runs_on_simulated_hosts():
    """At small sizes; what is to be reached is not asked of a busy machine."""
    need('time')
    done = subprocess.run([sys.executable, '-c', SMALL, '--rounds', '1', '--slow-rounds', '1',
                           '--row', 'scale'], cwd=ROOT / 'tests', capture_output=True, check=True)
    output = lines(done.stdout)
    for tool in ('vc-allocate', 'vc-inject', 'vc-boot', 'vc-status', 'vc-clean'):
        for count in (2, 4):
            assert sum(line.startswith(f'| {tool}, {count} nodes | 1 |') for line in output) == 1
    assert sum(line.endswith('reached |') for line in output) == 8


def test_refuses_an_unknown_row():
    done = subprocess.run([sys.executable, '-m', 'bench.bench', '--row', 'none'],
                          cwd=ROOT / 'tests',
                          capture_output=True, check=False)
    assert done.returncode == 1 and done.stderr == b"bench: no row 'none'\n"
