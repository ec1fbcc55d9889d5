"""Metadata goes into a model and comes back; that of any model is described, or refused."""

from __future__ import annotations

import io
import json
import math
import os
import time
import tracemalloc
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mobileclf.decision import NOT_SURE, Abstain, Classes, Decision, verdicts
from mobileclf.errors import DataError, ProofError
from mobileclf.stages.bundle import minimum_score
from mobileclf.tflite import metadata
from mobileclf.tflite import metadata_schema as schema
from mobileclf.tflite.acceptance import accepted_by
from mobileclf.tflite.interpreter import open_interpreter, scores
from tests.models import tiny_int8
from tests.variants import RGB, UNIT, classifier, described, edited, with_metadata

DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
FILES = {"labels.txt": "grün\nl'autre\n".encode(), "decision.json": b"{}"}


@cache
def about(minimum_score=None, channels=3):
    return metadata.Description(
        name="n",
        description="d",
        version="1",
        author="a",
        width=16,
        height=16,
        channels=channels,
        minimum_score=minimum_score,
    )


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("minimum_score", [None, 0.25])
def test_what_is_written_reads_back(minimum_score, channels):
    model = metadata.write(tiny_int8(), about(minimum_score, channels), FILES)
    assert metadata.read(model) == (about(minimum_score, channels), FILES)


@pytest.mark.parametrize(("channels", "colour"), [(3, b"RGB photo"), (1, b"grey photo")])
def test_the_colour_space_is_named(channels, colour):
    model = metadata.write(tiny_int8(), about(channels=channels), FILES)
    assert colour + b", the whole picture" in metadata.metadata_bytes(model)
    assert metadata.read(model)[0].channels == channels


def test_the_model_answers_as_before():
    photos = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    model = metadata.write(tiny_int8(), about(), FILES)
    before, after = (scores(open_interpreter(m), photos) for m in (tiny_int8(), model))
    np.testing.assert_array_equal(before, after)


def test_equal_inputs_give_equal_bytes():
    assert metadata.write(tiny_int8(), about(), FILES) == metadata.write(
        tiny_int8(), about(), FILES
    )


def test_writing_again_replaces_what_was_there():
    once = metadata.write(tiny_int8(), about(), FILES)
    other = {"labels.txt": b"x\ny\n", "decision.json": b"[]"}
    assert metadata.read(metadata.write(once, about(0.5), other)) == (about(0.5), other)


def test_the_associated_files_are_a_zip_that_counts_from_the_start():
    model = metadata.write(tiny_int8(), about(), FILES)
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            assert model[entry.header_offset : entry.header_offset + 4] == b"PK\x03\x04"


def test_metadata_that_does_not_read_back_is_an_error(monkeypatch):
    monkeypatch.setattr(metadata, "read", lambda model: (about(0.5), FILES))
    with pytest.raises(ProofError, match="read back as written"):
        metadata.write(tiny_int8(), about(), FILES)


def test_a_model_without_metadata_is_named():
    with pytest.raises(DataError, match="wanted TFLite Metadata in it, found none"):
        metadata.read(tiny_int8())


def test_what_is_written_is_described():
    model = metadata.write(tiny_int8(), about(0.25), FILES)
    assert metadata.describe(model) == {
        "name": "n",
        "description": "d",
        "version": "1",
        "author": "a",
        "license": None,
        "min_parser_version": "1.0.0",
        "inputs": [
            {
                "name": "image",
                "description": "RGB photo, the whole picture at this size",
                "content": "image",
                "colour_space": "RGB",
                "size": [16, 16],
                "normalization": {"mean": [0.0], "std": [1.0]},
                "min": [0.0],
                "max": [255.0],
                "files": [],
            }
        ],
        "outputs": [
            {
                "name": "probability",
                "description": "one probability for each label",
                "content": "feature",
                "labels": ["grün", "l'autre"],
                "score_threshold": 0.25,
                "files": ["labels.txt"],
            }
        ],
        "files": [
            {"name": "decision.json", "type": "UNKNOWN", "bytes": 2},
            {"name": "labels.txt", "type": "TENSOR_AXIS_LABELS", "bytes": 14},
        ],
    }
    assert metadata.associated_files(model) == FILES


def written(decision):
    """The score threshold that a model file with this decision has, as MediaPipe reads it."""
    model = metadata.write(
        tiny_int8(), replace(about(), minimum_score=minimum_score(decision)), FILES
    )
    (out,) = metadata.describe(model)["outputs"]
    return out["score_threshold"]


def shown(outputs, threshold):
    """What MediaPipe shows of outputs (n, labels), in quanta: a class whose score is less than the
    threshold is hidden, here as 0. Its scores and threshold are float32."""
    scores = np.float32(1 / 256) * outputs.astype(np.float32)
    return np.where(scores < np.float32(threshold), 0, outputs)


def walk():
    """All outputs of nets with three labels, in quanta: each adds up to 256, but for rounding."""
    first, second = (axis.ravel() for axis in np.mgrid[:256, :256])
    every = [np.stack([first, second, total - first - second], axis=1) for total in (255, 256, 257)]
    found = np.concatenate(every)
    return found[(found[:, 2] >= 0) & (found[:, 2] <= 255)]


@pytest.mark.parametrize("threshold_q", [86, 128, 200, 255])
def test_no_class_that_mediapipe_hides_could_have_changed_the_verdict(threshold_q):
    """At a minimum confidence: the label of the largest output shown, "not sure" where none is."""
    classes = Classes(labels=("a", "b", "c"), groups=(None,) * 3, harmful=None)
    decision = Decision(group=None, threshold_q=threshold_q, kernel_bound=0)
    outputs = walk()
    assert len(outputs) > 90_000
    wanted = np.array(verdicts(outputs, classes, decision))
    left = shown(outputs, written(decision))
    best = np.array(classes.labels)[left.argmax(axis=1)]
    assert (np.where(left.any(axis=1), best, NOT_SURE) == wanted).all()
    # One step more, and it would have.
    left = shown(outputs, (threshold_q + 1) / 256)
    assert ((wanted != NOT_SURE) & ~left.any(axis=1)).any()


@pytest.mark.parametrize("rule", [None, Abstain(by="margin", cut_q=40)])
def test_the_threshold_of_a_group_is_not_written_since_it_would_change_verdicts(rule):
    classes = Classes(labels=("a", "b", "c"), groups=("x", "y", "x"), harmful="x")
    decision = Decision(group="x", threshold_q=100, abstain=rule, kernel_bound=0)
    assert written(decision) is None
    outputs = walk()
    wanted = np.array(verdicts(outputs, classes, decision))
    left = np.array(verdicts(shown(outputs, 100 / 256), classes, decision))
    # Two harmful labels that reach the threshold together only: MediaPipe hides both.
    assert ((wanted == "x") & (left == "y")).any()
    # Nothing is hidden where nothing is written.
    assert (np.array(verdicts(shown(outputs, 0.0), classes, decision)) == wanted).all()


def test_a_model_without_metadata_has_nothing_to_describe():
    assert metadata.describe(tiny_int8()) is None
    assert metadata.associated_files(tiny_int8()) == {}
    other = with_metadata(tiny_int8(), b"1.5.0", "min_runtime_version")
    assert metadata.describe(other) is None


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}; set MOBILECLF_DATA")
def test_a_model_that_others_made_is_described():
    """A MobileNet, whose metadata has no version, no size and a label file of its own."""
    folder = DATA / "tflite"
    found = metadata.describe((folder / "mobilenet_v1_0.25_128_quant.tflite").read_bytes())
    labels = (folder / "imagenet_labels.txt").read_text(encoding="utf-8").splitlines()
    assert found["name"] == "ImageClassifier" and found["version"] is None
    assert found["min_parser_version"] == "1.0.0"
    (image,), (scores,) = found["inputs"], found["outputs"]
    assert (image["colour_space"], image["size"]) == ("RGB", None)
    assert image["normalization"] == {"mean": [127.5], "std": [127.5]}
    assert scores["labels"] == labels and len(labels) == 1001
    assert found["files"] == [
        {"name": "imagenet_labels.txt", "type": "TENSOR_AXIS_LABELS", "bytes": 21686}
    ]


@pytest.mark.parametrize(
    ("content", "kind", "space"),
    [
        (RGB, "image", "RGB"),
        ({"content_properties_type": 2, "content_properties": {}}, "image", "UNKNOWN"),
        (
            {"content_properties_type": 2, "content_properties": {"color_space": 9}},
            "image",
            "UNKNOWN",
        ),
        ({"content_properties_type": 1, "content_properties": {}}, "feature", None),
        ({"content_properties_type": 3, "content_properties": {}}, "bounding box", None),
        ({"content_properties_type": 4, "content_properties": {}}, "audio", None),
        ({"content_properties_type": 99, "content_properties": {}}, None, None),
        (None, None, None),
    ],
)
def test_what_an_input_holds(content, kind, space):
    (image,) = metadata.describe(described(tiny_int8(), classifier(content=content)))["inputs"]
    assert (image["content"], image["colour_space"]) == (kind, space)


def test_a_file_that_is_named_and_not_there():
    found = metadata.describe(described(tiny_int8(), classifier(), {"other.bin": b"12"}))
    assert found["outputs"][0]["labels"] is None
    assert found["files"] == [
        {"name": "labels.txt", "type": "TENSOR_AXIS_LABELS", "bytes": None},
        {"name": "other.bin", "type": "UNKNOWN", "bytes": 2},
    ]


def test_the_labels_of_an_axis_go_before_those_of_values():
    files = {"values.txt": b"v\n", "axis.txt": b"a\n"}
    both = [{"name": "values.txt", "type": 3}, {"name": "axis.txt", "type": 2}]
    for given, labels in ((both, ["a"]), (both[:1], ["v"])):
        found = metadata.describe(described(tiny_int8(), classifier(label_files=given), files))
        assert found["outputs"][0]["labels"] == labels


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\rc", ["a", "b", "c"]),
        (b"a\n\nb\n\n", ["a", "", "b"]),
        (b"a\n\n\n", ["a", ""]),
        ("a\u2028b\x0cc\n".encode(), ["a\u2028b\x0cc"]),
        (b"\xe9\n", ["\ufffd"]),
    ],
)
def test_lines_of_a_label_file(data, labels):
    assert metadata.label_lines(data) == labels


def test_text_that_is_no_utf8_and_numbers_that_are_not_finite():
    unit = {"options_type": 1, "options": {"mean": [math.nan, 1.0], "std": [math.inf]}}
    model = described(tiny_int8(), {**classifier(units=[unit]), "name": b"caf\xe9"})
    found = metadata.describe(model)
    assert found["name"] == "caf\ufffd"
    assert found["inputs"][0]["normalization"] == {"mean": [None, 1.0], "std": [None]}
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "kind M001"),
        (b"\x08\0\0\0M002" + bytes(8), "kind M001"),
        (b"\xff\xff\xff\xffM001", "cannot be read"),
    ],
)
def test_metadata_that_is_none(data, said):
    with pytest.raises(DataError, match=said):
        metadata.describe(with_metadata(tiny_int8(), data))


def test_metadata_in_a_buffer_that_is_not_there():
    def astray(tree):
        tree.metadata[-1].buffer = 9999

    with pytest.raises(DataError, match="buffer"):
        metadata.describe(edited(described(tiny_int8(), classifier()), astray))


def test_any_bytes_are_described_or_refused():
    """300 models with some bytes of their metadata or files changed: nothing else comes out."""
    rng = np.random.default_rng(0)
    data = metadata.metadata_bytes(metadata.write(tiny_int8(), about(0.25), FILES))
    model = described(tiny_int8(), classifier(units=[UNIT]), FILES)
    own = metadata.metadata_bytes(model)
    whole = metadata.write(tiny_int8(), about(0.25), FILES)
    outcomes = {"described": 0, "refused": 0}
    for source, blob in ((model, own), (whole, data)):
        start, end = source.index(blob), len(source)
        zipped = source.index(b"PK\x03\x04", start + len(blob))
        for i in range(150):
            low, high = (zipped, end) if i % 3 == 0 else (start, start + len(blob))
            changed = bytearray(source)
            for place in rng.integers(low, high, 1 + i % 8):
                changed[place] = rng.choice([0, 1, 4, 127, 128, 255, int(rng.integers(256))])
            try:
                found = [metadata.describe(bytes(changed)), accepted_by(bytes(changed))]
            except DataError as error:
                assert len(str(error)) < 400
                outcomes["refused"] += 1
            else:
                json.dumps(found, allow_nan=False)
                outcomes["described"] += 1
    assert min(outcomes.values()) > 30, outcomes


def test_a_table_that_is_named_again_and_again_is_not_read_for_ever():
    import flatbuffers

    b = flatbuffers.Builder(1024)
    tensor = schema.table(b, "TensorMetadata", name=b.CreateString("n" * 1000))
    graph = schema.table(
        b, "SubGraphMetadata", input_tensor_metadata=schema.offsets(b, [tensor] * 5000)
    )
    graphs = schema.offsets(b, [graph] * 5000)
    root = schema.table(b, "ModelMetadata", subgraph_metadata=graphs)
    b.Finish(root, file_identifier=b"M001")
    before = time.perf_counter()
    with pytest.raises(DataError, match="at most 1048576 bytes of metadata"):
        metadata.describe(with_metadata(tiny_int8(), bytes(b.Output())))
    assert time.perf_counter() - before < 10


def test_files_that_unpack_to_too_much_are_refused(monkeypatch):
    model = described(
        tiny_int8(),
        classifier(),
        {"labels.txt": bytes(1 << 20)},
        compression=zipfile.ZIP_DEFLATED,
    )
    assert len(metadata.associated_files(model)["labels.txt"]) == 1 << 20
    monkeypatch.setattr(metadata, "LARGEST_FILES", (1 << 20) - 1)
    with pytest.raises(DataError, match="at most 1048575 bytes, found 1048576"):
        metadata.describe(model)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_files_that_zipfile_would_unpack_whole_are_refused(method):
    model = described(tiny_int8(), classifier(), {"a": bytes(1000)}, compression=method)
    with pytest.raises(DataError, match=f"stored or packed by deflate, found method {method}"):
        metadata.associated_files(model)


def test_a_file_that_unpacks_to_more_than_it_says_is_not_unpacked():
    model = bytearray(
        described(
            tiny_int8(), classifier(), {"a": bytes(32 << 20)}, compression=zipfile.ZIP_DEFLATED
        )
    )
    listed = model.rindex(b"PK\x01\x02")
    model[listed + 24 : listed + 28] = (1000).to_bytes(4, "little")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="associated files that cannot be read"):
            metadata.associated_files(bytes(model))
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_a_changed_byte_in_a_file_is_noticed():
    model = described(tiny_int8(), classifier(), FILES)
    place = model.index("grün".encode())
    with pytest.raises(DataError, match="associated files that cannot be read"):
        metadata.describe(model[:place] + b"G" + model[place + 1 :])


def test_metadata_of_another_shape_is_not_our_own():
    model = described(tiny_int8(), {"name": "a"}, FILES)
    with pytest.raises(DataError, match="as mobileclf writes it"):
        metadata.read(model)
