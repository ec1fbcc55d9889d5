"""Maps of each channel alone, x*s + o: batch norms and scales. Where they can go, exactly.

Into the convolution or dense layer before them, or into the one after them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph, Node
from .walk import Merge, Shapes, merged

Numbers = NDArray[Any]  # float64 on the way
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D")
LINEAR = (*CONVOLUTIONS, "Dense")


@dataclass(frozen=True, kw_only=True)
class Map:
    """x*scale + offset for each channel alone: float64 (channels,), or () for all alike."""

    scale: Numbers
    offset: Numbers


def map_of(node: Node) -> Map | None:
    """A Rescaling's own numbers; of a batch norm s = g/sqrt(v + e), o = b - m*s."""
    if node.kind == "Rescaling":
        scale, offset = (np.asarray(node.config[key], np.float64) for key in ("scale", "offset"))
        return Map(scale=scale, offset=offset)
    if node.kind != "BatchNormalization":
        return None
    *scales, mean, variance = node.weights
    gamma = scales.pop(0) if node.config["scale"] else np.ones_like(mean)
    beta = scales.pop(0) if node.config["center"] else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + node.config["epsilon"])
    return Map(scale=scale, offset=beta - mean * scale)


def rescaling(name: str, source: str, scale: Any, offset: Any = 0.0) -> Node:
    """scale * x + offset, of one number or one for each channel."""
    config = {"scale": np.asarray(scale).tolist(), "offset": np.asarray(offset).tolist()}
    return Node(name=name, kind="Rescaling", config=config, inputs=(source,))


# The named rewrites.


def input_scale(graph: Graph) -> Graph:
    """What scales and orders the input's channels, in the first convolution."""
    entrance = {graph.nodes[0].name}
    for node in graph.nodes[1:]:
        alone = node.inputs[0] in entrance and len(graph.readers(node.inputs[0])) == 1
        if alone and (map_of(node) or orders(node)):
            entrance.add(node.name)

    def there(rule: Merge) -> Merge:
        return lambda one, two, shapes: rule(one, two, shapes) if one.name in entrance else None

    return merged(graph, *map(there, (_into_linear, _one_map, from_before, _reordered)))


def batch_norms(graph: Graph) -> Graph:
    """Batch norms and other maps but the input's, in the layers before or after them."""
    pixels = (graph.nodes[0].name,)

    def inside(rule: Merge) -> Merge:
        def where(one: Node, two: Node, shapes: Shapes) -> list[Node] | None:
            return None if one.inputs == pixels and map_of(one) else rule(one, two, shapes)

        return where

    return merged(graph, *map(inside, (_into_linear, _one_map, from_before)))


# From two layers, of which the second alone reads the first, to one.


def _into_linear(first: Node, second: Node, shapes: Shapes) -> list[Node] | None:
    """(w*x + b)*s + o = (w*s)*x + (b*s + o): after a convolution or dense layer."""
    each = map_of(second)
    if each is None or not is_linear(first):
        return None
    kernel, bias = first.weights[0], bias_of(first)
    scale = np.broadcast_to(each.scale, bias.shape)
    depthwise = first.kind == "DepthwiseConv2D"
    kernel = kernel * (scale.reshape(kernel.shape[2:]) if depthwise else scale)
    config = {**first.config, "use_bias": True}
    return [replace(first, config=config, weights=(kernel, bias * scale + each.offset))]


def _one_map(first: Node, second: Node, shapes: Shapes) -> list[Node] | None:
    """(x*s + o)*t + p = x*(s*t) + (o*t + p)."""
    one, two = map_of(first), map_of(second)
    if one is None or two is None:
        return None
    offset = one.offset * two.scale + two.offset
    return [rescaling(first.name, first.inputs[0], one.scale * two.scale, offset)]


def from_before(first: Node, second: Node, shapes: Shapes) -> list[Node] | None:
    """conv(x*s + o; w) + b = conv(x; w*s) + (b + sum of w*o): before one.

    With padding, the zeros at the border are zeros of the scaled picture, not of the bytes, so
    that only a scale without an offset, which keeps zero where it is, is exact.
    """
    each = map_of(first)
    if each is None or second.kind not in LINEAR:
        return None
    if second.config.get("padding") == "same" and np.any(each.offset):
        return None
    kernel, bias = second.weights[0], bias_of(second)
    groups = second.config.get("groups", 1)
    if second.kind == "DepthwiseConv2D":
        scale, offset = (_by_input(n, kernel.shape[2]) for n in (each.scale, each.offset))
        bias = bias + (kernel * offset[:, None]).sum(axis=(0, 1)).reshape(-1)
        kernel = kernel * scale[:, None]
    else:
        inputs = kernel.shape[-2] * groups
        scale, offset = (_by_group(n, inputs, groups, kernel) for n in (each.scale, each.offset))
        bias = bias + (kernel * offset).sum(axis=tuple(range(kernel.ndim - 1)))
        kernel = kernel * scale
    config = {**second.config, "use_bias": True}
    return [replace(second, config=config, inputs=first.inputs, weights=(kernel, bias))]


def _by_input(numbers: Numbers, inputs: int) -> Numbers:
    return np.broadcast_to(numbers, (inputs,))


def _by_group(numbers: Numbers, inputs: int, groups: int, kernel: Numbers) -> Numbers:
    """One number for each (input, output) of a kernel: output j of n sees the inputs of group
    j // (n / groups) alone. Returns (inputs / groups, outputs)."""
    by_group = _by_input(numbers, inputs).reshape(groups, -1).T
    return np.repeat(by_group, kernel.shape[-1] // groups, axis=1)


def _reordered(first: Node, second: Node, shapes: Shapes) -> list[Node] | None:
    """A 1x1 convolution that only orders and scales channels (BGR), in the one after it:
    conv(K*x + k; w) + b = conv(x; w') + (b + sum of w*k), w'[.., i, o] = sum_m K[i, m] w[.., m, o].

    As in `from_before`, padding allows it only where k is 0.
    """
    if not orders(first) or second.kind != "Conv2D" or second.config["groups"] != 1:
        return None
    order, shift = first.weights[0], bias_of(first)
    if second.config["padding"] == "same" and np.any(shift):
        return None
    kernel, bias = second.weights[0], bias_of(second)
    bias = bias + np.einsum("hwmo,m->o", kernel, shift)
    kernel = np.einsum("im,hwmo->hwio", order[0, 0], kernel)
    config = {**second.config, "use_bias": True}
    return [replace(second, config=config, inputs=first.inputs, weights=(kernel, bias))]


def orders(node: Node) -> bool:
    """Whether each output of a layer is one channel of its input, scaled."""
    if not is_linear(node) or node.kind != "Conv2D":
        return False
    kernel, plain = node.weights[0], (node.config["strides"], node.config["groups"])
    square = kernel.shape[:2] == (1, 1) and kernel.shape[2] == kernel.shape[3]
    one_each = square and np.all(np.sum(kernel[0, 0] != 0, axis=0) == 1)
    return bool(one_each and [*map(np.max, plain)] == [1, 1])


def is_linear(node: Node) -> bool:
    """Whether a convolution or dense layer has no activation in it."""
    return node.kind in LINEAR and node.config["activation"] == "linear"


def outputs_of(node: Node) -> int:
    """Channels that a convolution or dense layer gives."""
    shape = node.weights[0].shape
    return shape[2] * shape[3] if node.kind == "DepthwiseConv2D" else shape[-1]


def bias_of(node: Node) -> Numbers:
    """Of a convolution or dense layer; zeros where it has none."""
    return node.weights[1] if len(node.weights) > 1 else np.zeros(outputs_of(node))
