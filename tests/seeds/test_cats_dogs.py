"""Cats and dogs in class folders under train/ and validation/: a CNN with one sigmoid unit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mobileclf
from mobileclf.errors import ProofError
from mobileclf.records import read_csv, read_json
from tests.test_dataset import DATA

PETS = DATA / "cats_dogs"


@pytest.mark.skipif(not PETS.is_dir(), reason=f"no cats_dogs in {DATA}")
def test_the_recipe_ends_in_a_bundle_or_says_that_too_little_was_learnt(tmp_path: Path) -> None:
    """Nine hundred photos are few for a network from random weights: both ends are honest."""
    asked = {"recipe": "seed-cats-dogs", "data": PETS, "run": tmp_path / "run"}
    try:
        mobileclf.export(int8=True, out=tmp_path / "exported", name="pets", epochs=6, **asked)
    except ProofError as error:
        assert "learnt too little" in str(error)
    else:
        parity = json.loads((tmp_path / "exported/pets/parity.json").read_text())
        assert parity["float"]["accuracy"] > 0.5 and parity["agreement"] > 0.9
    rows = read_csv(tmp_path / "run" / "dataset.csv")
    given = {row["path"].split("/")[0] for row in rows if row["split"] == "validation"}
    assert given == {"validation"}
    train = read_json(tmp_path / "run" / "train.json")
    assert train["head"] == {"units": [128], "output": "sigmoid"}
    assert [row["name"] for row in train["augment"]] == ["flip", "zoom", "shear"]
