"""Every runtime and kind of end gives quanta; runtimes of one kernel family give the same."""

from __future__ import annotations

import sys
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.tflite import scorer
from mobileclf.tflite.interpreter import (
    Interpreter,
    Tensor,
    as_quanta,
    delegates_of,
    dequantized,
    open_interpreter,
    open_interpreters,
    score_on,
    score_photos,
    scores,
)
from mobileclf.tflite.runtimes import OLDEST, at_hand, runtime_name
from mobileclf.tflite.scorer import Job, score_apart
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


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_and_of_interpreters_gives_the_same(threads):
    wanted = scores(open_interpreter(tiny_int8()), photos())
    opened = open_interpreters(
        tiny_int8(), kernels="xnnpack", runtime="ai-edge-litert", threads=threads, many=3
    )
    counted = []
    got = score_on(opened, photos(), done=lambda: counted.append(1))
    np.testing.assert_array_equal(got, wanted)
    assert len(counted) == len(photos())


def test_each_kind_of_kernels_is_another():
    found = {k: open_interpreter(tiny_int8(), kernels=k) for k in ("xnnpack", "builtin")}
    reference = open_interpreter(tiny_int8(), kernels="reference")
    assert [delegates_of(one) for one in (*found.values(), reference)] == [1, 0, 0]
    answers = [scores(one, photos()).astype(int) for one in (*found.values(), reference)]
    # Of this network each pair differs somewhere, and never by much.
    for one, other in zip(answers, [*answers[1:], answers[0]], strict=True):
        assert 0 < np.abs(one - other).max() <= 5


def test_a_plan_that_cannot_be_told_is_none():
    name = b"conv"
    assert name in tiny_int8()
    odd = open_interpreter(tiny_int8().replace(name, b"\xff" * len(name)))
    assert delegates_of(odd) is None


def files(folder, *models):
    """The models as jobs of a photo more each."""
    jobs = []
    for i, model in enumerate(models):
        (folder / f"{i}.tflite").write_bytes(model)
        jobs.append(Job(model=folder / f"{i}.tflite", kernels="xnnpack", threads=1, photos=2 + i))
    return jobs


def test_jobs_in_another_process_give_the_same_and_one_that_fails_stops_none(tmp_path):
    jobs = files(tmp_path, tiny_int8(), b"nothing like a model", tiny_float())
    counted = []
    found = score_apart("ai-edge-litert", jobs, photos(), lambda: counted.append(1))
    wanted = scores(open_interpreter(tiny_int8()), photos(2))
    np.testing.assert_array_equal(found[0].scores, wanted)
    assert (found[0].delegates, found[0].problem) == (1, None)
    assert found[1].scores is None and "cannot load it" in found[1].problem
    np.testing.assert_array_equal(
        found[2].scores, scores(open_interpreter(tiny_float()), photos()[:4])
    )
    assert len(counted) == 2 + 3 + 4


DIES = """
import json, os, sys, time
print(json.dumps({"what": "photo"}), flush=True)
print("a library's own words", flush=True)
%s
"""


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os.abort()", "ai-edge-litert 9: crashed (exit -6)"),
        ("raise SystemExit('no such symbol')", "ai-edge-litert 9: crashed (exit 1): no such"),
    ],
)
def test_what_ends_the_process_is_that_jobs_reason_and_the_next_one_is_done(
    tmp_path, monkeypatch, code, reason
):
    first_is(monkeypatch, DIES % code)
    counted = []
    jobs = files(tmp_path, tiny_int8(), tiny_int8())
    found = score_apart("ai-edge-litert", jobs, photos(), lambda: counted.append(1))
    assert found[0].scores is None and found[0].problem.startswith(reason)
    assert found[1].problem is None and len(found[1].scores) == 3
    assert len(counted) == 2 + 3


def test_a_process_that_hangs_is_ended(tmp_path, monkeypatch):
    first_is(monkeypatch, DIES % "time.sleep(60)")
    jobs = files(tmp_path, tiny_int8())
    (found,) = score_apart("ai-edge-litert", jobs, photos(), lambda: None, limit=1)
    assert found.problem == "ai-edge-litert 9: no answer in 1 seconds"


def first_is(monkeypatch, code):
    """Have `code` run in place of the first process."""
    own = scorer.apart.command
    monkeypatch.setattr(scorer, "runtime_name", lambda runtime: f"{runtime} 9")
    monkeypatch.setattr(
        scorer.apart,
        "command",
        lambda *given: [sys.executable, "-c", code] if given[-1] == "0" else own(*given),
    )


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
