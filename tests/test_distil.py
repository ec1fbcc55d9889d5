"""Distillation: nearer to the teacher, ranges kept, no crash where TensorFlow has one."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.importing.flatten import flatten
from mobileclf.models import backbones, qat, rewrites
from mobileclf.models.distil import distil
from mobileclf.models.graph import Graph, Node, build
from tests.models import architecture


def ranges(aware):
    """Of the activations."""
    found = [q for q in qat.quantizers_of(aware) if q.place != "kernel"]
    return {q.key: (float(q.low), float(q.high)) for q in found}


def test_distilling_brings_the_graph_nearer_to_its_teacher():
    import tf_keras

    model = backbones.build(tf_keras, architecture(size=32, labels=4))
    head = model.get_layer("probabilities")
    head.set_weights([w * 30 for w in head.get_weights()])
    graph = rewrites.fold(flatten(model).graph)
    aware = qat.quantized(graph)
    small = np.random.default_rng(3).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    teacher = qat.forward(build(tf_keras, graph), small)
    qat.calibrate(graph, aware, small)
    kernel = next(q.kernel for q in qat.quantizers_of(aware) if q.key == "hidden/kernel")
    kernel.assign(kernel * 1.2)  # so that there is something to learn
    before = ranges(aware)
    losses = distil(aware, small, teacher, epochs=6, rate=1e-5, batch=16, seed=0)
    assert losses[-1] < losses[0] / 2
    assert ranges(aware) == before


def strided(padding):
    """A 1x1 convolution with strides at the size at which its gradient ends the process."""
    rng = np.random.default_rng(0)

    def convolution(name, source, channels, filters, strides):
        kernel = rng.normal(0, 0.3, (1, 1, channels, filters)).astype(np.float32)
        config = {
            "filters": filters, "kernel_size": [1, 1], "strides": [strides, strides],
            "padding": padding, "dilation_rate": [1, 1], "groups": 1, "use_bias": True,
            "activation": "relu",
        }  # fmt: skip
        weights = (kernel, np.zeros(filters, np.float32))
        return Node(name=name, kind="Conv2D", config=config, inputs=(source,), weights=weights)

    dense = rng.normal(0, 0.1, (16, 3)).astype(np.float32)
    return Graph(
        nodes=(
            Node(name="pixels", kind="InputLayer", config={"shape": [60, 60, 3]}),
            convolution("first", "pixels", 3, 8, 1),
            convolution("second", "first", 8, 16, 2),
            Node(
                name="pooled", kind="GlobalAveragePooling2D", config={"keepdims": False},
                inputs=("second",),
            ),
            Node(
                name="last", kind="Dense",
                config={"units": 3, "use_bias": True, "activation": "softmax"},
                inputs=("pooled",), weights=(dense, np.zeros(3, np.float32)),
            ),
        )
    )  # fmt: skip


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_strided_pointwise_convolution_is_trained_without_its_gradient(padding):
    """TensorFlow's own gradient of it ends this process: segmentation fault."""
    import tf_keras

    graph = strided(padding)
    aware = qat.quantized(graph)
    photos = np.random.default_rng(1).integers(0, 256, (48, 60, 60, 3), dtype=np.uint8)
    teacher = qat.forward(build(tf_keras, graph), photos)
    qat.calibrate(graph, aware, photos)
    before = qat.forward(aware, photos)
    losses = distil(aware, photos, teacher, epochs=20, rate=1e-4, batch=16, seed=0)
    assert losses[-1] < losses[0]
    after = qat.forward(aware, photos)
    assert np.abs(after - before).max() > 0
    # Outside of training it is the plain layer again, with the same answers as a fresh one.
    fresh = qat.quantized(graph)
    qat.set_weights(fresh, qat.weights_of(aware))
    np.testing.assert_array_equal(qat.forward(fresh, photos), after)
