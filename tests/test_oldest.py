"""`--min-runtime` fails what an older app cannot load: by operator versions, and by loading."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileclf.errors import DataError, EnvironmentProblem, ProofError, UsageError
from mobileclf.tflite import oldest
from mobileclf.tflite.delegates import Loaded
from mobileclf.tflite.graph import read
from mobileclf.tflite.inspect import _oldest_runtime
from mobileclf.tflite.oldest import check
from mobileclf.tflite.runtimes import OLDEST, at_hand
from tests.models import tiny_int8
from tests.test_graph import KINDS, edited

needs_the_oldest = pytest.mark.skipif(
    not at_hand(OLDEST), reason="tflite-runtime exists for Python < 3.12 on Linux"
)
CONV_2D = 3  # in the schema


def with_version(version: int) -> bytes:
    """The small int8 model, its convolutions in another version of the operator."""

    def change(tree):
        next(c for c in tree.operatorCodes if c.builtinCode == CONV_2D).version = version

    return edited(tiny_int8(), change)


@pytest.fixture
def never_asked(monkeypatch):
    """By the table alone."""
    monkeypatch.setattr(oldest, "at_hand", lambda runtime: False)


@needs_the_oldest
def test_an_int8_model_passes_and_runs_for_real():
    found = check(tiny_int8(), "2.14")
    needs = _oldest_runtime(tiny_int8(), read(tiny_int8()))["by_operators"]
    assert found == {"wanted": "2.14", "needs": needs, "loaded_by": "tflite-runtime 2.14.0"}


def test_an_operator_version_that_is_too_new_is_named(never_asked):
    model = with_version(8)
    with pytest.raises(ProofError) as caught:
        check(model, "2.14")
    said = str(caught.value)
    assert "wanted operators that TensorFlow Lite 2.14 has, found CONV_2D 8 (since 2.15);" in said
    assert "--min-runtime 2.15" in said
    assert check(model, "2.15") == {"wanted": "2.15", "needs": "2.15.0", "loaded_by": None}


def test_the_release_is_the_newest_of_all_and_may_be_a_patch(never_asked, monkeypatch):
    assert check(with_version(7), "2.11")["needs"] == "2.11.0"
    with pytest.raises(ProofError, match="since 2.11"):
        check(with_version(7), "2.10.1")
    monkeypatch.setattr(oldest, "first_release", lambda *_: "2.14.4")
    with pytest.raises(ProofError, match="since 2.14.4.*--min-runtime 2.14.4 "):
        check(tiny_int8(), "2.14")
    assert check(tiny_int8(), "2.14.4")["needs"] == "2.14.4"


@pytest.mark.parametrize("version", [0, 99])
def test_a_version_that_no_release_has_is_named(never_asked, version):
    with pytest.raises(ProofError, match=f"CONV_2D {version}, which no release is known to have"):
        check(with_version(version), "2.21")


@needs_the_oldest
def test_what_the_table_passes_and_the_runtime_does_not_still_fails(monkeypatch):
    """A dynamic-range model has a FULLY_CONNECTED of 2.17, which 2.14 does not load."""
    model = KINDS["dynamic range"]()
    with pytest.raises(ProofError, match=r"found FULLY_CONNECTED 12 \(since 2.17\)"):
        check(model, "2.14")
    monkeypatch.setattr(oldest, "first_release", lambda *_: "1.5.0")
    with pytest.raises(
        ProofError,
        match=r"tflite-runtime 2.14.0, found that tflite-runtime 2.14.0 cannot run it \(Didn't",
    ):
        check(model, "2.14")


@needs_the_oldest
def test_a_runtime_older_than_wanted_is_not_asked(monkeypatch):
    monkeypatch.setattr(oldest.delegates, "load", lambda *_, **__: pytest.fail("asked"))
    assert check(tiny_int8(), "2.14.1")["loaded_by"] is None
    with pytest.raises(pytest.fail.Exception):
        check(tiny_int8(), "2.14.0")


def test_a_runtime_that_cannot_start_is_the_machines_fault(monkeypatch):
    def broken(model: Path, runtimes: object, *, run: bool) -> list[Loaded]:
        return [Loaded(runtime="tflite-runtime 2.14.0", loads=None, reason="cannot start: x")]

    monkeypatch.setattr(oldest, "at_hand", lambda runtime: True)
    monkeypatch.setattr(oldest, "runtime_name", lambda runtime: "tflite-runtime 2.14.0")
    monkeypatch.setattr(oldest.delegates, "load", broken)
    with pytest.raises(EnvironmentProblem, match="cannot start: x; repair or uninstall"):
        check(tiny_int8(), "2.14")


@pytest.mark.parametrize("text", ["", "2", "2,14", "v2.14", "2.14.0.1", "2.-1", "latest"])
def test_what_is_no_release_is_wrong_usage(text):
    with pytest.raises(UsageError, match="wanted a release of TensorFlow Lite, as 2.14"):
        check(tiny_int8(), text)


def test_what_is_no_model_is_bad_data():
    with pytest.raises(DataError):
        check(b"nothing like a model", "2.14")
