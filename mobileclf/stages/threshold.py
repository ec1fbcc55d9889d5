"""The operating point: chosen on the part `threshold`, which nothing else has seen, with the
scores of the int8 model that ships; reported on `test`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mobileclf import characteristics, policy, progress
from mobileclf.config import Settings
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
from mobileclf.spelling import costs_of

REPORTED_ON = "test"
PARTS = (TUNED_ON, CHOSEN_ON, REPORTED_ON)
ROC_FILE, ABSTAIN_FILE = "roc.csv", "abstain.csv"
INT8 = "int8"
# What is asked for beside the name of a policy.
ASKED = {
    "min-cost": ("costs",),
    "fix-tpr": ("tpr",),
    "fix-fpr": ("fpr",),
    "guarantee": ("most_missed", "confidence"),
}


def _work(folder: Path, settings: Settings) -> Record:
    candidate = read_json(folder / "selection.json")["selected"]
    labels, groups = read_labels(folder)
    classes = classes_for(labels, groups, read_harmful(folder, settings))
    warnings = [line for line in [policy.check(settings, classes)] if line]
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
    rule = policy.choose(
        settings,
        {XNNPACK: seen[INT8, CHOSEN_ON], BUILTIN: seen[BUILTIN, CHOSEN_ON]},
        seen[INT8, TUNED_ON],
    )
    own = policy.choose(settings, {FLOAT: seen[FLOAT, CHOSEN_ON]}, seen[FLOAT, TUNED_ON])
    rules = {FLOAT: own, INT8: rule}
    _check_expressible(rule, classes)
    bound = kernel_bound(seen)
    decisions = {
        name: Decision(
            group=classes.harmful,
            threshold_q=each.point.threshold_q,
            abstain=each.abstain,
            kernel_bound=bound,
            purpose=settings.purpose,
        )
        for name, each in {**rules, BUILTIN: rule}.items()
    }
    warnings += _warnings(rule)
    for line in warnings:
        progress.warn(line)
    rows = [
        row
        for (name, part), one in scores.items()
        if name != BUILTIN and part != TUNED_ON
        for row in characteristics.roc_rows(name, part, one, parts[part], classes)
    ]
    write_csv(folder / ROC_FILE, characteristics.ROC_COLUMNS, rows)
    outputs = [ROC_FILE]
    abstain_rows: list[dict[str, object]] = []
    if classes.harmful is not None:
        abstain_rows = [
            row
            for part in (CHOSEN_ON, REPORTED_ON)
            for row in characteristics.abstain_rows(part, seen[INT8, part], rule.point.threshold_q)
        ]
        write_csv(folder / ABSTAIN_FILE, characteristics.ABSTAIN_COLUMNS, abstain_rows)
        outputs.append(ABSTAIN_FILE)
    figures = {
        name: {
            part: characteristics.areas(scores[name, part], parts[part], classes)
            for part in (CHOSEN_ON, REPORTED_ON)
        }
        for name in (FLOAT, INT8)
    }
    body = {
        "candidate": candidate,
        "rule": "minimum confidence" if classes.harmful is None else "group",
        "policy": _asked(settings, settings.policy),
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
            for name, each in rules.items()
        },
        "guarantee": _promise(rule),
        "abstain": _abstain(rule, settings),
        "auc": _each(figures, "auc"),
        "intervals": _each(figures, "interval"),
        "average_precision": _each(figures, "average_precision"),
        "one_against_rest": _each(figures, "one_against_rest"),
        "groups": _each(figures, "groups"),
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
    for name, draw in curves.drawings(body, rows, abstain_rows).items():
        write_bytes(folder / name, written(draw, "png"))
        outputs.append(name)
    return {**body, "outputs": outputs}


def kernel_bound(seen: dict[tuple[str, str], Seen]) -> int:
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
            f"{rule.point.threshold_q} where their score is at most {most}; choose another "
            "--policy, or train longer"
        )


def _warnings(rule: Rule) -> list[str]:
    found = [rule.point.warning] if rule.point.warning else []
    if rule.promise is not None and rule.kernels == (XNNPACK,):
        found.append(
            "guarantee: it holds with XNNPACK's kernels alone, not with the built-in ones; an app "
            "that meets others must not rely on it"
        )
    return found


def _asked(settings: Settings, name: str) -> Record:
    values = {key: getattr(settings, key) for key in ASKED.get(name, ())}
    if "costs" in values:
        values["costs"] = asdict(costs_of(settings.costs))
    return {"name": name, **values}


def _promise(rule: Rule) -> Record | None:
    if rule.promise is None:
        return None
    kept = asdict(rule.promise)
    return {**{k: v for k, v in kept.items() if k not in ("rules", "warning")},
            "kernels": list(rule.kernels)}  # fmt: skip


def _abstain(rule: Rule, settings: Settings) -> Record | None:
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
    }


def _each(figures: dict[str, dict[str, Record]], key: str) -> Record:
    return {
        name: {part: one[key] for part, one in parts.items()} for name, parts in figures.items()
    }


def _others(
    folder: Path,
    variants: dict[str, str],
    inside: Scores,
    classes: Classes,
    decisions: dict[str, Decision],
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
