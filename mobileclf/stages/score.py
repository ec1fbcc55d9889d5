"""Score: what every variant answers on every part, and plain metrics of it; with `--others` also
what the models say of images of other things, without metrics, as no answer to them is right."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import matrix, progress
from mobileclf.importing import from_tflite
from mobileclf.importing.given import in_batches
from mobileclf.matrix import build as every_runtime
from mobileclf.models import keras_file
from mobileclf.models.deploy import MODEL
from mobileclf.others import COLUMNS, OTHERS, OTHERS_CSV, digests, load_others
from mobileclf.photos import load_part, spec_of
from mobileclf.records import Record, read_json, write_bytes, write_csv
from mobileclf.run import Stage
from mobileclf.scores import FLOAT, HELD_BACK, LOGITS, PARTS, SCORE_SCALE, read_labels, score_file
from mobileclf.settings import Settings
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
Outputs = NDArray[np.float32]


def work(folder: Path, settings: Settings) -> Record:
    """Score all variants; writes `scores/*.npy`. Returns the body of `metrics.json`.

    `others`, with `--others`: how many images of other things were scored, by float and by every
    int8 candidate on both kernel families, into `scores/<variant>.others.npy`; and whether there
    are `scores/float_logits.<part>.npy` of them and of the test photos. Else None.
    """
    labels, _ = read_labels(folder)
    converted = read_json(folder / "convert.json")
    reference = _reference(folder, logits=settings.others is not None)
    variants: dict[str, Record] = {FLOAT: _variant("float", *reference.about)}
    outputs: list[str] = []
    identical: list[Record] = []
    missing: set[str] = set()

    def save(name: str, part: str, scores: NDArray[Any]) -> None:
        packed = io.BytesIO()
        np.save(packed, scores, allow_pickle=False)
        outputs.append(score_file(name, part))
        write_bytes(folder / outputs[-1], packed.getvalue())

    def save_reference(photos: NDArray[np.uint8], part: str) -> Outputs:
        probabilities, logits = reference.score(photos, f"score float on {part}")
        if logits is not None and part in (OTHERS, "test"):
            save(LOGITS, part, logits)
        return probabilities

    for part in PARTS:  # one after another, so that the photos of one at a time are in memory
        rows, photos = load_part(
            folder, settings, part, most=MOST_TRAIN if part == "train" else None
        )

        def keep(
            name: str, scores: NDArray[Any], part: str = part, truth: NDArray[np.int64] = rows.truth
        ) -> None:
            save(name, part, scores)
            quanta = scores.dtype == np.uint8
            variants[name]["parts"][part] = (
                metrics(scores * SCORE_SCALE, truth, labels, smallest=SMALLEST)
                if quanta
                else metrics(scores, truth, labels)
            )

        keep(FLOAT, save_reference(photos, part))
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
    others: Record | None = None
    if settings.others is not None:
        found = load_others(folder, settings.others, spec_of(folder), cluster=settings.cluster)
        write_csv(folder / OTHERS_CSV, COLUMNS, found.rows)
        outputs.append(OTHERS_CSV)
        save(FLOAT, OTHERS, save_reference(found.photos, OTHERS))
        for entry in converted["candidates"]:
            data = (folder / entry["file"]).read_bytes()
            for family, runtime, kernels, _ in FAMILIES:
                if runtime != LITERT:
                    continue
                variant = f"{entry['candidate']}.{family}"
                raw = score_photos(
                    data, found.photos, title=f"score {variant} on other things", kernels=kernels,
                    cluster=settings.cluster,
                )  # fmt: skip
                save(variant, OTHERS, as_quanta(raw))
        logits = score_file(LOGITS, OTHERS) in outputs
        others = {"images": len(found.photos), "logits": logits}
    for name in (matrix.MATRIX, matrix.TIMES):
        (folder / name).unlink(missing_ok=True)
    if settings.matrix:
        found_on = every_runtime.build(folder, settings)
        # What is only measured has no bound and promises nothing.
        identical += [pair for pair in found_on["identity"] if pair["bound"] is not None]
        outputs.append(matrix.MATRIX)
    return {
        "stage": "score",
        "variants": variants,
        "identical": identical,
        "others": others,
        "outputs": outputs,
    }


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
    """The model that the others are held against. about: of its variant, after the kind. score:
    probabilities and logits (n, labels), or None in place of logits."""

    about: tuple[str, str, None, str | None]
    score: Callable[[NDArray[np.uint8], str], tuple[Outputs, Outputs | None]]


def _reference(folder: Path, *, logits: bool) -> _Reference:
    """The trained model, or the file that was given in its stead. logits: they are wanted too."""
    if not from_tflite.is_given(folder):
        model = keras_file.load(folder / MODEL)
        return _Reference(
            about=(MODEL, runtime_name("tensorflow"), None, None),
            score=lambda photos, title: _keras_scores(model, photos, title, logits=logits),
        )
    data, how = from_tflite.read_given(folder)
    answers = partial(from_tflite.opened(data).answers, how=how)

    def score(photos: NDArray[np.uint8], title: str) -> tuple[Outputs, None]:
        return in_batches(answers, photos, title).astype(np.float32), None

    return _Reference(about=(from_tflite.FILE, runtime_name(LITERT), None, "xnnpack"), score=score)


def _keras_scores(
    model: Any, photos: NDArray[np.uint8], title: str, *, logits: bool
) -> tuple[Outputs, Outputs | None]:
    """Probabilities, and where they are wanted and there are any logits, float32 (n, labels)."""
    import keras

    last = _logits_of(model.layers[-1]) if logits else None
    if last is not None:
        before = model.layers[-1].input
        model = keras.Model(model.input, [model.output, before])
    pieces: list[tuple[Outputs, ...]] = []
    starts = range(0, len(photos), 32)
    for i in progress.track(starts, title, len(starts)):
        found = model(photos[i : i + 32].astype(np.float32), training=False)
        pieces.append(tuple(map(np.asarray, found if last is not None else (found,))))
    first, *rest = (np.concatenate(of_all) for of_all in zip(*pieces, strict=True))
    return first, last(rest[0]) if last is not None else None


def _logits_of(layer: Any) -> Callable[[Outputs], Outputs] | None:
    """From the input of a network's last layer to what its softmax is taken of, unrounded but at
    the end; None where that layer ends with no softmax."""
    kind = type(layer).__name__
    if kind not in ("Dense", "Activation") or layer.activation.__name__ != "softmax":
        return None
    if kind == "Activation":
        return lambda values: values
    kernel, *bias = (weights.astype(np.float64) for weights in layer.get_weights())
    return lambda values: np.asarray(values @ kernel + sum(bias), dtype=np.float32)


def _outside(settings: Settings) -> Record:
    return {} if settings.others is None else {OTHERS: digests(settings.others)}


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
    reads=("dataset.json", "dataset.csv", "train.json", MODEL, "quantize.json", "convert.json"),
    settings=("matrix",),
    packages=(
        "tensorflow", "keras", "tf-keras", "tensorflow-model-optimization", "ai-edge-litert",
        "tflite-runtime", "scikit-learn", "pillow",
    ),
    work=work,
    # Where the images of other things lie does not matter, only what they are.
    outside=_outside,
    schema=4,
)  # fmt: skip
