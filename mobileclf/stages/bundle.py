"""Bundle: the final model file with its metadata, golden cases, and all that an app needs.

It is built and proven inside the run; `place` then puts a copy at `exported/<name>` in one step.
"""

from __future__ import annotations

import shutil
from importlib import metadata as packages
from pathlib import Path

import numpy as np

from mobileclf import exchange, golden, progress
from mobileclf.decision import QUANTA, Classes, Decision, decision_file, read_decision
from mobileclf.errors import DataError, EnvironmentProblem, ProofError, UsageError
from mobileclf.images.load import ImageSpec
from mobileclf.importing.from_tflite import GIVEN
from mobileclf.photos import load_part, spec_of
from mobileclf.records import (
    Record,
    read_json,
    sha256_bytes,
    sha256_file,
    sha256_json,
    write_bytes,
    write_json,
)
from mobileclf.report.report import render
from mobileclf.run import Stage, version_of
from mobileclf.scores import read_labels, read_scores
from mobileclf.settings import Settings
from mobileclf.source.store import open_store
from mobileclf.tflite import metadata
from mobileclf.tflite.audit import audit, audit_ends
from mobileclf.tflite.graph import contents
from mobileclf.tflite.interpreter import as_quanta, open_interpreter, score_photos, scores
from mobileclf.tflite.runtimes import OLDEST

# Hidden, since it is deleted before it is built: no folder of a user's has that name.
FOLDER = ".bundle"
RECORDS = (
    "dataset.json", "train.json", "quantize.json", "convert.json", "metrics.json",
    "selection.json", "threshold.json", "parity.json",
)  # fmt: skip
VERSIONED = (
    "tensorflow", "tf-keras", "keras", "tensorflow-model-optimization", "ai-edge-litert",
    "tflite-runtime", "numpy", "pillow",
)  # fmt: skip
CHECKED_PHOTOS = 32
LIMITS = (
    "Measured on photos like those it was trained on. A photo of anything else still gets one of "
    "the labels. It is no ground for eating, touching or treating anything: ask someone who knows."
)


def work(folder: Path, settings: Settings) -> Record:
    """Build the bundle under `.bundle/` of the run. Returns the body of its record.

    Raises ProofError when the final file answers otherwise than the scored one, or when no
    golden picture has one of the verdicts.
    """
    records = {name: read_json(folder / name) for name in RECORDS}
    threshold, parity = records["threshold.json"], records["parity.json"]
    candidate = records["selection.json"]["selected"]
    (chosen,) = (
        one for one in records["convert.json"]["candidates"] if one["candidate"] == candidate
    )
    spec = spec_of(folder)
    labels, _ = read_labels(folder)
    classes, decision = read_decision(threshold)
    if classes.labels != labels:
        raise ProofError("bundle: wanted the labels of the threshold record, found others")
    run_sha256 = _run_hash(records, settings)
    place = folder / FOLDER
    shutil.rmtree(place, ignore_errors=True)

    variant = f"{candidate}.xnnpack"
    scored = (folder / records["metrics.json"]["variants"][variant]["file"]).read_bytes()
    label_lines = "".join(f"{label}\n" for label in labels).encode()
    about = metadata.Description(
        name=str(settings.name),
        description=(
            f"{len(labels)} classes, {settings.purpose}; the decision that goes with it is "
            f"in {metadata.DECISION_FILE}; run {run_sha256}"
        ),
        version=packages.version("mobileclf"),
        author=f"mobileclf {packages.version('mobileclf')}",
        width=spec.width,
        height=spec.height,
        channels=spec.channels,
        minimum_score=minimum_score(decision),
    )
    decision_json = decision_file(classes, decision)
    model = metadata.write(
        scored, about, {metadata.LABELS_FILE: label_lines, metadata.DECISION_FILE: decision_json}
    )
    _audit(model, len(labels), settings.io, spec, chosen)
    _prove_unchanged(folder, settings, model, variant)

    write_bytes(place / "model.tflite", model)
    write_bytes(place / "labels.txt", label_lines)
    cases = _golden(model, settings, spec, classes, decision)
    named = [(f"golden/{i}{case.suffix}", case) for i, case in enumerate(cases)]
    for image, case in named:
        write_bytes(place / image, case.data)
    write_json(place / "parity.json", {k: v for k, v in parity.items() if k not in _INTERNAL})
    body = {
        "schema": 1,
        "name": settings.name,
        "purpose": settings.purpose,
        "model": {
            "file": "model.tflite",
            "sha256": sha256_bytes(model),
            "min_runtime": _oldest_seen(records["metrics.json"], candidate),
            "bytes": len(model),
            "arithmetic": chosen["arithmetic"],
        },
        "input": _input(spec, model),
        "output": _output(model),
        **classes.as_record(),
        "decision": decision.as_record(),
        "golden": [case.as_record(image) for image, case in named],
        "metrics": _metrics(records, candidate),
        "limits": LIMITS,
        "provenance": {
            "mobileclf": packages.version("mobileclf"),
            "run_sha256": run_sha256,
            "versions": {name: version_of(name) for name in VERSIONED},
            "seed": settings.seed,
        },
    }
    for name, text in render(body, records).items():
        write_bytes(place / name, text.encode())
    runtime = {"labels.txt", *(image for image, _ in named)}
    files = sorted(p.relative_to(place).as_posix() for p in place.rglob("*") if p.is_file())
    body["files"] = {
        name: {"sha256": sha256_file(place / name), "runtime": name in runtime}
        for name in files
        if name != "model.tflite"
    }
    write_json(place / "bundle.json", body)
    return {
        "stage": "bundle",
        "run_sha256": run_sha256,
        "candidate": candidate,
        "golden": [case.verdict for case in cases],
        "outputs": [f"{FOLDER}/{name}" for name in (*files, "bundle.json")],
    }


def _audit(model: bytes, labels: int, io: str, spec: ImageSpec, chosen: Record) -> None:
    """The final file takes bytes and gives quanta, and is int8, but for the layers that are kept
    in float, unless it was made elsewhere.

    Raises ProofError.
    """
    if chosen["candidate"] == GIVEN:
        audit_ends(model, labels=labels, io=io, shape=spec.shape, any_scale=True)
    else:
        layers = chosen["float_layers"]
        audit(model, labels=labels, io=io, shape=spec.shape, float_layers=layers)


_INTERNAL = ("schema", "stage", "inputs", "outputs")


def minimum_score(decision: Decision) -> float | None:
    """The score, 0..1, under which MediaPipe may hide a class, or None.

    Without groups that is the minimum confidence: the verdict is that of the largest output, and
    "not sure" where none is left. A group's sum needs the small outputs too, and so does an abstain
    rule, so that a group decision is never written as one.
    """
    return decision.threshold_q / QUANTA if decision.group is None else None


def _run_hash(records: dict[str, Record], settings: Settings) -> str:
    """Over settings and records, which hold no times, absolute paths or host."""
    return sha256_json({"records": records, "name": settings.name, "purpose": settings.purpose})


def _prove_unchanged(folder: Path, settings: Settings, model: bytes, variant: str) -> None:
    """The file with metadata inside answers as the scored one, to the last bit."""
    _, photos = load_part(folder, settings, "test")
    photos = photos[:CHECKED_PHOTOS]
    got = as_quanta(score_photos(model, photos, title="check the final file"))
    wanted = read_scores(folder, variant, "test").quanta
    assert wanted is not None
    if not np.array_equal(got, wanted[: len(photos)]):
        raise ProofError(
            f"bundle: the final file answers otherwise than the scored one on the first "
            f"{len(photos)} test photos; run `mobileclf score` again"
        )


def _golden(
    model: bytes, settings: Settings, spec: ImageSpec, classes: Classes, decision: Decision
) -> list[golden.Case]:
    interpreter = open_interpreter(model)
    judge = golden.Judge(
        spec=spec,
        classes=classes,
        decision=decision,
        score=lambda photos: as_quanta(scores(interpreter, photos)),
    )
    if settings.golden_from is not None:
        return golden.from_photos(judge, settings.golden_from)
    return golden.drawn(judge, settings.seed)


def _oldest_seen(metrics: Record, candidate: str) -> str | None:
    """The TFLite version of tflite-runtime, if the model was loaded there and held to the gate.

    None where it is not installed: LiteRT counts its versions otherwise.
    """
    variant = metrics["variants"].get(f"{candidate}.{OLDEST}")
    if variant is None:
        return None
    return ".".join(variant["runtime"].split()[1].split(".")[:2])


def _input(spec: ImageSpec, model: bytes) -> Record:
    end = contents(model).inputs[0]
    return {
        **spec.as_record(),
        "dtype": end.dtype,
        "scale": end.scale,
        "zero_point": end.zero_point,
    }


def _output(model: bytes) -> Record:
    end = contents(model).outputs[0]
    return {
        "dtype": end.dtype,
        "scale": end.scale,
        "zero_point": end.zero_point,
        "kernels": "xnnpack",
    }


def _metrics(records: dict[str, Record], candidate: str) -> Record:
    variants = records["metrics.json"]["variants"]
    parity, threshold = records["parity.json"], records["threshold.json"]
    return {
        "split": parity["split"],
        "n": parity["n"],
        "float": variants["float"]["parts"]["test"],
        "int8": variants[f"{candidate}.xnnpack"]["parts"]["test"],
        "agreement": parity["agreement"],
        "verdict": parity["verdict"],
        "auc": threshold["auc"],
        "guarantee": threshold["guarantee"],
        "decision": threshold["test"]["int8"],
    }


def target_of(settings: Settings) -> Path:
    """Where the bundle goes: `exported/<name>`."""
    return settings.out / str(settings.name)


def check_target(settings: Settings) -> None:
    """Refuse to put the bundle where anything but an earlier bundle is.

    What is at the target is deleted when the new bundle has taken its place. Raises UsageError.
    """
    target = target_of(settings)
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() and not target.is_symlink():
        files = {p.relative_to(target).as_posix() for p in target.rglob("*") if not p.is_dir()}
        if files <= _files_of(target):
            return
    raise UsageError(
        f"--out {settings.out} --name {settings.name}: wanted {target} to be free or an earlier "
        "bundle and nothing else, found other files there; choose another --out or --name"
    )


def _files_of(bundle: Path) -> set[str]:
    """The files that a bundle's own record names; empty where there is none."""
    try:
        record = read_json(bundle / "bundle.json")
        return {"bundle.json", record["model"]["file"], *record["files"]}
    except (DataError, KeyError, TypeError):
        return set()


def place(settings: Settings) -> Path:
    """Put the run's bundle at `exported/<name>` in one step; returns that folder.

    Raises UsageError where something else is, and EnvironmentProblem when it cannot be written;
    what was there then stays.
    """
    target = target_of(settings)
    source = settings.run_folder / FOLDER
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
        exchange.repair(target)
        check_target(settings)
        building = exchange.building_place(target)
        shutil.copytree(source, building)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write beside {target}: {error}; choose another folder with --out"
        ) from error
    exchange.put_in_place(building, target)
    progress.say(f"bundle: {target}")
    return target


def _outside(settings: Settings) -> Record:
    if settings.golden_from is None:
        return {"purpose": settings.purpose}
    store = open_store(settings.golden_from)
    hashes = {name: store.digest(name) for name in golden.pictures_in(settings.golden_from)}
    return {"purpose": settings.purpose, "golden": hashes}


STAGE = Stage(
    name="bundle",
    record="bundled.json",
    reads=("dataset.csv", *RECORDS),
    settings=("name", "io", "seed"),
    packages=VERSIONED,
    work=work,
    outside=_outside,
)
