"""A bundle as `predict` and every check reads it: only when all in it is as it was proven."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

from .decision import Classes, Decision, decision_file, read_decision
from .errors import DataError
from .golden import Judge
from .images.load import ImageSpec
from .records import Record, read_json, sha256_file

SCHEMA = 1


def proven(folder: Path) -> tuple[bytes, Judge, float]:
    """The model file of a bundle, what it takes to judge a picture by it, and the scale of its
    output (0: float32), once hashes, labels, decision and golden cases are as they were when it
    was made. Raises DataError."""
    from .tflite.interpreter import as_quanta, open_interpreter, scores

    record, where = read_bundle(folder), folder / "bundle.json"
    try:
        classes, decision = read_decision(record)
        spec = ImageSpec.from_record(record["input"])
        file, kernels = folder / record["model"]["file"], record["output"]["kernels"]
        golden = {case["image"]: dict(case) for case in record["golden"]}
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    except KeyError as error:
        raise DataError(f"{where}: wanted the key {error}, found none") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{where}: wanted the keys of schema {SCHEMA} ({error})") from error
    if kernels != "xnnpack":
        raise DataError(f"{where}: wanted kernels xnnpack, found {kernels!r}")
    model = file.read_bytes()
    check_labels(folder, record)
    check_proven(file, model, classes, decision)
    interpreter = open_interpreter(model, kernels="xnnpack")
    judge = Judge(
        spec=spec,
        classes=classes,
        decision=decision,
        score=lambda photos: as_quanta(scores(interpreter, photos)),
    )
    check_golden(folder, golden, set(record["files"]), judge)
    return model, judge, interpreter.output.scale


def read_bundle(folder: Path) -> Record:
    """`bundle.json`, once every file that it names is there with the sha256 it names.

    Raises DataError.
    """
    path = folder / "bundle.json"
    if not path.is_file():
        raise DataError(f"{folder}: wanted a bundle (a folder with bundle.json), found none")
    record = read_json(path)
    if record.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: wanted schema {SCHEMA}, found {record.get('schema')!r}; "
            "use the mobileclf that made it, or export again"
        )
    try:
        wanted = {record["model"]["file"]: record["model"]["sha256"]}
        wanted |= {name: entry["sha256"] for name, entry in record.get("files", {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: wanted model and files with their sha256 ({error!r})") from error
    _check_files(folder, wanted)
    return record


def _check_files(folder: Path, wanted: Mapping[str, str]) -> None:
    for name, digest in wanted.items():
        file = folder / name
        # A name that leads out of the bundle is not part of it.
        if not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{folder / 'bundle.json'}: {name!r} lies outside the bundle")
        found = sha256_file(file) if file.is_file() else "no such file"
        if found != digest:
            raise DataError(
                f"{file}: wanted sha256 {digest}, found {found}; the bundle was changed after it "
                "was proven: export it again"
            )


def check_labels(folder: Path, record: Record) -> None:
    """labels.txt, which the hashes vouch for, must be the labels of bundle.json."""
    own = [row["label"] for row in record["labels"]]
    written = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    if own != written:
        raise DataError(
            f"{folder}: wanted the same labels in bundle.json and labels.txt, found "
            f"{', '.join(map(str, own))} and {', '.join(written)}; export it again"
        )


def check_proven(file: Path, model: bytes, classes: Classes, decision: Decision) -> None:
    """What decides in bundle.json must be what lies in the model file, which the hash vouches for.

    Few golden cases lie so near the threshold that they would notice it moved.
    """
    from .tflite import metadata

    _, files = metadata.read(model)
    if files.get(metadata.DECISION_FILE) != decision_file(classes, decision):
        raise DataError(
            f"{file.parent / 'bundle.json'}: wanted the labels, groups and decision that lie in "
            f"{file.name}, found others; export it again"
        )


def check_golden(
    folder: Path, golden: Mapping[str, Mapping[str, Any]], files: Set[str], judge: Judge
) -> None:
    """Every golden case, by image, must come out as recorded. Other keys may stand beside.

    files: those that the hashes vouch for, and no other is read.
    """
    if not golden:
        raise DataError(f"{folder / 'bundle.json'}: wanted golden cases, found none")
    for image, wanted in golden.items():
        if image not in files:
            raise DataError(f"{folder / 'bundle.json'}: {image!r} is not among its files")
        path = folder / image
        found = judge.case(path.read_bytes(), path.suffix).as_record(image)
        if other := [key for key in found if found[key] != wanted.get(key)]:
            raise DataError(
                f"{path}: wanted the golden case of bundle.json, found another "
                f"{', '.join(other)}; the bundle was changed, or this runtime is not "
                "the one that it was proven on: export it again"
            )
