"""Reconstruction: nearer to float than ranges alone, the numbers exactly those of the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mobileclf.errors import ProofError
from mobileclf.models import equality, gptq, qat, ranges, reconstruct, rewrites
from mobileclf.models.graph import Graph, Node, build
from mobileclf.models.patches import patches, positions_of
from mobileclf.tflite import convert
from mobileclf.tflite.audit import is_int8
from mobileclf.tflite.interpreter import as_quanta, score_photos
from tests.test_equalize import SIZE, branches, conv, dense, depthwise, graph_of, relu


def network(most=None):
    """Unequal channels, a sharp head, and bytes as its input."""
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


def layer_case(node, channels, *, photos=40, size=6):
    """What a layer sees in float, and rounded: coarsely, and off its mean."""
    rng = np.random.default_rng(7)
    shape = (photos, size, size, channels) if node.kind != "Dense" else (photos, channels)
    inputs = rng.normal(size=shape) * np.arange(1, channels + 1)
    rounded = np.round(inputs * 2) / 2 + 0.2
    return inputs.astype(np.float32), rounded.astype(np.float32)


def as_the_paper_has_it(node, inputs, rounded, step, clip):
    """The kernel by the rounded inputs' Hessian, and the bias by what then differs."""
    kernel, bias = (w.astype(np.float64) for w in node.weights)
    at = positions_of(node, rounded, 10**9, np.random.default_rng(0))
    seen = [patches(node, x, at).astype(np.float64) for x in (inputs, rounded)]
    new = np.empty_like(kernel)
    for out in range(len(bias)):
        if node.kind == "DepthwiseConv2D":
            weights, x = kernel[..., out, 0].ravel(), seen[1][..., out].reshape(len(at.photo), -1)
        else:
            weights, x = kernel[..., out].ravel(), seen[1].reshape(len(at.photo), -1)
        damping = gptq.DAMPING if len(x) >= len(weights) else gptq.OF_FEW
        got = gptq.rounded(weights[:, None], x.T @ x, step[[out]], damping=damping)[:, 0]
        target = new[..., out, 0] if node.kind == "DepthwiseConv2D" else new[..., out]
        target[...] = got.reshape(target.shape)

    def sums(weights, x):
        if node.kind == "DepthwiseConv2D":
            return np.einsum("nhwc,hwc->nc", x, weights[..., 0]) + bias
        return x.reshape(len(x), -1) @ weights.reshape(-1, len(bias)) + bias

    error = bias_error(sums(kernel, seen[0]), sums(new, seen[1]), at.photo, clip)
    return new, bias + error


@pytest.mark.parametrize(
    ("node", "channels", "clip"),
    [
        (conv("one", "x", 3, 4, kernel=3), 3, relu("r", "one")),
        (conv("one", "x", 3, 4, kernel=3), 3, relu("r", "one", 6.0)),
        (conv("one", "x", 3, 4), 3, None),
        (depthwise("one", "x", 5), 5, relu("r", "one")),
        (dense("one", "x", 64, units=4, activation="linear"), 64, None),  # of 40 photos
    ],
)
def test_a_layer_is_rounded_for_the_inputs_that_it_will_get(node, channels, clip):
    inputs, rounded = layer_case(node, channels)
    largest = np.abs(node.weights[0]).reshape(-1, len(node.weights[1])).max(axis=0)
    if node.kind == "DepthwiseConv2D":
        largest = np.abs(node.weights[0]).max(axis=(0, 1, 3))
    step = largest.astype(np.float64) / 7  # coarse, so that it shows
    kernel, bias = reconstruct._reconstruct_layer(
        node, clip, (inputs, rounded), step, np.random.default_rng(0)
    )
    wanted_kernel, wanted_bias = as_the_paper_has_it(node, inputs, rounded, step, clip)
    np.testing.assert_allclose(kernel, wanted_kernel, atol=1e-6)
    np.testing.assert_allclose(bias, wanted_bias, atol=1e-4)
    assert np.abs(bias - node.weights[1]).max() > 0.01


def test_more_inputs_than_go_together_are_rounded_part_by_part(monkeypatch):
    node = dense("one", "x", 64, units=4, activation="linear")
    inputs, rounded = layer_case(node, 64)
    step = np.full(4, 0.1)
    monkeypatch.setattr(reconstruct, "MOST_INPUTS", 24)
    kernel, _ = reconstruct._reconstruct_layer(
        node, None, (inputs, rounded), step, np.random.default_rng(0)
    )
    for part in (slice(0, 24), slice(24, 48), slice(48, 64)):
        x, weights = rounded[:, part].astype(np.float64), node.weights[0][part].astype(np.float64)
        alone = gptq.rounded(weights, x.T @ x, step)  # as many photos as inputs, and more
        np.testing.assert_allclose(kernel[part], alone, atol=1e-6)


def test_each_range_is_what_the_equalized_network_makes_of_the_photos(made):
    fresh = qat.quantized(made.graph)
    ranges.calibrate(made.graph, fresh, pictures(128))
    for one, other in zip(qat.quantizers_of(made.aware), qat.quantizers_of(fresh), strict=True):
        assert one.key == other.key
        np.testing.assert_allclose(one.low, other.low, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(one.high, other.high, rtol=1e-3, atol=1e-6)


def test_the_rounded_network_is_passed_on_what_it_rounded(monkeypatch):
    """What a layer is given as rounded is what the finished graph makes before that layer."""
    import tf_keras

    given = {}
    right = reconstruct._reconstruct_layer

    def spied(node, relu, inputs, step, random):
        given[node.name] = inputs[1]
        return right(node, relu, inputs, step, random)

    monkeypatch.setattr(reconstruct, "_reconstruct_layer", spied)
    made = reconstruct.reconstruct(network(), pictures(128))
    before = tf_keras.Model(made.aware.input, made.aware.get_layer("quant_pooled").output)
    # Half precision may put a number on the next step.
    there = np.isclose(given["last"], qat.forward(before, pictures(128)), rtol=2e-3, atol=1e-4)
    assert there.mean() > 0.95


def test_a_later_photo_that_half_precision_does_not_hold_is_kept_whole(tmp_path):
    kept = reconstruct._Activations(folder=tmp_path, largest_half=reconstruct.LARGEST_HALF)

    class Layer:
        def __call__(self, batch):
            self.batch = batch
            return self

        def numpy(self):
            return self.batch

    values = np.ones((40, 3), np.float32)
    assert kept.run(Layer(), [values], "small").dtype == np.float16
    values[30] = 1e5
    np.testing.assert_array_equal(kept.run(Layer(), [values], "large"), values)


def without_bias(node):
    return replace(node, config={**node.config, "use_bias": False}, weights=node.weights[:1])


def average(name, source):
    config = {"pool_size": [3, 3], "strides": [1, 1], "padding": "same"}
    return Node(name=name, kind="AveragePooling2D", config=config, inputs=(source,))


STEM = conv("stem", "pixels", 3, 4, kernel=3), relu("stem_relu", "stem")
ENDS = {
    "a dense layer without a bias": (
        *STEM, Node(name="flat", kind="Flatten", inputs=("stem_relu",)),
        without_bias(dense("answers", "flat", 4 * SIZE**2)),
    ),
    "a layer that is 0 on every photo": (
        *STEM,
        replace(conv("dead", "stem_relu", 4, 4),
                weights=(np.zeros((1, 1, 4, 4), np.float32), np.full(4, -1, np.float32))),
        relu("dead_relu", "dead"), conv("last", "dead_relu", 4, 4),
        Node(name="sum", kind="Add", inputs=("last", "stem_relu")),
        Node(name="flat", kind="Flatten", inputs=("sum",)), dense("answers", "flat", 4 * SIZE**2),
    ),
    "a difference of one and the same": (
        *STEM, Node(name="nothing", kind="Subtract", inputs=("stem_relu", "stem_relu")),
        conv("last", "nothing", 4, 4), Node(name="sum", kind="Add", inputs=("last", "stem_relu")),
        Node(name="flat", kind="Flatten", inputs=("sum",)), dense("answers", "flat", 4 * SIZE**2),
    ),
    "a sum that stretches channels": (
        *STEM, conv("one", "stem_relu", 4, 1),
        Node(name="sum", kind="Add", inputs=("stem_relu", "one")),
        Node(name="flat", kind="Flatten", inputs=("sum",)), dense("answers", "flat", 4 * SIZE**2),
    ),
    "two equal averages of one tensor": (
        *STEM, average("one", "stem_relu"), average("two", "stem_relu"),
        conv("after", "one", 4, 4),
        Node(name="joined", kind="Concatenate", inputs=("after", "two")),
        Node(name="flat", kind="Flatten", inputs=("joined",)),
        dense("answers", "flat", 8 * SIZE**2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("photos", ["noise", "black"])
def test_every_network_ends_in_a_whole_int8_file(name, photos):
    graph = rewrites.rewritten(graph_of(*ENDS[name]))
    given = pictures(128) if photos == "noise" else np.zeros((128, SIZE, SIZE, 3), np.uint8)
    made = reconstruct.reconstruct(graph, given)
    calibrated = qat.quantized(graph)
    ranges.calibrate(graph, calibrated, given)
    for aware in (calibrated, made.aware):
        model = convert.from_quantized_graph(aware, "uint8")
        assert is_int8(model) is None
        got = as_quanta(score_photos(model, given[:32], title="score")) / 256
        assert np.abs(got - qat.forward(aware, given[:32])).mean() < 0.01


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_numbers_that_are_not_finite_end_in_a_proof_that_failed():
    graph = network()
    nodes = [
        replace(node, weights=(node.weights[0] * np.float32(1e38), node.weights[1]))
        if node.name == "left" else node
        for node in graph.nodes
    ]  # fmt: skip
    with pytest.raises(ProofError, match="layer .*: wanted finite numbers for int8"):
        reconstruct.reconstruct(Graph(nodes=tuple(nodes)), pictures(128))
