"""What a produced `.tflite` really holds, held against what was asked for."""

from __future__ import annotations

import numpy as np

from mobileclf.errors import ProofError
from mobileclf.records import Record

from .graph import Contents, End, contents

# What may stand at the ends of the graph to change type: not arithmetic.
CASTS = ("QUANTIZE", "DEQUANTIZE")


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
