"""Console logs of nodes: read, followed, and searched for what the guest part reports."""
import contextlib
import io
import os
import re

MAXIMUM_BYTES = 4 << 20
"""More than virtlogd writes to one file before it begins the next (2 MiB, virtlogd.conf(5))."""


def path(folder: str, name: str) -> str:
    """The path of the console log of node ``name`` in its cluster's folder."""
    return os.path.join(folder, f'{name}.console.log')


LINE = rb'(?m)pragma_boot: (ready|waiting|failed|warning|hostkey) [^\s:]+:? *([^\r\n]*)\r*$'
"""A line of the guest part: ``pragma_boot: WORD NAME`` and its text (images/guest/pragma-guest).

The name is not compared: a guest that cannot read its document does not know its own.
"""


NEWLINE = b'\n'[0]


def read(log: str) -> bytes:
    """The end of a console log on this machine, after the end of virtlogd's previous file."""
    data = b''
    for part in (f'{log}.0', log):
        try:
            with open(part, 'rb', buffering=0) as file:
                # No buffer of the maximum: there may be thousands of small logs.
                size = os.fstat(file.fileno()).st_size
                data += (file.read(min(size, MAXIMUM_BYTES)) or b'') + b'\n'
        except FileNotFoundError:
            continue
    return data


class Tail:
    """A console log on this machine, read as it grows."""

    seconds = 0.5
    """Between two reads."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._file: io.FileIO | None = None

    def read(self) -> bytes:
        """What was added since the last call; the first time the whole log."""
        if self._file is None:
            return self._all_of(f'{self._log}.0') + self._begin()
        data = self._file.read()
        status = os.fstat(self._file.fileno())
        if status.st_size < self._file.tell():
            # vc-boot emptied the log: the node was started again.
            self._file.seek(0)
        current = self._is_current(status)
        data += self._file.read()
        return data if current else data + self._begin()

    def _begin(self) -> bytes:
        """Open the log; its present content."""
        with contextlib.suppress(FileNotFoundError):
            # Kept open: virtlogd may rename it.
            file = self._file = open(self._log, 'rb', buffering=0)  # noqa: SIM115
            return file.read()
        return b''

    def _is_current(self, status: os.stat_result) -> bool:
        """Whether the open file still has the log's name: virtlogd starts another after 2 MiB."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(status, os.stat(self._log))
        return False

    @staticmethod
    def _all_of(path: str) -> bytes:
        with contextlib.suppress(FileNotFoundError), open(path, 'rb') as file:
            return file.read()
        return b''


def reports(data: bytes) -> dict[str, str]:
    """What a guest reported on its console: {'ready': '', 'failed': reason, 'hostkey': key}.

    A guest that is told a new document reports again: of 'ready' and 'failed' the last counts.
    """
    found: dict[str, str] = {}
    # The expression has no '^': with its fixed beginning, the search is several times as fast.
    for line in re.finditer(LINE, data):
        if line.start() and data[line.start() - 1] != NEWLINE:
            continue
        if line[1] in (b'ready', b'failed'):
            found.pop('ready', None)
            found.pop('failed', None)
        found[line[1].decode()] = line[2].decode(errors='replace')
    return found


CONTROL = r'\x1b(\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]'
"""Escape sequences and control characters, but for tabs and the ends of lines."""

LONGEST = 120
"""Characters of a line of a console in a message."""


def last_line(data: bytes) -> str:
    """The last line of a console log that has text, as a terminal would show it; '' for none."""
    lines = _lines(data)
    line = lines[-1] if lines else ''
    return line if len(line) <= LONGEST else f'{line[:LONGEST]}…'


def _lines(data: bytes) -> list[str]:
    """The last lines of a console log that have text, as a terminal would show them."""
    text = re.sub(CONTROL, '', data[-8192:].decode(errors='replace')).replace('\r', '\n')
    return [' '.join(line.split()) for line in text.split('\n') if line.strip()]


UNIT = ('Starting|Started|Finished|Mounting|Mounted|Listening on|Reached target|Expecting device|'
        'Set up')
STAGES = (
    ('boot loader', '.*(?:GRUB|Booting |SYSLINUX|EXTLINUX|Loading Linux|BdsDxe)'),
    ('kernel', r'\[ *[0-9]+\.[0-9]{6}\] (?!systemd\[1\])|Decompressing Linux'),
    ('', rf'(?:.*\] |.*systemd\[1\]: )?((?:{UNIT}) [\w@.:\\-]{{1,40}})'),
    ('', r'.*\b(cloud-init)\[[0-9]+\]: '),
    ('', '.*(login): ?$'),
    ('', 'pragma_boot: (hostkey|warning) '),
)
"""What a guest does when it writes such a line, in the order in which it does it."""


def stage(data: bytes) -> tuple[int, str]:
    """How far a guest has come by the end of its console log: a rank, and words for it."""
    lines = _lines(data)
    for rank, (words, pattern) in reversed(list(enumerate(STAGES, 1))):
        for line in reversed(lines):
            # Compiled when a guest is waited for: that takes milliseconds.
            if found := re.match(pattern, line):
                return rank, words or found[1]
    return 0, 'firmware'
