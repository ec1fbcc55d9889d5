"""From the outputs of a model to what the app says: one rule, the same in Python and Kotlin.

With groups, the harmful group's score is the integer sum of its labels' outputs, and a photo is
harmful when that sum reaches the threshold. Of the others, those that the rule is not sure enough
of are "not sure" (`Abstain`), and no such rule takes a warning back. Without groups it is the
label of the largest output, and "not sure" when that output lies under the minimum confidence.
Outputs are quanta: integers, 256 of which are probability 1, so nothing here rounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from . import progress
from .errors import DataError, UsageError
from .records import canonical

NOT_SURE = "not sure"
QUANTA = 256
LARGEST = 255  # of one output: a byte
PURPOSES = ("real", "demo")
# How sure "harmless" is: by the largest output, by how far it lies over the second largest, or by
# how far the harmful group's score lies under the threshold.
By = Literal["largest", "margin", "score"]


@dataclass(frozen=True, kw_only=True)
class Classes:
    """The labels in the order of the outputs, the group of each, and the harmful group.

    Either every label has a group and one of the groups is harmful, or there are no groups:
    all None, and harmful None. Raises DataError for anything between.
    """

    labels: tuple[str, ...]
    groups: tuple[str | None, ...]
    harmful: str | None

    def __post_init__(self) -> None:
        whole = len(self.groups) == len(self.labels) > 0
        if self.harmful is None:
            whole = whole and not any(self.groups)
        else:
            whole = whole and all(self.groups) and len(self.group_names) > 1
            whole = whole and self.harmful in self.groups
        if not whole:
            raise DataError(
                "classes: wanted a group for every label with one of them harmful, or no groups "
                f"at all; found labels {self.labels}, groups {self.groups}, "
                f"harmful {self.harmful!r}"
            )

    @property
    def group_names(self) -> tuple[str, ...]:
        """Each group once, in order of first appearance among the labels; empty without groups."""
        return tuple(dict.fromkeys(group for group in self.groups if group is not None))

    def members(self, group: str | None) -> NDArray[np.bool_]:
        """Which labels belong to `group`. bool (labels,)."""
        return np.array([own == group for own in self.groups], dtype=np.bool_)

    def as_record(self) -> dict[str, Any]:
        """`labels` and `groups` as bundle.json has them."""
        return {
            "labels": [
                {"label": label, "group": group}
                for label, group in zip(self.labels, self.groups, strict=True)
            ],
            "groups": [
                {"group": group, "harmful": group == self.harmful} for group in self.group_names
            ],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Classes:
        """Read back `as_record`, or a whole bundle.json. Raises DataError when it is not one."""
        try:
            harmful = [row["group"] for row in record["groups"] if row["harmful"]]
            if len(harmful) > 1:
                raise ValueError(f"harmful groups {harmful}")
            return cls(
                labels=tuple(row["label"] for row in record["labels"]),
                groups=tuple(row["group"] for row in record["labels"]),
                harmful=harmful[0] if harmful else None,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "labels and groups: wanted label and group of each, at most one group harmful; "
                f"found {error!r}; export the bundle again"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Abstain:
    """When a photo under the threshold is "not sure": where its `sureness` < cut_q.

    cut_q: in quanta, at least 1, and no higher than a photo can be sure: LARGEST, by the score the
    threshold (see Decision). Else no photo would ever be called harmless. Raises DataError.
    """

    by: By
    cut_q: int

    def __post_init__(self) -> None:
        most = math.inf if self.by == "score" else LARGEST
        if self.by not in get_args(By) or not 1 <= self.cut_q <= most:
            raise DataError(
                f"abstain: wanted one of {', '.join(get_args(By))} and a cut_q from 1 to "
                f"{LARGEST}, found {self.by!r} and {self.cut_q}"
            )

    def as_record(self) -> dict[str, Any]:
        """The value of "abstain" in a decision's record."""
        return {"by": self.by, "cut": self.cut_q / QUANTA, "cut_q": self.cut_q}

    @classmethod
    def from_record(cls, record: object) -> Abstain:
        """Read back `as_record`. Raises DataError when it is not one, or has anything beside."""
        wanted = {"by", "cut", "cut_q"}
        if not isinstance(record, Mapping) or set(record) != wanted:
            raise DataError(
                f"abstain: wanted by, cut and cut_q, or null; found {record!r}; update mobileclf"
            )
        by, cut, cut_q = record["by"], record["cut"], record["cut_q"]
        if not isinstance(by, str) or by not in get_args(By):
            raise DataError(
                f"abstain: wanted by one of {', '.join(get_args(By))}, found {by!r}; "
                "update mobileclf"
            )
        if type(cut_q) is not int or type(cut) not in (int, float) or cut != cut_q / QUANTA:
            raise DataError(
                f"abstain: wanted a whole number as cut_q and cut its {QUANTA}th, found "
                f"{cut_q!r} and {cut!r}"
            )
        return cls(by=by, cut_q=cut_q)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What turns outputs into a verdict.

    group: the harmful group, None: the minimum confidence rule. threshold_q: in quanta, at least
    1. abstain: which photos under the threshold are "not sure", None: none; always None without
    groups, where the threshold does that. kernel_bound: in quanta, how far the score may differ on
    other kernels. purpose: one of PURPOSES; under "demo" no photo is ever called harmless. Raises
    DataError.
    """

    group: str | None
    threshold_q: int
    abstain: Abstain | None = None
    kernel_bound: int
    purpose: str = "real"

    def __post_init__(self) -> None:
        # A threshold of 0 calls everything harmful and is no decision.
        if self.threshold_q < 1 or self.kernel_bound < 0 or self.purpose not in PURPOSES:
            raise DataError(
                "decision: wanted threshold_q of at least 1, kernel_bound of at least 0 and a "
                f"purpose among {', '.join(PURPOSES)}; found {self.threshold_q}, "
                f"{self.kernel_bound}, {self.purpose!r}"
            )
        if self.abstain is not None and self.group is None:
            raise DataError(
                "decision: wanted no abstain rule without a harmful group, where the threshold "
                f"says what is not sure; found {self.abstain}"
            )
        # A score lies no further under the threshold than that itself.
        rule = self.abstain
        if rule is not None and rule.by == "score" and rule.cut_q > self.threshold_q:
            raise DataError(
                f"decision: wanted a cut_q of at most the threshold_q, {self.threshold_q}, by "
                f"score; found {rule.cut_q}: no photo would ever be called harmless"
            )

    def as_record(self) -> dict[str, Any]:
        """The value of "decision" in bundle.json; `purpose` stands beside it there."""
        return {
            "group": self.group,
            "threshold": self.threshold_q / QUANTA,
            "threshold_q": self.threshold_q,
            "abstain": None if self.abstain is None else self.abstain.as_record(),
            "kernel_bound": self.kernel_bound,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any], *, purpose: str) -> Decision:
        """Read back `as_record`. Raises DataError when it is not one, or holds a rule unknown."""
        try:
            group, threshold_q = record["group"], record["threshold_q"]
            kernel_bound, abstain = record["kernel_bound"], record["abstain"]
        except (KeyError, TypeError) as error:
            raise DataError(
                "decision: wanted group, threshold_q, abstain and kernel_bound; "
                f"missing {error}; export the bundle again"
            ) from error
        if type(threshold_q) is not int or type(kernel_bound) is not int:
            raise DataError(
                "decision: wanted whole numbers for threshold_q and kernel_bound, "
                f"found {threshold_q!r} and {kernel_bound!r}"
            )
        if record.get("threshold", threshold_q / QUANTA) != threshold_q / QUANTA:
            raise DataError(
                f"decision: wanted threshold {threshold_q / QUANTA} for threshold_q "
                f"{threshold_q}, found {record['threshold']}"
            )
        return cls(
            group=group,
            threshold_q=threshold_q,
            abstain=None if abstain is None else Abstain.from_record(abstain),
            kernel_bound=kernel_bound,
            purpose=purpose,
        )


def read_decision(record: Mapping[str, Any]) -> tuple[Classes, Decision]:
    """What decides, of a bundle.json, a threshold.json or a `decision_file`. Raises DataError."""
    try:
        decision = Decision.from_record(record["decision"], purpose=record["purpose"])
        classes = Classes.from_record(record.get("classes", record))
        _belongs(classes, decision)
    except KeyError as error:
        raise DataError(f"wanted the key {error}, found none") from error
    return classes, decision


def decision_file(classes: Classes, decision: Decision) -> bytes:
    """What decides, as JSON that goes into the model file: equal bytes for equal decisions."""
    return canonical(
        {**classes.as_record(), "purpose": decision.purpose, "decision": decision.as_record()}
    )


def classes_for(
    labels: Sequence[str], groups: Sequence[str | None], harmful: str | None
) -> Classes:
    """Which group is harmful, from the labels, the group of each and `--harmful`.

    A class named by `--harmful` makes each label a group of its own; a name that is both a group
    and a class means the group. Two classes without groups: the second by name is harmful unless
    said otherwise, which is told. Raises UsageError when `--harmful` is missing or unknown.
    """
    own = tuple(labels)
    names = tuple(dict.fromkeys(group for group in groups if group is not None))
    if harmful is None:
        if names:
            raise UsageError(
                f"--harmful: wanted the group that must not be missed, found none; "
                f"give one of {', '.join(names)}"
            )
        if len(own) != 2:
            return Classes(labels=own, groups=(None,) * len(own), harmful=None)
        harmful = max(own)
        progress.say(
            f"harmful: {harmful} (of two classes the second by name; --harmful {min(own)} "
            "makes it the other)"
        )
    if harmful in names:
        return Classes(labels=own, groups=tuple(groups), harmful=harmful)
    if harmful in own:
        return Classes(labels=own, groups=own, harmful=harmful)
    there = (f"groups {', '.join(names)}; " if names else "") + f"classes {', '.join(own)}"
    raise UsageError(f"--harmful {harmful!r}: there is no such group or class; there are {there}")


def group_score(quanta: NDArray[np.integer[Any]], classes: Classes) -> NDArray[np.int64]:
    """The harmful group's score of each photo: the sum of its labels' outputs, maybe over 255.

    quanta: integers (n, labels). Returns int64 (n,). Only where there is a harmful group.
    """
    if classes.harmful is None:
        raise DataError("group score: wanted classes with a harmful group, found none")
    return np.asarray(_integers(quanta, classes)[:, classes.members(classes.harmful)].sum(axis=1))


def decision_score(quanta: NDArray[np.integer[Any]], classes: Classes) -> NDArray[np.int64]:
    """What the threshold is compared with: the group score, without groups the largest output."""
    if classes.harmful is None:
        return np.asarray(_integers(quanta, classes).max(axis=1))
    return group_score(quanta, classes)


def sureness(
    quanta: NDArray[np.integer[Any]], classes: Classes, threshold_q: int, by: By
) -> NDArray[np.int64]:
    """How sure "harmless" is of each photo; larger is surer. quanta: integers (n, labels).

    "largest": the largest output. "margin": that less the second largest, 0 on a tie. "score":
    threshold_q less the group score, so 1 or more for each photo under the threshold, and only
    where there is a harmful group. Returns int64 (n,), in quanta.
    """
    if by == "score":
        return np.asarray(threshold_q - group_score(quanta, classes))
    ranked = np.sort(_integers(quanta, classes), axis=1)
    if by == "largest":
        return np.asarray(ranked[:, -1])
    return np.asarray(ranked[:, -1] - ranked[:, -2:-1].sum(axis=1))  # one label: less nothing


def most_score(classes: Classes) -> int:
    """The largest `decision_score` that outputs can have, in quanta."""
    summed = 1 if classes.harmful is None else int(classes.members(classes.harmful).sum())
    return LARGEST * summed


def not_sure(
    quanta: NDArray[np.integer[Any]], classes: Classes, decision: Decision
) -> NDArray[np.bool_]:
    """Which photos are NOT_SURE by `verdicts`. quanta: integers (n, labels). Returns bool (n,)."""
    _belongs(classes, decision)
    under = decision_score(quanta, classes) < decision.threshold_q
    if decision.group is None or decision.purpose == "demo":
        return np.asarray(under)
    if decision.abstain is None:
        return np.zeros(len(under), np.bool_)
    own = sureness(quanta, classes, decision.threshold_q, decision.abstain.by)
    return np.asarray(under & (own < decision.abstain.cut_q))


def verdicts(quanta: NDArray[np.integer[Any]], classes: Classes, decision: Decision) -> list[str]:
    """What the app says of each photo. quanta: integers (n, labels).

    With groups: the harmful group where its score >= threshold_q, whatever else; else NOT_SURE
    where `sureness` < the cut of `abstain`, and for a demo always; else the harmless group with
    the largest sum, on a tie the one that appears first among the labels. Without: the label of
    the largest output, on a tie the lower index; NOT_SURE where that output < threshold_q. Raises
    DataError when the decision is for other classes, or can never be reached with them.
    """
    unsure = not_sure(quanta, classes, decision)
    values = _integers(quanta, classes)
    if decision.group is None:
        best, names = values.argmax(axis=1), list(classes.labels)
    else:
        harmless = _harmless(classes)
        sums = [values[:, classes.members(group)].sum(axis=1) for group in harmless]
        reached = decision_score(values, classes) >= decision.threshold_q
        best = np.where(reached, 0, 1 + np.stack(sums, axis=1).argmax(axis=1))
        names = [decision.group, *harmless]
    return [NOT_SURE if held else names[i] for i, held in zip(best, unsure, strict=True)]


def possible_verdicts(classes: Classes, decision: Decision) -> tuple[str, ...]:
    """Every verdict that `verdicts` may give, each once, the harmful group first."""
    _belongs(classes, decision)
    if decision.group is None:
        return (*classes.labels, NOT_SURE)
    if decision.purpose == "demo":
        return (decision.group, NOT_SURE)
    # By the score, every photo under the threshold is 1 sure at least.
    never = decision.abstain is None or decision.abstain == Abstain(by="score", cut_q=1)
    return (decision.group, *_harmless(classes), *(() if never else (NOT_SURE,)))


def to_quanta(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Probabilities rounded to the int8 model's grid, so that both take one decision. int64.

    Like its outputs they are LARGEST at most.
    """
    rounded = np.rint(probabilities * QUANTA)
    return np.asarray(np.minimum(rounded, LARGEST), dtype=np.int64)


def _harmless(classes: Classes) -> list[str]:
    return [group for group in classes.group_names if group != classes.harmful]


def _belongs(classes: Classes, decision: Decision) -> None:
    if decision.group != classes.harmful:
        raise DataError(
            f"decision: wanted one for the harmful group {classes.harmful!r}, "
            f"found one for {decision.group!r}"
        )
    most = most_score(classes)
    if decision.threshold_q > most:
        never = "sure" if classes.harmful is None else f"called {classes.harmful}, the harmful one"
        raise DataError(
            f"decision: wanted a threshold_q of at most {most}, which the outputs can "
            f"reach, found {decision.threshold_q}: no photo would ever be {never}; run threshold "
            "again with another policy"
        )


def _integers(quanta: NDArray[np.integer[Any]], classes: Classes) -> NDArray[np.int64]:
    # int64 before any sum: two uint8 outputs may well add up to more than 255.
    if not np.issubdtype(quanta.dtype, np.integer) or quanta.shape[1:] != (len(classes.labels),):
        raise DataError(
            f"outputs: wanted integers of shape (photos, {len(classes.labels)}), "
            f"found {quanta.dtype} of shape {quanta.shape}"
        )
    return quanta.astype(np.int64)
