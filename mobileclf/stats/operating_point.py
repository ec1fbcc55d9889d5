"""Where to cut a score: the rule is score >= threshold, and a policy says which threshold is best.

Thresholds are told apart only by the scores seen: every integer in (s, t] for neighbouring scores
s < t makes the same calls. Among all equally good integers `prefer` takes the smallest or the
greatest: with positive = harmful, "lower" fails safe, as it calls more harmful (for Youden's J it
lies just above the highest score called harmless, so on photos alike a further harmless one sets
it off with a chance of about 1 in their number); with positive = right answer, "higher" does, as
it says "not sure" more often. All is compared in numbers of photos and in fractions, so that
equally good thresholds are found equal.

A policy whose best is one verdict for all photos, which is what a threshold of 0 or one that
cannot be reached gives, has no threshold to give: ProofError. Photos of one kind only, and scores
that are no integers: DataError. Every policy takes score, integers >= 0 (n,), and positive, bool
(n,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError, ProofError, UsageError

FEWEST_BELOW = 4

Prefer = Literal["lower", "higher"]
Worth = int | float | Fraction


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold and what it does on the photos that it was chosen on.

    threshold_q: in quanta; positive is score >= threshold_q. j: tpr - fpr. warning: one line on
    why not to trust it much, or None.
    """

    threshold_q: int
    j: float
    tpr: float
    fpr: float
    warning: str | None


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What each kind of mistake costs, in any one unit, none negative. Raises UsageError."""

    missed: float = 100.0
    false_alarm: float = 1.0
    abstain: float = 5.0

    def __post_init__(self) -> None:
        values = (self.missed, self.false_alarm, self.abstain)
        if not all(np.isfinite(value) and value >= 0 for value in values) or not self.missed:
            raise UsageError(
                "costs: wanted missed over 0, false-alarm and abstain of at least 0, found "
                f"{', '.join(map(str, values))}; change --costs, or [costs] in mobileclf.toml"
            )

    @property
    def abstaining_can_pay(self) -> bool:
        """Whether there is a chance p of harm at which "not sure" costs less than either verdict:
        abstain < min(missed p, false_alarm (1 - p)) for some p, which is largest where the two are
        equal (Chow 1970): abstain < missed false_alarm / (missed + false_alarm)."""
        missed, alarm, abstain = map(exactly, (self.missed, self.false_alarm, self.abstain))
        return abstain * (missed + alarm) < missed * alarm


def youden(
    score: NDArray[np.integer[Any]], positive: NDArray[np.bool_], *, prefer: Prefer = "lower"
) -> OperatingPoint:
    """The threshold with the greatest J = tpr - fpr (Youden 1950); ProofError where J <= 0."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    return _best(
        "a Youden's J over 0",
        score,
        positive,
        lambda caught, alarms: caught * negatives - alarms * positives,
        prefer,
    )


def max_f1(
    score: NDArray[np.integer[Any]], positive: NDArray[np.bool_], *, prefer: Prefer = "lower"
) -> OperatingPoint:
    """The threshold with the greatest F1 = 2 tp / (2 tp + fp + fn)."""
    positives = int(positive.sum())
    return _best(
        "the greatest F1",
        score,
        positive,
        # tp + fn are all positives. Equal fractions of small whole numbers divide to equal floats.
        lambda caught, alarms: 2 * caught / (caught + alarms + positives),
        prefer,
    )


def min_cost(
    score: NDArray[np.integer[Any]],
    positive: NDArray[np.bool_],
    costs: Costs,
    *,
    prefer: Prefer = "lower",
) -> OperatingPoint:
    """The threshold with the least missed * fn + false_alarm * fp, on photos as they come here.

    That is the cost at the share of harmful photos in this part; where people meet another share,
    the costs have to be scaled by it.
    """
    positives = int(positive.sum())
    missed, alarm = exactly(costs.missed), exactly(costs.false_alarm)
    return _best(
        f"the least cost (missed {costs.missed:g}, false alarm {costs.false_alarm:g})",
        score,
        positive,
        lambda caught, alarms: -(missed * (positives - caught) + alarm * alarms),
        prefer,
    )


def fix_tpr(
    score: NDArray[np.integer[Any]],
    positive: NDArray[np.bool_],
    rate: float,
    *,
    prefer: Prefer = "lower",
) -> OperatingPoint:
    """The fewest false alarms with a tpr of at least `rate`, in 0 < rate <= 1.

    The rate holds on these photos, no promise goes with it (see `guarantee`). It is "met" by
    calling everything positive, so ProofError where nothing that passes a negative does.
    """
    if not 0 < rate <= 1:
        raise UsageError(f"fix-tpr: wanted a rate over 0 and at most 1, found {rate}")
    needed = exactly(rate) * int(positive.sum())
    return _best(
        f"a true positive rate of at least {rate:g}",
        score,
        positive,
        lambda caught, alarms: -alarms if caught >= needed else -len(positive),
        prefer,
    )


def fix_fpr(
    score: NDArray[np.integer[Any]],
    positive: NDArray[np.bool_],
    rate: float,
    *,
    prefer: Prefer = "lower",
) -> OperatingPoint:
    """The most caught with an fpr of at most `rate`, in 0 <= rate < 1; ProofError if it is none."""
    if not 0 <= rate < 1:
        raise UsageError(f"fix-fpr: wanted a rate of at least 0 and under 1, found {rate}")
    allowed = exactly(rate) * int((~positive).sum())
    return _best(
        f"a false positive rate of at most {rate:g}",
        score,
        positive,
        lambda caught, alarms: caught if alarms <= allowed else -1,
        prefer,
    )


def minimum_confidence(
    confidence: NDArray[np.integer[Any]], right: NDArray[np.bool_]
) -> OperatingPoint:
    """The largest output (quanta) from which on an answer counts as sure, by Youden's J.

    confidence: integers (n,), right: bool (n,). Here the higher of equally good thresholds fails
    safe, as it says "not sure" more often. Without a wrong answer there is no J to choose by: the
    lowest confidence seen is taken; so it is, with a warning, when confidence does not tell right
    from wrong at all (J <= 0). Raises ProofError when no answer is right.
    """
    if not right.any():
        raise ProofError(
            f"minimum confidence: wanted some right answers, found none in {len(right)} photos"
        )
    lowest = int(confidence.min())
    if right.all():
        return OperatingPoint(
            threshold_q=lowest,
            j=1.0,
            tpr=1.0,
            fpr=0.0,
            warning=f"no wrong answer among {len(right)} photos to learn the minimum confidence "
            "from: the lowest confidence seen is taken",
        )
    try:
        return youden(confidence, right, prefer="higher")
    except ProofError:
        return OperatingPoint(
            threshold_q=lowest,
            j=0.0,
            tpr=1.0,
            fpr=1.0,
            warning=f"confidence does not tell right from wrong answers on {len(right)} photos: "
            "the lowest confidence seen is taken",
        )


def exactly(value: float) -> Fraction:
    """The number that was written: 0.1 is one tenth, not the float beside it."""
    return Fraction(repr(float(value)))


def few_below(threshold_q: int, distinct: int) -> str | None:
    """The warning for a threshold with only so many distinct scores below it, or None."""
    if distinct >= FEWEST_BELOW:
        return None
    return (
        f"threshold {threshold_q} of 256 has only {distinct} distinct scores below it "
        f"(wanted {FEWEST_BELOW}): a small change of the outputs may flip verdicts"
    )


def _best(
    wanted: str,
    score: NDArray[np.integer[Any]],
    positive: NDArray[np.bool_],
    worth: Callable[[int, int], Worth],
    prefer: Prefer,
) -> OperatingPoint:
    """The threshold of the greatest worth(caught, false alarms)."""
    if not np.issubdtype(score.dtype, np.integer):
        raise DataError(f"operating point: wanted integer scores, found {score.dtype}")
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        raise DataError(
            "operating point: wanted photos of both kinds in the part, "
            f"found {positives} positive of {len(positive)}; add photos"
        )
    seen, place = np.unique(score, return_inverse=True)
    # Cut i lies in (seen[i - 1], seen[i]]; cut 0 calls all positive, the last one none.
    caught, alarms = _reached(place[positive], len(seen)), _reached(place[~positive], len(seen))
    worths = [worth(*each) for each in zip(caught, alarms, strict=True)]
    best = max(worths)
    cuts = [i for i, each in enumerate(worths) if each == best]
    if cuts[0] == 0 or cuts[-1] == len(seen):
        verdict = "positive" if cuts[0] == 0 else "negative"
        raise ProofError(
            f"operating point: wanted {wanted}, found that calling every photo {verdict} does as "
            f"well over {positives} positive and {negatives} negative photos; train longer, give "
            "more photos or ask for less"
        )
    cut = cuts[0] if prefer == "lower" else cuts[-1]
    threshold_q = int(seen[cut - 1]) + 1 if prefer == "lower" else int(seen[cut])
    warning = few_below(threshold_q, cut)
    tpr, fpr = caught[cut] / positives, alarms[cut] / negatives
    return OperatingPoint(threshold_q=threshold_q, j=tpr - fpr, tpr=tpr, fpr=fpr, warning=warning)


def _reached(places: NDArray[np.int64], seen: int) -> Sequence[int]:
    """How many photos reach each cut, (seen + 1)."""
    counts = np.bincount(places, minlength=seen + 1)
    reached: list[int] = np.cumsum(counts[::-1])[::-1].tolist()
    return reached
