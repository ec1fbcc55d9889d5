"""Operators put before and behind the one graph of anyone's `.tflite`, the rest left as it is.

The file is written again from the schema's object tree, its data where the schema asks for them,
and what was read of the graph is held against what was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError

from .graph import IDENTIFIER, Model, Tensor, parse, read
from .inspect import MIN_RUNTIME
from .metadata import ENTRY
from .runtime_versions import first_release, release_key

ALIGNMENT = 16  # bytes; what the schema asks of a buffer's data
NONE = "NONE"  # as the schema calls it where an operator has no options
# Operators that are added, with the table of their options and what it holds.
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "GATHER": ("GatherOptions", {"axis": 3}),
    "DEQUANTIZE": ("DequantizeOptions", {}),
    "SUB": ("SubOptions", {}),
    "DIV": ("DivOptions", {}),
    "MUL": ("MulOptions", {}),
    "ADD": ("AddOptions", {}),
    "QUANTIZE": ("QuantizeOptions", {}),
    "RESHAPE": ("ReshapeOptions", {}),
    "SOFTMAX": ("SoftmaxOptions", {"beta": 1.0}),
    "LOGISTIC": (NONE, {}),
}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A type and, of integers, what they stand for: (q - zero_point) * scale."""

    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operator that is added: what comes out of it, and the constant it takes beside."""

    operator: str
    grid: Grid
    shape: tuple[int, ...]
    constant: NDArray[Any] | None = None
    version: int = 1


class Edit:
    """A model's object tree while operators are put around its one graph."""

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.tree = schema, parse(model)
        self.graph = self.tree.subgraphs[0]
        self.graph.operators = self.graph.operators or []
        self.tree.operatorCodes = self.tree.operatorCodes or []
        self._check_known()
        self.empty = self._buffer(None)  # the file's first one should be empty, and need not be
        self.added: set[tuple[str, int]] = set()

    def _check_known(self) -> None:
        for op in self.graph.operators:
            both = ((op.builtinOptionsType, op.builtinOptions),
                    (op.builtinOptions2Type, op.builtinOptions2))  # fmt: skip
            if any(kind and options is None for kind, options in both):
                raise DataError(
                    "model: wanted operators that the installed ai-edge-litert knows, found "
                    "options of another schema; upgrade it"
                )
        if any(buffer.offset > 1 for buffer in self.tree.buffers) or any(
            op.largeCustomOptionsSize for op in self.graph.operators
        ):
            raise DataError(
                "model: wanted its data inside the flatbuffer, found some behind it, as files "
                "over 2 GB have them; convert it again without"
            )

    def tensor(
        self, name: str, grid: Grid, shape: tuple[int, ...], buffer: int | None = None
    ) -> int:
        """The index of a new tensor."""
        new = self.schema.TensorT()
        new.name, new.shape, new.hasRank = name, list(shape), True
        new.type = getattr(self.schema.TensorType, grid.dtype.upper())
        new.buffer = self.empty if buffer is None else buffer
        if grid.scale is not None:
            new.quantization = quantization = self.schema.QuantizationParametersT()
            quantization.scale, quantization.zeroPoint = [grid.scale], [grid.zero_point]
        self.graph.tensors.append(new)
        return len(self.graph.tensors) - 1

    def chain(self, at: int, steps: Sequence[Step], into: int | None = None) -> list[Any]:
        """The operators of `steps`, from tensor `at` to tensor `into`, else to a new one."""
        operators = []
        for step in steps:
            operator = self.schema.OperatorT()
            operator.opcodeIndex = self._code(step)
            operator.inputs = [at]
            if (value := step.constant) is not None:
                buffer = self._buffer(np.frombuffer(value.tobytes(), np.uint8))
                grid, name = Grid(dtype=value.dtype.name), f"{step.operator.lower()}_constant"
                operator.inputs.append(self.tensor(name, grid, value.shape, buffer))
            if step is steps[-1] and into is not None:
                at = into
            else:
                at = self.tensor(f"{step.operator.lower()}_added", step.grid, step.shape)
            operator.outputs = [at]
            kind, fields = OPTIONS[step.operator]
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            if kind != NONE:
                operator.builtinOptions = getattr(self.schema, f"{kind}T")()
                vars(operator.builtinOptions).update(fields)
            operators.append(operator)
        return operators

    def ends(self, which: Literal["inputs", "outputs"], old: int, new: int) -> None:
        """Make `new` the graph's, and its signature's, only input or output instead of `old`."""
        setattr(self.graph, which, [new])
        for signature in self.tree.signatureDefs or ():
            named = getattr(signature, which) or []
            if [end.tensorIndex for end in named] != [old]:
                raise DataError(
                    f"model: wanted the {which} of its signature to be those of its graph, found "
                    "others; convert it again"
                )
            named[0].tensorIndex = new

    def _code(self, step: Step) -> int:
        """The index of the operator's code, a new one where the file has none."""
        self.added.add((step.operator, step.version))
        number = getattr(self.schema.BuiltinOperator, step.operator)
        for i, code in enumerate(self.tree.operatorCodes):
            own = max(code.builtinCode, code.deprecatedBuiltinCode)
            if (own, code.version) == (number, step.version) and code.customCode is None:
                return i
        new = self.schema.OperatorCodeT()
        new.builtinCode = new.deprecatedBuiltinCode = number
        new.version = step.version
        self.tree.operatorCodes.append(new)
        return len(self.tree.operatorCodes) - 1

    def _buffer(self, data: NDArray[np.uint8] | None) -> int:
        new = self.schema.BufferT()
        new.data = data
        self.tree.buffers.append(new)
        return len(self.tree.buffers) - 1

    def packed(self, size: int) -> bytes:
        """The file, without TFLite Metadata; its data lie as the schema asks."""
        self._describe()
        for buffer in self.tree.buffers:
            buffer.Pack = partial(_aligned, self.schema, buffer)
        builder = flatbuffers.Builder(size + 4096)
        try:
            builder.Finish(self.tree.Pack(builder), file_identifier=IDENTIFIER)
        except Exception as error:  # what a broken file holds raises whatever it leads to
            raise DataError(f"model: a .tflite that cannot be written again ({error})") from error
        return bytes(builder.Output())

    def _describe(self) -> None:
        """Drop the metadata of the old ends, and see to the oldest runtime that is named."""
        entries = self.tree.metadata or []
        used = {tensor.buffer for tensor in self.graph.tensors}
        for entry in entries:
            data = self.tree.buffers[entry.buffer]
            if entry.name == ENTRY.encode() and entry.buffer not in used:
                data.data = None
            if entry.name == MIN_RUNTIME.encode() and data.data is not None:
                data.data = _at_least(bytes(data.data), self.added)
        self.tree.metadata = [entry for entry in entries if entry.name != ENTRY.encode()]


def _at_least(written: bytes, operators: set[tuple[str, int]]) -> NDArray[np.uint8]:
    """The oldest runtime as the converter wrote it, or the one that the operators need."""
    needed = max((first_release(*op) or "0" for op in operators), key=release_key)
    try:
        if release_key(written.split(b"\0")[0].decode()) < release_key(needed):
            written = needed.encode().ljust(len(written), b"\0")
    except ValueError:  # no number: it stays what it was
        pass
    return np.frombuffer(written, np.uint8)


def _aligned(schema: Any, buffer: Any, builder: flatbuffers.Builder) -> int:
    """Write a buffer. The generated code leaves its data at any multiple of 4."""
    data = None
    if buffer.data is not None:
        payload = bytes(buffer.data)
        builder.StartVector(1, len(payload), ALIGNMENT)
        builder.head -= len(payload)
        builder.Bytes[builder.head : builder.head + len(payload)] = payload
        data = builder.EndVector()
    schema.BufferStart(builder)
    if data is not None:
        schema.BufferAddData(builder, data)
    end: int = schema.BufferEnd(builder)
    return end


def check_kept(model: bytes, before: Model, changed: bytes, added: int) -> None:
    """Raises DataError where what was written has not all of the graph that was read."""
    after = read(changed)
    was, now = before.subgraphs[0], after.subgraphs[0]
    same = (
        now.tensors[: len(was.tensors)] == was.tensors
        and now.operators[added : added + len(was.operators)] == was.operators
        and all(
            _data(model, before, tensor) == _data(changed, after, tensor) for tensor in was.tensors
        )
    )
    if not same:
        raise DataError(
            "model: wanted a .tflite that is the same once written again, found another; it is "
            "broken, or of a newer schema than the installed ai-edge-litert"
        )


def _data(model: bytes, found: Model, tensor: Tensor) -> bytes:
    buffer = found.buffers[tensor.buffer]
    return model[buffer.start : buffer.start + buffer.bytes]
