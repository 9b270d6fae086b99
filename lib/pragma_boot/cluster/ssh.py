"""The ssh command that logs in to a node, which verifies the host key from the node's console.

An external driver's nodes have no console that we can read: ssh asks about their keys as usual.
"""
import shlex

from lxml import etree

from ..document import tree
from ..engine.protocol import Engine
from ..engine.registry import Engines
from ..system.failure import Failure
from . import frontend, hostkey
from .ledger import Ledger


def command(root: etree._Element, name: str | None, engines: Engines, ledger: Ledger,
            key: str | None = None) -> list[str]:
    """The command for node ``name`` of a cluster, or for its frontend if it is None.

    ``key`` is the path of the user's private key. Raises Failure for a node that is not ready.
    """
    front = tree.frontend(root)
    node, = tree.nodes(root, [name]) if name else [front]
    destination = frontend.destination(front, engines[front.get('host')])
    if destination is None:
        raise Failure('the frontend has no public address')
    private = next(node.iterfind("interface[@network='private']")).get('ip')
    if node is not front and not private:
        raise Failure(f"node '{node.get('name')}' has no private address")
    for one in {front, node}:
        if engines[one.get('host')].reports and not hostkey.known(one, engines, ledger):
            raise Failure(f"node '{one.get('name')}' is not ready: it has not reported its host "
                          f"key; 'vc-console {tree.cluster(root).get('name')} {one.get('name')}' "
                          'shows its console')
    to_front = ['ssh', *_options(front, engines[front.get('host')], ledger, key), *destination]
    if node is front:
        return to_front
    # If ssh ran on the frontend, the frontend would verify the node's host key, and the command
    # would have to be quoted twice.
    *words, last = [shlex.quote(word.replace('%', '%%')) for word in to_front]
    proxy = f"{' '.join(words)} -W %h:%p {last}"
    return ['ssh', *_options(node, engines[node.get('host')], ledger, key),
            '-o', f'ProxyCommand={proxy}', f'root@{private}']


def _options(node: etree._Element, engine: Engine, ledger: Ledger, key: str | None) -> list[str]:
    """The options of ssh for a node: its host key, and the user's private key."""
    words = []
    if engine.reports or node.get('role') != 'frontend':
        # Other clusters use the same private addresses, and ports are used again.
        words += ['-o', f'HostKeyAlias={hostkey.alias(node)}']
    if engine.reports:
        words += ['-o', 'StrictHostKeyChecking=yes',
                  '-o', f'UserKnownHostsFile={_quoted(hostkey.path(node, ledger))}',
                  '-o', 'GlobalKnownHostsFile=/dev/null', '-o', 'UpdateHostKeys=no']
    if key:
        # IdentitiesOnly: the keys of an agent could exhaust the attempts that the server allows.
        words += ['-o', f'IdentityFile={_quoted(key)}', '-o', 'IdentitiesOnly=yes']
    return words


def _quoted(path: str) -> str:
    """A path as an option of ssh takes it, which interprets % and spaces."""
    return '"' + path.replace('%', '%%') + '"'
