"""An author's image as it is read: one file, or parts that follow one another."""
from __future__ import annotations

import contextlib
import fcntl
import io
import os
import threading
from collections.abc import Iterator, Sequence

from ..system import files
from .sparse import CHUNK


def open_file(path: str) -> io.FileIO:
    """Open an author's image for reading; raises Failure where it is not a regular file."""
    return files.open_regular(path, f"image '{path}'")


def identity(path: str) -> str:
    """A text that changes with a source file: its path, size, inode and times."""
    with open_file(path) as file:
        found = os.fstat(file.fileno())
    return f'{path}\n{found.st_size} {found.st_ino} {found.st_mtime_ns} {found.st_ctime_ns}'


class Source:
    """The open file or files of an image, to be used in a ``with``."""

    def __init__(self, paths: Sequence[str]) -> None:
        with contextlib.ExitStack() as stack:
            self._files = [stack.enter_context(open_file(path)) for path in paths]
            self._stack = stack.pop_all()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def descriptors(self) -> list[int]:
        """The files, in their order."""
        return [file.fileno() for file in self._files]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(os.fstat(number).st_size for number in self.descriptors)

    def position(self) -> int:
        """How much was read, by us or by a child that has the files."""
        return sum(os.lseek(number, 0, os.SEEK_CUR) for number in self.descriptors)

    def rewind(self) -> None:
        """Have the next read begin at the first byte."""
        for number in self.descriptors:
            os.lseek(number, 0, os.SEEK_SET)

    def at(self, count: int, offset: int) -> bytes:
        """Some of ``count`` bytes at ``offset``, b'' after the end; the position stays."""
        for number in self.descriptors:
            size = os.fstat(number).st_size
            if offset < size:
                return os.pread(number, count, offset)
            offset -= size
        return b''

    def head(self, count: int) -> bytes:
        """The first ``count`` bytes, or all."""
        data = b''
        while len(data) < count and (more := self.at(count - len(data), len(data))):
            data += more
        return data

    @contextlib.contextmanager
    def joined(self) -> Iterator[int]:
        """A descriptor of the whole image for the block: the file itself, or a pipe of the parts.

        Raises OSError at the end of the block where a part could not be read.
        """
        if len(self._files) == 1:
            yield self._files[0].fileno()
            return
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, CHUNK)
        errors: list[OSError] = []
        thread = threading.Thread(target=self._feed, args=(writer, errors), daemon=True)
        thread.start()
        try:
            yield reader
        finally:
            os.close(reader)
        thread.join()
        if errors:
            raise errors[0]

    def _feed(self, writer: int, errors: list[OSError]) -> None:
        """Write all parts to a pipe. A reader that wants no more has an error of its own."""
        with open(writer, 'wb', buffering=0) as pipe:
            for number in self.descriptors:
                try:
                    while data := os.read(number, CHUNK):
                        view = memoryview(data)
                        while view:
                            view = view[pipe.write(view):]
                except BrokenPipeError:
                    return
                except OSError as error:
                    errors.append(error)
                    return
