"""ROC points and the area under them.

Conventions: a photo is called positive when score >= threshold; equal scores make one point;
the first point is threshold +inf, (0, 0), and the last is the lowest score, (1, 1); with one
class only there is no curve and no area: None, never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Roc:
    """Points of a ROC curve, thresholds falling. All float64 (points,)."""

    threshold: NDArray[np.float64]
    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]


def roc(score: NDArray[Any], positive: NDArray[np.bool_]) -> Roc | None:
    """The ROC curve of `score` (n,) against `positive` bool (n,), or None for one class only."""
    values = np.asarray(score, dtype=np.float64)
    total_positive = int(positive.sum())
    total_negative = len(positive) - total_positive
    if not total_positive or not total_negative:
        return None
    distinct, place = np.unique(values, return_inverse=True)
    positives = np.bincount(place, weights=positive, minlength=len(distinct))
    negatives = np.bincount(place, weights=~positive, minlength=len(distinct))
    return Roc(
        threshold=np.r_[np.inf, distinct[::-1]],
        fpr=np.r_[0.0, np.cumsum(negatives[::-1])] / total_negative,
        tpr=np.r_[0.0, np.cumsum(positives[::-1])] / total_positive,
    )


def auc(score: NDArray[Any], positive: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve by trapezoids; None for one class only.

    Equals the chance that a positive outscores a negative, ties counted half (Hanley and McNeil
    1982).
    """
    curve = roc(score, positive)
    if curve is None:
        return None
    return float((np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2).sum())
