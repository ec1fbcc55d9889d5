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
from mobileclf.images import augment
from mobileclf.models import backbones
from mobileclf.models import head as heads
from mobileclf.models.backbones import FEATURES, Architecture
from mobileclf.records import sha256_bytes, sha256_json
from mobileclf.run import version_of
from mobileclf.settings import Settings
from mobileclf.spelling import augmentations_of, blocks_of, fits_of, head_of
from mobileclf.wording import counted

from . import phases
from .devices import Device
from .features import Features, features, lacking
from .fit import Course
from .phases import Examples, Network, Phase, Place
from .pictures import Reader, fill, kept_in, reader
from .plan import about, seconds_per_photo
from .rows import Rows

KEY_LENGTH = 32  # hexadecimal digits that name a network among a run's files of features
BATCH = 32  # photos at a time through a network where nothing is trained
# By backend: what of it the numbers that a network gives depend on.
PACKAGES = {
    "tensorflow": ("mobileclf", "numpy", "keras", "tensorflow"),
    "jax": ("mobileclf", "numpy", "keras", "jax", "jaxlib"),
}
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

    @cached_property
    def decoded(self) -> Rows | None:
        """Decoded photos of both parts, None where each epoch decodes them. Of several processes
        the first alone writes."""
        if not self.settings.decoded_cache:
            return None
        spec = self.train.pictures.spec
        return kept_in(self.folder / DECODED, spec, write=self.device.share.index == 0)

    def fill(self) -> None:
        """Decode what `decoded` lacks; returns, in every process, once it is there."""
        if self.decoded is None:
            return
        if self.device.share.index == 0:
            fill(self.decoded, self.train.pictures, "decode, train")
            fill(self.decoded, self.held.pictures, "decode, validation")
        self.device.barrier()
        if self.device.share.index:
            self.decoded.refresh()


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """The body as features are computed with it. key: of all that their numbers depend on."""

    body: Any
    key: str


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
        progress.warn("--views 1: the head phase takes each photo as it is, not augmented")
    frozen = _frozen(training)
    network = _network(training)
    lines = [_words_of_head(training, frozen, views)]
    tuned: Phase | None = None
    read: tuple[Reader, Reader] | tuple[None, None] = (None, None)
    if blocks_of(settings.unfreeze) != 0:
        pixels = _pixels(training)
        tuned = phases.last_blocks(network, *pixels, settings, _place(training))
        lines.append(tuned.words)
    _say(lines)
    began = time.monotonic()
    if tuned is not None and training.decoded is not None:
        training.fill()
        read = pixels[0][0], pixels[1][0]
    of_train = _features(training, frozen, training.train, shown, views, "features", read[0])
    of_held = _features(training, frozen, training.held, (), 1, "features, validation", read[1])
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
                f"{done[-1].course.lowest:.4f} against {start:.4f}); the head alone is kept"
            )
    return done, _into_model(training, network)


def from_random_weights(training: Training) -> tuple[list[Done], list[NDArray[np.float32]]]:
    """Every layer at once. Returns as `from_features`."""
    network = _network(training)
    phase = phases.every_layer(network, *_pixels(training), training.settings, _place(training))
    _say([phase.words])
    began = time.monotonic()
    training.fill()
    done = _done(phase.name, phase.run(), None, began)
    return [done], _into_model(training, network)


def _say(lines: list[str]) -> None:
    for i, line in enumerate(lines):
        progress.say(f"{'plan:' if i == 0 else 'then'.rjust(5)} {line}")


def _words_of_head(training: Training, frozen: Frozen, views: int) -> str:
    shown, _ = views_of(training.settings)
    photos, held = len(training.train.truth), len(training.held.truth)
    absent = lacking(training.train.pictures, **_named(training, frozen, shown, views))
    absent += lacking(training.held.pictures, **_named(training, frozen, (), 1))
    of = f"{counted(photos, 'photo')}{f' in {views} views each' if views > 1 else ''}"
    to_do = "that are there already"
    if absent:
        with training.device.alone():
            body = frozen.body
            seconds = seconds_per_photo(body.predict_on_batch, body.input_shape[1:], BATCH)
        to_do = (
            f"that are computed once ({absent} of {photos * views + held} to do, "
            f"{about(seconds * absent / training.device.share.count)})"
        )
    epochs = counted(sum(fits_of(training.settings.epochs)), "epoch")
    return f"the head, on features of {of} {to_do}, at most {epochs}"


def _done(name: str, course: Course, start: float | None, began: float) -> Done:
    return Done(
        name=name,
        course=course,
        kept=start is None or course.lowest < start,
        start=start,
        seconds=time.monotonic() - began,
    )


def _frozen(training: Training) -> Frozen:
    """The body for features: on this process's first device, in the precision of training."""
    device, architecture = training.device, training.architecture
    body = training.body if device.precision == "float32" else _rebuilt(training, spread=False)
    computed_by = {package: version_of(package) for package in PACKAGES[device.backend]}
    key = {
        "weights": [sha256_bytes(w.tobytes()) for w in body.get_weights()],
        # The head is no part of it, so that another one takes the same features.
        "graph": [architecture.backbone, architecture.image_size, architecture.channels],
        # Not how many devices there are.
        "computed by": [device.platform, device.name, device.precision, computed_by],
    }
    return Frozen(body=body, key=sha256_json(key)[:KEY_LENGTH])


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
        scaled=training.device.precision == "float16",
        agree=lambda course: training.device.agree(course, "epochs done"),
        logs=training.folder / LOGS if training.settings.tensorboard else None,
    )


def _pixels(
    training: Training,
) -> tuple[tuple[Reader, Examples], tuple[Reader, Examples]]:
    train, held = training.train, training.held
    return (
        (reader(train.pictures, training.decoded), train),
        (reader(held.pictures, training.decoded), held),
    )


def _features(
    training: Training,
    frozen: Frozen,
    examples: Examples,
    shown: augment.Augmentations,
    views: int,
    title: str,
    read: Reader | None,
) -> Features:
    device = training.device
    with device.alone():
        return features(
            frozen.body.predict_on_batch, examples.pictures,
            batch=BATCH, title=title, read=read,
            share=(device.share.index, device.share.count), wait=device.barrier,
            **_named(training, frozen, shown, views),
        )  # fmt: skip


def _named(
    training: Training, frozen: Frozen, shown: augment.Augmentations, views: int
) -> dict[str, Any]:
    """Which features, for `features` and `lacking` alike."""
    return {
        "folder": training.folder / COMPUTED,
        "key": frozen.key,
        "shape": frozen.body.output_shape[1:],
        "augmentations": shown,
        "views": views,
        "seed": training.settings.seed,
    }
