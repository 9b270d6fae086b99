"""The checks of vc-check: an image, or a vc-in.xml with the images that it names."""
import contextlib
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lxml import etree

from ..document import firmware, permit, subnet, tree, vcin
from ..document.requirement import Checklist, Doubt, Requirement
from ..system import confinement
from ..system.settings import Settings
from . import bootable, formats, guest, profile, root, services, source, traces
from .record import Author

BYTE_ORDER_MARK = b'\xef\xbb\xbf'


EDIT = 'change it in the vc-in.xml, as vc-in.xml(5) describes'
"""The remedy of requirements that have none of their own."""


class Image(NamedTuple):
    """The path of an image, and what its author says of it."""

    path: str
    author: Author


Images = dict[Image, dict[str, etree._Element]]
"""The permitted <domain>s of the roles that use an image: {image: {role: <domain>}}."""


def check(path: str, settings: Settings, folder: str,
          of_the_site: Sequence[Requirement] = ()) -> Checklist:
    """The findings of a file; raises Failure where it cannot be read.

    A packed image is unpacked in ``folder``. The subject of the requirements ``of_the_site`` is the
    root of a vc-in.xml that is otherwise right.
    """
    checklist = Checklist()
    images: Images = {Image(path, Author('', '')): {}}
    seeded = False
    if _is_xml(path):
        images, seeded = _check_vc_in(path, settings, checklist, of_the_site)
    for image, domains in images.items():
        _check_image(image, domains, settings.size('image_max_size'), folder, checklist, seeded)
    return checklist


def _is_xml(path: str) -> bool:
    """Whether a file is a vc-in.xml and not an image."""
    with source.open_file(path) as file:
        head = file.read(64).removeprefix(BYTE_ORDER_MARK).lstrip()
    return path.endswith('.xml') or head.startswith(b'<')


def _check_vc_in(path: str, settings: Settings, checklist: Checklist,
                 of_the_site: Sequence[Requirement]) -> tuple[Images, bool]:
    """Check a vc-in.xml; its images, and whether nodes have seed disks."""
    roots: list[etree._Element] = []
    images: Images = {}

    def parse(_: None) -> str:
        roots.append(tree.read_file(path, 'vc-in'))
        return 'the vc-in.xml is well-formed and valid'

    def driver(_: None) -> str:
        name = tree.text(roots[0].find('driver'))
        profiles = settings['profiles_path'] and settings.path_of('profiles_path')
        if doubt := profile.doubt(name, profiles):
            raise Doubt(doubt)
        return f"there is a guest profile '{name}'"
    valid = Requirement('the vc-in.xml is well-formed and valid', parse, EDIT)
    if not checklist.run('', [valid], None):
        checklist.skip('', ['all other requirements'])
        return images, False
    checklist.run('', [Requirement('the guest profile', driver, vital=False)], None)
    network = Requirement('the private network', lambda vc: subnet.check(vc, settings),
                          EDIT, vital=False)
    checklist.run('', [network], roots[0])
    base = os.path.dirname(os.path.abspath(path))
    described = [one if one.remedy else one._replace(remedy=EDIT)
                 for one in (*vcin.REQUIREMENTS, *vcin.DOUBTS)]
    for role in tree.ROLES:
        domain = roots[0].find(f'{role}/domain')
        if domain is None:
            continue
        author = vcin.Author(domain, role, base, False, [])
        checked = checklist.run(role, described, author, {f'{base}/': ''})
        if checked:
            image = Image(vcin.disks(domain)[0].find('source').get('file'), Author(
                tree.image_type(roots[0], role), tree.text(roots[0].find(f'{role}/partition')),
                tuple(author.parts)))
            images.setdefault(image, {})[role] = permit.permitted(domain)
        else:
            checklist.skip(role, ['the content of its image'])
    if checklist.passed:
        checklist.run('', of_the_site, roots[0])
    return images, tree.text(roots[0].find('driver')) == profile.SEED


def _devices(domains: Iterable[etree._Element]) -> tuple[list[str], list[str]]:
    """The disk buses, as in guest.BUSES, and the interface models of permitted domains.

    Those of an image alone are virtio.
    """
    buses = {domain.xpath("concat(devices/disk/target/@bus, substring(' ', 1, "
                          "string-length(devices/controller/@model)), devices/controller/@model)")
             for domain in domains}
    models = {model.get('type') for domain in domains
              for model in domain.findall('devices/interface/model')}
    return sorted(buses or {'virtio'}), sorted(models or {'virtio'})


def _check_image(image: Image, domains: dict[str, etree._Element], maximum: int, folder: str,
                 checklist: Checklist, seeded: bool) -> None:
    """Check an image; ``domains`` are the permitted <domain>s that use it, by role.

    Where nodes have seed disks (``seeded``), any file system will do, and those that debugfs reads
    are looked into.
    """
    path, author = image
    of = 'both' if domains.keys() > {'frontend'} else ''.join(domains)
    names = {f"image '{path}'": 'the image'}
    role = 'frontend' if 'frontend' in domains else ''.join(domains)
    inside = [*guest.REQUIREMENTS, *guest.drivers(*_devices(domains.values())),
              services.commands(role), *services.REQUIREMENTS, traces.REQUIREMENT]
    disk = [*root.REQUIREMENTS, root.CLEAN]
    with contextlib.ExitStack() as stack:
        raw: list[str] = []

        def read(_: None) -> str:
            name, finding = stack.enter_context(formats.readable(path, maximum, folder,
                                                                author.type, author.parts))
            raw.append(name)
            return finding
        readable = Requirement('the image can be unpacked', read,
                               'make a raw or qcow2 image of whole sectors anew')
        if not checklist.run(of, [readable], None, names):
            checklist.skip(of, [one.title for one in [*disk, *inside, bootable.REQUIREMENT]])
            return
        look = root.Look(stack.enter_context(confinement.opened(raw[0])), raw[0],
                         os.path.getsize(raw[0]), f"image '{path}'", author.partition)
        wanted = sorted({firmware.of(domain) for domain in domains.values()})
        # The last finding, whatever the others are.
        stack.callback(checklist.run, of, [bootable.REQUIREMENT],
                       bootable.Disk(look.image, raw[0], look.subject, tuple(wanted)), names)
        if seeded:
            checklist.run(of, [Requirement('', lambda _: 'nodes have seed disks: nothing is '
                                           'written into the image')], None)
            disk = []
            inside = [services.CLOUD_INIT, services.NETWORK, services.commands(role),
                      *guest.drivers(*_devices(domains.values())), traces.REQUIREMENT]
            if not root.is_ext(look):
                return
        if not checklist.run(of, disk, look, names):
            checklist.skip(of, [one.title for one in inside])
            return
        found = guest.Inside(look.volume(), look.subject, services.FOLDERS)
        checklist.run(of, inside, found, names)
