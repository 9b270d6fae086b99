"""vc-out.xml: what the guest of one node needs of a document."""
import os

from lxml import etree

from .tree import nodes

STYLESHEET = os.path.join(os.path.dirname(__file__), 'vc-out.xsl')


class Projection:
    """Makes the vc-out.xml of any node of a document."""

    def __init__(self, root: etree._Element) -> None:
        self._tree = root.getroottree()
        self._transform = etree.XSLT(etree.parse(STYLESHEET))

    def of(self, name: str) -> bytes:
        """The vc-out.xml of the node with this name or FQDN; raises Failure for no such node."""
        node, = nodes(self._tree.getroot(), [name])
        return bytes(self._transform(self._tree, node=etree.XSLT.strparam(node.get('name'))))
