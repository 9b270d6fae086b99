"""Write sparse files: a hole for each block of zeros."""
from __future__ import annotations

import os
from typing import Protocol

BLOCK = 4096
CHUNK = 1 << 20

WRITE_OUT = 32 << 20
"""Bytes after which the kernel is asked to write them, so that the sync at the end is short."""

_ZEROS = bytes(CHUNK)


class Stream(Protocol):
    """Anything that reads into a buffer and returns the number of bytes, 0 at the end."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Excess(Exception):
    """A stream has more bytes than it may have."""


def copy(stream: Stream, descriptor: int, maximum: int) -> None:
    """Copy ``stream`` to an empty file with a hole for each block of zeros.

    Raises Excess where there are more than ``maximum`` bytes.
    """
    position = sent = 0
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while True:
        count = _fill(stream, view)
        if position + count > maximum:
            raise Excess
        if count < CHUNK or buffer != _ZEROS:
            _write_blocks(descriptor, buffer, count, position)
        position += count
        if position - sent >= WRITE_OUT:
            # Linux starts to write dirty pages that are not needed, and keeps them until then.
            os.posix_fadvise(descriptor, sent, position - sent, os.POSIX_FADV_DONTNEED)
            sent = position
        if count < CHUNK:
            break
    os.ftruncate(descriptor, position)


def write(descriptor: int, content: bytearray) -> None:
    """Write ``content`` to an empty file with a hole for each block of zeros."""
    _write_blocks(descriptor, content, len(content), 0)
    os.ftruncate(descriptor, len(content))


def _fill(stream: Stream, view: memoryview) -> int:
    """Read until ``view`` is full or the stream ends; returns the number of bytes."""
    count = 0
    while count < len(view):
        got = stream.readinto(view[count:])
        if not got:
            break
        count += got
    return count


def _write_blocks(descriptor: int, buffer: bytearray, count: int, position: int) -> None:
    """Write those runs of blocks in the first ``count`` bytes that are not all zeros."""
    start = None
    for offset in range(0, count, BLOCK):
        end = min(offset + BLOCK, count)
        # Compared as bytes: comparing a memoryview element by element takes 50 times as long.
        if buffer[offset:end] == _ZEROS[:end - offset]:
            if start is not None:
                _write_all(descriptor, memoryview(buffer)[start:offset], position + start)
                start = None
        elif start is None:
            start = offset
    if start is not None:
        _write_all(descriptor, memoryview(buffer)[start:count], position + start)


def _write_all(descriptor: int, view: memoryview, position: int) -> None:
    while view:
        count = os.pwrite(descriptor, view, position)
        view, position = view[count:], position + count
