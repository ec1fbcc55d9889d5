"""Channels of more equal size, so that one range serves them all: weights alone change.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
section 4.1: for f(s*x) = s*f(x), s > 0, as a ReLU is, one layer's outputs may be divided by s
and the next one's inputs multiplied by it. Here s follows from what photos make of the channel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .graph import EDGE, INPUT, Graph, Node
from .grid import KERNELS, relu_of, shared_ranges

Numbers = NDArray[np.float64]
# A channel's size in its group's is made larger to the power 1 - POWER, at most by MOST**POWER.
POWER = 0.5
MOST = 32.0
# What a scale by channel passes through as it is.
THROUGH = (
    "MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
    "ZeroPadding2D", "Cropping2D", "UpSampling2D", "Flatten", "Concatenate", EDGE,
)  # fmt: skip

UNTOLD = ("Flatten", "Reshape", "Permute")  # whose last axis may be something else than channels


@dataclass(frozen=True, kw_only=True)
class Equalized:
    """graph: of the same function. scales: by node, float64 (channels,): its output was divided
    by it; only of those that have one. kept: why layers were left as they were, with how many."""

    graph: Graph
    scales: Mapping[str, Numbers]
    kept: Mapping[str, int]


def equalize(graph: Graph, peaks: Mapping[str, Numbers]) -> Equalized:
    """Divide what convolutions and dense layers give, and multiply what reads it.

    peaks: for each node whose output is rounded, float (channels,), the largest |value| on photos.
    """
    shared = shared_ranges(graph)
    largest: dict[str, float] = {}
    for name, peak in peaks.items():
        largest[shared[name]] = max(largest.get(shared[name], 0.0), float(peak.max()))
    kept: Counter[str] = Counter()
    own: dict[str, Numbers] = {}
    for node in graph.nodes:
        if node.kind not in KERNELS:
            continue
        end = relu_of(graph, node) or node
        reason = _why_not(graph, node, end)
        if reason is not None:
            kept[reason] += 1
        elif end.name in peaks and (top := largest[shared[end.name]]) > 0:
            own[node.name] = np.maximum(peaks[end.name] / top, 1 / MOST) ** POWER
    return _scaled(graph, own, kept)


def _why_not(graph: Graph, node: Node, end: Node) -> str | None:
    """Why the channels of `node`, rounded at `end`, cannot be scaled; None where they can."""
    activation = end.config.get("activation", "linear")
    if end.kind == "ReLU" and end.config["max_value"] is not None:
        return f"a ReLU that ends at {end.config['max_value']:g}"
    if activation not in ("linear", "relu") or end is graph.nodes[-1]:
        return "the output" if end is graph.nodes[-1] else activation
    waiting, seen = [end.name], set()
    while waiting:
        name = waiting.pop()
        readers = graph.readers(name)
        if not readers:
            return "the output"
        for reader in readers:
            if reader.kind in KERNELS and reader.config.get("groups", 1) == 1:
                continue
            # A flattened map has its channels once for each position: a dense layer reads it so.
            flat = reader.kind == "Flatten" and any(
                after.kind != "Dense" for after in graph.readers(reader.name)
            )
            joined = {graph[other].kind for other in reader.inputs} & set(UNTOLD)
            if joined and reader.kind == "Concatenate":
                return joined.pop()
            if flat or (reader.kind not in THROUGH and not _is_relu(reader)):
                return _words(reader)
            if reader.name not in seen:
                seen.add(reader.name)
                waiting.append(reader.name)
    return None


def _is_relu(node: Node) -> bool:
    return node.kind == "Activation" and node.config["activation"] == "relu"


def _words(node: Node) -> str:
    if node.kind == "ReLU":
        return f"a ReLU that ends at {node.config['max_value']:g}"
    return node.config["activation"] if node.kind == "Activation" else node.kind


def _scaled(graph: Graph, own: Mapping[str, Numbers], kept: Mapping[str, int]) -> Equalized:
    scales: dict[str, Numbers] = {}
    channels: dict[str, int] = {}
    nodes = []
    for node in graph.nodes:
        sources = [scales.get(name) for name in node.inputs]
        if node.kind in KERNELS:
            node = _divided(node, sources[0], own.get(node.name))
            channels[node.name] = len(node.weights[1])
            if node.name in own:
                scales[node.name] = own[node.name]
        elif node.kind != INPUT and any(scale is not None for scale in sources):
            # Only what a scale passes through reads one: the others were looked for before.
            each = [
                np.ones(channels[name]) if scale is None else scale
                for name, scale in zip(node.inputs, sources, strict=True)
            ]
            scales[node.name] = np.concatenate(each)
        if node.name not in channels:
            known = [channels.get(name, 0) for name in node.inputs]
            channels[node.name] = sum(known) if node.kind == "Concatenate" else max([0, *known])
        nodes.append(node)
    return Equalized(graph=Graph(nodes=tuple(nodes)), scales=scales, kept=dict(kept))


def _divided(node: Node, before: Numbers | None, after: Numbers | None) -> Node:
    """A layer whose input was divided by `before`, and whose output is to be by `after`."""
    kernel, bias = (weights.astype(np.float64) for weights in node.weights)
    depthwise = node.kind == "DepthwiseConv2D"
    if before is not None:
        # A dense layer behind a Flatten has the channels once for each position.
        inputs = np.tile(before, kernel.shape[2 if depthwise else -2] // len(before))
        kernel = kernel * inputs[:, None]
    if after is not None:
        kernel = kernel / (after[:, None] if depthwise else after)
        bias = bias / after
    return replace(node, weights=(kernel.astype(np.float32), bias.astype(np.float32)))
