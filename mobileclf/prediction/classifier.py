"""A model that someone has, as `predict` uses it: a bundle, a run, any `.tflite`, any of Keras.

Labels, preprocessing and decision come from what the model is delivered with, or from the person,
and from nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import bundles, progress
from mobileclf.decision import decision_file, read_decision
from mobileclf.errors import DataError, UsageError
from mobileclf.images import preprocess
from mobileclf.images.load import ImageSpec
from mobileclf.images.preprocess import BYTES, RAW, Preprocess
from mobileclf.importing import formats
from mobileclf.models import keras_file
from mobileclf.records import Record
from mobileclf.source import label_file
from mobileclf.tflite.graph import file_bytes
from mobileclf.wording import counted

from .labels import check_count, labels_of
from .run_model import CONVERTED, DATA, TRAINED, Rule, RunModel, model_of, run_of

# Images (n, height, width, channels) uint8 to outputs (n, labels) float64, for one thread.
Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float64]]

KERAS_BATCH = 32
WANTED = "wanted a bundle, a run, a SavedModel, or a .keras, .h5 or .tflite file"


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A model that is ready to label pictures.

    labels: one an output. rule: None where the model comes with no decision. scorer: opens one
    for one thread. batch: pictures that it takes at once; over 1 there should be one scorer
    alone, which uses all cores. step: of the output's own grid, 0 where it has none. about: one
    line on where labels and preprocessing come from, empty for a bundle.
    """

    labels: tuple[str, ...]
    spec: ImageSpec
    rule: Rule | None
    scorer: Callable[[], Scorer]
    batch: int = 1
    step: float = 0.0
    about: str = ""


def open_classifier(
    model: Path, *, labels: Path | None = None, how: str | None = None
) -> Classifier:
    """The model at `model`: a bundle's or a run's folder, or a file.

    labels: a file, one label a line in the order of the outputs. how: as `preprocess_of` reads
    it. Both only where the model has none of its own or others are wanted; a bundle and a run
    have theirs. Raises UsageError where they are missing or out of place, and DataError.
    """
    chosen = preprocess.preprocess_of(how) if how is not None else None
    if model.is_dir():
        if (model / "bundle.json").exists():
            _refuse_options("a bundle", labels, how)
            return _of_bundle(model)
        if (model / TRAINED).exists():
            model = model / model_of(model)
    kind = formats.kind_of(model, wanted=WANTED)
    given = label_file.read(labels) if labels is not None else None
    if kind in ("h5", "saved_model") or kind == "keras" and not keras_file.is_keras_3(model):
        return _of_imported(model, given, chosen)
    if kind == "tflite":
        make, record, data = _of_tflite, CONVERTED, file_bytes(model)
    else:
        make, record, data = _of_keras, TRAINED, model.read_bytes()
    if run := run_of(model, data, record):
        _refuse_options("a model of a run", labels, how)
    try:
        return make(model, data, run, given, chosen)
    except DataError as error:
        raise DataError(f"{model}: {error}") from error
    except UsageError as error:
        raise UsageError(f"{model}: {error}") from error


def _refuse_options(what: str, labels: Path | None, how: str | None) -> None:
    for flag, value in {"--labels": labels, "--preprocess": how}.items():
        if value is not None:
            raise UsageError(f"{flag} {value}: {what} has its own; leave it out")


def _of_bundle(folder: Path) -> Classifier:
    model, judge, step = bundles.proven(folder)
    return Classifier(
        labels=judge.classes.labels,
        spec=judge.spec,
        rule=Rule(classes=judge.classes, decision=judge.decision),
        scorer=partial(_tflite_scorer, model, None),
        step=step,
    )


# .tflite


def _of_tflite(
    model: Path,
    data: bytes,
    run: RunModel | None,
    given: tuple[str, ...] | None,
    how: Preprocess | None,
) -> Classifier:
    from mobileclf.tflite import delegates, metadata
    from mobileclf.tflite.interpreter import open_interpreter

    if run is None:
        delegates.check_runs(model)  # a broken one may end the process that it is opened in
    opened = open_interpreter(data)
    height, width, channels = opened.shape
    if run is not None:
        check_count(run.labels, opened.labels, DATA)
        labels, rule, how, said = run.labels, run.rule, _bytes_of(opened), run.note
    else:
        described = metadata.describe(data)
        files = metadata.associated_files(data)
        rule = _rule_inside(files.get(metadata.DECISION_FILE))
        classes = rule.classes if rule is not None else None
        labels, said = labels_of(opened.labels, given, classes, described, files)
        said += "; decision in it" if rule is not None else ""
        how = _preprocess_of(described, opened.input, how)
    # Before any picture: what does not fit is said once.
    preprocess.encoder(how, **_ends(opened.input), channels=channels)
    return Classifier(
        labels=labels,
        spec=ImageSpec(width=width, height=height, channels=channels),
        rule=rule,
        scorer=partial(_tflite_scorer, data, how),
        step=opened.output.scale,
        about=f"{width} x {height} x {channels}, {counted(len(labels), 'label')}: {said}; pixels "
        f"as {how.name}",
    )


def _ends(tensor: Any) -> dict[str, Any]:
    return {"dtype": tensor.dtype, "scale": tensor.scale, "zero_point": tensor.zero_point}


def _bytes_of(opened: Any) -> Preprocess:
    """How a bundle's or a run's file takes bytes: an integer input as they are, whatever grid it
    names (that of a `.tflite` that was given is its own)."""
    return BYTES if opened.input.dtype == np.float32 else RAW


def _tflite_scorer(model: bytes, how: Preprocess | None) -> Scorer:
    """how: None for a file that takes bytes."""
    from mobileclf.tflite.interpreter import answer, dequantized, open_interpreter

    opened = open_interpreter(model)
    how = how or _bytes_of(opened)
    encode = preprocess.encoder(how, **_ends(opened.input), channels=opened.shape[2])

    def score(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        answers = [answer(opened, encode(image)) for image in images]
        return _both(dequantized(np.stack(answers), opened.output))

    return score


def _both(outputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, labels) as it is; of a single unit (n, 1), which is the second label's, (n, 2)."""
    return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs


def _rule_inside(data: bytes | None) -> Rule | None:
    """The decision that a bundle's model carries."""
    if data is None:
        return None
    try:
        classes, decision = read_decision(json.loads(data))
    except (ValueError, AttributeError, TypeError, DataError) as error:
        raise DataError(f"decision.json in it is not one of mobileclf's ({error})") from error
    if decision_file(classes, decision) != data:
        raise DataError("decision.json in it was changed by hand; export it again")
    return Rule(classes=classes, decision=decision)


def _preprocess_of(described: Record | None, tensor: Any, chosen: Preprocess | None) -> Preprocess:
    """What is chosen, or what the file itself says. Raises UsageError where neither does."""
    found = preprocess.inside(described, **_ends(tensor))
    own = found[0] if found is not None else None
    if chosen is not None:
        if own not in (None, BYTES) and not chosen.raw:
            if (chosen.mean, chosen.std) != (own.mean, own.std):
                progress.warn(
                    f"--preprocess {chosen.name} is used, though {own.name} say something else"
                )
        return chosen
    if own is not None:
        return own
    if tensor.dtype == np.float32:
        raise UsageError(
            "wanted to know how pixels become its float32 input, and nothing in it says so; give "
            f"--preprocess: {preprocess.WANTED}"
        )
    low, high = preprocess.holds(tensor.dtype, tensor.scale, tensor.zero_point)
    raise UsageError(
        f"wanted to know how pixels become its {tensor.dtype} input, which holds {low:.4g} to "
        f"{high:.4g}, and nothing in it says so; give --preprocess: raw (the bytes, as TFLite's "
        f"task libraries feed it) or what it was trained with: {preprocess.WANTED}"
    )


# .keras


def _of_keras(
    model: Path,
    data: bytes,
    run: RunModel | None,
    given: tuple[str, ...] | None,
    how: Preprocess | None,
) -> Classifier:
    if model.suffix.lower() != ".keras":
        raise DataError("a .keras file by what is in it; rename it so that it ends in .keras")
    try:
        network = keras_file.load(model)
    except Exception as error:  # Keras has no base class for what it raises on a strange file
        raise DataError(_why_not(error)) from error
    ins, outs = _shapes(network.inputs), _shapes(network.outputs)
    if len(ins) != 1 or len(outs) != 1 or len(ins[0]) != 4 or len(outs[0]) != 2:
        raise DataError(
            f"wanted one input of (n, height, width, 3 or 1) and one output of (n, labels), found "
            f"{', '.join(map(str, ins))} and {', '.join(map(str, outs))}"
        )
    (_, height, width, channels), (_, outputs) = ins[0], outs[0]
    if height is None or width is None or outputs is None or channels not in (1, 3):
        raise DataError(
            f"wanted an input of (n, height, width, 3 or 1) with a fixed size, found {ins[0]}"
        )
    if run is not None:
        labels, rule, how, said = run.labels, run.rule, BYTES, run.note
        check_count(labels, outputs, DATA)
    else:
        labels, said = labels_of(outputs, given, None, None, {})
        rule = None
        if how is None:
            raise UsageError(_unknown_pixels())
    encode = preprocess.encoder(how, dtype=np.float32, scale=0, zero_point=0, channels=channels)

    def score(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return _both(np.asarray(network(encode(images), training=False)).astype(np.float64))

    return _in_batches(
        (height, width, channels), labels, rule, score, f"{said}; pixels as {how.name}"
    )


def _of_imported(model: Path, given: tuple[str, ...] | None, how: Preprocess | None) -> Classifier:
    """An h5, a SavedModel or a `.keras` of tf.keras 2, read in a process of its own."""
    from mobileclf.importing import from_keras

    opened = from_keras.open_given(model, trust=False, size=None)
    try:
        labels, said = labels_of(opened.outputs, given, None, None, {})
    except UsageError as error:
        raise UsageError(f"{model}: {error}") from error
    # Also where it scales them itself: only labelled photos show of what.
    if how is None:
        raise UsageError(f"{model}: {_unknown_pixels()}")

    def score(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return opened.score(images, how)

    said = f"{said}; {opened.format}, pixels as {how.name}"
    return _in_batches(opened.shape, labels, None, score, said)


def _in_batches(
    shape: tuple[int, int, int],
    labels: tuple[str, ...],
    rule: Rule | None,
    score: Scorer,
    said: str,
) -> Classifier:
    """A network that takes a batch at once and all cores, so that there is one of it."""
    height, width, channels = shape
    return Classifier(
        labels=labels,
        spec=ImageSpec(width=width, height=height, channels=channels),
        rule=rule,
        scorer=lambda: score,
        batch=KERAS_BATCH,
        about=f"{width} x {height} x {channels}, {counted(len(labels), 'label')}: {said}",
    )


def _unknown_pixels() -> str:
    return (
        "wanted to know how pixels become its input, and nothing in it says so; give "
        f"--preprocess: {preprocess.WANTED} (0..255 where the model rescales itself)"
    )


def _why_not(error: Exception) -> str:
    words = " ".join(str(error).split())
    if "safe_mode" in words or "Lambda" in words or "deserializ" in words and "unsafe" in words:
        return "it holds code of its own (a Lambda layer or the like), which is never run"
    return f"Keras cannot load it in safe mode ({words[:200]})"


def _shapes(ends: Sequence[Any]) -> list[tuple[int | None, ...]]:
    return [tuple(end.shape) for end in ends]
