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
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobileclf.config import Settings, make_settings
from mobileclf.errors import DataError, UsageError
from mobileclf.images.sample import LABELS, draw
from mobileclf.photos import photos_root
from mobileclf.records import read_csv
from mobileclf.run import bring_up_to_date
from mobileclf.scores import PARTS, read_labels, read_part
from mobileclf.stages import dataset
from mobileclf.stages.dataset import STAGE, name_groups, split_class, targets

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


def test_names_give_groups_only_if_all_do_and_there_are_fewer() -> None:
    assert name_groups(["a-x", "b-y", "c-x"]) == [("a", "x"), ("b", "y"), ("c", "x")]
    assert name_groups(["a-b-x", "c-y", "d-y"]) == [("a-b", "x"), ("c", "y"), ("d", "y")]
    assert name_groups(["a-x", "b-y", "c"]) is None
    assert name_groups(["a-x", "b-y"]) is None  # as many groups as classes
    assert name_groups(["a-x", "b-x"]) is None  # one suffix for all says nothing
    assert name_groups(["a-", "b-x", "c-x"]) is None
    assert name_groups(["-x", "b-x", "c-y"]) is None


def test_a_groups_file_names_the_groups_where_folders_do_not(tmp_path: Path) -> None:
    root, groups = make(tmp_path / "d", {"b": 6, "a": 6}), tmp_path / "groups.csv"
    groups.write_text("label,group\na,Good\nb,Bad\n")
    record, _ = index(root, tmp_path / "run", groups=groups)
    assert record["labels"] == [{"label": "a", "group": "Good"}, {"label": "b", "group": "Bad"}]
    for text, message in (
        ("label,group\na,Good\n", "no group for class b"),
        ("label,group\na,Good\nb,Bad\nc,Bad\n", "no class folder c"),
        ("label,group\na,Good\nb,\n", "line 3: wanted columns label,group"),
        ("class,kind\na,Good\nb,Bad\n", "line 2: wanted columns label,group"),
        ("label,group\na,Good\na,Bad\nb,Bad\n", "already in 'Good'"),
    ):
        groups.write_text(text)
        with pytest.raises(DataError, match=message):
            index(root, tmp_path / "run", groups=groups)
    groups.unlink()
    with pytest.raises(DataError, match="no such groups file"):
        index(root, tmp_path / "run", groups=groups)


def test_without_groups_they_are_null(tmp_path: Path) -> None:
    record, rows = index(make(tmp_path / "d", {"cats": 8, "dogs": 8}), tmp_path / "run")
    assert record["groups"] == [] and record["labels"][0] == {"label": "cats", "group": None}
    assert {row["group"] for row in rows} == {""}
    assert len(record["warnings"]) == 2 and "only 8 pictures" in record["warnings"][0]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (None, "no such folder"),
        ({}, "folder is empty"),
        ({"only": 9}, "at least 2 class folders, found only 'only'"),
        ({"a": 9, "b": 1}, "'b': wanted at least 2 different pictures that can be read, found 1"),
        ({"a": 9, "b": 0}, "'b': wanted at least 2 different pictures that can be read, found 0"),
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
    none = dataset.Copies(groups=(), too_small=())
    monkeypatch.setattr(dataset, "find_copies", lambda looks: none)
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
    for folder in "ab":
        Image.open(root / "a" / "03.png").resize((50, 50)).save(root / folder / "small.png")
    record, _ = index(root, tmp_path / "run")
    assert record["copies"] == 0 and record["problems"] == []
    assert sum(record["parts"].values()) == 22
    assert any("too small to call copies" in warning for warning in record["warnings"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=80), st.integers(0, 2**31))
def test_each_part_gets_its_share_and_units_stay_whole(sizes: list[int], seed: int) -> None:
    units, start = [], 0
    for size in sizes:
        units.append(tuple(range(start, start + size)))
        start += size
    split = split_class(units, np.random.default_rng(seed))
    assert sorted(split) == list(range(start))
    assert all(len({split[i] for i in unit}) == 1 for unit in units)
    counts = Counter(split.values())
    wanted = targets(start, len(units))
    assert sum(wanted.values()) == start
    reached = dataset.NEEDED_FIRST[: len(units)]
    assert set(counts) == set(reached)
    if len(units) >= 4 and max(sizes) == 1:
        assert counts == wanted
    assert all(abs(counts[part] - wanted[part]) <= 3 * max(sizes) for part in PARTS)


def test_shares_are_60_10_15_15() -> None:
    assert targets(100, 100) == {"train": 60, "validation": 10, "threshold": 15, "test": 15}
    assert targets(4, 4) == {"train": 1, "validation": 1, "threshold": 1, "test": 1}
    assert targets(3, 3) == {"train": 1, "validation": 1, "threshold": 0, "test": 1}
    assert targets(2, 2) == {"train": 1, "validation": 0, "threshold": 0, "test": 1}


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
        patch.setattr(dataset, "read_photo", lambda *_: pytest.fail("was read again"))
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
    assert photos_root(chosen) == tmp_path / "run" / "sample"
    files = {f"{k}-{v}/{k}_{i:03d}.jpg" for k, v in LABELS.items() for i in range(4)}

    record = bring_up_to_date(STAGE, chosen)
    assert {label["label"]: label["group"] for label in record["labels"]} == LABELS
    assert record["inputs"]["outside"]["photos"] == {
        "sample": {"seed": 3, "version": dataset.sample.VERSION}
    }
    assert set(record["outputs"]) == {"dataset.csv"} | {f"sample/{name}" for name in files}

    (photos_root(chosen) / sorted(files)[0]).unlink()  # a sample with a hole is drawn again
    assert bring_up_to_date(STAGE, chosen) == record
    other = make_settings({"run": tmp_path / "run", "seed": 4})
    assert bring_up_to_date(STAGE, other)["outputs"] != record["outputs"]
    (photos_root(chosen) / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="holds other files"):
        bring_up_to_date(STAGE, chosen)


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
