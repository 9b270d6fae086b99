"""The files of an HPC node, made from its document. Pure."""
import re
from collections import namedtuple

File = namedtuple("File", "path text mode")
File.__new__.__defaults__ = (0o644,)

HOSTS = "/etc/hosts"
SLURM_CONF = "/etc/slurm/slurm.conf"
CGROUP_CONF = "/etc/slurm/cgroup.conf"
EXPORTS = "/etc/exports.d/pragma_hpc.exports"
BEGIN, END = "# pragma_hpc begin: the compute nodes of this cluster", "# pragma_hpc end"

MOST_NODES = 10000      # for which slurmctld makes room
SHARED = (("/home", "rw"), ("/opt", "ro"))

# Memory that the kernel and the daemons of a node need: Slurm would drain a node with less than it
# was told, and a job should leave the node something.
SYSTEM_KIB = 64 << 10


def slurm_conf(node):
    """Return slurm.conf, which nodes fetch from slurmctld. It names no node: they come and go."""
    return f"""\
# written by pragma-hpc at each boot
ClusterName={node.name[:40].lower()}
SlurmctldHost={node.name}({node.address.ip})
SlurmUser=slurm
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
# Nodes fetch this file, and register themselves with slurmd -Z.
SlurmctldParameters=enable_configless
MaxNodeCount={MOST_NODES}
# slurmctld sends messages to each node itself: nodes do not know all others' addresses at once.
TreeWidth=65533
# A node that was rebooted or lost is used again as soon as it registers.
ReturnToService=2
# Emulated nodes on a busy host are slow.
MessageTimeout=60
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ProctrackType=proctrack/linuxproc
MpiDefault=pmix
PartitionName=compute Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def cgroup_conf(version):
    """Return cgroup.conf for a version of Slurm, as slurmctld -V prints it.

    We use no control groups. Before 23.11 Slurm makes them nonetheless, by default through D-Bus,
    which is not there.
    """
    found = re.search("([0-9]+)\\.([0-9]+)", version)
    new = found and (int(found[1]), int(found[2])) >= (23, 11)
    return "CgroupPlugin=disabled\n" if new else "IgnoreSystemd=yes\n"


def slurmd_options(node):
    """Return /etc/default/slurmd: how this node registers, with its size by the document."""
    words = [f"CPUs={node.cpus}"] if node.cpus else []
    if node.memory:
        words.append(f"RealMemory={real_memory(node.memory)}")
    names = features(node.cpus, node.memory)
    if names:
        words.append("Feature=" + ",".join(names))
    conf = f" --conf '{' '.join(words)}'" if words else ""
    return ("# written by pragma-hpc at each boot\n"
            f'SLURMD_OPTIONS="-Z --conf-server frontend{conf}"\n')


def real_memory(kib):
    """Return the MiB that Slurm gives to jobs of a node's memory; the kernel takes a part of it."""
    return max(1, (kib * 15 // 16 - SYSTEM_KIB) >> 10)


def features(cpus, memory):
    """Return the features of a node by which jobs choose it: sbatch --constraint=cpu8."""
    found = [f"cpu{cpus}"] if cpus else []
    if memory:
        found.append(f"mem{memory >> 10}M" if memory % (1 << 20) else f"mem{memory >> 20}G")
    return found


def exports(node):
    """Return the exports of the frontend; root of a compute node is nobody in them."""
    return "".join(f"{path} {node.address.network}({mode},sync,no_subtree_check)\n"
                   for path, mode in SHARED)


def chrony(node):
    """Return the source of the node's clock: the frontend's, which all nodes have in common."""
    if not node.frontend:
        return "server frontend iburst\n"
    return f"pool 2.debian.pool.ntp.org iburst\nlocal stratum 10\nallow {node.address.network}\n"


def genders(peers):
    """Return /etc/genders, from which pdsh -a and pdsh -g compute take the names of nodes."""
    return "".join(f"{peer.name} compute,cpus={peer.cpus}\n" for peer in peers)


def groups(peers):
    """Return the groups of clustershell: clush -a, clush -g compute."""
    names = ",".join(peer.name for peer in peers)
    return f"all: {names}\ncompute: {names}\n" if names else ""


def ssh_config(peers):
    """Return ssh's configuration for the nodes of the cluster."""
    names = " ".join(["frontend"] + [peer.name for peer in peers])
    return f"Host {names}\n    StrictHostKeyChecking accept-new\n"


def peer_files(peers):
    """Return the Files that tell a node of the compute nodes."""
    return [File("/etc/genders", genders(peers)),
            File("/etc/clustershell/groups.d/local.cfg", groups(peers)),
            File("/etc/ssh/ssh_config.d/pragma_hpc.conf", ssh_config(peers))]


def with_peers(text, peers, own):
    """Return /etc/hosts with the other compute nodes; pragma-guest writes it without them."""
    text = "\n".join(without_block(text.split("\n"), BEGIN, END))
    block = "".join(f"{peer.ip}\t{peer.name}\n" for peer in peers if peer.name != own)
    return f"{text}{BEGIN}\n{block}{END}\n" if block else text


def without_block(lines, begin, end):
    """Return lines without those from the line begin to the line end."""
    if begin not in lines or end not in lines[lines.index(begin):]:
        return lines
    first = lines.index(begin)
    return lines[:first] + lines[lines.index(end, first) + 1:]


def files(node):
    """Return the Files of a node that its document alone decides."""
    if not node.frontend:
        return [File("/etc/default/slurmd", slurmd_options(node)),
                File("/etc/chrony/conf.d/pragma_hpc.conf", chrony(node))]
    return [File(SLURM_CONF, slurm_conf(node)), File(EXPORTS, exports(node)),
            File("/etc/chrony/conf.d/pragma_hpc.conf", chrony(node)), *peer_files(node.peers)]
