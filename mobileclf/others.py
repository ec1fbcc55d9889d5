"""Images of other things, that none of the classes is: read to see how often that is noticed.

Nothing is chosen on them, and they are in no part of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from . import progress
from .errors import DataError
from .images.load import ImageSpec, load
from .parallel import each
from .records import read_csv
from .source.index import PHOTO_ENDINGS
from .source.store import Store, open_store
from .wording import counted

OTHERS = "others"  # where a part would be named
OTHERS_CSV = "others.csv"
COLUMNS = ("path", "problem")


@dataclass(frozen=True, kw_only=True)
class Others:
    """photos: uint8 (n, height, width, channels). rows: of OTHERS_CSV, one an image that was
    found; those without a problem are the photos, in that order."""

    photos: NDArray[np.uint8]
    rows: tuple[Mapping[str, str], ...]


def digests(source: Path) -> dict[str, str | None]:
    """sha256 of each image in a folder or zip and all below it, by name; None: cannot be read.

    Raises DataError where there is no image.
    """
    store = open_store(source)
    names = [name for name in store.names() if PurePosixPath(name).suffix.lower() in PHOTO_ENDINGS]
    if not names:
        raise DataError(
            f"--others {source}: wanted a folder or zip with images of other things, found none"
        )
    return {name: store.digest(name) for name in names}


def load_others(folder: Path, source: Path, spec: ImageSpec, *, cluster: str | None) -> Others:
    """The images in `source`, as a run's model takes them, with a progress bar.

    Left out, which is told: what cannot be used, what is a photo of the run's own data, and all
    but the first of equal files, each of which would count once more. Raises DataError where
    nothing is left.
    """
    store = open_store(source)
    found = digests(source)
    problems = dict(store.problems())
    seen = {row["sha256"]: f"{row['path']} of the data" for row in read_csv(folder / "dataset.csv")}
    for name, digest in found.items():
        if digest is None:
            problems.setdefault(name, "cannot be read")
        elif digest in seen:
            problems.setdefault(name, f"the same file as {seen[digest]}")
        else:
            seen[digest] = name
    wanted = [name for name in found if name not in problems]
    photos = []
    for name, image in zip(
        wanted,
        each(partial(_read, store, spec), wanted, "load other things", cluster=cluster,
             shared=store.root),
        strict=True,
    ):  # fmt: skip
        if isinstance(image, str):
            problems[name] = image
        else:
            photos.append(image)
    left_out = [name for name in found if name in problems]
    if not photos:
        raise DataError(
            f"--others {source}: wanted images that can be used, found none among "
            f"{len(found)}; the first, {left_out[0]}: {problems[left_out[0]]}"
        )
    if left_out:
        progress.warn(
            f"--others {source}: {counted(len(left_out), 'image')} of {len(found)} left out, the "
            f"first is {left_out[0]}: {problems[left_out[0]]}; all are in {OTHERS_CSV}"
        )
    return Others(
        photos=np.stack(photos),
        rows=tuple({"path": name, "problem": problems.get(name, "")} for name in found),
    )


def _read(store: Store, spec: ImageSpec, name: str) -> NDArray[np.uint8] | str:
    """The model's input, or why there is none."""
    try:
        return load(store.read(name), spec)
    except DataError as error:
        return str(error)
