"""How far probabilities can be believed, and how far two models' probabilities lie apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Half a step of the int8 output: what rounds to 0 there is on average no smaller than this.
SMALLEST = 1 / 512
COLDEST, HOTTEST = 0.1, 10.0


def calibration_error(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], *, bins: int = 15
) -> float:
    """Expected calibration error of the top answer with equal-mass bins, in 0..1.

    ECE of Guo et al. 2017, eq. 3, on bins that hold equally many photos (Nixon et al. 2019; sizes
    differ by at most one, at most one bin a photo). Photos of equal confidence share their mean
    accuracy, so that the order of the photos does not matter. probabilities: (n, labels).
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    _, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    shared = (np.bincount(place, weights=right) / counts)[place]
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(float((shared[part] - confidence[part]).sum()))
        for part in np.array_split(order, min(bins, len(order)))
    ]
    return sum(gaps) / len(order)


def brier(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Mean over photos of the summed squared error over all labels, in 0..2 (Brier 1950, eq. 2)."""
    wanted = np.eye(probabilities.shape[1])[truth]
    return float(((probabilities - wanted) ** 2).sum(axis=1).mean())


def mean_kl(reference: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Mean over photos of KL(reference || other) in nats. Both (n, labels), non-negative.

    An int8 output may be 0 where the reference is not: both are raised to SMALLEST and divided by
    their sums, so the value is finite, >= 0, and 0 where the two are the same.
    """
    p, q = (np.maximum(each, SMALLEST) for each in (reference, other))
    p, q = (each / each.sum(axis=1, keepdims=True) for each in (p, q))
    return max(float((p * (np.log(p) - np.log(q))).sum(axis=1).mean()), 0.0)


def log_loss(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of softmax(logits) in nats. logits (n, labels), truth (n,)."""
    top = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    return float((total - logits[np.arange(len(truth)), truth]).mean())


def fit_temperature(logits: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """The T in [COLDEST, HOTTEST] that minimises the log loss of softmax(logits / T).

    Guo et al. 2017, section 4.2. The loss is convex in 1/T, so it has one minimum over log T.
    When every answer is right the loss falls for ever as T does and tells nothing about T: 1.
    """
    from scipy.optimize import minimize_scalar

    values = np.asarray(logits, dtype=np.float64)
    own = values[np.arange(len(truth)), truth]
    if (own >= values.max(axis=1)).all():
        return 1.0
    found = minimize_scalar(
        lambda log_t: log_loss(values / np.exp(log_t), truth),
        bounds=(np.log(COLDEST), np.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))
