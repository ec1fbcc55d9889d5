"""Weights files are refused with one line that says what was wanted."""

from __future__ import annotations

import pytest

from mobileclf.config import make_settings
from mobileclf.errors import DataError
from mobileclf.models import backbones
from mobileclf.models.backbones import Architecture


def architecture(backbone, size=75):
    return Architecture(backbone=backbone, image_size=size, labels=3, seed=0)


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

    file = tmp_path / "other.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None).save_weights(file)
    with pytest.raises(DataError, match="wanted a Keras h5 of this backbone without top"):
        backbones.build(keras, architecture("inception_v3"), weights=str(file))


def test_an_h5_without_weights_is_refused(tmp_path):
    import h5py
    import keras

    file = tmp_path / "empty.h5"
    with h5py.File(file, "w") as stored:
        stored["x"] = [1, 2]
    with pytest.raises(DataError, match="wanted a Keras h5 of this backbone without top"):
        backbones.build(keras, architecture("mobilenet_v2", 32), weights=str(file))


def test_weights_without_top_arrive(tmp_path):
    import keras
    import numpy as np

    file = tmp_path / "own.weights.h5"
    keras.utils.set_random_seed(5)
    base = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    base.save_weights(file)
    model = backbones.build(keras, architecture("mobilenet_v2", 32), weights=str(file))
    np.testing.assert_array_equal(
        model.get_layer("Conv_1").get_weights()[0], base.get_layer("Conv_1").get_weights()[0]
    )


def test_a_seed_gives_the_same_network():
    import keras
    import numpy as np

    one, other = (backbones.build(keras, architecture("small_cnn", 16)) for _ in range(2))
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
