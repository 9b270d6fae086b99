"""A node's serial console, kept in its cluster's folder: where its guest says that it is ready."""
import contextlib
import io
import os
import re

MOST_BYTES = 4 << 20
"""More than virtlogd keeps in one file before it begins the next (2 MiB, virtlogd.conf)."""


def path(folder: str, name: str) -> str:
    """The console log of the node ``name`` in its cluster's folder."""
    return os.path.join(folder, f'{name}.console.log')


LINE = re.compile(rb'^pragma_boot: (ready|failed|hostkey) [^\s:]+:? *([^\r\n]*)\r*$', re.M)
"""What the guest part says: ``pragma_boot: WORD NAME`` and what follows. The name is not asked for:
a guest that could not read its document does not know it."""


def read(log: str) -> bytes:
    """The end of a console log that lies here, and of the one that virtlogd began before it."""
    data = b''
    for part in (f'{log}.0', log):
        try:
            with open(part, 'rb') as file:
                data += file.read(MOST_BYTES) + b'\n'
        except FileNotFoundError:
            continue
    return data


class Tail:
    """A console log that lies here, read as it grows."""

    seconds = 0.5
    """How often it is worth reading."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._file: io.FileIO | None = None

    def read(self) -> bytes:
        """What was added since the last time, bytes; the first time all that there is."""
        if self._file is None:
            return self._all_of(f'{self._log}.0') + self._begin()
        data = self._file.read()
        found = os.fstat(self._file.fileno())
        if found.st_size < self._file.tell():
            # vc-boot emptied it: the node was started again.
            self._file.seek(0)
        current = self._is_current(found)
        data += self._file.read()
        return data if current else data + self._begin()

    def _begin(self) -> bytes:
        """Open the log; what is in it now."""
        with contextlib.suppress(FileNotFoundError):
            file = self._file = open(self._log, 'rb', buffering=0)
            return file.read()
        return b''

    def _is_current(self, found: os.stat_result) -> bool:
        """Whether the open file still has the log's name: virtlogd begins another after 2 MiB."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(found, os.stat(self._log))
        return False

    @staticmethod
    def _all_of(path: str) -> bytes:
        with contextlib.suppress(FileNotFoundError), open(path, 'rb') as file:
            return file.read()
        return b''


def reports(data: bytes) -> dict[str, str]:
    """What a guest reported on its console since vc-boot emptied it: {'ready': '', 'failed': reason, …}."""
    return {word.decode(): rest.decode(errors='replace') for word, rest in LINE.findall(data)}
