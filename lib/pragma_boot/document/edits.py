"""Edits of an allocated document that come too late to be applied."""
from lxml import etree

from .tree import ROLES, text

RESERVED = ('network', 'mac', 'port', 'bridge', 'virtualport', 'vlan', 'source')


def refused(known: etree._Element, root: etree._Element) -> str:
    """The first edit of a document that cannot be applied, '' where all can.

    ``known`` is the ledger's. What other clusters must not have was given by vc-allocate, and
    never changes. What vc-inject has written to a disk, and what a domain was defined with,
    changes no more once the node has a disk.
    """
    mine, theirs = known.find('cluster'), root.find('cluster')
    nodes = {node.get('name'): node for node in mine.iterfind('node')}
    edited = {node.get('name'): node for node in theirs.iterfind('node')}
    for name in [*edited.keys() - nodes.keys(), *nodes.keys() - edited.keys()]:
        if name in nodes:
            return f"the document lacks <node> '{name}', which the ledger has"
        return f"the ledger has no <node> '{name}'"
    for name, node in nodes.items():
        fixed = ['role']
        if node.find('disk') is not None:
            fixed += ['fqdn', 'cpus', 'memory', 'disk_size']
        if fault := _differs(f"<node> '{name}'", node, edited[name], fixed):
            return fault
        disk, other = node.find('disk'), edited[name].find('disk')
        if disk is not None and other is not None and (fault := _differs(
                f"<disk> of '{name}'", disk, other, sorted({*disk.keys(), *other.keys()}))):
            return fault
        cards, others = node.findall('interface'), edited[name].findall('interface')
        if len(cards) != len(others):
            return f"<node> '{name}' has {len(others)} <interface>, but {len(cards)} in the ledger"
        for card, other in zip(cards, others, strict=True):
            fixed = [*RESERVED]
            if node.find('disk') is not None or card.get('network') == 'public':
                fixed += ['ip', 'netmask', 'gw']
            if fault := _differs(f"<interface> of '{name}'", card, other, fixed):
                return fault
    if mine.find('node/disk') is None:
        return ''
    if fault := _of_authors(known, root):
        return fault
    if fault := _differs('<dns>', mine.find('dns'), theirs.find('dns'), ['ip', 'search', 'domain']):
        return fault
    keys, others = ([(key.get('role'), (key.text or '').split()) for key in cluster.iterfind('key')]
                    for cluster in (mine, theirs))
    return '' if keys == others else '<key> differs from the ledger'


def _of_authors(known: etree._Element, root: etree._Element) -> str:
    """The first edit of the authors' elements that a node with a disk would notice."""
    one, other = text(known.find('driver')), text(root.find('driver'))
    if one != other:
        return f'<driver> is "{other}", but "{one}" in the ledger'
    for role in ROLES:
        disk = known.find(f"cluster/node[@role='{role}']/disk")
        before, now = (tree.find(f'{role}/domain') for tree in (known, root))
        if disk is None or before is None or now is None:
            continue
        if etree.tostring(before, with_tail=False) != etree.tostring(now, with_tail=False):
            old, new = _hardware(before), _hardware(now)
            for path in sorted(old.keys() | new.keys()):
                if path not in new:
                    return f'<domain> of the {role} lacks {path}, which the ledger has'
                if path not in old:
                    return f'<domain> of the {role} has {path}, which the ledger has not'
                if old[path] != new[path]:
                    return (f'<domain> of the {role} has {path} "{new[path]}", but '
                            f'"{old[path]}" in the ledger')
    return ''


def _hardware(author: etree._Element) -> dict[str, str]:
    """What is carried over of a <domain>: {XPath of an attribute or text: its value}."""
    from .permit import permitted
    carried = permitted(author)
    whole, found = carried.getroottree(), {}
    for element in carried.iterdescendants():
        path = whole.getpath(element).removeprefix('/domain/')
        found[path] = text(element)
        found.update((f'{path}/@{name}', value) for name, value in element.attrib.items())
    return found


def _differs(what: str, one: etree._Element, other: etree._Element, fixed: list[str]) -> str:
    for key in fixed:
        if one.get(key) != other.get(key):
            return (f'{what} has {key}="{other.get(key, "")}", but "{one.get(key, "")}" in the '
                    'ledger')
    return ''
