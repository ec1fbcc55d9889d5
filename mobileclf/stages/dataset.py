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
from mobileclf.split import TRAIN, split_photos
from mobileclf.unions import Unit, joined
from mobileclf.wording import counted

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
    def side(self) -> str:
        """The part that the source gives; what it leaves open is to train on, or cut from that."""
        return self.entry.part or TRAIN


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


def settle(
    photos: Sequence[Photo], copies: Sequence[Unit]
) -> tuple[list[Photo], list[Unit], list[str]]:
    """Leave out what lies on two sides at once: under two labels, or in two given parts.

    The same picture under two labels is left out of both, since either may be the wrong one;
    what was given as test stays. What copies and specimens tie together belongs in one part:
    where the given parts tear it apart, the latest of PARTS keeps its own and the rest is left
    out, so test never changes. Returns the photos, the units that remain, and warnings.
    """
    photos, warnings = list(photos), []
    for group in copies:
        warnings += _leave_out_contradiction(photos, group)
    units = joined(len(photos), [*copies, *_specimens(photos)], _usable(photos))
    for unit in units:
        last = max((photos[i].side for i in unit), key=PARTS.index)
        stay = [i for i in unit if photos[i].side == last]
        for i in unit:
            if photos[i].side != last:
                photos[i] = without(photos[i], _why_torn(photos, i, stay, copies, last))
    usable = set(_usable(photos))
    return photos, [tuple(i for i in unit if i in usable) for unit in units], warnings


def _usable(photos: Sequence[Photo]) -> list[int]:
    return [i for i, photo in enumerate(photos) if not photo.problem]


def _specimens(photos: Sequence[Photo]) -> list[list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for i in _usable(photos):
        if photos[i].entry.specimen:
            found[photos[i].entry.specimen].append(i)
    return list(found.values())


def _leave_out_contradiction(photos: list[Photo], group: Unit) -> list[str]:
    """Where copies have two labels, leave out all but those given as test; returns warnings."""
    if len({photos[i].label for i in group}) == 1:
        return []
    for i in group:
        if photos[i].side != "test":
            other = next(j for j in group if photos[j].label != photos[i].label)
            why = f"the same picture is in another class ({photos[other].path})"
            photos[i] = without(photos[i], why)
    first, *rest = [i for i in group if photos[i].side == "test"] or [group[0]]
    for other in rest:
        if photos[other].label != photos[first].label:
            return [
                f"{photos[first].path} and {photos[other].path} are the same picture under two "
                "labels, given as test and left there; one of them is wrong"
            ]
    return []


def _why_torn(
    photos: Sequence[Photo], i: int, stay: Sequence[int], copies: Sequence[Unit], last: str
) -> str:
    own = next((set(group) for group in copies if i in group), set())
    copy = next((j for j in stay if j in own), None)
    if copy is not None:
        return f"the same picture is in {last} ({photos[copy].path})"
    specimen = photos[i].entry.specimen
    if specimen and any(photos[j].entry.specimen == specimen for j in stay):
        return f"specimen {specimen!r} is in {last} too"
    return f"tied by copies and specimens to {last} ({photos[stay[0]].path})"


def work(folder: Path, settings: Settings) -> Record:
    """The stage: see STAGE and the module's docstring."""
    index, store, outputs = _read_source(folder, settings)
    look = partial(examine, store=store)
    photos = list(
        each(look, index.entries, "check photos", cluster=settings.cluster, small=True,
             shared=store.root)
    )  # fmt: skip
    copies = copies_of(photos)
    photos, units, warnings = settle(photos, copies.groups)
    split: dict[int, str] = {}
    try:
        _check_classes(store.root, index, photos)
        gives = any(entry.part for entry in index.entries)
        split = split_photos(
            {i: photos[i].label for i in _usable(photos)},
            [label for label, _ in index.labels],
            units,
            {i: photos[i].side for i in _usable(photos) if gives},
            train_share=settings.train_share,
            seed=settings.seed,
        )
        _check_parts(index, photos, units, split)
    finally:
        # Also when it stops: here is what was wrong with which file.
        write_csv(folder / "dataset.csv", COLUMNS, _rows(photos, index, split, copies.groups))
    body = _body(photos, index, split, copies.groups)
    body["remarks"] = list(index.notes)
    for remark in index.notes:
        progress.say(remark)
    body["sheets"] = _write_sheets(folder, index, photos, store)
    body["warnings"] = [
        *index.warnings, *warnings, *_warnings(photos, index, body, copies.too_small)
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
        "seed",
    ),
    packages=("numpy", "pillow", "imagehash", "scipy", "pillow-heif"),
    work=work,
    outside=outside,
)  # fmt: skip
