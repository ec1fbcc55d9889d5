"""What is said of each defect: the exact words, and the exit code, of `mobileclf dataset`."""

# ruff: noqa: E501  a message is one line, here too

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from mobileclf.cli import main
from mobileclf.records import read_csv

from .bad_data import DEFECTS, sound

# Defects that stop nothing: the files that are left out, or used and noted.
LEFT_OUT: dict[str, dict[str, str]] = {
    "animated_gif": {"left/x.gif": "animated; wanted one picture: convert it to PNG"},
    "animated_png": {"left/x.png": "animated; wanted one picture: convert it to PNG"},
    "animated_webp": {"left/x.webp": "animated; wanted one picture: convert it to PNG"},
    "copy_across_given_parts": {
        "train/left/x.jpg": "the same picture is in test (test/left/3.png)"
    },
    "corrupt_png": {"left/x.png": "PNG with a wrong checksum; take it out or copy it again"},
    "dead_link": {"left/x.jpg": "a link to nothing; remove it or put the file back"},
    "decompression_bomb": {
        "left/x.png": "photo too large (Image size (3600000000 pixels) exceeds limit of 178956970 pixels); make it smaller"
    },
    "drawing": {"left/x.png": "SVG, which is a drawing and no photo; convert it to PNG"},
    "duplicate_row": {"images/left3.png": "train.csv line 22: there already (train.csv line 5)"},
    "file_beside_the_classes": {"notes.txt": "in no class folder; its class is unknown"},
    "file_without_a_row": {"images/x.png": "no row names this photo"},
    "folder_in_a_class": {"left/more": "a folder in a class folder; only photos there are read"},
    "heic": {"left/x.heic": "HEIC: `pip install pillow-heif`, or convert it to JPEG"},
    "jpeg_without_its_end": {"left/x.jpg": "JPEG cut short; take it out or copy it again"},
    "large_file_storage": {"left/x.jpg": "a Git LFS pointer, not the picture; run `git lfs pull`"},
    "near_copy_in_two_classes": {
        "left/3.png": "the same picture is in another class (right/x.jpg)",
        "right/x.jpg": "the same picture is in another class (left/3.png)",
    },
    "not_an_image": {
        "left/x.jpg": "not a picture that is read here; wanted JPEG, PNG, WebP, GIF or BMP"
    },
    "pipe": {"left/x.jpg": "no regular file; take it out"},
    "row_under_two_labels": {
        "images/left3.png": "train.csv line 22: also labelled 'left' (train.csv line 5)"
    },
    "row_without_a_file": {"gone": "train.csv line 22: a row without a file"},
    "row_without_a_label": {"images/x.png": "train.csv line 22: a row without a label"},
    "same_bytes_in_two_classes": {
        "left/3.png": "the same picture is in another class (right/x.png)",
        "right/x.png": "the same picture is in another class (left/3.png)",
    },
    "same_pixels_in_two_classes": {
        "left/3.png": "the same picture is in another class (right/x.bmp)",
        "right/x.bmp": "the same picture is in another class (left/3.png)",
    },
    "sixteen_bit_grey": {
        "left/x.png": "PNG with 16 bits a channel, decoded differently on phones; save as 8"
    },
    "ten_gigabytes_of_zeros": {
        "left/x.jpg": "too large for a picture: 10737418240 bytes, at most 512000000 are read; take it out"
    },
    "tiff": {
        "left/x.jpg": "TIFF or DNG, which phones do not decode alike; convert it to JPEG or PNG"
    },
    "tiny": {
        "left/x.png": "7 x 90 pixels; wanted at least 8 on each side: take it out or find a larger one"
    },
    "transparent_gif": {
        "left/x.gif": "GIF with transparency, decoded differently on phones; convert it to PNG"
    },
    "truncated_jpeg": {"left/x.jpg": "JPEG cut short; take it out or copy it again"},
    "truncated_png": {"left/x.png": "PNG cut short; take it out or copy it again"},
    "two_files_for_an_id": {
        "x": "train.csv line 22: 2 files fit this id: images/x.jpg, images/x.png"
    },
    "uniform": {"left/x.png": "one single colour; take it out"},
    "web_page": {
        "left/x.jpg": "a web page (HTML), as a failed download leaves; fetch the picture again"
    },
    "zero_bytes": {"left/x.jpg": "an empty file; take it out or copy it again"},
}
NOTED: dict[str, dict[str, str]] = {
    "alpha": {"left/x.png": "transparency dropped, the colours under it are used"},
    "cmyk": {"left/x.jpg": "CMYK, converted to RGB"},
    "palette": {"left/x.png": "palette, converted to RGB"},
    "several_pictures_in_a_jpeg": {
        "left/x.jpg": "several pictures in one JPEG (MPO); the first is used"
    },
    "turned_by_exif": {"left/x.jpg": "turned upright (EXIF orientation 6)"},
    "wrong_extension": {"left/x.jpg": "a PNG named .jpg"},
}
# Defects that stop: the message after `error: `, with ROOT for the data set's folder.
STOPS: dict[str, str] = {
    "absolute_path_in_a_table": "ROOT/train.csv line 22: wanted the name of a file below ROOT, found '/etc/passwd'; take absolute paths and .. out of the CSV",
    "broken_zip": "ROOT: a broken or incomplete zip; copy or download it again",
    "class_under_the_minimum": "class 'few': wanted at least 2 different pictures that can be read for train and test, found 1; add photos or take the class out",
    "class_without_a_group": "ROOT/classes.csv: no group for class right; add a line for each",
    "class_without_training_photos": "class 'right': wanted at least 1 different pictures that can be read for train, found 0; add photos or take the class out",
    "empty_class": "class 'few': wanted at least 2 different pictures that can be read for train and test, found 0; add photos or take the class out",
    "labels_that_differ_in_case": "ROOT: labels 'Left' and 'left' differ only in case or spaces; wanted one spelling",
    "labels_that_differ_in_spaces": "ROOT/train.csv: labels 'left' and ' left' differ only in case or spaces; wanted one spelling",
    "more_pixels_than_labels": "ROOT/labels.csv: wanted one label for each row of input.csv, found 2 labels and at least 3 rows",
    "one_class": "ROOT: wanted at least 2 classes, found only 'left'",
    "path_that_leads_out_of_a_table": "ROOT/train.csv line 22: wanted the name of a file below ROOT, found '../../secret.png'; take absolute paths and .. out of the CSV",
    "pixels_of_another_length": "ROOT/input.csv line 2: wanted 12 values for the shape 2,2,3, found 11",
    "pixels_out_of_range": "ROOT/input.csv line 1: wanted values 0..255 or 0..1, found 256",
    "table_of_zeros": "ROOT/train.csv: wanted a table of at most 268435456 bytes, found 10737418240",
    "two_harmful_groups": "ROOT/classes.csv: wanted one harmful group, found 'good', 'bad'; put their classes in one group",
    "unknown_columns": "ROOT/train.csv: wanted a column with the photos' names (id, image, file, filename or path), found 'what', 'kind'; say which with --image-column",
    "unknown_group": "ROOT/classes.csv: no class folder or label middle; there are left, right",
    "zip_bomb": "ROOT, photos/left/x.png: a bomb: it claims 4293918720 bytes, more than 100 times what is in the zip of it; nothing of it is read",
    "zip_that_leads_out": "ROOT, ../../evil.png: the name leads out of the zip; nothing of it is read",
    "zip_with_a_link": "ROOT, photos/left/x.png: a link or no regular file; zip the photos themselves",
    "zip_with_an_absolute_name": "ROOT, /tmp/evil.png: the name leads out of the zip; nothing of it is read",
}


def run(source: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and the last line on stderr of `mobileclf dataset`."""
    with pytest.raises(SystemExit) as end:
        main(["dataset", str(source), "--run", str(run), "--quiet"])
    lines = capsys.readouterr().err.strip().splitlines()
    return int(str(end.value.code)), lines[-1] if lines else ""


def found(run: Path, column: str) -> dict[str, str]:
    return {row["path"]: row[column] for row in read_csv(run / "dataset.csv") if row[column]}


def outside(root: Path, run: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that is not in the run."""
    files = [path for path in root.rglob("*") if path.is_file() and run not in path.parents]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_every_defect_has_its_words() -> None:
    assert sorted([*LEFT_OUT, *NOTED, *STOPS]) == sorted(DEFECTS)


@pytest.mark.parametrize("name", sorted(DEFECTS))
def test_a_defect_is_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "pipe" and sys.platform == "win32":
        pytest.skip("no named pipes in folders there")
    root = tmp_path / "data"
    root.mkdir()
    source = DEFECTS[name](root)
    before = outside(tmp_path, tmp_path / "run")
    code, line = run(source, tmp_path / "run", capsys)
    assert outside(tmp_path, tmp_path / "run") == before
    if name in STOPS:
        assert code == 4
        assert line.replace(str(source), "ROOT") == f"error: {STOPS[name]}"
        return
    assert code == 0, line
    assert found(tmp_path / "run", "problem") == LEFT_OUT.get(name, {})
    notes = found(tmp_path / "run", "note")
    assert notes == NOTED.get(name, {})


def test_sound_data_have_nothing_left_out_and_nothing_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = run(sound(tmp_path / "data"), tmp_path / "run", capsys)
    assert (code, line) == (0, "")
    assert found(tmp_path / "run", "problem") == found(tmp_path / "run", "note") == {}
    assert not re.search("only", line)
