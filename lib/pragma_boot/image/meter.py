"""How far images are staged: make and its recipes report to a pipe, a progress line shows it.

On the pipe make writes a line with the keys of all images that are missing. Then the recipes write
a DONE for each CHUNK of a source file that they have read.
"""
from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from ..system import terminal
from .source import Source
from .sparse import CHUNK

if TYPE_CHECKING:
    import threading

DONE = b'.'

SECONDS = 0.1
"""The time between two drawings."""


class Meter:
    """Reports to a pipe how much of a source file was read; to nobody where there is no pipe."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._position = 0

    def advance(self, count: int) -> None:
        """Report that ``count`` more bytes were read."""
        before = self._position // CHUNK
        self._position += count
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, DONE * (self._position // CHUNK - before))


class Follower:
    """Hashes a source file, and reports on a Meter, as far as another process has read it.

    ``position`` tells how many of its bytes the other process has read.
    """

    def __init__(self, file: Source, meter: int | None, position: Callable[[], int]) -> None:
        import hashlib
        self._file = file
        self._meter = Meter(meter)
        self._position = position
        self._hashed = 0
        self._digest = hashlib.sha256()

    def __call__(self) -> None:
        self._follow(self._position())

    def digest(self) -> str:
        """The SHA-256 of the whole file, hexadecimal."""
        self._follow(self._file.size)
        return self._digest.hexdigest()

    def _follow(self, position: int) -> None:
        while self._hashed < position:
            data = self._file.at(CHUNK, self._hashed)
            if not data:
                break
            self._digest.update(data)
            self._meter.advance(len(data))
            self._hashed += len(data)


@contextlib.contextmanager
def drawn(sizes: Mapping[str, int]) -> Iterator[int | None]:
    """Draw what is reported while the block lasts; yields the pipe, None without a terminal.

    ``sizes`` are the bytes of the source files by the keys of the images.
    """
    with terminal.Progress() as progress:
        if not progress:
            yield None
            return
        import threading
        reader, writer = os.pipe()
        over = threading.Event()
        drawing = threading.Thread(target=_draw, args=(progress, reader, over, sizes))
        drawing.start()
        try:
            yield writer
        finally:
            over.set()
            os.close(writer)
            drawing.join()
            os.close(reader)


def _draw(progress: terminal.Progress, reader: int, over: threading.Event,
          sizes: Mapping[str, int]) -> None:
    """Draw one bar for all images until the block is over."""
    import select
    done, line = 0, b''
    while not over.is_set():
        if select.select([reader], [], [], SECONDS)[0]:
            data = os.read(reader, 1 << 16)
            done += data.count(DONE)
            line += data.replace(DONE, b'')
            over.wait(SECONDS)
        if line.endswith(b'\n'):
            keys = line.decode().split()
            images, total = len(keys), sum(sizes[key] // CHUNK for key in keys)
            progress.draw_bytes(f"staging {images} image{'s' if images > 1 else ''}",
                                done * CHUNK, total * CHUNK)
