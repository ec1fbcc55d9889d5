"""The matrix: what each variant answers on each runtime with each kind of kernels, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.photos import load_photos
from mobileclf.records import Record, read_json, write_json
from mobileclf.scores import FLOAT, read_part, read_scores
from mobileclf.settings import Settings
from mobileclf.spelling import rewrites_of
from mobileclf.tflite.interpreter import as_quanta
from mobileclf.tflite.runtimes import Runtime, installed, runtime_name
from mobileclf.tflite.scorer import score_apart
from mobileclf.wording import counted

from . import MATRIX, TIMES, latency
from .entries import (
    MOST,
    OF_SLOW,
    Entry,
    Result,
    entries_of,
    evenly_first,
    family_of,
    variants_of,
)
from .identity import alike, identity

PART = "test"
KERAS = "keras"  # the family of what is no `.tflite`
RUNTIMES: tuple[Runtime, ...] = ("ai-edge-litert", "tensorflow", "tflite-runtime")
OPTIONAL = ("fp16", "dynamic", "int16x8")
TENSORFLOW: Runtime = "tensorflow"
Answers = NDArray[np.int64]


def build(
    folder: Path, settings: Settings, *, most: int = MOST, seconds: float = latency.SECONDS
) -> Record:
    """Score the matrix on the test photos; writes `matrix.json` and, apart, since they are never
    the same again, latencies in `matrix_times.json`. Returns the former.

    The float model's scores are those that are in the run. `entries`: accuracy, and agreement,
    answers lost and won against float on the entry's own photos; of one that its runtime cannot
    take, the `problem`. `identity`: as of `identity.identity`; whether they hold is for the gate
    to say. `absent`: runtimes not installed and variants not converted. most: photos at most.
    seconds: of timing at most; 0: none.

    Raises what loading photos raises.
    """
    converted = read_json(folder / "convert.json")
    whole = read_part(folder, PART)
    order = evenly_first(len(whole), most)
    part = whole[order]
    photos = load_photos(folder, settings, part, f"load {PART}")
    reference = read_scores(folder, FLOAT, PART).probabilities[order].argmax(axis=1)
    variants = variants_of(folder, converted)
    wanted = entries_of(variants, [r for r in RUNTIMES if r in installed()], len(photos))
    progress.say(
        f"matrix: {counted(len(wanted), 'entry', 'entries')} on {counted(len(photos), 'photo')}; "
        f"reference kernels and int16x8 on {min(OF_SLOW, len(photos))} of them"
    )
    entries = [_keras_row(FLOAT, reference, part.truth, reference)]
    for name, answers in _quantization_aware(folder, settings, photos):
        entries.append(_keras_row(name, answers, part.truth, reference))
    results = _scored(wanted, photos)
    entries += [
        _row(result, same, part.truth, reference)
        for result, same in zip(results, alike(results), strict=True)
    ]
    record: Record = {
        "part": PART,
        "photos": len(photos),
        "runtimes": [runtime_name(r) for r in RUNTIMES if r in installed()],
        "entries": entries,
        "identity": identity(results),
        "absent": {
            "runtimes": [r for r in RUNTIMES if r not in installed()],
            "variants": [v for v in OPTIONAL if v not in {each.name for each in variants}],
        },
    }
    write_json(folder / MATRIX, record)
    if seconds:
        write_json(folder / TIMES, latency.measured(results, seconds=seconds, seed=settings.seed))
    return record


def _scored(wanted: Sequence[Entry], photos: NDArray[np.uint8]) -> list[Result]:
    """The results in the order of `wanted`. A process of its own for each runtime, one after
    another, and a new one where a model ended it."""
    found: dict[int, Result] = {}
    with progress.bar("matrix", sum(entry.photos for entry in wanted)) as shown:
        for runtime in dict.fromkeys(entry.runtime for entry in wanted):
            shown.update(shown.task_ids[0], description=f"matrix, {runtime}")
            own = [(i, entry) for i, entry in enumerate(wanted) if entry.runtime == runtime]
            scored = score_apart(
                runtime, [entry.job for _, entry in own], photos,
                lambda: shown.advance(shown.task_ids[0]),
            )  # fmt: skip
            for (i, entry), one in zip(own, scored, strict=True):
                scores = one.scores
                if scores is not None and entry.variant.quanta:
                    scores = as_quanta(scores)
                found[i] = Result(
                    entry=entry, scores=scores, delegates=one.delegates, problem=one.problem
                )
    return [found[i] for i in range(len(wanted))]


def _quantization_aware(
    folder: Path, settings: Settings, photos: NDArray[np.uint8]
) -> list[tuple[str, Answers]]:
    """Of each candidate that has a quantization-aware Keras graph: its name, and its answers."""
    path = folder / "quantize.json"
    quantized = read_json(path) if path.exists() else {}
    names = [n for n in quantized.get("candidates", ()) if (folder / f"{n}.npz").exists()]
    if not names:
        return []
    from mobileclf.models import deploy, qat

    graph = deploy.deployable(folder, rewrites_of(settings.without)).graph
    found = []
    for name in names:
        in_float = quantized["mixed"]["float_layers"] if name == "mixed" else []
        aware = qat.quantized(graph, in_float)
        with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
            qat.set_weights(aware, dict(stored))
        starts = range(0, len(photos), 16)
        pieces = [
            qat.forward(aware, photos[i : i + 16]).argmax(axis=1)
            for i in progress.track(starts, f"matrix, {name} in Keras", len(starts))
        ]
        found.append((name, np.concatenate(pieces)))
    return found


def _row(result: Result, same: str | None, truth: Answers, reference: Answers) -> Record:
    entry = result.entry
    row: Record = {
        "variant": entry.variant.name,
        "runtime": entry.runtime,
        "kernels": entry.kernels,
        "threads": entry.threads,
        "bytes": entry.variant.file.stat().st_size,
    }
    if result.scores is None:
        return {**row, "problem": result.problem}
    answers: Answers = result.scores.argmax(axis=1)
    return {
        **row,
        "family": family_of(result),
        "delegates": result.delegates,
        **_compared(answers, truth, reference),
        "identical_to": same,
    }


def _keras_row(name: str, answers: Answers, truth: Answers, reference: Answers) -> Record:
    return {
        "variant": name,
        "runtime": TENSORFLOW,
        "kernels": KERAS,
        "threads": None,
        "bytes": None,
        "family": KERAS,
        "delegates": None,
        **_compared(answers, truth, reference),
        "identical_to": None,
    }


def _compared(answers: Answers, truth: Answers, reference: Answers) -> dict[str, Any]:
    """Of the first so many photos as there are answers."""
    n = len(answers)
    right, before = answers == truth[:n], reference[:n] == truth[:n]
    return {
        "photos": n,
        "accuracy": float(np.mean(right)),
        "agreement": float(np.mean(answers == reference[:n])),
        "lost": int(np.sum(before & ~right)),
        "won": int(np.sum(~before & right)),
    }
