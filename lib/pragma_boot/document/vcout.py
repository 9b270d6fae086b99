"""vc-out.xml: what the guest of one node needs of a document."""
import copy
import os

from lxml import etree

from .tree import cluster, nodes

STYLESHEET = os.path.join(os.path.dirname(__file__), 'vc-out.xsl')


class Projection:
    """Makes the vc-out.xml of any node of a document."""

    def __init__(self, root: etree._Element) -> None:
        self._root = root
        every = nodes(root)
        # A name goes before an equal FQDN.
        self._nodes = {node.get(key): node for key in ('fqdn', 'name') for node in every}
        self._transform = etree.XSLT(etree.parse(STYLESHEET))
        # Of the others a compute node is told the frontend alone: without them, the time for all
        # nodes is linear.
        self._alone = etree.Element('vc')
        own = etree.SubElement(self._alone, 'cluster', dict(cluster(root).attrib))
        own.extend(copy.deepcopy(child) for child in cluster(root).iterchildren(etree.Element)
                   if child.get('role') != 'compute' or child.tag != 'node')

    def node(self, name: str) -> etree._Element:
        """The node with this name or FQDN; raises Failure for no such node."""
        return self._nodes[name] if name in self._nodes else nodes(self._root, [name])[0]

    def of(self, name: str) -> bytes:
        """The vc-out.xml of the node with this name or FQDN; raises Failure for no such node."""
        node, root = self.node(name), self._root
        if node.get('role') == 'compute':
            root = copy.deepcopy(self._alone)
            root[0].append(copy.deepcopy(node))
        return bytes(self._transform(root, node=etree.XSLT.strparam(node.get('name'))))
