"""Labels from outside the photos: lines of a file, and which class of the photos each one is."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclf.errors import DataError
from mobileclf.wording import counted

from .tables import short

MOST_LISTED = 5
BETWEEN_WORDS = re.compile(r"[\s_-]+")


@dataclass(frozen=True, kw_only=True)
class Matched:
    """labels: the classes' own, in the order of the lines. loosely: (line, label) of those that
    are not spelled as the class or its folder is."""

    labels: tuple[str, ...]
    loosely: tuple[tuple[str, str], ...]


def read(path: Path) -> tuple[str, ...]:
    """One label a line, UTF-8. Raises DataError."""
    try:
        labels = lines(path.read_bytes())
    except OSError as error:
        raise DataError(f"--labels {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"--labels {path}: wanted UTF-8 text, found other bytes") from error
    if "" in labels:
        raise DataError(
            f"--labels {path}: wanted a label a line, found line {labels.index('') + 1} empty"
        )
    return tuple(labels)


def lines(data: bytes) -> list[str]:
    """Lines without the space around them; empty ones at the end are none. Raises
    UnicodeDecodeError."""
    found = [line.strip() for line in data.decode("utf-8-sig").rstrip().split("\n")]
    return found if found != [""] else []


def match(given: Sequence[str], folders: Mapping[str, str]) -> Matched:
    """The class that each line means, by its label or the name of its folder.

    folders: the folder's name by label, the label itself where there is no folder. A line is
    taken exactly, else without regard to case, spaces, `_` and `-` where that fits one class
    alone. Raises DataError unless each class is there once and nothing else.
    """
    exact = {folder: label for label, folder in folders.items()} | {x: x for x in folders}
    loose: defaultdict[str, set[str]] = defaultdict(set)
    for name, label in exact.items():
        loose[_sounds(name)].add(label)
    found: list[str | None] = []
    for line in given:
        near = loose[_sounds(line)]
        found.append(exact.get(line) or (next(iter(near)) if len(near) == 1 else None))
    counts = Counter(found)
    wrong = {
        "missing": [label for label in folders if not counts[label]],
        "no class": [line for line, label in zip(given, found, strict=True) if label is None],
        "twice": [label for label, n in counts.items() if label is not None and n > 1],
    }
    if any(wrong.values()):
        shown = "; ".join(f"{what}: {_listed(names)}" for what, names in wrong.items() if names)
        raise DataError(
            f"wanted each of the {len(folders)} classes of the photos once, found "
            f"{counted(len(given), 'label')}; {shown}"
        )
    labels = tuple(label for label in found if label is not None)
    pairs = zip(given, labels, strict=True)
    return Matched(
        labels=labels, loosely=tuple(x for x in pairs if x[0] not in (x[1], folders[x[1]]))
    )


def _sounds(name: str) -> str:
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
    return BETWEEN_WORDS.sub(" ", folded).strip()


def _listed(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > MOST_LISTED else ""
    return ", ".join(map(short, names[:MOST_LISTED])) + more
