"""Plain metrics of a classifier's answers, as scikit-learn defines them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.records import Record

TOP_K = 3
RATES = ("precision", "recall", "f1")
AVERAGES = ("macro", "weighted")


def metrics(
    probabilities: NDArray[Any],
    truth: NDArray[np.int64],
    labels: tuple[str, ...],
    *,
    smallest: float = 1e-7,
) -> Record:
    """Plain metrics of one variant on one part, by scikit-learn.

    probabilities: (n, labels), for the loss raised to `smallest`, since an int8 output of 0 stands
    for any probability under half a step, and divided by their sum, since int8 rows need not add
    up to 1. truth: int64 (n,). The answer is the largest probability, on a tie the lower index.
    confusion: rows are the truth, columns the answers, in the order of `labels`. A class without
    photos has recall 0, one without answers precision 0, and both count in the averages: macro is
    their plain mean, weighted the mean by photos.
    """
    from sklearn import metrics as sk

    answers = probabilities.argmax(axis=1)
    every = np.arange(len(labels))
    clipped = np.maximum(probabilities.astype(np.float64), smallest)
    clipped /= clipped.sum(axis=1, keepdims=True)
    rates = partial(
        sk.precision_recall_fscore_support, truth, answers, labels=every, zero_division=0
    )
    *by_class, support = rates()
    k = min(TOP_K, len(labels))
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return {
        "n": len(truth),
        "loss": float(sk.log_loss(truth, clipped, labels=every)),
        "accuracy": float(sk.accuracy_score(truth, answers)),
        f"top_{k}": float(np.mean(np.any(best == truth[:, None], axis=1))),
        "confusion": sk.confusion_matrix(truth, answers, labels=every).tolist(),
        "classes": {
            label: {
                **{rate: float(values[i]) for rate, values in zip(RATES, by_class, strict=True)},
                "photos": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
        **{
            average: dict(zip(RATES, map(float, rates(average=average)[:3]), strict=True))
            for average in AVERAGES
        },
    }
