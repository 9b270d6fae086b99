"""What an image author wrote: checked, with its paths resolved. vc-in.xml is half-trusted."""
import os
import stat

from lxml import etree

from . import permit
from .document import ROLES, put, rules_of
from .failure import Failure, cause

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
            permit.refuse(found, role)
            _check_interfaces(found, role)
            source = _disk(found, role).find('source')
            source.set('file', _image_path(source.get('file'), base, role, parsed))
            _validate_domain(found, role)
    if not parsed:
        source = put(root, etree.Element('source', path=path))
        if name:
            source.set('name', name)
    return root


def _check_interfaces(found, role):
    wanted = 2 if role == 'frontend' else 1
    count = len(found.findall('devices/interface'))
    if count != wanted:
        raise Failure(f'line {found.sourceline}: the {role} has {count} network interfaces, '
                      f'not {wanted}' + (': private first, public second' if wanted == 2 else ''))


def _disk(found, role):
    """The one disk of a domain."""
    disks = found.findall('devices/disk')
    if len(disks) != 1:
        raise Failure(f'line {found.sourceline}: the {role} has {len(disks)} disks, not one')
    disk = disks[0]
    kind = disk.find('driver')
    if (disk.get('type') != 'file' or disk.get('device', 'disk') != 'disk'
            or disk.find('source') is None or not disk.find('source').get('file')):
        raise Failure(f"line {disk.sourceline}: the {role}'s disk is not a "
                      "<disk type='file' device='disk'> with a <source file=…>")
    if kind is not None and kind.get('type', 'raw') != 'raw':
        raise Failure(f"line {disk.sourceline}: the {role}'s disk is '{kind.get('type')}': "
                      "an image must be raw, or raw in .gz")
    return disk


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


def _validate_domain(found, role):
    """Check a <domain> against libvirt's own schema, where libvirt is installed."""
    if not os.path.exists(LIBVIRT_SCHEMA):
        return
    rules = rules_of(LIBVIRT_SCHEMA)
    alone = etree.fromstring(etree.tostring(found, with_tail=False)).getroottree()
    if not rules.validate(alone):
        error = rules.error_log[0]
        raise Failure(f"line {found.sourceline + max(error.line, 1) - 1}: the {role}'s <domain> "
                      f"is not valid for libvirt: {error.message}")
