"""Train: from photos and ImageNet features to `model.keras`, early-stopped and calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.errors import DataError, UsageError
from mobileclf.models import backbones, head
from mobileclf.models.backbones import FEATURES, HIDDEN_UNITS, Architecture
from mobileclf.models.deploy import MODEL
from mobileclf.models.keras_file import save
from mobileclf.models.transfer import largest_difference, require_equal
from mobileclf.photos import load_part
from mobileclf.records import Record, sha256_file, write_csv
from mobileclf.run import Stage
from mobileclf.scores import read_labels
from mobileclf.stats.calibration import brier, calibration_error, fit_temperature, log_loss

HISTORY = "history.csv"
SIGMOID_BOUND = 1e-5
SIGMOID_PHOTOS = 64
# The history by epoch, and kernel and bias of the last layer.
Trained = tuple[dict[str, list[float]], NDArray[np.float32], NDArray[np.float32]]


def architecture_of(settings: Settings, labels: int) -> Architecture:
    """The network that the settings ask for."""
    assert settings.backbone is not None and settings.image_size is not None
    return Architecture(
        backbone=settings.backbone,
        image_size=settings.image_size,
        labels=labels,
        seed=settings.seed,
    )


def work(folder: Path, settings: Settings) -> Record:
    """Train and write `model.keras` and `history.csv`. Returns the body of `train.json`."""
    import keras

    labels, _ = read_labels(folder)
    sigmoid = settings.head == "sigmoid"
    if sigmoid and len(labels) != 2:
        raise UsageError(
            f"--head sigmoid: wanted two classes, found {len(labels)}; use --head softmax"
        )
    architecture = architecture_of(settings, len(labels))
    weights = None if settings.weights == "none" else settings.weights
    if weights is None and settings.data is not None:
        progress.warn(
            f"{settings.backbone} starts from random weights: on real photos that needs many "
            "thousands of them; ImageNet weights (--weights imagenet) do better"
        )
    keras.utils.set_random_seed(settings.seed)
    model = backbones.build(keras, architecture, weights=weights)
    parts = {}
    for part in ("train", "validation"):
        rows, pixels = load_part(folder, settings, part)
        parts[part] = (pixels, rows.truth)
    photos, truth = parts["validation"]
    train = _train_all if weights is None else _train_head
    history, kernel, bias = train(model, parts, sigmoid, settings)
    checks = _set_last(model, kernel, bias, sigmoid, photos)
    before = _probabilities(model, photos)
    temperature = fit_temperature(head.logits(before.astype(np.float64)), truth)
    head.divide_logits(model, temperature)
    after = _probabilities(model, photos)
    save(model, folder / MODEL)
    _write_history(folder / HISTORY, history)
    return {
        "stage": "train",
        "architecture": architecture.as_record(),
        "head": settings.head,
        "start": "random weights" if weights is None else "given weights",
        "epochs": len(history["val_loss"]),
        "best_epoch": int(np.argmin(history["val_loss"])) + 1,
        "checks": checks,
        "temperature": temperature,
        "validation": {
            "accuracy": float(np.mean(after.argmax(axis=1) == truth)),
            "before_temperature": _calibration(before, truth),
            "after_temperature": _calibration(after, truth),
        },
        "parameters": int(model.count_params()),
        "outputs": [MODEL, HISTORY],
    }


def _train_head(model: Any, parts: Mapping[str, Any], sigmoid: bool, settings: Settings) -> Trained:
    """Head on frozen features of each photo and its mirror image, computed once."""
    import keras

    extractor = keras.Model(model.input, model.get_layer(FEATURES).output)
    photos, truth = parts["train"]
    views = [
        _predict(extractor, photos, "features"),
        _predict(extractor, photos[:, :, ::-1], "features, mirrored"),
    ]
    validation = _predict(extractor, parts["validation"][0], "features, validation")
    with progress.bar("train the head", settings.epochs) as shown:
        weights, history = head.train_head(
            (np.concatenate(views), validation),
            (np.concatenate([truth, truth]), parts["validation"][1]),
            labels=model.output_shape[-1], hidden=HIDDEN_UNITS, sigmoid=sigmoid,
            epochs=settings.epochs, batch=settings.batch_size, rate=settings.learning_rate,
            patience=settings.patience, seed=settings.seed, callbacks=[_on_epoch(shown)],
        )  # fmt: skip
    model.get_layer("hidden").set_weights(weights[:2])
    return history, weights[2], weights[3]


def _train_all(model: Any, parts: Mapping[str, Any], sigmoid: bool, settings: Settings) -> Trained:
    """Every layer from random weights, on mirrored, moved and turned pictures."""
    import keras

    body = keras.Model(model.input, model.get_layer("hidden").output)
    seed = settings.seed
    pixels = keras.Input(model.input_shape[1:])
    x = keras.layers.RandomFlip("horizontal", seed=seed)(pixels)
    x = keras.layers.RandomTranslation(0.06, 0.06, fill_mode="nearest", seed=seed + 1)(x)
    x = keras.layers.RandomRotation(0.04, fill_mode="nearest", seed=seed + 2)(x)
    last = keras.layers.Dense(1 if sigmoid else model.output_shape[-1])
    training = keras.Model(pixels, last(body(x)))
    training.compile(
        keras.optimizers.Adam(settings.learning_rate), head.loss_of(sigmoid), metrics=["accuracy"]
    )
    photos, truth = parts["train"]
    with progress.bar("train", settings.epochs) as shown:
        history = training.fit(
            photos.astype(np.float32), truth,
            validation_data=(parts["validation"][0].astype(np.float32), parts["validation"][1]),
            epochs=settings.epochs, batch_size=settings.batch_size, verbose=0,
            callbacks=[
                keras.callbacks.ReduceLROnPlateau(
                    "val_loss", factor=0.3, patience=max(1, settings.patience // 2)
                ),
                head.early_stopping(settings.patience),
                _on_epoch(shown),
            ],
        )  # fmt: skip
    kernel, bias = last.get_weights()
    return dict(history.history), kernel, bias


def _set_last(
    model: Any,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    sigmoid: bool,
    photos: NDArray[np.uint8],
) -> list[Record]:
    """Give the network its last layer; a sigmoid unit becomes two outputs of the same function.

    Returns the proof of that, if there was one to give. Raises ProofError when it fails.
    """
    import keras

    layer = model.get_layer("probabilities")
    if not sigmoid:
        layer.set_weights([kernel, bias])
        return []
    layer.set_weights(head.one_output_per_label(kernel, bias))
    pixels = photos[:SIGMOID_PHOTOS].astype(np.float32)
    hidden = np.asarray(keras.Model(model.input, model.get_layer("hidden").output)(pixels))
    wanted = 1 / (1 + np.exp(-(hidden @ kernel + bias)[:, 0]))
    got = np.asarray(model(pixels, training=False))[:, 1]
    difference = largest_difference(wanted, got)
    what = "a sigmoid unit against two outputs"
    return [require_equal("train", what, difference, SIGMOID_BOUND)]


def _on_epoch(shown: Any) -> Any:
    import keras

    def done(epoch: int, logs: Mapping[str, float]) -> None:
        shown.update(
            shown.task_ids[0],
            advance=1,
            description=f"train: validation {logs['val_accuracy']:.3f}",
        )

    return keras.callbacks.LambdaCallback(on_epoch_end=done)


def _predict(model: Any, photos: NDArray[np.uint8], title: str) -> NDArray[np.float32]:
    batch = 32
    starts = range(0, len(photos), batch)
    return np.concatenate(
        [
            np.asarray(model(photos[i : i + batch].astype(np.float32), training=False))
            for i in progress.track(starts, title, len(starts))
        ]
    )


def _probabilities(model: Any, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _predict(model, photos, "validate")


def _calibration(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> Record:
    values = probabilities.astype(np.float64)
    return {
        "loss": log_loss(head.logits(values), truth),
        "calibration_error": calibration_error(values, truth),
        "brier": brier(values, truth),
    }


def _write_history(path: Path, history: Mapping[str, list[float]]) -> None:
    columns = ["epoch", *history]
    rows = [
        {"epoch": i + 1, **{k: repr(float(v[i])) for k, v in history.items()}}
        for i in range(len(history["val_loss"]))
    ]
    write_csv(path, columns, rows)


def _outside(settings: Settings) -> Record:
    """The weights by content, so that another file under the same name is another input."""
    if settings.weights in ("none", "imagenet"):
        return {"weights": settings.weights}
    path = Path(str(settings.weights))
    if not path.is_file():
        raise DataError(f"--weights {path}: there is no such file")
    return {"weights": sha256_file(path)}


STAGE = Stage(
    name="train",
    record="train.json",
    reads=("dataset.json", "dataset.csv"),
    settings=(
        "backbone", "image_size", "head", "epochs", "batch_size", "learning_rate", "patience",
        "seed",
    ),
    packages=("tensorflow", "keras", "pillow"),
    work=work,
    outside=_outside,
)  # fmt: skip
