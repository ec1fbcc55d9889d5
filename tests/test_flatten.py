"""A loaded model as a flat graph: the same answers in both Keras, or a refusal that says why."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from mobileclf.errors import DataError
from mobileclf.images import sample
from mobileclf.importing import activations
from mobileclf.importing.flatten import flatten
from mobileclf.models import backbones
from mobileclf.models.graph import Graph, build
from tests.models import architecture, photos

BOTH = pytest.mark.parametrize("k", [keras, tf_keras], ids=lambda k: k.__name__)
SIZE = 32
CLOSE = 1e-5


@pytest.fixture(autouse=True)
def seeded():
    for k in (keras, tf_keras):
        k.utils.set_random_seed(0)


def pictures(size=SIZE, channels=3):
    """Random pixels and a drawn photo, float32 0..255."""
    drawn = sample.draw(next(iter(sample.LABELS)), np.random.default_rng(0), size)
    pixels = np.concatenate([photos(2, size), np.asarray(drawn)[None]])
    return pixels[..., :channels].astype(np.float32)


def answers(model, pixels):
    return np.asarray(model(pixels, training=False))


def difference(model, graph, size=SIZE, pixels=None):
    """The largest of any answer between a model and its graph, built in either Keras."""
    pixels = pictures(size, graph.shape[2]) if pixels is None else pixels
    wanted = answers(model, pixels)
    assert np.ptp(wanted, axis=0).max() > 1e-4, "the answers have to depend on the picture"
    return max(np.abs(answers(build(k, graph), pixels) - wanted).max() for k in (keras, tf_keras))


def kinds(graph):
    return [node.kind for node in graph.nodes]


def settled(model, scale=1.0):
    """Weights as training leaves them: batch norms know the pictures, and biases are not 0.

    Without that a deep network gives one answer to all pictures, or has float32's noise in it.
    """
    norms = _randomized(model, np.random.default_rng(1))
    if norms:
        for norm in norms:
            norm.momentum = 0.0  # the statistics of one batch, and not a part of them
        model(photos(8, model.input_shape[1]).astype(np.float32) * scale, training=True)
    return model


def _randomized(model, rng):
    norms = []
    for layer in model.layers:
        if hasattr(layer, "layers"):
            norms += _randomized(layer, rng)
        elif "BatchNormalization" in type(layer).__name__:
            norms.append(layer)
            for variable, span in ((layer.gamma, (0.5, 1.5)), (layer.beta, (0, 0.5))):
                if variable is not None:
                    variable.assign(rng.uniform(*span, variable.shape))
        elif getattr(layer, "use_bias", False):
            *kernels, bias = layer.get_weights()
            layer.set_weights([*kernels, rng.normal(0, 0.3, bias.shape)])
    return norms


def backbone(k, size=SIZE, name="backbone"):
    """A small model of its own, with a branch and a concatenation."""
    inputs = k.Input((size, size, 3), name=f"{name}_input")
    x = k.layers.Conv2D(8, 3, strides=2, use_bias=False, name=f"{name}_stem")(inputs)
    x = k.layers.BatchNormalization(scale=False, name=f"{name}_bn")(x)
    x = k.layers.Activation("relu", name=f"{name}_relu")(x)
    a = k.layers.Conv2D(8, 1, padding="same", activation="relu6", name=f"{name}_a")(x)
    b = k.layers.AveragePooling2D(3, strides=1, padding="same", name=f"{name}_b")(x)
    x = k.layers.Concatenate(name=f"{name}_concat")([a, b])
    return k.Model(inputs, x, name=name)


def augmentation(k):
    layers = [k.layers.RandomFlip(name="random_flip"), k.layers.RandomRotation(0.2)]
    return k.Sequential(layers, name="augmentation")


def saved(k, model, tmp_path):
    """The model as it comes back from a file."""
    path = tmp_path / ("model.keras" if k is keras else "model.h5")
    model.save(path)
    return k.models.load_model(path)


# ---------------------------------------------------------------------------------------------
# whole models


@pytest.mark.parametrize(
    ("name", "size"), [("small_cnn", SIZE), ("plain_cnn", SIZE), ("mobilenet_v2", 2 * SIZE)]
)
def test_own_networks_keep_their_layers(name, size):
    model = settled(backbones.build(keras, architecture(name, size=size)))
    flat = flatten(model)
    assert [node.name for node in flat.graph.nodes] == [layer.name for layer in model.layers]
    assert flat.dropped == ()
    assert flat.graph.shape == (size, size, 3)
    assert difference(model, flat.graph, size) < CLOSE


@BOTH
def test_a_sequential_of_models(k, tmp_path):
    layers = [
        k.Input((SIZE, SIZE, 3)),
        augmentation(k),
        k.layers.Rescaling(1 / 255, name="scale"),
        backbone(k),
        k.layers.GlobalAveragePooling2D(),
        k.layers.Dropout(0.3, name="dropout"),
        k.layers.Dense(64, activation="relu", name="hidden"),
        k.layers.Dense(16, activation="softmax", name="labels"),
    ]
    model = saved(k, settled(k.Sequential(layers)), tmp_path)
    flat = flatten(model)
    assert {"random_flip (RandomFlip)", "dropout (Dropout)"} < set(flat.dropped)
    assert "backbone_stem" in [node.name for node in flat.graph.nodes]
    assert kinds(flat.graph)[1] == "Rescaling"
    assert difference(model, flat.graph) < CLOSE
    # A kernel that is off by a thousandth is seen.
    nodes = list(flat.graph.nodes)
    at = next(i for i, node in enumerate(nodes) if node.name == "backbone_stem")
    nodes[at] = replace(nodes[at], weights=(nodes[at].weights[0] * 1.001,))
    assert difference(model, Graph(nodes=tuple(nodes))) > CLOSE


def tutorial(k, family, preprocess, size):
    """As TensorFlow's guide on transfer learning has it."""
    base = family(input_shape=(size, size, 3), alpha=0.35, include_top=False, weights=None)
    settled(base, scale=1 / 255)
    inputs = k.Input((size, size, 3))
    x = preprocess(augmentation(k)(inputs))
    x = base(x, training=False)
    x = k.layers.GlobalAveragePooling2D()(x)
    x = k.layers.Dropout(0.2)(x)
    return k.Model(inputs, k.layers.Dense(1, name="prediction")(x))


@BOTH
def test_the_tutorial_with_mobilenet_v2(k, tmp_path):
    apps = k.applications
    model = tutorial(k, apps.MobileNetV2, apps.mobilenet_v2.preprocess_input, 2 * SIZE)
    model = saved(k, model, tmp_path)
    graph = flatten(model).graph
    first = graph.nodes[1]
    assert (first.kind, first.config) == ("Rescaling", {"scale": 1 / 127.5, "offset": -1.0})
    assert graph.nodes[2].name == "Conv1"
    assert difference(model, graph, 2 * SIZE) < CLOSE


@BOTH
def test_the_tutorial_with_caffe_pixels(k, tmp_path):
    base = backbone(k)
    model = tutorial(k, lambda **_: base, k.applications.resnet50.preprocess_input, SIZE)
    model = saved(k, model, tmp_path)
    graph = flatten(model).graph
    assert [(node.name, node.kind) for node in graph.nodes[1:2]] == [("bgr", "Conv2D")]
    np.testing.assert_array_equal(graph.nodes[1].weights[0][0, 0], np.eye(3)[::-1])
    assert graph.nodes[2].kind == "Rescaling"
    np.testing.assert_allclose(graph.nodes[2].config["offset"], [-103.939, -116.779, -123.68])
    # At 0..255 the answers are in the tens, and float32 has seven digits.
    wanted = answers(model, pictures())
    assert difference(model, graph) < CLOSE * np.abs(wanted).max()
    nodes = [node for node in graph.nodes if node.name != "bgr"]
    nodes[1] = replace(nodes[1], inputs=(nodes[0].name,))
    assert difference(model, Graph(nodes=tuple(nodes))) > 100 * CLOSE * np.abs(wanted).max()


@BOTH
def test_a_model_that_is_called_twice_is_two(k, tmp_path):
    shared = backbone(k, SIZE)
    inputs = k.Input((SIZE, SIZE, 3))
    a = shared(k.layers.Rescaling(1 / 255)(inputs))
    b = shared(k.layers.Rescaling(1 / 127.5, offset=-1)(inputs))
    x = k.layers.Subtract()([a, b])
    x = k.layers.Dense(4, activation="softmax")(k.layers.GlobalMaxPooling2D()(x))
    model = saved(k, settled(k.Model(inputs, x)), tmp_path)
    graph = flatten(model).graph
    names = [node.name for node in graph.nodes]
    assert {"backbone_stem", "backbone_stem_2"} < set(names)
    assert len(set(names)) == len(names)
    assert difference(model, graph) < CLOSE


@BOTH
def test_a_backbone_with_outputs_beside_the_one_that_is_used(k):
    inputs = k.Input((SIZE, SIZE, 3))
    x = k.layers.Conv2D(4, 3, name="one")(inputs)
    y = k.layers.Conv2D(4, 3, name="two")(x)
    z = k.layers.PReLU(name="unused")(x)
    features = k.Model(inputs, [z, x, y], name="features")
    picked = features(inputs)[2]
    x = k.layers.Dense(4, activation="softmax")(k.layers.GlobalMaxPooling2D()(picked))
    model = k.Model(inputs, x)
    graph = flatten(model).graph
    assert [node.name for node in graph.nodes][1:3] == ["one", "two"]
    assert len(graph.nodes) == 5
    assert difference(model, graph, pixels=pictures() / 255) < CLOSE


@BOTH
def test_inputs_of_a_part_by_their_names(k):
    b, a = k.Input((8, 8, 3), name="b"), k.Input((8, 8, 3), name="a")
    part = k.Model({"b": b, "a": a}, k.layers.Subtract()([b, a]), name="part")
    inputs = k.Input((8, 8, 3))
    x = part({"b": k.layers.Rescaling(0.1)(inputs), "a": k.layers.Conv2D(3, 1)(inputs)})
    model = k.Model(inputs, k.layers.Flatten()(x))
    assert difference(model, flatten(model).graph, 8, pictures(8) / 255) < CLOSE


@BOTH
def test_random_crop_stands_with_resizing_where_it_does_something(k):
    crop = k.layers.RandomCrop(8, 8, name="crop")
    model = k.Sequential([k.Input((SIZE, SIZE, 3)), crop, k.layers.GlobalMaxPooling2D()])
    if k is keras:
        words = "layer 'crop' (RandomCrop): Keras 3 crops in training only; replace it with"
        assert said(model).startswith(words)
    else:
        assert said(model).startswith("layer 'crop': it brings pictures of 32 x 32 to 8 x 8 in its")


@BOTH
def test_an_open_size_is_given(k):
    def model(x):
        x = k.layers.Conv2D(4, 3, activation="relu")(x)
        x = k.layers.GlobalAveragePooling2D()(x)
        return k.layers.Dense(4, activation="softmax")(x)

    inputs = k.Input((None, None, 3), name="photo")
    model = k.Model(inputs, model(k.layers.Rescaling(1 / 255)(inputs)))
    with pytest.raises(DataError, match="input 'photo': its height and width are open; give --ima"):
        flatten(model)
    for size in (24, SIZE):
        graph = flatten(model, size=(size, size)).graph
        assert graph.shape == (size, size, 3)
        assert difference(model, graph, size) < CLOSE


def test_a_size_that_is_not_the_models_is_refused():
    model = backbones.build(keras, architecture(size=SIZE))
    assert flatten(model, size=(SIZE, SIZE)).graph.shape == (SIZE, SIZE, 3)
    with pytest.raises(DataError, match="wanted 48 x 48 pixels of --image-size, found 32 x 32 in"):
        flatten(model, size=(48, 48))
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, keras.layers.Conv2D(4, 7)(inputs))
    with pytest.raises(DataError, match=r"\(Conv2D\): cannot take a picture of \(4, 4, 3\)"):
        flatten(model, size=(4, 4))


@BOTH
def test_pictures_are_resized_before_the_graph(k):
    inputs = k.Input((None, None, 3))
    x = k.layers.Rescaling(1 / 255)(inputs)
    x = k.layers.Resizing(SIZE, SIZE + 4, name="resized")(x)
    cropped = k.layers.CenterCrop(SIZE, SIZE, name="crop")(x)
    x = k.layers.Flatten()(k.layers.MaxPooling2D(8)(x))
    model = k.Model(inputs, k.layers.Dense(3)(x))
    flat = flatten(model)
    assert flat.graph.shape == (SIZE, SIZE + 4, 3)
    assert flat.dropped == ("resized (Resizing to 32 x 36 pixels)",)
    wide = pictures(SIZE + 4)[:, :SIZE]  # as it comes out of Resizing
    wanted = answers(model, wide)
    assert np.abs(answers(build(keras, flat.graph), wide) - wanted).max() < CLOSE
    with pytest.raises(DataError, match="layer 'crop': it brings pictures of 32 x 36 to 32 x 32"):
        flatten(k.Model(inputs, cropped))
    x = k.layers.Resizing(SIZE, SIZE, name="late")(k.layers.Conv2D(4, 3)(inputs))
    with pytest.raises(DataError, match="layer 'late': wanted pictures resized or cropped before"):
        flatten(k.Model(inputs, x), size=(SIZE, SIZE))


# ---------------------------------------------------------------------------------------------
# layers


def small(k, *layers, head=True, size=SIZE, channels=3):
    """Layers on a picture scaled to -1..1, and an end that shows what they do."""
    last = [k.layers.Flatten(), k.layers.Dense(4)] if head else []
    scale = k.layers.Rescaling(1 / 127.5, offset=-1)
    return k.Sequential([k.Input((size, size, channels)), scale, *layers, *last])


LAYERS = {
    "separable": lambda k: [
        k.layers.SeparableConv2D(
            6, 3, strides=2, padding="same", depth_multiplier=2, activation="relu"
        )
    ],
    "depthwise": lambda k: [
        k.layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2, activation="tanh")
    ],
    "groups": lambda k: [k.layers.Conv2D(6, 3, groups=3, dilation_rate=2, activation="elu")],
    "dense on a picture": lambda k: [k.layers.Dense(5, activation="sigmoid")],
    "batch norm": lambda k: [
        k.layers.BatchNormalization(center=False), k.layers.Dense(3), k.layers.Flatten(),
        k.layers.BatchNormalization(epsilon=0.01),
    ],
    "synchronized": lambda k: [
        k.layers.experimental.SyncBatchNormalization() if k is tf_keras
        else k.layers.BatchNormalization(synchronized=True)
    ],
    "relu": lambda k: [k.layers.ReLU(max_value=0.5, negative_slope=0.1, threshold=0.2)],
    "leaky": lambda k: [k.layers.LeakyReLU(0.05), k.layers.ELU()],
    "softmax": lambda k: [k.layers.Softmax()],
    "padding": lambda k: [
        k.layers.ZeroPadding2D(((0, 1), (2, 3))), k.layers.Cropping2D(((1, 0), (0, 2))),
        k.layers.UpSampling2D(2, interpolation="bilinear"), k.layers.AveragePooling2D(3, 2, "same"),
    ],
    "shapes": lambda k: [k.layers.Permute((2, 1, 3)), k.layers.Reshape((16, -1, 3))],
    "pooled": lambda k: [k.layers.Conv2D(5, 3), k.layers.GlobalMaxPooling2D(keepdims=True)],
    "layer as activation": lambda k: [k.layers.Conv2D(4, 3, activation=k.layers.ReLU(0.3))],
    "tf.nn": lambda k: [k.layers.Activation(tf.nn.relu6), k.layers.Activation(tf.nn.silu)],
}  # fmt: skip
NAMED = ("hard_sigmoid", "swish", "gelu", "mish", "leaky_relu", "relu6", "exponential")


@BOTH
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_means_the_same(name, k):
    model = settled(small(k, *LAYERS[name](k)))
    assert difference(model, flatten(model).graph) < CLOSE


@BOTH
@pytest.mark.parametrize("activation", NAMED)
def test_an_activation_means_the_same(activation, k):
    model = settled(small(k, k.layers.Conv2D(6, 3, activation=activation, name="conv")))
    assert difference(model, flatten(model).graph) < CLOSE


@pytest.mark.parametrize("activation", ["hard_silu", "hard_tanh"])
def test_an_activation_of_keras_3_alone(activation):
    model = settled(small(keras, keras.layers.Activation(activation)))
    assert difference(model, flatten(model).graph) < CLOSE


@BOTH
def test_the_other_hard_sigmoid_is_seen(k, monkeypatch):
    swapped = dict(zip(activations.HARD_SIGMOID, (0.2, 1 / 6), strict=True))
    monkeypatch.setattr(activations, "HARD_SIGMOID", swapped)
    model = settled(small(k, k.layers.Conv2D(6, 3, activation="hard_sigmoid")))
    assert difference(model, flatten(model).graph) > 100 * CLOSE


@BOTH
@pytest.mark.parametrize("invert", [False, True])
def test_normalization_that_was_adapted(k, invert, tmp_path):
    norm = k.layers.Normalization(axis=-1, invert=invert, name="norm")
    norm.adapt(photos(16, SIZE) * np.array([1, 0.5, 0.2]))
    layers = [k.Input((SIZE, SIZE, 3)), norm, k.layers.Rescaling(2.0, name="twice")]
    model = k.Sequential([*layers, k.layers.GlobalMaxPooling2D(), k.layers.Dense(3)])
    graph = flatten(model).graph
    assert kinds(graph)[1:3] == ["Rescaling", "GlobalMaxPooling2D"], "one, and not two"
    assert len(graph.nodes[1].config["scale"]) == 3
    wanted = np.abs(answers(model, pictures())).max()
    assert difference(model, graph) < CLOSE * max(1, wanted)


@BOTH
def test_what_only_trains_is_left_out(k):
    model = small(
        k,
        k.layers.GaussianNoise(0.1, name="noise"),
        k.layers.SpatialDropout2D(0.1, name="spatial"),
        k.layers.RandomContrast(0.2, name="contrast"),
        k.layers.ActivityRegularization(0.1, name="regular"),
        k.layers.Activation("linear", name="linear"),
    )
    flat = flatten(model)
    assert [words.split()[0] for words in flat.dropped] == [
        "noise", "spatial", "contrast", "regular", "linear",
    ]  # fmt: skip
    assert kinds(flat.graph) == ["InputLayer", "Rescaling", "Flatten", "Dense"]
    assert difference(model, flat.graph) < CLOSE


@BOTH
def test_half_precision_weights_are_float32(k):
    model = small(k, k.layers.Conv2D(4, 3, dtype="float16"))
    assert {w.dtype for node in flatten(model).graph.nodes for w in node.weights} == {
        np.dtype(np.float32)
    }


def test_weights_are_copies():
    model = settled(small(keras, keras.layers.Conv2D(4, 3, name="conv")))
    graph = flatten(model).graph
    before = graph["conv"].weights[0].copy()
    model.get_layer("conv").set_weights([w * 0 for w in model.get_layer("conv").get_weights()])
    np.testing.assert_array_equal(graph["conv"].weights[0], before)


# ---------------------------------------------------------------------------------------------
# operators


def hard_swish(k, x):
    return x * (k.layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0))


SHARES = np.array([1.0, 2.0, 3.0], np.float32)
OPERATORS = {
    "arithmetic": lambda k, x: (1.0 - x / 2.0 + SHARES) * 3.0 - 0.5,
    "two": lambda k, x: k.layers.Conv2D(3, 1)(x) * x + x - k.layers.Conv2D(1, 1)(x),
    "mobilenet": hard_swish,
    "slices": lambda k, x: x[..., ::-1] * SHARES,
    "one channel": lambda k, x: k.layers.Concatenate()([x[:, :, :, 1:2], x[..., 0:1]]),
    "negative": lambda k, x: -k.layers.Conv2D(3, 1)(x),
}
TF = {
    "nn": lambda x: tf.nn.softmax(tf.nn.relu6(tf.nn.leaky_relu(x, 0.1)) + tf.sigmoid(x)),
    "mean": lambda x: tf.reshape(tf.reduce_mean(x, axis=[1, 2]), [-1, 1, 1, 3]) * x,
    "concat": lambda x: tf.concat([x, tf.nn.bias_add(x, [1.0, 2.0, 3.0])], axis=-1),
    "clip": lambda x: tf.maximum(tf.clip_by_value(x, -0.5, 0.25), 0.0),
    "unstack": lambda x: tf.stack(tf.unstack(x, axis=-1)[::-1], axis=-1),
    "reverse": lambda x: tf.reverse(x, axis=[-1]) * SHARES,
    "softmax": lambda x: tf.nn.softmax(x, axis=None) + tf.nn.softmax(x, axis=3),
    "squeeze": lambda x: tf.squeeze(tf.reduce_max(x, axis=[1, 2], keepdims=True), [1, 2]),
}
OPS = {
    "nn": lambda x: keras.ops.softmax(keras.ops.relu6(keras.ops.leaky_relu(x, 0.1))),
    "mean": lambda x: keras.ops.reshape(keras.ops.mean(x, axis=(1, 2)), (-1, 1, 1, 3)) * x,
    "concat": lambda x: keras.ops.concatenate([x, keras.ops.hard_silu(x)], axis=-1),
    "clip": lambda x: keras.ops.maximum(keras.ops.clip(x, -0.5, 0.25), 0.0),
    "unstack": lambda x: keras.ops.stack(keras.ops.unstack(x, axis=-1)[::-1], axis=-1),
    "softmax": lambda x: keras.ops.softmax(x, axis=3) + keras.ops.softmax(x),
    "flip": lambda x: keras.ops.flip(x, axis=-1) * SHARES,
    "expand": lambda x: keras.ops.expand_dims(keras.ops.max(x, axis=(1, 2)), 1),
}


def operated(k, use):
    inputs = k.Input((SIZE, SIZE, 3))
    x = use(inputs / 127.5 - 1.0)
    return k.Model(inputs, k.layers.Dense(4, name="dense")(k.layers.Flatten(name="flat")(x)))


@BOTH
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_mean_the_same(name, k, tmp_path):
    model = saved(k, operated(k, lambda x: OPERATORS[name](k, x)), tmp_path)
    assert difference(model, flatten(model).graph) < CLOSE


@pytest.mark.parametrize("name", TF)
def test_operators_of_tensorflow_mean_the_same(name, tmp_path):
    model = saved(tf_keras, operated(tf_keras, TF[name]), tmp_path)
    assert difference(model, flatten(model).graph) < CLOSE


@pytest.mark.parametrize("name", OPS)
def test_operators_of_keras_3_mean_the_same(name, tmp_path):
    model = saved(keras, operated(keras, OPS[name]), tmp_path)
    assert difference(model, flatten(model).graph) < CLOSE


# ---------------------------------------------------------------------------------------------
# refusals


class Doubled(keras.layers.Layer):
    def call(self, x):
        return x * 2


class Conv2D(keras.layers.Conv2D):
    """One of the same name that does something else."""

    def call(self, x):
        return -super().call(x)


def relu(x):
    return keras.ops.relu(x) + 1


REFUSED_BY_BOTH = {
    "prelu": (
        lambda k: k.layers.PReLU(name="bad"),
        "layer 'bad' (PReLU): not known here; replace it with LeakyReLU or ReLU, train on and "
        "save again",
    ),
    "layer norm": (
        lambda k: k.layers.LayerNormalization(name="bad"),
        "layer 'bad' (LayerNormalization): not known here; take a network with "
        "BatchNormalization, such as EfficientNet",
    ),
    "transposed": (
        lambda k: k.layers.Conv2DTranspose(3, 3, name="bad"),
        "layer 'bad' (Conv2DTranspose): not known here; replace it with UpSampling2D and Conv2D, "
        "train again and save again",
    ),
    "recurrent": (
        lambda k: k.layers.ConvLSTM1D(3, 3, name="bad"),
        "layer 'bad' (ConvLSTM1D): not known here; attention, recurrent and other such layers are "
        "not quantized here; take a convolutional network, or convert this one to .tflite and give "
        "that",
    ),
    "lambda": (
        lambda k: k.layers.Lambda(lambda x: x * 2, name="bad"),
        "layer 'bad' (Lambda): not known here; replace it with Rescaling or other layers of Keras "
        "and save again",
    ),
    "axis": (
        lambda k: k.layers.BatchNormalization(axis=1, name="bad"),
        "layer 'bad' (BatchNormalization): wanted the last axis, found [1]; replace it with "
        "layers of Keras and save again",
    ),
    "softmax": (
        lambda k: k.layers.Softmax(axis=1, name="bad"),
        "layer 'bad' (Softmax): wanted the last axis, found 1; replace it with layers of Keras "
        "and save again",
    ),
    "elu": (
        lambda k: k.layers.ELU(0.5, name="bad"),
        "layer 'bad' (ELU): wanted alpha 1, found 0.5; replace it with layers of Keras and save "
        "again",
    ),
    "first": (
        lambda k: k.layers.MaxPooling2D(2, data_format="channels_first", name="bad"),
        "layer 'bad' (MaxPooling2D): channels come first; build the model with channels last and "
        "save it",
    ),
}


def said(model, **options):
    with pytest.raises(DataError) as error:
        flatten(model, **options)
    return str(error.value)


@BOTH
@pytest.mark.parametrize("name", REFUSED_BY_BOTH)
def test_what_is_not_known_is_named(name, k):
    make, words = REFUSED_BY_BOTH[name]
    assert said(small(k, make(k), head=False)) == words


def test_layers_that_are_no_keras_are_named():
    assert said(small(keras, Doubled(name="bad"))) == (
        "layer 'bad' (Doubled): it is no layer of Keras itself; replace it with layers of Keras "
        "and save again"
    )
    assert said(small(keras, Conv2D(3, 3, name="bad"))) == (
        "layer 'bad' (Conv2D): it is no layer of Keras itself; replace it with layers of Keras "
        "and save again"
    )


def test_a_function_is_known_by_itself_and_not_by_its_name():
    words = said(small(keras, keras.layers.Dense(3, activation=relu, name="bad")))
    assert words.startswith("layer 'bad': its activation 'relu' is a function of its own; use one")
    words = said(small(keras, keras.layers.Activation("log_softmax", name="bad")))
    assert words.startswith("layer 'bad': its activation 'log_softmax' is not known here; use one")


def test_operators_that_are_not_known_are_named():
    model = operated(tf_keras, lambda x: tf.image.rgb_to_hsv(x))
    assert said(model) == (
        f"layer {model.layers[-3].name!r} (operator rgb_to_hsv): not known here; replace it with "
        "layers of Keras and save again"
    )
    words = said(operated(keras, lambda x: 1.0 / x))
    assert "(operator truediv): not known here with a constant; replace it" in words
    words = said(operated(keras, lambda x: x / keras.layers.Conv2D(3, 1)(x)))
    assert "(operator truediv): divides by what the model computes; replace it" in words
    words = said(operated(keras, lambda x: x[:, 1:]))
    assert "takes a part of its input other than some channels of a picture" in words
    words = said(operated(keras, lambda x: x[..., 0]))
    assert "takes one channel without its axis; wanted all channels" in words
    words = said(operated(keras, lambda x: x * np.ones((SIZE, SIZE, 3), "float32")))
    assert "wanted one number or one for each of 3 channels, found an array of (32, 32, 3)" in words
    words = said(operated(keras, lambda x: keras.ops.gelu(x, approximate=True)))
    assert "(operator gelu): its settings are not known here" in words


@BOTH
@pytest.mark.parametrize("axis", [0, 1, -2])
def test_softmax_over_another_axis_is_named(axis, k):
    softmax = tf.nn.softmax if k is tf_keras else keras.ops.softmax
    words = said(operated(k, lambda x: softmax(x, axis=axis)))
    assert "(operator softmax): its settings are not known here" in words


def test_softmax_over_everything_at_once_is_named():
    words = said(operated(keras, lambda x: keras.ops.softmax(x, axis=None)))
    assert "(operator softmax): its settings are not known here" in words


def test_a_call_for_training_is_named():
    """tf.keras keeps to it; in Keras 3 model(x, training=False) goes before it."""

    def always(k):
        inputs = k.Input((SIZE, SIZE, 3))
        x = k.layers.Dropout(0.2, name="always")(inputs / 255, training=True)
        return k.Model(inputs, k.layers.Dense(2)(k.layers.Flatten()(x)))

    assert said(always(tf_keras)).startswith(
        "layer 'always' (Dropout): called with training=True, so that its answers are not those"
    )
    model = always(keras)
    assert difference(model, flatten(model).graph) < CLOSE


@BOTH
def test_several_inputs_or_outputs_are_named(k):
    a, b = k.Input((8, 8, 3), name="left"), k.Input((8, 8, 3), name="right")
    assert "wanted one input, found 2 ('left', 'right'); save keras.Model(" in said(
        k.Model([a, b], k.layers.Add()([a, b]))
    )
    outputs = [k.layers.Conv2D(2, 1, name="one")(a), k.layers.Conv2D(2, 1, name="two")(a)]
    assert "wanted one output, found 2 ('one', 'two'); save keras.Model(" in said(
        k.Model(a, outputs)
    )


@BOTH
def test_a_model_that_is_code_is_named(k):
    class Own(k.Model):
        def __init__(self):
            super().__init__(name="own")
            self.dense = k.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    assert said(Own()) == (
        "model 'own' (Own): a subclass of Model, which only its own code can run; build it as "
        "keras.Model(inputs, outputs) and save again"
    )


@BOTH
def test_a_model_without_an_input_shape_is_named(k):
    model = k.Sequential([k.layers.Flatten(), k.layers.Dense(2)], name="open")
    assert said(model) == (
        "model 'open': it does not say what shape its input has; put an Input layer first and "
        "save again"
    )


@pytest.mark.parametrize("shape", [(8, 8, 4), (8, 8), (64,), (3, 8, 8)])
def test_an_input_that_is_no_picture_is_named(shape):
    inputs = keras.Input(shape, name="x")
    words = said(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs))))
    assert words == (
        "input 'x': wanted (height, width, channels) with 1 or 3 channels, channels last, found "
        f"{shape}; put a Reshape of it behind an input of such a shape and save again"
    )


def test_what_is_no_model_of_keras_is_refused():
    assert said(object()) == "model: wanted one of Keras, found a object"
