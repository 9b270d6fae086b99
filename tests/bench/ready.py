"""The row for guests of the demo image: all booted, or all from saved states."""
from lab import ROOT

NAME = 'bench-ready'
COMPUTES = 4
BOOTED = 'ours, all nodes booted'
SAVED = 'ours, all nodes from saved states'

RUN = ('bin=$1 key=$2 name=$3 nodes=$4 vcin=$5; export PRAGMA_SITE_CONF=$6; '
       '"$bin/vc-parse" "$vcin" | "$bin/vc-stage" | '
       '"$bin/vc-allocate" --num-cpus "$nodes" --name "$name" --key "$key.pub" | '
       '"$bin/vc-inject" | "$bin/vc-boot" --wait ')
STATE = '--from-saved '


def ways(site, Way, shell):
    """A whole cluster each time, from the staged image, until all nodes are ready."""
    conf = site.configured('ready', accel='auto', cpus_per_node='1', cpu_overcommit='1000')
    vc_in = ROOT / 'images/debian/vc-in.xml'

    def clean():
        site.tool('vc-clean', '--site-conf', conf, NAME)

    def booting(computes, options=''):
        return shell(RUN + options, ROOT / 'bin', site.key, NAME, computes, vc_in, conf)

    def keep_states():
        """Of guests like the nodes: for a cluster of one compute node."""
        site.run(*booting(1, STATE))
        clean()
    return [Way(BOOTED, booting(COMPUTES), clean=clean, slow=True),
            Way(SAVED, booting(COMPUTES, STATE), prepare=keep_states, clean=clean, slow=True)]


def goals(medians):
    """Half of the time until all nodes have booted."""
    return [('of the time of booting', medians[SAVED].seconds / medians[BOOTED].seconds, 0.5, '')]
