"""What a `.tflite` file holds, read with LiteRT's published flatbuffers schema.

A file may be anybody's, also broken: whatever an index or a length in it points at is held
against the file before it is used, and no more is read than a well-made file of its size has.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError, EnvironmentProblem
from mobileclf.records import Record

IDENTIFIER = b"TFL3"
# What is given in place of a .tflite, by its first bytes.
OTHERS = {
    b"PK\x03\x04": "a zip, as .keras files are",
    b"\x89HDF": "an HDF5 file, as .h5 weights are",
}
LARGEST = 2**31 - 1  # of a flatbuffer, whose offsets are of 32 bits with sign
# Vectors may be shared, so a sound file can hold a little more than its bytes. Without a limit
# a small broken one could say that it holds the same table a million times.
MOST_READ = 4


@dataclass(frozen=True, kw_only=True)
class End:
    """An input or output tensor: numpy type name, shape, and scale and zero point if it has."""

    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of a subgraph.

    signature: the shape with -1 where it is not fixed, None where all of it is. scales, zero
    points: none, one, or one for each index of `axis`. buffer: index into the model's buffers.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    buffer: int


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One operator of the graph: its name, version, and its tensors and their types.

    inputs, outputs: indices of tensors, without the optional ones left out. types: of the inputs,
    then of the outputs.
    """

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    types: tuple[str, ...]

    @property
    def custom(self) -> bool:
        """Whether it is none of the built-in operators (Flex, that is TensorFlow's, included)."""
        return self.name.startswith("CUSTOM")


@dataclass(frozen=True, kw_only=True)
class Subgraph:
    """A graph of operators, in the order they run in."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...]


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """Where in the file some data are: first byte, and number of bytes."""

    start: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A signature runner: its key, the subgraph it runs, and names of what goes in and out."""

    key: str
    subgraph: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A whole file. metadata: index of the buffer by name. external: buffers in other files."""

    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    buffers: tuple[Buffer, ...]
    metadata: dict[str, int]
    signatures: tuple[Signature, ...]
    external: int

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether the tensor's values are in the file."""
        return self.buffers[tensor.buffer].bytes > 0


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The ends and operators of a model's one subgraph."""

    inputs: tuple[End, ...]
    outputs: tuple[End, ...]
    operators: tuple[Operator, ...]

    def as_record(self) -> Record:
        """Ends, and operators by name with their version and count."""
        return {
            "inputs": [dict(vars(end), shape=list(end.shape)) for end in self.inputs],
            "outputs": [dict(vars(end), shape=list(end.shape)) for end in self.outputs],
            "operators": [
                {"operator": name, "version": version, "count": count}
                for name, version, count in counts(self.operators)
            ],
        }


def counts(operators: tuple[Operator, ...]) -> list[tuple[str, int, int]]:
    """Name, version and count of the operators, by name and version."""
    found = Counter((op.name, op.version) for op in operators)
    return [(name, version, count) for (name, version), count in sorted(found.items())]


def parse(model: bytes) -> Any:
    """The model as the schema's object tree (`ModelT`). Raises DataError for other bytes."""
    from ai_edge_litert import schema_py_generated as schema

    read(model)  # the object tree itself trusts every length
    try:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    except Exception as error:  # broken offsets raise whatever the reader stumbles on
        raise DataError(f"model: a .tflite that cannot be read ({error})") from error


def contents(model: bytes) -> Contents:
    """Read a model's graph. Raises DataError when it is none or has several subgraphs."""
    found = read(model)
    if len(found.subgraphs) != 1:
        raise DataError(f"model: wanted one subgraph, found {len(found.subgraphs)}")
    graph = found.subgraphs[0]

    def end(index: int) -> End:
        tensor = graph.tensors[index]
        known = len(tensor.scales) == 1
        return End(
            dtype=tensor.dtype,
            shape=tensor.shape,
            scale=tensor.scales[0] if known else None,
            zero_point=tensor.zero_points[0] if known else None,
        )

    return Contents(
        inputs=tuple(end(i) for i in graph.inputs),
        outputs=tuple(end(i) for i in graph.outputs),
        operators=graph.operators,
    )


def file_bytes(path: Path) -> bytes:
    """The bytes of a `.tflite` file. Raises DataError for what is none by its first bytes, before
    all of it is read, and EnvironmentProblem where it cannot be read."""
    if not path.is_file():
        found = "a folder, pipe or device" if path.exists() else "no such file"
        raise DataError(f"{path}: wanted a .tflite file, found {found}")
    try:
        with path.open("rb") as file:
            head, size = file.read(8), path.stat().st_size
            if not head:
                raise DataError(f"{path}: wanted a .tflite file, found an empty one")
            if head[4:] != IDENTIFIER:
                what = OTHERS.get(head[:4], "other bytes")
                raise DataError(f"{path}: wanted a .tflite file (TFL3), found {what}")
            if size > LARGEST:
                raise DataError(f"{path}: wanted a .tflite file under 2 GiB, found {size:,} bytes")
            return head + file.read()
    except OSError as error:
        raise EnvironmentProblem(f"cannot read {path}: {error.strerror or error}") from error


def read(model: bytes) -> Model:
    """Everything that is known of a model but for its data.

    Raises DataError for other bytes and for a file that is cut or broken.
    """
    if model[4:8] != IDENTIFIER:
        raise DataError("model: wanted a .tflite file (TFL3), found other bytes")
    try:
        return _Reader(model).model()
    except DataError:
        raise
    except Exception as error:  # broken offsets raise whatever the reader stumbles on
        raise DataError(f"model: a .tflite that cannot be read ({error})") from error


class _Reader:
    """Walks through one file, and counts what it has read."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.data = data
        self.left = MOST_READ * len(data)
        self.root = schema.Model.GetRootAs(data)
        self.operator_names = _names(schema.BuiltinOperator)
        self.types = {code: name.lower() for code, name in _names(schema.TensorType).items()}

    def model(self) -> Model:
        root = self.root
        codes = [
            self._code(code) for code in self._each(root.OperatorCodesLength(), root.OperatorCodes)
        ]
        buffers = tuple(self._buffer(b) for b in self._each(root.BuffersLength(), root.Buffers))
        subgraphs = tuple(
            self._subgraph(graph, codes, len(buffers))
            for graph in self._each(root.SubgraphsLength(), root.Subgraphs)
        )
        if not subgraphs:
            raise DataError("model: wanted a subgraph, found none")
        metadata = {
            self._text(entry.Name()): self._index(entry.Buffer(), len(buffers), "metadata buffer")
            for entry in self._each(root.MetadataLength(), root.Metadata)
        }
        signatures = tuple(
            self._signature(found, len(subgraphs))
            for found in self._each(root.SignatureDefsLength(), root.SignatureDefs)
        )
        # Older releases of the schema know of no data in other files.
        external = getattr(root, "ExternalBuffersLength", lambda: 0)()
        return Model(
            version=int(root.Version()),
            description=self._text(root.Description()),
            subgraphs=subgraphs,
            buffers=buffers,
            metadata=metadata,
            signatures=signatures,
            external=int(external),
        )

    def _spend(self, size: int) -> None:
        self.left -= size
        if size > len(self.data) or self.left < 0:
            raise DataError("model: a .tflite that cannot be read (a length beyond the file)")

    def _each(self, count: int, item: Callable[[int], Any]) -> Iterator[Any]:
        self._spend(4 * count)
        return (item(i) for i in range(count))

    def _vector(self, count: int, size: int, values: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        self._spend(size * count)
        return values() if count else np.empty(0, np.int64)

    def _text(self, value: bytes | None) -> str:
        self._spend(len(value or b""))
        return (value or b"").decode(errors="replace")

    def _index(self, value: int, count: int, what: str) -> int:
        if not 0 <= value < count:
            raise DataError(f"model: wanted a {what} of 0..{count - 1}, found {value}")
        return int(value)

    def _code(self, code: Any) -> tuple[str, int]:
        # Files of before 2.4 have the operator in the field of one byte alone.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self.operator_names.get(number, f"UNKNOWN {number}")
        custom = code.CustomCode()
        if custom is not None:
            name = f"{name} {self._text(custom)}"
        return name, int(code.Version())

    def _buffer(self, buffer: Any) -> Buffer:
        inside = buffer.DataLength()
        if inside:
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            found = Buffer(start=int(start), bytes=int(inside))
        else:  # data of files over 2 GB stand behind the flatbuffer; an offset of 1 says none
            offset = buffer.Offset()
            found = Buffer(start=int(offset), bytes=int(buffer.Size()) if offset > 1 else 0)
        if found.start < 0 or found.start + found.bytes > len(self.data):
            raise DataError(
                f"model: wanted a buffer within {len(self.data)} bytes, found one of "
                f"{found.bytes} bytes from {found.start}; the file is cut or broken"
            )
        return found

    def _subgraph(self, graph: Any, codes: list[tuple[str, int]], buffers: int) -> Subgraph:
        tensors = tuple(
            self._tensor(tensor, buffers)
            for tensor in self._each(graph.TensorsLength(), graph.Tensors)
        )

        def indices(count: int, values: Callable[[], NDArray[Any]]) -> tuple[int, ...]:
            vector = self._vector(count, 4, values).tolist()
            # -1 stands for an optional tensor that is not given.
            return tuple(self._index(i, len(tensors), "tensor") for i in vector if i != -1)

        def operator(op: Any) -> Operator:
            name, version = codes[self._index(op.OpcodeIndex(), len(codes), "operator code")]
            inputs = indices(op.InputsLength(), op.InputsAsNumpy)
            outputs = indices(op.OutputsLength(), op.OutputsAsNumpy)
            return Operator(
                name=name,
                version=version,
                inputs=inputs,
                outputs=outputs,
                types=tuple(tensors[i].dtype for i in (*inputs, *outputs)),
            )

        return Subgraph(
            name=self._text(graph.Name()),
            tensors=tensors,
            inputs=indices(graph.InputsLength(), graph.InputsAsNumpy),
            outputs=indices(graph.OutputsLength(), graph.OutputsAsNumpy),
            operators=tuple(
                operator(op) for op in self._each(graph.OperatorsLength(), graph.Operators)
            ),
        )

    def _tensor(self, tensor: Any, buffers: int) -> Tensor:
        name = self._text(tensor.Name())
        shape = self._vector(tensor.ShapeLength(), 4, tensor.ShapeAsNumpy)
        signature = self._vector(tensor.ShapeSignatureLength(), 4, tensor.ShapeSignatureAsNumpy)
        scales: tuple[float, ...] = ()
        zero_points: tuple[int, ...] = ()
        quantization = tensor.Quantization()
        if quantization is not None:
            own = self._vector(quantization.ScaleLength(), 4, quantization.ScaleAsNumpy)
            zero = self._vector(quantization.ZeroPointLength(), 8, quantization.ZeroPointAsNumpy)
            if len(zero) == 0:  # as the schema has it, none is 0
                zero = np.zeros(len(own), np.int64)
            if len(zero) not in (1, len(own)) and len(own):
                raise DataError(
                    f"model: wanted a zero point for each of {len(own)} scales of {name!r}, "
                    f"found {len(zero)}"
                )
            scales = tuple(own.tolist())
            zero_points = tuple(np.broadcast_to(zero, len(own)).tolist()) if scales else ()
            if not all(math.isfinite(scale) for scale in scales):
                raise DataError(f"model: wanted finite scales of {name!r}, found others")
        # What the object tree unpacks and nothing here uses: its lengths alone.
        sparsity = tensor.Sparsity()
        self._spend(4 * (sparsity.DimMetadataLength() if sparsity is not None else 0))
        self._spend(4 * tensor.VariantTensorsLength())
        return Tensor(
            name=name,
            dtype=self.types.get(tensor.Type(), f"unknown {tensor.Type()}"),
            shape=tuple(shape.tolist()),
            signature=tuple(signature.tolist()) if (signature < 0).any() else None,
            scales=scales,
            zero_points=zero_points,
            axis=int(quantization.QuantizedDimension()) if quantization is not None else 0,
            buffer=self._index(tensor.Buffer(), buffers, "buffer"),
        )

    def _signature(self, found: Any, subgraphs: int) -> Signature:
        return Signature(
            key=self._text(found.SignatureKey()),
            subgraph=self._index(found.SubgraphIndex(), subgraphs, "subgraph"),
            inputs=tuple(
                self._text(x.Name()) for x in self._each(found.InputsLength(), found.Inputs)
            ),
            outputs=tuple(
                self._text(x.Name()) for x in self._each(found.OutputsLength(), found.Outputs)
            ),
        )


def _names(enum: Any) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}
