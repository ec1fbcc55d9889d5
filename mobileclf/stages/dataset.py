"""Index the photos in whatever form they come, check each, find copies, split into four parts.

Writes dataset.csv (one row a file), a contact sheet for each class and dataset.json. What cannot
be used is listed with the reason and left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mobileclf import progress
from mobileclf.errors import DataError
from mobileclf.images import contact_sheet, sample
from mobileclf.importing.label_order import given_labels, ordered
from mobileclf.leaks import Photo, copies_of, examine, settle, usable
from mobileclf.parallel import each
from mobileclf.photos import SAMPLE_FOLDER
from mobileclf.records import Record, write_csv
from mobileclf.run import Stage
from mobileclf.scores import PARTS
from mobileclf.settings import Settings
from mobileclf.source import class_folders, forms
from mobileclf.source.index import Index
from mobileclf.source.store import Store, open_store
from mobileclf.split import TRAIN, split_photos
from mobileclf.unions import Unit
from mobileclf.wording import counted

FEW = 10  # photos of a class, below which it is named in a warning
UNBALANCED = 10  # times as many photos in the largest class as in the smallest
COLUMNS = (
    "path", "label", "group", "split", "sha256", "problem", "note", "width", "height", "copy_of",
    "specimen",
)  # fmt: skip
SHEETS = "sheets"


def work(folder: Path, settings: Settings) -> Record:
    """The stage: see STAGE and the module's docstring."""
    index, store, outputs = _read_source(folder, settings)
    order = ordered(index, given_labels(settings))
    check = partial(examine, store=store)
    photos = list(
        each(check, index.entries, "check photos", cluster=settings.cluster, small=True,
             shared=store.root)
    )  # fmt: skip
    copies = copies_of(photos)
    photos, units, warnings = settle(photos, copies.groups)
    split: dict[int, str] = {}
    try:
        _check_classes(store.root, index, photos)
        gives = any(entry.part for entry in index.entries)
        split = split_photos(
            {i: photos[i].label for i in usable(photos)},
            [label for label, _ in index.labels],
            units,
            {i: photos[i].side for i in usable(photos) if gives},
            train_share=settings.train_share,
            seed=settings.seed,
        )
        _check_parts(index, photos, units, split)
    finally:
        # Also when it stops: here is what was wrong with which file.
        write_csv(folder / "dataset.csv", COLUMNS, _rows(photos, index, split, copies.groups))
    # Not before: which photo is in which part does not depend on the order of the labels.
    index = replace(index, labels=order.labels)
    body = _body(photos, index, split, copies.groups)
    body["order"] = order.origin
    body["remarks"] = [*index.notes, *order.notes]
    for remark in body["remarks"]:
        progress.say(remark)
    body["sheets"] = _write_sheets(folder, index, photos, store)
    body["warnings"] = [
        *index.warnings, *order.warnings, *warnings,
        *_warnings(photos, index, body, copies.too_small),
    ]  # fmt: skip
    for warning in body["warnings"]:
        progress.warn(warning)
    return {**body, "outputs": ["dataset.csv", *outputs, *body["sheets"].values()]}


def _read_source(folder: Path, settings: Settings) -> tuple[Index, Store, list[str]]:
    """The index, the store that its paths lie in, and the files made in the run for it."""
    if settings.data is not None:
        index, store = forms.read_index(settings, folder)
        return index, store, [index.kept] if index.kept else []
    root = folder / SAMPLE_FOLDER
    sample.write_sample(root, seed=settings.seed, replace=True)
    store = open_store(root)
    drawn = [f"{SAMPLE_FOLDER}/{name}" for name in store.names()]
    index, _ = class_folders.read(store, settings, folder)
    return index, store, drawn


def _check_classes(root: Path, index: Index, photos: Sequence[Photo]) -> None:
    """Raises DataError where there is nothing to tell apart."""
    bad = [photo for photo in photos if photo.problem]
    if len(bad) == len(photos):
        example = f" ({bad[0].path}: {bad[0].problem})" if bad else ""
        raise DataError(f"{root}: wanted photos of each class, found none readable{example}")
    if len(index.labels) == 1:
        raise DataError(f"{root}: wanted at least 2 classes, found only {index.labels[0][0]!r}")


def _check_parts(
    index: Index, photos: Sequence[Photo], units: Sequence[Unit], split: Mapping[int, str]
) -> None:
    """Raises DataError for a class that cannot be learnt or tested, or a part without photos."""
    given = {entry.part for entry in index.entries} - {"", TRAIN}
    for part in sorted(given - {photos[i].side for i in split}):
        bad = next(photo for photo in photos if photo.side == part)
        raise DataError(
            f"part {part!r} is given, but none of its photos can be used ({bad.path}: "
            f"{bad.problem}); mend it or take it out"
        )
    needed = [part for part in (TRAIN, "test") if part not in given]
    reached: dict[str, set[str]] = defaultdict(set)
    for i, part in split.items():
        reached[photos[i].label].add(part)
    for label, _ in index.labels:
        if not reached[label].issuperset(needed):
            inside = [photo for photo in photos if photo.label == label and photo.problem]
            why = f"; {inside[0].path}: {inside[0].problem}" if inside else ""
            different = sum(
                1 for unit in units
                if any(photos[i].label == label and photos[i].side == TRAIN for i in unit)
            )  # fmt: skip
            raise DataError(
                f"class {label!r}: wanted at least {len(needed)} different pictures that can be "
                f"read for {' and '.join(needed)}, found {different}; add photos or take the "
                f"class out{why}"
            )
    if empty := [part for part in PARTS if part not in split.values()]:
        raise DataError(
            f"too few photos for part {empty[0]!r}; wanted at least 4 different ones in some class"
        )


def _rows(
    photos: Sequence[Photo],
    index: Index,
    split: Mapping[int, str],
    copies: Sequence[Unit],
) -> Iterator[dict[str, object]]:
    groups = dict(index.labels)
    copy_of = {i: first for i, first in _copies_kept(photos, copies)}
    for i, photo in enumerate(photos):
        found = photo.found
        yield {
            "path": photo.path,
            "label": photo.label,
            "group": groups.get(photo.label) or "",
            "split": split.get(i, ""),
            "sha256": found.sha256 if found else "",
            "problem": photo.problem,
            "note": "; ".join(found.notes) if found else "",
            "width": (found.width if found else 0) or "",
            "height": (found.height if found else 0) or "",
            "copy_of": copy_of.get(i, ""),
            "specimen": photo.entry.specimen,
        }


def _copies_kept(photos: Sequence[Photo], copies: Sequence[Unit]) -> Iterator[tuple[int, str]]:
    """Each usable copy of a usable photo, with the path of the first of them."""
    for group in copies:
        first, *rest = [i for i in group if not photos[i].problem] or [group[0]]
        for i in rest:
            yield i, photos[first].path


def _body(
    photos: Sequence[Photo],
    index: Index,
    split: Mapping[int, str],
    copies: Sequence[Unit],
) -> dict[str, Any]:
    counts = Counter((photos[i].label, part) for i, part in split.items())
    names = [label for label, _ in index.labels]
    notes = Counter(note for photo in photos if photo.found for note in photo.found.notes)
    return {
        "form": index.form,
        "kept": index.kept,
        "labels": [{"label": label, "group": group} for label, group in index.labels],
        "groups": sorted({group for _, group in index.labels if group is not None}),
        "harmful": index.harmful,
        "given_parts": sorted({photo.entry.part for photo in photos} - {""}, key=PARTS.index),
        "parts": {part: sum(counts[label, part] for label in names) for part in PARTS},
        "classes": {label: {part: counts[label, part] for part in PARTS} for label in names},
        "copies": len(list(_copies_kept(photos, copies))),
        "notes": dict(sorted(notes.items())),
        "problems": [{"path": p.path, "problem": p.problem} for p in photos if p.problem],
    }


def _warnings(
    photos: Sequence[Photo],
    index: Index,
    body: Mapping[str, Any],
    too_small: Sequence[tuple[int, int]],
) -> Iterator[str]:
    sizes = {label: sum(parts.values()) for label, parts in body["classes"].items()}
    for label, parts in body["classes"].items():
        missing = [part for part in PARTS if not parts[part]]
        gone = f"; none reaches {', '.join(missing)}" if missing else ""
        if sizes[label] < FEW:
            yield f"class {label!r} has only {counted(sizes[label], 'picture')}{gone}"
        elif missing:
            yield f"class {label!r}{gone.replace('; none', ': none of its photos')}"
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[most] > UNBALANCED * sizes[least]:
        yield (
            f"class {most!r} has {sizes[most]} photos and {least!r} {sizes[least]}; "
            "--class-weights balanced lets the rare ones count for as much"
        )
    if problems := body["problems"]:
        first = problems[0]
        yield (
            f"{counted(len(problems), 'file')} left out, listed in dataset.csv; "
            f"the first is {first['path']}: {first['problem']}"
        )
    if too_small:
        i, j = too_small[0]
        yield (
            f"{counted(len(too_small), 'pair')} of pictures look alike but are too small to call "
            f"copies, so they may lie in different parts; the first is {photos[i].path}, "
            f"{photos[j].path}"
        )


def _write_sheets(
    folder: Path, index: Index, photos: Sequence[Photo], store: Store
) -> dict[str, str]:
    """A contact sheet for each class, and one for files without; names by label ("": without)."""
    of_class: dict[str, list[Photo]] = {label: [] for label, _ in index.labels}
    for photo in photos:
        of_class.setdefault(photo.label, []).append(photo)
    names = {label: f"{SHEETS}/{i:03d}.jpg" for i, label in enumerate(of_class)}
    (folder / SHEETS).mkdir(exist_ok=True)
    for old in (folder / SHEETS).glob("*.jpg"):
        old.unlink()
    draw = partial(_write_sheet, folder=folder, store=store)
    items = [(names[label], label, tuple(group)) for label, group in of_class.items()]
    for _ in each(draw, items, "contact sheets"):
        pass
    return names


def _write_sheet(item: tuple[str, str, tuple[Photo, ...]], folder: Path, store: Store) -> None:
    name, label, photos = item
    tiles = [_tile(photos[i], store) for i in contact_sheet.shown([p.problem for p in photos])]
    title = label or "without a class"
    contact_sheet.write_sheet(folder / name, title, tiles, files=len(photos))


def _tile(photo: Photo, store: Store) -> contact_sheet.Tile:
    picture = None
    if photo.found is not None and photo.found.sha256:
        try:
            picture = contact_sheet.thumbnail(store.read(photo.path))
        except DataError:
            pass  # drawn as a tile without a picture, with its problem
    return contact_sheet.Tile(
        name=PurePosixPath(photo.path).name if photo.label else photo.path,
        picture=picture,
        problem=photo.problem,
        notes=photo.found.notes if photo.found else (),
    )


def outside(settings: Settings) -> Mapping[str, object]:
    """What the stage reads outside the run: every file by sha256, or which sample is drawn, and
    the labels that are given. Raises DataError where one is missing."""
    drawn = {"sample": {"seed": settings.seed, "version": sample.VERSION}}
    photos = drawn if settings.data is None else forms.fingerprint(settings)
    given = given_labels(settings)
    labels = {"labels": {"from": given.origin, "sha256": given.sha256}} if given else {}
    return {"photos": photos, **labels}


STAGE = Stage(
    name="dataset",
    record="dataset.json",
    reads=(),
    settings=(
        "form", "image_column", "label_column", "shape", "classes", "group_by", "train_share",
        "seed",
    ),
    packages=("numpy", "pillow", "imagehash", "scipy", "pillow-heif"),
    work=work,
    outside=outside,
    schema=2,
)  # fmt: skip
