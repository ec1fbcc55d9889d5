"""Precision and recall, the hull of a ROC curve, a band around it, and areas over many classes.

Conventions as in `roc`: positive is score >= threshold; equal scores make one point; the first
point is threshold +inf; with one class only there is no curve and no area: None, never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .exact import fewest_unbelievable, lower_bound, most_believable, upper_bound
from .roc import Roc, auc, roc

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """Points of a precision-recall curve, thresholds falling. All float64 (points,)."""

    threshold: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Band:
    """Between which the true tpr at each fpr lies, each with the level asked for. (points,)"""

    fpr: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Areas:
    """AUC of each class against the rest, None where the photos are all of it or none of it.

    macro: the plain mean over the classes that have one. weighted: their mean by photos. Both
    None where no class has one.
    """

    by_class: tuple[float | None, ...]
    macro: float | None
    weighted: float | None


def precision_recall(score: NDArray[Any], positive: NDArray[np.bool_]) -> PrecisionRecall | None:
    """Precision and recall of `score` (n,) at each threshold, or None for one class only.

    At threshold +inf nothing is called positive: recall is 0, and precision, which is 0/0 there,
    is set to 1, as scikit-learn does. Without a negative photo precision would be 1 everywhere
    and say nothing, so that is None too, as it is for the ROC curve of the same photos.
    """
    curve = roc(score, positive)
    if curve is None:
        return None
    caught, alarms = _counts(curve, positive)
    return PrecisionRecall(
        threshold=curve.threshold,
        recall=curve.tpr,
        precision=np.r_[1.0, caught[1:] / (caught[1:] + alarms[1:])],
    )


def average_precision(score: NDArray[Any], positive: NDArray[np.bool_]) -> float | None:
    """Area under the steps of the precision-recall curve; None for one class only.

    The sum over points of (recall gained) * precision, as scikit-learn has it. Not by
    trapezoids: between two points precision is no straight line in recall, and lines promise too
    much (Davis and Goadrich 2006).
    """
    curve = precision_recall(score, positive)
    if curve is None:
        return None
    return float((np.diff(curve.recall) * curve.precision[1:]).sum())


def hull(curve: Roc, positive: NDArray[np.bool_]) -> Roc:
    """The corners of the curve's upper convex hull, from (0, 0) to (1, 1).

    Whatever a miss and a false alarm cost, a cheapest threshold is among them (Provost and
    Fawcett 2001). Corners only: a point on the line between two others is left out.
    Found by turns (Andrew 1979) on counts of photos, so nothing is rounded. positive: bool (n,),
    of the photos that `curve` is of.
    """
    caught, alarms = (counts.astype(np.int64).tolist() for counts in _counts(curve, positive))
    corners: list[int] = []
    for new in range(len(caught)):
        while len(corners) > 1:
            first, middle = corners[-2:]
            right, up = alarms[middle] - alarms[first], caught[middle] - caught[first]
            if (alarms[new] - alarms[first]) * up > right * (caught[new] - caught[first]):
                break
            corners.pop()
        corners.append(new)
    return Roc(threshold=curve.threshold[corners], fpr=curve.fpr[corners], tpr=curve.tpr[corners])


def one_against_rest(scores: NDArray[Any], truth: NDArray[np.int64]) -> Areas:
    """AUC of each class against all others. scores: (n, classes). truth: int64 (n,).

    macro and weighted as scikit-learn's `roc_auc_score(multi_class="ovr")`, which raises where a
    class has no photos; here such a class has no area and is in neither mean.
    """
    classes = scores.shape[1]
    by_class = tuple(auc(scores[:, i], truth == i) for i in range(classes))
    there = [(area, int((truth == i).sum())) for i, area in enumerate(by_class) if area is not None]
    if not there:
        return Areas(by_class=by_class, macro=None, weighted=None)
    areas, photos = np.array(there).T
    return Areas(
        by_class=by_class,
        macro=float(areas.mean()),
        weighted=float((areas * photos).sum() / photos.sum()),
    )


def band(
    score: NDArray[Any],
    positive: NDArray[np.bool_],
    fpr: NDArray[np.float64],
    *,
    level: float = LEVEL,
) -> Band | None:
    """A pointwise vertical band of the ROC curve: at each of `fpr` (points,), in 0..1, the tpr
    that the score truly has there lies in low..high with at least `level`. None for one class.

    The tpr at an fpr is that of the lowest threshold whose false alarms do not exceed it, and
    where that threshold lies is known from the negatives only so well. Hence a bound on either
    axis (Hilgers 1991, "Distribution-free confidence bounds for ROC curves", Methods of
    Information in Medicine 30:96-101), the four tails sharing 1 - level evenly:

    low   the positives caught at the lowest threshold whose upper bound of the fpr is under it,
          by their lower bound. Thresholds are walked from the highest down (see `guarantee` for
          why that needs no correction), and the two samples are independent.
    high  those caught above the highest threshold whose lower bound of the fpr is over it.

    Exact for any sample size and for tied scores, at the cost of width. An interval of the tpr
    at each threshold seen, Wilson's or Clopper-Pearson's, is narrower and is right for a
    threshold fixed beforehand, but as a band it leaves out that the fpr is estimated; a
    bootstrap's band closes to nothing at the ends, where every photo seen is on one side.
    """
    curve = roc(score, positive)
    if curve is None:
        return None
    caught, alarms = _counts(curve, positive)
    positives, negatives = int(caught[-1]), int(alarms[-1])
    tail = (1 - level) / 4
    low, high = np.zeros(len(fpr)), np.ones(len(fpr))
    for i, rate in enumerate(fpr.tolist()):
        allowed = most_believable(negatives, rate, risk=tail)
        if allowed >= 0:
            point = int(np.searchsorted(alarms, allowed, side="right")) - 1
            low[i] = lower_bound(caught[point], positives, confidence=1 - tail)
        too_many = fewest_unbelievable(negatives, rate, risk=tail)
        if too_many <= negatives:
            point = int(np.searchsorted(alarms, too_many, side="left")) - 1
            high[i] = upper_bound(caught[point], positives, confidence=1 - tail)
    return Band(fpr=fpr, low=low, high=high)


def _counts(
    curve: Roc, positive: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positives and negatives that reach each threshold: whole numbers, rates rounded back."""
    positives = int(positive.sum())
    return np.rint(curve.tpr * positives), np.rint(curve.fpr * (len(positive) - positives))
