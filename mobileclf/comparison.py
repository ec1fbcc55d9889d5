"""Two models' answers on the same photos, side by side: what parity.json says of each int8 variant.

Everything is taken from scores, so it needs no model. `reference` is the float model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.decision import (
    NOT_SURE,
    QUANTA,
    Classes,
    Decision,
    decision_score,
    verdicts,
)
from mobileclf.records import Record
from mobileclf.scores import Part, Scores
from mobileclf.stats.auc_difference import auc_difference
from mobileclf.stats.calibration import calibration_error
from mobileclf.stats.closeness import closeness
from mobileclf.stats.paired import (
    bootstrap,
    count_pairs,
    holm,
    mcnemar,
    newcombe,
    outcome,
    photos_to_prove,
)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What both models are held against: the photos, the classes, and the rules that apply.

    shipped: the decision of the bundle. own: the decisions chosen for "float" and for "int8", each
    on its own scores. As of a real bundle, whatever the purpose is: a demo calls no photo harmless,
    and nothing could be seen. max_drop, max_missed: of accuracy, and of harmful photos caught.
    """

    part: Part
    classes: Classes
    shipped: Decision
    own: Mapping[str, Decision]
    max_drop: float
    max_missed: float


def ground(
    part: Part, threshold: Mapping[str, Any], *, max_drop: float, max_missed: float
) -> Ground:
    """From the body of threshold.json. Raises DataError when it holds no decision."""
    classes = Classes.from_record(threshold["classes"])
    shipped = Decision.from_record(threshold["decision"], purpose="real")
    own = {}
    for name, point in threshold["operating_point"].items():
        at = point["threshold_q"]
        rule = {"threshold_q": at, "threshold": at / QUANTA, "abstain": point.get("abstain")}
        own[name] = Decision.from_record({**shipped.as_record(), **rule}, purpose="real")
    return Ground(
        part=part, classes=classes, shipped=shipped, own=own, max_drop=max_drop,
        max_missed=max_missed,
    )  # fmt: skip


def compare(reference: Scores, other: Scores, on: Ground) -> Record:
    """The figures of one int8 variant against float on the same photos.

    accuracy; agreement, kl and largest_change as in `closeness`, and mean_change, the mean
    difference of all probabilities; what `paired` says of right answers; ece: calibration error of
    both; classes: right answers lost and won of each; auc: of the decision's score; harmful,
    harmful_to_harmless and decisions as said there; changed: photos with another answer.

    Raises DataError when the two are not of the same photos and labels.
    """
    near = closeness(reference, other)
    truth = on.part.truth
    first, second = reference.answers == truth, other.answers == truth
    return {
        "accuracy": float(second.mean()),
        **near,
        "mean_change": float(np.abs(reference.probabilities - other.probabilities).mean()),
        **paired(first, second, on.part.unit, on.max_drop),
        "ece": {
            "float": calibration_error(reference.probabilities, truth),
            "int8": calibration_error(other.probabilities, truth),
        },
        "classes": by_class(first, second, on),
        "auc": areas(reference, other, on),
        "harmful": harmful(reference, other, on),
        "harmful_to_harmless": harmful_to_harmless(reference, other, on),
        "decisions": decisions(reference, other, on),
        "changed": changed_photos(reference, other, on),
    }


def paired(
    first: NDArray[np.bool_], second: NDArray[np.bool_], unit: NDArray[np.int64], limit: float
) -> Record:
    """What the photos show about a drop of at most `limit`. first, second: bool (n,), right; unit:
    int64 (n,), as in `Part`.

    lost, won: photos that only float, only int8 gets right. All else counts each of the `units`
    one: difference and its `interval`, by Newcombe, with the bootstrap's beside it; mcnemar_p;
    verdict; photos_to_prove, each of a unit of its own: None where no number would do.
    """
    photos, pairs = count_pairs(first, second), count_pairs(first, second, unit)
    return {
        "lost": photos.lost,
        "won": photos.won,
        "units": round(pairs.n),
        "difference": pairs.difference,
        "interval": list(newcombe(pairs)),
        "bootstrap": list(bootstrap(pairs)),
        "mcnemar_p": mcnemar(pairs),
        "verdict": outcome(pairs, limit),
        "photos_to_prove": photos_to_prove(pairs, limit),
    }


def by_class(first: NDArray[np.bool_], second: NDArray[np.bool_], on: Ground) -> list[Record]:
    """Of each label with photos: answers lost and won among them, McNemar's p by units, and that p
    after Holm's correction for as many tests as there are such labels. first, second: bool (n,).
    """
    rows: list[Record] = []
    for i, label in enumerate(on.classes.labels):
        own = on.part.truth == i
        if own.any():
            photos = count_pairs(first[own], second[own])
            pairs = count_pairs(first[own], second[own], on.part.unit[own])
            rows.append({"label": label, "photos": photos.n, "units": round(pairs.n),
                         "lost": photos.lost, "won": photos.won, "p": mcnemar(pairs)})  # fmt: skip
    corrected = holm([row["p"] for row in rows])
    return [{**row, "p_holm": p} for row, p in zip(rows, corrected, strict=True)]


def areas(reference: Scores, other: Scores, on: Ground) -> Record | None:
    """AUC of the harmful group's score, and the change of it; None without harmful and harmless
    photos. Without groups there is no such area: what a right answer is differs between the two.
    """
    if on.classes.harmful is None:
        return None
    kind = on.classes.members(on.classes.harmful)
    found = auc_difference(
        # Unrounded: float's own order of the photos counts.
        reference.probabilities[:, kind].sum(axis=1),
        other.probabilities[:, kind].sum(axis=1),
        kind[on.part.truth],
        unit=on.part.unit,
    )
    if found is None:
        return None
    return {
        "float": found.first,
        "int8": found.second,
        "difference": found.difference,
        "interval": [found.low, found.high],
        "p": found.p,
    }


def harmful(reference: Scores, other: Scores, on: Ground) -> Record | None:
    """Photos that truly are harmful, and whether each model keeps from calling them harmless.

    Both by the shipped decision, which is the same rule for both: at thresholds of their own, what
    differs would be the thresholds' luck as much as the models. "Not sure" is not harmless. photos:
    how many; float, int8: share not called harmless; then as in `paired`, of those. None without
    a harmful group or photos of it.
    """
    if on.classes.harmful is None:
        return None
    own = on.classes.members(on.classes.harmful)[on.part.truth]
    if not own.any():
        return None
    first, second = (
        ~_is_harmless(scores, on.classes, on.shipped)[own] for scores in (reference, other)
    )
    return {
        "photos": int(own.sum()),
        "float": float(first.mean()),
        "int8": float(second.mean()),
        **paired(first, second, on.part.unit[own], on.max_missed),
    }


def harmful_to_harmless(reference: Scores, other: Scores, on: Ground) -> list[str] | None:
    """Paths of photos that float calls harmful and int8 harmless, whatever they truly are, both by
    the shipped decision. None without a harmful group."""
    return _turned(reference, other, on, on.shipped, on.shipped)


def decisions(reference: Scores, other: Scores, on: Ground) -> Record:
    """What an app would say with either model, each by the decision that was chosen for it.

    threshold_q: of either, and the change of it. changed: how many photos get another verdict, and
    `photos`, which; harmful_to_harmless: paths as above, at these decisions.
    """
    own = {"float": on.own["float"], "int8": on.own["int8"]}
    said = [
        verdicts(scores.as_quanta, on.classes, rule)
        for scores, rule in zip((reference, other), own.values(), strict=True)
    ]
    moved = [i for i, (a, b) in enumerate(zip(*said, strict=True)) if a != b]
    thresholds = {name: rule.threshold_q for name, rule in own.items()}
    return {
        "threshold_q": {**thresholds, "change": thresholds["int8"] - thresholds["float"]},
        "changed": len(moved),
        "harmful_to_harmless": _turned(reference, other, on, *own.values()),
        "photos": [
            {
                "path": on.part.paths[i],
                "truth": on.classes.labels[on.part.truth[i]],
                "float": said[0][i],
                "int8": said[1][i],
            }
            for i in moved
        ],
    }


def changed_photos(reference: Scores, other: Scores, on: Ground) -> list[Record]:
    """The photos whose largest output moved to another label, in the order of the part. Lost are
    those where float's is the truth, won those where int8's is."""
    labels, part = on.classes.labels, on.part
    return [
        {
            "path": part.paths[i],
            "truth": labels[part.truth[i]],
            "float": labels[reference.answers[i]],
            "int8": labels[other.answers[i]],
        }
        for i in np.flatnonzero(reference.answers != other.answers)
    ]


def _turned(
    reference: Scores, other: Scores, on: Ground, before: Decision, after: Decision
) -> list[str] | None:
    if on.classes.harmful is None:
        return None
    called = decision_score(reference.as_quanta, on.classes) >= before.threshold_q
    passed = _is_harmless(other, on.classes, after)
    return [on.part.paths[i] for i in np.flatnonzero(called & passed)]


def _is_harmless(scores: Scores, classes: Classes, decision: Decision) -> NDArray[np.bool_]:
    """Which photos are called harmless: neither harmful nor "not sure". bool (n,)"""
    said = verdicts(scores.as_quanta, classes, decision)
    return np.array([each not in (classes.harmful, NOT_SURE) for each in said], dtype=np.bool_)
