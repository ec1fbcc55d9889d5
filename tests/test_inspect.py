"""`inspect` says of any file what it holds, adds up, and never falls over a broken one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console

from mobileclf.cli.inspect import inspect as command
from mobileclf.decision import Abstain, Classes, Decision, decision_file
from mobileclf.errors import DataError
from mobileclf.report import inspection
from mobileclf.tflite import delegates, graph, metadata, quantization, runtimes
from mobileclf.tflite import inspect as module
from mobileclf.tflite.delegates import MAIN, Loaded
from mobileclf.tflite.inspect import inspect
from mobileclf.tflite.runtime_versions import RELEASES, first_release, release_key
from tests.models import LABELS, SIZE, tiny_int8
from tests.test_delegates import BENCHMARK
from tests.test_graph import KINDS, edited

DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
THIRD = DATA / "tflite" / "mobilenet_v1_0.25_128_quant.tflite"


@pytest.fixture
def only_litert(monkeypatch):
    """TensorFlow takes seconds to start, and most tests ask nothing of it."""
    monkeypatch.setattr(runtimes, "installed", lambda: [MAIN])


@pytest.fixture
def no_runtime(monkeypatch):
    monkeypatch.setattr(delegates, "load", lambda model, runtimes: [])


def of(model: bytes, folder: Path) -> dict[str, object]:
    path = folder / "model.tflite"
    path.write_bytes(model)
    return inspect(path)


def labelled() -> bytes:
    """The small model with metadata, labels and a decision in it."""
    about = metadata.Description(
        name="n", description="d", version="1", author="a", width=SIZE, height=SIZE, channels=3,
        minimum_score=None,
    )  # fmt: skip
    classes = Classes(labels=("a", "b", "c"), groups=("x", "y", "x"), harmful="x")
    rule = decision_file(classes, Decision(group="x", threshold_q=95, kernel_bound=3))
    return metadata.write(tiny_int8(), about, {"labels.txt": b"a\nb\nc\n", "decision.json": rule})


def test_ends_have_the_range_that_scale_and_zero_point_give(only_litert, tmp_path):
    found = of(tiny_int8("int8"), tmp_path)
    (given,), (out,) = found["inputs"], found["outputs"]
    assert (given["dtype"], given["shape"]) == ("int8", [1, SIZE, SIZE, 3])
    assert given["quantization"] == {
        "per": "tensor", "axis": None, "scale": [1.0], "zero_point": [-128]
    }  # fmt: skip
    assert given["range"] == [0, 255] and given["shape_signature"] is None
    assert (out["shape"], out["range"]) == ([1, LABELS], [0, 255 / 256])


def test_a_float_end_has_no_range_and_a_free_size_is_told(no_runtime, tmp_path):
    def free(tree):
        tree.subgraphs[0].tensors[tree.subgraphs[0].inputs[0]].shapeSignature = [-1, 16, 16, 3]

    (given,) = of(edited(KINDS["float32"](), free), tmp_path)["inputs"]
    assert given["range"] is given["quantization"] is None
    assert given["shape"] == [1, 16, 16, 3] and given["shape_signature"] == [-1, 16, 16, 3]


@pytest.mark.parametrize(
    ("kind", "verdict", "works"),
    [
        ("int8", "int8, full integer", {"int8", "cast"}),
        ("int8 with float ends", "int8 inside, float at input and output", {"int8", "cast"}),
        ("float32", "float32", {"float32"}),
        ("float16 weights", "float16 weights, float32 arithmetic", {"float32", "cast"}),
        ("dynamic range", "dynamic range: ", {"hybrid", "float32"}),
        ("int16x8", "int16x8 inside, float at input and output", {"int16", "cast"}),
    ],
)
def test_the_verdict_on_what_the_converter_makes(kind, verdict, works):
    found = quantization.quantization(graph.read(KINDS[kind]()))
    assert found["verdict"].startswith(verdict)
    assert set(found["operators"]) - {"plain integer"} == works
    wanted = {"float32": None, "float16 weights": None}.get(kind, "per channel")
    assert found["granularity"] in (wanted, wanted and "both")


def test_one_float_operator_makes_a_mixture():
    model = graph.read(KINDS["int8"]())
    first = model.subgraphs[0]
    where = next(i for i, op in enumerate(first.operators) if op.name == "SOFTMAX")
    ends = {*first.operators[where].inputs, *first.operators[where].outputs}
    tensors = tuple(
        graph.Tensor(**{**vars(t), "dtype": "float32", "scales": (), "zero_points": ()})
        if i in ends else t
        for i, t in enumerate(first.tensors)
    )  # fmt: skip
    mixed = graph.Subgraph(**{**vars(first), "tensors": tensors})
    found = quantization.quantization(graph.Model(**{**vars(model), "subgraphs": (mixed,)}))
    # The layer before the softmax now ends in float and has int8 weights.
    assert found["kind"] == "mixed"
    assert found["operators"]["float32"] == 1 and found["operators"]["hybrid"] == 1
    assert found["verdict"].endswith("int8, 1 float32, 1 hybrid")


def test_some_weights_in_float16_are_no_float16_model():
    model = graph.read(KINDS["float16 weights"]())
    first = model.subgraphs[0]
    stored = [i for i, t in enumerate(first.tensors) if t.dtype == "float16" and len(t.shape) > 1]
    tensors = list(first.tensors)
    tensors[stored[0]] = replace(tensors[stored[0]], dtype="float32")
    found = quantization.quantization(
        replace(model, subgraphs=(replace(first, tensors=tuple(tensors)),))
    )
    half, total = len(stored) - 1, len(stored)
    assert half >= 1 and found["kind"] == "mixed"
    assert found["verdict"] == f"mixed: float arithmetic, {half} of {total} weights in float16"


@pytest.mark.skipif(not THIRD.is_file(), reason=f"no data in {DATA}; set MOBILECLF_DATA")
def test_a_third_partys_model(only_litert):
    found = inspect(THIRD)
    assert found["quantization"]["kind"] == "uint8"
    assert found["quantization"]["weights"] == {"uint8, per tensor": 28}
    assert found["inputs"][0]["range"] == [-1, 127 / 128]
    assert found["oldest_runtime"]["by_operators"] == "1.5.0" and found["oldest_runtime"]["agree"]
    (file,) = found["metadata"]["files"]
    assert (file["name"], file["type"]) == ("imagenet_labels.txt", "TENSOR_AXIS_LABELS")
    assert found["xnnpack"]["delegates"] == 2 and found["decision"] is None
    assert sum(found["sizes"]["parts"].values()) == THIRD.stat().st_size
    assert found["sizes"]["parts"]["associated files"] > file["bytes"]


@pytest.mark.parametrize("kind", [*KINDS, "labelled"])
def test_sizes_add_up_to_the_file(kind, no_runtime, tmp_path):
    model = labelled() if kind == "labelled" else KINDS[kind]()
    sizes = of(model, tmp_path)["sizes"]
    assert sum(sizes["parts"].values()) == len(model)
    assert min(sizes["parts"].values()) >= 0
    # By another way: the object tree has the data themselves.
    tree = graph.parse(model)
    described = {entry.buffer for entry in tree.metadata}
    held = [len(b.data) if b.data is not None else 0 for b in tree.buffers]
    constants = sum(n for i, n in enumerate(held) if i not in described)
    assert sizes["parts"]["metadata"] == sum(held) - constants
    assert sizes["parts"]["constants of operators"] + sizes["parts"]["other buffers"] == constants
    assert sum(layer["bytes"] for layer in sizes["layers"]) == constants > 0
    assert (sizes["parts"]["associated files"] > 0) == (kind == "labelled")


def test_weights_stored_smaller_belong_to_the_layer_that_uses_them(no_runtime, tmp_path):
    found = of(KINDS["float16 weights"](), tmp_path)["sizes"]["layers"]
    assert {"CONV_2D", "FULLY_CONNECTED"} <= {layer["operator"] for layer in found}
    assert not any(layer["operator"] == "DEQUANTIZE" for layer in found)


def test_a_shared_buffer_counts_once_and_is_said(no_runtime, tmp_path):
    plain = of(tiny_int8(), tmp_path)["sizes"]

    def share(tree):
        tensors = tree.subgraphs[0].tensors
        first, second = [op for op in tree.subgraphs[0].operators if len(op.inputs) == 3][:2]
        tensors[second.inputs[2]].buffer = tensors[first.inputs[2]].buffer

    shared = of(edited(tiny_int8(), share), tmp_path)["sizes"]
    (owner,) = [layer for layer in shared["layers"] if layer["shared_with"]]
    assert len(owner["shared_with"]) == 1
    assert all(not layer["shared_with"] for layer in plain["layers"])
    lost = plain["parts"]["constants of operators"] - shared["parts"]["constants of operators"]
    assert lost == shared["parts"]["other buffers"] > 0


def test_data_that_overlap_are_refused():
    opened = metadata.opened(labelled())
    buffers = opened.graph.buffers
    held = next(buffer for buffer in buffers if buffer.bytes > 1)
    for other in (
        graph.Buffer(start=held.start, bytes=held.bytes - 1),
        graph.Buffer(start=held.start + held.bytes - 1, bytes=1),
    ):
        both = replace(opened.graph, buffers=(*buffers, other))
        with pytest.raises(DataError, match="found buffers that overlap"):
            module._sizes(replace(opened, graph=both))
    end = max(buffer.start + buffer.bytes for buffer in buffers)
    module._sizes(replace(opened, files_at=end))
    with pytest.raises(DataError, match="found buffers that overlap"):
        module._sizes(replace(opened, files_at=end - 1))


def test_many_operators_on_one_constant_cost_no_time():
    """The time would grow with the square of their number."""
    opened = metadata.opened(tiny_int8())
    first = opened.graph.subgraphs[0]
    user = next(op for op in first.operators if len(op.inputs) == 3)
    many = replace(first, operators=(user,) * 30_000)
    start = time.process_time()
    sizes = module._sizes(replace(opened, graph=replace(opened.graph, subgraphs=(many,))))
    assert len(sizes["layers"][0]["shared_with"]) == 2 * 29_999
    assert time.process_time() - start < 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_oldest_runtime_is_the_one_the_converter_wrote(kind):
    model = KINDS[kind]()
    found = module._oldest_runtime(model, graph.read(model))
    assert found["unknown"] == []
    if kind == "int16x8":  # the converter writes it before this quantizer raises the versions
        assert (found["agree"], found["by_converter"]) == (False, "1.6.0")
    else:
        assert found["agree"] is True and found["by_converter"] == found["by_operators"]


def test_an_unknown_version_leaves_the_oldest_runtime_unknown():
    def newer(tree):
        next(code for code in tree.operatorCodes if code.builtinCode == 3).version = 99

    model = edited(tiny_int8(), newer)
    found = module._oldest_runtime(model, graph.read(model))
    assert found["by_operators"] is None and found["agree"] is None
    assert found["unknown"] == ["CONV_2D 99"] and found["at_least"]


def test_another_version_in_the_file_does_not_agree():
    def other(tree):
        index = next(e.buffer for e in tree.metadata if e.name == b"min_runtime_version")
        tree.buffers[index].data = np.frombuffer(b"9.9.9".ljust(16, b"\0"), np.uint8)

    model = edited(tiny_int8(), other)
    found = module._oldest_runtime(model, graph.read(model))
    assert (found["by_converter"], found["agree"]) == ("9.9.9", False)


def test_releases_are_in_order_and_of_real_operators():
    from ai_edge_litert import schema_py_generated as schema

    for name, releases in RELEASES.items():
        assert hasattr(schema.BuiltinOperator, name)
        keys = [release_key(release) for release in releases.split() if release != "-"]
        assert keys == sorted(keys)
    assert first_release("CONV_2D", 3) == "1.14.0" and first_release("TILE", 1) == "1.10.1"
    for name, version in (("CONV_2D", 0), ("CONV_2D", 99), ("BROADCAST_TO", 1), ("NONE", 1)):
        assert first_release(name, version) is None
    assert release_key("2.9.0") < release_key("2.10.0")


def test_releases_are_those_tensorflow_itself_knows():
    asked = subprocess.run(
        [sys.executable, str(BENCHMARK), "--releases"], capture_output=True, text=True, timeout=120
    )
    if asked.returncode == 2:
        pytest.skip(asked.stderr.strip())
    assert asked.returncode == 0, asked.stdout or asked.stderr


def test_every_runtime_at_hand_is_asked(tmp_path):
    found = of(tiny_int8(), tmp_path)
    asked = [row["runtime"].split()[0] for row in found["runtimes"]]
    assert asked == runtimes.installed() and len(asked) >= 2
    assert all(row["loads"] is True for row in found["runtimes"])
    assert found["runtimes"][0]["delegates"] == found["xnnpack"]["delegates"] == 1


def test_a_custom_operator_is_named_and_litert_says_that_it_lacks_it(only_litert, tmp_path):
    def flex(tree):
        code = tree.operatorCodes[0]
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, "FlexErf"

    found = of(edited(tiny_int8(), flex), tmp_path)
    (row,) = [row for row in found["operators"] if row["custom"]]
    assert row["operator"] == "CUSTOM FlexErf" and row["flex"] and row["first_release"] is None
    (runtime,) = found["runtimes"]
    assert runtime["loads"] is False and "FlexErf" in runtime["reason"]
    assert found["xnnpack"] is None


@pytest.mark.parametrize("reason", ["crashed (exit -11)", "no answer in 120 seconds"])
def test_a_file_that_litert_does_not_survive_is_bad_data(monkeypatch, tmp_path, reason):
    ended = Loaded(runtime="ai-edge-litert 2", loads=False, reason=reason, ended=True)
    monkeypatch.setattr(delegates, "load", lambda model, runtimes: [ended])
    with pytest.raises(DataError, match=r"model.tflite: ai-edge-litert 2 cannot load it: "):
        of(tiny_int8(), tmp_path)


def test_metadata_decision_and_who_accepts_it(no_runtime, tmp_path):
    found = of(labelled(), tmp_path)
    assert found["metadata"]["outputs"][0]["labels"] == ["a", "b", "c"]
    assert found["decision"]["rule"] == "x from 95 of 256 for the sum of a, c"
    assert [row["accepted"] for row in found["accepted_by"]] == [True, True]


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("largest", "where the largest output < 31"),
        ("margin", "where the largest output less the second < 31"),
        ("score", "where the threshold less that sum < 31"),
    ],
)
def test_a_rule_that_abstains_is_told(by, said):
    classes = Classes(labels=("a", "b", "c"), groups=("x", "y", "x"), harmful="x")
    decision = Decision(group="x", threshold_q=95, abstain=Abstain(by=by, cut_q=31), kernel_bound=3)
    found = module._decision({"decision.json": decision_file(classes, decision)})
    assert found["rule"] == f"x from 95 of 256 for the sum of a, c; under it not sure {said}"
    assert found["abstain"] == {"by": by, "cut": 31 / 256, "cut_q": 31}


def test_somebody_elses_decision_is_no_rule():
    assert module._decision({}) is None
    for text in (b"[1]", b"{}", b"\xff", b'{"decision": 3}'):
        found = module._decision({"decision.json": text})
        assert found["rule"] is None and "not a decision of mobileclf" in found["problem"]


def bundle(folder: Path, **model) -> Path:
    data = tiny_int8()
    (folder / "model.tflite").write_bytes(data)
    about = {"file": "model.tflite", "sha256": module.sha256_bytes(data), "min_runtime": "2.14"}
    body = {"name": "n", "model": {**about, **model}}
    (folder / "bundle.json").write_text(json.dumps(body))
    return folder


def test_a_bundles_model_is_held_against_its_sha256(no_runtime, tmp_path):
    found = inspect(bundle(tmp_path))
    assert found["bundle"]["sha256_agrees"] is True and found["bundle"]["min_runtime"] == "2.14"
    with (tmp_path / "model.tflite").open("ab") as file:
        file.write(b"\0")
    assert inspect(tmp_path)["bundle"]["sha256_agrees"] is False


@pytest.mark.parametrize("name", ["../model.tflite", "other.tflite", ""])
def test_a_bundle_without_its_model_is_refused(name, no_runtime, tmp_path):
    with pytest.raises(DataError, match="wanted the model file"):
        inspect(bundle(tmp_path, file=name))


def no_file(folder: Path) -> Path:
    return folder / "none.tflite"


def made(data: bytes, name: str, folder: Path) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_file, "there is no such file"),
        (lambda folder: folder, "found a folder without bundle.json"),
        (partial(made, b"", "a.tflite"), "found an empty one"),
        (partial(made, b"PK\x03\x04 and more", "m.keras"), "found a zip, as .keras files are"),
        (partial(made, b"no model at all", "a.tflite"), "found other bytes"),
        (partial(made, b"\0\0\0\x7fTFL3", "a.tflite"), "a .tflite that cannot be read"),
    ],
)
def test_what_is_no_model_ends_with_one_line_and_4(make, message, tmp_path, capsys):
    with pytest.raises(typer.Exit) as ended:
        command(make(tmp_path))
    said = capsys.readouterr()
    assert ended.value.exit_code == 4 and said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and message in said.err


def test_the_command_prints_tables_or_json(only_litert, tmp_path, capsys):
    path = made(labelled(), "m.tflite", tmp_path)
    command(path, json=True)
    assert json.loads(capsys.readouterr().out)["quantization"]["kind"] == "int8"
    command(path)
    shown = capsys.readouterr().out
    for words in ("int8, full integer", "CONV_2D", "XNNPACK: 1 delegate", "labels.txt", "x from"):
        assert words in shown


def test_names_from_a_file_do_not_steer_the_terminal(no_runtime, tmp_path):
    def steer(tree):
        tree.subgraphs[0].tensors[tree.subgraphs[0].inputs[0]].name = "a\x1b[2Jb[red]"
        tree.description = "\x1b]0;x\x07"

    console = Console(width=200, record=True, file=open(os.devnull, "w"))
    for made_ in inspection.tables(of(edited(tiny_int8(), steer), tmp_path)):
        console.print(made_)
    shown = console.export_text()
    assert "\x1b" not in shown and "\x07" not in shown and "[2Jb[red]" in shown


def test_broken_files_end_in_bad_data_or_a_record(no_runtime, tmp_path):
    """Cut at many places, and with bytes flipped: nothing but DataError, and no time lost."""
    model = labelled()
    rng = np.random.default_rng(0)
    broken = [model[: int(n)] for n in np.linspace(0, len(model) - 1, 60)]
    head = graph.read(model).buffers
    tables = min(b.start for b in head if b.bytes)
    for i in range(240):
        copy = bytearray(model)
        # Most hits in the data change nothing that is read: half go to the graph's own tables.
        top = len(copy) if i % 2 else max(tables, 4000)
        for at in rng.integers(0, top, rng.integers(1, 9)):
            copy[at] = rng.integers(0, 256)
        copy[4:8] = model[4:8]
        broken.append(bytes(copy))
    console = Console(width=120, file=open(os.devnull, "w"))
    refused, longest = 0, 0.0
    for data in broken:
        start = time.process_time()
        try:
            record = of(data, tmp_path)
            json.dumps(record, allow_nan=False)
            for shown in inspection.tables(record):
                console.print(shown)
            assert sum(record["sizes"]["parts"].values()) == len(data)
        except DataError as error:
            refused += 1
            assert str(error).startswith(str(tmp_path))
        longest = max(longest, time.process_time() - start)
    assert 60 < refused < len(broken) and longest < 5
