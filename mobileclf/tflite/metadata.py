"""TFLite Metadata in a model file: written with flatbuffers, read back and compared.

The table and field numbers are those of metadata_schema.fbs 1.5 (file identifier M001), for
which no Python package writes without an old protobuf. Associated files (labels, decision) are
a zip behind the model's bytes, as that schema's documentation asks, with fixed dates.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
from flatbuffers import encode, number_types
from flatbuffers.table import Table

from mobileclf.errors import DataError, ProofError

from .audit import IDENTIFIER, parse

ENTRY = b"TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
MINIMUM_PARSER = "1.0.0"
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
LABELS_FILE = "labels.txt"
DECISION_FILE = "decision.json"

# Members of the schema's enums and unions that are used here.
TENSOR_AXIS_LABELS, UNKNOWN_FILE = 2, 0
IMAGE_PROPERTIES, FEATURE_PROPERTIES = 2, 1
NORMALIZATION, SCORE_THRESHOLDING = 1, 3
COLOUR_SPACES = {3: (1, "RGB"), 1: (2, "grey")}  # by channels: RGB or GRAYSCALE, and its name


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the metadata says of a classifier of photos.

    size: pixels of the square input. channels: 3 is RGB, 1 grey. minimum_score: a score under
    which MediaPipe hides a class, 0..1, or None. Never a group decision, which is another rule.
    """

    name: str
    description: str
    version: str
    author: str
    size: int
    channels: int
    minimum_score: float | None


def write(model: bytes, about: Description, files: Mapping[str, bytes]) -> bytes:
    """The model with metadata and associated `files` in it (labels.txt among them).

    Raises ProofError when what was written does not read back.
    """
    from ai_edge_litert import schema_py_generated as schema

    tree = parse(model)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(_metadata(about, list(files)))
    kept = [m for m in tree.metadata or () if m.name != ENTRY]
    entry.name, entry.buffer = ENTRY.decode(), len(tree.buffers)
    tree.buffers.append(buffer)
    tree.metadata = [*kept, entry]
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(tree.Pack(builder), file_identifier=IDENTIFIER)
    whole = _with_files(bytes(builder.Output()), files)
    got_about, got_files = read(whole)
    if got_about != about or got_files != dict(files):
        raise ProofError("metadata: wanted it to read back as written, found something else")
    return whole


def read(model: bytes) -> tuple[Description, dict[str, bytes]]:
    """The metadata and associated files of a model that `write` made. Raises DataError."""
    tree = parse(model)
    found = [entry for entry in tree.metadata or () if bytes(entry.name) == ENTRY]
    if not found:
        raise DataError("model: wanted TFLite Metadata in it, found none")
    data = bytes(tree.buffers[found[0].buffer].data)
    if data[4:8] != METADATA_IDENTIFIER:
        raise DataError("model: wanted metadata of kind M001, found other bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile as error:
        raise DataError("model: wanted associated files in it, found none") from error
    return _description(data), files


def _with_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    # Appended as zipfile does it, so that the offsets in the zip count from the file's start.
    whole = io.BytesIO(model)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), data)
    return whole.getvalue()


# Writing. A table is its fields by number; offsets are made before the table that holds them.


def _metadata(about: Description, files: Sequence[str]) -> bytes:
    b = flatbuffers.Builder(1024)
    others = [_file(b, name, UNKNOWN_FILE) for name in files if name != LABELS_FILE]
    labels = _file(b, LABELS_FILE, TENSOR_AXIS_LABELS)

    image_size = _table(b, {0: ("u32", about.size), 1: ("u32", about.size)})
    colour_space, colour = COLOUR_SPACES[about.channels]
    image = _table(b, {0: ("i8", colour_space), 1: ("offset", image_size)})
    content = _table(b, {0: ("u8", IMAGE_PROPERTIES), 1: ("offset", image)})
    # The model takes the photo's bytes: mean 0 and deviation 1 leave them alone.
    normal = _table(b, {0: ("offset", _floats(b, [0.0])), 1: ("offset", _floats(b, [1.0]))})
    unit = _table(b, {0: ("u8", NORMALIZATION), 1: ("offset", normal)})
    stats = _table(b, {0: ("offset", _floats(b, [255.0])), 1: ("offset", _floats(b, [0.0]))})
    image_in = _table(
        b,
        {
            0: ("offset", b.CreateString("image")),
            1: ("offset", b.CreateString(f"{colour} photo, the whole picture at this size")),
            3: ("offset", content),
            4: ("offset", _offsets(b, [unit])),
            5: ("offset", stats),
        },
    )
    features = _table(b, {})
    content = _table(b, {0: ("u8", FEATURE_PROPERTIES), 1: ("offset", features)})
    stats = _table(b, {0: ("offset", _floats(b, [1.0])), 1: ("offset", _floats(b, [0.0]))})
    fields: dict[int, tuple[str, Any]] = {
        0: ("offset", b.CreateString("probability")),
        1: ("offset", b.CreateString("one probability for each label")),
        3: ("offset", content),
        5: ("offset", stats),
        6: ("offset", _offsets(b, [labels])),
    }
    if about.minimum_score is not None:
        threshold = _table(b, {0: ("f32", about.minimum_score)})
        unit = _table(b, {0: ("u8", SCORE_THRESHOLDING), 1: ("offset", threshold)})
        fields[4] = ("offset", _offsets(b, [unit]))
    scores_out = _table(b, fields)
    graph = _table(
        b, {2: ("offset", _offsets(b, [image_in])), 3: ("offset", _offsets(b, [scores_out]))}
    )
    root = _table(
        b,
        {
            0: ("offset", b.CreateString(about.name)),
            1: ("offset", b.CreateString(about.description)),
            2: ("offset", b.CreateString(about.version)),
            3: ("offset", _offsets(b, [graph])),
            4: ("offset", b.CreateString(about.author)),
            6: ("offset", _offsets(b, others)),
            7: ("offset", b.CreateString(MINIMUM_PARSER)),
        },
    )
    b.Finish(root, file_identifier=METADATA_IDENTIFIER)
    return bytes(b.Output())


def _file(b: Any, name: str, kind: int) -> int:
    return _table(b, {0: ("offset", b.CreateString(name)), 2: ("i8", kind)})


def _table(b: Any, fields: Mapping[int, tuple[str, Any]]) -> int:
    prepend = {
        "offset": b.PrependUOffsetTRelativeSlot,
        "u8": b.PrependUint8Slot,
        "i8": b.PrependInt8Slot,
        "u32": b.PrependUint32Slot,
        "f32": b.PrependFloat32Slot,
    }
    b.StartObject(max(fields, default=-1) + 1)
    for slot, (kind, value) in fields.items():
        prepend[kind](slot, value, 0)
    return int(b.EndObject())


def _offsets(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _floats(b: Any, values: Sequence[float]) -> int:
    b.StartVector(4, len(values), 4)
    for value in reversed(values):
        b.PrependFloat32(value)
    return int(b.EndVector())


# Reading back the fields of `Description`.


def _description(data: bytes) -> Description:
    root = Table(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))
    graph = _items(root, 3)[0]
    image_in, scores_out = _items(graph, 2)[0], _items(graph, 3)[0]
    image = _sub(_sub(image_in, 3), 1)
    colour_space = _number(image, 0, number_types.Int8Flags)
    units = _items(scores_out, 4)
    minimum = None
    if units and _number(units[0], 0, number_types.Uint8Flags) == SCORE_THRESHOLDING:
        minimum = float(_number(_sub(units[0], 1), 0, number_types.Float32Flags))
    return Description(
        name=_text(root, 0),
        description=_text(root, 1),
        version=_text(root, 2),
        author=_text(root, 4),
        size=int(_number(_sub(image, 1), 0, number_types.Uint32Flags)),
        channels=next((n for n, (c, _) in COLOUR_SPACES.items() if c == colour_space), 0),
        minimum_score=minimum,
    )


def _at(table: Table, slot: int) -> int:
    offset = int(table.Offset(4 + 2 * slot))
    return offset + table.Pos if offset else 0


def _number(table: Table, slot: int, kind: Any) -> Any:
    place = _at(table, slot)
    return table.Get(kind, place) if place else 0


def _text(table: Table, slot: int) -> str:
    place = _at(table, slot)
    return bytes(table.String(place)).decode() if place else ""


def _sub(table: Table, slot: int) -> Table:
    return Table(table.Bytes, table.Indirect(_at(table, slot)))


def _items(table: Table, slot: int) -> list[Table]:
    place = _at(table, slot)
    if not place:
        return []
    offset = place - table.Pos
    start = table.Vector(offset)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))
    ]
