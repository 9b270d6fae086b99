"""The rows for the HPC image: a first job of Slurm beside guests that merely answer by ssh, and a
node that joins beside a new cluster.
"""
import subprocess

from lab import ROOT

NAME = 'bench-hpc'
COMPUTES = 3
FIRST_JOB = 'ours, until a first job has run on all nodes'
SSH = 'the same guests, until ssh reaches them all'
ONE_MORE = 'ours, one node more, until Slurm has it'
ALL_NEW = f'a new cluster of {COMPUTES + 1} compute nodes, until all are ready'

BOOT = ('bin=$1 key=$2 name=$3 nodes=$4 conf=$5; export PRAGMA_SITE_CONF=$conf; '
        '"$bin/pragma_boot" --vcname hpc --num_cpus "$nodes" --name "$name" --user bench '
        '--key "$key.pub" ')
JOB = (BOOT + '--wait; config=$(mktemp); "$bin/vc-status" -i "$key" --ssh-config "$name" >$config; '
       'ssh -F $config -l bench "frontend.$name" srun -N "$nodes" hostname; rm $config')
# The frontend's own ssh waits for the compute nodes.
LOGIN = (BOOT + r'''; port=$("$bin/vc-status" --xml "$name" |
    sed -n 's/.*network="public".* port="\([0-9]*\)".*/\1/p');
    until ssh -i "$key" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=10 \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p "$port" root@127.0.0.1 '
            for node in $(cut -d " " -f 1 /root/machinefile); do
                until ssh -o BatchMode=yes -o ConnectTimeout=10 $node true; do sleep 0.5; done
            done'; do sleep 0.5; done''')


def _staged(site):
    """Settings for the HPC image, which is built and staged; what removes the cluster."""
    image = ROOT / 'images/hpc/hpc.img.gz'
    subprocess.run(['make', '--no-print-directory', '-C', ROOT, image], check=True)
    conf = site.configured('hpc', drivers_path=ROOT / 'drivers', ve_driver='kvm', accel='auto',
                           base_path=ROOT / 'images')
    parsed = site.tool('vc-parse', ROOT / 'images/hpc/vc-in.xml')
    site.tool('vc-stage', '--site-conf', conf, input=parsed)
    return conf, lambda: site.tool('vc-clean', '--site-conf', conf, NAME)


def ways(site, Way, shell):
    """A whole cluster each time, which runs: nothing else is measured beside it."""
    conf, clean = _staged(site)
    arguments = (ROOT / 'bin', site.key, NAME, COMPUTES, conf)
    return [Way(FIRST_JOB, shell(JOB, *arguments), clean=clean, slow=True),
            Way(SSH, shell(LOGIN, *arguments), clean=clean, slow=True)]


def goals(medians):
    """Slurm and what it needs against ssh."""
    return [('of the time until ssh', medians[FIRST_JOB].seconds / medians[SSH].seconds, 1.25, '')]


def growing_ways(site, Way):
    """One node that joins a running cluster, and a whole cluster of as many nodes."""
    conf, clean = _staged(site)

    def boot(computes):
        return [ROOT / 'bin/pragma_boot', '--vcname', 'hpc', '--num_cpus', str(computes), '--name',
                NAME, '--user', 'bench', '--key', f'{site.key}.pub', '--site-conf', conf, '--wait']
    grow = [ROOT / 'bin/vc-resize', '--site-conf', conf, '--wait', '--num-cpus',
            str(COMPUTES + 1), NAME]
    return [Way(ONE_MORE, grow, clean=clean, slow=True,
                prepare=lambda: site.run(*boot(COMPUTES))),
            Way(ALL_NEW, boot(COMPUTES + 1), clean=clean, slow=True)]


def growing_goals(medians):
    """What a user would do who cannot add a node."""
    return [('of a whole new cluster', medians[ONE_MORE].seconds / medians[ALL_NEW].seconds, 1, '')]
