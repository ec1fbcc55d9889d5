"""How far one variant answers like another on the same photos."""

from __future__ import annotations

import numpy as np

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
