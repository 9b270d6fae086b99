"""The rules of a whole document beyond its schema, and what is wrong in words. Pure.

A schema's own message names neither the attribute nor what is allowed: ``explain`` finds both.
``check`` is for what a schema cannot say, such as addresses that must differ.
"""
from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

from lxml import etree

from ..system import names

Fault = tuple[int, str]
"""The line of an element, and what is wrong with it."""

MOST_CPUS = 9999
"""The guest part reads four digits."""


class Kind(NamedTuple):
    """A kind of values: the pattern that each one matches, and words for it."""

    pattern: str
    words: str


def _words(*words: str) -> Kind:
    return Kind('|'.join(map(re.escape, words)), ' or '.join(f"'{word}'" for word in words))


def _up_to(most: int, least: int = 0) -> Kind:
    return Kind('[0-9]{1,9}', f'a whole number from {least} to {most}')


OCTET = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
ADDRESS = Kind(rf'({OCTET}\.){{3}}{OCTET}', 'an IPv4 address such as 10.1.1.1')
NETMASK = Kind(ADDRESS.pattern, 'a netmask in full such as 255.255.0.0')
NAME = Kind(names.PATTERN.replace(r'\Z', '$'), "a name of letters, digits, '-' and '.'")
WORD = '[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?'
ENTRY = Kind(rf'(?=.{{1,63}}$){WORD}(\.{WORD})*', 'the name of an entry of the database')
PATH = Kind('/[^\n]*', 'an absolute path')
COUNT = Kind('0*[1-9][0-9]*', 'a whole number from 1 on')
INTEGER = Kind('-?[0-9]+', 'a whole number')
LINK = Kind(r'[A-Za-z0-9][A-Za-z0-9_.\-]{0,14}', 'a name of at most 15 characters')
MAC = Kind('([0-9a-f]{2}:){5}[0-9a-f]{2}', 'a MAC in small letters such as 52:54:00:00:00:01')
PARTITION = Kind(r'[1-9][0-9]{0,2}|/dev/[\w+.-]+/[\w+.-]+|btrfsvol:/dev/sda[0-9]+/[\w@+./-]+',
                 'the number of a partition, or a logical volume such as /dev/vg0/root')
ANY = Kind('(?s:.*)', 'a text')
USER = Kind(names.USER, 'the name of an ordinary user')
ROLE = _words('frontend', 'compute')

ATTRIBUTES: dict[str, dict[str, Kind]] = {
    'virtualization': {'engine': _words('kvm'), 'type': _words('hvm'), 'arch': _words('x86_64')},
    'frontend/boot_dependency': {'parent': _words('frontend')},
    'compute/boot_dependency': {'parent': _words('frontend')},
    'frontend/boot_dependency/wait': {'type': _words('clock', 'ready', 'port'),
                                      'value': _up_to(86400)},
    'compute/boot_dependency/wait': {'type': _words('clock', 'ready', 'port'),
                                     'value': _up_to(86400)},
    'networks/network': {'name': _words('private')},
    'source': {'path': PATH},
    'image': {'role': ROLE, 'source': PATH, 'path': PATH, 'size': COUNT,
              'inject': _words('debugfs', 'guestfs', 'seed')},
    'cluster': {'name': NAME},
    'cluster/dns': {'ip': ANY, 'search': ANY, 'domain': ANY},
    'cluster/node': {'role': ROLE, 'name': NAME, 'fqdn': NAME, 'host': ANY, 'cpus': COUNT,
                     'memory': Kind(COUNT.pattern, 'a whole number of KiB from 1 on')},
    'cluster/node/interface': {'network': _words('private', 'public'), 'mac': MAC, 'ip': ADDRESS,
                               'netmask': NETMASK},
    'cluster/node/seed': {'path': PATH},
    'cluster/node/disk': {'path': PATH, 'format': _words('qcow2', 'raw')},
}
"""The attributes that an element must have, by its path."""

OPTIONAL: dict[str, dict[str, Kind]] = {
    'source': {'name': ENTRY},
    'image': {'modified': INTEGER, 'partition': PARTITION},
    'cluster': {'ledger': Kind('[0-9a-f]{32}', '32 hexadecimal digits'),
                'user': USER},
    'cluster/node': {'disk_size': Kind(COUNT.pattern, 'a whole number of bytes from 1 on')},
    'cluster/node/interface': {
        'gw': ADDRESS, 'port': _up_to(65535, 1024), 'bridge': LINK, 'source': LINK,
        'virtualport': _words('openvswitch'), 'vlan': _up_to(4094, 1)},
    'cluster/node/disk': {'pool': LINK, 'backing': PATH},
    'cluster/key': {'role': ROLE},
}
"""The attributes that it may have; those of <cluster> and below have no others."""

ROOT_PARTITION: dict[str, Kind] = {'offset': COUNT, 'length': COUNT, 'filesystem': NAME}
"""Those that an <image> must have unless its nodes have seed disks."""

TEXTS: dict[str, Kind] = {
    'driver': Kind(r'[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}', 'the name of a guest profile'),
    'frontend/partition': PARTITION, 'compute/partition': PARTITION,
    'networks/network/ipaddress': ADDRESS,
    'networks/network/netmask': NETMASK,
    'networks/frontend/public': _words('eth1'),
    'cluster/node/state': _words('defined', 'running', 'ready', 'stopped', 'failed', 'unknown'),
}

CHILDREN: dict[str, tuple[str, ...]] = {
    '': ('virtualization', 'driver', 'frontend', 'networks'),
    'frontend': ('domain',), 'compute': ('domain',),
    'networks': ('network', 'frontend'),
    'networks/network': ('ipaddress', 'netmask'), 'networks/frontend': ('public',),
    'cluster': ('node', 'dns'), 'cluster/node': ('interface',),
}
"""The elements that an element must have."""


def explain(root: etree._Element, schema: str = 'document') -> Fault | None:
    """The first fault, in the order of the document, that a schema found; None if it is another."""
    if root.tag != 'vc':
        return root.sourceline or 0, f"the root element is <{root.tag}>: it must be <vc>"
    if schema == 'document' and root.find('source') is None:
        return root.sourceline or 0, '<vc> has no <source>: run vc-parse'
    for path, element in _known(root, ''):
        line, tag = element.sourceline or 0, element.tag
        required, optional = ATTRIBUTES.get(path, {}), OPTIONAL.get(path, {})
        if path == 'image' and element.get('inject') != 'seed':
            required = {**required, **ROOT_PARTITION}
        for name, kind in {**required, **optional}.items():
            value = element.get(name)
            if value is None:
                if name in required:
                    return line, f'<{tag}> has no {name}: it must be {kind.words}'
            elif not _is(kind, value):
                return line, f'<{tag}> has {name}="{value}": it must be {kind.words}'
        if path.startswith('cluster'):
            for name in element.attrib:
                if name not in required and name not in optional:
                    allowed = ', '.join([*required, *optional]) or 'none'
                    return line, f'<{tag}> has an attribute {name}: it may have {allowed}'
        if path in TEXTS and not _is(TEXTS[path], text := element.xpath('string()').strip()):
            return line, f"<{tag}> is '{text}': it must be {TEXTS[path].words}"
        for child in CHILDREN.get(path, ()):
            if element.find(child) is None:
                return line, f'<{tag}> has no <{child}>: it must have one'
    return None


def _known(element: etree._Element, path: str) -> Iterator[tuple[str, etree._Element]]:
    """The elements that the tables tell of, with their paths below the root."""
    yield path, element
    for child in element.iterchildren(etree.Element):
        below = f'{path}/{child.tag}'.lstrip('/')
        if knows(below):
            yield from _known(child, below)


def knows(path: str) -> bool:
    """Whether there are rules for the elements of a path below the root."""
    return any(path in table for table in (ATTRIBUTES, OPTIONAL, TEXTS, CHILDREN))


def _is(kind: Kind, value: str) -> bool:
    """Whether a value is of a kind; of numbers the bounds are in its words."""
    if kind is not PATH:
        value = value.strip()
    if not re.fullmatch(kind.pattern, value):
        return False
    bounds = re.fullmatch('a whole number from ([0-9]+) to ([0-9]+)', kind.words)
    return not bounds or int(bounds[1]) <= int(value) <= int(bounds[2])


def check(root: etree._Element) -> Fault | None:
    """The first fault of a valid document's <cluster>, None where there is none."""
    cluster = root.find('cluster')
    if cluster is None:
        return None
    user = cluster.get('user')
    if user is not None and not names.is_user(user):
        return cluster.sourceline or 0, f'<cluster> has user="{user}": it must be {USER.words}'
    return _of_dns(cluster.find('dns')) or _of_nodes(cluster)


def _of_dns(dns: etree._Element) -> Fault | None:
    line = dns.sourceline or 0
    for word in dns.get('ip').replace(',', ' ').split():
        if not _is(ADDRESS, word):
            return line, f'<dns> has ip="{dns.get("ip")}": it must be {ADDRESS.words}'
    for key in ('search', 'domain'):
        if not all(map(names.is_name, dns.get(key).split())):
            return line, (f'<dns> has {key}="{dns.get(key)}": it must be domains with spaces '
                          "between them, of letters, digits, '-' and '.'")
    return None


def _of_nodes(cluster: etree._Element) -> Fault | None:
    seen: dict[tuple[str, str], str] = {}
    private: tuple[int, int] | None = None
    frontends = 0
    for node in cluster.iterfind('node'):
        line, name = node.sourceline or 0, node.get('name')
        if int(node.get('cpus')) > MOST_CPUS:
            return line, (f"<node> '{name}' has cpus=\"{node.get('cpus')}\": "
                          f'it must be a whole number from 1 to {MOST_CPUS}')
        frontends += node.get('role') == 'frontend'
        if seen.setdefault(('name', name), name) is not name or frontends > 1:
            return line, (f"<node> '{name}' is there twice" if frontends < 2 else
                          f"<node> '{name}' is a second frontend: there must be one")
        for card in node.iterfind('interface'):
            line, network = card.sourceline or 0, card.get('network')
            for key in ('mac', 'ip') if network == 'private' else ('mac',):
                if card.get(key) is None:
                    continue
                other = seen.setdefault((key, card.get(key)), name)
                if other is not name:
                    return line, (f"<interface> of '{name}' has {key}=\"{card.get(key)}\", "
                                  f"which '{other}' has: it must be another")
            if card.get('ip') is None or card.get('netmask') is None:
                # Only in a document that was made from a driver's vc-out.xml.
                continue
            hosts = _hosts(card.get('netmask'))
            if hosts is None or card.get('ip') != card.get('ip').strip():
                return line, (f"<interface> of '{name}' has netmask=\"{card.get('netmask')}\": "
                              f'it must be {NETMASK.words}')
            if network != 'private':
                continue
            number = _number(card.get('ip'))
            private = private or (number & ~hosts, hosts)
            if (number & ~hosts, hosts) != private or number & hosts in (0, hosts):
                subnet = ipaddress.IPv4Network((private[0], 32 - private[1].bit_length()))
                return line, (f"<interface> of '{name}' has ip=\"{card.get('ip')}\" and netmask="
                              f'"{card.get("netmask")}": it must be a host\'s address in the '
                              f'private network {subnet}')
    return None if frontends else (cluster.sourceline or 0, 'no <node> is a frontend')


def _number(address: str) -> int:
    """A valid IPv4 address as a number. ipaddress takes ten times as long, for each of many."""
    return int.from_bytes(map(int, address.split('.')), 'big')


@functools.cache
def _hosts(netmask: str) -> int | None:
    """The bits of an address that tell a netmask's hosts apart; None where it is no netmask."""
    try:
        network = ipaddress.IPv4Network(f'0.0.0.0/{netmask}')
    except ValueError:
        return None
    return int(network.hostmask) if str(network.netmask) == netmask else None
