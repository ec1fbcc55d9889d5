"""Ratios measured in rounds: their median, and how well it is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVEL = 0.95


def median_interval(values: Sequence[float], *, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided interval of the median of what `values` were drawn from, for any distribution.

    Its ends are order statistics: how many of n independent values fall below the median is
    binomial(n, 1/2), so between the k-th from below and the k-th from above the median lies with
    probability 1 - 2 P(B < k), and k is the largest for which this is at least `level` (Conover,
    "Practical Nonparametric Statistics", 3rd edition, section 3.2). Infinite where values are
    too few: under 6 for 0.95.
    """
    from scipy.stats import binom

    n = len(values)
    # The largest k with P(B <= k - 1) <= (1 - level) / 2; ppf gives the least with P(B <= k) >= it.
    tail = (1 - level) / 2
    k = int(binom.ppf(tail, n, 0.5)) if n else 0
    if n and binom.cdf(k, n, 0.5) <= tail:
        k += 1
    if k < 1:
        return -math.inf, math.inf
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]


def relative_width(middle: float, interval: tuple[float, float]) -> float:
    """How far the interval reaches from `middle` > 0 at most, as a fraction of it."""
    return max(interval[1] - middle, middle - interval[0]) / middle
