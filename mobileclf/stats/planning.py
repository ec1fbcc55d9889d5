"""How many photos would do."""

from __future__ import annotations

from collections.abc import Callable

MOST_PHOTOS = 10**9


def fewest(enough: Callable[[int], bool]) -> int | None:
    """The fewest photos, 1 or more, that are `enough`, which more of them stay; None where it would
    take over MOST_PHOTOS. By doubling, then halving what is between."""
    low, high = 0, 1
    while not enough(high):
        low, high = high, 2 * high
        if high > MOST_PHOTOS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
