"""The checks of vc-check: an image, or a vc-in.xml with the images that it names."""
import contextlib
import os
from collections.abc import Iterable

from lxml import etree

from ..document import permit, tree, vcin
from ..document.requirement import Checklist, Requirement
from ..system import confinement
from . import formats, guest, partition

BYTE_ORDER_MARK = b'\xef\xbb\xbf'


def check(path: str, maximum: int, folder: str) -> Checklist:
    """The findings of a file; raises Failure where it cannot be read.

    An image of more than ``maximum`` bytes is refused. A packed image is unpacked in ``folder``.
    """
    checklist = Checklist()
    images = _check_vc_in(path, checklist) if _is_xml(path) else {path: {}}
    for image, domains in images.items():
        _check_image(image, domains, maximum, folder, checklist)
    return checklist


def _is_xml(path: str) -> bool:
    """Whether a file is a vc-in.xml and not an image."""
    with formats.open_source(path) as file:
        head = file.read(64).removeprefix(BYTE_ORDER_MARK).lstrip()
    return path.endswith('.xml') or head.startswith(b'<')


def _check_vc_in(path: str, checklist: Checklist) -> dict[str, dict[str, etree._Element]]:
    """Check a vc-in.xml; its images: {path: {role: the permitted <domain>}}."""
    roots: list[etree._Element] = []
    images: dict[str, dict[str, etree._Element]] = {}

    def parse(_: None) -> str:
        roots.append(tree.read_file(path, 'vc-in'))
        return 'the vc-in.xml is well-formed and valid'
    valid = Requirement('the vc-in.xml is well-formed and valid', parse)
    if not checklist.run('', [valid], None):
        checklist.skip('', ['all other requirements'])
        return images
    base = os.path.dirname(os.path.abspath(path))
    for role in tree.ROLES:
        domain = roots[0].find(f'{role}/domain')
        if domain is None:
            continue
        author = vcin.Author(domain, role, base, False)
        if checklist.run(role, vcin.REQUIREMENTS, author, {f'{base}/': ''}):
            file = domain.find('devices/disk/source').get('file')
            images.setdefault(file, {})[role] = permit.permitted(domain)
        else:
            checklist.skip(role, ['the content of its image'])
    return images


def _devices(domains: Iterable[etree._Element]) -> tuple[list[str], list[str]]:
    """The disk buses and the interface models of domains; the default of each is virtio."""
    buses = {domain.xpath('string(devices/disk/target/@bus)') or 'virtio' for domain in domains}
    models = {interface.xpath('string(model/@type)') or 'virtio'
              for domain in domains for interface in domain.findall('devices/interface')}
    return sorted(buses or {'virtio'}), sorted(models or {'virtio'})


def _check_image(path: str, domains: dict[str, etree._Element], maximum: int, folder: str,
                 checklist: Checklist) -> None:
    """Check an image; ``domains`` are the permitted <domain>s that use it, by role."""
    of = 'both' if domains.keys() > {'frontend'} else ''.join(domains)
    names = {f"image '{path}'": 'the image'}
    inside = [*guest.REQUIREMENTS, *guest.drivers(*_devices(domains.values()))]
    disk = [*partition.REQUIREMENTS, partition.CLEAN]
    with contextlib.ExitStack() as stack:
        raw: list[str] = []

        def read(_: None) -> str:
            name, finding = stack.enter_context(formats.readable(path, maximum, folder))
            raw.append(name)
            return finding
        readable = Requirement('the image is raw, or raw in .gz', read)
        if not checklist.run(of, [readable], None, names):
            checklist.skip(of, [one.title for one in [*disk, *inside]])
            return
        look = partition.Look(stack.enter_context(confinement.opened(raw[0])),
                              os.path.getsize(raw[0]), f"image '{path}'")
        if not checklist.run(of, disk, look, names):
            checklist.skip(of, [one.title for one in inside])
            return
        checklist.run(of, inside, guest.Inside(look.volume(), look.subject), names)
