"""Run one function on many items at the same time."""
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def each(work: Callable[[Item], Result], items: Iterable[Item], maximum: int) -> list[Result]:
    """The results of ``work`` for ``items``, in their order, at most ``maximum`` at a time.

    Where one call raises, those that have started run to completion, then the exception is raised.
    """
    items = list(items)
    if min(maximum, len(items)) < 2:
        return [work(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(min(maximum, len(items))) as pool:
        try:
            return list(pool.map(work, items))
        except KeyboardInterrupt:
            # The threads wait for programs, and we for the threads.
            from . import executable
            with executable.terminated():
                pool.shutdown(cancel_futures=True)
            raise
