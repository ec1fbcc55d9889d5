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
from mobileclf.config import Settings, make_settings
from mobileclf.errors import DataError, UsageError
from mobileclf.importing import from_tflite
from mobileclf.models import deploy
from mobileclf.models import graph as graphs
from mobileclf.models.graph import Graph
from mobileclf.photos import load_part
from mobileclf.pipeline import CONFIG_RECORD, settings_for
from mobileclf.records import Record, read_json, sha256_file
from mobileclf.run import version_of
from mobileclf.spelling import rewrites_of
from mobileclf.tflite.graph import Model, Tensor, file_bytes, read
from mobileclf.tflite.inspect import LIMITS, located
from mobileclf.tflite.interpreter import Interpreter, answer, open_interpreter

from . import PHOTOS
from .match import LINEAR_PART, Layer, Match, Shapes, activations_apart, match
from .noise import BIT, Grid, Sums, decibels, outlier, sums, together
from .reading import cause_of, ceiling, finite, summary
from .weights import Weights, distances, read_weights

PART = "validation"
RUNTIME = "ai-edge-litert"
GRAPHS = "_graph"  # after a candidate's name: the folder of a network of the same function
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
    the run's network or the run was made of a `.tflite`.
    """
    if photos < 1:
        raise UsageError(f"--photos {photos}: wanted at least 1")
    if model is not None and candidate is not None:
        raise UsageError("--candidate: wanted either MODEL or a candidate of the run, found both")
    settings = _settings(model, {"run": run, "name": name}, config)
    folder = settings.run_folder
    path = located(Path(model))[0] if model is not None else _file_of(folder, candidate)
    data = file_bytes(path)
    with _quiet(verbose):
        return {
            "model": str(path),
            "run": str(folder),
            **_explained(path, data, folder, settings, photos),
        }


def _settings(
    model: Path | str | None, given: Mapping[str, object], config: Path | None
) -> Settings:
    """The run's. Raises UsageError where there is none."""
    beside = Path(model).parent if model is not None else None
    if beside is not None and not any(given.values()) and (beside / CONFIG_RECORD).is_file():
        given = {"run": beside}
    folder = make_settings(given, config=config).run_folder
    if not (folder / CONFIG_RECORD).is_file():
        raise UsageError(
            f"--explain: wanted a run, found none in {folder}; give --run or --name of one"
        )
    return settings_for(given, "inspect", config=config)


def _file_of(folder: Path, candidate: str | None) -> Path:
    """A candidate's file. Raises UsageError for an unknown one."""
    made = read_json(folder / "convert.json")
    files = {entry["candidate"]: entry["file"] for entry in made["candidates"]}
    files |= {entry["variant"]: entry["file"] for entry in made["others"]}
    if candidate is None:
        candidate = str(read_json(folder / "selection.json")["selected"])
    if candidate not in files:
        raise UsageError(
            f"--candidate {candidate}: wanted one of {', '.join(files)}, which {folder} has"
        )
    return folder / str(files[candidate])


def _explained(path: Path, data: bytes, folder: Path, settings: Settings, photos: int) -> Record:
    if from_tflite.is_given(folder):
        raise DataError(
            f"{folder}: wanted a run with a float network, found one made of a .tflite; there is "
            "nothing to compare its layers with"
        )
    model = read(data)
    compared = _closest(path, data, model, networks(folder, settings), folder)
    part, pixels = load_part(folder, settings, PART, most=photos)
    tensors = model.subgraphs[0].tensors
    grids = {layer.tensor: _grid(tensors[layer.tensor]) for layer in compared.found.layers}
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
        **summary(rows, most),
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


def networks(folder: Path, settings: Settings) -> dict[str, Graph]:
    """The float networks that the run's files were made of, by name: the trained one, rewritten,
    and those of the same function in other numbers, as equalized channels give them."""
    found = {"trained": deploy.deployable(folder, rewrites_of(settings.without)).graph}
    known = set()
    for each in sorted(folder.glob(f"*{GRAPHS}")):
        if (digest := sha256_file(each / "weights.npz")) not in known:
            known.add(digest)
            found[each.name.removesuffix(GRAPHS)] = graphs.read(each)
    return found


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
