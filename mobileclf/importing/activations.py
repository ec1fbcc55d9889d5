"""Activations of both Keras, by name, as nodes that mean the same in both."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from mobileclf.errors import DataError
from mobileclf.models.graph import ACTIVATIONS

from .sketch import Sketch, Value

ALIASES = {"silu": "swish", "exp": "exponential", "hard_silu": "hard_swish"}
# clip(slope * x + 0.5, 0, 1): Keras 3 took relu6(x + 3) / 6 where tf.keras had 0.2 x + 0.5.
HARD_SIGMOID = {"keras": 1 / 6, "tf_keras": 0.2}
LEAKY = 0.2  # negative slope of `leaky_relu` by name, in both Keras and in tf.nn


def name_of(k: ModuleType, function: Any, layer: str) -> str:
    """The name of an activation function: one of this Keras or of tf.nn and no other.

    Raises DataError for any other function, whatever it is called.
    """
    import tensorflow as tf

    name = str(getattr(function, "__name__", type(function).__name__))
    if not any(getattr(home, name, None) is function for home in (k.activations, tf.nn)):
        raise DataError(
            f"layer {layer!r}: its activation {name!r} is a function of its own; use one of "
            f"{', '.join(ACTIVATIONS)} and save again"
        )
    return ALIASES.get(name, name)


def activate(k: ModuleType, sketch: Sketch, value: Value, activation: str, layer: str) -> Value:
    """The activation of this name on the value, exactly. Raises DataError if it is not known."""
    if activation == "linear":
        return value
    if activation in ACTIVATIONS:
        return sketch.add("Activation", layer, {"activation": activation}, [value])
    if activation == "hard_sigmoid":
        return clip(sketch, value.affine(layer, HARD_SIGMOID[k.__name__], 0.5), 0, 1, layer)
    if activation == "hard_swish":
        gate = activate(k, sketch, value, "hard_sigmoid", f"{layer}_gate")
        return sketch.add("Multiply", layer, {}, [value, gate])
    if activation == "hard_tanh":
        return clip(sketch, value, -1, 1, layer)
    if activation == "leaky_relu":
        return relu(sketch, value, layer, negative_slope=LEAKY)
    if activation == "mish":
        gate = activate(k, sketch, value, "softplus", f"{layer}_softplus")
        gate = activate(k, sketch, gate, "tanh", f"{layer}_tanh")
        return sketch.add("Multiply", layer, {}, [value, gate])
    raise DataError(
        f"layer {layer!r}: its activation {activation!r} is not known here; use one of "
        f"{', '.join(ACTIVATIONS)} and save again"
    )


def relu(
    sketch: Sketch,
    value: Value,
    layer: str,
    *,
    max_value: float | None = None,
    negative_slope: float = 0.0,
    threshold: float = 0.0,
) -> Value:
    """As `keras.layers.ReLU`."""
    config = {"max_value": max_value, "negative_slope": negative_slope, "threshold": threshold}
    return sketch.add("ReLU", layer, config, [value])


def clip(sketch: Sketch, value: Value, low: float, high: float, layer: str) -> Value:
    """min(max(x, low), high)."""
    raised = value.affine(layer, 1.0, -low) if low else value
    value = relu(sketch, raised, layer, max_value=float(high - low))
    return value.affine(layer, 1.0, low) if low else value
