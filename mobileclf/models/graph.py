"""A network as data: nodes with plain settings and numbers, the same for both Keras.

Everything between reading a model and quantizing it works on this: a model is flattened into it,
rewritten in it, and built from it in Keras 3 or tf_keras. No function hides in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError

Float = NDArray[np.float32]

INPUT = "InputLayer"
EDGE = "EdgeCorrection"
# For each kind of node, a class of `keras.layers`, the keyword arguments that it is built from.
# Channels are last everywhere. An activation is one of ACTIVATIONS. An EdgeCorrection is no such
# class: it scales by position, and its weight is the scale, (height, width, 1).
KINDS: Mapping[str, tuple[str, ...]] = {
    INPUT: ("shape",),
    "Conv2D": (
        "filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias",
        "activation",
    ),
    "DepthwiseConv2D": (
        "kernel_size", "strides", "padding", "depth_multiplier", "dilation_rate", "use_bias",
        "activation",
    ),
    "Dense": ("units", "use_bias", "activation"),
    "BatchNormalization": ("epsilon", "center", "scale"),
    "Activation": ("activation",),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "AveragePooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": ("keepdims",),
    "GlobalMaxPooling2D": ("keepdims",),
    "ZeroPadding2D": ("padding",),
    "Cropping2D": ("cropping",),
    "UpSampling2D": ("size", "interpolation"),
    "Add": (),
    "Subtract": (),
    "Multiply": (),
    "Average": (),
    "Maximum": (),
    "Minimum": (),
    "Concatenate": (),
    "Flatten": (),
    "Reshape": ("target_shape",),
    "Permute": ("dims",),
    "Rescaling": ("scale", "offset"),  # a number, or one for each channel
    EDGE: (),
}  # fmt: skip
# By names that both Keras give the same meaning. hard_sigmoid is not one: they differ in it.
ACTIVATIONS = (
    "linear", "relu", "relu6", "sigmoid", "softmax", "tanh", "swish", "elu", "selu", "gelu",
    "softplus", "softsign", "exponential",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Node:
    """One layer. config: the keys of KINDS[kind], JSON values. inputs: names of other nodes.

    weights: float32, in the order of `layer.get_weights()`: kernel, bias; of a batch norm gamma,
    beta (where it has them), moving mean, moving variance.
    """

    name: str
    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    weights: tuple[Float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"layer {self.name!r}: a {self.kind} is not known here")
        if set(self.config) != set(KINDS[self.kind]):
            raise DataError(
                f"layer {self.name!r}: wanted {sorted(KINDS[self.kind])} of a {self.kind}, found "
                f"{sorted(self.config)}"
            )


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes, each after those that it reads; the first is the one input, the last the output."""

    nodes: tuple[Node, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the input."""
        height, width, channels = self.nodes[0].config["shape"]
        return height, width, channels

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def readers(self, name: str) -> tuple[Node, ...]:
        """The nodes that read the output of `name`."""
        return tuple(node for node in self.nodes if name in node.inputs)


def build(k: ModuleType, graph: Graph) -> Any:
    """The graph as a flat functional model of `k`, the module `keras` (3) or `tf_keras`.

    Layers have the nodes' names, in both Keras.
    """
    tensors: dict[str, Any] = {}
    layers: list[tuple[Any, Node]] = []
    for node in graph.nodes:
        if node.kind == INPUT:
            tensors[node.name] = k.Input(tuple(node.config["shape"]), name=node.name)
            continue
        layer = layer_of(k, node)
        sources = [tensors[name] for name in node.inputs]
        tensors[node.name] = layer(sources if len(sources) > 1 else sources[0])
        layers.append((layer, node))
    model = k.Model(tensors[graph.nodes[0].name], tensors[graph.nodes[-1].name], name="classifier")
    for layer, node in layers:
        if layer.weights:
            layer.set_weights(list(node.weights))
    return model


def layer_of(k: ModuleType, node: Node) -> Any:
    """The layer of a node that is no input, in `k`; its numbers are not in it yet."""
    if node.kind == EDGE:
        return k.layers.Rescaling(node.weights[0], name=node.name)
    return getattr(k.layers, node.kind)(name=node.name, **node.config)


def save(graph: Graph, folder: Path) -> None:
    """Write `graph.json` and `weights.npz` into `folder`, for another process."""
    rows: list[dict[str, Any]] = []
    numbers: dict[str, Float] = {}
    for i, node in enumerate(graph.nodes):
        rows.append({**vars(node), "inputs": list(node.inputs), "weights": len(node.weights)})
        numbers |= {f"{i}.{j}": value for j, value in enumerate(node.weights)}
    np.savez(folder / "weights.npz", **numbers)  # type: ignore[arg-type]
    (folder / "graph.json").write_text(json.dumps(rows), encoding="utf-8")


def read(folder: Path) -> Graph:
    """The graph that `save` wrote."""
    rows: Sequence[Mapping[str, Any]] = json.loads((folder / "graph.json").read_text("utf-8"))
    with np.load(folder / "weights.npz", allow_pickle=False) as numbers:
        return Graph(
            nodes=tuple(
                Node(
                    name=row["name"],
                    kind=row["kind"],
                    config=row["config"],
                    inputs=tuple(row["inputs"]),
                    weights=tuple(numbers[f"{i}.{j}"] for j in range(row["weights"])),
                )
                for i, row in enumerate(rows)
            )
        )
