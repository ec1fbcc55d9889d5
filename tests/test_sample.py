"""The drawn sample: seeded, whole or absent, in the folder layout that the tool reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobileclf.errors import UsageError
from mobileclf.images.duplicates import find_copies, signature
from mobileclf.images.sample import LABELS, draw, write_sample


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_there_are_eight_labels_in_two_groups() -> None:
    assert len(LABELS) >= 8
    assert set(LABELS.values()) == {"Edible", "NotEdible"}


@pytest.mark.parametrize("label", LABELS)
def test_drawings_repeat_with_the_seed_and_differ_without(label: str) -> None:
    first, again, other = (draw(label, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert first.size == (96, 96) and first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
    assert draw(label, np.random.default_rng(4), size=64).size == (64, 64)


def test_each_genus_has_its_own_colour_and_its_species_overlap() -> None:
    """Means of the drawn pictures: nearer within a genus than to the next one, and no two equal."""
    mean = {
        label: np.mean(
            [
                np.asarray(draw(label, np.random.default_rng((1, i))), dtype=float)[25:60, 30:66]
                .mean(axis=(0, 1))
                for i in range(30)
            ],
            axis=0,
        )
        for label in LABELS
    }  # fmt: skip
    labels = sorted(LABELS)
    for a, b in zip(labels[::2], labels[1::2], strict=True):
        assert a.split("_")[0] == b.split("_")[0] and LABELS[a] != LABELS[b]
        within = np.linalg.norm(mean[a] - mean[b])
        others = [np.linalg.norm(mean[a] - mean[c]) for c in labels if c not in (a, b)]
        assert 0 < within < np.median(others)


def test_no_two_drawings_count_as_copies() -> None:
    pictures = [
        draw(label, np.random.default_rng((2, n, i)))
        for n, label in enumerate(LABELS)
        for i in range(25)
    ]
    looks = [signature(picture) for picture in pictures]
    assert find_copies(looks).groups == ()
    looks.append(signature(pictures[3].resize((150, 150))))  # so the test can fail
    assert find_copies(looks).groups == ((3, 200),)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, seed=seed, per_class=2)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert set(a) == set(c) and all(a[name] != c[name] for name in a)
    assert {Path(name).parent.name for name in a} == {f"{k}-{v}" for k, v in LABELS.items()}
    assert len(a) == 2 * len(LABELS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_only_an_empty_folder_or_the_very_same_sample_is_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    folder.mkdir()
    write_sample(folder, per_class=1)
    before = contents(folder)
    write_sample(folder, per_class=1)
    assert contents(folder) == before
    for seed, per_class in ((1, 1), (0, 2)):
        with pytest.raises(UsageError, match="holds other files"):
            write_sample(folder, seed=seed, per_class=per_class)
    (folder / "mine.txt").write_text("kept")
    for replace in (False, True):
        with pytest.raises(UsageError, match="holds other files"):
            write_sample(folder, per_class=1, replace=replace)
    assert contents(folder) == {**before, "mine.txt": b"kept"}
    with pytest.raises(UsageError, match="holds other files"):
        write_sample(folder / "mine.txt", per_class=1)


def test_the_current_folder_is_not_swapped_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="found the current one"):
        write_sample(Path(), per_class=1)
    write_sample(Path("new"), per_class=1)
    assert len(contents(tmp_path)) == len(LABELS)


def test_an_earlier_sample_is_replaced_only_when_asked(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    write_sample(folder, seed=1, per_class=1)
    next(folder.rglob("*.jpg")).unlink()
    write_sample(folder, seed=0, per_class=1, replace=True)
    write_sample(tmp_path / "new", seed=0, per_class=1)
    assert contents(folder) == contents(tmp_path / "new")


def test_a_run_that_is_stopped_leaves_nothing_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    folder = tmp_path / "sample"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stop)
        with pytest.raises(KeyboardInterrupt):
            write_sample(folder, per_class=1)
    assert not folder.exists()
    write_sample(folder, per_class=1)
    assert [p.name for p in tmp_path.iterdir()] == ["sample"]


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_counts_out_of_range_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match="pictures a class"):
        write_sample(tmp_path / "s", per_class=count)
