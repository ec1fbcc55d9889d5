"""The trained network as it goes to the phone: as a graph, rebuilt in tf_keras, then folded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclf.importing.flatten import flatten

from . import keras_file, rewrites
from .graph import Graph, build

MODEL = "model.keras"


@dataclass(frozen=True, kw_only=True)
class Deployable:
    """Three models of one function, float32 pixels 0..255 to probabilities (n, labels).

    trained: Keras 3, as saved. rebuilt: the same layers in tf_keras. folded: after the rewrites,
    of `graph`.
    """

    trained: Any
    rebuilt: Any
    folded: Any
    graph: Graph


def deployable(folder: Path) -> Deployable:
    """Read a run's trained model and rewrite it. Raises DataError for a layer not known."""
    import tf_keras

    trained = keras_file.load(folder / MODEL)
    flat = flatten(trained).graph
    folded = rewrites.fold(flat)
    return Deployable(
        trained=trained,
        rebuilt=build(tf_keras, flat),
        folded=build(tf_keras, folded),
        graph=folded,
    )
