"""Quantize: from the float model to the candidates, quantization-aware graphs with their numbers.

`calibrated` has ranges alone, `reconstructed` weights rounded for them, and `distilled`, where
there is a budget for it, is trained from there. Where the last of them does not meet the gate on
validation, `mixed` keeps the fewest layers in float with which it does.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.importing import from_tflite
from mobileclf.models import deploy, proofs, qat, ranges
from mobileclf.models.distil import Course, distil
from mobileclf.models.equality import largest_difference, require_equal
from mobileclf.models.graph import Graph, build, save
from mobileclf.models.mixed import PHOTOS, mixed, summary
from mobileclf.models.reconstruct import SCRATCH, reconstruct
from mobileclf.photos import load_part
from mobileclf.records import Record, write_bytes
from mobileclf.run import Stage
from mobileclf.settings import Settings
from mobileclf.spelling import rewrites_of, seconds_of
from mobileclf.wording import counted

REWRITE_BOUND = 1e-4
CHECKED_PHOTOS = 32
DISTIL_BATCH = 16
CANDIDATES = ("calibrated", "reconstructed", "distilled", "mixed")
DISTIL_STATE = "distil_state.npz"  # of a distillation that was interrupted


def work(folder: Path, settings: Settings) -> Record:
    """Prove, calibrate, reconstruct, distil, mix; writes each candidate's numbers.

    Returns the body of `quantize.json`: each equality with its measured difference, and what was
    done to make each candidate. Where a layer has no quantization-aware form there are no
    candidates, and `reason` names it.
    """
    if from_tflite.is_given(folder):
        return _body([], reason="a .tflite that was given is not quantized here")
    _clear(folder)
    models = deploy.deployable(folder, rewrites_of(settings.without))
    _, checked = load_part(folder, settings, "validation", most=CHECKED_PHOTOS)
    checks = proofs.prove(models, checked)
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
            f"ranges and rounding are set from all {len(rows)} training photos; "
            f"{settings.calibration_photos} were wanted"
        )
    ranges.calibrate(models.graph, aware, photos)
    outputs = [_save(aware, folder, "calibrated")]
    body = _body(
        checks,
        calibration_photos=len(rows),
        fake_quantizers=len(qat.quantizers_of(aware)),
        candidates=["calibrated", "reconstructed"],
    )
    made = reconstruct(models.graph, photos, seed=settings.seed, scratch=folder)
    checks.append(_prove_equalized(models, made.graph, checked))
    body["reconstruction"] = made.report
    outputs += [_save(made.aware, folder, "reconstructed")]
    outputs += _save_graph(made.graph, folder, "reconstructed")
    if settings.budget is not None and settings.fine_tune_epochs:
        course = _distil(folder, settings, models, made.aware)
        body["distillation"] = {**vars(course), "best_epoch": course.best}
        if course.best:
            body["candidates"].append("distilled")
            outputs += [_save(made.aware, folder, "distilled")]
            outputs += _save_graph(made.graph, folder, "distilled")
        else:
            progress.say(f"no candidate distilled: {_why_not_distilled(course, settings)}")
    _, held_out = load_part(folder, settings, "validation", most=PHOTOS)
    partly = mixed(
        made.graph,
        made.aware,
        held_out,
        lambda layers: (
            reconstruct(
                models.graph, photos, seed=settings.seed, in_float=layers, scratch=folder
            ).aware
        ),
    )
    body["mixed"] = partly.report
    if line := summary(partly.report):
        progress.say(line)
    if partly.aware is not None:
        body["candidates"].append("mixed")
        outputs += [_save(partly.aware, folder, "mixed")]
        outputs += _save_graph(made.graph, folder, "mixed")
    body["outputs"] = outputs
    (folder / DISTIL_STATE).unlink(missing_ok=True)
    return body


def _clear(folder: Path) -> None:
    """Take away what an earlier time made, so that nothing is taken for a candidate of this one."""
    for candidate in CANDIDATES:
        (folder / f"{candidate}.npz").unlink(missing_ok=True)
        shutil.rmtree(folder / f"{candidate}_graph", ignore_errors=True)
    for left in folder.glob(f"{SCRATCH}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)


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
        "reconstruction": None,
        "distillation": None,
        "mixed": None,
        "candidates": [],
        "outputs": [],
        **known,
    }


def _prove_equalized(
    models: deploy.Deployable, equalized: Graph, photos: NDArray[np.uint8]
) -> Record:
    """That channels in other scales are the same function. Raises ProofError."""
    import tf_keras

    found = qat.forward(build(tf_keras, equalized), photos)
    difference = largest_difference(qat.forward(models.folded, photos), found)
    what = "before against after equalizing channels"
    return require_equal("quantize", what, difference, REWRITE_BOUND)


def _distil(folder: Path, settings: Settings, models: deploy.Deployable, aware: Any) -> Course:
    """Train `aware` on every training photo and its mirror image, taught by the float model, and
    judged on the validation photos."""
    _, photos = load_part(folder, settings, "train")
    _, held_out = load_part(folder, settings, "validation")
    budget = seconds_of(str(settings.budget))
    # Of seconds: how many steps there will be is not known.
    with progress.bar("distil", int(budget)) as shown:
        task, began = shown.task_ids[0], time.monotonic()

        def spent() -> float:
            return min(budget, time.monotonic() - began)

        def epoch_done(course: Course) -> None:
            kl = f"KL {course.kl[0]:.5f} to {course.kl[-1]:.5f}"
            about = f"distil, epoch {len(course.kl) - 1}, {kl}"
            shown.update(task, description=about, completed=spent())

        return distil(
            aware, models.folded, photos, held_out, epochs=settings.fine_tune_epochs,
            rate=settings.fine_tune_rate, batch=DISTIL_BATCH, seed=settings.seed,
            budget=budget, state=folder / DISTIL_STATE,
            step_done=lambda: shown.update(task, completed=spent()), epoch_done=epoch_done,
        )  # fmt: skip


def _why_not_distilled(course: Course, settings: Settings) -> str:
    if course.steps:
        return "no epoch came nearer to float than the start"
    return f"the budget was over before the first step; give more than --budget {settings.budget}"


def _save(aware: Any, folder: Path, candidate: str) -> str:
    """Write a candidate's numbers; returns the file's name."""
    packed = io.BytesIO()
    np.savez(packed, **qat.weights_of(aware))  # type: ignore[arg-type]
    write_bytes(folder / f"{candidate}.npz", packed.getvalue())
    return f"{candidate}.npz"


def _save_graph(equalized: Graph, folder: Path, candidate: str) -> list[str]:
    """Write the float network that a candidate's layers stand for, whole or not at all, for
    `inspect --explain`; returns the files' names."""
    name = f"{candidate}_graph"
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as beside:
        made = Path(beside) / name
        made.mkdir()
        save(equalized, made)
        shutil.rmtree(folder / name, ignore_errors=True)
        files = sorted(path.name for path in made.rename(folder / name).iterdir())
    return [f"{name}/{file}" for file in files]


STAGE = Stage(
    name="quantize",
    record="quantize.json",
    reads=("dataset.json", "dataset.csv", "train.json", "model.keras"),
    settings=(
        "budget",
        "calibration_photos",
        "fine_tune_epochs",
        "fine_tune_rate",
        "seed",
        "without",
    ),
    packages=(
        "numpy",  # whose LAPACK makes the kernels
        "tensorflow",
        "keras",
        "tf-keras",
        "tensorflow-model-optimization",
        "pillow",
    ),
    work=work,
    schema=4,
)
