"""Several things of a kind done at once."""


def each(work, items, most):
    """What ``work`` returns for each of ``items``, in their order, at most ``most`` at a time.

    Where one raises, those that were begun are brought to their end, and it is raised.
    """
    items = list(items)
    if min(most, len(items)) < 2:
        return [work(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(min(most, len(items))) as pool:
        return list(pool.map(work, items))
