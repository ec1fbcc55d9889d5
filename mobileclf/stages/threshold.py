"""The operating point: chosen on the part `threshold`, which nothing else has seen, with the
scores of the int8 model that ships; reported on `test`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mobileclf import characteristics, policy, progress
from mobileclf.decision import Classes, Decision, classes_for, most_score
from mobileclf.errors import DataError, ProofError
from mobileclf.others import OTHERS
from mobileclf.policy import BUILTIN, CHOSEN_ON, TUNED_ON, XNNPACK, Rule, Seen
from mobileclf.records import Record, read_json, write_bytes, write_csv
from mobileclf.report import curves
from mobileclf.report.figures import written
from mobileclf.run import Stage
from mobileclf.scores import (
    FLOAT,
    LOGITS,
    Part,
    Scores,
    read_array,
    read_harmful,
    read_labels,
    read_part,
    read_scores,
)
from mobileclf.settings import Settings
from mobileclf.spelling import costs_of
from mobileclf.stats.exact import lower_bound

REPORTED_ON = "test"
PARTS = (TUNED_ON, CHOSEN_ON, REPORTED_ON)
ROC_FILE, ABSTAIN_FILE = "roc.csv", "abstain.csv"
INT8 = "int8"
LITTLE = 0.5  # share of harmful photos with a warning, under which it is said
# What is asked for beside the name of a policy, and its costs.
ASKED = {
    "fix-tpr": ("tpr",),
    "fix-fpr": ("fpr",),
    "guarantee": ("most_missed", "confidence"),
}


Key = tuple[str, str]  # a model and a part


def _work(folder: Path, settings: Settings) -> Record:
    candidate = read_json(folder / "selection.json")["selected"]
    labels, groups = read_labels(folder)
    classes = classes_for(labels, groups, read_harmful(folder, settings))
    advice = policy.check(settings, classes)
    variants = {
        FLOAT: FLOAT, INT8: f"{candidate}.{XNNPACK}", BUILTIN: f"{candidate}.{BUILTIN}",
    }  # fmt: skip
    parts = {part: read_part(folder, part) for part in PARTS}
    scores = {
        (name, part): _aligned(read_scores(folder, variant, part), parts[part], variant)
        for name, variant in variants.items()
        for part in PARTS
        if name != BUILTIN or part != TUNED_ON
    }
    seen = {key: policy.seen(one, parts[key[1]], classes) for key, one in scores.items()}
    shipped = policy.choose(
        settings,
        {XNNPACK: seen[INT8, CHOSEN_ON], BUILTIN: seen[BUILTIN, CHOSEN_ON]},
        seen[INT8, TUNED_ON],
    )
    _check_expressible(shipped, classes)
    of_float, refused = _of_float(settings, seen, shipped)
    bound = kernel_bound(seen)
    decisions = {
        name: Decision(
            group=classes.harmful,
            threshold_q=each.point.threshold_q,
            abstain=each.abstain,
            kernel_bound=bound,
            purpose=settings.purpose,
        )
        for name, each in {FLOAT: of_float, INT8: shipped, BUILTIN: shipped}.items()
    }
    answered = {
        part: characteristics.answer_rate(seen[INT8, part], decisions[INT8]) for part in PARTS
    }
    families = [seen[INT8, REPORTED_ON], seen[BUILTIN, REPORTED_ON]]
    promise = _promise(shipped, families, decisions[INT8])
    told = (advice, refused, *_warnings(settings, shipped, answered), _broken(promise))
    warnings = [line for line in told if line]
    for line in warnings:
        progress.warn(line)
    rows, abstain_rows = _curves(scores, parts, seen, classes, shipped)
    tables: dict[str, tuple[tuple[str, ...], list[dict[str, object]]]] = {
        ROC_FILE: (characteristics.ROC_COLUMNS, rows)
    }
    if classes.harmful is not None:
        tables[ABSTAIN_FILE] = (characteristics.ABSTAIN_COLUMNS, abstain_rows)
    body = {
        "candidate": candidate,
        "rule": "minimum confidence" if classes.harmful is None else "group",
        "policy": _asked(settings),
        "chosen_on": CHOSEN_ON,
        "classes": classes.as_record(),
        "purpose": settings.purpose,
        "decision": decisions[INT8].as_record(),
        "operating_point": {
            name: {
                **asdict(each.point),
                "threshold": decisions[name].as_record()["threshold"],
                "abstain": decisions[name].as_record()["abstain"],
            }
            for name, each in ((FLOAT, of_float), (INT8, shipped))
        },
        "guarantee": promise,
        "abstain": _abstain(shipped, settings, answered),
        **_figures(scores, parts, classes),
        REPORTED_ON: {
            name: characteristics.counts(seen[name, REPORTED_ON], decision)
            for name, decision in decisions.items()
        },
        "calibration": {
            "part": REPORTED_ON,
            **characteristics.calibration(
                {name: scores[name, REPORTED_ON] for name in (FLOAT, INT8)},
                parts[REPORTED_ON].truth,
                read_json(folder / "train.json").get("temperature"),
            ),
        },
        "others": _others(folder, variants, scores[INT8, REPORTED_ON], classes, decisions),
        "warnings": warnings,
    }
    pictures = curves.drawings(body, rows, abstain_rows)
    for name, (columns, lines) in tables.items():
        write_csv(folder / name, columns, lines)
    for name, draw in pictures.items():
        write_bytes(folder / name, written(draw, "png"))
    return {**body, "outputs": [*tables, *pictures]}


def _of_float(
    settings: Settings, seen: Mapping[Key, Seen], shipped: Rule
) -> tuple[Rule, str | None]:
    """The rule that the float model would get. Where it gets none the shipped one stands in for
    it, with a warning: it does not ship, and must not stop what does."""
    own = seen[FLOAT, CHOSEN_ON]
    try:
        return policy.choose(settings, {FLOAT: own}, seen[FLOAT, TUNED_ON]), None
    except ProofError as error:
        return (
            replace(shipped, promise=None, kernels=()),
            f"the float model has no threshold of its own ({error}); int8's stands in for it",
        )


def _curves(
    scores: Mapping[Key, Scores],
    parts: Mapping[str, Part],
    seen: Mapping[Key, Seen],
    classes: Classes,
    shipped: Rule,
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of ROC_FILE and of ABSTAIN_FILE, these only with groups."""
    told = (CHOSEN_ON, REPORTED_ON)
    rows = [
        row
        for name in (FLOAT, INT8)
        for part in told
        for row in characteristics.roc_rows(name, part, scores[name, part], parts[part], classes)
    ]
    if classes.harmful is None:
        return rows, []
    threshold_q = shipped.point.threshold_q
    return rows, [
        row
        for part in told
        for row in characteristics.abstain_rows(part, seen[INT8, part], threshold_q)
    ]


def _figures(scores: Mapping[Key, Scores], parts: Mapping[str, Part], classes: Classes) -> Record:
    """What is said of the scores whatever the threshold: by figure, model and part."""
    found = {
        name: {
            part: characteristics.areas(scores[name, part], parts[part], classes)
            for part in (CHOSEN_ON, REPORTED_ON)
        }
        for name in (FLOAT, INT8)
    }
    return {
        figure: {
            name: {part: one[figure] for part, one in by_part.items()}
            for name, by_part in found.items()
        }
        for figure in ("auc", "intervals", "average_precision", "one_against_rest", "groups")
    }


def kernel_bound(seen: Mapping[Key, Seen]) -> int:
    """Largest difference of the score, in quanta, between the two kernel families, over the
    threshold and test photos."""
    return max(
        int(np.abs(seen[INT8, part].score - seen[BUILTIN, part].score).max())
        for part in (CHOSEN_ON, REPORTED_ON)
    )


def _check_expressible(rule: Rule, classes: Classes) -> None:
    """Raises ProofError for a threshold that the outputs of the model cannot reach."""
    most = most_score(classes)
    if rule.point.threshold_q > most:
        raise ProofError(
            f"threshold: wanted one that the quantized outputs can reach, found "
            f"{rule.point.threshold_q} where their score is at most {most}; ask for a higher "
            "--answer-rate, choose another --policy, or train longer"
        )


def _warnings(settings: Settings, rule: Rule, answered: Mapping[str, float]) -> Iterator[str]:
    if rule.point.warning:
        yield rule.point.warning
    if rule.promise is not None and rule.kernels == (XNNPACK,):
        yield (
            "guarantee: it holds with XNNPACK's kernels alone, not with the built-in ones; an app "
            "that meets others must not rely on it"
        )
    wanted, found = settings.answer_rate, answered[CHOSEN_ON]
    if wanted is not None and found < wanted:
        yield (
            f"--answer-rate {wanted:g}: it was met on {rule.tuned_on} photos before the threshold "
            f"was known; with it {found:.1%} of the {CHOSEN_ON} photos are answered"
        )
    if rule.abstain is not None and rule.point.tpr < LITTLE:
        yield (
            f"only {rule.point.tpr:.1%} of harmful {CHOSEN_ON} photos are called harmful, of the "
            "others it is not sure; ask for a higher --answer-rate if people should be warned"
        )


def _asked(settings: Settings) -> Record:
    """The policy with what was asked of it; costs only as far as they bear on it."""
    values: Record = {key: getattr(settings, key) for key in ASKED.get(settings.policy, ())}
    if settings.policy == "min-cost":
        costs = costs_of(settings.costs)
        values["costs"] = {"missed": costs.missed, "false_alarm": costs.false_alarm}
    return {"name": settings.policy, **values}


def _promise(rule: Rule, families: list[Seen], decision: Decision) -> Record | None:
    """The promise, and beside it what became of it on test photos, on the kernels it holds on:
    missed of the harmful ones, and the exact lower bound of that share."""
    if rule.promise is None:
        return None
    kept = asdict(rule.promise)
    del kept["warning"]  # among the warnings
    missed, harmful = characteristics.missed_units(families[: len(rule.kernels)], decision)
    low = lower_bound(missed, max(harmful, 1), confidence=rule.promise.confidence)
    reported = {"harmful": harmful, "missed": missed, "at_least": float(low)}
    return {**kept, "kernels": list(rule.kernels), REPORTED_ON: reported}


def _broken(promise: Record | None) -> str | None:
    if promise is None or promise[REPORTED_ON]["at_least"] <= promise["most"]:
        return None
    found = promise[REPORTED_ON]
    return (
        f"guarantee: {found['missed']} of {found['harmful']} harmful {REPORTED_ON} photos are "
        f"called harmless, which shows more than the {promise['most']:g} promised: either the one "
        f"draw in {1 / (1 - promise['confidence']):.0f}, or {CHOSEN_ON} and {REPORTED_ON} photos "
        "are not alike; look at how they were taken"
    )


def _abstain(rule: Rule, settings: Settings, answered: Mapping[str, float]) -> Record | None:
    if settings.abstain == "none":
        return None
    wanted: Record = (
        {"costs": asdict(costs_of(settings.costs))}
        if settings.answer_rate is None
        else {"answer_rate": settings.answer_rate}
    )
    return {
        "by": settings.abstain,
        "cut_q": None if rule.abstain is None else rule.abstain.cut_q,
        "chosen_on": rule.tuned_on,
        "wanted": wanted,
        "answered": dict(answered),
    }


def _others(
    folder: Path,
    variants: Mapping[str, str],
    inside: Scores,
    classes: Classes,
    decisions: Mapping[str, Decision],
) -> Record | None:
    """What each model says of images of other things, where some were scored."""
    there = read_json(folder / "metrics.json").get("others")
    if there is None:
        return None
    outside = {name: read_scores(folder, variant, OTHERS) for name, variant in variants.items()}
    logits: Any = None
    if there["logits"]:
        logits = tuple(read_array(folder, LOGITS, part) for part in (REPORTED_ON, OTHERS))
    return {
        "images": there["images"],
        **{
            name: characteristics.said_of_others(one, classes, decisions[name])
            for name, one in outside.items()
        },
        "separation": characteristics.separations(inside, outside[INT8], classes, logits),
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
    reads=("dataset.csv", "dataset.json", "train.json", "metrics.json", "selection.json"),
    settings=(
        "harmful", "policy", "tpr", "fpr", "most_missed", "confidence", "abstain", "answer_rate",
        "costs",
    ),
    # The data's path does not matter, only whether it is the drawn sample.
    outside=lambda settings: {"purpose": settings.purpose},
    packages=("scikit-learn", "scipy", "matplotlib"),
    work=_work,
    schema=2,
)  # fmt: skip
