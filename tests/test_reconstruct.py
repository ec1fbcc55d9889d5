"""Reconstruction: nearer to float than ranges alone, the numbers exactly those of the file."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.models import equality, gptq, qat, ranges, reconstruct
from mobileclf.models.graph import build
from mobileclf.tflite import convert
from mobileclf.tflite.interpreter import as_quanta, score_photos
from tests.test_equalize import SIZE, branches, relu


def network(most=None):
    """Unequal channels, a sharp head, and bytes as its input."""
    from dataclasses import replace

    from mobileclf.models.graph import Graph

    nodes = list(branches(most).nodes)
    for i, node in enumerate(nodes):
        kernel_bias = node.weights
        if node.name == "stem":
            nodes[i] = replace(node, weights=(kernel_bias[0] / 255, kernel_bias[1]))
        if node.name == "answers":
            nodes[i] = replace(node, weights=tuple(w * 4 for w in kernel_bias))
    return Graph(nodes=tuple(nodes))


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def made():
    return reconstruct.reconstruct(network(), pictures(128))


def mean_error(graph, aware, photos):
    import tf_keras

    return float(np.abs(qat.forward(build(tf_keras, graph), photos) - qat.forward(aware, photos))
                 .mean())  # fmt: skip


def test_it_answers_more_like_float_than_ranges_alone(made):
    graph, unseen = network(), pictures(256, seed=1)
    aware = qat.quantized(graph)
    ranges.calibrate(graph, aware, pictures(128))
    assert mean_error(graph, made.aware, unseen) < 0.85 * mean_error(graph, aware, unseen)


def test_its_float_twin_is_the_same_function(made):
    import tf_keras

    one, other = (qat.forward(build(tf_keras, g), pictures(16)) for g in (network(), made.graph))
    assert equality.largest_difference(one, other) < equality.EQUAL
    assert made.report["equalized"] == 4 and made.report["not_equalized"] == {"the output": 1}
    with qat.quantizers_out_of_the_way():
        rounded = qat.forward(made.aware, pictures(16))
    assert equality.largest_difference(one, rounded) > 3e-4  # its kernels are rounded for good


def test_the_file_has_the_very_kernels(made):
    """TFLite's converter finds the kernels on the grid where they were put."""
    from ai_edge_litert.interpreter import Interpreter

    model = convert.from_quantized_graph(made.aware, "uint8")
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    found = {}
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] == np.int8 and tuple(tensor["shape"]) == (5, 1, 1, 6):
            scale = tensor["quantization_parameters"]["scales"]
            found = interpreter.get_tensor(tensor["index"]) * scale[:, None, None, None]
    (quantizer,) = [q for q in qat.quantizers_of(made.aware) if q.key == "left/kernel"]
    wanted = quantizer.kernel.numpy().transpose(3, 0, 1, 2)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)
    steps = wanted / (quantizer.high.numpy() / gptq.LARGEST_WEIGHT)[:, None, None, None]
    np.testing.assert_allclose(steps, steps.round(), atol=1e-3)


def test_the_file_answers_like_the_graph(made):
    photos = pictures(64, seed=2)
    model = convert.from_quantized_graph(made.aware, "uint8")
    got = as_quanta(score_photos(model, photos, title="score")) / 256
    assert np.abs(got - qat.forward(made.aware, photos)).mean() < 0.01


def test_activations_that_lie_in_files_give_the_same(made, monkeypatch):
    monkeypatch.setattr(reconstruct, "IN_MEMORY", 0)
    again = reconstruct.reconstruct(network(), pictures(128))
    for one, other in zip(made.aware.get_weights(), again.aware.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def bias_error(wanted, found, photo, clip=None, activation="linear"):
    arrays = (np.asarray(x, np.float32) for x in (wanted, found))
    return reconstruct._bias_error(*arrays, np.asarray(photo), clip, activation)


def test_a_bias_is_mended_over_active_positions_alone():
    # Channel 0: active in both at two of four positions, off by 1 there, off by -100 where
    # neither is active. Channel 1: never active.
    wanted = [[3, -5], [-200, -5], [2, -5], [-200, -5]]
    found = [[2, -5], [-100, -5], [1, -6], [-100, -5]]
    photo = [0, 0, 1, 1]
    np.testing.assert_allclose(bias_error(wanted, found, photo, relu("relu", "one")), [1, 0])
    np.testing.assert_allclose(bias_error(wanted, found, photo, activation="relu"), [1, 0])
    # One that is active in one of the two alone counts by what comes through.
    crossed = bias_error([[1], [1]], [[-9], [-9]], [0, 1], relu("r", "one"))
    np.testing.assert_allclose(crossed, [1])
    # Above 6 nothing comes through.
    six = bias_error([[9, 5], [9, 5]], [[7, 7], [7, 7]], [0, 1], relu("r", "one", 6.0))
    np.testing.assert_allclose(six, [0, -1])


def test_a_bias_error_is_believed_by_what_photos_agree_on():
    """Without a ReLU every position counts, and positions of one photo are one witness."""
    rng = np.random.default_rng(0)
    photo = np.repeat(np.arange(50), 20)
    noise = np.repeat(rng.normal(size=(50, 1)), 20, axis=0)  # the same all over a photo
    wanted, found = np.ones((1000, 1)), np.zeros((1000, 1))
    sure = bias_error(wanted, found + 0.1 * noise, photo)
    np.testing.assert_allclose(sure, 1, atol=0.05)
    (unsure,) = bias_error(found + noise, found, photo)
    assert abs(unsure) < abs(noise.mean())
    mean = noise.mean()
    variance = ((noise[::20] - mean) ** 2).sum() / 50 / 49
    np.testing.assert_allclose(unsure, mean * max(0, 1 - variance / mean**2), atol=1e-6)
    # One photo alone is none.
    assert bias_error(wanted[:20], found[:20], photo[:20]) == 0
