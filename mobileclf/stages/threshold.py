"""The operating point: chosen on the part `threshold`, which nothing else has seen, with the
scores of the int8 model that ships; reported on `test`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.decision import QUANTA, Classes, Decision, classes_for, decision_score, to_quanta
from mobileclf.errors import DataError
from mobileclf.records import Record, read_json, write_csv
from mobileclf.run import Stage
from mobileclf.scores import FLOAT, Part, Scores, read_harmful, read_labels, read_part, read_scores
from mobileclf.stats.operating_point import OperatingPoint, minimum_confidence, youden
from mobileclf.stats.roc import auc, roc

CHOSEN_ON = "threshold"
REPORTED_ON = "test"
ROC_FILE = "roc.csv"
INT8 = "int8"


def quanta_of(scores: Scores) -> NDArray[np.int64]:
    """The outputs as quanta, int64 (n, labels); those of the float model rounded to them."""
    return to_quanta(scores.probabilities) if scores.quanta is None else scores.quanta


def plain_score(scores: Scores, classes: Classes) -> NDArray[np.float64]:
    """The decision's score as a probability, float's unrounded, for the curves. float64 (n,)."""
    if scores.quanta is not None:
        return decision_score(scores.quanta, classes) / QUANTA
    chosen = scores.probabilities
    if classes.harmful is None:
        return np.asarray(chosen.max(axis=1))
    return np.asarray(chosen[:, classes.members(classes.harmful)].sum(axis=1))


def positives(scores: Scores, truth: NDArray[np.int64], classes: Classes) -> NDArray[np.bool_]:
    """What the score should be high for: harmful photos; without groups, right answers. (n,)"""
    if classes.harmful is None:
        return scores.answers == truth
    harmful: NDArray[np.bool_] = classes.members(classes.harmful)[truth]
    return harmful


def choose(scores: Scores, truth: NDArray[np.int64], classes: Classes) -> OperatingPoint:
    """The operating point by Youden's J on these photos, or the minimum confidence by it."""
    score = decision_score(quanta_of(scores), classes)
    positive = positives(scores, truth, classes)
    return (minimum_confidence if classes.harmful is None else youden)(score, positive)


def counts(
    scores: Scores, truth: NDArray[np.int64], classes: Classes, threshold_q: int
) -> dict[str, int]:
    """What a threshold does on photos, in numbers of photos.

    With groups: harmful ones caught and missed (called harmless), harmless ones passed and false
    alarms. Without: answers given that are right and wrong, and right and wrong ones held back
    as "not sure".
    """
    reached = decision_score(quanta_of(scores), classes) >= threshold_q
    positive = positives(scores, truth, classes)
    table = {
        "n": len(truth),
        "positive_reached": int((positive & reached).sum()),
        "positive_under": int((positive & ~reached).sum()),
        "negative_reached": int((~positive & reached).sum()),
        "negative_under": int((~positive & ~reached).sum()),
    }
    names = (
        ("right", "right_not_sure", "wrong", "wrong_not_sure")
        if classes.harmful is None
        else ("caught", "missed", "false_alarms", "passed")
    )
    return dict(zip(("n", *names), table.values(), strict=True))


def kernel_bound(folder: Path, candidate: str, classes: Classes) -> int:
    """Largest difference of the score, in quanta, between the two kernel families."""
    largest = 0
    for part in (CHOSEN_ON, REPORTED_ON):
        one, other = (
            decision_score(quanta_of(read_scores(folder, f"{candidate}.{kernels}", part)), classes)
            for kernels in ("xnnpack", "builtin")
        )
        largest = max(largest, int(np.abs(one - other).max()))
    return largest


def _work(folder: Path, settings: Settings) -> Record:
    candidate = read_json(folder / "selection.json")["selected"]
    labels, groups = read_labels(folder)
    classes = classes_for(labels, groups, read_harmful(folder, settings))
    variants = {FLOAT: FLOAT, INT8: f"{candidate}.xnnpack"}
    parts = {part: read_part(folder, part) for part in (CHOSEN_ON, REPORTED_ON)}
    scores = {
        (name, part): _aligned(read_scores(folder, variant, part), parts[part], variant)
        for name, variant in variants.items()
        for part in parts
    }
    points = {
        name: choose(scores[name, CHOSEN_ON], parts[CHOSEN_ON].truth, classes) for name in variants
    }
    decision = Decision(
        group=classes.harmful,
        threshold_q=points[INT8].threshold_q,
        kernel_bound=kernel_bound(folder, candidate, classes),
        purpose=settings.purpose,
    )
    warning = points[INT8].warning
    if warning:
        progress.warn(warning)
    areas: dict[str, dict[str, float | None]] = {name: {} for name in variants}
    rows: list[dict[str, object]] = []
    for (name, part), one in scores.items():
        score = plain_score(one, classes)
        positive = positives(one, parts[part].truth, classes)
        areas[name][part] = auc(score, positive)
        curve = roc(score, positive)
        if curve is not None:
            rows += [
                {
                    "variant": name,
                    "part": part,
                    "threshold": repr(float(threshold)),
                    "fpr": repr(float(fpr)),
                    "tpr": repr(float(tpr)),
                }
                for threshold, fpr, tpr in zip(curve.threshold, curve.fpr, curve.tpr, strict=True)
            ]
    write_csv(folder / ROC_FILE, ("variant", "part", "threshold", "fpr", "tpr"), rows)
    return {
        "candidate": candidate,
        "rule": "minimum confidence" if classes.harmful is None else "group",
        "chosen_on": CHOSEN_ON,
        "classes": classes.as_record(),
        "purpose": settings.purpose,
        "decision": decision.as_record(),
        "operating_point": {name: asdict(point) for name, point in points.items()},
        "auc": areas,
        REPORTED_ON: {
            name: counts(
                scores[name, REPORTED_ON],
                parts[REPORTED_ON].truth,
                classes,
                points[name].threshold_q,
            )
            for name in variants
        },
        "warnings": [warning] if warning else [],
        "outputs": [ROC_FILE],
    }


def _aligned(scores: Scores, part: Part, variant: str) -> Scores:
    if len(scores.probabilities) != len(part):
        raise DataError(
            f"scores of {variant}: wanted {len(part)} photos, found "
            f"{len(scores.probabilities)}; run score again"
        )
    return scores


STAGE = Stage(
    name="threshold",
    record="threshold.json",
    reads=("dataset.csv", "dataset.json", "metrics.json", "selection.json"),
    settings=("harmful",),
    # The data's path does not matter, only whether it is the drawn sample.
    outside=lambda settings: {"purpose": settings.purpose},
    work=_work,
)
