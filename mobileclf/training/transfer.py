"""Training a network in phases, each kept only where it does better on the validation photos."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.images import augment
from mobileclf.models import backbones
from mobileclf.models import head as heads
from mobileclf.models.backbones import FEATURES, Architecture
from mobileclf.records import sha256_bytes, sha256_json
from mobileclf.spelling import augmentations_of, blocks_of, fits_of, head_of

from . import phases
from .devices import Device
from .features import Features, features
from .fit import Course
from .phases import Examples, Network, Phase, Place
from .pictures import Reader, reader
from .plan import about, seconds_per_photo

KEY_LENGTH = 32  # hexadecimal digits that name a network among a run's files of features
BATCH = 32  # photos at a time through a network where nothing is trained
COMPUTED, DECODED, LOGS = "features", "decoded", "tensorboard"


@dataclass(frozen=True, kw_only=True)
class Done:
    """A phase that was run. kept: whether what it came to is in the network.

    start: validation loss before it, None where there was nothing yet. seconds: it took.
    """

    name: str
    course: Course
    kept: bool
    start: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training is made of. model: the whole network in float32, weights given or random.

    folder: of the run. key: names everything that the result depends on.
    """

    model: Any
    architecture: Architecture
    train: Examples
    held: Examples
    settings: Settings
    device: Device
    folder: Path
    key: str

    @cached_property
    def body(self) -> Any:
        """Of the float32 network: pixels to features. One and the same, since what it compiles
        for the first batch it has for all that follow."""
        import keras

        return keras.Model(self.model.input, self.model.get_layer(FEATURES).output)


def views_of(settings: Settings) -> tuple[augment.Augmentations, int | None]:
    """What is shown of each photo: the augmentations, and in how many views to a frozen network;
    None where each epoch has views of its own."""
    shown = augmentations_of(settings.augment or "none")
    if settings.weights == "none":
        return shown, None
    return (shown, settings.views) if shown and settings.views > 1 else ((), 1)


def from_features(training: Training) -> tuple[list[Done], list[NDArray[np.float32]]]:
    """The head on frozen features, then the last blocks where that is asked for.

    Returns the phases and the weights of the classifier; the blocks' are set in the model.
    """
    settings = training.settings
    shown, views = views_of(settings)
    assert views is not None
    if settings.views == 1 and settings.augment != "none":
        progress.warn("--views 1: each photo is taken as it is, not augmented")
    frozen = _frozen(training)
    network = _network(training)
    lines = [_words_of_head(training, frozen, views)]
    tuned: Phase | None = None
    if blocks_of(settings.unfreeze) != 0:
        tuned = phases.last_blocks(network, *_pixels(training), settings, _place(training))
        lines.append(tuned.words)
    _say(lines)
    began = time.monotonic()
    of_train = _features(training, frozen, training.train, shown, views, "features")
    of_held = _features(training, frozen, training.held, (), 1, "features, validation")
    given = (of_train, training.train), (of_held, training.held)
    course = phases.head(network, *given, views, settings, _place(training))
    done = [_done(phases.HEAD, course, None, began)]
    if tuned is not None:
        began = time.monotonic()
        before = network.weights()
        start = tuned.evaluate()
        done.append(_done(tuned.name, tuned.run(), start, began))
        if not done[-1].kept:
            network.set_weights(before)
            progress.say(
                f"train: {tuned.name} did no better than the head on validation (cross-entropy "
                f"{min(done[-1].course.val_loss):.4f} against {start:.4f}); the head alone is kept"
            )
    return done, _into_model(training, network)


def from_random_weights(training: Training) -> tuple[list[Done], list[NDArray[np.float32]]]:
    """Every layer at once. Returns as `from_features`."""
    network = _network(training)
    phase = phases.every_layer(network, *_pixels(training), training.settings, _place(training))
    _say([phase.words])
    began = time.monotonic()
    done = _done(phase.name, phase.run(), None, began)
    return [done], _into_model(training, network)


def _say(lines: list[str]) -> None:
    for i, line in enumerate(lines):
        progress.say(f"{'plan:' if i == 0 else 'then'.rjust(5)} {line}")


def _words_of_head(training: Training, frozen: Any, views: int) -> str:
    photos, held = len(training.train.truth), len(training.held.truth)
    with training.device.alone():
        seconds = seconds_per_photo(frozen.predict_on_batch, frozen.input_shape[1:], BATCH)
    each = f" in {views} views each" if views > 1 else ""
    return (
        f"the head, on features of {photos} photos{each} that are computed once (at most "
        f"{about(seconds * (photos * views + held))}), at most "
        f"{sum(fits_of(training.settings.epochs))} epochs"
    )


def _done(name: str, course: Course, start: float | None, began: float) -> Done:
    return Done(
        name=name,
        course=course,
        kept=start is None or min(course.val_loss) < start,
        start=start,
        seconds=time.monotonic() - began,
    )


def _frozen(training: Training) -> Any:
    """The body for features: on this process's first device, in the precision of training."""
    if training.device.precision == "float32":
        return training.body
    return _rebuilt(training, spread=False)


def _network(training: Training) -> Network:
    """Body and classifier as they are trained: in the precision of training, on every device."""
    settings, architecture = training.settings, training.architecture
    alone = training.device.precision == "float32" and training.device.count == 1
    body = training.body if alone else _rebuilt(training, spread=True)
    classifier = heads.classifier(
        body.output_shape[1:],
        head=head_of(settings.head),
        labels=architecture.labels,
        dropout=settings.dropout or 0.0,
        seed=settings.seed,
    )
    return Network(backbone=architecture.backbone, body=body, classifier=classifier)


def _rebuilt(training: Training, *, spread: bool) -> Any:
    """The body once more, under the policy of the training's precision, with the same weights."""
    import keras

    device = training.device
    model = backbones.build(
        keras, training.architecture, cleared=lambda: device.set_up(keras, spread=spread)
    )
    body = keras.Model(model.input, model.get_layer(FEATURES).output)
    body.set_weights(training.body.get_weights())
    keras.config.set_dtype_policy("float32")
    return body


def _into_model(training: Training, network: Network) -> list[NDArray[np.float32]]:
    """Set the body's weights in the float32 network; returns the classifier's."""
    training.body.set_weights(network.body.get_weights())
    weights: list[NDArray[np.float32]] = network.classifier.get_weights()
    return weights


def _place(training: Training) -> Place:
    return Place(
        folder=training.folder,
        key=training.key,
        share=training.device.share,
        devices=training.device.count,
        logs=training.folder / LOGS if training.settings.tensorboard else None,
    )


def _pixels(
    training: Training,
) -> tuple[tuple[Reader, Examples], tuple[Reader, Examples]]:
    train, held = (
        (_reader(training, examples, name), examples)
        for name, examples in (("train", training.train), ("validation", training.held))
    )
    return train, held


def _reader(training: Training, examples: Examples, name: str) -> Reader:
    part = training.folder / DECODED / f"{name}.rows"
    cache = part if training.settings.decoded_cache else None
    return reader(examples.pictures, cache, f"decode, {name}")


def _features(
    training: Training,
    frozen: Any,
    examples: Examples,
    shown: augment.Augmentations,
    views: int,
    title: str,
) -> Features:
    weights = [sha256_bytes(w.tobytes()) for w in frozen.get_weights()]
    key = sha256_json({"weights": weights, "computed by": _computes(training.device)})
    device = training.device
    with device.alone():
        return features(
            frozen.predict_on_batch, examples.pictures,
            folder=training.folder / COMPUTED, key=key[:KEY_LENGTH],
            shape=frozen.output_shape[1:], batch=BATCH, title=title,
            augmentations=shown, views=views, seed=training.settings.seed,
            share=(device.share.index, device.share.count), wait=device.barrier,
        )  # fmt: skip


def _computes(device: Device) -> list[object]:
    """What of a device bears on the numbers that a network gives: not how many there are."""
    return [device.backend, device.platform, device.name, device.precision]
