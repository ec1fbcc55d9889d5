"""The layer report: ratios as by hand, layers told soundly, a broken one named where it breaks."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from mobileclf.cli import app
from mobileclf.errors import DataError, UsageError
from mobileclf.images.load import ImageSpec
from mobileclf.importing.flatten import flatten
from mobileclf.layers import explain as module
from mobileclf.layers import noise, reading
from mobileclf.layers.explain import compare, explain
from mobileclf.layers.match import activations_apart
from mobileclf.models import backbones, deploy, keras_file, qat, ranges, rewrites
from mobileclf.models import graph as graphs
from mobileclf.models.graph import Graph
from mobileclf.records import sha256_file
from mobileclf.report import layers as report
from mobileclf.tflite import convert
from mobileclf.tflite.graph import read
from tests.models import architecture, photos
from tests.variants import edited

SIDE, PHOTOS = 32, 6
NAMES = ("a", "b", "c")


def network(seed: int = 0) -> Any:
    """A small_cnn in Keras 3 with a sharp head, so that its answers differ."""
    import keras

    model = backbones.build(keras, architecture(size=SIDE))
    head = model.get_layer("probabilities")
    kernel = np.random.default_rng(seed).normal(0, 1, head.get_weights()[0].shape)
    head.set_weights([kernel.astype(np.float32), head.get_weights()[1]])
    if seed:
        for layer in model.layers:
            if layer.name.endswith("conv"):
                layer.set_weights([-weights[::-1] for weights in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run as its stages leave it, as far as the report reads it: two candidates and float32."""
    import tf_keras

    folder = tmp_path_factory.mktemp("explained")
    rows = []
    pictures = photos(PHOTOS, SIDE)
    for i, pixels in enumerate(pictures):
        place = folder / "photos" / NAMES[i % 3] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
        path, label = str(place.relative_to(folder / "photos")), NAMES[i % 3]
        digest = sha256_file(place)
        rows.append({"path": path, "label": label, "split": "validation", "sha256": digest})
    made = folder / "run"
    made.mkdir()
    with (made / "dataset.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    labels = [{"label": name, "group": None} for name in NAMES]
    spec = ImageSpec(width=SIDE, height=SIDE).as_record()
    candidates = [{"candidate": name, "file": f"model_{name}.tflite"} for name in
                  ("stock", "calibrated")]  # fmt: skip
    others = [{"variant": "float32", "file": "model_float32.tflite"}]
    for name, record in {
        "config": {"name": "explained", "data": str(folder / "photos")},
        "dataset": {"labels": labels, "kept": None, "harmful": None, "form": "class-folders"},
        "train": {"input": spec, "model": "model.keras"},
        "quantize": {
            "candidates": ["calibrated"],
            "outputs": {},
            "inputs": {"settings": {"without": None}},
        },
        "selection": {"selected": "calibrated"},
    }.items():
        (made / f"{name}.json").write_text(json.dumps(record))
    made_from = {name: sha256_file(made / name) for name in ("train.json", "quantize.json")}
    record = {"candidates": candidates, "others": others, "inputs": {"files": made_from}}
    (made / "convert.json").write_text(json.dumps(record))
    keras_file.save(network(), made / "model.keras")
    graph = rewrites.rewritten(flatten(network()).graph)
    folded, aware = graphs.build(tf_keras, graph), qat.quantized(graph)
    ranges.calibrate(graph, aware, pictures)
    for name, data in {
        "stock": convert.post_training(folded, "uint8", pictures),
        "calibrated": convert.from_quantized_graph(aware, "uint8"),
        "float32": convert.floating(folded, "float32"),
    }.items():
        (made / f"model_{name}.tflite").write_bytes(data)
    return made


@pytest.fixture(scope="module")
def explained(run) -> dict[str, Any]:
    """The report on the selected candidate."""
    return explain(run=run)


@pytest.fixture
def own(run, tmp_path) -> Path:
    """A copy of the run, to change."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def rewrite(path: Path, **other: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | other))


def row_of(record: dict[str, Any], layer: str) -> dict[str, Any]:
    return next(row for row in record["layers"] if row["layer"] == layer)


def changed(run: Path, name: str, change: Callable[[Any], None]) -> Path:
    """A file of the run with something else in it, beside it."""
    path = run.parent / f"{name}.tflite"
    path.write_bytes(edited((run / "model_calibrated.tflite").read_bytes(), change))
    return path


def operator_of(tree: Any, layer: str) -> Any:
    """The convolution of a layer in a file's tree."""
    graph = tree.subgraphs[0]
    return next(
        op for op in graph.operators
        if f"quant_{layer}/Conv2D".encode() in graph.tensors[op.outputs[0]].name
    )  # fmt: skip


def kernel_bytes(tree: Any, layer: str) -> Any:
    tensor = tree.subgraphs[0].tensors[operator_of(tree, layer).inputs[1]]
    return tree.buffers[tensor.buffer]


# The figures.


def test_a_ratio_is_the_one_by_hand():
    """Signal 9 + 16, noise 1: 10 log10 25."""
    found = noise.sums(np.float32([[3, 4]]), np.float32([[3, 3]]))
    assert (found.signal, found.noise, found.values) == (25, 1, 2)
    assert noise.decibels(found.signal, found.noise) == pytest.approx(13.9794, abs=1e-4)
    assert noise.decibels(1, 0) == math.inf and noise.decibels(0, 1) == -math.inf


def test_sums_are_those_of_a_loop_over_every_value():
    wanted = np.random.default_rng(1).normal(0, 2, (4, 5, 3)).astype(np.float32)
    grid = noise.Grid(scale=0.03, zero_point=-20, low=-128, high=127)
    found = grid.of(np.random.default_rng(2).integers(-128, 128, wanted.shape, dtype=np.int8))
    signal = off = own = cut = 0.0
    clipped = 0
    for a, b in zip(wanted.ravel().tolist(), found.ravel().tolist(), strict=True):
        step = min(range(-128, 128), key=lambda q: abs((q + 20) * 0.03 - a))
        error = (a - (step + 20) * 0.03) ** 2
        signal, off, own = signal + a * a, off + (a - b) ** 2, own + error
        if a < -108 * 0.03 - 0.015 or a > 147 * 0.03 + 0.015:
            clipped, cut = clipped + 1, cut + error
    sums = noise.sums(wanted, found, grid)
    assert clipped > 0 and sums.clipped == clipped
    assert (sums.signal, sums.noise) == pytest.approx((signal, off), rel=1e-5)
    assert (sums.grid, sums.cut) == pytest.approx((own, cut), rel=1e-3)
    assert (sums.low, sums.high) == (wanted.min(), wanted.max())
    assert sums.tops.tolist() == [abs(wanted[..., c]).max() for c in range(3)]


def test_photos_together_are_the_sums_of_all_of_them():
    wanted = np.random.default_rng(1).normal(0, 1, (5, 4, 3)).astype(np.float32)
    grid = noise.Grid(scale=0.01, zero_point=0, low=-128, high=127)
    found = grid.nearest(wanted) + np.float32(0.01)
    whole, parts = noise.sums(wanted, found, grid), None
    for photo, seen in zip(wanted, found, strict=True):
        one = noise.sums(photo, seen, grid)
        parts = one if parts is None else noise.together(parts, one)
    assert parts is not None
    for name, value in vars(whole).items():
        assert getattr(parts, name) == pytest.approx(value, rel=1e-5), name


def test_an_outlier_is_told_from_channels_that_are_alive():
    assert noise.outlier(np.float32([1, 0, 2, 16, 2])) == (8.0, 3)
    assert noise.outlier(np.float32([0, 3])) is None


def a_row(**other: Any) -> dict[str, Any]:
    row = {
        "layer": "x", "layers": ["x"], "inputs": [{"snr_db": 30.0}], "input_db": 30.0,
        "snr_db": 20.0, "fall_db": 10.0, "falls": True, "kernel_steps": 0.29, "overflow": [],
        "weights_db": 40.0, "grid_db": 40.0, "cut_share": 0.0, "range": [0.0, 1.0],
        "float_range": [0.0, 3.0], "outlier": {"times_median": 2.0, "channel": 1},
    }  # fmt: skip
    return row | other


@pytest.mark.parametrize(
    ("what", "other", "says"),
    [
        ("weights", {"weights_db": 20.5}, "its weights in 8 bits alone make 99 %"),
        ("damaged", {"weights_db": 20.5, "kernel_steps": 50.0}, "its kernel is 50 steps off"),
        ("clipping", {"grid_db": 21.0, "cut_share": 0.9}, "--calibration-photos"),
        ("outlier", {"grid_db": 21.0, "outlier": {"times_median": 20.0, "channel": 7}},
         "channel 7 reaches 20 times as far"),
        ("rounding", {"grid_db": 21.0}, "8 bits for its output alone make 88 %"),
        ("overflow", {"overflow": [3, 5]}, "2 channels (3, 5)"),
        ("carried", {}, "neither its weights nor its grid"),
    ],
)  # fmt: skip
def test_the_cause_is_what_makes_most_of_the_noise_that_is_added(what, other, says):
    """Added: 10^-2 - 10^-3 of the signal, of which weights or grid make so much."""
    row = a_row(**other)
    cause = reading.cause_of(row)
    assert cause is not None and cause.what == what
    assert says in reading.advice(row)


def test_a_layer_as_good_as_its_inputs_has_no_cause():
    assert reading.cause_of(a_row(fall_db=-1.0, snr_db=31.0)) is None


# The layers of a file.


@pytest.mark.parametrize("candidate", ["calibrated", "stock"])
def test_every_layer_of_a_sound_file_is_told_and_is_near(run, candidate):
    record = explain(run=run, candidate=candidate, photos=4)
    assert record["untold"] == [] and record["photos"] == 4
    names = [row["layer"] for row in record["layers"]]
    assert names[0] == "pixels as int8" and names[-1] == "probabilities/softmax as uint8"
    for layer in ("block1_conv", "block1_pool", "block4_conv", "features", "hidden"):
        assert layer in names
    ratios = [row["snr_db"] for row in record["layers"][1:]]
    # A tensor beside another layer's lies around 0 dB.
    assert min(ratios) > 15 and max(ratios) < 70
    for row in record["layers"]:
        assert row["grid_db"] is None or row["grid_db"] > row["snr_db"] - 1
    kernels = [row["kernel_db"] for row in record["layers"] if row["kernel_db"] is not None]
    assert len(kernels) == 6 and 38 < min(kernels) and max(kernels) < 55


def test_noise_builds_up_and_what_rounds_nothing_is_exact(explained):
    first = row_of(explained, "pixels as int8")
    assert first["exact"] and first["snr_db"] is None and first["fall_db"] is None
    convolutions = [row_of(explained, f"block{i}_conv")["snr_db"] for i in (1, 2, 3, 4)]
    assert convolutions[0] > convolutions[-1]
    pool, own = row_of(explained, "block1_pool"), row_of(explained, "block1_conv")
    assert pool["inputs"] == [{"layer": "block1_conv", "snr_db": own["snr_db"]}]


def test_a_float_file_is_the_network_itself(run):
    """What is measured is the file's: where nothing is rounded, nothing is lost."""
    data = (run / "model_float32.tflite").read_bytes()
    graph = rewrites.rewritten(flatten(network()).graph)
    found = compare("x", graph, data, read(data))
    grids = {layer.tensor: None for layer in found.found.layers}
    outputs, _ = module._measured(data, found, grids, photos(2, SIDE))
    assert not found.found.untold and len(outputs) > 10
    for own in outputs.values():
        assert noise.decibels(own.signal, own.noise) > 90


def test_a_broken_kernel_is_where_it_first_falls(run, explained):
    assert explained["first_fall"] is None or explained["first_fall"] == "probabilities/softmax"

    def damage(tree: Any) -> None:
        buffer = kernel_bytes(tree, "block3_conv")
        own = np.random.default_rng(0).integers(-127, 128, len(buffer.data), dtype=np.int8)
        buffer.data = own.view(np.uint8)

    record = explain(changed(run, "broken", damage), run=run)
    assert record["first_fall"] == record["largest_fall"] == "block3_conv"
    row = row_of(record, "block3_conv")
    assert row["cause"] == "damaged" and row["kernel_db"] < 3 and row["snr_db"] < 3
    assert row_of(record, "block2_conv")["snr_db"] == row_of(explained, "block2_conv")["snr_db"]
    assert record["advice"][0].startswith("it first falls at block3_conv")
    assert "steps off the network's" in record["advice"][1]
    assert record["nearest_to_a_fall"] is None


def test_a_range_that_cuts_is_where_it_first_falls(run):
    """Of half the scale the output of a layer ends at half of its largest value."""

    def narrow(tree: Any) -> None:
        graph = tree.subgraphs[0]
        for op in graph.operators:
            name = graph.tensors[op.outputs[0]].name
            if b"quant_hidden/" in name:
                graph.tensors[op.outputs[0]].quantization.scale = [
                    graph.tensors[op.outputs[0]].quantization.scale[0] / 4
                ]

    record = explain(changed(run, "narrow", narrow), run=run)
    row = row_of(record, "hidden")
    assert record["first_fall"] == "hidden" and row["cause"] == "clipping"
    assert row["clipped"] > 0.05 and row["range"][1] < row["float_range"][1]


def test_sums_that_can_leave_32_bits_are_told(run, explained):
    assert all(row["overflow"] == [] for row in explained["layers"])

    def fill(tree: Any) -> None:
        tensor = tree.subgraphs[0].tensors[operator_of(tree, "block2_conv").inputs[2]]
        bias = np.frombuffer(bytes(tree.buffers[tensor.buffer].data), np.int32).copy()
        bias[5] = -(2**31) + 1000
        tree.buffers[tensor.buffer].data = np.frombuffer(bias.tobytes(), np.uint8)

    record = explain(changed(run, "overflow", fill), run=run, photos=1)
    assert row_of(record, "block2_conv")["overflow"] == [5]


# Which tensor is which layer.


def chain() -> Graph:
    """Convolutions of one shape, one after another and side by side, a residual and a gate."""
    import tf_keras as k

    pixels = k.Input((8, 8, 3), name="pixels")

    def conv(name: str, x: Any) -> Any:
        return k.layers.Conv2D(4, 3, padding="same", activation="relu", name=name)(x)

    k.utils.set_random_seed(0)
    x = conv("one", pixels)
    x = conv("three", conv("two", x))
    side = conv("right", x)
    left = k.layers.DepthwiseConv2D(3, padding="same", name="left")(x)
    x = k.layers.Concatenate(name="both")([left, side])
    x = k.layers.Add(name="sum")([x, k.layers.Conv2D(8, 1, activation="swish", name="gate")(x)])
    x = k.layers.GlobalAveragePooling2D(name="features")(x)
    x = k.layers.Dense(3, activation="softmax", name="probabilities")(x)
    return rewrites.rewritten(flatten(k.Model(pixels, x)).graph)


@pytest.fixture(scope="module")
def chained() -> tuple[Graph, bytes]:
    import tf_keras

    graph = chain()
    return graph, convert.post_training(graphs.build(tf_keras, graph), "uint8", photos(16, 8))


def told(graph: Graph, data: bytes) -> tuple[dict[str, str], list[str]]:
    """Node by tensor name, and why others are not told."""
    model = read(data)
    found = compare("x", graph, data, model).found
    names = {
        model.subgraphs[0].tensors[layer.tensor].name: layer.node for layer in found.layers
    }  # fmt: skip
    return names, [each.why for each in found.untold]


def swapped(data: bytes, one: str, other: str) -> bytes:
    """The file with the names of two layers' outputs the other way round."""

    def swap(tree: Any) -> None:
        tensors = tree.subgraphs[0].tensors
        outputs = [tensors[op.outputs[0]] for op in tree.subgraphs[0].operators]
        a, b = (
            next(t for t in outputs if f"classifier/{name}/".encode() in t.name)
            for name in (one, other)
        )
        a.name, b.name = b.name, a.name

    return edited(data, swap)


def test_branches_residuals_and_activations_apart_are_told(chained):
    names, untold = told(*chained)
    assert untold == ["inside gate_swish"]
    assert {"gate", "gate_swish", "one", "two", "both", "sum", "features"} <= set(names.values())
    assert {"probabilities", "probabilities.linear"} <= set(names.values())


def test_names_the_other_way_round_are_not_believed(chained):
    """Both have the same shape; what reads them shows that they cannot be."""
    graph, data = chained
    names, untold = told(graph, swapped(data, "one", "two"))
    assert {"one", "two"}.isdisjoint(names.values())
    assert "three" in names.values()
    assert sum("is computed with other kernels" in why for why in untold) == 2


def test_branches_the_other_way_round_are_not_believed(chained):
    """Of one shape and of the same input: a depthwise kernel and one over all channels."""
    graph, data = chained
    model = read(swapped(data, "left", "right"))
    found = compare("x", graph, swapped(data, "left", "right"), model)
    rows = {layer.node: layer.operator for layer in found.found.layers}
    for name in ("left", "right"):
        assert rows.get(name) not in found.weights  # kernels of another size


def test_the_inside_of_an_activation_is_apart(chained):
    apart = activations_apart(chained[0])
    assert apart["probabilities"].kind == "Activation"
    assert apart["probabilities"].inputs == ("probabilities.linear",)
    assert apart["probabilities.linear"].config["activation"] == "linear"


def test_a_file_of_another_network_is_refused(run, chained):
    path = run.parent / "other.tflite"
    path.write_bytes(chained[1])
    with pytest.raises(DataError, match="wanted a file made of the network of"):
        explain(path, run=run)


def test_a_file_of_another_training_is_refused(run):
    import tf_keras

    graph = rewrites.rewritten(flatten(network(seed=1)).graph)
    path = run.parent / "seed.tflite"
    built = graphs.build(tf_keras, graph)
    path.write_bytes(convert.post_training(built, "uint8", photos(PHOTOS, SIDE)))
    with pytest.raises(DataError, match="found other weights: half of its kernels lie under"):
        explain(path, run=run)


def add_equalized(own: Path) -> None:
    """Channels scaled between two layers: the same function, another network and a file of it."""
    import tf_keras

    graph = rewrites.rewritten(flatten(network()).graph)
    scale = np.linspace(0.05, 4, 16).astype(np.float32)
    nodes = []
    for node in graph.nodes:
        weights = node.weights
        if node.name == "block1_conv":
            weights = (weights[0] * scale, weights[1] * scale)
        if node.name == "block2_conv":
            weights = (weights[0] / scale[:, None], weights[1])
        nodes.append(graphs.Node(**{**vars(node), "weights": weights}))
    equalized = Graph(nodes=tuple(nodes))
    (own / "own_graph").mkdir()
    graphs.save(equalized, own / "own_graph")
    (own.parent / "own.tflite").write_bytes(
        convert.post_training(graphs.build(tf_keras, equalized), "uint8", photos(PHOTOS, SIDE))
    )


def test_a_file_of_equalized_channels_is_held_against_those_that_quantize_lists(own):
    add_equalized(own)
    file = own.parent / "own.tflite"
    against_trained = explain(file, run=own, photos=2)  # the folder is there, but not listed
    names = ("own_graph/graph.json", "own_graph/weights.npz")
    rewrite(
        own / "quantize.json",
        candidates=["calibrated", "own"],
        outputs={name: sha256_file(own / name) for name in names},
    )
    record = explain(file, run=own, photos=2)
    assert (against_trained["network"], record["network"]) == ("trained", "own")
    assert row_of(against_trained, "block1_conv")["snr_db"] < 10
    assert row_of(record, "block1_conv")["snr_db"] > 20
    (own / names[0]).write_text("[]")
    with pytest.raises(DataError, match="wanted what quantize left there"):
        explain(file, run=own, photos=2)


# Files that do not belong to the run as it is.


@pytest.mark.parametrize("name", ["quantize", "train"])
@pytest.mark.parametrize("as_model", [False, True])
def test_a_file_made_before_is_refused(own, name, as_model):
    rewrite(own / f"{name}.json", later=True)
    found = command("--explain", *([own / "model_stock.tflite"] if as_model else ["--run", own]))
    assert found.exit_code == 4 and found.stderr.count("\n") == 1
    assert f"made from an earlier {name}; run `mobileclf convert --run {own}`" in found.stderr


@pytest.mark.parametrize(("missing", "command_"), [("convert", "convert"), ("selection", "select")])
def test_a_run_that_is_not_there_yet_says_what_to_run(own, missing, command_):
    (own / f"{missing}.json").unlink()
    found = command("--explain", "--run", own)
    assert found.exit_code == 4 and f"run `mobileclf {command_} --run {own}`" in found.stderr


def test_the_network_is_rewritten_as_quantize_did(own, monkeypatch):
    """Not as the settings would have it now, which quantize has not seen."""
    seen = []

    def deployable(folder: Path, without: Any) -> Any:
        seen.extend(without)
        raise DataError("enough")

    monkeypatch.setattr(deploy, "deployable", deployable)
    name = rewrites.REWRITES[0].name
    made = {"candidates": [], "outputs": {}, "inputs": {"settings": {"without": name}}}
    rewrite(own / "quantize.json", **made)
    path = own.parent / "elsewhere.tflite"
    shutil.copy(own / "model_stock.tflite", path)
    with pytest.raises(DataError, match="enough"):
        explain(path, run=own)
    assert seen == [name]


def test_a_float_file_is_no_int8_file(run):
    with pytest.raises(DataError, match="wanted an int8 file, found one that computes in float"):
        explain(run / "model_float32.tflite", photos=1)


# The command.


def command(*words: object) -> Any:
    return CliRunner().invoke(app, ["inspect", *map(str, words)])


def test_the_command_prints_tables_and_draws(run, monkeypatch, explained):
    monkeypatch.setattr(module, "explain", lambda *_, **__: explained)
    for kind, first in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        picture = run.parent / f"layers.{kind}"
        found = command("--explain", "--run", run, "--plot", picture)
        assert found.exit_code == 0 and picture.read_bytes().startswith(first)
    assert "block3_conv" in found.stdout and "what falls" in found.stdout
    again = run.parent / "again.svg"
    report.draw(explained, again)
    assert again.read_bytes() == picture.read_bytes()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_only_an_earlier_picture_is_written_over(run, monkeypatch, explained, tmp_path, kind):
    monkeypatch.setattr(module, "explain", lambda *_, **__: explained)
    picture = tmp_path / f"x.{kind}"
    for _ in range(2):
        assert command("--explain", "--run", run, "--plot", picture).exit_code == 0
    photo = tmp_path / "photo.png"
    Image.new("RGB", (4, 4)).save(photo)
    for found in (b"my notes", photo.read_bytes()):
        picture.write_bytes(found)
        refused = command("--explain", "--run", run, "--plot", picture)
        assert refused.exit_code == 2 and "wanted a new name" in refused.stderr
        assert picture.read_bytes() == found


def test_a_run_given_as_the_model_is_told_apart(run):
    found = command("--explain", run)
    assert found.exit_code == 2 and found.stderr.endswith(f"give --run {run}\n")


@pytest.mark.parametrize(("width", "whole"), [(80, False), (160, True)])
def test_no_layer_is_broken_on_a_narrow_screen(explained, width, whole):
    rows = [
        row | {"inputs": [{"snr_db": 30.0}] * 4, "falls": True, "cause": "weights"}
        for row in explained["layers"]
    ]
    console = Console(width=width)
    with console.capture() as captured:
        for made in list(report.tables(explained | {"layers": rows}, width))[:2]:
            console.print(made)
    lines = captured.get().split("\n")
    first = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    assert first == 2 * [row["layer"] for row in rows]
    head = next(line for line in lines if " layer " in line)
    assert ("kernel" in head) == whole and "cause" in head


def test_where_nothing_falls_the_nearest_is_named_and_nothing_advised(explained):
    rows = [
        row | {"falls": False, "fall_db": 4.0 if row["layer"] == "block2_conv" else -1.0}
        for row in explained["layers"]
    ]
    found = reading.summary(rows, 40.0, ["mixed", "reconstructed"])
    assert found["first_fall"] is found["largest_fall"] is None and found["falls"] == []
    assert found["nearest_to_a_fall"] == "block2_conv" and len(found["advice"]) == 1
    assert found["advice"][0].endswith("most at block2_conv, 4.0 dB under its inputs")
    shown = report._summary(explained | found)
    assert shown["nearest to a fall"] == "block2_conv" and "largest fall" not in shown


def test_advice_names_candidates_that_the_run_has():
    row = a_row(weights_db=20.5)
    assert "candidate" not in reading.advice(row)
    assert "the candidate mixed keeps" in reading.advice(row, ["mixed"])
    assert "reconstructed" not in reading.advice(row, ["mixed"])


def test_the_file_that_is_explained_is_no_remedy(run, monkeypatch):
    given = []

    def summary(rows: Any, most: float, candidates: Any) -> dict[str, Any]:
        given.append(list(candidates))
        return {}

    monkeypatch.setattr(module, "summary", summary)
    explain(run=run, candidate="stock", photos=1)
    explain(run / "model_calibrated.tflite", photos=1)
    assert given == [["calibrated"], ["stock"]]


def test_the_picture_names_what_falls(explained, tmp_path):
    falling = [
        row | {"falls": row["layer"] == "block2_pool", "cause": "rounding", "fall_db": 7.0}
        for row in explained["layers"]
    ]
    report.draw(explained | {"layers": falling}, tmp_path / "x.svg")
    assert "block2_pool: 7.0 dB" in (tmp_path / "x.svg").read_text()


def test_json_is_the_record(run):
    found = command("--explain", "--run", run, "--photos", 1, "--json")
    record = json.loads(found.stdout)
    assert record["photos"] == 1 and record["model"].endswith("model_calibrated.tflite")
    assert record["kernels"] == "built-in, without delegates"
    assert record["runtime"].startswith("ai-edge-litert ")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--explain", "--run", "nowhere"], 2, "wanted a run, found none in nowhere"),
        (["--explain", "--photos", "0"], 2, "--photos 0: wanted at least 1"),
        (["--explain", "--candidate", "best"], 2, "one of stock, calibrated\n"),
        (["--explain", "--candidate", "float32"], 2, "wanted an int8 file"),
        (["--explain", "--plot", "layers.pdf"], 2, "ends in .png or .svg"),
        (["--explain", "--plot", "no/where.png"], 2, "wanted a place in a folder that is there"),
        (["nothing.tflite", "--explain"], 4, "there is no such file"),
        (["x.tflite", "--explain", "--candidate", "stock"], 2, "found both"),
        (["x.tflite", "--photos", "3"], 2, "--photos: it is for --explain"),
        ([], 2, "inspect: wanted MODEL"),
    ],
)
def test_a_mistake_ends_in_one_line(run, words, code, says):
    if "--explain" in words and "--run" not in words:
        words = [*words, "--run", run]
    found = command(*words)
    assert found.exit_code == code and found.stdout == ""
    assert found.stderr.count("\n") == 1 and says in found.stderr


def test_a_run_of_a_tflite_has_no_float_network(run, monkeypatch):
    monkeypatch.setattr(module.from_tflite, "is_given", lambda folder: True)
    with pytest.raises(DataError, match="wanted a run with a float network"):
        explain(run=run)


def test_a_run_is_only_read(run, explained):
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    with pytest.raises(UsageError):
        explain(run=run, candidate="nobody")
    explain(run=run, photos=1)
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before
