"""Make an entry of the image database from a stock image, all or nothing.

The line of vcdb.txt is written last. What a killed vc-import left is removed or used by the next.
"""
from __future__ import annotations

import contextlib
import fcntl
import filecmp
import os
import re
import shutil
from typing import NamedTuple

from ..document import entry, tree, vcin
from ..image import formats, inspection, profile, source
from ..image.inspection import Found
from ..system import lock, process
from ..system.failure import Failure
from ..system.settings import Settings
from . import newentry, vcdb
from .newentry import VC_IN

SUFFIX = r'(?i)(\.(qcow2|img|raw|gz|xz|zst|bz2))*$'

DRAFT = '.vc-import'
"""The folder in which an entry is made, under the lock of the database."""

MEMORY, LITTLE, MUCH = 1024, 512, 2048
"""MiB of memory: LITTLE where there is no cloud-init to run, MUCH for a system of LARGE."""

LARGE = {'rhel', 'fedora', 'centos'}
"""Families whose systems need more memory for an update than to start."""


class Wish(NamedTuple):
    """The name of the entry, None for the image's; bytes of memory, 0 for ours; and CPUs."""

    name: str | None
    memory: int
    cpus: int


class Done(NamedTuple):
    """The result of ``make``: the entry's name and vc-in.xml; what was found, None if not new."""

    name: str
    path: str
    found: Found | None


def make(image: str, base_path: str, wish: Wish, settings: Settings) -> Done:
    """Make an entry of ``image``, unless there is one of it already; raises Failure."""
    name = vcdb.checked(wish.name or _name_of(image))
    base = newentry.folder_of(base_path)
    source.open_file(image).close()
    if done := _existing(image, base, name):
        return done
    found = inspection.look(image, settings.size('image_max_size'), formats.temporary_folder())
    with lock.on_folder(base, fcntl.LOCK_EX):
        if done := _existing(image, base, name):
            return done
        folder = os.path.join(base, name)
        path = os.path.join(folder, VC_IN)
        # One that a killed vc-import left lacks its line only.
        if not _is_of(path, image):
            if os.path.lexists(folder):
                raise Failure(f"'{folder}' exists and is no entry of the database: remove it, or "
                              'choose another name with --name')
            _write(folder, image, wish, found, settings)
        newentry.add(base, name)
    return Done(name, path, found)


def _name_of(image: str) -> str:
    """The name of an entry from the name of an image's file; raises Failure."""
    stem = re.sub(SUFFIX, '', os.path.basename(image))
    name = re.sub(r'[.-]*\.[.-]*', '.', re.sub('[^A-Za-z0-9._-]+', '-', stem)).strip('.-')
    if not vcdb.is_name(name):
        raise Failure(f"'{stem}' is no name for an entry: choose one with --name")
    return name


def _existing(image: str, base: str, name: str) -> Done | None:
    """The entry of that name, None where there is none; raises Failure where it is not ours."""
    path = newentry.existing(base, name)
    if path is None:
        return None
    if not _is_of(path, image):
        raise Failure(f"there is an entry '{name}' of another image: choose another name with "
                      '--name')
    return Done(name, path, None)


def _is_of(path: str, image: str) -> bool:
    """Whether the frontend of a vc-in.xml has the image, by its content."""
    with contextlib.suppress(Failure, OSError):
        found, = vcin.disks(tree.domain(tree.read_file(path, 'vc-in'), 'frontend'))
        there = os.path.join(os.path.dirname(path), found.find('source').get('file'))
        return os.path.samefile(there, image) or filecmp.cmp(there, image, shallow=False)
    return False


def _write(folder: str, image: str, wish: Wish, found: Found, settings: Settings) -> None:
    """Make the folder of an entry, whole."""
    base, name = os.path.split(folder)
    draft = os.path.join(base, DRAFT)
    shutil.rmtree(draft, ignore_errors=True)
    os.mkdir(draft)
    try:
        os.chmod(draft, 0o755)
        file = f'{name}{_suffix(image)}'
        _bring(image, os.path.join(draft, file))
        root = entry.document(_entry(name, file, image, wish, found))
        newentry.finish(draft, folder, root, settings)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _suffix(image: str) -> str:
    found = re.search(SUFFIX, os.path.basename(image))
    return found[0].lower() if found else ''


def _entry(name: str, file: str, image: str, wish: Wish, found: Found) -> entry.Entry:
    system = found.system
    if system.guest_part:
        driver = 'debian' if system.release.get('ID') == 'debian' else profile.FALLBACK
        memory = LITTLE
    else:
        driver, memory = profile.SEED, MUCH if system.family & LARGE else MEMORY
    return entry.Entry(name, driver, file, found.format, -(-wish.memory >> 20) or memory,
                       wish.cpus, not found.firmware.bios,
                       f'{system.name}, from {os.path.basename(image)} by vc-import')


def _bring(image: str, target: str) -> None:
    """Bring an image to ``target``, read-only: as a link if nobody writes to it, else as a copy.

    A copy shares the blocks of the image where the file system can, and is sparse.
    """
    status = os.stat(image)
    if not status.st_mode & 0o222 and status.st_mode & 0o444 == 0o444:
        with contextlib.suppress(OSError):
            os.link(os.path.realpath(image), target)
            return
    process.run(process.bound(['cp', '--reflink=auto', '--sparse=auto', '--', image, target]),
                f"cannot copy image '{image}'")
    with open(target, 'rb') as file:
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())
