"""Who says the order of the labels, and whether photos show that it is another one."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mobileclf
from mobileclf import progress
from mobileclf.errors import DataError
from mobileclf.importing.label_order import (
    FEWEST,
    PER_CLASS,
    check,
    choose,
    given_labels,
    ordered,
    origin,
)
from mobileclf.records import write_json
from mobileclf.settings import Settings
from mobileclf.source.index import Entry, Index
from mobileclf.tflite import metadata

TINY = Path(mobileclf.__file__).parent / "checkup" / "tiny.tflite"
NAMES = tuple(f"Species_{letter}" for letter in "abcdefghijklmnop")


def scores(k: int, photos: int, accuracy: float, seed: int) -> tuple[Any, Any]:
    """Probabilities of a model that is right so often, and the labels, as many of each."""
    rng = np.random.default_rng(seed)
    truth = np.arange(k * photos) % k
    answers = np.where(rng.random(len(truth)) < accuracy, truth, rng.integers(0, k, len(truth)))
    found = rng.uniform(0, 0.5, (len(truth), k))
    found[np.arange(len(truth)), answers] += 0.6
    return found / found.sum(axis=1, keepdims=True), truth


def confused(seed: int, photos: int = PER_CLASS) -> tuple[Any, Any]:
    """16 species as models tell them apart: some hardly, and in pairs that look alike."""
    rng, k = np.random.default_rng(seed), 16
    truth = np.repeat(np.arange(k), photos)
    accuracy = np.linspace(0.95, 0.65, k)
    twin = truth ^ 1  # two of each three mistakes are the one that looks alike
    mistakes = np.where(rng.random(len(truth)) < 2 / 3, twin, rng.integers(0, k, len(truth)))
    answers = np.where(rng.random(len(truth)) < accuracy[truth], truth, mistakes)
    found = rng.uniform(0, 0.05, (len(truth), k))
    found[np.arange(len(truth)), answers] += 0.5
    return found, truth


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(progress, "say", lines.append)
    monkeypatch.setattr(progress, "warn", lambda line: lines.append(f"warning: {line}"))
    return lines


def test_the_right_order_passes_with_its_figures(said: list[str]) -> None:
    outputs, truth = scores(16, PER_CLASS, 0.8, 0)
    right = int((outputs.argmax(axis=1) == truth).sum())
    assert check(outputs, truth, NAMES, given="--labels names.txt") == {
        "given": "--labels names.txt", "photos": 512, "right": right, "best": right,
        "won": 0, "lost": 0, "p": 1.0, "undetectable": [],
    }  # fmt: skip
    (line,) = said
    assert f"(--labels names.txt): {right} of 512 photos right" in line


@pytest.mark.parametrize("seed", [0, 1])
def test_every_swap_of_two_of_sixteen_stops_and_is_printed(seed: int, said: list[str]) -> None:
    outputs, truth = confused(seed)
    assert check(outputs, truth, NAMES, given="x")["undetectable"] == []
    for a, b in combinations(range(16), 2):
        labels = list(NAMES)
        labels[a], labels[b] = labels[b], labels[a]
        # Truth is an index into the labels as they were given.
        index = np.array([labels.index(name) for name in NAMES])
        with pytest.raises(DataError) as caught:
            check(outputs, index[truth], labels, given="the class folders in alphabetical order")
        assert caught.value.exit_code == 4
        message = str(caught.value)
        assert f"these outputs are others: {a} {NAMES[a]}, {b} {NAMES[b]}. Give" in message
        assert message.endswith(f"by these photos: {', '.join(NAMES)}")
        assert "found the class folders in alphabetical order, which has " in message


def test_two_classes_the_wrong_way_round(said: list[str]) -> None:
    outputs, truth = scores(2, 64, 0.8, 1)
    right = int((outputs.argmax(axis=1) == truth).sum())
    check(outputs, truth, ("cat", "dog"), given="x")
    with pytest.raises(
        DataError, match=rf"has {128 - right} of 128 photos right, .* with {right} "
    ):
        check(outputs[:, ::-1], truth, ("cat", "dog"), given="x")


def test_too_few_photos_are_told_with_the_pairs(said: list[str]) -> None:
    outputs, truth = scores(4, 9, 1.0, 2)
    keep = (truth < 2) | (np.arange(len(truth)) < 12)  # 3 photos of each of the last two
    found = check(outputs[keep], truth[keep], NAMES[:4], given="x")
    assert found["undetectable"] == [["Species_c", "Species_d"]]
    (line,) = said
    assert line.startswith("warning: order of the labels: ")
    assert "to show whether Species_c and Species_d are swapped (of 6 photos of " in line
    assert "give more photos of them" in line


def test_a_model_that_knows_nothing_passes_but_shows_nothing(said: list[str]) -> None:
    rng = np.random.default_rng(3)
    outputs, truth = rng.random((128, 4)), np.arange(128) % 4
    found = check(outputs, truth, NAMES[:4], given="x")
    assert len(found["undetectable"]) == 6 and found["best"] > found["right"]
    assert "and 3 pairs more are swapped" in said[0]
    always = np.tile([0.1, 0.7, 0.1, 0.1], (128, 1))
    check(always, np.repeat([0, 2, 3], (100, 14, 14)), NAMES[:4], given="x")
    nothing = np.full((128, 4), np.nan)
    assert check(nothing, truth, NAMES[:4], given="x")["right"] == 0


def test_of_very_many_labels_only_some_places_are_printed() -> None:
    k = 200
    names = [f"n{i}" for i in range(k)]
    outputs, truth = scores(k, 12, 0.95, 0)
    with pytest.raises(DataError) as caught:
        check(outputs, np.roll(np.arange(k), -1)[truth], names, given="x")
    assert "63 n64, … (200 in all). Give --labels FILE" in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_photos_are_chosen_evenly_and_as_many_of_each() -> None:
    truth = np.repeat(np.arange(4), (100, 33, 5, 40))
    rows = choose(truth, 33)
    assert np.bincount(truth[rows]).tolist() == [33, 33, 5, 33]
    assert np.array_equal(rows, np.unique(rows)) and np.array_equal(rows, choose(truth, 33))
    first = rows[:33]
    assert first[0] == 0 and first[-1] == 99 and set(np.diff(first)) == {3, 4}
    assert choose(truth, 1).size == 32 + 32 + 5 + 32  # few classes: more of each
    assert len(choose(np.arange(200) % 2, 32)) == FEWEST
    assert np.bincount(np.arange(1600)[choose(np.arange(1600) % 16)] % 16).tolist() == [32] * 16
    assert choose(np.zeros(0, dtype=np.int64)).size == 0


# Who says it


def folders(*names: str, form: str = "class-folders") -> Index:
    labels = [name.rpartition("-")[0] or name for name in names]
    return Index(
        form=form,
        entries=tuple(
            Entry(path=f"train/{name}/1.jpg", label=label)
            for name, label in zip(names, labels, strict=True)
        ),
        labels=tuple((label, None) for label in labels),
    )


def test_without_a_word_the_folders_stay_in_their_order() -> None:
    found = ordered(folders("a-x", "b-y"), None)
    assert found.labels == (("a", None), ("b", None))
    assert found.origin == "the class folders in alphabetical order"
    assert ordered(folders("a", form="csv"), None).origin == "the data set's own order"


def test_a_file_says_it_by_label_or_folder(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("B-y\na-x\n")
    given = given_labels(Settings(labels=path))
    found = ordered(folders("a-x", "b-y"), given)
    assert found.labels == (("b", None), ("a", None)) and found.origin == "--labels names.txt"
    assert found.notes == ("--labels names.txt: 1 label taken for a class that is spelled another "
                           "way, as 'B-y' for 'b'",)  # fmt: skip
    path.write_text("b\n")
    changed = given_labels(Settings(labels=path))
    assert given and changed and given.sha256 != changed.sha256
    with pytest.raises(
        DataError, match="^--labels names.txt: wanted each of the 2 classes .*: a; "
    ):
        ordered(folders("a-x", "b-y"), changed)


def test_a_run_says_it_unless_a_file_does(tmp_path: Path) -> None:
    run, path = tmp_path / "runs" / "mine", tmp_path / "names.txt"
    write_json(run / "train.json", {})
    rows = [{"label": label, "group": None} for label in ("b", "a")]
    write_json(run / "dataset.json", {"labels": rows})
    given = given_labels(Settings(model=run))
    assert given and given.labels == ("b", "a") and given.origin == "dataset.json of the run mine"
    with pytest.raises(DataError, match="dataset.json of the run mine: .* no class: a"):
        ordered(folders("b", "c"), given)
    path.write_text("a\nb\n")
    file = given_labels(Settings(model=run, labels=path))
    assert file and file.labels == ("a", "b")


def tflite(path: Path, names: tuple[str, ...] | None) -> Path:
    """A model of four outputs, with these labels in its metadata."""
    data = TINY.read_bytes()
    if names is not None:
        about = metadata.Description(
            name="x", description="x", version="1", author="x", width=2, height=2, channels=3,
            minimum_score=None,
        )  # fmt: skip
        data = metadata.write(data, about, {metadata.LABELS_FILE: "\n".join(names).encode()})
    path.write_bytes(data)
    return path


def test_a_tflite_says_it_where_its_labels_are_those_of_the_photos(tmp_path: Path) -> None:
    path = tflite(tmp_path / "m.tflite", ("Cat", "ant", "dog", "bee"))
    given = given_labels(Settings(model=path))
    found = ordered(folders("ant", "bee", "cat", "dog"), given)
    assert [label for label, _ in found.labels] == ["cat", "ant", "dog", "bee"]
    assert found.origin == "metadata of m.tflite" and found.warnings == ()
    assert found.notes[0] == "metadata of m.tflite say the order of the outputs"
    assert "'Cat' for 'cat'" in found.notes[1]
    other = ordered(folders("ant", "bee", "dog", "eel"), given)
    assert [label for label, _ in other.labels] == ["ant", "bee", "dog", "eel"]
    assert other.origin == "the class folders in alphabetical order"
    (warning,) = other.warnings
    assert warning.startswith(
        "metadata of m.tflite do not name these classes, so the class folders"
    )
    assert "missing: eel; no class: Cat; --labels FILE says the order" in warning
    assert given_labels(Settings(model=tflite(tmp_path / "n.tflite", None))) is None
    assert given_labels(Settings(model=tflite(tmp_path / "n.tflite", ("a", "b")))) is None
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="m.tflite: "):
        given_labels(Settings(model=path))


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder", "nothing"])
def test_other_models_say_nothing(tmp_path: Path, name: str) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
    elif name != "nothing":
        (tmp_path / name).write_bytes(b"PK")
    assert given_labels(Settings(model=tmp_path / name)) is None
    assert given_labels(Settings()) is None


def test_the_record_of_the_run_says_who_said_it(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"order": "--labels names.txt"}))
    assert origin(Settings(run=tmp_path)) == "--labels names.txt"
