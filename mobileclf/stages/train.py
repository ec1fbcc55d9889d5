"""Train: from photos and ImageNet features to `model.keras`, early-stopped and calibrated.

With given weights the head is trained on frozen features, and then, where that is asked for, the
last blocks with it; from random weights every layer is. Validation photos are taken as they are,
and decide when each phase ends and whether it is kept. A whole model that is given takes the
place of all that: it is only read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.errors import DataError
from mobileclf.images import augment
from mobileclf.images.load import ImageSpec
from mobileclf.importing.adopt import adopt, fingerprint
from mobileclf.models import backbones, head
from mobileclf.models.backbones import PROBABILITIES, Architecture
from mobileclf.models.deploy import MODEL
from mobileclf.models.equality import largest_difference, require_equal
from mobileclf.models.keras_file import save
from mobileclf.photos import pictures_of
from mobileclf.records import Record, sha256_file, sha256_json, write_csv
from mobileclf.run import Stage, inputs_of, note_time, version_of
from mobileclf.scores import Part, read_labels, read_part
from mobileclf.settings import Settings
from mobileclf.spelling import augmentations_of, fits_of, head_of
from mobileclf.stats.calibration import brier, calibration_error, fit_temperature, log_loss
from mobileclf.training import child, devices, phases, tensorboard
from mobileclf.training.phases import Examples
from mobileclf.training.pictures import Pictures, decoded, reader
from mobileclf.training.transfer import (
    BATCH,
    Done,
    Training,
    from_features,
    from_random_weights,
    views_of,
)

HISTORY = "history.csv"
KEPT = "training"  # folder in the run: what phases have come to, features, decoded photos
SIGMOID_BOUND = 1e-5
SIGMOID_PHOTOS = 64


def architecture_of(settings: Settings, labels: int) -> Architecture:
    """The network that the settings ask for."""
    assert settings.backbone is not None and settings.image_size is not None
    assert settings.channels is not None
    return Architecture(
        backbone=settings.backbone,
        image_size=settings.image_size,
        channels=settings.channels,
        units=head_of(settings.head).units,
        labels=labels,
        seed=settings.seed,
    )


def work(folder: Path, settings: Settings) -> Record:
    """Train and write `model.keras` and `history.csv`, or the model that is given. Returns the
    body of `train.json`."""
    if settings.model is not None:
        return adopt(folder, settings)
    if settings.backend == "jax":
        return child.run(folder, settings)
    with devices.memory_said():
        return trained(folder, settings)


def trained(folder: Path, settings: Settings) -> Record:
    """`work` for a network that is trained here, on the backend of Keras that this process has.

    Of several processes that train together every one calls it; the first alone writes.
    """
    import keras
    from scipy.special import softmax

    if settings.tensorboard:
        tensorboard.check()
    device = devices.start(settings)
    labels, _ = read_labels(folder)
    sigmoid = head_of(settings.head).output == "sigmoid"
    architecture = architecture_of(settings, len(labels))
    weights = None if settings.weights == "none" else settings.weights
    if weights is None and settings.data is not None:
        progress.warn(
            f"{settings.backbone} starts from random weights: on real photos that needs many "
            "thousands of them; ImageNet weights (--weights imagenet) do better"
        )
    keras.utils.set_random_seed(settings.seed)
    model = backbones.build(keras, architecture, weights=weights)
    height, width, channels = model.input_shape[1:]
    spec = ImageSpec(width=width, height=height, channels=channels)
    train, held, by_label = _examples(folder, settings, labels, spec)
    training = Training(
        model=model, architecture=architecture, train=train, held=held, settings=settings,
        device=device, folder=folder / KEPT,
        key=sha256_json([inputs_of(STAGE, settings), device.as_record()]),
    )  # fmt: skip
    device.agree(training.key, "settings and photos")
    phased = from_random_weights if weights is None else from_features
    done, (*hidden, kernel, bias) = phased(training)
    if not any(math.isfinite(phase.course.lowest) and phase.kept for phase in done):
        raise DataError(
            "train: wanted a loss that is a number, found none in any epoch; try a lower "
            f"--learning-rate than {settings.learning_rate:g}"
        )
    if device.share.index:
        return {}
    for i, name in enumerate(architecture.hidden):
        model.get_layer(name).set_weights(hidden[2 * i : 2 * i + 2])
    with device.alone():
        some = np.arange(min(SIGMOID_PHOTOS, len(held.truth)))
        pixels = reader(held.pictures)(some).astype(np.float32)
        checks = _set_last(model, kernel, bias, sigmoid, pixels)
        before = _probabilities(training, held.pictures)
    logits = head.logits(before)
    temperature = fit_temperature(logits, held.truth)
    head.divide_logits(model, temperature)
    after = softmax(logits / temperature, axis=1)
    save(model, folder / MODEL)
    _write_history(folder / HISTORY, done)
    for phase in done:
        note_time(folder, f"train, {phase.name}", phase.seconds)
    shown, views = views_of(settings)
    return {
        "stage": "train",
        "network": architecture.backbone,
        "input": spec.as_record(),
        "model": MODEL,
        "architecture": architecture.as_record(),
        "head": {"units": list(architecture.units), "output": "sigmoid" if sigmoid else "softmax"},
        "dropout": settings.dropout,
        "start": "random weights" if weights is None else "given weights",
        "computed_on": device.as_record(),
        "augment": augment.as_record(shown),
        "views": views,
        "class_weights": by_label,
        "phases": [_of_phase(phase, settings) for phase in done],
        "epochs": sum(len(phase.course.fit) for phase in done),
        "best_epoch": _best_epoch(done),
        "checks": checks,
        "temperature": temperature,
        "validation": {
            "accuracy": float(np.mean(after.argmax(axis=1) == held.truth)),
            "before_temperature": _calibration(before, held.truth),
            "after_temperature": _calibration(after, held.truth),
        },
        "parameters": int(model.count_params()),
        "outputs": [MODEL, HISTORY],
    }


def _examples(
    folder: Path, settings: Settings, labels: Sequence[str], spec: ImageSpec
) -> tuple[Examples, Examples, dict[str, float] | None]:
    """Training and validation photos, and the weight of each label (None: all 1).

    Validation has the training photos' weights, so that what is stopped on is what is trained.
    """
    train, validation = (read_part(folder, name) for name in ("train", "validation"))
    table = None
    if settings.class_weights != "none":
        table = head.class_weights(train.truth, labels)

    def examples(part: Part) -> Examples:
        return Examples(
            pictures=pictures_of(folder, settings, part, spec),
            truth=part.truth,
            weights=None if table is None else table[part.truth],
        )

    by_label = None
    if table is not None:
        by_label = {label: float(w) for label, w in zip(labels, table, strict=True)}
    return examples(train), examples(validation), by_label


def _set_last(
    model: Any,
    kernel: NDArray[np.float32],
    bias: NDArray[np.float32],
    sigmoid: bool,
    pixels: NDArray[np.float32],
) -> list[Record]:
    """Give the network its last layer; a sigmoid unit becomes two outputs of the same function.

    Returns the proof of that, if there was one to give. Raises ProofError when it fails.
    """
    import keras

    layer = model.get_layer(PROBABILITIES)
    if not sigmoid:
        layer.set_weights([kernel, bias])
        return []
    layer.set_weights(head.one_output_per_label(kernel, bias))
    reached = np.asarray(keras.Model(model.input, layer.input)(pixels, training=False))
    wanted = 1 / (1 + np.exp(-(reached @ kernel + bias)[:, 0]))
    got = np.asarray(model(pixels, training=False))[:, 1]
    difference = largest_difference(wanted, got)
    what = "a sigmoid unit against two outputs"
    return [require_equal("train", what, difference, SIGMOID_BOUND)]


def _probabilities(training: Training, pictures: Pictures) -> NDArray[np.float64]:
    """Outputs (n, labels) of the whole network for each photo as it is, a batch at a time."""
    import keras

    model, body = training.model, training.body
    x = features = keras.Input(body.output_shape[1:])
    for name in (*training.architecture.hidden, PROBABILITIES):
        x = model.get_layer(name)(x)
    last = keras.Model(features, x)
    found = []
    photos = decoded(pictures, range(len(pictures)), "validate")
    while batch := list(islice(photos, BATCH)):
        # Of one size, as the body was compiled for.
        full = np.stack(batch + batch[-1:] * (BATCH - len(batch))).astype(np.float32)
        found.append(np.asarray(last(body.predict_on_batch(full)))[: len(batch)])
    return np.concatenate(found).astype(np.float64)


def _calibration(values: NDArray[np.float64], truth: NDArray[np.int64]) -> Record:
    return {
        "loss": log_loss(head.logits(values), truth),
        "calibration_error": calibration_error(values, truth),
        "brier": brier(values, truth),
    }


def _of_phase(phase: Done, settings: Settings) -> Record:
    course = phase.course
    most = (settings.tune_epochs,) if phase.name == phases.BLOCKS else fits_of(settings.epochs)
    return {
        "phase": phase.name,
        "fits": [
            {"most": number, "epochs": course.fit.count(i)} for i, number in enumerate(most, 1)
        ],
        "best_epoch": course.best + 1,
        "augment": augment.as_record(
            views_of(settings)[0]
            if phase.name == phases.HEAD
            else augmentations_of(settings.augment or "none")
        ),
        "loss": course.lowest if math.isfinite(course.lowest) else None,
        "accuracy": course.val_accuracy[course.best],
        "loss_before": phase.start,
        "kept": phase.kept,
    }


def _best_epoch(done: Sequence[Done]) -> int:
    """Over all phases, from 1: the epoch that the weights are of."""
    before = 0
    best = 0
    for phase in done:
        if phase.kept:
            best = before + phase.course.best + 1
        before += len(phase.course.fit)
    return best


def _write_history(path: Path, done: Sequence[Done]) -> None:
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    rows: list[dict[str, object]] = [
        {
            "phase": phase.name,
            "fit": fit,
            **{name: repr(getattr(phase.course, name)[i]) for name in names},
        }
        for phase in done
        for i, fit in enumerate(phase.course.fit)
    ]
    write_csv(
        path, ["epoch", "phase", "fit", *names], [{"epoch": i, **r} for i, r in enumerate(rows, 1)]
    )


def _outside(settings: Settings) -> Record:
    """Weights or model by content, so that another file under the same name is another input."""
    if settings.model is not None:
        return {"model": fingerprint(settings.model)}
    by_backend = {"jax": version_of("jax")} if settings.backend == "jax" else {}
    if settings.weights in ("none", "imagenet"):
        return {"weights": settings.weights, **by_backend}
    path = Path(str(settings.weights))
    if not path.is_file():
        raise DataError(f"--weights {path}: there is no such file")
    return {"weights": sha256_file(path), **by_backend}


STAGE = Stage(
    name="train",
    record="train.json",
    reads=("dataset.json", "dataset.csv"),
    settings=(
        "backbone", "image_size", "channels", "head", "dropout", "augment", "views",
        "class_weights", "epochs", "batch_size", "learning_rate", "patience", "unfreeze",
        "tune_epochs", "tune_rate", "batch_norm", "precision", "backend", "seed",
        "preprocess", "trust",
    ),
    packages=("tensorflow", "keras", "tf-keras", "h5py", "pillow"),
    work=work,
    outside=_outside,
    recorded=lambda folder: phases.forget(folder / KEPT),
    schema=3,
)  # fmt: skip
