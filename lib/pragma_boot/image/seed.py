"""Seed disks: a small vfat image labelled CIDATA for each node, which cloud-init reads.

NoCloud of cloud-init finds it by its label. mkfs.vfat makes one empty file system, and mcopy writes
the three files of the first node into it. The disks of nodes whose files are as long are copies
with other content in the same places. The same texts make the same bytes.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lxml import etree

from ..document.seed import Seeds
from ..system import files, process, workers
from ..system.failure import Failure
from . import overlay

LABEL = 'CIDATA'

UNIT = 1 << 20
"""The size of a seed disk is a multiple of this."""

SPARE = 1 << 17
"""More than the tables and the root folder of a file system of a few MiB take."""

EPOCH = 315532800
"""The time of all files: the first that vfat knows, 1980-01-01."""

ENVIRONMENT = {'MTOOLSRC': '/dev/null', 'TZ': 'UTC'}
"""For mcopy: not the user's settings, and times as they are."""

BLOCK = 4096
"""Texts are filled with line ends to a multiple of this, so that most have the same length."""

Keep = Callable[[str, etree._Element], str]
"""Takes a finished seed disk and its node; the path by which the node's host knows it."""

TOGETHER = 256
"""Nodes whose texts are in memory at a time; each has 20 KiB and more."""

Texts = dict[str, bytes]
"""The content of the files of one seed disk by their names."""


class Master(NamedTuple):
    """A seed disk without the zeros at its end, and where in it each text begins."""

    content: bytes
    places: dict[str, int]

    def with_texts(self, texts: Texts) -> bytes:
        """The same disk with other texts of the same lengths."""
        content = bytearray(self.content)
        for name, text in texts.items():
            start = self.places[name]
            content[start:start + len(text)] = text
        return bytes(content)


def make(root: etree._Element, folder: str, nodes: Sequence[etree._Element], jobs: int,
         keep: Keep) -> dict[str, etree._Element]:
    """Make the seed disks of ``nodes``, ``jobs`` at a time; their <seed>s by the nodes' names.

    ``folder`` is the cluster's, with its private key. Each disk is made whole or not at all.
    """
    if not nodes:
        return {}
    with open(os.path.join(folder, 'id_ed25519'), 'rb') as file:
        key = file.read()
    seeds, made = Seeds(root), {}
    for start in range(0, len(nodes), TOGETHER):
        made.update(_made(seeds, key, folder, nodes[start:start + TOGETHER], jobs, keep))
    return made


def _made(seeds: Seeds, key: bytes, folder: str, nodes: Sequence[etree._Element], jobs: int,
          keep: Keep) -> dict[str, etree._Element]:
    """The <seed>s of some nodes by their names, as ``make``; ``key`` is the private one."""
    texts = {node.get('name'): {file: _filled(text) for file, text
                                in seeds.of(node.get('name'), key).items()} for node in nodes}
    lengths = {name: tuple(map(len, some.values())) for name, some in texts.items()}
    size = -(-(max(map(sum, lengths.values())) + SPARE) // UNIT) * UNIT
    first = {length: name for name, length in reversed(lengths.items())}
    with overlay.scratch_folder(os.path.join(folder, '.seed')) as scratch:
        empty = _empty(os.path.join(scratch, 'empty'), size)
        masters = {length: _master(os.path.join(scratch, name), empty, size, texts[name])
                   for length, name in first.items()}

    def one(node: etree._Element) -> etree._Element:
        name = node.get('name')
        path = os.path.join(folder, f'{name}.seed.img')
        content = masters[lengths[name]].with_texts(texts[name])
        with files.draft(path) as draft:
            draft.write(content)
            draft.truncate(size)
            os.fsync(draft.fileno())
            draft.seek(0)
            if draft.read(len(content)) != content:
                raise Failure(f"seed disk '{path}' does not read back as written")
            return etree.Element('seed', path=keep(files.temporary(path), node))
    elements = workers.each(one, nodes, jobs)
    return {node.get('name'): element for node, element in zip(nodes, elements, strict=True)}


def _filled(text: bytes) -> bytes:
    return text.ljust(-(-len(text) // BLOCK) * BLOCK, b'\n')


def _empty(path: str, size: int) -> bytes:
    """An empty file system of ``size`` bytes, without the zeros at its end."""
    with open(path, 'xb') as file:
        file.truncate(size)
    # --invariant: no random number and no time in it
    process.run(['mkfs.vfat', '--invariant', '-n', LABEL, path], 'cannot make a seed disk')
    with open(path, 'rb') as file:
        return file.read().rstrip(b'\0')


def _master(path: str, empty: bytes, size: int, texts: Texts) -> Master:
    """The Master with ``texts``, made at ``path``; raises Failure."""
    with open(path, 'xb') as disk:
        disk.write(empty)
        disk.truncate(size)
    names = [os.path.join(f'{path}.files', name) for name in texts]
    os.mkdir(f'{path}.files')
    for name, text in zip(names, texts.values(), strict=True):
        with open(name, 'xb') as file:
            file.write(text)
        os.utime(name, (EPOCH, EPOCH))
    process.run(['mcopy', '-m', '-i', path, *names, '::/'], 'cannot write a seed disk',
                env={**os.environ, **ENVIRONMENT})
    with open(path, 'rb') as disk:
        content = disk.read().rstrip(b'\0')
    # Each in one piece: the file system was empty.
    places = {name: content.find(text) for name, text in texts.items()}
    for name, place in places.items():
        if place < 0:
            raise Failure(f'cannot write a seed disk: {name} does not read back as written')
    return Master(content, places)
