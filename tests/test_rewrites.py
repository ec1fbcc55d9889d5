"""Each rewrite keeps the function, and is used only where it does."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tf_keras

from mobileclf.errors import ProofError, UsageError
from mobileclf.importing import sketch
from mobileclf.models import maps, proofs, qat, rewrites, walk
from mobileclf.models.deploy import Deployable
from mobileclf.models.graph import EDGE, KINDS, Graph, Node, build

SIZE, BOUND = 8, 1e-5
DEFAULTS = {
    "strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1], "groups": 1, "use_bias": False,
    "activation": "linear", "depth_multiplier": 1, "epsilon": 1e-3, "center": True, "scale": True,
    "max_value": None, "negative_slope": 0.0, "threshold": 0.0, "keepdims": False,
    "kernel_size": [3, 3], "pool_size": [2, 2],
}  # fmt: skip


class Drawn:
    """A graph of random numbers, one node after the other."""

    def __init__(self, channels=3, size=(SIZE, SIZE)):
        self.rng = np.random.default_rng(0)
        shape = {"shape": [*size, channels]}
        self.nodes = [Node(name="pixels", kind="InputLayer", config=shape)]

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


def folded(drawn, without=()):
    """The kinds after the rewrites, the input left out; the function is proven to be the same."""
    return [node.kind for node in rewritten(drawn, without).nodes[1:]]


def rewritten(drawn, without=()):
    """The graph after the rewrites, proven to be the same function."""
    graph = drawn.graph()
    after = rewrites.rewritten(graph, without)
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (4, *graph.shape)).astype(np.float32)
    wanted, got = (build(tf_keras, each)(x).numpy() for each in (graph, after))
    np.testing.assert_allclose(got, wanted, atol=BOUND * np.abs(wanted).max())
    assert np.abs(wanted).max() > 0 and {w.dtype for n in after.nodes for w in n.weights} <= {
        np.dtype(np.float32)
    }
    return after


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


@pytest.mark.parametrize("inputs, parts", [(5, 0), (6, 1), (7, 2), (10, 2), (26, 6)])
def test_a_concatenation_of_many_is_one_of_five_at_a_time(inputs, parts):
    drawn = Drawn()
    names = [drawn.conv(2, size=1, inputs=3, name="x0")]
    for i in range(1, inputs):
        node = drawn.nodes[-1]
        drawn.nodes.append(replace(node, name=f"x{i}", weights=(node.weights[0] * -0.9,)))
        names.append(f"x{i}")
    drawn.add("Concatenate", inputs=names)
    after = rewritten(drawn)
    joined = [node for node in after.nodes if node.kind == "Concatenate"]
    assert len(joined) == parts + 1 and all(len(node.inputs) <= 5 for node in joined)


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
    """Padding forgotten: what `from_before` guards against."""
    right = maps.from_before

    def anyhow(first, second, shapes):
        if second.kind != "Conv2D":
            return None
        made = right(first, replace(second, config={**second.config, "padding": "valid"}), shapes)
        return made and [replace(made[0], config={**made[0].config, "padding": "same"})]

    monkeypatch.setattr(maps, "from_before", anyhow)
    drawn = Drawn()
    drawn.add("Rescaling", scale=1 / 127.5, offset=-1.0)
    drawn.conv(4, padding="same")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        folded(drawn)


def test_all_that_is_made_is_supported():
    drawn = Drawn()
    drawn.add("Rescaling", scale=1 / 127.5, offset=-1.0)
    drawn.conv(4, padding="same", activation="sigmoid")
    drawn.norm(4)
    assert qat.unsupported(rewrites.rewritten(drawn.graph())) == []


POOLS = [
    (size, pool, stride, padding)
    for size in ((8, 8), (7, 5), (6, 9))
    for pool, stride in (((2, 2), 1), ((3, 3), 1), ((5, 5), 1), ((2, 2), 2), ((3, 3), 2),
                         ((3, 2), 1), ((2, 5), 1))
    for padding in ("same", "valid")
]  # fmt: skip


@pytest.mark.parametrize("size, pool, stride, padding", POOLS)
def test_an_average_pool_is_a_depthwise_convolution_and_a_correction(size, pool, stride, padding):
    drawn = Drawn(size=size)
    strides = [stride, stride]
    drawn.add("AveragePooling2D", pool_size=list(pool), strides=strides, padding=padding)
    after = rewrites.rewritten(drawn.graph())
    x = np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype(np.float32)
    wanted, corrected = slow_average(x, pool, stride, padding)
    assert [node.kind for node in after.nodes[1:]] == ["DepthwiseConv2D"] + [EDGE] * corrected
    np.testing.assert_allclose(build(tf_keras, after)(x).numpy(), wanted, rtol=1e-5)
    assert walk.shapes_of(after)[after.nodes[-1].name] == wanted.shape[1:]


def slow_average(x, pool, stride, padding):
    """The mean of each window's real pixels, and whether any window has fewer than the others.

    As TensorFlow's manual has it: `same` gives ceil(n / stride) windows, and where these want an
    odd number of pixels more than there are, the one more is at the end.
    """
    starts = []
    for n, k in zip(x.shape[1:3], pool, strict=True):
        count = -(-n // stride) if padding == "same" else (n - k) // stride + 1
        missing = max((count - 1) * stride + k - n, 0) if padding == "same" else 0
        starts.append([i * stride - missing // 2 for i in range(count)])
    means = np.zeros((len(x), len(starts[0]), len(starts[1]), x.shape[3]))
    sizes = set()
    for i, top in enumerate(starts[0]):
        for j, left in enumerate(starts[1]):
            window = x[:, max(top, 0) : top + pool[0], max(left, 0) : left + pool[1]]
            means[:, i, j] = window.astype(np.float64).mean(axis=(1, 2))
            sizes.add(window.shape[1] * window.shape[2])
    return means, sizes != {pool[0] * pool[1]}


def test_a_pool_with_two_strides_stays():
    drawn = Drawn()
    drawn.add("AveragePooling2D", strides=[1, 2])
    drawn.add("MaxPooling2D", pool_size=[1, 1], strides=[1, 2])
    assert folded(drawn) == ["AveragePooling2D", "MaxPooling2D"]


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_a_convolution_to_fewer_channels_goes_before_the_average(activation):
    drawn = Drawn(channels=8, size=(7, 5))
    drawn.add("AveragePooling2D", pool_size=[3, 3], padding="same")
    drawn.conv(4, 8, size=1, activation=activation)
    drawn.norm(4)
    drawn.nodes[-2] = replace(
        drawn.nodes[-2],
        config={**drawn.nodes[-2].config, "use_bias": True},
        weights=(drawn.nodes[-2].weights[0], np.ones(4, np.float32)),
    )
    last = ["Activation", "DepthwiseConv2D"] if activation == "relu" else []
    assert folded(drawn) == ["Conv2D", "DepthwiseConv2D", EDGE, *last]
    stays = ["DepthwiseConv2D", EDGE, "Conv2D"] + last[1:]
    assert folded(drawn, ["pointwise-first"]) == stays


@pytest.mark.parametrize(
    "channels, conv, kinds",
    [
        (3, {"filters": 4, "size": 1}, ["DepthwiseConv2D", EDGE, "Conv2D"]),
        (3, {"filters": 2, "size": 3}, ["DepthwiseConv2D", EDGE, "Conv2D"]),
        (3, {"filters": 2, "size": 1, "strides": [2, 2]}, ["DepthwiseConv2D", EDGE, "Conv2D"]),
        (4, {"filters": 2, "size": 1, "groups": 2}, ["DepthwiseConv2D", EDGE, "Conv2D"]),
    ],
)
def test_no_other_convolution_goes_before_the_average(channels, conv, kinds):
    drawn = Drawn(channels=channels)
    drawn.add("AveragePooling2D", padding="same")
    drawn.conv(inputs=channels, **conv)
    assert folded(drawn) == kinds


def test_none_goes_before_an_average_that_another_reads_or_that_thins_out():
    drawn = Drawn()
    pool = drawn.add("AveragePooling2D", padding="same")
    drawn.add("Add", inputs=(pool, drawn.conv(3, size=1)))
    drawn.add("AveragePooling2D", strides=[2, 2])
    drawn.conv(2, size=1)
    assert folded(drawn) == ["DepthwiseConv2D", EDGE, "Conv2D", "Add", "DepthwiseConv2D", "Conv2D"]


@pytest.mark.parametrize("stride, kinds", [(1, []), (2, ["DepthwiseConv2D"])])
def test_a_pool_of_one_pixel(stride, kinds):
    drawn = Drawn(size=(7, 6))
    drawn.conv(3)
    drawn.add("MaxPooling2D", pool_size=[1, 1], strides=[stride, stride])
    assert folded(drawn) == ["Conv2D", *kinds]


@pytest.mark.parametrize("kind", ["ReLU", "Activation"])
def test_a_relu_that_two_ways_part_before_gets_a_convolution(kind):
    drawn = Drawn()
    both = drawn.conv(3, name="both")
    drawn.add(kind, activation="relu")
    drawn.conv(3, padding="same")
    drawn.add(kind, activation="relu")
    drawn.add("Add", inputs=(both, drawn.nodes[-1].name))
    assert folded(drawn) == ["Conv2D", "DepthwiseConv2D", kind, "Conv2D", kind, "Add"]
    assert folded(drawn, ["lone-relus"]) == ["Conv2D", kind, "Conv2D", kind, "Add"]


def hard_swish(drawn, name, sources=None):
    """x * clip(x / 6 + 1/2, 0, 1) of the node `name`, or as a gate on `sources`."""
    drawn.add("Rescaling", scale=1 / 6, offset=0.5, inputs=(name,))
    gate = drawn.add("ReLU", max_value=1.0)
    return drawn.add("Multiply", inputs=(sources or name, gate))


def test_the_scale_of_hard_swish_goes_past_squeeze_and_excite():
    """A block as in MobileNetV3: hard-swish, squeeze and excite by a hard sigmoid, projection."""
    drawn = Drawn()
    wide = hard_swish(drawn, drawn.conv(6, size=1))
    drawn.add("GlobalAveragePooling2D", inputs=(wide,), keepdims=True)
    drawn.conv(2, 6, size=1, activation="relu")
    hard_swish(drawn, drawn.conv(6, 2, size=1), wide)
    drawn.add("ZeroPadding2D", padding=[[1, 0], [0, 1]])
    drawn.conv(3, 6, padding="same")
    hard = ["DepthwiseConv2D", "ReLU", "Multiply"]
    assert folded(drawn) == ["Conv2D", *hard, "GlobalAveragePooling2D", "Conv2D", "Conv2D",
                             "ReLU", "Multiply", "ZeroPadding2D", "Conv2D"]  # fmt: skip
    assert len(folded(drawn, ["scales-onward"])) == 13


def test_a_scale_goes_past_a_flatten_into_a_dense_layer():
    drawn = Drawn()
    drawn.add("Rescaling", scale=[0.5, 0.5, 0.5], offset=0.0)
    drawn.add("MaxPooling2D", strides=[2, 2])
    drawn.add("Flatten")
    drawn.add("Dense", (48, 2), (2,), units=2, use_bias=True)
    assert folded(drawn) == ["MaxPooling2D", "Flatten", "Dense"]


@pytest.mark.parametrize("reader", ["Add", "square", "output", "clip"])
def test_a_scale_stays_where_a_reader_cannot_hold_it(reader):
    drawn = Drawn()
    product = hard_swish(drawn, drawn.conv(3, size=1, padding="same"))
    if reader == "Add":
        drawn.add("Add", inputs=(product, "pixels"))
    elif reader == "square":
        drawn.add("Multiply", inputs=(product, product))
    elif reader == "clip":
        drawn.add("ReLU", max_value=6.0)
    if reader != "output":
        drawn.conv(3, padding="same")
    assert folded(drawn).count("DepthwiseConv2D") == 2


def test_equal_layers_are_one_but_for_the_last():
    drawn = Drawn()
    one = drawn.conv(3)
    two = drawn.add("MaxPooling2D", inputs=(one,))
    three = drawn.add("MaxPooling2D", inputs=(one,))
    other = drawn.add("MaxPooling2D", inputs=(one,), padding="same")
    assert folded(drawn).count("MaxPooling2D") == 1  # the last, which no other reads
    drawn.add("Concatenate", inputs=(two, three))
    assert folded(drawn) == ["Conv2D", "MaxPooling2D", "Concatenate"]
    drawn.add("Concatenate", inputs=(drawn.nodes[-1].name, two))
    assert other not in [node.name for node in rewrites.rewritten(drawn.graph()).nodes]


def everything():
    """A graph in which each rewrite changes something, with answers between 0 and 1."""
    drawn = Drawn(size=(10, 8))
    drawn.add("Conv2D", REVERSED, filters=3, kernel_size=[1, 1], name="bgr")
    drawn.add("Rescaling", scale=1 / 255, offset=-0.4, name="scale")
    drawn.conv(6, name="stem")
    drawn.norm(6, name="stem_norm")
    drawn.conv(6, 6, size=1, activation="swish", name="swish")
    drawn.add("ZeroPadding2D", padding=[[0, 0], [0, 0]], name="padding")
    product = hard_swish(drawn, "padding")
    drawn.conv(6, 6, padding="same", name="project")
    drawn.add("Average", inputs=(product, "project", "padding"), name="mean")
    drawn.add("MaxPooling2D", pool_size=[1, 1], strides=[2, 2], name="thin")
    drawn.add("AveragePooling2D", pool_size=[3, 2], padding="same", name="pool")
    drawn.conv(4, 6, size=1, name="point")
    drawn.add("BatchNormalization", *[(4,)] * 3, np.ones(4), name="point_norm")
    drawn.add("Activation", activation="relu", name="point_relu")
    drawn.norm(4, name="apart")
    drawn.add("MaxPooling2D", padding="same", name="most")
    drawn.add("ReLU", name="lone")
    drawn.add("Dense", (4, 5), (5,), units=5, use_bias=True, name="each_pixel")
    drawn.add("MaxPooling2D", padding="same", inputs=("apart",), name="again")
    drawn.add("Concatenate", inputs=("each_pixel",) * 4 + ("lone", "again"), name="many")
    drawn.add("GlobalAveragePooling2D", name="features")
    drawn.add("Flatten", inputs=("lone",), name="dead")
    drawn.add(
        "Dense",
        drawn.rng.uniform(-0.3, 0.3, (28, 3)),
        (3,),
        units=3,
        use_bias=True,
        inputs=("features",),
        name="answers",
        activation="softmax",
    )
    return drawn.graph()


@cache
def befores():
    """The graph before each rewrite, by its name, and at the end the last one."""
    names, graphs = zip(*rewrites.steps(everything()), strict=True)
    before = (everything(), *graphs)
    return dict(zip([*(rewrite.name for rewrite in names), None], before, strict=True))


def deployable(flat, graph):
    model = build(tf_keras, flat)
    folded = build(tf_keras, graph)
    return Deployable(trained=model, rebuilt=model, folded=folded, flat=flat, graph=graph)


def pictures():
    return np.random.default_rng(1).integers(0, 256, (9, 10, 8, 3), dtype=np.uint8)


def test_each_rewrite_that_changes_something_has_its_proof():
    after = rewrites.rewritten(everything())
    models = deployable(everything(), after)
    found = proofs.prove(models, pictures())
    assert [check.get("rewrite") for check in found] == [
        None, *(rewrite.name for rewrite in rewrites.REWRITES), None
    ]  # fmt: skip
    assert all(check["passed"] and check["largest_difference"] <= 1e-5 for check in found)
    assert found[1]["largest_difference"] == 0  # dead branches
    answers = qat.forward(models.rebuilt, pictures())
    assert answers.std(axis=0).min() > 1e-3 and qat.unsupported(after) == []


@pytest.mark.parametrize("name", rewrites.OPTIONAL)
def test_what_is_left_out_is_not_done(name):
    done = dict((rewrite.name, graph) for rewrite, graph in rewrites.steps(everything(), [name]))
    assert name not in done and len(done) >= len(rewrites.REWRITES) - 3
    *_, after = done.values()
    assert qat.unsupported(after) == []
    wanted, got = (qat.forward(build(tf_keras, g), pictures()) for g in (everything(), after))
    np.testing.assert_allclose(got, wanted, atol=BOUND)


@pytest.mark.parametrize(
    "name, why", [("biases", "without it there is no int8"), ("x", "no such rewrite")]
)
def test_a_rewrite_that_cannot_be_left_out(name, why):
    with pytest.raises(UsageError, match=f"{why}; wanted some of dead-branches, .*lone-relus"):
        rewrites.rewritten(everything(), ["average-pools", name])


def test_shapes_are_those_of_keras():
    drawn = Drawn(size=(11, 8))
    for padding in ("same", "valid"):
        for more in ({"strides": [2, 2]}, {"dilation_rate": [2, 2]}):
            drawn.add("Conv2D", filters=4, padding=padding, inputs=("pixels",), **more)
        drawn.add(
            "DepthwiseConv2D", depth_multiplier=2, padding=padding, inputs=("pixels",),
            strides=[2, 2],
        )  # fmt: skip
        drawn.add(
            "MaxPooling2D", pool_size=[3, 2], strides=[2, 2], padding=padding, inputs=("pixels",)
        )
    drawn.add("ZeroPadding2D", padding=[[1, 2], [3, 4]])
    drawn.add("Cropping2D", cropping=[[1, 0], [2, 1]])
    drawn.add("UpSampling2D", size=[2, 3], interpolation="nearest", name="large")
    drawn.add("GlobalAveragePooling2D", keepdims=True)
    drawn.add("Multiply", inputs=("large", drawn.nodes[-1].name))
    drawn.add("Concatenate", inputs=("large", drawn.nodes[-1].name))
    drawn.add("Permute", dims=[3, 1, 2])
    drawn.add("Flatten")
    drawn.add("Dense", units=24)
    drawn.add("Reshape", target_shape=[2, -1, 3])
    drawn.add("GlobalMaxPooling2D")
    assert walk.shapes_of(drawn.graph()) == sketch.shapes_of(drawn.graph())


def spoilt(name, *, config=None, weights=None, inputs=None):
    """A change of one node of a graph."""

    def change(graph):
        node = graph[name]
        numbers = weights(*node.weights) if weights else node.weights
        new = replace(
            node,
            config={**node.config, **(config or {})},
            weights=tuple(numbers),
            inputs=inputs or node.inputs,
        )
        return Graph(nodes=tuple(new if each is node else each for each in graph.nodes))

    return change


def no_bias(kernel, bias):
    return kernel, np.zeros_like(bias)


# What could go wrong in each rewrite, done to what it made.
WRONG = {
    "dead-branches": [spoilt("mean", inputs=("project",) * 3)],
    "merges-in-pairs": [spoilt("mean", config={"scale": 0.5})],
    "long-concatenations": [spoilt("many", inputs=("again", "many_part0"))],
    "dense-on-maps": [spoilt("each_pixel", weights=no_bias)],
    "biases": [spoilt("stem", weights=lambda kernel, bias: (kernel, bias + 0.01))],
    "activations-apart": [spoilt("swish_swish", config={"activation": "sigmoid"})],
    "clips-at-six": [
        spoilt("relu_8_down", config={"scale": 1.0}), spoilt("relu_8", config={"max_value": 1.0}),
    ],
    "identities": [spoilt("rescaling_7", inputs=("swish",))],
    "input-scale": [
        spoilt("stem", weights=no_bias), spoilt("stem", weights=lambda k, b: (k[:, :, ::-1], b)),
        spoilt("stem", weights=lambda k, b: (k / 1.01, b)),
    ],
    "batch-norms": [
        spoilt("stem", weights=no_bias), spoilt("stem", weights=lambda k, b: (k / 1.01, b)),
    ],
    "scales-onward": [spoilt("point", weights=lambda k, b: (3 * k, b))],
    "pools-of-one": [
        spoilt("thin", weights=lambda k, b: (0 * k + 0.9, b)),
    ],
    "pointwise-first": [spoilt("point", weights=no_bias)],
    "average-pools": [
        spoilt("pool_edge", weights=lambda mask: [np.ones_like(mask)]),
        spoilt("pool_edge", weights=lambda mask: [np.roll(mask, 1, axis=0)]),
        spoilt("pool_edge", weights=lambda mask: [mask[:, ::-1]]),
        spoilt("pool", weights=lambda k, b: (k * 6 / 5, b)),
    ],
    "scales-as-convolutions": [spoilt("apart", weights=no_bias)],
    "lone-relus": [spoilt("lone_input", weights=lambda k, b: (-k, b))],
    "equal-layers": [spoilt("many", inputs=("many_part0", "lone"))],
}  # fmt: skip


@pytest.mark.parametrize(
    "name, which", [(name, i) for name, each in WRONG.items() for i in range(len(each))]
)
def test_a_broken_rewrite_is_caught_by_its_proof(name, which, monkeypatch):
    def broken(rewrite):
        if rewrite.name != name:
            return rewrite
        return replace(rewrite, apply=lambda graph: WRONG[name][which](rewrite.apply(graph)))

    before = befores()[name]
    assert next(rewrites.steps(before))[0].name == name  # all before it are done already
    monkeypatch.setattr(rewrites, "REWRITES", tuple(map(broken, rewrites.REWRITES)))
    with pytest.raises(ProofError, match=f"before against after {name}: wanted the same"):
        proofs.prove(deployable(before, before), pictures())


def test_every_rewrite_is_broken_once():
    assert list(WRONG) == [rewrite.name for rewrite in rewrites.REWRITES]
