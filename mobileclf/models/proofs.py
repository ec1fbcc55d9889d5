"""Proofs that the network that goes to the phone is the one that was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.records import Record

from . import qat, rewrites
from .deploy import Deployable
from .equality import ACROSS, largest_difference, require_equal
from .graph import build

REWRITE_BOUND = 1e-4  # of a probability
STEP_PHOTOS = 8  # of the photos, for each rewrite alone; all of them go through the whole


def prove(models: Deployable, photos: NDArray[np.uint8]) -> list[Record]:
    """Hold Keras 3 to tf_keras, each rewrite to the graph before it, and the last to the first.

    photos: uint8 (n, h, w, c). Returns a record for each, with the largest difference of any
    output; of a rewrite that changed something its name under `rewrite`. Raises ProofError at the
    first that does not hold.
    """
    trained = np.asarray(models.trained(photos.astype(np.float32), training=False))
    rebuilt = qat.forward(models.rebuilt, photos)
    difference = largest_difference(trained, rebuilt)
    return [
        require_equal("quantize", "Keras 3 against tf_keras", difference, ACROSS),
        *_prove_steps(models, photos[:STEP_PHOTOS], rebuilt[:STEP_PHOTOS]),
        require_equal(
            "quantize",
            "before against after all rewrites",
            largest_difference(rebuilt, qat.forward(models.folded, photos)),
            REWRITE_BOUND,
        ),
    ]


def _prove_steps(
    models: Deployable, photos: NDArray[np.uint8], before: NDArray[Any]
) -> list[Record]:
    """before: the answers of the graph that nothing is rewritten in."""
    import tf_keras

    found: list[Record] = []
    steps = rewrites.steps(models.flat, models.without)
    for rewrite, graph in progress.track(steps, "prove rewrites", len(rewrites.REWRITES)):
        after = qat.forward(build(tf_keras, graph), photos)
        what = f"before against after {rewrite.name}"
        difference = largest_difference(before, after)
        check = require_equal("quantize", what, difference, REWRITE_BOUND)
        found.append({**check, "rewrite": rewrite.name})
        before = after
    return found
