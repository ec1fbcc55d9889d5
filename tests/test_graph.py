"""Files are read as LiteRT reads them; broken ones are refused and cost nothing."""

from __future__ import annotations

import time

import flatbuffers
import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.tflite import convert, graph
from tests.models import photos, tiny_float, tiny_folded, tiny_int8

KINDS = {
    "int8": tiny_int8,
    "int8 with float ends": lambda: tiny_int8("float32"),
    "float32": tiny_float,
    "float16 weights": lambda: convert.floating(tiny_folded(), "fp16"),
    "dynamic range": lambda: convert.floating(tiny_folded(), "dynamic"),
    "int16x8": lambda: convert.post_training(tiny_folded(), "uint8", photos(), int16x8=True),
}


def edited(model: bytes, change) -> bytes:
    """The model after `change` of its object tree."""
    tree = graph.parse(model)
    change(tree)
    builder = flatbuffers.Builder(1024)
    builder.Finish(tree.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_and_operators_are_those_the_interpreter_tells(kind):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = KINDS[kind]()
    engine = Interpreter(
        model_content=model,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    engine.allocate_tensors()
    first = graph.read(model).subgraphs[0]
    told = {row["index"]: row for row in engine.get_tensor_details()}
    assert len(told) >= len(first.tensors) > 10
    for i, tensor in enumerate(first.tensors):
        assert (tensor.name, list(tensor.shape)) == (told[i]["name"], list(told[i]["shape"]))
        assert tensor.dtype == np.dtype(told[i]["dtype"]).name
        quantized = told[i]["quantization_parameters"]
        np.testing.assert_array_equal(np.array(tensor.scales, np.float32), quantized["scales"])
        np.testing.assert_array_equal(tensor.zero_points, quantized["zero_points"])
    assert list(first.inputs) == [row["index"] for row in engine.get_input_details()]
    assert list(first.outputs) == [row["index"] for row in engine.get_output_details()]
    assert [(op.name, op.inputs, op.outputs) for op in first.operators] == [
        (op["op_name"], tuple(i for i in op["inputs"] if i >= 0), tuple(op["outputs"]))
        for op in engine._get_ops_details()
    ]


def first_operator(tree):
    return tree.subgraphs[0].operators[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: setattr(first_operator(t), "inputs", [10**6]), "tensor of 0.*found 1000000"),
        (lambda t: setattr(first_operator(t), "outputs", [-2]), "tensor of 0.*found -2"),
        (lambda t: setattr(first_operator(t), "opcodeIndex", 99), "operator code .*found 99"),
        (lambda t: setattr(t.subgraphs[0], "inputs", [4000]), "tensor of 0.*found 4000"),
        (lambda t: setattr(t.subgraphs[0].tensors[3], "buffer", 5000), "buffer of 0.*found 5000"),
        (lambda t: setattr(t.metadata[0], "buffer", 5000), "metadata buffer of 0.*found 5000"),
        (lambda t: setattr(t, "subgraphs", []), "wanted a subgraph, found none"),
        (
            lambda t: setattr(t.subgraphs[0].tensors[0].quantization, "scale", [np.nan]),
            "wanted finite scales",
        ),
    ],
)
def test_indices_out_of_range_are_named(change, message):
    with pytest.raises(DataError, match=message):
        graph.read(edited(tiny_int8(), change))


def test_a_buffer_beyond_the_file_is_named():
    def change(tree):
        tree.buffers[3].data, tree.buffers[3].offset, tree.buffers[3].size = None, 10**9, 10

    with pytest.raises(DataError, match="wanted a buffer within .* from 1000000000"):
        graph.read(edited(tiny_int8(), change))


def test_the_same_table_a_million_times_is_not_read_a_million_times():
    """A vector of offsets into one table: 400 kB that would cost 100,000 times a subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    many = 100_000
    builder = flatbuffers.Builder(1024)
    name = builder.CreateString("x" * 1000)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, many)
    for _ in range(many):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    schema.ModelStartBuffersVector(builder, 1)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, subgraphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
    start = time.process_time()
    with pytest.raises(DataError, match="a length beyond the file"):
        graph.read(bytes(builder.Output()))
    assert time.process_time() - start < 2
