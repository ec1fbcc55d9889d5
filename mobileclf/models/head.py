"""The classifier on top of the backbone: trained on features, calibrated, made one-per-label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError
from mobileclf.spelling import Head

Float = NDArray[np.float32]


def classifier(
    features: tuple[int, ...], *, head: Head, labels: int, dropout: float, seed: int
) -> Any:
    """Dropout, the hidden layers (relu) and the last one, as a Keras 3 model of features to
    logits: one for each label, or a single one (of label 1 of two) where the head is sigmoid.

    features: shape of one photo's. dropout: share of the features that is set to 0 in training.
    """
    import keras

    keras.utils.set_random_seed(seed)
    layers: list[Any] = [keras.Input(features)]
    if dropout:
        layers.append(keras.layers.Dropout(dropout, seed=seed))
    layers += [keras.layers.Dense(units, activation="relu") for units in head.units]
    layers.append(keras.layers.Dense(1 if head.output == "sigmoid" else labels))
    return keras.Sequential(layers)


def class_weights(truth: NDArray[np.int64], labels: Sequence[str]) -> Float:
    """Balanced weights, float32 (labels,): n / (k * n_c), as scikit-learn's "balanced"
    (King and Zeng 2001). The mean weight of the photos is 1.

    truth: label of each training photo. Raises DataError for a label that has no photo.
    """
    counts = np.bincount(truth, minlength=len(labels))
    if not counts.all():
        raise DataError(
            "--class-weights balanced: wanted training photos of every class, found none of "
            f"{labels[int(counts.argmin())]!r}; add some"
        )
    return (len(truth) / (len(labels) * counts)).astype(np.float32)


def one_output_per_label(kernel: Float, bias: Float) -> tuple[Float, Float]:
    """A sigmoid unit as two softmax outputs: sigmoid(z) = softmax(0, z)[1], exactly."""
    zeros = np.zeros_like(kernel)
    return np.concatenate([zeros, kernel], axis=1), np.concatenate([np.zeros_like(bias), bias])


def divide_logits(model: Any, temperature: float) -> None:
    """Fold a temperature into the last layer: softmax(z / T) (Guo et al. 2017, eq. 9)."""
    layer = model.get_layer("probabilities")
    layer.set_weights([weight / temperature for weight in layer.get_weights()])


def logits(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits up to a constant for each row: log p, with p at least 1e-12."""
    return np.log(np.maximum(probabilities, 1e-12))
