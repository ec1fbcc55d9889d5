"""Training on JAX, in a process of its own: the stages after it have TensorFlow, as ever.

A process has one backend of Keras, and memory of an accelerator that JAX has taken it gives back
only at its end. In the child TensorFlow cannot be imported; where it could, Keras would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from mobileclf import apart, chatter, errors, progress
from mobileclf.config import as_record
from mobileclf.errors import EnvironmentProblem, MobileclfError, UsageError
from mobileclf.records import Record, read_json, write_json
from mobileclf.run import inputs_of, is_current
from mobileclf.settings import Settings

from . import devices, tensorboard

REQUEST, ANSWER = "request.json", "answer.json"
RECORD = "train.json"
PATIENCE = 3600  # seconds that the others wait for the first process, which reads the photos
ENVIRONMENT = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "1"}
TRAINED = ("dataset", "train")  # stages that the first process has made before the others end


def check(settings: Settings) -> None:
    """What can be seen before the photos are read.

    Raises UsageError as `devices.group_of`, and for several processes on another backend;
    EnvironmentProblem where JAX is not installed, or TensorBoard where logs for it are to be made.
    """
    group = devices.group_of(settings.coordinator, settings.processes, settings.process_index)
    if settings.backend == "jax":
        if find_spec("jax") is None:
            raise EnvironmentProblem(
                "--backend jax: JAX is not installed; `pip install 'mobileclf[jax]'`, or leave the "
                "option out"
            )
    elif group is not None and settings.model is None:
        raise UsageError(
            f"--processes {group.count}: wanted --backend jax, found {settings.backend}, which "
            "trains in a single process"
        )
    # A run that is trained gets no more of them.
    if settings.tensorboard and not (settings.run_folder / RECORD).exists():
        tensorboard.check()


def run(folder: Path, settings: Settings) -> Record:
    """`mobileclf.stages.train.trained(folder, settings)` in a child; returns what that does.

    Raises what it raises, where that is a MobileclfError or an OSError; EnvironmentProblem where
    memory is not enough, or the child is ended from outside or by another process of its group.
    """
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        request = {
            "folder": str(folder.absolute()),
            "settings": as_record(settings),
            # What the others would say the first process says.
            "quiet": progress.console.quiet or follows(settings),
        }
        (work / REQUEST).write_text(json.dumps(request), encoding="utf-8")
        with _messages() as descriptor:
            process = subprocess.Popen(
                apart.command(__name__, str(work), str(descriptor)),
                stdin=subprocess.PIPE,  # it is closed when this process ends, however it ends
                pass_fds=() if os.name == "nt" else (descriptor,),
                env={**os.environ, **ENVIRONMENT, "COLUMNS": str(progress.console.width)},
            )
            try:
                code = process.wait()
            finally:  # on an interrupt, too, none is left behind
                if process.poll() is None:
                    process.kill()
                    process.wait()
                assert process.stdin is not None
                with suppress(OSError):
                    process.stdin.close()
        answer = work / ANSWER
        if not answer.is_file():
            raise _ended(code, settings)
        return _found(json.loads(answer.read_text("utf-8")))


def follows(settings: Settings) -> bool:
    """Whether this is a process that trains along with another that makes the run."""
    group = devices.group_of(settings.coordinator, settings.processes, settings.process_index)
    return settings.backend == "jax" and group is not None and group.index > 0


def follow(settings: Settings, *, verbose: bool = False) -> Record:
    """Train along with the first process, in the run folder that it has made; returns {}.

    Nothing is to be done where the run is trained already. What libraries print goes to a log of
    this process's own, or with verbose to the screen. Raises EnvironmentProblem where the first
    process does not answer within PATIENCE seconds, and as `run`.
    """
    group = devices.group_of(settings.coordinator, settings.processes, settings.process_index)
    assert group is not None
    folder = settings.run_folder
    folder.mkdir(parents=True, exist_ok=True)  # before the first process may have made it
    own = folder / f"run.{group.index}.log"
    with chatter.led_to(None if verbose else own):
        progress.say(
            f"process {group.index} of {group.count}: waiting for process 0 at {group.coordinator}"
        )
        seen = 0
        for _ in devices.await_first(group, PATIENCE):
            written = _written(folder / RECORD)
            if written != seen and _is_trained(settings):
                progress.say("train: up to date")
                return {}
            seen = written
        # Curves are the first process's to write: they are the same in all.
        return run(folder, replace(settings, tensorboard=False))


def _written(record: Path) -> int:
    """When, in nanoseconds; 0 where it is not there."""
    try:
        return record.stat().st_mtime_ns
    except OSError:
        return 0


def _is_trained(settings: Settings) -> bool:
    from mobileclf.pipeline import stage

    try:
        return all(
            is_current(step, settings, inputs_of(step, settings)) for step in map(stage, TRAINED)
        )
    except (MobileclfError, OSError):
        return False  # the first process is at work on it, or will say what is wrong


@contextmanager
def _messages() -> Iterator[int]:
    """A descriptor for the child's messages and bars: what shows them here, or a pipe that is
    read out into it where that is no file, as in a notebook."""
    console = progress.console
    try:
        if console.is_jupyter or os.name == "nt":
            raise OSError
        descriptor = console.file.fileno()
    except (OSError, ValueError, AttributeError):
        pass
    else:
        console.file.flush()
        yield descriptor
        return
    if os.name == "nt":
        yield 2
        return
    reading, writing = os.pipe()

    def read_out() -> None:
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                progress.say(line.rstrip("\n"))

    reader = threading.Thread(target=read_out, daemon=True)
    reader.start()
    try:
        yield writing
    finally:
        os.close(writing)
        reader.join()


def _found(answer: Record) -> Record:
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    if "system" in answer:
        raise OSError(*answer["system"])
    found: Record = answer["found"]
    return found


def _ended(code: int, settings: Settings) -> MobileclfError:
    group = devices.group_of(settings.coordinator, settings.processes, settings.process_index)
    if code < 0 and group is not None and -code == signal.SIGABRT:
        return EnvironmentProblem(
            f"--processes {group.count}: another process did not come within {devices.GATHER} "
            "seconds, or was lost; see what the others say, and start all of them again"
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        more = " (memory may have run out)" if -code == getattr(signal, "SIGKILL", 9) else ""
        return EnvironmentProblem(
            f"train: its process was ended by {name}{more}; run the same command again to go on"
        )
    return MobileclfError(f"a defect of mobileclf in training: its process ended with {code}")


class NoTensorFlow(MetaPathFinder):
    """Finds none. (None in `sys.modules` would not do: Keras takes its name there for it.)"""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Raises ImportError for TensorFlow and what lies in it."""
        if name.split(".")[0] == "tensorflow":
            raise ModuleNotFoundError("mobileclf trains without TensorFlow here", name=name)


def main(place: str, descriptor: str) -> None:
    """Do what `request.json` in the folder `place` asks for, and write `answer.json`.

    descriptor: of an open file, for messages and bars; this ends when stdin does.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.meta_path.insert(0, NoTensorFlow())
    work = Path(place)
    request = read_json(work / REQUEST)
    messages = os.fdopen(int(descriptor), "w", encoding="utf-8", errors="replace", buffering=1)
    progress.console = Console(file=messages, soft_wrap=True, highlight=False)
    progress.console.quiet = request["quiet"]
    answer = _answer(request)
    write_json(work / ANSWER, answer)
    if "found" not in answer:
        # At a usual end JAX would wait for the other processes, which wait for this one.
        messages.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _settings(values: Record) -> Settings:
    kinds = {field.name: str(field.type) for field in fields(Settings)}
    paths = {name for name, value in values.items() if value is not None and "Path" in kinds[name]}
    given: dict[str, Any] = {k: Path(v) if k in paths else v for k, v in values.items()}
    return Settings(**given)


def _end_with_parent() -> None:
    # Unbuffered, since the thread may hold a buffer's lock when the interpreter ends.
    while os.read(0, 1024):
        pass
    os._exit(1)


def _answer(request: Record) -> Record:
    try:
        from mobileclf.stages import train

        with devices.memory_said():
            return {"found": train.trained(Path(request["folder"]), _settings(request["settings"]))}
    except MobileclfError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except OSError as error:
        traceback.print_exc()
        return {"system": [error.errno, error.strerror, error.filename]}
    except Exception as error:
        traceback.print_exc()
        words = " ".join(str(error).split())[:300]
        message = (
            f"a defect in mobileclf: {type(error).__name__}: {words}; the traceback is in the log "
            "of the run, or with -v above"
        )
        return {"error": MobileclfError.__name__, "message": message}
