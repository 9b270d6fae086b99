"""The row for the HPC image: a first job of Slurm, beside guests that merely answer by ssh."""
import subprocess

from lab import ROOT

NAME = 'bench-hpc'
COMPUTES = 3
FIRST_JOB = 'ours, until a first job has run on all nodes'
SSH = 'the same guests, until ssh reaches them all'

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


def ways(site, Way, shell):
    """A whole cluster each time, which runs: nothing else is measured beside it."""
    image = ROOT / 'images/hpc/hpc.img.gz'
    subprocess.run(['make', '--no-print-directory', '-C', ROOT, image], check=True)
    conf = site.configured('hpc', drivers_path=ROOT / 'drivers', ve_driver='kvm', accel='auto',
                           base_path=ROOT / 'images')
    arguments = (ROOT / 'bin', site.key, NAME, COMPUTES, conf)

    def clean():
        site.tool('vc-clean', '--site-conf', conf, NAME)

    # The image is staged once.
    parsed = site.tool('vc-parse', ROOT / 'images/hpc/vc-in.xml')
    site.tool('vc-stage', '--site-conf', conf, input=parsed)
    return [Way(FIRST_JOB, shell(JOB, *arguments), clean=clean, slow=True),
            Way(SSH, shell(LOGIN, *arguments), clean=clean, slow=True)]


def goals(medians):
    """Slurm and what it needs against ssh."""
    return [('of the time until ssh', medians[FIRST_JOB].seconds / medians[SSH].seconds, 1.25, '')]
