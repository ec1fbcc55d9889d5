"""What MediaPipe Tasks and Android Studio make of a `.tflite`, and why they refuse one.

MediaPipe Tasks: the rules of its ImageClassifier (image_tensor_specs.cc, image_preprocessing_
graph.cc, classification_postprocessing_graph.cc, metadata_extractor.cc), which
benchmarks/mediapipe_accepts.py tries on MediaPipe itself, with models that keep and break them.
Metadata that makes it follow a null pointer, so that it crashes in some runs, is refused here.
A model is accepted when the classifier can be made from it and classifies a picture.

Android Studio: the rules of ML Model Binding by its source, not tried here (ModelVerifier and
TensorInfo of com.android.tools.mlkit, MetadataExtractor of TFLite Support, and in the Gradle
plugin 8.13 ImagePreprocessorInitInjector).

A model counts as accepted by MediaPipe where every rule is known to hold: one with a custom
operator, which it may have or not, does not. Android Studio does not look at operators; those
that the app's runtime may lack are in the notes. Whether either's runtime is new enough for the
versions of a model's operators is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from mobileclf.records import Record

from .graph import Subgraph, Tensor
from .metadata import Opened, content_kind, label_lines, labels_file, opened, units
from .metadata_schema import member

MEDIAPIPE = "MediaPipe Tasks ImageClassifier"
STUDIO = "Android Studio ML Model Binding"
PARSER = (1, 5, 0)  # of the metadata, in both
STUDIO_TYPES = ("float32", "int32", "uint8", "int64")
STUDIO_MEGABYTES = 200
NOT_TRIED = "by its source, not tried"
# What may stand between the last arithmetic and the output.
PASSES_ON = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST")
ENDS_IN_PROBABILITIES = ("SOFTMAX", "LOGISTIC")


@dataclass(frozen=True, kw_only=True)
class _End:
    """An input or output of the model, and its metadata if it has."""

    tensor: Tensor
    about: Record | None

    @property
    def dtype(self) -> str:
        return self.tensor.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape


@dataclass(frozen=True, kw_only=True)
class _File:
    """A model file: its size in bytes, number of subgraphs, the ends of the first, the names of
    its operators, the one that makes the first output, and what its metadata says.

    described: number of inputs and outputs in the metadata, or None where it lists none.
    """

    size: int
    subgraphs: int
    inputs: tuple[_End, ...]
    outputs: tuple[_End, ...]
    operators: frozenset[str]
    last: str
    about: Record | None
    described: dict[str, int | None]
    files: dict[str, bytes]
    compressed: bool


def accepted_by(model: bytes | Opened) -> list[Record]:
    """Whether each of the two accepts a model: by, accepted, reasons (why not) and notes.

    notes: what it will do otherwise than one might think, and what is not known. Raises
    DataError for what is no `.tflite`, or whose metadata cannot be read.
    """
    file = _file(model if isinstance(model, Opened) else opened(model))
    found = []
    for by, refusals, notes in (
        (MEDIAPIPE, _mediapipe_refuses, _mediapipe_notes),
        (STUDIO, _studio_refuses, _studio_notes),
    ):
        reasons = list(refusals(file))
        found.append(
            {"by": by, "accepted": not reasons, "reasons": reasons, "notes": list(notes(file))}
        )
    return found


def _mediapipe_refuses(file: _File) -> Iterator[str]:
    if file.subgraphs != 1:
        yield f"wants one subgraph, found {file.subgraphs}"
    if len(file.inputs) != 1:
        yield f"wants one input, found {len(file.inputs)}"
    for name in sorted(file.operators):
        if name.startswith("CUSTOM Flex"):
            yield f"has no TensorFlow operators, found {name.removeprefix('CUSTOM ')}"
    yield from _custom_operators(file)
    yield from _mediapipe_refuses_metadata(file)
    for end in file.inputs[:1]:
        yield from _mediapipe_refuses_input(end)
    for i, end in enumerate(file.outputs):
        if end.dtype not in ("uint8", "float32", "bool"):
            yield f"wants outputs of uint8 or float32, found {end.dtype} at {i}"
        yield from _mediapipe_refuses_output(file, end, i)
    if not file.outputs:
        yield "wants an output, found none"
    integer = sum(end.dtype != "float32" for end in file.outputs)
    if 0 < integer < len(file.outputs):
        yield f"wants all outputs or none in integers, found {integer} of {len(file.outputs)}"


def _mediapipe_refuses_metadata(file: _File) -> Iterator[str]:
    if file.about is None:
        return
    if _version(file.about) > PARSER:
        yield f"reads metadata up to 1.5.0, found {file.about['min_parser_version']}"
    if file.compressed:
        yield "wants associated files stored without compression"
    if file.about["subgraph_metadata"] is not None and not file.described["inputs"]:
        yield "wants the metadata, where it describes a subgraph, to describe the input"
    outputs = file.described["outputs"]
    if outputs is not None and outputs != len(file.outputs):
        yield f"wants metadata of {len(file.outputs)} outputs, found {outputs}"


def _mediapipe_refuses_input(end: _End) -> Iterator[str]:
    if end.dtype not in ("uint8", "float32"):
        yield f"wants an input of uint8 or float32, found {end.dtype}"
    if len(end.shape) != 4 or end.shape[0] != 1 or end.shape[3] != 3:
        # Four channels pass its checks at the start, but the photo is made of three.
        yield f"wants an input of (1, height, width, 3), found {end.shape}"
    kind = end.about and content_kind(end.about)
    content = (end.about or {}).get("content") or {}
    if kind not in (None, "ImageProperties"):
        yield f"wants metadata of an image, found {kind}"
    elif kind and content["content_properties"]:
        space = member("ColorSpaceType", content["content_properties"]["color_space"])
        if space != "RGB":
            yield f"wants the colour space RGB, found {space}"
    normals = units(end.about, "NormalizationOptions") if end.about else []
    if len(normals) > 1:
        yield f"wants one normalization, found {len(normals)}"
    elif normals:
        yield from _mediapipe_refuses_normalization(end, normals[0])
    elif end.dtype == "float32":
        yield "wants the normalization of a float32 input in the metadata, found none"


def _mediapipe_refuses_normalization(end: _End, normal: Record) -> Iterator[str]:
    mean, std = (normal.get(key) or [] for key in ("mean", "std"))
    if len(mean) != len(std) or len(mean) not in (1, 3):
        yield f"wants 1 or 3 means and as many deviations, found {len(mean)} and {len(std)}"
    elif end.dtype == "float32":
        if len(set(zip(mean, std, strict=True))) > 1:
            yield "wants one normalization for all channels, found one for each"
        elif std[0] is not None and abs(std[0]) < np.finfo(np.float32).eps:
            yield "wants a deviation other than 0 in the normalization"


def _mediapipe_refuses_output(file: _File, end: _End, index: int) -> Iterator[str]:
    if end.about is None:
        return
    if end.about["name"] is None:
        # It follows a null pointer: mostly nothing happens, now and then it crashes.
        yield f"wants a name of output {index} in the metadata, found none; it may crash"
    for kind in ("ScoreThresholdingOptions", "ScoreCalibrationOptions"):
        if (found := len(units(end.about, kind))) > 1:
            yield f"wants one unit of {kind} at output {index}, found {found}"
    if {} in units(end.about, "ScoreThresholdingOptions"):
        yield f"wants a threshold in the unit that stands for one at output {index}, found none"
    if units(end.about, "ScoreCalibrationOptions") and not _names(
        end.about, "TENSOR_AXIS_SCORE_CALIBRATION"
    ):
        yield f"wants a calibration file for output {index}, found none"
    for name in _names(end.about, "TENSOR_AXIS_LABELS")[:1]:
        values = int(np.prod(end.shape))
        if name not in file.files:
            yield f"wants the label file {name!r}, which the metadata names, in the model"
        elif not file.files[name]:
            yield f"wants labels in {name!r}, found none"
        elif not _is_utf8(file.files[name]):
            yield f"wants labels in UTF-8 in {name!r}, found other bytes"
        elif (labels := len(label_lines(file.files[name]))) != values:
            yield f"wants a label for each of {values} scores of output {index}, found {labels}"


def _mediapipe_notes(file: _File) -> Iterator[str]:
    for end in file.inputs[:1]:
        if -1 in (end.tensor.signature or ())[1:]:
            yield f"makes each photo {end.shape[1:3]} high and wide: the model leaves its size open"
        if end.dtype == "uint8" and (wanted := _byte_255(end)) is not None:
            yield (
                "gives the photo's bytes as they are, whatever normalization and scale say: "
                f"255 where they make {wanted:g}"
            )
    if len(file.outputs) > 1:
        yield f"gives {len(file.outputs)} lists of scores, one for each output"
    for i, end in enumerate(file.outputs):
        if end.about is None or not _names(end.about, "TENSOR_AXIS_LABELS"):
            yield f"gives numbers in place of labels at output {i}: it names no file of them"
        for threshold in units(end.about, "ScoreThresholdingOptions") if end.about else ():
            least = threshold.get("global_score_threshold") or 0.0
            yield f"hides each class with a score under {least:g} at output {i}"
        if end.about and units(end.about, "ScoreCalibrationOptions"):
            yield f"changes the scores of output {i} by the calibration in the metadata"
    if file.last not in ENDS_IN_PROBABILITIES:
        yield f"gives the scores as {file.last} leaves them, which need not be probabilities"


def _studio_refuses(file: _File) -> Iterator[str]:
    if file.size > STUDIO_MEGABYTES << 20:
        yield f"wants at most {STUDIO_MEGABYTES} MB, found {file.size / (1 << 20):.0f}"
    if file.subgraphs != 1:
        yield f"wants one subgraph, found {file.subgraphs}"
    for what, ends in (("input", file.inputs), ("output", file.outputs)):
        described = file.described[f"{what}s"] or 0
        if file.about is not None and described != len(ends):
            yield f"wants metadata of {len(ends)} {what}s, found {described}"
        names = [_identifier(end.about["name"]) for end in ends if end.about and end.about["name"]]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"wants another name for each {what}, found {name} twice"
        for i, end in enumerate(ends):
            if end.dtype not in STUDIO_TYPES:
                yield f"wants {what}s of {', '.join(STUDIO_TYPES)}, found {end.dtype} at {i}"
            if len(end.tensor.scales) > 1:
                yield f"wants one scale for {what} {i}, found one for each channel"
            if end.about is not None and end.about["name"] is None:
                yield f"wants a name of {what} {i} in the metadata, found none"
            image = end.about is not None and content_kind(end.about) == "ImageProperties"
            if image and what == "input" and len(end.shape) != 4:
                yield f"wants an image of 4 dimensions at input {i}, found {end.shape}"


def _studio_notes(file: _File) -> Iterator[str]:
    yield NOT_TRIED
    for name in sorted(file.operators):
        if name.startswith("CUSTOM "):
            operator = name.removeprefix("CUSTOM ")
            yield f"does not look for {operator}, which the app's runtime must have"
    if STUDIO_MEGABYTES * 10**6 < file.size <= STUDIO_MEGABYTES << 20:
        yield f"says it takes {STUDIO_MEGABYTES} MB; whether of 1000 or 1024 kB is not known"
    if file.about is None:
        yield "gives plain buffers in place of a photo and labels: the model has no metadata"
        return
    if _version(file.about) > PARSER:
        yield (
            "gives plain buffers in place of a photo and labels where its parser is older than "
            f"{file.about['min_parser_version']}, which the metadata asks for"
        )
    for i, end in enumerate(file.inputs):
        if _is_rgb(end):
            yield f"resizes the photo of input {i} by the nearest pixel, not bilinear"
        else:
            yield f"gives a plain buffer for input {i}: the metadata does not call it an RGB photo"
    for i, end in enumerate(file.outputs):
        labels = labels_file(end.about) if end.about else None
        if end.about is None or not _names(end.about, "TENSOR_AXIS_LABELS"):
            yield f"gives a plain buffer for output {i}: it names no file of labels"
        elif labels not in file.files:
            yield f"the label file {labels!r} of output {i} is not in the model"
        elif len(label_lines(file.files[labels])) != (end.shape or (1,))[-1]:
            scores = (end.shape or (1,))[-1]
            yield f"output {i} has {scores} scores, its label file another number of lines"
        if end.about and units(end.about, "ScoreThresholdingOptions"):
            yield f"whether it heeds the score threshold of output {i} is not known"


def _custom_operators(file: _File) -> Iterator[str]:
    for name in sorted(file.operators):
        if name.startswith("CUSTOM ") and not name.startswith("CUSTOM Flex"):
            yield f"whether it has the custom operator {name.removeprefix('CUSTOM ')} is not known"


def _names(about: Record, kind: str) -> list[str]:
    """Names of the files of one type in a tensor's metadata."""
    return [
        file["name"]
        for file in about["associated_files"] or ()
        if member("AssociatedFileType", file["type"]) == kind and file["name"] is not None
    ]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _version(about: Record) -> tuple[int, ...]:
    parts = [int(part) for part in re.findall(r"\d+", about["min_parser_version"] or "")]
    return tuple((parts + [0, 0, 0])[:3])


def _is_rgb(end: _End) -> bool:
    if end.about is None or content_kind(end.about) != "ImageProperties":
        return False
    image = end.about["content"]["content_properties"]
    return bool(image) and member("ColorSpaceType", image["color_space"]) == "RGB"


def _identifier(name: str) -> str:
    """A tensor's name as one of Java, so that two that become the same are seen."""
    words = re.split(r"[^0-9A-Za-z]+", name)
    return "".join(word[:1].upper() + word[1:] for word in words)


def _byte_255(end: _End) -> float | None:
    """What normalization and scale make of byte 255, unless it is 255 to a step, or unknown."""
    normal = (units(end.about, "NormalizationOptions") if end.about else []) or [{}]
    mean, std = (normal[0].get(key) or [] for key in ("mean", "std"))
    scales = end.tensor.scales
    if len(scales) != 1 or len(mean) != 1 or len(std) != 1 or None in (*mean, *std):
        return None
    if not std[0] or not scales[0]:
        return None
    real = (np.array([0.0, 255.0]) - mean[0]) / std[0]
    made = real / scales[0] + end.tensor.zero_points[0]
    return None if np.allclose(made, [0.0, 255.0], atol=1.0) else float(made[1])


def _file(model: Opened) -> _File:
    described = (model.about or {}).get("subgraph_metadata") or [{}]
    tensors = {what: described[0].get(f"{what}_tensor_metadata") for what in ("input", "output")}
    graph = model.graph.subgraphs[0]
    return _File(
        size=model.size,
        subgraphs=len(model.graph.subgraphs),
        inputs=_ends(graph, graph.inputs, tensors["input"]),
        outputs=_ends(graph, graph.outputs, tensors["output"]),
        operators=frozenset(op.name for op in graph.operators),
        last=_last(graph),
        about=model.about,
        described={
            f"{what}s": None if listed is None else len(listed) for what, listed in tensors.items()
        },
        files=model.files,
        compressed=model.compressed,
    )


def _ends(
    graph: Subgraph, indices: Sequence[int], about: Sequence[Record] | None
) -> tuple[_End, ...]:
    tensors, described = [graph.tensors[index] for index in indices], list(about or ())
    return tuple(
        _End(tensor=tensor, about=said)
        for tensor, said in zip_longest(tensors, described[: len(tensors)])
    )


def _last(graph: Subgraph) -> str:
    """The operator that makes the first output, past those that only pass values on."""
    makers = {index: op for op in graph.operators for index in op.outputs}
    at, name = (graph.outputs[0] if graph.outputs else -1), "no operator"
    for _ in makers:
        if at not in makers:
            break
        name, inputs = makers[at].name, makers[at].inputs
        if name not in PASSES_ON or not inputs:
            break
        at = inputs[0]
    return name
