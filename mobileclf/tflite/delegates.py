"""What a runtime makes of a model: whether it loads it, and which operators its delegates take.

The runtime is asked in a process of its own, since a broken file may crash it, and since two
runtimes in one process clash.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from mobileclf import apart, progress
from mobileclf.errors import DataError, EnvironmentProblem
from mobileclf.records import Record

from .graph import Subgraph, read
from .runtimes import MODULES, Runtime, runtime_name

MAIN: Runtime = "ai-edge-litert"
DELEGATE = "DELEGATE"  # the name of a node that stands for the operators a delegate took
TIME_LIMIT = 120  # seconds; TensorFlow alone may take ten to start
READY = "ready"
LARGEST_INPUT = 64_000_000  # values; a photo of 4,600 pixels a side
RUN = "run"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of a runtime's plan: an operator of the model, or DELEGATE."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """How a runtime took a model.

    runtime: name and version. loads: None when the runtime itself could not start. reason: why
    not, or why its plan is not known, in its own words. ended: it crashed or gave no answer in
    time. delegate: the delegate's name where the runtime said it. nodes: the plan of the first
    subgraph, empty when it is not known.
    """

    runtime: str
    loads: bool | None
    reason: str | None = None
    ended: bool = False
    delegate: str | None = None
    nodes: tuple[Node, ...] = ()

    def as_record(self) -> Record:
        """What `inspect` lists of each runtime."""
        return {"runtime": self.runtime, "loads": self.loads, "reason": self.reason}


def load(
    model: Path, runtimes: Sequence[Runtime], *, run: bool = False, time_limit: float = TIME_LIMIT
) -> list[Loaded]:
    """Have each of the installed `runtimes` load a file, side by side, in processes of their own.

    run: run it once, too, on zeros; `loads` is then whether that went well. time_limit: seconds
    for each. Nothing in the file can raise or crash here.
    """
    started: list[tuple[Runtime, subprocess.Popen[str]]] = []
    try:
        started += ((runtime, _start(runtime, model, run)) for runtime in runtimes)
        waited = progress.track(started, "runtimes", len(started))
        return [_finish(runtime, child, time_limit) for runtime, child in waited]
    finally:
        for _, child in started:  # on an interrupt, too, none is left behind
            if child.poll() is None:
                child.kill()
                child.communicate()


def check_runs(path: Path) -> None:
    """Have LiteRT load and run somebody's model in a process of its own, before it is in ours.

    Raises DataError for what is no sound `.tflite`, wants an input of more than LARGEST_INPUT
    values, or does not run there once, on zeros; EnvironmentProblem where LiteRT cannot start.
    """
    first = read(path.read_bytes()).subgraphs[0]
    for tensor in (first.tensors[i] for i in first.inputs):
        if (values := math.prod(tensor.shape)) > LARGEST_INPUT:
            raise DataError(
                f"model: wanted an input of at most {LARGEST_INPUT:,} values, found {values:,}"
            )
    (found,) = load(path, [MAIN], run=True)
    if found.loads is None:
        raise EnvironmentProblem(f"{found.runtime}: {found.reason}")
    if not found.loads:
        raise DataError(f"model: {found.runtime} cannot run it ({found.reason})")


def _start(runtime: Runtime, model: Path, run: bool) -> subprocess.Popen[str]:
    what = [runtime, str(model.absolute()), *([RUN] if run else [])]
    return subprocess.Popen(
        apart.command(__name__, *what),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _finish(runtime: Runtime, child: subprocess.Popen[str], time_limit: float) -> Loaded:
    name = runtime_name(runtime)
    try:
        said, logged = child.communicate(timeout=time_limit)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        reason = f"no answer in {time_limit:g} seconds"
        return Loaded(runtime=name, loads=False, reason=reason, ended=True)
    lines = said.splitlines()
    if READY not in lines:
        reason = (logged.strip().splitlines() or [f"exit {child.returncode}"])[-1]
        return Loaded(runtime=name, loads=None, reason=f"cannot start: {reason}")
    if child.returncode:
        reason = f"crashed (exit {child.returncode})"
        return Loaded(runtime=name, loads=False, reason=reason, ended=True)
    answer = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
    nodes = tuple(
        Node(name=node, inputs=tuple(inputs), outputs=tuple(outputs))
        for node, inputs, outputs in answer["nodes"]
    )
    return Loaded(
        runtime=name,
        loads=answer["loads"],
        reason=answer["reason"],
        delegate="XNNPACK" if "XNNPACK delegate" in logged else None,
        nodes=nodes,
    )


def shares(graph: Subgraph, loaded: Loaded) -> Record:
    """Which operators the delegates took, and which are left to the built-in kernels.

    A delegate's node has its outer tensors alone: what it took is found by walking from its
    outputs back to its inputs. Operators that lead nowhere cannot be told and are counted as
    `untold`. Raises DataError when the runtime's plan is not one of this graph.
    """
    own = loaded.nodes[: len(graph.operators)]
    delegates = loaded.nodes[len(graph.operators) :]
    known = [(node.inputs, node.outputs) for node in own]
    if known != [(op.inputs, op.outputs) for op in graph.operators] or any(
        node.name != DELEGATE for node in delegates
    ):
        raise DataError(
            f"model: {loaded.runtime} runs other operators than the file lists; "
            "which of them its delegates take cannot be told"
        )
    maker = {tensor: i for i, op in enumerate(graph.operators) for tensor in op.outputs}
    taken: dict[int, int] = {}
    for number, delegate in enumerate(delegates):
        stops = set(delegate.inputs)
        waiting = [tensor for tensor in delegate.outputs if tensor not in stops]
        while waiting:
            i = maker.get(waiting.pop())
            if i is None or i in taken:
                continue
            taken[i] = number
            waiting += [tensor for tensor in graph.operators[i].inputs if tensor not in stops]
    used = {tensor for op in graph.operators for tensor in op.inputs} | set(graph.outputs)
    left, untold = [], 0
    for i, op in enumerate(graph.operators):
        if i in taken:
            continue
        if delegates and not used & set(op.outputs):
            untold += 1
        else:
            left.append(i)
    sizes = Counter(taken.values())
    layers: dict[str, list[str]] = {}
    for i in left:
        layers.setdefault(graph.operators[i].name, []).append(_layer(graph, i))
    return {
        "runtime": loaded.runtime,
        "delegate": loaded.delegate,
        "delegates": len(delegates),
        "operators": len(graph.operators),
        "operators_taken": len(taken),
        "taken_by_each": [sizes[number] for number in range(len(delegates))],
        "operators_left": [
            {"operator": name, "count": len(each), "layers": each}
            for name, each in sorted(layers.items(), key=lambda item: -len(item[1]))
        ],
        "untold": untold,
    }


def _layer(graph: Subgraph, index: int) -> str:
    outputs = graph.operators[index].outputs
    return graph.tensors[outputs[0]].name if outputs else graph.operators[index].name


def main(runtime: str, model: str, run: str = "") -> None:
    """In the child: load the model, and print the plan of its nodes as JSON on the last line."""
    module = import_module(MODULES[cast(Runtime, runtime)])
    apart.limit_memory()
    print(READY, flush=True)
    answer: dict[str, Any] = {"loads": False, "reason": None, "nodes": []}
    try:
        engine = module.Interpreter(model_path=model, num_threads=1)
        engine.allocate_tensors()
        if run == RUN:
            _run(engine)
        answer["loads"] = True  # whatever comes of the names, which may be no UTF-8
        answer["nodes"] = [
            (
                node["op_name"],
                [int(i) for i in node["inputs"] if i >= 0],
                [int(i) for i in node["outputs"] if i >= 0],
            )
            for node in engine._get_ops_details()
        ]
    except Exception as error:  # whatever it is, it is the runtime's reason
        answer["reason"] = " ".join(str(error).split())[:600] or type(error).__name__
    print(json.dumps(answer), flush=True)


def _run(engine: Any) -> None:
    import numpy as np

    for given in engine.get_input_details():
        engine.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
    engine.invoke()
