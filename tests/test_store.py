"""Folders and zips as stores: what is listed, what is refused, and that nothing is written."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileclf.errors import DataError
from mobileclf.source import listing, zip_store
from mobileclf.source import store as store_module
from mobileclf.source.listing import escaped, is_plain, leads_out
from mobileclf.source.store import FolderStore, open_store
from mobileclf.source.zip_store import ZipStore

FILES = {"a/1.jpg": b"one", "a/2.jpg": b"two", "b/deep/3.png": b"three", "top.txt": b"top"}


def make_folder(root: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, data in (FILES if files is None else files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def make_zip(path: Path, files: dict[str, bytes] | None = None, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (FILES if files is None else files).items():
            archive.writestr(top + name, data)
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "zip with one top folder"])
def test_a_store_lists_and_reads_what_is_there(tmp_path: Path, kind: str) -> None:
    if kind == "folder":
        path = make_folder(tmp_path / "d")
    else:
        path = make_zip(tmp_path / "d.zip", top="photos/" if "top" in kind else "")
    store = open_store(path)
    assert store.root == path
    assert store.names() == ("a/1.jpg", "a/2.jpg", "b/deep/3.png", "top.txt")
    assert store.folders() == ("a", "b", "b/deep")
    assert store.top_names() == ("top.txt",) and store.top_folders() == ("a", "b")
    assert store.problems() == {}
    for name, data in FILES.items():
        assert store.read(name) == data
        assert store.digest(name) == sha256(data).hexdigest()
        assert store.size(name) == len(data)
        with store.open(name) as file:
            assert file.read(2) + file.read() == data
    again = pickle.loads(pickle.dumps(store))
    assert again.read("a/1.jpg") == b"one" and again.names() == store.names()
    assert len(pickle.dumps(store)) < 300  # sent to every worker, so never with the listing
    with pytest.raises(DataError, match="cannot be read"):
        store.read("a/none.jpg")
    with pytest.raises(DataError, match=r"none\.jpg: cannot be read"):
        store.open("a/none.jpg")
    assert store.digest("a/none.jpg") is None and store.size("a/none.jpg") is None


def test_hidden_files_and_what_macos_adds_are_left_out(tmp_path: Path) -> None:
    files = {"p/a/1.jpg": b"1", "p/.DS_Store": b"", "p/.git/x": b"", "__MACOSX/p/a/._1.jpg": b""}
    store = open_store(make_zip(tmp_path / "d.zip", files))
    assert store.names() == ("a/1.jpg",) and store.folders() == ("a",)
    folder = open_store(make_folder(tmp_path / "d", files).joinpath("p"))
    assert folder.names() == ("a/1.jpg",) and folder.folders() == ("a",)
    assert folder.top_folders() == ("a",)
    whole = open_store(tmp_path / "d")
    assert whole.names() == ("p/a/1.jpg",) and whole.top_folders() == ("p",)


def test_names_are_sorted_by_code_point_and_empty_folders_are_there(tmp_path: Path) -> None:
    files = {"b/1": b"", "B/1": b"", "Ä/1": b"", "a/10": b"", "a/9": b"", "キノコ/1": b""}
    folder = make_folder(tmp_path / "d", files)
    (folder / "empty").mkdir()
    assert open_store(folder).names() == tuple(sorted(files))
    assert open_store(folder).folders() == ("B", "a", "b", "empty", "Ä", "キノコ")
    path = make_zip(tmp_path / "d.zip", files)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("empty/", b"")
    assert open_store(path).names() == tuple(sorted(files))
    assert open_store(path).folders() == ("B", "a", "b", "empty", "Ä", "キノコ")


def test_what_is_neither_folder_nor_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 no directory")
    (tmp_path / "a.jpg").write_bytes(b"x")
    for name, message in (
        ("none", "there is no such folder or zip"),
        ("broken.zip", "broken or incomplete zip"),
        ("a.jpg", "wanted a folder or a zip, found another file"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            open_store(tmp_path / name)
        assert caught.value.exit_code == 4


def test_a_zip_is_known_by_its_content(tmp_path: Path) -> None:
    assert open_store(make_zip(tmp_path / "photos.dat")).read("a/1.jpg") == b"one"


def test_links_are_followed_once_and_circles_end(tmp_path: Path) -> None:
    outside = make_folder(tmp_path / "outside", {"x/1.jpg": b"far", "x/2.jpg": b"2"})
    root = make_folder(tmp_path / "d")
    (root / "a" / "link.jpg").symlink_to(outside / "x" / "1.jpg")
    (root / "a" / "dead.jpg").symlink_to("nowhere.jpg")
    (root / "a" / "up").symlink_to("..")  # the root itself
    (root / "all").symlink_to("/")  # a folder that the root lies in
    (root / "0").symlink_to("b")  # before b by name: b itself must win
    (root / "far").symlink_to(outside)
    (outside / "x" / "back").symlink_to(root)
    (outside / "x" / "self").symlink_to(outside)
    (root / "round").symlink_to("round")
    store = FolderStore(root)
    assert store.names() == (
        "0", "a/1.jpg", "a/2.jpg", "a/dead.jpg", "a/link.jpg", "a/up", "all", "b/deep/3.png",
        "far/x/1.jpg", "far/x/2.jpg", "far/x/back", "far/x/self", "round", "top.txt",
    )  # fmt: skip
    assert store.folders() == ("a", "b", "b/deep", "far", "far/x")
    circle = "a link to a folder that is read elsewhere; remove it"
    nothing = "a link to nothing; remove it or put the file back"
    assert store.problems() == {
        "0": circle, "a/up": circle, "all": circle, "far/x/back": circle, "far/x/self": circle,
        "a/dead.jpg": nothing, "round": nothing,
    }  # fmt: skip
    assert store.read("a/link.jpg") == b"far" and store.read("far/x/1.jpg") == b"far"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs on this system")
def test_fifos_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d")
    os.mkfifo(root / "a" / "pipe.jpg")
    (root / "a" / "null.jpg").symlink_to("/dev/null")
    (root / "a" / "tube.jpg").symlink_to("pipe.jpg")
    store = FolderStore(root)
    assert store.problems() == {
        "a/pipe.jpg": "no regular file; take it out",
        "a/null.jpg": "a link to no regular file; remove it",
        "a/tube.jpg": "a link to no regular file; remove it",
    }
    for name in store.problems():
        with pytest.raises(DataError, match="no regular file"):
            store.read(name)
        assert store.digest(name) is None


def test_a_name_that_leads_out_is_not_read(tmp_path: Path) -> None:
    make_folder(tmp_path, {"secret": b"s"})
    store = FolderStore(make_folder(tmp_path / "d"))
    for name in ("../secret", "a/../../secret", str(tmp_path / "secret")):
        with pytest.raises(DataError, match="leads out"):
            store.read(name)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_odd_names_are_listed_escaped_with_a_problem(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d", {"a/1.jpg": b"", "a/x\\n.jpg": b"plain", "a/x\n.jpg": b""})
    (Path(os.fsdecode(os.fsencode(root) + b"/a/\xff.jpg"))).write_bytes(b"")
    (Path(os.fsdecode(os.fsencode(root) + b"/\xfe"))).mkdir()
    store = FolderStore(root)
    assert store.names() == ("a/1.jpg", r"a/\udcff.jpg", r"a/x\n.jpg", r"a/x\n.jpg'")
    assert store.folders() == (r"\udcfe", "a")
    assert set(store.problems()) == {r"a/\udcff.jpg", r"a/x\n.jpg'", r"\udcfe"}
    assert set(store.problems().values()) == {listing.ODD_NAME}
    assert store.read(r"a/x\n.jpg") == b"plain"
    "".join(store.names() + store.folders()).encode()  # all are text now


@given(st.text(st.characters(exclude_characters="/"), max_size=8))
def test_an_escaped_name_is_plain_and_a_plain_one_is_left(name: str) -> None:
    assert is_plain(escaped(name))
    assert escaped(name) == name or not is_plain(name)
    escaped(name).encode()


def test_a_folder_that_may_not_be_read_is_a_problem_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, scandir = make_folder(tmp_path / "d"), os.scandir

    def refuse(path: Path) -> object:
        if path.name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    store = FolderStore(root)
    assert store.problems() == {"b": "cannot be read (Permission denied)"}
    assert store.folders() == ("a", "b") and "a/1.jpg" in store.names()
    with pytest.raises(DataError, match=r"b: cannot be read \(Permission denied\)"):
        FolderStore(root / "b").names()


def test_a_file_larger_than_a_picture_is_refused_before_it_is_read(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "d")
    with (root / "a" / "huge.jpg").open("wb") as file:
        file.truncate(10 << 30)  # 10 GB of zeros that take no room
    store, start = FolderStore(root), time.monotonic()
    with pytest.raises(DataError, match="too large for a picture"):
        store.read("a/huge.jpg")
    assert store.digest("a/huge.jpg") is None
    assert time.monotonic() - start < 1


def test_a_zip_is_read_in_threads_and_in_other_processes(tmp_path: Path) -> None:
    files = {f"c/{i}.bin": os.urandom(3000) + bytes(3000) for i in range(200)}
    store = open_store(make_zip(tmp_path / "d.zip", files))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda name: store.read(name.removeprefix("c/")), files))
    assert read == list(files.values())
    code = (
        "import pickle, sys; store = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(store.read('7.bin'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(store), capture_output=True, check=True
    )
    assert done.stdout == files["c/7.bin"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_a_handle_of_its_own(tmp_path: Path) -> None:
    files = {"a/1.jpg": b"one", "b/2.jpg": os.urandom(1 << 18)}  # more than a buffer holds
    store = open_store(make_zip(tmp_path / "d.zip", files))
    before = zip_store._open_zip.cache_info().currsize
    handle = store._archive().zip.fp.fileno()  # type: ignore[attr-defined]
    place = os.lseek(handle, 0, os.SEEK_CUR)
    child = os.fork()
    if child == 0:
        ok = store.read("a/1.jpg") == b"one"
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert os.lseek(handle, 0, os.SEEK_CUR) == place  # the child did not move the parent's
    assert zip_store._open_zip.cache_info().currsize == before


def test_names_without_the_utf8_flag_are_read_as_macos_writes_them(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "d.zip", {"a/é.jpg": b"1", "b/2.jpg": b"2"})
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(signature)
        (flags,) = struct.unpack_from("<H", data, at + place)
        assert flags & 0x800
        struct.pack_into("<H", data, at + place, flags & ~0x800)
    path.write_bytes(data)
    store = open_store(path)
    assert store.names() == ("a/é.jpg", "b/2.jpg") and store.read("a/é.jpg") == b"1"


def member(name: str, data: bytes = b"x", **fields: object) -> Callable[[zipfile.ZipFile], None]:
    """Adds a member whose header then says `fields`."""

    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo(name)
        info.filename = name  # ZipInfo cuts names at a NUL
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, data)
        for field, value in fields.items():
            setattr(info, field, value)

    return add


def overlap(archive: zipfile.ZipFile) -> None:
    member("a/2.jpg", b"y" * 99)(archive)
    archive.infolist()[-1].header_offset = archive.infolist()[0].header_offset


HOSTILE: dict[str, tuple[Callable[[zipfile.ZipFile], None], str]] = {
    "climbs": (member("../out.jpg"), "the name leads out"),
    "climbs inside": (member("a/../../out.jpg"), "the name leads out"),
    "climbs by backslash": (member("a\\..\\..\\out.jpg"), "the name leads out"),
    "absolute": (member("/tmp/out.jpg"), "the name leads out"),
    "absolute by backslash": (member("\\\\host\\out.jpg"), "the name leads out"),
    "drive": (member("C:\\out.jpg"), "the name leads out"),
    "drive, relative": (member("c:out.jpg"), "the name leads out"),
    "link": (
        member("a/link.jpg", b"/etc/passwd", external_attr=(stat.S_IFLNK | 0o777) << 16),
        "a link or no regular file",
    ),
    "device": (member("a/x", external_attr=(stat.S_IFBLK | 0o777) << 16), "no regular file"),
    "encrypted": (member("a/x.jpg", flag_bits=0x1), "encrypted; zip it again without a password"),
    "packed oddly": (member("a/x.jpg", compress_type=9), "packed in a way"),
    "twice": (member("a/1.jpg"), "'a/1.jpg' is in the zip twice"),
    "twice by spelling": (member("./a//1.jpg"), "'a/1.jpg' is in the zip twice"),
    "file and folder": (member("a/1.jpg/x"), "both a file and a folder"),
    "a picture of 10 GB": (member("a/x.jpg", file_size=10 << 30), "x.jpg: a bomb: it claims"),
    "a table of 10 GB": (member("a/x.csv", file_size=10 << 30), "a bomb"),
    "overlapping": (overlap, "overlap in the zip"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip_is_refused_as_a_whole(tmp_path: Path, case: str) -> None:
    add, message = HOSTILE[case]
    inside = tmp_path / "in"
    inside.mkdir()
    path = inside / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member("a/1.jpg", b"one")(archive)
        add(archive)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(DataError, match=message) as caught:
        open_store(path)
    assert caught.value.exit_code == 4 and "\n" not in str(caught.value)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_many_small_members_make_a_bomb_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_zip(tmp_path / "d.zip", {f"a/{i}.bmp": bytes(1 << 20) for i in range(8)})
    assert open_store(path).read("0.bmp") == bytes(1 << 20)  # 1000 times, yet not large
    zip_store._open_zip.cache_clear()
    monkeypatch.setattr(zip_store, "BOMB_BYTES", 1 << 22)
    with pytest.raises(DataError, match="a bomb"):
        open_store(path)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """What is read as a picture, in bytes."""
    for module in (listing, zip_store, store_module):
        monkeypatch.setattr(module, "MAX_BYTES", 1000)
    return 1000


def test_a_member_that_is_too_large_is_a_problem_of_its_own(
    tmp_path: Path, small_limit: int
) -> None:
    noise = os.urandom(small_limit + 1)
    files = {"a/1.jpg": b"one", "b/clip.mp4": noise, "train.csv": noise, "b/2.jpg": noise[:-1]}
    for path in (make_folder(tmp_path / "d", files), make_zip(tmp_path / "d.zip", files)):
        found = open_store(path)
        assert found.names() == ("a/1.jpg", "b/2.jpg", "b/clip.mp4", "train.csv")
        assert found.read("a/1.jpg") == b"one" and found.read("b/2.jpg") == noise[:-1]
        with pytest.raises(DataError, match="too large for a picture: 1001 bytes, at most 1000"):
            found.read("b/clip.mp4")
        assert found.digest("b/clip.mp4") is None
        assert found.digest("train.csv") == sha256(noise).hexdigest()


def test_one_member_of_zeros_among_many_photos_is_a_bomb(tmp_path: Path, small_limit: int) -> None:
    files = {"a/1.jpg": os.urandom(1 << 20), "b/2.jpg": bytes(1 << 20)}
    with pytest.raises(DataError, match="b/2.jpg: a bomb: it claims 1048576 bytes, more than 100"):
        open_store(make_zip(tmp_path / "d.zip", files))


@pytest.mark.parametrize("harm", ["bytes", "size", "name"])
def test_a_broken_member_is_a_problem_of_its_own(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member("a/1.jpg", b"one")(archive)
        member("a/2.jpg", bytes(1000), **({"file_size": 10} if harm == "size" else {}))(archive)
        member("b/3.jpg", b"three")(archive)
    data = bytearray(path.read_bytes())
    at = data.find(b"a/2.jpg")
    if harm == "bytes":
        data[at + 8 : at + 12] = b"\xff\xff\xff\xff"
    elif harm == "name":
        data[at : at + 7] = b"x/2.jpg"
    path.write_bytes(data)
    store = open_store(path)
    with pytest.raises(DataError, match="cannot be read") as caught:
        store.read("a/2.jpg")
    assert "a/2.jpg: " not in str(caught.value)
    assert store.digest("a/2.jpg") is None
    assert store.read("a/1.jpg") == b"one" and store.read("b/3.jpg") == b"three"


def test_a_zip_that_changes_meanwhile_is_not_read_on(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "d.zip")
    store = ZipStore(path)
    zip_store._open_zip.cache_clear()
    make_zip(path, {"other/1.jpg": b"1", "b/2": b"2"})
    with pytest.raises(DataError, match="changed while it was read"):
        store.names()


def sound_zip() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return data.getvalue()


SOUND = sound_zip()


@given(
    harm=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 40),
)
def test_no_damage_to_a_zip_raises_anything_but_dataerror(
    tmp_path_factory: pytest.TempPathFactory, harm: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(SOUND)
    for at, value in harm:
        data[at] = value
    path = tmp_path_factory.mktemp("zip") / "d.zip"
    path.write_bytes(data[: len(data) - (cut if cut > 20 else 0)])
    try:
        store = open_store(path)
        for name in store.names():
            assert not leads_out(name) or store.problems()[name] == listing.ODD_NAME
            store.digest(name)
            try:
                store.read(name)
            except DataError:
                pass
    except DataError:
        pass
