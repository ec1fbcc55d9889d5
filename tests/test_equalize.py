"""Equalized channels: the same function, channels nearer to one size, and what forbids it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobileclf.models.equality import largest_difference
from mobileclf.models.equalize import MOST, POWER, equalize
from mobileclf.models.graph import INPUT, Graph, Node, build

SIZE = 8


def conv(name, source, inputs, filters, *, kernel=1, seed=0, unequal=0.0):
    """A convolution; unequal: spread of the sizes of its channels, as powers of 10."""
    rng = np.random.default_rng([seed, *map(ord, name)])
    config = {
        "filters": filters, "kernel_size": [kernel, kernel], "strides": [1, 1],
        "padding": "same", "dilation_rate": [1, 1], "groups": 1, "use_bias": True,
        "activation": "linear",
    }  # fmt: skip
    sizes = 10 ** (unequal * rng.uniform(-1, 0, filters))
    weights = rng.normal(size=(kernel, kernel, inputs, filters)) / kernel / inputs**0.5
    bias = rng.uniform(0, 1, filters)
    return Node(
        name=name, kind="Conv2D", config=config, inputs=(source,),
        weights=((weights * sizes).astype(np.float32), (bias * sizes).astype(np.float32)),
    )  # fmt: skip


def depthwise(name, source, channels):
    rng = np.random.default_rng(3)
    config = {
        "kernel_size": [3, 3], "strides": [1, 1], "padding": "same", "depth_multiplier": 1,
        "dilation_rate": [1, 1], "use_bias": True, "activation": "linear",
    }  # fmt: skip
    weights = rng.normal(size=(3, 3, channels, 1)), rng.normal(size=channels)
    return Node(
        name=name, kind="DepthwiseConv2D", config=config, inputs=(source,),
        weights=tuple(w.astype(np.float32) for w in weights),
    )  # fmt: skip


def dense(name, source, inputs, units=3, activation="softmax"):
    rng = np.random.default_rng(4)
    config = {"units": units, "use_bias": True, "activation": activation}
    weights = rng.normal(size=(inputs, units)) / inputs**0.5, rng.normal(size=units)
    return Node(
        name=name, kind="Dense", config=config, inputs=(source,),
        weights=tuple(w.astype(np.float32) for w in weights),
    )  # fmt: skip


def relu(name, source, most=None):
    if most is None:
        return Node(name=name, kind="Activation", config={"activation": "relu"}, inputs=(source,))
    config = {"max_value": most, "negative_slope": 0.0, "threshold": 0.0}
    return Node(name=name, kind="ReLU", config=config, inputs=(source,))


def pool(name, source):
    config = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid"}
    return Node(name=name, kind="MaxPooling2D", config=config, inputs=(source,))


def graph_of(*nodes):
    pixels = Node(name="pixels", kind=INPUT, config={"shape": [SIZE, SIZE, 3]})
    return Graph(nodes=(pixels, *nodes))


def branches(most=None):
    """Two branches of unequal channels, one through a pool and a depthwise layer, joined."""
    return graph_of(
        conv("stem", "pixels", 3, 6, kernel=3, unequal=2),
        relu("stem_relu", "stem", most),
        conv("left", "stem_relu", 6, 5, unequal=2),
        relu("left_relu", "left", most),
        depthwise("right", "stem_relu", 6),
        relu("right_relu", "right", most),
        Node(name="joined", kind="Concatenate", inputs=("left_relu", "right_relu")),
        pool("pooled", "joined"),
        conv("last", "pooled", 11, 4),
        relu("last_relu", "last", most),
        Node(name="flat", kind="Flatten", inputs=("last_relu",)),
        dense("answers", "flat", 4 * (SIZE // 2) ** 2),
    )


def outputs(graph, names):
    """The largest |value| by channel of each named node, and the graph's answers, on noise."""
    import tf_keras

    model = build(tf_keras, graph)
    x = np.random.default_rng(5).uniform(0, 1, (16, SIZE, SIZE, 3)).astype(np.float32)
    several = tf_keras.Model(model.input, [model.get_layer(n).output for n in names])
    values = [np.asarray(v) for v in several(x)]
    peaks = {n: np.abs(v).reshape(-1, v.shape[-1]).max(axis=0) for n, v in
             zip(names, values, strict=True)}  # fmt: skip
    return peaks, model(x).numpy()


def relus(graph):
    found = [n.name for n in graph.nodes if "relu" in n.name]
    return [*found, "joined", "pooled"] if any(n.name == "joined" for n in graph.nodes) else found


def test_the_function_stays_and_channels_come_nearer():
    graph = branches()
    before, wanted = outputs(graph, relus(graph))
    equal = equalize(graph, before)
    after, got = outputs(equal.graph, relus(graph))
    assert largest_difference(wanted, got) < 1e-5
    assert equal.kept == {"the output": 1}
    for name in ("stem_relu", "left_relu"):
        assert after[name].min() / after[name].max() > 2 * before[name].min() / before[name].max()
        # The group's range is what it was; each channel has grown by its scale.
        np.testing.assert_allclose(after[name] * equal.scales[name], before[name], rtol=1e-4)
    assert after["joined"].max() == pytest.approx(before["joined"].max(), rel=1e-4)


def test_the_scale_is_the_root_of_the_channels_share_and_has_an_end():
    graph = branches()
    peaks, _ = outputs(graph, relus(graph))
    share = peaks["stem_relu"] / peaks["stem_relu"].max()
    scale = equalize(graph, peaks).scales["stem"]
    np.testing.assert_allclose(scale, np.maximum(share, 1 / MOST) ** POWER, rtol=1e-6)


def test_a_scale_that_is_not_taken_back_is_another_function(monkeypatch):
    from mobileclf.models import equalize as module

    right = module._divided
    monkeypatch.setattr(
        module, "_divided",
        lambda node, before, after: right(node, None if node.name == "last" else before, after),
    )  # fmt: skip
    graph = branches()
    peaks, wanted = outputs(graph, relus(graph))
    _, got = outputs(equalize(graph, peaks).graph, relus(graph))
    assert largest_difference(wanted, got) > 1e-3


def test_a_relu_that_ends_at_6_forbids_it_and_is_named():
    graph = branches(most=6.0)
    peaks, _ = outputs(graph, relus(graph))
    equal = equalize(graph, peaks)
    assert equal.kept == {"a ReLU that ends at 6": 4, "the output": 1}
    assert not equal.scales


def residual(kind):
    """Two convolutions added to (or multiplied with) each other, and the sum to a third."""
    stem, stem_relu = branches().nodes[1:3]
    return graph_of(
        stem, stem_relu,
        conv("one", "stem_relu", 6, 6, unequal=2), conv("two", "stem_relu", 6, 6, seed=1),
        Node(name="sum", kind=kind, inputs=("one", "two")),
        conv("three", "sum", 6, 6, unequal=1),
        Node(name="more", kind="Add", inputs=("sum", "three")), relu("more_relu", "more"),
        Node(name="mean", kind="GlobalAveragePooling2D", config={"keepdims": False},
             inputs=("more_relu",)),
        dense("answers", "mean", 6),
    )  # fmt: skip


ADDED = ["stem_relu", "one", "two", "sum", "three", "more_relu", "mean"]


def test_a_sum_is_divided_as_all_that_is_added_to_it():
    graph = residual("Add")
    before, wanted = outputs(graph, ADDED)
    equal = equalize(graph, before)
    after, got = outputs(equal.graph, ADDED)
    assert largest_difference(wanted, got) < 1e-5
    assert equal.kept == {"the output": 1}
    for name in ADDED[1:]:
        np.testing.assert_array_equal(equal.scales[name], equal.scales["one"])
    for name in ADDED[1:-1]:
        assert after[name].max() <= before[name].max() * (1 + 1e-5)  # no range has grown
    share = np.max([before[name] / before[name].max() for name in ADDED[1:-1]], axis=0)
    np.testing.assert_allclose(equal.scales["one"], np.maximum(share, 1 / MOST) ** POWER)


def test_a_product_forbids_it_and_is_named():
    graph = residual("Multiply")
    before, wanted = outputs(graph, ADDED)
    equal = equalize(graph, before)
    assert equal.kept == {"Multiply": 3, "the output": 1}
    assert set(equal.scales) == {"stem", "stem_relu"}
    assert largest_difference(wanted, outputs(equal.graph, ADDED)[1]) < 1e-5


def test_a_sum_with_a_concatenation_is_left_alone():
    """Of which the parts may each have scales of their own."""
    stem, stem_relu = branches().nodes[1:3]
    graph = graph_of(
        stem, stem_relu, conv("one", "stem_relu", 6, 2), conv("two", "stem_relu", 6, 4),
        Node(name="joined", kind="Concatenate", inputs=("one", "two")),
        conv("three", "stem_relu", 6, 6), Node(name="sum", kind="Add", inputs=("joined", "three")),
        Node(name="flat", kind="Flatten", inputs=("sum",)), dense("answers", "flat", 6 * SIZE**2),
    )  # fmt: skip
    names = ["stem_relu", "one", "two", "joined", "three", "sum"]
    before, wanted = outputs(graph, names)
    equal = equalize(graph, before)
    assert equal.kept == {"Concatenate": 3, "the output": 1}
    assert set(equal.scales) == {"stem", "stem_relu"}
    assert largest_difference(wanted, outputs(equal.graph, names)[1]) < 1e-5


def test_a_flattened_map_that_goes_elsewhere_is_left_alone():
    graph = branches()
    nodes = [node for node in graph.nodes if node.name != "answers"]
    more = dense("more", "flat", 64, units=3, activation="relu")
    joined = Node(name="both", kind="Concatenate", inputs=("flat", "more"))
    graph = Graph(nodes=(*nodes, more, joined, dense("answers", "both", 67)))
    peaks, wanted = outputs(graph, [*relus(graph), "more"])
    equal = equalize(graph, peaks)
    assert equal.kept == {"Flatten": 1, "the output": 1}
    _, got = outputs(equal.graph, relus(graph))
    assert largest_difference(wanted, got) < 1e-5


def test_a_channel_that_is_always_zero_keeps_its_number():
    graph = branches()
    nodes = list(graph.nodes)
    kernel, bias = (w.copy() for w in nodes[1].weights)
    kernel[..., 2], bias[2] = 0, 0
    nodes[1] = replace(nodes[1], weights=(kernel, bias))
    graph = Graph(nodes=tuple(nodes))
    peaks, wanted = outputs(graph, relus(graph))
    equal = equalize(graph, peaks)
    _, got = outputs(equal.graph, relus(graph))
    assert np.isfinite(got).all() and largest_difference(wanted, got) < 1e-5
