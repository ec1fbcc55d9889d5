"""TFLite Metadata in a model file: written, read back and described.

Associated files (labels, decision) are a zip behind the model's bytes, as the documentation of
the metadata asks, with fixed dates.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers

from mobileclf.errors import DataError, ProofError
from mobileclf.records import Record

from . import graph
from . import metadata_schema as schema
from .metadata_schema import floats, member, offsets, table, union

ENTRY = "TFLITE_METADATA"
MINIMUM_PARSER = "1.0.0"
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
LABELS_FILE = "labels.txt"
DECISION_FILE = "decision.json"
LARGEST_FILES = 64 << 20  # bytes of associated files, once unpacked
# zipfile unpacks what is packed otherwise as a whole, however small it says that it is.
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

CONTENTS = {
    "FeatureProperties": "feature",
    "ImageProperties": "image",
    "BoundingBoxProperties": "bounding box",
    "AudioProperties": "audio",
}
COLOUR_SPACES = {3: ("RGB", "RGB"), 1: ("GRAYSCALE", "grey")}  # by channels: member and its word


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the metadata says of a classifier of photos.

    width, height: of the input, pixels. channels: 3 is RGB, 1 grey. minimum_score: a score under
    which MediaPipe hides a class, 0..1, or None. Never a group decision, which is another rule.
    """

    name: str
    description: str
    version: str
    author: str
    width: int
    height: int
    channels: int
    minimum_score: float | None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Any `.tflite`, taken apart once.

    size, files_at: its bytes, and where in them the zip of the associated files begins (size
    without one). about: the metadata as `metadata_schema.read` gives them, or None. files: the
    associated ones by name. compressed: whether one of them is.
    """

    size: int
    graph: graph.Model
    about: Record | None
    files: dict[str, bytes]
    files_at: int
    compressed: bool


def write(model: bytes, about: Description, files: Mapping[str, bytes]) -> bytes:
    """The model with metadata and associated `files` in it (labels.txt among them).

    Raises ProofError when what was written does not read back.
    """
    from ai_edge_litert import schema_py_generated as litert

    tree = graph.parse(model)
    buffer, entry = litert.BufferT(), litert.MetadataT()
    buffer.data = list(_metadata(about, list(files)))
    kept = [m for m in tree.metadata or () if m.name != ENTRY.encode()]
    entry.name, entry.buffer = ENTRY, len(tree.buffers)
    tree.buffers.append(buffer)
    tree.metadata = [*kept, entry]
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(tree.Pack(builder), file_identifier=graph.IDENTIFIER)
    whole = _with_files(bytes(builder.Output()), files)
    got_about, got_files = read(whole)
    if got_about != about or got_files != dict(files):
        raise ProofError("metadata: wanted it to read back as written, found something else")
    return whole


def read(model: bytes) -> tuple[Description, dict[str, bytes]]:
    """The metadata and associated files of a model that `write` made. Raises DataError."""
    found = opened(model)
    if found.about is None:
        raise DataError("model: wanted TFLite Metadata in it, found none")
    if not found.files:
        raise DataError("model: wanted associated files in it, found none")
    try:
        about = _description(found.about)
    except (IndexError, KeyError, TypeError) as error:
        raise DataError("model: wanted metadata as mobileclf writes it, found other") from error
    return about, found.files


def opened(model: bytes) -> Opened:
    """Raises DataError for what is no `.tflite`, or whose metadata or files cannot be read."""
    found = graph.read(model)
    data = _metadata_of(model, found)
    about = schema.read(data) if data is not None else None
    infos, files = _unpacked(model)
    return Opened(
        size=len(model),
        graph=found,
        about=about,
        files=files,
        files_at=min((info.header_offset for info in infos), default=len(model)),
        compressed=any(info.compress_type != zipfile.ZIP_STORED for info in infos),
    )


def describe(model: bytes | Opened) -> Record | None:
    """What the metadata in any `.tflite` says, or None without metadata.

    name, description, version, author, license and min_parser_version are texts or None.
    inputs: name, description, content ("image", "feature", "audio", "bounding box" or None),
    colour_space (RGB, GRAYSCALE, UNKNOWN or None), size ([width, height] in pixels or None),
    normalization ({mean, std}, one number each or one a channel, or None), min, max and files
    (names). outputs: name, description, content, labels (the lines of its label file, or None),
    score_threshold or None, and files. files: name, type and bytes, None for one that is named
    but is not in the model. Bytes that are no UTF-8 become U+FFFD, numbers that are not finite
    None.

    Raises DataError for what is no `.tflite`, or whose metadata or files cannot be read.
    """
    found = model if isinstance(model, Opened) else opened(model)
    tree, files = found.about, found.files
    if tree is None:
        return None
    subgraph: Record = next(iter(tree["subgraph_metadata"] or ()), {})
    ends = [subgraph.get(f"{end}_tensor_metadata") or [] for end in ("input", "output")]
    owners = [tree, subgraph, *ends[0], *ends[1]]
    named = [file for owner in owners for file in owner.get("associated_files") or ()]
    types = {file["name"]: member("AssociatedFileType", file["type"]) for file in named}
    texts = ("name", "description", "version", "author", "license", "min_parser_version")
    return {
        **{key: tree[key] for key in texts},
        "inputs": [_input(tensor) for tensor in ends[0]],
        "outputs": [_output(tensor, files) for tensor in ends[1]],
        "files": [
            {
                "name": name,
                "type": types.get(name, "UNKNOWN"),
                "bytes": len(files[name]) if name in files else None,
            }
            for name in {**types, **files}
        ],
    }


def associated_files(model: bytes) -> dict[str, bytes]:
    """The files packed behind a model's bytes, by name; empty where there are none.

    Raises DataError when they cannot be read or unpack to more than LARGEST_FILES bytes.
    """
    return _unpacked(model)[1]


def metadata_bytes(model: bytes) -> bytes | None:
    """The metadata's own flatbuffer in a model, or None. Raises DataError for no `.tflite`."""
    return _metadata_of(model, graph.read(model))


def _metadata_of(model: bytes, found: graph.Model) -> bytes | None:
    index = found.metadata.get(ENTRY)
    if index is None:
        return None
    place = found.buffers[index]
    return model[place.start : place.start + place.bytes]


def _unpacked(model: bytes) -> tuple[list[zipfile.ZipInfo], dict[str, bytes]]:
    """The zip's entries, and the files themselves. Raises DataError as `associated_files`."""
    if not zipfile.is_zipfile(io.BytesIO(model)):
        return [], {}
    try:
        with zipfile.ZipFile(io.BytesIO(model)) as archive:
            infos = archive.infolist()
            _check_sizes(infos)
            return infos, {info.filename: _member(archive, info) for info in infos}
    except DataError:
        raise
    except Exception as error:  # a broken zip raises whatever zipfile stumbles on
        # Cut, since zipfile's messages may hold a good part of the file.
        said = f"{type(error).__name__}: {error}"[:200]
        raise DataError(f"model: associated files that cannot be read ({said})") from error


def _check_sizes(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Before any of them is read. Raises DataError."""
    size = sum(info.file_size for info in infos)
    if size > LARGEST_FILES:
        raise DataError(
            f"model: wanted associated files of at most {LARGEST_FILES} bytes, found {size}"
        )
    for info in infos:
        if info.compress_type not in PACKED:
            raise DataError(
                f"model: wanted associated files stored or packed by deflate, found method "
                f"{info.compress_type}"
            )


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        # No more than that: read() alone would unpack all there is before it cuts.
        data = file.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise DataError(
            f"model: wanted an associated file of {info.file_size} bytes, found {len(data)}"
        )
    return data


def label_lines(data: bytes) -> list[str]:
    """The labels in a label file, as MediaPipe splits it: a line ends in \\n, \\r\\n or \\r, and
    one empty line at the end is no label.
    """
    lines = re.split("\r\n|\r|\n", data.decode(errors="replace"))
    for _ in range(2):  # what follows the last line's end, and one empty line
        if lines and not lines[-1]:
            lines.pop()
    return lines


def labels_file(tensor: Record) -> str | None:
    """The name of the label file of an output's metadata, that of its axis before others."""
    files = tensor["associated_files"] or []
    for kind in ("TENSOR_AXIS_LABELS", "TENSOR_VALUE_LABELS"):
        for file in files:
            if member("AssociatedFileType", file["type"]) == kind and file["name"] is not None:
                return str(file["name"])
    return None


def units(tensor: Record, options: str) -> list[Record]:
    """The process units of one kind in a tensor's metadata, in their order.

    options: name of its table. One whose options are left out, or not in TABLES there, is empty.
    """
    kinds, found = schema.UNIONS["ProcessUnitOptions"], tensor["process_units"] or ()
    return [unit["options"] or {} for unit in found if kinds.get(unit["options_type"]) == options]


def content_kind(tensor: Record) -> str | None:
    """What a tensor's metadata says it holds: the name of its table of properties, or None."""
    content = tensor["content"]
    return content and schema.UNIONS["ContentProperties"].get(content["content_properties_type"])


def _input(tensor: Record) -> Record:
    kind = content_kind(tensor)
    image = tensor["content"]["content_properties"] if kind == "ImageProperties" else None
    size = image and image["default_size"]
    normals = units(tensor, "NormalizationOptions")
    stats = tensor["stats"] or {}
    return {
        "name": tensor["name"],
        "description": tensor["description"],
        "content": kind and CONTENTS[kind],
        "colour_space": member("ColorSpaceType", image["color_space"]) if image else None,
        "size": [size["width"], size["height"]] if size else None,
        "normalization": {end: normals[0].get(end) or [] for end in ("mean", "std")}
        if normals
        else None,
        "min": stats.get("min") or [],
        "max": stats.get("max") or [],
        "files": _names(tensor),
    }


def _output(tensor: Record, files: Mapping[str, bytes]) -> Record:
    kind, labels = content_kind(tensor), labels_file(tensor)
    thresholds = units(tensor, "ScoreThresholdingOptions")
    return {
        "name": tensor["name"],
        "description": tensor["description"],
        "content": kind and CONTENTS[kind],
        "labels": label_lines(files[labels]) if labels and labels in files else None,
        "score_threshold": thresholds[0].get("global_score_threshold") if thresholds else None,
        "files": _names(tensor),
    }


def _names(tensor: Record) -> list[str | None]:
    return [file["name"] for file in tensor["associated_files"] or ()]


def _description(tree: Record) -> Description:
    """The fields of `Description` in metadata that `write` made."""
    ends = tree["subgraph_metadata"][0]
    image_in, scores_out = ends["input_tensor_metadata"][0], ends["output_tensor_metadata"][0]
    image = image_in["content"]["content_properties"]
    space = member("ColorSpaceType", image["color_space"])
    thresholds = units(scores_out, "ScoreThresholdingOptions")
    return Description(
        name=tree["name"] or "",
        description=tree["description"] or "",
        version=tree["version"] or "",
        author=tree["author"] or "",
        width=image["default_size"]["width"],
        height=image["default_size"]["height"],
        channels=next((n for n, (name, _) in COLOUR_SPACES.items() if name == space), 0),
        minimum_score=thresholds[0]["global_score_threshold"] if thresholds else None,
    )


def _with_files(model: bytes, files: Mapping[str, bytes]) -> bytes:
    # Appended as zipfile does it, so that the offsets in the zip count from the file's start.
    whole = io.BytesIO(model)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_DATE), data)
    return whole.getvalue()


# Writing. Offsets are made before the table that holds them.


def _metadata(about: Description, files: Sequence[str]) -> bytes:
    b = flatbuffers.Builder(1024)
    others = [_file(b, name, "UNKNOWN") for name in files if name != LABELS_FILE]
    labels = _file(b, LABELS_FILE, "TENSOR_AXIS_LABELS")

    image_size = table(b, "ImageSize", width=about.width, height=about.height)
    space, colour = COLOUR_SPACES[about.channels]
    number = schema.ENUMS["ColorSpaceType"].index(space)
    image = table(b, "ImageProperties", color_space=number, default_size=image_size)
    content = union(b, "Content", "content_properties", "ImageProperties", image)
    # The model takes the photo's bytes: mean 0 and deviation 1 leave them alone.
    normal = table(b, "NormalizationOptions", mean=floats(b, [0.0]), std=floats(b, [1.0]))
    unit = union(b, "ProcessUnit", "options", "NormalizationOptions", normal)
    stats = table(b, "Stats", max=floats(b, [255.0]), min=floats(b, [0.0]))
    image_in = table(
        b,
        "TensorMetadata",
        name=b.CreateString("image"),
        description=b.CreateString(f"{colour} photo, the whole picture at this size"),
        content=content,
        process_units=offsets(b, [unit]),
        stats=stats,
    )
    features = table(b, "FeatureProperties")
    content = union(b, "Content", "content_properties", "FeatureProperties", features)
    stats = table(b, "Stats", max=floats(b, [1.0]), min=floats(b, [0.0]))
    fields = {
        "name": b.CreateString("probability"),
        "description": b.CreateString("one probability for each label"),
        "content": content,
        "stats": stats,
        "associated_files": offsets(b, [labels]),
    }
    if about.minimum_score is not None:
        minimum = about.minimum_score
        threshold = table(b, "ScoreThresholdingOptions", global_score_threshold=minimum)
        unit = union(b, "ProcessUnit", "options", "ScoreThresholdingOptions", threshold)
        fields["process_units"] = offsets(b, [unit])
    scores_out = table(b, "TensorMetadata", **fields)
    ends = table(
        b,
        "SubGraphMetadata",
        input_tensor_metadata=offsets(b, [image_in]),
        output_tensor_metadata=offsets(b, [scores_out]),
    )
    root = table(
        b,
        "ModelMetadata",
        name=b.CreateString(about.name),
        description=b.CreateString(about.description),
        version=b.CreateString(about.version),
        subgraph_metadata=offsets(b, [ends]),
        author=b.CreateString(about.author),
        associated_files=offsets(b, others),
        min_parser_version=b.CreateString(MINIMUM_PARSER),
    )
    b.Finish(root, file_identifier=schema.IDENTIFIER)
    return bytes(b.Output())


def _file(b: Any, name: str, kind: str) -> int:
    number = schema.ENUMS["AssociatedFileType"].index(kind)
    return table(b, "AssociatedFile", name=b.CreateString(name), type=number)
