"""Fitting, one epoch at a time, by what the validation photos say; it goes on after a kill."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import checkpoint

from .batches import what_failed

# Of ReduceLROnPlateau in Keras: what is better by less is not.
LEAST_GAIN = 1e-4
LOSS = "cross_entropy"


@dataclass(kw_only=True)
class Course:
    """How a fitting went: for each epoch which fit it was in, from 1, and mean cross-entropy
    (nats) and accuracy of the training and the validation examples. Means are weighted."""

    fit: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The first epoch of the lowest validation loss, from 0."""
        return int(np.argmin(_finite(self.val_loss)))

    @property
    def lowest(self) -> float:
        """The lowest validation loss; inf where none was a number."""
        return _finite(self.val_loss)[self.best]

    def losses_of(self, fit: int) -> list[float]:
        """Validation losses of one fit's epochs; what is no number is inf."""
        every = zip(_finite(self.val_loss), self.fit, strict=True)
        return [loss for loss, number in every if number == fit]

    def next_fit(self, fits: Sequence[int], patience: int) -> int | None:
        """Which fit the next epoch is in, from 1; None when all of them are over.

        fits: most epochs of each. One ends `patience` epochs after the best of its own.
        """
        for number in range(max(self.fit, default=1), len(fits) + 1):
            losses = self.losses_of(number)
            late = bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience
            if len(losses) < fits[number - 1] and not late:
                return number
        return None

    def rate_after_plateaus(self, rate: float, patience: int, factor: float = 0.3) -> float:
        """`rate` times `factor` for each time that `patience` epochs in a row were no better."""
        for number in sorted(set(self.fit)):
            best, waited = np.inf, 0
            for loss in self.losses_of(number):
                if loss < best - LEAST_GAIN:
                    best, waited = loss, 0
                    continue
                waited += 1
                if waited >= patience:
                    rate, waited = rate * factor, 0
        return rate


def _finite(losses: Sequence[float]) -> list[float]:
    return [loss if math.isfinite(loss) else math.inf for loss in losses]


def compiled(model: Any, *, optimizer: Any, sigmoid: bool) -> Any:
    """`model`, which gives logits, ready for `fit`: cross-entropy on one unit, or on many."""
    import keras

    if sigmoid:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        metrics = [
            keras.metrics.BinaryCrossentropy(from_logits=True, name=LOSS),
            keras.metrics.BinaryAccuracy(threshold=0.0, name="accuracy"),
        ]
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        metrics = [
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name=LOSS),
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        ]
    model.compile(optimizer, loss, weighted_metrics=metrics)
    return model


def loss_of(model: Any, held: Any) -> float:
    """Mean cross-entropy of a `compiled` model on `batches`, in nats."""
    with what_failed(held):
        return float(model.evaluate(held, verbose=0, return_dict=True)[LOSS])


def fit(
    model: Any,
    train: Any,
    held: Any,
    *,
    fits: Sequence[int],
    patience: int,
    state: Path | None = None,
    key: str = "",
    writes: bool = True,
    agree: Callable[[str], None] = lambda course: None,
    rate: Callable[[Course], float] | None = None,
    frozen: Sequence[Any] = (),
    epoch_done: Callable[[Course], None] = lambda course: None,
) -> Course:
    """Fit a `compiled` model several times, one after the other, the optimizer going on.

    train, held: of `batches`. fits: most epochs of each; each starts from the best weights
    before it, and the best of all (by validation loss; where none is a number, those that it came
    with) are in the model at the end. rate: the learning rate of the
    next epoch; None: the optimizer's own schedule. frozen: layers that nothing changes.
    state: a file that is written after each epoch; what an earlier call with the same `key` left
    there is gone on from, to the same numbers as undisturbed. writes: of several processes that
    share the steps one writes, and all go on from it; `agree` makes sure that they do.
    """
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    still = {id(variable) for layer in frozen for variable in layer.variables}
    weights = [v for v in model.weights if id(v) not in still]
    counted = {id(v) for v in model.weights}
    others = [*(v for v in model.variables if id(v) not in counted), *optimizer.variables]
    course, best = Course(), values(weights)
    arrays = 2 * len(weights) + len(others)
    if state is not None and (found := checkpoint.read(state, key, arrays)) is not None:
        about, numbers = found
        course = Course(**about)
        assign([*weights, *others], numbers)
        best = numbers[len(weights) + len(others) :]
    agree(str(course))
    while (number := course.next_fit(fits, patience)) is not None:
        if course.fit and number != course.fit[-1]:
            assign(weights, best)
        if rate is not None:
            optimizer.learning_rate = rate(course)
        train.start(len(course.fit))
        with what_failed(train, held):
            logs = model.fit(
                train, validation_data=held, epochs=1, verbose=0, shuffle=False
            ).history
        course.fit.append(number)
        for name, value in (
            ("loss", logs[LOSS]), ("accuracy", logs["accuracy"]),
            ("val_loss", logs[f"val_{LOSS}"]), ("val_accuracy", logs["val_accuracy"]),
        ):  # fmt: skip
            getattr(course, name).append(float(value[0]))
        if course.best == len(course.fit) - 1 and math.isfinite(course.lowest):
            best = values(weights)
        if state is not None and writes:
            checkpoint.write(state, key, asdict(course), [*values([*weights, *others]), *best])
        epoch_done(course)
    assign(weights, best)
    return course


def values(variables: Sequence[Any]) -> list[NDArray[Any]]:
    """Copies of Keras variables as arrays."""
    return [np.array(variable.numpy()) for variable in variables]


def assign(variables: Sequence[Any], values: Sequence[NDArray[Any]]) -> None:
    """Set Keras variables to the first of `values`, one each."""
    for variable, value in zip(variables, values, strict=False):
        variable.assign(value)
