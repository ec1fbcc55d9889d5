"""Labels and their groups: from names, from the level above, or from a classes file."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclf.errors import DataError
from mobileclf.spelling import names_of

from .listing import is_plain, reading
from .store import FolderStore, Store
from .tables import MOST_SHOWN, Table, named, read_table, short, shown

CLASSES_FILE = "classes.csv"
COLUMNS = ("label", "group", "harmful")
TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}


@dataclass(frozen=True, kw_only=True)
class Groups:
    """labels: (label, group or None), in the order given. harmful: the group that is, if said."""

    labels: tuple[tuple[str, str | None], ...]
    harmful: str | None = None
    warnings: tuple[str, ...] = ()


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


def check_labels(labels: Iterable[str], where: object, *, what: str = "label") -> None:
    """Raises DataError for a label that is no plain line, and for two that a person would take
    for one: they differ only in case, in spaces or in how Unicode spells a letter."""
    seen: dict[str, str] = {}
    for label in labels:
        if not is_plain(label) or not label.strip():
            raise DataError(
                f"{where}: {what} {short(label)!r} is no plain one-line UTF-8 text; rename it"
            )
        other = seen.setdefault(_sounds(label), label)
        if other != label:
            raise DataError(
                f"{where}: {what}s {short(other)!r} and {short(label)!r} differ only in case or "
                "spaces; wanted one spelling"
            )


def _sounds(label: str) -> str:
    """What is left of a label without case, spaces and signs that do not show."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", label).casefold())
    return "".join(c for c in folded if not c.isspace() and unicodedata.category(c) != "Cf")


def in_order(labels: Collection[str]) -> list[str]:
    """By code point; by value where all are whole numbers, so that 10 comes after 9."""
    unique = set(labels)
    if all(label.isascii() and label.isdigit() and len(label) < 19 for label in unique):
        return sorted(unique, key=lambda label: (int(label), label))
    return sorted(unique)


def label_names(found: Mapping[str, str], classes: str | None) -> dict[str, str]:
    """Label by what stands in the data, in the order of the outputs.

    found: where each was first seen, for messages. classes: names for 0, 1, … as in --classes,
    or those same names in the order wanted. Raises DataError for a value that has no name.
    """
    if classes is None:
        return {value: value for value in in_order(found.keys())}
    names = names_of(classes)
    if all(value in names for value in found):
        return {name: name for name in names}
    numbers = {str(i): name for i, name in enumerate(names)}
    for value, where in found.items():
        if value not in numbers:
            raise DataError(
                f"{where}: wanted a label from 0 to {len(names) - 1} for --classes {classes}, "
                f"found {short(value)!r}"
            )
    return numbers


def find_groups(
    labels: Sequence[str], store: Store, groups: Path | None, carried: Mapping[str, str] | None
) -> Groups:
    """The group of each label, and which is harmful.

    carried: group by label where the folders' names, or a level of folders, say it; then a file
    can only add which is harmful. Else they come from `groups`, a CSV with columns label, group
    and perhaps harmful, or from `classes.csv` beside the photos. Raises DataError for a file
    that does not fit the labels.
    """
    table = groups_table(store, groups)
    if carried is not None:
        pairs = tuple((label, carried[label]) for label in labels)
        check_labels(dict.fromkeys(carried.values()), store.root, what="group")
        if table is None:
            return Groups(labels=pairs)
        if None not in table.places:
            found, harmful = _rows(table)
            if found == dict(carried):
                return Groups(labels=pairs, harmful=harmful)
        # No path: this goes into a record.
        name = f"--groups {groups.name}" if groups is not None else CLASSES_FILE
        unused = f"{name} is not used: the folder names carry the groups"
        return Groups(labels=pairs, warnings=(unused,))
    if table is None:
        return Groups(labels=tuple((label, None) for label in labels))
    found, harmful = _rows(table)
    if missing := [label for label in labels if label not in found]:
        raise DataError(
            f"{table.where}: no group for class {_listed(missing)}; add a line for each"
        )
    if unknown := [label for label in found if label not in set(labels)]:
        raise DataError(
            f"{table.where}: no class folder or label {_listed(unknown)}; there are "
            f"{_listed(labels)}"
        )
    check_labels(dict.fromkeys(found.values()), table.where, what="group")
    return Groups(labels=tuple((label, found[label]) for label in labels), harmful=harmful)


def _listed(labels: Sequence[str]) -> str:
    more = f", … ({len(labels)} in all)" if len(labels) > MOST_SHOWN else ""
    return ", ".join(map(short, labels[:MOST_SHOWN])) + more


def groups_table(store: Store, groups: Path | None) -> Table | None:
    """The classes file: the one asked for, else `classes.csv` beside the photos, else None."""
    if groups is not None:
        check_groups_file(groups)
        outside: Store = FolderStore(groups.parent)
        where, name = str(groups), groups.name
    else:
        found = [name for name in store.top_names() if name.casefold() == CLASSES_FILE]
        if not found:
            return None
        outside, where, name = store, str(store.root / found[0]), found[0]
    with reading(where), outside.open(name) as file:
        return read_table(file, where, _places)


def check_groups_file(groups: Path) -> None:
    """Raises DataError where there is no such file."""
    if not groups.is_file():
        raise DataError(f"{groups}: there is no such groups file; wanted CSV with label,group")


def _places(columns: Sequence[str]) -> list[int | None]:
    """Of COLUMNS: the first of each name."""
    return [next(iter(named(columns, name)), None) for name in COLUMNS]


def _rows(table: Table) -> tuple[dict[str, str], str | None]:
    """Group by label, and the harmful group. Raises DataError."""
    if None in table.places[:2]:
        raise DataError(f"{table.where}: wanted columns label,group, found {shown(table.columns)}")
    found: dict[str, str] = {}
    marks: dict[str, bool] = {}
    for line, cells in table.rows:
        label, group, mark = (cell.strip() for cell in cells)
        if not label or not group:
            raise DataError(
                f"{table.where} line {line}: wanted a label and its group, found {short(label)!r} "
                f"and {short(group)!r}"
            )
        if found.setdefault(label, group) != group:
            raise DataError(f"{table.where} line {line}: {label!r} is already in {found[label]!r}")
        if mark.casefold() not in TRUTH:
            raise DataError(
                f"{table.where} line {line}: harmful wants true or false, found {short(mark)!r}"
            )
        if marks.setdefault(group, TRUTH[mark.casefold()]) != TRUTH[mark.casefold()]:
            raise DataError(
                f"{table.where} line {line}: group {group!r} is marked harmful on one line and "
                "not on another; wanted the same for all its classes"
            )
    harmful = [group for group, mark in marks.items() if mark]
    if len(harmful) > 1:
        raise DataError(
            f"{table.where}: wanted one harmful group, found {', '.join(map(repr, harmful))}; "
            "put their classes in one group"
        )
    return found, harmful[0] if harmful else None


def carried_by_names(
    names: Sequence[str], where: object
) -> tuple[dict[str, str], dict[str, str] | None]:
    """Label by folder name, and group by label where the names carry them. Raises DataError for
    a class in two groups."""
    named = name_groups(names)
    if named is None:
        return {name: name for name in names}, None
    counts = Counter(label for label, _ in named)
    if twice := [label for label, n in counts.items() if n > 1]:
        raise DataError(
            f"{where}: class {twice[0]!r} has folders in two groups; wanted one folder a class"
        )
    return dict(zip(names, (label for label, _ in named), strict=True)), dict(named)
