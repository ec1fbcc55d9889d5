"""One layer said in others, of which int8 has kernels."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from .graph import Graph, Node
from .maps import LINEAR, bias_of, rescaling
from .walk import Shapes, expanded, reading

MERGES = ("Add", "Multiply", "Maximum", "Minimum")
# What TFLite computes as part of a convolution, or with a fixed grid after a dense layer.
FUSED = ("linear", "relu", "softmax")
JOINED = 5  # inputs of a concatenation that XNNPACK takes, in LiteRT 2.3


def identities(graph: Graph) -> Graph:
    """Without what does nothing: f(x) = x."""
    return expanded(graph, _identity)


def merges_in_pairs(graph: Graph) -> Graph:
    """A merge of several as merges of two, a mean as a sum and a scale."""
    return expanded(expanded(graph, _mean), _pairwise)


def long_concatenations(graph: Graph) -> Graph:
    """A concatenation of many as one of concatenations of at most JOINED each."""
    return expanded(graph, _in_parts)


def dense_on_maps(graph: Graph) -> Graph:
    """A dense layer on a map of features as a 1x1 convolution."""
    return expanded(graph, _dense_on_map)


def biases(graph: Graph) -> Graph:
    """A convolution without a bias as one with a bias of 0."""
    return expanded(graph, _with_bias)


def activations_apart(graph: Graph) -> Graph:
    """An activation as a layer of its own, where TFLite does not compute both in one."""
    return expanded(graph, _activation_apart)


def clips_at_six(graph: Graph) -> Graph:
    """A ReLU that ends at another value than 6 as one that ends at 6, scaled before and after."""
    return expanded(graph, _to_six)


def equal_layers(graph: Graph) -> Graph:
    """Of layers of one kind, setting and number that read the same, the first alone; the last
    layer of all stays."""
    first: dict[object, str] = {}
    renamed: dict[str, str] = {}
    kept = []
    for old in graph.nodes:
        node = reading(old, renamed)
        numbers = tuple((weights.shape, weights.tobytes()) for weights in node.weights)
        settings = json.dumps(dict(node.config), sort_keys=True)
        key = (node.kind, settings, node.inputs, numbers)
        if key in first and old is not graph.nodes[-1]:
            renamed[node.name] = first[key]
        else:
            first[key] = node.name
            kept.append(node)
    return Graph(nodes=tuple(kept))


def _identity(node: Node, shapes: Shapes) -> list[Node]:
    config = node.config
    if node.kind == "Rescaling":
        idle = bool(np.all(np.equal(config["scale"], 1)) and not np.any(config["offset"]))
    elif node.kind in ("ZeroPadding2D", "Cropping2D"):
        idle = not np.any(config["padding" if node.kind == "ZeroPadding2D" else "cropping"])
    else:
        idle = node.kind == "Activation" and config["activation"] == "linear"
        idle = idle or (node.kind == "Concatenate" and len(node.inputs) == 1)
    return [] if idle else [node]


def _pairwise(node: Node, shapes: Shapes) -> list[Node]:
    """f(a, b, c) = f(f(a, b), c)."""
    if node.kind not in MERGES or len(node.inputs) < 3:
        return [node]
    chain = [replace(node, name=f"{node.name}_2", inputs=node.inputs[:2])]
    for i, source in enumerate(node.inputs[2:], start=3):
        chain.append(replace(node, name=f"{node.name}_{i}", inputs=(chain[-1].name, source)))
    return [*chain[:-1], replace(chain[-1], name=node.name)]


def _in_parts(node: Node, shapes: Shapes) -> list[Node]:
    parts: list[Node] = []
    inputs = node.inputs
    while node.kind == "Concatenate" and len(inputs) > JOINED:
        groups = [inputs[i : i + JOINED] for i in range(0, len(inputs), JOINED)]
        inputs = ()
        for group in groups:
            if len(group) > 1:
                parts.append(replace(node, name=f"{node.name}_part{len(parts)}", inputs=group))
            inputs += (parts[-1].name,) if len(group) > 1 else group
    return [*parts, replace(node, inputs=inputs)]


def _mean(node: Node, shapes: Shapes) -> list[Node]:
    """A mean of n as (a + b + ...) * 1/n."""
    if node.kind != "Average":
        return [node]
    total = replace(node, name=f"{node.name}_sum", kind="Add")
    return [total, rescaling(node.name, total.name, 1 / len(node.inputs))]


def _dense_on_map(node: Node, shapes: Shapes) -> list[Node]:
    """It acts on each pixel: its kernel (in, out) becomes (1, 1, in, out)."""
    if node.kind != "Dense" or len(shapes[node.inputs[0]]) != 3:
        return [node]
    config = {
        "filters": node.config["units"], "kernel_size": [1, 1], "strides": [1, 1],
        "padding": "valid", "dilation_rate": [1, 1], "groups": 1, "use_bias": True,
        "activation": node.config["activation"],
    }  # fmt: skip
    weights = (node.weights[0][None, None], bias_of(node))
    return [replace(node, kind="Conv2D", config=config, weights=weights)]


def _with_bias(node: Node, shapes: Shapes) -> list[Node]:
    if node.kind not in LINEAR or node.config["use_bias"]:
        return [node]
    config = {**node.config, "use_bias": True}
    return [replace(node, config=config, weights=(node.weights[0], bias_of(node)))]


def _activation_apart(node: Node, shapes: Shapes) -> list[Node]:
    """act(conv(x)); min(relu(x), 6) is a ReLU with a largest value."""
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
    return [linear, replace(apart, name=f"{node.name}_{activation}", inputs=(node.name,))]


def _to_six(node: Node, shapes: Shapes) -> list[Node]:
    """min(relu(x), m) = m/6 * min(relu(6/m * x), 6), the one such end that is part of int8
    convolutions: so of a hard sigmoid, whose m is 1."""
    config = node.config
    if node.kind != "ReLU" or config["max_value"] in (None, 6):
        return [node]
    most = config["max_value"]
    if most <= 0 or config["negative_slope"] or config["threshold"]:
        return [node]
    up = rescaling(f"{node.name}_up", node.inputs[0], 6 / most)
    six = replace(node, config={**config, "max_value": 6.0}, inputs=(up.name,))
    return [up, six, rescaling(f"{node.name}_down", node.name, most / 6)]
