"""The states of a cluster's nodes, as libvirt and their consoles tell them now."""
from lxml import etree

from . import console
from .document import nodes, put
from .domain import domain_name
from .host import ACTIVE

PAUSED, CRASHED = 3, 6
"""Of virDomainState."""


def state(node, domains, folder):
    """One node's state by ``domains``, what its host's libvirt has (Host.domains).

    'ready' and 'failed' are the guest's own words; None for a node that libvirt does not know.
    """
    facts = domains.get(domain_name(node))
    if facts is None:
        return None
    if facts['state'] == CRASHED:
        return 'failed'
    if facts['state'] not in ACTIVE:
        return 'stopped'
    if facts['state'] == PAUSED:
        return 'running'
    told = console.said(folder, node.get('name'))
    return 'ready' if 'ready' in told else 'failed' if 'failed' in told else 'running'


def set_states(root, domains, folder):
    """Put a <state> into each node that libvirt knows, and take it from those that it does not."""
    for node in nodes(root):
        told = state(node, domains, folder)
        old = node.find('state')
        if told is None:
            if old is not None:
                node.remove(old)
        elif old is not None:
            old.text = told
        else:
            element = etree.Element('state')
            element.text = told
            put(node, element)
    return root
