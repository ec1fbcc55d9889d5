"""The first layer at which two runtimes, or two kernel families, part: every operator's output of a
`.tflite` on one beside that on another.

A delegate keeps what is inside it to itself, so the file is run with every operator's output made
an output of the graph. Each runtime works in a process of its own, since two in one clash.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mobileclf import apart
from mobileclf.errors import DataError
from mobileclf.records import Record
from mobileclf.tflite.edit import Edit
from mobileclf.tflite.graph import read
from mobileclf.tflite.runtimes import MODULES, OLDEST, Runtime, at_hand, runtime_name

TIME_LIMIT = 300  # seconds for one runtime
MODEL, PHOTOS, FOUND = "model.tflite", "photos.npy", "found.npz"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A runtime and the kernels that it runs a model on."""

    runtime: Runtime
    kernels: str

    @property
    def name(self) -> str:
        return f"{runtime_name(self.runtime)}, {self.kernels}"


FIRST = Way(runtime="ai-edge-litert", kernels="xnnpack")  # what ships
OTHERS = (
    Way(runtime="tensorflow", kernels="xnnpack"),
    Way(runtime="ai-edge-litert", kernels="builtin"),
    # It has no others for int8. Without its delegate, which may not take so many outputs.
    Way(runtime=OLDEST, kernels="builtin"),
)


def partings(model: bytes, photos: NDArray[np.uint8], ways: Sequence[Way] = OTHERS) -> list[Record]:
    """Where each of `ways` that is installed parts from FIRST. photos: uint8 (n, h, w, channels).

    Of each: `one` and `other`, the runtimes; photos; first: None where not a byte differs, else
    the operator whose output does first, in the order of the file: layer (its tensor's name),
    operator, depth (its index), share of the values that differ, largest_difference (quanta of
    that tensor, or its unit where it is float); output_difference, of the last tensor. Where one
    could not run it: `problem`, in place of these.
    """
    exposed = _exposed(model)
    graph = read(exposed).subgraphs[0]
    makers = [(i, tensor) for i, op in enumerate(graph.operators) for tensor in op.outputs]
    wanted = _outputs(exposed, photos, FIRST)
    rows: list[Record] = []
    for way in ways:
        if not at_hand(way.runtime):
            continue
        row: Record = {"one": FIRST.name, "other": way.name, "photos": len(photos)}
        try:
            found = _outputs(exposed, photos, way)
        except DataError as error:
            rows.append({**row, "problem": str(error)})
            continue
        apart_at = next(
            (k for k, (a, b) in enumerate(zip(wanted, found, strict=True)) if _bytes(a, b)), None
        )
        first = None
        if apart_at is not None:
            (depth, tensor), a, b = makers[apart_at], wanted[apart_at], found[apart_at]
            first = {
                "layer": graph.tensors[tensor].name,
                "operator": graph.operators[depth].name,
                "depth": depth,
                "share": float((a != b).mean()),
                "largest_difference": _difference(a, b),
            }
        rows.append(
            {**row, "first": first, "output_difference": _difference(wanted[-1], found[-1])}
        )
    return rows


def _bytes(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.tobytes() != b.tobytes()


def _difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())


def _exposed(model: bytes) -> bytes:
    """The file with every operator's output as an output of the graph, in their order."""
    edit = Edit(model)
    edit.graph.outputs = [int(t) for op in edit.graph.operators for t in op.outputs]
    edit.tree.signatureDefs = edit.tree.metadata = None  # both are about the old one
    return edit.packed(len(model))


def _outputs(model: bytes, photos: NDArray[np.uint8], way: Way) -> list[NDArray[Any]]:
    """All outputs, each (photos, ...). Raises DataError where the runtime cannot run it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / MODEL).write_bytes(model)
        np.save(folder / PHOTOS, photos)
        command = apart.command(__name__, name, way.runtime, way.kernels)
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT
            )
        except subprocess.TimeoutExpired as error:
            raise DataError(f"{way.name}: no answer in {TIME_LIMIT} seconds") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
            raise DataError(f"{way.name}: cannot run it with all tensors kept ({lines[-1]})")
        with np.load(folder / FOUND, allow_pickle=False) as found:
            return [found[f"arr_{i}"] for i in range(len(found.files))]


def main(folder: str, runtime: str, kernels: str) -> None:
    """In the child: run the photos, and keep all outputs. Raises what the runtime raises."""
    module = import_module(MODULES[cast(Runtime, runtime)])
    options: dict[str, Any] = {"num_threads": 1}
    if kernels == "builtin":
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = resolver
    engine = module.Interpreter(model_path=str(Path(folder) / MODEL), **options)
    engine.allocate_tensors()
    (given,) = engine.get_input_details()
    outputs = [each["index"] for each in engine.get_output_details()]
    dtype = given["dtype"]
    shift = 128 if dtype == np.int8 else 0
    rows: list[list[NDArray[Any]]] = []
    for photo in np.load(Path(folder) / PHOTOS, allow_pickle=False):
        engine.set_tensor(given["index"], (photo[None].astype(np.int16) - shift).astype(dtype))
        engine.invoke()
        rows.append([engine.get_tensor(index) for index in outputs])
    np.savez(Path(folder) / FOUND, *(np.concatenate(each) for each in zip(*rows, strict=True)))
