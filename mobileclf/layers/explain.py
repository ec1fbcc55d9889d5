"""The layer report: each layer of an int8 file beside the float network's, on a run's photos.

The file runs on ai-edge-litert's built-in kernels without a delegate, which alone leave every
tensor to be read; the float network is the run's own, rewritten as it was for the conversion.
Photos go through both one by one, and only sums are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import chatter, cores, progress
from mobileclf.errors import DataError, UsageError
from mobileclf.importing import from_tflite
from mobileclf.models import graph as graphs
from mobileclf.models.graph import Graph
from mobileclf.photos import load_part
from mobileclf.records import Record
from mobileclf.run import version_of
from mobileclf.settings import Settings
from mobileclf.tflite.graph import Model, Tensor, file_bytes, read
from mobileclf.tflite.inspect import LIMITS
from mobileclf.tflite.interpreter import Interpreter, answer, open_interpreter

from . import PHOTOS, files
from .files import File
from .match import LINEAR_PART, Layer, Match, Shapes, activations_apart, match
from .noise import BIT, Grid, Sums, decibels, outlier, sums, together
from .reading import MIXED, cause_of, ceiling, finite, summary
from .weights import Weights, distances, read_weights

PART = "validation"
RUNTIME = "ai-edge-litert"
# Decibels that half of the kernels have to reach for a file to be of a network. Rounding to 8 bits
# leaves some 40; the kernels of another training lie under 0.
SAME_WEIGHTS = 10.0


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A file held against one network: which layer is which, and the weights in the file.
    built: the network in tf_keras."""

    name: str
    graph: Graph
    built: Any
    found: Match
    weights: Mapping[int, Weights]
    kernels: Mapping[int, float]


def explain(
    model: Path | str | None = None,
    *,
    run: Path | str | None = None,
    name: str | None = None,
    candidate: str | None = None,
    photos: int = PHOTOS,
    config: Path | None = None,
    verbose: bool = False,
) -> Record:
    """Where an int8 file loses what its float network says: a row for each operator.

    model: any `.tflite` made of the run's network, or a bundle's folder. None: the run's file of
    `candidate`, by default the one that was selected. run, name: of the run; by default the one
    that `model` lies in. photos: how many of the run's validation photos, at most. verbose: let
    through what libraries print. Ratios are in decibels, 10 log10(sum of float^2 / sum of
    (float - int8)^2), None where there is no noise or no signal.

    Raises UsageError where there is no such run or candidate, DataError where the file is not of
    the run's network, computes in float or was made before the run's last quantize, and where the
    run was made of a `.tflite`.
    """
    if photos < 1:
        raise UsageError(f"--photos {photos}: wanted at least 1")
    if model is not None and candidate is not None:
        raise UsageError("--candidate: wanted either MODEL or a candidate of the run, found both")
    settings = files.settings_of(model, {"run": run, "name": name}, config)
    folder = settings.run_folder
    if from_tflite.is_given(folder):
        raise DataError(
            f"{folder}: wanted a run with a float network, found one made of a .tflite; there is "
            "nothing to compare its layers with"
        )
    file = files.file_of(model, candidate, folder)
    data = file_bytes(file.path)
    with _quiet(verbose):
        return {
            "model": str(file.path),
            "run": str(folder),
            **_explained(file, data, folder, settings, photos),
        }


def _explained(file: File, data: bytes, folder: Path, settings: Settings, photos: int) -> Record:
    model, networks = read(data), files.networks(folder)
    compared = _closest(file.path, data, model, networks.graphs, folder)
    tensors = model.subgraphs[0].tensors
    grids = {layer.tensor: _grid(tensors[layer.tensor]) for layer in compared.found.layers}
    if not any(grids.values()):
        raise DataError(f"{file.path}: wanted an int8 file, found one that computes in float")
    in_float = any(grids[layer.tensor] is None for layer in compared.found.layers if layer.nodes)
    own = {file.candidate, compared.name, MIXED if in_float else None}
    part, pixels = load_part(folder, settings, PART, most=photos)
    measured = _measured(data, compared, grids, pixels)
    most = ceiling([decibels(own.signal, own.grid) for own in measured[0].values() if own.grid])
    rows = _rows(model, compared, grids, measured, most)
    operators = model.subgraphs[0].operators
    return {
        "network": compared.name,
        "part": PART,
        "photos": len(part),
        "runtime": f"{RUNTIME} {version_of(RUNTIME)}",
        "kernels": "built-in, without delegates",
        **summary(rows, most, [name for name in networks.candidates if name not in own]),
        "layers": rows,
        "untold": [
            {
                "operator": operators[each.operator].name,
                "tensor": tensors[operators[each.operator].outputs[0]].name,
                "why": each.why,
            }
            for each in compared.found.untold
        ],
    }


def _closest(
    path: Path, data: bytes, model: Model, references: Mapping[str, Graph], folder: Path
) -> Compared:
    """The network whose kernels the file's lie closest to. Raises DataError where none is close."""
    best: tuple[float, Compared] | None = None
    for name, graph in references.items():
        compared = compare(name, graph, data, model)
        if compared.kernels:
            close = median(compared.kernels.values())
            if best is None or close > best[0]:
                best = close, compared
    if best is None:
        raise DataError(
            f"{path}: wanted a file made of the network of {folder}, found none of its layers in it"
        )
    if best[0] < SAME_WEIGHTS:
        raise DataError(
            f"{path}: wanted a file made of the network of {folder}, found other weights: half of "
            f"its kernels lie under {best[0]:.0f} dB (8 bits leave some 40)"
        )
    return best[1]


def compare(name: str, graph: Graph, data: bytes, model: Model) -> Compared:
    """Hold a file against a network. name: what the network is called in the report."""
    import tf_keras

    apart = activations_apart(graph)
    built = graphs.build(tf_keras, apart)
    shapes: Shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in built.layers}
    found = match(model, apart, shapes)
    weights = read_weights(data, model, apart, found)
    return Compared(
        name=name, graph=apart, built=built, found=found, weights=weights,
        kernels=distances(apart, found, weights),
    )  # fmt: skip


def _grid(tensor: Tensor) -> Grid | None:
    """None of a float tensor. Raises DataError for integers that stand for nothing known."""
    if tensor.dtype.startswith("float"):
        return None
    if len(tensor.scales) != 1 or tensor.dtype not in LIMITS:
        raise DataError(f"model: wanted one scale of {tensor.name!r} ({tensor.dtype}), found none")
    low, high = LIMITS[tensor.dtype]
    return Grid(scale=tensor.scales[0], zero_point=int(tensor.zero_points[0]), low=low, high=high)


def _measured(
    data: bytes, compared: Compared, grids: Mapping[int, Grid | None], pixels: NDArray[np.uint8]
) -> tuple[dict[int, Sums], dict[int, Sums]]:
    """Sums over the photos by operator: of its output, and of the float layer with the file's
    weights in place of its own."""
    interpreter = open_interpreter(data, kernels="builtin", threads=cores.usable(), keep_all=True)
    network = _network(compared)
    outputs: dict[int, Sums] = {}
    alone: dict[int, Sums] = {}
    for photo in progress.track(pixels, "explain", len(pixels)):
        wanted, with_weights = network(photo)
        _run(interpreter, photo)
        for layer in compared.found.layers:
            values, grid = interpreter.engine.get_tensor(layer.tensor), grids[layer.tensor]
            found = values if grid is None else grid.of(values)
            _add(outputs, layer.operator, sums(wanted[layer.node], found, grid))
            if layer.operator in with_weights:
                own = sums(wanted[layer.node], with_weights[layer.operator])
                _add(alone, layer.operator, own)
    return outputs, alone


def _run(interpreter: Interpreter, photo: NDArray[np.uint8]) -> None:
    if photo.shape != interpreter.shape:
        raise DataError(f"model: wanted an input of {photo.shape}, found {interpreter.shape}")
    shift = 128 if interpreter.input.dtype == np.int8 else 0
    answer(interpreter, (photo.astype(np.int16) - shift).astype(interpreter.input.dtype))


def _add(all_: dict[int, Sums], key: int, new: Sums) -> None:
    all_[key] = together(all_[key], new) if key in all_ else new


Values = NDArray[np.float32]


def _network(
    compared: Compared,
) -> Callable[[NDArray[np.uint8]], tuple[dict[str, Values], dict[int, Values]]]:
    """The float network as a function of one photo: the outputs of its layers by name, and by
    operator those of the layers that were given the file's weights and the float inputs."""
    import tf_keras

    built = compared.built
    layers = {layer.operator: layer for layer in compared.found.layers}
    names = sorted({layer.node for layer in layers.values()})
    twins = {i: _twin(compared, layers[i], own) for i, own in compared.weights.items()}
    model = tf_keras.Model(
        built.input, [*(built.get_layer(name).output for name in names), *twins.values()]
    )

    def outputs(photo: NDArray[np.uint8]) -> tuple[dict[str, Values], dict[int, Values]]:
        found = [each.numpy() for each in model(photo[None].astype(np.float32), training=False)]
        wanted = dict(zip(names, found[: len(names)], strict=True))
        return wanted, dict(zip(twins, found[len(names) :], strict=True))

    return outputs


def _twin(compared: Compared, layer: Layer, own: Weights) -> Any:
    """The output of a layer, its activation included, from float inputs and the file's weights."""
    import tf_keras

    made: dict[str, Any] = {}
    for name in layer.nodes:
        node = compared.graph[name]
        sources = [
            made[i] if i in made else compared.built.get_layer(i).output for i in node.inputs
        ]
        if name == layer.kernel:
            node = replace(node, name=f"{name}.file", config={**node.config, "use_bias": True})
            keras_layer = graphs.layer_of(tf_keras, node)
            made[name] = keras_layer(sources[0])
            keras_layer.set_weights([own.kernel, own.bias])
        else:
            made[name] = compared.built.get_layer(name)(sources if len(sources) > 1 else sources[0])
    return made[layer.node]


def _rows(
    model: Model,
    compared: Compared,
    grids: Mapping[int, Grid | None],
    measured: tuple[Mapping[int, Sums], Mapping[int, Sums]],
    most: float,
) -> list[Record]:
    """One row for each told operator, in the order they run in. most: what inputs count as at
    best, decibels."""
    outputs, alone = measured
    operators, tensors = model.subgraphs[0].operators, model.subgraphs[0].tensors
    by_tensor = {layer.tensor: layer for layer in compared.found.layers}
    ratios = {
        layer.tensor: decibels(outputs[layer.operator].signal, outputs[layer.operator].noise)
        for layer in compared.found.layers
    }
    rows = []
    for layer in compared.found.layers:
        own, grid = outputs[layer.operator], grids[layer.tensor]
        inputs = [
            {
                "layer": _shown(by_tensor[t], compared.graph, tensors)
                if t in by_tensor
                else compared.graph.nodes[0].name,
                "snr_db": finite(ratios[t]) if t in ratios else None,
            }
            for t in layer.inputs
        ]
        weights, far = compared.weights.get(layer.operator), outlier(own.tops)
        worst = min([most, *(ratios[t] for t in layer.inputs if t in ratios)])
        drop = finite(worst - ratios[layer.tensor])
        with_weights = alone.get(layer.operator)
        row: Record = {
            "layer": _shown(layer, compared.graph, tensors),
            "operator": operators[layer.operator].name,
            "depth": layer.operator,
            "layers": list(layer.nodes),
            "snr_db": finite(ratios[layer.tensor]),
            "exact": own.noise == 0,
            "inputs": inputs,
            "input_db": finite(worst),
            "fall_db": drop,
            "falls": drop is not None and drop >= BIT and bool(layer.nodes),
            "kernel_db": weights and finite(compared.kernels[layer.operator]),
            "kernel_steps": weights and weights.steps,
            "weights_db": with_weights
            and finite(decibels(with_weights.signal, with_weights.noise)),
            "overflow": list(weights.overflow) if weights else [],
            "grid_db": finite(decibels(own.signal, own.grid)),
            "range": None if grid is None else list(grid.ends),
            "float_range": [own.low, own.high],
            "clipped": own.clipped / own.values,
            "cut_share": own.cut / own.grid if own.grid else 0.0,
            "outlier": far and {"times_median": far[0], "channel": far[1]},
        }
        found = cause_of(row)
        rows.append({**row, "cause": found and found.what, "cause_share": found and found.share})
    return rows


def _shown(layer: Layer, graph: Graph, tensors: Sequence[Tensor]) -> str:
    """The name that a person knows a layer by: the one with the kernel; `x/softmax` where the
    activation of a layer x is computed by itself, `x as uint8` where only the type changes."""
    if layer.kernel is not None:
        return layer.kernel.removesuffix(LINEAR_PART)
    name = layer.node.removesuffix(LINEAR_PART)
    if f"{layer.node}{LINEAR_PART}" in graph[layer.node].inputs:
        name = f"{layer.node}/{graph[layer.node].config['activation']}"
    return name if layer.nodes else f"{name} as {tensors[layer.tensor].dtype}"


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keeps what libraries print off the screen, unless `verbose`. A run is only read."""
    with TemporaryDirectory() as apart:
        with nullcontext() if verbose else chatter.led_to(Path(apart) / "log"):
            yield
