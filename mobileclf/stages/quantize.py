"""Quantize: from the float model to quantization-aware graphs that start as the same function."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.models import deploy, qat
from mobileclf.models.transfer import EQUAL, largest_difference, require_equal
from mobileclf.photos import load_part
from mobileclf.records import Record, write_bytes
from mobileclf.run import Stage

REWRITE_BOUND = 1e-4
CHECKED_PHOTOS = 32
DISTIL_BATCH = 16


def work(folder: Path, settings: Settings) -> Record:
    """Prove, calibrate and distil; writes `calibrated.npz` and, if distilled, `distilled.npz`.

    Returns the body of `quantize.json`: each equality with its measured difference.
    """
    models = deploy.deployable(folder)
    _, checked = load_part(folder, settings, "validation", most=CHECKED_PHOTOS)
    checks = prove_equal(models, checked)
    graph = qat.quantized(models.folded)
    difference = qat.prove_same_function(models.folded, graph, checked, REWRITE_BOUND)
    what = "float against the quantization graph"
    checks.append(require_equal("quantize", what, difference, REWRITE_BOUND))

    rows, photos = load_part(folder, settings, "train", most=settings.calibration_photos)
    if len(rows) < settings.calibration_photos:
        progress.warn(
            f"ranges are set from all {len(rows)} training photos; "
            f"{settings.calibration_photos} were wanted"
        )
    qat.calibrate(models.folded, graph, photos)
    _save(graph, folder / "calibrated.npz")
    candidates = ["calibrated"]
    record: Record = {
        "stage": "quantize",
        "checks": checks,
        "calibration_photos": len(rows),
        "fake_quantizers": len(qat.quantizers_of(graph)),
        "distillation_loss": [],
    }
    if settings.fine_tune_epochs:
        record["distillation_loss"] = _distil(folder, settings, models, graph)
        _save(graph, folder / "distilled.npz")
        candidates.append("distilled")
    return {
        **record,
        "candidates": candidates,
        "outputs": [f"{candidate}.npz" for candidate in candidates],
    }


def prove_equal(models: deploy.Deployable, photos: NDArray[np.uint8]) -> list[Record]:
    """The links from Keras 3 to the folded graph. photos: uint8 (n, h, w, 3).

    Raises ProofError at the first that does not hold.
    """
    trained = np.asarray(models.trained(photos.astype(np.float32), training=False))
    rebuilt = qat.forward(models.rebuilt, photos)
    folded = qat.forward(models.folded, photos)
    links = (
        ("Keras 3 against tf_keras", largest_difference(trained, rebuilt), EQUAL),
        ("before against after folding", largest_difference(rebuilt, folded), REWRITE_BOUND),
    )
    return [require_equal("quantize", *link) for link in links]


def _distil(
    folder: Path, settings: Settings, models: deploy.Deployable, graph: object
) -> list[float]:
    """Fine-tune on every training photo and its mirror image, taught by the float model."""
    rows, photos = load_part(folder, settings, "train")
    both = np.concatenate([photos, photos[:, :, ::-1]])
    starts = range(0, len(both), DISTIL_BATCH)
    teacher = np.concatenate(
        [
            qat.forward(models.folded, both[i : i + DISTIL_BATCH])
            for i in progress.track(starts, "answers of the float model", len(starts))
        ]
    )
    with progress.bar("distil", len(starts) * settings.fine_tune_epochs) as shown:
        return qat.distil(
            graph, both, teacher,
            epochs=settings.fine_tune_epochs, rate=settings.fine_tune_rate, batch=DISTIL_BATCH,
            seed=settings.seed, step_done=lambda: shown.advance(shown.task_ids[0]),
        )  # fmt: skip


def _save(graph: object, path: Path) -> None:
    packed = io.BytesIO()
    np.savez(packed, **qat.weights_of(graph))  # type: ignore[arg-type]
    write_bytes(path, packed.getvalue())


STAGE = Stage(
    name="quantize",
    record="quantize.json",
    reads=("dataset.json", "dataset.csv", "train.json", "model.keras"),
    settings=(
        "image_size",
        "channels",
        "calibration_photos",
        "fine_tune_epochs",
        "fine_tune_rate",
        "seed",
    ),
    packages=("tensorflow", "tf-keras", "tensorflow-model-optimization", "pillow"),
    work=work,
)
