"""How far probabilities can be believed, and how far two models' probabilities lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .exact import lower_bound, upper_bound

# Half a step of the int8 output: what rounds to 0 there is on average no smaller than this.
SMALLEST = 1 / 512
COLDEST, HOTTEST = 0.1, 10.0
LEVEL = 0.95
# Sums of shares of at most a million photos are off by less than this.
ROUNDING = 1e-7


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How often the top answer is right, bin by bin, confidence rising. All (bins,), no bin empty.

    confidence: mean of the bin's largest outputs. accuracy: share of right answers, and between
    low and high, float64. photos: int64.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    photos: NDArray[np.int64]


def reliability(
    probabilities: NDArray[np.float64],
    truth: NDArray[np.int64],
    *,
    bins: int = 15,
    level: float = LEVEL,
) -> Reliability:
    """The reliability diagram of the top answer on bins of equally many photos.

    Bins of equal mass (Nixon et al. 2019; sizes differ by at most one, at most one bin a photo).
    Photos of equal confidence share their mean accuracy, so that the order of the photos does not
    matter and a bin's right answers may be no whole number: the interval, Clopper and Pearson's
    (`exact`), is then from the next whole number below for low and above for high, so that it is
    only wider for it. probabilities: (n, labels), truth: int64 (n,), n of at least 1.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    _, place, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    shared = (np.bincount(place, weights=right) / counts)[place]
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    photos = np.array([len(part) for part in parts], dtype=np.int64)
    hits = np.array([shared[part].sum() for part in parts])
    # A sum of thirds may miss the whole number that it is by a rounding.
    below, above = np.floor(hits + ROUNDING), np.ceil(hits - ROUNDING)
    one_sided = (1 + level) / 2
    return Reliability(
        confidence=np.array([confidence[part].mean() for part in parts]),
        accuracy=hits / photos,
        low=lower_bound(below, photos, confidence=one_sided),
        high=upper_bound(above, photos, confidence=one_sided),
        photos=photos,
    )


def calibration_error(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], *, bins: int = 15
) -> float:
    """Expected calibration error of the top answer with equal-mass bins, in 0..1.

    ECE of Guo et al. 2017, eq. 3, on the bins of `reliability`. probabilities: (n, labels).
    """
    found = reliability(probabilities, truth, bins=bins)
    gaps = np.abs(found.accuracy - found.confidence) * found.photos
    return float(gaps.sum() / len(truth))


def untempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """What softmax(logits) was where softmax(logits / temperature) is known: softmax(T log p).

    log p is logits / T less one number for each photo, which a softmax does not see. An output
    of 0 stays 0. probabilities: (n, labels), rows that sum to about 1. Returns float64 (n, labels).
    """
    # Relative to the largest output, which is never 0, so that nothing underflows as a whole.
    relative = probabilities / probabilities.max(axis=1, keepdims=True)
    powers = np.asarray(relative, dtype=np.float64) ** temperature
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


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
