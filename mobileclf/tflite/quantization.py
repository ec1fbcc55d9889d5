"""In which numbers a model works: a verdict from its tensors and operators, mixtures included."""

from __future__ import annotations

from collections import Counter

from mobileclf.records import Record
from mobileclf.wording import counted

from .graph import Model, Operator, Subgraph, Tensor

FLOATS = ("float32", "float16", "bfloat16", "float64")
# In this order: an operator on several of these is called by the first.
INTEGERS = ("int16", "int8", "uint8", "int4", "uint4", "int2")
CASTS = ("QUANTIZE", "DEQUANTIZE", "CAST")
UNPACKERS = ("DEQUANTIZE", "DENSIFY")  # of a constant: the weight itself, stored smaller
HYBRID, CAST, PLAIN = "hybrid", "cast", "plain integer"


def unpacked(model: Model, graph: Subgraph) -> dict[int, int]:
    """Tensors that an operator only unpacks from a constant, and that constant's tensor."""
    found: dict[int, int] = {}
    for op in graph.operators:
        if op.name in UNPACKERS and len(op.inputs) == len(op.outputs) == 1:
            source = found.get(op.inputs[0], op.inputs[0])
            if model.is_constant(graph.tensors[source]):
                found[op.outputs[0]] = source
    return found


def quantization(model: Model) -> Record:
    """How the model as a whole is quantized.

    `verdict` in words; `kind` for machines: int8, uint8, int16x8, int16, dynamic range, float16
    weights, float32, integer weights, mixed, or none (nothing is computed); `float_ends`: whether
    input or output is float; `operators`: counts by the numbers they work in, where `hybrid` has
    float32 activations and integer weights, `cast` changes type alone and `plain integer` is on
    shapes and indices; `weights`: counts of the constants of two dimensions and more by stored
    type and, where quantized, granularity; `granularity`: per channel, per tensor, both or None.
    """
    work: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    granularity = set()
    for graph in model.subgraphs:
        stored = unpacked(model, graph)
        seen = set()
        for op in graph.operators:
            work[_arithmetic(model, graph, op, stored)] += 1
            if set(op.outputs) & stored.keys():
                continue
            seen |= {stored.get(i, i) for i in op.inputs}
        for tensor in (graph.tensors[i] for i in sorted(seen)):
            if not _is_weight(model, tensor):
                continue
            if tensor.scales:
                per = "per channel" if len(tensor.scales) > 1 else "per tensor"
                granularity.add(per)
                weights[f"{tensor.dtype}, {per}"] += 1
            else:
                weights[tensor.dtype] += 1
    first = model.subgraphs[0]
    ends = {
        name: any(first.tensors[i].dtype in FLOATS for i in indices)
        for name, indices in (("input", first.inputs), ("output", first.outputs))
    }
    kind, verdict = _verdict(work, weights, [name for name, is_float in ends.items() if is_float])
    return {
        "verdict": verdict,
        "kind": kind,
        "float_ends": any(ends.values()),
        "operators": dict(work.most_common()),
        "weights": dict(weights.most_common()),
        "granularity": "both" if len(granularity) > 1 else next(iter(granularity), None),
    }


def _is_weight(model: Model, tensor: Tensor) -> bool:
    numbers = tensor.dtype in FLOATS or bool(tensor.scales)
    return numbers and len(tensor.shape) > 1 and model.is_constant(tensor)


def _arithmetic(model: Model, graph: Subgraph, op: Operator, stored: dict[int, int]) -> str:
    if op.name in CASTS or set(op.outputs) & stored.keys():
        return CAST
    tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i not in stored]
    constant = [tensor for tensor in tensors if model.is_constant(tensor)]
    moving = [tensor for tensor in tensors if not model.is_constant(tensor)]
    types = {tensor.dtype for tensor in moving}
    for kind in FLOATS:
        if kind in types:
            return HYBRID if any(t.scales and t.dtype in INTEGERS for t in constant) else kind
    scaled = {tensor.dtype for tensor in moving if tensor.scales}
    return next((kind for kind in INTEGERS if kind in scaled), PLAIN)


def _verdict(work: Counter[str], weights: Counter[str], float_ends: list[str]) -> tuple[str, str]:
    counts = {kind: n for kind, n in work.items() if kind not in (CAST, PLAIN)}
    kinds = set(counts)
    if not kinds:
        return "none", "no operator computes anything"
    if kinds <= {*FLOATS, HYBRID}:
        return _float_verdict(counts, weights)
    if len(kinds) > 1:
        words = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items(), key=_most))
        return "mixed", f"mixed: operators {words}"
    kind = kinds.pop()
    if kind == "int16" and any(stored.startswith("int8") for stored in weights):
        kind = "int16x8"
    note = " (the scheme of before int8)" if kind == "uint8" else ""
    if float_ends:
        return kind, f"{kind} inside{note}, float at {' and '.join(float_ends)}"
    return kind, f"{kind}, full integer{note}"


def _float_verdict(counts: dict[str, int], weights: Counter[str]) -> tuple[str, str]:
    hybrid = counts.get(HYBRID, 0)
    if hybrid:
        rest = sum(counts.values()) - hybrid
        words = counted(hybrid, "operator") + " with integer weights"
        return "dynamic range", f"dynamic range: {words}, {rest} float"
    total, half = sum(weights.values()), weights["float16"]
    packed = sum(n for kind, n in weights.items() if kind.startswith(INTEGERS))
    if packed:
        return (
            "integer weights",
            f"float arithmetic, {packed} of {total} weights stored as integers",
        )
    if half and half == total:
        return "float16 weights", "float16 weights, float32 arithmetic"
    if half:
        return "mixed", f"mixed: float arithmetic, {half} of {total} weights in float16"
    kind = max(counts, key=lambda name: counts[name])
    return kind, kind


def _most(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
