"""The user's terminal: colours, and a progress line that is drawn again and again."""
from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from . import log

INHERITED = 'PRAGMA_TERMINAL'
"""The variable with the descriptor of pragma_boot's terminal, for the tools that a driver calls."""

WIPE = '\r\x1b[K'

COLOURS = {'ready': '32', 'running': '33', 'failed': '31', 'stopped': '2', 'unknown': '35',
           'head': '1', 'bar': '32'}
"""Parameters of SGR (ECMA-48): green, yellow, red, faint, magenta; bold; green."""

WIDEST_BAR = 30


def understands(descriptor: int) -> bool:
    """Whether a descriptor is a terminal that obeys control sequences."""
    return os.isatty(descriptor) and os.environ.get('TERM', 'dumb') != 'dumb'


def coloured(descriptor: int) -> bool:
    """Whether to write to a descriptor in colours (no-color.org)."""
    return understands(descriptor) and not os.environ.get('NO_COLOR')


def painted(text: str, kind: str) -> str:
    """``text`` in the colour of a state, or of another kind in COLOURS."""
    return f'\x1b[{COLOURS[kind]}m{text}\x1b[0m' if kind in COLOURS else text


def columns(descriptor: int) -> int:
    """The width of a terminal, 80 where it does not say."""
    return os.get_terminal_size(descriptor).columns or 80


@contextlib.contextmanager
def lent() -> Iterator[tuple[int, ...]]:
    """Pass the terminal to the programs that the block starts; yields descriptors to inherit.

    Their own stderr is a pipe, on which they would draw nothing. () where we have no terminal.
    """
    if not understands(2):
        yield ()
        return
    descriptor = os.dup(2)
    os.set_inheritable(descriptor, True)
    os.environ[INHERITED], log.wipe = str(descriptor), WIPE
    try:
        yield (descriptor,)
    finally:
        del os.environ[INHERITED]
        log.wipe = ''
        os.close(descriptor)


class Progress:
    """A line on the terminal, if there is one, that shows progress while the block lasts."""

    def __init__(self) -> None:
        inherited = os.environ.get(INHERITED, '')
        choices = [2, *([int(inherited)] if inherited.isdecimal() else [])]
        self._descriptor = next(filter(understands, choices), None)
        self.begin = time.monotonic()

    def __bool__(self) -> bool:
        return self._descriptor is not None

    def __enter__(self) -> Progress:
        if self._descriptor == 2:
            log.wipe = WIPE
        return self

    def __exit__(self, *_: object) -> None:
        self._write(WIPE)
        if self._descriptor == 2:
            log.wipe = ''

    def draw(self, subject: str, share: float, rest: str) -> None:
        """Draw a line: what is done, a bar that is full at ``share`` 1, and the rest."""
        if self._descriptor is None:
            return
        # The last column stays free: some terminals begin a new line after it.
        width = min(WIDEST_BAR, columns(self._descriptor) - len(subject) - len(rest) - 7)
        full = round(max(0, min(1, share)) * max(width, 0))
        bar = '#' * full
        if coloured(self._descriptor):
            bar = painted(bar, 'bar')
        line = (f"{subject}  [{bar}{'.' * (width - full)}]  {rest}" if width > 3 else
                f'{subject}  {rest}'[:columns(self._descriptor) - 1])
        self._write(WIPE + line)

    def draw_bytes(self, subject: str, done: int, total: int) -> None:
        """Draw a line for ``done`` of ``total`` bytes, with the rate and the remaining time."""
        seconds = time.monotonic() - self.begin
        rate = done / seconds if seconds else 0
        rest = f'{100 * done // total if total else 100:3d} %'
        if done >= total:
            rest += ', checking'
        elif rate:
            rest += f', {rate / 1e6:.0f} MB/s, {(total - done) / rate:.0f} s left'
        self.draw(subject, done / total if total else 1, rest)

    def _write(self, text: str) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, text.encode())
