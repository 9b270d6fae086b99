"""Locks between processes, by flock(2) on a file or folder."""
import contextlib
import fcntl
import os
from collections.abc import Iterator


@contextlib.contextmanager
def exclusive(path: str, flags: int = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW,
              wait: bool = True) -> Iterator[None]:
    """Hold the lock at ``path`` for the block; a process that dies releases it.

    Without ``wait``, raises BlockingIOError where another process holds it.

    The descriptor is closed on exec (PEP 446), so that no child holds the lock. The file stays:
    processes that wait for a removed file would not exclude those that open a new one.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def on_folder(path: str, operation: int) -> Iterator[None]:
    """Hold a lock on a folder for the block: fcntl.LOCK_SH or LOCK_EX, as ``exclusive`` does.

    With LOCK_NB, raises BlockingIOError where another process holds it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
