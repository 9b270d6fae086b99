"""Make one staged image: the raw file, and the record KEY.xml that tells of it."""
from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from lxml import etree

from ..system import confinement, files, guestfish, log
from ..system.lock import exclusive
from . import bootable, formats, overlay, partition, profile, root
from .partition import Partition
from .profile import Rule


class Author(NamedTuple):
    """What an author says of an image: the <driver type=> of its disk, and its root partition.

    '' where he says nothing. ``parts`` are the paths of an image that is in parts.
    """

    type: str
    partition: str
    parts: tuple[str, ...] = ()


def make(key: str, source: str, author: Author, profile_path: str, maximum: int,
         meter: int | None = None) -> None:
    """Unpack, check and edit the image ``source``, and write KEY.xml last; raises Failure.

    Works in the current folder. A second process with the same key waits for the first and then
    finds the record. ``maximum`` is in bytes; ``meter`` is a descriptor for progress.
    """
    folder = os.getcwd()
    with exclusive(os.path.join(folder, f'{key}.lock')):
        if os.path.exists(os.path.join(folder, f'{key}.xml')):
            return
        seeded = os.path.basename(profile_path) == profile.SEED
        rules = [] if seeded else profile.read(profile_path)
        with files.draft(os.path.join(folder, key)) as file:
            draft = files.temporary(os.path.join(folder, key))
            digest = formats.unpack(source, file, maximum, folder, author.type, meter,
                                    author.parts)
            starts = bootable.words(draft, source)
            part, changes = (None, []) if seeded else _prepare(draft, source, author.partition,
                                                               rules)
            size = os.fstat(file.fileno()).st_size
            # The journal of an image for seed disks is not replayed: it is another file.
            other = profile.SEED if seeded else author.partition
            path = os.path.join(folder, _name(source, digest + other, rules))
            # A whole one with the same content may be in use, and stays.
            if not os.path.exists(path) or os.path.getsize(path) != size:
                modified = max(os.stat(path).st_mtime_ns for path in author.parts or [source])
                os.utime(file.fileno(), ns=(modified, modified))
                files.commit(file, draft, path, 0o444)
        image = etree.Element('image', role='', source=source, path=path, size=str(size),
                              modified=str(os.stat(path).st_mtime_ns),
                              **_injection(part))
        if starts:
            image.set('firmware', starts)
        for change in changes:
            etree.SubElement(image, 'change').text = change
        files.write(os.path.join(folder, f'{key}.xml'), etree.tostring(image) + b'\n')


def _injection(part: Partition | None) -> dict[str, str]:
    """The attributes of an <image> that tell how settings reach a node, by a seed disk for None."""
    if part is None:
        return {'inject': 'seed'}
    return {'partition': part.name, 'offset': str(part.offset), 'length': str(part.length),
            'filesystem': part.filesystem, 'inject': part.inject}


def _name(source: str, digest: str, rules: Sequence[Rule]) -> str:
    """The name of the staged file: a word of the source's, and a digest of all that makes it."""
    import hashlib
    word = re.sub('[^A-Za-z0-9_-]+', '-', os.path.basename(source).split('.')[0])[:40]
    content = hashlib.sha256('\n'.join([digest, *map(' '.join, rules)]).encode()).hexdigest()[:16]
    return f'{word}-{content}.raw'


def _prepare(path: str, source: str, told: str,
             rules: Sequence[Rule]) -> tuple[Partition, list[str]]:
    """Check and edit the raw image ``path``: its root partition, and the changes, a line each.

    ``told`` is the root partition where the author names it.
    """
    subject = f"image '{source}'"
    part = root.find(path, source, told)
    if part.inject != 'debugfs':
        return part, []
    if partition.needs_recovery(path, part):
        _replay_journal(path, part, subject)
    with confinement.opened(path) as image:
        partition.check(image.at(part.offset), subject)
    changes = []
    if rules:
        seconds = partition.last_write(path, part)
        with confinement.opened(path, writing=True) as image:
            changes = profile.apply(rules, image.at(part.offset), seconds, subject)
    if changes:
        with confinement.opened(path) as image:
            partition.check(image.at(part.offset), f'{subject} after the edits of its profile')
    return part, changes


def _replay_journal(path: str, part: Partition, subject: str) -> None:
    try:
        with (overlay.scratch_folder(path) as scratch,
              overlay.exported(path, 'raw', part, scratch) as volume):
            volume.run(['e2fsck', '-p', '-E', 'journal_only', volume.device],
                       f'{subject}: cannot replay the journal', statuses=(0, 1))
    except overlay.NoFuse as error:
        log.warn(f'no FUSE ({error}): replaying the journal through libguestfs')
        guestfish.replay_journal(path, part.device, subject)
