"""Exclusive locks between processes, by flock(2) on a file or folder."""
import contextlib
import fcntl
import os


@contextlib.contextmanager
def exclusive(path, flags=os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW):
    """Hold the lock at ``path`` for the block; whoever dies in it, even by kill -9, frees it.

    The descriptor is closed on exec (PEP 446), so that no child keeps the lock. The file stays:
    one that is removed while somebody waits for it would lock nothing.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
