"""The classifier on top of the backbone: trained on features, calibrated, made one-per-label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What came of `fit_all`: numbers by epoch over all fits, and each fit's epochs run.

    history: metric to values; `fit` holds each epoch's fit, from 1.
    """

    history: dict[str, list[float]]
    epochs: tuple[int, ...]


def fit_all(
    model: Any,
    train: Any,
    validation: Any,
    *,
    fits: Sequence[int],
    patience: int,
    callbacks: Callable[[], list[Any]],
) -> Fitted:
    """Fit a compiled model several times, one after the other, the optimizer going on.

    train, validation: keyword arguments of `fit` for the data (x, y, ...) and the value of its
    `validation_data`. fits: most epochs of each. callbacks: makes each fit's own. A fit stops
    `patience` epochs after its best validation loss. The next starts from the best weights
    before it, and the best of all fits are in the model at the end.
    """
    history: dict[str, list[float]] = {}
    run = []
    best, best_weights = np.inf, model.get_weights()
    for number, most in enumerate(fits, start=1):
        found = model.fit(
            **train, validation_data=validation, epochs=most, verbose=0,
            callbacks=[early_stopping(patience), *callbacks()],
        ).history  # fmt: skip
        run.append(len(found["val_loss"]))
        for name, values in {"fit": [number] * run[-1], **found}.items():
            history.setdefault(name, []).extend(values)
        if min(found["val_loss"]) < best:
            best, best_weights = min(found["val_loss"]), model.get_weights()
        else:
            model.set_weights(best_weights)
    return Fitted(history=history, epochs=tuple(run))


def loss_of(sigmoid: bool) -> Any:
    """Cross-entropy on logits: binary for one unit, else sparse categorical."""
    import keras

    if sigmoid:
        return keras.losses.BinaryCrossentropy(from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def early_stopping(patience: int) -> Any:
    """Stop after `patience` epochs without a better validation loss; keep the best weights."""
    import keras

    return keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=patience, restore_best_weights=True, start_from_epoch=0
    )


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
