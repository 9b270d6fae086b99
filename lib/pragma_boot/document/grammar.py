"""Our RELAX NG schemas, applied to a tree in a time that is linear in its elements.

libxml2 keeps a state for each element of a list of any length, and compares each new state with all
others: 65,000 nodes took it 10 s. Therefore nodes are validated one by one, and of the elements
that a schema does not know only the first in each parent is validated, without its content; of
unknown attributes likewise.
"""
from __future__ import annotations

import functools
import os
import re
from collections import Counter

from lxml import etree

from . import rules

RNG = '{http://relaxng.org/ns/structure/1.0}'
SCHEMAS = os.path.join(os.path.dirname(__file__), 'schema')

NODE = 'cluster/node'

REPEATED = {'image', 'image/change', 'cluster/key', NODE, f'{NODE}/interface'}
"""The paths of elements that a document may have several of, each of which is validated."""

LAST_LINE = 65535
"""The largest line number that an element can be given."""


@functools.cache
def rules_of(path: str) -> etree.RelaxNG:
    """The RELAX NG schema in a file, parsed once."""
    return etree.RelaxNG(etree.parse(path))


def _path(schema: str) -> str:
    return os.path.join(SCHEMAS, f'{schema}.rng')


@functools.cache
def _of(element: str) -> etree.RelaxNG:
    """The schema of a <cluster> or <node> by itself: that of a document, with another <start>."""
    grammar = etree.parse(_path('document'))
    include = grammar.find(f'{RNG}include')
    start = etree.SubElement(include, f'{RNG}start')
    etree.SubElement(start, f'{RNG}ref', name=element)
    return etree.RelaxNG(grammar)


def fault(root: etree._Element, schema: str) -> rules.Fault | None:
    """The first fault of a tree by 'vc-in' or 'document', None where there is none."""
    grammar = rules_of(_path(schema))
    if _is_little(root) and not _familiar:
        # At once: most documents are little, and a filter starts sooner.
        if not grammar.validate(root.getroottree()):
            return rules.explain(root, schema) or said(grammar)
        if schema == 'document':
            _remember(root)
        return None
    nodes = root.findall(NODE) if schema == 'document' else []
    familiar = bool(nodes) and _is_familiar(root)
    if familiar or grammar.validate(_reduced(root, schema, nodes[:1])):
        others = [] if familiar else nodes[1:]
        bad = _first_invalid(others)
        if bad is None:
            if nodes and not familiar:
                _remember(root)
            return None
        grammar.validate(_reduced(root, schema, [bad]))
    return rules.explain(root, schema) or said(grammar)


OWN: dict[str, rules.Kind] = {'name': rules.NAME, 'fqdn': rules.NAME, 'mac': rules.MAC,
                               'ip': rules.ADDRESS, 'path': rules.PATH}
"""Attributes below a <node> whose values differ from node to node, with the schema's patterns."""

FORMS = 100
"""Forms of nodes that are remembered."""


def _first_invalid(nodes: list[etree._Element]) -> etree._Element | None:
    """The first <node> that the schema refuses, None where there is none.

    Nodes that differ in valid values of OWN alone are valid alike. libxml2 takes 50 us for a node.
    """
    patterns = {name: re.compile(kind.pattern) for name, kind in OWN.items()}
    valid: set[tuple] = set()
    for node in nodes:
        form = _form(node, patterns)
        if form not in valid:
            if not _of('node').validate(node):
                return node
            if len(valid) < FORMS:
                valid.add(form)
    return None


def _form(element: etree._Element, patterns: dict[str, re.Pattern[str]]) -> tuple:
    """What an element is, with the names of attributes in the place of valid values of OWN."""
    tail = (element.tail or '').strip()
    if not isinstance(element.tag, str):
        # Of a comment the text does not matter; text behind it is a fault.
        return '', tail
    values = [name if name in patterns and patterns[name].fullmatch(value) else f'{name}={value}'
              for name, value in element.items()]
    return (element.tag, (element.text or '').strip(), tail, *values,
            *(_form(child, patterns) for child in element))


LITTLE = 1000
"""Elements and attributes of a tree that libxml2 validates as a whole in milliseconds."""


def _is_little(root: etree._Element) -> bool:
    """Whether a tree has few elements and attributes."""
    count = 0
    for element in root.iter(etree.Element):
        count += 1 + len(element.attrib)
        if count > LITTLE:
            return False
    return True


_familiar: dict[bytes, None] = {}
"""What a few valid documents have outside of their <cluster>s: of one entry, all have the same."""

FAMILIAR = 16

SMALL = 64
"""Elements of a <cluster> that may be validated together."""


def _outside(root: etree._Element) -> bytes:
    """What a document has outside of its <cluster>s."""
    start = [root.tag, root.text or '', *(f'{name}={root.get(name)}' for name in root.attrib)]
    return b'\0'.join([*(word.encode() for word in start), *(
        (child.tail or '').encode() if child.tag == 'cluster' else etree.tostring(child)
        for child in root)])


def _remember(root: etree._Element) -> None:
    """Remember what a valid document has outside of its <cluster>."""
    if len(root.attrib) > FAMILIAR:
        # To read them all would take a time that is quadratic in them.
        return
    if len(_familiar) >= FAMILIAR:
        _familiar.pop(next(iter(_familiar)))
    _familiar[_outside(root)] = None


def _is_familiar(root: etree._Element) -> bool:
    """Whether a document is one of the last valid ones with another <cluster>, which is valid.

    Only of small clusters, of which a ledger may have thousands.
    """
    clusters = root.findall('cluster')
    if (not _familiar or len(clusters) != 1 or len(clusters[0]) > SMALL
            or len(root.attrib) > FAMILIAR):
        return False
    return _outside(root) in _familiar and _of('cluster').validate(clusters[0])


def said(grammar: etree.RelaxNG) -> rules.Fault:
    """What libxml2 says of the tree that ``grammar`` refused last.

    Of an element that is one too many it does not tell the line: that is the parent's then.
    """
    errors = list(grammar.error_log)
    return next((error.line for error in errors if error.line), 0), errors[0].message


def _reduced(root: etree._Element, schema: str, nodes: list[etree._Element]) -> etree._Element:
    """A copy of a tree, with no <node>s but ``nodes``, that is valid where the tree is.

    Elements that the schema does not know may have any content, and so may a <domain>.
    """
    return _copy(root, '', _names(schema), set(nodes))


@functools.cache
def _names(schema: str) -> frozenset[str]:
    """The names of elements and attributes that a schema has, or does not permit everywhere."""
    names = etree.parse(_path(schema)).xpath(
        '//*[local-name()="element" or local-name()="attribute"]/@name'
        ' | //*[local-name()="name"]/text()')
    below = _names('vc-in') if schema != 'vc-in' else ()
    return frozenset([*map(str, names), *below])


def _copy(element: etree._Element, path: str, known: frozenset[str],
          nodes: set[etree._Element]) -> etree._Element:
    """The reduced copy of an element, whose ``path`` below the root has rules."""
    copy = _emptied(element, known)
    found: Counter[str] = Counter()
    last = None
    for child in element:
        if isinstance(child.tag, str):
            below = f'{path}/{child.tag}'.lstrip('/')
            name = child.tag if child.tag in known else ''
            found[name] += 1
            several = below in REPEATED and (below != NODE or child in nodes)
            if several or (below not in REPEATED and found[name] <= (2 if name else 1)):
                ours = rules.knows(below) or below in REPEATED
                last = _copy(child, below, known, nodes) if ours else _emptied(child, known)
                copy.append(last)
        # Text between elements is a fault wherever the schema permits none.
        if child.tail and child.tail.strip():
            if last is None:
                copy.text = (copy.text or '') + child.tail
            else:
                last.tail = (last.tail or '') + child.tail
    return copy


def _emptied(element: etree._Element, known: frozenset[str]) -> etree._Element:
    """A copy of an element without the elements in it, and with one unknown attribute at most."""
    names = list(element.attrib)
    kept = [name for name in names if name in known]
    kept += [name for name in names if name not in known][:1]
    copy = etree.Element(element.tag, {name: element.get(name) for name in kept}, element.nsmap)
    copy.sourceline = min(element.sourceline or 0, LAST_LINE)
    copy.text = element.text
    return copy
