"""Time a `.tflite` on one runtime, whose module `main` is told, in a process of its own.

Says a JSON line once the runtime is imported, then answers each request, a JSON line on its
input, with one on its output. It ends with its input, so that none outlives the process that
started it, and does nothing while it waits.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import apart

LEAST_INVOKES = 3
# Of the time measured, how much goes before it: pages are touched, caches filled, threads started.
WARM_UP = 0.2
MOST_SENT = 1000


def main(module_name: str) -> None:
    """Serve until the input ends."""
    answers = _private_output()
    # Ctrl-C goes to the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    try:
        module = import_module(module_name)
    except Exception as error:
        _say(answers, {"problem": _line(error)})
        return
    apart.limit_memory()
    _reset_peak()
    baseline = _resident()
    _say(answers, {"ready": True})
    while True:
        request = json.loads(requests.get())
        start = time.process_time()
        try:
            answer = _timed(module, **request)
        except (MemoryError, RuntimeError, TypeError, ValueError) as error:
            answer = {"problem": _line(error)}
        answer["cpu_seconds"] = time.process_time() - start
        answer["memory_bytes"] = max(0, _peak() - baseline)
        _say(answers, answer)


def _timed(
    module: Any, *, model: str, kernels: str, threads: int, seconds: float, seed: int
) -> dict[str, Any]:
    """Load the model anew, warm up, and invoke for `seconds`, at least LEAST_INVOKES times.

    Loading each time puts weights and buffers into other memory, which by itself moves latencies
    by some percent; and only one model is in memory at a time. Times are in milliseconds.
    """
    options: dict[str, Any] = {"num_threads": threads}
    if kernels == "builtin":
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = resolver
    start = time.perf_counter()
    engine = module.Interpreter(model_path=model, **options)
    engine.allocate_tensors()
    load = time.perf_counter() - start
    generator = np.random.default_rng(seed)
    details = engine.get_input_details()
    inputs = [(d["index"], _values(d["shape"], d["dtype"], generator)) for d in details]
    first = _invoke(engine, inputs)
    end = time.perf_counter() + WARM_UP * seconds
    while time.perf_counter() < end:
        _invoke(engine, inputs)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_INVOKES or time.perf_counter() < end:
        times.append(_invoke(engine, inputs))
    # Of a tiny model, an even sample: tens of thousands of numbers would say no more.
    step = -(-len(times) // MOST_SENT)
    return {
        "load_ms": 1000 * load,
        "first_ms": 1000 * first,
        "times_ms": [round(1000 * t, 6) for t in times[::step]],
        "invokes": len(times),
        "delegates": sum(op["op_name"] == "DELEGATE" for op in engine._get_ops_details()),
        "inputs": [{"shape": list(v.shape), "dtype": str(v.dtype)} for _, v in inputs],
    }


def _invoke(engine: Any, inputs: list[tuple[int, NDArray[Any]]]) -> float:
    """Seconds of one invoke. The inputs are set before, as an app does, outside the time."""
    for index, value in inputs:
        engine.set_tensor(index, value)
    start = time.perf_counter()
    engine.invoke()
    return time.perf_counter() - start


def _values(shape: NDArray[Any], dtype: Any, generator: np.random.Generator) -> NDArray[Any]:
    """Any byte in small integers, 0..1 in floats; zeros elsewhere, where values may be indices.

    No float is a denormal, with which some processors are many times slower.
    """
    kind = np.dtype(dtype)
    if kind in (np.int8, np.uint8, np.int16):
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, shape, kind, endpoint=True)
    if kind.kind == "f":
        return generator.random(shape).astype(kind)
    if kind.kind in "biu":
        return np.zeros(shape, kind)
    raise ValueError(f"an input of {kind} cannot be made up")


def _listen(requests: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    # The parent is gone or has done with us. Not sys.exit: a model may be running.
    os._exit(0)


def _private_output() -> IO[str]:
    """The output for answers alone; what libraries print to it goes to stderr from now on."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def _say(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _line(error: BaseException) -> str:
    return " ".join((str(error) or type(error).__name__).split("\n")[0].split())


def _status(key: str) -> int | None:
    """Bytes of a line of Linux' own account of this process."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _resident() -> int:
    """Bytes of memory in use now."""
    found = _status("VmRSS:")
    if found is not None:
        return found
    import psutil

    return int(psutil.Process().memory_info().rss)


def _peak() -> int:
    """Most bytes of memory that were in use at once.

    Not Linux' ru_maxrss: that one begins with what the parent had when it started the child.
    """
    found = _status("VmHWM:")
    if found is not None:
        return found
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def _reset_peak() -> None:
    """Forget the import's own peak, where the system can (Linux); elsewhere it may hide some."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
