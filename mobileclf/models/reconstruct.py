"""Reconstruction: int8 weights that answer as the float network does, without training.

Channels are equalized, ranges are set, and then one pass from the input to the output goes over
two copies of the network side by side, one in float and one with everything rounded that was
passed already: each kernel is rounded for the inputs that it will really get (GPTQ), and each
bias makes good what the rounding did to the mean. No labels and no gradients.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mobileclf import progress
from mobileclf.errors import ProofError
from mobileclf.records import Record

from . import gptq, qat, ranges
from .equalize import equalize
from .graph import INPUT, Graph, Node, build
from .grid import KERNELS, LARGEST_WEIGHT, relu_of
from .patches import patches, positions_of

BATCH = 16
# Positions that a layer is looked at: enough for its Hessian, few enough for minutes.
LEAST_POSITIONS = 16_384
# Inputs that are rounded together. More, as of a dense layer behind a Flatten, would take memory
# with the square of their number and time with its cube; they are rounded part by part.
MOST_INPUTS = 4096
OF_DEPTHWISE = 4096  # each channel's Hessian is as small as its kernel
IN_MEMORY = 1_500_000_000  # bytes of activations; what is more lies in a file
SCRATCH = ".reconstruct-"  # what the folders of such files are called
LARGEST_HALF = 30_000.0  # activations up to here are kept in half precision


@dataclass(frozen=True, kw_only=True)
class Reconstructed:
    """aware: the quantization-aware model, its numbers set. graph: the float network that it
    answers like, channels equalized. report: for the record."""

    aware: Any
    graph: Graph
    report: Record


def reconstruct(
    graph: Graph,
    photos: NDArray[np.uint8],
    *,
    seed: int = 0,
    in_float: Collection[str] = (),
    scratch: Path | None = None,
) -> Reconstructed:
    """Of a folded graph of which `qat.unsupported` finds nothing. photos: uint8 (n, h, w, c).

    in_float: as of `qat.quantized`; these layers keep their numbers. scratch: a folder for what
    does not fit in memory, by default the system's. Raises ProofError where a layer's numbers are
    not finite.
    """
    first = qat.quantized(graph)
    observed = ranges.observe(first, photos)
    given = {q.key: q.layer for q in qat.quantizers_of(first) if q.place in ("after", "output")}
    equal = equalize(graph, {name: observed[key].peak for key, name in given.items()})
    observed = {
        key: seen.divided(equal.scales.get(given.get(key, ""))) for key, seen in observed.items()
    }
    aware = qat.quantized(equal.graph)
    ranges.set_ranges(equal.graph, aware, ranges.widest(equal.graph, aware, observed))
    if in_float:
        in_int8, aware = aware, qat.quantized(equal.graph, in_float)
        qat.copy_numbers(in_int8, aware)
    # A difference that int8 is too coarse for half precision may be too coarse for, too.
    largest_half = 0.0 if in_float else LARGEST_HALF
    with tempfile.TemporaryDirectory(dir=scratch, prefix=SCRATCH) as folder:
        kept = _Activations(folder=Path(folder), largest_half=largest_half)
        _pass(equal.graph, aware, photos, kept, np.random.default_rng(seed))
    scaled = [name for name in equal.scales if graph[name].kind in KERNELS]
    return Reconstructed(
        aware=aware,
        graph=equal.graph,
        report={
            "photos": len(photos),
            "layers": sum(node.kind in KERNELS for node in graph.nodes),
            "equalized": len(scaled),
            "not_equalized": dict(sorted(equal.kept.items())),
        },
    )


def _pass(
    graph: Graph,
    aware: Any,
    photos: NDArray[np.uint8],
    kept: _Activations,
    random: np.random.Generator,
) -> None:
    """Round every kernel and mend every bias of `aware`, from the input to the output."""
    import tf_keras

    float_model = build(tf_keras, graph)
    variables = {q.layer: q for q in qat.quantizers_of(aware) if q.place == "kernel"}
    left = Counter(name for node in graph.nodes for name in node.inputs)
    kept.put(graph.nodes[0].name, (photos, photos))
    steps = [node for node in graph.nodes if node.kind != INPUT]
    for node in progress.track(steps, "reconstruct", len(steps)):
        if node.name in variables:
            quantizer = variables[node.name]
            step = quantizer.high.numpy().astype(np.float64) / LARGEST_WEIGHT
            # How many threads share a sum would show in its last bit, and that in the rounding.
            with threadpool_limits(limits=1, user_api="blas"):
                kernel, bias = _reconstruct_layer(
                    node, relu_of(graph, node), kept.of(node.inputs[0]), step, random
                )
            if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
                raise ProofError(
                    f"quantize: layer {node.name}: wanted finite numbers for int8, found others; "
                    "its inputs on the calibration photos may not be finite"
                )
            quantizer.kernel.assign(kernel)
            layer = aware.get_layer(qat.PREFIX + node.name).layer
            layer.bias.assign(qat.not_uniform(bias.astype(np.float32)))
        layers = float_model.get_layer(node.name), aware.get_layer(qat.PREFIX + node.name)
        kept.put(
            node.name,
            tuple(
                kept.run(layer, [kept.of(name)[i] for name in node.inputs], f"{node.name}.{i}")
                for i, layer in enumerate(layers)
            ),
        )
        for name in set(node.inputs):
            left[name] -= node.inputs.count(name)
            if not left[name]:
                kept.drop(name)


def _reconstruct_layer(
    node: Node,
    relu: Node | None,
    inputs: tuple[NDArray[Any], ...],
    step: NDArray[np.float64],
    random: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """One layer's kernel, on the grid, and bias. inputs: in float and rounded, of all photos.
    relu: what is computed in one with it. step: of its kernel, (outputs,) or ()."""
    depthwise = node.kind == "DepthwiseConv2D"
    kernel, bias = (weights.astype(np.float64) for weights in node.weights)
    flat = kernel.reshape(-1, kernel.shape[2 if depthwise else -1])
    at = positions_of(
        node, inputs[1], OF_DEPTHWISE if depthwise else max(LEAST_POSITIONS, 4 * len(flat)), random
    )
    in_float, rounded = (
        patches(node, x, at).reshape(len(at.photo), len(flat), -1) for x in inputs
    )  # of a depthwise layer the last axis is its channels, else of length 1
    step = np.broadcast_to(step, bias.shape)
    if depthwise:
        by_channel = rounded.transpose(2, 1, 0)
        hessians = (by_channel @ by_channel.transpose(0, 2, 1)).astype(np.float64)
        new = gptq.rounded_each(flat.T, hessians, step).T
    else:
        new = np.concatenate(
            [
                _rounded(flat[i : i + MOST_INPUTS], rounded[:, i : i + MOST_INPUTS, 0], step)
                for i in range(0, len(flat), MOST_INPUTS)
            ]
        )
    error = _bias_error(
        _sums(in_float, flat, bias), _sums(rounded, new, bias), at.photo, relu,
        node.config["activation"],
    )  # fmt: skip
    return new.reshape(kernel.shape), bias + error


def _rounded(
    kernel: NDArray[np.float64], seen: NDArray[np.float32], step: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A kernel (inputs, outputs) on the grid, for inputs seen (positions, inputs)."""
    damping = gptq.DAMPING if len(seen) >= len(kernel) else gptq.OF_FEW
    return gptq.rounded(kernel, (seen.T @ seen).astype(np.float64), step, damping=damping)


def _sums(
    seen: NDArray[np.float32], kernel: NDArray[np.float64], bias: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The layer's output before its activation. seen: (positions, inputs, 1 or outputs); kernel:
    (inputs, outputs)."""
    weights = kernel.astype(np.float32)
    if seen.shape[2] == 1:
        return np.asarray(seen[..., 0] @ weights + bias.astype(np.float32))
    return np.asarray(np.einsum("nio,io->no", seen, weights) + bias.astype(np.float32))


def _bias_error(
    wanted: NDArray[np.float32],
    found: NDArray[np.float32],
    photo: NDArray[np.int64],
    relu: Node | None,
    activation: str,
) -> NDArray[np.float64]:
    """What to add to the bias: the mean difference by channel, over the positions where the unit
    is active in either, for a change of the bias does nothing at the others.

    photo: of each position, rising. Positions of one photo err alike, so it is the photos that
    say how sure the mean is, and it is shrunk by that: times 1 - variance / mean^2, or nothing
    (the positive part of James and Stein, 1961, for each channel alone).
    """
    if relu is None and activation != "relu":
        active = np.ones_like(wanted, bool)
    else:
        top = relu.config.get("max_value") if relu is not None else None
        most = np.inf if top is None else top
        active = (found < most) & (found > 0) | (wanted < most) & (wanted > 0)
        wanted, found = wanted.clip(0, most), found.clip(0, most)
    starts = np.flatnonzero(np.diff(photo, prepend=-1))
    error = np.where(active, wanted - found, 0).astype(np.float64)
    sums, counts = (np.add.reduceat(x, starts, axis=0) for x in (error, active.astype(np.float64)))
    total = np.maximum(counts.sum(axis=0), 1)
    mean = sums.sum(axis=0) / total
    spread = ((sums - mean * counts) ** 2).sum(axis=0) / total**2
    photos = (counts > 0).sum(axis=0)
    variance = spread * photos / np.maximum(photos - 1, 1)
    sure = 1 - variance / np.maximum(mean**2, np.finfo(np.float64).tiny)
    return np.asarray(np.where(photos > 1, mean * sure.clip(0, 1), 0))


class _Activations:
    """The outputs that are still to be read, in float and rounded: in memory, or in files."""

    def __init__(self, *, folder: Path, largest_half: float) -> None:
        self._folder, self._largest_half = folder, largest_half
        self._held: dict[str, tuple[NDArray[Any], ...]] = {}

    def of(self, name: str) -> tuple[NDArray[Any], ...]:
        return self._held[name]

    def put(self, name: str, pair: tuple[NDArray[Any], ...]) -> None:
        self._held[name] = pair

    def drop(self, name: str) -> None:
        for array in self._held.pop(name):
            if isinstance(array, np.memmap):
                Path(str(array.filename)).unlink()

    def run(self, layer: Any, inputs: list[NDArray[Any]], name: str) -> NDArray[Any]:
        """The layer's output for all photos, in batches."""
        out: NDArray[Any] | None = None
        count = len(inputs[0])
        for i in range(0, count, BATCH):
            batch = [x[i : i + BATCH].astype(np.float32) for x in inputs]
            values = layer(batch if len(batch) > 1 else batch[0]).numpy()
            if out is None:
                half = np.abs(values).max(initial=0) < self._largest_half
                out = self._empty(
                    (count, *values.shape[1:]), np.float16 if half else np.float32, name
                )
            elif out.dtype == np.float16 and np.abs(values).max(initial=0) >= self._largest_half:
                out = self._wider(out, name)
            out[i : i + BATCH] = values
        assert out is not None
        return out

    def _wider(self, half: NDArray[Any], name: str) -> NDArray[Any]:
        """The same in single precision: a later photo has values that half may not hold."""
        out = self._empty(half.shape, np.float32, f"{name}.wider")
        out[:] = half
        if isinstance(half, np.memmap):
            Path(str(half.filename)).unlink()
        return out

    def _empty(self, shape: tuple[int, ...], dtype: Any, name: str) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size + sum(x.nbytes for pair in self._held.values() for x in pair) <= IN_MEMORY:
            return np.empty(shape, dtype)
        path = self._folder / name.replace("/", "_")
        return np.memmap(path, dtype, "w+", shape=shape)
