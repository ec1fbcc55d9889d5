"""The classifier on top of the backbone: trained on features, calibrated, made one-per-label."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def train_head(
    features: tuple[Float, Float],
    truth: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    labels: int,
    hidden: int,
    sigmoid: bool,
    epochs: int,
    batch: int,
    rate: float,
    patience: int,
    seed: int,
    callbacks: list[Any],
) -> tuple[list[Float], dict[str, list[float]]]:
    """Train Dense(hidden, relu), Dense(labels) on features (train, validation) (n, channels).

    Best validation loss kept. sigmoid: one unit for label 1 of two, trained with binary
    cross-entropy. Returns [kernel, bias, kernel, bias] and the history by epoch.
    """
    import keras

    keras.utils.set_random_seed(seed)
    last = keras.layers.Dense(1 if sigmoid else labels)
    model = keras.Sequential(
        [keras.Input(features[0].shape[1:]), keras.layers.Dropout(0.3, seed=seed),
         keras.layers.Dense(hidden, activation="relu"), last]
    )  # fmt: skip
    loss = loss_of(sigmoid)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    history = model.fit(
        features[0], truth[0], validation_data=(features[1], truth[1]),
        epochs=epochs, batch_size=batch, verbose=0,
        callbacks=[early_stopping(patience), *callbacks],
    )  # fmt: skip
    return model.get_weights(), history.history


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
