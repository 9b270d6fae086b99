"""libvirt's own schema of a <domain>: what it knows, and whether a permitted <domain> is valid."""
from __future__ import annotations

import copy
import functools
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from lxml import etree

from ..system.failure import Failure
from .grammar import rules_of
from .permit import DISK_BUSES
from .tree import text

PATH = '/usr/share/libvirt/schemas/domain.rng'

INCLUDED = '<include href=[\'"]([^\'"]+)'
NAMED = '<(element|attribute) name=[\'"]([^\'"]+)'
CHOSEN = '<name>([^<]+)</name>'
"""Patterns of the names. To parse the files as XML takes as long as the start of a filter."""

NAMESPACES = 'libvirt.org/schemas/domain/'
"""Part of the namespaces of libvirt's own extensions."""

CAPACITY = 'capacity'
"""The element of a <disk> by which a vc-in.xml asks for its size, as libvirt's <volume> has it."""

METADATA = 'metadata'
"""The element of a <domain> that may contain anything."""


def installed() -> bool:
    """Whether the schema is there: it comes with libvirt."""
    return os.path.exists(PATH)


@functools.cache
def _names() -> Mapping[str, frozenset[str]]:
    """The names of all elements and of all attributes that the schema knows."""
    found: dict[str, set[str]] = {'element': {CAPACITY}, 'attribute': set()}
    files, seen = [PATH], set()
    while files:
        path = files.pop()
        if path in seen or not os.path.exists(path):
            continue
        seen.add(path)
        with open(path, encoding='utf-8') as file:
            schema = file.read()
        files += [os.path.join(os.path.dirname(path), name)
                  for name in re.findall(INCLUDED, schema)]
        for kind, name in re.findall(NAMED, schema):
            found[kind].add(name)
        for names in found.values():
            names.update(re.findall(CHOSEN, schema))
    return {kind: frozenset(names) for kind, names in found.items()}


class Unknown(NamedTuple):
    """An element or attribute of an author's that the schema does not know."""

    line: int
    text: str


def unknown(author: etree._Element) -> list[Unknown]:
    """The attributes, and the outermost elements, whose names the schema knows nowhere.

    Those below <metadata> are the author's own.
    """
    if not installed():
        return []
    found = []
    for child in author.iterchildren(etree.Element):
        name = etree.QName(child)
        foreign = name.namespace and NAMESPACES not in name.namespace
        if foreign or name.localname not in _names()['element']:
            found.append(Unknown(child.sourceline, f'<{name.localname}>'))
        elif name.localname != METADATA:
            found += [Unknown(child.sourceline, f'<{name.localname} {attribute}=>')
                      for attribute in map(str, child.attrib)
                      if attribute not in _names()['attribute']]
            found += unknown(child)
    return found


def check(permitted: etree._Element) -> None:
    """Check a permitted <domain>; raises Failure with the line of the author's element."""
    whole = copy.deepcopy(permitted)
    whole.set('type', 'kvm')
    etree.SubElement(whole, 'name').text = 'node'
    # What each node's domain has of its own, where the schema demands it.
    for path, attributes in (('devices/disk', {'type': 'file', 'device': 'disk'}),
                             ('devices/disk/target', {'dev': DISK_BUSES['ide']}),
                             ('devices/interface', {'type': 'user'}),
                             ('devices/channel', {'type': 'unix'}),
                             ('devices/channel/target', {'type': 'virtio'})):
        for element in whole.findall(path):
            element.attrib.update(attributes)
    rules = rules_of(PATH)
    if rules.validate(whole.getroottree()):
        return
    error = rules.error_log[0]
    for element in reversed(list(whole.iterdescendants())):
        if _is_to_blame(element, rules):
            raise Failure(f"line {element.sourceline}: <{element.tag}> '{text(element)}' is not "
                          'valid for libvirt')
    raise Failure(f'line {error.line}: the <domain> is not valid for libvirt: {error.message}')


def _is_to_blame(element: etree._Element, rules: etree.RelaxNG) -> bool:
    """Whether the <domain> is valid without an element: libxml2 names only one that contains it."""
    parent = element.getparent()
    place = parent.index(element)
    parent.remove(element)
    try:
        return rules.validate(parent.getroottree())
    finally:
        parent.insert(place, element)
