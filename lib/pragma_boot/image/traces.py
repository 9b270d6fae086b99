"""What a node has made or received for itself, and what an image that travels must not have.

TRACES is the one table. It follows the operations of virt-sysprep(1), and what our own guest part
writes. An image adds paths of its own in the files of FOLDER.
"""
from __future__ import annotations

import re
import stat
from collections.abc import Collection, Sequence
from typing import NamedTuple

from ..document.requirement import Doubt, Requirement
from ..system import debugfs
from ..system.confinement import Confined
from ..system.failure import Failure
from ..system.inodes import Found, Tree
from .guest import Inside

FOLDER = '/etc/pragma_boot/identity.d'

MAXIMUM_BYTES = 1 << 16
"""Of a file in FOLDER."""

IDENTITY, REST, KEYS, LOGS, SWAP = 'identity', 'rest', 'keys', 'logs', 'swap'
"""Kinds of traces: vc-check warns of IDENTITY, --keep-keys keeps KEYS, --keep-logs keeps LOGS. Of a
file of SWAP only what is behind its header is a trace."""

PATTERN = r'(/(?!\.\.?(/|\Z))[A-Za-z0-9_.:+@~*-]+)+(/\*\*)?'
"""Of paths: '*' stands for any characters of a name, '/**' at the end for all files below."""


class Trace(NamedTuple):
    """Files of one kind: where they are, and why they must not travel.

    A folder goes with all that is in it. With ``empty`` a file stays, without content.
    """

    pattern: str
    reason: str
    kind: str = IDENTITY
    empty: bool = False


def _all(reason: str, *patterns: str, kind: str = IDENTITY, empty: bool = False) -> list[Trace]:
    return [Trace(pattern, reason, kind, empty) for pattern in patterns]


HOMES = ('/root', '/home/*')

TRACES: Sequence[Trace] = (
    *_all('the document of a node: its addresses, names and keys', '/root/vc-out.xml',
          '/root/.vc-out.xml.pragma-guest'),
    *_all('private keys: those of the cluster and of its users',
          *(f'{home}/.ssh/id_*' for home in HOMES), '/root/.ssh/.id_ed25519.pragma-guest'),
    *_all('the host keys of nodes that were logged in to',
          *(f'{home}/.ssh/known_hosts*' for home in HOMES), kind=REST),
    *_all('who may log in; each new cluster gets its own',
          *(f'{home}/.ssh/authorized_keys*' for home in HOMES), kind=KEYS),
    *_all('what the guest part wrote for one node', '/var/lib/pragma_boot/**',
          '/root/machinefile', kind=REST),
    *_all('names and addresses of one node, which the guest part writes at each boot',
          '/etc/hostname', '/etc/hosts', '/etc/resolv.conf', kind=REST, empty=True),
    *_all('interfaces of one node, which the guest part writes at each boot',
          '/etc/systemd/network/00-00-pragma_boot.network',
          '/etc/NetworkManager/conf.d/zz-pragma_boot.conf', kind=REST),
    *_all('host keys of the SSH server', '/etc/ssh/ssh_host_*key', '/etc/ssh/ssh_host_*key.pub',
          '/etc/dropbear/*_key'),
    *_all('the identity of one machine; systemd makes another', '/etc/machine-id', empty=True),
    *_all('the identity of one machine; D-Bus takes that of systemd', '/var/lib/dbus/machine-id'),
    *_all('a seed must not be the same on two machines', '/var/lib/systemd/random-seed',
          '/var/lib/urandom/random-seed', '/var/lib/random-seed', '/root/.rnd',
          '/root/.gnupg/random_seed'),
    *_all('encrypts the credentials of one machine', '/var/lib/systemd/credential.secret'),
    *_all('addresses that a DHCP server gave to one machine', '/var/lib/dhcp/*.leases*',
          '/var/lib/dhclient/*.lease*', '/var/lib/dhcpcd/**', '/var/lib/NetworkManager/**',
          kind=REST),
    *_all('names of the interfaces of one machine', '/etc/udev/rules.d/70-persistent-net.rules',
          '/etc/udev/rules.d/75-persistent-net-generator.rules', kind=REST),
    *_all("cloud-init's instance: a new one gets its own settings", '/var/lib/cloud/instance',
          '/var/lib/cloud/instances/*', '/var/lib/cloud/data/*', '/var/lib/cloud/sem/*'),
    *_all('the network of one instance, which cloud-init writes again',
          '/etc/netplan/50-cloud-init.yaml', '/etc/network/interfaces.d/50-cloud-init*',
          '/etc/NetworkManager/system-connections/cloud-init-*',
          '/etc/systemd/network/10-cloud-init-*', kind=REST),
    *_all('keys of services that a node made for its cluster', '/etc/munge/munge.key',
          '/etc/krb5.keytab', '/etc/corosync/authkey', '/etc/rndc.key', '/etc/bind/rndc.key',
          '/etc/slurm/*.key', '/var/spool/slurm*/*.key', '/etc/salt/pki/minion/*',
          '/etc/puppetlabs/puppet/ssl/**', '/var/lib/puppet/ssl/**',
          '/var/lib/samba/private/**'),
    *_all('one machine as its distributor knows it', '/etc/sysconfig/rhn/systemid',
          '/etc/pki/consumer/**', '/etc/pki/entitlement/**', '/var/lib/yum/uuid',
          '/etc/insights-client/machine-id'),
    *_all('what a directory told about users, passwords included', '/var/lib/sss/db/**',
          '/var/lib/sss/mc/**', kind=REST),
    *_all('old passwords', '/etc/passwd-', '/etc/shadow-', '/etc/group-', '/etc/gshadow-',
          kind=REST),
    *_all('the memory of programs that crashed', '/var/crash/**', '/var/lib/systemd/coredump/**',
          '/var/spool/abrt/**', kind=REST),
    *_all('files that nobody expects to stay', '/tmp/*', '/var/tmp/*', kind=REST),
    *_all("users' mail", '/var/mail/**', '/var/spool/mail/**', kind=REST),
    *_all('the memory of a machine', '/swapfile', '/swap.img', '/swap/*', '/var/swap', kind=SWAP),
    *_all('who logged in, and when', '/var/log/wtmp', '/var/log/btmp', '/var/log/lastlog',
          '/var/log/faillog', '/var/log/tallylog', kind=LOGS, empty=True),
    *_all('logs', '/var/log/**', kind=LOGS),
    *_all('what users typed', *(f'{home}/{name}' for home in HOMES for name in (
        '.*_history', '.*_history-*', '.lesshst', '.viminfo')), kind=LOGS),
)


class Chosen(NamedTuple):
    """The inodes of the traces in a file system: to remove, to empty, and of swap files."""

    removed: list[Found]
    emptied: list[Found]
    swap: list[Found]


def choose(tree: Tree, kept: Collection[str], volume: Confined, subject: str,
           mounted: str = '/') -> Chosen:
    """Find all traces that are not of a ``kept`` kind; raises Failure.

    ``mounted`` is where a file system without /etc was mounted last.
    """
    chosen = Chosen([], [], [])
    below = '' if mounted == '/' or not mounted.startswith('/') or tree.match('/etc') else mounted
    for trace in [*TRACES, *own(tree, volume, subject)]:
        if trace.kind in kept or not trace.pattern.startswith(f'{below}/'):
            continue
        found = [one for one in tree.match(trace.pattern.removeprefix(below))
                 if _is_one(one, trace)]
        if trace.kind == SWAP:
            chosen.swap.extend(found)
        elif trace.empty:
            chosen.emptied.extend(found)
        else:
            chosen.removed.extend(one for each in found for one in tree.below(each))
    stay = {one.inode for one in chosen.emptied}
    return chosen._replace(removed=[one for one in chosen.removed if one.inode not in stay])


def _is_one(found: Found, trace: Trace) -> bool:
    if trace.kind == SWAP or trace.empty:
        return stat.S_ISREG(found.mode)
    return not (trace.pattern.endswith('/**') and stat.S_ISDIR(found.mode))


def own(tree: Tree, volume: Confined, subject: str) -> list[Trace]:
    """The traces that the image itself names; raises Failure for a line that is no path."""
    traces = []
    for file in tree.match(f'{FOLDER}/*'):
        where = f"{subject}: '{file.path}'"
        if not stat.S_ISREG(file.mode) or file.size > MAXIMUM_BYTES:
            raise Failure(f'{where} is not a file of at most {MAXIMUM_BYTES >> 10} KiB')
        text = debugfs.content(volume, f'<{file.inode}>',
                               debugfs.Entry(file.mode, 0, 0, file.size), subject)
        for count, line in enumerate(text.decode(errors='replace').splitlines(), 1):
            pattern, _, reason = (part.strip() for part in line.partition('#'))
            if pattern and not re.fullmatch(PATTERN, pattern):
                raise Failure(f"{where} line {count} is not an absolute path: {pattern!r}")
            if pattern:
                traces.append(Trace(pattern, reason or 'the image names it'))
    return traces


def _look(inside: Inside) -> str:
    tree = Tree(inside.volume, inside.subject)
    chosen = choose(tree, (REST, KEYS, LOGS, SWAP), inside.volume, inside.subject)
    paths = [one.path for one in (*chosen.removed, *chosen.emptied)
             if stat.S_ISREG(one.mode) and one.size]
    if paths:
        more = f' and {len(paths) - NAMED} more' if len(paths) > NAMED else ''
        raise Doubt(f"{inside.subject}: it has what belongs to one machine, and its nodes would "
                    f"share: {', '.join(paths[:NAMED])}{more}")
    return TITLE


NAMED = 3
"""Paths that one message names."""

TITLE = 'no keys or identity of one machine are in it'

REQUIREMENT = Requirement(TITLE, _look, 'make the image without it', vital=False)
"""Its subject is a guest.Inside. The rest is left to the author."""
