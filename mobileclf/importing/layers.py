"""Layers of both Keras as nodes of the graph: which are kept, taken apart, dropped or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from mobileclf.errors import DataError
from mobileclf.models.graph import ACTIVATIONS, KINDS, Float

from . import activations
from .sketch import Sketch, Value, joined, pointwise

# They do nothing once training is over. RandomCrop does, and stands with Resizing.
IDENTITY = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout", "AlphaDropout",
    "GaussianNoise", "ActivityRegularization", "Identity", "RandAugment", "AugMix", "MixUp",
    "CutMix",
)  # fmt: skip
RESIZING = ("Resizing", "CenterCrop", "RandomCrop")
MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
ADVICE = {
    "PReLU": "replace it with LeakyReLU or ReLU, train on and save again",
    "ThresholdedReLU": "replace it with ReLU, train on and save again",
    "LayerNormalization": "take a network with BatchNormalization, such as EfficientNet",
    "GroupNormalization": "replace it with BatchNormalization, train again and save again",
    "UnitNormalization": "replace it with BatchNormalization, train again and save again",
    "Conv2DTranspose": "replace it with UpSampling2D and Conv2D, train again and save again",
    "Lambda": "replace it with Rescaling or other layers of Keras and save again",
}
BUILT_IN = "replace it with layers of Keras and save again"
ELSEWHERE = (
    "attention, recurrent and other such layers are not quantized here; take a convolutional "
    "network, or convert this one to .tflite and give that"
)
OWN = "it is no layer of Keras itself; "


def refuse(layer: Any, why: str) -> DataError:
    """What is wrong with a layer, with its name and class."""
    return DataError(f"layer {layer.name!r} ({type(layer).__name__}): {why}")


def apply(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    """The layer's nodes on these values.

    Raises DataError naming a layer that is not known, or that is used in a way that is not.
    """
    kind = type(layer).__name__
    if not type(layer).__module__.startswith(f"{k.__name__}."):
        raise refuse(layer, f"{OWN}{ADVICE.get(kind, BUILT_IN)}")
    if getattr(layer, "data_format", None) == "channels_first":
        raise refuse(layer, "channels come first; build the model with channels last and save it")
    if _does_nothing(layer):
        sketch.dropped.append(f"{layer.name} ({kind})")
        return inputs[0]
    if kind in RESIZING:
        return _resized(k, sketch, layer, inputs[0])
    if kind not in LAYERS:
        raise refuse(layer, f"not known here; {ADVICE.get(kind, ELSEWHERE)}")
    if not layer.built:
        raise refuse(layer, "it has no weights yet; call the model on a picture and save again")
    if getattr(layer, "quantization_mode", None):
        raise refuse(layer, "its weights are quantized already; save the model before that")
    return LAYERS[kind](k, sketch, layer, inputs)


def _does_nothing(layer: Any) -> bool:
    kind, home = type(layer).__name__, type(layer).__module__
    random = kind.startswith("Random") and "preprocessing" in home and kind != "RandomCrop"
    linear = kind == "Activation" and getattr(layer.activation, "__name__", "") == "linear"
    return kind in IDENTITY or random or linear


def _resized(k: ModuleType, sketch: Sketch, layer: Any, value: Value) -> Value:
    size, kind = (int(layer.height), int(layer.width)), type(layer).__name__
    if kind == "RandomCrop" and k.__name__ == "keras" and value.shape[:2] != size:
        # Keras 3 announces a crop, and lets the whole picture through once training is over.
        raise refuse(layer, "Keras 3 crops in training only; replace it with Resizing and save "
                            "again")  # fmt: skip
    value = sketch.resize(value, layer.name, size)
    sketch.dropped.append(f"{layer.name} ({kind} to {size[0]} x {size[1]} pixels)")
    return value


def numbers(variable: Any) -> Float:
    """A variable of either Keras as a float32 copy."""
    return np.array(variable.numpy() if hasattr(variable, "numpy") else variable, np.float32)


def config_of(layer: Any, kind: str) -> dict[str, Any]:
    """The settings of KINDS, read off the layer, as JSON values."""
    return {key: _plain(getattr(layer, key)) for key in KINDS[kind] if key != "activation"}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value


def _kept(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    kind = type(layer).__name__
    return sketch.add(kind, layer.name, config_of(layer, kind), inputs)


def _weighted(
    k: ModuleType,
    sketch: Sketch,
    layer: Any,
    value: Value,
    *,
    kind: str,
    config: Mapping[str, Any],
    weights: Sequence[Float],
) -> Value:
    """A convolution or dense layer, its activation inside it where the graph knows it."""
    if layer.use_bias:
        weights = [*weights, numbers(layer.bias)]
    inside = _inside(k, layer)
    config = {**config, "use_bias": bool(layer.use_bias), "activation": inside or "linear"}
    value = sketch.add(kind, layer.name, config, [value], weights)
    return value if inside else _activated(k, sketch, layer, value)


def _inside(k: ModuleType, layer: Any) -> str | None:
    function = layer.activation
    if function is None:
        return "linear"
    if isinstance(function, k.layers.Layer):
        return None
    name = activations.name_of(k, function, layer.name)
    return name if name in ACTIVATIONS else None


def _activated(k: ModuleType, sketch: Sketch, layer: Any, value: Value) -> Value:
    function = layer.activation
    if isinstance(function, k.layers.Layer):
        return apply(k, sketch, function, [value])
    name = activations.name_of(k, function, layer.name)
    own = type(layer).__name__ == "Activation"
    return activations.activate(
        k, sketch, value, name, layer.name if own else f"{layer.name}_{name}"
    )


def _convolution(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    kind = type(layer).__name__
    kernel = getattr(layer, "depthwise_kernel", None)
    kernel = layer.kernel if kernel is None else kernel
    config, weights = config_of(layer, kind), [numbers(kernel)]
    return _weighted(k, sketch, layer, inputs[0], kind=kind, config=config, weights=weights)


def _separable(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    config = {**config_of(layer, "DepthwiseConv2D"), "use_bias": False, "activation": "linear"}
    depthwise = [numbers(layer.depthwise_kernel)]
    value = sketch.add("DepthwiseConv2D", f"{layer.name}_depthwise", config, inputs, depthwise)
    return _weighted(
        k,
        sketch,
        layer,
        value,
        kind="Conv2D",
        config=pointwise(int(layer.filters)),
        weights=[numbers(layer.pointwise_kernel)],
    )


def _dense(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    value, kernel, units = inputs[0], numbers(layer.kernel), int(layer.units)
    if len(value.shape) == 1:
        config: Mapping[str, Any] = {"units": units}
        return _weighted(k, sketch, layer, value, kind="Dense", config=config, weights=[kernel])
    if len(value.shape) != 3:
        raise refuse(layer, f"wanted features or a picture, found the shape {value.shape}; put a "
                            "Flatten before it and save again")  # fmt: skip
    weights = [kernel[None, None]]
    config = pointwise(units)
    return _weighted(k, sketch, layer, value, kind="Conv2D", config=config, weights=weights)


def _batch_norm(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    rank = len(inputs[0].shape) + 1
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [int(axis) % rank for axis in axes] != [rank - 1]:
        raise refuse(layer, f"wanted the last axis, found {list(axes)}; {BUILT_IN}")
    config = config_of(layer, "BatchNormalization")
    held = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    weights = [numbers(variable) for variable in held if variable is not None]
    return sketch.add("BatchNormalization", layer.name, config, inputs, weights)


def _rescaling(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    scale, offset = (per_channel(n, inputs[0], layer) for n in (layer.scale, layer.offset))
    return inputs[0].affine(layer.name, scale, offset)


def _normalization(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    """(x - mean) / max(sqrt(variance), 1e-7), or its inverse."""
    value = inputs[0]
    mean, variance = (per_channel(n, value, layer) for n in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), k.backend.epsilon())
    if getattr(layer, "invert", False):
        return value.affine(layer.name, deviation, mean)
    return value.affine(layer.name, 1 / deviation, -mean / deviation)


def per_channel(constant: Any, value: Value, layer: Any) -> Any:
    """One number, or one for each channel, out of what Keras holds. Raises DataError."""
    array = np.asarray(constant.numpy() if hasattr(constant, "numpy") else constant, np.float64)
    last = array.shape[-1] if array.ndim else 1
    if array.size != last or last not in (1, value.channels):
        raise refuse(layer, f"wanted one number or one for each of {value.channels} channels, "
                            f"found an array of {array.shape}; {BUILT_IN}")  # fmt: skip
    return array.reshape(-1)


def _relu(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    most = layer.max_value
    return activations.relu(
        sketch,
        inputs[0],
        layer.name,
        max_value=None if most is None else float(most),
        negative_slope=float(layer.negative_slope),
        threshold=float(layer.threshold),
    )


def _leaky_relu(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    slope = layer.negative_slope if hasattr(layer, "negative_slope") else layer.alpha
    return activations.relu(sketch, inputs[0], layer.name, negative_slope=float(slope))


def _elu(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    if float(layer.alpha) != 1:
        raise refuse(layer, f"wanted alpha 1, found {float(layer.alpha):g}; {BUILT_IN}")
    return activations.activate(k, sketch, inputs[0], "elu", layer.name)


def _softmax(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    rank = len(inputs[0].shape) + 1
    if not isinstance(layer.axis, int) or layer.axis % rank != rank - 1:
        raise refuse(layer, f"wanted the last axis, found {layer.axis}; {BUILT_IN}")
    return activations.activate(k, sketch, inputs[0], "softmax", layer.name)


def _activation(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    return _activated(k, sketch, layer, inputs[0])


def _concatenate(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    rank = len(inputs[0].shape) + 1
    if int(layer.axis) % rank != rank - 1:
        raise refuse(layer, f"wanted the last axis, found {layer.axis}; {BUILT_IN}")
    return concatenated(sketch, layer.name, inputs)


def concatenated(sketch: Sketch, name: str, values: Sequence[Value]) -> Value:
    """Channels side by side; those of the picture itself are only picked, as in x[..., ::-1]."""
    if all(value.node == sketch.input for value in values):
        return joined(name, values)
    return values[0] if len(values) == 1 else sketch.add("Concatenate", name, {}, values)


def _merge(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    return inputs[0] if len(inputs) == 1 else _kept(k, sketch, layer, inputs)


Handler = Callable[[ModuleType, Sketch, Any, Sequence[Value]], Value]
LAYERS: Mapping[str, Handler] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": _convolution,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "SyncBatchNormalization": _batch_norm,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "Softmax": _softmax,
    "Concatenate": _concatenate,
    **dict.fromkeys(MERGES, _merge),
    **dict.fromkeys(
        ("MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
         "ZeroPadding2D", "Cropping2D", "UpSampling2D", "Flatten", "Reshape", "Permute"),
        _kept,
    ),
}  # fmt: skip
