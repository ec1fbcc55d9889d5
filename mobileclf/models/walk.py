"""Going through a graph: the shapes of its tensors, and rules for one node or two at each place.

A rule never sees names that others have taken: what it makes is renamed here where it must be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count, zip_longest
from typing import Any

import numpy as np

from .graph import INPUT, Graph, Node

Shape = tuple[int, ...]  # of one photo's tensor: (height, width, channels), or (features,)
Shapes = Mapping[str, Shape]
# The nodes for one node, or for two of which the second alone reads the first; the last of them
# is read in the place of the last of those. None: no such two.
Expand = Callable[[Node, Shapes], "list[Node]"]
Merge = Callable[[Node, Node, Shapes], "list[Node] | None"]
WINDOWED = ("Conv2D", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D")


def expanded(graph: Graph, rule: Expand) -> Graph:
    """Every node replaced by those that `rule` gives for it; by what it reads where there are
    none."""
    shapes, taken = shapes_of(graph), {node.name for node in graph.nodes}
    made: list[Node] = []
    renamed: dict[str, str] = {}
    for old in graph.nodes:
        node = reading(old, renamed)
        new = _named(rule(node, shapes), taken - {old.name})
        taken |= {each.name for each in new}
        made += new
        renamed[old.name] = new[-1].name if new else node.inputs[0]
    return _ending(made, renamed[graph.nodes[-1].name])


def merged(graph: Graph, *rules: Merge) -> Graph:
    """Every two nodes replaced by those of the first rule that gives any, from the input to the
    output."""
    shapes = {**shapes_of(graph)}
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    taken = {node.name for node in graph.nodes}
    made: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for old in graph.nodes:
        new = [reading(old, renamed)]
        if len(old.inputs) == 1 and reads[new[0].inputs[0]] == 1:
            first, second = made[new[0].inputs[0]], new[0]
            found = (each for rule in rules if (each := rule(first, second, shapes)))
            if two := next(found, None):
                del made[first.name]
                new = _named(two, taken - {first.name, second.name})
                taken |= {each.name for each in new}
                reads.update({each.name: 1 for each in new[:-1] if each.name != first.name})
        for node in new:
            made[node.name] = node
            shapes[node.name] = shape_of(node, shapes)
        renamed[old.name] = new[-1].name
        reads[new[-1].name] = reads[old.name]
    return _ending(list(made.values()), renamed[graph.nodes[-1].name])


def live(graph: Graph) -> Graph:
    """Without nodes that the output does not depend on."""
    used = {graph.nodes[0].name, graph.nodes[-1].name}
    for node in reversed(graph.nodes):
        if node.name in used:
            used |= set(node.inputs)
    return Graph(nodes=tuple(node for node in graph.nodes if node.name in used))


def reading(node: Node, renamed: Mapping[str, str]) -> Node:
    """The node with its inputs under their new names."""
    return replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))


def in_precision(graph: Graph, dtype: Any) -> Graph:
    """The graph with its numbers in `dtype`."""
    return Graph(
        nodes=tuple(
            replace(node, weights=tuple(np.asarray(w, dtype) for w in node.weights))
            for node in graph.nodes
        )
    )


def same(one: Graph, other: Graph) -> bool:
    """Whether two graphs are the same to the last number."""
    return len(one.nodes) == len(other.nodes) and all(
        (a.name, a.kind, a.config, a.inputs) == (b.name, b.kind, b.config, b.inputs)
        and len(a.weights) == len(b.weights)
        and all(v is w or np.array_equal(v, w) for v, w in zip(a.weights, b.weights, strict=True))
        for a, b in zip(one.nodes, other.nodes, strict=True)
    )


def _named(nodes: Iterable[Node], taken: set[str]) -> list[Node]:
    """Nodes in a row, under names that none of `taken` and none of the row has."""
    found: list[Node] = []
    own: dict[str, str] = {}
    for node in nodes:
        name = node.name
        if name in taken:
            name = next(n for i in count(2) if (n := f"{node.name}_{i}") not in taken)
        found.append(replace(reading(node, own), name=name))
        own[node.name] = name
        taken = {*taken, name}
    return found


def _ending(nodes: Sequence[Node], last: str) -> Graph:
    """The graph with the node `last` at its end."""
    end = next(node for node in nodes if node.name == last)
    return Graph(nodes=(*(node for node in nodes if node is not end), end))


def shapes_of(graph: Graph) -> dict[str, Shape]:
    """The shape of each node's output, without the batch, as Keras has it."""
    found: dict[str, Shape] = {}
    for node in graph.nodes:
        found[node.name] = shape_of(node, found)
    return found


def shape_of(node: Node, shapes: Shapes) -> Shape:
    """The shape of a node's output, from those of its inputs."""
    config = node.config
    if node.kind == INPUT:
        return tuple(config["shape"])
    sources = [shapes[name] for name in node.inputs]
    first = sources[0]
    if node.kind == "Dense":
        return (*first[:-1], config["units"])
    if node.kind in WINDOWED:
        channels = config.get("filters", first[-1] * config.get("depth_multiplier", 1))
        return (*_windows(config, first), channels)
    if node.kind.startswith("Global"):
        return (1, 1, first[-1]) if config["keepdims"] else first[-1:]
    if node.kind in ("ZeroPadding2D", "Cropping2D"):
        sign = 1 if node.kind == "ZeroPadding2D" else -1
        rows, columns = config["padding" if sign > 0 else "cropping"]
        return (first[0] + sign * sum(rows), first[1] + sign * sum(columns), first[2])
    if node.kind == "UpSampling2D":
        up, across = config["size"]
        return (first[0] * up, first[1] * across, first[2])
    if node.kind == "Flatten":
        return (math.prod(first),)
    if node.kind == "Reshape":
        target = config["target_shape"]
        rest = math.prod(first) // abs(math.prod(target))
        return tuple(rest if n == -1 else n for n in target)
    if node.kind == "Permute":
        return tuple(first[axis - 1] for axis in config["dims"])
    if node.kind == "Concatenate":
        return (*first[:-1], sum(shape[-1] for shape in sources))
    # Of one input, or a merge of several, where an axis of 1 is stretched to the others'.
    axes = zip_longest(*(shape[::-1] for shape in sources), fillvalue=1)
    return tuple(max(axis) for axis in axes)[::-1]


def _windows(config: Mapping[str, Any], shape: Shape) -> tuple[int, int]:
    """How many windows of a convolution or pool there are, down and across."""
    sizes = config.get("kernel_size", config.get("pool_size"))
    dilation = config.get("dilation_rate", (1, 1))
    found = []
    for n, size, stride, apart in zip(shape, sizes, config["strides"], dilation, strict=False):
        held = 1 if config["padding"] == "same" else (size - 1) * apart + 1
        found.append((n - held) // stride + 1)
    return found[0], found[1]
