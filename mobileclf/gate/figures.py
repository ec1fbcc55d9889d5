"""A parity.json as the baseline: of an earlier model there are the figures alone.

Its photos may be others than those of today, so shares are compared without pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclf.errors import DataError
from mobileclf.records import Record, read_json
from mobileclf.stats.unpaired import newcombe, outcome

from .check import Change, Check, Limits, not_judged

PARITY = "parity.json"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """`right` of `n` photos, n >= 1."""

    right: int
    n: int

    def __str__(self) -> str:
        return f"{self.right} of {self.n}"


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is read of a parity.json. caught: of the harmful photos those not called harmless, None
    where the record does not say. changed: paths of the photos with another answer than float's.
    other: figures that are told and not judged."""

    right: Counts
    caught: Counts | None
    changed: frozenset[str]
    other: Mapping[str, object]


def read_figures(path: Path) -> Figures:
    """Raises DataError for a record without the figures, or with what are none."""
    return figures_of(read_json(path), str(path))


def figures_of(record: Record, where: str) -> Figures:
    """Of a parity.json that was read, or is to be written. where: as messages call it. Raises as
    `read_figures`."""
    try:
        harmful = record.get("harmful")
        return Figures(
            right=counts(record["n"], record["int8"]["accuracy"]),
            caught=None if harmful is None else counts(harmful["photos"], harmful["int8"]),
            changed=frozenset(_path(row) for row in record.get("changed") or ()),
            other={key: record.get(key) for key in ("agreement", "verdict", "lost", "won")},
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: wanted a {PARITY} with n, int8 accuracy and the changed photos, found "
            f"another ({error!r})"
        ) from error


def counts(n: Any, share: Any) -> Counts:
    """n photos and the share of them that is right, as a record has them. Raises ValueError."""
    if type(n) is not int or n < 1:
        raise ValueError(f"wanted a number of photos, found {n!r}")
    if type(share) not in (int, float) or not (math.isfinite(share) and 0 <= share <= 1):
        raise ValueError(f"wanted a share from 0 to 1, found {share!r}")
    return Counts(right=round(share * n), n=n)


def _path(row: Any) -> str:
    if not isinstance(row["path"], str):
        raise ValueError(f"wanted the path of a photo, found {row['path']!r}")
    return row["path"]


def compare(earlier: Figures, now: Figures, limits: Limits) -> tuple[list[Change], list[Check]]:
    """What changed between two records, and whether right answers, and harmful photos that are not
    called harmless, are shown to have become fewer by more than is allowed."""
    found = [
        Change(what=what, was=f"{one}", now=f"{other}")
        for what, one, other in (
            ("right on the test photos", earlier.right, now.right),
            ("harmful photos not called harmless", earlier.caught, now.caught),
            *((key, was, now.other[key]) for key, was in earlier.other.items()),
        )
        if one != other
    ]
    new = now.changed - earlier.changed
    if earlier.changed != now.changed:
        found.append(
            Change(
                what="photos with another answer than float's",
                was=f"{len(earlier.changed)}",
                now=f"{len(now.changed)}, {len(new)} of them new",
            )
        )
    wanted = f"a drop of accuracy from {earlier.right} not shown to be over {limits.max_drop}"
    checks = [
        _unpaired("baseline_accuracy", earlier.right, now.right, limits.max_drop, wanted, new)
    ]
    name = "baseline_harmful"
    wanted = f"a rise of harmful photos called harmless not shown to be over {limits.max_missed}"
    if earlier.caught is None or now.caught is None:
        which = "the earlier record" if earlier.caught is None else "this one"
        return found, [*checks, not_judged(name, wanted, f"{which} has no harmful photos")]
    return found, [
        *checks, _unpaired(name, earlier.caught, now.caught, limits.max_missed, wanted)
    ]  # fmt: skip


def _unpaired(
    name: str, was: Counts, now: Counts, most: float, wanted: str, new: frozenset[str] = frozenset()
) -> Check:
    interval = newcombe(now.right, now.n, was.right, was.n)
    verdict = outcome(interval, most)
    change = now.right / now.n - was.right / was.n
    return Check(
        name=name,
        passed=verdict != "worse",
        wanted=wanted,
        found=f"{verdict}, {now} beside {was}, change {change:+.4f} "
        f"({interval[0]:+.4f} to {interval[1]:+.4f})",
        details=tuple(sorted(new)),
    )
