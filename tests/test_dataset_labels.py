"""--labels in the dataset stage: the record's order, and what a change of the file does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobileclf.errors import DataError
from mobileclf.records import sha256_file
from mobileclf.run import bring_up_to_date, inputs_of, is_current
from mobileclf.scores import read_labels, read_part
from mobileclf.settings import Settings
from mobileclf.stages import dataset
from mobileclf.stages.dataset import STAGE
from tests.test_dataset import index, make, settings_for

COUNTS = {"a-Good": 12, "a_b-Bad": 12, "B-Good": 12}


def current(settings: Settings) -> bool:
    return is_current(STAGE, settings, inputs_of(STAGE, settings))


def test_the_records_follow_the_file_and_the_parts_stay(tmp_path: Path) -> None:
    root, names = make(tmp_path / "d", COUNTS), tmp_path / "names.txt"
    usual, rows = index(root, tmp_path / "one")
    assert [row["label"] for row in usual["labels"]] == ["B", "a", "a_b"]
    assert usual["order"] == "the class folders in alphabetical order"
    assert "labels" not in usual["inputs"]["outside"]
    names.write_text("a_b-Bad\nB\nA\n")
    record, again = index(root, tmp_path / "two", labels=names)
    assert record["labels"] == [
        {"label": "a_b", "group": "Bad"},
        {"label": "B", "group": "Good"},
        {"label": "a", "group": "Good"},
    ]
    assert record["order"] == "--labels names.txt" and rows == again
    assert list(record["classes"]) == list(record["sheets"]) == ["a_b", "B", "a"]
    assert any("'A' for 'a'" in remark for remark in record["remarks"])
    assert read_labels(tmp_path / "two")[0] == ("a_b", "B", "a")
    part = read_part(tmp_path / "two", "test")
    named = [("a_b", "B", "a")[i] for i in part.truth]
    assert [path.partition("-")[0] for path in part.paths] == named
    assert str(tmp_path) not in json.dumps(record)


def test_a_changed_file_makes_the_stage_anew(tmp_path: Path) -> None:
    root, names = make(tmp_path / "d", COUNTS), tmp_path / "names.txt"
    names.write_text("a\nB\na_b\n")
    settings = settings_for(root, tmp_path / "run", labels=names)
    bring_up_to_date(STAGE, settings)
    assert current(settings)
    names.write_text("B\na\na_b\n")
    assert not current(settings)
    assert bring_up_to_date(STAGE, settings)["labels"][0]["label"] == "B"
    assert current(settings)
    names.unlink()
    with pytest.raises(DataError, match="names.txt: cannot be read"):
        current(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\nB\n",
            "--labels names.txt: wanted each of the 3 .* 2 labels; missing: a_b; wanted the",
        ),
        ("a\nB\na_b\nc\n", "no class: c; wanted the name of a class or its folder on each line"),
        ("a\nB\nB\na_b\n", "twice: B; "),
        ("a\n\nB\n", "wanted a label a line, found line 2 empty"),
    ],
)
def test_a_file_that_does_not_fit_stops_before_any_photo_is_read(
    tmp_path: Path, text: str, message: str
) -> None:
    root, names = make(tmp_path / "d", COUNTS), tmp_path / "names.txt"
    names.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        index(root, tmp_path / "run", labels=names)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "run" / "dataset.json").exists()
    assert not (tmp_path / "run" / "dataset.csv").exists()


def test_the_folders_are_in_the_order_that_keras_has_them(tmp_path: Path) -> None:
    """flow_from_directory sorts whole folder names: "A b-x" and "A-y" the other way round than
    the labels "A" and "A b"."""
    root = make(tmp_path / "d", {"A-y": 8, "A b-x": 8, "A_c-x": 8, "k-y": 8, "10-x": 8})
    record, _ = index(root, tmp_path / "run")
    keras = sorted(path.name for path in root.iterdir())
    assert keras == ["10-x", "A b-x", "A-y", "A_c-x", "k-y"]
    assert [row["label"] for row in record["labels"]] == ["10", "A b", "A", "A_c", "k"]


def test_the_drawn_sample_takes_labels_too(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("b\na\n")
    drawn = dataset.outside(Settings())
    found = dataset.outside(Settings(labels=names))
    assert found["photos"] == drawn["photos"] and "labels" not in drawn
    assert found["labels"] == {"from": "--labels names.txt", "sha256": sha256_file(names)}
