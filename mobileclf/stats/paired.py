"""Two models on the same photos: how much accuracy one loses, and whether that is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .planning import fewest

Outcome = Literal["proven", "not shown", "worse"]
LEVEL = 0.95
DRAWS = 10_000
ROUNDING = 1e-6  # of a sum of fractions, which may miss a whole number by a little


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """How many photos both models get right, only the second, only the first, neither.

    Counts may be fractions, where photos of one unit share the weight of one (`count_pairs`), and
    for asking what more photos of the same kind would show.
    """

    both: float
    won: float
    lost: float
    neither: float

    @property
    def n(self) -> float:
        return self.both + self.won + self.lost + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of the second less that of the first, in -1..1."""
        return (self.won - self.lost) / self.n


def count_pairs(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    unit: NDArray[np.int64] | None = None,
) -> Pairs:
    """The table of two models. first, second: bool (n,), whether each photo was right; n >= 1.

    unit: int64 (n,), a number shared by what is no independent photo of another. Each unit then
    counts one, its photos equal parts of it, so that `n` is the number of units: copies are no
    further evidence. What is shown from such a table errs on the safe side, since the square of a
    unit's change, in -1..1, is no more than the parts lost and won of it, which is the variance
    that whole counts would have.
    """
    cells = {
        "both": first & second,
        "won": second & ~first,
        "lost": first & ~second,
        "neither": ~first & ~second,
    }
    if unit is None:
        return Pairs(**{name: int(cell.sum()) for name, cell in cells.items()})
    _, place, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    weight = 1 / sizes[place]
    return Pairs(**{name: float(weight[cell].sum()) for name, cell in cells.items()})


def wilson(right: float, n: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided score interval of a proportion right / n (Wilson 1927)."""
    z = _quantile(level)
    middle = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(max(right * (n - right) / n + z * z / 4, 0.0))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def newcombe(pairs: Pairs, *, level: float = LEVEL) -> tuple[float, float]:
    """Two-sided interval of the paired accuracy difference, second less first.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions
    based on paired data", Statistics in Medicine 17:2635-2650, method 10: Wilson intervals of
    either accuracy, squared and added with the correlation phi, whose numerator is corrected for
    continuity when positive; phi = 0 where a margin is empty.
    """
    n = pairs.n
    second, first = pairs.both + pairs.won, pairs.both + pairs.lost
    low2, high2 = wilson(second, n, level=level)
    low1, high1 = wilson(first, n, level=level)
    margins = second * (n - second) * first * (n - first)
    product = pairs.both * pairs.neither - pairs.won * pairs.lost
    if product > 0:
        product = max(product - n / 2, 0.0)
    phi = product / math.sqrt(margins) if margins > 0 else 0.0
    p2, p1 = second / n, first / n
    down, up = _added(p2 - low2, high1 - p1, phi), _added(high2 - p2, p1 - low1, phi)
    return max(pairs.difference - down, -1.0), min(pairs.difference + up, 1.0)


def _added(a: float, b: float, phi: float) -> float:
    return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))


def bootstrap(
    pairs: Pairs, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Two-sided percentile interval of the paired difference over redrawn photos.

    Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3. A photo counts +1,
    0 or -1, so a redraw of n photos is one draw of the multinomial of won, lost and unchanged. It
    stands beside `newcombe` and decides nothing: with nothing won or lost it has no width at all.
    The same pairs and seed give the same interval. `n` is taken as a whole number.
    """
    n = round(pairs.n)
    shares = np.array([pairs.won, pairs.lost, pairs.both + pairs.neither]) / pairs.n
    drawn = np.random.default_rng(seed).multinomial(n, shares, size=draws)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(p: Sequence[float]) -> list[float]:
    """p of several tests, corrected so that all errors together have the chance of one.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6:65-70: the k-th smallest of m is multiplied by m - k + 1, and is no less than
    those before it. To reject what lies under `a` then errs anywhere with a chance of at most
    `a`, whatever the tests have to do with each other. In the order given.
    """
    corrected = [0.0] * len(p)
    before = 0.0
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        before = max(before, min(1.0, (len(p) - k) * p[i]))
        corrected[i] = before
    return corrected


def outcome(pairs: Pairs, max_drop: float, *, level: float = LEVEL) -> Outcome:
    """What the photos show about a drop of accuracy of at most `max_drop` (0..1).

    "worse": the whole interval lies below -max_drop. "proven": its lower bound is at or above
    -max_drop. "not shown": anything between.
    """
    low, high = newcombe(pairs, level=level)
    if high < -max_drop:
        return "worse"
    return "proven" if low >= -max_drop else "not shown"


def photos_to_prove(pairs: Pairs, max_drop: float, *, level: float = LEVEL) -> int | None:
    """The fewest photos, in the same proportions, for which the outcome is "proven".

    None where no number would do: the difference itself is at or beyond -max_drop (or it would
    take over `planning.MOST_PHOTOS`).
    """

    def proven(n: int) -> bool:
        k = n / pairs.n
        more = Pairs(
            both=pairs.both * k, won=pairs.won * k, lost=pairs.lost * k, neither=pairs.neither * k
        )
        return outcome(more, max_drop, level=level) == "proven"

    return None if pairs.difference <= -max_drop else fewest(proven)


def mcnemar(pairs: Pairs) -> float:
    """Two-sided exact p of McNemar's test: lost against won as a fair coin; 1 where both are 0.

    The test counts whole changes. Of fractions the fewer are rounded up and the more down, either
    of which only makes p larger.
    """
    from scipy.stats import binom

    less, more = sorted((pairs.won, pairs.lost))
    fewer, rest = math.ceil(less - ROUNDING), math.floor(more + ROUNDING)
    return min(1.0, 2 * float(binom.cdf(min(fewer, rest), fewer + rest, 0.5)))


def beats_majority(right: NDArray[np.bool_], truth: NDArray[np.int64]) -> tuple[float, float]:
    """Share of the largest class and the one-sided exact binomial p of beating it.

    p = P(X >= number right) for X ~ Binomial(n, share). The share is that of these very photos,
    so it is the best that any constant answer can do on them. With one class only p is 1.
    """
    from scipy.stats import binom

    share = float(np.bincount(truth).max() / len(truth))
    return share, float(binom.sf(int(right.sum()) - 1, len(truth), share))


def _quantile(level: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf((1 + level) / 2))
