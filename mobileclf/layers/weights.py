"""The weights in a `.tflite`, as numbers in Keras' layout beside the network's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.models.graph import Graph, Node
from mobileclf.tflite.graph import Model, Operator, Tensor
from mobileclf.tflite.inspect import LIMITS
from mobileclf.tflite.quantization import unpacked

from .match import Layer, Match
from .noise import between

NUMBERS = ("int8", "uint8", "int16", "int32", "int64", "float16", "float32")
TINY = 1e-30  # for a scale of 0, whose kernel is 0 too


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Of one layer as the file has them: kernel in Keras' layout, bias (outputs,), zeros where
    there is none. steps: root mean square of the kernel's differences from the network's, in
    steps of its own grid, None of a float kernel. Rounding to the nearest alone gives 0.29.
    overflow: the outputs whose sums can leave the 32 bits that they are added up in."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    steps: float | None
    overflow: tuple[int, ...]


def read_weights(data: bytes, model: Model, graph: Graph, found: Match) -> Mapping[int, Weights]:
    """The weights of the layers with a kernel, by the operator's place; those whose kernel is not
    stored as numbers in the layout of the network's are left out. data: the file's bytes."""
    file = model.subgraphs[0]
    stored = unpacked(model, file)
    weights = {}
    for layer in found.layers:
        if layer.kernel is None:
            continue
        op = file.operators[layer.operator]
        constants = [_constant(data, model, file.tensors[stored.get(i, i)]) for i in op.inputs[1:3]]
        kernel, bias = (*constants, None, None)[:2]
        if kernel is None or (bias is None and len(constants) == 2):
            continue
        one = _weights(op, graph[layer.kernel], kernel, bias, file.tensors[op.inputs[0]])
        if one is not None:
            weights[layer.operator] = one
    return weights


def distances(graph: Graph, found: Match, weights: Mapping[int, Weights]) -> dict[int, float]:
    """Signal-to-noise ratio of the file's kernels against the network's, decibels."""
    by_operator: dict[int, Layer] = {layer.operator: layer for layer in found.layers}
    return {
        i: between(graph[str(by_operator[i].kernel)].weights[0], own.kernel)
        for i, own in weights.items()
    }


@dataclass(frozen=True, kw_only=True)
class _Constant:
    """A constant of the file: the integers or floats that are stored, and what they stand for."""

    tensor: Tensor
    raw: NDArray[Any]

    @property
    def steps(self) -> NDArray[np.float32]:
        """The scale, one or one for each index of the tensor's axis, to broadcast over it."""
        return _along(self.tensor, self.tensor.scales)

    @property
    def values(self) -> NDArray[np.float32]:
        if not self.tensor.scales:
            return self.raw.astype(np.float32)
        zero = _along(self.tensor, self.tensor.zero_points)
        return (self.raw.astype(np.float32) - zero) * self.steps


def _weights(
    op: Operator, node: Node, kernel: _Constant, bias: _Constant | None, read: Tensor
) -> Weights | None:
    """None where the layout is another than the node's. read: the tensor that it works on."""
    wanted = node.weights[0]
    if kernel.raw.size != wanted.size:
        return None
    values = _as_in_keras(op, kernel.values, wanted.shape)
    outputs = kernel.raw.shape[_axis(op)]
    if values.shape != wanted.shape or (bias is not None and bias.raw.size not in (1, outputs)):
        return None
    steps = None
    if kernel.tensor.scales:
        scales = np.broadcast_to(kernel.steps, kernel.raw.shape)
        off = (values - wanted) / np.maximum(_as_in_keras(op, scales, wanted.shape), TINY)
        steps = float(np.sqrt(np.mean(np.square(off), dtype=np.float64)))
    shift = np.zeros(1, np.float32) if bias is None else bias.values.ravel()
    return Weights(
        kernel=np.ascontiguousarray(values),
        bias=np.broadcast_to(shift, (outputs,)),
        steps=steps,
        overflow=_overflowing(op, kernel, bias, read),
    )


def _overflowing(
    op: Operator, kernel: _Constant, bias: _Constant | None, read: Tensor
) -> tuple[int, ...]:
    """The outputs for which |bias| + sum of |kernel| * the largest input is beyond int32."""
    if bias is None or bias.tensor.dtype != "int32" or read.dtype not in LIMITS:
        return ()
    largest = max(abs(end - zero) for end in LIMITS[read.dtype] for zero in read.zero_points)
    sums = np.abs(np.moveaxis(kernel.raw, _axis(op), 0).astype(np.int64))
    bounds = sums.reshape(len(sums), -1).sum(axis=1) * largest
    bounds += np.abs(bias.raw.ravel().astype(np.int64))
    return tuple(np.flatnonzero(bounds > LIMITS["int32"][1]).tolist())


def _axis(op: Operator) -> int:
    """Of a kernel's outputs: TFLite has (out, h, w, in), (1, h, w, out) and (out, in)."""
    return 3 if op.name == "DEPTHWISE_CONV_2D" else 0


def _as_in_keras(
    op: Operator, kernel: NDArray[np.float32], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Keras has (h, w, in, out) and (in, out), and (h, w, in, multiplier), whose channels run by
    input, then by multiplier, as those in the file."""
    if op.name == "DEPTHWISE_CONV_2D":
        return kernel.reshape(shape)
    return np.moveaxis(kernel, 0, -1)


def _constant(data: bytes, model: Model, tensor: Tensor) -> _Constant | None:
    """None where it is none, or packed in a way that is not read here."""
    buffer = model.buffers[tensor.buffer]
    if tensor.dtype not in NUMBERS or not buffer.bytes:
        return None
    raw = np.frombuffer(data, np.uint8, buffer.bytes, buffer.start)
    if raw.size != np.prod(tensor.shape, dtype=np.int64) * np.dtype(tensor.dtype).itemsize:
        return None
    return _Constant(tensor=tensor, raw=raw.view(tensor.dtype).reshape(tensor.shape))


def _along(tensor: Tensor, values: tuple[float, ...]) -> NDArray[np.float32]:
    """One number, or one for each index of the tensor's axis, to broadcast over it."""
    shape = [1] * len(tensor.shape)
    if len(values) > 1:
        shape[tensor.axis] = len(values)
    return np.array(values, np.float32).reshape(shape)
