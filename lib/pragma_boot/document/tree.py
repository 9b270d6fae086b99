"""The <vc> document that flows through the pipe: read it, validate it, find its parts, write it."""
from __future__ import annotations

import os
from collections.abc import Collection
from typing import BinaryIO, NamedTuple

from lxml import etree

from ..system import streams
from ..system.failure import Failure, cause
from . import grammar, rules

ROLES = ('frontend', 'compute')
MAXIMUM_BYTES = {'vc-in': 1 << 20, 'any': 1 << 20, 'document': 64 << 20}


def read(stream: BinaryIO | None, schema: str = 'document',
         subject: str = 'standard input') -> etree._Element:
    """The root of the document on ``stream``, valid by ``schema``; raises Failure with the line.

    ``schema`` is 'vc-in' for what an image author writes, 'document', or 'any' for either. A
    DOCTYPE is refused: only hostile files have one, and an entity that lxml does not resolve would
    become empty text without a message.
    """
    data = streams.read(stream, MAXIMUM_BYTES[schema], subject)
    root = parse(data, subject, schema == 'document')
    if schema == 'any':
        schema = 'vc-in' if root.find('source') is None else 'document'
    validate(root, schema, subject)
    return root


def parse(data: bytes, subject: str, huge: bool = False) -> etree._Element:
    """The tree of an XML document of any kind; raises Failure. A DOCTYPE is refused."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False,
                             huge_tree=huge)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise Failure(f'{subject} is not well-formed XML: {error.msg}') from None
    if root.getroottree().docinfo.doctype:
        raise Failure(f'{subject} has a DOCTYPE, which is refused: remove it')
    return root


def validate(root: etree._Element, schema: str, subject: str) -> None:
    """Check a tree against one of our RELAX NG schemas, and a document by document.rules.

    Raises Failure with the line of the element, the attribute, its value and what is allowed.
    """
    fault = grammar.fault(root, schema)
    if fault is None and schema == 'document':
        fault = rules.check(root)
    if fault:
        raise Failure(f'{subject} line {fault[0]} is not valid: {fault[1]}')


def read_file(path: str, schema: str = 'document') -> etree._Element:
    """The root of the document in a file, as ``read``; raises Failure."""
    try:
        with open(path, 'rb') as stream:
            return read(stream, schema, f"'{path}'")
    except OSError as error:
        raise Failure(f"cannot open '{path}': {cause(error)}") from None


def serialize(root: etree._Element) -> bytes:
    """The document as bytes: UTF-8, with a final newline."""
    return etree.tostring(root, encoding='UTF-8', xml_declaration=False) + b'\n'


def write(root: etree._Element, stdout: BinaryIO | None) -> None:
    """Write the whole document; raises Failure."""
    streams.write(stdout, serialize(root))


def text(element: etree._Element | None) -> str:
    """The text of an element without its comments, '' for no element."""
    return element.xpath('string()').strip() if element is not None else ''


def put(parent: etree._Element, element: etree._Element) -> etree._Element:
    """Append ``element`` to ``parent`` on a line of its own, indented; returns it."""
    depth = sum(1 for _ in parent.iterancestors()) + 1
    etree.indent(element, level=depth)
    last = parent[-1] if len(parent) else None
    if last is None:
        parent.text = '\n' + '  ' * depth
    else:
        last.tail = '\n' + '  ' * depth
    element.tail = '\n' + '  ' * (depth - 1)
    parent.append(element)
    return element


def replace(parent: etree._Element, tag: str, element: etree._Element) -> etree._Element:
    """Append ``element`` after the removal of all children ``tag`` (an XPath step); returns it."""
    for old in parent.xpath(tag):
        previous = old.getprevious()
        if old.getnext() is None and previous is not None:
            previous.tail = old.tail
        parent.remove(old)
    return put(parent, element)


def domain(root: etree._Element, role: str) -> etree._Element:
    """The author's <domain> for a role; raises Failure where the document has none."""
    found = root.find(f'{role}/domain')
    if found is None:
        raise Failure(f'the document has no <domain> for a {role}')
    return found


def image_file(root: etree._Element, role: str) -> str:
    """The path of the author's image for a role; raises Failure where the document has none."""
    path = domain(root, role).xpath(
        "string(devices/disk[not(@device) or @device='disk']/source/@file)")
    if not os.path.isabs(path):
        raise Failure(f'the document has no image file for a {role}: run vc-parse')
    return path


def image_parts(root: etree._Element, role: str) -> list[str]:
    """The paths of the parts of a role's image, as vc-parse found them; [] for a whole file."""
    return [part.get('path') for part in root.iterfind('source/part') if part.get('role') == role]


def image_type(root: etree._Element, role: str) -> str:
    """The <driver type=> of the disk of the author's image for a role, '' where there is none."""
    return domain(root, role).xpath(
        "string(devices/disk[not(@device) or @device='disk']/driver/@type)")


def image(root: etree._Element, role: str) -> etree._Element:
    """The <image> for a role; raises Failure where no image was staged."""
    found = root.find(f"image[@role='{role}']")
    if found is None:
        raise Failure(f'the document has no <image> for a {role}: run vc-stage')
    return found


def cluster(root: etree._Element) -> etree._Element:
    """The <cluster>; raises Failure where none was allocated."""
    found = root.find('cluster')
    if found is None:
        raise Failure('the document has no <cluster>: run vc-allocate')
    return found


def nodes(root: etree._Element, names: Collection[str] = ()) -> list[etree._Element]:
    """The <node>s of the cluster, all or those with these names or FQDNs.

    Raises Failure for one that the cluster does not have.
    """
    found = cluster(root).findall('node')
    # A name goes before an equal FQDN, so that each of them is one node.
    known = {node.get(key): node.get('name') for key in ('fqdn', 'name') for node in found}
    missing = set(names) - set(known)
    if missing:
        raise Failure(f"cluster '{cluster(root).get('name')}' has no node '{min(missing)}'")
    chosen = {known[name] for name in names}
    return [node for node in found if not names or node.get('name') in chosen]


def frontend(root: etree._Element) -> etree._Element:
    """The frontend's <node>; raises Failure where the cluster has none."""
    found = cluster(root).find("node[@role='frontend']")
    if found is None:
        raise Failure(f"cluster '{cluster(root).get('name')}' has no frontend")
    return found


def domain_name(node: etree._Element) -> str:
    """The name of a node's domain: the name of its cluster, '-', and the name of the node."""
    return f"{node.getparent().get('name')}-{node.get('name')}"


def domain_uuid(node: etree._Element) -> str:
    """The UUID of a node's domain: the same at every boot, and another in every other ledger."""
    import uuid
    ledger = node.getparent().get('ledger', '')
    identity = f"{ledger}/{domain_name(node)}/{node.find('interface').get('mac')}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, identity.removeprefix('/')))


def host_name(node: etree._Element) -> str:
    """The node's name in the driver contract: the FQDN of a frontend, otherwise the node's name."""
    return node.get('fqdn') if node.get('role') == 'frontend' else node.get('name')


def interface(node: etree._Element, network: str) -> etree._Element | None:
    """The <interface> of a node on a network, 'private' or 'public'; None for no interface."""
    return node.find(f"interface[@network='{network}']")


SSH = 22


class Dependency(NamedTuple):
    """A <boot_dependency>: the role that nodes wait for, and until when.

    ``type`` is 'clock', until ``seconds`` after its start; 'ready', until its guest says so; or
    'port', until a server answers on TCP ``port``. The last two fail after ``seconds``.
    """

    parent: str
    type: str
    seconds: int
    port: int = SSH


def boot_dependency(root: etree._Element, role: str) -> Dependency | None:
    """What the nodes of a role wait for before they start; None for nothing."""
    found = root.find(f'{role}/boot_dependency')
    if found is None or role == found.get('parent'):
        return None
    wait = found.find('wait')
    if wait is None:
        return Dependency(found.get('parent'), 'clock', 0)
    return Dependency(found.get('parent'), wait.get('type'), int(wait.get('value')),
                      int(wait.get('port', SSH)))
