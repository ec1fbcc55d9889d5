"""Which int8 candidate ships: the one that answers most like the float model on validation."""

from __future__ import annotations

from pathlib import Path

from mobileclf.config import Settings
from mobileclf.errors import DataError
from mobileclf.records import Record, read_json
from mobileclf.run import Stage
from mobileclf.scores import FLOAT, read_part, read_scores
from mobileclf.stats.closeness import closeness

PART = "validation"
RULE = "highest agreement with float on validation, then lowest mean KL, then first by name"


def _work(folder: Path, settings: Settings) -> Record:
    variants = read_json(folder / "metrics.json")["variants"]
    names = {
        variant["candidate"]: name
        for name, variant in variants.items()
        if variant["kind"] == "int8" and variant["kernels"] == "xnnpack"
    }
    if not names:
        raise DataError(
            f"{folder / 'metrics.json'}: wanted int8 candidates scored with XNNPACK kernels, "
            "found none; run convert and score"
        )
    truth = read_part(folder, PART).truth
    reference = read_scores(folder, FLOAT, PART)
    candidates: list[Record] = []
    for candidate, variant in sorted(names.items()):
        scores = read_scores(folder, variant, PART)
        candidates.append(
            {
                "candidate": candidate,
                "accuracy": float((scores.answers == truth).mean()),
                **closeness(reference, scores),
            }
        )
    best = min(candidates, key=lambda row: (-row["agreement"], row["kl"], row["candidate"]))
    return {
        "part": PART,
        "n": len(truth),
        "float": {"accuracy": float((reference.answers == truth).mean())},
        "rule": RULE,
        "selected": best["candidate"],
        "candidates": candidates,
        "outputs": [],
    }


STAGE = Stage(
    name="select",
    record="selection.json",
    # metrics.json holds the sha256 of every score file, so it stands for them all.
    reads=("dataset.csv", "dataset.json", "metrics.json"),
    settings=(),
    work=_work,
)
