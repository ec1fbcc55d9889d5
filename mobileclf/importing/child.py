"""The process that somebody's model is read in: checked first, then loaded, flattened or asked.

Started by `read`, in an empty folder of its own: `request.json` says what to do, `answer.json`
what came of it. No user's settings of Keras count here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mobileclf import apart
from mobileclf.errors import DataError, MobileclfError
from mobileclf.models import graph

from . import saved_model, trust
from .flatten import Flat, flatten, keras_of
from .formats import Kind

REQUEST, ANSWER, INPUTS = "request.json", "answer.json", "inputs.npy"
OWN, FLAT = "own.npy", "flat.npy"
READ, ANSWERS = "read", "answers"
BATCH = 32

Caller = Callable[..., Any]


def main(folder: str) -> None:
    """Do what `request.json` in `folder` asks for, and write `answer.json`."""
    work = Path(folder)
    request = json.loads((work / REQUEST).read_text("utf-8"))
    try:
        answer: dict[str, Any] = {"found": _do(request, work)}
    except MobileclfError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        message = f"{request['path']}: it needs more memory than this machine has"
        answer = {"error": DataError.__name__, "message": message}
    (work / ANSWER).write_text(json.dumps(answer), encoding="utf-8")


def _do(request: dict[str, Any], work: Path) -> dict[str, Any]:
    path, size = Path(request["path"]), request["size"]
    clean, words = _checked_copy(path, request["kind"], work, trusted=request["trust"])
    import tensorflow  # noqa: F401  before the limit, as its libraries take much of the space

    apart.limit_memory()
    model = _load(clean, words, path)
    flat = _flat(model, size, path)
    if request["action"] == READ:
        graph.save(flat.graph, work)
        return {"dropped": list(flat.dropped), "format": words}
    inputs = np.load(work / INPUTS)
    own = (_signature(clean, path) if request["kind"] == "saved_model" else None) or model
    np.save(work / OWN, _run(own, inputs, path))
    np.save(work / FLAT, _run(graph.build(keras_of(model), flat.graph), inputs, path))
    return {}


def _flat(model: Any, size: Any, path: Path) -> Flat:
    try:
        return flatten(model, size=tuple(size) if size else None)
    except MobileclfError as error:
        raise type(error)(f"{path}: {error}") from error


def _checked_copy(path: Path, kind: Kind, work: Path, *, trusted: bool) -> tuple[Path, str]:
    """The file that Keras is given, with nothing in it that was not checked, and what it is."""
    try:
        if kind == "saved_model":
            version = saved_model.copy(path, work / "model", trust=trusted)
            return work / "model", f"SavedModel of tf.keras, TensorFlow {version}"
        if kind == "h5":
            version = trust.copy_h5(path, work / "model.h5")
            return work / "model.h5", f"Keras h5 of {_keras(version, path)}"
        file = path / "model.keras" if kind == "run" else path
        version = trust.copy_keras(file, work / "model.keras")
        what = "training run" if kind == "run" else ".keras file"
        return work / "model.keras", f"{what} of {_keras(version, path)}"
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _keras(version: str, path: Path) -> str:
    """Which of the two Keras reads what `version` wrote: "tf.keras 2..." or "Keras 3..."."""
    first = version.split(".")[0]
    if first == "2":
        return f"tf.keras {version[:20]}"
    if first == "3":
        return f"Keras {version[:20]}"
    raise DataError(
        f"{path}: wanted a model of Keras 2 or 3, found one of Keras {version[:20]!r}; load it in "
        "Keras 2 and save it again"
    )


def _load(clean: Path, words: str, path: Path) -> Any:
    try:
        if "tf.keras" in words:
            import tf_keras

            return tf_keras.models.load_model(str(clean), compile=False)
        import keras

        return keras.saving.load_model(clean, compile=False, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:  # Keras has no base class for what it raises on a strange file
        raise DataError(f"{path}: Keras cannot load it ({_one_line(error)})") from error


def _signature(clean: Path, path: Path) -> Caller | None:
    """A SavedModel's serving signature where that has one input and one output: the graph as it
    was traced when it was saved, which nothing here has rebuilt."""
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(clean))
        serving = loaded.signatures.get("serving_default")
    except MemoryError:
        raise
    except Exception as error:  # TensorFlow raises much else than its own errors
        raise DataError(f"{path}: TensorFlow cannot load it ({_one_line(error)})") from error
    if serving is None:
        return None
    names, outputs = list(serving.structured_input_signature[1]), list(serving.structured_outputs)
    if len(names) != 1 or len(outputs) != 1:
        return None

    def call(batch: Any, training: bool, keeps_its_variables: Any = loaded) -> Any:
        return serving(**{names[0]: tf.constant(batch)})[outputs[0]]

    return call


def _run(call: Caller, inputs: Any, path: Path) -> Any:
    """Answers float32 (n, outputs)."""
    starts = range(0, len(inputs), BATCH)
    try:
        pieces = [
            np.asarray(call(inputs[i : i + BATCH], training=False), np.float32) for i in starts
        ]
        answers = np.concatenate(pieces)
    except MemoryError:
        raise
    except Exception as error:  # TensorFlow's errors and those of Keras have no common base
        raise DataError(f"{path}: it cannot be run ({_one_line(error)})") from error
    if answers.ndim != 2:
        raise DataError(f"{path}: wanted answers (n, labels), found {answers.shape}")
    return answers


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
