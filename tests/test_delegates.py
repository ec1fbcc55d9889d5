"""What LiteRT's delegates take, told for small graphs; crashes and hangs end as answers."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from mobileclf.errors import DataError, EnvironmentProblem
from mobileclf.tflite import convert, delegates, graph
from mobileclf.tflite.delegates import MAIN, Loaded, Node
from tests.models import photos, tiny_float, tiny_int8
from tests.test_graph import edited

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "inspect_against_litert.py"


@cache
def three_layers(pooled: bool) -> bytes:
    """Convolution, average pooling of stride 1 or none, convolution, as int8."""
    from tf_keras import Sequential, layers

    pooling = [layers.AveragePooling2D(3, strides=1, padding="same")] if pooled else []
    model = Sequential(
        [layers.Input((16, 16, 3)), layers.Conv2D(8, 3), *pooling, layers.Conv2D(8, 3)]
    )
    return convert.post_training(model, "int8", photos())


def share(model: bytes, folder: Path) -> dict[str, object]:
    path = folder / "model.tflite"
    path.write_bytes(model)
    (loaded,) = delegates.load(path, [MAIN])
    assert loaded.loads
    return delegates.shares(graph.read(model).subgraphs[0], loaded)


def test_an_average_pooling_of_stride_1_cuts_an_int8_graph_in_two(tmp_path):
    found = share(three_layers(True), tmp_path)
    # The converter's own types at the ends are int8, so nothing else is left over.
    assert (found["delegates"], found["operators"], found["operators_taken"]) == (2, 3, 2)
    assert found["taken_by_each"] == [1, 1]
    (left,) = found["operators_left"]
    assert (left["operator"], left["count"]) == ("AVERAGE_POOL_2D", 1)
    assert "average_pooling2d" in left["layers"][0]
    assert found["untold"] == 0 and found["delegate"] == "XNNPACK"
    assert str(found["runtime"]).startswith("ai-edge-litert ")


def test_without_it_there_is_one_delegate(tmp_path):
    found = share(three_layers(False), tmp_path)
    assert (found["delegates"], found["operators"], found["operators_taken"]) == (1, 2, 2)
    assert found["operators_left"] == [] and found["untold"] == 0


def test_in_float_xnnpack_takes_all(tmp_path):
    found = share(tiny_float(), tmp_path)
    assert found["delegates"] == 1 and found["operators_left"] == []
    assert found["operators_taken"] == found["operators"] > 3


def test_it_is_what_litert_logs(tmp_path):
    names = []
    for name, model in {
        "pooled": three_layers(True),
        "plain": three_layers(False),
        "int8": tiny_int8(),
        "float": tiny_float(),
    }.items():
        names.append(str(tmp_path / f"{name}.tflite"))
        Path(names[-1]).write_bytes(model)
    asked = subprocess.run(
        [sys.executable, str(BENCHMARK), *names], capture_output=True, text=True, timeout=120
    )
    if asked.returncode == 2:
        pytest.skip(asked.stderr.strip())
    assert asked.returncode == 0, asked.stdout
    assert asked.stdout.count("same ") == 4


def line(*names: str) -> graph.Subgraph:
    """Operators one after another, tensor i to i + 1."""
    tensor = {
        "dtype": "int8", "shape": (1,), "signature": None, "scales": (), "zero_points": (),
        "axis": 0, "buffer": 0,
    }  # fmt: skip
    return graph.Subgraph(
        name="",
        tensors=tuple(graph.Tensor(name=f"t{i}", **tensor) for i in range(len(names) + 1)),
        inputs=(0,),
        outputs=(len(names),),
        operators=tuple(
            graph.Operator(name=name, version=1, inputs=(i,), outputs=(i + 1,), types=())
            for i, name in enumerate(names)
        ),
    )


def loaded(graph_: graph.Subgraph, *taken: tuple[int, int]) -> Loaded:
    """A plan with a delegate from tensor to tensor for each of `taken`."""
    own = [Node(name=op.name, inputs=op.inputs, outputs=op.outputs) for op in graph_.operators]
    extra = [Node(name="DELEGATE", inputs=(a,), outputs=(b,)) for a, b in taken]
    return Loaded(runtime="r 1", loads=True, nodes=(*own, *extra))


def test_a_delegate_takes_what_lies_between_its_ends():
    chain = line("A", "B", "C", "D", "E")
    found = delegates.shares(chain, loaded(chain, (0, 2), (3, 4)))
    assert found["taken_by_each"] == [2, 1]
    assert [row["operator"] for row in found["operators_left"]] == ["C", "E"]
    assert found["operators_left"][0]["layers"] == ["t3"]


def test_an_operator_that_leads_nowhere_is_not_guessed():
    chain = line("A", "B", "C")
    dead = graph.Subgraph(**{**vars(chain), "outputs": (2,)})
    found = delegates.shares(dead, loaded(dead, (0, 2)))
    assert (found["operators_taken"], found["untold"], found["operators_left"]) == (2, 1, [])


def test_a_plan_of_other_operators_is_refused():
    chain = line("A", "B")
    with pytest.raises(DataError, match="cannot be told"):
        delegates.shares(chain, loaded(line("A", "B", "C"), (0, 3)))


def started(monkeypatch, code: str) -> None:
    """Have `code` run in place of a runtime."""
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    monkeypatch.setattr(
        delegates, "_start", lambda runtime, model, run: subprocess.Popen(command, **pipes)
    )


@pytest.mark.parametrize(
    ("code", "loads", "ended", "reason"),
    [
        ("import os; print('ready', flush=True); os.abort()", False, True, "crashed"),
        ("import time; print('ready', flush=True); time.sleep(60)", False, True, "no answer in 2"),
        ("raise SystemExit('no such symbol')", None, False, "cannot start: no such symbol"),
    ],
)
def test_what_ends_a_runtime_is_said(monkeypatch, tmp_path, code, loads, ended, reason):
    started(monkeypatch, code)
    (found,) = delegates.load(tmp_path, [MAIN], time_limit=2)
    assert (found.loads, found.ended) == (loads, ended)
    assert reason in found.reason and found.nodes == ()


def test_a_runtime_says_itself_why_it_cannot(tmp_path):
    path = tmp_path / "cut.tflite"
    path.write_bytes(tiny_int8()[:-300])
    (found,) = delegates.load(path, [MAIN])
    assert found.loads is False and not found.ended and found.reason


def test_names_that_are_no_text_hide_the_plan_alone(tmp_path):
    name = next(t.name for t in graph.read(tiny_int8()).subgraphs[0].tensors if "conv" in t.name)
    path = tmp_path / "odd.tflite"
    path.write_bytes(tiny_int8().replace(name.encode(), b"\xff" * len(name)))
    (found,) = delegates.load(path, [MAIN])
    assert found.loads is True and "utf-8" in found.reason and found.nodes == ()


LIMITED = """
import resource, sys
before = [int(n) if n else resource.RLIM_INFINITY for n in sys.argv[1:3]]
resource.setrlimit(resource.RLIMIT_AS, before)
from mobileclf.tflite import delegates
delegates.main("ai-edge-litert", sys.argv[3])
print(*resource.getrlimit(resource.RLIMIT_AS))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such limit, or do not keep it")
@pytest.mark.parametrize(("soft", "hard"), [(None, None), (8 << 30, None), (8 << 30, 8 << 30)])
def test_a_runtimes_memory_is_limited_and_no_limit_is_raised(tmp_path, soft, hard):
    import psutil

    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_int8())
    given = [str(limit or "") for limit in (soft, hard)]
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, *given, str(path)], capture_output=True, text=True
    )
    lines = said.stdout.splitlines()
    assert lines[0] == "ready" and '"loads": true' in lines[1], said.stderr
    own, last = map(int, lines[2].split())
    assert last == (hard or -1)
    if soft is None:
        # What is there, and what the process itself had mapped before.
        assert 0 < own - psutil.virtual_memory().total < 1 << 36
    else:
        assert own <= soft


@cache
def gathers_beyond_its_end() -> bytes:
    """A model that loads and cannot run."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    def one(x):
        return tf.gather(x, [100], axis=1) + 1

    return tf.lite.TFLiteConverter.from_concrete_functions([one.get_concrete_function()]).convert()


def checked(model: bytes, folder: Path) -> None:
    path = folder / "model.tflite"
    path.write_bytes(model)
    delegates.check_runs(path)


def test_a_model_that_runs_is_let_through(tmp_path):
    checked(tiny_int8(), tmp_path)
    checked(tiny_float(), tmp_path)


def test_a_model_that_loads_and_cannot_run_is_refused(tmp_path):
    assert share(gathers_beyond_its_end(), tmp_path)["operators"] == 2
    with pytest.raises(DataError, match=r"^model: ai-edge-litert .* cannot run it \(gather index"):
        checked(gathers_beyond_its_end(), tmp_path)


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("import os; print('ready', flush=True); os.abort()", DataError, "cannot run it .crashed"),
        ("raise SystemExit('no such symbol')", EnvironmentProblem, "cannot start: no such symbol"),
    ],
)
def test_a_model_that_ends_the_runtime_is_refused(monkeypatch, tmp_path, code, error, said):
    started(monkeypatch, code)
    with pytest.raises(error, match=said):
        checked(tiny_int8(), tmp_path)


def test_a_huge_input_is_refused_before_a_runtime_sees_it(monkeypatch, tmp_path):
    def huge(tree):
        first = tree.subgraphs[0]
        first.tensors[first.inputs[0]].shape = [1, 10_000, 10_000, 3]

    monkeypatch.setattr(delegates, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(DataError, match="at most 64,000,000 values, found 300,000,000"):
        checked(edited(tiny_int8(), huge), tmp_path)
    with pytest.raises(DataError, match="TFL3"):
        checked(b"no model at all", tmp_path)


def test_many_operators_that_are_left_cost_no_time():
    """Each of another name; the time would grow with their square."""
    chain = line(*(f"CUSTOM {i}" for i in range(10_000)))
    start = time.process_time()
    found = delegates.shares(chain, loaded(chain))
    assert len(found["operators_left"]) == 10_000 and time.process_time() - start < 1
