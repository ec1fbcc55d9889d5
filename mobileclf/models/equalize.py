"""Channels of more equal size, so that one range serves them all: weights alone change.

Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019,
section 4.1: for f(s*x) = s*f(x), s > 0, as a ReLU is, one layer's outputs may be divided by s
and the next one's inputs multiplied by it. Here s follows from what photos make of the channel
where it is rounded first, and a sum is divided as all that is added to it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .graph import EDGE, Graph, Node
from .grid import KERNELS, relu_of, shared_ranges
from .walk import Shapes, shapes_of

Numbers = NDArray[np.float64]
# A channel of the share r in its range is divided by r**POWER, at most by MOST**-POWER.
POWER = 0.5
MOST = 32.0
# A scale by channel goes through these as it is: what they read and give has the same one.
THROUGH = (
    "MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
    "ZeroPadding2D", "Cropping2D", "UpSampling2D", EDGE,
)  # fmt: skip
SUMS = ("Add", "Subtract")
# What these give has the scales of all that they read, one after another, or again and again.
JOINED = ("Concatenate", "Flatten")


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
    shared, top = shared_ranges(graph), defaultdict[str, float](float)
    for name, peak in peaks.items():
        top[shared[name]] = max(top[shared[name]], float(peak.max()))
    shares = {name: peak / top[shared[name]] for name, peak in peaks.items() if top[shared[name]]}
    shapes, tied = shapes_of(graph), _tied(graph)
    kept: Counter[str] = Counter()
    scales: dict[str, Numbers] = {}
    for members in {id(group): group for group in tied.values()}.values():
        makers = [node for node in members if node.kind in KERNELS]
        reason = _why_not(graph, tied, members)
        if len({shapes[node.name][-1] for node in members}) > 1:
            reason = "a sum that stretches channels"
        if reason is not None:
            kept[reason] += len(makers)
        elif makers and (each := [shares[n] for n in _rounded(graph, members) if n in shares]):
            scale = np.maximum(np.max(each, axis=0), 1 / MOST) ** POWER
            scales |= {node.name: scale for node in members}
    named = {reason: count for reason, count in kept.items() if count}
    return replace(_scaled(graph, shapes, scales), kept=named)


def _tied(graph: Graph) -> dict[str, list[Node]]:
    """For each node, the nodes whose outputs can only have one scale, in the graph's order."""
    groups = {node.name: [node] for node in graph.nodes}
    for node in graph.nodes:
        if node.kind in (*THROUGH, *SUMS) or _is_relu(node):
            for source in node.inputs:
                one, other = groups[source], groups[node.name]
                if one is not other:
                    one += other
                    groups |= {member.name: one for member in other}
    return groups


def _is_relu(node: Node) -> bool:
    if node.kind == "ReLU":
        return not any(node.config[key] for key in ("max_value", "negative_slope", "threshold"))
    return node.kind == "Activation" and node.config["activation"] == "relu"


def _why_not(graph: Graph, tied: Mapping[str, list[Node]], members: list[Node]) -> str | None:
    """Why the outputs of `members` cannot be scaled by channel; None where they can."""
    names = {node.name for node in members}
    makers = [node for node in members if node.kind in KERNELS]
    others = [node for node in members if node not in makers and not names & set(node.inputs)]
    if graph.nodes[-1] in members:
        return "the output"
    for node in makers:
        if node.config["activation"] not in ("linear", "relu"):
            return str(node.config["activation"])
    # What is joined has the scales of its parts: it takes none beside them.
    if others and (makers or len(others) > 1 or others[0].kind not in JOINED):
        return _words(others[0])
    for node in members:
        for reader in graph.readers(node.name):
            if reader.name in names or reader.kind in KERNELS:
                continue
            # A flattened map has its channels once for each position: a dense layer reads it so.
            apart = reader.kind == "Flatten" and any(
                after.kind != "Dense" for after in graph.readers(reader.name)
            )
            if reader.kind not in JOINED or apart:
                return _words(reader)
            why = _why_not(graph, tied, tied[reader.name])
            if why is not None:
                return why
    return None


def _words(node: Node) -> str:
    if node.kind == "ReLU" and node.config["max_value"] is not None:
        return f"a ReLU that ends at {node.config['max_value']:g}"
    return str(node.config["activation"]) if node.kind == "Activation" else node.kind


def _rounded(graph: Graph, members: list[Node]) -> Iterator[str]:
    """Where what is made or summed in `members` is rounded first."""
    for node in members:
        if node.kind in (*KERNELS, *SUMS):
            yield (relu_of(graph, node) or node).name


def _scaled(graph: Graph, shapes: Shapes, own: Mapping[str, Numbers]) -> Equalized:
    """The graph with the outputs in `own` divided, and all that reads them multiplied."""
    scales: dict[str, Numbers] = {}
    nodes = []
    for node in graph.nodes:
        sources = [scales.get(name) for name in node.inputs]
        if node.kind in KERNELS:
            node = _divided(node, sources[0], own.get(node.name))
            if node.name in own:
                scales[node.name] = own[node.name]
        elif node.kind == "Concatenate" and any(scale is not None for scale in sources):
            each = [
                np.ones(shapes[name][-1]) if scale is None else scale
                for name, scale in zip(node.inputs, sources, strict=True)
            ]
            scales[node.name] = np.concatenate(each)
        elif sources and (first := sources[0]) is not None:
            scales[node.name] = first
        nodes.append(node)
    return Equalized(graph=Graph(nodes=tuple(nodes)), scales=scales, kept={})


def _divided(node: Node, before: Numbers | None, after: Numbers | None) -> Node:
    """A layer whose input was divided by `before`, and whose output is to be by `after`."""
    kernel, bias = (weights.astype(np.float64) for weights in node.weights)
    depthwise = node.kind == "DepthwiseConv2D"
    if before is not None:
        inputs = np.tile(before, kernel.shape[2 if depthwise else -2] // len(before))
        kernel = kernel * inputs[:, None]
    if after is not None:
        kernel = kernel / (after[:, None] if depthwise else after)
        bias = bias / after
    return replace(node, weights=(kernel.astype(np.float32), bias.astype(np.float32)))
