"""A file that answers unlike its graph is refused; ends and inputs are as asked."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.errors import ProofError
from mobileclf.stages.convert import _as_the_graph
from mobileclf.tflite import convert
from mobileclf.tflite.graph import contents
from tests.models import SIZE, photos, tiny_folded, tiny_graph, tiny_int8


def test_the_file_answers_like_its_graph():
    check = _as_the_graph("calibrated", tiny_graph(), tiny_int8(), photos())
    assert check["agreement"] > 0.95 and check["mean_difference"] < 0.01


def test_a_file_of_another_graph_is_caught():
    """The same network with its outputs in another order."""
    import tf_keras

    turned = tf_keras.models.clone_model(tiny_folded())
    weights = tiny_folded().get_weights()
    turned.set_weights([*weights[:-2], weights[-2][:, ::-1], weights[-1][::-1]])
    model = convert.post_training(turned, "uint8", photos())
    with pytest.raises(ProofError, match="model_x.tflite does not answer like its graph"):
        _as_the_graph("x", tiny_graph(), model, photos())


def test_the_input_takes_bytes_whatever_the_photos_hold():
    """Calibrated on grey pictures alone, the stock model's input scale is still 1."""
    grey = np.full((32, SIZE, SIZE, 3), 100, np.uint8)
    end = contents(convert.post_training(tiny_folded(), "uint8", grey)).inputs[0]
    assert (end.scale, end.zero_point) == (1.0, 0)


def test_half_and_dynamic_and_int16_are_what_they_say():
    size = {
        "float32": len(convert.floating(tiny_folded(), "float32")),
        "fp16": len(convert.floating(tiny_folded(), "fp16")),
        "dynamic": len(convert.floating(tiny_folded(), "dynamic")),
    }
    assert size["dynamic"] < size["fp16"] < size["float32"]
    wide = contents(convert.post_training(tiny_folded(), "uint8", photos(), int16x8=True)).operators
    assert any(op.name == "CONV_2D" and "int16" in op.types for op in wide)
