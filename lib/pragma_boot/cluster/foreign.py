"""What a driver left: the nodes of its vc-out.xml, and the document of one that left no other file.

Pure, but for ``read``. A driver is trusted to run programs, not to write files without mistakes.
"""
import copy
import ipaddress
import os
import re
import stat
from typing import NamedTuple

from lxml import etree

from ..document import tree
from ..document.tree import domain, put, text
from ..engine.registry import driver_uri
from ..system import names, streams
from ..system.failure import Failure, cause
from .allocation import cpus, memory
from .kinds import MOST_NODES, Size

MAXIMUM_BYTES = 16 << 20
MAC = '([0-9a-f]{2}:){5}[0-9a-f]{2}'


class Node(NamedTuple):
    """A node that a driver is to boot: its <disk>'s path, '' where it is a staged image."""

    role: str
    host_name: str
    path: str = ''


def read(path: str) -> etree._Element:
    """The vc-out.xml that a driver left, in the form of vc-out.xml(5); raises Failure."""
    subject = f"'{path}'"
    try:
        # Not a FIFO, which would have us wait for its other end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Failure(f'{subject} is not a regular file')
        with open(path, 'rb') as file:
            root = tree.parse(streams.read(file, MAXIMUM_BYTES, subject), subject)
    except OSError as error:
        raise Failure(f'cannot open {subject}: {cause(error)}') from None
    try:
        _check(root)
    except Failure as error:
        raise Failure(f"{subject} is not a frontend's vc-out.xml: {error}") from None
    return root


def _check(root: etree._Element) -> None:
    """Raise Failure for anything but the form of a frontend's vc-out.xml."""
    if root.tag != 'vc':
        raise Failure(f'its root element is <{root.tag}>, not <vc>')
    _only(root, 'frontend')
    public, computes = _only(root, 'frontend/public'), root.findall('compute/node')
    if root.find('compute/private') is not None:
        raise Failure("it has a <compute><private>, as a compute node's has")
    if len(computes) > MOST_NODES:
        raise Failure(f'it has {len(computes)} compute nodes, more than {MOST_NODES}')
    # Guests and their resolvers do not tell small letters from capitals.
    seen = {_name(public, 'fqdn').lower()}
    for node in computes:
        name = _name(node, 'name')
        if name.lower() in seen:
            raise Failure(f"line {node.sourceline}: duplicate name '{name}'")
        seen.add(name.lower())
        if node.get('cpus') and not re.fullmatch('[1-9][0-9]{0,3}', node.get('cpus')):
            raise Failure(f"line {node.sourceline}: cpus={node.get('cpus')!r} of <node> "
                          'is not a number of CPUs')
    for element in (public, *root.findall('frontend/private'), *computes):
        _interface(element)


def _only(root: etree._Element, path: str) -> etree._Element:
    """The one element at a path."""
    found = root.findall(path)
    if len(found) != 1:
        raise Failure(f"it has {len(found) or 'no'} <{path.replace('/', '><')}>, not one")
    return found[0]


def _name(element: etree._Element, attribute: str) -> str:
    """An attribute that is a node's name or FQDN."""
    what = f'line {element.sourceline}: {attribute} of <{element.tag}>'
    return names.checked(element.get(attribute, ''), what)


def _interface(element: etree._Element) -> None:
    """Check the addresses of an element, each of which may be empty or missing."""
    for attribute in ('ip', 'netmask', 'gw'):
        value = element.get(attribute)
        try:
            ipaddress.IPv4Address(value or '0.0.0.0')
        except ValueError:
            raise Failure(f'line {element.sourceline}: {attribute}={value!r} of <{element.tag}> '
                          'is not an IPv4 address') from None
    if element.get('mac') and not re.fullmatch(MAC, element.get('mac').lower()):
        raise Failure(f"line {element.sourceline}: mac={element.get('mac')!r} of <{element.tag}> "
                      'is not a MAC address')


def nodes(vc_out: etree._Element, document: etree._Element | None) -> list[Node]:
    """The nodes of a vc-out.xml, the frontend first, with the disks that the document names.

    Raises Failure where the document lacks one of them.
    """
    found = [('frontend', vc_out.find('frontend/public').get('fqdn')),
             *(('compute', node.get('name')) for node in vc_out.iterfind('compute/node'))]
    if document is None:
        return [Node(*one) for one in found]
    disks = {tree.host_name(node): node.xpath('string(disk/@path)')
             for node in tree.nodes(document)}
    for _, name in found:
        if name not in disks:
            raise Failure(f"document.xml has no node '{name}', which vc-out.xml names")
    return [Node(role, name, disks[name]) for role, name in found]


def sizes(vc_out: etree._Element, document: etree._Element | None) -> tuple[Size, list[Size]]:
    """The Size of the frontend and of each compute node, as far as a driver's files show it."""
    if document is None:
        return Size(), [Size(int(node.get('cpus') or 0))
                        for node in vc_out.iterfind('compute/node')]
    frontend = tree.frontend(document)
    every = {node: Size(int(node.get('cpus')), int(node.get('memory')))
             for node in tree.nodes(document)}
    return every.pop(frontend), list(every.values())


def image_path(vc_in: etree._Element, role: str, temp_directory: str) -> str:
    """Where fix_images left the image of a role: in temp_directory, unpacked, with its own name."""
    file = domain(vc_in, role).xpath('string(devices/disk/source/@file)')
    name = os.path.basename(file).removesuffix('.gz')
    if name in ('', '.', '..'):
        raise Failure(f"the vc-in.xml has no image file for a {role}")
    return os.path.join(temp_directory, name)


def document(vc_in: etree._Element, path: str, entry: str, vc_out: etree._Element, cluster: str,
             driver: str) -> etree._Element:
    """The document of a cluster whose driver left only vc-out.xml.

    ``vc_in`` is the author's, at ``path``, the entry ``entry`` of the database. Raises Failure.
    """
    root = copy.deepcopy(vc_in)
    for source in root.iterfind('*/domain/devices/disk/source[@file]'):
        source.set('file', os.path.join(os.path.dirname(path), source.get('file')))
    put(root, etree.Element('source', path=path, name=entry))
    element = etree.Element('cluster', name=cluster)
    host, public = driver_uri(driver), vc_out.find('frontend/public')
    private = vc_out.find('frontend/private')
    private = etree.Element('private') if private is None else private
    computes = vc_out.findall('compute/node')
    fqdn = public.get('fqdn')
    name = 'frontend' if all(node.get('name') != 'frontend' for node in computes) else fqdn
    node = _node(element, 'frontend', name, fqdn, host, domain(root, 'frontend'))
    _add(node, 'private', private)
    if public.get('ip'):
        _add(node, 'public', public)
    for compute in computes:
        name = compute.get('name')
        node = _node(element, 'compute', name, name, host, domain(root, 'compute'),
                     compute.get('cpus'))
        _add(node, 'private', compute, netmask=private.get('netmask'), gw=private.get('ip'))
        for made in node.iter():
            made.sourceline = compute.sourceline
    dns, key = vc_out.find('network/dns'), text(vc_out.find('key'))
    etree.SubElement(element, 'dns', {name: '' if dns is None else dns.get(name, '')
                                      for name in ('ip', 'search', 'domain')})
    if key:
        etree.SubElement(element, 'key').text = key
    put(root, element)
    tree.validate(root, 'document', "the driver's vc-out.xml")
    return root


def _node(cluster: etree._Element, role: str, name: str, fqdn: str, host: str,
          author: etree._Element, count: str | None = None) -> etree._Element:
    return etree.SubElement(cluster, 'node', role=role, name=name, fqdn=fqdn, host=host,
                            cpus=count or str(cpus(author)), memory=str(memory(author)))


def _add(node: etree._Element, network: str, element: etree._Element, **others: str | None) -> None:
    """Add the <interface> of a node, with those attributes that the element has."""
    interface = etree.SubElement(node, 'interface', network=network)
    for name in ('mac', 'ip', 'netmask', 'gw'):
        value = element.get(name) or others.get(name)
        if value:
            interface.set(name, value.lower())
