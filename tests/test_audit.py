"""The audit passes what was asked for and names what was not."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.errors import DataError, ProofError
from mobileclf.tflite import convert
from mobileclf.tflite.audit import audit
from mobileclf.tflite.graph import contents, parse
from tests.models import LABELS, SIZE, photos, tiny_float, tiny_folded, tiny_int8


@pytest.mark.parametrize("io", ["uint8", "int8", "float32"])
def test_every_kind_of_end_passes(io):
    found = audit(tiny_int8(io), labels=LABELS, io=io, shape=(SIZE, SIZE, 3))
    assert found["inputs"][0]["dtype"] == found["outputs"][0]["dtype"] == io
    names = {row["operator"] for row in found["operators"]}
    assert {"CONV_2D", "SOFTMAX", "MEAN", "FULLY_CONNECTED"} <= names
    assert all(row["version"] >= 1 for row in found["operators"])


@pytest.mark.parametrize("io", ["uint8", "int8"])
def test_the_stock_converter_passes_too(io):
    model = convert.post_training(tiny_folded(), io, photos())
    audit(model, labels=LABELS, io=io, shape=(SIZE, SIZE, 3))


def test_a_float_model_is_no_int8_model():
    with pytest.raises(ProofError, match="wanted every operator int8, found .* on float32"):
        audit(tiny_float(), labels=LABELS, io="float32", shape=(SIZE, SIZE, 3))


def test_dynamic_range_is_no_int8_model():
    model = convert.floating(tiny_folded(), "dynamic")
    with pytest.raises(ProofError, match="wanted every operator int8"):
        audit(model, labels=LABELS, io="float32", shape=(SIZE, SIZE, 3))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"labels": LABELS + 1}, "wanted the output to be"),
        ({"shape": (SIZE, SIZE, 1)}, "wanted the input to be"),
        ({"io": "int8"}, "wanted (the input to be|every operator int8)"),
    ],
)
def test_other_ends_are_named(wanted, message):
    asked = {"labels": LABELS, "shape": (SIZE, SIZE, 3), "io": "uint8", **wanted}
    with pytest.raises(ProofError, match=message):
        audit(tiny_int8(), **asked)


def test_an_input_in_another_scale_is_named():
    """Bytes that the app would have to scale first are what this contract is against."""
    import flatbuffers

    tree = parse(tiny_int8())
    graph = tree.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization.scale = np.array([0.5], np.float32)
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    with pytest.raises(ProofError, match="scale=0.5"):
        audit(bytes(builder.Output()), labels=LABELS, io="uint8", shape=(SIZE, SIZE, 3))


def test_a_custom_operator_is_named():
    import flatbuffers

    tree = parse(tiny_int8())
    code = tree.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, "FlexSoftmax"
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    with pytest.raises(ProofError, match="built-in operators alone, found CUSTOM FlexSoftmax"):
        audit(bytes(builder.Output()), labels=LABELS, io="uint8", shape=(SIZE, SIZE, 3))


@pytest.mark.parametrize("data", [b"", b"TFL3", b"no model at all"])
def test_other_bytes_are_no_model(data):
    with pytest.raises(DataError, match="wanted a .tflite file"):
        contents(data)


def test_a_cut_model_is_no_model():
    with pytest.raises(DataError, match="model: "):
        contents(tiny_int8()[:200])
