"""Rewrites of a trained network that keep its function and suit int8 arithmetic.

The graph is walked once in topological order and built anew: batch norm goes into the
convolution before it, the input scale into the first convolution where padding allows, and
what does nothing at inference goes away.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PASSED_OVER = ("Dropout", "SpatialDropout2D", "ActivityRegularization")


def fold(model: Any) -> Any:
    """The same function in fewer layers: a tf_keras model of convolutions with biases.

    model: flat functional tf_keras model, pixels to probabilities. Layers keep their names.
    """
    import tf_keras

    tensors: dict[str, Any] = {}
    replaced: list[tuple[Any, list[NDArray[np.float32]]]] = []
    scaled = _foldable_scale(model)
    skipped: set[str] = set()

    def give(layer: Any, weights: list[NDArray[np.float32]], x: Any) -> Any:
        out = layer(x)
        replaced.append((layer, weights))
        return out

    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "InputLayer":
            tensors[layer.name] = tf_keras.Input(layer.input_shape[0][1:], name=layer.name)
            continue
        sources = [tensors[name] for name in inbound(layer)]
        x = sources[0] if len(sources) == 1 else sources
        if kind in PASSED_OVER or layer.name in skipped or layer is scaled:
            tensors[layer.name] = x
        elif kind == "Rescaling":
            tensors[layer.name] = give(*_as_convolution(layer, x), x)
        elif kind in ("Conv2D", "DepthwiseConv2D"):
            norm = _following_norm(layer)
            new, weights = _with_norm(layer, norm)
            if scaled is not None and inbound(layer) == [scaled.name]:
                weights = _with_scale(weights, scaled)
            tensors[layer.name] = give(new, weights, x)
            if norm is not None:
                skipped.add(norm.name)
        else:
            tensors[layer.name] = give(
                layer.__class__.from_config(layer.get_config()), layer.get_weights(), x
            )
    outputs = tensors[model.output_names[0]]
    folded = tf_keras.Model(tensors[model.layers[0].name], outputs, name=model.name)
    for layer, weights in replaced:
        if weights:
            layer.set_weights(weights)
    return folded


def inbound(layer: Any) -> list[str]:
    """Names of the layers that feed `layer`, in the order of its inputs."""
    node = layer.inbound_nodes[0]
    return [source.name for source, *_ in node.iterate_inbound()]


def consumers(layer: Any) -> list[Any]:
    """The layers that read the output of `layer`."""
    return [node.layer for node in layer.outbound_nodes]


def _following_norm(layer: Any) -> Any | None:
    """The batch norm that alone reads a linear convolution's output, if there is one."""
    after = consumers(layer)
    alone = len(after) == 1 and type(after[0]).__name__ == "BatchNormalization"
    return after[0] if alone and layer.activation.__name__ == "linear" else None


def _with_norm(layer: Any, norm: Any | None) -> tuple[Any, list[NDArray[np.float32]]]:
    """The convolution with a bias and the batch norm inside: w*g/sqrt(v+e), b-m*g/sqrt(v+e)."""
    config = layer.get_config()
    config["use_bias"] = True
    new = layer.__class__.from_config(config)
    kernel = layer.get_weights()[0].astype(np.float64)
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    channels = kernel.shape[2] * kernel.shape[3] if depthwise else kernel.shape[3]
    bias = layer.get_weights()[1].astype(np.float64) if layer.use_bias else np.zeros(channels)
    if norm is not None:
        gamma = norm.gamma.numpy().astype(np.float64) if norm.scale else np.ones(channels)
        beta = norm.beta.numpy().astype(np.float64) if norm.center else np.zeros(channels)
        factor = gamma / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
        bias = (bias - norm.moving_mean.numpy()) * factor + beta
        kernel = kernel * (factor.reshape(kernel.shape[2:]) if depthwise else factor)
    return new, [kernel.astype(np.float32), bias.astype(np.float32)]


def _foldable_scale(model: Any) -> Any | None:
    """The Rescaling whose one reader is a convolution without padding, where it folds exactly.

    With padding, the zeros at the border are zeros of the scaled picture, not of the bytes.
    A scale without an offset keeps zero where it is and always folds.
    """
    for layer in model.layers:
        if type(layer).__name__ != "Rescaling":
            continue
        after = consumers(layer)
        if len(after) == 1 and type(after[0]).__name__ == "Conv2D":
            if after[0].padding == "valid" or not np.any(layer.offset):
                return layer
    return None


def _with_scale(weights: list[NDArray[np.float32]], scale: Any) -> list[NDArray[np.float32]]:
    """Kernel and bias on raw bytes: conv(s*x + o; w) + b = conv(x; s*w) + (b + o*sum(w))."""
    kernel, bias = weights[0].astype(np.float64), weights[1].astype(np.float64)
    bias = bias + float(scale.offset) * kernel.sum(axis=(0, 1, 2))
    return [(kernel * float(scale.scale)).astype(np.float32), bias.astype(np.float32)]


def _as_convolution(layer: Any, x: Any) -> tuple[Any, list[NDArray[np.float32]]]:
    """A Rescaling that cannot be folded as a 1x1 depthwise convolution, which int8 knows."""
    import tf_keras

    channels = int(x.shape[-1])
    new = tf_keras.layers.DepthwiseConv2D(1, name=layer.name)
    kernel = np.broadcast_to(np.asarray(layer.scale, np.float32), (channels,))
    bias = np.broadcast_to(np.asarray(layer.offset, np.float32), (channels,))
    return new, [kernel.reshape(1, 1, channels, 1).copy(), bias.copy()]
