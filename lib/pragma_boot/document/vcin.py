"""vc-in.xml, what an image author wrote: check it and resolve its paths. It is half-trusted."""
from __future__ import annotations

import os
import stat
from typing import NamedTuple

from lxml import etree

from ..system.failure import Failure, cause
from . import permit
from .requirement import Requirement, insist
from .tree import ROLES, put, rules_of

LIBVIRT_SCHEMA = '/usr/share/libvirt/schemas/domain.rng'

INTERFACES = {'frontend': 2, 'compute': 1}


def resolve(root: etree._Element, base: str, path: str, name: str | None = None) -> etree._Element:
    """Add <source> and make the path of each image absolute; returns ``root``.

    ``base`` is the folder of the vc-in.xml ``path``, ``name`` its name in the database. Raises
    Failure for what is unsafe or cannot be a cluster. A document that was parsed before is checked
    again and stays as it is.
    """
    parsed = root.find('source') is not None
    for role in ROLES:
        found = root.find(f'{role}/domain')
        if found is not None:
            insist(REQUIREMENTS, Author(found, role, base, parsed))
    if not parsed:
        source = put(root, etree.Element('source', path=path))
        if name:
            source.set('name', name)
    return root


class Author(NamedTuple):
    """An author's <domain> for a role, and the folder ``base`` that its image is below.

    ``parsed`` is whether vc-parse made the image's path absolute before.
    """

    domain: etree._Element
    role: str
    base: str
    parsed: bool


def _harmless(author: Author) -> str:
    permit.refuse(author.domain, author.role)
    return 'nothing of the domain reaches into the host'


def _interfaces(author: Author) -> str:
    # Our schema makes the second one public: <public>eth1</public>.
    wanted = INTERFACES[author.role]
    count = len(author.domain.findall('devices/interface'))
    if count != wanted:
        order = ': private first, public second' if wanted == 2 else ''
        raise Failure(f'line {author.domain.sourceline}: the {author.role} has {count} network '
                      f'interfaces, not {wanted}{order}')
    return ('two network interfaces, private first' if wanted == 2 else
            'one network interface, private')


def _disk(author: Author) -> str:
    disks = author.domain.findall('devices/disk')
    if len(disks) != 1:
        raise Failure(f'line {author.domain.sourceline}: the {author.role} has {len(disks)} disks, '
                      'not one')
    disk = disks[0]
    source, driver = disk.find('source'), disk.find('driver')
    if (disk.get('type') != 'file' or disk.get('device', 'disk') != 'disk'
            or source is None or not source.get('file')):
        raise Failure(f"line {disk.sourceline}: the {author.role}'s disk is not a "
                      "<disk type='file' device='disk'> with a <source file=…>")
    if driver is not None and driver.get('type', 'raw') != 'raw':
        raise Failure(f"line {disk.sourceline}: the {author.role}'s disk is "
                      f"'{driver.get('type')}': an image must be raw, or raw in .gz")
    return 'one disk, raw'


def _image(author: Author) -> str:
    """Make the path of the image absolute in the document."""
    source = author.domain.find('devices/disk/source')
    source.set('file', _image_path(source.get('file'), author))
    return f"its image is there: '{os.path.basename(source.get('file'))}'"


def _image_path(file: str, author: Author) -> str:
    """The absolute path of an image; raises Failure for one outside the author's folder."""
    if ':' in file or not file.isprintable():
        raise Failure(f"image {file!r} of the {author.role}: ':' and control characters are "
                      "refused")
    if os.path.isabs(file) and not author.parsed:
        raise Failure(f"image '{file}' of the {author.role} is an absolute path: name it "
                      "relative to the vc-in.xml's folder")
    path = os.path.join(author.base, file)
    inside = os.path.realpath(author.base)
    if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
        raise Failure(f"image '{file}' of the {author.role} lies outside the vc-in.xml's folder "
                      f"'{author.base}'")
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise Failure(f"cannot open image '{path}' of the {author.role}: {cause(error)}") from None
    if not stat.S_ISREG(mode):
        raise Failure(f"image '{path}' of the {author.role} is not a regular file")
    return os.path.normpath(path)


def _valid(author: Author) -> str:
    """Check a <domain> against libvirt's own schema, where libvirt is installed."""
    if not os.path.exists(LIBVIRT_SCHEMA):
        return 'the domain is not checked by libvirt, which is not installed'
    rules = rules_of(LIBVIRT_SCHEMA)
    alone = etree.fromstring(etree.tostring(author.domain, with_tail=False)).getroottree()
    if not rules.validate(alone):
        error = rules.error_log[0]
        raise Failure(f'line {author.domain.sourceline + max(error.line, 1) - 1}: '
                      f"the {author.role}'s <domain> is not valid for libvirt: {error.message}")
    return 'the domain is valid for libvirt'


REQUIREMENTS = (
    Requirement('nothing of the domain reaches into the host', _harmless,
                'remove it (vc-in.xml(5))', vital=False),
    Requirement('network interfaces', _interfaces, vital=False),
    Requirement('one disk, raw', _disk),
    Requirement('its image is there', _image),
    Requirement('the domain is valid for libvirt', _valid, vital=False),
)
"""What each role's <domain> must be; their subject is an Author."""
