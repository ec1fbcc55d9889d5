"""The gate: on `test`, does what ships answer like the model that was trained, and did that
model learn anything? The record is written whatever comes of it; `check` then fails the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.comparison import Ground, compare, ground
from mobileclf.errors import DataError, ProofError
from mobileclf.gate.of_run import of_run, outside
from mobileclf.importing.from_tflite import FILE as GIVEN
from mobileclf.records import Record, read_json
from mobileclf.run import Stage
from mobileclf.scores import FLOAT, Scores, read_part, read_scores
from mobileclf.settings import Settings
from mobileclf.stats.closeness import wrong_sums
from mobileclf.stats.paired import LEVEL, beats_majority
from mobileclf.tflite import oldest
from mobileclf.wording import counted

PART = "test"
LEARNT_P = 0.001
SHIPPED = "xnnpack"
# The name in the record, beside the ending of the variant's name.
OTHERS = (("builtin", "builtin"), ("oldest_runtime", "tflite-runtime"))
# Gates on what the models answer, by the start of their names. Where one fails, it is looked for
# in the files; a model that has learnt nothing has no such place.
ON_ANSWERS = ("accuracy_drop", "harmful_missed", "probabilities", "identical")


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


def check(record: Record, *, require_proof: bool) -> None:
    """Raises ProofError, in one line, when a gate of the record failed.

    With `require_proof` also where accuracy, or harmful photos, of any kernel family is not
    "proven".
    """
    failed = [row for row in record["gates"] if not row["passed"]]
    if failed:
        raise ProofError(
            "parity: "
            + "; ".join(
                f"{row['gate']}: wanted {row['wanted']}, found {row['found']}" for row in failed
            )
            + ("; parity.json says where it comes from" if record["where"] else "")
        )
    if require_proof and (open_ones := list(_unproven(record))):
        raise ProofError(
            f"parity: wanted proof of all (--require-proof), found {'; '.join(open_ones)}"
        )


def _unproven(record: Record) -> Iterator[str]:
    """Of each kernel family that was scored: what is not proven, and what it would take."""
    for name in (SHIPPED, *(name for name, _ in OTHERS if name in record)):
        figures = record if name == SHIPPED else record[name]
        sorts = [("accuracy", figures, record["max_drop"])]
        if record["harmful_to_harmless"] is not None:  # there is a harmful group
            sorts.append(("harmful photos", figures["harmful"], record["max_missed"]))
        for what, found, limit in sorts:
            if found is None:
                yield f"{what} on {name} not shown: there is none"
            elif found["verdict"] != "proven":
                low, high = found["interval"]
                n = found["photos"] if "photos" in found else record["n"]
                yield (
                    f"{what} on {name} {found['verdict']} within {limit} "
                    f"({low:+.4f} to {high:+.4f} on {_photos(found, n)}; {_needed(found)})"
                )


def advice(record: Record) -> str:
    """The verdict in words, with how many test photos a proof would take where it is not shown."""
    verdict, low = record["verdict"], record["interval"][0]
    text = (
        f"{verdict}: accuracy changes by {record['difference']:+.4f} "
        f"({LEVEL:.0%} interval {low:+.4f} to {record['interval'][1]:+.4f}) "
        f"on {_photos(record, record['n'])}, wanted no drop over {record['max_drop']}"
    )
    return text if verdict != "not shown" else f"{text}; {_needed(record)}"


def _photos(figures: Record, n: int) -> str:
    """Photos that are copies, or of one specimen, count as one."""
    units = figures["units"]
    return counted(n, "photo") + (f" of {counted(units, 'specimen')}" if units < n else "")


def _needed(figures: Record) -> str:
    needed = figures["photos_to_prove"]
    if needed is None:
        return "the drop seen is itself at or over that, more photos would not prove it"
    return f"with the same answers it would take {needed} independent test photos"


def _drop_gates(name: str, figures: Record, on: Ground) -> list[Record]:
    """On accuracy, and where there are harmful photos on how many of them are kept from harmless.

    Two gates, since harmful photos may be few: what is lost on them is little of the accuracy.
    """
    gates = [_paired_gate(f"accuracy_drop_{name}", "accuracy", figures, on.max_drop)]
    if found := figures["harmful"]:
        what = "the share of harmful photos not called harmless"
        gates.append(_paired_gate(f"harmful_missed_{name}", what, found, on.max_missed))
    return gates


def _paired_gate(gate: str, what: str, figures: Record, limit: float) -> Record:
    low, high = figures["interval"]
    return {
        "gate": gate,
        "passed": figures["verdict"] != "worse",
        "wanted": f"a drop of {what} not shown to be over {limit}",
        "found": f"{figures['verdict']}, change {figures['difference']:+.4f} "
        f"({low:+.4f} to {high:+.4f})",
    }


def _sum_gate(name: str, scores: Scores) -> Record:
    wrong, sums = wrong_sums(scores), scores.probabilities.sum(axis=1)
    found = f"{int(wrong.sum())} of {len(wrong)} photos with others"
    if wrong.any():
        found += f": sums of {np.min(sums[wrong]):.4g} to {np.max(sums[wrong]):.4g}"
    return {
        "gate": f"probabilities_{name}",
        "passed": not wrong.any(),
        "wanted": "outputs that add up to 1 but for rounding, as a softmax's do",
        "found": found,
    }


def _identity_gates(checks: Sequence[dict[str, Any]]) -> list[Record]:
    return [
        {
            "gate": f"identical: {one['what']}",
            "passed": one["passed"],
            # Of whole numbers the same bytes, of floating point a bound.
            "wanted": f"a difference of at most {one.get('bound', 0):g}",
            "found": f"largest difference {one['largest_difference']}",
        }
        for one in checks
    ]


def _runtime_gates(folder: Path, candidate: str, min_runtime: str | None) -> list[Record]:
    """Whether the oldest runtime that is asked for can load what ships, none where none is."""
    if min_runtime is None:
        return []
    converted = read_json(folder / "convert.json")["candidates"]
    (file,) = (entry["file"] for entry in converted if entry["candidate"] == candidate)
    gate = {"gate": "min_runtime", "wanted": f"operators that TensorFlow Lite {min_runtime} has"}
    try:
        found = oldest.check((folder / file).read_bytes(), min_runtime)
    except oldest.TooNew as error:
        return [{**gate, "passed": False, "found": error.found}]
    loaded = f", loaded by {found['loaded_by']}" if found["loaded_by"] else ""
    return [{**gate, "passed": True, "found": f"those of {found['needs']}{loaded}"}]


def _work(folder: Path, settings: Settings) -> Record:
    metrics = read_json(folder / "metrics.json")
    candidate = read_json(folder / "selection.json")["selected"]
    threshold = read_json(folder / "threshold.json")
    on = ground(
        read_part(folder, PART),
        threshold,
        max_drop=settings.max_drop,
        max_missed=settings.max_missed,
    )
    reference = read_scores(folder, FLOAT, PART)
    if len(reference.probabilities) != len(on.part):
        raise DataError(
            f"scores of {FLOAT}: wanted {len(on.part)} photos, found "
            f"{len(reference.probabilities)}; run score again"
        )
    scored = {
        name: read_scores(folder, f"{candidate}.{ending}", PART)
        for name, ending in ((SHIPPED, SHIPPED), *OTHERS)
        # Both kernel families are always scored; the oldest runtime only where it is installed.
        if ending in (SHIPPED, "builtin") or f"{candidate}.{ending}" in metrics["variants"]
    }
    figures = {name: compare(reference, scores, on) for name, scores in scored.items()}
    # A .tflite that was given has a grid of its own; its sums were checked when it was read.
    given = metrics["variants"][FLOAT].get("file") == GIVEN
    gates = [
        *(gate for name, found in figures.items() for gate in _drop_gates(name, found, on)),
        *(_sum_gate(name, one) for name, one in {FLOAT: reference, **scored}.items() if not given),
        *learnt(reference, on.part.truth, on.classes.labels),
        *_identity_gates(metrics["identical"]),
        *_runtime_gates(folder, candidate, settings.min_runtime),
    ]
    shipped = figures.pop(SHIPPED)
    record = {
        "split": PART,
        "n": len(on.part),
        "candidate": candidate,
        "max_drop": on.max_drop,
        "max_missed": on.max_missed,
        "float": {"accuracy": float((reference.answers == on.part.truth).mean())},
        "int8": {"accuracy": shipped.pop("accuracy")},
        **shipped,
        **figures,
        "decision": {**threshold["decision"], "purpose": threshold["purpose"]},
        "gates": gates,
        "where": None,
        "outputs": [],
    }
    if any(not one["passed"] and one["gate"].startswith(ON_ANSWERS) for one in gates):
        record["where"] = where(record, settings)
    record["baseline"] = of_run(folder, settings, record)
    if record["baseline"] is not None:
        record["gates"] += record["baseline"]["gates"]
    return record


def where(record: Record, settings: Settings) -> Record:
    """Where a difference comes from: `layers.where` of the photos that changed. record: the body
    of parity.json. Never raises: what it cannot tell is said in it."""
    from mobileclf.layers.where import where as looked_for

    return looked_for(record, settings)


STAGE = Stage(
    name="parity",
    record="parity.json",
    reads=(
        "dataset.csv", "dataset.json", "convert.json", "metrics.json", "selection.json",
        "threshold.json",
    ),
    # Not require_proof: it changes what `check` makes of the record, not the record.
    settings=("max_drop", "max_missed", "min_runtime"),
    work=_work,
    outside=outside,
    schema=3,
)  # fmt: skip
