"""A model in a run's folder: its labels, input and decision are in the records beside it.

Everything is held against the hashes of those records: a file that was changed, or a record of an
earlier model, is not taken for the run's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mobileclf.decision import Classes, Decision, read_decision
from mobileclf.errors import DataError
from mobileclf.records import Record, read_json, sha256_bytes, sha256_file

TRAINED, CONVERTED, SELECTED, SCORED, DECIDED, DATA = (
    "train.json", "convert.json", "selection.json", "metrics.json", "threshold.json",
    "dataset.json",
)  # fmt: skip
KERAS_MODEL = "model.keras"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What turns outputs into a verdict, and for which labels."""

    classes: Classes
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class RunModel:
    """What a run says of a model of its own. note: which decision is used, or why none."""

    labels: tuple[str, ...]
    rule: Rule | None
    note: str


def model_of(run: Path) -> str:
    """The file that ships, once there is one; before that the trained model."""
    if (run / SELECTED).exists() and (run / CONVERTED).exists():
        selected = read_json(run / SELECTED).get("selected")
        for entry in read_json(run / CONVERTED).get("candidates", ()):
            if entry["candidate"] == selected:
                return str(entry["file"])
    return KERAS_MODEL


def run_of(model: Path, data: bytes, record: str) -> RunModel | None:
    """What the run that made `model` says of it; None where no record beside it names the file.

    Raises DataError where the file or the labels are not those of the run's record.
    """
    folder = model.parent
    if not (folder / record).is_file() or not (folder / DATA).is_file():
        return None
    made = read_json(folder / record)
    digest = made.get("outputs", {}).get(model.name)
    if digest is None:
        return None
    if sha256_bytes(data) != digest:
        raise DataError(
            f"{model}: wanted sha256 {digest} as in {record}, found {sha256_bytes(data)}; the "
            "file was changed after it was made: run the stage again, or move it out of the run"
        )
    _check_read(folder, record, made, DATA)
    labels = tuple(row["label"] for row in read_json(folder / DATA)["labels"])
    rule, note = _rule_of_run(folder, model.name)
    if rule is not None and rule.classes.labels != labels:
        raise DataError(
            f"{folder / DECIDED}: wanted the labels of {DATA}, found others; run threshold again"
        )
    return RunModel(labels=labels, rule=rule, note=note)


def _check_read(folder: Path, name: str, record: Record, read: str) -> None:
    """`read` is still what the stage of `record` read."""
    wanted = record.get("inputs", {}).get("files", {}).get(read)
    found = sha256_file(folder / read) if (folder / read).is_file() else None
    if wanted != found:
        raise DataError(
            f"{folder / name}: wanted {read} as it was when this was made ({wanted}), found "
            f"{found or 'none'}; bring the run up to date with `mobileclf export`"
        )


def _rule_of_run(folder: Path, name: str) -> tuple[Rule | None, str]:
    """The run's decision for the file `name`, or None and why: its threshold must have been
    chosen on the scores of this very model."""
    if not (folder / DECIDED).is_file():
        return None, f"no verdicts, as there is no {DECIDED} yet"
    record = read_json(folder / DECIDED)
    try:
        _check_read(folder, DECIDED, record, SCORED)
        _check_read(folder, DECIDED, record, DATA)
        for read in (KERAS_MODEL, CONVERTED):
            _check_read(folder, SCORED, read_json(folder / SCORED), read)
    except DataError:
        return None, f"no verdicts, as {DECIDED} is of an earlier model"
    try:
        if name == KERAS_MODEL:
            point = record["operating_point"]["float"]
            own = {key: point[key] for key in ("threshold_q", "threshold", "abstain")}
            record = {**record, "decision": {**record["decision"], **own}}
        classes, decision = read_decision(record)
    except (DataError, KeyError, TypeError) as error:
        said = error if isinstance(error, DataError) else f"wanted the float's decision ({error!r})"
        raise DataError(f"{folder / DECIDED}: {said}; run threshold again") from error
    if name != KERAS_MODEL and name != (ships := model_of(folder)):
        return None, f"no verdicts, as the threshold of {DECIDED} was chosen for {ships}"
    return Rule(classes=classes, decision=decision), f"decision of {DECIDED}"
