"""A CSV of file names and labels, and the photos beside it, below it or in another folder.

    train.csv (validation.csv, test.csv, threshold.csv), labels.csv, or any one CSV
    id,label            an id is a file's name, with or without folders before and an ending after
    12,cat

What is wrong with a row or a file is a problem of that one; what is wrong with the CSV stops.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from posixpath import dirname, splitext

from mobileclf.errors import DataError
from mobileclf.settings import Settings
from mobileclf.wording import counted

from .groups import CLASSES_FILE, check_labels, find_groups, label_names
from .index import GIVEN_PARTS, PHOTO_ENDINGS, Entry, Index
from .listing import escaped, reading
from .photo_ids import Photos
from .store import FolderStore, Store, open_store
from .tables import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    LARGEST_TABLE,
    MOST_SHOWN,
    Column,
    Table,
    are_pixels,
    given_table,
    is_submission,
    is_table,
    named,
    place_of,
    places_of,
    read_header,
    read_table,
    short,
    shown,
    whole,
)

FORM = "csv"
LABELS_FILE = "labels.csv"
IMAGE = Column(
    usual=IMAGE_COLUMNS,
    flag="--image-column",
    about="the photos' names (id, image, file, filename or path)",
)
LABEL = Column(
    usual=LABEL_COLUMNS,
    flag="--label-column",
    about="the labels (label, class, target, species or category)",
)
# Where two given parts name the same photo it stays in the one that comes first here.
STAYS = ("test", "threshold", "validation", "train", "")
NO_ROW = "no row names this photo"
PIXELS = "rows of pixels are another form, --form pixel-csv"


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
    `images`). Raises DataError for a CSV that cannot be read or leads out of its folder, and for
    one of pixels."""
    photos = Photos(store=images or store)
    part = _part_of(csv_name)
    advice = "predict takes pictures, not rows of pixels"
    column, found = _ids(store, csv_name, part, photos, image_column, advice)
    rows = []
    for row in found:
        problem = row.problem or photos.store.problems().get(row.name, "")
        rows.append(IdRow(id=row.id, name="" if problem else row.name, problem=problem))
    return IdRows(column=column, rows=tuple(rows))


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
    and a label column (or there is nothing but it). Several others, one of which has these
    columns, may all be meant where the folders are no classes."""
    if given_table(settings):
        return True
    parted, others = _tables_at_top(store)
    if parted:
        return True
    folders = store.top_folders()
    if len(others) == 1 and not folders:
        return True
    few = len(others) == 1 or len(folders) < 2
    return few and any(_fits(store, name, settings) for name in others)


def columns_of(store: Store, settings: Settings) -> tuple[str, ...]:
    """The columns of the CSVs with labels, each once. Raises DataError."""
    chosen = _choose(store, settings)
    return tuple(dict.fromkeys(x for name in chosen.labelled for x in _header(store, name)))


def check(store: Store, settings: Settings) -> None:
    """Raises DataError for a CSV that is too large or whose first line is no header: before
    anything long is done."""
    chosen = _choose(store, settings)
    for name in [*chosen.labelled, *chosen.unlabelled]:
        if (store.size(name) or 0) > LARGEST_TABLE:
            raise DataError(
                f"{store.root / name}: wanted a table of at most {LARGEST_TABLE} bytes, found "
                f"{store.size(name)}"
            )
        _header(store, name)


def read(store: Store, settings: Settings, folder: Path) -> tuple[Index, Store]:
    """What the rows say, and the store of the photos. Nothing is written into `folder`. Raises
    DataError."""
    chosen = _choose(store, settings)
    photos_in, inside = images_of(store, settings)
    photos = Photos(store=photos_in, inside=inside)
    rows = [
        row
        for name, part in chosen.labelled.items()
        for row in _rows(store, name, part, photos, settings)
    ]
    if not rows:
        first_csv = next(iter(chosen.labelled))
        raise DataError(f"{store.root}: wanted rows in {first_csv}, found only a header")
    if not any(row.name for row in rows):
        raise DataError(
            f"{store.root / rows[0].where}: wanted the name of a photo in {photos_in.root}, found "
            f"{short(rows[0].id)!r}, and none in the {counted(len(rows) - 1, 'row')} after it; "
            f"--images says where the photos are, {IMAGE.flag} which column names them"
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
    known = {row.name for row in rows} | photos.ambiguous
    for name in chosen.unlabelled:
        known |= _named_without_label(store, name, photos, settings)
    strays = [Entry(path=name, problem=NO_ROW) for name in _unnamed(photos, known, settings)]
    problems = photos_in.problems()
    entries = [*_entries(_settled(rows), problems), *strays]
    return Index(
        form=FORM,
        entries=tuple(sorted(entries, key=lambda entry: entry.path)),
        labels=groups.labels,
        harmful=groups.harmful,
        warnings=groups.warnings,
        columns=columns_of(store, settings),
        notes=(
            *(f"{name} has no labels and is not used to train or test"
              for name in chosen.unlabelled),
            *(f"{name} is not used, since {', '.join(chosen.labelled)} has the labels"
              for name in chosen.unused),
        ),
    ), photos_in  # fmt: skip


def _part_of(name: str) -> str:
    """The part that a CSV is named as: train.csv, trainLabels.csv, val_labels.csv, …"""
    stem = PurePosixPath(name).stem.casefold()
    return GIVEN_PARTS.get(stem.removesuffix("labels").rstrip("_-"), "")


def _tables_at_top(store: Store) -> tuple[dict[str, str], list[str]]:
    """CSVs named as a part or labels.csv, with the part ("" for labels.csv), and the others."""
    parted: dict[str, str] = {}
    others = []
    for name in store.top_names():
        if not is_table(name) or name.casefold() == CLASSES_FILE:
            continue
        if _part_of(name) or name.casefold() == LABELS_FILE:
            parted[name] = _part_of(name)
        elif not is_submission(name):
            others.append(name)
    return parted, others


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """labelled: part by the name of each CSV with labels. unlabelled: those without. unused:
    labels.csv, where the CSVs of parts have the labels."""

    labelled: Mapping[str, str]
    unlabelled: Sequence[str] = ()
    unused: Sequence[str] = ()


def _choose(store: Store, settings: Settings) -> _Chosen:
    """Which CSVs are read. Raises DataError where none has labels, or several may be meant."""
    if given := given_table(settings):
        return _Chosen(labelled={given: ""})
    found, others = _tables_at_top(store)
    unlabelled = [
        name
        for name, part in found.items()
        if part == "test" and not _has_labels(store, name, settings)
    ]
    unlabelled += [name for name in store.top_names() if is_table(name) and is_submission(name)]
    usable = {name: part for name, part in found.items() if name not in unlabelled}
    if usable:
        parted = {name: part for name, part in usable.items() if part}
        unused = [name for name in usable if name not in parted] if parted else []
        return _Chosen(labelled=parted or usable, unlabelled=unlabelled, unused=unused)
    if len(others) == 1:
        return _Chosen(labelled={others[0]: ""}, unlabelled=unlabelled)
    if unlabelled and not others:
        raise DataError(
            f"{store.root}: wanted a CSV with labels, found only {', '.join(unlabelled)} without "
            f"a label column; {LABEL.flag} says which it is"
        )
    raise DataError(
        f"{store.root}: wanted train.csv, labels.csv or one CSV, found "
        f"{_names(others) or 'none'}; give the CSV itself as --data"
    )


def _names(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > MOST_SHOWN else ""
    return ", ".join(names[:MOST_SHOWN]) + more


def _table(
    store: Store, name: str, choose: Callable[[Sequence[str], str], Sequence[int | None]]
) -> Table:
    """Of one CSV the columns that `choose` tells by the header and the place for messages."""
    where = str(store.root / name)
    with reading(where), store.open(name) as file:
        return read_table(file, where, lambda columns: choose(columns, where))


def _header(store: Store, name: str) -> tuple[str, ...]:
    where = str(store.root / name)
    with reading(where), store.open(name) as file:
        return read_header(file, where)


def _has_labels(store: Store, name: str, settings: Settings) -> bool:
    """Whether a CSV has a label column with more than empty cells."""
    places = places_of(_header(store, name), LABEL, settings.label_column)
    if len(places) != 1:
        return bool(places)
    table = _table(store, name, lambda columns, where: places)
    return not table.rows or any(label.strip() for _, (label,) in table.rows)


def _fits(store: Store, name: str, settings: Settings) -> bool:
    """Whether a CSV has an image and a label column, without doubt."""
    try:
        columns = _header(store, name)
        place_of(columns, IMAGE, settings.image_column, name)
        place_of(columns, LABEL, settings.label_column, name)
    except DataError:
        return False
    return True


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
    def choose(columns: Sequence[str], where: str) -> list[int | None]:
        image = _image_place(columns, settings.image_column, where, PIXELS)
        label = place_of(columns, LABEL, settings.label_column, where)
        if image == label:
            raise DataError(
                f"{where}: wanted a column of photos and another of labels, found "
                f"{columns[image]!r} for both; use {IMAGE.flag} and {LABEL.flag}"
            )
        specimens = named(columns, settings.group_by) if settings.group_by is not None else []
        return [image, label, next(iter(specimens), None)]

    table = _table(store, name, choose)
    for line, (id, label, specimen) in table.rows:
        # A CSV that is --data itself gives no part, but its name says where its photos are.
        found, problem = photos.find(id, part or _part_of(name), f"{table.where} line {line}")
        yield _Row(
            csv=name,
            line=line,
            part=part,
            id=id,
            label=_one_spelling(label),
            specimen=specimen.strip(),
            name=found,
            problem=problem,
        )


def _one_spelling(label: str) -> str:
    """A number as `whole` writes it; spaces around other labels stay, to be seen."""
    text = label.strip()
    return label if whole(text) == text else whole(text)


def _image_place(columns: Sequence[str], image_column: str | None, where: str, advice: str) -> int:
    """The place of the ids. Raises DataError; `advice` is for a CSV of pixels."""
    if are_pixels(columns) and not places_of(columns, IMAGE, image_column):
        raise DataError(
            f"{where}: wanted {IMAGE.about}, found what looks like pixels, {shown(columns)}; "
            f"{advice}"
        )
    return place_of(columns, IMAGE, image_column, where)


def _ids(
    store: Store,
    name: str,
    part: str,
    photos: Photos,
    image_column: str | None,
    advice: str = PIXELS,
) -> tuple[str, list[IdRow]]:
    """The header of the ids of a CSV, and its rows. Raises DataError."""
    table = _table(
        store,
        name,
        lambda columns, where: [_image_place(columns, image_column, where, advice)],
    )
    (place,) = table.places
    assert place is not None
    rows = []
    for line, (id,) in table.rows:
        found, problem = photos.find(id, part, f"{table.where} line {line}")
        rows.append(IdRow(id=id, name=found, problem=problem))
    return table.columns[place], rows


def _named_without_label(store: Store, name: str, photos: Photos, settings: Settings) -> set[str]:
    """The photos in a CSV without labels; none where no column says which they are."""
    try:
        _, rows = _ids(store, name, _part_of(name) or "test", photos, settings.image_column)
    except DataError:
        if is_submission(name):
            return set()
        raise
    return {row.name for row in rows}


def _settled(rows: Sequence[_Row]) -> Iterator[_Row]:
    """The rows with a problem for every one that cannot be used, so that no photo is used twice.

    Where two given parts have a photo, it stays in the one that comes first in STAYS; of rows
    that say the same the first counts. A photo under two labels is used under neither, but for
    one given as test: what other parts call it changes nothing there. Only where test itself has
    a photo under two labels is it left out of test, as one file cannot be kept under both.
    """
    stays: dict[str, _Row] = {}
    # By photo the first row of each label: in test alone, and anywhere.
    in_test: dict[str, dict[str, _Row]] = defaultdict(dict)
    anywhere: dict[str, dict[str, _Row]] = defaultdict(dict)
    for row in rows:
        if row.name and row.label:
            anywhere[row.name].setdefault(row.label, row)
            if row.part == "test":
                in_test[row.name].setdefault(row.label, row)
            best = stays.setdefault(row.name, row)
            if STAYS.index(row.part) < STAYS.index(best.part):
                stays[row.name] = row
    for row in rows:
        heard = (in_test if row.part == "test" else anywhere).get(row.name, {})
        if not row.problem and not row.label:
            row = replace(row, problem="a row without a label")
        elif not row.problem and len(heard) > 1:
            other = next(x for label, x in heard.items() if label != row.label)
            row = replace(row, problem=f"also labelled {short(other.label)!r} ({other.where})")
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


def _unnamed(photos: Photos, known: set[str], settings: Settings) -> Iterator[str]:
    """Photos that no row names. Beside a CSV that is --data itself may lie anything: there only
    the folders that it names photos in count."""
    folders = {dirname(name) for name in known}
    anywhere = given_table(settings) is None or settings.images is not None
    for name in photos.names():
        ending = splitext(name)[1].lower()
        if name not in known and ending in PHOTO_ENDINGS:
            if anywhere or dirname(name) in folders:
                yield name
