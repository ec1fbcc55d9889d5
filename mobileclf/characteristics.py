"""What scores show of a model on one part: curves, areas, calibration, what it says of other
things. Figures only: nothing is chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from .decision import QUANTA, By, Classes, Decision, decision_score, not_sure, sureness
from .policy import Seen, positives
from .records import Record
from .scores import Part, Scores
from .stats.abstain import abstain_curve, tally
from .stats.auc_interval import AucInterval, bootstrap, delong
from .stats.calibration import brier, calibration_error, reliability, untempered
from .stats.curves import (
    average_precision,
    band,
    hull,
    one_against_rest,
    precision_recall,
)
from .stats.outliers import energy, max_logit, separation
from .stats.roc import Roc, auc, roc

ROC_COLUMNS = (
    "variant", "part", "of", "threshold", "fpr", "tpr", "precision", "hull", "low", "high"
)  # fmt: skip
ABSTAIN_COLUMNS = ("part", "by", "cut_q", "answered", "missed", "n", "harmful")
DECISION = "decision"


def plain_score(scores: Scores, classes: Classes) -> NDArray[np.float64]:
    """The decision's score as a probability, float's unrounded, for the curves. float64 (n,)."""
    if scores.quanta is not None:
        return decision_score(scores.quanta, classes) / QUANTA
    if classes.harmful is None:
        return np.asarray(scores.probabilities.max(axis=1))
    return _sum_of(scores, classes.members(classes.harmful))


def _sum_of(scores: Scores, members: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(scores.probabilities[:, members].sum(axis=1))


def areas(scores: Scores, part: Part, classes: Classes) -> Record:
    """auc, intervals and average precision of the decision's score, areas of each class against
    the rest and of each group; None wherever the photos are of one kind."""
    score = plain_score(scores, classes)
    positive = positives(scores, part.truth, classes)
    each = one_against_rest(scores.probabilities, part.truth)
    found = {
        "delong": delong(score, positive, unit=part.unit),
        "bootstrap": bootstrap(score, positive, unit=part.unit),
    }
    return {
        "auc": auc(score, positive),
        "intervals": _interval(found, len(np.unique(part.unit))),
        "average_precision": average_precision(score, positive),
        "one_against_rest": {
            "classes": dict(zip(classes.labels, each.by_class, strict=True)),
            "macro": each.macro,
            "weighted": each.weighted,
        },
        "groups": {
            group: auc(_sum_of(scores, classes.members(group)), classes.members(group)[part.truth])
            for group in classes.group_names
        },
    }


def _interval(found: Mapping[str, AucInterval | None], units: int) -> Record | None:
    """units: independent photos, copies and photos of one specimen counted once."""
    ends = {how: [one.low, one.high] for how, one in found.items() if one is not None}
    return {**ends, "units": units} if ends else None


def roc_rows(
    variant: str, name: str, scores: Scores, part: Part, classes: Classes
) -> Iterator[dict[str, object]]:
    """Rows of ROC_COLUMNS: of the decision's score every point, with its band and whether it is on
    the hull; of each class and group the points where the curve turns."""
    score, positive = plain_score(scores, classes), positives(scores, part.truth, classes)
    yield from _rows((variant, name, DECISION), score, positive, part.unit)
    for i, label in enumerate(classes.labels):
        of = (variant, name, f"class:{label}")
        yield from _rows(of, scores.probabilities[:, i], part.truth == i)
    for group in classes.group_names:
        members = classes.members(group)
        of = (variant, name, f"group:{group}")
        yield from _rows(of, _sum_of(scores, members), members[part.truth])


def _rows(
    of: tuple[str, str, str],
    score: NDArray[Any],
    positive: NDArray[np.bool_],
    unit: NDArray[np.int64] | None = None,
) -> Iterator[dict[str, object]]:
    """unit: wanted with a band and every point."""
    curve, precision = roc(score, positive), precision_recall(score, positive)
    if curve is None or precision is None:
        return
    on_hull = set(hull(curve, positive).threshold.tolist())
    points: list[int] = list(range(len(curve.threshold))) if unit is not None else _turns(curve)
    around = None
    if unit is not None:
        # The band is exact for independent photos: of each unit one.
        _, first = np.unique(unit, return_index=True)
        around = band(score[first], positive[first], curve.fpr)
    for i in points:
        threshold = float(curve.threshold[i])
        values = (
            threshold, float(curve.fpr[i]), float(curve.tpr[i]), float(precision.precision[i])
        )  # fmt: skip
        sides = ("", "")
        if around is not None:
            sides = (repr(float(around.low[i])), repr(float(around.high[i])))
        row = (*of, *map(repr, values), "yes" if threshold in on_hull else "no", *sides)
        yield dict(zip(ROC_COLUMNS, row, strict=True))


def _turns(curve: Roc) -> list[int]:
    """Where a curve turns: the points between, on straight lines, say no more."""
    straight = np.zeros(len(curve.threshold), dtype=np.bool_)
    for rate in (curve.fpr, curve.tpr):
        straight[1:-1] |= rate[:-2] == rate[2:]
    return np.flatnonzero(~straight).tolist()


def abstain_rows(part: str, photos: Seen, threshold_q: int) -> Iterator[dict[str, object]]:
    """Rows of ABSTAIN_COLUMNS: what each cut of each measure does below this threshold."""
    reached = photos.score >= threshold_q
    for by in get_args(By):
        sure = photos.sureness(threshold_q, by)
        curve = abstain_curve(sure, reached, photos.positive)
        for cut, answered, missed in zip(curve.cut, curve.answered, curve.missed, strict=True):
            row = (part, by, cut, answered, missed, len(sure), int(photos.positive.sum()))
            yield dict(zip(ABSTAIN_COLUMNS, row, strict=True))


def counts(photos: Seen, decision: Decision) -> dict[str, int]:
    """What the decision does on photos, in numbers of photos, whatever its purpose.

    With groups: harmful ones caught, missed (called harmless) and "not sure", harmless ones passed,
    false alarms and "not sure". Without: answers given that are right and wrong, and right and
    wrong ones held back as "not sure".
    """
    held = not_sure(photos.quanta, photos.classes, _real(decision))
    reached, positive = photos.score >= decision.threshold_q, photos.positive
    found = tally(reached, held, positive)
    if decision.group is not None:
        return {
            "n": found.n,
            "caught": found.caught,
            "missed": found.missed,
            "harmful_not_sure": found.harmful_not_sure,
            "false_alarms": found.false_alarms,
            "passed": found.passed,
            "harmless_not_sure": found.harmless_not_sure,
        }
    return {
        "n": len(positive),
        "right": int((positive & reached).sum()),
        "right_not_sure": int((positive & ~reached).sum()),
        "wrong": int((~positive & reached).sum()),
        "wrong_not_sure": int((~positive & ~reached).sum()),
    }


def answer_rate(photos: Seen, decision: Decision) -> float:
    """Share of photos that get a verdict, whatever the decision's purpose."""
    return float((~not_sure(photos.quanta, photos.classes, _real(decision))).mean())


def missed_units(families: Sequence[Seen], decision: Decision) -> tuple[int, int]:
    """How many harmful units of photos are called harmless, in any photo by any kernel family, and
    how many there are. families: the same photos, with a harmful group."""
    first = families[0]
    wrong = np.zeros(len(first.unit), dtype=np.bool_)
    for each in families:
        held = not_sure(each.quanta, each.classes, _real(decision))
        wrong |= (each.score < decision.threshold_q) & ~held
    harmful = first.positive
    return len(np.unique(first.unit[harmful & wrong])), len(np.unique(first.unit[harmful]))


def _real(decision: Decision) -> Decision:
    """A demo is not sure of anything harmless, which says nothing of the rule."""
    return replace(decision, purpose="real")


def calibration(
    models: Mapping[str, Scores], truth: NDArray[np.int64], temperature: float | None
) -> Record:
    """ECE, Brier score and the bins of a reliability diagram of each model; of the float model
    also before its temperature. models: `float` and others by name. temperature: None where
    nothing was trained."""
    probabilities = {name: scores.probabilities for name, scores in models.items()}
    if temperature is not None:
        before = untempered(probabilities["float"], temperature)
        probabilities = {"float before temperature": before, **probabilities}
    return {
        "temperature": temperature,
        "variants": {name: _calibrated(p, truth) for name, p in probabilities.items()},
    }


def _calibrated(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> Record:
    bins = reliability(probabilities, truth)
    return {
        "ece": calibration_error(probabilities, truth),
        "brier": brier(probabilities, truth),
        "bins": {
            key: getattr(bins, key).tolist()
            for key in ("confidence", "accuracy", "low", "high", "photos")
        },
    }


def said_of_others(scores: Scores, classes: Classes, decision: Decision) -> dict[str, int]:
    """How many images of other things get which verdict, whatever the decision's purpose."""
    held = not_sure(scores.as_quanta, classes, _real(decision))
    if classes.harmful is None:
        return {"not_sure": int(held.sum()), "answered": int((~held).sum())}
    reached = decision_score(scores.as_quanta, classes) >= decision.threshold_q
    return {
        "not_sure": int(held.sum()),
        "harmful": int(reached.sum()),
        "harmless": int((~reached & ~held).sum()),
    }


def separations(
    inside: Scores,
    outside: Scores,
    classes: Classes,
    logits: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
) -> dict[str, float | None]:
    """How well each measure tells test photos from images of other things: the AUC. logits: of the
    float model, inside and outside; None where it has none."""
    found: dict[str, float | None] = {}
    for by in ("largest", "margin"):  # by score, what is far from the threshold is no more known
        found[by] = separation(
            *(sureness(each.as_quanta, classes, 0, by) for each in (inside, outside))
        )
    for name, measure in (("energy", energy), ("max_logit", max_logit)):
        found[name] = None if logits is None else separation(*map(measure, logits))
    return found
