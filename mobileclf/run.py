"""A run folder: which stage has what, whether it is current, and doing only what is not.

A stage's record is written last, after its files, so a record that is there stands for work
that was finished. It holds the sha256 of everything that the stage read and wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from . import progress
from .records import Record, read_json, sha256_file, write_json
from .settings import Settings


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the pipeline: the settings and files it reads, the record it writes.

    `work(folder, settings)` does the step: it writes its files under `folder` and returns the
    record's body with the key `outputs`, a list of the relative names of those files.
    `packages` are the distributions whose versions bear on the result. `schema` is raised when
    the keys of the record change, so that an older one is made anew.
    `outside(settings)` names what the stage reads outside the run, as sha256 by name.
    `recorded(folder)` takes away what only an interrupted stage would have gone on from.
    """

    name: str
    record: str
    reads: tuple[str, ...]
    settings: tuple[str, ...]
    work: Callable[[Path, Settings], Record]
    packages: tuple[str, ...] = ()
    outside: Callable[[Settings], Mapping[str, object]] = lambda settings: {}
    recorded: Callable[[Path], None] = lambda folder: None
    schema: int = 1


def inputs_of(stage: Stage, settings: Settings) -> Record:
    """What `stage` would read now: settings by value, files by sha256 (None: absent)."""
    folder = settings.run_folder
    values = {name: getattr(settings, name) for name in stage.settings}
    return {
        "packages": {name: version_of(name) for name in ("mobileclf", *stage.packages)},
        "settings": {k: v if _plain(v) else str(v) for k, v in values.items()},
        "files": {
            name: sha256_file(folder / name) if (folder / name).exists() else None
            for name in stage.reads
        },
        "outside": dict(stage.outside(settings)),
    }


def version_of(package: str) -> str | None:
    """The installed version of a distribution, None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _plain(value: object) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def is_current(stage: Stage, settings: Settings, inputs: Record) -> bool:
    """Whether the stage's record was made from `inputs` and its files are as it left them."""
    folder = settings.run_folder
    path = folder / stage.record
    if not path.exists():
        return False
    record = read_json(path)
    if record.get("schema") != stage.schema or record.get("inputs") != inputs:
        return False
    outputs: Mapping[str, str] = record.get("outputs", {})
    return all(
        (folder / name).is_file() and sha256_file(folder / name) == digest
        for name, digest in outputs.items()
    )


def bring_up_to_date(stage: Stage, settings: Settings, inputs: Record | None = None) -> Record:
    """The stage's record, made anew if what it stands on has changed.

    inputs: of `inputs_of`, where they were taken just now. Raises what the stage raises; an
    earlier record is gone by then, so that nothing stale is read after a failure.
    """
    folder = settings.run_folder
    path = folder / stage.record
    inputs = inputs or inputs_of(stage, settings)
    if is_current(stage, settings, inputs):
        progress.say(f"{stage.name}: up to date")
        return read_json(path)
    path.unlink(missing_ok=True)
    progress.say(f"{stage.name} …")
    start = time.monotonic()
    body = stage.work(folder, settings)
    outputs = {name: sha256_file(folder / name) for name in sorted(body.pop("outputs"))}
    write_json(path, {"schema": stage.schema, **body, "inputs": inputs, "outputs": outputs})
    stage.recorded(folder)
    note_time(folder, stage.name, time.monotonic() - start)
    return read_json(path)


def note_time(folder: Path, what: str, seconds: float) -> None:
    """Keep how long a stage, or a part of one, took."""
    path = folder / "times.json"
    times = read_json(path) if path.exists() else {}
    write_json(path, {**times, what: round(seconds, 1)})
