"""A Keras model of either generation, read as data, as the run's `model.keras`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError
from mobileclf.images import preprocess
from mobileclf.images.preprocess import BYTES, Preprocess
from mobileclf.models.deploy import MODEL
from mobileclf.models.equality import ACROSS, EQUAL, largest_difference, require_equal
from mobileclf.models.graph import build
from mobileclf.models.keras_file import save
from mobileclf.records import Record

from . import ends, read
from .given import Given


def open_given(path: Path, *, trust: bool, size: tuple[int, int] | None) -> Given:
    """A `.keras`, an h5, a SavedModel or a run of this tool. Raises DataError.

    size: height and width for a model that leaves them open. trust: as `read.read_model` has it.
    """
    import keras

    imported = read.read_model(path, trust=trust, size=size)
    try:
        graph, form = ends.with_probabilities(imported.graph)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    network = build(keras, graph)

    def score(pixels: NDArray[np.uint8], how: Preprocess) -> NDArray[np.float64]:
        inputs = _encoder(how, graph.shape[2])(pixels)
        return np.asarray(network(inputs, training=False)).astype(np.float64)

    def finish(folder: Path, how: Preprocess, pixels: NDArray[np.uint8]) -> Record:
        model = build(keras, ends.with_preprocess(graph, how))
        inputs = _encoder(how, graph.shape[2])(pixels)
        said = read.answers(path, inputs, trust=trust, size=size)
        own = ends.probabilities(said.own.astype(np.float64), form)
        flat = ends.probabilities(said.flat.astype(np.float64), form)
        got = np.asarray(model(pixels.astype(np.float32), training=False))
        # The run's model is of Keras 3, where float32 sums in another order.
        bound = ACROSS if "tf.keras" in imported.format else EQUAL
        checks = [
            require_equal("train", what, largest_difference(own, other), bound)
            for what, other, bound in (
                ("the given model against the flat one", flat, EQUAL),
                (f"the given model against {MODEL}", got, bound),
            )
        ]
        save(model, folder / MODEL)
        return {
            "model": MODEL,
            "dropped": list(imported.dropped),
            "head": form,
            "checks": checks,
            "parameters": int(model.count_params()),
            "outputs": [MODEL],
        }

    a_run = imported.kind == "run"  # which takes bytes, whatever its network begins with
    return Given(
        format=imported.format,
        shape=graph.shape,
        outputs=int(network.output_shape[-1]),
        inside=BYTES if a_run or ends.preprocesses_itself(graph) else None,
        says="a run takes bytes" if a_run else "the model scales its pixels itself",
        takes=lambda how: not how.raw,
        score=score,
        finish=finish,
    )


def _encoder(how: Preprocess, channels: int) -> Any:
    return preprocess.encoder(how, dtype=np.float32, scale=0, zero_point=0, channels=channels)
