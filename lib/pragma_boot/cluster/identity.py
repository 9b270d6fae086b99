"""The identity of a ledger, and the place that it was made for: TEMP/identity and TEMP/place."""
import contextlib
import os
import re

from ..system import files
from ..system.failure import Failure


class Identity:
    """The identity of the ledger in one temporary directory."""

    def __init__(self, temporary_directory: str) -> None:
        self._root = os.path.realpath(temporary_directory)
        self._path = os.path.join(self._root, 'identity')
        self._place = os.path.join(self._root, 'place')

    def exists(self) -> bool:
        """Whether it was made."""
        return os.path.exists(self._path)

    def make(self) -> None:
        """Make it where there is none. The caller holds the ledger's lock."""
        if not self.exists():
            self._write_place()
            files.write(self._path, os.urandom(16).hex().encode() + b'\n')

    def read(self) -> str:
        """32 hexadecimal digits; raises Failure for a damaged file."""
        found = _content(self._path).decode(errors='replace').strip()
        if not re.fullmatch('[0-9a-f]{32}', found):
            raise Failure(f"'{self._path}' is not the identity of a ledger")
        return found

    def refuse_copy(self) -> None:
        """Raise Failure for a copy of a temporary directory that is still there.

        The domains of both would have the same marks, and vc-clean would remove the other's.
        """
        if not self.exists():
            return
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            place = os.fsdecode(_content(self._place))
            if place == self._root:
                return
            other = os.path.join(place, os.path.basename(self._path))
            if _content(other) == _content(self._path) and not os.path.samefile(other, self._path):
                raise Failure(f"'{self._root}' is a copy of '{place}', and its clusters are those "
                              f"of '{place}': to use it on its own, remove "
                              f"'{self._root}/clusters' and '{self._path}'")
        # Made by an older version, or moved. Who may only read the folder does not write it.
        with contextlib.suppress(OSError, Failure):
            self._write_place()

    def _write_place(self) -> None:
        files.write(self._place, os.fsencode(self._root) + b'\n')


def _content(path: str) -> bytes:
    with open(path, 'rb') as file:
        return file.read().removesuffix(b'\n')
