"""What the rest needs of a model that was read, whatever file it came in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.images.preprocess import Preprocess
from mobileclf.records import Record

BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Given:
    """A model that was read.

    format: in words. shape: height, width and channels of its input. outputs: labels that it
    tells apart. inside: how pixels become its input where the file itself says so, else None,
    and `says`: where it says so. takes: whether its input can hold what a preprocessing gives.
    score: of pixels uint8 (n, height, width, channels) after a preprocessing, what the model
    answers: probabilities float64 (n, outputs). finish: writes the run's own file into a folder,
    proven on the pixels, for the chosen preprocessing; gives its part of `train.json`, with
    `model`, the file's name.
    """

    format: str
    shape: tuple[int, int, int]
    outputs: int
    inside: Preprocess | None
    says: str
    takes: Callable[[Preprocess], bool]
    score: Callable[[NDArray[np.uint8], Preprocess], NDArray[np.float64]]
    finish: Callable[[Path, Preprocess, NDArray[np.uint8]], Record]


def in_batches(
    score: Callable[[NDArray[np.uint8]], NDArray[np.float64]],
    pixels: NDArray[np.uint8],
    title: str,
) -> NDArray[np.float64]:
    """`score` of BATCH photos at a time, with a progress bar. pixels: uint8 (n, h, w, channels)."""
    starts = range(0, len(pixels), BATCH)
    return np.concatenate(
        [score(pixels[i : i + BATCH]) for i in progress.track(starts, title, len(starts))]
    )
