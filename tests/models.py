"""Small models that tests share, made once in a process."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.models import backbones, qat, rewrites
from mobileclf.tflite import convert

SIZE, LABELS = 16, 3


def photos(n: int = 32, size: int = SIZE) -> NDArray[np.uint8]:
    """Random pictures, uint8 (n, size, size, 3)."""
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@cache
def tiny_folded() -> Any:
    """A folded small_cnn with a sharp head."""
    import tf_keras

    folded = rewrites.fold(
        backbones.build(
            tf_keras,
            backbones.Architecture(backbone="small_cnn", image_size=SIZE, labels=LABELS, seed=0),
        )
    )
    head = folded.get_layer("probabilities")
    head.set_weights([w * 30 for w in head.get_weights()])
    return folded


@cache
def tiny_graph() -> Any:
    """The calibrated quantization graph of `tiny_folded`."""
    graph = qat.quantized(tiny_folded())
    qat.calibrate(tiny_folded(), graph, photos())
    return graph


@cache
def tiny_int8(io: str = "uint8") -> bytes:
    """`tiny_graph` as a `.tflite`."""
    return convert.from_quantized_graph(tiny_graph(), SIZE, io)


@cache
def tiny_float() -> bytes:
    """`tiny_folded` as a float32 `.tflite`."""
    return convert.floating(tiny_folded(), SIZE, "float32")
