"""Records: whole or absent, equal bytes for equal content, errors that name the file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobileclf import records
from mobileclf.errors import DataError, EnvironmentProblem


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    value = {"b": 1, "a": [1.5, None, "ä", True]}
    records.write_json(tmp_path / "deep" / "r.json", value)
    assert records.read_json(tmp_path / "deep" / "r.json") == value
    assert list((tmp_path / "deep").iterdir()) == [tmp_path / "deep" / "r.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    records.write_json(path, {"old": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match=r"r\.json: No space left"):
        records.write_json(path, {"new": 1})
    assert records.read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_number_that_is_none_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        records.write_json(tmp_path / "r.json", {"x": float("nan")})
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=r"r\.json"):
        records.read_json(tmp_path / "r.json")


def test_an_absent_record_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run the stage"):
        records.read_json(tmp_path / "r.json")


def test_hashes_are_sha256_and_do_not_depend_on_key_order(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "f").write_bytes(data)
    assert records.sha256_file(tmp_path / "f") == hashlib.sha256(data).hexdigest()
    with (tmp_path / "f").open("rb") as file:
        assert records._digest(file) == hashlib.sha256(data).hexdigest()
    assert records.sha256_json({"a": 1, "b": 2}) == records.sha256_json({"b": 2, "a": 1})
    assert records.sha256_json({"a": 1}) != records.sha256_json({"a": 2})


def test_csv_comes_back_with_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    rows = [{"a": 'x, "y"', "b": "line\nend"}, {"a": "ü", "b": ""}]
    records.write_csv(tmp_path / "r.csv", ("a", "b"), rows)
    assert records.read_csv(tmp_path / "r.csv") == rows
    assert b"\r" not in (tmp_path / "r.csv").read_bytes()
    with pytest.raises(DataError, match="absent.csv"):
        records.read_csv(tmp_path / "absent.csv")


@pytest.mark.skipif(os.name == "nt", reason="permissions and links of POSIX")
def test_a_link_is_followed_and_permissions_are_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "real.csv", tmp_path / "link.csv"
    target.write_text("old")
    target.chmod(0o600)
    link.symlink_to(target)
    records.write_bytes(link, b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600
    records.write_bytes(tmp_path / "fresh.csv", b"x")
    assert (tmp_path / "fresh.csv").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        records.write_bytes(pipe, b"rows")
        assert os.read(reader, 10) == b"rows" and pipe.is_fifo()
    finally:
        os.close(reader)


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
def test_the_standard_output_may_be_named() -> None:
    code = (
        "from pathlib import Path; from mobileclf.records import write_bytes; "
        "write_bytes(Path('/dev/stdout'), b'rows')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (done.stdout, done.returncode) == (b"rows", 0)
