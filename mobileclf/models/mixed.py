"""The last resort: the layers that int8 is too coarse for are kept in float, fewest first.

Only where the best int8 graph does not meet the gate on validation photos. What can be kept in
float are the ranges of `grid.float_units`, each with all that writes and reads it. The worst come
first: those that take the answers furthest from float when they alone are rounded. Taking one out
of a graph where all is rounded would not tell two that each ruin the answers.

What was rounded for the inputs of an int8 layer that ruins them is ruined, too. So the ranking
goes by kernels that are rounded to the nearest, and with the layers found all is reconstructed
anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.records import Record
from mobileclf.stats.calibration import mean_kl

from . import qat, ranges
from .distil import answers, compiled
from .graph import Graph, build
from .grid import float_units, unrounded

AGREEMENT = 0.95  # with float, that a graph has to reach on validation
PHOTOS = 128  # that the gate is measured on, at most
RANKED_ON = 48  # photos that units are ranked on, at most
RANKED = 1600  # photos times units, at most: minutes for a network of a hundred units
FEWEST = 8


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """aware: the graph with layers in float, None where none is needed or none would do.
    float_layers: which, in the graph's order. report: for the record."""

    aware: Any
    float_layers: tuple[str, ...]
    report: Record


def mixed(
    graph: Graph,
    aware: Any,
    photos: NDArray[np.uint8],
    again: Callable[[tuple[str, ...]], Any],
) -> Mixed:
    """Keep the fewest layers of `aware` in float with which it meets the gate.

    graph: of float weights, that `aware` was made of. photos: of validation, uint8 (n, h, w, c).
    again(layers): the graph reconstructed with these layers in float. Nothing is measured but the
    gate where `aware` meets it.
    """
    import tf_keras

    photos = photos[:PHOTOS]
    wanted = answers(compiled(build(tf_keras, graph)), photos)
    gate = _Gate(wanted=wanted, most=allowed(len(photos)))
    int8 = gate.measured(answers(compiled(aware), photos))
    report: Record = {
        "gate": {"agreement": AGREEMENT, "photos": len(photos), "changed": gate.most},
        "int8": int8,
        "passed": gate.passed(int8),
        "units": [],
        "tried": [],
        "mixed": None,
        "float_layers": [],
    }
    if report["passed"]:
        return Mixed(aware=None, float_layers=(), report=report)
    units = float_units(graph)
    nearest = _PartlyRounded(graph, _to_the_nearest(graph, aware))
    few = photos[: min(RANKED_ON, max(FEWEST, RANKED // max(1, len(units))))]
    alone = {
        name: mean_kl(wanted[: len(few)], nearest.answers_of(few, layers))
        for name, layers in progress.track(units.items(), "rank", len(units))
    }
    own = {name: alone[name] - _inside(name, units, alone) for name in units}
    ranked = sorted(units, key=lambda name: (-own[name], name))
    report["units"] = [
        {"range": name, "layers": list(units[name]), "kl_alone": alone[name]} for name in ranked
    ]
    as_found = _PartlyRounded(graph, aware)

    def layers_of(count: int) -> tuple[str, ...]:
        chosen = {layer for name in ranked[:count] for layer in units[name]}
        return tuple(node.name for node in graph.nodes if node.name in chosen)

    def holds(count: int) -> bool:
        # Either is a cheap stand-in for a reconstruction with these layers in float.
        found = min(
            (gate.measured(one.answers(photos, layers_of(count))) for one in (as_found, nearest)),
            key=lambda one: (one["changed"], one["kl"]),
        )
        report["tried"].append({"units": count, **found})
        return gate.passed(found)

    count = fewest(holds, len(ranked) // 2)
    as_found.restore()
    if count is not None:
        made = again(layers_of(count))
        report["mixed"] = gate.measured(answers(compiled(made), photos))
        if gate.passed(report["mixed"]):
            report["float_layers"] = list(layers_of(count))
            return Mixed(aware=made, float_layers=layers_of(count), report=report)
    return Mixed(aware=None, float_layers=(), report=report)


def _to_the_nearest(graph: Graph, aware: Any) -> Any:
    """The ranges of `aware` on the float weights, each kernel in a range that just holds it."""
    found = qat.quantized(graph)
    quantizers = qat.quantizers_of(found)
    for one, own in zip(quantizers, qat.quantizers_of(aware), strict=True):
        if one.place != "kernel":
            one.low.assign(own.low)
            one.high.assign(own.high)
    ranges.set_kernel_ranges(quantizers)
    return found


def _inside(name: str, units: Mapping[str, tuple[str, ...]], alone: Mapping[str, float]) -> float:
    """What the worst of the units within this one does already, with fewer layers."""
    layers = set(units[name])
    return max((alone[other] for other in units if set(units[other]) < layers), default=0.0)


def allowed(photos: int) -> int:
    """Answers that may differ from float's. One more or less is chance, however few the photos."""
    return max(1, int(photos * (1 - AGREEMENT) + 1e-9))


def fewest(holds: Callable[[int], bool], most: int) -> int | None:
    """The least count in 1..most that `holds`, if all above it do: 1, 2, 4, ..., then bisected."""
    low, count = 0, 1
    while most and not holds(min(count, most)):
        if count >= most:
            return None
        low, count = count, 2 * count
    if not most:
        return None
    high = min(count, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


@dataclass(frozen=True, kw_only=True)
class _Gate:
    """wanted: float's answers, (n, labels). most: of them that may change."""

    wanted: NDArray[np.float64]
    most: int

    def measured(self, found: NDArray[np.float64]) -> Record:
        same = self.wanted.argmax(axis=1) == found.argmax(axis=1)
        return {
            "agreement": float(same.mean()),
            "changed": int((~same).sum()),
            "kl": mean_kl(self.wanted, found),
        }

    def passed(self, measured: Record) -> bool:
        return bool(measured["changed"] <= self.most and np.isfinite(measured["kl"]))


class _PartlyRounded:
    """A quantization-aware model, compiled once, of which any layers can be in float."""

    def __init__(self, graph: Graph, aware: Any) -> None:
        import tensorflow as tf

        self._graph, self._group = graph, ranges.group_of(graph)
        self._layers = tuple(node.name for node in graph.nodes)
        self._quantizers = qat.quantizers_of(aware)
        self._ranges = {self._group(one) for one in self._quantizers}
        self._on = {id(one.low): tf.Variable(True, trainable=False) for one in self._quantizers}
        self._variables = {
            one.layer: (one.kernel, aware.get_layer(qat.PREFIX + one.layer).layer.bias)
            for one in self._quantizers
            if one.place == "kernel"
        }
        self._rounded = {
            name: tuple(v.numpy() for v in both) for name, both in self._variables.items()
        }
        with qat.quantizers_switched(self._on):
            self._model = compiled(aware)

    def answers(self, photos: NDArray[np.uint8], in_float: Collection[str]) -> NDArray[np.float64]:
        """As of `qat.quantized(graph, in_float)`, (n, labels)."""
        left_out = unrounded(self._graph, in_float)
        self._round({*self._layers} - {*in_float}, {*self._ranges} - left_out)
        return answers(self._model, photos)

    def answers_of(self, photos: NDArray[np.uint8], unit: Collection[str]) -> NDArray[np.float64]:
        """With nothing rounded but what would not be with this unit in float, (n, labels)."""
        self._round(unit, unrounded(self._graph, unit))
        return answers(self._model, photos)

    def restore(self) -> None:
        """Give the model its own numbers back."""
        self._round(self._layers, self._ranges)

    def _round(self, layers: Collection[str], rounded: Collection[str]) -> None:
        """Round the weights of these layers, and before their activation, and these ranges."""
        for quantizer in self._quantizers:
            inside = quantizer.place in (*qat.WEIGHTS, "before")
            rounds = quantizer.layer in layers if inside else self._group(quantizer) in rounded
            self._on[id(quantizer.low)].assign(rounds)
        for name, variables in self._variables.items():
            values = self._rounded[name] if name in layers else self._graph[name].weights
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)


def summary(report: Mapping[str, Any]) -> str | None:
    """What came of it, in a line; None where the gate was met in int8."""
    if report["passed"]:
        return None
    wanted = f"{report['gate']['agreement']:.0%} same answers as float on validation"
    found = f"int8 has {report['int8']['agreement']:.1%}"
    if not report["float_layers"]:
        return (
            f"no candidate mixed: wanted {wanted}, {found}, and up to half of what can be kept in "
            "float does not reach it"
        )
    layers = ", ".join(report["float_layers"])
    return f"candidate mixed: wanted {wanted}, {found}; kept in float: {layers}"
