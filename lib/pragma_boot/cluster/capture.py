"""Make an entry of the image database from a cluster that has stopped, all or nothing.

The images are made in a folder with a hidden name, which is renamed when all is there. Other copies
of disks are files without a name, so nothing of them is left however the tool ends.
"""
from __future__ import annotations

import contextlib
import copy
import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

from lxml import etree

from ..database import newentry, vcdb
from ..document import tree, vcin
from ..engine.registry import Engines
from ..image import clean, flatten, formats, pack, staged
from ..system import files, lock, terminal
from ..system.failure import Failure
from ..system.settings import Settings
from .ledger import Ledger
from .shutdown import shutdown
from .states import View

DRAFT = '.vc-capture.'
"""What the name of the folder begins with in which an entry is made."""

OURS = ('source', 'image', 'cluster')
"""Elements of a document that are no part of a vc-in.xml."""


class Wish(NamedTuple):
    """The entry's name; the compute node, None for the first; 'gz' or 'zst'; traces that stay."""

    entry: str
    node: str | None
    format: str
    kept: Collection[str]


class Done(NamedTuple):
    """The vc-in.xml of the new entry, and a line about each of its images."""

    path: str
    lines: list[str]


def capture(name: str, wish: Wish, base_path: str, settings: Settings,
            shutdown_seconds: int | None = None) -> Done:
    """Make the entry from cluster ``name``; raises Failure.

    Nodes that run are shut down, or destroyed after ``shutdown_seconds``; None refuses them.
    """
    entry = vcdb.checked(wish.entry)
    base = newentry.folder_of(base_path)
    ledger, engines = Ledger(settings.temporary_directory), Engines(settings)
    _chosen(ledger.known(name), wish.node)
    mark = f"cluster {name} of the ledger {ledger.identity}"
    with _drafting(base, entry) as draft, ledger.resizing(name):
        _require_free(base, entry, mark)
        root = ledger.known(name)
        nodes = _chosen(root, wish.node)
        _stop(root, engines, ledger, shutdown_seconds)
        lines = []
        with ledger.alone(name), staged.using(settings):
            for role, node in nodes.items():
                path = os.path.join(draft, f'{entry}-{role}.img.{wish.format}')
                lines.append(_image(root, role, node, path, wish, engines, ledger, settings))
        with lock.on_folder(base, fcntl.LOCK_EX):
            _require_free(base, entry, mark)
            folder = os.path.join(base, entry)
            if os.path.lexists(folder):
                # Of a capture of this cluster that was killed before it wrote the line.
                shutil.rmtree(folder)
            os.chmod(draft, 0o755)
            newentry.finish(draft, folder, _vc_in(root, entry, wish.format, mark), settings)
            newentry.add(base, entry)
    return Done(os.path.join(base, entry, newentry.VC_IN), lines)


def _chosen(root: etree._Element, name: str | None) -> dict[str, etree._Element | None]:
    """The node of each role whose disk is captured; None where the cluster has no compute node."""
    nodes = tree.nodes(root, [name] if name else [])
    compute = next((node for node in nodes if node.get('role') == 'compute'), None)
    if name and compute is None:
        raise Failure(f"--node '{name}' is the frontend, whose disk is captured anyway: name a "
                      'compute node')
    return {'frontend': tree.frontend(root), 'compute': compute}


def _require_free(base: str, entry: str, mark: str) -> None:
    """Raise Failure where there is an entry or a folder of that name.

    The folder that a killed capture of the same cluster left, which lacks its line, does not count.
    """
    if newentry.existing(base, entry) is not None:
        raise Failure(f"there is an entry '{entry}' in '{base}' already: choose another name "
                      'with --as')
    folder = os.path.join(base, entry)
    with contextlib.suppress(Failure, OSError):
        left = tree.read_file(os.path.join(folder, newentry.VC_IN), 'vc-in')
        if any(mark in str(comment.text) for comment in left.iter(etree.Comment)):
            return
    if os.path.lexists(folder):
        raise Failure(f"'{folder}' exists and is no entry of the database: remove it, or choose "
                      'another name with --as')


@contextlib.contextmanager
def _drafting(base: str, entry: str) -> Iterator[str]:
    """An empty folder for the block, which no other process uses; raises Failure."""
    folder = os.path.join(base, f'{DRAFT}{entry}')
    os.makedirs(folder, 0o700, exist_ok=True)
    try:
        with lock.on_folder(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            try:
                for left in os.scandir(folder):
                    os.unlink(left.path)
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        raise Failure(f"another vc-capture makes the entry '{entry}' in '{base}' now") from None


def _stop(root: etree._Element, engines: Engines, ledger: Ledger, seconds: int | None) -> None:
    """Shut down the nodes that run; raises Failure for them where that was not asked for."""
    nodes, view = tree.nodes(root), View(engines, ledger)
    view.require(nodes)
    running = [node for node in nodes if view.active(node)]
    if not running:
        return
    if seconds is None:
        name = tree.cluster(root).get('name')
        raise Failure(f"node '{running[0].get('name')}' of cluster '{name}' runs: shut it down "
                      f"with 'vc-shutdown {name}', or have --shutdown do it")
    shutdown(running, engines, ledger, seconds)


def _image(root: etree._Element, role: str, node: etree._Element | None, path: str, wish: Wish,
           engines: Engines, ledger: Ledger, settings: Settings) -> str:
    """Make the image ``path`` of a role; a line about it."""
    folder, maximum = formats.temporary_folder(), settings.size('image_max_size')
    subject = (f'the staged image of the {role} nodes' if node is None else
               f"node '{node.get('name')}'")
    begin = time.monotonic()
    with terminal.Progress() as progress, files.unnamed(folder) as disk:
        progress.draw(f'copying {subject}', 0, '')
        if node is None:
            staged.require(root, role)
            flatten.copy(tree.image(root, role).get('path'), disk)
        else:
            if node.find('disk') is None:
                raise Failure(f'{subject} has no disk: run vc-inject')
            with engines.storage(node, ledger).reading(node, folder) as (overlay, backing):
                flatten.flatten(overlay, backing, disk, maximum, subject)
        with (clean.copy(disk, folder, wish.kept, subject) as cleaned,
              files.draft(path) as file):
            def chunks() -> Iterator[bytes | bytearray]:
                done = 0
                for chunk in cleaned.chunks():
                    yield chunk
                    done += len(chunk)
                    progress.draw_bytes(f'compressing {subject}', done, cleaned.size)
            pack.FORMATS[wish.format](chunks(), file)
            size = os.fstat(file.fileno()).st_size
            files.commit(file, files.temporary(path), path, 0o444)
    seconds = time.monotonic() - begin
    return (f"{role}: {subject}, {cleaned.size >> 20} MiB, packed {size >> 20} MiB; "
            f'{cleaned.removed.files} files removed, {cleaned.removed.bytes >> 20} MiB unused; '
            f'{seconds:.1f} s')


def _vc_in(root: etree._Element, entry: str, suffix: str, mark: str) -> etree._Element:
    """The vc-in.xml: the author's, with the new images."""
    found = copy.deepcopy(root)
    for name in OURS:
        for element in found.findall(name):
            found.remove(element)
    comment = etree.Comment(f' {mark}, {time.strftime("%Y-%m-%d")}, by vc-capture ')
    comment.tail = found.text
    found.insert(0, comment)
    for role in tree.ROLES:
        disk, = vcin.disks(tree.domain(found, role))
        disk.find('source').set('file', f'{entry}-{role}.img.{suffix}')
        driver = disk.find('driver')
        if driver is not None:
            driver.attrib.pop('type', None)
    return found

