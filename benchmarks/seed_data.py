"""Real data in the forms that the four seed projects keep theirs in, for benchmark and tests.

Nothing is downloaded: digits come with scikit-learn, photos from a folder of class folders.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def write_digits(folder: Path, *, most: int | None = None) -> Path:
    """scikit-learn's 1,797 digits of 8 x 8 grey pixels as `train.csv` (id, label) and PNGs.

    The ids have no extension. Returns `folder`.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    (folder / "images").mkdir(parents=True)
    rows = []
    for i, (picture, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if most is not None and i == most:
            break
        grey = (picture * 255 / 16).round().astype(np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{i:04d}.png")
        rows.append((f"{i:04d}", str(label)))
    _write(folder / "train.csv", [("id", "label"), *rows])
    return folder


def write_pixels(
    folder: Path, classes: list[Path], *, side: int = 100, test_share: float = 0.2
) -> Path:
    """Photos in class folders as `input.csv`, `labels.csv`, `input_test.csv`, `labels_test.csv`:
    a row holds side x side x 3 numbers 0..255, labels are 0, 1, ... Returns `folder`."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    photos = [(path, i) for i, one in enumerate(classes) for path in sorted(one.iterdir())]
    order = rng.permutation(len(photos))
    tests = set(order[: round(test_share * len(photos))].tolist())
    for suffix, chosen in (("", [i for i in order if i not in tests]), ("_test", sorted(tests))):
        _write(folder / f"input{suffix}.csv", (_pixels(photos[i][0], side) for i in chosen))
        _write(folder / f"labels{suffix}.csv", ([photos[i][1]] for i in chosen))
    return folder


def _pixels(path: Path, side: int) -> NDArray[np.uint8]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)).ravel()


def link_classes(folder: Path, classes: list[Path]) -> Path:
    """Class folders under one root, by links. Returns `folder`."""
    folder.mkdir(parents=True)
    for path in classes:
        (folder / path.name).symlink_to(path.resolve(), target_is_directory=True)
    return folder


def _write(path: Path, rows: Iterator[object] | list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
