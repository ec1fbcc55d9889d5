"""predict: a bundle's own decision, its files as they were proven, a row for every image."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobileclf import cli, prediction
from mobileclf.errors import DataError
from mobileclf.images.load import ImageSpec
from mobileclf.prediction import as_csv, predict
from mobileclf.records import sha256_bytes, sha256_file, write_json
from mobileclf.tflite import interpreter

LABELS = ("red", "green", "blue")
GROUPS = ("Warm", "Cold", "Cold")


@pytest.fixture(autouse=True)
def colour_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the runtime's place: a label's output is the mean of its colour."""

    def scores(_: object, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return images.mean(axis=(1, 2)).astype(np.uint8)

    def opened(model: Path, *, kernels: str) -> object:
        assert model.read_bytes() == b"model" and kernels == "xnnpack"
        return SimpleNamespace()

    # The model file vouches for the decision; here it says whatever bundle.json does.
    monkeypatch.setattr(prediction, "_check_proven", lambda *_: None)
    monkeypatch.setattr(interpreter, "open_interpreter", opened)
    monkeypatch.setattr(interpreter, "scores", scores)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.tflite").write_bytes(b"model")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    picture(folder / "golden" / "0.png", (200, 10, 20))
    names = ("model.tflite", "labels.txt", "golden/0.png")
    digest = {name: sha256_file(folder / name) for name in names}
    write_json(
        folder / "bundle.json",
        {
            "schema": 1,
            "purpose": "real",
            "model": {"file": "model.tflite", "sha256": digest["model.tflite"]},
            "input": ImageSpec(width=8, height=8).as_record(),
            "output": {"kernels": "xnnpack"},
            "labels": [
                {"label": label, "group": group}
                for label, group in zip(LABELS, GROUPS, strict=True)
            ],
            "groups": [{"group": "Warm", "harmful": True}, {"group": "Cold", "harmful": False}],
            "decision": {
                "group": "Warm", "threshold": 100 / 256, "threshold_q": 100, "abstain": None,
                "kernel_bound": 0,
            },
            "golden": [
                {
                    "image": "golden/0.png",
                    "decoded_sha256": sha256_bytes(bytes((200, 10, 20)) * (20 * 30)),
                    "input_sha256": sha256_bytes(bytes((200, 10, 20)) * (8 * 8)),
                    "output": [200, 10, 20],
                    "label": "red",
                    "verdict": "Warm",
                }
            ],
            "files": {
                name: {"sha256": digest[name], "runtime": True} for name in names[1:]
            },
        },
    )  # fmt: skip
    return folder


def picture(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 30), colour).save(path)
    return path


def change(bundle: Path, **changes: object) -> None:
    path = bundle / "bundle.json"
    write_json(path, {**json.loads(path.read_text()), **changes})


@pytest.mark.parametrize(("red", "verdict"), [(99, "Cold"), (100, "Warm")])
def test_the_verdict_is_the_bundles_threshold(
    bundle: Path, tmp_path: Path, red: int, verdict: str
) -> None:
    (row,) = predict(bundle, picture(tmp_path / "p.png", (red, 120, 120)))
    assert row == {
        "path": str(tmp_path / "p.png"),
        "label": "green",  # of the two at 120 the lower index
        "score": 120,
        "group_score": red,
        "verdict": verdict,
        "top": [
            {"label": "green", "score": 120},
            {"label": "blue", "score": 120},
            {"label": "red", "score": red},
        ],
        "problem": None,
    }


def test_a_demo_is_never_sure_of_harmless(bundle: Path, tmp_path: Path) -> None:
    change(bundle, purpose="demo")
    rows = predict(
        bundle,
        [picture(tmp_path / "a.png", (9, 9, 9)), picture(tmp_path / "b.png", (200, 9, 9))],
    )
    assert [row["verdict"] for row in rows] == ["not sure", "Warm"]


def test_folders_are_searched_within_and_unreadable_images_have_a_row(
    bundle: Path, tmp_path: Path
) -> None:
    picture(tmp_path / "in" / "b" / "2.PNG", (200, 0, 0))
    picture(tmp_path / "in" / "a.jpg", (0, 0, 200))
    (tmp_path / "in" / "c.jpg").write_text("none")
    (tmp_path / "in" / "notes.txt").write_text("none")
    rows = predict(bundle, tmp_path / "in")
    assert [Path(row["path"]).name for row in rows] == ["a.jpg", "2.PNG", "c.jpg"]
    assert [row["verdict"] for row in rows] == ["Cold", "Warm", "no verdict"]
    assert [row["problem"] is None for row in rows] == [True, True, False]


def test_no_readable_image_is_an_error(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "c.jpg").write_text("none")
    with pytest.raises(DataError, match="none of 1"):
        predict(bundle, tmp_path / "c.jpg")
    with pytest.raises(DataError, match="absent.jpg"):
        predict(bundle, tmp_path / "absent.jpg")


@pytest.mark.parametrize("name", ["model.tflite", "labels.txt"])
def test_a_changed_bundle_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    photo = picture(tmp_path / "p.png", (1, 2, 3))
    assert predict(bundle, photo)
    (bundle / name).write_bytes((bundle / name).read_bytes() + b"x")
    with pytest.raises(DataError, match=f"{name}: wanted sha256"):
        predict(bundle, photo)
    (bundle / name).unlink()
    with pytest.raises(DataError, match="no such file"):
        predict(bundle, photo)


def test_two_labels_swapped_are_found(bundle: Path, tmp_path: Path) -> None:
    (bundle / "labels.txt").write_text("green\nred\nblue\n")
    with pytest.raises(DataError, match="labels.txt"):
        predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))


@pytest.mark.parametrize(
    "changes", [{"schema": 2}, {"model": {}}, {"decision": {}}, {"labels": []}, {"input": {}}]
)
def test_a_broken_bundle_json_is_refused(
    bundle: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    change(bundle, **changes)
    with pytest.raises(DataError):
        predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))


def test_files_outside_the_bundle_are_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x")
    digest = sha256_file(tmp_path / "other")
    change(bundle, files={"../other": {"sha256": digest}})
    with pytest.raises(DataError, match="outside"):
        predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_path_cannot_be_a_formula(start: str) -> None:
    name = f'{start}cmd, "x".jpg'
    row = prediction._without_verdict(Path("x"), "none") | {"path": name}
    (back,) = csv.DictReader(io.StringIO(as_csv([row]), newline=""))
    assert back["path"] == f"'{name}"
    assert back["verdict"] == "no verdict"
    assert tuple(back) == prediction.COLUMNS


def test_the_command_writes_csv_or_json_or_a_file(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo = picture(tmp_path / "p.png", (200, 0, 0))

    def command(*options: str) -> str:
        with pytest.raises(SystemExit) as end:
            cli.main(["predict", str(bundle), str(photo), *options])
        assert end.value.code == 0
        return capfd.readouterr().out

    (row,) = csv.DictReader(io.StringIO(command()))
    assert (row["label"], row["score"], row["group_score"], row["verdict"]) == (
        "red", "200", "200", "Warm",
    )  # fmt: skip
    assert json.loads(command("--json")) == {"predictions": predict(bundle, photo)}
    assert command("--output", str(tmp_path / "rows.csv")) == ""
    assert (tmp_path / "rows.csv").read_text() == as_csv(predict(bundle, photo))


def test_a_bundle_that_answers_otherwise_than_recorded_is_refused(
    bundle: Path, tmp_path: Path
) -> None:
    cases = json.loads((bundle / "bundle.json").read_text())["golden"]
    change(bundle, golden=[{**cases[0], "output": [201, 10, 20]}])
    with pytest.raises(DataError, match="golden case of bundle.json, found another output"):
        predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        ([], "wanted golden cases, found none"),
        ([{"image": "../secret.png"}], "'../secret.png' is not among its files"),
        ([{}], "wanted the key 'image', found none"),
    ],
)
def test_golden_cases_that_are_none_are_refused(
    bundle: Path, tmp_path: Path, golden: list[object], message: str
) -> None:
    change(bundle, golden=golden)
    with pytest.raises(DataError, match=message):
        predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))


def test_labels_in_another_order_than_the_file_are_refused(bundle: Path, tmp_path: Path) -> None:
    labels = json.loads((bundle / "bundle.json").read_text())["labels"]
    change(bundle, labels=labels[::-1])
    with pytest.raises(DataError, match="wanted the same labels in bundle.json and labels.txt"):
        predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))


def test_more_keys_beside_those_of_a_golden_case_are_no_fault(bundle: Path, tmp_path: Path) -> None:
    cases = json.loads((bundle / "bundle.json").read_text())["golden"]
    change(bundle, golden=[{**cases[0], "note": "a later version's"}])
    assert predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))


@pytest.mark.parametrize(
    "changes",
    [
        {"input": None},
        {"labels": ["a"]},
        {"labels": None},
        {"decision": []},
        {"golden": ["x"]},
        {"output": {"kernels": "none"}},
    ],
)
def test_a_record_of_another_shape_is_refused(
    bundle: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    change(bundle, **changes)
    with pytest.raises(DataError):
        predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))
