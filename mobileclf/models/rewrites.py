"""Rewrites of a trained network that keep its function and suit int8 arithmetic.

What maps each channel alone, x*s + o (a batch norm, a Rescaling), goes into the convolution
before it, or into the one after it where that is exact, and else becomes a 1x1 depthwise
convolution, which int8 knows. Layers that int8 has no kernel for are said in others that it has.
Numbers are float64 on the way and rounded to float32 once, at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import INPUT, Graph, Node

Numbers = NDArray[Any]  # float64 on the way
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D")
LINEAR = (*CONVOLUTIONS, "Dense")
# What TFLite computes as part of a convolution, or with a fixed grid after a dense layer.
FUSED = ("linear", "relu", "softmax")


def fold(graph: Graph) -> Graph:
    """The same function in fewer layers, of kinds that int8 knows; convolutions have biases.

    Layers keep their names; new ones are called after the layer that they stand for.
    """
    graph = _in_double(_live(graph))
    for rule in (_pairwise, _average, _dense_on_maps, _with_bias, _activation_apart, _to_six):
        graph = _expanded(graph, rule)
    graph = _merged(_expanded(graph, _nothing), (_into_linear, _one_map, _from_before, _reordered))
    graph = _expanded(_expanded(graph, _nothing), _as_convolution)
    return _in_single(graph)


# From one layer to others.


def _pairwise(node: Node, forms: Forms) -> list[Node]:
    """A merge of several as merges of two: f(a, b, c) = f(f(a, b), c)."""
    if node.kind not in ("Add", "Multiply", "Maximum", "Minimum") or len(node.inputs) < 3:
        return [node]
    chain = [replace(node, name=f"{node.name}_2", inputs=node.inputs[:2])]
    for i, source in enumerate(node.inputs[2:], start=3):
        chain.append(replace(node, name=f"{node.name}_{i}", inputs=(chain[-1].name, source)))
    return [*chain[:-1], replace(chain[-1], name=node.name)]


def _average(node: Node, forms: Forms) -> list[Node]:
    """A mean of n as (a + b + ...) * 1/n."""
    if node.kind != "Average":
        return [node]
    total = replace(node, name=f"{node.name}_sum", kind="Add")
    scale = {"scale": 1 / len(node.inputs), "offset": 0.0}
    last = Node(name=node.name, kind="Rescaling", config=scale, inputs=(total.name,))
    return [*_pairwise(total, forms), last]


def _dense_on_maps(node: Node, forms: Forms) -> list[Node]:
    """A dense layer on (height, width, channels), which acts on each pixel, as a 1x1 convolution:
    kernel (in, out) becomes (1, 1, in, out)."""
    if node.kind != "Dense" or forms[node.inputs[0]].rank != 3:
        return [node]
    units = node.config["units"]
    made = _convolution(node.name, node.inputs, units, node.config["activation"])
    return [replace(made, weights=(node.weights[0][None, None], _bias(node)))]


def _with_bias(node: Node, forms: Forms) -> list[Node]:
    """A convolution without a bias as one with a bias of 0."""
    if node.kind not in CONVOLUTIONS or node.config["use_bias"]:
        return [node]
    config = {**node.config, "use_bias": True}
    return [replace(node, config=config, weights=(node.weights[0], _bias(node)))]


def _activation_apart(node: Node, forms: Forms) -> list[Node]:
    """act(conv(x)) as a layer each, where TFLite does not compute both in one; min(relu(x), 6) is
    a ReLU with a largest value."""
    activation = node.config.get("activation")
    if activation == "relu6":
        clip = {"max_value": 6.0, "negative_slope": 0.0, "threshold": 0.0}
        apart = Node(name=node.name, kind="ReLU", config=clip, inputs=node.inputs)
    elif node.kind in LINEAR and activation not in FUSED:
        one = {"activation": activation}
        apart = Node(name=node.name, kind="Activation", config=one, inputs=node.inputs)
    else:
        return [node]
    if node.kind == "Activation":
        return [apart]
    linear = replace(node, config={**node.config, "activation": "linear"})
    name = f"{node.name}_{activation}"
    return [linear, replace(apart, name=name, inputs=(node.name,))]


def _to_six(node: Node, forms: Forms) -> list[Node]:
    """min(relu(x), m) = m/6 * min(relu(6/m * x), 6), the one such end that is part of int8
    convolutions: so of a hard sigmoid, whose m is 1."""
    config = node.config
    if node.kind != "ReLU" or config["max_value"] in (None, 6):
        return [node]
    most = config["max_value"]
    if most <= 0 or config["negative_slope"] or config["threshold"]:
        return [node]
    up = {"scale": 6 / most, "offset": 0.0}
    down = {"scale": most / 6, "offset": 0.0}
    first = Node(name=f"{node.name}_up", kind="Rescaling", config=up, inputs=node.inputs)
    six = replace(node, config={**config, "max_value": 6.0}, inputs=(first.name,))
    last = Node(name=f"{node.name}_down", kind="Rescaling", config=down, inputs=(node.name,))
    return [first, six, last]


def _nothing(node: Node, forms: Forms) -> list[Node]:
    """None for what does nothing: f(x) = x."""
    config = node.config
    if node.kind == "Rescaling":
        idle = bool(np.all(np.equal(config["scale"], 1)) and not np.any(config["offset"]))
    elif node.kind in ("ZeroPadding2D", "Cropping2D"):
        idle = not np.any(config["padding" if node.kind == "ZeroPadding2D" else "cropping"])
    else:
        idle = node.kind == "Activation" and config["activation"] == "linear"
        idle = idle or (node.kind == "Concatenate" and len(node.inputs) == 1)
    return [] if idle else [node]


def _as_convolution(node: Node, forms: Forms) -> list[Node]:
    """What is left of x*s + o by channel, as a 1x1 depthwise convolution; a vector of features
    goes through it as a picture of one pixel."""
    form, each = forms[node.name], _map_of(node)
    if each is None or form.channels is None or form.rank not in (1, 3):
        return [node]
    scale, offset = (np.broadcast_to(n, (form.channels,)) for n in (each.scale, each.offset))
    config = {
        "kernel_size": [1, 1], "strides": [1, 1], "padding": "valid", "depth_multiplier": 1,
        "dilation_rate": [1, 1], "use_bias": True, "activation": "linear",
    }  # fmt: skip
    weights: tuple[Numbers, ...] = (scale.reshape(1, 1, -1, 1), offset)
    made = replace(node, kind="DepthwiseConv2D", config=config, weights=weights)
    if form.rank == 3:
        return [made]
    pixel = {"target_shape": [1, 1, form.channels]}
    flat = {"target_shape": [form.channels]}
    into = Node(name=f"{node.name}_pixel", kind="Reshape", config=pixel, inputs=node.inputs)
    inside = replace(made, inputs=(into.name,))
    out = Node(name=f"{node.name}_flat", kind="Reshape", config=flat, inputs=(node.name,))
    return [into, inside, out]


# From two layers, of which the second alone reads the first, to one.


@dataclass(frozen=True, kw_only=True)
class Map:
    """x*scale + offset for each channel alone: float64 (channels,), or () for all alike."""

    scale: Numbers
    offset: Numbers


def _map_of(node: Node) -> Map | None:
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


def _into_linear(first: Node, second: Node) -> Node | None:
    """(w*x + b)*s + o = (w*s)*x + (b*s + o): after a convolution or dense layer."""
    each = _map_of(second)
    if each is None or not _linear(first):
        return None
    kernel, bias = first.weights[0], _bias(first)
    scale = np.broadcast_to(each.scale, bias.shape)
    depthwise = first.kind == "DepthwiseConv2D"
    kernel = kernel * (scale.reshape(kernel.shape[2:]) if depthwise else scale)
    return replace(
        first,
        config={**first.config, "use_bias": True},
        weights=(kernel, bias * scale + each.offset),
    )


def _one_map(first: Node, second: Node) -> Node | None:
    """(x*s + o)*t + p = x*(s*t) + (o*t + p)."""
    one, two = _map_of(first), _map_of(second)
    if one is None or two is None:
        return None
    config = {
        "scale": (one.scale * two.scale).tolist(),
        "offset": (one.offset * two.scale + two.offset).tolist(),
    }
    return Node(name=first.name, kind="Rescaling", config=config, inputs=first.inputs)


def _from_before(first: Node, second: Node) -> Node | None:
    """conv(x*s + o; w) + b = conv(x; w*s) + (b + sum of w*o): before one.

    With padding, the zeros at the border are zeros of the scaled picture, not of the bytes, so
    that only a scale without an offset, which keeps zero where it is, is exact.
    """
    each = _map_of(first)
    if each is None or second.kind not in LINEAR:
        return None
    if second.config.get("padding") == "same" and np.any(each.offset):
        return None
    kernel, bias = second.weights[0], _bias(second)
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
    return replace(second, config={**second.config, "use_bias": True}, weights=(kernel, bias))


def _by_input(numbers: Numbers, inputs: int) -> Numbers:
    return np.broadcast_to(numbers, (inputs,))


def _by_group(numbers: Numbers, inputs: int, groups: int, kernel: Numbers) -> Numbers:
    """One number for each (input, output) of a kernel: output j of n sees the inputs of group
    j // (n / groups) alone. Returns (inputs / groups, outputs)."""
    by_group = _by_input(numbers, inputs).reshape(groups, -1).T
    return np.repeat(by_group, kernel.shape[-1] // groups, axis=1)


def _reordered(first: Node, second: Node) -> Node | None:
    """A 1x1 convolution that only orders and scales channels (BGR), in the one after it:
    conv(K*x + k; w) + b = conv(x; w') + (b + sum of w*k), w'[.., i, o] = sum_m K[i, m] w[.., m, o].

    As in `_from_before`, padding allows it only where k is 0.
    """
    if not _linear(first) or first.kind != "Conv2D" or second.kind != "Conv2D":
        return None
    order, shift = first.weights
    one_each = order.shape[:2] == (1, 1) and order.shape[2] == order.shape[3]
    one_each = one_each and not np.any(np.sum(order[0, 0] != 0, axis=0) != 1)
    plain = first.config["strides"], first.config["groups"], second.config["groups"]
    if not one_each or [*map(np.max, plain)] != [1, 1, 1]:
        return None
    if second.config["padding"] == "same" and np.any(shift):
        return None
    kernel, bias = second.weights[0], _bias(second)
    bias = bias + np.einsum("hwmo,m->o", kernel, shift)
    kernel = np.einsum("im,hwmo->hwio", order[0, 0], kernel)
    return replace(second, config={**second.config, "use_bias": True}, weights=(kernel, bias))


def _linear(node: Node) -> bool:
    return node.kind in LINEAR and node.config["activation"] == "linear"


def _outputs(node: Node) -> int:
    """Channels that a convolution or dense layer gives."""
    shape = node.weights[0].shape
    return shape[2] * shape[3] if node.kind == "DepthwiseConv2D" else shape[-1]


def _bias(node: Node) -> Numbers:
    """Of a convolution or dense layer; zeros where it has none."""
    return node.weights[1] if len(node.weights) > 1 else np.zeros(_outputs(node))


def _convolution(name: str, inputs: tuple[str, ...], filters: int, activation: str) -> Node:
    config = {
        "filters": filters, "kernel_size": [1, 1], "strides": [1, 1], "padding": "valid",
        "dilation_rate": [1, 1], "groups": 1, "use_bias": True, "activation": activation,
    }  # fmt: skip
    return Node(name=name, kind="Conv2D", config=config, inputs=inputs)


# Going through the graph.


@dataclass(frozen=True, kw_only=True)
class Form:
    """Of one photo's tensor: its dimensions, and its channels where they are simply known."""

    rank: int
    channels: int | None


Forms = Mapping[str, Form]
Expand = Callable[[Node, Forms], list[Node]]
Merge = Callable[[Node, Node], "Node | None"]


def forms_of(graph: Graph) -> dict[str, Form]:
    """The form of each node's output."""
    found: dict[str, Form] = {}
    for node in graph.nodes:
        sources = [found[name] for name in node.inputs]
        found[node.name] = _form(node, sources)
    return found


def _form(node: Node, sources: Sequence[Form]) -> Form:
    if node.kind == INPUT or node.kind == "Reshape":
        shape = node.config["shape" if node.kind == INPUT else "target_shape"]
        return Form(rank=len(shape), channels=shape[-1] if shape[-1] > 0 else None)
    known = [form.channels for form in sources if form.channels is not None]
    rank = max(form.rank for form in sources)
    channels = max(known) if len(known) == len(sources) else None
    if node.kind in LINEAR:
        channels = _outputs(node)
    elif node.kind == "BatchNormalization":
        channels = len(node.weights[-1])
    elif node.kind == "Concatenate":
        channels = sum(known) if len(known) == len(sources) else None
    elif node.kind == "Flatten":
        rank, channels = 1, channels if rank == 1 else None
    elif node.kind == "Permute":
        channels = channels if node.config["dims"][-1] == rank else None
    elif node.kind.startswith("Global") and not node.config["keepdims"]:
        rank = 1
    return Form(rank=rank, channels=channels)


def _expanded(graph: Graph, rule: Expand) -> Graph:
    """Every node replaced by those that `rule` gives for it, the last of which is then read in its
    place; by what it reads where there are none."""
    forms, taken = forms_of(graph), {node.name for node in graph.nodes}
    made: list[Node] = []
    renamed: dict[str, str] = {}
    for old in graph.nodes:
        node = _reading(old, renamed)
        own: dict[str, str] = {}
        for new in rule(node, forms):
            new = _reading(new, own)
            if new.name != old.name and new.name in taken:
                own[new.name] = next(n for i in count(2) if (n := f"{new.name}_{i}") not in taken)
                new = replace(new, name=own[new.name])
            taken.add(new.name)
            made.append(new)
            renamed[old.name] = new.name
        if old.name not in renamed:
            renamed[old.name] = node.inputs[0]
    return _ending(made, renamed.get(graph.nodes[-1].name, graph.nodes[-1].name))


def _merged(graph: Graph, rules: Sequence[Merge]) -> Graph:
    """Every two nodes made one where a rule says how, from the input to the output."""
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    made: dict[str, Node] = {}
    renamed: dict[str, str] = {}
    for old in graph.nodes:
        node = _reading(old, renamed)
        one = None
        if len(node.inputs) == 1 and reads[node.inputs[0]] == 1:
            first = made[node.inputs[0]]
            one = next((new for rule in rules if (new := rule(first, node))), None)
        if one is not None:
            del made[first.name]
            node = replace(one, inputs=first.inputs)
            renamed[old.name] = node.name
            reads[node.name] = reads[old.name]
        made[node.name] = node
    return _ending(list(made.values()), renamed.get(graph.nodes[-1].name, graph.nodes[-1].name))


def _reading(node: Node, renamed: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(renamed.get(name, name) for name in node.inputs))


def _ending(nodes: Sequence[Node], last: str) -> Graph:
    """The graph with the node `last` at its end."""
    end = next(i for i, node in enumerate(nodes) if node.name == last)
    return _live(Graph(nodes=tuple(nodes[: end + 1])))


def _live(graph: Graph) -> Graph:
    """Without nodes that the output does not depend on."""
    used = {graph.nodes[0].name, graph.nodes[-1].name}
    for node in reversed(graph.nodes):
        if node.name in used:
            used |= set(node.inputs)
    return Graph(nodes=tuple(node for node in graph.nodes if node.name in used))


def _in_double(graph: Graph) -> Graph:
    return _as(graph, np.float64)


def _in_single(graph: Graph) -> Graph:
    return _as(graph, np.float32)


def _as(graph: Graph, dtype: Any) -> Graph:
    """The graph with its numbers in `dtype`."""
    return Graph(
        nodes=tuple(
            replace(node, weights=tuple(np.array(w, dtype) for w in node.weights))
            for node in graph.nodes
        )
    )
