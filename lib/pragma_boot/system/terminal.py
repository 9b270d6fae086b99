"""The terminal that a person looks at: its colours, and a line of progress that is drawn over and over."""
import contextlib
import os
import time

from . import log

INHERITED = 'PRAGMA_TERMINAL'
"""Names the descriptor of pragma_boot's terminal, which what a driver calls has beside its own stderr."""

WIPE = '\r\x1b[K'

COLOURS = {'ready': '32', 'running': '33', 'failed': '31', 'stopped': '2', 'unknown': '35',
           'head': '1', 'bar': '32'}
"""What the standard calls SGR: green, yellow, red, faint, magenta; bold."""

WIDEST_BAR = 30


def understands(descriptor):
    """Whether a descriptor is a terminal that can do more than print."""
    return os.isatty(descriptor) and os.environ.get('TERM', 'dumb') != 'dumb'


def coloured(descriptor):
    """Whether what is written to a descriptor may be in colours (no-color.org)."""
    return understands(descriptor) and not os.environ.get('NO_COLOR')


def painted(text, kind):
    """Text in the colour of a state, or of another kind of COLOURS."""
    return f'\x1b[{COLOURS[kind]}m{text}\x1b[0m' if kind in COLOURS else text


def columns(descriptor):
    """How many columns a terminal has; 80 where it does not know."""
    return os.get_terminal_size(descriptor).columns or 80


@contextlib.contextmanager
def lent():
    """Lend the terminal, if stderr is one, to what is called in the block; yields the descriptors.

    Its stderr is a pipe of ours then, and the tools in it would draw nothing.
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
    """A line that is drawn while the block lasts, where there is a terminal to draw on; then it is gone."""

    def __init__(self):
        inherited = os.environ.get(INHERITED, '')
        choices = [2, *([int(inherited)] if inherited.isdecimal() else [])]
        self._descriptor = next(filter(understands, choices), None)
        self.begin = time.monotonic()

    def __bool__(self):
        return self._descriptor is not None

    def __enter__(self):
        if self._descriptor == 2:
            log.wipe = WIPE
        return self

    def __exit__(self, *_):
        self._write(WIPE)
        if self._descriptor == 2:
            log.wipe = ''

    def draw(self, subject, share, rest):
        """Draw what is done, a bar of which ``share`` (0 to 1) is full, and the rest of the line."""
        if not self:
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

    def draw_bytes(self, subject, done, total):
        """Draw how many bytes are done of ``total``, how many a second, and the time that is left."""
        seconds = time.monotonic() - self.begin
        rate = done / seconds if seconds else 0
        rest = f'{100 * done // total if total else 100:3d} %'
        if done >= total:
            rest += ', checking'
        elif rate:
            rest += f', {rate / 1e6:.0f} MB/s, {(total - done) / rate:.0f} s left'
        self.draw(subject, done / total if total else 1, rest)

    def _write(self, text):
        if self:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, text.encode())
