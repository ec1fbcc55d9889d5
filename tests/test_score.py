"""What scoring depends on, and what an int8 answer of 0 costs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobileclf.config import Settings
from mobileclf.records import write_json
from mobileclf.scores import FLOAT, PARTS, Part, read_scores
from mobileclf.stages import score


def test_what_the_scores_depend_on():
    assert {"train.json", "convert.json", "model.keras"} <= set(score.STAGE.reads)
    assert "cluster" not in score.STAGE.settings  # where it is worked out changes nothing


def test_an_int8_answer_of_0_counts_as_half_a_step_and_a_float_one_as_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two photos, of which both models are sure that they are `b`; the first is `a`."""
    write_json(tmp_path / "dataset.json", {"labels": [{"label": x, "group": None} for x in "ab"]})
    write_json(tmp_path / "train.json", {"model": "model.keras"})
    write_json(tmp_path / "convert.json", {
        "candidates": [{"candidate": "int8", "file": "int8.tflite"}],
        "others": [{"variant": "fp16", "file": "fp16.tflite"}],
    })  # fmt: skip
    for name in ("int8.tflite", "fp16.tflite"):
        (tmp_path / name).write_bytes(name.encode())
    two = Part(paths=("1.png", "2.png"), digests=("1", "2"), truth=np.array([0, 1]))
    sure = np.array([[0, 1], [0, 1]], np.float32)

    def scored(model: bytes, photos: Any, **_: Any) -> Any:
        return np.uint8(255 * sure) if model == b"int8.tflite" else sure

    monkeypatch.setattr(score.keras_file, "load", lambda path: None)
    monkeypatch.setattr(score, "load_part", lambda *_, **__: (two, np.zeros((2, 4, 4, 3), "u1")))
    monkeypatch.setattr(score, "_keras_scores", lambda *_: sure)
    monkeypatch.setattr(score, "score_photos", scored)
    monkeypatch.setattr(score, "is_int8", lambda model: None)
    monkeypatch.setattr(score, "at_hand", lambda runtime: runtime != score.OLDEST)
    record = score.work(tmp_path, Settings())

    def loss(least: float, most: float) -> float:
        return -(math.log(least / (least + most)) + math.log(most / (least + most))) / 2

    variants = record["variants"]
    for part in PARTS:
        found = variants["int8.xnnpack"]["parts"][part]["loss"]
        assert found == pytest.approx(loss(1 / 512, 255 / 256), rel=1e-12)
        assert variants[FLOAT]["parts"][part]["loss"] == pytest.approx(loss(1e-7, 1), rel=1e-6)
    assert variants["int8.builtin"]["parts"]["test"]["loss"] == found
    assert variants["fp16"]["parts"]["test"]["loss"] == variants[FLOAT]["parts"]["test"]["loss"]
    assert read_scores(tmp_path, "int8.xnnpack", "test").probabilities.tolist() == [
        [0, 255 / 256]] * 2  # fmt: skip
    assert all(check["passed"] for check in record["identical"])
