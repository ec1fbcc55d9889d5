"""Which tensor of a `.tflite` is which layer's output: told by its name, then held against the
shape and the structure of the network. What cannot be told is said, and never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mobileclf.errors import DataError
from mobileclf.models.graph import INPUT, Graph, Node
from mobileclf.models.grid import KERNELS
from mobileclf.tflite.graph import Model, Operator
from mobileclf.tflite.quantization import UNPACKERS, unpacked

ROOT = "classifier"  # the name that every network is built under, and tensors' names begin with
QUANT = "quant_"  # before a layer's name in a file of a quantization-aware graph
CASTS = ("QUANTIZE", "DEQUANTIZE")
KERNEL_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
ACTIVATIONS = ("ReLU", "Activation")
# TensorFlow's operators of a layer before its activation; the converter may number them.
LINEAR = re.compile(r"(Conv2D|depthwise|MatMul|BiasAdd)\d*")
LINEAR_PART = ".linear"  # after a layer's name: what its activation is computed from
IN_ONE = ("linear", "relu", "relu6")  # what TFLite computes in one operator with a kernel
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """An operator of the file and the layers of the network that it computes.

    operator: its place among the file's. tensor: its output's index. node: whose output that is.
    inputs: the told tensors that it reads, with nothing but untold ones between. nodes: the layers
    between those and `node`, in order. kernel: which of them has the kernel, None where none.
    """

    operator: int
    tensor: int
    node: str
    inputs: tuple[int, ...]
    nodes: tuple[str, ...]
    kernel: str | None


@dataclass(frozen=True, kw_only=True)
class Untold:
    """An operator whose output is no layer's as far as can be told, and why."""

    operator: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Match:
    """layers, untold: in the order of the operators, without those that unpack constants."""

    layers: tuple[Layer, ...]
    untold: tuple[Untold, ...]


def activations_apart(graph: Graph) -> Graph:
    """The same function, with each activation that TFLite computes in an operator of its own as a
    node of its own: `x` then is the activation's output and `x.linear` what it is computed from."""
    nodes: list[Node] = []
    for node in graph.nodes:
        activation = node.config.get("activation", "linear")
        if node.kind in KERNELS and activation not in IN_ONE:
            linear = replace(
                node, name=_linear(node.name), config={**node.config, "activation": "linear"}
            )
            own = Node(
                name=node.name, kind="Activation", config={"activation": activation},
                inputs=(linear.name,),
            )  # fmt: skip
            nodes += [linear, own]
        else:
            nodes.append(node)
    return Graph(nodes=tuple(nodes))


def match(model: Model, graph: Graph, shapes: Shapes) -> Match:
    """Tell the outputs of the file's operators.

    graph: `activations_apart`. shapes: of one photo's output of each node, without the batch.
    A tensor is a layer's output when its name says so, it has that shape, and the network between
    it and the tensors that it is computed from has no other way in, and a kernel exactly where the
    operator has one. Raises DataError for a file of several subgraphs.
    """
    if len(model.subgraphs) != 1:
        raise DataError(f"model: wanted one subgraph, found {len(model.subgraphs)}")
    return _Matching(model, graph, shapes).match()


def _linear(name: str) -> str:
    return f"{name}{LINEAR_PART}"


class _Matching:
    """What is known of one file and one network while they are held against each other."""

    def __init__(self, model: Model, graph: Graph, shapes: Shapes) -> None:
        self.model, self.graph, self.shapes = model, graph, shapes
        self.file = model.subgraphs[0]
        self.nodes = {node.name: node for node in graph.nodes}
        self.order = {node.name: i for i, node in enumerate(graph.nodes)}
        constants = unpacked(model, self.file)
        self.operators = [
            (i, op)
            for i, op in enumerate(self.file.operators)
            if op.inputs
            and op.outputs
            and not (op.name in UNPACKERS and set(op.outputs) & constants.keys())
        ]
        self.makers = {t: op for _, op in self.operators for t in op.outputs}
        self.constants = constants.keys() | {
            t for t, tensor in enumerate(self.file.tensors) if model.is_constant(tensor)
        }
        self.told: dict[int, str] = {}  # node by tensor, as far as it was confirmed

    def match(self) -> Match:
        claims = self._claims()
        last = {node: tensor for tensor, node in claims.items()}  # tensors are in order
        self.told = {t: self.graph.nodes[0].name for t in self.file.inputs}
        layers: list[Layer] = []
        untold: list[Untold] = []
        for i, op in self.operators:
            tensor = op.outputs[0]
            if op.name in CASTS and (node := self.told.get(op.inputs[0])):
                found: Layer | str = Layer(
                    operator=i, tensor=tensor, node=node, inputs=op.inputs[:1], nodes=(),
                    kernel=None,
                )  # fmt: skip
            elif (node := claims.get(tensor)) is None:
                found = "its name is no layer's"
            elif last[node] != tensor:
                found = f"inside {node}"
            else:
                found = self._held(i, op, node)
            if isinstance(found, str):
                untold.append(Untold(operator=i, why=found))
            else:
                self.told[tensor] = found.node
                layers.append(found)
        return Match(layers=tuple(layers), untold=tuple(untold))

    def _claims(self) -> dict[int, str]:
        """Layers by the names of the tensors, and the network's output by its place. Names of a
        quantization-aware file have a prefix: the reading that tells more is taken."""
        readings = [self._named(prefix) for prefix in ("", QUANT)]
        claims = max(readings, key=len)
        for tensor in self.file.outputs:
            while (op := self.makers.get(tensor)) is not None and op.name in CASTS:
                tensor = op.inputs[0]
            claims[tensor] = self.graph.nodes[-1].name
        return {t: claims[t] for _, op in self.operators for t in op.outputs if t in claims}

    def _named(self, prefix: str) -> dict[int, str]:
        found = {}
        for _, op in self.operators:
            named = self._names(self.file.tensors[op.outputs[0]].name, prefix)
            if len(op.outputs) == 1 and op.name not in CASTS and named:
                found[op.outputs[0]] = max(named, key=lambda name: self.order[name])
        return found

    def _names(self, name: str, prefix: str) -> set[str]:
        """The layers that a tensor's name lists: `classifier/act/Relu;classifier/conv/Conv2D`."""
        found = set()
        for part in name.split(";"):
            root, _, rest = part.partition("/")
            layer, _, operator = rest.partition("/")
            # What a constant is read by names the constant, which several layers may share.
            if root != ROOT or not layer.startswith(prefix) or "ReadVariableOp" in operator:
                continue
            layer = layer[len(prefix) :]
            if _linear(layer) in self.nodes and LINEAR.fullmatch(operator):
                layer = _linear(layer)
            if layer in self.nodes:
                found.add(layer)
        return found

    def _held(self, i: int, op: Operator, node: str) -> Layer | str:
        """The layer, or why the operator cannot be this one."""
        tensor = op.outputs[0]
        shape = self.file.tensors[tensor].shape[1:]
        if shape != self.shapes[node]:
            return f"{node} has the shape {self.shapes[node]}, the tensor {shape}"
        inputs, group = self._reads(op)
        between = self._between(node, {self.told[t] for t in inputs})
        if between is None:
            return f"{node} is not computed from what the operator reads"
        kernels = [name for name in between if self.nodes[name].kind in KERNELS]
        operators = sum(each.name in KERNEL_OPERATORS for each in group)
        # The converter may give each group of a convolution an operator of its own.
        split = any(self.nodes[name].config.get("groups", 1) > 1 for name in kernels)
        if operators != len(kernels) and not (split and operators > len(kernels)):
            return f"{node} is computed with other kernels"
        if len(group) == 1 and not self._in_one(between, kernels):
            return f"{node} is more than the operator computes"
        return Layer(
            operator=i, tensor=tensor, node=node, inputs=inputs, nodes=between,
            kernel=kernels[0] if op.name in KERNEL_OPERATORS and len(kernels) == 1 else None,
        )  # fmt: skip

    def _in_one(self, between: tuple[str, ...], kernels: list[str]) -> bool:
        """Whether one operator can compute these: a kernel, and no activation before it."""
        if not kernels:
            return True
        first = min(between.index(name) for name in kernels)
        return len(kernels) == 1 and not any(
            self.nodes[name].kind in ACTIVATIONS for name in between[:first]
        )

    def _reads(self, op: Operator) -> tuple[tuple[int, ...], list[Operator]]:
        """The told tensors that an operator is computed from, and the operators on the way."""
        inputs: list[int] = []
        group, left = [op], list(op.inputs)
        while left:
            tensor = left.pop(0)
            if tensor in self.told:
                inputs += [tensor] * (tensor not in inputs)
            elif tensor not in self.constants:
                maker = self.makers.get(tensor)
                if maker is not None and maker not in group:
                    group.append(maker)
                    left += maker.inputs
        return tuple(inputs), group

    def _between(self, node: str, ends: Iterable[str]) -> tuple[str, ...] | None:
        """The nodes between `ends` and `node`, that one included, in order; None where there is
        another way in, or one of the ends is none."""
        met: set[str] = set()
        between: set[str] = set()
        left = [node]
        while left:
            name = left.pop()
            if name in ends:
                met.add(name)
            elif self.nodes[name].kind == INPUT:
                return None
            elif name not in between:
                between.add(name)
                left += self.nodes[name].inputs
        return tuple(sorted(between, key=self.order.__getitem__)) if met == set(ends) else None
