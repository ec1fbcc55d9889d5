"""A CSV of file names and labels, and the photos beside it, below it or in another folder.

    train.csv (validation.csv, test.csv, threshold.csv), labels.csv, or any one CSV
    id,label            an id is a file's name, with or without folders before and an ending after
    12,cat

What is wrong with a row or a file is a problem of that one; what is wrong with the CSV stops.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from posixpath import dirname, splitext

from mobileclf.config import Settings
from mobileclf.errors import DataError

from .groups import CLASSES_FILE, check_labels, find_groups, label_names
from .index import GIVEN_PARTS, PHOTO_ENDINGS, Entry, Index
from .listing import TABLES, escaped, reading
from .photo_ids import Photos
from .store import FolderStore, Store, open_store
from .tables import LABEL_COLUMNS, LARGEST_TABLE, Table, one_column, read_header, read_table

FORM = "csv"
LABELS_FILE = "labels.csv"
IMAGE_COLUMNS = frozenset(
    "id image images file files filename path photo picture img image_id imageid image_name "
    "imagename image_path imagepath image_file imagefile image_filename img_id img_name img_path "
    "file_name filepath file_path fname photo_id photo_name id_code".split()
)
IMAGE_FLAG, LABEL_FLAG = "--image-column", "--label-column"
# Where two given parts name the same photo it stays in the one that comes first here.
STAYS = ("test", "threshold", "validation", "train", "")
NO_ROW = "no row names this photo"


@dataclass(frozen=True, kw_only=True)
class IdRow:
    """One row of a CSV: the id as written, and the file that it names or why there is none."""

    id: str
    name: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class IdRows:
    """column: the header of the ids. rows: in the file's order, none left out."""

    column: str
    rows: tuple[IdRow, ...]


def read_rows(
    store: Store, csv_name: str, image_column: str | None = None, images: Store | None = None
) -> IdRows:
    """The ids of a CSV, labelled or not, and the photo that each names, in the store (or in
    `images`). Raises DataError for a CSV that cannot be read or leads out of its folder."""
    table = _table(store, csv_name)
    place = _image_place(table.columns, table.where, image_column)
    photos = Photos(store=images or store)
    part = _part_of(csv_name)
    rows = []
    for line, cells in table.rows:
        name, problem = photos.find(cells[place], part, f"{table.where} line {line}")
        problem = problem or photos.store.problems().get(name, "")
        rows.append(IdRow(id=cells[place], name="" if problem else name, problem=problem))
    return IdRows(column=table.columns[place], rows=tuple(rows))


def images_of(store: Store, settings: Settings) -> tuple[Store, str]:
    """The store that the photos lie in, and the folder in it that --images names ("": all).

    --images is a folder or zip, or a folder inside of --data; without it all of the store.
    Raises DataError.
    """
    images = settings.images
    if images is None:
        return store, ""
    inside = PurePosixPath(images.as_posix()).as_posix()
    if isinstance(store, FolderStore):
        place = images if images.exists() else store.root / images
        if place.is_dir() and place.resolve().is_relative_to(store.root.resolve()):
            inside = place.resolve().relative_to(store.root.resolve()).as_posix()
            return store, "" if inside == "." else inside
    elif inside in store.folders():
        return store, inside
    else:
        place = images
    if not place.exists():
        raise DataError(f"--images {images}: there is no such folder or zip, nor in {store.root}")
    return open_store(place), ""


def recognised(store: Store, settings: Settings) -> bool:
    """Whether a CSV at the top is named as a part or labels.csv, or the only one has an image
    and a label column (or there is nothing but it)."""
    if _given(settings):
        return True
    named, others = _tables_at_top(store)
    if named:
        return True
    if len(others) != 1:
        return False
    return not store.folders() or _fits(store, others[0], settings)


def check(store: Store, settings: Settings) -> None:
    """Raises DataError for a CSV that is too large or whose first line is no header: before
    anything long is done."""
    labelled, unlabelled = _choose(store, settings)
    for name in [*(name for name, _ in labelled), *unlabelled]:
        if (store.size(name) or 0) > LARGEST_TABLE:
            raise DataError(
                f"{store.root / name}: wanted a table of at most {LARGEST_TABLE} bytes, found "
                f"{store.size(name)}"
            )
        _header(store, name)


def read(store: Store, settings: Settings) -> tuple[Index, Store]:
    """What the rows say, and the store of the photos. Raises DataError."""
    labelled, unlabelled = _choose(store, settings)
    photos_in, inside = images_of(store, settings)
    photos = Photos(store=photos_in, inside=inside)
    rows = [row for name, part in labelled for row in _rows(store, name, part, photos, settings)]
    if not rows:
        raise DataError(f"{store.root}: wanted rows in {labelled[0][0]}, found only a header")
    if not any(row.name for row in rows):
        raise DataError(
            f"{store.root / rows[0].where}: wanted the name of a photo in {photos_in.root}, found "
            f"{rows[0].id!r}, and none in the {len(rows) - 1} rows after it; --images says where "
            f"the photos are, {IMAGE_FLAG} which column names them"
        )
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row.label, str(store.root / row.where))
    # As written: a space too many is then seen as what it is.
    check_labels((label for label in first if label.strip()), store.root / rows[0].csv)
    seen = {label.strip(): where for label, where in first.items() if label.strip()}
    names = label_names(seen, settings.classes)
    if not seen:
        raise DataError(f"{store.root / rows[0].csv}: wanted labels, found every one empty")
    rows = [replace(row, label=names.get(row.label.strip(), "")) for row in rows]
    groups = find_groups(list(dict.fromkeys(names.values())), store, settings.groups, None)
    named = {row.name for row in rows} | photos.ambiguous
    for name in unlabelled:
        named |= {row.name for row in _ids(store, name, photos, settings)}
    strays = [Entry(path=name, problem=NO_ROW) for name in _unnamed(photos, named, settings)]
    problems = photos_in.problems()
    entries = [*_entries(_settled(rows), problems), *strays]
    return Index(
        form=FORM,
        entries=tuple(sorted(entries, key=lambda entry: entry.path)),
        labels=groups.labels,
        harmful=groups.harmful,
        warnings=groups.warnings,
        notes=tuple(
            f"{name} has no labels and is not used to train or test" for name in unlabelled
        ),
    ), photos_in


def _given(settings: Settings) -> str | None:
    """The name of the CSV that is --data itself."""
    data = settings.data
    return data.name if data is not None and data.suffix.lower() in TABLES else None


def _part_of(name: str) -> str:
    """The part that a CSV is named as: train.csv, trainLabels.csv, val_labels.csv, …"""
    stem = PurePosixPath(name).stem.casefold()
    return GIVEN_PARTS.get(stem.removesuffix("labels").rstrip("_-"), "")


def _tables_at_top(store: Store) -> tuple[dict[str, str], list[str]]:
    """CSVs named as a part or labels.csv, with the part ("" for labels.csv), and the others."""
    named: dict[str, str] = {}
    others = []
    for name in store.top_names():
        if not name.lower().endswith(TABLES) or name.casefold() == CLASSES_FILE:
            continue
        if _part_of(name) or name.casefold() == LABELS_FILE:
            named[name] = _part_of(name)
        elif not _is_submission(name):
            others.append(name)
    return named, others


def _is_submission(name: str) -> bool:
    """Whether a CSV is the pattern of an answer: its labels are none."""
    return "submission" in name.casefold()


def _choose(store: Store, settings: Settings) -> tuple[list[tuple[str, str]], list[str]]:
    """(name, part) of each CSV with labels, and the names of those without. Raises DataError
    where none has labels, or several may be meant."""
    if given := _given(settings):
        return [(given, "")], []
    named, others = _tables_at_top(store)
    unlabelled = [
        name
        for name, part in named.items()
        if part == "test" and not _has_labels(store, name, settings)
    ]
    unlabelled += [
        name for name in store.top_names() if name.lower().endswith(TABLES) and _is_submission(name)
    ]
    usable = [(name, part) for name, part in named.items() if name not in unlabelled]
    if usable:
        return [(name, part) for name, part in usable if part] or usable, unlabelled
    if len(others) == 1:
        return [(others[0], "")], unlabelled
    if unlabelled and not others:
        raise DataError(
            f"{store.root}: wanted a CSV with labels, found only {', '.join(unlabelled)} without "
            f"a label column; {LABEL_FLAG} says which it is"
        )
    raise DataError(
        f"{store.root}: wanted train.csv, labels.csv or one CSV, found "
        f"{', '.join(others) or 'none'}; give the CSV itself as --data"
    )


def _table(store: Store, name: str) -> Table:
    where = str(store.root / name)
    with reading(where), store.open(name) as file:
        return read_table(file, where)


def _header(store: Store, name: str) -> tuple[str, ...]:
    where = str(store.root / name)
    with reading(where), store.open(name) as file:
        return read_header(file, where)


def _has_labels(store: Store, name: str, settings: Settings) -> bool:
    columns = _header(store, name)
    if settings.label_column is not None:
        return settings.label_column.casefold() in map(str.casefold, columns)
    return one_column(columns, LABEL_COLUMNS, None, name, LABEL_FLAG) is not None


def _fits(store: Store, name: str, settings: Settings) -> bool:
    """Whether a CSV has an image and a label column, without doubt."""
    try:
        columns = _header(store, name)
        _image_place(columns, name, settings.image_column)
        _label_place(columns, name, settings.label_column)
    except DataError:
        return False
    return True


def _image_place(columns: Sequence[str], where: str, given: str | None) -> int:
    place = one_column(columns, IMAGE_COLUMNS, given, where, IMAGE_FLAG)
    if place is None:
        raise DataError(
            f"{where}: wanted a column with the photos' names (id, image, file, filename or path), "
            f"found {', '.join(map(repr, columns))}; say which with {IMAGE_FLAG}"
        )
    return place


def _label_place(columns: Sequence[str], where: str, given: str | None) -> int:
    place = one_column(columns, LABEL_COLUMNS, given, where, LABEL_FLAG)
    if place is None:
        raise DataError(
            f"{where}: wanted a column with the labels (label, class, target, species or "
            f"category), found {', '.join(map(repr, columns))}; say which with {LABEL_FLAG}"
        )
    return place


@dataclass(frozen=True, kw_only=True)
class _Row:
    csv: str
    line: int
    part: str
    id: str
    label: str
    specimen: str
    name: str
    problem: str

    @property
    def where(self) -> str:
        return f"{self.csv} line {self.line}"


def _rows(store: Store, name: str, part: str, photos: Photos, settings: Settings) -> Iterator[_Row]:
    table = _table(store, name)
    image = _image_place(table.columns, table.where, settings.image_column)
    label = _label_place(table.columns, table.where, settings.label_column)
    if image == label:
        raise DataError(
            f"{table.where}: wanted a column of photos and another of labels, found "
            f"{table.columns[image]!r} for both; use {IMAGE_FLAG} and {LABEL_FLAG}"
        )
    specimen = table.column(settings.group_by) if settings.group_by is not None else None
    for line, cells in table.rows:
        found, problem = photos.find(cells[image], part, f"{table.where} line {line}")
        yield _Row(
            csv=name,
            line=line,
            part=part,
            id=cells[image],
            label=cells[label],
            specimen=cells[specimen].strip() if specimen is not None else "",
            name=found,
            problem=problem,
        )


def _ids(store: Store, name: str, photos: Photos, settings: Settings) -> Iterable[IdRow]:
    """The rows of a CSV without labels; none where no column says which photo it is."""
    try:
        table = _table(store, name)
        place = _image_place(table.columns, table.where, settings.image_column)
    except DataError:
        if _is_submission(name):
            return
        raise
    for line, cells in table.rows:
        found, problem = photos.find(
            cells[place], _part_of(name) or "test", f"{table.where} line {line}"
        )
        yield IdRow(id=cells[place], name=found, problem=problem)


def _settled(rows: Sequence[_Row]) -> Iterator[_Row]:
    """The rows with a problem for every one that cannot be used, so that no photo is used twice.

    A photo under two labels is used under neither; of rows that say the same the first counts,
    and where two given parts have a photo, the one that comes first in STAYS.
    """
    stays: dict[str, _Row] = {}
    by_label: dict[str, dict[str, _Row]] = defaultdict(dict)
    for row in rows:
        if row.name and row.label:
            by_label[row.name].setdefault(row.label, row)
            best = stays.setdefault(row.name, row)
            if STAYS.index(row.part) < STAYS.index(best.part):
                stays[row.name] = row
    for row in rows:
        if not row.problem and not row.label:
            row = replace(row, problem="a row without a label")
        elif not row.problem and len(labels := by_label[row.name]) > 1:
            other = next(x for label, x in labels.items() if label != row.label)
            row = replace(row, problem=f"also labelled {other.label!r} ({other.where})")
        elif not row.problem and (best := stays[row.name]) is not row:
            row = replace(row, problem=f"there already ({best.where})")
        yield row


def _entries(rows: Iterable[_Row], problems: Mapping[str, str]) -> Iterator[Entry]:
    for row in rows:
        problem = f"{row.where}: {row.problem}" if row.problem else problems.get(row.name, "")
        yield Entry(
            path=row.name or escaped(row.id.strip()) or row.where,
            label=row.label,
            part=row.part,
            specimen=row.specimen,
            problem=problem,
        )


def _unnamed(photos: Photos, named: set[str], settings: Settings) -> Iterator[str]:
    """Photos that no row names. Beside a CSV that is --data itself may lie anything: there only
    the folders that it names photos in count."""
    folders = {dirname(name) for name in named}
    anywhere = _given(settings) is None or settings.images is not None
    for name in photos.names():
        ending = splitext(name)[1].lower()
        if name not in named and ending in PHOTO_ENDINGS:
            if anywhere or dirname(name) in folders:
                yield name
