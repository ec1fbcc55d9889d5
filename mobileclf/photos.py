"""Where a run's photos lie, and how they become pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .config import Settings
from .images.load import ImageSpec, load_many
from .scores import Part, read_part

SAMPLE_FOLDER = "sample"


def photos_root(settings: Settings) -> Path:
    """The folder that paths in dataset.csv are relative to: the user's, or the drawn sample
    that the dataset stage keeps in the run. Only after `config.resolve`."""
    return settings.run_folder / SAMPLE_FOLDER if settings.data is None else settings.data


def spec_for(settings: Settings) -> ImageSpec:
    """The preprocessing of a run. Only after `config.resolve`."""
    assert settings.image_size is not None
    return ImageSpec(width=settings.image_size, height=settings.image_size)


def load_part(
    folder: Path, settings: Settings, part: str, *, most: int | None = None
) -> tuple[Part, NDArray[np.uint8]]:
    """One of the four parts and its photos, uint8 (n, height, width, 3).

    most: no more than so many, taken evenly over the part, so that every class is among them.
    """
    whole = read_part(folder, part)
    if most is not None and most < len(whole):
        rows = np.linspace(0, len(whole) - 1, most).round().astype(int)
        whole = Part(paths=tuple(whole.paths[i] for i in rows), truth=whole.truth[rows])
    root = photos_root(settings)
    paths = [root / path for path in whole.paths]
    return whole, load_many(paths, spec_for(settings), f"load {part}")
