"""Index the photos in whatever form they come, check each, find copies, split into four parts.

Writes dataset.csv (one row a file), a contact sheet for each class and dataset.json. What cannot
be used is listed with the reason and left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.errors import DataError
from mobileclf.images import contact_sheet, sample
from mobileclf.images.checks import Checked, check_file
from mobileclf.images.duplicates import Copies, find_copies
from mobileclf.parallel import each
from mobileclf.photos import SAMPLE_FOLDER
from mobileclf.records import Record, write_csv
from mobileclf.run import Stage
from mobileclf.scores import PARTS
from mobileclf.source import class_folders, forms
from mobileclf.source.index import Entry, Index
from mobileclf.source.store import Store, open_store
from mobileclf.split import TRAIN, joined, split_photos

FEW = 10  # photos of a class, below which it is named in a warning
UNBALANCED = 10  # times as many photos in the largest class as in the smallest
COLUMNS = (
    "path", "label", "group", "split", "sha256", "problem", "note", "width", "height", "copy_of",
    "specimen",
)  # fmt: skip
SHEETS = "sheets"


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One file: what the source says of it, what was found in it, and why it is left out.

    problem: empty for a photo that can be used.
    """

    entry: Entry
    found: Checked | None
    problem: str

    @property
    def path(self) -> str:
        """As in the source."""
        return self.entry.path

    @property
    def label(self) -> str:
        """As in the source; empty when it is not known."""
        return self.entry.label

    @property
    def given(self) -> str:
        """The part that the source gives and that is kept as it is, else empty."""
        return self.entry.part if self.entry.part != TRAIN else ""


def examine(entry: Entry, store: Store) -> Photo:
    """Open, decode and measure the file of one entry."""
    if entry.problem:
        return Photo(entry=entry, found=None, problem=entry.problem)
    found = check_file(store, entry.path)
    return Photo(entry=entry, found=found, problem=found.problem)


def without(photo: Photo, problem: str) -> Photo:
    """The same photo, left out."""
    return Photo(entry=photo.entry, found=photo.found, problem=problem)


def copies_of(photos: Sequence[Photo]) -> Copies:
    """Groups of copies among the photos that can be used, by their indices."""
    usable = [
        (i, photo.found.look)
        for i, photo in enumerate(photos)
        if not photo.problem and photo.found is not None and photo.found.look is not None
    ]
    found = find_copies([look for _, look in usable])
    return Copies(
        groups=tuple(tuple(usable[i][0] for i in group) for group in found.groups),
        too_small=tuple((usable[i][0], usable[j][0]) for i, j in found.too_small),
    )


def leave_out_leaks(
    photos: Sequence[Photo], groups: Sequence[Sequence[int]]
) -> tuple[list[Photo], list[tuple[int, ...]], list[str]]:
    """Settle what lies in two places at once: copies across given parts, and under two labels.

    A given part never changes for the sake of an earlier one in PARTS: the copy in the earlier
    part is left out. The same picture under two labels is left out of both, since either may be
    the wrong one; photos that were given as test stay. Returns the photos, the groups of copies
    that remain, and warnings.
    """
    photos, kept, warnings = list(photos), [], []
    for group in groups:
        last = max((photos[i].given or TRAIN for i in group), key=PARTS.index)
        stay = [i for i in group if (photos[i].given or TRAIN) == last]
        if len({photos[i].label for i in group}) > 1 and last != "test":
            stay = []
        if len({photos[i].label for i in stay}) > 1:
            i, j = _two_labels(photos, stay)
            warnings.append(
                f"{photos[i].path} and {photos[j].path} are the same picture under two labels, "
                "given as test and left there; one of them is wrong"
            )
        for i in group:
            if i in stay:
                continue
            other = next((j for j in group if photos[j].label != photos[i].label), None)
            if other is not None:
                why = f"the same picture is in another class ({photos[other].path})"
            else:
                why = f"the same picture is in {last} ({photos[stay[0]].path})"
            photos[i] = without(photos[i], why)
        if len(stay) > 1:
            kept.append(tuple(stay))
    return photos, kept, warnings


def _two_labels(photos: Sequence[Photo], among: Sequence[int]) -> tuple[int, int]:
    first = among[0]
    return first, next(i for i in among if photos[i].label != photos[first].label)


def keep_specimens_apart(photos: Sequence[Photo]) -> tuple[list[Photo], list[tuple[int, ...]]]:
    """Groups of photos of one specimen; where the given parts tear one apart, its photos in the
    earlier part are left out."""
    photos = list(photos)
    specimens: dict[str, list[int]] = defaultdict(list)
    for i, photo in enumerate(photos):
        if photo.entry.specimen and not photo.problem:
            specimens[photo.entry.specimen].append(i)
    groups = []
    for name, members in specimens.items():
        last = max((photos[i].given or TRAIN for i in members), key=PARTS.index)
        for i in members:
            if (photos[i].given or TRAIN) != last:
                photos[i] = without(photos[i], f"specimen {name!r} is in {last} too")
        groups.append(tuple(i for i in members if not photos[i].problem))
    return photos, groups


def work(folder: Path, settings: Settings) -> Record:
    """The stage: see STAGE and the module's docstring."""
    index, store, outputs = _read_source(folder, settings)
    look = partial(examine, store=store)
    photos = list(
        each(look, index.entries, "check photos", cluster=settings.cluster, small=True,
             shared=store.root)
    )  # fmt: skip
    copies = copies_of(photos)
    photos, groups, warnings = leave_out_leaks(photos, copies.groups)
    photos, specimens = keep_specimens_apart(photos)
    usable = {i: photo for i, photo in enumerate(photos) if not photo.problem}
    split: dict[int, str] = {}
    try:
        _check_classes(store.root, index, photos)
        split = split_photos(
            {i: photo.label for i, photo in usable.items()},
            [label for label, _ in index.labels],
            joined(len(photos), [*groups, *specimens], list(usable)),
            {i: photo.given or TRAIN for i, photo in usable.items() if _gives_parts(photos)},
            train_share=settings.train_share,
            seed=settings.seed,
        )
        _check_parts(index, photos, split)
    finally:
        # Also when it stops: here is what was wrong with which file.
        write_csv(folder / "dataset.csv", COLUMNS, _rows(photos, index, split, groups))
    body = _body(photos, index, split, groups)
    body["remarks"] = list(index.notes)
    for remark in index.notes:
        progress.say(remark)
    body["sheets"] = _write_sheets(folder, index, photos, store)
    body["warnings"] = [
        *index.warnings, *warnings, *_warnings(photos, index, body, copies.too_small)
    ]  # fmt: skip
    for warning in body["warnings"]:
        progress.warn(warning)
    if settings.strict and (count := len(body["warnings"])):
        raise DataError(
            f"--strict: wanted no warnings, found {count}; the first: {body['warnings'][0]}"
        )
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
    return class_folders.read(store, settings), store, drawn


def _gives_parts(photos: Sequence[Photo]) -> bool:
    return any(photo.entry.part for photo in photos)


def _check_classes(root: Path, index: Index, photos: Sequence[Photo]) -> None:
    """Raises DataError where there is nothing to tell apart."""
    bad = [photo for photo in photos if photo.problem]
    if len(bad) == len(photos):
        example = f" ({bad[0].path}: {bad[0].problem})" if bad else ""
        raise DataError(f"{root}: wanted photos of each class, found none readable{example}")
    if len(index.labels) == 1:
        raise DataError(f"{root}: wanted at least 2 classes, found only {index.labels[0][0]!r}")


def _check_parts(index: Index, photos: Sequence[Photo], split: Mapping[int, str]) -> None:
    """Raises DataError for a class that cannot be learnt or tested, or a part without photos."""
    given = {photo.given for photo in photos}
    needed = [part for part in (TRAIN, "test") if part not in given]
    reached: dict[str, set[str]] = defaultdict(set)
    for i, part in split.items():
        reached[photos[i].label].add(part)
    for label, _ in index.labels:
        if not reached[label].issuperset(needed):
            inside = [photo for photo in photos if photo.label == label and photo.problem]
            why = f"; {inside[0].path}: {inside[0].problem}" if inside else ""
            usable = sum(1 for i in split if photos[i].label == label and not photos[i].given)
            raise DataError(
                f"class {label!r}: wanted at least {len(needed)} different pictures that can be "
                f"read for {' and '.join(needed)}, found {usable}; add photos or take the class "
                f"out{why}"
            )
    if empty := [part for part in PARTS if part not in split.values()]:
        raise DataError(
            f"too few photos for part {empty[0]!r}; wanted at least 4 different ones in some class"
        )


def _rows(
    photos: Sequence[Photo],
    index: Index,
    split: Mapping[int, str],
    copies: Sequence[Sequence[int]],
) -> Iterator[dict[str, object]]:
    groups = dict(index.labels)
    copy_of = {i: photos[group[0]].path for group in copies for i in group[1:]}
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


def _body(
    photos: Sequence[Photo],
    index: Index,
    split: Mapping[int, str],
    copies: Sequence[Sequence[int]],
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
        "copies": sum(len(group) - 1 for group in copies),
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
            yield f"class {label!r} has only {sizes[label]} pictures{gone}"
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
            f"{len(problems)} files left out, listed in dataset.csv; "
            f"the first is {first['path']}: {first['problem']}"
        )
    if too_small:
        i, j = too_small[0]
        yield (
            f"{len(too_small)} pairs of pictures look alike but are too small to call copies, "
            f"so they may lie in different parts; the first is {photos[i].path}, {photos[j].path}"
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
    data = None
    if photo.found is not None and photo.found.width:
        try:
            data = store.read(photo.path)
        except DataError:
            pass  # drawn as a tile without a picture, with its problem
    notes = photo.found.notes if photo.found else ()
    name = PurePosixPath(photo.path).name if photo.label else photo.path
    return contact_sheet.Tile(name=name, data=data, problem=photo.problem, notes=notes)


def outside(settings: Settings) -> Mapping[str, object]:
    """What the stage reads outside the run: every file by sha256, or which sample is drawn.
    Raises DataError where it is missing."""
    if settings.data is None:
        return {"photos": {"sample": {"seed": settings.seed, "version": sample.VERSION}}}
    return {"photos": forms.fingerprint(settings)}


STAGE = Stage(
    name="dataset",
    record="dataset.json",
    reads=(),
    settings=(
        "form", "image_column", "label_column", "shape", "classes", "group_by", "train_share",
        "strict", "seed",
    ),
    packages=("pillow", "imagehash"),
    work=work,
    outside=outside,
)  # fmt: skip
