"""Pools and lone ReLUs, which XNNPACK has no int8 kernels for, in layers that it has.

What a delegate does not take cuts the graph in two, and the runtime goes to and fro between them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .graph import EDGE, Graph, Node
from .grid import relu_of
from .scales import depthwise
from .walk import Shapes, expanded, merged


def pools_of_one(graph: Graph) -> Graph:
    """A pool over one pixel, which takes every second of them, as a 1x1 depthwise convolution."""
    return expanded(graph, _pool_of_one)


def pointwise_first(graph: Graph) -> Graph:
    """An average and then a 1x1 convolution, the other way around where that is less work."""
    return merged(graph, _pointwise_first)


def average_pools(graph: Graph) -> Graph:
    """Averages as depthwise convolutions, and a correction where the padding counts as pixels."""
    return expanded(graph, _average_pool)


def lone_relus(graph: Graph) -> Graph:
    """A ReLU that is computed in one with no other layer, as one of a 1x1 depthwise convolution."""

    def rule(node: Node, shapes: Shapes) -> list[Node]:
        plain = node.kind == "ReLU" and not (
            node.config["negative_slope"] or node.config["threshold"]
        )
        plain = plain or (node.kind == "Activation" and node.config["activation"] == "relu")
        if not plain or len(shapes[node.name]) != 3 or relu_of(graph, graph[node.inputs[0]]):
            return [node]
        alike = depthwise(f"{node.name}_input", node.inputs[0], _ones(shapes[node.name]))
        return [alike, replace(node, inputs=(alike.name,))]

    return expanded(graph, rule)


def _pool_of_one(node: Node, shapes: Shapes) -> list[Node]:
    if node.kind != "MaxPooling2D" or math.prod(node.config["pool_size"]) > 1:
        return [node]
    down, across = node.config["strides"]
    if down == across == 1:
        return []
    if down != across:
        return [node]  # a depthwise convolution has one stride for both
    one = _ones(shapes[node.name])
    return [depthwise(node.name, node.inputs[0], one, strides=node.config["strides"])]


def _ones(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The kernel of a 1x1 depthwise convolution that changes nothing."""
    return np.ones((1, 1, shape[-1], 1))


def _pointwise_first(first: Node, second: Node, shapes: Shapes) -> list[Node] | None:
    """relu(w * mean(x) + b) = relu(mean(w * x + b)): both are linear, and the mean of a constant
    is the constant, at the border as well, where it is one of fewer pixels."""
    if first.kind != "AveragePooling2D" or second.kind != "Conv2D":
        return None
    config = second.config
    one_pixel = [*config["kernel_size"], *config["strides"], config["groups"]] == [1] * 5
    if not one_pixel or config["activation"] not in ("linear", "relu"):
        return None
    # Products of the two ways: the pool reads `window` pixels for each of its own.
    inputs, outputs = second.weights[0].shape[2:]
    window = math.prod(first.config["pool_size"])
    before, after = (math.prod(shapes[name][:2]) for name in (first.inputs[0], first.name))
    if before * inputs * outputs + after * window * outputs >= after * inputs * (window + outputs):
        return None
    convolution = replace(second, inputs=first.inputs, config={**config, "activation": "linear"})
    pool = replace(first, inputs=(second.name,))
    if config["activation"] == "linear":
        return [convolution, pool]
    relu = {"activation": "relu"}
    last = Node(name=f"{second.name}_relu", kind="Activation", config=relu, inputs=(pool.name,))
    return [convolution, pool, last]


def _average_pool(node: Node, shapes: Shapes) -> list[Node]:
    """mean(x) = sum(x) / (h*w), times h*w / n where only n of a window's pixels are real."""
    if node.kind != "AveragePooling2D":
        return [node]
    (height, width), strides = node.config["pool_size"], node.config["strides"]
    if strides[0] != strides[1]:
        return [node]  # a depthwise convolution has one stride for both
    source = shapes[node.inputs[0]]
    kernel = np.full((height, width, source[2], 1), 1 / (height * width))
    padding = node.config["padding"]
    mean = depthwise(node.name, node.inputs[0], kernel, strides=strides, padding=padding)
    if padding == "valid":
        return [mean]
    rows, columns = map(_real_pixels, source[:2], (height, width), strides)
    mask = height * width / (rows[:, None] * columns)
    if np.all(mask == 1):
        return [mean]
    edge = Node(
        name=f"{node.name}_edge", kind=EDGE, inputs=(node.name,), weights=(mask[:, :, None],)
    )
    return [mean, edge]


def _real_pixels(length: int, window: int, stride: int) -> NDArray[np.int64]:
    """How many of each window's pixels lie in the picture, along one axis with padding `same`.

    TensorFlow pads by what the last window lacks, the odd pixel at the end.
    """
    starts = np.arange(-(-length // stride)) * stride
    starts = starts - max(int(starts[-1]) + window - length, 0) // 2
    return np.minimum(starts + window, length) - np.maximum(starts, 0)
