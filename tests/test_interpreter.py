"""Every runtime and kind of end gives quanta; runtimes of one kernel family give the same."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.tflite.interpreter import (
    OLDEST,
    as_quanta,
    at_hand,
    open_interpreter,
    score_photos,
    scores,
)
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
