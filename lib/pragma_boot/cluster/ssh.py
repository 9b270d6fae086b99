"""How ssh logs in to a node: it verifies the host key that the node reported on its console.

An external driver's nodes have no console that we can read: ssh asks about their keys as usual.
"""
from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from lxml import etree

from ..document import tree
from ..engine.protocol import Engine
from ..engine.registry import Engines
from ..system import process
from ..system.failure import Failure
from . import frontend, hostkey
from .ledger import Ledger

CONNECT_SECONDS = 60
"""A guest on a busy machine without KVM takes long to exchange keys."""


class Route(NamedTuple):
    """The address of a node, a port if it is not the usual one, and ssh's options by their names.

    A compute node is reached ``through`` its frontend.
    """

    address: str
    port: int | None
    options: dict[str, str]
    through: Route | None = None

    def arguments(self) -> list[str]:
        """The options as arguments of ssh, with that which leads through the frontend."""
        options = dict(self.options)
        if self.through:
            # If ssh ran on the frontend, the frontend would verify the node's host key, and the
            # command would have to be quoted twice.
            *words, last = [shlex.quote(word.replace('%', '%%')) for word in self.through.command()]
            options['ProxyCommand'] = f"{' '.join(words)} -W %h:%p {last}"
        return [word for name, value in options.items() for word in ('-o', f'{name}={value}')]

    def command(self) -> list[str]:
        """The command that logs in as root."""
        port = ['-p', str(self.port)] if self.port else []
        return ['ssh', *self.arguments(), *port, f'root@{self.address}']


def command(root: etree._Element, name: str | None, engines: Engines, ledger: Ledger,
            key: str | None = None) -> list[str]:
    """The command for node ``name`` of a cluster, or for its frontend if it is None.

    ``key`` is the path of the user's private key. Raises Failure for a node that is not ready.
    """
    front = tree.frontend(root)
    node, = tree.nodes(root, [name]) if name else [front]
    found = route(node, engines, ledger, key)
    for one in {front, node}:
        if engines[one.get('host')].reports and not hostkey.known(one, engines, ledger):
            raise Failure(f"node '{one.get('name')}' is not ready: it has not reported its host "
                          f"key; 'vc-console {tree.cluster(root).get('name')} {one.get('name')}' "
                          'shows its console')
    return found.command()


def patient(words: list[str]) -> list[str]:
    """An ssh command with a ConnectTimeout, unless the user's configuration of ssh has one."""
    asked = process.run([words[0], '-G', *words[1:]], 'cannot log in', statuses=None)
    if re.search(rb'^connecttimeout [0-9]', asked.stdout, re.M):
        return words
    return [words[0], '-o', f'ConnectTimeout={CONNECT_SECONDS}', *words[1:]]


def route(node: etree._Element, engines: Engines, ledger: Ledger, key: str | None = None) -> Route:
    """The Route to a node; raises Failure where its cluster or itself has no address for it."""
    front = tree.frontend(node.getroottree().getroot())
    public = frontend.public(front)
    if public is None:
        raise Failure('the frontend has no public address')
    engine = engines[front.get('host')]
    options = _options(front, engine, ledger, key)
    if public[1] and engine.server:
        options['ProxyJump'] = engine.server
    to_front = Route('127.0.0.1' if public[1] else public[0], public[1], options)
    if node is front:
        return to_front
    private = tree.interface(node, 'private')
    if private is None or not private.get('ip'):
        raise Failure(f"node '{node.get('name')}' has no private address")
    return Route(private.get('ip'), None,
                 _options(node, engines[node.get('host')], ledger, key), to_front)


def _options(node: etree._Element, engine: Engine, ledger: Ledger,
             key: str | None) -> dict[str, str]:
    """The options of ssh for a node: its host key, and the user's private key."""
    options = {}
    if engine.reports or node.get('role') != 'frontend':
        # Other clusters use the same private addresses, and ports are used again.
        options['HostKeyAlias'] = hostkey.alias(node)
    if engine.reports:
        options |= {'StrictHostKeyChecking': 'yes',
                    'UserKnownHostsFile': _quoted(hostkey.path(node, ledger)),
                    'GlobalKnownHostsFile': '/dev/null', 'UpdateHostKeys': 'no'}
    if key:
        # IdentitiesOnly: the keys of an agent could exhaust the attempts that the server allows.
        options |= {'IdentityFile': _quoted(key), 'IdentitiesOnly': 'yes'}
    return options


def _quoted(path: str) -> str:
    r"""A path as an option of ssh takes it, which interprets %, spaces, " and \."""
    if '\n' in path:
        raise Failure(f'ssh takes no path with a line break: {path!r}')
    return '"' + path.replace('\\', r'\\').replace('"', r'\"').replace('%', '%%') + '"'
