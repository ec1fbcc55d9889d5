"""Anyone's `.tflite`, as the run's `given.tflite`: not quantized here, but measured and bundled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError
from mobileclf.images import preprocess
from mobileclf.images.preprocess import Preprocess
from mobileclf.photos import TRAINED
from mobileclf.records import Record, read_json, write_bytes
from mobileclf.tflite import delegates, ends, metadata
from mobileclf.tflite.graph import file_bytes
from mobileclf.tflite.interpreter import Interpreter, answer, dequantized, open_interpreter

from .from_keras import probabilities
from .given import Given

FILE = "given.tflite"
# What its outputs are, in the words of `ends`, as `probabilities` has them.
FORMS = {
    "as they were": "softmax",
    "softmax added": "logits",
    "sigmoid added": "sigmoid logit",
    "sigmoid made into two": "sigmoid",
}
GIVEN = "given"  # the one candidate then: the file with bytes at its input and quanta at its output


def open_given(path: Path) -> Given:
    """A `.tflite` with one image in and one vector out. Raises DataError."""
    data = file_bytes(path)
    delegates.check_runs(path)  # a broken one may end the process that it is opened in
    opened = open_interpreter(data)
    own = preprocess.inside(metadata.describe(data), **_input(opened))

    def takes(how: Preprocess) -> bool:
        try:
            preprocess.encoder(how, **_input(opened), channels=opened.shape[2])
        except DataError:
            return False
        return True

    def finish(folder: Path, how: Preprocess, pixels: NDArray[np.uint8]) -> Record:
        write_bytes(folder / FILE, data)
        wrapped = ends.with_bytes_and_quanta(data, how)
        return {
            "model": FILE,
            "dropped": [],
            "head": wrapped.probabilities,
            "checks": [],
            "outputs": [FILE],
        }

    return Given(
        format="a TFLite model",
        shape=opened.shape,
        outputs=max(2, opened.labels),
        inside=own[0] if own else None,
        says=own[1] if own else "",
        takes=takes,
        score=lambda pixels, how: answers(data, pixels, how),
        finish=finish,
    )


def _input(opened: Interpreter) -> dict[str, Any]:
    tensor = opened.input
    return {"dtype": tensor.dtype, "scale": tensor.scale, "zero_point": tensor.zero_point}


def answers(model: bytes, photos: NDArray[np.uint8], how: Preprocess) -> NDArray[np.float64]:
    """What the file as it was given answers: probabilities float64 (n, labels).

    photos: uint8 (n, height, width, channels). This is the reference that what is wrapped around
    the file is held against, so it goes its own way: numpy before and after the interpreter.
    """
    opened = open_interpreter(model)
    encode = preprocess.encoder(how, **_input(opened), channels=opened.shape[2])
    raw = np.stack([answer(opened, encode(photo)) for photo in photos])
    head = ends.with_bytes_and_quanta(model, how).probabilities
    return probabilities(dequantized(raw, opened.output), FORMS[head])


def is_given(folder: Path) -> bool:
    """Whether the model of a run is a `.tflite` that was given."""
    return bool(read_json(folder / TRAINED)["model"] == FILE)


def read_given(folder: Path) -> tuple[bytes, Preprocess]:
    """The file as it was given, and the preprocessing that was chosen for it."""
    record = read_json(folder / TRAINED)
    return (folder / FILE).read_bytes(), Preprocess.from_record(record["given"]["preprocess"])
