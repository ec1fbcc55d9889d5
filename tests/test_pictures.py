"""Pictures: read from a cache or decoded when asked for, always the same pixels."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileclf.errors import DataError
from mobileclf.images.load import ImageSpec, load
from mobileclf.photos import pictures_of
from mobileclf.records import write_csv, write_json
from mobileclf.scores import read_part
from mobileclf.settings import Settings
from mobileclf.source.store import open_store
from mobileclf.training import pictures as module
from mobileclf.training.pictures import Pictures, decoded, fill, kept_in, reader
from mobileclf.training.rows import Rows

SPEC = ImageSpec(width=10, height=8)


def pictures_in(folder: Path, count: int = 7, spec: ImageSpec = SPEC) -> Pictures:
    """Drawn pictures of different sizes; the same for the same number."""
    folder.mkdir(exist_ok=True)
    names = [f"{i}.png" for i in range(count)]
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 256, (9 + i, 13, 3), dtype=np.uint8)
        if not (folder / name).exists():
            Image.fromarray(pixels).save(folder / name)
    return described(folder, names, spec)


def described(folder: Path, names: Sequence[str], spec: ImageSpec = SPEC) -> Pictures:
    return Pictures(
        store=open_store(folder),
        paths=tuple(names),
        digests=tuple(hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names),
        spec=spec,
    )


def straight(pictures: Pictures) -> np.ndarray:
    root = pictures.store.root
    return np.stack([load(root / name, pictures.spec) for name in pictures.paths])


def filled(folder: Path, pictures: Pictures) -> Rows:
    """The decoded pictures, kept in `folder`."""
    kept = kept_in(folder, pictures.spec)
    fill(kept, pictures, "load")
    return kept


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were decoded."""
    names: list[str] = []
    right = module.load_one

    def noted(store, spec, name):
        names.append(name)
        return right(store, spec, name)

    monkeypatch.setattr(module, "load_one", noted)
    return names


def test_decoded_is_in_the_order_asked_for(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos")
    wanted = straight(pictures)
    rows = [5, 0, 0, 3]
    np.testing.assert_array_equal(np.stack(list(decoded(pictures, rows, "load"))), wanted[rows])


@pytest.mark.parametrize("cached", [True, False])
def test_a_reader_gives_any_rows_in_any_order(tmp_path: Path, cached: bool) -> None:
    pictures = pictures_in(tmp_path / "photos")
    read = reader(pictures, filled(tmp_path, pictures) if cached else None)
    wanted = straight(pictures)
    for rows in ([0, 1, 2, 3, 4, 5, 6], [6, 6, 2], [3], []):
        got = read(np.array(rows, np.int64))
        assert got.dtype == np.uint8 and got.shape == (len(rows), 8, 10, 3)
        np.testing.assert_array_equal(got, wanted[rows])


@pytest.mark.parametrize("cached", [True, False])
def test_many_threads_may_read(tmp_path: Path, cached: bool) -> None:
    pictures = pictures_in(tmp_path / "photos")
    read = reader(pictures, filled(tmp_path, pictures) if cached else None)
    wanted = straight(pictures)
    wrong: list[int] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(20):
            rows = rng.integers(0, 7, 5)
            if not np.array_equal(read(rows), wanted[rows]):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_cache_is_filled_once_and_with_what_it_lacks(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "decoded"
    monkeypatch.setattr(module, "WRITTEN", 500)  # two pictures at once
    filled(cache, pictures_in(tmp_path / "photos", 5)).close()
    assert sorted(counted) == [f"{i}.png" for i in range(5)]
    pictures = pictures_in(tmp_path / "photos", 7)
    read = reader(pictures, filled(cache, pictures))
    assert sorted(counted[5:]) == ["5.png", "6.png"]
    np.testing.assert_array_equal(read(np.arange(7)), straight(pictures))
    # A killed write at the end: what is whole is kept.
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    counted.clear()
    read = reader(pictures, filled(cache, pictures))
    assert counted == ["6.png"]
    np.testing.assert_array_equal(read(np.arange(7)), straight(pictures))


def test_another_picture_or_preprocessing_is_decoded_anew(
    tmp_path: Path, counted: list[str]
) -> None:
    cache, folder = tmp_path / "decoded", tmp_path / "photos"
    filled(cache, pictures_in(folder, 3))
    counted.clear()
    Image.new("RGB", (20, 20), (1, 2, 3)).save(folder / "1.png")
    pictures = described(folder, ["0.png", "1.png", "2.png"])
    read = reader(pictures, filled(cache, pictures))
    assert counted == ["1.png"]
    np.testing.assert_array_equal(read(np.arange(3)), straight(pictures))
    counted.clear()
    other = replace(pictures, spec=replace(SPEC, max_pixels=1000))
    filled(cache, other)
    assert sorted(counted) == ["0.png", "1.png", "2.png"]
    grey = replace(pictures, spec=replace(SPEC, channels=1))
    read = reader(grey, filled(cache, grey))
    np.testing.assert_array_equal(read(np.arange(3)), straight(grey))


def test_what_another_spec_or_part_left_is_there_when_it_comes_back(
    tmp_path: Path, counted: list[str]
) -> None:
    cache = tmp_path / "decoded"
    pictures = pictures_in(tmp_path / "photos", 4)
    filled(cache, pictures).close()
    filled(cache, replace(pictures, spec=replace(SPEC, width=11))).close()
    assert len(list(cache.iterdir())) == 2
    counted.clear()
    filled(cache, described(tmp_path / "photos", ["3.png", "1.png"]))
    assert counted == []


def test_another_decoder_decodes_anew(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = pictures_in(tmp_path / "photos", 2)
    filled(tmp_path / "decoded", pictures)
    keys = pictures.keys("view")
    right = module.version_of
    monkeypatch.setattr(
        module, "version_of", lambda name: "0.1" if name == "pillow" else right(name)
    )
    filled(tmp_path / "decoded", pictures)
    assert len(counted) == 4
    assert not {*keys} & {*pictures.keys("view")}


def test_a_reader_is_there_before_anything_is_decoded(tmp_path: Path, counted: list[str]) -> None:
    pictures = pictures_in(tmp_path / "photos")
    kept = kept_in(tmp_path / "decoded", SPEC)
    other = kept_in(tmp_path / "decoded", SPEC, write=False)  # as another process has it
    read, read_other = reader(pictures, kept), reader(pictures, other)
    assert counted == []
    wanted, rows = straight(pictures), np.array([5, 1, 2])
    np.testing.assert_array_equal(read(rows), wanted[rows])
    fill(kept, described(tmp_path / "photos", ["1.png", "2.png"]), "load")
    counted.clear()
    np.testing.assert_array_equal(read(rows), wanted[rows])
    assert counted == ["5.png"]
    fill(kept, pictures, "load")
    other.refresh()
    counted.clear()
    np.testing.assert_array_equal(read(rows), wanted[rows])
    np.testing.assert_array_equal(read_other(rows), wanted[rows])
    assert counted == []


def test_a_picture_that_is_there_twice_is_decoded_once(tmp_path: Path, counted: list[str]) -> None:
    folder = tmp_path / "photos"
    pictures_in(folder, 2)
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    pictures = described(folder, ["0.png", "copy.png", "1.png"])
    read = reader(pictures, filled(tmp_path, pictures))
    assert len(counted) == 2
    np.testing.assert_array_equal(read(np.arange(3)), straight(pictures))


@pytest.mark.parametrize("cached", [True, False])
def test_a_broken_picture_is_named(tmp_path: Path, cached: bool) -> None:
    folder = tmp_path / "photos"
    pictures = pictures_in(folder)
    (folder / "4.png").write_bytes(b"\x89PNG no picture")
    with pytest.raises(DataError, match=r"4\.png: "):
        reader(pictures, filled(tmp_path, pictures) if cached else None)(np.arange(7))


def test_content_is_the_first_eight_bytes_of_the_digest(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos", 3)
    assert pictures.content.dtype == np.uint64
    first = hashlib.sha256((tmp_path / "photos" / "1.png").read_bytes()).digest()[:8]
    assert int(pictures.content[1]) == int.from_bytes(first, "big")


def test_keys_differ_by_content_preprocessing_and_use(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos", 3)
    other = replace(pictures, spec=replace(SPEC, width=11))
    keys = [*pictures.keys(), *pictures.keys("a"), *other.keys(), *other.keys("a")]
    assert len(set(keys)) == 12 and {len(key) for key in keys} == {16}
    assert replace(pictures, paths=("x", "y", "z")).keys() == pictures.keys()


def test_a_part_of_a_run_has_the_digests_of_its_photos(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos", 4)
    run = tmp_path / "run"
    write_json(run / "dataset.json", {"labels": [{"label": "a", "group": None}], "kept": None})
    columns = ["path", "label", "group", "split", "sha256", "problem"]
    write_csv(run / "dataset.csv", columns, [
        {"path": path, "label": "a", "split": "train" if i != 1 else "test", "sha256": digest}
        for i, (path, digest) in enumerate(zip(pictures.paths, pictures.digests, strict=True))
    ])  # fmt: skip
    part = read_part(run, "train")
    assert part.digests == tuple(pictures.digests[i] for i in (0, 2, 3))
    some = part[np.array([2, 0])]
    assert some.paths == ("3.png", "0.png")
    found = pictures_of(run, Settings(data=tmp_path / "photos"), some, SPEC)
    assert found.digests == (pictures.digests[3], pictures.digests[0])
    np.testing.assert_array_equal(reader(found)(np.arange(2)), straight(pictures)[[3, 0]])
