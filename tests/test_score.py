"""What scoring depends on, and what an int8 answer of 0 costs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobileclf.errors import DataError
from mobileclf.images.load import ImageSpec
from mobileclf.others import OTHERS_CSV, load_others
from mobileclf.records import read_csv, sha256_bytes, write_csv, write_json
from mobileclf.scores import FLOAT, PARTS, Part, read_scores
from mobileclf.settings import Settings
from mobileclf.stages import score


def test_what_the_scores_depend_on():
    assert {"train.json", "convert.json", "model.keras"} <= set(score.STAGE.reads)
    assert "cluster" not in score.STAGE.settings  # where it is worked out changes nothing


def two_photos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of two photos, of which all models are sure that they are `b`; the first is `a`."""
    write_json(folder / "dataset.json", {"labels": [{"label": x, "group": None} for x in "ab"]})
    spec = ImageSpec(width=4, height=4).as_record()
    write_json(folder / "train.json", {"model": "model.keras", "input": spec})
    write_json(folder / "convert.json", {
        "candidates": [{"candidate": "int8", "file": "int8.tflite"}],
        "others": [{"variant": "fp16", "file": "fp16.tflite"}],
    })  # fmt: skip
    for name in ("int8.tflite", "fp16.tflite"):
        (folder / name).write_bytes(name.encode())
    two = Part(
        paths=("1.png", "2.png"), digests=("1", "2"), truth=np.array([0, 1]), unit=np.array([0, 1])
    )

    def sure(photos: Any) -> Any:
        return np.array([[0, 1]] * len(photos), np.float32)

    def scored(model: bytes, photos: Any, **_: Any) -> Any:
        return np.uint8(255 * sure(photos)) if model == b"int8.tflite" else sure(photos)

    def float_scored(model: Any, photos: Any, title: str, *, logits: bool) -> Any:
        return sure(photos), -1e3 + 2e3 * sure(photos) if logits else None

    monkeypatch.setattr(score.keras_file, "load", lambda path: None)
    monkeypatch.setattr(score, "load_part", lambda *_, **__: (two, np.zeros((2, 4, 4, 3), "u1")))
    monkeypatch.setattr(score, "_keras_scores", float_scored)
    monkeypatch.setattr(score, "score_photos", scored)
    monkeypatch.setattr(score, "is_int8", lambda model: None)
    monkeypatch.setattr(score, "at_hand", lambda runtime: runtime != score.OLDEST)


def test_an_int8_answer_of_0_counts_as_half_a_step_and_a_float_one_as_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_photos(tmp_path, monkeypatch)
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
    assert record["others"] is None
    assert not [name for name in record["outputs"] if "others" in name or "logits" in name]


def make_others(folder: Path, colours: dict[str, int]) -> Path:
    """PNGs of one colour each, by name."""
    for name, colour in colours.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 6), (colour, 0, 0)).save(folder / name)
    return folder


def test_other_things_are_scored_by_float_and_by_both_kernel_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    two_photos(run, monkeypatch)
    write_csv(run / "dataset.csv", ("path", "sha256"), [])
    source = make_others(tmp_path / "cats", {"a/1.png": 1, "2.png": 2, "b/3.png": 3})
    (source / "notes.txt").write_text("no picture")
    record = score.work(run, Settings(others=source))
    assert record["others"] == {"images": 3, "logits": True}
    others = {name for name in record["outputs"] if "others" in name}
    scored = ("float", "int8.xnnpack", "int8.builtin", "float_logits")
    assert others == {OTHERS_CSV, *(f"scores/{name}.others.npy" for name in scored)}
    assert all((run / name).is_file() for name in record["outputs"])
    assert not [v for v in record["variants"].values() if "others" in v["parts"]]
    assert read_scores(run, "int8.builtin", "others").quanta.tolist() == [[0, 255]] * 3  # type: ignore[union-attr]
    for part, photos in (("test", 2), ("others", 3)):
        logits = np.load(run / f"scores/float_logits.{part}.npy")
        assert logits.tolist() == [[-1e3, 1e3]] * photos
    assert not (run / "scores/float_logits.validation.npy").exists()
    assert [row["path"] for row in read_csv(run / OTHERS_CSV)] == ["2.png", "a/1.png", "b/3.png"]


def test_what_counts_as_another_thing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once each, none of the data, none that cannot be read."""
    source = make_others(tmp_path / "cats", {"1.png": 1, "2.png": 2, "same.png": 2, "own.png": 4})
    (source / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    own = sha256_bytes((source / "own.png").read_bytes())
    write_csv(
        tmp_path / "dataset.csv", ("path", "sha256"), [{"path": "boletus.png", "sha256": own}]
    )
    found = load_others(tmp_path, source, ImageSpec(width=2, height=3), cluster=None)
    assert found.photos[:, 0, 0, 0].tolist() == [1, 2]
    assert found.photos.shape == (2, 3, 2, 3)
    problems = {row["path"]: row["problem"] for row in found.rows}
    assert problems["1.png"] == problems["2.png"] == ""
    assert problems["same.png"] == "the same file as 2.png"
    assert problems["own.png"] == "the same file as boletus.png of the data"
    assert "PNG" in problems["broken.png"]
    assert "3 images of 5 left out, the first is broken.png" in capsys.readouterr().err


def test_without_a_usable_image_of_other_things_it_says_why(tmp_path: Path) -> None:
    write_csv(tmp_path / "dataset.csv", ("path", "sha256"), [])
    (tmp_path / "cats").mkdir()
    spec = ImageSpec(width=2, height=2)
    with pytest.raises(DataError, match="wanted a folder or zip with images of other things"):
        load_others(tmp_path, tmp_path / "cats", spec, cluster=None)
    (tmp_path / "cats" / "1.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"found none among 1; the first, 1.png: .*web page"):
        load_others(tmp_path, tmp_path / "cats", spec, cluster=None)


def test_other_things_count_by_what_they_are_and_not_by_where_they_lie(tmp_path: Path) -> None:
    one = make_others(tmp_path / "one", {"1.png": 1})
    same = make_others(tmp_path / "same", {"1.png": 1})
    more = make_others(tmp_path / "more", {"1.png": 1, "2.png": 2})
    none, first, moved, other = (
        score.STAGE.outside(Settings(others=source)) for source in (None, one, same, more)
    )
    assert none == {}
    assert first == moved != other


@pytest.mark.parametrize("end", ["dense", "activation", "sigmoid"])
def test_the_logits_are_what_the_softmax_is_taken_of(end: str) -> None:
    import keras

    pixels = keras.Input((2, 2, 3))
    values = keras.layers.Flatten()(pixels)
    if end == "activation":
        values = keras.layers.Activation("softmax")(keras.layers.Dense(3)(values))
    else:
        kind = "softmax" if end == "dense" else end
        values = keras.layers.Dense(3, kind, bias_initializer="random_normal")(values)
    model = keras.Model(pixels, values)
    photos = np.random.default_rng(0).integers(0, 3, (40, 2, 2, 3), dtype=np.uint8)
    plain, none = score._keras_scores(model, photos, "", logits=False)
    probabilities, logits = score._keras_scores(model, photos, "", logits=True)
    assert none is None
    assert np.array_equal(plain, probabilities)  # to the last bit: the same operations
    assert (logits is None) is (end == "sigmoid")
    if logits is not None:
        assert logits.dtype == np.float32
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        assert powers / powers.sum(axis=1, keepdims=True) == pytest.approx(plain, abs=1e-5)
