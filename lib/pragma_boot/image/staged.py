"""Staged images that are there: their folder, whose they are, and whether they are as made.

image/staging.py makes them. Most filters only use them, and start sooner without it.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from lxml import etree

from ..document import tree
from ..system.failure import Failure
from ..system.lock import on_folder
from ..system.settings import Settings

MOVE_BACK = ('move the temporary directory back, because disks and domains name each other by '
             'their paths')
"""The remedy where a cluster's files are in another folder than its document says."""

REMAKE = 'remove it and run vc-stage again'


def folder_of(settings: Settings) -> str:
    """The folder of staged images."""
    return os.path.join(settings.temporary_directory, 'images')


@contextlib.contextmanager
def using(settings: Settings) -> Iterator[str]:
    """The folder of staged images, from which nothing is removed (cluster.prune) meanwhile."""
    folder = folder_of(settings)
    os.makedirs(folder, exist_ok=True)
    with on_folder(folder, fcntl.LOCK_SH):
        yield folder


def missing(root: etree._Element) -> list[str]:
    """The roles whose <image> is in a document and whose raw file was removed meanwhile."""
    return [image.get('role') for image in root.iterfind('image')
            if not os.path.exists(image.get('path'))]


def users(root: etree._Element, role: str) -> list[str]:
    """The names of a role's nodes that have disks."""
    return [node.get('name') for node in root.iterfind('cluster/node')
            if node.get('role') == role and node.find('disk') is not None]


def restore(names: list[str]) -> str:
    """The remedy where nodes of these names have disks that are overlays on an image."""
    return f"the disks of {', '.join(names)} need the old one; restore it, or remove the cluster"


def require(root: etree._Element, role: str) -> None:
    """Raise Failure unless the raw file of a role's <image> is there as it was made."""
    found = users(root, role)
    check(tree.image(root, role), restore(found) if found else REMAKE)


def check(image: etree._Element, remedy: str = REMAKE) -> None:
    """Raise Failure unless the raw file of an <image> is there as it was made.

    Its time of modification is its source's (record.make). So a file that was made again passes,
    and a file that was put in its place does not: ``remedy`` is for the user then.
    """
    path = image.get('path')
    try:
        found = os.stat(path)
    except OSError:
        raise Failure(f"staged image '{path}' is missing: run vc-stage again") from None
    same = image.get('modified') in (None, str(found.st_mtime_ns))
    if not same or found.st_size != int(image.get('size')) or found.st_mode & 0o222:
        raise Failure(f"staged image '{path}' was changed after it was made: {remedy}")
