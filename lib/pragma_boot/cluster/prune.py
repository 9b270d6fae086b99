"""Staged images: which clusters use each one, and the removal of those that none uses.

What a cluster uses is the images of its document in the ledger and the backing images of its
disks. The ledger's lock is held meanwhile, and that of the images' folder, which vc-stage and
vc-inject share: nothing is removed while it is made, or while a disk is made on it. An image that
was staged, and that no cluster has yet, may be removed; vc-allocate stages it again.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections import Counter
from typing import NamedTuple

from lxml import etree

from ..image import staged
from ..system.failure import Failure, cause
from ..system.lock import on_folder
from ..system.settings import Settings
from . import saved
from .ledger import Ledger

POLL_SECONDS = 0.2


class Image(NamedTuple):
    """A staged image: its file name, its bytes on the disk, and the disks of each cluster."""

    name: str
    size: int
    disks: dict[str, int]


def prune(settings: Settings, remove: bool) -> list[Image]:
    """The staged images of a site, by name; with ``remove``, those without clusters are removed.

    Waits for images that are being staged. Raises Failure where a cluster's document cannot be
    read, since what it uses is unknown.
    """
    ledger, folder = Ledger(settings.temporary_directory), staged.folder_of(settings)
    while os.path.isdir(folder):
        with (ledger.changing(), contextlib.suppress(BlockingIOError),
              on_folder(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)):
            images = _images(folder, _users(ledger))
            if remove:
                used = {image.name for image in images if image.disks}
                for state in saved.unused(ledger, used):
                    _discard(state)
                _remove(folder, used)
            return images
        # Not while the ledger is locked: what is being staged may take minutes.
        time.sleep(POLL_SECONDS)
    return []


def _users(ledger: Ledger) -> dict[str, dict[str, int]]:
    """By the name of an image: the clusters that use it, and how many disks of each."""
    users: dict[str, dict[str, int]] = {}
    for name in ledger.names():
        try:
            root = ledger.document(name)
        except Failure as failure:
            raise Failure(f"nothing is pruned: what cluster '{name}' uses is not known: {failure} "
                          f"('vc-clean {name}' removes the cluster)") from None
        if root is None:
            continue
        paths = [image.get('path') for image in root.iterfind('image')]
        backings = [disk.get('backing') for disk in root.iterfind('cluster/node/disk[@backing]')]
        counts = Counter(map(os.path.basename, backings))
        # By its name, which has a hash of the content: the folder may have been moved.
        for image in map(os.path.basename, paths + backings):
            users.setdefault(image, {})[name] = counts[image]
    return users


def _images(folder: str, users: dict[str, dict[str, int]]) -> list[Image]:
    return [Image(entry.name, entry.stat().st_blocks * 512, users.get(entry.name, {}))
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
            if entry.name.endswith('.raw') and entry.is_file(follow_symlinks=False)]


def _remove(folder: str, used: set[str]) -> None:
    """Remove the images that are not ``used``, their records, and what a killed vc-stage left."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name.endswith('.lock')):
        if not entry.is_file(follow_symlinks=False):
            continue
        if entry.name.endswith('.xml'):
            kept = os.path.basename(_image_of(entry.path)) in used
        elif entry.name.endswith('.lock'):
            kept = os.path.exists(f"{entry.path.removesuffix('.lock')}.xml")
        else:
            kept = entry.name in used or not entry.name.endswith(('.raw', '.tmp'))
        if not kept:
            _discard(entry.path)


def _discard(path: str) -> None:
    """Remove a file, or the folder of a saved state."""
    try:
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError as error:
        raise Failure(f"cannot remove '{path}': {cause(error)}") from None


def _image_of(record: str) -> str:
    """The path of the image that a record tells of, '' for a damaged record."""
    with contextlib.suppress(OSError, etree.XMLSyntaxError):
        return etree.parse(record).getroot().get('path', '')
    return ''


def rows(images: list[Image], remove: bool) -> list[tuple[str, str, str, str]]:
    """A table of images for people."""
    return [('IMAGE', 'MIB', 'DISKS', 'CLUSTERS')] + [
        (image.name, str(image.size >> 20), str(sum(image.disks.values())),
         ', '.join(sorted(image.disks)) or ('removed' if remove else 'unused'))
        for image in images]
