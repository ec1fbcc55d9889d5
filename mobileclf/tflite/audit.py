"""What a produced `.tflite` really holds, held against what was asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from mobileclf.errors import DataError, ProofError
from mobileclf.records import Record

# What may stand at the ends of the graph to change type: not arithmetic.
CASTS = ("QUANTIZE", "DEQUANTIZE")
IDENTIFIER = b"TFL3"


@dataclass(frozen=True, kw_only=True)
class End:
    """An input or output tensor: numpy type name, shape, and scale and zero point if it has."""

    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of the graph: its name, version, and the types of its tensors."""

    name: str
    version: int
    types: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The first subgraph of a model, read with LiteRT's published flatbuffers schema."""

    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    operators: tuple[Operator, ...]

    def as_record(self) -> Record:
        """Ends, and operators by name with their version and count."""
        counts = Counter((op.name, op.version) for op in self.operators)
        return {
            "inputs": [dict(vars(end), shape=list(end.shape)) for end in self.inputs],
            "outputs": [dict(vars(end), shape=list(end.shape)) for end in self.outputs],
            "operators": [
                {"operator": name, "version": version, "count": count}
                for (name, version), count in sorted(counts.items())
            ],
        }


def parse(model: bytes) -> Any:
    """The model as the schema's object tree (`ModelT`). Raises DataError for other bytes."""
    from ai_edge_litert import schema_py_generated as schema

    if model[4:8] != IDENTIFIER:
        raise DataError("model: wanted a .tflite file (TFL3), found other bytes")
    try:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    except Exception as error:  # broken offsets raise whatever the reader stumbles on
        raise DataError(f"model: a .tflite that cannot be read ({error})") from error


def contents(model: bytes) -> Contents:
    """Read a model's graph. Raises DataError when it is none or has several subgraphs."""
    from ai_edge_litert import schema_py_generated as schema

    tree = parse(model)
    if len(tree.subgraphs) != 1:
        raise DataError(f"model: wanted one subgraph, found {len(tree.subgraphs)}")
    names = _names(schema.BuiltinOperator)
    types = {code: name.lower() for code, name in _names(schema.TensorType).items()}
    graph = tree.subgraphs[0]

    def end(index: int) -> End:
        tensor = graph.tensors[index]
        quantization = tensor.quantization
        scales = [] if quantization is None or quantization.scale is None else quantization.scale
        known = len(scales) == 1
        return End(
            dtype=types[tensor.type],
            shape=tuple(int(n) for n in tensor.shape),
            scale=float(scales[0]) if known else None,
            zero_point=int(quantization.zeroPoint[0]) if known else None,
        )

    operators = []
    for op in graph.operators:
        code = tree.operatorCodes[op.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if code.customCode is not None:
            name = f"{name} {code.customCode.decode(errors='replace')}"
        used = [i for i in (*op.inputs, *op.outputs) if i >= 0]
        operators.append(
            Operator(
                name=name,
                version=int(code.version),
                types=tuple(types[graph.tensors[i].type] for i in used),
            )
        )
    return Contents(
        inputs=tuple(end(i) for i in graph.inputs),
        outputs=tuple(end(i) for i in graph.outputs),
        operators=tuple(operators),
    )


def _names(enum: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


def audit(model: bytes, *, labels: int, io: str, shape: tuple[int, int, int]) -> Record:
    """Prove that a file is int8 all through; returns what it holds.

    Every operator works on int8 (biases and shapes are int32), none is Flex or custom, input and
    output are of type `io` (an integer input in scale 1, so that it takes the photo's bytes),
    the input is (1, *shape) with `shape` (height, width, channels), and there is one output for
    each of `labels`. Raises ProofError naming what differs.
    """
    found = contents(model)
    for op in found.operators:
        if op.name.startswith("CUSTOM") or "Flex" in op.name:
            raise ProofError(f"audit: wanted built-in operators alone, found {op.name}")
        allowed = {"int8", "int32"} | ({io} if op.name in CASTS else set())
        other = sorted(set(op.types) - allowed)
        if other or "int8" not in op.types:
            raise ProofError(
                f"audit: wanted every operator int8, found {op.name} on {', '.join(op.types)}"
            )
    _audit_ends(found, labels=labels, io=io, shape=shape)
    return found.as_record()


def _audit_ends(found: Contents, *, labels: int, io: str, shape: tuple[int, int, int]) -> None:
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
        if end != right:
            raise ProofError(f"audit: wanted the {what} to be {right}, found {end}")
