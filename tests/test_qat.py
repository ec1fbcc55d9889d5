"""The quantization graph: proven the same function, and each proof shown to fail."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mobileclf.errors import ProofError
from mobileclf.importing.flatten import flatten
from mobileclf.models import backbones, equality, grid, maps, qat, ranges, rewrites
from mobileclf.models.graph import Graph, Node, build
from mobileclf.tflite import convert
from mobileclf.tflite.interpreter import as_quanta, score_photos
from tests.models import architecture

SIZE = 75  # the smallest that InceptionV3 takes
BOUND = 1e-4


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def models():
    """InceptionV3 in Keras 3, rebuilt in tf_keras, folded, and the folded graph."""
    import keras
    import tf_keras

    trained = backbones.build(keras, architecture("inception_v3", size=SIZE, labels=5))
    # Batch norm as after training: statistics and scales that are not 0 and 1.
    rng = np.random.default_rng(1)
    for layer in trained.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    # A sharp head, so that differences in the network reach the outputs.
    head = trained.get_layer("probabilities")
    head.set_weights([w * 20 for w in head.get_weights()])
    flat = flatten(trained).graph
    folded = rewrites.rewritten(flat)
    return SimpleNamespace(
        trained=trained, rebuilt=build(tf_keras, flat), folded=build(tf_keras, folded),
        flat=flat, graph=folded,
    )  # fmt: skip


@pytest.fixture(scope="module")
def aware(models):
    """Tests may set its ranges, and leave its numbers as they were."""
    return qat.quantized(models.graph)


def answers(model, photos):
    return np.asarray(model(photos.astype(np.float32), training=False))


def test_both_keras_are_the_same_network(models, photos):
    difference = equality.largest_difference(
        answers(models.trained, photos), answers(models.rebuilt, photos)
    )
    equality.require_equal("quantize", "both Keras", difference, equality.EQUAL)


def test_folding_keeps_the_function_and_takes_layers_out(models, photos):
    kinds = {node.kind for node in models.graph.nodes}
    assert not kinds & {"BatchNormalization", "Rescaling"}
    difference = equality.largest_difference(
        answers(models.rebuilt, photos), answers(models.folded, photos)
    )
    assert difference < BOUND


def test_a_skipped_fold_is_caught(models, photos, monkeypatch):
    import tf_keras

    monkeypatch.setattr(
        maps, "from_before",
        lambda first, second, shapes:
            [replace(second, inputs=first.inputs)] if first.kind == "Rescaling" else None,
    )  # fmt: skip
    broken = build(tf_keras, rewrites.rewritten(models.flat))
    difference = equality.largest_difference(
        answers(models.rebuilt, photos), answers(broken, photos)
    )
    with pytest.raises(ProofError, match="wanted the same function within 0.0001"):
        equality.require_equal("quantize", "before against after folding", difference, BOUND)


def test_the_graph_without_fake_quantizers_is_the_float_model(models, aware, photos):
    assert qat.prove_same_function(models.folded, aware, photos, BOUND) <= BOUND


def test_branches_in_another_order_are_caught(models, photos):
    """As tensorflow-model-optimization's own quantize_model puts them."""
    nodes = [
        replace(node, inputs=node.inputs[::-1]) if node.name == "mixed3" else node
        for node in models.graph.nodes
    ]
    broken = qat.quantized(Graph(nodes=tuple(nodes)))
    with pytest.raises(ProofError, match="first layer that differs is mixed3"):
        qat.prove_same_function(models.folded, broken, photos, BOUND)


def test_a_perturbed_kernel_is_caught_and_named(models, aware, photos):
    kernel = next(q.kernel for q in qat.quantizers_of(aware) if q.key == "conv2d_30/kernel")
    right = kernel.numpy()
    kernel.assign(kernel * 1.05)
    with pytest.raises(ProofError, match="first layer that differs is conv2d_30"):
        qat.prove_same_function(models.folded, aware, photos, BOUND)
    kernel.assign(right)


def test_calibration_sets_every_range(models, aware, photos):
    ranges.calibrate(models.graph, aware, photos)
    quantizers = qat.quantizers_of(aware)
    inputs = [q for q in quantizers if q.layer == "pixels"]
    assert [(float(q.low), float(q.high)) for q in inputs] == [(0.0, 255.0)]
    for quantizer in quantizers:
        low, high = np.asarray(quantizer.low), np.asarray(quantizer.high)
        assert np.all(low < high), quantizer.key
        assert not np.any((low == -6) & (high == 6)), quantizer.key
        if quantizer.place == "kernel" and low.ndim:
            axes = (0, 1, 3) if "depthwise" in quantizer.kernel.name else (0, 1, 2)
            largest = np.abs(quantizer.kernel.numpy()).max(axis=axes)
            np.testing.assert_allclose(high, largest, rtol=1e-6)
            np.testing.assert_allclose(low, -high)


def test_inputs_and_output_of_a_concatenation_share_one_range(models, aware, photos):
    ranges.calibrate(models.graph, aware, photos)
    found = {
        q.layer: (float(q.low), float(q.high))
        for q in qat.quantizers_of(aware)
        if q.place in ("after", "output")
    }
    joined = [node for node in models.graph.nodes if node.kind == "Concatenate"]
    for node in joined:
        assert len({found[name] for name in (node.name, *node.inputs)}) == 1, node.name
    assert len(joined) == 15 and len(set(found.values())) > 15


def test_quantizers_are_back_in_the_way_afterwards(models, aware, photos):
    ranges.calibrate(models.graph, aware, photos)
    with qat.quantizers_out_of_the_way():
        free = qat.forward(aware, photos)
    assert equality.largest_difference(free, qat.forward(aware, photos)) > 1e-4


def test_a_depthwise_kernel_has_a_range_for_each_channel():
    import tf_keras

    model = backbones.build(tf_keras, architecture("mobilenet_v2", size=32))
    graph = rewrites.rewritten(flatten(model).graph)
    aware = qat.quantized(graph)
    photos = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    qat.prove_same_function(build(tf_keras, graph), aware, photos, BOUND)
    ranges.calibrate(graph, aware, photos)
    for quantizer in qat.quantizers_of(aware):
        if quantizer.place == "kernel" and "depthwise" in quantizer.kernel.name:
            largest = np.abs(quantizer.kernel.numpy()).max(axis=(0, 1, 3))
            np.testing.assert_allclose(np.asarray(quantizer.high), np.maximum(largest, 1e-8))


def activations(aware):
    return [q for q in qat.quantizers_of(aware) if q.place != "kernel"]


def test_weights_go_out_and_come_back(models, photos):
    first, second = qat.quantized(models.graph), qat.quantized(models.graph)
    ranges.calibrate(models.graph, first, photos)
    qat.set_weights(second, qat.weights_of(first))
    np.testing.assert_array_equal(qat.forward(first, photos), qat.forward(second, photos))


def one_layer(kind, config):
    pixels = Node(name="pixels", kind="InputLayer", config={"shape": [8, 8, 3]})
    return Graph(nodes=(pixels, Node(name="odd", kind=kind, config=config, inputs=("pixels",))))


@pytest.mark.parametrize(
    ("kind", "config", "why"),
    [
        ("Activation", {"activation": "elu"}, "rounds inside elu"),
        ("ReLU", {"max_value": None, "negative_slope": 0.2, "threshold": 0.0}, "a slope"),
        ("ReLU", {"max_value": 2.0, "negative_slope": 0.0, "threshold": 0.0}, "ends at 2"),
        ("UpSampling2D", {"size": [2, 2], "interpolation": "bilinear"}, "bilinear interpolation"),
        ("Rescaling", {"scale": 0.5, "offset": 1.0}, "a Rescaling has no fake quantizer"),
    ],
)
def test_what_has_no_quantization_aware_form_is_named(kind, config, why):
    ((layer, found),) = qat.unsupported(one_layer(kind, config))
    assert layer == "odd" and why in found


def test_a_depthwise_convolution_with_a_multiplier_is_named():
    config = {
        "kernel_size": [1, 1], "strides": [1, 1], "padding": "valid", "depth_multiplier": 2,
        "dilation_rate": [1, 1], "use_bias": True, "activation": "linear",
    }  # fmt: skip
    ((layer, found),) = qat.unsupported(one_layer("DepthwiseConv2D", config))
    assert layer == "odd" and "2 kernels for each channel" in found


def test_what_has_a_grid_of_its_own_shares_its_range_with_no_other():
    """A sigmoid's is 0..1 in steps of 1/256, whatever is put beside it."""
    pixels = Node(name="pixels", kind="InputLayer", config={"shape": [8, 8, 3]})
    gate = Node(
        name="gate", kind="Activation", config={"activation": "sigmoid"}, inputs=("pixels",)
    )
    pool = Node(
        name="pool", kind="MaxPooling2D", inputs=("pixels",),
        config={"pool_size": [1, 1], "strides": [1, 1], "padding": "valid"},
    )  # fmt: skip
    both = Node(name="both", kind="Concatenate", inputs=("gate", "pool"))
    found = grid.shared_ranges(Graph(nodes=(pixels, gate, pool, both)))
    assert found["pool"] == found["both"] == found["pixels"] != found["gate"] == "gate"


def test_all_of_the_tool_s_own_networks_are_supported(models):
    assert qat.unsupported(models.graph) == []


def test_a_bias_that_is_one_number_is_right_in_every_channel():
    """The converter, left to itself, scales it by the first channel's scale alone."""
    rng = np.random.default_rng(0)
    kernel = rng.uniform(-1, 1, (1, 1, 3, 8)).astype(np.float32) * np.geomspace(0.001, 0.05, 8)
    config = {
        "filters": 8, "kernel_size": [1, 1], "strides": [1, 1], "padding": "valid",
        "dilation_rate": [1, 1], "groups": 1, "use_bias": True, "activation": "linear",
    }  # fmt: skip
    pixels = Node(name="pixels", kind="InputLayer", config={"shape": [8, 8, 3]})
    weights = (kernel.astype(np.float32), np.full(8, 3, np.float32))
    conv = Node(name="conv", kind="Conv2D", config=config, inputs=("pixels",), weights=weights)
    pool = Node(name="pool", kind="GlobalAveragePooling2D", config={"keepdims": False},
                inputs=("conv",))  # fmt: skip
    last = Node(name="last", kind="Activation", config={"activation": "softmax"}, inputs=("pool",))
    graph = Graph(nodes=(pixels, conv, pool, last))
    aware = qat.quantized(graph)
    photos = rng.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
    ranges.calibrate(graph, aware, photos)
    got = score_photos(convert.from_quantized_graph(aware, "uint8"), photos, title="check")
    np.testing.assert_allclose(as_quanta(got) / 256, qat.forward(aware, photos), atol=0.02)


def test_the_same_network_gives_the_same_bytes_within_one_process(models, photos):
    files = set()
    for _ in range(2):
        aware = qat.quantized(models.graph)
        ranges.calibrate(models.graph, aware, photos)
        files.add(convert.from_quantized_graph(aware, "uint8"))
    assert len(files) == 1
