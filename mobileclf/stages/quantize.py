"""Quantize: from the float model to quantization-aware graphs that start as the same function."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.config import Settings
from mobileclf.importing import from_tflite
from mobileclf.models import deploy, qat
from mobileclf.models.distil import distil
from mobileclf.models.equality import ACROSS, largest_difference, require_equal
from mobileclf.models.graph import Graph
from mobileclf.photos import load_part
from mobileclf.records import Record, write_bytes
from mobileclf.run import Stage
from mobileclf.wording import counted

REWRITE_BOUND = 1e-4
CHECKED_PHOTOS = 32
DISTIL_BATCH = 16


def work(folder: Path, settings: Settings) -> Record:
    """Prove, calibrate and distil; writes `calibrated.npz` and, if distilled, `distilled.npz`.

    Returns the body of `quantize.json`: each equality with its measured difference. Where a layer
    has no quantization-aware form there are no candidates, and `reason` names it.
    """
    if from_tflite.is_given(folder):
        return _body([], reason="a .tflite that was given is not quantized here")
    models = deploy.deployable(folder)
    _, checked = load_part(folder, settings, "validation", most=CHECKED_PHOTOS)
    checks = prove_equal(models, checked)
    reason = _why_none(models.graph)
    if reason is not None:
        progress.warn(f"no quantization-aware model, only int8 after training: {reason}")
        return _body(checks, reason=reason)
    aware = qat.quantized(models.graph)
    difference = qat.prove_same_function(models.folded, aware, checked, REWRITE_BOUND)
    what = "float against the quantization graph"
    checks.append(require_equal("quantize", what, difference, REWRITE_BOUND))

    rows, photos = load_part(folder, settings, "train", most=settings.calibration_photos)
    if len(rows) < settings.calibration_photos:
        progress.warn(
            f"ranges are set from all {len(rows)} training photos; "
            f"{settings.calibration_photos} were wanted"
        )
    qat.calibrate(models.graph, aware, photos)
    _save(aware, folder / "calibrated.npz")
    body = _body(
        checks,
        calibration_photos=len(rows),
        fake_quantizers=len(qat.quantizers_of(aware)),
        candidates=["calibrated"],
    )
    if settings.fine_tune_epochs:
        body["distillation_loss"] = _distil(folder, settings, models, aware)
        _save(aware, folder / "distilled.npz")
        body["candidates"].append("distilled")
    body["outputs"] = [f"{candidate}.npz" for candidate in body["candidates"]]
    return body


def _why_none(graph: Graph) -> str | None:
    """The first layer that has no quantization-aware form, and why; how many more there are."""
    found = qat.unsupported(graph)
    if not found:
        return None
    (layer, why), *more = found
    return f"{layer}: {why}" + (f" (and {counted(len(more), 'more layer')})" if more else "")


def _body(checks: list[Record], **known: Any) -> Record:
    return {
        "stage": "quantize",
        "checks": checks,
        "reason": None,
        "calibration_photos": 0,
        "fake_quantizers": 0,
        "distillation_loss": [],
        "candidates": [],
        "outputs": [],
        **known,
    }


def prove_equal(models: deploy.Deployable, photos: NDArray[np.uint8]) -> list[Record]:
    """The links from Keras 3 to the folded graph. photos: uint8 (n, h, w, 3).

    Raises ProofError at the first that does not hold.
    """
    trained = np.asarray(models.trained(photos.astype(np.float32), training=False))
    rebuilt = qat.forward(models.rebuilt, photos)
    folded = qat.forward(models.folded, photos)
    links = (
        ("Keras 3 against tf_keras", largest_difference(trained, rebuilt), ACROSS),
        ("before against after folding", largest_difference(rebuilt, folded), REWRITE_BOUND),
    )
    return [require_equal("quantize", *link) for link in links]


def _distil(
    folder: Path, settings: Settings, models: deploy.Deployable, aware: object
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
        return distil(
            aware, both, teacher,
            epochs=settings.fine_tune_epochs, rate=settings.fine_tune_rate, batch=DISTIL_BATCH,
            seed=settings.seed, step_done=lambda: shown.advance(shown.task_ids[0]),
        )  # fmt: skip


def _save(aware: object, path: Path) -> None:
    packed = io.BytesIO()
    np.savez(packed, **qat.weights_of(aware))  # type: ignore[arg-type]
    write_bytes(path, packed.getvalue())


STAGE = Stage(
    name="quantize",
    record="quantize.json",
    reads=("dataset.json", "dataset.csv", "train.json", "model.keras"),
    settings=(
        "calibration_photos",
        "fine_tune_epochs",
        "fine_tune_rate",
        "seed",
    ),
    packages=("tensorflow", "tf-keras", "tensorflow-model-optimization", "pillow"),
    work=work,
    schema=2,
)
