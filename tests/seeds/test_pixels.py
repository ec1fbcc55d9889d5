"""Photos as rows of 100 x 100 x 3 numbers with labels 0 and 1, and a given test file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mobileclf
from benchmarks.seed_data import write_pixels
from mobileclf.records import read_csv
from tests.test_dataset import DATA

SPECIES = ("Amanita_Muscaria-NotEdible", "Boletus_Edulis-Edible")


@pytest.mark.skipif(not (DATA / "mushrooms4").is_dir(), reason=f"no mushrooms4 in {DATA}")
def test_the_recipe_reaches_a_bundle_that_tells_two_species_apart(tmp_path: Path) -> None:
    source = write_pixels(tmp_path / "data", [DATA / "mushrooms4" / name for name in SPECIES])
    mobileclf.export(
        int8=True, recipe="seed-pixels", data=source, classes="muscaria,edulis",
        run=tmp_path / "run", out=tmp_path / "exported", name="pixels", epochs=8,
    )  # fmt: skip
    parity = json.loads((tmp_path / "exported/pixels/parity.json").read_text())
    assert parity["float"]["accuracy"] > 0.75 and parity["agreement"] > 0.95
    labels = (tmp_path / "exported/pixels/labels.txt").read_text().splitlines()
    assert labels == ["muscaria", "edulis"]
    rows = read_csv(tmp_path / "run" / "dataset.csv")
    assert {row["path"].split("/")[0] for row in rows if row["split"] == "test"} == {"input_test"}
