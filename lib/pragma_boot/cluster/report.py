"""What vc-status prints of a cluster whose states are set."""
from collections.abc import Iterator

from lxml import etree

from ..document import tree
from ..engine.protocol import STOPPED
from ..engine.registry import Engines
from . import frontend

HEADER = ('CLUSTER', 'NODE', 'STATE', 'HOST', 'ADDRESS', 'CPUS', 'LOGIN')


def rows(root: etree._Element, engines: Engines) -> Iterator[tuple[str, ...]]:
    """The rows of a table with HEADER, one for each node."""
    cluster = tree.cluster(root)
    for node in tree.nodes(root):
        state = node.find('state')
        login = (frontend.login(node, engines[node.get('host')]) if node.get('role') == 'frontend'
                 else f"ssh {node.get('name')}, on the frontend")
        private = tree.interface(node, 'private')
        yield (cluster.get('name'), node.get('name'), '-' if state is None else state.text,
               node.get('host'), '-' if private is None else private.get('ip', '-'),
               node.get('cpus'), login)


def together(documents: list) -> etree._Element:
    """The documents of several clusters, as one."""
    clusters = etree.Element('clusters')
    clusters.extend(documents)
    return clusters


def states(root: etree._Element, name: str | None = None) -> Iterator[str]:
    """A line for each node, or for node ``name``, as a driver's ``status`` prints it."""
    for node in tree.nodes(root, [name] if name else []):
        # To a driver, a node that was never started is one that does not run.
        yield f"{tree.host_name(node)} {node.findtext('state') or STOPPED}\n"
