"""How far one variant answers like another on the same photos."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError
from mobileclf.records import Record
from mobileclf.scores import Scores

from .calibration import mean_kl


def closeness(reference: Scores, other: Scores) -> Record:
    """How far `other` answers like `reference` on the same photos.

    agreement: share of photos with the same largest output. kl: mean KL in nats (see
    `mean_kl`). largest_change: largest difference of any probability. Raises DataError when the
    two are not of the same photos and labels.
    """
    if reference.probabilities.shape != other.probabilities.shape:
        raise DataError(
            f"scores: wanted {reference.probabilities.shape} as of the reference, "
            f"found {other.probabilities.shape}; run score again"
        )
    return {
        "agreement": float((reference.answers == other.answers).mean()),
        "kl": mean_kl(reference.probabilities, other.probabilities),
        "largest_change": float(np.abs(reference.probabilities - other.probabilities).max()),
    }


def wrong_sums(scores: Scores) -> NDArray[np.bool_]:
    """Which photos have outputs that can be no probabilities, as their sum says. bool (n,)

    A softmax left out keeps the largest output where it is, so no count of right answers sees it.

    Quanta are q = min(round(256 p), 255) of p that add up to 1. Only one that is not 0 can lie
    over 256 p, by half a quantum at most, so sum(q) <= 256 + (outputs over 0) / 2. Each lies under
    256 p by half a quantum at most, or one is cut off at 255 and the others, with less than half a
    quantum together, are 0: so sum(q) >= 256 - labels / 2, of two labels or more. With 512 labels
    that allows a photo with no output at all, as it must.

    float32 is as exact as the sum of a softmax is: each term is rounded, and so is every partial
    sum of them that it was divided by, so |sum(p) - 1| <= (labels + 8) 2^-23, with 8 roundings for
    exp and the division.
    """
    labels = scores.probabilities.shape[1]
    if scores.quanta is None:
        found = scores.probabilities
        off = ~(np.abs(found.sum(axis=1) - 1) <= (labels + 8) * 2.0**-23)  # NaN is off, too
        return np.asarray(off | (found < 0).any(axis=1))
    total, some = scores.quanta.sum(axis=1), (scores.quanta > 0).sum(axis=1)
    return np.asarray((total > 256 + some / 2) | (total < 256 - labels / 2))
