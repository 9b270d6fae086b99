"""Edits of an allocated document that come too late to be applied."""
from lxml import etree

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
        where = 'document' if name in edited else 'ledger'
        return (f"<node> '{name}' is in the {where} alone: it must be one of "
                f"{', '.join(nodes)}")
    for name, node in nodes.items():
        fixed = ['role']
        if node.find('disk') is not None:
            fixed += ['fqdn', 'cpus', 'memory', 'disk_size']
        if fault := _differs(f"<node> '{name}'", node, edited[name], fixed):
            return fault
        cards, others = node.findall('interface'), edited[name].findall('interface')
        if len(cards) != len(others):
            return f"<node> '{name}' has {len(others)} <interface>, and {len(cards)} by the ledger"
        for card, other in zip(cards, others, strict=True):
            fixed = [*RESERVED]
            if node.find('disk') is not None or card.get('network') == 'public':
                fixed += ['ip', 'netmask', 'gw']
            if fault := _differs(f"<interface> of '{name}'", card, other, fixed):
                return fault
    if mine.find('node/disk') is None:
        return ''
    if fault := _differs('<dns>', mine.find('dns'), theirs.find('dns'), ['ip', 'search', 'domain']):
        return fault
    keys, others = ([(key.get('role'), (key.text or '').split()) for key in cluster.iterfind('key')]
                    for cluster in (mine, theirs))
    return '' if keys == others else '<key> differs from the ledger'


def _differs(what: str, one: etree._Element, other: etree._Element, fixed: list[str]) -> str:
    for key in fixed:
        if one.get(key) != other.get(key):
            return (f'{what} has {key}="{other.get(key, "")}", and "{one.get(key, "")}" by the '
                    'ledger')
    return ''
