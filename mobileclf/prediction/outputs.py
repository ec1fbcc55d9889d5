"""What `predict` may write: nothing that it reads, and no picture but an earlier sheet.

A forgotten name makes an output of a photo: in `predict MODEL --sheet *.jpg` the first one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mobileclf.errors import UsageError
from mobileclf.images.contact_sheet import is_page
from mobileclf.source.index import PHOTO_ENDINGS

from .run_model import DATA

HOMES = ("bundle.json", DATA)


def check_outputs(
    outputs: Mapping[str, Path | None],
    model: Path,
    images: Sequence[Path],
    labels: Path | None,
    image_folder: Path | None,
) -> None:
    """Raises UsageError where an output would be lost to another, or an input to an output.

    outputs: by the option that names them. The rest as in `predict`.
    """
    homes = [path for path in _homes(model) if path.is_dir()]
    folders = [path for path in _inputs(model, images, labels, image_folder) if path.is_dir()]
    places: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        wrong = f"{option} {path}: wanted"
        if (other := places.setdefault(path.resolve(), option)) != option:
            raise UsageError(f"{wrong} another file than {other}'s")
        for home in homes:
            if _within(path, home):
                raise UsageError(f"{wrong} a place outside of {home}, which the model is read from")
        if not path.exists():
            if not path.resolve().parent.is_dir():
                raise UsageError(f"{wrong} a place in a folder that is there; make it first")
            continue
        if any(_same(path, read) for read in _inputs(model, images, labels, image_folder)):
            raise UsageError(f"{wrong} a file to write, found one that is read; give another name")
        if path.suffix.lower() in PHOTO_ENDINGS and not (
            option == "--sheet"
            and is_page(path)
            and not any(_within(path, folder) for folder in folders)
        ):
            raise UsageError(
                f"{wrong} a new name, found a picture, which would be lost; give another, or the "
                f"one that was left out after {option}"
            )


def _inputs(
    model: Path, images: Sequence[Path], labels: Path | None, image_folder: Path | None
) -> Iterator[Path]:
    yield from (model, *images)
    if labels is not None:
        yield labels
    if image_folder is not None:
        yield image_folder
        yield from (path.parent / image_folder for path in images)


def _homes(model: Path) -> Iterator[Path]:
    """The bundle or the run."""
    yield model
    if any((model.parent / name).is_file() for name in HOMES):
        yield model.parent


def _within(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _same(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
