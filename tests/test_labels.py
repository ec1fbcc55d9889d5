"""Labels in any script, from a zip of grey pictures to bundle, metadata and prediction."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mobileclf
from mobileclf.images.load import ImageSpec
from mobileclf.tflite import metadata

LABELS = ("King's cup", "Белый гриб", "松 茸")


def picture(label: int, rng: np.random.Generator) -> bytes:
    """Stripes that lie, stand or are not there, in noise and of any brightness."""
    pixels = rng.normal(rng.uniform(90, 160), 12, (40, 40))
    stripes = 40 * np.sign(np.sin(np.arange(40) * 0.4 + rng.uniform(0, 6)))
    pixels += (stripes[:, None], stripes[None, :], 0)[label]
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("labels"), np.random.default_rng(0)
    with zipfile.ZipFile(root / "photos.zip", "w") as archive:
        for at, label in enumerate(LABELS):
            for i in range(60):
                archive.writestr(f"photos/{label}/{i}.png", picture(at, rng))
    mobileclf.export(
        int8=True, data=root / "photos.zip", channels=1, backbone="plain_cnn", image_size=16,
        head="16", augment="none", epochs=40, batch_size=8,
        run=root / "run", out=root / "exported", name="stripes",
    )  # fmt: skip
    return root / "exported" / "stripes"


def test_labels_are_the_same_everywhere(bundle: Path) -> None:
    lines = (bundle / "labels.txt").read_text(encoding="utf-8").splitlines()
    record = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    assert tuple(lines) == tuple(row["label"] for row in record["labels"]) == LABELS
    _, files = metadata.read((bundle / "model.tflite").read_bytes())
    assert files[metadata.LABELS_FILE].decode().splitlines() == lines
    for file in ("report.html", "MODEL_CARD.md"):
        text = (bundle / file).read_text(encoding="utf-8")
        assert LABELS[1] in text and LABELS[2] in text


def test_the_bundle_takes_one_grey_byte_a_pixel(bundle: Path) -> None:
    record = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    spec = ImageSpec.from_record(record["input"])
    assert spec.shape == (16, 16, 1)
    parity = json.loads((bundle / "parity.json").read_text(encoding="utf-8"))
    assert parity["int8"]["accuracy"] > 0.8


def test_predict_reads_the_zip_in_place_and_knows_most_of_it(bundle: Path) -> None:
    rows = mobileclf.predict(bundle, bundle.parents[1] / "photos.zip")
    assert len(rows) == 180
    right = sum(row["label"] in row["path"] for row in rows)
    assert right > 150
    assert rows[0]["path"].endswith("photos.zip/King's cup/0.png")
    assert not [path for path in bundle.parents[1].iterdir() if path.is_dir()
                and path.name not in ("run", "exported")]  # fmt: skip
