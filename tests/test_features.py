"""Features: computed once for each picture and view, in whatever pieces, and kept."""

from __future__ import annotations

import contextlib
import pickle
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobileclf.errors import DataError, EnvironmentProblem
from mobileclf.images.augment import augmented_batch
from mobileclf.spelling import augmentations_of
from mobileclf.training import features as module
from mobileclf.training.features import Features, features, lacking
from mobileclf.training.pictures import Pictures, reader
from tests.test_pictures import described, filled, pictures_in, straight

FLIP = augmentations_of("flip,brightness=0.2")


class Network:
    """Mean and first value of each channel; notes how many pictures it got each time."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.fail_at = fail_at

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.float32
        if len(self.shapes) == self.fail_at:
            raise KeyboardInterrupt
        self.shapes.append(pixels.shape)
        return np.stack([pixels.mean(axis=(1, 2)), pixels[:, 0, 0]], axis=1)


def wanted_of(pictures: Pictures, views: int = 1, augmentations: Any = (), seed: int = 0) -> Any:
    """float32 (views * n, 2, 3), straight."""
    photos, network = straight(pictures), Network()
    shown = [
        augmented_batch(photos, augmentations, seed=seed, content=pictures.content, round=view)
        for view in range(views)
    ]
    values = network(np.concatenate(shown).astype(np.float32))
    return values.astype(np.float16).astype(np.float32)


def of(pictures: Pictures, folder: Path, network: Any, **other: Any) -> Features:
    given = {"key": "net", "shape": (2, 3), "batch": 4, "title": "features", **other}
    return features(network, pictures, folder=folder, **given)


def everything(found: Features) -> np.ndarray:
    got = found.read(np.arange(len(found)))
    assert got.dtype == np.float32
    return got


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("views, augmentations", [(1, ()), (1, FLIP), (3, FLIP)])
def test_rows_are_view_by_view_and_the_same_as_straight(
    tmp_path: Path, cached: bool, views: int, augmentations: Any
) -> None:
    pictures = pictures_in(tmp_path / "photos")
    read = reader(pictures, filled(tmp_path, pictures)) if cached else None
    network = Network()
    found = of(pictures, tmp_path, network, views=views, augmentations=augmentations, read=read)
    wanted = wanted_of(pictures, views, augmentations)
    assert len(found) == 7 * views
    np.testing.assert_array_equal(everything(found), wanted)
    rows = np.array([6, 0, 6])
    np.testing.assert_array_equal(found.read(rows), wanted[rows])
    assert set(network.shapes) == {(4, 8, 10, 3)}
    assert len(network.shapes) == -(-7 * views // 4)


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos")
    of(pictures, tmp_path, Network(), views=2, augmentations=FLIP)
    again = Network()
    found = of(pictures, tmp_path, again, views=2, augmentations=FLIP)
    assert again.shapes == []
    np.testing.assert_array_equal(everything(found), wanted_of(pictures, 2, FLIP))
    more = Network()
    of(pictures_in(tmp_path / "photos", 9), tmp_path, more, views=3, augmentations=FLIP)
    assert sum(shape[0] for shape in more.shapes) == 16  # 2 * 2 + 9 new, in batches of 4


def test_how_many_are_lacking_is_known_before(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos")
    named: Any = {"folder": tmp_path / "f", "key": "net", "shape": (2, 3), "augmentations": FLIP}
    assert lacking(pictures, **named, views=2) == 14
    assert not (tmp_path / "f").exists()
    for index in range(2):  # as two processes leave them
        with contextlib.suppress(EnvironmentProblem):
            of(pictures, tmp_path / "f", Network(), views=2, augmentations=FLIP, share=(index, 2))
        assert lacking(pictures, **named, views=2) == (6, 0)[index]
    assert lacking(pictures, **named, views=3) == 7
    assert lacking(pictures, **named, seed=1) == 7


@pytest.mark.parametrize(
    "other",
    [
        {"key": "other"},
        {"seed": 1},
        {"augmentations": augmentations_of("flip,brightness=0.3")},
        {"augmentations": ()},
        {"shape": (2, 3, 1)},
    ],
)
def test_another_network_seed_or_augmentation_is_computed(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    pictures = pictures_in(tmp_path / "photos")
    of(pictures, tmp_path, Network(), augmentations=FLIP)
    network = Network()

    def shaped(pixels: np.ndarray) -> np.ndarray:
        return network(pixels).reshape(-1, *other.get("shape", (2, 3)))

    of(pictures, tmp_path, shaped, **{"augmentations": FLIP, **other})
    assert len(network.shapes) == 2


def test_a_new_picture_under_an_old_name_is_computed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    pictures = pictures_in(folder)
    of(pictures, tmp_path, Network())
    Image.new("RGB", (20, 20), (1, 2, 3)).save(folder / "3.png")
    changed = described(folder, pictures.paths)
    network = Network()
    found = of(changed, tmp_path, network)
    assert len(network.shapes) == 1
    np.testing.assert_array_equal(everything(found), wanted_of(changed))


def test_a_picture_is_decoded_once_for_all_its_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    right = module.load_one

    def noted(store: Any, spec: Any, name: str) -> Any:
        names.append(name)
        return right(store, spec, name)

    monkeypatch.setattr(module, "load_one", noted)
    pictures = pictures_in(tmp_path / "photos")
    of(pictures, tmp_path, Network(), views=4, augmentations=FLIP)
    assert sorted(names) == sorted(pictures.paths)


def test_a_picture_that_is_there_twice_is_computed_once(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    pictures_in(folder, 3)
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    pictures = described(folder, ["0.png", "copy.png", "1.png"])
    network = Network()
    found = of(pictures, tmp_path, network, batch=1)
    assert len(network.shapes) == 2
    np.testing.assert_array_equal(everything(found), wanted_of(pictures))


def test_what_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos")
    with pytest.raises(KeyboardInterrupt):
        of(pictures, tmp_path, Network(fail_at=2), views=2, augmentations=FLIP)
    file = tmp_path / "net.rows"
    file.write_bytes(file.read_bytes() + b"a part of a row")
    network = Network()
    found = of(pictures, tmp_path, network, views=2, augmentations=FLIP)
    assert len(network.shapes) == 2  # 14 in batches of 4, of which 2 were done
    np.testing.assert_array_equal(everything(found), wanted_of(pictures, 2, FLIP))


@pytest.mark.parametrize("value", [70000.0, np.inf, np.nan])
def test_what_float16_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    pictures = pictures_in(tmp_path / "photos")

    def huge(pixels: np.ndarray) -> np.ndarray:
        values = np.zeros((len(pixels), 2, 3), np.float32)
        values[2, 1, 1] = value
        return values

    with pytest.raises(DataError) as error:
        of(pictures, tmp_path, huge)
    assert str(error.value).startswith("features of 2.png: wanted numbers up to 65504, which ")
    assert "inf" in str(error.value) or "nan" in str(error.value) or "70000" in str(error.value)


def test_a_broken_picture_is_named_and_what_came_before_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    pictures = pictures_in(folder)
    good = (folder / "5.png").read_bytes()
    (folder / "5.png").write_bytes(b"\x89PNG no picture")
    with pytest.raises(DataError, match=r"5\.png: "):
        of(pictures, tmp_path, Network())
    (folder / "5.png").write_bytes(good)
    network = Network()
    np.testing.assert_array_equal(everything(of(pictures, tmp_path, network)), wanted_of(pictures))
    assert len(network.shapes) == 1


def test_several_processes_each_compute_a_part(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos")
    given = {"views": 2, "augmentations": FLIP}
    networks = [Network() for _ in range(3)]
    barrier = threading.Barrier(3)
    found: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        both = of(pictures, tmp_path, networks[index], share=(index, 3), wait=barrier.wait, **given)
        found[index] = everything(both)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = wanted_of(pictures, **given)
    for index in range(3):
        np.testing.assert_array_equal(found[index], wanted)
    assert [len(network.shapes) for network in networks] == [2, 1, 1]  # 6, 4 and 4 in fours
    assert {path.name for path in tmp_path.glob("*.rows")} == {f"net.{i}.rows" for i in range(3)}
    # And one process alone has what they left.
    alone = Network()
    np.testing.assert_array_equal(everything(of(pictures, tmp_path, alone, **given)), wanted)
    assert alone.shapes == []


def test_what_another_process_did_not_compute_is_one_line(tmp_path: Path) -> None:
    pictures = pictures_in(tmp_path / "photos")
    with pytest.raises(EnvironmentProblem, match="wanted features of 7 .* 3 of them"):
        of(pictures, tmp_path, Network(), share=(0, 2))


def test_the_work_can_be_sent_to_workers_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = module.each

    def pickled(work: Any, items: Any, title: str, *, cluster: str | None, **other: Any) -> Any:
        assert cluster == "host:1"
        sent = pickle.dumps(work)
        assert b"3.png" not in sent  # each task has its own pictures, not all
        return each(pickle.loads(sent), items, title, **other)

    monkeypatch.setattr(module, "each", pickled)
    pictures = replace(pictures_in(tmp_path / "photos"), cluster="host:1")
    found = of(pictures, tmp_path, Network(), views=2, augmentations=FLIP)
    np.testing.assert_array_equal(everything(found), wanted_of(pictures, 2, FLIP))


def test_the_next_batch_is_made_ready_while_the_network_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = [threading.Event() for _ in range(4)]
    batches = module._batches

    def noted(*given: Any) -> Any:
        for event, made in zip(begun, batches(*given), strict=True):
            event.set()
            yield made

    network, meanwhile = Network(), []

    def slow(pixels: np.ndarray) -> np.ndarray:
        if len(network.shapes) < 3:
            meanwhile.append(begun[len(network.shapes) + 1].wait(5))
        return network(pixels)

    monkeypatch.setattr(module, "_batches", noted)
    of(pictures_in(tmp_path / "photos"), tmp_path, slow, batch=2)
    assert meanwhile == [True, True, True]
