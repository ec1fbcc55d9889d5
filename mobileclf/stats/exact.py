"""Exact one-sided bounds of a proportion (Clopper and Pearson 1934), and what they allow.

K of n independent photos show something that each shows with an unknown chance p. The bounds are
those p at which the count seen would be just too small, or too large, to be believed:
P(Bin(n, upper) <= k) = 1 - confidence, P(Bin(n, lower) >= k) = 1 - confidence. Each errs with
probability of at most 1 - confidence, for every n and p. A two-sided interval of 95 % is both at
97.5 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def upper_bound(k: ArrayLike, n: ArrayLike, *, confidence: float) -> NDArray[np.float64]:
    """The largest p that k of n photos leave possible; 1 where k = n. float64, broadcast."""
    from scipy.stats import beta

    k, n = np.asarray(k), np.asarray(n)
    rest = np.maximum(n - k, 1)  # beta has no parameter 0
    return np.asarray(np.where(k >= n, 1.0, beta.ppf(confidence, k + 1, rest)), dtype=np.float64)


def lower_bound(k: ArrayLike, n: ArrayLike, *, confidence: float) -> NDArray[np.float64]:
    """The smallest p that k of n photos leave possible; 0 where k = 0. float64, broadcast."""
    return np.asarray(1 - upper_bound(np.asarray(n) - k, n, confidence=confidence))


def most_believable(n: int, p: float, *, risk: float) -> int:
    """The largest k for which P(Bin(n, p) <= k) <= risk; -1 where there is none.

    So it is the largest k whose `upper_bound` with confidence 1 - risk is at most p, for p < 1.
    """
    return _most(_cumulated(n, p), risk)


def fewest_unbelievable(n: int, p: float, *, risk: float) -> int:
    """The smallest k for which P(Bin(n, p) >= k) <= risk; n + 1 where there is none below.

    So it is the smallest k >= 1 whose `lower_bound` with confidence 1 - risk is at least p.
    """
    # P(B >= k) = P(n - B <= n - k), and n - B is Bin(n, 1 - p).
    return n - most_believable(n, 1 - p, risk=risk)


def _cumulated(n: int, p: float) -> NDArray[np.float64]:
    from scipy.stats import binom

    return np.asarray(binom.cdf(np.arange(n + 1), n, p), dtype=np.float64)


def _most(cumulated: NDArray[Any], risk: float) -> int:
    return int(np.searchsorted(cumulated, risk, side="right")) - 1
