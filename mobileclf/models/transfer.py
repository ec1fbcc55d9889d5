"""Weights between the two Keras, which build the same network under the same layer names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import ProofError
from mobileclf.records import Record

EQUAL = 1e-5


def copy_weights(source: Any, target: Any) -> None:
    """Give `target` (tf_keras) the weights of `source` (Keras 3), layer by layer, by order.

    Raises ProofError when the two are not the same network.
    """
    pairs = zip(_weighted(source), _weighted(target), strict=True)
    for ours, theirs in pairs:
        if ours.name != theirs.name:
            raise ProofError(
                f"transfer: wanted the same layers in both Keras, found {ours.name} "
                f"against {theirs.name}"
            )
        theirs.set_weights(ours.get_weights())


def _weighted(model: Any) -> list[Any]:
    return sorted((layer for layer in model.layers if layer.weights), key=lambda layer: layer.name)


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
