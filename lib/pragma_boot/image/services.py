"""The programs in an image that the guest part runs, and network services that compete with it."""
from __future__ import annotations

import re
import stat
from collections.abc import Iterable

from ..document.requirement import Doubt, Requirement
from ..system.failure import Failure
from .guest import SYSTEM, WANTS, Inside

PROGRAMS = ('/usr/local/sbin/.', '/usr/local/bin/.', '/usr/sbin/.', '/usr/bin/.', '/sbin/.',
            '/bin/.')

PACKAGES = {'python3': 'python3', 'ip': 'iproute2', 'sshd': 'openssh-server',
            'ssh-keygen': 'openssh-client'}
"""The commands of the guest part, and the Debian packages that have them."""

FRONTEND = {'nft': 'nftables', 'sysctl': 'procps'}
"""Those that it runs on a frontend only."""

NETWORKD = ('/etc/systemd/network/.', '/usr/lib/systemd/network/.', '/lib/systemd/network/.')
NETPLAN = '/etc/netplan/.'
IFUPDOWN, PARTS = '/etc/network/.', '/etc/network/interfaces.d/.'
NETWORK_WANTS = '/etc/systemd/system/network-online.target.wants/.'
SCRIPTS, INIT = '/etc/sysconfig/network-scripts/.', '/etc/rc.d/init.d/.'

FOLDERS = (*PROGRAMS, *NETWORKD, NETPLAN, IFUPDOWN, PARTS, NETWORK_WANTS, SCRIPTS, INIT)
"""What an Inside must list for the functions here."""

STRANGERS = ('connman', 'wicked', 'wickedd', 'network')
"""Services of systemd that manage interfaces, and that the guest part does not keep away."""


def commands(role: str) -> Requirement:
    """The Requirement that an image has the commands; ``role`` is '' where it is not known."""
    def look(inside: Inside) -> str:
        wanted = {**PACKAGES, **(FRONTEND if role == 'frontend' else {})}
        if missing := _missing(inside, wanted):
            packages = dict.fromkeys(wanted[name] for name in missing)
            raise Failure(f"the guest part runs {', '.join(missing)}, and the image has no such "
                          f"command: install {', '.join(packages)} in it")
        if not role and (missing := _missing(inside, FRONTEND)):
            packages = dict.fromkeys(FRONTEND[name] for name in missing)
            raise Doubt(f"there is no {', no '.join(missing)}, which a frontend runs: "
                        f"install {', '.join(packages)} in it for a frontend")
        if _missing(inside, ('hostname',)):
            raise Doubt('there is no command hostname: the guest part does not need it, but other '
                        'programs may: install hostname in the image')
        return 'the commands of the guest part are there'
    return Requirement('the commands of the guest part are there', look, vital=False)


def _cloud_init(inside: Inside) -> str:
    if _missing(inside, ('cloud-init',)):
        raise Failure('there is no cloud-init, which a seed disk is for')
    return 'cloud-init is there'


CLOUD_INIT = Requirement('cloud-init is there', _cloud_init,
                         'install cloud-init in it, or the guest part and name another <driver>',
                         vital=False)
"""What an image must have whose nodes have seed disks."""


def _network(inside: Inside) -> str:
    """Which service configures interfaces as cloud-init tells it (its renderers)."""
    there = [name for name, present in (
        ('systemd-networkd', any(inside.mode(WANTS, f'{name}.service')
                                 for name in ('systemd-networkd', 'systemd-networkd-wait-online'))
         or inside.mode(NETWORK_WANTS, 'systemd-networkd-wait-online.service')),
        ('NetworkManager', _manager(inside)), ('ifupdown', not _missing(inside, ('ifup',))),
        ('netplan', not _missing(inside, ('netplan',)))) if present]
    if not there:
        raise Doubt('there is no network service that cloud-init could configure: '
                    'systemd-networkd and NetworkManager are not enabled, and there is no ifup and '
                    'no netplan; enable or install one in the image')
    return f"cloud-init configures the network through {' or '.join(there)}"


NETWORK = Requirement('a network service for cloud-init', _network, vital=False)


def doubts(inside: Inside, guest_part: bool) -> list[str]:
    """What an image lacks to be a node, by cloud-init unless it has the guest part."""
    found = []
    for requirement in (commands(''), *([] if guest_part else [NETWORK])):
        try:
            requirement.look(inside)
        except Failure as failure:
            found.append(str(failure))
    return found


def _missing(inside: Inside, names: Iterable[str]) -> list[str]:
    return [name for name in names
            if not any(inside.mode(folder, name) for folder in PROGRAMS)]


def _alone(inside: Inside) -> str:
    strangers = [name for name in STRANGERS if inside.mode(WANTS, f'{name}.service')]
    scripts = [name for name in inside.names(SCRIPTS)
               if name.startswith('ifcfg-') and name != 'ifcfg-lo']
    if scripts and inside.mode(INIT, 'network') and not _manager(inside):
        strangers.append(f'network, which reads {scripts[0]}')
    if strangers:
        raise Failure(f"{', '.join(strangers)} would change the node's interfaces, and the guest "
                      'part cannot prevent it: disable the service in the image')
    found = [name for name, present in KEPT_AWAY.items() if present(inside)]
    if found:
        raise Doubt(f"{', '.join(found)} has a configuration of the node's interfaces, which the "
                    "document contradicts: the guest part keeps it away at each boot; disable what "
                    'nodes do not need')
    return 'no other network service manages the interfaces'


def _networkd(inside: Inside) -> bool:
    """Whether systemd-networkd is enabled and has files other than those of systemd itself."""
    enabled = inside.mode(WANTS, 'systemd-networkd.service')
    files = [name for folder in NETWORKD for name in inside.names(folder)
             if name.endswith('.network') and 'pragma_boot' not in name
             and (folder == NETWORKD[0] or not re.match('8[0-9]-', name))]
    return bool(enabled and files)


def _manager(inside: Inside) -> bool:
    return bool(inside.mode(WANTS, 'NetworkManager.service'))


def _netplan(inside: Inside) -> bool:
    return any(name.endswith('.yaml') for name in inside.names(NETPLAN))


def _ifupdown(inside: Inside) -> bool:
    """Whether ifup is there and an interface other than lo is configured."""
    if _missing(inside, ('ifup',)):
        return False
    files = [('/etc/network/interfaces', IFUPDOWN, 'interfaces')]
    files += [(f'{PARTS[:-2]}/{name}', PARTS, name) for name in inside.names(PARTS)]
    return any(re.search(rb'^\s*iface\s+(?!lo\s)', inside.content(path, folder, name), re.M)
               for path, folder, name in files if stat.S_ISREG(inside.mode(folder, name)))


def _dhcpcd(inside: Inside) -> bool:
    return bool(inside.mode(WANTS, 'dhcpcd.service') or inside.mode(SYSTEM, 'dhcpcd.service'))


KEPT_AWAY = {'systemd-networkd': _networkd, 'NetworkManager': _manager, 'netplan': _netplan,
             'ifupdown': _ifupdown, 'dhcpcd': _dhcpcd}
"""Network services that the guest part keeps away, and whether an image has one of them."""

REQUIREMENTS = (
    Requirement('no other network service manages the interfaces', _alone, vital=False),
)
"""What the files of an image must be; their subject is an Inside."""
