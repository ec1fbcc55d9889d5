"""What a layer sees, times its kernel, is what the layer answers."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.models.graph import Node, layer_of
from mobileclf.models.patches import patches, positions_of


def node_of(kind, kernel, strides=(1, 1), padding="same", dilation=(1, 1)):
    config = {
        "kernel_size": list(kernel), "strides": list(strides), "padding": padding,
        "dilation_rate": list(dilation), "use_bias": False, "activation": "linear",
    }  # fmt: skip
    own = {"filters": 4, "groups": 1} if kind == "Conv2D" else {"depth_multiplier": 1}
    return Node(name="layer", kind=kind, config={**config, **own}, inputs=("before",))


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "dilation"),
    [
        ((3, 3), (1, 1), "same", (1, 1)),
        ((3, 3), (2, 2), "same", (1, 1)),
        ((2, 2), (2, 2), "same", (1, 1)),
        ((3, 3), (2, 2), "valid", (1, 1)),
        ((1, 1), (1, 1), "valid", (1, 1)),
        ((1, 7), (1, 1), "same", (1, 1)),
        ((4, 5), (1, 1), "same", (1, 1)),
        ((3, 3), (1, 1), "same", (2, 2)),
        ((3, 3), (1, 1), "valid", (2, 2)),
    ],
)
@pytest.mark.parametrize("size", [(9, 11), (10, 8)])
def test_it_is_what_the_convolution_multiplies(kind, kernel, strides, padding, dilation, size):
    import tf_keras

    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, *size, 5)).astype(np.float32)
    node = node_of(kind, kernel, strides, padding, dilation)
    layer = layer_of(tf_keras, node)
    wanted = layer(inputs).numpy()
    (weights,) = layer.get_weights()
    at = positions_of(node, inputs, 10**6, rng)
    seen = patches(node, inputs, at)
    assert len(at.photo) == wanted[..., 0].size  # every position once
    if kind == "Conv2D":
        got = seen.reshape(len(seen), -1) @ weights.reshape(-1, 4)
    else:
        got = np.einsum("nhwc,hwc->nc", seen, weights[..., 0])
    np.testing.assert_allclose(got, wanted[at.photo, at.row, at.column], atol=1e-5)


def test_of_many_positions_as_many_as_were_asked_for_are_drawn_once_each():
    inputs = np.zeros((4, 10, 10, 2), np.float32)
    at = positions_of(node_of("Conv2D", (1, 1)), inputs, 50, np.random.default_rng(0))
    drawn = set(zip(at.photo.tolist(), at.row.tolist(), at.column.tolist(), strict=True))
    assert len(drawn) == len(at.photo) == 50
    assert {photo for photo, _, _ in drawn} == {0, 1, 2, 3}
    assert (np.diff(at.photo) >= 0).all()


def test_a_dense_layer_sees_all_of_each_photo():
    node = Node(
        name="dense", kind="Dense",
        config={"units": 2, "use_bias": True, "activation": "linear"}, inputs=("before",),
    )  # fmt: skip
    inputs = np.arange(12, dtype=np.float32).reshape(4, 3)
    at = positions_of(node, inputs, 100, np.random.default_rng(0))
    np.testing.assert_array_equal(patches(node, inputs, at)[:, 0, 0], inputs)
