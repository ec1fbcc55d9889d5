"""From the scores of one model, and what is asked for, to the rule that an app applies to it.

Everything is chosen on the part `threshold`, but for a cut that a guarantee is to be given over:
that one is chosen on `validation`, since a promise holds only for a rule that was fixed without
the harmful photos that it is shown on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from .decision import Abstain, By, Classes, decision_score, sureness
from .errors import ProofError, UsageError
from .scores import Part, Scores
from .settings import Settings
from .spelling import costs_of
from .stats.abstain import band_for_cost, cut_for_cost, cut_for_rate
from .stats.guarantee import Guarantee, guarantee, kept
from .stats.operating_point import (
    OperatingPoint,
    Prefer,
    exactly,
    few_below,
    fix_fpr,
    fix_tpr,
    max_f1,
    min_cost,
    minimum_confidence,
    youden,
)

CHOSEN_ON = "threshold"
TUNED_ON = "validation"
XNNPACK, BUILTIN = "xnnpack", "builtin"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one model answered on one part, as a decision sees it.

    classes: of the decision. quanta: int64 (n, labels). score: int64 (n,), what the threshold is
    compared with. positive: bool (n,), what the score should be high for: harmful photos; without
    groups, right answers. unit: int64 (n,), as in `Part`.
    """

    classes: Classes
    quanta: NDArray[np.int64]
    score: NDArray[np.int64]
    positive: NDArray[np.bool_]
    unit: NDArray[np.int64]

    def sureness(self, threshold_q: int, by: By) -> NDArray[np.int64]:
        """How sure "harmless" is of each photo at that threshold. int64 (n,)."""
        return sureness(self.quanta, self.classes, threshold_q, by)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What was chosen for one model. promise: None unless a guarantee was asked for; kernels:
    the families that it holds on, none for the float model. tuned_on: the part that the cut of
    `abstain` was chosen on."""

    point: OperatingPoint
    abstain: Abstain | None = None
    tuned_on: str | None = None
    promise: Guarantee | None = None
    kernels: tuple[str, ...] = ()


def positives(scores: Scores, truth: NDArray[np.int64], classes: Classes) -> NDArray[np.bool_]:
    """What the score should be high for: harmful photos; without groups, right answers. (n,)"""
    if classes.harmful is None:
        return scores.answers == truth
    harmful: NDArray[np.bool_] = classes.members(classes.harmful)[truth]
    return harmful


def seen(scores: Scores, part: Part, classes: Classes) -> Seen:
    """The answers of one model on one part, those of the float model rounded to quanta."""
    return Seen(
        classes=classes,
        quanta=scores.as_quanta,
        score=decision_score(scores.as_quanta, classes),
        positive=positives(scores, part.truth, classes),
        unit=part.unit,
    )


def check(settings: Settings, classes: Classes) -> str | None:
    """Raises UsageError where what is asked for needs groups and there are none.

    Returns a warning where "not sure" can never cost less than either verdict, or None.
    """
    if classes.harmful is None:
        for flag, asked in (
            ("--policy guarantee", settings.policy == "guarantee"),
            # What a missed harmful photo and a false alarm cost says nothing of wrong answers.
            ("--policy min-cost", settings.policy == "min-cost"),
            (f"--abstain {settings.abstain}", settings.abstain != "none"),
        ):
            if asked:
                raise UsageError(
                    f"{flag}: wanted a group or class that must not be missed, found none; give "
                    "--harmful (without one, the answer is “not sure” under the minimum confidence)"
                )
    tuned_by_cost = settings.abstain != "none" and settings.answer_rate is None
    costs = costs_of(settings.costs)
    if not tuned_by_cost or costs.abstaining_can_pay:
        return None
    least = costs.missed * costs.false_alarm / (costs.missed + costs.false_alarm)
    return (
        f"--costs {settings.costs}: “not sure” costs no less than a false alarm does, so it pays "
        f"only where the threshold is not of least cost; wanted abstain under {least:.3g}, or "
        "--answer-rate"
    )


class _Policy(Protocol):
    def __call__(
        self, score: NDArray[np.int64], positive: NDArray[np.bool_], *, prefer: Prefer
    ) -> OperatingPoint: ...


def choose(settings: Settings, on_threshold: Mapping[str, Seen], on_validation: Seen) -> Rule:
    """The threshold and abstain rule for one model by `settings.policy` and `settings.abstain`.

    on_threshold: by kernel family, the one that ships first; a single one for the float model.
    Raises ProofError where no threshold does what is asked, DataError where the photos are of one
    kind.
    """
    families = list(on_threshold.values())
    first = families[0]
    if settings.policy == "guarantee":
        rule = _promised(settings, on_threshold, on_validation)
    elif first.classes.harmful is None:
        point = (
            minimum_confidence(first.score, first.positive)
            if settings.policy == "youden"
            else _policy(settings)(first.score, first.positive, prefer="higher")
        )
        return Rule(point=point)
    elif (settings.policy, settings.abstain, settings.answer_rate) == ("min-cost", "score", None):
        low, high = band_for_cost(first.score, first.positive, costs_of(settings.costs))
        rule = _banded(first, low, high)
    else:
        point = _policy(settings)(first.score, first.positive, prefer="lower")
        rule = Rule(point=point)
        if by := _measure(settings):
            cut = _cut(settings, first, point.threshold_q, by)
            rule = Rule(point=point, abstain=_abstain(by, cut), tuned_on=CHOSEN_ON)
    if not all((each.score >= rule.point.threshold_q)[each.positive].any() for each in families):
        raise ProofError(
            f"threshold: wanted a rule that calls some harmful photos harmful, found that none of "
            f"{int(first.positive.sum())} reaches {rule.point.threshold_q}; ask for a higher "
            "--answer-rate, or train longer"
        )
    return rule


def _measure(settings: Settings) -> By | None:
    return None if settings.abstain == "none" else cast(By, settings.abstain)


def _policy(settings: Settings) -> _Policy:
    known: dict[str, _Policy] = {
        "youden": youden,
        "max-f1": max_f1,
        "min-cost": partial(min_cost, costs=costs_of(settings.costs)),
        "fix-tpr": partial(fix_tpr, rate=settings.tpr),
        "fix-fpr": partial(fix_fpr, rate=settings.fpr),
    }
    return known[settings.policy]


def _promised(settings: Settings, on_threshold: Mapping[str, Seen], on_validation: Seen) -> Rule:
    """The largest threshold that keeps the promise on every kernel family, else on the one that
    ships alone; "not sure" on either side of it as asked."""
    by, cut = _measure(settings), 0
    if by in ("largest", "margin"):
        cut = _cut_on_validation(settings, on_validation, by)
    evidence, promise, kernels = _on_most_kernels(settings, on_threshold, by, cut)
    first = next(iter(on_threshold.values()))
    low = high = promise.threshold_q
    if by == "score":
        if settings.answer_rate is not None:
            high = _highest_for_rate(first.score, low, settings.answer_rate)
        else:
            # Any lower end keeps the promise, however it is chosen.
            low, high = band_for_cost(
                first.score, first.positive, costs_of(settings.costs), lowest_at_most=low
            )
            promise = evidence.at(low, settings)
        rule = _banded(first, low, high)
    else:
        rule = Rule(point=_at(first, low, low), tuned_on=None if by is None else TUNED_ON)
        if by is not None:
            rule = replace(rule, abstain=_abstain(by, cut))
    held = kernels if len(on_threshold) > 1 else ()
    return replace(rule, promise=promise, kernels=held)


def _cut_on_validation(settings: Settings, photos: Seen, by: By) -> int:
    """Before the harmful photos of `threshold` are looked at: at Youden's threshold."""
    try:
        provisional = youden(photos.score, photos.positive).threshold_q
        return _cut(settings, photos, provisional, by)
    except ProofError as error:
        raise ProofError(f"--abstain {by}, on {TUNED_ON} photos: {error}") from error


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """What a promise is shown on, one row a unit and kind: its least score on any kernel family,
    and whether every family holds it back. All (units,)."""

    score: NDArray[np.int64]
    positive: NDArray[np.bool_]
    held: NDArray[np.bool_]

    def largest(self, settings: Settings) -> Guarantee:
        """With the largest threshold that keeps it. Raises ProofError."""
        return guarantee(
            self.score, self.positive, most=settings.most_missed, confidence=settings.confidence,
            not_sure=self.held,
        )  # fmt: skip

    def at(self, threshold_q: int, settings: Settings) -> Guarantee:
        """With that threshold, no higher than the largest."""
        return kept(
            self.score, self.positive, threshold_q, most=settings.most_missed,
            confidence=settings.confidence, not_sure=self.held,
        )  # fmt: skip


def _on_most_kernels(
    settings: Settings, on_threshold: Mapping[str, Seen], by: By | None, cut: int
) -> tuple[_Evidence, Guarantee, tuple[str, ...]]:
    every = tuple(on_threshold)
    found = _evidence(list(on_threshold.values()), by, cut)
    try:
        return found, found.largest(settings), every
    except ProofError:
        if len(every) == 1:
            raise
    # What ships may still keep it; an app that meets other kernels must then not rely on it.
    found = _evidence([on_threshold[every[0]]], by, cut)
    return found, found.largest(settings), every[:1]


def _evidence(families: list[Seen], by: By | None, cut: int) -> _Evidence:
    first = families[0]
    scores = np.stack([each.score for each in families])
    held = np.zeros(scores.shape, dtype=np.bool_)
    if by is not None and cut:
        held = np.stack([each.sureness(0, by) < cut for each in families])
    # A family that holds a photo back does not call it harmless, whatever its score.
    least = np.where(held, scores.max() + 1, scores).min(axis=0)
    rows = _one_of_each(least, first.positive, first.unit)
    by_all = held.all(axis=0)
    return _Evidence(
        score=np.where(by_all, scores.min(axis=0), least)[rows],
        positive=first.positive[rows],
        held=by_all[rows],
    )


def _one_of_each(
    score: NDArray[np.int64], positive: NDArray[np.bool_], unit: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Of each unit and kind the photo with the least score: copies are no further evidence, and
    the unit is missed as soon as one of its photos is."""
    order = np.lexsort((score, positive, unit))
    kinds = np.stack([unit[order], positive[order]])
    first = np.r_[True, (np.diff(kinds, axis=1) != 0).any(axis=0)]
    return np.sort(order[first])


def _cut(settings: Settings, photos: Seen, threshold_q: int, by: By) -> int:
    """By the wanted answer rate, else the costs. Raises ProofError for one that would call no
    photo harmless."""
    sure, reached = photos.sureness(threshold_q, by), photos.score >= threshold_q
    cut = (
        cut_for_cost(sure, reached, photos.positive, costs_of(settings.costs))
        if settings.answer_rate is None
        else cut_for_rate(sure, reached, settings.answer_rate)
    )
    if not (~reached & (sure >= cut)).any():
        raise ProofError(
            f"abstain: wanted a rule that calls some photos harmless, found that “not sure” by "
            f"{by} holds back all {int((~reached).sum())} under threshold {threshold_q}; ask for a "
            "higher --answer-rate, or a higher cost of abstain"
        )
    return cut


def _highest_for_rate(score: NDArray[np.int64], low: int, rate: float) -> int:
    """The highest threshold with which at least the share `rate` of the photos is answered, where
    the scores from `low` to under it are "not sure"; no higher than the highest score seen."""
    allowed = int((1 - exactly(rate)) * len(score))
    over = np.sort(score[score >= low])
    return int(over[min(allowed, len(over) - 1)]) if len(over) else low


def _banded(photos: Seen, low: int, high: int) -> Rule:
    """ "Not sure" from a score of `low` to under `high`, the threshold."""
    abstain = _abstain("score", high - low + 1)
    return Rule(point=_at(photos, high, low), abstain=abstain, tuned_on=CHOSEN_ON)


def _abstain(by: By, cut: int) -> Abstain | None:
    """None where the cut holds nothing back."""
    return Abstain(by=by, cut_q=cut) if cut > (1 if by == "score" else 0) else None


def _at(photos: Seen, threshold_q: int, low: int) -> OperatingPoint:
    """What a threshold that was chosen by another wish does on these photos. low: under which a
    photo is harmless, which is what must not rest on few scores."""
    reached = photos.score >= threshold_q
    tpr, fpr = (float(reached[kind].mean()) for kind in (photos.positive, ~photos.positive))
    return OperatingPoint(
        threshold_q=threshold_q,
        j=tpr - fpr,
        tpr=tpr,
        fpr=fpr,
        warning=few_below(low, len(np.unique(photos.score[photos.score < low]))),
    )
