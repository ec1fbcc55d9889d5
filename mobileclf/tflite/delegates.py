"""What a runtime makes of a model: whether it loads it, and which operators its delegates take.

The runtime is asked in a process of its own (`python -m` this, a runtime and a file), since a
broken file may crash it, and since two runtimes in one process clash.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from mobileclf import progress
from mobileclf.errors import DataError
from mobileclf.records import Record

from .graph import Subgraph
from .interpreter import MODULES, Runtime, runtime_name

MAIN: Runtime = "ai-edge-litert"
DELEGATE = "DELEGATE"  # the name of a node that stands for the operators a delegate took
TIME_LIMIT = 120  # seconds; TensorFlow alone may take ten to start
READY = "ready"


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
    model: Path, runtimes: Sequence[Runtime], *, time_limit: float = TIME_LIMIT
) -> list[Loaded]:
    """Have each of the installed `runtimes` load a file, side by side, in processes of their own.

    time_limit: seconds for each. Nothing in the file can raise or crash here.
    """
    started: list[tuple[Runtime, subprocess.Popen[str]]] = []
    try:
        started += ((runtime, _start(runtime, model)) for runtime in runtimes)
        waited = progress.track(started, "runtimes", len(started))
        return [_finish(runtime, child, time_limit) for runtime, child in waited]
    finally:
        for _, child in started:  # on an interrupt, too, none is left behind
            if child.poll() is None:
                child.kill()
                child.communicate()


def _start(runtime: Runtime, model: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", __name__, runtime, str(model.absolute())]
    return subprocess.Popen(
        command,
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
    names = Counter(graph.operators[i].name for i in left)
    return {
        "runtime": loaded.runtime,
        "delegate": loaded.delegate,
        "delegates": len(delegates),
        "operators": len(graph.operators),
        "operators_taken": len(taken),
        "taken_by_each": [sizes[number] for number in range(len(delegates))],
        "operators_left": [
            {
                "operator": name,
                "count": count,
                "layers": [_layer(graph, i) for i in left if graph.operators[i].name == name],
            }
            for name, count in names.most_common()
        ],
        "untold": untold,
    }


def _layer(graph: Subgraph, index: int) -> str:
    outputs = graph.operators[index].outputs
    return graph.tensors[outputs[0]].name if outputs else graph.operators[index].name


def main(runtime: str, model: str) -> None:
    """In the child: load the model, and print the plan of its nodes as JSON on the last line."""
    module = import_module(MODULES[cast(Runtime, runtime)])
    _limit_memory()
    print(READY, flush=True)
    answer: dict[str, Any] = {"loads": False, "reason": None, "nodes": []}
    try:
        engine = module.Interpreter(model_path=model, num_threads=1)
        engine.allocate_tensors()
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


def _limit_memory() -> None:
    """Keep a broken file from asking for more memory than the machine has, where that can be."""
    try:
        import resource
    except ImportError:  # Windows
        return
    import psutil

    most = psutil.Process().memory_info().vms + psutil.virtual_memory().total
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
