"""Ranges that follow from the network alone: edges of averages, and kernels beside large biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobileclf.models import grid, qat, ranges
from mobileclf.models.graph import EDGE, Graph, Node
from mobileclf.tflite import convert
from mobileclf.tflite.interpreter import as_quanta, score_photos
from tests.test_equalize import SIZE, branches


def mask_of(size, window):
    """window^2 / pixels that are in the picture, for each place of an average of stride 1."""
    half = window // 2
    real = [min(i + half, size - 1) - max(i - half, 0) + 1 for i in range(size)]
    mask = window * window / np.outer(real, real)
    return Node(name="edge", kind=EDGE, weights=(mask[:, :, None].astype(np.float32),))


def test_the_edges_of_a_3_by_3_average_are_exact():
    low, high = grid.edge_range(mask_of(8, 3))
    np.testing.assert_allclose(
        np.array([1, 1.5, 2.25]) / (high - low) * grid.STEPS, [112, 168, 252], rtol=1e-6
    )
    assert low == 0


@pytest.mark.parametrize("window", [3, 5, 7])
def test_others_lie_as_near_to_a_step_as_any_range_has_them(window):
    node = mask_of(16, window)
    values = np.unique(node.weights[0]).astype(np.float64)

    def error(high):
        step = high / grid.STEPS
        return np.abs(np.round(values / step) * step - values).max()

    _, high = grid.edge_range(node)
    assert error(high) <= error(values.max())
    assert values.max() <= high * (1 + 1e-6) and error(high) <= high / grid.STEPS / 2


def silent_channel(graph):
    """The graph with a channel that is next to nothing and has a large negative bias."""
    nodes = list(graph.nodes)
    i = next(i for i, node in enumerate(nodes) if node.name == "left")
    kernel, bias = (w.copy() for w in nodes[i].weights)
    kernel[..., 1], bias[1] = 1e-12, -40
    nodes[i] = replace(nodes[i], weights=(kernel, bias))
    return Graph(nodes=tuple(nodes))


def converted(graph, photos):
    """The file's answers, those of its graph, and the biases in the file."""
    from ai_edge_litert.interpreter import Interpreter

    aware = qat.quantized(graph)
    ranges.calibrate(graph, aware, photos)
    model = convert.from_quantized_graph(aware, "uint8")
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    biases = [
        interpreter.get_tensor(t["index"])
        for t in interpreter.get_tensor_details()
        if t["dtype"] == np.int32 and tuple(t["shape"]) == (5,)
    ]
    got = as_quanta(score_photos(model, photos[:32], title="score")) / 256
    return got, qat.forward(aware, photos[:32]), biases


def test_a_large_bias_beside_a_kernel_of_nothing_is_whole_in_the_file(monkeypatch):
    photos = np.random.default_rng(0).integers(0, 2, (128, SIZE, SIZE, 3), dtype=np.uint8)
    graph = silent_channel(branches())
    got, wanted, (bias,) = converted(graph, photos)
    assert -1.001 * 2**30 < bias[1] < -(2**29)
    assert np.abs(got - wanted).max() < 0.02
    monkeypatch.setattr(
        ranges, "least_kernel_ranges",
        lambda graph, of: {n.name: np.zeros(1) for n in graph.nodes},
    )  # fmt: skip
    _, _, (cut,) = converted(graph, photos)
    assert cut[1] == -(2**31)
