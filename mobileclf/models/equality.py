"""When two networks are the same function: the bound, the measure and the proof."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import ProofError
from mobileclf.records import Record

EQUAL = 1e-5
# Between the two Keras, where float32 sums in another order: an untrained MobileNetV2 of 32 pixels
# was seen to differ by 1.4e-5.
ACROSS = 1e-4


def largest_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Largest absolute difference of two arrays of one shape."""
    return float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))))


def require_equal(stage: str, what: str, difference: float, bound: float) -> Record:
    """The proof that `what` is one function, for the stage's record.

    Raises ProofError unless `difference` <= `bound`; a NaN is no proof.
    """
    if not difference <= bound:
        raise ProofError(
            f"{stage}: {what}: wanted the same function within {bound:g}, "
            f"found {difference:.3g} off"
        )
    return {"what": what, "largest_difference": difference, "bound": bound, "passed": True}
