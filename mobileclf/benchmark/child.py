"""The other end of `worker`: a process with one runtime, asked and answered in JSON lines."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import threading
from types import TracebackType

from mobileclf import apart, chatter
from mobileclf.errors import EnvironmentProblem
from mobileclf.records import Record
from mobileclf.tflite.runtimes import MODULES, Runtime

from . import worker

# No answer takes as long, on a machine however busy; a model that hangs is given up. Seconds.
LIMIT = 180.0


class Child:
    """A process that times models on one runtime; it ends with the block, or with its parent.

    verbose: what the runtime prints goes to the screen. Raises EnvironmentProblem when the
    runtime cannot be imported.
    """

    def __init__(self, runtime: Runtime, *, verbose: bool = False, limit: float = LIMIT) -> None:
        chatter.set_environment()
        self._limit = limit
        self._printed = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            apart.command(worker.__name__, MODULES[runtime]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if verbose else self._printed,
            text=True,
            encoding="utf-8",
        )
        try:
            if problem := self._answer().get("problem"):
                raise EnvironmentProblem(
                    f"{runtime}: installed, but cannot be imported ({problem}); "
                    "repair it, or choose others with --runtime"
                )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, **request: object) -> Record:
        """What `worker` answers; with a `problem` when the model cannot be run.

        Also when the process died of it or gave no answer in time; then it answers no more.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it is dead, which the answer says
        return self._answer()

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._printed):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:
                pass  # a request that could not be delivered

    def _answer(self) -> Record:
        assert self._process.stdout is not None
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        timer = threading.Timer(self._limit, give_up)
        # An interrupt may come at any point here, and no timer may keep the process from ending.
        timer.daemon = True
        try:
            timer.start()
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            answer: Record = json.loads(line)
            return answer
        code = self._process.wait()
        if late.is_set():
            return {"problem": f"no answer within {self._limit:g} s"}
        return {"problem": f"its process {_ended(code)}{self._last_words()}"}

    def _last_words(self) -> str:
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").split("\n")
        said = [" ".join(line.split()) for line in lines if line.strip()]
        return f": {said[-1][:200]}" if said and not said[-1].startswith("INFO") else ""


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
