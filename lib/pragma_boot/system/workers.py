"""Run one function on many items at the same time."""
from collections.abc import Callable, Iterable
from typing import TypeVar

from . import interruption

Item = TypeVar('Item')
Result = TypeVar('Result')

SIGNAL_SECONDS = 1
"""The longest time until a signal is handled that the kernel has delivered to another thread. Only
the main thread runs Python's handlers, and such a signal does not wake it."""


def each(work: Callable[[Item], Result], items: Iterable[Item], maximum: int) -> list[Result]:
    """The results of ``work`` for ``items``, in their order, at most ``maximum`` at a time.

    Where one call raises, those that have started run to completion, then the exception is raised.
    """
    items = list(items)
    if min(maximum, len(items)) < 2:
        return [work(item) for item in items]
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
    with interruption.held() as release, ThreadPoolExecutor(min(maximum, len(items))) as pool:
        # An interruption here would leave a thread that the pool does not know.
        futures = [pool.submit(work, item) for item in items]
        try:
            release()
            left = set(futures)
            while left:
                done, left = wait(left, SIGNAL_SECONDS, FIRST_EXCEPTION)
                if any(one.exception() for one in done if not one.cancelled()):
                    for one in left:
                        one.cancel()
            return [one.result() for one in futures]
        except KeyboardInterrupt:
            # The threads wait for programs, and we for the threads.
            from . import executable
            with executable.terminated():
                pool.shutdown(cancel_futures=True)
            raise
