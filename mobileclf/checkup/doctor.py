"""What this machine has of what mobileclf needs, and what to do where it lacks something."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Event

from mobileclf import progress
from mobileclf.config import configured
from mobileclf.errors import EnvironmentProblem, UsageError
from mobileclf.records import Record
from mobileclf.settings import Settings
from mobileclf.tflite.runtimes import MODULES

from . import accelerators, android, packages, resources, system, weights
from .probe import LIMIT, Outcome, tried


def doctor(*, run: Path | None = None, out: Path | None = None, limit: float = LIMIT) -> Record:
    """Look at Python, packages, GPUs, runtimes, weights, disk, memory, settings, Android tools.

    run, out: where a run and its bundle are to go; else as in `mobileclf.toml`, else `runs` and
    `exported`. limit: seconds that the packages tried in one process may take. No network is
    asked. `ready` says whether the main job can run; `lines` has a `Line` each, with `stops` for
    those because of which it cannot. Takes some seconds, most of them TensorFlow's import.
    """
    _check_here()
    run, out = _folders(run, out)
    # Before anything is tried: importing Keras makes its folder.
    kept = [*weights.lines()]
    room = [*resources.lines(run, out, weights.cache(), weights.still_to_come())]
    outcomes, nvidia = _try_all(limit)
    lines = [
        *system.python_lines(),
        *packages.main_lines(outcomes),
        *accelerators.runtime_lines(outcomes),
        *accelerators.gpu_lines(nvidia, outcomes),
        *kept,
        *room,
        *system.setting_lines(),
        *packages.extra_lines(),
        *android.lines(),
    ]
    return {
        "ready": not any(line.stops for line in lines),
        "lines": [{**asdict(line), "stops": line.stops} for line in lines],
    }


def _check_here() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise EnvironmentProblem(
            "the working directory is gone or cannot be read; change to another and ask again"
        ) from error


def _folders(run: Path | None, out: Path | None) -> tuple[Path, Path]:
    try:
        given = configured(None)
    except UsageError:  # has a line of its own
        given = {}
    return run or given.get("run") or Path("runs"), out or given.get("out") or Settings().out


def _try_all(limit: float) -> tuple[dict[str, Outcome], Outcome]:
    """The outcome of each step in child processes, and of nvidia-smi; two processes at a time."""
    groups = accelerators.steps()
    grouped = {step for group in groups for step in group}
    light = [f"import {packages.module_of(name)}" for name in packages.needed()]
    light = [step for step in light if step not in grouped]
    # TensorFlow's takes as long as the others together, so it goes first.
    groups.insert(1, [*light, f"run {MODULES['ai-edge-litert']}"])
    stop = Event()
    with progress.bar("looking at this machine", sum(map(len, groups)) + 1) as shown:

        def done() -> None:
            shown.advance(shown.task_ids[0])

        with ThreadPoolExecutor(2) as pool:
            try:
                waiting = [pool.submit(tried, g, done=done, stop=stop, limit=limit) for g in groups]
                nvidia = accelerators.driver()
                done()
                found = [future.result() for future in waiting]
            except BaseException:
                stop.set()
                raise
    return _joined(found), nvidia


def _joined(found: Iterable[dict[str, Outcome]]) -> dict[str, Outcome]:
    return {step: outcome for outcomes in found for step, outcome in outcomes.items()}
