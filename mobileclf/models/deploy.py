"""The trained network as it goes to the phone: rebuilt in tf_keras, then folded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclf.records import read_json

from . import backbones, keras_file, rewrites, transfer

MODEL = "model.keras"
RECORD = "train.json"


@dataclass(frozen=True, kw_only=True)
class Deployable:
    """Three models of one function, float32 pixels 0..255 to probabilities (n, labels).

    trained: Keras 3, as saved. rebuilt: the same layers in tf_keras. folded: after the rewrites.
    """

    trained: Any
    rebuilt: Any
    folded: Any


def deployable(folder: Path) -> Deployable:
    """Read a run's trained model and rewrite it. Raises ProofError if the layers differ."""
    import tf_keras

    record = read_json(folder / RECORD)
    trained = keras_file.load(folder / MODEL)
    architecture = backbones.Architecture.from_record(record["architecture"])
    rebuilt = backbones.build(tf_keras, architecture)
    transfer.copy_weights(trained, rebuilt)
    return Deployable(trained=trained, rebuilt=rebuilt, folded=rewrites.fold(rebuilt))
