"""The trained network as it goes to the phone: as a graph, rebuilt in tf_keras, then rewritten."""

from __future__ import annotations

from collections.abc import Collection
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

    trained: Keras 3, as saved. rebuilt: the same layers in tf_keras, of `flat`. folded: after the
    rewrites, all but those in `without`, of `graph`.
    """

    trained: Any
    rebuilt: Any
    folded: Any
    flat: Graph
    graph: Graph
    without: tuple[str, ...] = ()


def deployable(folder: Path, without: Collection[str] = ()) -> Deployable:
    """Read a run's trained model and rewrite it, but for the rewrites named in `without`.

    Raises DataError for a layer not known, UsageError for a rewrite that cannot be left out.
    """
    import tf_keras

    trained = keras_file.load(folder / MODEL)
    flat = flatten(trained).graph
    graph = rewrites.rewritten(flat, without)
    return Deployable(
        trained=trained,
        rebuilt=build(tf_keras, flat),
        folded=build(tf_keras, graph),
        flat=flat,
        graph=graph,
        without=tuple(without),
    )
