"""Small models that tests share, made once in a process."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.importing.flatten import flatten
from mobileclf.models import backbones, qat, ranges, rewrites
from mobileclf.models.backbones import Architecture
from mobileclf.models.graph import Graph, build
from mobileclf.tflite import convert

SIZE, LABELS = 16, 3


def photos(n: int = 32, size: int = SIZE, channels: int = 3) -> NDArray[np.uint8]:
    """Random pictures, uint8 (n, size, size, channels)."""
    return np.random.default_rng(0).integers(0, 256, (n, size, size, channels), dtype=np.uint8)


def architecture(
    backbone: str = "small_cnn",
    *,
    size: int = SIZE,
    channels: int = 3,
    units: tuple[int, ...] = (64,),
    labels: int = LABELS,
) -> Architecture:
    """A network of seed 0, small and with the usual head unless something else is said."""
    return Architecture(
        backbone=backbone, image_size=size, channels=channels, units=units, labels=labels, seed=0
    )


@cache
def tiny_network() -> Graph:
    """A folded small_cnn with a sharp head."""
    import tf_keras

    model = backbones.build(tf_keras, architecture())
    head = model.get_layer("probabilities")
    head.set_weights([w * 30 for w in head.get_weights()])
    return rewrites.rewritten(flatten(model).graph)


@cache
def tiny_folded() -> Any:
    """`tiny_network` in tf_keras."""
    import tf_keras

    return build(tf_keras, tiny_network())


@cache
def tiny_graph() -> Any:
    """The calibrated quantization-aware model of `tiny_network`."""
    aware = qat.quantized(tiny_network())
    ranges.calibrate(tiny_network(), aware, photos())
    return aware


@cache
def tiny_int8(io: str = "uint8") -> bytes:
    """`tiny_graph` as a `.tflite`."""
    return convert.from_quantized_graph(tiny_graph(), io)


@cache
def tiny_float() -> bytes:
    """`tiny_folded` as a float32 `.tflite`."""
    return convert.floating(tiny_folded(), "float32")
