"""Anyone's model: its labels, pixels and scores are its own or given, never guessed."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from mobileclf import cli
from mobileclf.decision import NOT_SURE, Abstain, Classes, Decision, decision_file, to_quanta
from mobileclf.errors import DataError, UsageError
from mobileclf.images import preprocess
from mobileclf.images.load import ImageSpec, load
from mobileclf.models import keras_file
from mobileclf.prediction import predict as prediction
from mobileclf.prediction.labels import labels_of
from mobileclf.prediction.predict import odd_of, predict
from mobileclf.records import sha256_file, write_json
from mobileclf.tflite import delegates, graph, interpreter, metadata
from tests.models import SIZE, tiny_float, tiny_int8

DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
MOBILENET = DATA / "tflite" / "mobilenet_v1_0.25_128_quant.tflite"
LABELS = ("ant", "bee", "cat")
CLASSES = Classes(labels=LABELS, groups=("bad", "good", "good"), harmful="bad")
ABOUT = metadata.Description(
    name="x",
    description="x",
    version="1",
    author="x",
    width=SIZE,
    height=SIZE,
    channels=3,
    minimum_score=None,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Noise of many sizes, the largest first, so that in threads the last are ready first."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    paths = []
    for i, side in enumerate([900, 700, 500, *range(40, 20, -1)]):
        pixels = rng.integers(0, 256, (side, side + i % 3, 3)).astype(np.uint8)
        paths.append(folder / f"{i:02d}.png")
        Image.fromarray(np.clip(pixels // 2 + 10 * i, 0, 255).astype(np.uint8)).save(paths[-1])
    return paths


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("ant\nbee\r\ncat\n\n")
    return path


def tflite(tmp_path: Path, data: bytes, files: dict[str, bytes] | None = None) -> Path:
    """A file with `files` zipped behind it, and no metadata."""
    whole = io.BytesIO(data)
    if files:
        with zipfile.ZipFile(whole, "a") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    path = tmp_path / "theirs.tflite"
    path.write_bytes(whole.getvalue())
    return path


def plain(model: Path, photo: Path, numbers: Any = None) -> np.ndarray[Any, Any]:
    """Probabilities by the plain interpreter. numbers: from pixels to the input's values."""
    from ai_edge_litert.interpreter import Interpreter

    engine = Interpreter(model_path=str(model))
    engine.allocate_tensors()
    (given,), (wanted,) = engine.get_input_details(), engine.get_output_details()
    image = Image.open(photo).convert("RGB")
    _, height, width, _ = given["shape"]
    image = image.resize((width, image.height), 2).resize((width, height), 2)
    pixels = np.asarray(image)
    engine.set_tensor(given["index"], (pixels if numbers is None else numbers(pixels))[None])
    engine.invoke()
    values = engine.get_tensor(wanted["index"])[0]
    scale, zero_point = wanted["quantization"]
    return (values.astype(float) - zero_point) * scale if scale else values.astype(float)


def assert_as(rows: list[dict[str, Any]], wanted: list[Any], names: Any = LABELS) -> None:
    assert len(rows) == len(wanted)
    for row, outputs in zip(rows, wanted, strict=True):
        best = max(range(len(names)), key=lambda i: (outputs[i], -i))
        assert (row["label"], row["score"]) == (names[best], outputs[best])
        assert [t["score"] for t in row["top"]] == sorted(outputs, reverse=True)[:3]


def as_int8(pixels: Any) -> Any:
    return (pixels.astype(int) - 128).astype(np.int8)


@pytest.mark.parametrize("io_type", ["uint8", "int8"])
def test_an_int8_model_scores_as_the_plain_interpreter_does_and_in_order(
    tmp_path: Path, photos: list[Path], labels: Path, io_type: str
) -> None:
    model = tflite(tmp_path, tiny_int8(io_type))
    rows = predict(model, photos, labels=labels)
    assert [row["path"] for row in rows] == list(map(str, photos))
    encode = as_int8 if io_type == "int8" else None
    assert_as(rows, [plain(model, photo, encode) for photo in photos])
    assert len({row["score"] for row in rows}) > 5, "order could not be told"
    assert all(row["score"] * 256 == int(row["score"] * 256) for row in rows)
    for row in rows:
        assert (row["verdict"], row["group_score"], row["abstain"]) == (None, None, None)


CAFFE = np.array([103.939, 116.779, 123.68])
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("0..255", lambda x: x),
        ("0..1", lambda x: x / 255),
        ("-1..1", lambda x: x / 127.5 - 1),
        ("caffe", lambda x: x[..., ::-1] - CAFFE),
        ("torch", lambda x: (x / 255 - MEAN) / STD),
        ("10,2", lambda x: (x - 10) / 2),
        ("1,2,3,4,5,6", lambda x: (x - [1, 2, 3]) / [4, 5, 6]),
    ],
)
def test_a_float_model_gets_its_pixels_by_the_formula(
    tmp_path: Path, photos: list[Path], labels: Path, name: str, formula: Any
) -> None:
    model = tflite(tmp_path, tiny_float())
    rows = predict(model, photos[-4:], labels=labels, preprocess=name)
    for row, photo in zip(rows, photos[-4:], strict=True):
        outputs = plain(model, photo, lambda x: formula(x.astype(float)).astype(np.float32))
        found = {best["label"]: best["score"] for best in row["top"]}
        np.testing.assert_allclose([found[label] for label in LABELS], outputs, atol=2e-6)


def test_without_a_word_on_pixels_a_float_model_is_refused(
    tmp_path: Path, photos: list[Path], labels: Path
) -> None:
    model = tflite(tmp_path, tiny_float())
    with pytest.raises(UsageError) as error:
        predict(model, photos[0], labels=labels)
    assert str(error.value) == (
        f"{model}: wanted to know how pixels become its float32 input, and nothing in it says so; "
        "give --preprocess: 0..255, 0..1, -1..1, caffe, torch, raw, or mean,std of a byte as "
        "127.5,127.5 (six for R, G and B)"
    )
    with pytest.raises(DataError, match="raw: it is for an integer input, found float32; give 0"):
        predict(model, photos[0], labels=labels, preprocess="raw")
    for bad in ("bgr", "1", "1,0", "1,2,3", "nan,1", "inf,1", "1,2,3,4,0,6"):
        with pytest.raises(UsageError, match=f"--preprocess '{bad}': wanted one of 0..255"):
            predict(model, photos[0], labels=labels, preprocess=bad)


def test_pixels_that_do_not_fit_the_input_are_refused(
    tmp_path: Path, photos: list[Path], labels: Path
) -> None:
    model = tflite(tmp_path, tiny_int8())
    with pytest.raises(DataError) as error:
        predict(model, photos[0], labels=labels, preprocess="-1..1")
    assert str(error.value) == (
        f"{model}: preprocessing -1..1: its values -1 to 1 do not fit the input, which holds 0 to "
        "255 in 256 steps; give another with --preprocess"
    )
    raw = predict(model, photos[:3], labels=labels, preprocess="raw")
    assert raw == predict(model, photos[:3], labels=labels)


def test_labels_are_in_the_file_or_given_or_it_is_refused(
    tmp_path: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    model = tflite(tmp_path, tiny_int8())
    with pytest.raises(UsageError) as error:
        predict(model, photos[0])
    assert str(error.value) == (
        f"{model}: wanted labels for its 3 outputs, found none in it; give --labels FILE, one a "
        "line in the order of the outputs"
    )
    model = tflite(
        tmp_path, tiny_int8(), {"other.txt": b"1\n2\n", "Labels_en.txt": b"ant\nbee\ncat"}
    )
    assert_as(predict(model, photos[:3]), [plain(model, photo) for photo in photos[:3]])
    (tmp_path / "mine.txt").write_text("ant\ncat\nbee\n")
    rows = predict(model, photos[:3], labels=tmp_path / "mine.txt")
    assert_as(rows, [plain(model, photo) for photo in photos[:3]], ("ant", "cat", "bee"))
    assert "--labels: 2 of 3 labels are not those in the model" in capfd.readouterr().err
    two = {"label_a.txt": b"1\n2\n3\n", "label_b.txt": b"4\n5\n6"}
    model = tflite(tmp_path, tiny_int8(), two)
    with pytest.raises(UsageError, match=r"found 2 files in it with so many lines \(label_a.txt, "):
        predict(model, photos[0])
    for lines in (b"1\n2\n", b"1\n\n3\n"):
        model = tflite(tmp_path, tiny_int8(), {"labels.txt": lines})
        with pytest.raises(UsageError, match="found no label file in it with so many lines"):
            predict(model, photos[0])


def test_only_what_is_said_or_named_to_be_labels_is_taken_for_them() -> None:
    three = b"ant\nbee\ncat\n"

    def found(name: str, kind: str | None) -> str:
        described = {"outputs": [], "files": [{"name": name, "type": kind}]} if kind else None
        try:
            return labels_of(3, None, None, described, {name: three})[1]
        except UsageError as error:
            return str(error)

    for name, kind in (
        ("names.txt", "TENSOR_AXIS_LABELS"), ("names", "TENSOR_VALUE_LABELS"),
        ("probability_labels_en.txt", "UNKNOWN"), ("LabelMap.TXT", None),
    ):  # fmt: skip
        assert found(name, kind) == f"{name} in it"
    for name, kind in (
        ("labels.txt", "TENSOR_AXIS_SCORE_CALIBRATION"), ("labels.txt", "VOCABULARY"),
        ("LICENSE", None), ("LICENSE", "UNKNOWN"), ("vocab.txt", None), ("labels.csv", None),
    ):  # fmt: skip
        assert "found none in it" in found(name, kind), (name, kind)


def test_thousands_of_labels_are_counted_at_once() -> None:
    names = tuple(map(str, range(60_000)))
    start = time.perf_counter()
    assert labels_of(len(names), names, None, None, {})[0] == names
    assert time.perf_counter() - start < 5  # each counted for each: 20 s


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\n", "wanted 3 labels, one for each output, found 2 in --labels"),
        (b"a\nb\nc\nd", "wanted 3 labels, one for each output, found 4 in --labels"),
        (b"", "wanted 3 labels, one for each output, found 0 in --labels"),
        (b"a\n\nc\n", "names.txt: wanted a label a line, found line 2 empty"),
        (b"a\nb\n\xff\xfe", "names.txt: wanted UTF-8 text, found other bytes"),
        (None, "names.txt: cannot be read"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, photos: list[Path], labels: Path, content: bytes | None, message: str
) -> None:
    labels.unlink() if content is None else labels.write_bytes(content)
    with pytest.raises(DataError, match=message):
        predict(tflite(tmp_path, tiny_int8()), photos[0], labels=labels)


def test_labels_that_are_the_same_are_told_of(
    tmp_path: Path, photos: list[Path], labels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels.write_text("ant\nbee\nant")
    predict(tflite(tmp_path, tiny_int8()), photos[0], labels=labels)
    assert "more than one output is called 'ant'" in capfd.readouterr().err


def decided(tmp_path: Path, names: str = "ant\nbee\ncat\n", threshold_q: int = 100) -> Path:
    """The model file of a bundle: metadata, labels and decision in it."""
    decision = Decision(group="bad", threshold_q=threshold_q, kernel_bound=0)
    files = {"labels.txt": names.encode(), "decision.json": decision_file(CLASSES, decision)}
    path = tmp_path / "model.tflite"
    path.write_bytes(metadata.write(tiny_int8(), ABOUT, files))
    return path


def test_a_model_with_its_decision_in_it_decides(tmp_path: Path, photos: list[Path]) -> None:
    outputs = [plain(decided(tmp_path), photo) for photo in photos]
    threshold_q = int(sorted(o[0] for o in outputs)[len(outputs) // 2] * 256)
    rows = predict(decided(tmp_path, threshold_q=threshold_q), photos)
    assert_as(rows, outputs)
    assert [row["group_score"] for row in rows] == [o[0] for o in outputs]
    wanted = ["bad" if o[0] * 256 >= threshold_q else "good" for o in outputs]
    assert [row["verdict"] for row in rows] == wanted and len(set(wanted)) == 2
    assert [row["abstain"] for row in rows] == [False] * len(rows)


def test_swapped_labels_are_caught_by_the_decision_in_the_model(
    tmp_path: Path, photos: list[Path], labels: Path
) -> None:
    model = decided(tmp_path, names="bee\nant\ncat\n")
    with pytest.raises(DataError) as error:
        predict(model, photos[0])
    assert str(error.value) == (
        f"{model}: wanted the labels of its decision.json (ant, bee, cat), found others in its "
        "metadata (bee, ant, cat); its decision holds for those alone"
    )
    labels.write_text("bee\nant\ncat")
    with pytest.raises(DataError, match=r"found others in --labels \(bee, ant, cat\)"):
        predict(decided(tmp_path), photos[0], labels=labels)
    broken = tflite(tmp_path, tiny_int8(), {"decision.json": b"{}"})
    with pytest.raises(DataError, match="decision.json in it is not one of mobileclf's"):
        predict(broken, photos[0], labels=labels)
    mine = decision_file(CLASSES, Decision(group="bad", threshold_q=100, kernel_bound=0))
    changed = tflite(tmp_path, tiny_int8(), {"decision.json": mine.replace(b",", b", ", 1)})
    with pytest.raises(DataError, match="decision.json in it was changed by hand; export it again"):
        predict(changed, photos[0], labels=labels)


def test_a_preprocess_that_the_metadata_deny_is_told_of(
    tmp_path: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    predict(decided(tmp_path), photos[0], preprocess="0..255")
    assert "warning" not in capfd.readouterr().err
    predict(decided(tmp_path), photos[0], preprocess="1,1")
    said = " ".join(capfd.readouterr().err.split())
    assert "--preprocess 1,1 is used, though mean 0 and std 1 of its metadata say" in said


@pytest.mark.skipif(not MOBILENET.is_file(), reason=f"{MOBILENET} is not at hand")
def test_a_third_partys_mobilenet(tmp_path: Path, photos: list[Path]) -> None:
    listed = MOBILENET.with_name("imagenet_labels.txt")
    names = listed.read_text().splitlines()
    own = predict(MOBILENET, photos[:6])
    # Bytes as they are: mean and std 127.5 of its metadata in its scale of 1/128.
    assert_as(own, [plain(MOBILENET, photo) for photo in photos[:6]], names)
    for how in (None, "raw", "-1..1"):
        assert predict(MOBILENET, photos[:6], labels=listed, preprocess=how) == own
    (tmp_path / "without.txt").write_text("\n".join(names[1:]))
    with pytest.raises(DataError, match="wanted 1001 labels, .* found 1000 in --labels"):
        predict(MOBILENET, photos[0], labels=tmp_path / "without.txt")
    with pytest.raises(DataError, match=r"0 to 255 do not fit .* holds -1 to 0.9922"):
        predict(MOBILENET, photos[0], preprocess="0..255")


def test_outputs_that_are_no_probabilities_are_told_of(
    tmp_path: Path, photos: list[Path], labels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import keras

    inputs = keras.Input((SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    keras_file.save(keras.Model(inputs, pooled), tmp_path / "sums.keras")
    photo = photos[-1]
    (row,) = predict(tmp_path / "sums.keras", photo, labels=labels, preprocess="0..255")
    wanted = load(photo, ImageSpec(width=SIZE, height=SIZE)).mean(axis=(0, 1))
    assert row["score"] == pytest.approx(wanted.max(), rel=1e-5)
    said = capfd.readouterr().err
    assert f"probabilities for 1 image of 1 (the first: {photo}: they add up to" in said
    assert "the scores are the outputs as they are" in said


@pytest.mark.parametrize(
    ("outputs", "step", "odd"),
    [
        ([0.5, 0.5], 0.0, ""),
        ([0.5, 0.4995], 0.0, ""),
        ([0.5, 0.49], 0.0, "they add up to 0.99"),
        ([1.5, -0.5], 0.0, "one is -0.5"),
        ([0.996, 0.0, 0.0], 1 / 256, ""),
        ([1.0, 0.02, 0.0], 1 / 256, "they add up to 1.02"),
        ([0.0] * 100 + [0.7], 1 / 256, ""),  # a hundred may have been rounded to 0
        ([0.0] * 10 + [0.7], 1 / 256, "they add up to 0.7"),
        ([1.0, 0.02] + [0.0] * 10, 1 / 256, "they add up to 1.02"),  # none of the ten rounds up
    ],
)
def test_what_probabilities_are(outputs: list[float], step: float, odd: str) -> None:
    assert odd_of(np.array(outputs), step) == odd


def test_outputs_that_are_no_numbers_are_a_problem_of_the_image(
    tmp_path: Path, photos: list[Path], labels: Path
) -> None:
    import keras

    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1e38)(inputs))
    keras_file.save(keras.Model(inputs, x), tmp_path / "wild.keras")
    Image.new("RGB", (9, 9)).save(tmp_path / "black.png")
    rows = predict(
        tmp_path / "wild.keras", [photos[0], tmp_path / "black.png"],
        labels=labels, preprocess="0..255",
    )  # fmt: skip
    assert rows[0]["problem"] == (
        f"{photos[0]}: the model's outputs are no numbers (NaN or infinite)"
    )
    assert (rows[0]["verdict"], rows[0]["label"]) == ("no verdict", None)
    # Of equal outputs the lower index.
    assert (rows[1]["label"], rows[1]["score"], rows[1]["problem"]) == ("ant", 0.0, None)


def network(path: Path, *, seed: int = 0) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 500)(inputs)
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(4)(x))
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    keras_file.save(model, path)
    return model


FLOAT_Q = 30  # of the float model; the candidate's is 64
FLOAT_POINT = {"threshold_q": FLOAT_Q, "threshold": FLOAT_Q / 256, "abstain": None}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with its records, as the stages leave them."""
    folder = tmp_path / "run"
    folder.mkdir()
    network(folder / "model.keras")
    (folder / "model_a.tflite").write_bytes(tiny_int8())
    rows = CLASSES.as_record()["labels"]
    write_json(folder / "dataset.json", {"labels": rows})
    record(folder, "train", ["dataset"], ["model.keras"])
    candidates = {"candidates": [{"candidate": "a", "file": "model_a.tflite"}]}
    record(folder, "convert", ["dataset", "model.keras"], ["model_a.tflite"], candidates)
    record(folder, "metrics", ["convert", "model.keras"])
    record(folder, "selection", ["metrics"], (), {"selected": "a"})
    decision = Decision(group="bad", threshold_q=64, kernel_bound=0)
    decided = {"classes": CLASSES.as_record(), "purpose": "real", "decision": decision.as_record(),
               "operating_point": {"float": FLOAT_POINT}}  # fmt: skip
    record(folder, "threshold", ["dataset", "metrics"], (), decided)
    return folder


def record(folder: Path, name: str, reads: Any, writes: Any = (), body: Any = None) -> None:
    files = [read if "." in read else f"{read}.json" for read in reads]
    digests = {file: sha256_file(folder / file) for file in files}
    outputs = {file: sha256_file(folder / file) for file in writes}
    inputs = {"files": digests}
    write_json(folder / f"{name}.json", {**(body or {}), "inputs": inputs, "outputs": outputs})


def test_a_runs_keras_model_takes_bytes_and_the_runs_decision(
    run: Path, photos: list[Path]
) -> None:
    model = network(run.parent / "same.keras")
    pixels = np.stack([load(photo, ImageSpec(width=SIZE, height=SIZE)) for photo in photos])
    outputs = np.asarray(model(pixels.astype(np.float32)))
    rows = predict(run / "model.keras", photos)
    for row, values in zip(rows, outputs, strict=True):
        found = {best["label"]: best["score"] for best in row["top"]}
        np.testing.assert_allclose([found[label] for label in LABELS], values, atol=1e-5)
        quanta = to_quanta(np.array([found[label] for label in LABELS]))
        assert row["group_score"] == quanta[0] / 256
        assert row["verdict"] == ("bad" if quanta[0] >= FLOAT_Q else "good")
    assert len({row["score"] for row in rows}) > 5
    scores = [256 * row["group_score"] for row in rows]
    assert any((score >= 64) != (score >= FLOAT_Q) for score in scores), str(sorted(scores))


def decide(run: Path, **changes: Any) -> None:
    """Other values in the run's threshold.json."""
    shown = json.loads((run / "threshold.json").read_text())
    write_json(run / "threshold.json", {**shown, **changes})


def test_each_model_of_a_run_abstains_by_a_rule_of_its_own(run: Path, photos: list[Path]) -> None:
    plain_rows = {name: predict(run / name, photos) for name in ("model.keras", "model_a.tflite")}
    rules = {}
    for name, threshold_q in (("model.keras", FLOAT_Q), ("model_a.tflite", 64)):
        under = [row["top"] for row in plain_rows[name] if row["verdict"] == "good"]
        margins = sorted(256 * top[0]["score"] - 256 * top[1]["score"] for top in under)
        cut_q = int(margins[len(margins) // 2])
        assert threshold_q and 1 <= cut_q <= 255 and margins[0] < cut_q < margins[-1]
        rules[name] = Abstain(by="margin", cut_q=cut_q)
    assert rules["model.keras"] != rules["model_a.tflite"]
    decision = Decision(
        group="bad", threshold_q=64, abstain=rules["model_a.tflite"], kernel_bound=0
    )
    point = {**FLOAT_POINT, "abstain": rules["model.keras"].as_record()}
    decide(run, decision=decision.as_record(), operating_point={"float": point})
    for name, before in plain_rows.items():
        rows = predict(run / name, photos)
        for row, was in zip(rows, before, strict=True):
            first, second, _ = (round(256 * best["score"]) for best in row["top"])
            held = was["verdict"] == "good" and first - second < rules[name].cut_q
            assert row["verdict"] == (NOT_SURE if held else was["verdict"])
            assert row["abstain"] == held
        assert {row["verdict"] for row in rows} >= {"good", NOT_SURE}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"operating_point": {}}, r"wanted the float's decision \(KeyError\('float'\)\)"),
        ({"operating_point": {"float": {"threshold_q": 30}}}, "wanted the float's decision"),
        (
            {"operating_point": {"float": {**FLOAT_POINT, "threshold_q": 256, "threshold": 1.0}}},
            "found 256: no photo would ever be called bad",
        ),
        ({"operating_point": {"float": {**FLOAT_POINT, "abstain": {"by": 1}}}}, "found {'by': 1}"),
    ],
)
def test_a_broken_decision_of_a_runs_float_model_is_refused(
    run: Path, photos: list[Path], changes: dict[str, Any], said: str
) -> None:
    decide(run, **changes)
    with pytest.raises(DataError, match=f"threshold.json: .*{said}.*; run threshold again"):
        predict(run / "model.keras", photos[0])
    assert predict(run / "model_a.tflite", photos[0])[0]["verdict"] is not None


def test_a_runs_folder_is_the_candidate_that_ships_and_before_that_the_trained_model(
    run: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    rows = predict(run, photos[:4])
    assert_as(rows, [plain(run / "model_a.tflite", photo) for photo in photos[:4]])
    assert [row["verdict"] for row in rows] == [
        "bad" if row["group_score"] * 256 >= 64 else "good" for row in rows
    ]
    assert predict(run / "model_a.tflite", photos[:4]) == rows
    candidates = {"candidates": [{"candidate": "b", "file": "model_b.tflite"},
                                 {"candidate": "a", "file": "model_a.tflite"}]}  # fmt: skip
    (run / "model_b.tflite").write_bytes(tiny_int8())
    record(
        run, "convert", ["dataset", "model.keras"], ["model_a.tflite", "model_b.tflite"], candidates
    )
    record(run, "metrics", ["convert", "model.keras"])
    shown = json.loads((run / "threshold.json").read_text())
    record(run, "threshold", ["dataset", "metrics"], (), shown)
    assert predict(run, photos[:4]) == rows
    capfd.readouterr()
    (other,) = predict(run / "model_b.tflite", photos[0])
    assert other["verdict"] is None and other["score"] == rows[0]["score"]
    said = "no verdicts, as the threshold of threshold.json was chosen for model_a.tflite"
    assert said in capfd.readouterr().err
    (run / "selection.json").unlink()
    assert predict(run, photos[:4]) == predict(run / "model.keras", photos[:4])
    capfd.readouterr()
    (run / "threshold.json").unlink()
    (row,) = predict(run, photos[0])
    assert row["verdict"] is None and row["label"] in LABELS
    assert "no verdicts, as there is no threshold.json yet" in capfd.readouterr().err


def test_a_changed_model_or_label_of_a_run_is_refused(run: Path, photos: list[Path]) -> None:
    right = predict(run / "model.keras", photos[0])
    shutil.copytree(run, run.parent / "other")
    network(run / "model.keras", seed=1)
    with pytest.raises(DataError, match="model.keras: wanted sha256 .* as in train.json, found"):
        predict(run / "model.keras", photos[0])
    other = run.parent / "other"
    assert predict(other / "model.keras", photos[0])[0]["score"] == right[0]["score"]
    rows = CLASSES.as_record()["labels"]
    write_json(other / "dataset.json", {"labels": rows[::-1]})
    for name, of in (("model.keras", "train"), ("model_a.tflite", "convert")):
        with pytest.raises(DataError, match=f"{of}.json: wanted dataset.json as it was when this"):
            predict(other / name, photos[0])


def test_a_decision_on_an_earlier_model_gives_no_verdict(
    run: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    network(run / "model.keras", seed=1)
    record(run, "train", ["dataset"], ["model.keras"])
    (row,) = predict(run / "model.keras", photos[0])
    assert (row["verdict"], row["abstain"], row["group_score"]) == (None, None, None)
    assert "no verdicts, as threshold.json is of an earlier model" in capfd.readouterr().err


def test_a_decision_on_other_data_gives_no_verdict(
    run: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    threshold = (run / "threshold.json").read_bytes()
    dataset = {"labels": CLASSES.as_record()["labels"], "seed": 1}
    write_json(run / "dataset.json", dataset)
    record(run, "train", ["dataset"], ["model.keras"])
    # All but the data is as the decision saw it.
    for name in ("model.keras", "model_a.tflite"):
        if name == "model_a.tflite":
            candidates = {"candidates": [{"candidate": "a", "file": name}]}
            record(run, "convert", ["dataset", "model.keras"], [name], candidates)
            record(run, "metrics", ["convert", "model.keras"])
    decided = json.loads(threshold)
    decided["inputs"]["files"]["metrics.json"] = sha256_file(run / "metrics.json")
    write_json(run / "threshold.json", decided)
    (row,) = predict(run / "model.keras", photos[0])
    assert row["verdict"] is None and row["label"] in LABELS
    assert "no verdicts, as threshold.json is of an earlier model" in capfd.readouterr().err


def test_options_for_a_model_that_has_its_own_are_refused(
    run: Path, photos: list[Path], labels: Path
) -> None:
    for model in (run, run / "model.keras", run / "model_a.tflite"):
        with pytest.raises(UsageError, match="--labels .*: a model of a run has its own; leave"):
            predict(model, photos[0], labels=labels)
        with pytest.raises(UsageError, match="--preprocess 0..1: a model of a run has its own"):
            predict(model, photos[0], preprocess="0..1")


def test_anyones_keras_model(tmp_path: Path, photos: list[Path], labels: Path) -> None:
    network(tmp_path / "theirs.keras")
    with pytest.raises(UsageError, match="theirs.keras: wanted labels for its 3 outputs, found no"):
        predict(tmp_path / "theirs.keras", photos[0])
    with pytest.raises(UsageError, match=r"how pixels become its input.*give --preprocess: 0..255"):
        predict(tmp_path / "theirs.keras", photos[0], labels=labels)
    rows = predict(tmp_path / "theirs.keras", photos, labels=labels, preprocess="0..255")
    assert [row["path"] for row in rows] == list(map(str, photos))
    assert {row["verdict"] for row in rows} == {None}


def test_code_in_a_keras_file_is_never_run(
    tmp_path: Path, photos: list[Path], labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    monkeypatch.chdir(tmp_path)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Lambda(lambda t: __import__("pathlib").Path("ran").touch() or t)(inputs)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    keras.Model(inputs, x).save(tmp_path / "unsafe.keras")
    Path("ran").unlink()
    with pytest.raises(DataError, match="unsafe.keras: it holds code of its own .a Lambda layer"):
        predict(tmp_path / "unsafe.keras", photos[0], labels=labels, preprocess="0..1")
    assert not Path("ran").exists()


def test_a_keras_file_that_asks_for_a_saved_model_is_refused(
    tmp_path: Path, photos: list[Path], labels: Path
) -> None:
    import keras

    inputs = keras.Input((SIZE, SIZE, 3))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    model.export(tmp_path / "theirs", verbose=False)
    model.save(tmp_path / "plain.keras")
    whole = tmp_path / "asks.keras"
    with zipfile.ZipFile(tmp_path / "plain.keras") as old, zipfile.ZipFile(whole, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                (layer,) = (x for x in config["config"]["layers"] if x["class_name"] == "Dense")
                layer["class_name"] = "TFSMLayer"
                layer["config"] = {"filepath": str(tmp_path / "theirs"), "name": "x"}
                data = json.dumps(config).encode()
            new.writestr(name, data)
    with pytest.raises(DataError, match="asks.keras: it holds code of its own"):
        predict(whole, photos[0], labels=labels, preprocess="0..1")


def test_no_keras_is_asked_for_whose_safe_mode_is_open() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    (asked,) = (Requirement(word) for word in re.findall(r'"(keras[>=].*)"', text))
    for version in ("3.10.0", "3.11.0", "3.12.0", "3.12.1", "3.13.1", "3.13.2", "3.14.1"):
        assert version not in asked.specifier
    assert "3.12.4" in asked.specifier and "3.15.1" in asked.specifier


def test_a_strangers_tflite_is_first_opened_in_a_process_of_its_own(
    tmp_path: Path, photos: list[Path], labels: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def crashes(path: Path) -> None:
        asked.append(path)
        raise DataError("model: crashed (exit -6)")

    monkeypatch.setattr(delegates, "check_runs", crashes)
    monkeypatch.setattr(interpreter, "open_interpreter", None)
    model = tflite(tmp_path, tiny_int8())
    with pytest.raises(DataError, match=f"{model}: model: crashed"):
        predict(model, photos[0], labels=labels)
    assert asked == [model]
    monkeypatch.undo()
    monkeypatch.setattr(delegates, "check_runs", crashes)
    assert predict(run, photos[0])[0]["label"]  # the run vouches for its own


def test_a_tflite_that_crashes_the_runtime_is_one_line(
    tmp_path: Path, photos: list[Path], labels: Path
) -> None:
    tree = graph.parse(tiny_int8())
    tree.subgraphs[0].tensors[0].quantization.zeroPoint = [15138816]
    builder = flatbuffers.Builder(0)
    builder.Finish(tree.Pack(builder), file_identifier=graph.IDENTIFIER)
    model = tflite(tmp_path, bytes(builder.Output()))
    command = [sys.executable, "-m", "mobileclf", "predict", model, photos[0], "--labels", labels]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 4, "it ended the process that it was opened in"
    assert re.fullmatch(f"error: {model}: model: ai-edge-litert .* cannot run it .*\n", done.stderr)


def test_a_broken_zip_is_no_keras_file(tmp_path: Path, photos: list[Path]) -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("config.json", "{}")
    data = bytearray(whole.getvalue())
    data[data.index(b"PK\x01\x02")] ^= 1  # the directory; the end record stays
    path = tmp_path / "strange.bin"
    path.write_bytes(data)
    assert zipfile.is_zipfile(path)
    with pytest.raises(DataError, match="strange.bin: a broken zip; get it again"):
        predict(path, photos[0])
    path.rename(tmp_path / "strange.keras")
    with pytest.raises(DataError, match="strange.keras: a broken zip; get it again"):
        predict(tmp_path / "strange.keras", photos[0])


def test_names_in_a_file_do_not_steer_the_terminal(
    tmp_path: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    title = "\x1b]0;mine\x07"
    model = tflite(tmp_path, tiny_int8(), {f"{title}label.txt": b"a\nb\nc"})
    for words in ([], ["--labels", tmp_path / f"{title}.txt"]):
        with pytest.raises(SystemExit):
            cli.main(list(map(str, ["predict", model, photos[0], *words])))
        said = capfd.readouterr().err
        assert "\\x1b]0;mine\\x07" in said and "\x1b" not in said and "\x07" not in said


def test_halves_are_rounded_away_from_zero() -> None:
    pixels = np.array([[126], [127], [128], [129], [130]], np.uint8)
    how = preprocess.preprocess_of("128,1")
    encode = preprocess.encoder(how, dtype=np.int8, scale=2.0, zero_point=0, channels=1)
    assert encode(pixels).ravel().tolist() == [-1, -1, 0, 1, 1]
    assert encode(np.array([[125], [131]], np.uint8)).ravel().tolist() == [-2, 2]


@pytest.mark.parametrize("units", [1, 2])
def test_one_unit_is_how_much_of_the_second_label_it_is(
    tmp_path: Path, photos: list[Path], units: int
) -> None:
    import keras

    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 2000)(inputs))
    head = keras.layers.Dense(units, activation="sigmoid" if units == 1 else "softmax")
    model = keras.Model(inputs, head(x))
    keras_file.save(model, tmp_path / "two.keras")
    (tmp_path / "two.txt").write_text("no\nyes\n")
    (row,) = predict(
        tmp_path / "two.keras", photos[0], labels=tmp_path / "two.txt", preprocess="0..255"
    )
    pixels = load(photos[0], ImageSpec(width=SIZE, height=SIZE))
    yes = float(np.asarray(model(pixels[np.newaxis].astype(np.float32)))[0, -1])
    found = {best["label"]: best["score"] for best in row["top"]}
    assert found == pytest.approx({"yes": yes, "no": 1 - yes}, abs=1e-5)
    assert row["label"] == ("yes" if yes > 0.5 else "no")
    (tmp_path / "two.txt").write_text("yes\n")
    with pytest.raises(DataError, match="wanted 2 labels"):
        predict(tmp_path / "two.keras", photos[0], labels=tmp_path / "two.txt", preprocess="0..1")


def test_what_is_no_model_that_is_read_is_named(
    tmp_path: Path, photos: list[Path], labels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    for name in ("old.h5", "net.onnx", "notes.txt", "none.keras", "none.tflite"):
        (tmp_path / name).write_bytes(b"nothing like a model")
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    kinds = "wanted a bundle, a run, a SavedModel, or a .keras, .h5 or .tflite file; found "
    broken = kinds + "other bytes than such a file has; it is broken or cut off: get it again"
    wanted = {
        "absent": kinds + "nothing there",
        "empty": kinds + "another folder",
        "saved": "saved_model.pb: broken or cut off; get it again",
        "old.h5": broken,
        "net.onnx": kinds + "an ONNX model; convert it first, with onnx2tf",
        "notes.txt": kinds + "another file",
        "none.keras": broken,
        "none.tflite": broken,
        "zip.keras": kinds + "a zip without config.json and model.weights.h5",
    }
    for name, message in wanted.items():
        with pytest.raises(SystemExit) as end:
            cli.main(["predict", str(tmp_path / name), str(photos[0]), "--labels", str(labels)])
        assert end.value.code == 4, name
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"error: {tmp_path / name}") and message in line


def test_the_command_takes_a_preprocess_that_begins_with_a_dash(
    tmp_path: Path, photos: list[Path], labels: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, out = tflite(tmp_path, tiny_float()), tmp_path / "rows.csv"
    words = ["predict", model, photos[0], "--labels", labels, "--preprocess", "-1..1",
             "--output", out]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        cli.main(list(map(str, words)))
    assert end.value.code == 0
    rows = predict(model, photos[0], labels=labels, preprocess="-1..1")
    assert out.read_text() == prediction.as_csv(rows)
    assert "3 labels: --labels; pixels as -1..1" in capfd.readouterr().err
    with pytest.raises(SystemExit) as end:
        cli.main(list(map(str, [*words, "--sheet", out])))
    assert end.value.code == 2 and "--sheet" in capfd.readouterr().err


def test_a_grey_models_pictures_are_grey(tmp_path: Path, photos: list[Path], labels: Path) -> None:
    import keras

    inputs = keras.Input((SIZE, SIZE, 1))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    model.save(tmp_path / "grey.keras")
    pixels = load(photos[0], ImageSpec(width=SIZE, height=SIZE, channels=1))
    (row,) = predict(tmp_path / "grey.keras", photos[0], labels=labels, preprocess="0..1")
    outputs = np.asarray(model(pixels[None].astype(np.float32) / 255))[0]
    assert row["score"] == pytest.approx(outputs.max(), abs=1e-4)
    with pytest.raises(DataError, match="preprocessing caffe: wanted 3 channels, found 1"):
        predict(tmp_path / "grey.keras", photos[0], labels=labels, preprocess="caffe")
