"""The <vc> document that flows through the pipe: read, validated, written; and its parts."""
import functools
import os
from typing import NamedTuple

from lxml import etree

from ..system import streams
from ..system.failure import Failure, cause

SCHEMAS = os.path.join(os.path.dirname(__file__), 'schema')
ROLES = ('frontend', 'compute')
MOST_BYTES = {'vc-in': 1 << 20, 'any': 1 << 20, 'document': 64 << 20}


def read(stream, schema='document', subject='standard input'):
    """The tree of the document on ``stream`` (binary), valid by ``schema``.

    ``schema`` is 'vc-in', what an image author writes, 'document', or 'any' of the two. Raises
    Failure with the line. A DOCTYPE is refused: only hostile files have one, and lxml without
    entities would give silently empty text.
    """
    data = streams.read(stream, MOST_BYTES[schema], subject)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False,
                             huge_tree=schema == 'document')
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise Failure(f'{subject} is not well-formed XML: {error.msg}') from None
    if root.getroottree().docinfo.doctype:
        raise Failure(f'{subject} has a DOCTYPE, which is refused: remove it')
    if schema == 'any':
        schema = 'vc-in' if root.find('source') is None else 'document'
    validate(root, schema, subject)
    return root


@functools.cache
def rules_of(path):
    """The RELAX NG schema in a file, made ready once."""
    return etree.RelaxNG(etree.parse(path))


def validate(root, schema, subject):
    """Check a tree against our RELAX NG schema; raises Failure with the line and the reason."""
    rules = rules_of(os.path.join(SCHEMAS, f'{schema}.rng'))
    if not rules.validate(root.getroottree()):
        error = rules.error_log[0]
        raise Failure(f'{subject} line {error.line} is not valid: {error.message}')


def read_file(path, schema='document'):
    """The tree of the document in a file; raises Failure."""
    try:
        with open(path, 'rb') as stream:
            return read(stream, schema, f"'{path}'")
    except OSError as error:
        raise Failure(f"cannot open '{path}': {cause(error)}") from None


def serialize(root):
    """The document as bytes: UTF-8, with a final newline."""
    return etree.tostring(root, encoding='UTF-8', xml_declaration=False) + b'\n'


def write(root, stdout):
    """Write the document whole, once."""
    streams.write(stdout, serialize(root))


def text(element):
    """The text of an element, '' where there is none; comments never change a value."""
    return element.xpath('string()').strip() if element is not None else ''


def put(parent, element, before=None):
    """Append ``element`` on a line of its own, indented as a child of ``parent``."""
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


def replace(parent, tag, element):
    """Append ``element``, in the place of any child ``tag`` (an XPath step) there is."""
    for old in parent.xpath(tag):
        previous = old.getprevious()
        if old.getnext() is None and previous is not None:
            previous.tail = old.tail
        parent.remove(old)
    return put(parent, element)


def domain(root, role):
    """The author's <domain> of a role; raises Failure where the document has none."""
    found = root.find(f'{role}/domain')
    if found is None:
        raise Failure(f"the document has no <domain> for a {role}")
    return found


def image_file(root, role):
    """The path of the author's image of a role; raises Failure where the document has none."""
    path = domain(root, role).xpath('string(devices/disk/source/@file)')
    if not os.path.isabs(path):
        raise Failure(f"the document has no image file for a {role}: run vc-parse")
    return path


def image(root, role):
    """The <image> of a role; raises Failure where it was not staged."""
    found = root.find(f"image[@role='{role}']")
    if found is None:
        raise Failure(f'the document has no <image> for a {role}: run vc-stage')
    return found


def cluster(root):
    """The <cluster>; raises Failure where nothing was allocated."""
    found = root.find('cluster')
    if found is None:
        raise Failure('the document has no <cluster>: run vc-allocate')
    return found


def nodes(root, names=()):
    """The <node>s of the cluster, all or those of these names or FQDNs.

    Raises Failure for one that the cluster lacks.
    """
    found = cluster(root).findall('node')
    # A name goes before an equal FQDN, so that each of them is one node.
    known = {node.get(key): node.get('name') for key in ('fqdn', 'name') for node in found}
    missing = set(names) - set(known)
    if missing:
        raise Failure(f"cluster '{cluster(root).get('name')}' has no node '{min(missing)}'")
    chosen = {known[name] for name in names}
    return [node for node in found if not names or node.get('name') in chosen]


def frontend(root):
    """The frontend's <node>; raises Failure where the cluster has none."""
    found = cluster(root).find("node[@role='frontend']")
    if found is None:
        raise Failure(f"cluster '{cluster(root).get('name')}' has no frontend")
    return found


def domain_name(node):
    """The name of a node's domain: that of its cluster, and its own."""
    return f"{node.getparent().get('name')}-{node.get('name')}"


def host_name(node):
    """The node's name in the driver contract: the frontend's FQDN, a compute node's name."""
    return node.get('fqdn') if node.get('role') == 'frontend' else node.get('name')


def interface(node, network):
    """The node's <interface> on a network, None where it has none."""
    return node.find(f"interface[@network='{network}']")


SSH = 22


class Dependency(NamedTuple):
    """A <boot_dependency>: on which role, and how long.

    'clock' is ``seconds`` after its start; 'ready', and 'port', when a server answers on ``port``,
    at most ``seconds`` from now.
    """

    parent: str
    type: str
    seconds: int
    port: int = SSH


def boot_dependency(root, role) -> Dependency | None:
    """What the nodes of a role wait for before they start, None for nothing."""
    found = root.find(f'{role}/boot_dependency')
    if found is None or role == found.get('parent'):
        return None
    wait = found.find('wait')
    if wait is None:
        return Dependency(found.get('parent'), 'clock', 0)
    return Dependency(found.get('parent'), wait.get('type'), int(wait.get('value')),
                      int(wait.get('port', SSH)))
