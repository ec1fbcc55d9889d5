"""Try packages in a process of its own, since one may abort, hang or clash with another.

`main` is the child: it says a JSON line when it starts a step and one when it is done. `tried` is
the parent, which knows by these lines which step a dead or silent child was in.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import IO, Any

from mobileclf import apart
from mobileclf.chatter import QUIET_ENVIRONMENT

LIMIT = 60.0
# int8 ADD of (1, 2, 3, 4) and a constant, in scale 1.
MODEL = Path(__file__).with_name("tiny.tflite")
GIVEN, WANTED = [1, 2, 3, 4], [11, 22, 33, 44]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a step: its answer, or in one line why there is none."""

    answer: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def main(*steps: str) -> None:
    """Do the steps, `kind argument` each, and answer on stdout; all other output goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for step in steps:
        _say(answers, {"start": step})
        kind, _, argument = step.partition(" ")
        try:
            _say(answers, {"step": step, "answer": WORK[kind](argument)})
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a package may also end the process with SystemExit
            first = (str(error).strip().splitlines() or [""])[0]
            _say(answers, {"step": step, "problem": f"{type(error).__name__}: {first[:200]}"})


def _say(answers: IO[str], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


def _import(name: str) -> dict[str, Any]:
    version = getattr(import_module(name), "__version__", None)
    return {"version": version if isinstance(version, str) else None}


def _run(name: str) -> dict[str, Any]:
    """Whether the runtime in module `name` computes, and whether XNNPACK did."""
    import numpy as np

    engine = import_module(name).Interpreter(model_content=MODEL.read_bytes())
    engine.allocate_tensors()
    engine.set_tensor(engine.get_input_details()[0]["index"], np.array([GIVEN], np.int8))
    engine.invoke()
    given = engine.get_tensor(engine.get_output_details()[0]["index"])[0].tolist()
    operators = {operator["op_name"] for operator in engine._get_ops_details()}
    return {"output": given, "xnnpack": "DELEGATE" in operators}


def _devices(name: str) -> dict[str, Any]:
    """The GPUs that `tensorflow` or `jax` sees."""
    if name == "jax":
        devices = import_module("jax").devices()
        seen = [device for device in devices if device.platform in ("gpu", "cuda", "rocm")]
        return {"gpus": [str(device.device_kind) for device in seen]}
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return {"gpus": [d.get("device_name", "GPU") for d in details],
            "cuda": bool(tf.test.is_built_with_cuda())}  # fmt: skip


WORK: dict[str, Callable[[str], dict[str, Any]]] = {
    "import": _import, "run": _run, "devices": _devices,
}  # fmt: skip


def tried(
    steps: Sequence[str], *, done: Callable[[], None], stop: Event, limit: float = LIMIT
) -> dict[str, Outcome]:
    """The outcome of each step, in one child; in a new one after a step that ended it.

    limit: seconds for all of them. done is called for each step. stop ends it at once.
    """
    outcomes: dict[str, Outcome] = {}
    end = time.monotonic() + limit

    def keep(step: str, outcome: Outcome) -> None:
        outcomes[step] = outcome
        done()

    while (left := [step for step in steps if step not in outcomes]) and not stop.is_set():
        ended = _child(left, keep, stop, end)
        begun = next(step for step in (*steps, "") if step not in outcomes)
        if begun and not ended:
            keep(begun, Outcome(problem=f"no answer in {limit:.0f} s"))
            for step in (step for step in steps if step not in outcomes):
                keep(step, Outcome(problem=f"not tried, since {begun!r} gave no answer"))
        elif begun:
            keep(begun, Outcome(problem=ended))
    return outcomes


def _child(
    steps: Sequence[str], keep: Callable[[str, Outcome], None], stop: Event, end: float
) -> str | None:
    """Run one child until it ends: how it did, or None when the time was over."""
    quiet = {**QUIET_ENVIRONMENT, "TF_CPP_MIN_LOG_LEVEL": "2",
             "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # fmt: skip
    try:
        child = subprocess.Popen(
            apart.command(__name__, *steps), env={**quiet, **os.environ},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"no process can be started ({error.strerror})"
    with child, _ended(child):
        assert child.stdout is not None and child.stderr is not None
        left = set(steps)
        answers: Queue[str | None] = Queue()
        said: deque[str] = deque(maxlen=20)
        threads = [
            Thread(target=_drain, args=(child.stdout, answers.put), daemon=True),
            Thread(target=_drain, args=(child.stderr, said.append), daemon=True),
        ]
        for thread in threads:
            thread.start()
        while True:
            try:
                line = answers.get(timeout=0.1)
            except Empty:
                if not stop.is_set() and time.monotonic() < end:
                    continue
                return None
            if line is None:
                break
            message = json.loads(line)
            if "step" in message:
                keep(message["step"], Outcome(
                    answer=message.get("answer", {}), problem=message.get("problem")
                ))  # fmt: skip
                left.discard(message["step"])
                if not left:  # what it does on its way out is not waited for
                    return "done"
        try:
            child.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        threads[1].join(timeout=1)
    return _how_it_ended(child.returncode, said)


@contextmanager
def _ended(child: subprocess.Popen[str]) -> Iterator[None]:
    """Kills the child at the end, and what it started: that holds its pipes open, too."""
    try:
        yield
    finally:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):  # macOS: of one that has ended
                os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def _drain(stream: IO[str], put: Callable[[Any], None]) -> None:
    with suppress(ValueError):  # closed meanwhile
        for line in stream:
            put(line)
    put(None)


def _how_it_ended(code: int, said: deque[str]) -> str:
    words = [line.strip() for line in said if line and line.strip()]
    last = f" ({words[-1][:160]})" if words else ""
    if code < 0:
        return f"the process was ended by a signal: {signal.strsignal(-code)}{last}"
    return f"the process ended with exit code {code}{last}"
