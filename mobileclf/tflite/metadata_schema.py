"""metadata_schema.fbs 1.5 (file identifier M001) as far as it is used, and tables by it.

TABLES is the only place that knows the schema's slots, and both reading and writing go by it. No
package on PyPI that a tool can depend on carries the generated code (tflite-support pins an old
protobuf and ends at Python 3.11, mediapipe brings OpenCV), so benchmarks/mediapipe_accepts.py
holds this against the generated code in mediapipe's wheel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flatbuffers import encode, number_types
from flatbuffers.table import Table

from mobileclf.errors import DataError
from mobileclf.records import Record

IDENTIFIER = b"M001"
# What a hostile file may cost: bytes that are read, since many vectors may name one table, which
# counts as TABLE_COST.
LARGEST = 1 << 20
TABLE_COST = 32

# Table -> field -> slot and type. A type is a scalar, "string", a table, a [vector] of one of
# these, or a union, whose number stands in the slot before, in the field named `..._type`.
TABLES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelMetadata": {
        "name": (0, "string"),
        "description": (1, "string"),
        "version": (2, "string"),
        "subgraph_metadata": (3, "[SubGraphMetadata]"),
        "author": (4, "string"),
        "license": (5, "string"),
        "associated_files": (6, "[AssociatedFile]"),
        "min_parser_version": (7, "string"),
    },
    "SubGraphMetadata": {
        "input_tensor_metadata": (2, "[TensorMetadata]"),
        "output_tensor_metadata": (3, "[TensorMetadata]"),
        "associated_files": (4, "[AssociatedFile]"),
    },
    "TensorMetadata": {
        "name": (0, "string"),
        "description": (1, "string"),
        "content": (3, "Content"),
        "process_units": (4, "[ProcessUnit]"),
        "stats": (5, "Stats"),
        "associated_files": (6, "[AssociatedFile]"),
    },
    "AssociatedFile": {"name": (0, "string"), "type": (2, "int8")},
    "Content": {
        "content_properties_type": (0, "uint8"),
        "content_properties": (1, "ContentProperties"),
    },
    "FeatureProperties": {},
    "ImageProperties": {"color_space": (0, "int8"), "default_size": (1, "ImageSize")},
    "ImageSize": {"width": (0, "uint32"), "height": (1, "uint32")},
    "ProcessUnit": {"options_type": (0, "uint8"), "options": (1, "ProcessUnitOptions")},
    "NormalizationOptions": {"mean": (0, "[float32]"), "std": (1, "[float32]")},
    "ScoreThresholdingOptions": {"global_score_threshold": (0, "float32")},
    "Stats": {"max": (0, "[float32]"), "min": (1, "[float32]")},
}
# Union -> number -> the table that it stands for; those without a line in TABLES are not read.
UNIONS = {
    "ContentProperties": {
        1: "FeatureProperties",
        2: "ImageProperties",
        3: "BoundingBoxProperties",
        4: "AudioProperties",
    },
    "ProcessUnitOptions": {
        1: "NormalizationOptions",
        2: "ScoreCalibrationOptions",
        3: "ScoreThresholdingOptions",
        4: "BertTokenizerOptions",
        5: "SentencePieceTokenizerOptions",
        6: "RegexTokenizerOptions",
    },
}
# Enum -> its members, in the order of their numbers.
ENUMS = {
    "AssociatedFileType": (
        "UNKNOWN",
        "DESCRIPTIONS",
        "TENSOR_AXIS_LABELS",
        "TENSOR_VALUE_LABELS",
        "TENSOR_AXIS_SCORE_CALIBRATION",
        "VOCABULARY",
        "SCANN_INDEX_FILE",
    ),
    "ColorSpaceType": ("UNKNOWN", "RGB", "GRAYSCALE"),
}
SCALARS: dict[str, tuple[str, Any]] = {
    "int8": ("Int8", number_types.Int8Flags),
    "uint8": ("Uint8", number_types.Uint8Flags),
    "uint32": ("Uint32", number_types.Uint32Flags),
    "float32": ("Float32", number_types.Float32Flags),
}


def read(data: bytes) -> Record:
    """The root table, ModelMetadata, as nested dicts with the names of TABLES.

    A field that is not there is None, a scalar that is not there 0, and one that is not finite
    None; bytes that are no UTF-8 become U+FFFD. Raises DataError.
    """
    if data[4:8] != IDENTIFIER:
        raise DataError("model: wanted metadata of kind M001, found other bytes")
    try:
        start = encode.Get(number_types.UOffsetTFlags.packer_type, data, 0)
        return _Reader(data).table(start, "ModelMetadata")
    except DataError:
        raise
    except Exception as error:  # broken offsets raise whatever the reader stumbles on
        raise DataError(f"model: metadata that cannot be read ({error})") from error


def member(enum: str, number: int) -> str:
    """The name of an enum's number; UNKNOWN for one that this schema does not have."""
    names = ENUMS[enum]
    return names[number] if 0 <= number < len(names) else "UNKNOWN"


class _Reader:
    """Reads tables of `data` by TABLES, and no more than LARGEST bytes of it in all."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = LARGEST

    def table(self, position: int, name: str) -> Record:
        self._spend(TABLE_COST)
        table = Table(self.data, position)
        read: Record = {}
        for field, (slot, kind) in TABLES[name].items():
            offset = int(table.Offset(4 + 2 * slot))
            at = position + offset if offset else None
            if kind in UNIONS:
                kind = UNIONS[kind].get(read[f"{field}_type"], "")
            read[field] = self._value(table, at, kind)
        return read

    def _value(self, table: Table, at: int | None, kind: str) -> Any:
        if at is None:
            return 0 if kind in SCALARS else None
        if kind.startswith("["):
            return self._vector(table, at, kind[1:-1])
        if kind in SCALARS:
            number = table.Get(SCALARS[kind][1], at)
            return number if math.isfinite(number) else None
        if kind == "string":
            start, length = self._span(table, at, 1)
            return self.data[start : start + length].decode(errors="replace")
        return self.table(table.Indirect(at), kind) if kind in TABLES else None

    def _vector(self, table: Table, at: int, kind: str) -> list[Any]:
        start, length = self._span(table, at, 4)
        return [self._value(table, start + 4 * i, kind) for i in range(length)]

    def _span(self, table: Table, at: int, width: int) -> tuple[int, int]:
        """Start and length of a vector of items of `width` bytes, which must lie in the data."""
        place = int(table.Indirect(at))
        length = int(table.Get(number_types.UOffsetTFlags, place))
        if place + 4 + width * length > len(self.data):
            raise DataError("model: metadata that cannot be read (a vector ends outside of it)")
        self._spend(width * length)
        return place + 4, length

    def _spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise DataError(f"model: wanted at most {LARGEST} bytes of metadata, found more")


def union(b: Any, name: str, field: str, kind: str, offset: int) -> int:
    """A table that holds nothing but a union, here of `kind`."""
    numbers = {table: number for number, table in UNIONS[TABLES[name][field][1]].items()}
    return table(b, name, **{f"{field}_type": numbers[kind], field: offset})


def table(b: Any, name: str, /, **fields: float) -> int:
    """The offset of a table, its fields written in the order given; all but scalars are offsets."""
    slots = TABLES[name]
    b.StartObject(max((slots[field][0] for field in fields), default=-1) + 1)
    for field, value in fields.items():
        slot, kind = slots[field]
        if kind in SCALARS:
            getattr(b, f"Prepend{SCALARS[kind][0]}Slot")(slot, value, 0)
        else:
            b.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(b.EndObject())


def offsets(b: Any, items: Sequence[int]) -> int:
    """The offset of a vector of tables."""
    b.StartVector(4, len(items), 4)
    for offset in reversed(items):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def floats(b: Any, values: Sequence[float]) -> int:
    """The offset of a vector of float32."""
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return int(b.EndVector())
