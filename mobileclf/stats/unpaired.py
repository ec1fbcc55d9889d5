"""Two shares of right answers on photos that may be others: is a drop shown, or shown not to be?"""

from __future__ import annotations

import math

from .paired import LEVEL, Outcome, wilson


def newcombe(
    right: int, n: int, own_right: int, own_n: int, *, level: float = LEVEL
) -> tuple[float, float]:
    """Two-sided interval of right / n less own_right / own_n; n, own_n >= 1.

    Newcombe 1998, "Interval estimation for the difference between independent proportions:
    comparison of eleven methods", Statistics in Medicine 17:873-890, method 10: from Wilson
    intervals of both shares, distances to their ends squared and added.
    """
    share, own = right / n, own_right / own_n
    low, high = wilson(right, n, level=level)
    own_low, own_high = wilson(own_right, own_n, level=level)
    down, up = math.hypot(share - low, own_high - own), math.hypot(high - share, own - own_low)
    return max(share - own - down, -1.0), min(share - own + up, 1.0)


def outcome(interval: tuple[float, float], max_drop: float) -> Outcome:
    """What an interval of a difference shows of a drop of at most `max_drop` (0..1): as
    `paired.outcome`."""
    low, high = interval
    if high < -max_drop:
        return "worse"
    return "proven" if low >= -max_drop else "not shown"
