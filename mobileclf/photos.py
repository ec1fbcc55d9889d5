"""Where a run's photos lie, and how they become pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .config import Settings
from .images.load import ImageSpec, load_many
from .records import read_json
from .scores import Part, read_part
from .source import forms
from .source.store import Store, open_store

SAMPLE_FOLDER = "sample"


def photos_of(folder: Path, settings: Settings) -> Store:
    """The store that paths in the run's dataset.csv lie in: the user's, or what the dataset
    stage keeps in the run (the drawn sample; pixels of a CSV as pictures)."""
    if settings.data is None:
        return open_store(folder / SAMPLE_FOLDER)
    kept = read_json(folder / "dataset.json")["kept"]
    return open_store(folder / kept) if kept else forms.photos_store(settings)


def spec_for(settings: Settings) -> ImageSpec:
    """The preprocessing of a run. Only after `config.resolve`."""
    assert settings.image_size is not None and settings.channels is not None
    size = settings.image_size
    return ImageSpec(width=size, height=size, channels=settings.channels)


def load_part(
    folder: Path, settings: Settings, part: str, *, most: int | None = None
) -> tuple[Part, NDArray[np.uint8]]:
    """One of the four parts and its photos, uint8 (n, height, width, channels).

    most: no more than so many, taken evenly over the part, so that every class is among them.
    """
    whole = read_part(folder, part)
    if most is not None and most < len(whole):
        rows = np.linspace(0, len(whole) - 1, most).round().astype(int)
        whole = Part(paths=tuple(whole.paths[i] for i in rows), truth=whole.truth[rows])
    store = photos_of(folder, settings)
    photos = load_many(
        store, whole.paths, spec_for(settings), f"load {part}", cluster=settings.cluster
    )
    return whole, photos
