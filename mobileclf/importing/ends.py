"""The two ends of a graph: bytes go in, and one probability for each label comes out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError
from mobileclf.images.preprocess import Preprocess
from mobileclf.models.graph import Graph, Node

from .sketch import REVERSED, picking, plainly, pointwise, shapes_of

# Between the layer with the weights and the end: what leaves logits logits.
PASSING = ("Flatten", "Reshape", "GlobalAveragePooling2D")
WANTED = "wanted a Dense layer with softmax, with sigmoid or with neither at the end"


def preprocesses_itself(graph: Graph) -> bool:
    """Whether all that reads the input is one Rescaling, with or without an exchange of channels
    before it. Such an exchange alone says nothing of the scale."""
    readers = graph.readers(graph.nodes[0].name)
    if len(readers) == 1 and _picks_channels(readers[0]):
        readers = graph.readers(readers[0].name)
    return len(readers) == 1 and readers[0].kind == "Rescaling"


def _picks_channels(node: Node) -> bool:
    """Whether a node is a 1x1 convolution that passes on one channel in each of its own."""
    if node.kind != "Conv2D" or node.config["use_bias"] or node.config["activation"] != "linear":
        return False
    kernel = node.weights[0]
    once = np.isin(kernel, (0, 1)).all() and (kernel.sum(axis=2) == 1).all()
    return kernel.shape[:2] == (1, 1) and node.config["strides"] == [1, 1] and bool(once)


def with_preprocess(graph: Graph, how: Preprocess) -> Graph:
    """The graph for float bytes 0..255 in R, G, B or grey, its preprocessing in front.

    Raises DataError for `raw`, and where values for three channels meet one.
    """
    source, channels = graph.nodes[0], graph.shape[2]
    if how.raw:
        raise DataError(
            "preprocessing raw: it is for an integer input, found float32; give 0..255 if the "
            "model takes bytes as numbers"
        )
    several = max(len(how.mean), len(how.std))
    if (how.bgr or several > 1) and channels != (wanted := 3 if how.bgr else several):
        raise DataError(f"preprocessing {how.name}: wanted {wanted} channels, found {channels}")
    mean, std = np.array(how.mean, np.float64), np.array(how.std, np.float64)
    scale, offset = np.broadcast_arrays(1 / std, -mean / std)
    front: list[Node] = []
    last = source.name
    if how.bgr:
        name = _unique(graph, "bgr")
        front.append(
            Node(
                name=name,
                kind="Conv2D",
                config=pointwise(channels),
                inputs=(last,),
                weights=(picking(REVERSED, channels),),
            )
        )
        last = name
    if np.any(scale != 1) or offset.any():
        name = _unique(graph, "preprocess")
        config = {"scale": plainly(scale), "offset": plainly(offset + 0.0)}
        front.append(Node(name=name, kind="Rescaling", config=config, inputs=(last,)))
        last = name
    rest = [
        replace(node, inputs=tuple(last if name == source.name else name for name in node.inputs))
        for node in graph.nodes[1:]
    ]
    return Graph(nodes=(source, *front, *rest))


def with_probabilities(graph: Graph) -> tuple[Graph, str]:
    """The same answers as one probability for each label, softmax at the end; and what it was.

    "softmax": as it is. "logits": softmax added. "sigmoid" and "sigmoid logit": one unit, made
    two, since sigmoid(z) is the second of softmax(0, z). Raises DataError for any other end.
    """
    shapes, last = shapes_of(graph), graph.nodes[-1]
    if len(shapes[last.name]) != 1:
        raise DataError(
            f"layer {last.name!r} ({last.kind}): wanted one row of answers for a photo, found the "
            f"shape {shapes[last.name]}; put GlobalAveragePooling2D and Dense behind it"
        )
    labels = shapes[last.name][0]
    chain = _chain(graph)
    found = [node for node in chain if _activation(node) != "linear"]
    if last.config.get("activation") == "softmax" and labels > 1:
        return graph, "softmax"
    if len(found) > 1 or chain[0].kind not in ("Dense", "Conv2D"):
        raise DataError(f"layer {last.name!r} ({last.kind}): {WANTED}; save the model so")
    activation = _activation(found[0]) if found else "linear"
    # Softmax and sigmoid may only move to the end past what holds one number for each label.
    moves = not found or math.prod(shapes[found[0].name]) == shapes[found[0].name][-1] == labels
    _check(chain[-1], activation, labels, moves)
    plain = [_with_activation(node, "linear") for node in chain]
    if labels == 1:
        plain = [_two(node) for node in plain]
    changed = _ended(graph, plain)
    if labels > 1:
        return changed, "softmax" if activation == "softmax" else "logits"
    return changed, "sigmoid" if activation == "sigmoid" else "sigmoid logit"


def probabilities(outputs: NDArray[np.float64], form: str) -> NDArray[np.float64]:
    """What a model's own outputs (n, units) mean, float64 (n, labels), by the form of its head
    as `with_probabilities` names it. Raises DataError for what is no number."""
    if not np.all(np.isfinite(outputs)):
        raise DataError("its answers are no numbers (NaN or infinite) on these photos")
    if form == "sigmoid logit":
        least = np.exp(-np.abs(outputs))  # of -|z|, which does not overflow
        outputs, form = np.where(outputs < 0, least, 1.0) / (1 + least), "sigmoid"
    if form == "sigmoid":
        return np.concatenate([1 - outputs, outputs], axis=1)
    if form == "logits":
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    return outputs


def _chain(graph: Graph) -> list[Node]:
    """The last nodes, from the one that has the weights. Each has one input, and all nodes lead
    to the output, so nothing else reads them."""
    chain = [graph.nodes[-1]]
    while chain[0].kind in (*PASSING, "Activation"):
        chain.insert(0, graph[chain[0].inputs[0]])
    return chain


def _activation(node: Node) -> str:
    return str(node.config.get("activation", "linear"))


def _check(last: Node, activation: str, labels: int, moves: bool) -> None:
    """Raise DataError for an end that is no choice of one label."""
    where = f"layer {last.name!r} ({last.kind})"
    if activation == "softmax" and labels == 1:
        raise DataError(f"{where}: softmax over one output is always 1; train with sigmoid, or "
                        "with one output for each of two labels")  # fmt: skip
    if activation == "sigmoid" and labels > 1:
        raise DataError(
            f"{where}: {labels} outputs with a sigmoid each, which is multi-label: several labels "
            "may hold for a photo; wanted one label a photo: train with softmax"
        )
    if activation not in ("linear", "softmax", "sigmoid") or not moves:
        raise DataError(f"{where}: {WANTED}, found {activation} before it; save the model so")


def _with_activation(node: Node, activation: str) -> Node:
    if "activation" not in node.config:
        return node
    return replace(node, config={**node.config, "activation": activation})


def _two(node: Node) -> Node:
    """One unit z as two, 0 and z."""
    if node.kind == "Reshape":
        shape = node.config["target_shape"]
        return replace(node, config={"target_shape": [*shape[:-1], 2]})
    if node.kind not in ("Dense", "Conv2D"):
        return node
    units = "units" if node.kind == "Dense" else "filters"
    weights = tuple(np.concatenate([np.zeros_like(w), w], axis=-1) for w in node.weights)
    return replace(node, config={**node.config, units: 2}, weights=weights)


def _ended(graph: Graph, chain: Sequence[Node]) -> Graph:
    """The graph with these last nodes, softmax at their end."""
    changed: Mapping[str, Node] = {node.name: node for node in chain}
    nodes = [changed.get(node.name, node) for node in graph.nodes]
    last = nodes[-1]
    if last.kind in ("Dense", "Activation"):
        nodes[-1] = _with_activation(last, "softmax")
    else:
        name = _unique(graph, "probabilities")
        config = {"activation": "softmax"}
        nodes.append(Node(name=name, kind="Activation", config=config, inputs=(last.name,)))
    return Graph(nodes=tuple(nodes))


def _unique(graph: Graph, name: str) -> str:
    taken = {node.name for node in graph.nodes}
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found
