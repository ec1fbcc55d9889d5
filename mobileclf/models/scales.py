"""Scales that no layer beside them can hold: moved on to one that can, or layers of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .graph import Graph, Node
from .maps import LINEAR, Numbers, from_before, map_of, rescaling
from .walk import Shapes, expanded, reading

# Of c*x they give c times what they give of x, with c > 0; a product where one factor is c*x.
PASSES = (
    "Multiply", "MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "GlobalAveragePooling2D",
    "ZeroPadding2D", "Cropping2D", "UpSampling2D", "Flatten", "Reshape", "Permute",
)  # fmt: skip


def scales_onward(graph: Graph) -> Graph:
    """A scale that all channels share, moved past products and pools: f(c*x) = c*f(x) with c > 0,
    as far as layers that have kernels to hold it."""
    for name in [node.name for node in graph.nodes]:
        factor = _one_scale(graph[name])
        takers = _takers(graph, name, set()) if factor else None
        if not takers:
            continue
        scale, made = rescaling(name, graph[name].inputs[0], factor), []
        for node in graph.nodes:
            if node.name in takers:
                # Never none: without an offset, padding does not matter.
                (scaled,) = from_before(scale, node, {}) or [node]
                node = replace(scaled, inputs=node.inputs)
            if node.name != name:
                made.append(reading(node, {name: scale.inputs[0]}))
        graph = Graph(nodes=tuple(made))
    return graph


def scales_as_convolutions(graph: Graph) -> Graph:
    """What is left of maps as 1x1 depthwise convolutions."""
    return expanded(graph, _as_convolution)


def _one_scale(node: Node) -> float | None:
    """c of a layer that is c*x with one c > 0 for all channels."""
    each = map_of(node) if node.kind == "Rescaling" else None
    if each is None or np.any(each.offset):
        return None
    factors = np.unique(each.scale)
    return float(factors[0]) if len(factors) == 1 and factors[0] > 0 else None


def _takers(graph: Graph, name: str, passed: set[str]) -> set[str] | None:
    """The layers with kernels that a scale of the tensor `name` can move into; None where it
    reaches anything else."""
    if name == graph.nodes[-1].name:
        return None
    found: set[str] = set()
    for reader in graph.readers(name):
        if reader.kind in LINEAR:
            found.add(reader.name)
            continue
        # Reached twice, a product would have the scale twice.
        again = reader.name in passed or reader.inputs.count(name) > 1
        passed.add(reader.name)
        more = _takers(graph, reader.name, passed) if _passes(reader) and not again else None
        if more is None:
            return None
        found |= more
    return found


def _passes(node: Node) -> bool:
    config = node.config
    if node.kind == "ReLU":
        return config["max_value"] is None and not config["threshold"]
    return node.kind in PASSES or (node.kind == "Activation" and config["activation"] == "relu")


def _as_convolution(node: Node, shapes: Shapes) -> list[Node]:
    """x*s + o by channel as a 1x1 depthwise convolution; a vector of features goes through it as
    a picture of one pixel. Nothing where it is x."""
    shape, each = shapes[node.name], map_of(node)
    if each is None or len(shape) not in (1, 3):
        return [node]
    if np.all(each.scale == 1) and not np.any(each.offset):
        return []
    scale, offset = (np.broadcast_to(n, shape[-1:]) for n in (each.scale, each.offset))
    made = depthwise(node.name, node.inputs[0], scale.reshape(1, 1, -1, 1), bias=offset)
    if len(shape) == 3:
        return [made]
    pixel, flat = {"target_shape": [1, 1, *shape]}, {"target_shape": [*shape]}
    into = Node(name=f"{node.name}_pixel", kind="Reshape", config=pixel, inputs=node.inputs)
    inside = replace(made, inputs=(into.name,))
    out = Node(name=f"{node.name}_flat", kind="Reshape", config=flat, inputs=(node.name,))
    return [into, inside, out]


def depthwise(
    name: str,
    source: str,
    kernel: Numbers,
    *,
    strides: Sequence[int] = (1, 1),
    padding: str = "valid",
    bias: Numbers | None = None,
) -> Node:
    """A depthwise convolution by a kernel (height, width, channels, 1)."""
    config = {
        "kernel_size": list(kernel.shape[:2]), "strides": list(strides), "padding": padding,
        "depth_multiplier": 1, "dilation_rate": [1, 1], "use_bias": True, "activation": "linear",
    }  # fmt: skip
    weights: tuple[Numbers, ...] = (kernel, np.zeros(kernel.shape[2]) if bias is None else bias)
    return Node(name=name, kind="DepthwiseConv2D", config=config, inputs=(source,), weights=weights)
