"""A threshold that comes with a promise: with `confidence`, at most the share `most` of harmful
photos is called harmless.

The rule calls a photo harmless when score < threshold and it does not say "not sure" of it. Its
risk R(t) is the chance that it does so to a harmful photo. For each threshold t = 1, 2, ... the
hypothesis "R(t) > most" is tested with the exact binomial tail p(t) = P(Bin(n, most) <= M(t)),
M(t) being the misses among n harmful photos; p(t) <= delta = 1 - confidence is the same as: the
Clopper-Pearson upper bound of R(t) at that confidence is at most `most`.

Why looking at many thresholds costs nothing. Angelopoulos, Bates, Candes, Jordan and Lei, "Learn
then Test: Calibrating Predictive Algorithms to Achieve Risk Control" (2021, arXiv 2110.01052; 2025,
Annals of Applied Statistics 19:1641-1662), show: if the p(t) are valid and the thresholds rejected
come from a procedure that controls the family-wise error at delta, then with probability 1 - delta
R(t) <= most holds for all of them at once. The procedure is their fixed-sequence testing: from the
safest threshold upward, in an order fixed before any photo is seen, each at the full delta, up to
the first that is not rejected. A mistake is made only if the first hypothesis in the order that is
true is rejected, which one test at delta bounds. Scores may be integers and tied: nothing above
asks for a distribution, and p(t) is exact for whole counts.

Here R(t) and M(t) only grow with t, so the walk ends at an order statistic: with k the largest
count for which P(Bin(n, most) <= k) <= delta, the largest t with M(t) <= k is the (k + 1)-th
smallest score of a harmful photo (of one held back as not sure: +inf). It is also the monotone
case of Bates, Angelopoulos, Lei, Malik and Jordan, "Distribution-free, risk-controlling
prediction sets" (2021, JACM 68), and Wilks's tolerance limit (1941). In one line: let t* be the
smallest integer with R(t*) > most; the promise is broken only if t >= t*, hence M(t*) <= k, and
that has a chance under P(Bin(n, most) <= k) <= delta.

Any lower threshold keeps the promise, however it is chosen. Conformal risk control (Angelopoulos
et al. 2022, arXiv 2208.02814) would allow about most * (n + 1) - 1 misses, but bounds the mean of R
over draws of photos, not R in 95 of 100 draws: that is another promise, and not this one.

What is assumed: the n photos are drawn independently as those that people will take, and neither
model nor abstain rule was chosen by them. Copies of one photo are one photo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError, ProofError, UsageError

from .exact import most_believable, upper_bound
from .operating_point import few_below
from .planning import fewest


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """A threshold (quanta) that keeps the promise, and what it rests on.

    harmful, missed: photos it was shown on, and those of them called harmless. bound: upper bound
    of their chance. harmless, passed: harmless photos, and those of them called harmless. warning:
    one line on why not to trust the threshold much, or None.
    """

    threshold_q: int
    most: float
    confidence: float
    harmful: int
    missed: int
    bound: float
    harmless: int
    passed: int
    warning: str | None


def guarantee(
    score: NDArray[np.integer[Any]],
    positive: NDArray[np.bool_],
    *,
    most: float = 0.01,
    confidence: float = 0.95,
    not_sure: NDArray[np.bool_] | None = None,
) -> Guarantee:
    """The largest integer threshold for which the promise above holds on these photos.

    score: integers >= 0 (n,); where the promise is to hold on several kernels, the least of their
    scores of each photo. positive: bool (n,), harmful. not_sure: bool (n,), photos that the abstain
    rule takes out of those called harmless; it must have been fixed without these harmful photos:
    the best of several that were tried on them breaks the promise more often.

    Raises ProofError where no threshold of at least 1 keeps it, saying how many harmful photos
    are needed, or where the largest one calls no harmless photo harmless, so that nothing is
    promised; DataError for photos of one kind or scores that are no integers; UsageError.
    """
    if not 0 < most < 1 or not 0 < confidence < 1:
        raise UsageError(
            "guarantee: wanted a share and a confidence between 0 and 1, "
            f"found {most} and {confidence}"
        )
    if not np.issubdtype(score.dtype, np.integer):
        raise DataError(f"guarantee: wanted integer scores, found {score.dtype}")
    harmful, harmless = int(positive.sum()), int((~positive).sum())
    if not harmful or not harmless:
        raise DataError(
            "guarantee: wanted harmful and harmless photos in the part, "
            f"found {harmful} and {harmless}; add photos"
        )
    held = np.zeros(len(score), dtype=np.bool_) if not_sure is None else not_sure
    delta = 1 - confidence
    allowed = most_believable(harmful, most, risk=delta)
    risky = np.sort(score[positive & ~held])
    # With all others held back every threshold will do; the highest harmful score is enough.
    order = np.r_[risky, np.full(harmful - len(risky), score[positive].max())]
    threshold_q = int(order[allowed]) if allowed >= 0 else 0
    asked = f"at most {most:.3g} of harmful photos called harmless with {confidence:.3g} confidence"
    if threshold_q < 1:
        raise ProofError(_refusal(asked, harmful, int((risky < 1).sum()), most, delta))
    found = kept(score, positive, threshold_q, most=most, confidence=confidence, not_sure=not_sure)
    if not found.passed:
        raise ProofError(
            f"guarantee: wanted {asked} by a rule that calls some photos harmless, found that "
            f"threshold {threshold_q} passes none of {harmless} harmless photos; train longer, "
            "give more photos or allow more"
        )
    return found


def kept(
    score: NDArray[np.integer[Any]],
    positive: NDArray[np.bool_],
    threshold_q: int,
    *,
    most: float,
    confidence: float,
    not_sure: NDArray[np.bool_] | None = None,
) -> Guarantee:
    """What a threshold no higher than `guarantee`'s does on the same photos: the promise holds
    for it too, and its own misses bound it lower."""
    held = np.zeros(len(score), dtype=np.bool_) if not_sure is None else not_sure
    under = (score < threshold_q) & ~held
    missed, harmful = int((under & positive).sum()), int(positive.sum())
    return Guarantee(
        threshold_q=threshold_q,
        most=most,
        confidence=confidence,
        harmful=harmful,
        missed=missed,
        bound=float(upper_bound(missed, harmful, confidence=confidence)),
        harmless=len(positive) - harmful,
        passed=int((under & ~positive).sum()),
        warning=few_below(threshold_q, len(np.unique(score[score < threshold_q]))),
    )


def photos_needed(most: float, delta: float, *, rate: float = 0.0) -> int | None:
    """The fewest harmful photos for which the promise can be made if the share `rate` of them is
    missed; None where no number would do: rate >= most (or it would take over
    `planning.MOST_PHOTOS`).

    With rate 0 it is the smallest n with (1 - most)^n <= delta: n >= ln(delta) / ln(1 - most).
    Else the smallest n with P(Bin(n, most) <= rate n) <= delta, the tail carried on between whole
    counts by the incomplete beta function I(1 - most; n - rate n, rate n + 1), so that n does not
    jump. It is a plan: with just so many photos, and that rate, about every second draw succeeds.
    """
    from scipy.special import betainc

    def enough(n: int) -> bool:
        return float(betainc(n - rate * n, rate * n + 1, 1 - most)) <= delta

    return None if rate >= most else fewest(enough)


def _refusal(asked: str, harmful: int, missed: int, most: float, delta: float) -> str:
    bound = float(upper_bound(missed, harmful, confidence=1 - delta))
    needed = photos_needed(most, delta, rate=missed / harmful)
    found = f"{missed} of {harmful} missed at the safest threshold, which shows {bound:.3g}"
    if needed is None:
        return (
            f"guarantee: wanted {asked}, found {found}; no number of photos would do: train "
            f"longer or allow more than {math.ceil(1000 * bound) / 1000:.3g}"
        )
    return (
        f"guarantee: wanted {asked}, found {found}; {needed} harmful photos are needed at that "
        f"rate in this part, or allow {math.ceil(1000 * bound) / 1000:.3g}"
    )
