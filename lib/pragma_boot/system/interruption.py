"""SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, but not while a child process is started."""
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

NUMBERS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP

_holds = 0
_pending = False


def prepare() -> None:
    """Have SIGTERM, and SIGINT and SIGHUP unless our caller ignores them, raise KeyboardInterrupt.

    SIGHUP comes when a terminal or an ssh session is lost.
    """
    signal.signal(signal.SIGTERM, _handle)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def ignore() -> None:
    """Ignore all of them from now on."""
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)


def _handle(number: int, frame: FrameType | None) -> None:
    global _pending
    if not _holds:
        raise KeyboardInterrupt
    _pending = True


@contextlib.contextmanager
def held() -> Iterator[Callable[[], None]]:
    """Hold an interruption back until the block ends, or calls the function that it gets.

    For the moment between the start of a child and the ``try`` that ends it. Only the main thread
    is ever interrupted.
    """
    global _holds
    import threading
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    held = True

    def release() -> None:
        global _holds, _pending
        nonlocal held
        if held:
            held = False
            _holds -= 1
            if _pending and not _holds:
                _pending = False
                raise KeyboardInterrupt

    _holds += 1
    try:
        yield release
    finally:
        release()
