"""vc-out.xml: the projection of a document for one node's guest."""
import os

from lxml import etree

from .tree import nodes

STYLESHEET = os.path.join(os.path.dirname(__file__), 'vc-out.xsl')


class Projection:
    """A document's vc-out.xml for any of its nodes."""

    def __init__(self, root):
        self._tree = root.getroottree()
        self._transform = etree.XSLT(etree.parse(STYLESHEET))

    def of(self, name):
        """The vc-out.xml of the node with this name or FQDN as bytes; raises Failure for no such node."""
        node, = nodes(self._tree.getroot(), [name])
        return bytes(self._transform(self._tree, node=etree.XSLT.strparam(node.get('name'))))
