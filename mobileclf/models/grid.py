"""Where TFLite rounds in an int8 graph, and which tensors share one range."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from .graph import EDGE, Graph, Node

Range = tuple[float, float]
Numbers = NDArray[np.float64]
KERNELS = {"Conv2D": "kernel", "DepthwiseConv2D": "depthwise_kernel", "Dense": "kernel"}
# TFLite computes these in the scale of their input, so input and output share one range.
SAME_RANGE = (
    "Concatenate", "MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D", "Maximum", "Minimum",
    "ZeroPadding2D", "Cropping2D", "UpSampling2D", "Flatten", "Reshape", "Permute",
)  # fmt: skip
# The layers that a ReLU after them, and no one else's input, is computed in one with.
WITH_RELU = (*KERNELS, "Add", "Subtract", "Multiply", EDGE)
# TFLite's own int8 grids of these outputs: 256 steps of 1/256, or of 1/128 around 0.
FIXED: Mapping[str, Range] = {
    "softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128),
}  # fmt: skip
STEPS = 255  # of the int8 grid of an activation
LARGEST_WEIGHT = 127  # of the int8 grid of a kernel, which is symmetric
LARGEST_BIAS = 2**30


def fixed(node: Node) -> Range | None:
    """TFLite's own range of an activation's output, where it has one."""
    return FIXED.get(node.config["activation"]) if node.kind == "Activation" else None


def relu_of(graph: Graph, node: Node) -> Node | None:
    """The ReLU that alone reads this layer, so that TFLite rounds only after it."""
    readers = graph.readers(node.name)
    if node.kind not in WITH_RELU or len(readers) != 1:
        return None
    (reader,) = readers
    alone = reader.kind == "ReLU" or (
        reader.kind == "Activation" and reader.config["activation"] == "relu"
    )
    return reader if alone and node.config.get("activation", "linear") == "linear" else None


def shared_ranges(graph: Graph) -> dict[str, str]:
    """For each layer, the name that stands for all layers whose outputs share its range.

    One with a grid of its own shares it with no other.
    """
    parent = {node.name: node.name for node in graph.nodes}
    own_grid = {node.name for node in graph.nodes if fixed(node)}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        if node.kind in SAME_RANGE:
            for source in set(node.inputs) - own_grid:
                parent[root(source)] = root(node.name)
    return {name: root(name) for name in parent}


def float_units(graph: Graph) -> dict[str, tuple[str, ...]]:
    """What can be kept in float: by the name of a range, the layers that are then in float.

    An operator is in float when it reads or writes a number that is not rounded. So a range is
    left out as a whole, and takes with it all that write and all that read its tensors, in the
    order of the graph. An average over the picture hands the range of its input on where its own
    is left out, so its own goes only together with that. The input's range stays, the answers',
    TFLite's own grids, and what is joined with a tensor of such a grid.
    """
    shared, touching = shared_ranges(graph), _touching(graph)
    stays = {shared[graph.nodes[0].name], shared[graph.nodes[-1].name]}
    own_grid = {node.name for node in graph.nodes if fixed(node)}
    stays |= own_grid
    stays |= {
        shared[node.name]
        for node in graph.nodes
        if node.kind in SAME_RANGE and own_grid & set(node.inputs)
    }
    found: dict[str, tuple[str, ...]] = {}
    for name, layers in touching.items():
        if name in stays:
            continue
        before = _averaged(graph, name)
        if all(other in found for other in before):
            found[name] = _whole(graph, {*layers, *(n for other in before for n in found[other])})
    # What such a layer rounds before its activation is read by no other.
    inside = (node for node in graph.nodes if node.config.get("activation") == "softmax")
    return found | {f"{node.name}/before": (node.name,) for node in inside if node.kind in KERNELS}


def unrounded(graph: Graph, in_float: Collection[str]) -> set[str]:
    """The ranges that are left out when these layers are in float: all that touch them are."""
    return {name for name, layers in float_units(graph).items() if set(layers) <= set(in_float)}


def _touching(graph: Graph) -> dict[str, set[str]]:
    """By the name of a range, the layers that write or read its tensors, in the graph's order.
    What is not rounded before the ReLU after it has none."""
    shared = shared_ranges(graph)
    found: dict[str, set[str]] = {}
    for node in graph.nodes:
        if not relu_of(graph, node):
            readers = (each.name for each in graph.readers(node.name))
            found.setdefault(shared[node.name], set()).update((node.name, *readers))
    return found


def _averaged(graph: Graph, name: str) -> set[str]:
    """The ranges of what is averaged over the picture into the range `name`."""
    shared = shared_ranges(graph)
    return {
        shared[node.inputs[0]]
        for node in graph.nodes
        if node.kind == "GlobalAveragePooling2D" and shared[node.name] == name
    }


def _whole(graph: Graph, layers: Collection[str]) -> tuple[str, ...]:
    """The layers in the graph's order, and what is computed in one with them: a kernel and its
    ReLU."""
    found = set(layers)
    for node in graph.nodes:
        relu = relu_of(graph, node)
        if relu is not None and found & {node.name, relu.name}:
            found |= {node.name, relu.name}
    return tuple(node.name for node in graph.nodes if node.name in found)


def with_fixed(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges by the names of `shared_ranges`, those in them that TFLite or the input has set."""
    own = {node.name: known for node in graph.nodes if (known := fixed(node))}
    return {**ranges, shared_ranges(graph)[graph.nodes[0].name]: (0.0, 255.0), **own}


def least_kernel_ranges(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, Numbers]:
    """How wide the range of each layer's kernel has to be for its bias: float64 (channels,).

    A bias is a whole number of (step of the input) * (step of the kernel), in 32 bits. Where the
    kernel of a channel is next to nothing, the bias would not fit: TFLite cuts it, and the sums
    run over. Half of what 32 bits hold is left to the sums.
    """
    shared, found = shared_ranges(graph), {}
    for node in graph.nodes:
        if node.kind in KERNELS:
            low, high = ranges[shared[node.inputs[0]]]
            step = (high - low) / STEPS
            bias = np.abs(node.weights[1].astype(np.float64))
            found[node.name] = bias / (LARGEST_BIAS * step) * LARGEST_WEIGHT
    return found


def edge_range(node: Node) -> Range:
    """The range in which the numbers of an EdgeCorrection lie nearest to the 256 steps from 0.

    Of a 3 x 3 average, 1, 1.5 and 2.25 are exact: 112, 168 and 252 steps.
    """
    values = np.unique(node.weights[0]).astype(np.float64)
    steps = values[-1] / np.arange(STEPS, STEPS // 2, -1)
    errors = [np.abs(np.round(values / step) * step - values).max() for step in steps]
    return 0.0, float(steps[int(np.argmin(errors))] * STEPS)
