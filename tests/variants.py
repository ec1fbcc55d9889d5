"""Model files of every kind that an app's libraries may refuse, small, each with one thing wrong.

`described` puts any metadata into a model: nested dicts with the names of the schema. It writes
no checks of its own, so that what a library does not take can be made.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import flatbuffers

from mobileclf.tflite import convert, metadata
from mobileclf.tflite import metadata_schema as schema
from mobileclf.tflite.graph import IDENTIFIER, parse
from tests.models import LABELS, SIZE, photos, tiny_float, tiny_folded, tiny_int8

LABEL_LINES = "".join(f"label {i}\n" for i in range(LABELS)).encode()
RGB = {
    "content_properties_type": 2,
    "content_properties": {"color_space": 1},
}
LABEL_FILE = {"name": "labels.txt", "type": 2}
UNIT = {"options_type": 1, "options": {"mean": [127.5], "std": [127.5]}}


def described(
    model: bytes,
    about: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """The model with metadata as nested dicts (metadata_schema.TABLES) and files."""
    b = flatbuffers.Builder(1024)
    b.Finish(_pack(b, "ModelMetadata", about), file_identifier=schema.IDENTIFIER)
    whole = io.BytesIO(with_metadata(model, bytes(b.Output())))
    if files:
        with zipfile.ZipFile(whole, "a", compression) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name, metadata.ZIP_DATE), data, compression)
    return whole.getvalue()


def with_metadata(model: bytes, data: bytes, name: str = metadata.ENTRY) -> bytes:
    """The model with these bytes as its metadata."""
    from ai_edge_litert import schema_py_generated as litert

    def add(tree: Any) -> None:
        buffer, entry = litert.BufferT(), litert.MetadataT()
        buffer.data, entry.name, entry.buffer = list(data), name, len(tree.buffers)
        tree.buffers.append(buffer)
        tree.metadata = [*(tree.metadata or ()), entry]

    return edited(model, add)


def edited(model: bytes, change: Callable[[Any], None]) -> bytes:
    """The model with something changed in its tree."""
    tree = parse(model)
    change(tree)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def classifier(
    *,
    units: list[Any] | None = None,
    content: Mapping[str, Any] | None = RGB,
    outputs: int = 1,
    output_units: list[Any] | None = None,
    label_files: list[Any] | None = None,
    name: str | None = "image",
    output_name: str | None = "probability",
    version: str | None = "1.0.0",
) -> dict[str, Any]:
    """The metadata of a classifier, right in all that is not said."""
    image = {"name": name, "content": content, "process_units": units}
    scores = {
        "process_units": output_units,
        "associated_files": [LABEL_FILE] if label_files is None else label_files,
    }
    names = [output_name] if outputs == 1 else [f"{output_name} {i}" for i in range(outputs)]
    return {
        "name": "a classifier",
        "subgraph_metadata": [
            {
                "input_tensor_metadata": [image],
                "output_tensor_metadata": [{"name": name, **scores} for name in names],
            }
        ],
        "min_parser_version": version,
    }


def _pack(b: Any, table: str, about: Mapping[str, Any]) -> int:
    fields = {}
    for field, (_, kind) in schema.TABLES[table].items():
        value = about.get(field)
        if kind in schema.UNIONS:
            kind = schema.UNIONS[kind].get(about.get(f"{field}_type", 0), "")
            kind = kind if kind in schema.TABLES else "FeatureProperties"
        if value is not None:
            fields[field] = _value(b, kind, value)
    return schema.table(b, table, **fields)


def _value(b: Any, kind: str, value: Any) -> Any:
    if kind in schema.SCALARS:
        return value
    if kind == "string":
        return b.CreateString(value)
    if kind == "[float32]":
        return schema.floats(b, value)
    if kind.startswith("["):
        return schema.offsets(b, [_pack(b, kind[1:-1], item) for item in value])
    return _pack(b, kind, value)


def traced(function: Callable[..., Any], *shapes: tuple[int, ...], more: str = "") -> bytes:
    """A function of float32 tensors as a float32 `.tflite`; more operators: flex or custom."""
    import tensorflow as tf

    signature = [tf.TensorSpec(shape, tf.float32, name=f"x{i}") for i, shape in enumerate(shapes)]
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.allow_custom_ops = more == "custom"
    if more == "flex":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
    return bytes(converter.convert())


def three_scores(x: Any) -> Any:
    """(batch, height, width, channels) -> softmax of 3 numbers."""
    import tensorflow as tf

    means = tf.reduce_mean(x, axis=[1, 2])
    return tf.nn.softmax(tf.concat([means, -means, means], axis=1)[:, :3])


@cache
def variants() -> dict[str, bytes]:
    """By what is special of them."""
    import tensorflow as tf

    uint8, floating, normal = tiny_int8(), tiny_float(), classifier(units=[UNIT])
    image, files = (1, SIZE, SIZE, 3), {"labels.txt": LABEL_LINES}

    def normalized(mean: list[float] | None, std: list[float] | None) -> dict[str, Any]:
        return classifier(units=[{"options_type": 1, "options": {"mean": mean, "std": std}}])

    def told(model: bytes, files: Mapping[str, bytes] = files, **about: Any) -> bytes:
        return described(model, classifier(**about), files)

    def floats(function: Callable[..., Any], *shapes: Any, **more: Any) -> bytes:
        return described(traced(function, *shapes), classifier(units=[UNIT], **more), files)

    def logits(x: Any) -> Any:
        return tf.reduce_mean(x, axis=[1, 2])

    def open_size(tree: Any) -> None:
        graph = tree.subgraphs[0]
        graph.tensors[graph.inputs[0]].shapeSignature = [1, -1, -1, 3]

    def without_outputs(tree: Any) -> None:
        tree.subgraphs[0].outputs = []

    def input_of(**changes: Any) -> Callable[[Any], None]:
        def change(tree: Any) -> None:
            graph = tree.subgraphs[0]
            vars(graph.tensors[graph.inputs[0]]).update(changes)

        return change

    threshold = [{"options_type": 3, "options": {"global_score_threshold": 0.5}}]
    calibration = [{"options_type": 2, "options": {}}]
    int16x8 = convert.post_training(tiny_folded(), "float32", photos(), int16x8=True)
    return {
        # What MediaPipe takes.
        "uint8": told(uint8),
        "uint8 without metadata": uint8,
        "uint8, normalization for floats": described(uint8, normal, files),
        "float32 with normalization": described(floating, normal, files),
        "float16 weights": described(convert.floating(tiny_folded(), "fp16"), normal, files),
        "dynamic range": described(convert.floating(tiny_folded(), "dynamic"), normal, files),
        "int16x8, float32 ends": described(int16x8, normal, files),
        "three equal means": described(floating, normalized([1.0] * 3, [2.0] * 3), files),
        "logits": floats(logits, image),
        "sigmoid of 3": floats(lambda x: tf.sigmoid(logits(x)), image),
        "two outputs": described(
            traced(lambda x: (three_scores(x), tf.sigmoid(logits(x))), image),
            classifier(units=[UNIT], outputs=2),
            files,
        ),
        "scores in four dimensions": floats(lambda x: x[:, :1, :1, :], image),
        "no label file named": told(uint8, label_files=[]),
        "labels of values": told(uint8, label_files=[{"name": "labels.txt", "type": 3}]),
        "labels end in \\r\\n": told(uint8, {"labels.txt": LABEL_LINES.replace(b"\n", b"\r\n")}),
        "labels end in \\r": told(uint8, {"labels.txt": LABEL_LINES.replace(b"\n", b"\r")}),
        "labels with an empty last line": told(uint8, {"labels.txt": LABEL_LINES + b"\n"}),
        "labels with a form feed": told(uint8, {"labels.txt": b"a\fb\nc\nd\n"}),
        "score threshold": told(uint8, output_units=threshold),
        "metadata without subgraphs": described(uint8, {"name": "a"}),
        "metadata 1.5.0": told(uint8, version="1.5.0"),
        "no metadata version": told(uint8, version=None),
        "input without content": told(uint8, content=None),
        "input without a name": told(uint8, name=None),
        "output without a name": told(uint8, output_name=None),
        "truths out": floats(lambda x: logits(x) > 0.0, image),
        "metadata of the input alone": described(
            uint8, {"subgraph_metadata": [{"input_tensor_metadata": [{"name": "a"}]}]}
        ),
        "open size": edited(uint8, open_size),
        # What it refuses.
        "int8": told(tiny_int8("int8")),
        "int16": edited(floating, input_of(type=7)),
        "float16 input": edited(floating, input_of(type=1)),
        "float32 without normalization": told(floating),
        "float32 without metadata": floating,
        "a normalization for each channel": described(
            floating, normalized([1.0, 2.0, 3.0], [1.0] * 3), files
        ),
        "two means": described(floating, normalized([1.0, 1.0], [1.0, 1.0]), files),
        "a mean and no deviation": described(uint8, normalized([1.0], []), files),
        "deviation 0": described(floating, normalized([0.0], [0.0]), files),
        "a normalization without numbers": told(uint8, units=[{"options_type": 1, "options": {}}]),
        "a normalization without options": told(uint8, units=[{"options_type": 1}]),
        "a threshold without options": told(uint8, output_units=[{"options_type": 3}]),
        "two normalizations": told(uint8, units=[UNIT, UNIT]),
        "three dimensions": floats(
            lambda x: tf.nn.softmax(tf.reduce_mean(x, axis=1)), (1, SIZE, 3)
        ),
        "batch 2": floats(three_scores, (2, SIZE, SIZE, 3)),
        "one channel": floats(three_scores, (1, SIZE, SIZE, 1)),
        "four channels": floats(three_scores, (1, SIZE, SIZE, 4)),
        "grey by its metadata": told(
            uint8, content={"content_properties_type": 2, "content_properties": {"color_space": 2}}
        ),
        "unknown colours": told(
            uint8, content={"content_properties_type": 2, "content_properties": {}}
        ),
        "a feature, not an image": told(
            uint8, content={"content_properties_type": 1, "content_properties": {}}
        ),
        "two inputs": floats(lambda x, y: three_scores(x + y), image, image),
        "integers and floats out": described(
            traced(lambda x: (three_scores(x), logits(x) > 0.0), image),
            classifier(units=[UNIT], outputs=2),
            files,
        ),
        "whole numbers out": floats(lambda x: tf.cast(logits(x), tf.int32), image),
        "no outputs": edited(uint8, without_outputs),
        "too few labels": told(uint8, {"labels.txt": b"a\nb\n"}),
        "too many labels": told(uint8, {"labels.txt": LABEL_LINES + b"x\n"}),
        "labels in Latin-1": told(uint8, {"labels.txt": b"a\nb\xe9\nc\n"}),
        "labels with two empty last lines": told(uint8, {"labels.txt": LABEL_LINES + b"\n\n"}),
        "an empty label file": told(uint8, {"labels.txt": b""}),
        "no such label file": told(uint8, {"other.txt": LABEL_LINES}),
        "metadata of two outputs": told(uint8, outputs=2),
        "metadata without inputs": described(uint8, {"subgraph_metadata": [{}]}),
        "compressed files": described(uint8, classifier(), files, compression=zipfile.ZIP_DEFLATED),
        "metadata 9.0.0": told(uint8, version="9.0.0"),
        "calibration without a file": told(uint8, output_units=calibration),
        "two thresholds": told(uint8, output_units=threshold * 2),
        "TensorFlow's operators": described(
            traced(
                lambda x: tf.nn.softmax(tf.linalg.inv(x[:, :3, :3, 0] + tf.eye(3))[:, 0]),
                image,
                more="flex",
            ),
            normal,
            files,
        ),
        "a custom operator": described(
            traced(
                lambda x: tf.nn.softmax(tf.raw_ops.Erfinv(x=logits(x) / 300.0)),
                image,
                more="custom",
            ),
            normal,
            files,
        ),
    }
