"""A process that acts in our place if we are killed."""
import contextlib
import os
import time
from collections.abc import Callable, Iterator

from . import interruption, log
from .failure import Failure

TRIES = 60
"""A second between two: a service that we used may need time to notice that we are gone."""


@contextlib.contextmanager
def on_death(action: Callable[[], object], said: str) -> Iterator[None]:
    """Have another process call ``action`` if we end within the block, and say ``said`` with -v.

    It is called again after a Failure.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        _watch(reader, action, said)
    os.close(reader)
    try:
        yield
    finally:
        os.write(writer, b'.')
        os.close(writer)
        os.waitpid(child, 0)


def _watch(reader: int, action: Callable[[], object], said: str) -> None:
    """What the other process does. It does not return."""
    try:
        interruption.ignore()
        os.setsid()
        if not os.read(reader, 1):
            for _ in range(TRIES):
                with contextlib.suppress(Failure):
                    action()
                    log.detail(said)
                    break
                time.sleep(1)
    finally:
        os._exit(0)
