"""Digits as a CSV of ids and labels with small grey pictures: a CNN from random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mobileclf
from benchmarks.seed_data import write_digits
from mobileclf.images.load import ImageSpec
from mobileclf.records import read_csv


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    mobileclf.export(
        int8=True,
        recipe="seed-digits",
        data=write_digits(root / "data", most=900),
        run=root / "run",
        out=root / "exported",
        name="digits",
        epochs=12,
    )
    return root


def test_the_recipe_reaches_a_bundle_that_knows_digits(bundle: Path) -> None:
    record = json.loads((bundle / "exported/digits/bundle.json").read_text())
    parity = json.loads((bundle / "exported/digits/parity.json").read_text())
    assert parity["float"]["accuracy"] > 0.9 and parity["int8"]["accuracy"] > 0.9
    assert parity["agreement"] > 0.95 and parity["verdict"] in ("proven", "not shown")
    assert [row["label"] for row in record["labels"]] == [str(digit) for digit in range(10)]
    spec = ImageSpec.from_record(record["input"])
    assert (spec.width, spec.height, spec.channels) == (28, 28, 1)
    assert record["provenance"]["seed"] == 42


def test_a_fifth_is_held_back_and_no_digit_is_lost(bundle: Path) -> None:
    rows = read_csv(bundle / "run" / "dataset.csv")
    assert len(rows) == 900 and not any(row["problem"] for row in rows)
    assert sum(row["split"] == "train" for row in rows) == pytest.approx(720, abs=10)


def test_the_bundle_fills_a_submission(bundle: Path) -> None:
    rows = read_csv(bundle / "data" / "train.csv")[:40]
    test = bundle / "data" / "ask.csv"
    test.write_text("id\n" + "".join(f"{row['id']}\n" for row in reversed(rows)))
    out = bundle / "submission.csv"
    with pytest.raises(SystemExit) as end:
        mobileclf.cli.main(
            ["predict", str(bundle / "exported/digits"), str(test), "--submission", str(out), "-q"]
        )
    assert end.value.code == 0
    answers = read_csv(out)
    assert [row["id"] for row in answers] == [row["id"] for row in reversed(rows)]
    right = sum(a["label"] == b["label"] for a, b in zip(answers, reversed(rows), strict=True))
    assert right >= 36
