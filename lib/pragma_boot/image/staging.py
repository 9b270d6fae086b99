"""Staged images: a read-only raw file in TEMP/images for each source file and content.

GNU Make decides what is staged already (lib/stage.mk), and makes several images at a time.
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping

from lxml import etree

from .. import ROOT
from ..document import permit, tree
from ..document.tree import image_file, text
from ..system import files, log, process
from ..system.failure import Failure
from ..system.settings import Settings
from . import bootable, meter, profile, source
from .record import Author
from .staged import MOVE_BACK, check, restore, users, using

MAKEFILE = os.path.join(ROOT, 'lib', 'stage.mk')

def stage(root: etree._Element, roles: Iterable[str], settings: Settings) -> list[etree._Element]:
    """The <image> of each role that has to be staged; raises Failure.

    The name of a record depends on the source file as it is now, on what the author says of it and
    on the profile, so a record that exists is up to date. One whose raw file was removed or changed
    is made again. A role whose nodes have disks keeps its image, whatever became of the source: the
    disks are overlays on it.
    """
    roles = [role for role in roles if not (users(root, role) and _is_unchanged(root, role))]
    if not roles:
        return []
    profiles = settings['profiles_path'] and settings.path_of('profiles_path')
    chosen = profile.find(text(root.find('driver')), profiles)
    sources = {role: image_file(root, role) for role in roles}
    authors = {role: Author(tree.image_type(root, role), text(root.find(f'{role}/partition')),
                            tuple(tree.image_parts(root, role))) for role in roles}
    records = {role: _key(path, authors[role], chosen) for role, path in sources.items()}
    environment = {'PRAGMA_PROFILE': chosen, 'PRAGMA_TOOL': log.name,
                   'PRAGMA_MAXIMUM': str(settings.size('image_max_size'))}
    for role, key in records.items():
        environment[f'PRAGMA_SOURCE_{key}'] = sources[role]
        environment[f'PRAGMA_TYPE_{key}'] = authors[role].type
        environment[f'PRAGMA_PARTITION_{key}'] = authors[role].partition
        environment[f'PRAGMA_PARTS_{key}'] = '\n'.join(authors[role].parts)
    sizes = {records[role]: sum(map(os.path.getsize, authors[role].parts or [path]))
             for role, path in sources.items()}
    with using(settings) as folder:
        _make(folder, settings.number('jobs'), sizes, environment)
        broken = {key: size for key, size in sizes.items() if not _is_whole(folder, key)}
        if broken:
            for key in broken:
                files.remove(os.path.join(folder, f'{key}.xml'))
            _make(folder, settings.number('jobs'), broken, environment)
        found = {role: _read(folder, key) for role, key in records.items()}
    images = []
    for role, image in found.items():
        image.set('role', role)
        _require_same(root, image)
        bootable.require(image, permit.permitted(tree.domain(root, role)))
        _report_changes(image, chosen)
        images.append(image)
    return images


def restage(root: etree._Element, roles: Iterable[str], settings: Settings) -> None:
    """Stage the images of roles again, and put them into the document; raises Failure."""
    for image in stage(root, roles, settings):
        tree.replace(root, f"image[@role='{image.get('role')}']", image)


def _is_unchanged(root: etree._Element, role: str) -> bool:
    """Whether the role's <image> is in the document, and its raw file there as it was made."""
    with contextlib.suppress(Failure):
        check(tree.image(root, role))
        return True
    return False


def _require_same(root: etree._Element, image: etree._Element) -> None:
    """Raise Failure where a new image would take the place of one that disks are overlays on."""
    role = image.get('role')
    old, found = root.find(f"image[@role='{role}']"), users(root, role)
    if not found or old is None or old.get('path') == image.get('path'):
        return
    if os.path.basename(old.get('path')) == os.path.basename(image.get('path')):
        raise Failure(f"staged image '{old.get('path')}' of the {role} is missing, and would be "
                      f"'{image.get('path')}' now: {MOVE_BACK}")
    raise Failure(f"staged image '{old.get('path')}' of the {role} is missing or changed, and "
                  f"'{image.get('source')}' is another image now: {restore(found)}")


def _report_changes(image: etree._Element, chosen: str) -> None:
    """Print, with -v, what the profile changed in an image; warn where it could not be applied."""
    subject = f"image '{image.get('source')}'"
    for change in image.findall('change'):
        log.detail(f'{subject}: {change.text}')
    if image.get('inject') == 'guestfs' and profile.read(chosen):
        log.warn(f"{subject}: guest profile '{os.path.basename(chosen)}' is not applied: "
                 'it edits ext2, ext3 and ext4 with the usual features only')


def _key(path: str, author: Author, chosen: str) -> str:
    import hashlib
    identity = '\n'.join(map(source.identity, author.parts or [path]))
    of = '\n'.join([identity, author.type, author.partition, ''])
    with open(chosen, 'rb') as file:
        return hashlib.sha256(of.encode() + file.read()).hexdigest()[:24]


def _read(folder: str, key: str) -> etree._Element:
    return etree.parse(os.path.join(folder, f'{key}.xml')).getroot()


def _is_whole(folder: str, key: str) -> bool:
    """Whether the raw file that a record tells of is there as it was made."""
    with contextlib.suppress(OSError, etree.XMLSyntaxError, Failure):
        check(_read(folder, key))
        return True
    return False


def _make(folder: str, jobs: int, sizes: Mapping[str, int], environment: Mapping[str, str]) -> None:
    """Run make for records; raises the Failure that the first failed recipe reported.

    ``sizes`` are the bytes of their source files by their keys.
    """
    with meter.drawn(sizes) as descriptor:
        variables = {**os.environ, **environment}
        if descriptor is not None:
            variables['PRAGMA_METER'] = str(descriptor)
        for name in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS'):
            variables.pop(name, None)
        done = process.run(
            process.bound(['make', '--silent', '--no-print-directory', '-C', folder, '-f', MAKEFILE,
                           f'-j{max(jobs, 1)}', *(f'{key}.xml' for key in sorted(sizes))]),
            'cannot stage images', env=variables, statuses=None,
            descriptors=() if descriptor is None else (descriptor,))
    if done.returncode:
        lines = done.stderr.decode(errors='replace').splitlines()
        ours = [line.removeprefix(f'{log.name}: ') for line in lines
                if line.startswith(f'{log.name}: ')]
        raise Failure(ours[0] if ours else f'cannot stage images: {process.last_line(done)}')
