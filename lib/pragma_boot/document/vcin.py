"""vc-in.xml, what an image author wrote: check it and resolve its paths. It is half-trusted."""
from __future__ import annotations

import os
import stat
from collections.abc import Collection
from typing import NamedTuple

from lxml import etree

from ..system import names
from ..system.failure import Failure, cause
from ..system.settings import Settings
from . import difference, disksize, hardware, libvirt_schema, parts, permit, refusal, subnet
from .requirement import Doubt, Requirement, insist
from .tree import ROLES, image_file, image_parts, put

INTERFACES = {'frontend': 2, 'compute': 1}

IMAGE_TYPES = ('raw', 'qcow2')
"""Of <driver type=>: what an image is, or what its compressed file holds (image.formats)."""

LEAST_MIB = 128
"""Of memory, below which a kernel of today and its initramfs do not start reliably."""


def resolve(root: etree._Element, base: str, path: str, settings: Settings,
            name: str | None = None) -> etree._Element:
    """Add <source> and make the path of each image absolute; returns ``root``.

    ``base`` is the folder of the vc-in.xml ``path``, ``name`` its name in the database. Raises
    Failure for what is unsafe or cannot be a cluster of the site. A document that was parsed
    before is checked again and stays as it is.
    """
    parsed = root.find('source') is not None
    subnet.check(root, settings)
    authors = [Author(root.find(f'{role}/domain'), role, base, parsed, [])
               for role in ROLES if root.find(f'{role}/domain') is not None]
    for author in authors:
        insist(REQUIREMENTS, author)
    if not parsed:
        source = put(root, etree.Element('source', path=path))
        if name:
            source.set('name', name)
        for author in authors:
            for part in author.parts:
                put(source, etree.Element('part', role=author.role, path=part))
    return root


def warnings(root: etree._Element) -> list[str]:
    """A message for each dropped part of the authors' <domain>s that an author may miss.

    Either libvirt does not know it, because it is misspelt, or a guest may notice its absence.
    """
    return [message for role in ROLES for author in root.findall(f'{role}/domain')
            for message in (*(f'line {one.line}: {one.text} of the {role} is dropped: libvirt does '
                              'not know it' for one in libvirt_schema.unknown(author)),
                            *difference.found(author, role))]


def files(root: etree._Element) -> list[str]:
    """The absolute paths of the images, or of their parts, of a document that was resolved."""
    return list(dict.fromkeys(
        path for role in ROLES if root.find(role) is not None
        for path in image_parts(root, role) or [image_file(root, role)]))


def dropped(root: etree._Element, roles: Collection[str] = ROLES) -> list[str]:
    """A message for each part of the authors' <domain>s that is not carried over."""
    return [f"not carried over from the {role}'s <domain>: {path}"
            for role in roles for author in root.findall(f'{role}/domain')
            for path in permit.dropped(author)]


class Author(NamedTuple):
    """An author's <domain> for a role, and the folder ``base`` that its image is below.

    ``parsed`` is whether vc-parse made the image's path absolute before. ``parts`` gets the paths
    of an image that is in parts.
    """

    domain: etree._Element
    role: str
    base: str
    parsed: bool
    parts: list[str]


def _harmless(author: Author) -> str:
    refusal.refuse(author.domain, author.role)
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


def disks(domain: etree._Element) -> list[etree._Element]:
    """The disks of a <domain>, without CD-ROM and floppy drives."""
    return [disk for disk in domain.findall('devices/disk') if hardware.is_disk(disk)]


def _disk(author: Author) -> str:
    there = disks(author.domain)
    if len(there) != 1:
        raise Failure(f'line {author.domain.sourceline}: the {author.role} has {len(there)} disks, '
                      'not one')
    disk = there[0]
    sources, driver = disk.findall('source'), disk.find('driver')
    if (disk.get('type') != 'file' or disk.get('device', 'disk') != 'disk'
            or len(sources) != 1 or not sources[0].get('file')):
        raise Failure(f"line {disk.sourceline}: the {author.role}'s disk is not a "
                      "<disk type='file' device='disk'> with one <source file=…>")
    if driver is not None and driver.get('type', 'raw') not in IMAGE_TYPES:
        raise Failure(f"line {disk.sourceline}: the {author.role}'s disk is "
                      f"'{driver.get('type')}': an image must be {' or '.join(IMAGE_TYPES)}")
    return 'one disk, raw or qcow2'


def _image(author: Author) -> str:
    """Make the path of the image absolute in the document; an image may be in parts."""
    source = disks(author.domain)[0].find('source')
    file = source.get('file')
    path, root = _inside(file, author), author.domain.getroottree().getroot()
    told = image_parts(root, author.role)
    if not author.parsed and not os.path.lexists(path):
        told = [_inside(part, author) for part in parts.of(root, author.role, file)]
    for number, each in enumerate(told or [path], 1):
        what = f"part {number} '{each}'" if told else f"image '{each}'"
        _require_file(each, f'{what} of the {author.role}')
    author.parts.extend(told)
    source.set('file', path)
    count = f', in {len(told)} parts' if told else ''
    return f"its image is there: '{os.path.basename(path)}'{count}"


def _inside(file: str, author: Author) -> str:
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
    return os.path.normpath(path)


def _require_file(path: str, subject: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise Failure(f'cannot open {subject}: {cause(error)}') from None
    if not stat.S_ISREG(mode):
        raise Failure(f'{subject} is not a regular file')


def _hardware(author: Author) -> str:
    permit.permitted(author.domain)
    return 'a node can have the hardware of the domain'


def _known(author: Author) -> str:
    unknown = [f'line {one.line}: {one.text}' for one in libvirt_schema.unknown(author.domain)]
    if unknown:
        raise Doubt(f"dropped, as libvirt does not know it: {', '.join(unknown)}")
    return 'libvirt knows everything in the domain'


def _differences(author: Author) -> str:
    if messages := difference.found(author.domain, author.role):
        raise Doubt('; '.join(messages))
    return 'nothing that a guest may notice is dropped'


def _size(author: Author) -> str:
    disksize.asked(author.domain)
    mib, cpus = hardware.memory(author.domain) >> 10, hardware.cpus(author.domain)
    if mib < LEAST_MIB:
        raise Doubt(f'{mib} MiB of memory, less than the {LEAST_MIB} MiB that a guest needs to '
                    'start')
    return f"{mib} MiB of memory, {names.cpus(cpus)}"


def _valid(author: Author) -> str:
    """Check what is carried over against libvirt's own schema, where libvirt is installed."""
    if not libvirt_schema.installed():
        return 'the domain is not checked by libvirt, which is not installed'
    libvirt_schema.check(permit.permitted(author.domain))
    return 'what is carried over of the domain is valid for libvirt'


REQUIREMENTS = (
    Requirement('nothing of the domain reaches into the host', _harmless,
                'change or remove it (vc-in.xml(5))', vital=False),
    Requirement('memory and CPUs', _size,
                'change <memory> or <vcpu>; a memory without a unit is KiB', vital=False),
    Requirement('network interfaces', _interfaces, vital=False),
    Requirement('one disk, raw or qcow2', _disk),
    Requirement('its image is there', _image),
    Requirement('a node can have the hardware of the domain', _hardware),
    Requirement('the domain is valid for libvirt', _valid, vital=False),
)
"""What each role's <domain> must be; their subject is an Author."""

DOUBTS = (
    Requirement('what libvirt does not know', _known, vital=False),
    Requirement('what a guest may notice', _differences,
                'remove it if the guest works without it (vc-in.xml(5))', vital=False),
)
"""What an author should know of what is dropped: warnings at most."""
