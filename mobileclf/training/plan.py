"""What a training is about to do and how long it may take, from timing a few of its steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batches import what_failed
from .fit import assign, values

STEPS = 3  # that are timed; the first of them compiles


def seconds_per_step(model: Any, data: Any) -> float:
    """Of `fit` on these batches, once it is compiled. The model and its optimizer stay as they
    are; the compiled step is the one that training takes."""
    import keras

    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = values(variables)
    ends: list[float] = []
    began = time.perf_counter()
    done = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
    )
    data.start(0, most=STEPS)
    with what_failed(data):
        model.fit(data, epochs=1, verbose=0, shuffle=False, callbacks=[done])
    data.start(0)
    assign(variables, before)
    return float(np.median(np.diff(ends))) if len(ends) > 1 else ends[0] - began


def seconds_per_photo(
    extract: Callable[[NDArray[np.float32]], object], shape: tuple[int, ...], batch: int
) -> float:
    """Through a network, a batch at a time, once it is compiled. shape: of one photo."""
    pixels = np.zeros((batch, *shape), np.float32)
    extract(pixels)  # compiles
    began = time.perf_counter()
    extract(pixels)
    return (time.perf_counter() - began) / batch


def about(seconds: float) -> str:
    """A length of time for a person."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min"
    return f"about {round(seconds / 1800) / 2:g} h"


def weights(count: int) -> str:
    """A number of weights for a person."""
    if count < 1e6:
        return f"{count / 1e3:.1f} thousand" if count >= 1000 else str(count)
    return f"{count / 1e6:.1f} million"
