"""The ends of a graph: which pixels go in, and one probability for each label comes out."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tf_keras

from mobileclf.errors import DataError
from mobileclf.images.preprocess import NAMED, preprocess_of
from mobileclf.importing.ends import (
    preprocesses_itself,
    probabilities,
    with_preprocess,
    with_probabilities,
)
from mobileclf.importing.flatten import flatten
from mobileclf.models.graph import build
from tests.models import photos

BOTH = (keras, tf_keras)
SIZE = 12


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


def model(*layers, channels=3):
    first = keras.layers.Conv2D(4, 3, padding="same", name="stem")
    return keras.Sequential([keras.Input((SIZE, SIZE, channels), name="pixels"), first, *layers])


def dense(units, activation=None, **options):
    pooled = keras.layers.GlobalAveragePooling2D()
    return model(pooled, keras.layers.Dense(units, activation=activation, name="labels", **options))


def pixels(channels=3):
    return photos(4, SIZE)[..., :channels].astype(np.float32)


def answers(network, x):
    return np.asarray(network(x, training=False))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# ---------------------------------------------------------------------------------------------
# the input


SPECS = {
    "0..1": lambda x: x / 255,
    "-1..1": lambda x: x / 127.5 - 1,
    "caffe": lambda x: x[..., ::-1] - [103.939, 116.779, 123.68],
    "torch": lambda x: (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    "1,2,3,4,5,6": lambda x: (x - [1, 2, 3]) / [4, 5, 6],
    "10,20": lambda x: (x - 10) / 20,
}


@pytest.mark.parametrize("name", SPECS)
def test_preprocessing_stands_in_front(name):
    network = dense(3, "softmax")
    graph = flatten(network).graph
    assert not preprocesses_itself(graph)
    whole = with_preprocess(graph, preprocess_of(name))
    assert preprocesses_itself(whole)
    wanted = answers(network, SPECS[name](pixels()).astype(np.float32))
    for k in BOTH:
        assert np.abs(answers(build(k, whole), pixels()) - wanted).max() < 1e-5
    assert np.abs(answers(build(keras, graph), pixels()) - wanted).max() > 1e-3


def test_bytes_as_they_are_add_nothing():
    graph = flatten(dense(3)).graph
    assert [n.name for n in with_preprocess(graph, NAMED["0..255"]).nodes] == [
        n.name for n in graph.nodes
    ]


def test_a_grey_model_takes_one_number():
    network = model(keras.layers.Flatten(), keras.layers.Dense(2), channels=1)
    graph = flatten(network).graph
    whole = with_preprocess(graph, NAMED["-1..1"])
    got = answers(build(keras, whole), pixels(1))
    assert np.abs(got - answers(network, pixels(1) / 127.5 - 1)).max() < 1e-5
    for name in ("caffe", "torch"):
        with pytest.raises(DataError, match=f"preprocessing {name}: wanted 3 channels, found 1"):
            with_preprocess(graph, NAMED[name])


def test_raw_bytes_are_for_integers():
    with pytest.raises(DataError, match="preprocessing raw: it is for an integer input, found flo"):
        with_preprocess(flatten(dense(3)).graph, NAMED["raw"])


def test_names_that_are_taken_stay_apart():
    network = model(
        keras.layers.BatchNormalization(name="preprocess"),
        keras.layers.Conv2D(2, 1, name="bgr"),
        keras.layers.GlobalAveragePooling2D(),
    )
    spec = replace(NAMED["caffe"], std=(2.0,))
    names = [node.name for node in with_preprocess(flatten(network).graph, spec).nodes]
    assert names[1:3] == ["bgr_2", "preprocess_2"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("first", "itself"),
    [
        (lambda: keras.layers.Rescaling(1 / 255), True),
        (lambda: keras.layers.Normalization(mean=[1.0, 2, 3], variance=[4.0, 5, 6]), True),
        (lambda: keras.layers.BatchNormalization(), False),
        (lambda: keras.layers.ZeroPadding2D(1), False),
        (lambda: keras.layers.Conv2D(3, 1, use_bias=False), False),
        (lambda: keras.layers.Rescaling(1.0), False),
    ],
)
def test_a_model_may_scale_its_own_pixels(first, itself):
    layers = [keras.Input((SIZE, SIZE, 3)), first(), keras.layers.Conv2D(4, 3)]
    assert preprocesses_itself(flatten(keras.Sequential(layers)).graph) is itself


def test_pixels_that_are_read_twice_are_not_scaled_by_one_of_the_two():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Add()([inputs, keras.layers.Rescaling(1 / 255)(inputs)])
    assert not preprocesses_itself(flatten(keras.Model(inputs, x)).graph)


@pytest.mark.parametrize("scaled", [False, True])
def test_an_exchange_of_channels_says_nothing_of_their_scale(scaled):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = inputs[..., ::-1] / 255 if scaled else inputs[..., ::-1]
    network = keras.Model(inputs, keras.layers.Conv2D(2, 3)(x))
    assert preprocesses_itself(flatten(network).graph) is scaled


# ---------------------------------------------------------------------------------------------
# the output


def conv_flatten(units, activation=None, inside=None):
    """As MobileNetV3 ends: a 1x1 convolution over what is pooled, then Flatten."""
    layers = [
        keras.layers.GlobalAveragePooling2D(keepdims=True),
        keras.layers.Conv2D(units, 1, activation=inside, name="labels"),
        keras.layers.Flatten(),
    ]
    return model(*layers, *([keras.layers.Activation(activation)] if activation else []))


def conv_pool(units, activation=None):
    layers = [keras.layers.Conv2D(units, 1), keras.layers.GlobalAveragePooling2D()]
    return model(*layers, *([keras.layers.Activation(activation)] if activation else []))


def reshaped(units, inside):
    return model(
        keras.layers.GlobalAveragePooling2D(keepdims=True),
        keras.layers.Conv2D(units, 1, activation=inside),
        keras.layers.Reshape((units,)),
    )


ENDS = {
    "dense softmax": (lambda: dense(3, "softmax"), "softmax", lambda y: y),
    "conv softmax": (lambda: conv_flatten(3, "softmax"), "softmax", lambda y: y),
    "softmax inside": (lambda: conv_flatten(3, inside="softmax"), "softmax", lambda y: y),
    "pool softmax": (lambda: conv_pool(3, "softmax"), "softmax", lambda y: y),
    "logits": (lambda: dense(3), "logits", softmax),
    "two logits": (lambda: dense(2, use_bias=False), "logits", softmax),
    "conv logits": (lambda: conv_flatten(3), "logits", softmax),
    "sigmoid": (lambda: dense(1, "sigmoid"), "sigmoid", lambda y: np.hstack([1 - y, y])),
    "sigmoid layer": (
        lambda: model(
            keras.layers.Flatten(), keras.layers.Dense(1), keras.layers.Activation("sigmoid")
        ),
        "sigmoid",
        lambda y: np.hstack([1 - y, y]),
    ),
    "conv sigmoid": (
        lambda: conv_flatten(1, "sigmoid"), "sigmoid", lambda y: np.hstack([1 - y, y]),
    ),
    "sigmoid inside": (
        lambda: reshaped(1, "sigmoid"), "sigmoid", lambda y: np.hstack([1 - y, y]),
    ),
    "pool sigmoid": (lambda: conv_pool(1, "sigmoid"), "sigmoid", lambda y: np.hstack([1 - y, y])),
    "sigmoid logit": (
        lambda: dense(1), "sigmoid logit", lambda y: softmax(np.hstack([np.zeros_like(y), y])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_one_probability_for_each_label(name):
    make, form, expected = ENDS[name]
    network = make()
    graph, found = with_probabilities(flatten(network).graph)
    assert found == form
    assert graph.nodes[-1].config["activation"] == "softmax"
    x = pixels() / 255
    wanted = expected(answers(network, x))
    assert np.ptp(wanted, axis=0).max() > 1e-3
    for k in BOTH:
        got = answers(build(k, graph), x)
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() < 1e-6


def test_the_unit_is_the_second_label():
    """A class folder of label 1 in flow_from_directory is the one that sigmoid stands for."""
    network = dense(1, "sigmoid", bias_initializer=keras.initializers.Constant(50.0))
    graph, _ = with_probabilities(flatten(network).graph)
    np.testing.assert_allclose(
        answers(build(keras, graph), pixels() / 255), [[0, 1]] * 4, atol=1e-6
    )
    kernel, bias = graph["labels"].weights
    assert not kernel[:, 0].any() and bias[0] == 0


def average_of_two():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    each = [keras.layers.Dense(2, activation="softmax")(x) for _ in range(2)]
    return keras.Model(inputs, keras.layers.Average(name="mean")(each))


WANTED = "wanted a Dense layer with softmax, with sigmoid or with neither at the end"
REFUSED = {
    "multi-label": (
        lambda: dense(5, "sigmoid"),
        "layer 'labels' (Dense): 5 outputs with a sigmoid each, which is multi-label: several "
        "labels may hold for a photo; wanted one label a photo: train with softmax",
    ),
    "one softmax": (
        lambda: dense(1, "softmax"),
        "layer 'labels' (Dense): softmax over one output is always 1; train with sigmoid, or with "
        "one output for each of two labels",
    ),
    "relu": (
        lambda: dense(3, "relu"),
        f"layer 'labels' (Dense): {WANTED}, found relu before it; save the model so",
    ),
    "scaled": (
        lambda: model(
            keras.layers.Flatten(), keras.layers.Dense(1), keras.layers.Rescaling(2.0, name="last")
        ),
        f"layer 'last' (Rescaling): {WANTED}; save the model so",
    ),
    "ensemble": (average_of_two, f"layer 'mean' (Average): {WANTED}; save the model so"),
    "picture": (
        lambda: model(),
        "layer 'stem' (Conv2D): wanted one row of answers for a photo, found the shape "
        "(12, 12, 4); put GlobalAveragePooling2D and Dense behind it",
    ),
    "averaged probabilities": (
        lambda: model(
            keras.layers.Conv2D(3, 1, activation="softmax"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
        ),
        f"layer 'pool' (GlobalAveragePooling2D): {WANTED}, found softmax before it; save the "
        "model so",
    ),
    "no head": (
        lambda: model(keras.layers.MaxPooling2D(SIZE), keras.layers.Flatten(name="flat")),
        f"layer 'flat' (Flatten): {WANTED}; save the model so",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_end_that_names_no_label_is_refused(name):
    make, words = REFUSED[name]
    with pytest.raises(DataError) as error:
        with_probabilities(flatten(make()).graph)
    assert str(error.value) == words


# ---------------------------------------------------------------------------------------------
# what the outputs mean


MEANT = {
    "softmax": ([[0.25, 0.75]], [[0.25, 0.75]]),
    "logits": ([[0.0, np.log(3)], [-2000.0, 2000.0]], [[0.25, 0.75], [0, 1]]),
    "sigmoid": ([[0.75]], [[0.25, 0.75]]),
    "sigmoid logit": ([[np.log(3)], [-np.log(3)], [2000.0], [-2000.0]],
                      [[0.25, 0.75], [0.75, 0.25], [0, 1], [1, 0]]),
}  # fmt: skip


@pytest.mark.parametrize("form", MEANT)
def test_what_outputs_mean(form):
    outputs, wanted = (np.array(rows, np.float64) for rows in MEANT[form])
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(probabilities(outputs, form), wanted, atol=1e-15)


@pytest.mark.parametrize("form", MEANT)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_means_nothing(form, number):
    outputs = np.full((2, 1 if "sigmoid" in form else 3), 0.5)
    outputs[1, 0] = number
    with pytest.raises(DataError, match="its answers are no numbers"):
        probabilities(outputs, form)
