"""A CSV of names and labels: columns, ids, parts, what is wrong with rows, hostile files."""

from __future__ import annotations

import io
import shutil
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileclf.config import make_settings
from mobileclf.errors import DataError
from mobileclf.source import forms, image_csv, tables
from mobileclf.source.image_csv import IdRow, read_rows
from mobileclf.source.index import Index, part_in
from mobileclf.source.photo_ids import Photos
from mobileclf.source.store import FolderStore, Store, open_store
from mobileclf.source.tables import lines_of, read_table


def make(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def photos(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "photo")


def index(data: Path, **flags: object) -> tuple[Index, Store]:
    settings = make_settings({"data": data, "run": data.parent / "run", **flags})
    forms.check_source(settings)
    found, store = forms.read_index(settings, data.parent / "run")
    assert found.form == "csv"
    assert [e.path for e in found.entries] == sorted(e.path for e in found.entries)
    assert forms.photos_store(settings).root == store.root
    usable = [entry.path for entry in found.entries if not entry.problem]
    assert len(usable) == len(set(usable))
    return found, store


def labelled(found: Index) -> dict[str, str]:
    return {entry.path: entry.label for entry in found.entries if not entry.problem}


def problems(found: Index) -> list[tuple[str, str]]:
    return [(entry.path, entry.problem) for entry in found.entries if entry.problem]


@pytest.mark.parametrize(
    "text",
    [
        "id,label\n1,cat\n2,dog\n",
        "ID;Target\n1;cat\n2;dog\n",
        "filename\tspecies\n1.jpg\tcat\n2.png\tdog\n",
        "path,class\nimages/1.jpg,cat\nimages/2.png,dog\n",
        "path,class\n./images\\1.jpg,cat\nimages//2,dog\n",
        '\ufeff"image","category"\r\n"1","cat"\r\n"2","dog"\r\n\r\n',
        "label,other, image \ncat,,1\ndog,x,2\n",
        "\n\nImage Id,label,\n1,cat\n2,dog,\n",
    ],
)
def test_columns_ids_and_delimiters_as_people_write_them(tmp_path: Path, text: str) -> None:
    root = make(tmp_path / "d", {"train.csv": text, **photos("images/1.jpg", "images/2.png")})
    found, store = index(root)
    assert labelled(found) == {"images/1.jpg": "cat", "images/2.png": "dog"}
    assert found.labels == (("cat", None), ("dog", None)) and problems(found) == []
    assert store.read("images/1.jpg") == b"photo"


def test_a_zip_gives_the_same_index_as_its_folder(tmp_path: Path) -> None:
    text = "id,label\n1,ö x\n2,it's\n"
    root = make(tmp_path / "d", {"train.csv": text, **photos("images/1.jpg", "images/2.jpg")})
    path = Path(shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path, "d"))
    assert index(path)[0] == index(root)[0]
    assert index(path, images="images")[0] == index(root)[0]
    assert index(path)[1].read("images/1.jpg") == b"photo"


def test_parts_come_from_the_names_of_the_csvs(tmp_path: Path) -> None:
    # The same ids in every part: the folder of the part's name is looked into first.
    names = ("train", "val", "test")
    files = {f"{name}.csv": "id,label\n1,a\n2,b\n" for name in names}
    files |= photos(*(f"{name}/{i}.jpg" for name in names for i in (1, 2)))
    root = make(tmp_path / "d", {**files, "notes.csv": "x\n1\n"})
    found, _ = index(root)
    assert [(e.path, e.label, e.part) for e in found.entries] == [
        ("test/1.jpg", "a", "test"), ("test/2.jpg", "b", "test"),
        ("train/1.jpg", "a", "train"), ("train/2.jpg", "b", "train"),
        ("val/1.jpg", "a", "validation"), ("val/2.jpg", "b", "validation"),
    ]  # fmt: skip
    (root / "train.csv").rename(root / "trainLabels.csv")
    assert index(root)[0].entries == found.entries


def test_an_unlabelled_test_csv_is_left_for_predict(tmp_path: Path) -> None:
    files = {
        "train.csv": "id,label\n1,a\n2,b\n",
        "test.csv": "id,width\n8,5\n9,5\n",
        "sample_submission.csv": "id,label\n8,a\n9,a\n7,a\n",
    }
    root = make(tmp_path / "d", {**files, **photos(*(f"all/{i}.jpg" for i in (1, 2, 3, 7, 8, 9)))})
    found, _ = index(root)
    assert labelled(found) == {"all/1.jpg": "a", "all/2.jpg": "b"}
    assert problems(found) == [("all/3.jpg", image_csv.NO_ROW)]
    assert found.warnings == () and found.notes[0].startswith("test.csv has no labels")
    (root / "train.csv").unlink()
    with pytest.raises(DataError, match="found only test.csv, sample_submission.csv without"):
        index(root)


def test_read_rows_keeps_every_id_in_its_order(tmp_path: Path) -> None:
    text = "Photo ID,x\n 9,\n007,\n9,\ngone.jpg,\n5,\n"
    files = {"test.csv": text, **photos("test/9.jpg", "test/007.png", "train/9.jpg")}
    root = make(tmp_path / "d", {**files, **photos("a/5.jpg", "b/5.png")})
    found = read_rows(open_store(root), "test.csv")
    assert found.column == "Photo ID"
    assert found.rows == (
        IdRow(id=" 9", name="test/9.jpg"),
        IdRow(id="007", name="test/007.png"),
        IdRow(id="9", name="test/9.jpg"),
        IdRow(id="gone.jpg", problem="a row without a file"),
        IdRow(
            id="5",
            problem="2 files fit this id: a/5.jpg, b/5.png; --images says which folder is meant",
        ),
    )
    assert read_rows(open_store(root), "test.csv", "photo id").rows == found.rows
    with pytest.raises(DataError, match="wanted one column 'id', found none among 'Photo ID', 'x'"):
        read_rows(open_store(root), "test.csv", "id")
    far = make(tmp_path / "far", photos("9.jpg"))
    assert read_rows(open_store(root), "test.csv", None, FolderStore(far)).rows[0].name == "9.jpg"


def test_images_may_lie_elsewhere_or_be_named(tmp_path: Path) -> None:
    text = "id,label\n1,a\n2,b\n"
    root = make(
        tmp_path / "d", {"labels.csv": text, **photos("old/1.jpg", "new/1.jpg", "new/2.jpg")}
    )
    far = make(tmp_path / "far", photos("x/1.jpg", "x/2.jpg"))
    zipped = Path(shutil.make_archive(str(tmp_path / "far"), "zip", tmp_path, "far"))
    found, _ = index(root)
    assert problems(found)[0] == (
        "1",
        "labels.csv line 2: 2 files fit this id: new/1.jpg, old/1.jpg; --images says which folder "
        "is meant",
    )  # fmt: skip
    for images in (root / "new", "new"):  # inside: what lies outside of it is no stray
        found, store = index(root, images=images)
        assert labelled(found) == {"new/1.jpg": "a", "new/2.jpg": "b"} and store.root == root
        assert problems(found) == []
    for images in (far, zipped):
        found, store = index(root, images=images)
        assert store.root == images and store.read("x/1.jpg") == b"photo"
        assert labelled(found) == {"x/1.jpg": "a", "x/2.jpg": "b"}
    # The folder's own name before the ids is no part of the names in it.
    (root / "labels.csv").write_text("path,label\nfar/x/1.jpg,a\nfar/x/2.jpg,b\n")
    assert labelled(index(root, images=far)[0]) == {"x/1.jpg": "a", "x/2.jpg": "b"}


def test_one_csv_given_itself_brings_no_strangers(tmp_path: Path) -> None:
    text = "id,label\n1,a\n2,b\n"
    files = {
        "my.csv": text,
        "other.csv": "q\n",
        **photos("p/1.jpg", "p/2.jpg", "p/3.jpg", "z/9.jpg"),
    }
    root = make(tmp_path / "d", files)
    found, store = index(root / "my.csv")
    assert labelled(found) == {"p/1.jpg": "a", "p/2.jpg": "b"} and store.root == root
    assert problems(found) == [("p/3.jpg", image_csv.NO_ROW)]
    settings = make_settings({"data": root / "my.csv", "run": tmp_path / "run"})
    before = forms.fingerprint(settings)
    (root / "z" / "9.jpg").write_text("changed")
    assert forms.fingerprint(settings) == before
    for name in ("p/1.jpg", "my.csv"):
        with (root / name).open("a") as file:
            file.write("\n")
        assert forms.fingerprint(settings) != before
        before = forms.fingerprint(settings)


def test_the_fingerprint_tells_which_images_and_classes_are_meant(tmp_path: Path) -> None:
    names = ("small/1.jpg", "small/2.jpg", "big/1.jpg", "big/2.jpg")
    root = make(tmp_path / "d", {"train.csv": "id,label\n1,a\n2,b\n", **photos(*names)})
    for data in (root, root / "train.csv"):
        seen = [
            forms.fingerprint(make_settings({"data": data, "images": images}))
            for images in ("small", "big", root / "big")
        ]
        assert seen[0] != seen[1] and seen[1] == seen[2]
    shutil.copytree(root / "big", tmp_path / "copy")
    settings = make_settings({"data": root / "train.csv", "images": tmp_path / "copy"})
    seen = [forms.fingerprint(settings)]
    for text in ("label,group\na,x\nb,y\n", "label,group\na,y\nb,x\n"):
        (root / "Classes.csv").write_text(text)
        seen.append(forms.fingerprint(settings))
        assert seen[-1] not in seen[:-1]


def test_labels_csv_beside_the_parts_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    text = "id,label\n1,a\n2,b\n"
    files = {"train.csv": text, "labels.csv": "id,label\n1,b\n2,a\n"}
    root = make(tmp_path / "d", {**files, **photos("1.jpg", "2.jpg")})
    found, _ = index(root)
    assert labelled(found) == {"1.jpg": "a", "2.jpg": "b"}
    assert found.notes == ("labels.csv is not used, since train.csv has the labels",)
    (root / "train.csv").unlink()
    found, _ = index(root)
    assert labelled(found) == {"1.jpg": "b", "2.jpg": "a"} and found.notes == ()


def test_what_is_wrong_with_a_row_is_a_problem_of_that_row(tmp_path: Path) -> None:
    text = (
        "id,label\n1,a\n2,b\n9,a\n1,a\n3,a\n3,b\n4,\n,a\n5,b\n6,a\n"
    )  # fmt: skip
    names = ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "x/5.jpg", "y/5.png", "6.jpg", "7.jpg", "8.txt")
    root = make(tmp_path / "d", {"train.csv": text, **photos(*(f"i/{name}" for name in names))})
    found, _ = index(root)
    assert labelled(found) == {"i/1.jpg": "a", "i/2.jpg": "b", "i/6.jpg": "a"}
    assert problems(found) == [
        (
            "5",
            "train.csv line 10: 2 files fit this id: i/x/5.jpg, i/y/5.png; --images says which "
            "folder is meant",
        ),
        ("9", "train.csv line 4: a row without a file"),
        ("i/1.jpg", "train.csv line 5: there already (train.csv line 2)"),
        ("i/3.jpg", "train.csv line 6: also labelled 'b' (train.csv line 7)"),
        ("i/3.jpg", "train.csv line 7: also labelled 'a' (train.csv line 6)"),
        ("i/4.jpg", "train.csv line 8: a row without a label"),
        ("i/7.jpg", "no row names this photo"),
        ("train.csv line 9", "train.csv line 9: a row without an id"),
    ]


def test_a_photo_named_in_two_parts_stays_in_the_later(tmp_path: Path) -> None:
    files = {
        "test.csv": "id,label\n1,a\n3,b\n",
        "train.csv": "id,label\n1,a\n2,b\n3,a\n4,b\n",
        "validation.csv": "id,label\n2,b\n1,a\n",
    }
    root = make(tmp_path / "d", {**files, **photos(*(f"{i}.jpg" for i in range(1, 5)))})
    found, _ = index(root)
    assert {e.path: e.part for e in found.entries if not e.problem} == {
        "1.jpg": "test", "2.jpg": "validation", "3.jpg": "test", "4.jpg": "train",
    }  # fmt: skip
    assert problems(found) == [
        ("1.jpg", "train.csv line 2: there already (test.csv line 2)"),
        ("1.jpg", "validation.csv line 3: there already (test.csv line 2)"),
        ("2.jpg", "train.csv line 3: there already (validation.csv line 2)"),
        ("3.jpg", "train.csv line 4: also labelled 'b' (test.csv line 3)"),
    ]
    assert labelled(found)["3.jpg"] == "b"


def test_two_labels_in_one_part_are_settled_within_it(tmp_path: Path) -> None:
    files = {
        "test.csv": "id,label\n1,a\n1,b\n5,b\n5,b\n",
        "train.csv": "id,label\n1,a\n2,a\n3,a\n4,b\n5,a\n",
        "validation.csv": "id,label\n2,b\n",
    }
    root = make(tmp_path / "d", {**files, **photos(*(f"{i}.jpg" for i in range(1, 6)))})
    found, _ = index(root)
    assert labelled(found) == {"3.jpg": "a", "4.jpg": "b", "5.jpg": "b"}
    assert problems(found) == [
        # One file cannot stay in test under both.
        ("1.jpg", "test.csv line 2: also labelled 'b' (test.csv line 3)"),
        ("1.jpg", "test.csv line 3: also labelled 'a' (test.csv line 2)"),
        ("1.jpg", "train.csv line 2: also labelled 'b' (test.csv line 3)"),
        # Either may be wrong.
        ("2.jpg", "train.csv line 3: also labelled 'b' (validation.csv line 2)"),
        ("2.jpg", "validation.csv line 2: also labelled 'a' (train.csv line 3)"),
        ("5.jpg", "test.csv line 5: there already (test.csv line 4)"),
        ("5.jpg", "train.csv line 6: also labelled 'b' (test.csv line 4)"),
    ]


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("name,kind\n1,a\n", {}, "names .id, image, file, filename or path., found 'name', 'kind'"),
        ("id,kind\n1,a\n", {}, "wanted a column with the labels .* found 'id', 'kind'; say which"),
        (
            "id,path,label\n1,1,a\n",
            {},
            "found 2 among 'id', 'path', 'label'; say which with --image",
        ),
        ("id,label,class\n1,a,a\n", {}, "one column for --label-column, found 2 among"),
        ("id,label\n1,a\n", {"label_column": "kind"}, "one column 'kind', found none among"),
        ("id,label\n1,a\n", {"label_column": "id"}, "found 'id' for both"),
        ("id,label\n1,a\n/etc/2,b\n", {}, "train.csv line 3: .* found '/etc/2'; take absolute"),
        ("id,label\n1,a\nx/../2,b\n", {}, r"train.csv line 3: .* found 'x/\.\./2'"),
        ("id,label\n1,a\nC:\\2.jpg,b\n", {}, r"train.csv line 3: .*take absolute paths"),
        ("id,label\n1,a\n..\\2.jpg,b\n", {}, r"train.csv line 3: .*take absolute paths"),
        ("id,label\n1,a\n\n2\n", {}, "train.csv line 4: wanted 2 cells as in the header, found 1"),
        ('id,label\n1,a\n2,"b\n', {}, "train.csv line 3: not readable as CSV"),
        ("id,label\n1,cat\n2,Cat\n", {}, "'cat' and 'Cat' differ only in case or spaces"),
        ("id,label\n1,cat\n2,cat \n", {}, "'cat' and 'cat ' differ only in case or spaces"),
        ('id,label\n1,a\n2,"b\nc"\n', {}, "is no plain one-line"),
        ("id,label\n8,a\n9,b\n", {}, "found '8', and none in the 1 row after it; --images says"),
        ("id,label\n1,\n2,\n", {}, "wanted labels, found every one empty"),
        ("id,label\n", {}, "found only a header"),
        ("", {}, "found an empty file"),
        ("id,label\n1,3\n2,0\n", {"classes": "x,y"}, "line 2: wanted a label from 0 to 1 .* '3'"),
    ],
)
def test_what_is_wrong_with_the_csv_stops(
    tmp_path: Path, text: str, flags: dict[str, str], message: str
) -> None:
    root = make(tmp_path / "d", {"train.csv": text, **photos("1.jpg", "2.jpg")})
    with pytest.raises(DataError, match=message) as caught:
        index(root, **flags)
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


def test_columns_can_be_said_and_classes_named(tmp_path: Path) -> None:
    text = "id,path,kind,label\n5,1.jpg,0,q\n6,2.jpg,1,q\n"
    root = make(tmp_path / "d", {"a.csv": text, **photos("1.jpg", "2.jpg")})
    flags = {"image_column": "Path", "label_column": "kind"}
    assert labelled(index(root, **flags)[0]) == {"1.jpg": "0", "2.jpg": "1"}
    found, _ = index(root, **flags, classes="no,yes")
    assert found.labels == (("no", None), ("yes", None))
    assert labelled(found) == {"1.jpg": "no", "2.jpg": "yes"}
    (root / "classes.csv").write_text("label,group,harmful\nno,x,no\nyes,y,yes\n")
    found, _ = index(root, **flags, classes="no,yes")
    assert found.labels == (("no", "x"), ("yes", "y")) and found.harmful == "y"


def test_several_csvs_that_may_be_meant_stop(tmp_path: Path) -> None:
    files = {"one.csv": "id,label\n1,a\n", "two.csv": "id,label\n1,a\n", **photos("1.jpg")}
    root = make(tmp_path / "d", files)
    with pytest.raises(DataError, match="found one.csv, two.csv; give the CSV itself as --data"):
        index(root, form="csv")
    assert labelled(index(root / "two.csv")[0]) == {"1.jpg": "a"}


def test_specimens_come_from_a_column_of_that_name(tmp_path: Path) -> None:
    text = "id,label,Patient\n1,a,p1\n2,b,p2\n3,a,\n"
    root = make(tmp_path / "d", {"train.csv": text, **photos("s/1.jpg", "s/2.jpg", "s/3.jpg")})
    found, _ = index(root, group_by="patient")
    assert [entry.specimen for entry in found.entries] == ["p1", "p2", ""]
    assert "--group-by patient: 1 of 3 photos has no specimen" in found.warnings[0]
    found, _ = index(root, group_by=r"\d")
    assert [entry.specimen for entry in found.entries] == ["1", "2", "3"]


def test_class_folders_with_a_table_of_something_else_stay_class_folders(tmp_path: Path) -> None:
    files = {"weather.csv": "day,rain\n1,0\n", **photos("a/1.jpg", "b/1.jpg")}
    root = make(tmp_path / "d", files)
    settings = make_settings({"data": root, "run": tmp_path / "run"})
    assert forms.form_of(open_store(root), settings) == "class-folders"


def zeros(path: Path, head: bytes = b"") -> Path:
    """10 GB of NULs that take no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(10 << 30)
    return path


@pytest.mark.parametrize("form", [None, "csv", "pixel-csv"])
@pytest.mark.parametrize("alone", [True, False])
def test_10_gb_of_zeros_are_refused_at_once(tmp_path: Path, form: str | None, alone: bool) -> None:
    path = zeros(tmp_path / "d" / "train.csv")
    make(tmp_path / "d", photos("1.jpg"))
    data = path if alone else path.parent
    settings = make_settings({"data": data, "run": tmp_path / "run", "form": form})
    for ask in (lambda: forms.read_index(settings, tmp_path / "run"),
                lambda: forms.fingerprint(settings)):  # fmt: skip
        start = time.monotonic()
        tracemalloc.start()
        with pytest.raises(DataError, match="NUL bytes|at most 268435456 bytes, found"):
            ask()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert time.monotonic() - start < 2 and peak < 50 << 20
    assert list((tmp_path / "run").glob("*")) == []


def test_zeros_after_a_sound_header_are_refused_too(tmp_path: Path) -> None:
    path = zeros(tmp_path / "d" / "train.csv", b"id,label\n1,a\n")
    make(tmp_path / "d", photos("1.jpg"))
    settings = make_settings({"data": path, "run": tmp_path / "run"})
    with pytest.raises(DataError, match="found 10737418240"):
        forms.fingerprint(settings)
    with pytest.raises(DataError, match="NUL bytes"):
        forms.read_index(settings, tmp_path / "run")


def every(columns: Sequence[str]) -> list[int]:
    return list(range(len(columns)))


class Long(io.RawIOBase):
    """`text` over and over, up to `most` bytes: more than any limit here."""

    def __init__(self, text: bytes, most: int = 4 << 20) -> None:
        self.text, self.given, self.most = text, 0, most

    def read(self, size: int = -1) -> bytes:
        if self.given >= self.most:
            return b""
        piece = self.text * (size // len(self.text))
        self.given += len(piece)
        return piece


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"0", "line 1: wanted a line of at most"),
        (b"0,", "line 1: wanted a line of at most"),
        (b'"0\n', "not readable as CSV"),
        (b"\n", "at most 262144 bytes, found more"),
        (b"0,0\n", "wanted at most 10000 rows, found more"),
    ],
)
def test_text_that_is_too_long_is_refused_in_little_memory(
    monkeypatch: pytest.MonkeyPatch, text: bytes, message: str
) -> None:
    # Each limit alone: without it the text is read to its end, and no other refuses it.
    monkeypatch.setattr(tables, "LARGEST_TABLE", 1 << 18 if text == b"\n" else 1 << 28)
    monkeypatch.setattr(tables, "MOST_ROWS", 10_000)
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        read_table(cast(io.BufferedReader, Long(text)), "x.csv", every)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 << 20


def test_a_whole_line_is_measured_too() -> None:
    assert list(lines_of(io.BytesIO(b"0123456789\n"), "x", longest=10)) == [(1, b"0123456789")]
    with pytest.raises(DataError, match="x line 2: wanted a line of at most 9 bytes"):
        list(lines_of(io.BytesIO(b"1\n0123456789\n2"), "x", longest=9))


def test_only_the_columns_that_are_asked_for_are_held() -> None:
    def peak(choose: Callable[[Sequence[str]], Sequence[int]]) -> int:
        stream = cast(io.BufferedReader, Long(b"ab," * 100 + b"ab\n", 1 << 19))
        tracemalloc.start()
        table = read_table(stream, "x.csv", choose)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(table.columns) == 101 and len(table.rows) > 3000
        assert all(cells == ("ab",) * len(table.places) for _, cells in table.rows)
        return found

    assert peak(lambda columns: [100, 3]) < 6 << 20 < 16 << 20 < peak(every)


def test_a_column_that_is_not_there_is_empty() -> None:
    table = read_table(io.BytesIO(b"a,b\n1,2\n"), "x.csv", lambda columns: [1, None])
    assert table.columns == ("a", "b") and table.rows == ((2, ("2", "")),)


def test_a_name_as_written_goes_before_the_case() -> None:
    assert tables.named(["Id", "id", "ID"], "id") == [1]
    assert tables.named(["Id", "x", "ID"], "id") == [0, 2]
    assert tables.named(["Id"], "x") == []


def test_a_csv_in_a_zip_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.jpg", b"photo")
        with archive.open("train.csv", "w") as file:
            file.write(b"id,label\n1,a\n" + bytes(3 << 20))
    settings = make_settings({"data": path, "run": tmp_path / "run"})
    with pytest.raises(DataError, match=r"d\.zip/train\.csv: wanted CSV text, found NUL bytes"):
        forms.read_index(settings, tmp_path / "run")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfei\0d\0", "found UTF-16; save it as CSV UTF-8"),
        (b"id,label\n1,caf\xe9\n", "line 2: wanted UTF-8 text, found byte 0xe9"),
        (b"id,label\n1,\0\n", "found NUL bytes"),
    ],
)
def test_other_encodings_are_named(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(io.BytesIO(data), "x.csv", every)


@given(st.binary(max_size=60), st.integers(1, 9))
def test_lines_are_those_of_the_text_however_it_is_cut(data: bytes, piece: int) -> None:
    data = data.replace(b"\0", b"").replace(b"\r", b"").removeprefix(b"\xef\xbb\xbf")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return

    class Pieces(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(piece)

    wanted = data.split(b"\n")
    if not wanted[-1]:
        wanted.pop()
    for ends in (b"\n", b"\r\n"):
        stream = Pieces(data.replace(b"\n", ends))
        assert [line for _, line in lines_of(stream, "x")] == wanted


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_but_dataerror(data: bytes) -> None:
    try:
        table = read_table(io.BytesIO(data), "x.csv", every)
    except DataError as error:
        assert str(error).startswith("x.csv")
    else:
        assert all(len(cells) == len(table.columns) for _, cells in table.rows)


def test_ids_deeper_than_every_file_take_no_walk() -> None:
    walks = 0

    class Counted(FolderStore):
        def names(self) -> tuple[str, ...]:
            nonlocal walks
            walks += 1
            return ("a/1.jpg", "b/2.jpg")

    found = Photos(store=Counted(Path("nowhere")))
    assert found.find("a/1", "", "x") == ("a/1.jpg", "")
    before = walks
    for depth in range(3, 50):
        assert found.find("x/" * depth + "1", "", "x") == ("", "a row without a file")
    assert walks == before and found.find("b/2.jpg", "", "x") == ("b/2.jpg", "")


@given(st.text(max_size=12))
def test_no_id_is_found_outside_of_the_store(id: str) -> None:
    class Names(FolderStore):
        def names(self) -> tuple[str, ...]:
            return ("a/1.jpg", "b/1.jpg", "a/2.jpg", "c/d/3.png")

    found = Photos(store=Names(Path("nowhere")))
    try:
        name, problem = found.find(id, "", "x.csv line 2")
    except DataError as error:
        assert ".." in id or "/" in id or "\\" in id or ":" in id, error
    else:
        assert (name in found.store.names()) != bool(problem)


def test_a_group_by_that_names_nothing_shows_the_columns(tmp_path: Path) -> None:
    text = "id,label,Patient\n1,a,p1\n2,b,p2\n"
    root = make(tmp_path / "d", {"train.csv": text, **photos("1.jpg", "2.jpg")})
    with pytest.raises(DataError, match="no column of that name among 'id', 'label', 'Patient' an"):
        index(root, group_by="patients")
    (root / "train.csv").write_text("id,label,Patient\n1,a,\n2,b,\n")
    with pytest.raises(DataError, match="found only empty cells in that column and no match"):
        index(root, group_by="patient")


def test_a_message_shows_the_first_columns_alone(tmp_path: Path) -> None:
    head = ",".join([*(f"column {i}" for i in range(3000)), "y" * 500])
    root = make(tmp_path / "d", {"train.csv": f"{head}\n", **photos("1.jpg")})
    with pytest.raises(DataError, match=r"'column 5', … \(3001 in all\); say which") as caught:
        index(root)
    assert len(str(caught.value)) < 600
    (root / "train.csv").write_text(f"id,label\n{'z' * 9000},a\n")
    with pytest.raises(DataError, match="wanted the name of a photo") as caught:
        index(root)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("train", "test"),
    [("train_images", "test_images"), ("images_train", "images_test"), ("Train-Images", "test x")],
)
def test_folders_named_after_parts_and_more_hold_the_ids_of_theirs(
    tmp_path: Path, train: str, test: str
) -> None:
    names = [f"{folder}/{i}.jpg" for folder in (train, test) for i in (1, 2)]
    files = {"train.csv": "id,label\n1,a\n2,b\n", "test.csv": "id\n2\n1\n"}
    root = make(tmp_path / "d", {**files, **photos(*names)})
    for data in (root, root / "train.csv"):
        assert labelled(index(data)[0]) == {f"{train}/1.jpg": "a", f"{train}/2.jpg": "b"}
    rows = read_rows(open_store(root), "test.csv").rows
    assert [row.name for row in rows] == [f"{test}/2.jpg", f"{test}/1.jpg"]


def test_a_folder_of_two_parts_is_of_none() -> None:
    assert [part_in(name) for name in ("train_test", "contest", "Val", "my test")] == [
        "", "", "validation", "test",
    ]  # fmt: skip


def test_a_test_csv_of_empty_labels_is_without(tmp_path: Path) -> None:
    files = {"train.csv": "id,label\n1,a\n2,b\n", "test.csv": "id,label\n3,\n4, \n"}
    root = make(tmp_path / "d", {**files, **photos(*(f"{i}.jpg" for i in range(1, 5)))})
    found, _ = index(root)
    assert labelled(found) == {"1.jpg": "a", "2.jpg": "b"} and problems(found) == []
    assert found.notes == ("test.csv has no labels and is not used to train or test",)
    (root / "test.csv").write_text("id,label\n3,\n4,b\n")
    assert labelled(index(root)[0]) == {"1.jpg": "a", "2.jpg": "b", "4.jpg": "b"}


def test_case_is_no_matter_where_nothing_fits_with_it(tmp_path: Path) -> None:
    text = "id,label\nIMG_1.jpg,a\nimg_2,b\nIMAGES/Img_3,b\nx,a\ny.jpg,b\n"
    names = ("IMG_1.JPG", "IMG_2.JPG", "IMG_3.png", "X.jpg", "x.JPG", "Y.jpg", "y.jpg", "Y.JPG")
    files = photos(*(f"Images/{name}" for name in names))
    root = make(tmp_path / "d", {"train.csv": text, **files})
    if len(list((root / "Images").iterdir())) < len(names):
        pytest.skip("the file system takes x.jpg and X.jpg for one file")
    found, _ = index(root)
    assert labelled(found) == {
        "Images/IMG_1.JPG": "a", "Images/IMG_2.JPG": "b", "Images/IMG_3.png": "b",
        "Images/x.JPG": "a", "Images/y.jpg": "b",
    }  # fmt: skip
    (root / "train.csv").write_text("id,label\nimg_1,a\nY.JpG,b\n")
    assert problems(index(root)[0])[-1] == (
        "Y.JpG",
        "train.csv line 3: 3 files fit this id but for the case of letters: Images/Y.JPG, "
        "Images/Y.jpg",
    )


def test_two_spellings_of_a_number_are_one_label(tmp_path: Path) -> None:
    text = "id,label\n1,0.0\n2,1\n3, 1.0\n4,0\n1,0\n"
    files = photos(*(f"{i}.jpg" for i in range(1, 5)))
    root = make(tmp_path / "d", {"train.csv": text, **files})
    found, _ = index(root)
    assert found.labels == (("0", None), ("1", None))
    assert problems(found) == [("1.jpg", "train.csv line 6: there already (train.csv line 2)")]
    found, _ = index(root, classes="cat,dog")
    assert list(labelled(found).values()) == ["cat", "dog", "dog", "cat"]


def test_several_csvs_beside_one_folder_of_photos_are_named(tmp_path: Path) -> None:
    text = "id,label\n1,a\n2,b\n"
    files = {"a.csv": text, "b.csv": "x\n1\n", **photos("images/1.jpg", "images/2.jpg")}
    root = make(tmp_path / "d", files)
    with pytest.raises(DataError, match="found a.csv, b.csv; give the CSV itself as --data"):
        index(root)
    make(root, photos("more/1.jpg"))  # now they may be classes
    settings = make_settings({"data": root, "run": tmp_path / "run"})
    assert forms.form_of(open_store(root), settings) == "class-folders"


@pytest.mark.parametrize(
    "text",
    [
        '"id"; "label"\n"1"; "a"\n"2"; "x; y"\n',
        'id, label\n1, "a"\n2, "x; y"\n',
        ' "id"\t "label"\n "1"\t "a"\n "2"\t "x; y"\n',
    ],
)
def test_a_space_before_a_quote_is_none_of_the_cell(tmp_path: Path, text: str) -> None:
    root = make(tmp_path / "d", {"train.csv": text, **photos("1.jpg", "2.jpg")})
    assert labelled(index(root)[0]) == {"1.jpg": "a", "2.jpg": "x; y"}
