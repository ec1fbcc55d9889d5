"""Convert: one audited `.tflite` for each candidate, and the float ones beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.errors import ProofError
from mobileclf.importing import from_tflite
from mobileclf.models import deploy, qat
from mobileclf.models.equality import largest_difference, require_equal
from mobileclf.models.graph import Graph
from mobileclf.photos import load_part, spec_of
from mobileclf.records import Record, read_json, write_bytes
from mobileclf.run import Stage
from mobileclf.scores import read_labels
from mobileclf.settings import Settings
from mobileclf.spelling import rewrites_of
from mobileclf.tflite import convert, ends
from mobileclf.tflite.audit import arithmetic, audit, audit_ends
from mobileclf.tflite.graph import contents
from mobileclf.tflite.interpreter import as_quanta, score_photos

STOCK, MIXED = "stock", "mixed"
CHECKED_PHOTOS = 64
# A fake quantizer rounds in float32 where the kernel rounds in integers, and what falls on the
# other side of a tie is carried through every later layer. Measured on trained networks; a graph
# converted wrongly is off by an order more.
MEAN_BOUND = 0.02
AGREEMENT_BOUND = 0.9
QUANTUM = 1 / 256  # of an output, which is as near as quanta come


def file_of(variant: str) -> str:
    """Name of a variant's file in the run."""
    return f"model_{variant}.tflite"


def work(folder: Path, settings: Settings) -> Record:
    """Convert and audit every candidate. Returns the body of `convert.json`.

    Raises ProofError when a file is not what was asked for, or answers unlike its graph.
    """
    io = settings.io
    for left in folder.glob("model_*.tflite"):
        left.unlink()  # of candidates that may be none of this time's
    labels, _ = read_labels(folder)
    shape = spec_of(folder).shape
    if from_tflite.is_given(folder):
        return _given(folder, settings, len(labels), shape)
    models = deploy.deployable(folder, rewrites_of(settings.without))
    _, photos = load_part(folder, settings, "train", most=settings.calibration_photos)
    _, checked = load_part(folder, settings, "validation", most=CHECKED_PHOTOS)
    quantized = read_json(folder / "quantize.json")
    names = (STOCK, *quantized["candidates"])
    candidates: list[Record] = []
    for name in progress.track(names, "convert", len(names)):
        check = None
        float_layers = quantized["mixed"]["float_layers"] if name == MIXED else []
        if name == STOCK:
            model = convert.post_training(models.folded, io, photos)
        else:
            aware = _aware(models.graph, folder / f"{name}.npz", float_layers)
            model = convert.from_quantized_graph(aware, io)
            check = _as_the_graph(name, aware, model, checked)
        found = audit(model, labels=len(labels), io=io, shape=shape, float_layers=float_layers)
        write_bytes(folder / file_of(name), model)
        candidates.append(
            {
                "candidate": name,
                "file": file_of(name),
                "bytes": len(model),
                **found,
                "arithmetic": arithmetic(model),
                "float_layers": float_layers,
                "check": check,
            }
        )
    others = _others(folder, settings, models.folded, photos)
    return {
        "stage": "convert",
        "io": io,
        "candidates": candidates,
        "others": others,
        "outputs": [entry["file"] for entry in (*candidates, *others)],
    }


def _given(folder: Path, settings: Settings, labels: int, shape: tuple[int, int, int]) -> Record:
    """A `.tflite` that was given, with bytes and quanta at its ends. Raises ProofError where it
    then answers otherwise."""
    name, data, how = from_tflite.GIVEN, *from_tflite.read_given(folder)
    wrapped = ends.with_bytes_and_quanta(data, how)
    found = audit_ends(wrapped.model, labels=labels, io="uint8", shape=shape, any_scale=True)
    _, photos = load_part(folder, settings, "validation", most=CHECKED_PHOTOS)
    got = as_quanta(score_photos(wrapped.model, photos, title=f"check {name}")) / 256
    difference = largest_difference(from_tflite.opened(data).answers(photos, how), got)
    check = require_equal("convert", "as given against with bytes", difference, QUANTUM)
    for note in wrapped.notes:
        progress.say(f"{name}: {note}")
    write_bytes(folder / file_of(name), wrapped.model)
    entry = {"candidate": name, "file": file_of(name), "bytes": len(wrapped.model), **found}
    entry |= {"arithmetic": arithmetic(data), "float_layers": [], "notes": list(wrapped.notes)}
    return {
        "stage": "convert",
        "io": "uint8",
        "candidates": [{**entry, "check": check}],
        "others": [],
        "outputs": [file_of(name)],
    }


def _aware(graph: Graph, weights: Path, float_layers: Sequence[str]) -> Any:
    """The quantization-aware model of a folded graph, with a candidate's numbers in it."""
    aware = qat.quantized(graph, float_layers)
    with np.load(weights, allow_pickle=False) as stored:
        qat.set_weights(aware, dict(stored))
    return aware


def _as_the_graph(name: str, aware: Any, model: bytes, photos: NDArray[np.uint8]) -> Record:
    """How far the file's answers lie from its graph's. Raises ProofError beyond the bounds."""
    wanted = qat.forward(aware, photos)
    got = as_quanta(score_photos(model, photos, title=f"check {name}")) / 256
    differences = np.abs(wanted - got)
    agreement = float(np.mean(wanted.argmax(axis=1) == got.argmax(axis=1)))
    mean = float(differences.mean())
    if not (mean <= MEAN_BOUND and agreement >= AGREEMENT_BOUND):  # a NaN is neither
        raise ProofError(
            f"convert: {file_of(name)} does not answer like its graph: wanted a mean difference "
            f"of at most {MEAN_BOUND} and {AGREEMENT_BOUND:.0%} same answers, "
            f"found {mean:.3g} and {agreement:.1%}"
        )
    return {
        "what": "quantization graph against tflite",
        "photos": len(photos),
        "agreement": agreement,
        "mean_difference": mean,
        "largest_difference": float(differences.max()),
    }


def _others(
    folder: Path, settings: Settings, folded: Any, photos: NDArray[np.uint8]
) -> list[Record]:
    """float32 always; fp16, dynamic and int16x8 where asked for."""
    kinds = ["float32"] + [k for k in ("fp16", "dynamic", "int16x8") if getattr(settings, k)]
    found = []
    for kind in kinds:
        if kind == "int16x8":
            model = convert.post_training(folded, "float32", photos, int16x8=True)
        else:
            model = convert.floating(folded, kind)
        write_bytes(folder / file_of(kind), model)
        held = contents(model).as_record()
        found.append({"variant": kind, "file": file_of(kind), "bytes": len(model), **held})
    return found


STAGE = Stage(
    name="convert",
    record="convert.json",
    reads=("dataset.json", "dataset.csv", "train.json", "model.keras", "quantize.json"),
    settings=("calibration_photos", "io", "fp16", "dynamic", "int16x8", "without"),
    packages=(
        "tensorflow",
        "keras",
        "tf-keras",
        "tensorflow-model-optimization",
        "ai-edge-litert",
        "pillow",
    ),
    work=work,
    schema=4,
)
