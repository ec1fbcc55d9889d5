"""Score photos in processes of their own: a runtime's symbols clash with another's in one process,
and a model that a runtime cannot take may end it.

PHOTOS, JOBS and a file of scores for each job lie in a folder that both processes know. The child
says in JSON lines what it begins, each photo that is done, and what came of a job.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mobileclf import apart, cores

from .runtimes import Runtime, runtime_name

PHOTOS, JOBS = "photos.npy", "jobs.json"
# Seconds without a word, even of reference kernels and a large network, before it is given up.
LIMIT = 300.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model file to score. kernels: as in `open_interpreter`. threads: of each interpreter.
    photos: how many of all there are, from the first."""

    model: Path
    kernels: str
    threads: int
    photos: int


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What came of a job: `scores` as of `interpreter.scores` and the number of nodes that
    delegates took, or the runtime's own words why not."""

    scores: NDArray[Any] | None = None
    delegates: int | None = None
    problem: str | None = None


def score_apart(
    runtime: Runtime,
    jobs: Sequence[Job],
    photos: NDArray[np.uint8],
    done: Callable[[], None],
    *,
    limit: float = LIMIT,
) -> list[Scored]:
    """Do the jobs one after another; `done` is called for each photo, and for those of a job that
    comes to nothing. Whatever a model does to the runtime, the jobs after it are done.

    photos: uint8 (n, height, width, channels), n at least what any job wants.
    """
    found: list[Scored] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / PHOTOS, photos)
        rows = [{**asdict(job), "model": str(job.model.absolute())} for job in jobs]
        (folder / JOBS).write_text(json.dumps(rows), encoding="utf-8")
        while len(found) < len(jobs):
            found += _from(folder, runtime, jobs, len(found), done, limit)
    return found


def _from(
    folder: Path,
    runtime: Runtime,
    jobs: Sequence[Job],
    first: int,
    done: Callable[[], None],
    limit: float,
) -> list[Scored]:
    """What a new child makes of the jobs from `first` on, until one ends it."""
    found: list[Scored] = []
    command = apart.command(__name__, str(folder), runtime, str(first))
    with tempfile.TemporaryFile() as printed, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=printed,
        text=True, encoding="utf-8",
    ) as child:  # fmt: skip
        late = threading.Event()
        photos = 0
        try:
            for said in _said(child, limit, late):
                if said["what"] == "photo":
                    photos += 1
                    done()
                    continue
                i = first + len(found)
                if said["what"] == "scored":
                    scores = np.load(folder / f"{i}.npy", allow_pickle=False)
                    (folder / f"{i}.npy").unlink()
                    found.append(Scored(scores=scores, delegates=said["delegates"]))
                else:
                    found.append(Scored(problem=said["problem"]))
                _catch_up(jobs[i].photos - photos, done)
                photos = 0
        finally:
            child.kill()
            child.wait()
        if first + len(found) < len(jobs):
            printed.seek(0)
            reason = _ended(child.returncode, printed.read().decode(errors="replace"))
            if late.is_set():
                reason = f"no answer in {limit:g} seconds"
            found.append(Scored(problem=f"{runtime_name(runtime)}: {reason}"))
            _catch_up(jobs[first + len(found) - 1].photos - photos, done)
    return found


def _said(
    child: subprocess.Popen[str], limit: float, late: threading.Event
) -> Iterator[dict[str, Any]]:
    """The child's messages until its end, which is brought about where it is silent too long."""
    assert child.stdout is not None

    def give_up() -> None:
        late.set()
        child.kill()

    while True:
        timer = threading.Timer(limit, give_up)
        timer.daemon = True
        timer.start()
        try:
            line = child.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            child.wait()
            return
        if line.startswith('{"what"'):  # anything else is a library's
            yield cast(dict[str, Any], json.loads(line))


def _catch_up(photos: int, done: Callable[[], None]) -> None:
    for _ in range(photos):
        done()


def _ended(code: int, printed: str) -> str:
    lines = [" ".join(line.split()) for line in printed.splitlines() if line.strip()]
    last = f": {lines[-1][:200]}" if code > 0 and lines else ""
    return f"crashed (exit {code}){last}"


def main(folder: str, runtime: str, first: str) -> None:
    """In the child: do the jobs from number `first` on."""
    from .interpreter import delegates_of, open_interpreters, score_on

    apart.limit_memory()
    place = Path(folder)
    photos = np.load(place / PHOTOS, mmap_mode="r", allow_pickle=False)
    jobs = json.loads((place / JOBS).read_text(encoding="utf-8"))
    for i, job in list(enumerate(jobs))[int(first) :]:
        try:
            opened = open_interpreters(
                Path(job["model"]),
                kernels=job["kernels"],
                runtime=cast(Runtime, runtime),
                threads=job["threads"],
                many=max(1, cores.usable() // job["threads"]),
            )
            found = score_on(opened, photos[: job["photos"]], done=lambda: _say("photo"))
            np.save(place / f"{i}.npy", found)
            _say("scored", delegates=delegates_of(opened[0]))
            del opened  # before the next model is in memory
        except Exception as error:  # whatever it is, it is the runtime's reason
            words = " ".join(str(error).split())[:600] or type(error).__name__
            _say("failed", problem=words.removeprefix("model: "))


def _say(what: str, **more: object) -> None:
    # One write for each, since several threads speak.
    print(json.dumps({"what": what, **more}) + "\n", end="", flush=True)
