"""How far images are staged: the recipes of make report to a pipe, a progress line shows it."""
from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..system import terminal
from .sparse import CHUNK

if TYPE_CHECKING:
    import threading

IMAGE, TOTAL, DONE = b'i', b't', b'.'
"""Bytes on the pipe: one more image, a CHUNK that is to be read of it, a CHUNK that was read."""

SECONDS = 0.1
"""The time between two drawings."""


class Meter:
    """Reports to a pipe how much of a source file was read; to nobody where there is no pipe."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._position = 0

    def begin(self, size: int) -> None:
        """Report an image whose source file has ``size`` bytes."""
        self._report(IMAGE + TOTAL * (size // CHUNK))

    def advance(self, count: int) -> None:
        """Report that ``count`` more bytes were read."""
        before = self._position // CHUNK
        self._position += count
        self._report(DONE * (self._position // CHUNK - before))

    def _report(self, data: bytes) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, data)


@contextlib.contextmanager
def drawn() -> Iterator[int | None]:
    """Draw what Meters report while the block lasts; yields their pipe, None without a terminal."""
    with terminal.Progress() as progress:
        if not progress:
            yield None
            return
        import threading
        reader, writer = os.pipe()
        over = threading.Event()
        drawing = threading.Thread(target=_draw, args=(progress, reader, over))
        drawing.start()
        try:
            yield writer
        finally:
            over.set()
            os.close(writer)
            drawing.join()
            os.close(reader)


def _draw(progress: terminal.Progress, reader: int, over: threading.Event) -> None:
    """Draw one bar for all images until the block is over."""
    import select
    counts: Counter[int] = Counter()
    while not over.is_set():
        if select.select([reader], [], [], SECONDS)[0]:
            counts.update(os.read(reader, 1 << 16))
            over.wait(SECONDS)
        images, total, done = (counts[kind[0]] for kind in (IMAGE, TOTAL, DONE))
        if images:
            progress.draw_bytes(f"staging {images} image{'s' if images > 1 else ''}",
                                done * CHUNK, total * CHUNK)
