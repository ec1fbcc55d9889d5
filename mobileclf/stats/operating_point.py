"""Where to cut a score: the integer threshold with the greatest Youden's J."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError, ProofError

from .roc import roc

FEWEST_BELOW = 4


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


def youden(
    score: NDArray[np.integer[Any]],
    positive: NDArray[np.bool_],
    *,
    prefer: Literal["lower", "higher"] = "lower",
) -> OperatingPoint:
    """The integer threshold that maximises J = tpr - fpr (Youden 1950), rule score >= threshold.

    score: integers >= 0 (n,), positive: bool (n,). Thresholds are told apart only by the scores
    seen: every integer in (s, t] for neighbouring scores s < t makes the same calls. Among all
    equally good integers `prefer` takes the smallest or the greatest. With positive = harmful,
    "lower" is the one that fails safe: it lies just above the highest score called harmless, so
    on photos alike a further harmless one sets it off with chance of about 1 in their number.

    Raises DataError when one class is missing, and ProofError when no threshold does better than
    calling everything or nothing positive (J <= 0), which is what a threshold of 0 or one that
    cannot be reached would do.
    """
    if not np.issubdtype(score.dtype, np.integer):
        raise DataError(f"operating point: wanted integer scores, found {score.dtype}")
    curve = roc(score, positive)
    if curve is None:
        raise DataError(
            "operating point: wanted photos of both kinds in the part, "
            f"found {int(positive.sum())} positive of {len(positive)}; add photos"
        )
    # Counts, not rates: equally good thresholds must compare as equal, free of rounding.
    positives, negatives = int(positive.sum()), int((~positive).sum())
    gain = np.rint(curve.tpr * positives) * negatives - np.rint(curve.fpr * negatives) * positives
    best = gain.max()
    if best <= 0:
        raise ProofError(
            "operating point: wanted a threshold that does better than one verdict for all "
            f"photos, found Youden's J of at most 0 over {len(score)} photos; "
            "train longer or give more photos"
        )
    points = np.flatnonzero(gain == best)  # thresholds fall with the index
    point = int(points[-1] if prefer == "lower" else points[0])
    seen = int(curve.threshold[point])
    below = np.unique(score[score < seen])
    # J > 0 means that some negative scores less, so `below` is not empty.
    threshold_q = int(below[-1]) + 1 if prefer == "lower" else seen
    warning = None
    if len(below) < FEWEST_BELOW:
        warning = (
            f"threshold {threshold_q} of 256 has only {len(below)} distinct scores below it "
            f"(wanted {FEWEST_BELOW}): a small change of the outputs may flip verdicts"
        )
    return OperatingPoint(
        threshold_q=threshold_q,
        j=float(curve.tpr[point] - curve.fpr[point]),
        tpr=float(curve.tpr[point]),
        fpr=float(curve.fpr[point]),
        warning=warning,
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
