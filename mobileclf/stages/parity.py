"""The gate: on `test`, does what ships answer like the model that was trained, and did that
model learn anything? The record is written whatever comes of it; `check` then fails the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.config import Settings
from mobileclf.decision import Classes, Decision, decision_score, to_quanta
from mobileclf.errors import DataError, ProofError
from mobileclf.records import Record, read_json
from mobileclf.run import Stage
from mobileclf.scores import FLOAT, Part, Scores, read_part, read_scores
from mobileclf.stats.closeness import closeness
from mobileclf.stats.paired import (
    LEVEL,
    beats_majority,
    count_pairs,
    mcnemar,
    newcombe,
    outcome,
    photos_to_prove,
)

PART = "test"
LEARNT_P = 0.001
SHIPPED = "xnnpack"
# The name in the record, beside the ending of the variant's name.
OTHERS = (("builtin", "builtin"), ("oldest_runtime", "tflite-runtime"))


def learnt(scores: Scores, truth: NDArray[np.int64], labels: Sequence[str]) -> list[Record]:
    """Two gates on the float model: better than the majority class, and every class predicted.

    The first is the exact binomial test of `beats_majority` with p < LEARNT_P. Gates are as in
    parity.json: gate, passed, wanted, found.
    """
    right = scores.answers == truth
    share, p = beats_majority(right, truth)
    given = np.bincount(scores.answers, minlength=len(labels))
    never = [label for label, count in zip(labels, given, strict=True) if not count]
    return [
        {
            "gate": "learnt_something",
            "passed": p < LEARNT_P,
            "wanted": f"float accuracy above the largest class's share {share:.3f}, p < {LEARNT_P}",
            "found": f"{right.mean():.3f}, p = {p:.2g}",
        },
        {
            "gate": "every_class_predicted",
            "passed": not never,
            "wanted": "every class predicted at least once by the float model",
            "found": f"never: {', '.join(never)}" if never else f"all {len(labels)}",
        },
    ]


def compare(reference: Scores, other: Scores, truth: NDArray[np.int64], max_drop: float) -> Record:
    """The figures of one int8 variant against float on the same photos.

    accuracy; agreement, kl and largest_change as in `closeness`; lost and won: photos that only
    float, only int8 gets right; difference and its `interval` at LEVEL; mcnemar_p; verdict;
    photos_to_prove: None where no number would do.
    """
    near = closeness(reference, other)
    pairs = count_pairs(reference.answers == truth, other.answers == truth)
    return {
        "accuracy": float((other.answers == truth).mean()),
        **near,
        "lost": pairs.lost,
        "won": pairs.won,
        "difference": pairs.difference,
        "interval": list(newcombe(pairs)),
        "mcnemar_p": mcnemar(pairs),
        "verdict": outcome(pairs, max_drop),
        "photos_to_prove": photos_to_prove(pairs, max_drop),
    }


def changed_photos(
    reference: Scores, other: Scores, part: Part, labels: Sequence[str]
) -> list[Record]:
    """The photos whose largest output moved to another label, in the order of the part."""
    return [
        {
            "path": part.paths[i],
            "truth": labels[part.truth[i]],
            "float": labels[reference.answers[i]],
            "int8": labels[other.answers[i]],
        }
        for i in np.flatnonzero(reference.answers != other.answers)
    ]


def harmful_to_harmless(
    reference: Scores, other: Scores, part: Part, classes: Classes, decision: Decision
) -> list[str] | None:
    """Paths of photos that float calls harmful and int8 does not, at the shipped threshold.

    Float's outputs are rounded to quanta first. None without a harmful group.
    """
    if classes.harmful is None or other.quanta is None:
        return None
    before = decision_score(to_quanta(reference.probabilities), classes) >= decision.threshold_q
    after = decision_score(other.quanta, classes) >= decision.threshold_q
    return [part.paths[i] for i in np.flatnonzero(before & ~after)]


def check(record: Record, *, require_proof: bool) -> None:
    """Raises ProofError, in one line, when a gate of the record failed.

    With `require_proof` also when the verdict is not "proven".
    """
    failed = [row for row in record["gates"] if not row["passed"]]
    if failed:
        raise ProofError(
            "parity: "
            + "; ".join(
                f"{row['gate']}: wanted {row['wanted']}, found {row['found']}" for row in failed
            )
        )
    if require_proof and record["verdict"] != "proven":
        raise ProofError(f"parity: wanted proof (--require-proof), found {advice(record)}")


def advice(record: Record) -> str:
    """The verdict in words, with how many test photos a proof would take where it is not shown."""
    verdict, low = record["verdict"], record["interval"][0]
    text = (
        f"{verdict}: accuracy changes by {record['difference']:+.4f} "
        f"({LEVEL:.0%} interval {low:+.4f} to {record['interval'][1]:+.4f}) "
        f"on {record['n']} photos, wanted no drop over {record['max_drop']}"
    )
    if verdict != "not shown":
        return text
    needed = record["photos_to_prove"]
    if needed is None:
        return text + "; the drop seen is itself at or over that, more photos would not prove it"
    return text + f"; with the same answers it would take {needed} test photos to prove"


def _drop_gate(name: str, figures: Record, max_drop: float) -> Record:
    low, high = figures["interval"]
    return {
        "gate": f"accuracy_drop_{name}",
        "passed": figures["verdict"] != "worse",
        "wanted": f"a drop of accuracy not shown to be over {max_drop}",
        "found": f"{figures['verdict']}, change {figures['difference']:+.4f} "
        f"({low:+.4f} to {high:+.4f})",
    }


def _identity_gates(checks: Sequence[dict[str, Any]]) -> list[Record]:
    return [
        {
            "gate": f"identical: {one['what']}",
            "passed": one["passed"],
            "wanted": "passed",
            "found": f"largest difference {one['largest_difference']}",
        }
        for one in checks
    ]


def _work(folder: Path, settings: Settings) -> Record:
    metrics = read_json(folder / "metrics.json")
    candidate = read_json(folder / "selection.json")["selected"]
    threshold = read_json(folder / "threshold.json")
    classes = Classes.from_record(threshold["classes"])
    decision = Decision.from_record(threshold["decision"], purpose=threshold["purpose"])
    part = read_part(folder, PART)
    reference = read_scores(folder, FLOAT, PART)
    if len(reference.probabilities) != len(part):
        raise DataError(
            f"scores of {FLOAT}: wanted {len(part)} photos, found "
            f"{len(reference.probabilities)}; run score again"
        )
    shipped = read_scores(folder, f"{candidate}.{SHIPPED}", PART)
    figures = compare(reference, shipped, part.truth, settings.max_drop)
    others = {
        name: compare(
            reference,
            read_scores(folder, f"{candidate}.{ending}", PART),
            part.truth,
            settings.max_drop,
        )
        for name, ending in OTHERS
        # The built-in kernels are always scored; the oldest runtime only where it is installed.
        if name == "builtin" or f"{candidate}.{ending}" in metrics["variants"]
    }
    gates = [
        *(
            _drop_gate(name, found, settings.max_drop)
            for name, found in {SHIPPED: figures, **others}.items()
        ),
        *learnt(reference, part.truth, classes.labels),
        *_identity_gates(metrics["identical"]),
    ]
    return {
        "split": PART,
        "n": len(part),
        "candidate": candidate,
        "max_drop": settings.max_drop,
        "float": {"accuracy": float((reference.answers == part.truth).mean())},
        "int8": {"accuracy": figures.pop("accuracy")},
        **figures,
        **others,
        "harmful_to_harmless": harmful_to_harmless(reference, shipped, part, classes, decision),
        "changed": changed_photos(reference, shipped, part, classes.labels),
        "decision": asdict(decision),
        "gates": gates,
        "outputs": [],
    }


STAGE = Stage(
    name="parity",
    record="parity.json",
    reads=("dataset.csv", "dataset.json", "metrics.json", "selection.json", "threshold.json"),
    # Not require_proof: it changes what `check` makes of the record, not the record.
    settings=("max_drop",),
    work=_work,
)
