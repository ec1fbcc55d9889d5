"""Score: what every variant answers on every part, and plain metrics of it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.models import keras_file
from mobileclf.models.deploy import MODEL
from mobileclf.photos import load_part
from mobileclf.records import Record, read_json, write_bytes
from mobileclf.run import Stage
from mobileclf.scores import FLOAT, SCORE_SCALE, SCORED_PARTS, read_labels, score_file
from mobileclf.stats.calibration import SMALLEST
from mobileclf.tflite.interpreter import (
    OLDEST,
    Kernels,
    Runtime,
    as_quanta,
    at_hand,
    runtime_name,
    score_photos,
)

LITERT: Runtime = "ai-edge-litert"
# The kernel families: XNNPACK's answers ship; built-in ones are bounded on the parts that
# decide, and the oldest runtime still in apps on the part that is reported.
FAMILIES: tuple[tuple[str, Runtime, Kernels, tuple[str, ...]], ...] = (
    ("xnnpack", LITERT, "xnnpack", SCORED_PARTS),
    ("builtin", LITERT, "builtin", ("threshold", "test")),
    (OLDEST, "tflite-runtime", "xnnpack", ("test",)),
)
IDENTICAL_PHOTOS = 48
TOP_K = 3


def work(folder: Path, settings: Settings) -> Record:
    """Score all variants; writes `scores/*.npy`. Returns the body of `metrics.json`."""
    labels, _ = read_labels(folder)
    converted = read_json(folder / "convert.json")
    photos: dict[str, NDArray[np.uint8]] = {}
    truth: dict[str, NDArray[np.int64]] = {}
    for part in SCORED_PARTS:
        rows, photos[part] = load_part(folder, settings, part)
        truth[part] = rows.truth
    outputs: list[str] = []

    def keep(variant: str, part: str, scores: NDArray[Any]) -> Record:
        packed = io.BytesIO()
        np.save(packed, scores, allow_pickle=False)
        outputs.append(score_file(variant, part))
        write_bytes(folder / outputs[-1], packed.getvalue())
        if scores.dtype == np.uint8:
            return metrics(scores * SCORE_SCALE, truth[part], labels, smallest=SMALLEST)
        return metrics(scores, truth[part], labels)

    model = keras_file.load(folder / MODEL)
    variants: dict[str, Record] = {
        FLOAT: _variant("float", MODEL, runtime_name("tensorflow"), None, None)
    }
    for part in SCORED_PARTS:
        scores = _keras_scores(model, photos[part], f"score float on {part}")
        variants[FLOAT]["parts"][part] = keep(FLOAT, part, scores)
    identical = []
    for entry in converted["candidates"]:
        name, file = entry["candidate"], entry["file"]
        data = (folder / file).read_bytes()
        for family, runtime, kernels, parts in FAMILIES:
            if not at_hand(runtime):
                progress.say(f"{runtime} is not installed: {name} is not scored on it")
                continue
            made = "builtin" if runtime == OLDEST else kernels
            record = _variant("int8", file, runtime_name(runtime), name, made)
            variant = f"{name}.{family}"
            variants[variant] = record
            for part in parts:
                title = f"score {variant} on {part}"
                raw = score_photos(
                    data, photos[part], title=title, kernels=kernels, runtime=runtime,
                    cluster=settings.cluster,
                )  # fmt: skip
                record["parts"][part] = keep(variant, part, as_quanta(raw))
        identical.append(_identical(name, data, photos["test"][:IDENTICAL_PHOTOS]))
    for entry in converted["others"]:
        name, file = entry["variant"], entry["file"]
        data = (folder / file).read_bytes()
        variants[name] = _variant("other", file, runtime_name(LITERT), None, "xnnpack")
        raw = score_photos(
            data, photos["test"], title=f"score {name} on test", cluster=settings.cluster
        )
        variants[name]["parts"]["test"] = keep(name, "test", raw)
    return {"stage": "score", "variants": variants, "identical": identical, "outputs": outputs}


def _variant(
    kind: str, file: str, runtime: str, candidate: str | None, kernels: str | None
) -> Record:
    return {
        "kind": kind,
        "candidate": candidate,
        "kernels": kernels,
        "runtime": runtime,
        "file": file,
        "parts": {},
    }


def _keras_scores(model: Any, photos: NDArray[np.uint8], title: str) -> NDArray[np.float32]:
    starts = range(0, len(photos), 32)
    pieces = [
        np.asarray(model(photos[i : i + 32].astype(np.float32), training=False))
        for i in progress.track(starts, title, len(starts))
    ]
    return np.concatenate(pieces)


def _identical(name: str, model: bytes, photos: NDArray[np.uint8]) -> Record:
    """LiteRT against TensorFlow's own interpreter, to the last bit; parity is gated on it."""
    ours = as_quanta(score_photos(model, photos, title=f"{name} on LiteRT"))
    theirs = as_quanta(
        score_photos(model, photos, title=f"{name} on TensorFlow", runtime="tensorflow")
    )
    difference = int(np.max(np.abs(ours.astype(int) - theirs)))
    what = f"{name}: {runtime_name(LITERT)} against {runtime_name('tensorflow')}"
    return {
        "what": what,
        "photos": len(photos),
        "largest_difference": difference,
        "passed": difference == 0,
    }


def metrics(
    probabilities: NDArray[Any],
    truth: NDArray[np.int64],
    labels: tuple[str, ...],
    *,
    smallest: float = 1e-7,
) -> Record:
    """Plain metrics of one variant on one part, by scikit-learn.

    probabilities: (n, labels), for the loss raised to `smallest`, since an int8 output of 0 stands
    for any probability under half a step, and divided by their sum, since int8 rows need not add
    up to 1. truth: int64 (n,). A class without photos or answers has precision or recall 0.
    """
    from sklearn import metrics as sk

    answers = probabilities.argmax(axis=1)
    every = np.arange(len(labels))
    clipped = np.maximum(probabilities.astype(np.float64), smallest)
    clipped /= clipped.sum(axis=1, keepdims=True)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        truth, answers, labels=every, zero_division=0
    )
    k = min(TOP_K, len(labels))
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return {
        "n": len(truth),
        "loss": float(sk.log_loss(truth, clipped, labels=every)),
        "accuracy": float(sk.accuracy_score(truth, answers)),
        f"top_{k}": float(np.mean(np.any(best == truth[:, None], axis=1))),
        "confusion": sk.confusion_matrix(truth, answers, labels=every).tolist(),
        "classes": {
            label: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "photos": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
        "macro": {
            "precision": float(np.mean(precision)),
            "recall": float(np.mean(recall)),
            "f1": float(np.mean(f1)),
        },
    }


STAGE = Stage(
    name="score",
    record="metrics.json",
    reads=("dataset.json", "dataset.csv", MODEL, "convert.json"),
    settings=("image_size", "channels"),
    packages=("tensorflow", "keras", "ai-edge-litert", "tflite-runtime", "scikit-learn", "pillow"),
    work=work,
)
