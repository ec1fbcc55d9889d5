"""What scoring depends on, and what reaches the model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.stages.score import STAGE
from mobileclf.tflite.interpreter import Interpreter, scores


def test_what_the_scores_depend_on():
    assert {"image_size", "channels"} <= set(STAGE.settings)
    assert "cluster" not in STAGE.settings  # where it is worked out changes nothing


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_photos_reach_the_model_as_they_are(channels):
    """The engine answers the sums of an image's upper and lower row."""
    given = []
    details = {"index": 0, "dtype": np.uint8, "quantization": (1 / 256, 0)}
    engine = SimpleNamespace(
        get_input_details=lambda: [details],
        get_output_details=lambda: [details],
        set_tensor=lambda _, image: given.append(image),
        invoke=lambda: None,
        get_tensor=lambda _: given[-1].sum(axis=(2, 3), dtype=np.uint8),
    )
    interpreter = Interpreter(engine=engine, shape=(2, 3, channels), labels=2)
    images = np.random.default_rng(0).integers(0, 20, (4, 2, 3, channels), dtype=np.uint8)
    np.testing.assert_array_equal(scores(interpreter, images), images.sum(axis=(2, 3)))
    with pytest.raises(DataError, match=f"wanted \\(n, 2, 3, {channels}\\), found"):
        scores(interpreter, images[..., :1].repeat(4 - channels, axis=3))
