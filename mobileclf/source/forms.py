"""The forms that data come in: which one it is, and its index.

class-folders: a folder of photos for each class. csv: a table of file names and labels, and the
photos. pixel-csv: pictures as rows of numbers. Each as a folder or a zip of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mobileclf.config import Settings
from mobileclf.errors import DataError, UsageError
from mobileclf.records import sha256_file, sha256_json

from . import class_folders, image_csv, pixel_csv
from .groups import CLASSES_FILE, check_groups_file
from .index import Index
from .listing import TABLES, reading
from .store import FolderStore, Store, open_store


@dataclass(frozen=True, kw_only=True)
class Form:
    """about: what it is, for messages. recognised: cheaply, by names and headers. read: the
    index, and the store that its paths lie in; it may write into the run folder."""

    about: str
    recognised: Callable[[Store, Settings], bool]
    read: Callable[[Store, Settings, Path], tuple[Index, Store]]


def _read_class_folders(store: Store, settings: Settings, folder: Path) -> tuple[Index, Store]:
    return class_folders.read(store, settings), store


def _read_image_csv(store: Store, settings: Settings, folder: Path) -> tuple[Index, Store]:
    return image_csv.read(store, settings)


def _read_pixel_csv(store: Store, settings: Settings, folder: Path) -> tuple[Index, Store]:
    index = pixel_csv.read(store, settings, folder)
    assert index.kept is not None
    return index, open_store(folder / index.kept)


# In the order of recognition: what says most by its names comes first.
FORMS: Mapping[str, Form] = {
    "pixel-csv": Form(
        about="pictures as rows of numbers (input.csv and labels.csv)",
        recognised=pixel_csv.recognised,
        read=_read_pixel_csv,
    ),
    "csv": Form(
        about="a CSV of file names and labels beside the photos (train.csv)",
        recognised=image_csv.recognised,
        read=_read_image_csv,
    ),
    "class-folders": Form(
        about="a folder of photos for each class",
        recognised=class_folders.recognised,
        read=_read_class_folders,
    ),
}


def check_source(settings: Settings) -> None:
    """Raises DataError where --data, --images or --groups name nothing that can be read, before
    anything is made for them."""
    data = _data(settings)
    found = "a file" if data.is_file() else "something else" if data.exists() else "nothing"
    if not data.is_dir() and not (found == "a file" and data.suffix.lower() in (".zip", *TABLES)):
        raise DataError(
            f"--data {data}: wanted a folder, a .zip of it or a .csv, found {found}; check the path"
        )
    if not data.is_dir() and not _is_table(data):
        open_store(data)  # a broken or hostile zip is refused as a whole, and that is found here
    images = settings.images
    beside = data if data.is_dir() else data.parent
    inside_zip = data.suffix.lower() == ".zip"
    if images is not None and not (inside_zip or images.exists() or (beside / images).exists()):
        raise DataError(
            f"--images {images}: wanted a folder or a .zip of photos, found nothing; check the path"
        )
    if settings.groups is not None:
        check_groups_file(settings.groups)


def read_index(settings: Settings, folder: Path) -> tuple[Index, Store]:
    """The index of --data, and the store that its paths lie in. `folder` is the run's: pictures
    that are made of numbers are kept there (`Index.kept`). Raises DataError, UsageError."""
    store = _data_store(settings)
    index, photos = FORMS[form_of(store, settings)].read(store, settings, folder)
    return _with_specimens(index, settings.group_by), photos


def form_of(store: Store, settings: Settings) -> str:
    """The form asked for, else the first that is recognised. Raises DataError."""
    if settings.form is not None:
        return settings.form
    if _is_table(_data(settings)):
        return "pixel-csv" if pixel_csv.recognised(store, settings) else "csv"
    for name, form in FORMS.items():
        if form.recognised(store, settings):
            return name
    known = "; ".join(f"{form.about} ({name})" for name, form in FORMS.items())
    names = store.names()
    found = f"only files ({', '.join(names[:3])}{' …' if len(names) > 3 else ''})"
    if not names:
        raise DataError(f"{store.root}: the folder is empty; wanted one of: {known}")
    raise DataError(f"{store.root}: wanted one of: {known}; found {found}; --form says which it is")


def photos_store(settings: Settings) -> Store:
    """The store of photos where nothing is kept in the run. Raises DataError."""
    store = _data_store(settings)
    if settings.images is None:
        return store  # without --images the photos of a CSV lie beside it, too
    if form_of(store, settings) != "csv":
        return store
    return image_csv.images_of(store, settings)[0]


def fingerprint(settings: Settings) -> object:
    """A JSON value that changes when any file that is read does. Raises DataError.

    A zip: its sha256. A folder: one of the sha256 of every file in it by name. A CSV given as
    --data: of the files that it names, as others may lie beside it.
    """
    check_source(settings)
    data, store = _data(settings), _data_store(settings)
    form = form_of(store, settings)
    if form == "csv":
        image_csv.check(store, settings)
    elif form == "pixel-csv":
        pixel_csv.check(store, settings)
    found: dict[str, object] = {"form": form}
    if settings.groups is not None:
        found["groups"] = _sha256(settings.groups)
    if not _is_table(data):
        found["data"] = _digest_of(store)
        if form == "csv" and (photos := image_csv.images_of(store, settings)[0]) is not store:
            found["images"] = _digest_of(photos)
        return found
    beside = [name for name in store.top_names() if name.casefold() == CLASSES_FILE]
    if form == "pixel-csv":
        found["data"] = _digests(store, [*pixel_csv.files(store, settings), *beside])
    else:
        index, photos = image_csv.read(store, settings)
        found["data"] = _digests(store, [data.name, *beside])
        found["images"] = _digests(photos, [entry.path for entry in index.entries])
    return found


def _sha256(path: Path) -> str:
    with reading(str(path)):
        return sha256_file(path)


def _digest_of(store: Store) -> str:
    if store.root.is_file():
        return _sha256(store.root)
    return sha256_json([_digests(store, store.names()), store.folders(), dict(store.problems())])


def _digests(store: Store, names: Sequence[str]) -> str:
    with ThreadPoolExecutor() as pool:
        return sha256_json(list(zip(names, pool.map(store.digest, names), strict=True)))


def _data(settings: Settings) -> Path:
    assert settings.data is not None
    return settings.data


def _is_table(data: Path) -> bool:
    return data.suffix.lower() in TABLES and data.is_file()


def _data_store(settings: Settings) -> Store:
    """--data itself, or the folder that a CSV given as --data lies in. Raises DataError."""
    data = _data(settings)
    return FolderStore(data.parent) if _is_table(data) else open_store(data)


def _with_specimens(index: Index, group_by: str | None) -> Index:
    """The index with a specimen for each photo whose path --group-by matches, unless a column of
    that name gave them. Raises UsageError for what is no regular expression."""
    if group_by is None:
        return index
    entries = index.entries
    if not any(entry.specimen for entry in entries):
        try:
            pattern = re.compile(group_by)
        except re.error as error:
            raise UsageError(
                f"--group-by {group_by!r}: wanted a column or a regular expression ({error})"
            ) from error
        entries = tuple(
            replace(entry, specimen=_specimen(pattern, entry.path)) for entry in entries
        )
    usable = [entry for entry in entries if not entry.problem]
    warnings = index.warnings
    if without := sum(1 for entry in usable if not entry.specimen):
        warnings += (
            f"--group-by {group_by}: {without} of {len(usable)} photos have no specimen; each of "
            "these counts as one of its own",
        )
    return replace(index, entries=entries, warnings=warnings)


def _specimen(pattern: re.Pattern[str], path: str) -> str:
    found = pattern.search(path)
    if found is None:
        return ""
    return (found.group(1) if pattern.groups else found.group()) or ""
