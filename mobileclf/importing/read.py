"""Somebody's model as a graph, and what it answers itself; both without loading it here.

The loading is done in a process of its own (`child`), since a broken file may crash TensorFlow,
take all memory or hang, and since a SavedModel that is trusted is a program.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import apart, errors
from mobileclf.errors import DataError, MobileclfError
from mobileclf.models import graph
from mobileclf.models.graph import Graph

from . import child, formats
from .formats import Kind

TIME_LIMIT = 900.0  # seconds; EfficientNet as a SavedModel takes about 60 on two slow cores


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A model that was read. dropped: layers that do nothing in use, in words. format: in words,
    such as "Keras h5 of tf.keras 2.11.0". kind: as `formats.kind_of` has it."""

    graph: Graph
    dropped: tuple[str, ...]
    format: str
    kind: Kind


def read_model(path: Path, *, trust: bool = False, size: tuple[int, int] | None = None) -> Imported:
    """The `.keras`, h5 file, SavedModel or run at `path`, flattened.

    trust: let a SavedModel have operators that do more than compute. size: height and width for
    a model that leaves them open. Raises DataError, with what to do, for whatever cannot be read.
    """
    kind = _kind(path)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        found = _ask(child.READ, path, kind, work, trust=trust, size=size)
        return Imported(
            graph=graph.read(work),
            dropped=tuple(found["dropped"]),
            format=found["format"],
            kind=kind,
        )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a model says of the same pictures, float32 (n, outputs). own: itself, as it was loaded.
    flat: its graph, built in the Keras that it is of."""

    own: NDArray[np.float32]
    flat: NDArray[np.float32]


def answers(
    path: Path,
    inputs: NDArray[np.float32],
    *,
    trust: bool = False,
    size: tuple[int, int] | None = None,
) -> Answers:
    """Ask the model at `path` of inputs (n, height, width, channels).

    A SavedModel answers by its serving signature, which is its graph as it was saved; other
    files have none, and are run as Keras loads them. Raises DataError as `read_model`.
    """
    kind = _kind(path)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        np.save(work / child.INPUTS, np.asarray(inputs, np.float32))
        _ask(child.ANSWERS, path, kind, work, trust=trust, size=size)
        own, flat = (np.load(work / name, allow_pickle=False) for name in (child.OWN, child.FLAT))
        return Answers(own=own, flat=flat)


def _kind(path: Path) -> Kind:
    kind = formats.kind_of(path)
    if kind == "tflite":
        raise DataError(f"{path}: a .tflite is used as it is, and not read as a network")
    return kind


def _ask(
    action: str,
    path: Path,
    kind: Kind,
    work: Path,
    *,
    trust: bool,
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    """Have the child do `action` in the folder `work`; gives what it found, or raises its error."""
    request = {
        "action": action,
        "path": str(path.absolute()),
        "kind": kind,
        "trust": trust,
        "size": size,
    }
    (work / child.REQUEST).write_text(json.dumps(request), encoding="utf-8")
    with (work / "printed").open("w+b") as printed:
        # A home of its own for both Keras: a person's keras.json may say channels first.
        process = subprocess.Popen(
            apart.command(child.__name__, str(work)),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            cwd=work,
            env={**os.environ, **_environment(work)},
        )
        try:
            code = process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise DataError(f"{path}: not read within {TIME_LIMIT:g} seconds") from error
        finally:  # on an interrupt, too, none is left behind
            if process.poll() is None:
                process.kill()
                process.wait()
        printed.seek(0)
        last = printed.read().decode(errors="replace").strip().splitlines()[-1:]
    answer = work / child.ANSWER
    if code < 0 or not answer.is_file() and code not in (0, 1):
        raise DataError(
            f"{path}: reading it ended the process that did so ({_ended(code)}); it is broken, or "
            "needs more memory than there is"
        )
    if code or not answer.is_file():
        raise MobileclfError(f"{path}: a defect of mobileclf in reading it: {''.join(last)}")
    found = json.loads(answer.read_text("utf-8"))
    if "error" in found:
        raise getattr(errors, found["error"])(found["message"].replace(request["path"], str(path)))
    return dict(found["found"])


def _environment(work: Path) -> dict[str, str]:
    return {
        "KERAS_HOME": str(work),
        "KERAS_BACKEND": "tensorflow",
        "TF_USE_LEGACY_KERAS": "0",
        "TF_CPP_MIN_LOG_LEVEL": "1",
        "CUDA_VISIBLE_DEVICES": "-1",  # this process may have all of its memory
    }


def _ended(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"
