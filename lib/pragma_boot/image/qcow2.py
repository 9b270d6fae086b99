"""qcow2 files of authors: refused by their headers before a program opens them, then converted.

A header can name other files of the host, which QEMU would open. The fields are those of QEMU's
specification, docs/interop/qcow2.rst.
"""
from __future__ import annotations

import os
import struct

from ..system import child
from ..system.failure import Failure

MAGIC = b'QFI\xfb'

HEADER = struct.Struct('>4sIQIIQIIQQIIQ')
"""Version 2: magic, version, backing file's offset and length, cluster bits, size, encryption,
L1 size and offset, refcount table's offset and clusters, snapshots and their offset."""

FEATURES = struct.Struct('>QQQII')
"""What version 3 adds: incompatible, compatible and autoclear features, refcount order, length of
the header."""

CLUSTER_BITS = range(9, 22)
"""2 MiB is the largest cluster that QEMU opens."""

LEAKS = 3
"""The status of qemu-img check where some clusters of the file are not used, which is harmless."""

CORRUPT, EXTERNAL_DATA = 1 << 1, 1 << 2
HARMLESS = 1 << 0 | 1 << 3 | 1 << 4
"""Incompatible features that stay inside the file: dirty refcounts, which are not read, the type of
compression, and subclusters. Those that are not named here are refused."""

def require_harmless(descriptor: int, maximum: int, subject: str, overlay: bool = False) -> int:
    """The virtual size in bytes of the open qcow2 file ``descriptor``.

    Raises Failure, which ``subject`` begins, for one that has or may have a backing file (but for
    an ``overlay``, whose backing image its reader names), an
    external data file or encryption, that needs a feature that we do not know, that is damaged or
    cut short, or that is larger than ``maximum`` bytes.
    """
    head = os.pread(descriptor, HEADER.size + FEATURES.size, 0)
    if len(head) < HEADER.size:
        raise Failure(f'{subject}: its qcow2 header is cut short')
    (_, version, backing, _, bits, size, encryption, entries, table, _, _, _, _
     ) = HEADER.unpack_from(head)
    features, length = 0, HEADER.size
    if version not in (2, 3):
        raise Failure(f'{subject} is qcow2 of version {version}, not 2 or 3: '
                      'convert it with qemu-img')
    if version == 3:
        if len(head) < HEADER.size + FEATURES.size:
            raise Failure(f'{subject}: its qcow2 header is cut short')
        features, _, _, _, length = FEATURES.unpack_from(head, HEADER.size)
    if bits not in CLUSTER_BITS or (version == 3 and not 104 <= length <= 1 << bits):
        raise Failure(f'{subject}: its qcow2 header is damaged')
    if backing and not overlay:
        raise Failure(f'{subject} has a backing file: '
                      'convert it with qemu-img, which makes it one file')
    if features & EXTERNAL_DATA:
        raise Failure(f'{subject} has an external data file: '
                      'convert it with qemu-img, which makes it one file')
    if encryption:
        raise Failure(f'{subject} is encrypted: convert it with qemu-img, which decrypts it')
    if features & CORRUPT:
        raise Failure(f'{subject} is marked as corrupt: repair it with qemu-img check -r all')
    if unknown := features & ~(HARMLESS | CORRUPT | EXTERNAL_DATA):
        raise Failure(f'{subject} needs features of qcow2 that are not known '
                      f'(incompatible features {unknown:#x}): convert it with qemu-img')
    if table + entries * 8 > os.fstat(descriptor).st_size:
        raise Failure(f'{subject} is cut short: its L1 table lies beyond its end')
    if size > maximum:
        raise Failure(f'{subject} unpacks to more than {maximum} bytes '
                      '(image_max_size in site_conf.conf)')
    return size


def convert(source: int, target: int, _: int) -> None:
    """Write the raw image of an open qcow2 file sparse to ``target``, which has its virtual size.

    Runs confined (decode.Decoder), after ``require_harmless``. Raises ValueError for damaged
    tables: QEMU reads what lies beyond the end of the file as zeros.
    """
    import json
    import subprocess
    # Another backing file, which the header may name by now, is not opened.
    file = 'json:' + json.dumps({'driver': 'qcow2', 'backing': None, 'file': {
        'driver': 'file', 'filename': f'/dev/fd/{source}'}})
    with child.program(['qemu-img', 'check', '-q', file], (source,), stderr=subprocess.DEVNULL,
                       statuses=None) as running:
        pass
    if running.returncode not in (0, LEAKS):
        raise ValueError('its tables are damaged, or it is cut short (qemu-img check says more)')
    with child.program(['qemu-img', 'convert', '-O', 'raw', '-n', '--target-is-zero', '-W', file,
                        f'/dev/fd/{target}'], (source, target)):
        pass
