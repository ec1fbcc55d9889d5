"""Whether two models' areas under the ROC curve differ, on the same photos."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
ROUNDING = 1e-12  # of a standard deviation that is 0; of 10,000 photos one that is not is over 1e-9


@dataclass(frozen=True, kw_only=True)
class AucDifference:
    """Areas of the first and the second model, low <= second - first <= high, two-sided p of no
    difference. degenerate: the photos show no spread of it (see `auc_difference`)."""

    first: float
    second: float
    low: float
    high: float
    p: float
    degenerate: bool

    @property
    def difference(self) -> float:
        """The second area less the first, -1..1."""
        return self.second - self.first


def placements(
    score: NDArray[Any], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each positive the share of negatives that it outscores, of each negative the share of
    positives that outscore it, ties counted half. float64 (positives,), (negatives,).

    V10 and V01 of DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837-845, eq. 4 and 5, by
    midranks as Sun and Xu 2014, IEEE Signal Processing Letters 21:1389-1393.
    """
    from scipy.stats import rankdata

    values = np.asarray(score, dtype=np.float64)
    x, y = values[positive], values[~positive]
    ranks = rankdata(values)
    return (ranks[positive] - rankdata(x)) / len(y), 1 - (ranks[~positive] - rankdata(y)) / len(x)


def auc_difference(
    first: NDArray[Any],
    second: NDArray[Any],
    positive: NDArray[np.bool_],
    *,
    unit: NDArray[np.int64] | None = None,
    level: float = LEVEL,
) -> AucDifference | None:
    """The paired comparison of two areas; None where the photos are all of one kind.

    first, second: (n,), the scores of the two models. positive: bool (n,). unit: int64 (n,), a
    number shared by what is no independent photo of another.

    Areas are means of placements, so their difference is the mean of the differences D of each
    photo's two placements, and its variance is that of one area with D in place of V: DeLong
    1988, eq. 6 with the contrast (-1, 1), covariances of the two models included. With units it
    is Obuchowski's (1997, Biometrics 53:567-578), which adds D up over each unit; with one photo
    a unit that is DeLong's to the last digit. Interval and p are the normal's, ends cut at -1..1.

    Where no placement moved, the variance is 0, which is no certainty: of k = min(positive
    units, negative units) pairs of units, none in two of them, not one changed, and a chance q
    of no change gives that with q^k; so the interval is -(1 - q) .. 1 - q at q^k = (1 - level) /
    2, p 1. With a single unit of a kind nothing is known, nor where all moved alike, as two and
    two photos may by chance: -1..1, p 1. All these are `degenerate`.
    """
    from scipy.stats import norm

    if positive.all() or not positive.any():
        return None
    one, other = placements(first, positive), placements(second, positive)
    areas = {"first": float(one[0].mean()), "second": float(other[0].mean())}
    moved = [b - a for a, b in zip(one, other, strict=True)]
    units = np.arange(len(positive)) if unit is None else np.unique(unit, return_inverse=True)[1]
    kinds = [units[positive], units[~positive]]
    fewest = min(len(np.unique(kind)) for kind in kinds)
    nothing = AucDifference(**areas, low=-1.0, high=1.0, p=1.0, degenerate=True)
    if fewest == 1:
        return nothing
    if not any(each.any() for each in moved):
        q = ((1 - level) / 2) ** (1 / fewest)
        return AucDifference(**areas, low=q - 1, high=1 - q, p=1.0, degenerate=True)
    difference = areas["second"] - areas["first"]
    sd = math.sqrt(_variance(moved, kinds, difference, int(units.max()) + 1))
    if sd < ROUNDING:
        return nothing
    half = float(norm.ppf((1 + level) / 2)) * sd
    return AucDifference(
        **areas,
        low=max(difference - half, -1.0),
        high=min(difference + half, 1.0),
        p=float(2 * norm.sf(abs(difference) / sd)),
        degenerate=False,
    )


def _variance(
    moved: list[NDArray[np.float64]], kinds: list[NDArray[np.int64]], mean: float, units: int
) -> float:
    """Obuchowski's S10 / M + S01 / N + 2 S11 / (M N), of sums over each unit less their mean."""
    sums = [
        np.bincount(kind, weights=each - mean, minlength=units)
        for each, kind in zip(moved, kinds, strict=True)
    ]
    total = 0.0
    for own, kind in zip(sums, kinds, strict=True):
        having = len(np.unique(kind))
        total += having / (having - 1) * float((own**2).sum()) / len(kind) ** 2
    every = len(np.unique(np.concatenate(kinds)))
    both = float((sums[0] * sums[1]).sum()) / (len(kinds[0]) * len(kinds[1]))
    return max(total + 2 * every / (every - 1) * both, 0.0)
