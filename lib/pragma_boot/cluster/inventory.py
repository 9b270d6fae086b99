"""Clusters as other programs read them: JSON, an inventory of Ansible, a configuration of ssh.

The same clusters in the same states have the same text: no time and no process is in it.
"""
import hashlib
import json
import shlex
from collections.abc import Iterator

from lxml import etree

from ..document import tree
from ..engine.registry import Engines
from ..system import log
from ..system.failure import Failure
from . import frontend, hostkey, ssh
from .ledger import Ledger


def as_json(documents: list, engines: Engines) -> str:
    """The clusters of documents whose states are set, in the form of vc-status(1)."""
    return _written({'clusters': [_cluster(root, engines) for root in documents]})


def _cluster(root: etree._Element, engines: Engines) -> dict:
    front, source = tree.frontend(root), root.find('source')
    words = frontend.destination(front, engines[front.get('host')])
    return {'name': tree.cluster(root).get('name'),
            'entry': None if source is None else source.get('name'),
            'login': words and shlex.join(['ssh', *words]),
            'nodes': [_node(node) for node in tree.nodes(root)]}


def _node(node: etree._Element) -> dict:
    return {'name': node.get('name'), 'fqdn': node.get('fqdn'), 'role': node.get('role'),
            'state': node.findtext('state'), 'host': node.get('host'),
            'cpus': int(node.get('cpus')), 'memory_kib': int(node.get('memory')),
            'interfaces': [{'network': card.get('network'), 'ip': card.get('ip'),
                            'netmask': card.get('netmask'), 'gateway': card.get('gw'),
                            'mac': card.get('mac')} for card in node.iterfind('interface')]}


def ansible(documents: list, engines: Engines, ledger: Ledger, key: str | None) -> str:
    """An inventory with the groups frontend and compute; JSON, which is YAML too."""
    groups: dict[str, dict] = {'frontend': {}, 'compute': {}}
    for node, route in _routes(documents, engines, ledger, key):
        # Ansible's own name of the socket is that of the address, which other clusters have too.
        digest = hashlib.sha256(hostkey.path(node, ledger).encode()).hexdigest()[:16]
        variables: dict = {
            'ansible_host': route.address, 'ansible_user': 'root',
            'ansible_ssh_common_args': shlex.join(route.arguments()),
            'ansible_control_path': f'%(directory)s/{digest}',
            'pragma_cluster': node.getparent().get('name'), 'pragma_cpus': int(node.get('cpus'))}
        if route.port:
            variables['ansible_port'] = route.port
        groups[node.get('role')][hostkey.alias(node)] = {
            name: _literal(value) if isinstance(value, str) else value
            for name, value in variables.items()}
    return _written({'all': {'children': {name: {'hosts': hosts}
                                          for name, hosts in groups.items()}}})


def ssh_config(documents: list, engines: Engines, ledger: Ledger, key: str | None) -> str:
    """A configuration of ssh_config(5), in which each node is a Host."""
    lines = []
    for node, route in _routes(documents, engines, ledger, key):
        lines += [f'Host {hostkey.alias(node)}', f'  HostName {route.address}', '  User root']
        if route.port:
            lines.append(f'  Port {route.port}')
        lines += [f'  {name} {value}' for name, value in route.options.items()]
        if route.through:
            lines.append(f"  ProxyJump {hostkey.alias(tree.frontend(_root(node)))}")
    return ''.join(f'{line}\n' for line in lines)


def _routes(documents: list, engines: Engines, ledger: Ledger,
            key: str | None) -> Iterator[tuple[etree._Element, ssh.Route]]:
    """Each node and its Route, with a warning for nodes that cannot be reached, or not yet.

    Raises Failure for two nodes that would have one name.
    """
    seen: set[str] = set()
    for root in documents:
        name, silent = tree.cluster(root).get('name'), []
        for node in tree.nodes(root):
            alias = hostkey.alias(node)
            if alias in seen:
                raise Failure(f"two nodes would be called '{alias}': name one cluster at a time")
            seen.add(alias)
            try:
                found = ssh.route(node, engines, ledger, key)
            except Failure as failure:
                log.warn(f"node '{node.get('name')}' of cluster '{name}' is left out: {failure}")
                continue
            if engines[node.get('host')].reports and not _reported(node, engines, ledger):
                silent.append(node.get('name'))
            yield node, found
        if silent:
            log.warn(f"cluster '{name}': no host key yet of {', '.join(silent)}: ssh refuses to "
                     'connect until there is one and vc-status is run again')


def _reported(node: etree._Element, engines: Engines, ledger: Ledger) -> bool:
    """Whether the node's host key is known; a warning where its console cannot be read."""
    try:
        return hostkey.known(node, engines, ledger)
    except Failure as failure:
        log.warn(failure)
        return False


def _root(node: etree._Element) -> etree._Element:
    return node.getroottree().getroot()


def _literal(value: str) -> str:
    """A text that Ansible takes as it is: it is a template of Jinja where it has '{{' or '{%'."""
    return value.replace('{', "{{ '{' }}") if '{' in value else value


def _written(value: dict) -> str:
    return json.dumps(value, indent=2) + '\n'
