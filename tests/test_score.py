"""Plain metrics against counting by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.stages.score import STAGE, metrics
from mobileclf.tflite.interpreter import Interpreter, scores

LABELS = ("a", "b", "c", "d")
TRUTH = np.array([0, 0, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [
        [0.7, 0.1, 0.1, 0.1],
        [0.2, 0.5, 0.2, 0.1],
        [0.1, 0.6, 0.2, 0.1],
        [0.1, 0.1, 0.7, 0.1],
        [0.4, 0.3, 0.2, 0.1],
        [0.1, 0.2, 0.6, 0.1],
    ]
)


def test_metrics_by_hand():
    found = metrics(PROBABILITIES, TRUTH, LABELS)
    assert found["n"] == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["top_3"] == 1.0
    assert found["confusion"] == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    own = PROBABILITIES[np.arange(6), TRUTH]
    assert found["loss"] == pytest.approx(-np.log(own).mean())
    assert found["classes"]["b"] == {
        "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "photos": 1,
    }  # fmt: skip
    assert found["classes"]["d"] == {"precision": 0, "recall": 0, "f1": 0, "photos": 0}
    assert found["macro"]["recall"] == pytest.approx((0.5 + 1 + 2 / 3 + 0) / 4)


def test_top_k_counts_the_lower_index_first_on_a_tie():
    tied = np.full((1, 5), 0.2)
    labels = ("a", "b", "c", "d", "e")
    assert metrics(tied, np.array([2]), labels)["top_3"] == 1.0
    assert metrics(tied, np.array([3]), labels)["top_3"] == 0.0


def test_an_output_of_zero_has_a_finite_loss_that_int8_can_mean():
    rows, truth = np.array([[255 / 256, 0.0]]), np.array([1])
    assert metrics(rows, truth, ("a", "b"), smallest=1 / 512)["loss"] == pytest.approx(
        -np.log((1 / 512) / (255 / 256 + 1 / 512))
    )
    assert metrics(rows, truth, ("a", "b"))["loss"] > 15


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
