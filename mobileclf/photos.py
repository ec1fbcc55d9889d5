"""Where a run's photos lie, and how they become pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .images.load import ImageSpec, load_many
from .records import read_json
from .scores import Part, read_part
from .settings import Settings
from .source import forms
from .source.store import Store, open_store
from .training.pictures import Pictures

SAMPLE_FOLDER = "sample"
TRAINED = "train.json"


def photos_of(folder: Path, settings: Settings) -> Store:
    """The store that paths in the run's dataset.csv lie in: the user's, or what the dataset
    stage keeps in the run (the drawn sample; pixels of a CSV as pictures)."""
    if settings.data is None:
        return open_store(folder / SAMPLE_FOLDER)
    kept = read_json(folder / "dataset.json")["kept"]
    return open_store(folder / kept) if kept else forms.photos_store(settings)


def spec_of(folder: Path) -> ImageSpec:
    """The preprocessing of a run, as its model takes it. Only once there is a `train.json`."""
    return ImageSpec.from_record(read_json(folder / TRAINED)["input"])


def pictures_of(folder: Path, settings: Settings, photos: Part, spec: ImageSpec) -> Pictures:
    """Photos of a run as training reads them: when they are needed, in no order of their own."""
    return Pictures(
        store=photos_of(folder, settings),
        paths=photos.paths,
        digests=photos.digests,
        spec=spec,
        cluster=settings.cluster,
    )


def load_part(
    folder: Path,
    settings: Settings,
    part: str,
    *,
    most: int | None = None,
    spec: ImageSpec | None = None,
) -> tuple[Part, NDArray[np.uint8]]:
    """One of the four parts and its photos, uint8 (n, height, width, channels).

    most: no more than so many, taken evenly over the part, so that every class is among them.
    spec: as in `load_photos`.
    """
    whole = read_part(folder, part)
    if most is not None and most < len(whole):
        whole = whole[np.linspace(0, len(whole) - 1, most).round().astype(int)]
    return whole, load_photos(folder, settings, whole, f"load {part}", spec=spec)


def load_photos(
    folder: Path, settings: Settings, photos: Part, title: str, *, spec: ImageSpec | None = None
) -> NDArray[np.uint8]:
    """Photos of a run, uint8 (n, height, width, channels), in their order, with a progress bar.

    spec: `spec_of` the run, unless there is none yet.
    """
    store = photos_of(folder, settings)
    spec = spec or spec_of(folder)
    return load_many(store, photos.paths, spec, title, cluster=settings.cluster)
