"""The quantization graph: proven the same function, and each proof shown to fail."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.errors import ProofError
from mobileclf.models import backbones, qat, rewrites, transfer
from tests.models import architecture

SIZE = 75  # the smallest that InceptionV3 takes
BOUND = 1e-4


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def models():
    import keras
    import tf_keras

    inception = architecture("inception_v3", size=SIZE, labels=5)
    trained = backbones.build(keras, inception)
    # Batch norm as after training: statistics and scales that are not 0 and 1.
    rng = np.random.default_rng(1)
    for layer in trained.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    # A sharp head, so that differences in the network reach the outputs.
    head = trained.get_layer("probabilities")
    head.set_weights([w * 20 for w in head.get_weights()])
    rebuilt = backbones.build(tf_keras, inception)
    transfer.copy_weights(trained, rebuilt)
    return trained, rebuilt, rewrites.fold(rebuilt)


@pytest.fixture
def graph(models):
    return qat.quantized(models[2])


def answers(model, photos):
    return np.asarray(model(photos.astype(np.float32), training=False))


def test_both_keras_are_the_same_network(models, photos):
    trained, rebuilt, _ = models
    difference = transfer.largest_difference(answers(trained, photos), answers(rebuilt, photos))
    transfer.require_equal("quantize", "both Keras", difference, transfer.EQUAL)


def test_folding_keeps_the_function_and_takes_layers_out(models, photos):
    _, rebuilt, folded = models
    kinds = {type(layer).__name__ for layer in folded.layers}
    assert not kinds & {"BatchNormalization", "Rescaling"}
    difference = transfer.largest_difference(answers(rebuilt, photos), answers(folded, photos))
    assert difference < BOUND


def test_a_skipped_fold_is_caught(models, photos, monkeypatch):
    monkeypatch.setattr(rewrites, "_with_scale", lambda weights, scale: weights)
    broken = rewrites.fold(models[1])
    difference = transfer.largest_difference(answers(models[1], photos), answers(broken, photos))
    with pytest.raises(ProofError, match="wanted the same function within 0.0001"):
        transfer.require_equal("quantize", "before against after folding", difference, BOUND)


def test_the_graph_without_fake_quantizers_is_the_float_model(models, graph, photos):
    assert qat.prove_same_function(models[2], graph, photos, BOUND) <= BOUND


@pytest.fixture(scope="module")
def unfolded():
    """InceptionV3 as its users have it, batch norm and all: there tfmot moves branches."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    base = tf_keras.applications.InceptionV3(
        include_top=False, weights=None, input_shape=(SIZE, SIZE, 3)
    )
    x = tf_keras.layers.GlobalAveragePooling2D()(base.output)
    return tf_keras.Model(base.input, tf_keras.layers.Dense(5)(x))


def test_concatenations_are_put_back_in_order(unfolded, photos):
    assert qat.prove_same_function(unfolded, qat.quantized(unfolded), photos, BOUND) <= BOUND


def test_concatenations_as_tfmot_leaves_them_are_caught(unfolded, photos, monkeypatch):
    monkeypatch.setattr(qat, "_restore_concatenations", lambda graph, model: graph)
    broken = qat.quantized(unfolded)
    with pytest.raises(ProofError, match="first layer that differs is mixed3"):
        qat.prove_same_function(unfolded, broken, photos, BOUND)


def test_a_perturbed_kernel_is_caught_and_named(models, graph, photos):
    kernel = graph.get_layer("quant_conv2d_30").layer.kernel
    kernel.assign(kernel * 1.05)
    with pytest.raises(ProofError, match="first layer that differs is conv2d_30"):
        qat.prove_same_function(models[2], graph, photos, BOUND)


def test_calibration_sets_every_range(models, graph, photos):
    qat.calibrate(models[2], graph, photos)
    quantizers = qat.quantizers_of(graph)
    inputs = [q for q in quantizers if q.layer == "pixels"]
    assert [(float(q.low), float(q.high)) for q in inputs] == [(0.0, 255.0)]
    for quantizer in quantizers:
        low, high = np.asarray(quantizer.low), np.asarray(quantizer.high)
        assert np.all(low < high), quantizer.key
        assert not np.any((low == -6) & (high == 6)), quantizer.key
        if quantizer.place == "kernel" and low.ndim:
            largest = np.abs(quantizer.kernel.numpy()).max(axis=(0, 1, 2))
            np.testing.assert_allclose(high, largest, rtol=1e-6)
            np.testing.assert_allclose(low, -high)


def test_inputs_and_output_of_a_concatenation_share_one_range(models, graph, photos):
    qat.calibrate(models[2], graph, photos)
    ranges = {
        q.layer: (float(q.low), float(q.high))
        for q in qat.quantizers_of(graph)
        if q.place in ("after", "output")
    }
    shared = 0
    for layer in models[2].layers:
        if type(layer).__name__ == "Concatenate":
            names = [layer.name, *rewrites.inbound(layer)]
            own = {ranges[name] for name in names if name in ranges}
            # One within another has no quantizer of its own.
            assert len(own) <= 1, layer.name
            shared += len(own)
    assert shared == 11


def test_quantizers_are_back_in_the_way_afterwards(models, graph, photos):
    qat.calibrate(models[2], graph, photos)
    with qat.quantizers_out_of_the_way():
        free = qat.forward(graph, photos)
    assert transfer.largest_difference(free, qat.forward(graph, photos)) > 1e-4


def test_a_depthwise_kernel_has_a_range_for_each_channel():
    import tf_keras

    model = backbones.build(tf_keras, architecture("mobilenet_v2", size=32))
    folded = rewrites.fold(model)
    graph = qat.quantized(folded)
    photos = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    qat.prove_same_function(folded, graph, photos, BOUND)
    qat.calibrate(folded, graph, photos)
    for quantizer in qat.quantizers_of(graph):
        if quantizer.place == "kernel" and "depthwise" in quantizer.kernel.name:
            largest = np.abs(quantizer.kernel.numpy()).max(axis=(0, 1, 3))
            np.testing.assert_allclose(np.asarray(quantizer.high), np.maximum(largest, 1e-8))


def test_distilling_brings_the_graph_nearer_to_its_teacher(photos):
    import tf_keras

    folded = rewrites.fold(backbones.build(tf_keras, architecture(size=32, labels=4)))
    head = folded.get_layer("probabilities")
    head.set_weights([w * 30 for w in head.get_weights()])
    graph = qat.quantized(folded)
    small = np.random.default_rng(3).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    teacher = qat.forward(folded, small)
    qat.calibrate(folded, graph, small)
    before = {q.key: (float(q.low), float(q.high)) for q in activations(graph)}
    losses = qat.distil(graph, small, teacher, epochs=6, rate=1e-4, batch=16, seed=0)
    assert losses[-1] < losses[0]
    assert {q.key: (float(q.low), float(q.high)) for q in activations(graph)} == before


def activations(graph):
    return [q for q in qat.quantizers_of(graph) if q.place != "kernel"]


def test_weights_go_out_and_come_back(models, photos):
    first, second = qat.quantized(models[2]), qat.quantized(models[2])
    qat.calibrate(models[2], first, photos)
    qat.set_weights(second, qat.weights_of(first))
    np.testing.assert_array_equal(qat.forward(first, photos), qat.forward(second, photos))
