"""How much a photo looks like one of the classes at all, by the float model's logits.

Figures to stand beside the abstain rule: the phone has no logits, only one uint8 output, so no
rule is built on these. Larger is more like the classes, as for the sureness of a verdict. A
softmax forgets what both look at, the size of the logits all together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .roc import auc


def energy(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """log sum exp of each photo's logits: the energy of Liu et al. 2020 ("Energy-based
    out-of-distribution detection", NeurIPS), E(x) = -T log sum_i exp(f_i(x) / T) at T = 1, with
    the sign turned, as they use it for detection. logits: (n, labels). float64 (n,)."""
    values = np.asarray(logits, dtype=np.float64)
    top = values.max(axis=1)
    return np.asarray(np.log(np.exp(values - top[:, None]).sum(axis=1)) + top)


def max_logit(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The largest logit of each photo (Hendrycks et al. 2022, "Scaling out-of-distribution
    detection for real-world settings", ICML). logits: (n, labels). float64 (n,)."""
    return np.asarray(logits, dtype=np.float64).max(axis=1)


def separation(inside: NDArray[Any], outside: NDArray[Any]) -> float | None:
    """The chance that a photo of the classes gets a larger value than one of something else, ties
    counted half (AUC). inside: (n,), outside: (m,). None where either has no photo."""
    positive = np.arange(len(inside) + len(outside)) < len(inside)
    return auc(np.concatenate([inside, outside]), positive)
