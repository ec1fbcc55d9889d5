"""Class folders: parts and groups above them, groups by name or file, what is no photo there."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileclf.config import make_settings
from mobileclf.errors import DataError, UsageError
from mobileclf.settings import FORMS
from mobileclf.source import class_folders, forms
from mobileclf.source.groups import check_labels, in_order, label_names, name_groups
from mobileclf.source.index import Entry, Index
from mobileclf.source.store import open_store

DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))


def make(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def index(root: Path, **flags: object) -> Index:
    """The index as a stage asks for it; the form is recognised."""
    settings = make_settings({"data": root, "run": root.parent / "run", **flags})
    forms.check_source(settings)
    found, store = forms.read_index(settings, settings.run_folder)
    assert found.form == "class-folders" and store.root == root
    assert [e.path for e in found.entries] == sorted(e.path for e in found.entries)
    assert forms.photos_store(settings).root == root
    return found


def problems(found: Index) -> dict[str, str]:
    return {entry.path: entry.problem for entry in found.entries if entry.problem}


def labelled(found: Index) -> dict[str, str]:
    return {entry.path: entry.label for entry in found.entries if not entry.problem}


def test_one_level_of_folders_is_the_classes(tmp_path: Path) -> None:
    names = ["Pilz's/1.jpg", "a b/2.jpg", "キノコ/3.jpg", "a b/4.png"]
    found = index(make(tmp_path / "d", names))
    assert found.labels == (("Pilz's", None), ("a b", None), ("キノコ", None))
    assert found.entries == tuple(
        Entry(path=name, label=name.split("/")[0]) for name in sorted(names)
    )
    assert found.harmful is None and found.warnings == () and found.kept is None


def test_a_zip_gives_the_same_index_as_its_folder(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "test/x.txt"])
    for base in (tmp_path, root):  # with the top folder in it, and without
        path = Path(
            shutil.make_archive(str(tmp_path / "z"), "zip", base, "d" if base != root else None)
        )
        assert index(path) == index(root)


def test_given_parts_are_taken_from_the_folders_above(tmp_path: Path) -> None:
    names = [f"{part}/{label}/{part}.jpg" for part in ("Train", "VAL", "threshold", "testing")
             for label in "ab"]  # fmt: skip
    found = index(make(tmp_path / "d", [*names, "test/loose.jpg", "beside.txt", "extra/c/1.jpg"]))
    assert [(e.path, e.label, e.part) for e in found.entries if not e.problem] == [
        ("Train/a/Train.jpg", "a", "train"), ("Train/b/Train.jpg", "b", "train"),
        ("VAL/a/VAL.jpg", "a", "validation"), ("VAL/b/VAL.jpg", "b", "validation"),
        ("testing/a/testing.jpg", "a", "test"), ("testing/b/testing.jpg", "b", "test"),
        ("threshold/a/threshold.jpg", "a", "threshold"),
        ("threshold/b/threshold.jpg", "b", "threshold"),
    ]  # fmt: skip
    assert found.labels == (("a", None), ("b", None))
    assert problems(found) == {
        "beside.txt": class_folders.NO_CLASS,
        "test/loose.jpg": class_folders.NO_CLASS,
        "extra": "a folder beside Train/, VAL/, testing/, threshold/; it is in no part",
    }


def test_classes_may_be_called_as_parts_are(tmp_path: Path) -> None:
    names = ["train/1.jpg", "train/2.jpg", "train/old/3.jpg", "plane/1.jpg", "test/x/1.jpg"]
    found = index(make(tmp_path / "d", names))
    assert found.labels == (("plane", None), ("test", None), ("train", None))
    assert {entry.part for entry in found.entries} == {""}
    assert problems(found) == {"train/old": class_folders.NESTED, "test/x": class_folders.NESTED}


def test_a_level_of_groups_above_is_recognised(tmp_path: Path) -> None:
    names = ["edible/Boletus edulis/1.jpg", "edible/Agaricus/1.jpg", "poisonous/Amanita/1.jpg"]
    found = index(make(tmp_path / "d", [*names, "edible/readme.txt"]))
    assert found.labels == (
        ("Agaricus", "edible"), ("Amanita", "poisonous"), ("Boletus edulis", "edible"),
    )  # fmt: skip
    assert set(labelled(found)) == set(names)
    assert problems(found) == {"edible/readme.txt": class_folders.NO_CLASS}


def test_parts_may_stand_above_the_groups(tmp_path: Path) -> None:
    names = [f"{part}/{kind}/{part}.jpg" for part in ("train", "test") for kind in ("x/a", "y/b")]
    found = index(make(tmp_path / "d", names))
    assert found.labels == (("a", "x"), ("b", "y"))
    assert [(e.path, e.part) for e in found.entries] == [
        ("test/x/a/test.jpg", "test"), ("test/y/b/test.jpg", "test"),
        ("train/x/a/train.jpg", "train"), ("train/y/b/train.jpg", "train"),
    ]  # fmt: skip
    make(tmp_path / "d", ["validation/a/1.jpg"])
    with pytest.raises(DataError, match="test/ has a level of folders more than validation/"):
        index(tmp_path / "d")


def test_one_photo_in_a_top_folder_makes_it_a_class(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["x/a/1.jpg", "y/b/1.jpg", "x/2.jpg"])
    found = index(root)
    assert found.labels == (("x", None), ("y", None)) and labelled(found) == {"x/2.jpg": "x"}
    assert problems(found) == {"x/a": class_folders.NESTED, "y/b": class_folders.NESTED}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x/a/1.jpg", "y/a/1.jpg"], "class 'a' is in two groups, 'x' and 'y'"),
        (["train/x/a/1.jpg", "test/y/a/1.jpg"], "class 'a' is in two groups, '.' and '.'"),
        (["photos/a/1.jpg", "photos/b/1.jpg"], "one level deeper, in 'photos' alone"),
        (["a-x/1.jpg", "a-y/1.jpg", "b-x/1.jpg"], "class 'a' has folders in two groups"),
        (["cats/1.jpg", "Cats/1.jpg"], "'Cats' and 'cats' differ only in case or spaces"),
        (["train/a b/1.jpg", "test/ab/1.jpg"], "'a b' and 'ab' differ only in case or spaces"),
        (["é/1.jpg", "e\u0301/1.jpg"], "differ only in case or spaces"),
        ([" a/1.jpg", "b/1.jpg"], "class folder ' a' is no plain one-line"),
        (["a\n/1.jpg", "b/1.jpg"], "is no plain one-line"),
        (["a-X/1.jpg", "b-x/1.jpg", "c-x/1.jpg"], "groups 'X' and 'x' differ only in case"),
        ([], "the folder is empty"),
        (["1.jpg", "2.jpg"], "found only files"),
    ],
)
def test_what_cannot_be_told_apart_stops(tmp_path: Path, names: list[str], message: str) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(DataError, match=message) as caught:
        index(make(tmp_path / "d", names))
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)


def test_what_is_no_photo_in_a_class_is_listed(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["a/1.jpg", "b/1.jpg", "b/deep/2.jpg", "loose.jpg", "a/.hidden"])
    (root / "b" / "none").mkdir()
    (root / "a" / "dead.jpg").symlink_to("nowhere")
    (root / "a" / "again").symlink_to(root / "b")
    assert problems(index(root)) == {
        "a/again": "a link to a folder that is read elsewhere; remove it",
        "a/dead.jpg": "a link to nothing; remove it or put the file back",
        "b/deep": class_folders.NESTED,
        "b/none": class_folders.NESTED,
        "loose.jpg": class_folders.NO_CLASS,
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "a" / "pipe.jpg")
        assert problems(index(root))["a/pipe.jpg"] == "no regular file; take it out"


def test_a_class_folder_that_may_not_be_read_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, scandir = make(tmp_path / "d", ["a/1.jpg", "b/1.jpg"]), os.scandir

    def refuse(path: Path) -> object:
        if path == root / "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = index(root)
    assert problems(found) == {"b": "cannot be read (Permission denied)"}
    assert found.labels == (("a", None), ("b", None))


def test_names_give_groups_only_if_all_do_and_there_are_fewer() -> None:
    assert name_groups(["a-x", "b-y", "c-x"]) == [("a", "x"), ("b", "y"), ("c", "x")]
    assert name_groups(["a-b-x", "c-y", "d-y"]) == [("a-b", "x"), ("c", "y"), ("d", "y")]
    assert name_groups(["a-x", "b-y", "c"]) is None
    assert name_groups(["a-x", "b-y"]) is None  # as many groups as classes
    assert name_groups(["a-x", "b-x"]) is None  # one suffix for all says nothing
    assert name_groups(["a-", "b-x", "c-x"]) is None
    assert name_groups(["-x", "b-x", "c-y"]) is None


def test_names_carry_groups_within_parts_too(tmp_path: Path) -> None:
    names = [f"{part}/{name}/1.jpg" for part in ("train", "test") for name in ("a-X", "b-Y", "c-Y")]
    found = index(make(tmp_path / "d", names))
    assert found.labels == (("a", "X"), ("b", "Y"), ("c", "Y"))
    assert labelled(found)["test/a-X/1.jpg"] == "a"


@pytest.mark.parametrize("inside", [True, False])
def test_a_classes_file_names_groups_and_which_is_harmful(tmp_path: Path, inside: bool) -> None:
    root = make(tmp_path / "d", ["b/1.jpg", "a/1.jpg", "c c/1.jpg"])
    table = root / "Classes.csv" if inside else tmp_path / "groups.csv"
    flags = {} if inside else {"groups": table}
    table.write_text("Harmful,label,group\nyes,a,Bad\nno,b,Good\n, c c ,Good\n")
    found = index(root, **flags)
    assert found.labels == (("a", "Bad"), ("b", "Good"), ("c c", "Good"))
    assert found.harmful == "Bad" and problems(found) == {}
    table.write_text("label;group\na;Bad\nb;Good\n\nc c;Good\n")
    assert index(root, **flags).harmful is None
    for text, message in (
        ("label,group\na,Good\n", "no group for class b, c c; add a line for each"),
        ("label,group\na,x\nb,y\nc c,y\nd,y\n", "no class folder or label d; there are a, b, c c"),
        ("label,group\na,Good\n\nb,\n", "line 4: wanted a label and its group, found 'b' and ''"),
        ("class,kind\na,Good\n", "csv: wanted columns label,group, found 'class', 'kind'"),
        ("label,group\na,Good\na,Bad\n", "line 3: 'a' is already in 'Good'"),
        ("label,group,harmful\na,x,1\nb,y,true\nc c,y,TRUE\n", "one harmful group, found 'x', 'y'"),
        ("label,group,harmful\na,x,1\nb,x,0\nc c,y,0\n", "line 3: group 'x' is marked harmful on"),
        ("label,group,harmful\na,x,maybe\n", "line 2: harmful wants true or false, found 'maybe'"),
        ("label,group\na,x\nb,X\nc c,y\n", "groups 'x' and 'X' differ only in case"),
        ("", "found an empty file"),
        ("label,group\na\0,x\n", "NUL bytes"),
    ):
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            index(root, **flags)
    if not inside:
        table.unlink()
        with pytest.raises(DataError, match="no such groups file"):
            index(root, **flags)


def test_the_file_asked_for_goes_before_the_one_beside_the_photos(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["a/1.jpg", "b/1.jpg"])
    (root / "classes.csv").write_text("label,group\na,x\nb,y\n")
    (tmp_path / "g.csv").write_text("label,group\na,p\nb,q\n")
    assert index(root).labels == (("a", "x"), ("b", "y"))
    assert index(root, groups=tmp_path / "g.csv").labels == (("a", "p"), ("b", "q"))


def test_a_file_cannot_change_the_groups_that_names_carry(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["x/a/1.jpg", "y/b/1.jpg"])
    table = tmp_path / "g.csv"
    table.write_text("label,group\na,z\nb,z\n")
    found = index(root, groups=table)
    assert found.labels == (("a", "x"), ("b", "y"))
    # By its name alone: the record of two runs on two machines is the same.
    assert found.warnings == ("--groups g.csv is not used: the folder names carry the groups",)
    (root / "classes.csv").write_text("label,group,harmful\na,x,\nb,y,true\n")
    found = index(root)  # yet it can say which of them is harmful
    assert found.harmful == "y" and found.warnings == ()
    (root / "classes.csv").write_text("label,group,harmful\na,y,true\nb,y,true\n")
    found = index(root)
    assert found.harmful is None
    assert found.warnings == ("classes.csv is not used: the folder names carry the groups",)


def test_specimens_come_from_the_path(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["a/s1_x.jpg", "a/s2_x.jpg", "b/s1_y.jpg", "b/none.jpg", "l.jpg"])
    for pattern, wanted in ((r"(s\d)_", "s1"), (r"s\d", "s1"), (r"(?:a|b)/(s(\d))", "s1")):
        found = index(root, group_by=pattern)
        assert {e.path: e.specimen for e in found.entries if e.specimen} == {
            "a/s1_x.jpg": wanted, "a/s2_x.jpg": "s2", "b/s1_y.jpg": "s1",
        }  # fmt: skip
        assert found.warnings == (
            f"--group-by {pattern}: 1 of 4 photos has no specimen; each of these counts as one "
            "of its own",
        )
    assert index(root, group_by=r".*").warnings == ()
    with pytest.raises(UsageError, match="wanted a column or a regular expression"):
        index(root, group_by="s(")


def test_the_fingerprint_changes_with_any_file_and_only_then(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["a/1.jpg", "b/1.jpg"])
    settings = make_settings({"data": root, "run": tmp_path / "run"})
    seen = [forms.fingerprint(settings)]
    assert forms.fingerprint(settings) == seen[0]
    for change in (
        lambda: (root / "a" / "1.jpg").write_text("other"),
        lambda: (root / "a" / "1.jpg").rename(root / "a" / "2.jpg"),
        lambda: (root / "b" / "3.jpg").write_text("new"),
        lambda: (root / "c").mkdir(),
        lambda: (root / "a" / "dead.jpg").symlink_to("nowhere"),
        lambda: (root / "classes.csv").write_text("label,group\n"),
    ):
        change()
        seen.append(forms.fingerprint(settings))
        assert seen[-1] not in seen[:-1]
    archive = Path(shutil.make_archive(str(tmp_path / "z"), "zip", root))
    zipped = make_settings({"data": archive, "run": tmp_path / "run"})
    before = forms.fingerprint(zipped)
    archive.write_bytes(archive.read_bytes()[:-2] + b"\1\0!")  # a comment in the zip
    assert forms.fingerprint(zipped) != before
    shutil.copytree(root, tmp_path / "moved", symlinks=True)
    moved = make_settings({"data": tmp_path / "moved", "run": tmp_path / "run"})
    assert forms.fingerprint(moved) == seen[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"data": "none"}, "--data none: wanted a folder, a .zip of it or a .csv, found nothing"),
        ({"data": "a.jpg"}, "found a file; check the path"),
        ({"data": "d", "images": "none"}, "--images none: wanted a folder or a .zip of photos"),
        ({"data": "d", "groups": "none.csv"}, "none.csv: there is no such groups file"),
    ],
)
def test_a_wrong_path_is_found_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, str], message: str
) -> None:
    monkeypatch.chdir(make(tmp_path, ["a.jpg", "d/a/1.jpg", "e/1.jpg", "e/train.csv"]))
    with pytest.raises(DataError, match=message) as caught:
        forms.check_source(make_settings(flags))
    assert caught.value.exit_code == 4
    forms.check_source(make_settings({"data": "e", "images": "e"}))
    Path("b.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="broken or incomplete zip"):
        forms.check_source(make_settings({"data": "b.zip"}))


USED = {
    "class-folders": {},
    "csv": {"images": "i", "image_column": "id", "label_column": "label", "classes": "x,y"},
    "pixel-csv": {"shape": "2,2,1", "classes": "x,y"},
}
ALL: dict[str, str] = {**USED["csv"], **USED["pixel-csv"]}


@pytest.fixture
def each_form(tmp_path: Path) -> Path:
    """Data of each form, in a folder of its name."""
    make(tmp_path / "class-folders", ["a/1.jpg", "b/2.jpg"])
    make(tmp_path / "csv", ["i/1.jpg", "i/2.jpg"])
    (tmp_path / "csv" / "train.csv").write_text("id,label\n1,0\n2,1\n")
    (tmp_path / "pixel-csv").mkdir()
    (tmp_path / "pixel-csv" / "input.csv").write_text("1,2,3,4\n5,6,7,8\n")
    (tmp_path / "pixel-csv" / "labels.csv").write_text("0\n1\n")
    return tmp_path


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("form", USED)
def test_an_option_of_another_form_is_wrong_usage(each_form: Path, form: str, said: bool) -> None:
    base = {"data": each_form / form, "run": each_form / "run", "form": form if said else None}
    forms.check_source(make_settings({**base, **USED[form]}))
    for name in set(ALL) - set(USED[form]):
        settings = make_settings({**base, name: ALL[name]})
        if name == "images":
            (each_form / form / "i").mkdir(exist_ok=True)
        others = " or ".join(x for x in forms.FORMS if name in USED[x])
        flag = "--" + name.replace("_", "-")
        for ask in (forms.check_source, lambda s: forms.read_index(s, each_form / "run")):
            with pytest.raises(UsageError) as caught:
                ask(settings)
            message = str(caught.value)
            assert message.startswith(f"{flag} {ALL[name]}: it is for --form {others}, and the")
            assert message.endswith(f"({form})") and caught.value.exit_code == 2


def test_an_option_of_a_recipe_is_none_that_was_given(each_form: Path) -> None:
    flags = {"data": each_form / "csv", "recipe": "seed-pixels", "form": "csv"}
    forms.check_source(make_settings(flags))
    with pytest.raises(UsageError, match="--shape 2,2,1: it is for --form pixel-csv"):
        forms.check_source(make_settings({**flags, "shape": "2,2,1"}))


def test_a_table_has_no_folders(each_form: Path) -> None:
    flags = {"data": each_form / "csv" / "train.csv", "form": "class-folders"}
    with pytest.raises(UsageError, match=r"--form class-folders: --data .*train.csv is a table"):
        forms.check_source(make_settings(flags))


def test_a_folder_may_be_named_as_tables_are(tmp_path: Path) -> None:
    found = index(make(tmp_path / "my.csv", ["a/1.jpg", "b/2.jpg"]))
    assert labelled(found) == {"a/1.jpg": "a", "b/2.jpg": "b"}


def test_what_has_no_form_is_told_the_forms(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    with pytest.raises(DataError, match=r"found only files \(1.jpg, 2.jpg, 3.jpg …\)") as caught:
        index(root)
    for word in ("pixel-csv", "csv", "class-folders", "--form"):
        assert word in str(caught.value)


def test_the_forms_are_those_of_the_option() -> None:
    assert set(forms.FORMS) == set(FORMS)


def test_the_form_asked_for_is_taken(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["a/1.jpg", "b/2.jpg"])
    (root / "train.csv").write_text("id,label\n1,x\n2,y\n")
    settings = make_settings({"data": root, "run": tmp_path / "run"})
    assert forms.form_of(open_store(root), settings) == "csv"
    found = index(root, form="class-folders")
    assert labelled(found) == {"a/1.jpg": "a", "b/2.jpg": "b"}


@given(st.lists(st.text(max_size=6), max_size=6))
def test_labels_pass_unless_a_person_would_mix_them_up(labels: list[str]) -> None:
    try:
        check_labels(labels, "here")
    except DataError:
        return
    assert len({label.casefold().replace(" ", "") for label in labels}) == len(set(labels))
    assert all(len(label.splitlines()) == 1 for label in labels)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data in {DATA}; set MOBILECLF_DATA")
def test_the_real_data_sets_are_read_as_they_lie(tmp_path: Path) -> None:
    found = index(DATA / "mushrooms4", run=tmp_path / "run")
    assert found.labels == (
        ("Amanita_Muscaria", "NotEdible"), ("Amanita_Vaginata", "NotEdible"),
        ("Boletus_Edulis", "Edible"), ("Boletus_Erythropus", "NotEdible"),
    )  # fmt: skip
    assert len(found.entries) == 1250 and problems(found) == {}
    found = index(DATA / "cats_dogs", run=tmp_path / "run")
    counts = Counter((entry.part, entry.label) for entry in found.entries)
    assert counts == {
        ("train", "cats"): 300, ("train", "dogs"): 300,
        ("validation", "cats"): 150, ("validation", "dogs"): 150,
    }  # fmt: skip


def test_numbers_are_ordered_by_value() -> None:
    assert in_order(["10", "9", "0"]) == ["0", "9", "10"]
    assert in_order(["10", "9", "a"]) == ["10", "9", "a"]
    assert in_order(["b", "B", "Ä"]) == ["B", "b", "Ä"]


def test_names_for_numbered_classes() -> None:
    assert label_names({"1": "l 1", "0": "l 2"}, "cat,dog") == {"0": "cat", "1": "dog"}
    assert label_names({"dog": "l 1", "cat": "l 2"}, "dog,cat") == {"dog": "dog", "cat": "cat"}
    assert label_names({"10": "l 1", "9": "l 2"}, None) == {"9": "9", "10": "10"}
    for odd in ("2", "-1", "bird"):
        with pytest.raises(DataError, match=f"f line 3: wanted a label from 0 to 1 .* '{odd}'"):
            label_names({"0": "f line 2", odd: "f line 3"}, "cat,dog")


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["test/a/1.jpg", "validation/a/1.jpg", "test/b/1.jpg"], "test/ and validation/ can be"),
        (["Test/a/1.jpg", "val/b/1.jpg"], "Test/ and val/ can be given parts only with train/"),
        (["test/a/1.jpg", "other/a/1.jpg"], "test/ can be given parts only with train/ beside"),
    ],
)
def test_given_parts_need_one_to_train_on(tmp_path: Path, names: list[str], wanted: str) -> None:
    with pytest.raises(DataError, match=wanted):
        index(make(tmp_path / "d", names))


def test_a_group_may_be_called_as_a_part_is(tmp_path: Path) -> None:
    found = index(make(tmp_path / "d", ["test/a/1.jpg", "other/b/1.jpg"]))
    assert found.labels == (("a", "test"), ("b", "other"))


def test_what_macos_adds_is_no_class(tmp_path: Path) -> None:
    found = index(make(tmp_path / "d", ["a/1.jpg", "b/1.jpg", "__MACOSX/a/x.jpg"]))
    assert found.labels == (("a", None), ("b", None)) and problems(found) == {}


def test_a_group_by_that_fits_no_photo_stops(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["a/1.jpg", "b/1.jpg", "m7.jpg"])
    message = "--group-by m7: .* found no match in any path, as in a/1.jpg"
    with pytest.raises(DataError, match=message) as caught:
        index(root, group_by="m7")  # a stray is no photo
    assert caught.value.exit_code == 4


def test_what_is_nothing_is_found_before_a_run_is_made(tmp_path: Path) -> None:
    root = make(tmp_path / "d", ["a/1.jpg", "b/1.jpg"])
    with pytest.raises(UsageError, match="wanted a column or a regular expression"):
        forms.check_source(make_settings({"data": root, "group_by": "s("}))
    with pytest.raises(DataError, match="found only files"):
        forms.check_source(make_settings({"data": root / "a"}))
    (root / "train.csv").write_text("id,label,s(\n1,a,x\n")
    forms.check_source(make_settings({"data": root, "group_by": "s("}))  # a column's name
