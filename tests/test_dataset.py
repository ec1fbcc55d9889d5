"""The dataset stage: what is indexed, refused and left out, and how the parts are drawn."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mobileclf
from mobileclf import leaks
from mobileclf.config import make_settings
from mobileclf.errors import DataError, UsageError
from mobileclf.images.sample import LABELS, draw
from mobileclf.photos import SAMPLE_FOLDER, photos_of
from mobileclf.records import read_csv
from mobileclf.run import bring_up_to_date
from mobileclf.scores import PARTS, read_labels, read_part
from mobileclf.settings import Settings
from mobileclf.stages import dataset
from mobileclf.stages.dataset import STAGE

DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))


def photo(path: Path, number: int) -> Path:
    """A drawn picture, another for each number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    label = list(LABELS)[number % len(LABELS)]
    draw(label, np.random.default_rng((21, number)), 80).save(path)
    return path


def make(root: Path, counts: dict[str, int]) -> Path:
    number = 0
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            photo(root / folder / f"{i:02d}.png", number)
            number += 1
    return root


def settings_for(root: Path, run: Path, **flags: object) -> Settings:
    return make_settings({"data": root, "run": run, **flags})


def index(root: Path, run: Path, **flags: object) -> tuple[dict[str, Any], list[dict[str, str]]]:
    record = bring_up_to_date(STAGE, settings_for(root, run, **flags))
    return record, read_csv(run / "dataset.csv")


def test_folders_with_groups_are_indexed_split_and_readable(tmp_path: Path) -> None:
    counts = {"Ab-c-Bad": 20, "De-Good": 20, "Aa-Good": 12}
    record, rows = index(make(tmp_path / "d", counts), tmp_path / "run")
    assert record["labels"] == [
        {"label": "Aa", "group": "Good"},
        {"label": "Ab-c", "group": "Bad"},
        {"label": "De", "group": "Good"},
    ]
    assert record["groups"] == ["Bad", "Good"]
    assert record["classes"]["De"] == {
        "train": 12, "validation": 2, "threshold": 3, "test": 3,
    }  # fmt: skip
    assert record["parts"] == dict(Counter(row["split"] for row in rows))
    assert record["copies"] == 0 and record["problems"] == [] and record["warnings"] == []
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert rows[0]["path"] == "Aa-Good/00.png" and len(rows[0]["sha256"]) == 64
    assert read_labels(tmp_path / "run") == (("Aa", "Ab-c", "De"), ("Good", "Bad", "Good"))
    parts = [read_part(tmp_path / "run", part) for part in PARTS]
    assert sum(map(len, parts)) == 52
    assert str(tmp_path) not in (tmp_path / "run" / "dataset.json").read_text()


def test_without_groups_they_are_null(tmp_path: Path) -> None:
    record, rows = index(make(tmp_path / "d", {"cats": 8, "dogs": 8}), tmp_path / "run")
    assert record["groups"] == [] and record["labels"][0] == {"label": "cats", "group": None}
    assert {row["group"] for row in rows} == {""}
    assert len(record["warnings"]) == 2 and "only 8 pictures" in record["warnings"][0]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (None, "wanted a folder, a .zip of it or a .csv, found nothing"),
        ({}, "folder is empty"),
        ({"only": 9}, "at least 2 classes, found only 'only'"),
        ({"a": 9, "b": 1}, "'b': wanted at least 2 different pictures .* found 1"),
        ({"a": 9, "b": 0}, "'b': wanted at least 2 different pictures .* found 0"),
        ({"a": 0, "b": 0}, "none readable"),
        ({"A-x": 3, "A-y": 3, "B-y": 3}, "'A' has folders in two groups"),
        ({"a": 2, "b": 2}, "too few photos for part 'validation'"),
    ],
)
def test_data_that_cannot_be_used_end_in_one_line(
    tmp_path: Path, counts: dict[str, int] | None, message: str
) -> None:
    root = tmp_path / "d"
    if counts is not None:
        root.mkdir()
        make(root, counts)
    with pytest.raises(DataError, match=message) as caught:
        index(root, tmp_path / "run")
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "dataset.json").exists()


def test_a_file_or_loose_photos_or_unreadable_ones_are_no_data_set(tmp_path: Path) -> None:
    loose = photo(tmp_path / "loose" / "a.png", 0)
    with pytest.raises(DataError, match="found a file"):
        index(loose, tmp_path / "run")
    with pytest.raises(DataError, match="found only files"):
        index(loose.parent, tmp_path / "run")
    for folder in "ab":
        (tmp_path / "bad" / folder).mkdir(parents=True)
        (tmp_path / "bad" / folder / "x.jpg").write_bytes(b"\xff\xd8\xff no picture")
    with pytest.raises(DataError, match=r"none readable \(a/x\.jpg: "):
        index(tmp_path / "bad", tmp_path / "run")


def test_what_cannot_be_read_is_listed_and_left_out(tmp_path: Path) -> None:
    root = make(tmp_path / "d", {"a": 10, "b": 10})
    (root / "a" / "notes.txt").write_text("hello")
    cut = (root / "a" / "00.png").read_bytes()
    (root / "a" / "cut.png").write_bytes(cut[:-20])
    (root / "b" / ".DS_Store").write_bytes(b"hidden")
    (root / ".hidden").mkdir()
    (root / "b" / "more").mkdir()
    (root / "b" / "dead.jpg").symlink_to("nowhere.jpg")
    (root / "README.md").write_text("about")
    shutil.move(root / "b" / "00.png", root / "b" / "Screenshot\u202f9, \u00fc.png")
    record, rows = index(root, tmp_path / "run")
    problems = {row["path"]: row["problem"] for row in rows if row["problem"]}
    assert problems == {p["path"]: p["problem"] for p in record["problems"]}
    assert set(problems) == {"a/notes.txt", "a/cut.png", "b/more", "b/dead.jpg", "README.md"}
    assert "not a picture" in problems["a/notes.txt"] and "cut short" in problems["a/cut.png"]
    assert all((row["split"] == "") == bool(row["problem"]) for row in rows)
    assert sum(record["parts"].values()) == 20
    assert any("5 files left out" in warning for warning in record["warnings"])


def test_twins_stay_in_one_part_whatever_the_seed(tmp_path: Path) -> None:
    root = make(tmp_path / "d", {"a": 12, "b": 12})
    for i in range(12):
        image = Image.open(root / "a" / f"{i:02d}.png")
        image.resize((120, 120)).save(root / "a" / f"{i:02d}_twin.jpg", quality=85)
    for seed in range(4):
        record, rows = index(root, tmp_path / "run", seed=seed)
        part = {row["path"]: row["split"] for row in rows}
        assert all(part[f"a/{i:02d}.png"] == part[f"a/{i:02d}_twin.jpg"] for i in range(12))
        assert record["copies"] == 12
        assert {row["copy_of"] for row in rows if row["copy_of"]} == {
            f"a/{i:02d}.png" for i in range(12)
        }


def test_without_the_search_for_copies_twins_are_put_across(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check above can fail: what keeps twins together is the search."""
    none = leaks.Copies(groups=(), too_small=())
    monkeypatch.setattr(leaks, "find_copies", lambda looks: none)
    root = make(tmp_path / "d", {"a": 12, "b": 12})
    for i in range(12):
        shutil.copy(root / "a" / f"{i:02d}.png", root / "a" / f"{i:02d}_twin.png")
    _, rows = index(root, tmp_path / "run")
    part = {row["path"]: row["split"] for row in rows}
    assert any(part[f"a/{i:02d}.png"] != part[f"a/{i:02d}_twin.png"] for i in range(12))


def test_a_picture_under_two_labels_is_left_out_of_both(tmp_path: Path) -> None:
    root = make(tmp_path / "d", {"a": 10, "b": 10})
    Image.open(root / "a" / "03.png").resize((100, 100)).save(root / "b" / "again.png")
    record, rows = index(root, tmp_path / "run")
    assert {p["path"]: p["problem"] for p in record["problems"]} == {
        "a/03.png": "the same picture is in another class (b/again.png)",
        "b/again.png": "the same picture is in another class (a/03.png)",
    }
    assert sum(record["parts"].values()) == 19 and record["copies"] == 0


def test_pictures_too_small_to_be_sure_are_only_reported(tmp_path: Path) -> None:
    root = make(tmp_path / "d", {"a": 10, "b": 10})
    for folder, side in (("a", 50), ("b", 52)):
        Image.open(root / "a" / "03.png").resize((side, side)).save(root / folder / "small.png")
    record, _ = index(root, tmp_path / "run")
    assert record["copies"] == 0 and record["problems"] == []
    assert sum(record["parts"].values()) == 22
    assert any("too small to call copies" in warning for warning in record["warnings"])


def test_the_same_seed_gives_the_same_bytes_and_another_another_split(tmp_path: Path) -> None:
    root = make(tmp_path / "d", {"a": 20, "b": 20})
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    for name, source, seed in (("one", root, 0), ("two", moved, 0), ("three", root, 1)):
        index(source, tmp_path / name, seed=seed)
    one, two, three = (
        [(tmp_path / name / file).read_bytes() for file in ("dataset.csv", "dataset.json")]
        for name in ("one", "two", "three")
    )
    assert one == two
    assert one[0] != three[0]


def test_the_record_is_remade_when_the_photos_change_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, run = make(tmp_path / "d", {"a": 10, "b": 10}), tmp_path / "run"
    before, _ = index(root, run)
    with monkeypatch.context() as patch:
        patch.setattr(leaks, "check_file", lambda *_: pytest.fail("was read again"))
        assert index(root, run)[0] == before
    photo(root / "a" / "00.png", 99)
    changed, _ = index(root, run)
    assert changed["inputs"] != before["inputs"]
    (root / "a" / "00.png").rename(root / "a" / "0.png")
    renamed, _ = index(root, run)
    assert renamed["inputs"] != changed["inputs"]


def test_without_data_the_sample_is_drawn_into_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = dataset.sample.write_sample
    monkeypatch.setattr(
        dataset.sample, "write_sample", lambda folder, **kw: write(folder, per_class=4, **kw)
    )
    chosen = make_settings({"run": tmp_path / "run", "seed": 3})
    drawn = tmp_path / "run" / SAMPLE_FOLDER
    files = {f"{k}-{v}/{k}_{i:03d}.jpg" for k, v in LABELS.items() for i in range(4)}

    record = bring_up_to_date(STAGE, chosen)
    assert photos_of(tmp_path / "run", chosen).root == drawn
    assert {label["label"]: label["group"] for label in record["labels"]} == LABELS
    assert record["inputs"]["outside"]["photos"] == {
        "sample": {"seed": 3, "version": dataset.sample.VERSION}
    }
    sheets = {f"sheets/{i:03d}.jpg" for i in range(len(LABELS))}
    assert set(record["outputs"]) == {"dataset.csv"} | {f"sample/{name}" for name in files} | sheets

    (drawn / sorted(files)[0]).unlink()  # a sample with a hole is drawn again
    assert bring_up_to_date(STAGE, chosen) == record
    other = make_settings({"run": tmp_path / "run", "seed": 4})
    assert bring_up_to_date(STAGE, other)["outputs"] != record["outputs"]
    (drawn / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="holds other files"):
        bring_up_to_date(STAGE, chosen)


def by_path(rows: list[dict[str, str]], column: str) -> dict[str, str]:
    return {row["path"]: row[column] for row in rows}


def given_parts(root: Path) -> Path:
    """train/, validation/ and test/ above two classes; other pictures everywhere."""
    number = 0
    for part, count in (("train", 20), ("validation", 6), ("test", 8)):
        for name in "ab":
            for i in range(count):
                photo(root / part / name / f"{i:02d}.png", number)
                number += 1
    return root


def test_given_parts_are_kept_and_the_missing_one_is_cut_from_train(tmp_path: Path) -> None:
    record, rows = index(given_parts(tmp_path / "d"), tmp_path / "run")
    part = by_path(rows, "split")
    for path, split in part.items():
        above = path.split("/")[0]
        assert split == above or (above == "train" and split == "threshold")
    assert record["parts"] == {"train": 32, "validation": 12, "threshold": 8, "test": 16}
    assert record["given_parts"] == ["train", "validation", "test"]


def test_a_copy_across_given_parts_is_dropped_from_train_and_test_never_changes(
    tmp_path: Path,
) -> None:
    root = given_parts(tmp_path / "d")
    _, before = index(root, tmp_path / "run")
    for number, (source, copy) in enumerate(
        (("test/a/00.png", "train/a/x.jpg"), ("validation/a/00.png", "train/a/y.jpg"),
         ("test/b/01.png", "validation/b/z.jpg"), ("test/a/02.png", "train/b/wrong.jpg"))
    ):  # fmt: skip
        size = (96 + number, 96 + number)
        Image.open(root / source).resize(size).save(root / copy, quality=80)
    record, rows = index(root, tmp_path / "run")
    assert by_path([row for row in rows if row["problem"]], "problem") == {
        "train/a/x.jpg": "the same picture is in test (test/a/00.png)",
        "train/a/y.jpg": "the same picture is in validation (validation/a/00.png)",
        "validation/b/z.jpg": "the same picture is in test (test/b/01.png)",
        "train/b/wrong.jpg": "the same picture is in another class (test/a/02.png)",
    }
    held = [{row["path"] for row in x if row["split"] == "test"} for x in (before, rows)]
    assert held[0] == held[1] and len(held[0]) == 16
    assert sum("left out" in warning for warning in record["warnings"]) == 1


def test_two_labels_within_given_test_photos_are_said_and_left(tmp_path: Path) -> None:
    root = given_parts(tmp_path / "d")
    Image.open(root / "test/a/00.png").resize((99, 99)).save(root / "test/b/again.png")
    record, rows = index(root, tmp_path / "run")
    assert record["problems"] == [] and by_path(rows, "split")["test/b/again.png"] == "test"
    assert any("under two labels" in warning for warning in record["warnings"])


def test_photos_of_one_specimen_stay_on_one_side(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for number in range(96):
        photo(root / "ab"[number % 2] / f"spot{number // 8:02d}_{number}.png", number)
    _, rows = index(root, tmp_path / "run", group_by=r"spot(\d+)_")
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["specimen"], set()).add(row["split"])
    assert len(sides) == 12 and all(len(parts) == 1 for parts in sides.values())
    _, rows = index(root, tmp_path / "run")
    torn = {row["path"].split("_")[0][2:]: set() for row in rows}
    for row in rows:
        torn[row["path"].split("_")[0][2:]].add(row["split"])
    assert any(len(parts) > 1 for parts in torn.values())  # without it they are torn apart


def test_a_specimen_across_given_parts_is_left_out_of_train(tmp_path: Path) -> None:
    root = given_parts(tmp_path / "d")
    photo(root / "train" / "a" / "s9_a.png", 900)
    photo(root / "test" / "a" / "s9_b.png", 901)
    _, rows = index(root, tmp_path / "run", group_by=r"s9")
    assert by_path([row for row in rows if row["problem"]], "problem") == {
        "train/a/s9_a.png": "specimen 's9' is in test too"
    }


def test_strict_stops_on_a_warning_and_the_record_is_there_all_the_same(tmp_path: Path) -> None:
    root, run = make(tmp_path / "d", {"a": 12, "b": 12}), tmp_path / "run"
    mobileclf.dataset(root, run=run, strict=True)  # nothing to warn of
    (root / "a" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    for _ in range(2):  # also where the stage is up to date
        with pytest.raises(DataError, match="--strict: wanted no warnings, found 1; the .* 1 file"):
            mobileclf.dataset(root, run=run, strict=True)
    before = (run / "dataset.json").read_bytes()
    problems = by_path(read_csv(run / "dataset.csv"), "problem")
    assert [path for path, problem in problems.items() if problem] == ["a/broken.jpg"]
    record = mobileclf.dataset(root, run=run, strict=False)
    assert len(record["warnings"]) == 1 and (run / "dataset.json").read_bytes() == before


def test_an_error_leaves_the_table_of_what_is_wrong(tmp_path: Path) -> None:
    root = make(tmp_path / "d", {"a": 12, "b": 1})
    (root / "b" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"found 1; .*b/broken\.png: not a picture"):
        index(root, tmp_path / "run")
    rows = read_csv(tmp_path / "run" / "dataset.csv")
    assert by_path(rows, "problem")["b/broken.png"].startswith("not a picture")


def test_every_class_has_a_contact_sheet_that_the_record_names(tmp_path: Path) -> None:
    root = make(tmp_path / "d", {"a": 12, "b": 46})
    (root / "stray.txt").write_text("in no class")
    record, _ = index(root, tmp_path / "run")
    assert list(record["sheets"]) == ["a", "b", ""]
    sizes = []
    for file in record["sheets"].values():
        assert file in record["outputs"]
        with Image.open(tmp_path / "run" / file) as sheet:
            sizes.append(sheet.width * sheet.height)
    assert sizes[1] > sizes[0] > sizes[2]


def test_a_rare_class_is_named(tmp_path: Path) -> None:
    record, _ = index(make(tmp_path / "d", {"a": 120, "b": 11}), tmp_path / "run")
    assert any("'a' has 120 photos and 'b' 11" in warning for warning in record["warnings"])


@pytest.mark.skipif(not (DATA / "cats_dogs").is_dir(), reason=f"no cats_dogs in {DATA}")
def test_copies_moved_across_the_split_are_all_found_and_nothing_else(tmp_path: Path) -> None:
    root, rng = tmp_path / "d", np.random.default_rng(0)
    moved = set()
    for part, of_class in (("train", 110), ("validation", 40)):
        for folder in sorted((DATA / "cats_dogs" / part).iterdir()):
            (root / part / folder.name).mkdir(parents=True)
            for number, source in enumerate(sorted(folder.iterdir())[:of_class]):
                (root / part / folder.name / source.name).symlink_to(source)
                if part == "validation" and number % 4 == 0:
                    image = Image.open(source).convert("RGB")
                    scale = float(rng.uniform(0.5, 1.6))
                    size = (round(image.width * scale), round(image.height * scale))
                    name = f"train/{folder.name}/copy_{number:02d}.jpg"
                    image.resize(size).save(root / name, quality=int(rng.integers(40, 95)))
                    moved.add(name)
    record, rows = index(root, tmp_path / "run")
    assert len(moved) == 20
    assert {row["path"] for row in rows if row["problem"]} == moved
    assert record["copies"] == 0


@pytest.mark.skipif(not (DATA / "mushrooms4").is_dir(), reason=f"no mushrooms4 in {DATA}")
def test_the_mushrooms_split_without_twins_across(tmp_path: Path) -> None:
    record, rows = index(DATA / "mushrooms4", tmp_path / "run")
    assert record["parts"] == {"train": 750, "validation": 124, "threshold": 188, "test": 188}
    assert record["copies"] == 139 and record["groups"] == ["Edible", "NotEdible"]
    part = {row["path"]: row["split"] for row in rows}
    twins = [row for row in rows if row["copy_of"]]
    assert len(twins) == 139
    assert all(row["split"] == part[row["copy_of"]] for row in twins)
    assert json.loads((tmp_path / "run" / "dataset.json").read_text()) == record


def test_a_copy_of_a_specimen_in_test_is_left_out_of_train(tmp_path: Path) -> None:
    """Copies and specimens tie together: neither alone would see it."""
    root = given_parts(tmp_path / "d")
    photo(root / "test" / "a" / "s9_x.png", 900)
    photo(root / "train" / "a" / "s9_y.png", 901)
    Image.open(root / "train" / "a" / "s9_y.png").resize((99, 99)).save(root / "train/a/copy.png")
    _, rows = index(root, tmp_path / "run", group_by=r"s9")
    assert by_path([row for row in rows if row["problem"]], "problem") == {
        "train/a/s9_y.png": "specimen 's9' is in test too",
        "train/a/copy.png": "tied by copies and specimens to test (test/a/s9_x.png)",
    }


def test_a_given_part_without_a_usable_photo_is_no_reason_to_cut_another(tmp_path: Path) -> None:
    root = given_parts(tmp_path / "d")
    for file in (root / "test").rglob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"'test' is given, but none .* \(test/a/00.png: not a pic"):
        index(root, tmp_path / "run")


def test_copies_count_once_where_pictures_are_too_few(tmp_path: Path) -> None:
    root = make(tmp_path / "d", {"a": 12, "b": 1})
    for side in (90, 100, 110):
        image = Image.open(root / "b" / "00.png")
        image.resize((side, side)).save(root / "b" / f"{side}.png")
    with pytest.raises(DataError, match="'b': wanted at least 2 different pictures .* found 1;"):
        index(root, tmp_path / "run")


def test_time_is_linear_where_no_parts_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: how often the photos' entries are looked at for each photo."""
    looked = []
    for count in (40, 80):
        root = make(tmp_path / str(count), {"a": count // 2, "b": count // 2})
        calls = 0
        own = leaks.Photo.side.fget
        assert own is not None

        def side(self: Any, own: Any = own) -> str:
            nonlocal calls
            calls += 1
            return str(own(self))

        with monkeypatch.context() as patch:
            patch.setattr(leaks.Photo, "side", property(side))
            index(root, tmp_path / f"run{count}")
        looked.append(calls)
    assert looked[1] <= 2.2 * looked[0]
