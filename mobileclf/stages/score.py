"""Score: what every variant answers on every part, and plain metrics of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.importing import from_tflite
from mobileclf.importing.given import in_batches
from mobileclf.models import keras_file
from mobileclf.models.deploy import MODEL
from mobileclf.photos import load_part
from mobileclf.records import Record, read_json, write_bytes
from mobileclf.run import Stage
from mobileclf.scores import FLOAT, HELD_BACK, PARTS, SCORE_SCALE, read_labels, score_file
from mobileclf.stats.calibration import SMALLEST
from mobileclf.stats.metrics import metrics
from mobileclf.tflite.audit import is_int8
from mobileclf.tflite.interpreter import Kernels, as_quanta, score_photos
from mobileclf.tflite.runtimes import OLDEST, Runtime, at_hand, runtime_name

LITERT: Runtime = "ai-edge-litert"
# The kernel families: XNNPACK's answers ship, on every part. The built-in ones and the oldest
# runtime still in apps are there to bound them: on what is held back, not on training photos.
FAMILIES: tuple[tuple[str, Runtime, Kernels, tuple[str, ...]], ...] = (
    ("xnnpack", LITERT, "xnnpack", PARTS),
    ("builtin", LITERT, "builtin", HELD_BACK),
    (OLDEST, "tflite-runtime", "xnnpack", HELD_BACK),
)
# Enough to see whether a model has learnt its training photos by heart. All of them would cost
# as much as training did.
MOST_TRAIN = 300
IDENTICAL_PHOTOS = 48


def work(folder: Path, settings: Settings) -> Record:
    """Score all variants; writes `scores/*.npy`. Returns the body of `metrics.json`."""
    labels, _ = read_labels(folder)
    converted = read_json(folder / "convert.json")
    reference = _reference(folder)
    variants: dict[str, Record] = {FLOAT: _variant("float", *reference.about)}
    outputs: list[str] = []
    identical: list[Record] = []
    missing: set[str] = set()
    for part in PARTS:  # one after another, so that the photos of one at a time are in memory
        rows, photos = load_part(
            folder, settings, part, most=MOST_TRAIN if part == "train" else None
        )

        def keep(
            name: str, scores: NDArray[Any], part: str = part, truth: NDArray[np.int64] = rows.truth
        ) -> None:
            packed = io.BytesIO()
            np.save(packed, scores, allow_pickle=False)
            outputs.append(score_file(name, part))
            write_bytes(folder / outputs[-1], packed.getvalue())
            quanta = scores.dtype == np.uint8
            variants[name]["parts"][part] = (
                metrics(scores * SCORE_SCALE, truth, labels, smallest=SMALLEST)
                if quanta
                else metrics(scores, truth, labels)
            )

        keep(FLOAT, reference.score(photos, f"score float on {part}"))
        for entry in converted["candidates"]:
            name, file = entry["candidate"], entry["file"]
            data = (folder / file).read_bytes()
            for family, runtime, kernels, parts in FAMILIES:
                if not at_hand(runtime):
                    missing.add(runtime)
                    continue
                if part not in parts:
                    continue
                variant = f"{name}.{family}"
                made = "builtin" if runtime == OLDEST else kernels
                variants.setdefault(
                    variant, _variant("int8", file, runtime_name(runtime), name, made)
                )
                raw = score_photos(
                    data, photos, title=f"score {variant} on {part}", kernels=kernels,
                    runtime=runtime, cluster=settings.cluster,
                )  # fmt: skip
                keep(variant, as_quanta(raw))
            if part == "test":
                identical.append(_identical(name, data, photos[:IDENTICAL_PHOTOS]))
        for entry in converted["others"] if part in HELD_BACK else ():
            name, file = entry["variant"], entry["file"]
            variants.setdefault(
                name, _variant("other", file, runtime_name(LITERT), None, "xnnpack")
            )
            raw = score_photos(
                (folder / file).read_bytes(), photos, title=f"score {name} on {part}",
                cluster=settings.cluster,
            )  # fmt: skip
            keep(name, raw)
    for absent in sorted(missing):
        progress.say(f"{absent} is not installed: no int8 model is scored on it")
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


@dataclass(frozen=True, kw_only=True)
class _Reference:
    """The model that the others are held against. about: of its variant, after the kind."""

    about: tuple[str, str, None, str | None]
    score: Callable[[NDArray[np.uint8], str], NDArray[np.float32]]


def _reference(folder: Path) -> _Reference:
    """The trained model, or the file that was given in its stead."""
    if not from_tflite.is_given(folder):
        model = keras_file.load(folder / MODEL)
        return _Reference(
            about=(MODEL, runtime_name("tensorflow"), None, None),
            score=lambda photos, title: _keras_scores(model, photos, title),
        )
    data, how = from_tflite.read_given(folder)
    answers = partial(from_tflite.opened(data).answers, how=how)

    def score(photos: NDArray[np.uint8], title: str) -> NDArray[np.float32]:
        return in_batches(answers, photos, title).astype(np.float32)

    return _Reference(about=(from_tflite.FILE, runtime_name(LITERT), None, "xnnpack"), score=score)


def _keras_scores(model: Any, photos: NDArray[np.uint8], title: str) -> NDArray[np.float32]:
    starts = range(0, len(photos), 32)
    pieces = [
        np.asarray(model(photos[i : i + 32].astype(np.float32), training=False))
        for i in progress.track(starts, title, len(starts))
    ]
    return np.concatenate(pieces)


def _identical(name: str, model: bytes, photos: NDArray[np.uint8]) -> Record:
    """LiteRT against TensorFlow's own interpreter; parity is gated on it.

    To the last bit where all is int8. Floating point, which a model that was given may have
    inside, may end on the other side of a quantum.
    """
    bound = 0 if is_int8(model) is None else 1
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
        "bound": bound,
        "passed": difference <= bound,
    }


STAGE = Stage(
    name="score",
    record="metrics.json",
    # train.json holds the sha256 of a model that was given.
    reads=("dataset.json", "dataset.csv", "train.json", MODEL, "convert.json"),
    settings=(),
    packages=("tensorflow", "keras", "ai-edge-litert", "tflite-runtime", "scikit-learn", "pillow"),
    work=work,
    schema=3,
)
