"""The states of clusters' nodes, as the hosts and the nodes' consoles tell them now."""
from lxml import etree

from ..document.tree import nodes, put
from ..engine import console, storage
from ..engine.domain import domain_name
from ..engine.libvirt import ACTIVE
from ..engine.registry import URI, engine
from ..system.failure import Failure

NO_STATE, PAUSED, CRASHED = 0, 3, 6
"""Of virDomainState."""


class View:
    """What the hosts of some nodes say of them: each host is asked once, for all of them."""

    def __init__(self, hosts, ledger):
        self._hosts = hosts
        self._ledger = ledger
        self._domains = {}
        self._consoles = {}
        self.moved = []

    def look(self, some, ask=True):
        """Look at ``some`` nodes now; without ``ask`` at their consoles alone.

        Returns the Failure of each host that does not answer, by its URI; the state of its
        nodes is 'unknown'.
        """
        if ask:
            uris = {engine(node.get('host')) for node in some}
            self._domains = dict.fromkeys(uris, {})
            self._domains.update(self._hosts.ask(filter(URI.match, uris),
                                                 lambda host: host.domains()))
        self._consoles = {}
        running = [node for node in some if self._runs(node)]
        for place, group in storage.by_place(running, self._hosts, self._ledger):
            self._consoles.update(place.consoles(group))
        return {uri: told for uri, told in self._domains.items() if isinstance(told, Failure)}

    def facts(self, node):
        """What libvirt says of a node's domain (Host.domains), None where it knows of none."""
        told = self._domains[engine(node.get('host'))]
        return None if isinstance(told, Failure) else told.get(domain_name(node))

    def _runs(self, node):
        facts = self.facts(node)
        return facts is not None and facts['state'] in ACTIVE and facts['state'] != PAUSED

    def said(self, node):
        """What a running node's guest said since it was started: {'ready': '', …}."""
        return console.said(self._consoles.get(node, b''))

    def state(self, node):
        """A node's state; None for a node that libvirt does not know.

        'ready' and 'failed' are the guest's own words.
        """
        if isinstance(self._domains[engine(node.get('host'))], Failure):
            return 'unknown'
        facts = self.facts(node)
        if facts is None:
            return None
        if facts['state'] == NO_STATE:
            return 'unknown'
        if facts['state'] == CRASHED:
            return 'failed'
        if facts['state'] not in ACTIVE:
            return 'stopped'
        said = self.said(node)
        return 'ready' if 'ready' in said else 'failed' if 'failed' in said else 'running'

    def set_states(self, root):
        """Put a <state> into each node that libvirt knows, and take it from those it does not.

        A node that its engine moved gets the ``host`` where it is now, and is one of ``moved``.
        """
        for node in nodes(root):
            host = (self.facts(node) or {}).get('host', node.get('host'))
            if host != node.get('host'):
                node.set('host', host)
                self.moved.append(node)
            told, old = self.state(node), node.find('state')
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
