"""Which int8 candidate ships: the one that answers most like the float model on validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mobileclf.errors import DataError
from mobileclf.records import Record, read_json
from mobileclf.run import Stage
from mobileclf.scores import FLOAT, read_part, read_scores
from mobileclf.settings import Settings
from mobileclf.stats.closeness import closeness

PART = "validation"
RULE = (
    "of those that change at most max(1, n/200) answers of validation more than the one that "
    "changes fewest, the lowest mean KL to float, then the first by name"
)


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
                "changed": int((scores.answers != reference.answers).sum()),
                **closeness(reference, scores),
            }
        )
    best = chosen(candidates, len(truth))
    converted = {row["candidate"]: row for row in read_json(folder / "convert.json")["candidates"]}
    return {
        "part": PART,
        "n": len(truth),
        "float": {"accuracy": float((reference.answers == truth).mean())},
        "rule": RULE,
        "selected": best["candidate"],
        "float_layers": converted[best["candidate"]]["float_layers"],
        "candidates": candidates,
        "outputs": [],
    }


def chosen(candidates: Sequence[Record], photos: int) -> Record:
    """The one that ships, by RULE. candidates: with `candidate`, `changed` answers and `kl`.

    One answer more or less is chance: KL, to which every photo adds, separates them better.
    """
    fewest = min(row["changed"] for row in candidates)
    close = [row for row in candidates if row["changed"] - fewest <= max(1, photos / 200)]
    return min(close, key=lambda row: (row["kl"], row["candidate"]))


STAGE = Stage(
    name="select",
    record="selection.json",
    # metrics.json holds the sha256 of every score file, so it stands for them all.
    reads=("dataset.csv", "dataset.json", "convert.json", "metrics.json"),
    settings=(),
    work=_work,
    schema=2,
)
