"""Index the photos, check each, find copies, and split them into the four parts.

Writes dataset.csv (one row a file) and dataset.json. A photo's class is its folder; what cannot
be used is listed with the reason and left out.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.errors import DataError
from mobileclf.images import sample
from mobileclf.images.duplicates import Copies, Signature, find_copies, signature
from mobileclf.images.load import ImageSpec, decode
from mobileclf.photos import SAMPLE_FOLDER, photos_root
from mobileclf.records import Record, read_csv, sha256_bytes, sha256_file, sha256_json, write_csv
from mobileclf.run import Stage
from mobileclf.scores import PARTS

FRACTIONS = {"train": 0.60, "validation": 0.10, "threshold": 0.15, "test": 0.15}
# Which parts a class with few pictures reaches first.
NEEDED_FIRST = ("train", "test", "validation", "threshold")
FEW = 10
COLUMNS = ("path", "label", "group", "split", "sha256", "problem", "width", "height", "copy_of")
# Only `max_pixels` matters here: no picture is resized with it.
SPEC = ImageSpec(width=1, height=1)


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One file of the source. `problem` is empty for a photo that can be used.

    path: relative to the source. folder: its class folder, empty for a file beside them.
    width, height: pixels, upright.
    """

    path: str
    folder: str
    sha256: str = ""
    width: int = 0
    height: int = 0
    look: Signature | None = None
    problem: str = ""


def scan(root: Path) -> tuple[list[str], list[str]]:
    """Names of the class folders and relative posix paths of everything in them and beside them.

    Both sorted by code point, hidden ones ignored. Folders within class folders are listed too,
    not entered. Raises DataError when there is nothing to read.
    """
    try:
        if not root.exists():
            raise DataError(f"{root}: there is no such folder; give a folder of class folders")
        if not root.is_dir():
            raise DataError(f"{root}: wanted a folder of class folders, found a file")
        top = sorted(p.name for p in root.iterdir() if not p.name.startswith("."))
        folders = [name for name in top if (root / name).is_dir()]
        paths = [name for name in top if name not in set(folders)]
        for folder in folders:
            names = sorted(p.name for p in (root / folder).iterdir())
            paths += [f"{folder}/{name}" for name in names if not name.startswith(".")]
    except (OSError, ValueError) as error:
        raise DataError(f"{root}: cannot be read ({getattr(error, 'strerror', error)})") from error
    if not top:
        raise DataError(f"{root}: the folder is empty; wanted a folder of photos for each class")
    if not folders:
        raise DataError(f"{root}: wanted a folder of photos for each class, found only files")
    for name in folders:
        if not _is_text(name) or name != name.strip():
            raise DataError(f"{root}: class folder {name!r} is no plain one-line UTF-8 name")
    return folders, sorted(paths)


def _is_text(name: str) -> bool:
    """Whether a name fits on a line of UTF-8. Spaces of all kinds may be in it."""
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


def name_groups(folders: Sequence[str]) -> list[tuple[str, str]] | None:
    """(label, group) of folders named `Name-Group`; None unless all are, in 2 or more groups
    that are fewer than the classes. (One suffix for all would say nothing about any.)"""
    parts = [folder.rpartition("-") for folder in folders]
    if not all(label and group for label, _, group in parts):
        return None
    pairs = [(label, group) for label, _, group in parts]
    if not 2 <= len({group for _, group in pairs}) < len(pairs):
        return None
    return pairs


def label_groups(folders: Sequence[str], groups: Path | None) -> list[tuple[str, str | None]]:
    """(label, group or None) of each class folder, in order. Raises DataError."""
    if (named := name_groups(folders)) is not None:
        counts = Counter(label for label, _ in named)
        if twice := [label for label, n in counts.items() if n > 1]:
            raise DataError(
                f"class {twice[0]!r} has folders in two groups; wanted one folder a class"
            )
        if groups is not None:
            progress.warn(f"--groups {groups} is not used: the folder names carry the groups")
        return [(label, group) for label, group in named]
    if groups is None:
        return [(folder, None) for folder in folders]
    return [(label, group) for label, group in _read_groups(groups, folders)]


def _read_groups(path: Path, folders: Sequence[str]) -> list[tuple[str, str]]:
    rows = read_csv(path)
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        label, group = (row.get("label") or "").strip(), (row.get("group") or "").strip()
        if not label or not group:
            raise DataError(f"{path} line {number}: wanted columns label,group, found {row}")
        if found.setdefault(label, group) != group:
            raise DataError(f"{path} line {number}: {label!r} is already in {found[label]!r}")
    if missing := [folder for folder in folders if folder not in found]:
        raise DataError(f"{path}: no group for class {', '.join(missing)}; add a line for each")
    if unknown := [label for label in found if label not in folders]:
        raise DataError(
            f"{path}: no class folder {', '.join(unknown)}; there are {', '.join(folders)}"
        )
    return [(folder, found[folder]) for folder in folders]


def read_photo(root: Path, path: str) -> Photo:
    """Read and decode one file. What is wrong with it goes into `problem`."""
    folder = path.rpartition("/")[0]
    shown = path.encode("utf-8", "backslashreplace").decode()
    photo = Photo(path=shown, folder=folder)
    if shown != path or not _is_text(path):
        return replace(photo, problem="the file's name is no plain one-line UTF-8; rename it")
    if not folder:
        return replace(photo, problem="in no class folder; its class is unknown")
    if (root / path).is_dir():
        return replace(photo, problem="a folder in a class folder; only photos there are read")
    try:
        data = (root / path).read_bytes()
    except OSError as error:
        return replace(photo, problem=f"cannot be read ({error.strerror})")
    photo = replace(photo, sha256=sha256_bytes(data))
    try:
        image = decode(data, SPEC)
    except DataError as error:
        return replace(photo, problem=str(error))
    return replace(photo, width=image.width, height=image.height, look=signature(image))


def read_photos(root: Path, paths: Sequence[str]) -> list[Photo]:
    """`read_photo` of every path, in order, in threads, with a progress bar."""
    with ThreadPoolExecutor() as pool:
        read: Iterator[Photo] = pool.map(lambda path: read_photo(root, path), paths)
        return list(progress.track(read, "reading photos", len(paths)))


def drop_contradictions(
    photos: list[Photo], copies: Copies
) -> tuple[list[Photo], list[tuple[int, ...]]]:
    """Leave out every photo that is there under two classes: either label may be the wrong one.

    Returns the photos, with problems noted, and the groups of copies that remain.
    """
    kept, photos = [], list(photos)
    for group in copies.groups:
        if len({photos[i].folder for i in group}) == 1:
            kept.append(group)
            continue
        for i in group:
            other = next(photos[j] for j in group if photos[j].folder != photos[i].folder)
            photos[i] = replace(
                photos[i], problem=f"the same picture is in another class ({other.path})"
            )
    return photos, kept


def targets(count: int, units: int) -> dict[str, int]:
    """How many of a class's `count` photos each part should get, by largest remainder of
    FRACTIONS; each part that its `units` (photos, copies as one) can reach gets at least one."""
    quotas = {part: count * FRACTIONS[part] for part in PARTS}
    wanted = {part: int(quotas[part]) for part in PARTS}
    by_remainder = sorted(PARTS, key=lambda part: wanted[part] - quotas[part])
    for part in by_remainder[: count - sum(wanted.values())]:
        wanted[part] += 1
    reachable = NEEDED_FIRST[:units]
    for part in PARTS:
        if part not in reachable:
            wanted["train"] += wanted[part]
            wanted[part] = 0
    for part in reachable:
        if wanted[part] == 0:
            largest = max(PARTS, key=lambda p: wanted[p])
            wanted[largest] -= 1
            wanted[part] = 1
    return wanted


def split_class(units: Sequence[tuple[int, ...]], rng: np.random.Generator) -> dict[int, str]:
    """Part of each photo of one class, from its units (photos; copies together as one unit).

    Units come in random order, each to the part that is furthest from full.
    """
    wanted = targets(sum(len(unit) for unit in units), len(units))
    left = dict(wanted)
    split: dict[int, str] = {}
    for number in rng.permutation(len(units)):
        part = max((p for p in PARTS if wanted[p]), key=lambda p: left[p] / wanted[p])
        left[part] -= len(units[number])
        split.update((i, part) for i in units[number])
    return split


def split_photos(
    photos: Sequence[Photo], folders: Sequence[str], copies: Sequence[tuple[int, ...]], seed: int
) -> dict[int, str]:
    """Part of each usable photo by index: stratified by class, seeded, copies kept together.

    Raises DataError for a class that cannot reach train and test.
    """
    first = {i: group[0] for group in copies for i in group}
    units: dict[str, dict[int, list[int]]] = {folder: defaultdict(list) for folder in folders}
    for i, photo in enumerate(photos):
        if not photo.problem:
            units[photo.folder][first.get(i, i)].append(i)
    split: dict[int, str] = {}
    for number, folder in enumerate(folders):
        of_class = [tuple(unit) for unit in units[folder].values()]
        if len(of_class) < 2:
            inside = [p for p in photos if p.folder == folder and p.problem]
            why = f"; {inside[0].path}: {inside[0].problem}" if inside else ""
            raise DataError(
                f"class folder {folder!r}: wanted at least 2 different pictures that can be read, "
                f"found {len(of_class)}; add photos or remove the folder{why}"
            )
        # A generator for each class: adding photos to one leaves the others' split alone.
        split.update(split_class(of_class, np.random.default_rng((seed, number))))
    return split


def _check_classes(root: Path, folders: Sequence[str], photos: Sequence[Photo]) -> None:
    bad = [photo for photo in photos if photo.problem]
    if len(bad) == len(photos):
        example = f" ({bad[0].path}: {bad[0].problem})" if bad else ""
        raise DataError(f"{root}: wanted photos in class folders, found none readable{example}")
    if len(folders) == 1:
        raise DataError(f"{root}: wanted at least 2 class folders, found only {folders[0]!r}")


def work(folder: Path, settings: Settings) -> Record:
    """The stage: see STAGE and the module's docstring."""
    root = photos_root(settings)
    drawn: list[str] = []
    if settings.data is None:
        sample.write_sample(root, seed=settings.seed, replace=True)
        drawn = [f"{SAMPLE_FOLDER}/{path}" for path in scan(root)[1]]
    folders, paths = scan(root)
    labels = label_groups(folders, settings.groups)
    photos = read_photos(root, paths)
    _check_classes(root, folders, photos)
    looks = [i for i, photo in enumerate(photos) if photo.look is not None]
    found = find_copies([photos[i].look for i in looks])  # type: ignore[misc]
    copies = Copies(
        groups=tuple(tuple(looks[i] for i in group) for group in found.groups),
        too_small=tuple((looks[i], looks[j]) for i, j in found.too_small),
    )
    photos, kept = drop_contradictions(photos, copies)
    split = split_photos(photos, folders, kept, settings.seed)
    of = dict(zip(folders, labels, strict=True))
    write_csv(folder / "dataset.csv", COLUMNS, _rows(photos, of, split, kept))
    body = _body(photos, labels, of, split, kept)
    if empty := [part for part in PARTS if not body["parts"][part]]:
        raise DataError(
            f"{root}: too few photos for part {empty[0]!r}; wanted at least 4 different ones "
            "in some class"
        )
    body["warnings"] = _warnings(photos, body, copies.too_small)
    for warning in body["warnings"]:
        progress.warn(warning)
    return {**body, "outputs": ["dataset.csv", *drawn]}


def _rows(
    photos: Sequence[Photo],
    of: Mapping[str, tuple[str, str | None]],
    split: Mapping[int, str],
    copies: Sequence[tuple[int, ...]],
) -> Iterator[dict[str, object]]:
    copy_of = {i: photos[group[0]].path for group in copies for i in group[1:]}
    for i, photo in enumerate(photos):
        label, group = of.get(photo.folder, ("", None))
        yield {
            "path": photo.path,
            "label": label,
            "group": group or "",
            "split": split.get(i, ""),
            "sha256": photo.sha256,
            "problem": photo.problem,
            "width": photo.width or "",
            "height": photo.height or "",
            "copy_of": copy_of.get(i, ""),
        }


def _body(
    photos: Sequence[Photo],
    labels: Sequence[tuple[str, str | None]],
    of: Mapping[str, tuple[str, str | None]],
    split: Mapping[int, str],
    copies: Sequence[tuple[int, ...]],
) -> dict[str, Any]:
    counts = Counter((of[photos[i].folder][0], part) for i, part in split.items())
    return {
        "labels": [{"label": label, "group": group} for label, group in labels],
        "groups": sorted({group for _, group in labels if group is not None}),
        "parts": {part: sum(counts[label, part] for label, _ in labels) for part in PARTS},
        "classes": {label: {part: counts[label, part] for part in PARTS} for label, _ in labels},
        "copies": sum(len(group) - 1 for group in copies),
        "problems": [{"path": p.path, "problem": p.problem} for p in photos if p.problem],
    }


def _warnings(
    photos: Sequence[Photo], body: Mapping[str, Any], too_small: Sequence[tuple[int, int]]
) -> list[str]:
    warnings = []
    for label, parts in body["classes"].items():
        count = sum(parts.values())
        if count < FEW:
            missing = [part for part in PARTS if not parts[part]]
            gone = f"; none reaches {', '.join(missing)}" if missing else ""
            warnings.append(f"class {label!r} has only {count} pictures{gone}")
    if problems := body["problems"]:
        first = problems[0]
        warnings.append(
            f"{len(problems)} files left out, listed in dataset.csv; "
            f"the first is {first['path']}: {first['problem']}"
        )
    if too_small:
        i, j = too_small[0]
        warnings.append(
            f"{len(too_small)} pairs of pictures look alike but are too small to call copies, "
            f"so they may lie in different parts; the first is {photos[i].path}, {photos[j].path}"
        )
    return warnings


def outside(settings: Settings) -> Mapping[str, object]:
    """What the stage reads outside the run: the photos and groups file by sha256, or which
    sample is drawn. Raises DataError where they are missing."""
    if settings.data is None:
        source: object = {"sample": {"seed": settings.seed, "version": sample.VERSION}}
    else:
        folders, paths = scan(settings.data)
        with ThreadPoolExecutor() as pool:
            hashes = list(pool.map(lambda path: _hash(photos_root(settings) / path), paths))
        shown = [path.encode("utf-8", "backslashreplace").decode() for path in paths]
        source = sha256_json([folders, list(zip(shown, hashes, strict=True))])
    groups = settings.groups
    if groups is not None and not groups.is_file():
        raise DataError(f"{groups}: there is no such groups file; wanted CSV with label,group")
    return {"photos": source, "groups": sha256_file(groups) if groups is not None else None}


def _hash(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


STAGE = Stage(
    name="dataset",
    record="dataset.json",
    reads=(),
    settings=("seed",),
    packages=("pillow", "imagehash"),
    work=work,
    outside=outside,
)
