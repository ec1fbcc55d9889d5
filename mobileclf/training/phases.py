"""The phases of a training: the head on frozen features, the last blocks, or every layer at once.

In each the network is a body, from pixels to features, and a classifier, from features to
logits; both are left with the best weights that the phase came to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.images.augment import augmented_batch
from mobileclf.models.backbones import blocks
from mobileclf.settings import Settings
from mobileclf.spelling import augmentations_of, blocks_of, fits_of, head_of
from mobileclf.wording import counted

from . import tensorboard
from .batches import Reader, Share, batch_size, batches
from .features import Features
from .fit import Course, compiled, fit, loss_of
from .pictures import Pictures
from .pictures import Reader as PixelsOf
from .plan import about, seconds_per_step, weights

WARM_UP = 0.1  # of all steps: the rate rises over them (Goyal et al. 2017, section 2.2)
HEAD, BLOCKS, EVERY_LAYER = "head", "fine-tuning", "every layer"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Photos of a part, the label of each, int64 (n,), and its weight, float32 (n,); None: 1."""

    pictures: Pictures
    truth: NDArray[np.int64]
    weights: NDArray[np.float32] | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """body: pixels float32 0..255 to features. classifier: features to logits."""

    backbone: str
    body: Any
    classifier: Any

    def weights(self) -> list[list[NDArray[np.float32]]]:
        """Of both."""
        return [self.body.get_weights(), self.classifier.get_weights()]

    def set_weights(self, weights: list[list[NDArray[np.float32]]]) -> None:
        """As `weights` gave them."""
        self.body.set_weights(weights[0])
        self.classifier.set_weights(weights[1])


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a phase keeps what it has come to, what that is made of, and what it is computed on.

    share: of each batch, for this process. devices: of all processes. scaled: gradients are
    float16, so that the loss has to be scaled for them. agree: raises where other processes give
    another text. logs: a folder for TensorBoard, or None.
    """

    folder: Path
    key: str
    share: Share
    devices: int
    scaled: bool
    agree: Callable[[str], None]
    logs: Path | None


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase that is ready to run: how it was planned, in words, and how it is done.

    evaluate: mean cross-entropy of the validation photos as the network is now, in nats.
    """

    name: str
    words: str
    run: Callable[[], Course]
    evaluate: Callable[[], float]


def head(
    network: Network,
    train: tuple[Features, Examples],
    held: tuple[Features, Examples],
    views: int,
    settings: Settings,
    place: Place,
) -> Course:
    """The classifier alone, on features of `views` views of each photo, computed once."""
    import keras

    (features, examples), (held_features, held_examples) = train, held
    truth, weights = examples.truth, examples.weights
    size = batch_size(settings.batch_size, len(features), place.devices)
    model = compiled(
        network.classifier,
        optimizer=keras.optimizers.Adam(settings.learning_rate),
        sigmoid=_sigmoid(settings),
    )
    shown = batches(
        lambda rows, round: features.read(rows),
        np.tile(truth, views), None if weights is None else np.tile(weights, views),
        size=size, seed=settings.seed, share=place.share,
    )  # fmt: skip
    still = batches(
        lambda rows, round: held_features.read(rows),
        held_examples.truth, held_examples.weights,
        size=size, share=place.share,
    )  # fmt: skip
    return _fitted(model, HEAD, shown, still, fits_of(settings.epochs), settings, place)


def every_layer(
    network: Network,
    train: tuple[PixelsOf, Examples],
    held: tuple[PixelsOf, Examples],
    settings: Settings,
    place: Place,
) -> Phase:
    """Every layer from random weights, on pictures augmented anew in each epoch."""
    fits = fits_of(settings.epochs)
    slower = max(1, settings.patience // 2)
    model = _joined(network, adapt=True)
    compiled(model, optimizer=_adam(settings.learning_rate, place), sigmoid=_sigmoid(settings))
    shown, still = _pixels(train, held, settings, place)
    seconds = _seconds(model, shown, still) * sum(fits)
    return Phase(
        name=EVERY_LAYER,
        words=(
            f"every layer, at most {counted(sum(fits), 'epoch')} of {_photos(train)}: "
            f"{_at_most(seconds)}"
        ),
        run=lambda: _fitted(
            model, EVERY_LAYER, shown, still, fits, settings, place,
            rate=lambda course: course.rate_after_plateaus(settings.learning_rate, slower),
        ),
        evaluate=lambda: loss_of(model, still),
    )  # fmt: skip


def last_blocks(
    network: Network,
    train: tuple[PixelsOf, Examples],
    held: tuple[PixelsOf, Examples],
    settings: Settings,
    place: Place,
) -> Phase:
    """The last blocks and the classifier, at a low rate that warms up and then falls as a cosine
    does (Loshchilov and Hutter 2017, eq. 5, without restarts)."""
    import keras

    whole = blocks(network.body, network.backbone)
    asked = blocks_of(settings.unfreeze)
    count = len(whole) if asked is None else min(asked, len(whole))
    frozen = [layer for block in whole[: len(whole) - count] for layer in block]
    for layer in frozen:
        layer.trainable = False
    model = _joined(network, adapt=settings.batch_norm == "adapt")
    shown, still = _pixels(train, held, settings, place)
    steps = len(shown) * settings.tune_epochs
    warm = max(1, round(WARM_UP * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.tune_rate / (warm + 1), max(1, steps - warm),
        warmup_target=settings.tune_rate, warmup_steps=warm,
    )  # fmt: skip
    compiled(model, optimizer=_adam(schedule, place), sigmoid=_sigmoid(settings))
    seconds = _seconds(model, shown, still) * settings.tune_epochs
    trained, all_weights = (
        sum(int(np.prod(v.shape)) for v in some)
        for some in (model.trainable_weights, model.weights)
    )

    def run() -> Course:
        fits = (settings.tune_epochs,)
        try:
            return _fitted(model, BLOCKS, shown, still, fits, settings, place, frozen=frozen)
        finally:
            for layer in frozen:
                layer.trainable = True

    return Phase(
        name=BLOCKS,
        words=(
            f"the last {count} of {len(whole)} blocks ({weights(trained)} of "
            f"{weights(all_weights)} weights), at most {counted(settings.tune_epochs, 'epoch')} of "
            f"{_photos(train)}: "
            f"{_at_most(seconds)}"
        ),
        run=run,
        evaluate=lambda: loss_of(model, still),
    )


def _sigmoid(settings: Settings) -> bool:
    return head_of(settings.head).output == "sigmoid"


def _adam(rate: Any, place: Place) -> Any:
    """Adam at a rate or by a schedule. Keras would see by itself that the loss has to be scaled
    only where the whole model is float16, which this one's end is not."""
    import keras

    adam = keras.optimizers.Adam(rate)
    return keras.optimizers.LossScaleOptimizer(adam) if place.scaled else adam


def _seconds(model: Any, shown: Any, still: Any) -> float:
    """Of an epoch: without gradients a step takes about a third."""
    return seconds_per_step(model, shown) * (len(shown) + len(still) / 3)


def _photos(train: tuple[PixelsOf, Examples]) -> str:
    return counted(len(train[1].truth), "photo")


def _at_most(seconds: float) -> str:
    return f"at most {about(seconds)}"


def _joined(network: Network, *, adapt: bool) -> Any:
    """Pixels to logits. adapt: batch-norm statistics are those of each batch and are learnt."""
    import keras

    pixels = keras.Input(network.body.input_shape[1:])
    features = network.body(pixels) if adapt else network.body(pixels, training=False)
    return keras.Model(pixels, network.classifier(features))


def _pixels(
    train: tuple[PixelsOf, Examples],
    held: tuple[PixelsOf, Examples],
    settings: Settings,
    place: Place,
) -> tuple[Any, Any]:
    """Batches of training photos, augmented, and of validation photos as they are."""
    from joblib import effective_n_jobs

    (read, examples), (read_held, held_examples) = train, held
    augmentations = augmentations_of(settings.augment or "none")
    content = examples.pictures.content
    size = batch_size(settings.batch_size, len(examples.truth), place.devices)
    workers = effective_n_jobs(-1)

    def augmented(rows: NDArray[np.int64], round: int) -> NDArray[np.float32]:
        return augmented_batch(
            read(rows), augmentations, seed=settings.seed, content=content[rows], round=round
        ).astype(np.float32)

    def as_they_are(rows: NDArray[np.int64], round: int) -> NDArray[np.float32]:
        return read_held(rows).astype(np.float32)

    def made(reader: Reader, of: Examples, seed: int | None) -> Any:
        return batches(
            reader, of.truth, of.weights,
            size=size, seed=seed, share=place.share, workers=workers,
        )  # fmt: skip

    return made(augmented, examples, settings.seed), made(as_they_are, held_examples, None)


def _fitted(
    model: Any,
    name: str,
    shown: Any,
    held: Any,
    fits: Sequence[int],
    settings: Settings,
    place: Place,
    *,
    rate: Callable[[Course], float] | None = None,
    frozen: Sequence[Any] = (),
) -> Course:
    """`fit`, with a bar, and what it has come to kept after each epoch."""
    logged = tensorboard.writer(place.logs, name)
    with progress.bar(f"train {name}", sum(fits)) as bar:

        def epoch_done(course: Course) -> None:
            logged(course)
            bar.update(
                bar.task_ids[0],
                completed=len(course.fit),
                description=f"train {name}: validation {course.val_accuracy[-1]:.3f}",
            )

        return fit(
            model, shown, held,
            fits=fits, patience=settings.patience, rate=rate, frozen=frozen,
            state=_state(place.folder, name), key=place.key,
            writes=place.share.index == 0, agree=place.agree, epoch_done=epoch_done,
        )  # fmt: skip


def _state(folder: Path, phase: str) -> Path:
    return folder / f"{phase.replace(' ', '_')}.npz"


def forget(folder: Path) -> None:
    """Take away what phases had come to, whole or not, once the model is recorded."""
    for pattern in ("*.npz", ".*.npz.*"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
