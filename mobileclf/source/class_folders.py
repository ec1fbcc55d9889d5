"""Photos in class folders, perhaps with given parts or groups as folders above them.

cats/1.jpg                         a class a folder
Amanita_Muscaria-NotEdible/1.jpg   the name carries the group
edible/Boletus edulis/1.jpg        a level of groups above: it holds folders with photos only
train/cats/1.jpg, test/cats/2.jpg  given parts above either, named as in GIVEN_PARTS
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mobileclf.errors import DataError
from mobileclf.settings import Settings

from .groups import CLASSES_FILE, carried_by_names, check_labels, find_groups
from .index import GIVEN_PARTS, PHOTO_ENDINGS, Entry, Index
from .listing import ODD_NAME
from .store import Store

FORM = "class-folders"
NO_CLASS = "in no class folder; its class is unknown"
NESTED = "a folder in a class folder; only photos there are read"


@dataclass(frozen=True, kw_only=True)
class _Class:
    """One class folder. path: in the store. group: name of the folder above, if that is one."""

    path: str
    part: str
    group: str | None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """files, folders: paths by the folder they lie in, "" for the top. below: files at any depth
    under a folder."""

    files: Mapping[str, Sequence[str]]
    folders: Mapping[str, Sequence[str]]
    below: Mapping[str, int]

    def filled(self, path: str) -> list[str]:
        """The folders in a folder that hold files at any depth."""
        return [folder for folder in self.folders.get(path, ()) if self.below[folder]]

    def has_photos(self, path: str) -> bool:
        """Whether what may be photos lies in the folder itself."""
        endings = {PurePosixPath(file).suffix.lower() for file in self.files.get(path, ())}
        return not endings.isdisjoint({*PHOTO_ENDINGS, ""})


def recognised(store: Store, settings: Settings) -> bool:
    """Whether there are folders at all."""
    return bool(store.top_folders())


def read(store: Store, settings: Settings, folder: Path) -> tuple[Index, Store]:
    """What the folders say, and the store itself. Only `settings.groups` bears on it; nothing is
    written into `folder`. Raises DataError."""
    tree, problems, root = _tree_of(store), store.problems(), store.root
    if not tree.files and not tree.folders:
        raise DataError(f"{root}: the folder is empty; wanted a folder of photos for each class")
    if not tree.folders:
        raise DataError(f"{root}: wanted a folder of photos for each class, found only files")
    parts = _parts(tree)
    classes, warnings = _classes(store, tree, parts)
    for found in classes:
        odd = problems.get(found.path) == ODD_NAME
        if odd or found.name != found.name.strip():
            raise DataError(
                f"{root}: class folder {found.name!r} is no plain one-line UTF-8 name; rename it"
            )
    carried: Mapping[str, str] | None = _groups_above(store, classes)
    names = sorted({found.name for found in classes})
    if carried is not None:
        label_of = {name: name for name in names}
    else:
        label_of, carried = carried_by_names(names, root)
    labels = [label_of[name] for name in names]
    check_labels(labels, root)
    groups = find_groups(labels, store, settings.groups, carried)
    entries = [*_entries(tree, classes, label_of, problems), *_strays(tree, parts, classes)]
    return Index(
        form=FORM,
        entries=tuple(sorted(entries, key=lambda entry: entry.path)),
        labels=groups.labels,
        harmful=groups.harmful,
        warnings=(*warnings, *groups.warnings),
    ), store


def _tree_of(store: Store) -> _Tree:
    files: defaultdict[str, list[str]] = defaultdict(list)
    folders: defaultdict[str, list[str]] = defaultdict(list)
    below: Counter[str] = Counter()
    for name in store.names():
        files[name.rpartition("/")[0]].append(name)
    for name in store.folders():
        folders[name.rpartition("/")[0]].append(name)
    for folder, inside in files.items():
        while folder:
            below[folder] += len(inside)
            folder = folder.rpartition("/")[0]
    return _Tree(files=files, folders=folders, below=below)


def _parts(tree: _Tree) -> dict[str, str]:
    """The given part of each folder at the top that is one: its name is in GIVEN_PARTS, and what
    it holds lies in folders. (A class may be called train: photos of trains.) Empty without train,
    since then nothing could be learnt."""
    parts = {
        folder: GIVEN_PARTS[folder.casefold()]
        for folder in tree.folders.get("", ())
        if folder.casefold() in GIVEN_PARTS
        and tree.below[folder] > 2 * len(tree.files.get(folder, ()))
    }
    return parts if "train" in parts.values() else {}


def _classes(store: Store, tree: _Tree, parts: Mapping[str, str]) -> tuple[list[_Class], list[str]]:
    """The class folders, sorted by path, and warnings. Raises DataError."""
    levels: Mapping[str, str] = parts or {"": ""}
    grouped = {level: _is_grouped(tree, level) for level in levels}
    if len(set(grouped.values())) > 1:
        deep, flat = (next(x for x, yes in grouped.items() if yes is y) for y in (True, False))
        raise DataError(
            f"{store.root}: {deep}/ has a level of folders more than {flat}/; wanted the same in "
            "every part"
        )
    if not any(grouped.values()):
        return [
            _Class(path=path, part=part, group=None)
            for level, part in levels.items()
            for path in tree.folders.get(level, ())
        ], []
    classes, warnings = [], []
    for level, part in levels.items():
        for group in tree.folders.get(level, ()):
            name = group.rpartition("/")[2]
            if not tree.below[group]:
                warnings.append(f"folder {group!r} is empty and left out")
            for path in tree.folders.get(group, ()) if tree.below[group] else ():
                classes.append(_Class(path=path, part=part, group=name))
    return classes, warnings


def _is_grouped(tree: _Tree, level: str) -> bool:
    """Whether every folder there (empty ones aside) holds only folders with photos."""
    inside = tree.filled(level)
    return bool(inside) and all(
        not tree.has_photos(folder) and tree.filled(folder) for folder in inside
    )


def _groups_above(store: Store, classes: Sequence[_Class]) -> dict[str, str] | None:
    """Group by class, from the level above. Raises DataError for a class in two groups,
    where the level has one folder only, which says nothing, and for given parts without train."""
    of: dict[str, str] = {}
    above = sorted({found.group for found in classes if found.group is not None})
    named = [name for name in above if name.casefold() in GIVEN_PARTS]
    # Below given parts, groups are never taken for parts: train is among those.
    if named and not any(found.part for found in classes):
        shared = len({(x.name, x.group) for x in classes}) > len({x.name for x in classes})
        if shared or len(named) == len(above) > 1:
            shown = " and ".join(f"{name}/" for name in named)
            raise DataError(
                f"{store.root}: {shown} can be given parts only with train/ beside, and there is "
                "none; give the photos to learn from in train/, or the class folders alone, which "
                "are then split"
            )
    for found in classes:
        if found.group is None:
            return None
        if of.setdefault(found.name, found.group) != found.group:
            raise DataError(
                f"{store.root}: class {found.name!r} is in two groups, {of[found.name]!r} and "
                f"{found.group!r}; wanted it in one"
            )
    if len(groups := set(of.values())) == 1:
        raise DataError(
            f"{store.root}: wanted a folder of photos for each class, found them one level deeper, "
            f"in {groups.pop()!r} alone; give that folder as --data"
        )
    return of


def _entries(
    tree: _Tree,
    classes: Sequence[_Class],
    label_of: Mapping[str, str],
    problems: Mapping[str, str],
) -> Iterator[Entry]:
    for found in classes:
        label, part = label_of[found.name], found.part
        if found.path in problems:
            yield Entry(path=found.path, label=label, part=part, problem=problems[found.path])
        for path in tree.files.get(found.path, ()):
            yield Entry(path=path, label=label, part=part, problem=problems.get(path, ""))
        for path in tree.folders.get(found.path, ()):
            why = problems.get(path, NESTED)
            yield Entry(path=path, label=label, part=part, problem=why)


def _strays(tree: _Tree, parts: Mapping[str, str], classes: Sequence[_Class]) -> Iterator[Entry]:
    """What lies beside and above the class folders."""
    above = {"", *parts, *(found.path.rpartition("/")[0] for found in classes)}
    for folder in sorted(above):
        for path in tree.files.get(folder, ()):
            if path.casefold() != CLASSES_FILE:
                yield Entry(path=path, problem=NO_CLASS)
    if parts:
        for folder in tree.folders.get("", ()):
            if folder not in parts and folder.casefold() in GIVEN_PARTS:
                for path in tree.files.get(folder, ()):
                    yield Entry(path=path, problem=NO_CLASS)
            elif folder not in parts and tree.below[folder]:
                beside = ", ".join(f"{part}/" for part in parts)
                yield Entry(path=folder, problem=f"a folder beside {beside}; it is in no part")
