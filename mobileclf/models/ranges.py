"""The ranges of a quantization-aware graph: seen on photos, shared, set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress

from .graph import Graph
from .grid import Range, edge_range, least_kernel_ranges, shared_ranges, with_fixed
from .qat import WEIGHTS, Quantizer, forward, quantizers_of, quantizers_out_of_the_way

SMALLEST = 1e-8  # width of a range that holds nothing but 0


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What photos made of one tensor that TFLite rounds: float32 (channels,), the least and the
    largest number over all photos and positions."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def peak(self) -> NDArray[np.float64]:
        """The largest |number| of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high)).astype(np.float64)

    def divided(self, scale: NDArray[np.float64] | None) -> Observed:
        """Of the tensor divided by `scale` (channels,), which may come again and again."""
        if scale is None:
            return self
        each = np.tile(scale, len(self.low) // len(scale)).astype(np.float32)
        return Observed(low=self.low / each, high=self.high / each)


def observe(aware: Any, photos: NDArray[np.uint8], batch: int = 16) -> dict[str, Observed]:
    """By the key of its quantizer, what every rounded tensor holds while nothing is rounded.

    photos: uint8 (n, h, w, c).
    """
    by_variable = {id(q.low): q for q in quantizers_of(aware)}
    found: dict[str, Observed] = {}

    def seen(variables: Any, tensor: Any) -> None:
        quantizer = by_variable[id(variables["min_var"])]
        if quantizer.place in WEIGHTS:
            return
        values = tensor.numpy()
        axes = tuple(range(values.ndim - 1))
        low, high = values.min(axis=axes), values.max(axis=axes)
        if known := found.get(quantizer.key):
            low, high = np.minimum(known.low, low), np.maximum(known.high, high)
        found[quantizer.key] = Observed(low=low, high=high)

    starts = range(0, len(photos), batch)
    with quantizers_out_of_the_way(seen):
        for i in progress.track(starts, "ranges", len(starts)):
            forward(aware, photos[i : i + batch], batch)
    return found


def group_of(graph: Graph) -> Callable[[Quantizer], str]:
    """Which activation quantizers share a range: those with the same name by this function.

    Before its activation a layer has a range of its own, after it may share one.
    """
    shared = shared_ranges(graph)
    return lambda one: one.key if one.place == "before" else shared[one.layer]


def calibrate(graph: Graph, aware: Any, photos: NDArray[np.uint8]) -> None:
    """Set every range: activations to all that `photos` make of them, kernels from themselves,
    the input 0..255, and where TFLite has a grid of its own, that.

    graph: the folded one that the quantization-aware model was made of. photos: uint8 (n, h, w, c),
    n >= 128.
    """
    set_ranges(graph, aware, widest(graph, aware, observe(aware, photos)))


def widest(graph: Graph, aware: Any, observed: Mapping[str, Observed]) -> dict[str, Range]:
    """The ranges that hold all that was observed, by the names of `group_of`."""
    ranges: dict[str, Range] = {}
    group = group_of(graph)
    for quantizer in quantizers_of(aware):
        if quantizer.place not in WEIGHTS:
            seen, name = observed[quantizer.key], group(quantizer)
            # Every range holds 0, which int8 arithmetic needs to represent exactly.
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(seen.low.min())), max(high, float(seen.high.max()))
    return ranges


def set_ranges(graph: Graph, aware: Any, ranges: Mapping[str, Range]) -> None:
    """Give every quantizer its range. ranges: of activations, by the names of `group_of`."""
    group = group_of(graph)
    # A layer whose output is 0 on every photo still needs a range that is not empty.
    ranges = {
        name: (low, high if high - low >= SMALLEST else low + 1.0)
        for name, (low, high) in with_fixed(graph, ranges).items()
    }
    quantizers = quantizers_of(aware)
    for quantizer in quantizers:
        if quantizer.place == "mask":
            low, high = edge_range(graph[quantizer.layer])
        elif quantizer.place != "kernel":
            low, high = ranges[group(quantizer)]
        else:
            continue
        quantizer.low.assign(low)
        quantizer.high.assign(high)
    set_kernel_ranges(quantizers)
    least = least_kernel_ranges(graph, ranges)
    for quantizer in quantizers:
        if quantizer.place == "kernel":
            own = least[quantizer.layer]
            wide = np.maximum(quantizer.high, own if quantizer.high.shape.rank else own.max())
            quantizer.low.assign(-wide)
            quantizer.high.assign(wide)


def set_kernel_ranges(quantizers: list[Quantizer]) -> None:
    """Set each kernel's ranges to +-max|w|, by channel where it has one range a channel."""
    import tensorflow as tf

    for quantizer in quantizers:
        if quantizer.place != "kernel":
            continue
        size = tf.abs(quantizer.kernel)
        if quantizer.low.shape.rank == 0:
            largest = tf.reduce_max(size)
        else:
            by_depth = "depthwise" in quantizer.kernel.name
            largest = tf.reduce_max(size, axis=(0, 1, 3) if by_depth else (0, 1, 2))
        # A channel of zeros still needs a range that is not empty.
        largest = tf.maximum(largest, SMALLEST)
        quantizer.low.assign(-largest)
        quantizer.high.assign(largest)
