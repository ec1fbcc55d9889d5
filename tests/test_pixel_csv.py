"""Rows of numbers as pictures: shapes, scales, labels, and the zip that is kept of them."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mobileclf.config import make_settings
from mobileclf.errors import DataError, EnvironmentProblem
from mobileclf.source import forms, pixel_rows, tables
from mobileclf.source.index import Entry, Index
from mobileclf.source.pixel_rows import square_shape
from mobileclf.source.store import Store, open_store


def pictures(count: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write(root: Path, name: str, rows: NDArray[np.generic], fmt: str = "%d", **how: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    np.savetxt(root / name, rows.reshape(len(rows), -1), fmt=fmt, delimiter=",", **how)
    return root


def labels(root: Path, name: str, values: list[object], head: str = "") -> None:
    (root / name).write_text(head + "".join(f"{value}\n" for value in values))


def index(data: Path, **flags: object) -> tuple[Index, Store]:
    run = data.parent / "run"
    chosen = make_settings({"data": data, "run": run, **flags})
    forms.check_source(chosen)
    found, store = forms.read_index(chosen, run)
    assert found.form == "pixel-csv" and found.kept == "pixels.zip"
    assert store.root == run / "pixels.zip"
    assert store.names() == tuple(entry.path for entry in found.entries)
    assert [path.name for path in run.iterdir()] == ["pixels.zip"]
    return found, store


def decoded(store: Store, name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(store.read(name))))


def test_every_row_becomes_its_picture_and_the_parts_are_kept(tmp_path: Path) -> None:
    train, test = pictures(5, 4, 6, 3), pictures(3, 4, 6, 3, seed=1)
    root = write(write(tmp_path / "d", "input.csv", train), "input_test.csv", test)
    labels(root, "labels.csv", [0, 1, 1, 0, 1])
    labels(root, "labels_test.csv", ["1.0", "0.000000000000000000e+00", "1"])
    found, store = index(root, shape="4,6,3", classes="cat,dog")
    assert found.entries == (
        *(Entry(path=f"input/00000{i}.png", label=label, part="train")
          for i, label in enumerate(("cat", "dog", "dog", "cat", "dog"), start=1)),
        *(Entry(path=f"input_test/00000{i}.png", label=label, part="test")
          for i, label in enumerate(("dog", "cat", "dog"), start=1)),
    )  # fmt: skip
    assert found.labels == (("cat", None), ("dog", None)) and found.warnings == ()
    for i, picture in enumerate(train, start=1):
        assert (decoded(store, f"input/{i:06d}.png") == picture).all()
    assert (decoded(store, "input_test/000003.png") == test[2]).all()
    assert found.notes == (
        "input.csv: 5 pictures of 4 x 6 x 3, values 0..255",
        "input_test.csv: 3 pictures of 4 x 6 x 3, values 0..255",
    )
    # Moved, zipped, or given by its main file: the same bytes.
    before = (tmp_path / "run" / "pixels.zip").read_bytes()
    zipped = Path(shutil.make_archive(str(tmp_path / "z"), "zip", tmp_path, "d"))
    for data in (root, zipped, root / "input.csv"):
        assert index(data, shape="4,6,3", classes="cat,dog")[0] == found
        assert (tmp_path / "run" / "pixels.zip").read_bytes() == before
    with zipfile.ZipFile(tmp_path / "run" / "pixels.zip") as archive:
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}


def test_without_a_test_file_nothing_is_given(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(3, 4, 4, 3))
    labels(root, "labels.csv", ["b", "a", "b"], head="label\n")
    found, _ = index(root)
    assert [(e.label, e.part) for e in found.entries] == [("b", ""), ("a", ""), ("b", "")]
    write(root, "input_test.csv", pictures(1, 4, 4, 3))
    found, _ = index(root)
    assert len(found.entries) == 3 and {e.part for e in found.entries} == {""}
    assert found.notes[0] == "input_test.csv has no labels and is not used to train or test"


@pytest.mark.parametrize("scale", [255, 1])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("header", ["", "names", "numbers"])
def test_scale_header_and_square_shape_are_found(
    tmp_path: Path, scale: int, channels: int, header: str
) -> None:
    wanted = pictures(4, 5, 5, channels)
    count = 25 * channels
    head = {"names": ",".join(f"pixel{i}" for i in range(count)),
            "numbers": ",".join(map(str, range(count)))}.get(header, "")  # fmt: skip
    values = wanted if scale == 255 else wanted / 255
    root = write(
        tmp_path / "d",
        "input.csv",
        values,
        "%d" if scale == 255 else "%.9g",
        header=head,
        comments="",
    )
    text = (root / "input.csv").read_text()
    (root / "input.csv").write_text(text if header else text.lstrip("\n"))
    labels(root, "labels.csv", [0, 1, 1, 0])
    found, store = index(root)
    for i, picture in enumerate(wanted, start=1):
        assert (decoded(store, f"input/{i:06d}.png") == picture.squeeze()).all()
    span = "0..255" if scale == 255 else "0..1, taken times 255"
    assert found.notes == (f"input.csv: 4 pictures of 5 x 5 x {channels}, values {span}",)


def test_the_whole_file_decides_the_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_rows, "PIECE_VALUES", 32)  # two rows at once
    rows = np.zeros((6, 16))
    rows[:, 0] = [0, 1, 1, 0, 1, 200]  # dark pictures first
    root = write(tmp_path / "d", "input.csv", rows)
    labels(root, "labels.csv", [0, 1] * 3)
    _, store = index(root)
    assert decoded(store, "input/000002.png").max() == 1
    assert decoded(store, "input/000006.png").max() == 200
    write(root, "input.csv", np.minimum(rows, 1))
    _, store = index(root)
    assert decoded(store, "input/000002.png").max() == 255
    rows[3] = 0.5
    write(root, "input.csv", rows, "%g")
    with pytest.raises(DataError, match="input.csv line 4: all values from 0 to 1, while other"):
        index(root)


@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
def test_separators_and_blank_lines(tmp_path: Path, mark: str) -> None:
    wanted = pictures(3, 2, 2, 3)
    root = tmp_path / "d"
    root.mkdir()
    rows = [mark.join(map(str, row)) for row in wanted.reshape(3, -1)]
    (root / "input.csv").write_text("\ufeff" + "\r\n\r\n".join(rows) + "\r\n\r\n")
    labels(root, "labels.csv", [1, 0, 1])
    found, store = index(root)
    assert (decoded(store, "input/000003.png") == wanted[2]).all()


@pytest.mark.parametrize(
    ("rows", "answers", "flags", "message"),
    [
        ("1,2,3,4\n1,2,3\n", "0\n1\n", {}, "input.csv line 2: wanted 4 values .* 2,2,1, found 3"),
        (
            "1,2,3,4\n",
            "0\n",
            {"shape": "3,3,1"},
            "line 1: wanted 9 values for the shape 3,3,1, fou",
        ),
        ("1,2,3,4,5\n", "0\n", {}, "line 1: 5 values are no square picture .* with --shape"),
        ("1,2,3,4\n\n1,2,3,256\n", "0\n1\n", {}, "line 3: wanted values 0..255 or 0..1, found 256"),
        ("1,2,3,4\n1,2,3,-1\n", "0\n1\n", {}, "line 2: wanted values 0..255 or 0..1, found -1"),
        ("1,2,3,nan\n", "0\n", {}, "line 1: wanted values 0..255 or 0..1, found nan"),
        ("1,2,3,inf\n", "0\n", {}, "line 1: wanted values 0..255 or 0..1, found inf"),
        ("1,2,3,4\n1,x,3,4\n", "0\n1\n", {}, "input.csv line 2: wanted numbers, found one that"),
        ("x,2,3,4\n1,2,3,4\n", "0\n1\n", {}, "input.csv line 1: wanted numbers, found one that"),
        ("1,2,3,4\n1,,3,4\n", "0\n1\n", {}, "input.csv line 2: wanted numbers, found one that"),
        ("1,2,3,4\n1,2,3,4\n", "0\n", {}, "labels.csv: .* found 1 label and at least 2 rows"),
        ("1,2,3,4\n", "0\n1\n", {}, "labels.csv: wanted one label .* found 2 labels and 1 row"),
        ("1,2,3,4\n", "", {}, "labels.csv: wanted a label for each row of pixels, found an empty"),
        ("", "0\n", {}, "found 1 label and 0 rows"),
        ("1,2,3,4\n", "2\n", {"classes": "a,b"}, "labels.csv line 1: wanted a label from 0 to 1"),
        ("1,2,3,4\n", "1,2\n", {}, "labels.csv: wanted one column of labels, found 2"),
        ("1,2,3,4\n" * 2, "cat\nCat\n", {}, "'Cat' and 'cat' differ only in case or spaces"),
        ("\0" * 9, "0\n", {}, "input.csv: wanted CSV text, found NUL bytes"),
        ("1,2,3,é\n", "0\n", {}, "line 1: wanted numbers, found one that is none"),
    ],
)
def test_what_does_not_fit_stops_with_its_line(
    tmp_path: Path, rows: str, answers: str, flags: dict[str, str], message: str
) -> None:
    root = tmp_path / "d"
    root.mkdir()
    (root / "input.csv").write_text(rows, encoding="utf-8")
    (root / "labels.csv").write_text(answers)
    with pytest.raises(DataError, match=message) as caught:
        index(root, **flags)
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)
    # Nothing half made is left, nor what an earlier index made is lost.
    assert list((tmp_path / "run").glob("*")) == []


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "d"
    root.mkdir()
    (root / "input.csv").write_text("0," * 10_000)
    labels(root, "labels.csv", [0])
    with pytest.raises(DataError, match="line 1: wanted a line of at most 4224 bytes"):
        index(root, shape="2,2,1")


def test_labels_and_pictures_have_to_be_pairs(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(2, 4, 4, 3))
    with pytest.raises(DataError, match="wanted input.csv and labels.csv, or"):
        index(root / "input.csv", form="pixel-csv", shape="1,1,1")
    labels(root, "labels.csv", [0, 1])
    labels(root, "labels_test.csv", [0, 1])
    with pytest.raises(DataError, match="labels_test.csv has no input CSV of that name"):
        index(root)


def test_labels_may_have_a_header_and_other_columns(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(2, 4, 4, 3))
    for text in (
        "0\n1\n",
        "y\n0\n1\n",
        "id,label\n0,0\n1,1\n",
        "Class,nr\n0,1\n1,2.0\n",
        '"Class"\n"0"\n"1"\n',
    ):
        (root / "labels.csv").write_text(text)
        assert [entry.label for entry in index(root)[0].entries] == ["0", "1"]
    (root / "labels.csv").write_text('label\n"it\'s, so"\n草\n')
    assert [entry.label for entry in index(root)[0].entries] == ["it's, so", "草"]


def mnist(root: Path, name: str, count: int, *, label: bool = True, seed: int = 0) -> Path:
    rows = pictures(count, 28, 28, seed=seed).reshape(count, -1).astype(int)
    head = ",".join(f"pixel{i}" for i in range(784))
    if label:
        rows, head = np.column_stack([np.arange(count) % 11, rows]), f"label,{head}"
    return write(root, name, rows, header=head, comments="")


def test_one_csv_with_the_label_first(tmp_path: Path) -> None:
    root = mnist(mnist(tmp_path / "d", "train.csv", 12), "test.csv", 2, label=False)
    (root / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    found, store = index(root)
    assert [label for label, _ in found.labels] == [str(i) for i in range(11)]
    assert found.entries[11] == Entry(path="train/000012.png", label="0")
    assert (decoded(store, "train/000012.png") == pictures(12, 28, 28)[11]).all()
    assert found.notes[0] == "test.csv has no labels and is not used to train or test"
    assert index(root / "train.csv")[0].entries == found.entries
    mnist(root, "test.csv", 3)
    assert [e.part for e in index(root)[0].entries] == ["test"] * 3 + ["train"] * 12
    (root / "only.csv").write_text("7,1,2,3,4\n8,5,6,7,8\n")  # not sure, so it has to be said
    found, store = index(root / "only.csv", form="pixel-csv")
    assert [e.label for e in found.entries] == ["7", "8"]
    assert decoded(store, "only/000002.png").tolist() == [[5, 6], [7, 8]]
    (root / "only.csv").write_text("label,p1,p2,p3,p4\n,1,2,3,4\n")
    with pytest.raises(DataError, match="only.csv line 2: wanted a label, found an empty cell"):
        index(root / "only.csv")


@pytest.mark.parametrize(("label", "first"), [("label", 0), ('"Class"', 1), ("answer", 0)])
def test_a_header_that_counts_is_no_picture(tmp_path: Path, label: str, first: int) -> None:
    (tmp_path / "d").mkdir()
    wanted = pictures(3, 8, 8)
    head = ",".join([label, *(str(first + i) for i in range(64))])
    rows = [",".join(map(str, [i % 2, *row])) for i, row in enumerate(wanted.reshape(3, -1))]
    (tmp_path / "d" / "train.csv").write_text("\n".join([head, *rows]))
    found, store = index(tmp_path / "d", form="pixel-csv")
    assert found.labels == (("0", None), ("1", None)) and len(found.entries) == 3
    assert (decoded(store, "train/000003.png") == wanted[2]).all()


def test_a_picture_that_counts_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_text("7,0,1,2,3\n8,5,6,7,8\n")
    found, _ = index(tmp_path / "d", form="pixel-csv")
    assert [entry.label for entry in found.entries] == ["7", "8"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("input.csv", "input_train.csv"), "for input of train, found input.csv and input_train.c"),
        (("input.csv", "input.tsv"), "for input of train, found input.csv and input.tsv; take one"),
        (("input.csv", "labels_train.csv"), "labels of train, found labels.csv and labels_train"),
        (("input.csv", "input_val.csv", "input_valid.csv", "labels_val.csv"), "of validation, fou"),
        (("train.csv", "train.tsv"), "wanted one file for train, found train.csv and train.tsv"),
    ],
)
def test_two_files_for_one_stop(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    root = tmp_path / "d"
    root.mkdir()
    for name in ("labels.csv", *names):
        if name.startswith("labels"):
            labels(root, name, [0, 1])
        elif name.startswith("input"):
            write(root, name, pictures(2, 4, 4))
        else:
            mnist(root, name, 2)
    with pytest.raises(DataError, match=message):
        index(root)


def test_labels_of_another_form_may_stand_in_two_files(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("labels.csv", "labels_train.csv", "train.csv"):
        (tmp_path / "d" / name).write_text("id,label\n1,a\n")
    assert forms.form_of(open_store(tmp_path / "d"), make_settings({"data": "d"})) == "csv"


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("7", "7"), ("1.0", "1"), ("1.00", "1"), ("0.0", "0"), ("007", "007"), ("007.0", "007"),
        ("1_0", "1_0"), ("1.5", "1.5"), ("1e3", "1e3"), ("1.", "1."), ("-1.0", "-1.0"),
        ("0.000000000000000000e+00", "0"), ("1.000000000000000000e+01", "10"),
        ("1.500000000000000000e+00", "1.500000000000000000e+00"), ("cat", "cat"), ("²", "²"),
        ("1e999", "1e999"), ("nan", "nan"), ("٣.0", "٣.0"),
    ],
)  # fmt: skip
def test_only_a_fraction_of_nothing_is_taken_off_a_label(cell: str, wanted: str) -> None:
    assert tables.whole(cell) == wanted


def test_labels_with_zeros_in_front_stay_two(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(3, 4, 4))
    labels(root, "labels.csv", ["007", "7", "1_0"])
    assert [entry.label for entry in index(root)[0].entries] == ["007", "7", "1_0"]


def test_groups_come_from_a_classes_file(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(2, 4, 4, 3))
    labels(root, "labels.csv", [0, 1])
    (root / "classes.csv").write_text("label,group,harmful\ncat,pet,no\nwolf,wild,yes\n")
    found, _ = index(root, classes="cat,wolf")
    assert found.labels == (("cat", "pet"), ("wolf", "wild")) and found.harmful == "wild"


def test_the_fingerprint_is_of_the_files_that_are_read(tmp_path: Path) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(2, 4, 4, 3))
    labels(root, "labels.csv", [0, 1])
    for data in (root, root / "input.csv"):
        chosen = make_settings({"data": data, "run": tmp_path / "run"})
        before = forms.fingerprint(chosen)
        assert forms.fingerprint(chosen) == before
        (root / "classes.csv").write_text("label,group\n")
        assert forms.fingerprint(chosen) != before
        before = forms.fingerprint(chosen)
        for name in ("input.csv", "labels.csv", "classes.csv"):
            with (root / name).open("a") as file:
                file.write("\n")
            assert forms.fingerprint(chosen) != before
            before = forms.fingerprint(chosen)


def test_a_disk_that_is_full_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(2, 4, 4, 3))
    labels(root, "labels.csv", [0, 1])
    before = index(root)[1].read("input/000001.png")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("mobileclf.records.os.fsync", full)
        with pytest.raises(EnvironmentProblem, match="pixels.zip: No space left on device"):
            index(root)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["pixels.zip"]
    assert open_store(tmp_path / "run" / "pixels.zip").read("input/000001.png") == before


def test_memory_is_bounded_by_the_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_rows, "PIECE_VALUES", 300_000)  # 2.4 MB of 9.6 MB
    root = tmp_path / "d"
    root.mkdir()
    (root / "input.csv").write_text((",".join(["7"] * 29_999) + ",9\n") * 40)
    labels(root, "labels.csv", [0, 1] * 20)

    def peak() -> int:
        tracemalloc.start()
        index(root)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    pieces = peak()
    monkeypatch.setattr(pixel_rows, "PIECE_VALUES", 30_000 * 40)
    assert pieces < 12 << 20 < peak()  # the bound can be broken


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module there")
def test_memory_outside_of_python_is_bounded_too(tmp_path: Path) -> None:
    # As 2,000 rows of 100 x 100 x 3 in pieces of 4,000,000 numbers, in small.
    row = ",".join(["7"] * 29_999) + ",9\n"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "input.csv").write_text(row * 400)
    labels(tmp_path / "d", "labels.csv", [0, 1] * 200)
    code = """if True:
        import resource, sys
        from pathlib import Path
        from mobileclf.config import make_settings
        from mobileclf.source import forms, pixel_rows
        def peak():  # bytes
            found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return found * (1024 if sys.platform == "linux" else 1)
        pixel_rows.PIECE_VALUES = 600_000
        run = Path(sys.argv[1]) / "run"
        settings = make_settings(
            {"data": Path(sys.argv[1]) / "d", "run": run, "shape": "100,100,3"})
        before = peak()
        index, _ = forms.read_index(settings, run)
        assert len(index.entries) == 400
        print(peak() - before)
    """

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 48_000_000  # the numbers alone are 96 MB as float64


@given(st.integers(1, 10_000))
def test_a_count_is_a_square_of_at_most_one_kind(count: int) -> None:
    fitting = [(side, side, channels) for channels in (1, 3) for side in range(1, 101)
               if side * side * channels == count]  # fmt: skip
    assert len(fitting) <= 1
    assert square_shape(count) == (fitting[0] if fitting else None)


@settings(max_examples=40, deadline=None)
@given(st.text('0123456789.,-;ex \n"', max_size=60), st.text("01ab,\n", max_size=12))
def test_no_text_raises_anything_but_dataerror(
    tmp_path_factory: pytest.TempPathFactory, rows: str, answers: str
) -> None:
    root = tmp_path_factory.mktemp("fuzz") / "d"
    root.mkdir()
    (root / "input.csv").write_text(rows)
    (root / "labels.csv").write_text(answers)
    try:
        found, store = index(root)
    except DataError:
        return
    for entry in found.entries:
        assert decoded(store, entry.path).size


SHUFFLED = "ID,label\n2,b\n0,a\n1,a\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n2,b\n0,a\n1,a\n", "line 2: wanted the id 0 in column 'id', .* found '2'"),
        ("label,id\nb,1\na,3\na,2\n", "line 3: wanted the id 2 in column 'id', .* found '3'"),
        ("id,label\n0,b\n0,a\n1,a\n", "line 3: wanted the id 1 in column 'id', .* found '0'"),
        ("id,label\n7,b\n8,a\n9,a\n", "line 2: wanted the id 0 in column 'id', .* found '7'"),
        (",label\n1,b\n0,a\n2,a\n", "line 3: wanted the id 2 in column '', .* found '0'"),
        ("image,label\np1,b\np2,a\np3,a\n", "wanted the id 0 in column 'image', .* found 'p1'"),
        ("row,label,which\n0,b,2\n1,a,0\n2,a,1\n", "wanted the id 0 in column 'which', .*'2'"),
        ("name,label\nq,b\nr,a\ns,a\n", "wanted the id 0 in column 'name', .* found 'q'"),
        ("id\n0\n1\n2\n", "labels.csv: wanted a column of labels, found only ids, 'id'"),
        ("a,b\n0,1\n1,0\n0,1\n", "labels.csv: wanted one column of labels, found 2"),
    ],
)
def test_ids_of_labels_that_are_not_in_order_stop(tmp_path: Path, text: str, message: str) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(3, 4, 4))
    (root / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        index(root)


@pytest.mark.parametrize("start", [0, 1])
def test_ids_that_count_the_rows_and_other_columns_are_no_matter(
    tmp_path: Path, start: int
) -> None:
    root = write(tmp_path / "d", "input.csv", pictures(3, 4, 4))
    rows = [
        f"{start + i}.0,{label},{size},{i / 7}"
        for i, (label, size) in enumerate([("b", 9), ("a", 5), ("a", 5)])
    ]
    (root / "labels.csv").write_text("\n".join(["id,label,size,share", *rows]))
    assert [entry.label for entry in index(root)[0].entries] == ["b", "a", "a"]


def test_labels_are_paired_by_the_ids_that_both_files_have(tmp_path: Path) -> None:
    wanted = pictures(3, 4, 4)
    rows = np.column_stack([np.arange(3), wanted.reshape(3, -1)])
    head = ",".join(["id", *(f"p{i}" for i in range(16))])
    root = write(tmp_path / "d", "input.csv", rows, header=head, comments="")
    (root / "labels.csv").write_text(SHUFFLED)
    found, store = index(root)
    assert [entry.label for entry in found.entries] == ["a", "a", "b"]
    assert (decoded(store, "input/000003.png") == wanted[2]).all()
    assert found.notes == (
        "input.csv: 3 pictures of 4 x 4 x 1, values 0..255, labels by column 'ID'",
    )
    for text, message in (
        ("id,label\n2,b\n0,a\n5,a\n", "input.csv line 3: wanted an id that .*, found '1'"),
        ("id,label\n2,b\n0,a\n0,a\n", "line 4: id '0' is there already .*labels.csv line 3"),
        ("id,label\n2,b\n0,a\n", "found 2 labels and at least 3 rows"),
    ):
        (root / "labels.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            index(root)


def test_pixels_that_are_not_said_to_be_any_are_told_their_form(tmp_path: Path) -> None:
    root = tmp_path / "d"
    write(root, "a.csv", pictures(2, 28, 28))
    for flags in ({}, {"form": "csv"}):
        with pytest.raises(DataError, match=r"… \(784 in all\); .*--form pixel-csv") as caught:
            settings_of = make_settings({"data": root / "a.csv", "run": tmp_path / "r", **flags})
            forms.read_index(settings_of, tmp_path / "r")
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("flags", "said"),
    [({"recipe": "seed-pixels"}, "--recipe seed-pixels"), ({"form": "pixel-csv"}, "--form pixel")],
)
def test_a_form_that_cannot_be_is_found_early(
    tmp_path: Path, flags: dict[str, str], said: str
) -> None:
    for name in ("a/1.jpg", "b/1.jpg"):
        (tmp_path / "d" / name).parent.mkdir(parents=True)
        (tmp_path / "d" / name).write_text("x")
    with pytest.raises(DataError, match=f"{said}.* wants .*--form class-folders reads that"):
        forms.check_source(make_settings({"data": tmp_path / "d", **flags}))
