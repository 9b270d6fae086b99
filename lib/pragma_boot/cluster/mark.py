"""The mark of pragma_boot in a cluster's folder: which driver it called, and its lock.

Who holds the lock lets a driver allocate the cluster, which has no document until then.
"""
import contextlib
import os
from collections.abc import Iterator

from ..engine.protocol import MARK
from ..system import files
from ..system.lock import exclusive


def write(folder: str, driver: str) -> None:
    """Write the name of the driver."""
    files.write(os.path.join(folder, MARK), f'{driver}\n'.encode())


def driver(folder: str) -> str | None:
    """The driver that pragma_boot called for a cluster; None where the filters made it."""
    with contextlib.suppress(OSError), open(os.path.join(folder, MARK), 'rb') as file:
        return file.read().decode(errors='replace').strip()
    return None


@contextlib.contextmanager
def allocating(folder: str) -> Iterator[None]:
    """Hold the lock for the block."""
    with exclusive(os.path.join(folder, MARK), os.O_RDONLY):
        yield


def is_allocating(folder: str) -> bool:
    """Whether a process holds the lock."""
    try:
        with exclusive(os.path.join(folder, MARK), os.O_RDONLY, wait=False):
            return False
    except OSError as error:
        return isinstance(error, BlockingIOError)
