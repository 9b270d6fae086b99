"""Seed texts: what cloud-init's NoCloud finds on the seed disk of one node. Pure.

The three texts are a projection of the document, as vc-out.xml is. Each is JSON, which YAML
includes; only the first line of the user-data is a comment. What the guest runs is the guest part
(images/guest), which the user-data brings along.
"""
from __future__ import annotations

import base64
import gzip
import ipaddress
import json
import os
from collections.abc import Sequence
from typing import Any

from lxml import etree

from .. import ROOT
from ..system.failure import Failure
from ..system.scratch import Secret
from . import tree
from .vcout import Projection

GUEST = os.path.join(ROOT, 'images', 'guest')
"""The guest part, as it is installed in other images."""

PROGRAM, INSTALL = 'pragma-guest', 'install'
UNITS = ('pragma-guest.service', 'pragma-guest-ready.service')

FOLDER = '/var/lib/pragma_boot/guest'
"""Where the guest part lies on the node, for its own ``install``."""

DROP_IN = '/etc/systemd/system/{}.d/seed.conf'
CONDITION = b'[Unit]\nConditionPathExists=/root/vc-out.xml\n'
"""In an image that was captured, the units wait until cloud-init has brought the document."""

HEADER = '#cloud-config'

RUN: Sequence[Sequence[str]] = (
    ('sh', f'{FOLDER}/{INSTALL}'),
    # Not start: in an image that was captured from an older cluster, it may have run in this boot.
    ('systemctl', 'restart', UNITS[0]),
    # The host keys are new: sshd began with others. One call, for both may name one service.
    ('sh', '-c', 'systemctl try-restart ssh.service sshd.service || :'),
    ('systemctl', '--no-block', 'restart', UNITS[1]),
)
"""What the first boot runs, in this order. Later boots start the two units on their own."""

DEVICE = 'eth{}'
"""The names of the interfaces in the network-config: cloud-init takes them for a device's name
where it does not go by the MAC."""


class Seeds:
    """Makes the texts of the seed disk of any node of a document."""

    def __init__(self, root: etree._Element) -> None:
        self._projection = Projection(root)
        # Found once: each search passes all nodes of the cluster.
        cluster = tree.cluster(root)
        self._keys = '\n'.join(key.text or '' for key in cluster.iterfind('key'))
        self._dns = cluster.find('dns')
        self._part = [self._file(f'{FOLDER}/{name}', _content(name), mode) for name, mode in
                      ((PROGRAM, '0755'), (INSTALL, '0755'), *((unit, '0644') for unit in UNITS))]
        self._part += [self._file(DROP_IN.format(unit), CONDITION, '0644') for unit in UNITS]

    def of(self, name: str, private_key: bytes | None = None) -> dict[str, bytes]:
        """The content of each file of the seed disk by its name; raises Failure for no such node.

        ``private_key`` is the cluster's, which the frontend gets.
        """
        node = self._projection.node(name)
        files = [Secret('vc-out.xml', self._projection.of(name))]
        if private_key is not None and node.get('role') == 'frontend':
            files.append(Secret('.ssh/id_ed25519', private_key))
        return {'meta-data': _json(meta_data(node, self._keys)),
                'user-data': f'{HEADER}\n'.encode() + _json(self._user_data(node, files)),
                'network-config': _json(network_config(node, self._dns))}

    def _user_data(self, node: etree._Element, files: Sequence[Secret]) -> dict[str, Any]:
        """What cloud-init does on a node; the rest is left to the guest part."""
        settings: dict[str, Any] = {
            # The guest part sets names, hosts and root's keys, at each boot.
            'preserve_hostname': True, 'manage_etc_hosts': False, 'disable_root': False,
            'ssh_genkeytypes': ['ed25519'],
            # An image may lack locales. Not the boolean, which the schema of 22.4 refuses.
            'locale': 'false',
            'package_update': False, 'package_upgrade': False,
            # These modules took 20 of 200 s. A node does not install GRUB again, and the guest part
            # prints the host key.
            'grub_dpkg': {'enabled': False},
            'ssh': {'emit_keys_to_console': False}, 'no_ssh_fingerprints': True,
        }
        if node.get('disk_size') is not None:
            settings |= {'growpart': {'mode': 'auto', 'devices': ['/']}, 'resize_rootfs': True}
        written = [self._file(f'/root/{file.path}', file.content, '0600') for file in files]
        return {**settings, 'write_files': [*written, *self._part],
                'runcmd': [list(command) for command in RUN]}

    @staticmethod
    def _file(path: str, content: bytes, mode: str) -> dict[str, str]:
        """An entry of write_files, byte for byte."""
        packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
        return {'path': path, 'encoding': 'gz+b64', 'permissions': mode, 'content': packed}


def meta_data(node: etree._Element, keys: str) -> dict[str, str]:
    """The identity of an instance: another one for each reservation of a cluster of that name.

    ``keys`` are the cluster's <key>s, a line each.

    The cluster's own key is made anew with each reservation, so that a disk that was captured from
    an older cluster is taken for a new instance.
    """
    import uuid
    identity = uuid.uuid5(uuid.UUID(tree.domain_uuid(node)), keys)
    return {'instance-id': f'pragma-{identity}', 'local-hostname': node.get('name')}


def network_config(node: etree._Element, dns: etree._Element) -> dict[str, Any]:
    """The addresses of a node by MAC, and the cluster's <dns>, in cloud-init's version 2."""
    cards = node.findall('interface')
    ethernets = {}
    for index, card in enumerate(cards):
        if card.get('ip') is None or card.get('netmask') is None:
            raise Failure(f"node '{node.get('name')}' has no address on the "
                          f"{card.get('network')} network")
        address = ipaddress.IPv4Interface(f"{card.get('ip')}/{card.get('netmask')}")
        settings: dict[str, Any] = {
            'match': {'macaddress': card.get('mac')}, 'dhcp4': False, 'dhcp6': False,
            'addresses': [address.with_prefixlen]}
        if card is cards[-1]:
            if gateway := card.get('gw'):
                route: dict[str, Any] = {'to': '0.0.0.0/0', 'via': gateway}
                if ipaddress.IPv4Address(gateway) not in address.network:
                    route['on-link'] = True
                settings['routes'] = [route]
            settings['nameservers'] = {'addresses': dns.get('ip').replace(',', ' ').split(),
                                       'search': dns.get('search').split()}
        ethernets[DEVICE.format(index)] = settings
    return {'version': 2, 'ethernets': ethernets}


def _content(name: str) -> bytes:
    with open(os.path.join(GUEST, name), 'rb') as file:
        return file.read()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode() + b'\n'
