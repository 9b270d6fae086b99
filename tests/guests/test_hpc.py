"""A real cluster of the HPC image: a frontend and two compute nodes, and beside it another cluster.

The image takes some minutes to build, and is kept as the demo image is.
"""
import os
import re
import subprocess

import pytest
from lxml import etree

from lab import ROOT
from lab.needs import need
from lab.site import guest_site, lines

pytestmark = [pytest.mark.guest, pytest.mark.long]

IMAGE = ROOT / 'images/hpc/hpc.img.gz'
USER = 'ann'
COMPUTE = ['compute-0', 'compute-1']
CPUS = 4


@pytest.fixture(scope='module')
def hpc():
    """A site with two running clusters, ``site.name`` and the frontend ``site.other``."""
    need('mmdebstrap')
    subprocess.run(['make', '--no-print-directory', '-C', ROOT, IMAGE], check=True,
                   stdin=subprocess.DEVNULL)
    with guest_site(comment=f'{USER}@here') as site:
        site.name, site.other = f't{os.getpid()}-hpc', f't{os.getpid()}-other'
        try:
            for name, cpus in ((site.name, CPUS), (site.other, 0)):
                site.run('pragma_boot', '--vcname', 'hpc', '--name', name, '--num_cpus', cpus,
                         '--key', site.folder / 'key.pub')
            for name in (site.name, site.other):
                site.wait(name)
            yield site
        finally:
            for name in (site.name, site.other):
                site.run('vc-clean', name)


def root(site, command, name=None, status=0, **options):
    """The lines that a command of root's prints on a frontend."""
    return lines(site.run('vc-ssh', '-i', site.folder / 'key', name or site.name, command,
                          status=status, **options).stdout)


def user(site, command):
    """The lines that a command of the ordinary user's prints on the frontend."""
    config = site.folder / 'config'
    if not config.exists():
        config.write_bytes(site.run('vc-status', '-i', site.folder / 'key', '--ssh-config',
                                    site.name).stdout)
    done = subprocess.run(['ssh', '-F', config, '-l', USER, f'frontend.{site.name}', command],
                          capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=600)
    assert done.returncode == 0, done
    return lines(done.stdout)


def test_ready_nodes_are_idle_with_the_size_of_the_document(hpc):
    document = etree.parse(str(hpc.temp / 'clusters' / hpc.name / 'document.xml'))
    sizes = {node.get('name'): node for node in document.iterfind('cluster/node[@role="compute"]')}
    told = [line.split() for line in root(hpc, 'sinfo -h -N -o "%N %T %c %m %f"')]
    assert [name for name, *_ in told] == COMPUTE
    for name, state, cpus, memory, features in told:
        assert (state, cpus) == ('idle', sizes[name].get('cpus'))
        assert 0.7 < int(memory) * 1024 / int(sizes[name].get('memory')) < 1
        assert features == f'cpu{cpus},mem{int(sizes[name].get("memory")) >> 10}M'


def test_an_mpi_job_runs_on_all_nodes_as_the_user(hpc):
    """The example, unchanged."""
    done = subprocess.run([ROOT / 'examples/mpi-job', hpc.name, USER, hpc.folder / 'key'],
                          env=hpc.environment(), capture_output=True, check=False, timeout=900)
    assert done.returncode == 0, done
    told = [line for line in lines(done.stdout) if line.startswith('hello from rank ')]
    assert [(re.sub(' on [^;]+', '', line)) for line in told] == [
        f'hello from rank {rank} of {CPUS}; the sum of all ranks is {sum(range(CPUS))}'
        for rank in range(CPUS)]
    assert sorted(re.findall(r' on ([^;]+);', ' '.join(told))) == sorted(COMPUTE * 2)
    assert user(hpc, 'stat -c %U hello.out') == [USER]


def test_mpich_and_srun_start_ranks_too(hpc):
    """Open MPI by srun and PMIx; MPICH by its own mpiexec, which asks Slurm for the nodes."""
    told = user(hpc, 'cp /usr/local/share/pragma_hpc/hello.c . && mpicc -o hello-srun hello.c && '
                     f'srun -n {CPUS} ./hello-srun | sort -n -k 4')
    assert [line.split()[:6] for line in told] == [
        f'hello from rank {rank} of {CPUS}'.split() for rank in range(CPUS)]
    # MPICH 4.0 sometimes hangs in MPI_Finalize, when all is printed.
    told = user(hpc, 'mpicc.mpich -o hello-mpich hello.c && '
                     f'salloc -Q -n {CPUS} timeout -k 10 120 mpiexec.mpich ./hello-mpich | '
                     'sort -n -k 4')
    assert [line.split(' on ')[0] for line in told] == [
        f'hello from rank {rank} of {CPUS}' for rank in range(CPUS)]
    assert {re.search(' on ([^;]+);', line)[1] for line in told} == set(COMPUTE)


def test_the_user_has_one_number_and_one_home(hpc):
    number, = user(hpc, 'id -u')
    assert int(number) >= 1000
    assert user(hpc, 'srun -N 2 -n 2 id -u') == [number] * 2
    user(hpc, 'echo from the frontend >shared')
    told = user(hpc, 'srun -N 2 -n 2 sh -c "cat shared; hostname >here-\\$SLURMD_NODENAME"')
    assert told == ['from the frontend'] * 2
    assert user(hpc, 'cat here-*') == COMPUTE
    # Between the nodes as on the frontend, without a password.
    assert user(hpc, 'ssh compute-1 ssh -o BatchMode=yes compute-0 cat shared') == [
        'from the frontend']
    assert root(hpc, 'echo tool >/opt/tool; ssh compute-0 cat /opt/tool') == ['tool']
    assert root(hpc, 'ssh compute-0 touch /opt/other 2>/dev/null; ls /opt') == ['tool']


def test_another_cluster_refuses_the_credential(hpc):
    """Its munge key is another one, and the image has none."""
    accepted, = root(hpc, 'munge -n | ssh compute-0 unmunge | grep STATUS')
    assert 'Success (0)' in accepted
    credential = '\n'.join(root(hpc, 'munge -n'))
    refused = root(hpc, f'echo {credential} | unmunge 2>&1; true', hpc.other)
    assert 'Invalid credential' in '\n'.join(refused)
    keys = [root(hpc, 'sha256sum </etc/munge/munge.key', name) for name in (hpc.name, hpc.other)]
    assert keys[0] != keys[1]
    assert root(hpc, 'ssh compute-1 sha256sum /etc/munge/munge.key')[0].split()[0] in keys[0][0]
    staged = etree.parse(str(hpc.temp / 'clusters' / hpc.name / 'document.xml')).find('image')
    found = subprocess.run(['debugfs', '-R', 'ls -p /etc/munge',
                            f'{staged.get("path")}?offset={staged.get("offset")}'],
                           check=True, capture_output=True)
    assert b'munge.key' not in found.stdout
    document = (hpc.temp / 'clusters' / hpc.name / 'document.xml').read_bytes()
    assert b'munge' not in document


def test_tools_know_the_nodes(hpc):
    assert sorted(root(hpc, 'pdsh -a -N hostname')) == COMPUTE
    assert sorted(root(hpc, 'clush -N -g compute hostname')) == COMPUTE
    assert root(hpc, 'ssh compute-0 getent hosts compute-1')[0].split()[1] == 'compute-1'
    root(hpc, 'ssh compute-1 chronyc waitsync 30 0 0 10')
    assert root(hpc, 'ssh compute-1 chronyc -n sources')[-1].split()[:2] == ['^*', '10.1.1.1']


def test_nothing_failed_and_nothing_is_accounted(hpc):
    for node in ('frontend', *COMPUTE):
        command = 'systemctl list-units --state=failed --plain --no-legend'
        assert root(hpc, command if node == 'frontend' else f'ssh {node} {command}') == []
    told, = root(hpc, 'scontrol show config | grep AccountingStorageType')
    assert told.split()[-1] in ('accounting_storage/none', '(null)')


def idle(site):
    """The names of the nodes that Slurm has, and their states."""
    return dict(line.split() for line in root(site, 'sinfo -h -N -o "%N %T"'))


def test_nodes_join_and_leave_while_a_job_runs(hpc):
    """Nothing is restarted: the job and the daemons are those of before."""
    daemons = 'systemctl show -P MainPID slurmctld munge pragma-hpc-serve'
    before = root(hpc, daemons)
    job, = user(hpc, 'sbatch --parsable -w compute-0 --wrap "sleep 3600; true"')
    hpc.run('vc-resize', '--num-cpus', CPUS + 2, hpc.name)
    hpc.wait(hpc.name)
    assert list(idle(hpc)) == [*COMPUTE, 'compute-2'] and idle(hpc)['compute-2'] == 'idle'
    user(hpc, 'echo for all >joined')
    assert user(hpc, 'srun -w compute-2 cat joined') == ['for all']
    # The nodes that were there know its name, too.
    assert root(hpc, 'ssh compute-0 getent hosts compute-2')[0].split()[1] == 'compute-2'
    last, = user(hpc, 'sbatch --parsable -w compute-2 --wrap "sleep 5; hostname" -o last')
    hpc.run('vc-resize', '--num-cpus', 2, hpc.name)
    assert list(idle(hpc)) == ['compute-0']
    # The job on a node that left was awaited.
    assert user(hpc, 'cat last') == ['compute-2'] and last != job
    assert root(hpc, 'pdsh -a -N hostname') == ['compute-0']
    assert user(hpc, f'squeue -h -j {job} -o %T') == ['RUNNING']
    assert root(hpc, daemons) == before
    user(hpc, f'scancel {job}')


def test_a_cluster_that_was_stopped_starts_again(hpc):
    """The second boot of the same disks: the frontend has exports, a key and jobs of before."""
    key = root(hpc, 'sha256sum </etc/munge/munge.key')
    last, = user(hpc, "sbatch --parsable --wait --wrap hostname")
    hpc.run('vc-shutdown', '--timeout', 300, hpc.name)
    hpc.run('vc-start', hpc.name)
    hpc.wait(hpc.name)
    assert idle(hpc) == {'compute-0': 'idle'}
    assert user(hpc, 'srun hostname; cat shared') == ['compute-0', 'from the frontend']
    assert root(hpc, 'sha256sum </etc/munge/munge.key') == key
    following, = user(hpc, 'sbatch --parsable --wrap hostname')
    assert int(following) > int(last)
    assert root(hpc, 'systemctl list-units --state=failed --plain --no-legend') == []
