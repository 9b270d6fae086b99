"""Decoders: what unpacks an author's file to a sparse raw file, in a confined child of ours.

A Decoder takes two open files as descriptors, the source at its beginning and the empty target, and
the maximum of bytes that it may write, and raises sparse.Excess where there are more. Which way a
format is decoded was chosen by the time of the whole work; bench.py compares them with other ways.
"""
from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import cast

from ..system import child
from . import sparse
from .sparse import CHUNK, Excess, Stream

Decoder = Callable[[int, int, int], object]

DICTIONARY = '512MiB'
"""The largest that xz and zstd may use. `xz -9` needs 64 MiB, `zstd --ultra -22` 128 MiB."""

POLL_SECONDS = 0.02


class Trailing(Exception):
    """Data follows the end of a compressed file, from the byte that is the first argument."""


def copy(source: int, target: int, maximum: int) -> None:
    """Copy a raw image."""
    with open(source, 'rb', buffering=0, closefd=False) as file:
        sparse.copy(file, target, maximum)


def gunzip(source: int, target: int, maximum: int) -> None:
    """Unpack by ISA-L in a second thread: all members, CRC and length checked (RFC 1952)."""
    from isal import igzip_threaded
    with open(source, 'rb', buffering=0, closefd=False) as file:
        try:
            with igzip_threaded.open(file, block_size=CHUNK) as stream:
                sparse.copy(stream, target, maximum)
        except EOFError:
            _require_end(source)
            raise


def _require_end(source: int) -> None:
    """Raise Trailing where data follows the last member of a gzip file that cannot be a member.

    ISA-L reports it in the same words as a file that is cut short.
    """
    import zlib
    try:
        os.lseek(source, 0, os.SEEK_SET)
    except OSError:
        return    # a pipe of parts
    while True:
        member, data = zlib.decompressobj(zlib.MAX_WBITS | 16), b''
        try:
            while not member.eof:
                data = member.unconsumed_tail or os.read(source, CHUNK)
                if not data:
                    return
                member.decompress(data, CHUNK)
        except zlib.error:
            return
        end = os.lseek(source, -len(member.unused_data), os.SEEK_CUR)
        following = os.read(source, 2)
        if not following:
            return
        if not b'\x1f\x8b'.startswith(following):
            raise Trailing(end)
        os.lseek(source, end, os.SEEK_SET)


def bunzip2(source: int, target: int, maximum: int) -> None:
    """Unpack by libbz2: all streams, CRC checked."""
    sparse.copy(_Bzip2(source), target, maximum)


class _Bzip2:
    """A Stream of what the streams of a bzip2 file hold; bz2.open ignores data after them."""

    def __init__(self, source: int) -> None:
        import bz2
        self._source = source
        self._position = 0
        self._ahead = b''
        self._new = bz2.BZ2Decompressor
        self._stream = self._new()

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            if self._stream.eof and not self._next():
                return 0
            packed = self._read() if self._stream.needs_input else b''
            if self._stream.needs_input and not packed:
                raise EOFError('Compressed file ended before the end-of-stream marker was reached')
            data = self._stream.decompress(packed, len(buffer))
            if data:
                buffer[:len(data)] = data
                return len(data)

    def _read(self) -> bytes:
        """The next bytes of the file, which need not be one that can seek."""
        data, self._ahead = self._ahead or os.read(self._source, CHUNK), b''
        self._position += len(data)
        return data

    def _next(self) -> bool:
        """Go on to the next stream of the file, if there is one; raises Trailing."""
        self._ahead = self._stream.unused_data
        self._position -= len(self._ahead)
        while len(self._ahead) < 3 and (more := os.read(self._source, CHUNK)):
            self._ahead += more
        if self._ahead and not b'BZh'.startswith(self._ahead[:3]):
            raise Trailing(self._position)
        self._stream = self._new()
        return bool(self._ahead)


def unxz(source: int, target: int, maximum: int) -> None:
    """Unpack by xz(1), with a thread for each CPU and block: all streams, checks checked.

    Through a pipe: xz keeps back a run of zeros until it ends, so its file would not show a bomb.
    """
    argv = ['xz', '-dc', '-T0', f'--memlimit-decompress={DICTIONARY}',
            f'--memlimit-mt-decompress={DICTIONARY}']
    import subprocess
    with child.program(argv, stdin=source, stdout=subprocess.PIPE) as running:
        sparse.copy(cast(Stream, running.stdout), target, maximum)


def unzstd(source: int, target: int, maximum: int) -> None:
    """Unpack by zstd(1), which writes holes itself: all frames, checksums checked.

    It skips runs of zeros of a gigabyte without a write, so its position is watched.
    """
    argv = ['zstd', '-dcq', '--sparse', f'--memory={DICTIONARY}']
    import subprocess
    with child.program(argv, stdin=source, stdout=target) as running:
        while running.returncode is None:
            try:
                running.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if os.lseek(target, 0, os.SEEK_CUR) > maximum:
                    raise Excess from None
        if running.returncode == -signal.SIGXFSZ:
            raise Excess
