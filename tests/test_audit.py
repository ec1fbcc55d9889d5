"""The audit passes what was asked for and names what was not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobileclf.errors import DataError, ProofError
from mobileclf.tflite import audit as audit_module
from mobileclf.tflite import convert
from mobileclf.tflite.audit import arithmetic, audit, audit_ends, is_int8
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


def test_what_a_file_computes_with():
    assert arithmetic(tiny_int8()) == arithmetic(tiny_int8("float32")) == "int8"
    assert arithmetic(tiny_float()) == "float32"
    assert arithmetic(convert.floating(tiny_folded(), "dynamic")) == "mixed"


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


def with_scale(which, scale):
    """An int8 model, uint8 at the ends, whose input or output stands for other numbers."""
    import flatbuffers

    tree = parse(tiny_int8())
    graph = tree.subgraphs[0]
    graph.tensors[getattr(graph, which)[0]].quantization.scale = np.array([scale], np.float32)
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_an_input_in_another_scale_is_named():
    """Bytes that the app would have to scale first are what this contract is against."""
    with pytest.raises(ProofError, match="scale=0.5"):
        audit(with_scale("inputs", 0.5), labels=LABELS, io="uint8", shape=(SIZE, SIZE, 3))


def test_any_scale_is_of_the_input_alone_and_of_its_scale_alone():
    asked = {"labels": LABELS, "io": "uint8", "shape": (SIZE, SIZE, 3)}
    other = with_scale("inputs", 0.5)
    assert audit_ends(other, **asked, any_scale=True)["inputs"][0]["scale"] == 0.5
    with pytest.raises(ProofError, match="wanted the input to be .*scale=0.5"):
        audit_ends(other, **asked)
    with pytest.raises(ProofError, match="wanted the input to be"):
        audit_ends(other, **{**asked, "shape": (SIZE, SIZE, 1)}, any_scale=True)
    with pytest.raises(ProofError, match="wanted the output to be .*scale=0.5"):
        audit_ends(with_scale("outputs", 0.5), **asked, any_scale=True)


def test_the_ends_alone_may_be_those_of_a_float_model():
    audit_ends(tiny_float(), labels=LABELS, io="float32", shape=(SIZE, SIZE, 3))
    assert is_int8(tiny_float()).startswith("wanted every operator int8, found ")


@pytest.mark.parametrize("io", ["uint8", "int8", "float32"])
def test_int8_is_told_whatever_the_ends_are(io):
    assert is_int8(tiny_int8(io)) is None
    # Their types are what QUANTIZE and DEQUANTIZE may have there, and those alone.
    other = is_int8(tiny_int8(io), ends=("int8",))
    assert other is None if io == "int8" else f"QUANTIZE on {io}, int8" in other


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


def test_one_operator_in_float_is_named_wherever_it_stands(monkeypatch):
    found = contents(tiny_int8())
    for i, op in enumerate(found.operators):
        operators = list(found.operators)
        operators[i] = replace(op, types=("float32",))
        changed = replace(found, operators=tuple(operators))
        monkeypatch.setattr(audit_module, "contents", lambda model, changed=changed: changed)
        reason = is_int8(tiny_int8(), ends=("uint8",))
        assert reason is not None and op.name in reason
