"""What an image author wrote: checked, with its paths resolved. vc-in.xml is half-trusted."""
import os
import stat
from typing import NamedTuple

from lxml import etree

from ..system.failure import Failure, cause
from . import permit
from .requirement import Requirement, insist
from .tree import ROLES, put, rules_of

LIBVIRT_SCHEMA = '/usr/share/libvirt/schemas/domain.rng'


def resolve(root, base, path, name=None):
    """Add <source> and make each disk's file absolute, below the folder ``base``.

    Raises Failure for what is unsafe or cannot be a cluster. A document that was parsed before
    comes out as it went in.
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
    """What an author wrote of a role, and the folder that its image's path is taken from."""

    domain: etree._Element
    role: str
    base: str
    parsed: bool


def _harmless(author):
    permit.refuse(author.domain, author.role)
    return 'nothing of the domain reaches into the host'


def _cards(author):
    # That the second is the public one, <public>eth1</public>, the schema sees to.
    wanted = 2 if author.role == 'frontend' else 1
    count = len(author.domain.findall('devices/interface'))
    if count != wanted:
        raise Failure(f'line {author.domain.sourceline}: the {author.role} has {count} network interfaces, '
                      f'not {wanted}' + (': private first, public second' if wanted == 2 else ''))
    return 'two network interfaces, private first' if wanted == 2 else 'one network interface, private'


def _disk(author):
    disks = author.domain.findall('devices/disk')
    if len(disks) != 1:
        raise Failure(f'line {author.domain.sourceline}: the {author.role} has {len(disks)} disks, not one')
    disk = disks[0]
    kind = disk.find('driver')
    if (disk.get('type') != 'file' or disk.get('device', 'disk') != 'disk'
            or disk.find('source') is None or not disk.find('source').get('file')):
        raise Failure(f"line {disk.sourceline}: the {author.role}'s disk is not a "
                      "<disk type='file' device='disk'> with a <source file=…>")
    if kind is not None and kind.get('type', 'raw') != 'raw':
        raise Failure(f"line {disk.sourceline}: the {author.role}'s disk is '{kind.get('type')}': "
                      "an image must be raw, or raw in .gz")
    return 'one disk, raw'


def _image(author):
    """Makes the path of the image absolute in the document."""
    source = author.domain.find('devices/disk/source')
    source.set('file', _image_path(source.get('file'), author.base, author.role, author.parsed))
    return f"its image is there: '{os.path.basename(source.get('file'))}'"


def _image_path(file, base, role, parsed):
    """The absolute path of an image file; raises Failure for one outside ``base``."""
    if ':' in file or not file.isprintable():
        raise Failure(f"image {file!r} of the {role}: ':' and control characters are refused")
    if os.path.isabs(file) and not parsed:
        raise Failure(f"image '{file}' of the {role} is an absolute path: name it "
                      "relative to the vc-in.xml's folder")
    path = os.path.join(base, file)
    inside = os.path.realpath(base)
    if os.path.commonpath([inside, os.path.realpath(path)]) != inside:
        raise Failure(f"image '{file}' of the {role} lies outside the vc-in.xml's folder '{base}'")
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise Failure(f"cannot open image '{path}' of the {role}: {cause(error)}") from None
    if not stat.S_ISREG(mode):
        raise Failure(f"image '{path}' of the {role} is not a regular file")
    return os.path.normpath(path)


def _valid(author):
    """Check a <domain> against libvirt's own schema, where libvirt is installed."""
    if not os.path.exists(LIBVIRT_SCHEMA):
        return 'the domain is not checked by libvirt, which is not installed'
    rules = rules_of(LIBVIRT_SCHEMA)
    alone = etree.fromstring(etree.tostring(author.domain, with_tail=False)).getroottree()
    if not rules.validate(alone):
        error = rules.error_log[0]
        raise Failure(f"line {author.domain.sourceline + max(error.line, 1) - 1}: the {author.role}'s <domain> "
                      f"is not valid for libvirt: {error.message}")
    return 'the domain is valid for libvirt'


REQUIREMENTS = (
    Requirement('nothing of the domain reaches into the host', _harmless, 'remove it (vc-in.xml(5))', vital=False),
    Requirement('network interfaces', _cards, vital=False),
    Requirement('one disk, raw', _disk),
    Requirement('its image is there', _image),
    Requirement('the domain is valid for libvirt', _valid, vital=False),
)
"""Of each role's <domain>: an Author."""
