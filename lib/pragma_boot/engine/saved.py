"""Saved states of libvirt domains: one guest's memory and devices, restored as other domains.

libvirt restores a saved domain under its own name alone. Its file is a header, the domain's XML and
the state that QEMU wrote. Here another domain with the same devices takes the place of the XML.
"""
from __future__ import annotations

import os
import shutil
import struct
from typing import Any, NamedTuple

from lxml import etree

from ..document.tree import domain_name, domain_uuid
from ..system import files
from ..system.failure import Failure
from . import domain, session

HEADER = struct.Struct('=16s5I56x')
"""libvirt's virQEMUSaveHeader (src/qemu/qemu_saveimage.h): magic, version, length of the XML and
the cookie behind it, whether the guest ran, compression, and where the cookie begins."""

MAGIC, VERSION = b'LibvirtQemudSave', 2

CHUNK = 1 << 20


class Header(NamedTuple):
    """The fields of HEADER."""

    magic: bytes
    version: int
    length: int
    running: int
    compression: int
    cookie: int


class SavedStates:
    """What one libvirt URI of this machine saves and restores. It is a protocol.SavedStates."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def version(self) -> str:
        """libvirt and QEMU: the state of one version is not restored by another."""
        return str(self._engine.virsh('version', '--daemon').stdout.decode())

    def share(self, folder: str, *paths: str) -> None:
        """Let the user that QEMU runs as into a folder, and give that user the files ``paths``."""
        self._engine.admit(folder)
        for path in paths:
            self._engine.give(path)

    def save(self, node: etree._Element, path: str) -> None:
        """Stop the node's domain, and save its state in the new file ``path``."""
        # Made here: libvirt's user may not write in the folder.
        with open(path, 'xb'):
            self._engine.give(path)
        self._engine.virsh('save', '--domain', domain_name(node), '--file', path)
        with open(path, 'rb') as file:
            _header(file.read(HEADER.size), path)
            os.fsync(file.fileno())

    def restore(self, node: etree._Element, definition: etree._Element, path: str,
                draft: str, paused: bool) -> None:
        """Define the node's domain, and start it from the state in ``path``, all or nothing.

        ``draft`` is the path of a file that is there meanwhile.
        """
        session.require_room(self._engine.uri, domain_name(node))
        xml = etree.tostring(definition)
        files.remove(draft)
        try:
            _write(path, xml + b'\0', draft)
            self._engine.give(draft)
            self._engine.virsh('define', '/dev/stdin', input=xml)
            try:
                self._engine.virsh('restore', '--file', draft,
                                   '--paused' if paused else '--running')
            except BaseException:
                if domain.is_active(self._engine, node):
                    return
                self._engine.virsh('undefine', '--domain', domain_uuid(node), statuses=(0, 1))
                raise
        finally:
            files.remove(draft)


def _header(data: bytes, path: str) -> Header:
    """The Header at the start of a saved state; raises Failure where it is not as we know it."""
    if len(data) == HEADER.size:
        header = Header(*HEADER.unpack(data))
        if header.magic == MAGIC and header.version == VERSION:
            return header
    raise Failure(f"'{path}' is not a saved state of libvirt, version {VERSION}")


def _write(path: str, xml: bytes, target: str) -> None:
    """Write the state in ``path`` with other ``xml`` to the new file ``target``."""
    with open(path, 'rb') as source, open(target, 'xb') as draft:
        header = _header(source.read(HEADER.size), path)
        source.seek(header.length, os.SEEK_CUR)
        draft.write(HEADER.pack(*header._replace(length=len(xml), running=1, cookie=0)))
        draft.write(xml)
        shutil.copyfileobj(source, draft, CHUNK)
