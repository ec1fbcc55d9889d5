"""Train: from photos and ImageNet features to `model.keras`, early-stopped and calibrated.

With given weights only the head is trained, on features of augmented views of each photo. From
random weights every layer is, on pictures augmented anew each epoch. Validation photos are
taken as they are. A whole model that is given takes the place of all that: it is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.errors import DataError
from mobileclf.images import augment
from mobileclf.images.augment import Augmentations
from mobileclf.images.load import ImageSpec
from mobileclf.importing.adopt import adopt, fingerprint
from mobileclf.models import backbones, head
from mobileclf.models.backbones import FEATURES, PROBABILITIES, Architecture
from mobileclf.models.deploy import MODEL
from mobileclf.models.equality import largest_difference, require_equal
from mobileclf.models.keras_file import save
from mobileclf.photos import load_part
from mobileclf.records import Record, sha256_file, write_csv
from mobileclf.run import Stage
from mobileclf.scores import read_labels
from mobileclf.spelling import augmentations_of, fits_of, head_of
from mobileclf.stats.calibration import brier, calibration_error, fit_temperature, log_loss

HISTORY = "history.csv"
SIGMOID_BOUND = 1e-5
SIGMOID_PHOTOS = 64
BATCH = 32  # photos at a time through the network where nothing is trained
ORDER = 3  # last word of the seed of an epoch's order; augment.py has 1 and 2
# Photos uint8 (n, height, width, channels), label of each, weight of each (None: all 1).
Labelled = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32] | None]
# What the fits gave, and the head's weights from its first hidden layer to the last layer.
Trained = tuple[head.Fitted, list[NDArray[np.float32]]]


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
    import keras

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
    train, validation, by_label = _parts(folder, settings, labels, spec)
    shown = augmentations_of(settings.augment or "none")
    views = None
    if weights is None:
        fitted, weights_of_head = _train_all(model, train, validation, shown, settings)
    else:
        if settings.views == 1 and shown:
            progress.warn("--views 1: each photo is taken as it is, not augmented")
            shown = ()
        views = settings.views if shown else 1
        fitted, weights_of_head = _train_head(model, train, validation, shown, views, settings)
    *hidden, kernel, bias = weights_of_head
    for i, name in enumerate(architecture.hidden):
        model.get_layer(name).set_weights(hidden[2 * i : 2 * i + 2])
    photos, truth, _ = validation
    checks = _set_last(model, kernel, bias, sigmoid, photos)
    before = _predict(model, photos, "validate")
    temperature = fit_temperature(head.logits(before.astype(np.float64)), truth)
    head.divide_logits(model, temperature)
    after = _predict(model, photos, "validate")
    save(model, folder / MODEL)
    _write_history(folder / HISTORY, fitted.history)
    losses = fitted.history["val_loss"]
    return {
        "stage": "train",
        "network": architecture.backbone,
        "input": spec.as_record(),
        "model": MODEL,
        "architecture": architecture.as_record(),
        "head": {"units": list(architecture.units), "output": "sigmoid" if sigmoid else "softmax"},
        "dropout": settings.dropout,
        "start": "random weights" if weights is None else "given weights",
        "augment": augment.as_record(shown),
        "views": views,
        "class_weights": by_label,
        "fits": [
            {"most": most, "epochs": epochs}
            for most, epochs in zip(fits_of(settings.epochs), fitted.epochs, strict=True)
        ],
        "epochs": len(losses),
        "best_epoch": int(np.argmin(losses)) + 1,
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


def _parts(
    folder: Path, settings: Settings, labels: Sequence[str], spec: ImageSpec
) -> tuple[Labelled, Labelled, dict[str, float] | None]:
    """Training and validation photos, and the weight of each label (None: all 1).

    Validation has the training photos' weights, so that what is stopped on is what is trained.
    """
    train, photos = load_part(folder, settings, "train", spec=spec)
    validation, held = load_part(folder, settings, "validation", spec=spec)
    if settings.class_weights == "none":
        return (photos, train.truth, None), (held, validation.truth, None), None
    table = head.class_weights(train.truth, labels)
    return (
        (photos, train.truth, table[train.truth]),
        (held, validation.truth, table[validation.truth]),
        {label: float(weight) for label, weight in zip(labels, table, strict=True)},
    )


def _train_head(
    model: Any,
    train: Labelled,
    validation: Labelled,
    augmentations: Augmentations,
    views: int,
    settings: Settings,
) -> Trained:
    """The head alone, on frozen features of `views` views of each photo, computed once."""
    import keras

    extractor = keras.Model(model.input, model.get_layer(FEATURES).output)
    photos, truth, weights = train
    features = np.concatenate(
        [
            _predict(
                extractor, photos, f"features, view {view + 1} of {views}",
                augmentations=augmentations, seed=settings.seed, view=view,
            )
            for view in range(views)
        ]
    )  # fmt: skip
    held = _predict(extractor, validation[0], "features, validation")
    classifier = _classifier(features.shape[1:], model, settings)
    given = {
        "x": features,
        "y": np.tile(truth, views),
        "sample_weight": None if weights is None else np.tile(weights, views),
        "batch_size": settings.batch_size,
    }
    fitted = _fit(classifier, given, _present(held, *validation[1:]), settings)
    return fitted, classifier.get_weights()


def _train_all(
    model: Any,
    train: Labelled,
    validation: Labelled,
    augmentations: Augmentations,
    settings: Settings,
) -> Trained:
    """Every layer from random weights, on pictures augmented anew in each epoch."""
    import keras

    body = keras.Model(model.input, model.get_layer(FEATURES).output)
    classifier = _classifier(body.output_shape[1:], model, settings)
    pixels = keras.Input(model.input_shape[1:])
    training = keras.Model(pixels, classifier(body(pixels)))
    batch, seed = settings.batch_size, settings.seed
    # Keras would shuffle the batches once more, by a generator of its own.
    data = batches(train, augmentations, batch=batch, seed=seed)
    given = {"x": data, "shuffle": False}
    held = batches(validation, None, batch=batch, seed=seed)
    rounds = count()  # over all fits
    slower = max(1, settings.patience // 2)
    fitted = _fit(
        training, given, held, settings,
        lambda: keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.3, patience=slower),
        lambda: new_round(data, rounds),
    )  # fmt: skip
    return fitted, classifier.get_weights()


def _classifier(features: tuple[int, ...], model: Any, settings: Settings) -> Any:
    return head.classifier(
        features,
        head=head_of(settings.head),
        labels=model.output_shape[-1],
        dropout=settings.dropout or 0.0,
        seed=settings.seed,
    )


def _fit(
    training: Any,
    given: dict[str, Any],
    held: Any,
    settings: Settings,
    *callbacks: Callable[[], Any],
) -> head.Fitted:
    """Compile for the head's kind of loss, and fit as often as the settings say."""
    import keras

    sigmoid = head_of(settings.head).output == "sigmoid"
    training.compile(
        keras.optimizers.Adam(settings.learning_rate), head.loss_of(sigmoid), metrics=["accuracy"]
    )
    fits = fits_of(settings.epochs)
    with progress.bar("train", sum(fits)) as shown:
        return head.fit_all(
            training, given, held,
            fits=fits, patience=settings.patience,
            callbacks=lambda: [*(make() for make in callbacks), _on_epoch(shown)],
        )  # fmt: skip


def batches(part: Labelled, augmentations: Augmentations | None, *, batch: int, seed: int) -> Any:
    """A `keras.utils.PyDataset` of photos float32 0..255, labels and weights where there are any.

    augmentations: in training; each round, which `start(round)` begins, has augmentations and
    an order of its own from the seed. None: the photos as they are, in their order.
    """
    import keras

    photos, truth, weights = part

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.start(0)

        def start(self, round: int) -> None:
            self.round = round
            self.order = np.arange(len(photos))
            if augmentations is not None:
                self.order = np.random.default_rng((seed, round, 0, ORDER)).permutation(self.order)

        def __len__(self) -> int:
            return -(-len(photos) // batch)

        def __getitem__(self, number: int) -> tuple[NDArray[Any], ...]:
            rows = self.order[number * batch : (number + 1) * batch]
            pixels = augment.augmented_batch(
                photos[rows], augmentations or (), seed=seed, indices=rows, round=self.round
            )
            chosen = None if weights is None else weights[rows]
            return _present(pixels.astype(np.float32), truth[rows], chosen)

    return Batches()


def new_round(data: Any, rounds: Iterator[int]) -> Any:
    """A callback that starts the next round of `batches` with each epoch.

    The data set's own `on_epoch_end` will not do: Keras calls it before the first epoch too.
    """
    import keras

    return keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: data.start(next(rounds)))


def _present(*values: Any) -> tuple[Any, ...]:
    return tuple(value for value in values if value is not None)


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

    layer = model.get_layer(PROBABILITIES)
    if not sigmoid:
        layer.set_weights([kernel, bias])
        return []
    layer.set_weights(head.one_output_per_label(kernel, bias))
    pixels = photos[:SIGMOID_PHOTOS].astype(np.float32)
    reached = np.asarray(keras.Model(model.input, layer.input)(pixels, training=False))
    wanted = 1 / (1 + np.exp(-(reached @ kernel + bias)[:, 0]))
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


def _predict(
    model: Any,
    photos: NDArray[np.uint8],
    title: str,
    *,
    augmentations: Augmentations = (),
    seed: int = 0,
    view: int = 0,
) -> NDArray[np.float32]:
    """Outputs for each photo, or for one augmented view of each, a batch at a time."""
    found = []
    starts = range(0, len(photos), BATCH)
    for start in progress.track(starts, title, len(starts)):
        some = photos[start : start + BATCH]
        places = range(start, start + len(some))
        some = augment.augmented_batch(some, augmentations, seed=seed, indices=places, round=view)
        found.append(np.asarray(model(some.astype(np.float32), training=False)))
    return np.concatenate(found)


def _calibration(probabilities: NDArray[np.float32], truth: NDArray[np.int64]) -> Record:
    values = probabilities.astype(np.float64)
    return {
        "loss": log_loss(head.logits(values), truth),
        "calibration_error": calibration_error(values, truth),
        "brier": brier(values, truth),
    }


def _write_history(path: Path, history: Mapping[str, list[float]]) -> None:
    fits = history["fit"]
    numbers = {name: values for name, values in history.items() if name != "fit"}
    rows = [
        {"epoch": i + 1, "fit": int(fit), **{k: repr(float(v[i])) for k, v in numbers.items()}}
        for i, fit in enumerate(fits)
    ]
    write_csv(path, ["epoch", "fit", *numbers], rows)


def _outside(settings: Settings) -> Record:
    """Weights or model by content, so that another file under the same name is another input."""
    if settings.model is not None:
        return {"model": fingerprint(settings.model)}
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
        "backbone", "image_size", "channels", "head", "dropout", "augment", "views",
        "class_weights", "epochs", "batch_size", "learning_rate", "patience", "seed",
        "preprocess", "trust",
    ),
    packages=("tensorflow", "keras", "tf-keras", "h5py", "pillow"),
    work=work,
    outside=_outside,
    schema=2,
)  # fmt: skip
