"""Every runtime and kind of end gives quanta; runtimes of one kernel family give the same."""

from __future__ import annotations

from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.tflite.interpreter import (
    Interpreter,
    Tensor,
    as_quanta,
    dequantized,
    open_interpreter,
    score_photos,
    scores,
)
from mobileclf.tflite.runtimes import OLDEST, at_hand, runtime_name
from tests.models import LABELS, SIZE, photos, tiny_float, tiny_int8


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_all_ends_give_the_same_quanta(io):
    wanted = scores(open_interpreter(tiny_int8()), photos())
    got = as_quanta(scores(open_interpreter(tiny_int8(io)), photos()))
    np.testing.assert_array_equal(got, wanted)
    assert wanted.dtype == np.uint8 and wanted.shape == (len(photos()), LABELS)
    assert len(np.unique(wanted, axis=0)) > 1


def test_in_threads_as_one_after_another():
    wanted = scores(open_interpreter(tiny_int8()), photos())
    np.testing.assert_array_equal(score_photos(tiny_int8(), photos(), title="x"), wanted)


def test_tensorflow_has_the_same_xnnpack_answers():
    one = score_photos(tiny_int8(), photos(), title="x")
    other = score_photos(tiny_int8(), photos(), title="x", runtime="tensorflow")
    np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(not at_hand(OLDEST), reason="tflite-runtime exists for Python < 3.12 on Linux")
def test_the_oldest_runtime_answers_as_built_in_kernels_do():
    got = score_photos(tiny_int8(), photos(), title="x", runtime=OLDEST)
    builtin = score_photos(tiny_int8(), photos(), title="x", kernels="builtin")
    assert np.abs(got.astype(int) - builtin).max() <= 1


@pytest.mark.skipif(not at_hand(OLDEST), reason="tflite-runtime exists for Python < 3.12 on Linux")
def test_the_oldest_runtime_says_why_it_cannot():
    with pytest.raises(DataError, match="tflite-runtime cannot run it"):
        score_photos(tiny_int8()[:2000], photos(), title="x", runtime=OLDEST)


def test_a_float_model_has_no_quanta():
    answers = scores(open_interpreter(tiny_float()), photos())
    assert answers.dtype == np.float32
    with pytest.raises(DataError, match="grid of 1/256"):
        as_quanta(answers)


def test_photos_of_another_size_are_refused():
    with pytest.raises(DataError, match="wanted \\(n, 16, 16, 3\\), found"):
        scores(open_interpreter(tiny_int8()), photos(2, SIZE + 1))


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(DataError, match="cannot load it"):
        open_interpreter(b"nothing like a model")


def test_outputs_are_dequantized_by_the_files_own_scale():
    values = np.array([-128, 0, 127], np.int8)
    tensor = Tensor(index=0, dtype=np.dtype(np.int8), scale=1 / 256, zero_point=-128)
    np.testing.assert_array_equal(dequantized(values, tensor), [0, 0.5, 255 / 256])
    logits = Tensor(index=0, dtype=np.dtype(np.int8), scale=0.1, zero_point=27)
    np.testing.assert_allclose(dequantized(values, logits), [-15.5, -2.7, 10.0])
    none = Tensor(index=0, dtype=np.dtype(np.int8), scale=0.0, zero_point=0)
    with pytest.raises(DataError, match="an integer output without quantization"):
        dequantized(values, none)
    floats = np.array([0.25, -3.0], np.float32)
    np.testing.assert_array_equal(dequantized(floats, none), [0.25, -3.0])


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_photos_reach_the_model_as_they_are(channels):
    """The engine answers the sums of an image's upper and lower row."""
    given = []
    tensor = Tensor(index=0, dtype=np.dtype(np.uint8), scale=1 / 256, zero_point=0)
    engine = SimpleNamespace(
        set_tensor=lambda _, image: given.append(image),
        invoke=lambda: None,
        get_tensor=lambda _: given[-1].sum(axis=(2, 3), dtype=np.uint8),
    )
    interpreter = Interpreter(
        engine=engine, shape=(2, 3, channels), labels=2, input=tensor, output=tensor
    )
    images = np.random.default_rng(0).integers(0, 20, (4, 2, 3, channels), dtype=np.uint8)
    np.testing.assert_array_equal(scores(interpreter, images), images.sum(axis=(2, 3)))
    with pytest.raises(DataError, match=f"wanted \\(n, 2, 3, {channels}\\), found"):
        scores(interpreter, images[..., :1].repeat(4 - channels, axis=3))


def test_a_runtime_is_named_with_its_version():
    version = metadata.version("ai-edge-litert")
    assert runtime_name("ai-edge-litert") == f"ai-edge-litert {version}"


@pytest.mark.parametrize(
    ("wheels", "name"),
    [(["tensorflow-cpu"], "tensorflow 2.1 (tensorflow-cpu)"), (None, "tensorflow")],
)
def test_a_runtime_from_another_wheel_is_named(monkeypatch, wheels, name):
    def version(wheel):
        if wheel != "tensorflow-cpu":
            raise metadata.PackageNotFoundError(wheel)
        return "2.1"

    monkeypatch.setattr(metadata, "version", version)
    found = {"tensorflow": wheels} if wheels else {}
    monkeypatch.setattr(metadata, "packages_distributions", lambda: found)
    assert runtime_name("tensorflow") == name
