"""How well an area under a ROC curve is known: DeLong's interval, and a bootstrap's beside it.

What is drawn independently is a unit: one photo, or all copies of a photo, or all photos of one
specimen, which share a number in `unit`. Photos of a unit tell less than so many photos would, and
an interval that does not know of it is too narrow. Without `unit` every photo is one.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
DRAWS = 2000
# Counts of one block of bootstrap draws stay under 32 MiB, whatever the number of photos.
BLOCK = 4 * 2**20


@dataclass(frozen=True, kw_only=True)
class AucInterval:
    """low <= auc <= high, two-sided. variance: of the estimate, None where it cannot be told.

    units: how many independent ones the photos are of. degenerate: they show no spread, so that
    the interval is `few_pairs`.
    """

    auc: float
    variance: float | None
    low: float
    high: float
    units: int
    degenerate: bool


def delong(
    score: NDArray[Any],
    positive: NDArray[np.bool_],
    unit: NDArray[np.int64] | None = None,
    *,
    level: float = LEVEL,
) -> AucInterval | None:
    """AUC with its variance and interval by DeLong, DeLong and Clarke-Pearson 1988, Biometrics
    44:837-845, for units of several photos as Obuchowski 1997, Biometrics 53:567-578, extends it;
    None for one class only. score: (n,), positive: bool (n,), unit: int64 (n,), any numbers.

    Of m positives X and n negatives Y, each has a placement: V10(X) is the share of negatives
    that it outscores, V01(Y) the share of positives that outscore it, ties counted half. AUC A is
    the mean of either. Each unit i has the sums a_i of V10 - A over its positives and b_i of
    V01 - A over its negatives, and the variance is

    S10 / m + S01 / n + 2 S11 / (m n),  S10 = I10 / ((I10 - 1) m) sum a_i^2,
    S01 = I01 / ((I01 - 1) n) sum b_i^2,  S11 = I / (I - 1) sum a_i b_i

    with I units, I10 of them with a positive and I01 with a negative. With one photo a unit that
    is DeLong's. Placements from midranks in O(N log N) as Sun and Xu 2014, IEEE Signal Processing
    Letters 21:1389-1393: V10 = (T_Z(X) - T_X(X)) / n, V01 = 1 - (T_Z(Y) - T_Y(Y)) / m with T_Z
    the ranks among all photos.

    The interval is formed on the logit and taken back, logit(A) +- z sd / (A (1 - A)), so that it
    stays in 0..1 and holds its level with few photos and a large AUC (Pepe 2003, "The Statistical
    Evaluation of Medical Tests"; Qin and Hotilovac 2008). Where AUC is 0 or 1, or all scores are
    equal, the variance is 0, which is no certainty: there, and with a single unit of a kind,
    which has no sample variance, it is `few_pairs`.
    """
    from scipy.stats import norm

    values = np.asarray(score, dtype=np.float64)
    if positive.all() or not positive.any():
        return None
    known = _known(values, positive, unit)
    if not known.variance:
        return _no_spread(values, known, level)
    area = known.area
    half = float(norm.ppf((1 + level) / 2)) * math.sqrt(known.variance) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-side)) for side in (middle - half, middle + half))
    return AucInterval(
        auc=area,
        variance=known.variance,
        low=low,
        high=high,
        units=known.units,
        degenerate=False,
    )


def few_pairs(area: float, pairs: int, *, level: float = LEVEL) -> tuple[float, float]:
    """The interval of AUC when every one of `pairs` pairs of a positive and a negative, no unit in
    two of them, came out alike: all won (area 1), all lost (0), all tied (1/2).

    Pairs of other units are independent, and a chance of q makes all of them come out so with
    q^pairs: what keeps that at (1 - level) / 2 is the least q believed. AUC is at least q where
    all were won, at most 1 - q where all were lost, within q / 2 of either end where all were
    tied. For any distribution, no approximation. Any other area, from a single pair's kind: 0..1.
    """
    q = ((1 - level) / 2) ** (1 / pairs)
    ends = {1.0: (q, 1.0), 0.0: (0.0, 1 - q), 0.5: (q / 2, 1 - q / 2)}
    if pairs == 1 and area not in (0.0, 1.0):
        return 0.0, 1.0
    return ends[area]


def bootstrap(
    score: NDArray[Any],
    positive: NDArray[np.bool_],
    unit: NDArray[np.int64] | None = None,
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> AucInterval | None:
    """AUC with a percentile interval over stratified redraws of units, with replacement: as many of
    those with positives only as there are, of those with negatives only, and of those with both
    (Efron and Tibshirani 1993); None for one class only. score, positive, unit as in `delong`.

    The same photos and seed give the same interval, whatever their order and the numbers of the
    units. variance: of the redrawn areas. Without spread it is `few_pairs`, as for `delong`.
    """
    values = np.asarray(score, dtype=np.float64)
    if positive.all() or not positive.any():
        return None
    known = _known(values, positive, unit)
    if not known.variance:
        return _no_spread(values, known, level)
    strata, counts = _strata(values, positive, unit)
    # A stream for each stratum, so that the size of a block does not change what is drawn.
    streams = np.random.default_rng(seed).spawn(len(strata))
    drawn: list[NDArray[np.float64]] = []
    block = max(BLOCK // counts.shape[1], 1)
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        # How often each kind of unit is drawn, and from that each distinct score of either kind
        # of photo, which is all that an area depends on.
        units = np.concatenate(
            [
                stream.multinomial(sum(often), np.array(often) / sum(often), size=rows)
                for stream, often in zip(streams, strata, strict=True)
                if often
            ],
            axis=1,
        )
        positives, negatives = np.split(np.asarray(units @ counts), 2, axis=1)
        drawn.append(_areas(positives, negatives))
    found = np.concatenate(drawn)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return AucInterval(
        auc=known.area,
        variance=float(found.var(ddof=1)),
        low=float(low),
        high=float(high),
        units=known.units,
        degenerate=False,
    )


@dataclass(frozen=True, kw_only=True)
class _Known:
    """variance: None with a single unit of a kind. pairs: of a positive and a negative, as many as
    there are without a unit in two of them."""

    area: float
    variance: float | None
    units: int
    pairs: int


def _known(
    values: NDArray[np.float64], positive: NDArray[np.bool_], unit: NDArray[np.int64] | None
) -> _Known:
    """What `delong` says. Differences are kept as whole and half numbers up to the last division,
    so that a variance of 0 is found to be 0."""
    from scipy.stats import rankdata

    m, n = int(positive.sum()), int((~positive).sum())
    _, place = np.unique(np.arange(len(values)) if unit is None else unit, return_inverse=True)
    ranks = rankdata(values)
    wins = np.empty(len(values))
    wins[positive] = ranks[positive] - rankdata(values[positive])
    wins[~positive] = m - (ranks[~positive] - rankdata(values[~positive]))
    total = float(wins[positive].sum())
    # m n times V10 - A of each positive and V01 - A of each negative, summed over each unit.
    a, b = (
        np.bincount(place, weights=np.where(kind, own * wins - total, 0.0))
        for kind, own in ((positive, m), (~positive, n))
    )
    i10, i01 = (len(np.unique(place[kind])) for kind in (positive, ~positive))
    units = len(a)
    variance = None
    if i10 > 1 and i01 > 1:
        f, f10, f01 = (i / (i - 1) for i in (units, i10, i01))
        # The formula with the square completed: no term is negative, as f <= f10 and f <= f01.
        terms = (
            f * ((n * a + m * b) ** 2).sum() / (m * n) ** 2,
            (f10 - f) * (a**2).sum() / m**2,
            (f01 - f) * (b**2).sum() / n**2,
        )
        variance = float(sum(terms)) / (m * n) ** 2
    return _Known(
        area=total / (m * n),
        variance=variance,
        units=units,
        # A pair takes two units. One that has both kinds may give either, but not both.
        pairs=min(i10, i01, units // 2),
    )


def _no_spread(values: NDArray[np.float64], known: _Known, level: float) -> AucInterval:
    # Units of several photos may show no variance at other areas too, by chance of their sizes
    # and order, and then not every pair came out alike: nothing is known.
    alike = known.area in (0.0, 1.0) or values.min() == values.max()
    low, high = 0.0, 1.0
    if alike and known.pairs:
        low, high = few_pairs(known.area, known.pairs, level=level)
    return AucInterval(
        auc=known.area,
        variance=known.variance,
        low=low,
        high=high,
        units=known.units,
        degenerate=True,
    )


def _strata(
    values: NDArray[np.float64], positive: NDArray[np.bool_], unit: NDArray[np.int64] | None
) -> tuple[list[list[int]], Any]:
    """How often each kind of unit occurs, units being of one kind when they have the same scores
    and truths: for units with positives only, with negatives only, with both. And how many
    positives of each distinct score, rising, then negatives, a unit of each kind has: a sparse
    array (kinds, 2 * scores), the rows in the order of the lists."""
    from scipy.sparse import csr_array

    distinct, place = np.unique(values, return_inverse=True)
    columns = np.where(positive, place, place + len(distinct))
    numbers = np.arange(len(values)) if unit is None else unit
    photos: dict[int, list[int]] = {}
    for number, column in zip(numbers.tolist(), columns.tolist(), strict=True):
        photos.setdefault(number, []).append(column)
    often = Counter(tuple(sorted(each)) for each in photos.values())
    strata: list[list[tuple[int, ...]]] = [[], [], []]
    for content in sorted(often):
        negatives = sum(column >= len(distinct) for column in content)
        strata[0 if not negatives else 1 if negatives == len(content) else 2].append(content)
    rows = [content for stratum in strata for content in stratum]
    where = [(row, column) for row, content in enumerate(rows) for column in content]
    # Copies of one score within a unit fall on one place and are summed.
    counts = csr_array(
        (np.ones(len(where), dtype=np.int64), tuple(np.array(where).T)),
        shape=(len(rows), 2 * len(distinct)),
    )
    return [[often[content] for content in stratum] for stratum in strata], counts


def _areas(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> NDArray[np.float64]:
    """AUC from how many of either kind have each distinct score, rising. (rows, scores) each."""
    below = np.cumsum(negatives, axis=1) - negatives
    # Twice the wins, a tie being half a win: whole numbers.
    wins = (positives * (2 * below + negatives)).sum(axis=1)
    return np.asarray(wins / (2 * positives.sum(axis=1) * negatives.sum(axis=1)))
