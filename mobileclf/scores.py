"""The records that every later stage reads: which photo is where, and what each variant said.

`dataset.csv` has one row a photo; a part of the data is its rows with that `split`, in order.
`metrics.json` names the variants and their score files, one `.npy` of shape (photos, labels)
for each variant and part: float32 probabilities, or for an int8 model uint8 quanta of
`SCORE_SCALE`, whatever the type at its output is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decision import to_quanta
from .errors import DataError
from .records import read_csv, read_json
from .settings import Settings
from .unions import joined

PARTS = ("train", "validation", "threshold", "test")
HELD_BACK = PARTS[1:]
SCORE_SCALE = 1 / 256
FLOAT = "float"
LOGITS = "float_logits"  # where a variant would be named: before the softmax, for figures alone


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the data set: photos by path relative to the source, sha256 of each file
    (hex), truth as label index. unit: int64 (n,), a number shared by what is no independent
    photo of another: copies of one picture, photos of one specimen."""

    paths: tuple[str, ...]
    digests: tuple[str, ...]
    truth: NDArray[np.int64]
    unit: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: NDArray[np.int64]) -> Part:
        """The photos at these places, in the order of `rows`."""
        return Part(
            paths=tuple(self.paths[i] for i in rows),
            digests=tuple(self.digests[i] for i in rows),
            truth=self.truth[rows],
            unit=self.unit[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What one variant answered on one part.

    probabilities: float64 (n, labels). quanta: int64 (n, labels) for int8 variants, else None.
    """

    probabilities: NDArray[np.float64]
    quanta: NDArray[np.int64] | None

    @property
    def answers(self) -> NDArray[np.int64]:
        """Index of the largest output of each photo; on a tie the lower index. int64 (n,)."""
        return np.argmax(self.probabilities, axis=1)

    @property
    def as_quanta(self) -> NDArray[np.int64]:
        """The outputs as quanta, int64 (n, labels); those of a float model rounded to them."""
        return to_quanta(self.probabilities) if self.quanta is None else self.quanta


def read_labels(folder: Path) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """The labels in the order of the outputs, and the group of each (all None: no groups)."""
    rows = read_json(folder / "dataset.json")["labels"]
    return tuple(row["label"] for row in rows), tuple(row["group"] for row in rows)


def read_harmful(folder: Path, settings: Settings) -> str | None:
    """The group or class that must not be missed: as asked for, else as the data mark it."""
    marked: str | None = read_json(folder / "dataset.json")["harmful"]
    return settings.harmful or marked


def read_part(folder: Path, *parts: str) -> Part:
    """The photos of one of PARTS, or of several, one after another. Raises DataError when one
    has none."""
    labels, _ = read_labels(folder)
    index = {label: i for i, label in enumerate(labels)}
    table, rows = read_csv(folder / "dataset.csv"), []
    for part in parts:
        own = [row for row in table if row["split"] == part]
        if not own:
            raise DataError(f"{folder / 'dataset.csv'}: wanted photos in part {part!r}, found none")
        rows += own
    return Part(
        paths=tuple(row["path"] for row in rows),
        digests=tuple(row["sha256"] for row in rows),
        truth=np.array([index[row["label"]] for row in rows], dtype=np.int64),
        unit=_units(rows),
    )


def _units(rows: Sequence[Mapping[str, str]]) -> NDArray[np.int64]:
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups["path", row["path"]].append(i)
        for column, kind in (("copy_of", "path"), ("specimen", "specimen")):
            if value := row.get(column):
                groups[kind, value].append(i)
    unit = np.empty(len(rows), dtype=np.int64)
    for number, members in enumerate(joined(len(rows), groups.values(), range(len(rows)))):
        unit[list(members)] = number
    return unit


def score_file(variant: str, part: str) -> str:
    """Name of a score file, relative to the run."""
    return f"scores/{variant}.{part}.npy"


def read_scores(folder: Path, variant: str, part: str) -> Scores:
    """What `variant` answered on `part`. Raises DataError when that was not scored."""
    values = read_array(folder, variant, part)
    if values.dtype == np.uint8:
        return Scores(
            probabilities=values.astype(np.float64) * SCORE_SCALE, quanta=values.astype(np.int64)
        )
    return Scores(probabilities=values.astype(np.float64), quanta=None)


def read_array(folder: Path, variant: str, part: str) -> NDArray[Any]:
    """A score file as it is, (photos, labels). Raises DataError where there is none."""
    path = folder / score_file(variant, part)
    try:
        values: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: wanted scores of {variant} on {part}, found none") from error
    return values
