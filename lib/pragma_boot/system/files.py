"""Files: regular ones to read, and new ones that appear whole or not at all."""
import contextlib
import io
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from .failure import Failure, cause


def open_regular(path: str, subject: str) -> io.FileIO:
    """Open a file for reading; raises Failure where it is not a regular one, such as a FIFO.

    ``subject`` names it in messages.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise Failure(f'cannot open {subject}: {cause(error)}') from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Failure(f'{subject} is not a regular file')
    return open(descriptor, 'rb', buffering=0)


def temporary(path: str) -> str:
    """The hidden name, in the same folder, under which ``path`` is written."""
    return os.path.join(os.path.dirname(path), f'.{os.path.basename(path)}.tmp')


@contextlib.contextmanager
def draft(path: str) -> Iterator[BinaryIO]:
    """Open a new binary file under the temporary name of ``path``, in the place of an older one.

    It is removed after the block unless the block renamed it (commit). An OSError of the block that
    names no file, as one of write does, or the temporary one, names ``path``.
    """
    name = temporary(path)
    remove(name)
    try:
        with open(os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), 'w+b') as file:
            yield file
    except OSError as error:
        if error.filename in (None, name):
            error.filename = path
        raise
    finally:
        remove(name)


@contextlib.contextmanager
def unnamed(folder: str) -> Iterator[BinaryIO]:
    """A binary file without a name in ``folder`` for the block, which an OSError of writing names.

    It disappears however we exit.
    """
    import tempfile
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            yield file
    except OSError as error:
        error.filename = error.filename or folder
        raise


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def commit(file: BinaryIO, name: str, path: str, mode: int) -> None:
    """Give the open file ``name`` its mode and the name ``path``; both survive a crash after it."""
    file.flush()
    os.fchmod(file.fileno(), mode)
    os.fsync(file.fileno())
    os.replace(name, path)
    sync_folder(os.path.dirname(path) or '.')


def sync_folder(path: str) -> None:
    """Have the names in a folder survive a crash."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def link(path: str, target: str) -> None:
    """Give a file a second name, or make a copy where the file system has no hard links (FAT)."""
    try:
        os.link(path, target)
    except PermissionError:
        import shutil
        shutil.copyfile(path, target)
        with open(target, 'rb') as file:
            os.fchmod(file.fileno(), os.stat(path).st_mode & 0o777)
            os.fsync(file.fileno())


def write(path: str, content: bytes, mode: int = 0o644) -> None:
    """Replace the file at ``path``: write a new one, sync it, rename it."""
    with draft(path) as file:
        file.write(content)
        commit(file, temporary(path), path, mode)
