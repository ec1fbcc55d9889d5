"""Labels in a file, and the class that each line means."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mobileclf.errors import DataError
from mobileclf.source.label_file import lines, match, read

FOLDERS = {
    "Amanita_muscaria": "Amanita_muscaria-NotEdible",
    "Boletus_edulis": "Boletus_edulis-Edible",
    "Cep": "Cep-Edible",
}


def test_a_file_is_read_whatever_its_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("\ufeffKönig's \r\nБелый гриб\n\n".encode())
    assert read(path) == ("König's", "Белый гриб")
    path.write_bytes(b"")
    assert read(path) == () and lines(b"\n\n") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "labels.txt: cannot be read (No such file or directory)"),
        (b"a\n\nb", "labels.txt: wanted a label a line, found line 2 empty"),
        (b"a\xff", "labels.txt: wanted UTF-8 text, found other bytes"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(
    tmp_path: Path, data: bytes | None, message: str
) -> None:
    path = tmp_path / "labels.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=re.escape(message)):
        read(path)


def test_labels_and_names_of_folders_are_taken_in_the_order_of_the_lines() -> None:
    found = match(["Cep-Edible", "Amanita_muscaria", "Boletus_edulis-Edible"], FOLDERS)
    assert found.labels == ("Cep", "Amanita_muscaria", "Boletus_edulis") and found.loosely == ()


def test_case_and_what_is_between_words_do_not_matter_and_are_told() -> None:
    found = match(["CEP", "amanita  muscaria-not edible".replace("not ", "NOT"), "boletus-edulis"],
                  FOLDERS)  # fmt: skip
    assert found.labels == ("Cep", "Amanita_muscaria", "Boletus_edulis")
    assert found.loosely == (
        ("CEP", "Cep"),
        ("amanita  muscaria-NOTedible", "Amanita_muscaria"),
        ("boletus-edulis", "Boletus_edulis"),
    )
    # Two ways to spell one letter.
    assert match(["Ste\u0301", "b"], {"St\u00e9": "St\u00e9", "b": "b"}).labels[0] == "St\u00e9"


def test_a_line_that_may_mean_two_classes_means_none_unless_it_is_exact() -> None:
    folders = {"a_b": "a_b", "a-b": "a-b"}
    assert match(["a-b", "a_b"], folders).labels == ("a-b", "a_b")
    with pytest.raises(DataError, match="missing: a_b; no class: A b$"):
        match(["A b", "a-b"], folders)
    # A label goes before a folder of the same name.
    assert match(["a-x", "a"], {"a": "a-x", "a-x": "a-x-y"}).labels == ("a-x", "a")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["Cep", "Boletus_edulis"], "found 2 labels; missing: Amanita_muscaria"),
        (["Cep", "Boletus_edulis", "Amanita_muscaria", "x"], "found 4 labels; no class: x"),
        (["Cep", "Cep-Edible", "Boletus_edulis", "Amanita_muscaria"], "4 labels; twice: Cep"),
        (["cep", "Cep", "y", "y"], "missing: Amanita_muscaria, Boletus_edulis; no class: y, y; "
         "twice: Cep"),
        ([], "wanted each of the 3 classes of the photos once, found 0 labels; missing: "),
    ],
)  # fmt: skip
def test_each_class_has_to_be_there_once(given: list[str], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        match(given, FOLDERS)


def test_no_more_than_five_of_each_are_listed() -> None:
    classes = {f"c{i}": f"c{i}" for i in range(9)}
    with pytest.raises(DataError) as caught:
        match([f"x{i}" for i in range(7)] + ["c8", "c8"], classes)
    assert "missing: c0, c1, c2, c3, c4, … (8 in all)" in str(caught.value)
    assert "no class: x0, x1, x2, x3, x4, … (7 in all)" in str(caught.value)
    assert str(caught.value).endswith("twice: c8")
