"""Networks: which there are, grey and colour, and weights files refused with one line."""

from __future__ import annotations

import pytest

from mobileclf.config import make_settings
from mobileclf.errors import DataError
from mobileclf.models import backbones
from mobileclf.models.backbones import Architecture
from mobileclf.settings import BACKBONES, IMAGE_SIZES, SMALLEST_IMAGE, UNTRAINED
from tests.models import architecture, photos


def settings(weights, tmp_path):
    return make_settings({"data": tmp_path, "weights": str(weights), "run": tmp_path / "run"})


def test_an_absent_file_is_refused_before_anything_is_built(tmp_path):
    with pytest.raises(DataError, match="there is no such file; wanted imagenet, none or"):
        backbones.check_weights(settings(tmp_path / "none.h5", tmp_path))


def test_a_file_that_is_no_h5_is_refused_before_anything_is_built(tmp_path):
    file = tmp_path / "x.h5"
    file.write_bytes(b"no h5 at all")
    with pytest.raises(DataError, match="wanted a Keras h5 file, found something else"):
        backbones.check_weights(settings(file, tmp_path))


@pytest.mark.parametrize("weights", ["imagenet", "none"])
def test_names_are_no_files(weights, tmp_path):
    backbones.check_weights(settings(weights, tmp_path))


def test_weights_of_another_network_are_refused(tmp_path):
    import keras

    file = weights_of_colour("plain_cnn", tmp_path)
    with pytest.raises(DataError, match="wanted a Keras h5 of this backbone without top"):
        backbones.build(keras, architecture("mobilenet_v2", size=32), weights=file)
    with pytest.raises(DataError, match="wanted the weights of small_cnn without top"):
        backbones.build(keras, architecture(), weights=file)


def test_an_h5_without_weights_is_refused(tmp_path):
    import h5py
    import keras

    file = tmp_path / "empty.h5"
    with h5py.File(file, "w") as stored:
        stored["x"] = [1, 2]
    with pytest.raises(DataError, match="wanted a Keras h5 of this backbone without top"):
        backbones.build(keras, architecture("mobilenet_v2", size=32), weights=str(file))


def test_weights_without_top_arrive(tmp_path):
    import keras
    import numpy as np

    file = tmp_path / "own.weights.h5"
    keras.utils.set_random_seed(5)
    base = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    base.save_weights(file)
    model = backbones.build(keras, architecture("mobilenet_v2", size=32), weights=str(file))
    np.testing.assert_array_equal(
        model.get_layer("Conv_1").get_weights()[0], base.get_layer("Conv_1").get_weights()[0]
    )


def test_a_seed_gives_the_same_network():
    import keras
    import numpy as np

    one, other = (backbones.build(keras, architecture()) for _ in range(2))
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_backbone_that_can_be_asked_for_is_there_and_no_other():
    assert tuple(backbones.BACKBONES) == BACKBONES
    assert set(IMAGE_SIZES) == set(SMALLEST_IMAGE) == set(backbones.BACKBONES)
    assert set(backbones.FLATTENED) | set(UNTRAINED) <= set(backbones.BACKBONES)


@pytest.mark.parametrize("units", [(), (64,), (8, 4, 2)])
@pytest.mark.parametrize("keras", ["keras", "tf_keras"])
def test_the_head_has_the_layers_asked_for(keras, units):
    import importlib

    model = backbones.build(importlib.import_module(keras), architecture("plain_cnn", units=units))
    dense = [layer for layer in model.layers if type(layer).__name__ == "Dense"]
    names = ["hidden", "hidden_2", "hidden_3"][: len(units)] + ["probabilities"]
    assert [layer.name for layer in dense] == names
    assert [layer.units for layer in dense] == [*units, 3]
    assert model.layers[-1] is dense[-1]


def test_an_architecture_goes_through_a_record():
    import json

    for units in ((), (64, 32)):
        wanted = architecture(channels=1, units=units)
        record = json.loads(json.dumps(wanted.as_record()))
        assert record == wanted.as_record()
        assert Architecture.from_record(record) == wanted


def test_plain_cnn_is_two_convolutions_with_pooling_flattened():
    import keras
    import numpy as np

    model = backbones.build(keras, architecture("plain_cnn"))
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "MaxPooling2D"]
    assert kinds == ["InputLayer", "Rescaling", *block, *block, "Flatten", "Dense", "Dense"]
    assert model.get_layer("block1_conv").output.shape == (None, 14, 14, 32)
    assert model.get_layer("features").output.shape == (None, 2 * 2 * 32)
    pixels = photos(2).astype("float32")
    white = np.asarray(keras.Model(model.input, model.get_layer("scale").output)(pixels))
    np.testing.assert_allclose(white, pixels / 255, rtol=1e-6)


SMALL = {"inception_v3": 75, "mobilenet_v2": 32, "small_cnn": 16, "plain_cnn": 16}


def weights_of_colour(backbone, folder):
    """A weights file of the colour network, its batch norm as after training."""
    import keras
    import numpy as np

    shape = (SMALL[backbone], SMALL[backbone], 3)
    pixels = keras.Input(shape)
    base = keras.Model(pixels, backbones.BACKBONES[backbone](keras, pixels, None))
    rng = np.random.default_rng(1)
    for layer in base.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    file = folder / "own.weights.h5"
    base.save_weights(file)
    return str(file)


def colour_and_grey(backbone, folder):
    """Features of the colour network on a grey picture three times over, and of the grey one."""
    import keras
    import numpy as np

    file, size = weights_of_colour(backbone, folder), SMALL[backbone]
    grey = photos(2, size, 1).astype(np.float32)
    found = []
    for channels in (3, 1):
        wanted = architecture(backbone, size=size, channels=channels)
        model = backbones.build(keras, wanted, weights=file)
        extractor = keras.Model(model.input, model.get_layer("features").output)
        found.append(np.asarray(extractor(np.repeat(grey, channels, axis=3), training=False)))
    return found


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_grey_network_is_the_colour_one_on_grey_pictures(backbone, tmp_path):
    import numpy as np

    colour, grey = colour_and_grey(backbone, tmp_path)
    assert colour.std() > 1e-3
    np.testing.assert_allclose(grey, colour, atol=1e-5 * max(1.0, float(np.abs(colour).max())))


def test_a_kernel_averaged_over_its_colours_is_caught(tmp_path, monkeypatch):
    import numpy as np

    right = backbones._sum_colours

    def averaged(colour, grey):
        right(colour, grey)
        layer = grey.get_layer("block1_conv")
        layer.set_weights([layer.get_weights()[0] / 3, *layer.get_weights()[1:]])

    monkeypatch.setattr(backbones, "_sum_colours", averaged)
    colour, grey = colour_and_grey("plain_cnn", tmp_path)
    assert np.abs(colour - grey).max() > 1e-3 * np.abs(colour).max()


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "plain_cnn"])
def test_both_keras_build_the_same_grey_network(backbone):
    import keras
    import numpy as np
    import tf_keras

    from mobileclf.importing.flatten import flatten
    from mobileclf.models import equality
    from mobileclf.models.graph import build

    wanted = architecture(backbone, size=SMALL[backbone], channels=1, units=(8, 4))
    ours = backbones.build(keras, wanted)
    theirs = build(tf_keras, flatten(ours).graph)
    pixels = photos(2, SMALL[backbone], 1).astype(np.float32)
    difference = equality.largest_difference(ours(pixels), theirs(pixels))
    assert difference <= equality.EQUAL
