"""Anyone's `.tflite`, as the run's `given.tflite`: not quantized here, but measured and bundled."""

from __future__ import annotations

from dataclasses import dataclass
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
from mobileclf.wording import counted

from .ends import probabilities
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
# Of float32 or float16; far less than the numbers of a head that is none leave 0..1 or a sum of 1.
SLACK = 1e-3


def open_given(path: Path) -> Given:
    """A `.tflite` with one image in and one vector out. Raises DataError."""
    data = file_bytes(path)
    delegates.check_runs(path)  # a broken one may end the process that it is opened in
    reference = opened(data)
    shape, labels = reference.interpreter.shape, reference.interpreter.labels
    own = preprocess.inside(metadata.describe(data), **reference.input)

    def takes(how: Preprocess) -> bool:
        try:
            preprocess.encoder(how, **reference.input, channels=shape[2])
        except DataError:
            return False
        return True

    def finish(folder: Path, how: Preprocess, pixels: NDArray[np.uint8]) -> Record:
        reference.check_reading(pixels, how)
        write_bytes(folder / FILE, data)
        return {
            "model": FILE,
            "dropped": [],
            "head": reference.scores.probabilities,
            "checks": [],
            "outputs": [FILE],
        }

    return Given(
        format="a TFLite model",
        shape=shape,
        outputs=max(2, labels),
        inside=own[0] if own else None,
        says=own[1] if own else "",
        takes=takes,
        score=reference.answers,
        finish=finish,
    )


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A file as it was given, opened: what is wrapped around it is held against its answers.

    Photos are made its input, and its outputs probabilities, in numpy, and not by operators as in
    the wrapped file. Whether the outputs are logits or probabilities is read off the graph as it
    is for that file; `check_reading` holds it against the numbers. Not for two threads at once.
    """

    interpreter: Interpreter
    scores: ends.Scores

    @property
    def input(self) -> dict[str, Any]:
        tensor = self.interpreter.input
        return {"dtype": tensor.dtype, "scale": tensor.scale, "zero_point": tensor.zero_point}

    def outputs(self, photos: NDArray[np.uint8], how: Preprocess) -> NDArray[np.float64]:
        """The numbers at its output, whatever they mean: float64 (n, units).

        photos: uint8 (n, height, width, channels).
        """
        channels = self.interpreter.shape[2]
        encode = preprocess.encoder(how, **self.input, channels=channels)
        raw = np.stack([answer(self.interpreter, encode(photo)) for photo in photos])
        return dequantized(raw, self.interpreter.output)

    def answers(self, photos: NDArray[np.uint8], how: Preprocess) -> NDArray[np.float64]:
        """Probabilities, float64 (n, labels). photos: uint8 (n, height, width, channels)."""
        return probabilities(self.outputs(photos, how), FORMS[self.scores.probabilities])

    def check_reading(self, photos: NDArray[np.uint8], how: Preprocess) -> None:
        """Raises DataError where the numbers are not what they are taken for: logits that never
        leave 0..1, or probabilities that do, or do not add up to 1."""
        numbers, quantum = self.outputs(photos, how), self.scores.quantum
        units = numbers.shape[1]
        low, high = float(numbers.min()), float(numbers.max())
        sums = numbers.sum(axis=1) if units > 1 else np.ones(len(numbers))
        within = low >= -quantum - SLACK and high <= 1 + quantum + SLACK
        # Each number may be rounded by a quantum. Many small ones may all become 0; and no more
        # than 2 / quantum of them are large enough to be rounded up, by half a quantum.
        bound = min(units * quantum, 1.0) + SLACK
        found = f"numbers of {low:.3g} to {high:.3g}"
        if units > 1:
            found += f", of which those of a photo add up to {sums.min():.3g} to {sums.max():.3g}"
        found += f", on {counted(len(photos), 'photo')}"
        one = units == 1
        if FORMS[self.scores.probabilities] in ("logits", "sigmoid logit"):
            if within:
                raise DataError(
                    f"model: wanted logits, as neither softmax nor sigmoid calculates its outputs, "
                    f"found {found}, as of probabilities p; let it end with its logits, or put "
                    f"{'sigmoid(log(p) - log(1 - p))' if one else 'softmax(log(p))'} behind it, "
                    "which is p again, and convert it again"
                )
        elif not within or np.abs(sums - 1).max() > bound:
            raise DataError(
                f"model: wanted probabilities, as its last operators or the scale of its outputs "
                f"say, found {found}; end it with {'sigmoid' if one else 'softmax over the labels'}"
                " or with its logits, and convert it again"
            )


def opened(model: bytes) -> Reference:
    """A `.tflite` with one image in and one vector out. Raises DataError."""
    scores = ends.scores_of(model)
    return Reference(interpreter=open_interpreter(scores.model), scores=scores)


def is_given(folder: Path) -> bool:
    """Whether the model of a run is a `.tflite` that was given."""
    return bool(read_json(folder / TRAINED)["model"] == FILE)


def read_given(folder: Path) -> tuple[bytes, Preprocess]:
    """The file as it was given, and the preprocessing that was chosen for it."""
    record = read_json(folder / TRAINED)
    return (folder / FILE).read_bytes(), Preprocess.from_record(record["given"]["preprocess"])
