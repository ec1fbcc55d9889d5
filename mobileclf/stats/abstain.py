"""When to say "not sure": rules on the integers at the one output that the phone has.

A photo whose score reaches the threshold is called harmful, always: no rule takes a warning back.
Under the threshold it is called harmless, unless it is not sure enough. How sure is an integer, by
one of three measures (`decision.sureness`), and "not sure" is sureness < cut:

largest  the largest output
margin   the largest output less the second largest, 0 on a tie
score    how far the group score lies under the threshold; cut c says "not sure" where the score is
         in [threshold + 1 - c, threshold), so only below that is harmless

A cut of 0 (score: 1) holds nothing back, and a higher cut holds back more: all it does is to take
photos out of those called harmless. So a promise that holds for a rule holds with a higher cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError, ProofError, UsageError

from .operating_point import Costs, exactly


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What a rule does on photos, in numbers of photos."""

    caught: int
    missed: int
    harmful_not_sure: int
    false_alarms: int
    passed: int
    harmless_not_sure: int

    @property
    def n(self) -> int:
        return self.caught + self.missed + self.false_alarms + self.passed + self.not_sure

    @property
    def not_sure(self) -> int:
        return self.harmful_not_sure + self.harmless_not_sure

    @property
    def answer_rate(self) -> float:
        """Share of photos that get a verdict, harmful or harmless."""
        return 1 - self.not_sure / self.n

    def cost(self, costs: Costs) -> Fraction:
        missed, alarm, abstain = map(exactly, (costs.missed, costs.false_alarm, costs.abstain))
        return missed * self.missed + alarm * self.false_alarms + abstain * self.not_sure


@dataclass(frozen=True, kw_only=True)
class AbstainCurve:
    """What each cut does, cuts rising: answered and missed photos. All int64 (points,)."""

    cut: NDArray[np.int64]
    answered: NDArray[np.int64]
    missed: NDArray[np.int64]


def tally(
    reached: NDArray[np.bool_], not_sure: NDArray[np.bool_], positive: NDArray[np.bool_]
) -> Tally:
    """Counts of a rule. reached: score >= threshold. not_sure: counts only where not reached."""
    held, plain = not_sure & ~reached, ~not_sure & ~reached
    return Tally(
        caught=int((reached & positive).sum()),
        missed=int((plain & positive).sum()),
        harmful_not_sure=int((held & positive).sum()),
        false_alarms=int((reached & ~positive).sum()),
        passed=int((plain & ~positive).sum()),
        harmless_not_sure=int((held & ~positive).sum()),
    )


def cut_for_rate(sure: NDArray[np.int64], reached: NDArray[np.bool_], rate: float) -> int:
    """The highest cut with which at least the share `rate`, in 0..1, of the photos is answered.

    The highest, so that all that may be held back is. Looks at no label: on photos that a
    guarantee does not use, or on the harmless ones alone, it may be chosen without weakening that
    guarantee. sure: int64 (n,). reached: bool (n,). Raises DataError without photos.
    """
    if not 0 <= rate <= 1:
        raise UsageError(f"answer rate: wanted one in 0..1, found {rate}")
    if not len(sure):
        raise DataError("answer rate: wanted photos to choose a cut on, found none")
    # The most that may be held back, rounded down in whole numbers.
    allowed = int((1 - exactly(rate)) * len(sure))
    under = np.sort(sure[~reached])
    if allowed < len(under):
        return int(under[allowed])
    return int(under[-1]) + 1 if len(under) else 0


def cut_for_cost(
    sure: NDArray[np.int64], reached: NDArray[np.bool_], positive: NDArray[np.bool_], costs: Costs
) -> int:
    """The cut with the least cost on these photos, of equals the highest, which fails safe.

    Only missed and abstain count: false alarms are the threshold's. sure: int64 (n,). 0 where no
    photo lies under the threshold.
    """
    curve = abstain_curve(sure, reached, positive)
    missed, abstain = exactly(costs.missed), exactly(costs.abstain)
    total = [
        missed * m + abstain * (len(sure) - a)
        for m, a in zip(curve.missed.tolist(), curve.answered.tolist(), strict=True)
    ]
    best = min(total)
    return int(curve.cut[max(i for i, each in enumerate(total) if each == best)])


def abstain_curve(
    sure: NDArray[np.int64], reached: NDArray[np.bool_], positive: NDArray[np.bool_]
) -> AbstainCurve:
    """Answered and missed photos at each cut that makes a difference (the risk-coverage curve of
    El-Yaniv and Wiener 2010): the sureness values seen under the threshold, which hold back all
    that are less sure, and one above them. Cut 0 alone where no photo lies under the threshold."""
    under = ~reached
    seen, place = np.unique(sure[under], return_inverse=True)
    held = np.r_[0, np.cumsum(np.bincount(place, minlength=len(seen)))]
    caught = np.r_[0, np.cumsum(np.bincount(place[positive[under]], minlength=len(seen)))]
    return AbstainCurve(
        cut=np.r_[seen, seen[-1] + 1].astype(np.int64) if len(seen) else np.zeros(1, np.int64),
        answered=(len(sure) - held).astype(np.int64),
        missed=(caught[-1] - caught).astype(np.int64),
    )


def band_for_cost(
    score: NDArray[np.integer[Any]],
    positive: NDArray[np.bool_],
    costs: Costs,
    *,
    lowest_at_most: int | None = None,
) -> tuple[int, int]:
    """(low, threshold), low <= threshold, of least cost where score < low is called harmless, score
    >= threshold harmful, and between them "not sure"; equal ones: no band.

    Of equals the lowest low, then the lowest threshold: either calls less harmless. The cost is
    f(low) + g(threshold), so all pairs are compared in one walk. lowest_at_most: a low that a
    `guarantee` allows; any lower one keeps it. Both are at least 1. Raises ProofError where the
    best is to call no photo harmless, or every one, and DataError for photos of one kind.
    """
    if lowest_at_most is not None and lowest_at_most < 1:
        raise UsageError(f"abstain: wanted a bound of at least 1, found {lowest_at_most}")
    negatives = int((~positive).sum())
    if negatives in (0, len(positive)):
        raise DataError(
            f"abstain: wanted photos of both kinds, found {negatives} harmless of "
            f"{len(positive)}; add photos"
        )
    missed, alarm, abstain = map(exactly, (costs.missed, costs.false_alarm, costs.abstain))
    values = score.astype(np.int64)
    # One above each score seen: the lowest integer of each range that makes the same calls.
    cuts = np.unique(np.r_[1, np.maximum(values + 1, 1)])
    harmful, harmless = (
        np.searchsorted(np.sort(values[kind]), cuts).tolist() for kind in (positive, ~positive)
    )
    best: tuple[Fraction, int, int] | None = None
    least: tuple[Fraction, int] | None = None
    for cut, bad, good in zip(cuts.tolist(), harmful, harmless, strict=True):
        if lowest_at_most is None or cut <= lowest_at_most:
            low = missed * bad - abstain * (bad + good), cut
            least = low if least is None or low < least else least
        assert least is not None  # the first cut is 1, which no bound excludes
        total = least[0] + abstain * (bad + good) + alarm * (negatives - good)
        if best is None or (total, least[1], cut) < best:
            best = total, least[1], cut
    assert best is not None
    _, lowest, threshold_q = best
    if not (values < lowest).any() or not (values >= lowest).any():
        verdict = "harmless" if (values < lowest).any() else "not harmless"
        raise ProofError(
            f"abstain: wanted a rule that does better than one verdict for all, found that calling "
            f"every photo {verdict} costs least on {len(values)} photos; change the costs, train "
            "longer or give more photos"
        )
    return lowest, threshold_q
