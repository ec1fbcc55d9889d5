"""What a produced `.tflite` really holds, held against what was asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from mobileclf.errors import ProofError
from mobileclf.records import Record

from .graph import Contents, End, Operator, Tensor, contents, read

# What may stand at the ends of the graph to change type: not arithmetic.
CASTS = ("QUANTIZE", "DEQUANTIZE")
ANY_END = ("uint8", "int8", "float32")
# What the name of a tensor begins with in a file of a quantization-aware graph, before a layer's.
LAYER = "classifier/quant_"


def audit(
    model: bytes,
    *,
    labels: int,
    io: str,
    shape: tuple[int, int, int],
    float_layers: Collection[str] = (),
) -> Record:
    """Prove that a file is int8 all through; returns what it holds.

    Every operator works on int8 (biases and shapes are int32), none is Flex or custom, and the
    ends are as `audit_ends` has them. float_layers: of a quantization-aware graph, the layers that
    are in float, told by the names of their tensors: each of them, and nothing else but a change
    of type at their borders. Raises ProofError naming what differs.
    """
    reason = is_mixed(model, float_layers) if float_layers else is_int8(model, ends=(io,))
    if reason:
        raise ProofError(f"audit: {reason}")
    return audit_ends(model, labels=labels, io=io, shape=shape)


def is_int8(model: bytes, *, ends: Collection[str] = ANY_END) -> str | None:
    """None where every operator works on int8, else what does not, in words.

    Biases and shapes are int32. What changes the type at the ends may have those of `ends`, too,
    beside int8. Raises DataError for what is no `.tflite` of one subgraph.
    """
    for op in contents(model).operators:
        if reason := _not_int8(op, ends):
            return reason
    return None


def _not_int8(op: Operator, ends: Collection[str]) -> str | None:
    if op.name.startswith("CUSTOM") or "Flex" in op.name:
        return f"wanted built-in operators alone, found {op.name}"
    if op.name in CASTS:
        right = set(op.types) <= {"int8", *ends}
    else:
        right = set(op.types) <= {"int8", "int32"} and "int8" in op.types
    if right:
        return None
    return f"wanted every operator int8, found {op.name} on {', '.join(op.types)}"


def is_mixed(model: bytes, float_layers: Collection[str]) -> str | None:
    """None where these layers are in float and every other is in int8, else what is not so.

    Each has an operator in float, and an operator in float is of these layers alone and has float
    kernels. Raises DataError for what is no `.tflite` of one subgraph.
    """
    contents(model)
    graph = read(model).subgraphs[0]
    found: set[str] = set()
    for op in graph.operators:
        reason = _not_int8(op, ANY_END)
        if reason is None:
            continue
        named = _layers_of(graph.tensors[op.outputs[0]])
        if not named or not named <= set(float_layers) or not set(op.types) <= {"float32", "int32"}:
            of = ", ".join(sorted(named)) or graph.tensors[op.outputs[0]].name
            return f"{reason}, for {of}; wanted in float {', '.join(float_layers)} alone"
        found |= named
    missing = [name for name in float_layers if name not in found]
    return f"wanted {', '.join(missing)} in float, found no such operator" if missing else None


def _layers_of(tensor: Tensor) -> set[str]:
    """The layers that a tensor's name lists: `classifier/quant_a/Relu;classifier/quant_b/Conv2D`.

    What a constant is read by names the constant, which several layers may share.
    """
    parts = (part for part in tensor.name.split(";") if part.startswith(LAYER))
    return {
        layer
        for layer, _, operator in (part.removeprefix(LAYER).partition("/") for part in parts)
        if "ReadVariableOp" not in operator
    }


def arithmetic(model: bytes) -> str:
    """What a file computes with: int8 (its casts aside), float32, or mixed. Raises DataError."""
    if is_int8(model) is None:
        return "int8"
    types = {name for op in contents(model).operators for name in op.types}
    return "mixed" if types & {"int8", "uint8", "int16"} else "float32"


def audit_ends(
    model: bytes, *, labels: int, io: str, shape: tuple[int, int, int], any_scale: bool = False
) -> Record:
    """Prove what a file takes and gives; returns what it holds.

    Input and output are of type `io`, the input is (1, *shape) with `shape` (height, width,
    channels), in scale 1 and from the type's least number where it is an integer, so that it
    takes the photo's bytes. any_scale: it takes them whatever scale and zero point it names, as
    a model from elsewhere that is fed with bytes. There is one output for each of `labels`, an
    integer in quanta of 1/256. Raises ProofError naming what differs.
    """
    found = contents(model)
    _check_ends(found, labels=labels, io=io, shape=shape, any_scale=any_scale)
    return found.as_record()


def _check_ends(
    found: Contents, *, labels: int, io: str, shape: tuple[int, int, int], any_scale: bool
) -> None:
    zero_point = {"uint8": 0, "int8": -128, "float32": None}[io]
    if len(found.inputs) != 1 or len(found.outputs) != 1:
        raise ProofError(
            f"audit: wanted one input and one output, found {len(found.inputs)} and "
            f"{len(found.outputs)}"
        )
    wanted = (
        ("input", found.inputs[0], (1, *shape), 1.0),
        ("output", found.outputs[0], (1, labels), 1 / 256),
    )
    for what, end, of, scale in wanted:
        right = End(
            dtype=io,
            shape=of,
            scale=None if io == "float32" else float(np.float32(scale)),
            zero_point=zero_point,
        )
        if any_scale and what == "input":
            right = replace(right, scale=end.scale, zero_point=end.zero_point)
        if end != right:
            raise ProofError(f"audit: wanted the {what} to be {right}, found {end}")
