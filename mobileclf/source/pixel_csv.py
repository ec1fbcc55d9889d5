"""Pictures as rows of numbers, and their labels; written out as PNGs in one zip in the run.

    input.csv, labels.csv, input_test.csv, labels_test.csv     a row is a picture, flattened as
    train.csv (test.csv) with label,pixel0,pixel1,...          rows, columns, channels

Values are 0..255 or 0..1, which the whole file decides. Read in pieces of a few hundred rows.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobileclf import progress
from mobileclf.errors import DataError
from mobileclf.records import new_file
from mobileclf.settings import Settings
from mobileclf.spelling import shape_of
from mobileclf.wording import counted

from .groups import CLASSES_FILE, Groups, check_labels, find_groups, label_names
from .index import GIVEN_PARTS, Entry, Index
from .listing import reading
from .pixel_rows import LONGEST_LINE, Labels, Reader, as_pixels, find_scale, read_labels
from .store import Store, open_store
from .tables import (
    LABEL_COLUMNS,
    PIXEL_COLUMN,
    given_table,
    is_submission,
    is_table,
    lines_of,
    read_header,
    short,
    whole,
)
from .zip_store import OWN_ZIP

FORM = "pixel-csv"
KEPT = "pixels.zip"
INPUT = re.compile(r"(input|labels)(?:[_-]?([a-z]+))?", re.IGNORECASE)
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say: the same input gives the same bytes


@dataclass(frozen=True, kw_only=True)
class _Source:
    """One file of pictures. labels: the file of their labels; None: the first column is."""

    pixels: str
    labels: str | None
    part: str

    @property
    def stem(self) -> str:
        return PurePosixPath(self.pixels).stem


def recognised(store: Store, settings: Settings) -> bool:
    """Whether there is input.csv with labels.csv, or a CSV headed by a label and pixels."""
    sources, _ = _sources(store, settings, sure=True)
    return bool(sources)


def possible(store: Store, settings: Settings) -> bool:
    """Whether there is a CSV that may be of pixels; one that is --data itself may."""
    return given_table(settings) is not None or bool(files(store, settings))


def files(store: Store, settings: Settings) -> list[str]:
    """The names of all files that are read."""
    sources, _ = _sources(store, settings)
    return [name for x in sources for name in (x.pixels, x.labels) if name is not None]


def check(store: Store, settings: Settings) -> None:
    """Raises DataError for a file whose first line is no text: before anything long is done."""
    for name in files(store, settings):
        where = str(store.root / name)
        with reading(where), store.open(name) as file:
            next(lines_of(file, where, longest=LONGEST_LINE), None)


def read(store: Store, settings: Settings, folder: Path) -> tuple[Index, Store]:
    """The index, and the store of the pictures: `pixels.zip`, made in `folder`. Raises DataError
    with the line of a row that does not fit, EnvironmentProblem where the folder cannot be
    written."""
    sources, unused = _sources(store, settings)
    if not sources:
        raise DataError(
            f"{store.root}: wanted input.csv and labels.csv, or a CSV with a label first and "
            "pixels after it, found neither"
        )
    apart = {x.pixels: read_labels(store, x.labels) for x in sources if x.labels is not None}
    by_id = {
        name: column
        for name, found in apart.items()
        if (column := _id_column(store, name, found, settings)) is not None
    }
    for name, found in apart.items():
        if name not in by_id:
            found.check_order()
    if len(apart) == len(sources):
        # Before anything long is done.
        _named({name: found.rows for name, found in apart.items()}, store, settings)
    shape = shape_of(settings.shape) if settings.shape else None
    labels: dict[str, list[tuple[str, str]]] = {}
    notes = [f"{name} has no labels and is not used to train or test" for name in unused]
    with _new_zip(folder / KEPT) as pictures:
        for source in sources:
            given = apart.get(source.pixels)
            ids = by_id.get(source.pixels)
            shape, rows, note = _convert(store, source, given, ids, shape, pictures)
            labels[source.pixels] = rows
            notes.append(note)
        names, groups = _named(labels, store, settings)
    entries = [
        Entry(path=_picture_name(source, i), label=names[label], part=source.part)
        for source in sources
        for i, (label, _) in enumerate(labels[source.pixels], start=1)
    ]
    return Index(
        form=FORM,
        entries=tuple(sorted(entries, key=lambda entry: entry.path)),
        labels=groups.labels,
        harmful=groups.harmful,
        kept=KEPT,
        warnings=groups.warnings,
        notes=tuple(notes),
    ), open_store(folder / KEPT)


def _id_column(store: Store, name: str, labels: Labels, settings: Settings) -> str | None:
    """The column of `labels` that a file of pictures begins with too, if any. Raises DataError."""
    if not labels.ids:
        return None
    first = _header(store, name, settings, sure=False)[0].casefold()
    return next((column for column in labels.ids if column.casefold() == first), None)


def _named(
    labels: Mapping[str, Sequence[tuple[str, str]]], store: Store, settings: Settings
) -> tuple[dict[str, str], Groups]:
    """Label by what stands in the files, and the groups. Raises DataError."""
    first: dict[str, str] = {}
    for pairs in labels.values():
        for label, where in pairs:
            first.setdefault(label, where)
    names = label_names(first, settings.classes)
    check_labels(names.values(), store.root)
    return names, find_groups(list(names.values()), store, settings.groups, None)


def _picture_name(source: _Source, row: int) -> str:
    return f"{source.stem}/{row:06d}.png"


def _sources(
    store: Store, settings: Settings, *, sure: bool = False
) -> tuple[list[_Source], list[str]]:
    """The files of pictures with labels, and those without. sure: none that only --form
    pixel-csv makes one. Raises DataError for labels without pictures, and for two files that
    would be one."""
    given = given_table(settings)
    if given is not None and not INPUT.fullmatch(PurePosixPath(given).stem):
        tables = [given]
    else:
        tables = [name for name in store.top_names() if is_table(name)]
    pairs: dict[str, dict[str, str]] = {"input": {}, "labels": {}}
    twice: list[tuple[str, str, str]] = []
    for name in tables:
        found = INPUT.fullmatch(PurePosixPath(name).stem)
        part = GIVEN_PARTS.get((found[2] or "train").casefold()) if found else None
        if found and part:
            kind = found[1].casefold()
            if (other := pairs[kind].setdefault(part, name)) != name:
                twice.append((other, name, f"{kind} of {part}"))
    inputs, labels = pairs["input"], pairs["labels"]
    both = [
        _Source(pixels=name, labels=labels[part], part=part)
        for part, name in inputs.items()
        if part in labels
    ]
    if not both:
        return _with_labels_first(store, tables, settings, sure=sure)
    for first, second, what in twice:
        raise DataError(_two_files(store, first, second, what))
    if alone := [name for part, name in labels.items() if part not in inputs]:
        raise DataError(f"{store.root}: {alone[0]} has no input CSV of that name beside it")
    return _parted(both), [name for part, name in inputs.items() if part not in labels]


def _with_labels_first(
    store: Store, tables: Sequence[str], settings: Settings, *, sure: bool
) -> tuple[list[_Source], list[str]]:
    tables = [
        name
        for name in tables
        if name.casefold() != CLASSES_FILE
        and not is_submission(name)
        and not INPUT.fullmatch(PurePosixPath(name).stem)
    ]
    parts = {name: GIVEN_PARTS.get(PurePosixPath(name).stem.casefold(), "") for name in tables}
    if any(parts.values()):
        tables = [name for name in tables if parts[name]]
    elif len(tables) > 1:
        return [], []
    found, unused = [], []
    for name in tables:
        header = _header(store, name, settings, sure=sure)
        if len(header) > 4 and all(map(PIXEL_COLUMN.fullmatch, header[1:])):
            if header[0].casefold() in LABEL_COLUMNS:
                found.append(_Source(pixels=name, labels=None, part=parts[name]))
                continue
            if PIXEL_COLUMN.fullmatch(header[0]) and parts[name] == "test":
                unused.append(name)
                continue
        if not sure:
            found.append(_Source(pixels=name, labels=None, part=parts[name]))
    pixels_of: dict[str, str] = {}
    for source in found:
        if (other := pixels_of.setdefault(source.stem, source.pixels)) != source.pixels:
            raise DataError(_two_files(store, other, source.pixels, source.stem))
    return _parted(found), unused if found else []


def _two_files(store: Store, first: str, second: str, what: str) -> str:
    return f"{store.root}: wanted one file for {what}, found {first} and {second}; take one out"


def _header(store: Store, name: str, settings: Settings, *, sure: bool) -> tuple[str, ...]:
    where = str(store.root / name)
    try:
        with reading(where), store.open(name) as file:
            return read_header(file, where, longest=LONGEST_LINE)
    except DataError:
        if sure:
            return ()  # whichever form it is will say what is wrong
        raise


def _parted(sources: Sequence[_Source]) -> list[_Source]:
    """Sorted by name; with one part alone nothing is given, and all of it is cut."""
    if len({source.part for source in sources}) == 1:
        sources = [_Source(pixels=x.pixels, labels=x.labels, part="") for x in sources]
    return sorted(sources, key=lambda source: source.pixels)


def _convert(
    store: Store,
    source: _Source,
    given: Labels | None,
    ids: str | None,
    shape: tuple[int, int, int] | None,
    pictures: zipfile.ZipFile,
) -> tuple[tuple[int, int, int], list[tuple[str, str]], str]:
    """Write every row of one file as a PNG. given: the labels, where another file has them; ids:
    the column that both files begin with. Returns the shape, (label, where) of each row and a
    line that says what was decided. Raises DataError."""
    labels_first = source.labels is None or ids is not None
    reader = Reader(store=store, name=source.pixels, labels_first=labels_first, shape=shape)
    scale = find_scale(reader)
    labels: list[tuple[str, str]] = []
    count = 0
    total = len(given.rows) if given is not None else None
    of_id = given.by_id(ids) if given is not None and ids is not None else None
    title = f"read {source.pixels}"
    with progress.bar(title, total) if total else nullcontext() as bar:
        for rows in reader.pieces():
            pixels = as_pixels(rows, scale, reader)
            for i, picture in enumerate(pixels, start=count + 1):
                _write_picture(pictures, _picture_name(source, i), picture)
            count += len(pixels)
            if total is not None and count > total:
                break
            labels += [
                (whole(label), f"{reader.where} line {line}")
                for line, label in zip(rows.lines, rows.labels, strict=True)
            ]
            if bar is not None:
                bar.advance(bar.task_ids[0], len(pixels))
    if given is not None and count != total:
        more = "at least " if count > len(given.rows) else ""
        raise DataError(
            f"{given.where}: wanted one label for each row of {source.pixels}, found "
            f"{counted(len(given.rows), 'label')} and {more}{counted(count, 'row')}"
        )
    if not count:
        raise DataError(f"{reader.where}: wanted a picture in each row, found no rows")
    if given is not None:
        labels = list(given.rows) if of_id is None else _by_id(of_id, labels, given)
    if empty := next((where for label, where in labels if not label), None):
        raise DataError(f"{empty}: wanted a label, found an empty cell")
    assert reader.shape is not None
    size = " x ".join(map(str, reader.shape))
    span = "0..255" if scale == 1 else "0..1, taken times 255"
    note = f"{source.pixels}: {counted(count, 'picture')} of {size}, values {span}"
    if ids is not None:
        note += f", labels by column {ids!r}"
    return reader.shape, labels, note


def _by_id(
    of_id: dict[str, tuple[str, str]], rows: Sequence[tuple[str, str]], given: Labels
) -> list[tuple[str, str]]:
    """(label, where) of each row of pictures, by (id, where). Raises DataError."""
    found = []
    for id, where in rows:
        if id not in of_id:
            raise DataError(
                f"{where}: wanted an id that {given.where} has once, for this row alone, found "
                f"{short(id)!r}"
            )
        found.append(of_id.pop(id))
    return found


def _write_picture(pictures: zipfile.ZipFile, name: str, pixels: NDArray[np.uint8]) -> None:
    data = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(data, "PNG")
    info = zipfile.ZipInfo(name, DATE)
    info.create_system = 3  # as on Linux, wherever it is written
    info.external_attr = 0o644 << 16
    pictures.writestr(info, data.getvalue())


@contextmanager
def _new_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip that is there, whole, once the block is left well."""
    with new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.comment = OWN_ZIP
        yield archive
