"""Rows: what was whole is given back, whatever was cut short or damaged, in little memory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mobileclf.errors import EnvironmentProblem
from mobileclf.training.rows import HEADER, Rows

SHAPE = (2, 3)
RECORD = 24 + 6 * 2


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The disk is not waited for, which takes most of a test's time; what was to be written."""
    asked: list[int] = []
    monkeypatch.setattr(os, "fsync", asked.append)
    return asked


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def values(*numbers: int) -> np.ndarray:
    return np.stack([np.full(SHAPE, n, np.float16) + np.arange(3) for n in numbers])


def written(path: Path, count: int) -> bytes:
    with Rows(path, SHAPE, np.float16) as rows:
        for start in range(0, count, 2):
            numbers = range(start, min(start + 2, count))
            rows.append([key(n) for n in numbers], values(*numbers))
    return path.read_bytes()


def found(path: Path, *, write: bool = True) -> list[int]:
    """The numbers whose rows are there, each with the right values."""
    with Rows(path, SHAPE, np.float16, write=write) as rows:
        numbers = [n for n in range(20) if key(n) in rows]
        assert len(rows) == len(numbers)
        if numbers:
            np.testing.assert_array_equal(rows.read([key(n) for n in numbers]), values(*numbers))
    return numbers


def test_rows_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.rows"
    with Rows(path, SHAPE, np.float16) as rows:
        rows.append([key(1), key(2)], values(1, 2))
        rows.append([key(3)], values(3))
        got = rows.read([key(3), key(1), key(3)])
        assert rows.missing([key(9), key(2), key(7), key(9)]) == [key(9), key(7)]
        with pytest.raises(KeyError):
            rows.read([key(9)])
    np.testing.assert_array_equal(got, values(3, 1, 3))
    assert got.dtype == np.float16
    assert found(path) == [1, 2, 3]


def test_the_disk_is_waited_for_once_and_only_after_writing(
    tmp_path: Path, synced: list[int]
) -> None:
    written(tmp_path / "a.rows", 6)
    assert len(synced) == 1
    assert found(tmp_path / "a.rows") == [0, 1, 2, 3, 4, 5]
    assert len(synced) == 1


def test_a_later_value_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "a.rows"
    for number in (5, 6):
        with Rows(path, SHAPE, np.float16) as rows:
            rows.append([key(1)], values(number))
            np.testing.assert_array_equal(rows.read([key(1)]), values(number))
    with Rows(path, SHAPE, np.float16) as rows:
        np.testing.assert_array_equal(rows.read([key(1)]), values(6))


@pytest.mark.parametrize("write", [True, False])
def test_a_file_cut_anywhere_gives_back_every_whole_row(tmp_path: Path, write: bool) -> None:
    path = tmp_path / "a.rows"
    whole = written(path, 5)
    assert len(whole) == HEADER + 5 * RECORD
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        wanted = max(0, (size - HEADER) // RECORD)
        assert found(path, write=write) == list(range(wanted))
        kept = path.stat().st_size
        assert kept == (HEADER + wanted * RECORD if write else size)


def test_after_a_cut_it_is_written_on(tmp_path: Path) -> None:
    path = tmp_path / "a.rows"
    path.write_bytes(written(path, 3)[:-7])
    with Rows(path, SHAPE, np.float16) as rows:
        rows.append([key(8)], values(8))
    assert found(path) == [0, 1, 8]


def test_a_flipped_byte_loses_that_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.rows"
    whole = written(path, 4)
    for at in range(HEADER, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        hurt, place = divmod(at - HEADER, RECORD)
        lost = [] if 20 <= place < 24 else [hurt]  # four bytes of a record say nothing
        assert found(path) == [n for n in range(4) if n not in lost]


@pytest.mark.parametrize("shape, dtype", [((3, 2), "f2"), ((2, 3), "u2"), ((2, 3, 1), "f2")])
def test_another_shape_or_type_starts_anew(
    tmp_path: Path, shape: tuple[int, ...], dtype: str
) -> None:
    path = tmp_path / "a.rows"
    written(path, 4)
    with Rows(path, shape, dtype, write=False) as rows:
        assert len(rows) == 0
    assert found(path) == [0, 1, 2, 3]  # reading alone changed nothing
    with Rows(path, shape, dtype) as rows:
        assert len(rows) == 0
    assert path.stat().st_size == HEADER


def test_what_another_process_adds_is_there_after_refreshing(tmp_path: Path) -> None:
    path = tmp_path / "a.rows"
    with Rows(path, SHAPE, np.float16, write=False) as reading:
        with Rows(path, SHAPE, np.float16) as rows:
            for number in (1, 2):
                rows.append([key(number)], values(number))
                assert len(reading) == number - 1
                reading.refresh()
                np.testing.assert_array_equal(reading.read([key(number)]), values(number))


def test_a_second_writer_is_found_out_where_it_wrote_over(tmp_path: Path) -> None:
    path = tmp_path / "a.rows"
    with Rows(path, SHAPE, np.float16) as one, Rows(path, SHAPE, np.float16) as other:
        one.append([key(1), key(2)], values(1, 2))
        other.append([key(3)], values(3))
        np.testing.assert_array_equal(one.read([key(2)]), values(2))
        with pytest.raises(EnvironmentProblem, match="read .*a.rows: it was changed from outside"):
            one.read([key(2), key(1)])


@pytest.mark.parametrize("at", [0, 16, 24, RECORD - 1])
def test_a_row_that_is_damaged_in_use_is_one_line(tmp_path: Path, at: int) -> None:
    path = tmp_path / "a.rows"
    damaged = bytearray(written(path, 2))
    with Rows(path, SHAPE, np.float16) as rows:
        damaged[HEADER + RECORD + at] ^= 1
        path.write_bytes(damaged)
        np.testing.assert_array_equal(rows.read([key(0)]), values(0))
        with pytest.raises(EnvironmentProblem, match="changed from outside"):
            rows.read([key(1)])


def test_reading_what_is_not_there_is_empty_and_makes_nothing(tmp_path: Path) -> None:
    with Rows(tmp_path / "b.rows", SHAPE, np.float16, write=False) as rows:
        assert rows.missing([key(1)]) == [key(1)]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", [0, 1, 50])
def test_a_full_disk_is_one_line_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    path = tmp_path / "a.rows"
    written(path, 2)
    write = os.write
    left = [part]

    def full(handle: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        size = min(left[0], len(data))
        left[0] -= size
        return write(handle, data[:size])

    with Rows(path, SHAPE, np.float16) as rows:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(EnvironmentProblem) as problem:
            rows.append([key(5), key(6)], values(5, 6))
        monkeypatch.undo()
        text = str(problem.value)
        assert text.startswith(f"cannot write {path}: No space left on device; ")
        assert "\n" not in text
        assert path.stat().st_size == HEADER + 2 * RECORD
        rows.append([key(7)], values(7))
    assert found(path) == [0, 1, 7]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="cannot write .*a.rows: "):
        Rows(tmp_path / "file" / "a.rows", SHAPE, np.float16)


def test_without_reading_by_place_it_is_the_same_for_many_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seek = os.lseek

    def slow(*given: int) -> int:
        at = seek(*given)
        time.sleep(0)  # another thread's turn, between seeking and reading
        return at

    monkeypatch.delattr(os, "pread")
    monkeypatch.setattr(os, "lseek", slow)
    written(tmp_path / "a.rows", 3)
    with Rows(tmp_path / "a.rows", SHAPE, np.float16) as rows:

        def read(number: int) -> bool:
            return np.array_equal(rows.read([key(number)]), values(number))

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, [0, 1, 2] * 100))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="wants Linux's /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """100 MB of rows are opened and read through; what stays and what was needed is a tenth."""
    path = tmp_path / "a.rows"
    with Rows(path, (1 << 18,), np.uint8) as rows:
        for n in range(400):
            rows.append([key(n)], np.full((1, 1 << 18), n % 251, np.uint8))
    code = f"""
from pathlib import Path
from mobileclf.training.rows import Rows
import re
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
rows = Rows(Path({str(path)!r}), (1 << 18,), "u1")
for n in range(400):
    assert rows.read([n.to_bytes(16, "big")])[0, 7] == n % 251
print(peak() - before)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20_000
