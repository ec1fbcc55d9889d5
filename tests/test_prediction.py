"""predict: a bundle's own decision, its files as they were proven, a row for every image."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobileclf import bundles, cli, cores
from mobileclf.errors import DataError, UsageError
from mobileclf.images.load import ImageSpec
from mobileclf.prediction import pictures
from mobileclf.prediction import predict as prediction
from mobileclf.prediction.predict import as_csv, predict
from mobileclf.records import sha256_bytes, sha256_file, write_json
from mobileclf.tflite import interpreter
from tests.cluster import dask_cluster

LABELS = ("red", "green", "blue")
GROUPS = ("Warm", "Cold", "Cold")


class Colours:
    """A runtime's engine: a label's output is the mean of its colour."""

    def set_tensor(self, _: int, value: np.ndarray[Any, Any]) -> None:
        assert value.dtype == np.uint8 and value.shape == (1, 8, 8, 3)
        self.given = value

    def invoke(self) -> None:
        self.found = self.given.mean(axis=(1, 2)).astype(np.uint8)

    def get_tensor(self, _: int) -> np.ndarray[Any, Any]:
        return self.found


@pytest.fixture(autouse=True)
def colour_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the runtime's place: `Colours`."""

    def opened(model: bytes, *, kernels: str = "xnnpack") -> interpreter.Interpreter:
        assert model == b"model" and kernels == "xnnpack"
        ends = {
            name: interpreter.Tensor(index=0, dtype=np.dtype(np.uint8), scale=scale, zero_point=0)
            for name, scale in {"input": 1.0, "output": 1 / 256}.items()
        }
        return interpreter.Interpreter(engine=Colours(), shape=(8, 8, 3), labels=3, **ends)

    # The model file vouches for the decision; here it says whatever bundle.json does.
    monkeypatch.setattr(bundles, "check_proven", lambda *_: None)
    monkeypatch.setattr(interpreter, "open_interpreter", opened)


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
        "score": 120 / 256,
        "group_score": red / 256,
        "verdict": verdict,
        "abstain": False,
        "top": [
            {"label": "green", "score": 120 / 256},
            {"label": "blue", "score": 120 / 256},
            {"label": "red", "score": red / 256},
        ],
        "problem": None,
    }


@pytest.mark.parametrize(
    ("by", "cut_q", "colours"),
    [
        ("largest", 121, {(99, 120, 0): "not sure", (99, 121, 0): "Cold", (100, 0, 0): "Warm"}),
        ("margin", 21, {(99, 120, 100): "not sure", (99, 121, 100): "Cold", (110, 109, 0): "Warm"}),
        ("score", 11, {(90, 200, 0): "not sure", (89, 200, 0): "Cold", (100, 255, 0): "Warm"}),
    ],
)
def test_a_bundle_abstains_by_its_rule(
    bundle: Path, tmp_path: Path, by: str, cut_q: int, colours: dict[tuple[int, int, int], str]
) -> None:
    record = json.loads((bundle / "bundle.json").read_text())
    rule = {"by": by, "cut": cut_q / 256, "cut_q": cut_q}
    change(bundle, decision={**record["decision"], "abstain": rule})
    pictures = [picture(tmp_path / f"{i}.png", colour) for i, colour in enumerate(colours)]
    rows = predict(bundle, pictures)
    assert [row["verdict"] for row in rows] == list(colours.values())
    assert [row["abstain"] for row in rows] == [v == "not sure" for v in colours.values()]
    assert [row["group_score"] for row in rows] == [colour[0] / 256 for colour in colours]


@pytest.mark.parametrize(
    "decision",
    [
        {"abstain": {"by": "entropy", "cut": 0.25, "cut_q": 64}},
        {"abstain": {"by": "margin", "cut": 0.5, "cut_q": 64}},
        {"threshold": 1.0, "threshold_q": 256},
    ],
)
def test_a_decision_that_cannot_be_applied_is_refused(
    bundle: Path, tmp_path: Path, decision: dict[str, object]
) -> None:
    record = json.loads((bundle / "bundle.json").read_text())
    change(bundle, decision={**record["decision"], **decision})
    with pytest.raises(DataError, match="bundle.json: (abstain|decision): wanted"):
        predict(bundle, picture(tmp_path / "p.png", (1, 2, 3)))


def test_a_demo_is_never_sure_of_harmless(bundle: Path, tmp_path: Path) -> None:
    change(bundle, purpose="demo")
    rows = predict(
        bundle,
        [picture(tmp_path / "a.png", (9, 9, 9)), picture(tmp_path / "b.png", (200, 9, 9))],
    )
    assert [row["verdict"] for row in rows] == ["not sure", "Warm"]
    assert [row["abstain"] for row in rows] == [True, False]


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


def test_a_folder_is_read_as_the_store_reads_it(bundle: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    picture(root / "a" / "1.png", (200, 0, 0))
    picture(root / "._b.png", (0, 0, 200))
    picture(root / ".h" / "x.png", (0, 0, 200))
    (root / "dead.png").symlink_to("nowhere")
    (root / "d.svg").write_text("<svg/>")
    rows = predict(bundle, root)
    assert [(row["path"], row["problem"]) for row in rows] == [
        (str(root / "a" / "1.png"), None),
        (str(root / "d.svg"), f"{root / 'd.svg'}: SVG, which is a drawing and no photo; convert "
         "it to PNG"),
        (str(root / "dead.png"), f"{root / 'dead.png'}: a link to nothing; remove it or put the "
         "file back"),
    ]  # fmt: skip


def test_a_table_of_tabs_is_a_table(bundle: Path, tmp_path: Path) -> None:
    photo = picture(tmp_path / "t" / "1.png", (200, 0, 0))
    (tmp_path / "t" / "t.TSV").write_text("id\tx\n1\t0\n")
    (row,) = predict(bundle, tmp_path / "t" / "t.TSV")
    assert (row["path"], row["label"]) == (str(photo), "red")
    out = tmp_path / "out.csv"
    predict(bundle, tmp_path / "t" / "t.TSV", submission=out)
    assert out.read_text() == "id,label\n1,red\n"
    picture(tmp_path / "f.csv" / "1.png", (200, 0, 0))  # a folder is none, whatever its name
    assert predict(bundle, tmp_path / "f.csv")[0]["label"] == "red"


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
    row = prediction._unread("x", "none").row | {"path": name}
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
        "red", "0.78125", "0.78125", "Warm",
    )  # fmt: skip
    assert (row["abstain"], list(row)[-1]) == ("no", "problem")
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


RED, GREEN, BLUE = (200, 10, 20), (10, 200, 20), (10, 20, 200)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """test.csv and its images beside it: ids without endings, in no order, one of them twice."""
    for name, colour in {"=1+1": RED, "007": GREEN, "b c": BLUE}.items():
        picture(tmp_path / "in" / "images" / f"{name}.png", colour)
    path = tmp_path / "in" / "test.csv"
    path.write_text('Note,ID\nx,b c\n"a, b",=1+1\n,007\nx,b c\n')
    return path


FILLED = "ID,label\nb c,blue\n=1+1,red\n007,green\nb c,blue\n"


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", *map(str, words)])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_a_zip_is_read_in_place(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, colour in {"b/2.PNG": RED, "a/1.png": BLUE}.items():
            archive.write(picture(tmp_path / "apart" / name, colour), name)
        archive.writestr("a/bad.jpg", "none")
        archive.writestr("notes.txt", "none")
    before = sorted(tmp_path.rglob("*"))
    rows = predict(bundle, path)
    assert [row["path"] for row in rows] == [
        f"{path}/{name}" for name in ("a/1.png", "a/bad.jpg", "b/2.PNG")
    ]
    assert [row["label"] for row in rows] == ["blue", None, "red"]
    assert rows[1]["problem"].startswith(f"{path}/a/bad.jpg: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_zip_without_images_or_that_is_none_is_refused(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "none")
    with pytest.raises(DataError, match="a.zip: wanted images in this zip, found none"):
        predict(bundle, tmp_path / "a.zip")
    (tmp_path / "b.zip").write_text("none")
    with pytest.raises(DataError, match="b.zip: a broken or incomplete zip"):
        predict(bundle, tmp_path / "b.zip")


def test_rows_of_a_csv_are_labelled_in_their_order(bundle: Path, table: Path) -> None:
    with table.open("a") as file:
        file.write("x,gone\n")
    rows = predict(bundle, table)
    names = [f"images/{name}.png" for name in ("b c", "=1+1", "007", "b c")]
    assert [row["path"] for row in rows] == [*(str(table.parent / n) for n in names), "gone"]
    assert [row["label"] for row in rows] == ["blue", "red", "green", "blue", None]
    assert rows[-1]["problem"] == "gone: a row without a file"


def test_a_submission_has_the_ids_as_they_are_written(
    bundle: Path, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    assert run(bundle, table, "--submission", out) == 0
    assert out.read_bytes() == FILLED.encode()
    assert capfd.readouterr().out == ""
    assert run(bundle, table, "--submission", out, "--label-column", "Species", "--json") == 0
    assert out.read_text() == FILLED.replace("ID,label", "ID,Species")
    assert len(json.loads(capfd.readouterr().out)["predictions"]) == 4


def test_images_and_their_column_may_be_elsewhere(
    bundle: Path, table: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in (table.parent / "images").iterdir():
            archive.write(path, path.name)
    (table.parent / "images").rename(tmp_path / "elsewhere")
    table.write_text(table.read_text().replace("ID", "which"))
    with pytest.raises(DataError, match="say which with --image-column"):
        predict(bundle, table, image_folder=tmp_path / "elsewhere")
    out = tmp_path / "out.csv"
    for images in (tmp_path / "elsewhere", tmp_path / "photos.zip"):
        out.unlink(missing_ok=True)
        rows = predict(bundle, table, image_folder=images, image_column="which", submission=out)
        assert out.read_text() == FILLED.replace("ID", "which")
        assert rows[1]["path"] == f"{images}/=1+1.png"


def test_images_are_looked_for_beside_the_csv_too(
    bundle: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table.parent / "images").rename(table.parent / "test_images")
    (table.parent / "train_images").mkdir()
    picture(table.parent / "train_images" / "007.png", BLUE)
    monkeypatch.chdir(tmp_path)
    rows = predict(bundle, table, image_folder=Path("test_images"), submission="out.csv")
    assert Path("out.csv").read_text() == FILLED
    assert rows[1]["path"] == str(table.parent / "test_images" / "=1+1.png")
    picture(tmp_path / "test_images" / "007.png", BLUE)  # what is here goes first
    labels = [row["label"] for row in predict(bundle, table, image_folder=Path("test_images"))]
    assert labels == [None, None, "blue", None]
    with pytest.raises(DataError, match="nowhere: there is no such folder or zip"):
        predict(bundle, table, image_folder=Path("nowhere"))


def test_rows_of_pixels_are_no_pictures(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    for head in ("label,pixel0,pixel1,pixel2,pixel3", "5,0,0,254,17,0.5"):
        path.write_text(f"{head}\n")
        with pytest.raises(DataError, match="predict takes pictures, not rows of pixels"):
            predict(bundle, path)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda images: (images / "007.png").unlink(), "found 1 without; the first: 007 (a row"),
        (lambda images: (images / "b c.png").write_text("x"), "found 2 without; the first: b c ("),
    ],
)
def test_a_submission_with_holes_is_not_written(
    bundle: Path,
    table: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    break_it: Any,
    message: str,
) -> None:
    break_it(table.parent / "images")
    (tmp_path / "out.csv").write_text("earlier")
    assert run(bundle, table, "--submission", tmp_path / "out.csv") == 4
    said = capfd.readouterr()
    assert message in said.err and "nothing was written" in said.err and said.out == ""
    assert (tmp_path / "out.csv").read_text() == "earlier"


def test_options_that_do_not_fit_are_wrong_usage(
    bundle: Path, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo, out = table.parent / "images" / "007.png", tmp_path / "out.csv"
    for images in ([table, table], [photo], [table, photo]):
        with pytest.raises(UsageError, match="--submission: wanted one CSV as IMAGES"):
            predict(bundle, images, submission=out)
    with pytest.raises(UsageError, match="--label-column 'ID': .* has its ids in the column"):
        predict(bundle, table, label_column="ID", submission=out)
    assert not out.exists()
    with pytest.raises(UsageError, match="--images .*: it is for the images of a CSV"):
        predict(bundle, photo, image_folder=tmp_path)
    with pytest.raises(UsageError, match="--image-column x: it is for the images of a CSV"):
        predict(bundle, photo, image_column="x")
    assert run(bundle, table, "--label-column", "x") == 2
    assert "--label-column" in capfd.readouterr().err


def test_a_csv_without_rows_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("id\n")
    with pytest.raises(DataError, match="test.csv: wanted rows, found only a header"):
        predict(bundle, tmp_path / "test.csv")


def test_a_cluster_reads_what_this_machine_reads(
    bundle: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(table.parent / "images" / "007.png", "1.png")
    (table.parent / "images" / "b c.png").write_text("none")
    images = ["in/test.csv", "photos.zip", "in/images", "in/images/007.png"]
    with dask_cluster() as address, monkeypatch.context() as patch:
        patch.chdir(tmp_path)  # the workers stay where they were started
        here = predict(bundle, images)
        assert [row["label"] for row in here].count(None) == 3
        patch.setattr(pictures, "load", None)  # nothing is read here
        assert predict(bundle, images, cluster=address) == here


def test_a_sheet_goes_with_every_form_of_the_answer(
    bundle: Path, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sheet, out = tmp_path / "sheet.png", tmp_path / "out.csv"
    assert run(bundle, table, "--submission", out, "--sheet", sheet, "--json") == 0
    assert len(json.loads(capfd.readouterr().out)["predictions"]) == 4
    assert out.read_text() == FILLED and Image.open(sheet).format == "PNG"
    first = sheet.read_bytes()
    (table.parent / "images" / "007.png").write_text("none")
    assert run(bundle, table, "--sheet", sheet, "--output", tmp_path / "rows.csv") == 0
    assert sheet.read_bytes() != first
    (table.parent / "images" / "b c.png").unlink()
    (table.parent / "images" / "=1+1.png").unlink()
    first = sheet.read_bytes()
    assert run(bundle, table, "--sheet", sheet) == 4  # no image could be read
    assert sheet.read_bytes() == first


def test_a_sheet_with_a_strange_ending_ends_before_any_work(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("absent", "absent.jpg", "--sheet", tmp_path / "s.gif") == 2
    assert capfd.readouterr().err == (
        f"error: --sheet {tmp_path / 's.gif'}: wanted a name that ends in .jpg or .png\n"
    )


def test_no_more_interpreters_are_opened_than_there_are_threads(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [picture(tmp_path / f"{i}.png", (i, 9, 20)) for i in range(40)]
    opened = []
    real = interpreter.open_interpreter
    monkeypatch.setattr(
        interpreter, "open_interpreter", lambda *a, **k: opened.append(1) or real(*a, **k)
    )
    rows = predict(bundle, photos)
    assert [row["path"] for row in rows] == list(map(str, photos))
    assert [row["group_score"] for row in rows] == [i / 256 for i in range(40)]
    assert len(opened) <= 2 + cores.usable()  # two for the golden cases and the scale


def test_no_input_and_no_picture_is_written_over(
    bundle: Path, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    photo, names = picture(tmp_path / "a.jpg", RED), tmp_path / "names.txt"
    other = picture(tmp_path / "b.jpg", BLUE)
    inside = table.parent / "images" / "007.png"
    names.write_text("a\n")
    (tmp_path / "link.csv").symlink_to(table)
    folder = table.parent / "images"
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(photo, "a.jpg")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    one = "a file to write, found one that is read"
    lost = "a new name, found a picture, which would be lost"
    home = f"a place outside of {bundle}, which the model is read from"
    for words, wanted in (
        ([bundle, photo, "--sheet", photo], one),
        ([bundle, other, "--sheet", photo], lost),  # predict bundle --sheet *.jpg
        ([bundle, other, "--output", photo], lost),
        ([bundle, photo, "--output", photo], one),
        ([bundle, table, "--submission", table], one),
        ([bundle, table, "--submission", tmp_path / "link.csv"], one),
        ([bundle, table, "--images", "../p.zip", "--output", tmp_path / "p.zip"], one),
        ([bundle, photo, "--output", bundle / "model.tflite"], home),
        ([bundle, photo, "--output", bundle / "new.csv"], home),
        ([bundle / "model.tflite", photo, "--output", bundle / "bundle.json"], home),
        ([names, photo, "--output", names], one),
        ([bundle, photo, "--labels", names, "--output", names], one),
        ([bundle, folder, "--sheet", inside], lost),
        ([bundle, table, "--sheet", inside], lost),
        ([bundle, photo, "--output", tmp_path / "o", "--submission", tmp_path / "o"],
         "another file than --output's"),
    ):  # fmt: skip
        assert run(*words) == 2, words
        assert wanted in capfd.readouterr().err, words
        assert {path: path.read_bytes() for path in before} == before, words
    with pytest.raises(UsageError, match="one that is read"):
        predict(bundle, photo, sheet=photo)


@pytest.mark.parametrize("name", ["s.jpg", "s.png"])
def test_an_earlier_sheet_may_be_drawn_again_but_not_among_the_pictures(
    bundle: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "in"
    for i in range(2):
        picture(folder / f"{i}.png", RED)
        predict(bundle, folder, sheet=tmp_path / name)
    predict(bundle, folder, sheet=folder / name)
    with pytest.raises(UsageError, match="found a picture, which would be lost"):
        predict(bundle, folder, sheet=folder / name)
