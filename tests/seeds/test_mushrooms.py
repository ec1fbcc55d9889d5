"""Four species in folders `Name-Group`: a frozen InceptionV3 and a small head, fitted twice."""

from __future__ import annotations

from pathlib import Path

import pytest

import mobileclf
from mobileclf.records import read_csv
from tests.test_dataset import DATA

WEIGHTS = DATA / "weights" / "inception_v3_imagenet_notop.h5"


@pytest.mark.skipif(not WEIGHTS.is_file(), reason=f"no InceptionV3 weights in {DATA}")
def test_the_recipe_trains_a_head_in_two_fits(tmp_path: Path) -> None:
    """On few photos at the least size, for its time; the whole of it is in the benchmark."""
    root = tmp_path / "data"
    for folder in sorted((DATA / "mushrooms4").iterdir()):
        (root / folder.name).mkdir(parents=True)
        for photo in sorted(folder.iterdir())[:40]:
            (root / folder.name / photo.name).symlink_to(photo)
    record = mobileclf.train(
        recipe="seed-mushrooms", data=root, weights=str(WEIGHTS), image_size=75,
        run=tmp_path / "run", epochs="4+3", patience=2,
    )  # fmt: skip
    history = read_csv(tmp_path / "run" / "history.csv")
    assert {row["fit"] for row in history} == {"1", "2"}
    assert record["validation"]["accuracy"] > 0.4
    assert record["architecture"]["units"] == [64]
