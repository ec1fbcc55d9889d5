"""The images that `predict` is asked about: files, folders, zips, and rows of a CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError, UsageError
from mobileclf.images.load import ImageSpec, load
from mobileclf.source.image_csv import IdRow, read_rows
from mobileclf.source.index import PHOTO_ENDINGS
from mobileclf.source.store import FolderStore, Store, open_store
from mobileclf.source.tables import is_table


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image to label. path: as rows show it. name: in the store at place `store`, or for None
    the path of a file of its own. id: as the CSV that names it has it, else None. problem: why
    there is nothing to read, found without opening it."""

    path: str
    name: str = ""
    store: int | None = None
    id: str | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is to be labelled, in order. stores: of folders, zips and CSVs' images. roots: what
    must be in sight of every worker. id_column: header of the last CSV's ids."""

    rows: tuple[Picture, ...]
    stores: tuple[Store, ...]
    roots: tuple[Path, ...]
    id_column: str = ""


def pictures_of(
    given: Sequence[Path], image_folder: Path | None, image_column: str | None
) -> Pictures:
    """Every image that is asked for. Raises DataError and UsageError."""
    rows: list[Picture] = []
    stores: list[Store] = []
    roots: dict[Path, Path] = {}
    id_column = ""
    tables = [path for path in given if is_csv(path)]
    for flag, value in {"--images": image_folder, "--image-column": image_column}.items():
        if value is not None and not tables:
            raise UsageError(f"{flag} {value}: it is for the images of a CSV, and none is given")
    for path in given:
        # Workers elsewhere have another working directory.
        full = path.absolute()
        if not path.exists():
            raise DataError(
                f"{path}: wanted an image, a folder, a zip or a CSV, found nothing there"
            )
        if is_csv(path):
            shown = path.parent
            if image_folder is not None:
                beside = not image_folder.exists() and (shown / image_folder).exists()
                shown = shown / image_folder if beside else image_folder
            table, photos = open_store(full.parent), open_store(shown.absolute())
            found = read_rows(table, path.name, image_column, photos)
            if not found.rows:
                raise DataError(f"{path}: wanted rows, found only a header")
            id_column = found.column
            rows += [_named(row, shown, len(stores)) for row in found.rows]
            stores.append(photos)
            full = photos.root
        elif path.is_dir() or path.suffix.lower() == ".zip":
            store = open_store(full)
            names = [n for n in store.names() if PurePosixPath(n).suffix.lower() in PHOTO_ENDINGS]
            if not names:
                kind = "folder" if path.is_dir() else "zip"
                raise DataError(f"{path}: wanted images in this {kind}, found none")
            problems = store.problems()
            rows += [
                Picture(
                    path=str(path / name), name=name, store=len(stores),
                    problem=problems.get(name, ""),
                )
                for name in names
            ]  # fmt: skip
            stores.append(store)
        else:
            rows.append(Picture(path=str(path), name=str(full)))
            # One file stands for all that are given from its folder.
            roots.setdefault(full.parent, full)
            continue
        roots[full] = full
    return Pictures(
        rows=tuple(rows), stores=tuple(stores), roots=tuple(roots.values()), id_column=id_column
    )


def is_csv(path: Path) -> bool:
    """Whether a path is taken for a CSV: by its ending."""
    return is_table(path.name) and not path.is_dir()


def _named(row: IdRow, root: Path, store: int) -> Picture:
    path = str(root / row.name) if row.name else row.id
    return Picture(path=path, name=row.name, store=store, id=row.id, problem=row.problem)


def load_picture(
    spec: ImageSpec, stores: Sequence[Store], picture: Picture
) -> NDArray[np.uint8] | str:
    """The model's input, uint8 (height, width, channels), or why there is none."""
    try:
        return load(read_picture(stores, picture), spec)
    except DataError as error:
        return f"{picture.path}: {error}"


def read_picture(stores: Sequence[Store], picture: Picture) -> bytes:
    """The bytes of its file. Raises DataError."""
    if picture.problem:
        raise DataError(picture.problem)
    if picture.store is None:
        file = Path(picture.name)
        return FolderStore(file.parent).read(file.name)
    return stores[picture.store].read(picture.name)
