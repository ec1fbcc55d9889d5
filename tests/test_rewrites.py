"""Each rewrite keeps the function, and is used only where it does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tf_keras

from mobileclf.models import qat, rewrites
from mobileclf.models.graph import KINDS, Graph, Node, build

SIZE, BOUND = 8, 1e-5
DEFAULTS = {
    "strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1], "groups": 1, "use_bias": False,
    "activation": "linear", "depth_multiplier": 1, "epsilon": 1e-3, "center": True, "scale": True,
    "max_value": None, "negative_slope": 0.0, "threshold": 0.0, "keepdims": False,
    "kernel_size": [3, 3], "pool_size": [2, 2],
}  # fmt: skip


class Drawn:
    """A graph of random numbers, one node after the other."""

    def __init__(self, channels=3):
        self.rng = np.random.default_rng(0)
        self.nodes = [
            Node(name="pixels", kind="InputLayer", config={"shape": [SIZE, SIZE, channels]})
        ]

    def add(self, kind, *weights, inputs=None, name=None, **config):
        """weights: shapes of them, or the numbers."""
        given = {key: config.get(key, DEFAULTS.get(key)) for key in KINDS[kind]}
        drawn = tuple(
            self.rng.uniform(0.2, 1, w).astype(np.float32) * self.rng.choice([-1, 1], w)
            if isinstance(w, tuple) else w
            for w in weights
        )  # fmt: skip
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        sources = tuple(inputs or (self.nodes[-1].name,))
        drawn = tuple(np.asarray(w, np.float32) for w in drawn)
        self.nodes.append(
            Node(name=name, kind=kind, config=given, inputs=sources, weights=drawn)
        )  # fmt: skip
        return name

    def conv(self, filters, inputs=3, size=3, groups=1, **config):
        return self.add(
            "Conv2D", (size, size, inputs // groups, filters), filters=filters,
            kernel_size=[size, size], groups=groups, **config,
        )  # fmt: skip

    def norm(self, channels, **config):
        scales = [(channels,)] * (config.get("scale", True) + config.get("center", True))
        return self.add(
            "BatchNormalization", *scales, (channels,), self.rng.uniform(0.5, 2, channels), **config
        )

    def graph(self):
        return Graph(nodes=tuple(self.nodes))


def folded(drawn):
    """The kinds after folding, the input left out; the function is proven to be the same."""
    graph = drawn.graph()
    after = rewrites.fold(graph)
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (4, *graph.shape)).astype(np.float32)
    wanted, got = (build(tf_keras, each)(x).numpy() for each in (graph, after))
    np.testing.assert_allclose(got, wanted, atol=BOUND * np.abs(wanted).max())
    assert np.abs(wanted).max() > 0 and {w.dtype for n in after.nodes for w in n.weights} <= {
        np.dtype(np.float32)
    }
    return [node.kind for node in after.nodes[1:]]


@pytest.mark.parametrize("config", [{}, {"scale": False}, {"center": False}])
def test_a_batch_norm_goes_into_the_convolution_before_it(config):
    drawn = Drawn()
    drawn.conv(5)
    drawn.norm(5, **config)
    drawn.conv(4, 5, groups=1, use_bias=False)
    assert folded(drawn) == ["Conv2D", "Conv2D"]


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_batch_norm_goes_into_a_depthwise_convolution(multiplier):
    drawn = Drawn()
    drawn.add("DepthwiseConv2D", (3, 3, 3, multiplier), depth_multiplier=multiplier)
    drawn.norm(3 * multiplier)
    assert folded(drawn) == ["DepthwiseConv2D"]


def test_a_batch_norm_goes_into_a_dense_layer_before_or_after_it():
    drawn = Drawn()
    drawn.add("Flatten")
    drawn.add("Dense", (SIZE * SIZE * 3, 5), units=5)
    drawn.norm(5)
    drawn.add("ReLU")
    drawn.norm(5)
    drawn.add("Dense", (5, 2), (2,), units=2, use_bias=True)
    assert folded(drawn) == ["Flatten", "Dense", "ReLU", "Dense"]


def test_not_into_one_that_others_read_or_that_has_an_activation():
    drawn = Drawn()
    drawn.conv(3, name="twice")
    norm = drawn.norm(3)
    drawn.add("Add", inputs=("twice", norm))
    drawn.conv(3, activation="relu", padding="same")
    drawn.norm(3)
    drawn.conv(3, padding="same")
    assert folded(drawn) == ["Conv2D", "DepthwiseConv2D", "Add", "Conv2D", "DepthwiseConv2D",
                             "Conv2D"]  # fmt: skip


def test_one_before_a_depthwise_or_grouped_convolution_goes_into_it():
    drawn = Drawn(channels=4)
    drawn.norm(4)
    drawn.add("DepthwiseConv2D", (3, 3, 4, 1))
    drawn.add("ReLU")
    drawn.norm(4)
    drawn.add("DepthwiseConv2D", (3, 3, 4, 2), depth_multiplier=2)
    drawn.add("MaxPooling2D", strides=[2, 2])
    assert folded(drawn) == ["DepthwiseConv2D", "ReLU", "DepthwiseConv2D", "MaxPooling2D"]


def test_a_scale_by_channel_before_groups_goes_to_the_group_that_reads_it():
    drawn = Drawn(channels=4)
    drawn.norm(4)
    drawn.conv(6, 4, groups=2)
    assert folded(drawn) == ["Conv2D"]


def test_a_batch_norm_that_two_read_goes_into_the_convolution_and_both_read_that():
    drawn = Drawn()
    drawn.conv(3)
    first = drawn.norm(3)
    second = drawn.norm(3, inputs=(first,))
    drawn.add("Add", inputs=(first, second))
    assert folded(drawn) == ["Conv2D", "DepthwiseConv2D", "Add"]


@pytest.mark.parametrize("odd", [{"negative_slope": 0.2}, {"threshold": 0.5}])
def test_an_end_with_a_slope_or_threshold_stays(odd):
    drawn = Drawn()
    drawn.conv(4)
    drawn.add("ReLU", max_value=1.0, **odd)
    assert folded(drawn) == ["Conv2D", "ReLU"]


def test_scales_by_channel_and_scales_in_a_row():
    drawn = Drawn()
    drawn.add("Rescaling", scale=1 / 255, offset=0.0)
    drawn.add("Rescaling", scale=[4.0, 5.0, 6.0], offset=[-1.0, -2.0, -3.0])
    drawn.conv(4)
    assert folded(drawn) == ["Conv2D"]


@pytest.mark.parametrize(
    "offset, kinds", [(0.0, ["Conv2D"]), (-1.0, ["DepthwiseConv2D", "Conv2D"])]
)
def test_padding_lets_only_a_scale_without_offset_through(offset, kinds):
    drawn = Drawn()
    drawn.add("Rescaling", scale=[1 / 127.5, 0.1, 0.2], offset=offset)
    drawn.conv(4, padding="same")
    assert folded(drawn) == kinds


REVERSED = np.eye(3)[::-1][None, None]


@pytest.mark.parametrize(
    "offset, padding, kinds",
    [
        ([-103.0, -116.0, -123.0], "valid", ["Conv2D"]),
        (0.0, "same", ["Conv2D"]),
        ([-103.0, -116.0, -123.0], "same", ["Conv2D", "Conv2D"]),
    ],
)
def test_channels_in_another_order_go_into_the_first_convolution(offset, padding, kinds):
    drawn = Drawn()
    drawn.add("Conv2D", REVERSED, filters=3, kernel_size=[1, 1])
    drawn.add("Rescaling", scale=1.0, offset=offset)
    drawn.conv(4, padding=padding)
    assert folded(drawn) == kinds


def test_a_convolution_that_mixes_channels_stays():
    drawn = Drawn()
    drawn.conv(3, size=1)
    drawn.conv(4)
    assert folded(drawn) == ["Conv2D", "Conv2D"]


def test_a_vector_is_scaled_as_a_picture_of_one_pixel():
    drawn = Drawn()
    drawn.add("GlobalAveragePooling2D")
    drawn.norm(3)
    drawn.add("Activation", activation="sigmoid")
    assert folded(drawn) == ["GlobalAveragePooling2D", "Reshape", "DepthwiseConv2D", "Reshape",
                             "Activation"]  # fmt: skip


def test_merges_of_several_and_means_become_merges_of_two():
    drawn = Drawn()
    names = [drawn.conv(3, size=1, name=f"branch_{i}") for i in range(1)]
    drawn.nodes += [
        replace(drawn.nodes[-1], name=f"branch_{i}", weights=(drawn.nodes[-1].weights[0] * i,))
        for i in (2, 3)
    ]
    names += ["branch_2", "branch_3"]
    for kind in ("Average", "Maximum", "Multiply"):
        drawn.add(kind, inputs=names)
        names = [drawn.nodes[-1].name, "branch_2", "branch_3"]
    assert folded(drawn) == ["Conv2D"] * 3 + ["Add"] * 2 + ["DepthwiseConv2D"] + [
        "Maximum"] * 2 + ["Multiply"] * 2  # fmt: skip


def test_activations_that_no_kernel_has_stand_alone():
    drawn = Drawn()
    drawn.conv(4, activation="relu6")
    drawn.conv(4, 4, activation="swish")
    drawn.conv(4, 4, activation="relu")
    assert folded(drawn) == ["Conv2D", "ReLU", "Conv2D", "Activation", "Conv2D"]


def test_a_hard_sigmoid_ends_at_six():
    """relu(x/6 + 1/2, at most 1) times x, as MobileNetV3 has it."""
    drawn = Drawn()
    x = drawn.conv(4, size=1)
    drawn.add("Rescaling", scale=1 / 6, offset=0.5)
    gate = drawn.add("ReLU", max_value=1.0)
    drawn.add("Multiply", inputs=(x, gate))
    assert folded(drawn) == ["Conv2D", "DepthwiseConv2D", "ReLU", "DepthwiseConv2D", "Multiply"]


def test_what_does_nothing_goes_away_also_at_the_end():
    drawn = Drawn()
    drawn.add("Activation", activation="linear")
    drawn.add("ZeroPadding2D", padding=[[0, 0], [0, 0]])
    drawn.conv(4)
    drawn.add("Rescaling", scale=1.0, offset=0.0)
    assert folded(drawn) == ["Conv2D"]


def test_a_dense_layer_on_maps_is_a_convolution():
    drawn = Drawn()
    drawn.add("Dense", (3, 5), (5,), units=5, use_bias=True, activation="relu")
    assert folded(drawn) == ["Conv2D"]


def test_names_that_are_taken_are_not_given_twice():
    drawn = Drawn()
    drawn.conv(3, activation="swish", name="a")
    drawn.conv(3, name="a_swish")
    assert folded(drawn) == ["Conv2D", "Activation", "Conv2D"]


def test_a_wrong_formula_is_caught(monkeypatch):
    """Padding forgotten: what `_from_before` guards against."""
    right = rewrites._from_before

    def anyhow(first, second):
        if second.kind != "Conv2D":
            return None
        made = right(first, replace(second, config={**second.config, "padding": "valid"}))
        return made and replace(made, config={**made.config, "padding": "same"})

    monkeypatch.setattr(rewrites, "_from_before", anyhow)
    drawn = Drawn()
    drawn.add("Rescaling", scale=1 / 127.5, offset=-1.0)
    drawn.conv(4, padding="same")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        folded(drawn)


def test_all_that_fold_makes_is_supported():
    drawn = Drawn()
    drawn.add("Rescaling", scale=1 / 127.5, offset=-1.0)
    drawn.conv(4, padding="same", activation="sigmoid")
    drawn.norm(4)
    assert qat.unsupported(rewrites.fold(drawn.graph())) == []
