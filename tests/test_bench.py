"""Benchmarks find a known ratio under any drift, say when they cannot, and leave nothing behind."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flatbuffers
import numpy as np
import psutil
import pytest
import typer
from typer.testing import CliRunner

from benchmarks import bench_steady
from mobileclf import cores
from mobileclf.benchmark import bench as benchmark
from mobileclf.benchmark import child as bench_child
from mobileclf.benchmark import machine, worker
from mobileclf.benchmark import rounds as bench_rounds
from mobileclf.benchmark import summary as bench_summary
from mobileclf.benchmark.bench import bench
from mobileclf.benchmark.child import Child
from mobileclf.benchmark.rounds import LEAST_ROUNDS, Configuration, Group, Slice, measure
from mobileclf.cli.bench import bench as command
from mobileclf.errors import DataError, EnvironmentProblem, UsageError
from mobileclf.stats.medians import median_interval
from mobileclf.tflite import graph, runtimes
from tests.models import tiny_float, tiny_int8

CORES = 2
HAS_OLDEST = runtimes.at_hand(runtimes.OLDEST)


# The median's interval


@pytest.mark.parametrize("n", range(6, 13))
def test_the_interval_is_the_narrowest_that_holds_by_count_of_all_cases(n):
    """Each value falls under or over the median with equal chance: all 2^n cases are counted."""
    values = list(range(n))
    low, high = median_interval(values)
    under = [sum(case) for case in product((0, 1), repeat=n)]

    def coverage(k: int) -> float:
        return sum(k <= b <= n - k for b in under) / 2**n

    k = int(low) + 1
    assert (low, high) == (k - 1, n - k)
    assert coverage(k) >= 0.95
    assert coverage(k + 1) < 0.95


def test_too_few_values_say_nothing():
    assert median_interval([1.0] * 5) == (-math.inf, math.inf)
    assert median_interval([]) == (-math.inf, math.inf)


def test_the_interval_holds_the_median_as_often_as_it_says():
    generator = random.Random(0)
    held = 0
    for _ in range(500):
        low, high = median_interval([generator.expovariate(1) for _ in range(15)])
        held += low <= math.log(2) <= high
    assert 0.94 <= held / 500 <= 0.99  # exactly 0.965 at n = 15


# Rounds, on a made-up machine


def configuration(model: int, threads: int = 1) -> Configuration:
    return Configuration(model=model, runtime="ai-edge-litert", kernels="xnnpack", threads=threads)


class Machine:
    """Runs slices in no time: `base` ms by model, times a drift that all share, times noise."""

    def __init__(
        self,
        base: tuple[float, ...],
        *,
        noise: float = 0.01,
        drift: Callable[[float], float] = lambda now: 1.0,
        others: Callable[[float], float] = lambda now: 0.0,
        slowed: float = 1.0,
    ) -> None:
        self.now, self.base, self.noise = 0.0, base, noise
        self.drift, self.others, self.slowed = drift, others, slowed
        self.generator = random.Random(1)

    def clock(self) -> float:
        return self.now

    def run(self, c: Configuration) -> Slice:
        self.now += 0.5
        factor = self.drift(self.now) * math.exp(self.generator.gauss(0, self.noise))
        others = self.others(self.now)
        if others > CORES - c.threads and c.model:
            factor *= self.slowed  # one side alone suffers, so that the ratio is wrong
        ms = self.base[c.model] * factor
        return Slice(times_ms=(ms, ms * 1.01, ms * 0.99), invokes=3, load_ms=9, first_ms=8,
                     others=others)  # fmt: skip

    def rounds(self, groups: list[Group], seconds: float = 60) -> list[Any]:
        return measure(groups, self.run, CORES, seconds=seconds, seed=0, clock=self.clock)


PAIR: Group = (configuration(0), configuration(1))


def verdict(fake: Machine, group: Group = PAIR, seconds: float = 60) -> bench_rounds.Verdict:
    (rounds,) = fake.rounds([group], seconds)
    return bench_rounds.verdicts(group, rounds, CORES)[group[-1]]


def test_a_known_ratio_is_found_although_the_machine_slows_to_a_third():
    fake = Machine((20.0, 6.0), drift=lambda now: 1 + min(now, 20) / 10)
    found = verdict(fake)
    assert found.trouble is None
    assert found.low <= 0.3 <= found.high
    assert found.high / found.low < 1.11
    # The latency itself is not known on such a machine, and that is said.
    alone = Machine((20.0,), drift=lambda now: 1 + min(now, 20) / 10)
    assert verdict(alone, (configuration(0),), seconds=15).trouble == "wide"


def test_it_ends_once_all_is_known_and_goes_on_while_it_is_not():
    calm, wild = Machine((1.0, 2.0)), Machine((1.0, 2.0), noise=0.5)
    assert len(calm.rounds([PAIR])[0]) == LEAST_ROUNDS
    assert len(wild.rounds([PAIR])[0]) == 60
    assert wild.now <= 60
    assert verdict(Machine((1.0, 2.0), noise=0.5)).trouble == "wide"


def test_noise_that_more_rounds_overcome():
    found = verdict(Machine((1.0, 2.0), noise=0.06), seconds=600)
    assert found.trouble is None and found.rounds > LEAST_ROUNDS
    assert found.low <= 2 <= found.high


def test_rounds_that_others_disturbed_are_left_out():
    fake = Machine((1.0, 2.0), others=lambda now: 2.0 if now % 4 < 2 else 0.0, slowed=1.5)
    found = verdict(fake)
    assert found.trouble is None and found.quiet == found.rounds == LEAST_ROUNDS
    assert found.low <= 2 <= found.high
    # The same without the watch: the disturbance is in the ratio.
    blind = Machine((1.0, 2.0), others=lambda now: 2.0 if now % 4 < 2 else 0.0, slowed=1.5)
    (rounds,) = blind.rounds([PAIR])
    assert not bench_rounds.judge(rounds, *reversed(PAIR), cores=99).high < 2.2


def test_one_busy_core_troubles_two_threads_and_not_one():
    def fake() -> Machine:
        return Machine((1.0, 2.0), others=lambda now: 1.0)

    assert verdict(fake()).trouble is None
    two = (configuration(0, threads=2), configuration(1, threads=2))
    assert verdict(fake(), two).trouble == "busy"


def test_too_short_a_time_is_said():
    found = verdict(Machine((1.0, 2.0)), seconds=5)
    assert found.trouble == "few rounds" and found.rounds == 5 and math.isinf(found.high)
    assert len(Machine((1.0, 2.0)).rounds([PAIR], 0.001)[0]) == 1


def test_slow_groups_do_not_starve_the_others():
    class Uneven(Machine):
        def run(self, c: Configuration) -> Slice:
            self.now += 9.5 if c.threads == 2 else 0
            return super().run(c)

    slow = (configuration(0, threads=2), configuration(1, threads=2))
    quick, late = Uneven((1.0, 2.0)).rounds([PAIR, slow], seconds=100)
    assert len(quick) == LEAST_ROUNDS
    assert 3 <= len(late) < LEAST_ROUNDS


def test_the_order_within_a_round_changes_and_is_seeded():
    orders = [[list(one) for one in Machine((1.0, 2.0)).rounds([PAIR])[0]] for _ in range(2)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders[0]}) == 2


def test_the_record_of_rounds_against_sums_by_hand():
    fake = Machine((20.0, 6.0), noise=0.2)
    group = (configuration(0), configuration(1))
    (rounds,) = fake.rounds([group])
    probe = {"delegates": 1, "memory_bytes": 5}
    record = bench_summary.summary(["a", "b"], dict.fromkeys(group, probe), [group], [rounds],
                                   cores=CORES, seconds=60)  # fmt: skip
    row = record["configurations"][1]
    times = sorted(t for one in rounds for t in one[group[1]].times_ms)

    def quantile(q: float) -> float:
        place = q * (len(times) - 1)
        low = int(place)
        high = min(low + 1, len(times) - 1)
        return times[low] + (place - low) * (times[high] - times[low])

    assert row["median_ms"] == pytest.approx(quantile(0.5), rel=1e-12)
    assert row["p90_ms"] == pytest.approx(quantile(0.9), rel=1e-12)
    assert row["invokes"] == len(times) == 3 * len(rounds)
    ratios = sorted(one[group[1]].times_ms[0] / one[group[0]].times_ms[0] for one in rounds)
    middle = (ratios[len(ratios) // 2] + ratios[(len(ratios) - 1) // 2]) / 2
    assert row["ratio"]["median"] == pytest.approx(middle, rel=1e-12)
    assert row["ratio"]["to"]["model"] == "a"
    assert not record["steady"]
    assert record["reasons"][0].startswith("1 figure not known to ±5%, the worst to ±")


def test_the_reasons_name_load_and_time():
    two = (configuration(0, threads=2), configuration(1, threads=2))
    probe = {"delegates": 1, "memory_bytes": 5}

    def reasons(fake: Machine, seconds: float) -> list[str]:
        rounds = fake.rounds([two], seconds)
        found = bench_summary.summary(["a", "b"], dict.fromkeys(two, probe), [two], rounds,
                                      cores=CORES, seconds=seconds)  # fmt: skip
        assert found["steady"] == (not found["reasons"])
        return list(found["reasons"])

    assert reasons(Machine((1.0, 2.0)), 60) == []
    assert reasons(Machine((1.0, 2.0), others=lambda now: 1.0), 20) == [
        "at 2 threads, in 40 of 40 slices others or a quota took 1.0 of 2 cores: these figures "
        "are of a loaded machine; measure again when it is idle"
    ]
    assert reasons(Machine((1.0, 2.0)), 5) == [
        "1 figure from 5 rounds in 5 s, wanted 10: give --seconds 20, or fewer configurations"
    ]


# The machine


def test_others_are_seen_and_our_own_work_is_not():
    def spin(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    watch = machine.Watch()
    spin(0.5)
    own = watch.others(0.0)
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.3)
        watch = machine.Watch()
        before = psutil.Process(loop.pid).cpu_times().user
        time.sleep(0.7)
        took = psutil.Process(loop.pid).cpu_times().user - before
        seen, without = watch.others(0.0), watch.others(took)
    finally:
        loop.kill()
        loop.wait()
    # Whatever else this machine does now comes on top, so only differences are sure.
    assert own <= cores.usable() - 0.3
    assert seen > 0.3
    assert seen - without > 0.3


@pytest.mark.parametrize(
    ("throttled", "others"),
    [(0.0, 1.0), (0.01, 1.0), (0.5, 2.0)],
)
def test_what_a_containers_quota_leaves_and_takes(throttled, others, monkeypatch):
    """Of four cores two may be used. Over 10 s others keep three busy: one is missing."""
    now = {"wall": 0.0, "own": 0.0, "busy": 0.0, "throttled": 0.0}
    monkeypatch.setattr(machine.time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(machine.time, "process_time", lambda: now["own"])
    monkeypatch.setattr(machine, "busy_seconds", lambda: now["busy"])
    monkeypatch.setattr(cores, "throttled_seconds", lambda: now["throttled"])
    monkeypatch.setattr(cores, "numbers", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(cores, "quota", lambda: 1.5)
    watch = machine.Watch()
    now.update(wall=10.0, own=2.0, busy=40.0, throttled=10 * throttled)
    assert watch.others(8.0) == others
    assert machine.description()["cores"] == 2
    assert benchmark._threads(None) == [1, 2]


# Processes


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "int8.tflite").write_bytes(tiny_int8())
    (tmp_path / "float.tflite").write_bytes(tiny_float())
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "SLICE", 0.01)


@pytest.fixture
def odd_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Stands in for ai-edge-litert: a module of that text."""

    def install(text: str) -> None:
        (tmp_path / "odd_runtime.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setitem(bench_child.MODULES, "ai-edge-litert", "odd_runtime")

    yield install


def request(path: Path, seconds: float = 0.0) -> dict[str, object]:
    return {"model": str(path), "kernels": "xnnpack", "threads": 1, "seconds": seconds, "seed": 0}


def test_a_child_times_a_model_and_rests_between(files):
    with Child("ai-edge-litert") as child:
        answer = child.ask(**request(files / "int8.tflite", 0.02))
        assert answer["invokes"] >= len(answer["times_ms"]) >= 3
        assert 0 < min(answer["times_ms"]) < 50
        assert answer["delegates"] == 1
        assert 0 < answer["memory_bytes"] < 100e6
        assert answer["inputs"] == [{"shape": [1, 16, 16, 3], "dtype": "uint8"}]
        process = psutil.Process(child.pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(0.5)
        assert sum(process.cpu_times()[:2]) - before <= 0.05
    assert not psutil.pid_exists(child.pid)


def test_what_is_slow_at_first_is_not_timed(monkeypatch):
    """An engine that takes 10 ms an invoke in its first 150 ms, then 1 ms."""
    now = [0.0]
    monkeypatch.setattr(worker.time, "perf_counter", lambda: now[0])
    tensor = {"index": 0, "shape": [1, 4], "dtype": np.uint8}

    def invoke() -> None:
        now[0] += 0.01 if now[0] < 0.15 else 0.001

    engine = SimpleNamespace(
        allocate_tensors=lambda: None, get_input_details=lambda: [tensor], invoke=invoke,
        set_tensor=lambda index, value: None, _get_ops_details=lambda: [],
    )  # fmt: skip
    module = SimpleNamespace(Interpreter=lambda **options: engine)
    found = worker._timed(module, model="m", kernels="xnnpack", threads=1, seconds=1.0, seed=0)
    assert found["first_ms"] == pytest.approx(10)
    assert found["times_ms"] == pytest.approx([1.0] * len(found["times_ms"]))
    assert found["invokes"] == pytest.approx(1000, abs=2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can forget a peak")
def test_what_the_import_took_and_gave_back_is_not_the_models(odd_runtime, files):
    odd_runtime(
        "from ai_edge_litert.interpreter import Interpreter, OpResolverType\n"
        "held = b'1' * 400_000_000\n"
        "del held\n"
    )
    with Child("ai-edge-litert") as child:
        assert child.ask(**request(files / "int8.tflite"))["memory_bytes"] < 100e6


def test_a_module_in_the_working_directory_is_not_run(files, monkeypatch):
    (files / "queue.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(files)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with Child("ai-edge-litert") as child:
        assert "problem" not in child.ask(**request(files / "int8.tflite"))


def test_a_child_that_aborts_is_told_of(odd_runtime, files):
    odd_runtime(
        "import os, sys\n"
        "class Interpreter:\n"
        "    def __init__(self, **options):\n"
        "        print('F0000 check failed: shape', file=sys.stderr, flush=True)\n"
        "        os.abort()\n"
    )
    with pytest.raises(DataError) as error:
        bench(files / "int8.tflite", runtimes=["ai-edge-litert"], threads=[1])
    assert str(error.value) == (
        "int8.tflite: ai-edge-litert cannot run it (its process was ended by SIGABRT: "
        "F0000 check failed: shape)"
    )


def test_a_child_that_hangs_is_given_up(odd_runtime, files):
    odd_runtime(
        "class Interpreter:\n    def __init__(self, **options):\n        while True: pass\n"
    )
    with Child("ai-edge-litert", limit=1.5) as child:
        start = time.monotonic()
        assert child.ask(**request(files / "int8.tflite")) == {"problem": "no answer within 1.5 s"}
        assert time.monotonic() - start < 6
        assert "problem" in child.ask(**request(files / "int8.tflite"))


def test_a_runtime_that_cannot_be_imported_is_named(odd_runtime):
    odd_runtime("raise ImportError('numpy 3 is too new\\nfor this')\n")
    with pytest.raises(EnvironmentProblem) as error:
        Child("ai-edge-litert")
    assert str(error.value) == (
        "ai-edge-litert: installed, but cannot be imported (numpy 3 is too new); repair it, or "
        "choose others with --runtime"
    )


def test_a_model_that_dies_in_the_middle_ends_the_run(odd_runtime, files, quick):
    odd_runtime(
        "import os, sys\n"
        "from ai_edge_litert.interpreter import Interpreter as Real, OpResolverType\n"
        "made = []\n"
        "def Interpreter(**options):\n"
        "    made.append(1)\n"
        "    return Real(**options) if len(made) < 3 else os._exit(7)\n"
    )
    with pytest.raises(DataError) as error:
        bench(files / "int8.tflite", runtimes=["ai-edge-litert"], threads=[1], kernels="xnnpack")
    assert str(error.value) == (
        "int8.tflite: ai-edge-litert could not go on with it (its process ended with exit code 7)"
    )


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_no_child_outlives_an_interrupted_run(files, signum):
    """Ctrl-C reaches the parent alone here; kill -9 leaves it no time to clean up."""
    code = (
        # As at a terminal: what is started in the background inherits that it is ignored.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import typer\nfrom mobileclf.cli.bench import bench\n"
        "app = typer.Typer()\napp.command()(bench)\napp()"
    )
    words = [str(files / "int8.tflite"), "--threads", "1", "--runtime", "ai-edge-litert"]
    run = subprocess.Popen([sys.executable, "-c", code, *words],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert run.stderr is not None
    while "configurations run" not in (line := run.stderr.readline()):
        assert line, "it ended too early"
    end = time.monotonic() + 10
    while not (children := psutil.Process(run.pid).children(recursive=True)):
        assert time.monotonic() < end
    run.send_signal(signum)
    _, said = run.communicate(timeout=10)
    assert psutil.wait_procs(children, timeout=5)[1] == []
    if signum == signal.SIGINT:
        assert run.returncode == 130
        assert said.strip().endswith("error: interrupted")


# The whole


def test_a_model_beside_itself_has_the_same_size_memory_and_a_ratio_near_one(files, quick):
    path = files / "int8.tflite"
    record = bench([path, path], threads=[1], runtimes=["ai-edge-litert"], kernels="xnnpack",
                   seconds=1)  # fmt: skip
    assert [m["model"] for m in record["models"]] == ["int8.tflite", "int8.tflite (2)"]
    first, second = record["configurations"]
    assert first["ratio"] is None and second["ratio"]["to"]["model"] == "int8.tflite"
    assert 0.6 < second["ratio"]["median"] < 1.6  # on a machine however busy
    assert record["models"][0]["bytes"] == len(tiny_int8())
    assert record["steady"] == (not record["reasons"])
    assert record["load"]["slices"] == 2 * second["rounds"]


class Pretended:
    """In place of a `Child`: milliseconds by `ms`, times what this moment does to all.

    A moment lasts for as many answers as there are models, that is for a round.
    """

    ms: Mapping[tuple[str, str, int], float]
    models: int
    delegates: Mapping[str, int]
    asked: int

    def __init__(self, runtime: str, **options: object) -> None:
        pass

    def __enter__(self) -> Pretended:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def ask(self, *, model: str, kernels: str, threads: int, **_: object) -> dict[str, Any]:
        moment = random.Random(Pretended.asked // self.models).uniform(1, 9)
        Pretended.asked += 1
        name = Path(model).stem
        ms = self.ms[name, kernels, threads] * moment
        delegates = self.delegates[name] if kernels == "xnnpack" else 0
        return {"load_ms": 1, "first_ms": 1, "times_ms": [ms], "invokes": 1, "inputs": [],
                "delegates": delegates, "memory_bytes": 1, "cpu_seconds": 0}  # fmt: skip


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> type[Pretended]:
    monkeypatch.setattr(benchmark, "Child", Pretended)
    monkeypatch.setattr(machine.Watch, "others", lambda self, ours: 0.0)
    monkeypatch.setattr(cores, "usable", lambda: 2)
    Pretended.asked, Pretended.models = 0, 2
    return Pretended


def test_each_ratio_is_to_the_first_model_in_the_same_configuration_and_round(pretended, files):
    wanted = {("xnnpack", 1): 2.0, ("xnnpack", 2): 3.0, ("builtin", 1): 0.5, ("builtin", 2): 0.25}
    first = {("xnnpack", 1): 1.0, ("xnnpack", 2): 0.6, ("builtin", 1): 7.0, ("builtin", 2): 4.0}
    pretended.delegates = {"int8": 1, "float": 1}
    pretended.ms = {("int8", *place): ms for place, ms in first.items()} | {
        ("float", *place): ms * wanted[place] for place, ms in first.items()
    }
    record = bench([files / "int8.tflite", files / "float.tflite"], threads=[1, 2],
                   runtimes=["ai-edge-litert"])  # fmt: skip
    assert record["steady"]
    found = {}
    for row in record["configurations"]:
        place = (row["kernels"], row["threads"])
        if row["model"] == "int8.tflite":
            assert row["ratio"] is None
            continue
        to = row["ratio"]["to"]
        assert (to["model"], to["kernels"], to["threads"]) == ("int8.tflite", *place)
        found[place] = row["ratio"]["median"]
        # To the digit, although the machine is up to nine times slower from round to round.
        assert row["ratio"]["interval"] == pytest.approx([wanted[place]] * 2)
    assert found == pytest.approx(wanted)


def test_configurations_of_one_model_are_compared_with_its_first(files, quick):
    record = bench(files / "float.tflite", threads=[1], runtimes=["ai-edge-litert"], seconds=1)
    rows = record["configurations"]
    assert [row["kernels"] for row in rows] == ["xnnpack", "builtin"]
    assert [row["delegates"] for row in rows] == [1, 0]
    assert rows[1]["ratio"]["to"]["kernels"] == "xnnpack"
    json.dumps(record, allow_nan=False)


@pytest.mark.skipif(not HAS_OLDEST, reason="tflite-runtime exists for Python < 3.12 on Linux")
def test_what_makes_no_difference_is_said_and_not_measured_twice(files, quick):
    paths = [files / "int8.tflite", files / "float.tflite"]
    record = bench(paths, threads=[1], runtimes=["tflite-runtime"], seconds=1)
    rows = [(row["model"], row["kernels"], row["delegates"]) for row in record["configurations"]]
    assert rows == [("int8.tflite", "xnnpack", 0), ("float.tflite", "xnnpack", 1),
                    ("float.tflite", "builtin", 0)]  # fmt: skip
    assert record["notes"] == [
        "int8.tflite on tflite-runtime: XNNPACK takes nothing of it, so its built-in kernels ran"
    ]
    # Without XNNPACK too, the float model is compared with what ran for the other.
    assert [row["ratio"] and row["ratio"]["to"]["kernels"] for row in record["configurations"]] == [
        None, "xnnpack", "xnnpack"]  # fmt: skip


def test_names_tell_paths_apart():
    names = benchmark._names([Path("a/model.tflite"), Path("b/model.tflite"), Path("c.tflite")])
    assert names == ["a/model.tflite", "b/model.tflite", f"{Path.cwd().name}/c.tflite"]
    assert benchmark._names([Path("/x/y/m.tflite")] * 3) == [
        "m.tflite", "m.tflite (2)", "m.tflite (3)"]  # fmt: skip


# What a person may get wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": []}, "bench: wanted one or more .tflite files or bundles, found none"),
        ({"runtimes": ["litert"]},
         "--runtime litert: wanted one of ai-edge-litert, tensorflow, tflite-runtime"),
        ({"kernels": "gpu"}, "--kernels gpu: wanted xnnpack, builtin or both"),
        ({"seconds": 0}, "--seconds 0: wanted a number over 0"),
        ({"seconds": math.nan}, "--seconds nan: wanted a number over 0"),
        ({"threads": [0]},
         f"--threads 0: wanted 1 to {cores.usable()}, the cores that may be used here; "
         "threads without a core each measure the system's scheduler"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line(files, options, message):
    given = {"models": [files / "int8.tflite"], "runtimes": ["ai-edge-litert"], **options}
    with pytest.raises(UsageError) as error:
        bench(**given)
    assert str(error.value) == message


def test_files_that_are_no_models_are_one_line(files):
    (files / "photo.tflite").write_bytes(b"\x89PNG" * 9)
    (files / "empty.tflite").write_bytes(b"")
    (files / "cut.tflite").write_bytes(tiny_int8()[:2000])
    (files / "folder").mkdir()
    os.mkfifo(files / "pipe.tflite")
    for name, end in (
        ("photo.tflite", "wanted a .tflite file (TFL3), found other bytes"),
        ("empty.tflite", "wanted a .tflite file, found an empty one"),
        ("none.tflite", "wanted a .tflite file, found no such file"),
        ("pipe.tflite", "wanted a .tflite file, found a folder, pipe or device"),
        ("folder", "wanted a bundle (a folder with bundle.json), found none"),
    ):
        with pytest.raises(DataError) as error:
            bench([files / "int8.tflite", files / name], runtimes=["ai-edge-litert"])
        assert str(error.value) == f"{files / name}: {end}"
    with pytest.raises(DataError, match=r"cut\.tflite: a \.tflite that cannot be read"):
        bench([files / "int8.tflite", files / "cut.tflite"], runtimes=["ai-edge-litert"])


def test_an_input_that_no_photo_is_as_large_as_is_refused(files, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(benchmark, "Child", never)
    parsed = graph.parse(tiny_int8())
    tensor = parsed.subgraphs[0].tensors[parsed.subgraphs[0].inputs[0]]
    tensor.shape = np.array([1, 30_000, 30_000, 3], np.int32)
    builder = flatbuffers.Builder(0)
    builder.Finish(parsed.Pack(builder), file_identifier=graph.IDENTIFIER)
    huge = files / "huge.tflite"
    huge.write_bytes(bytes(builder.Output()))
    with pytest.raises(DataError) as error:
        bench(huge, runtimes=["ai-edge-litert"], threads=[1])
    assert str(error.value) == (
        f"{huge}: wanted an input of at most 64,000,000 values, found 2,700,000,000"
    )


# The command


@pytest.fixture
def call(files: Path, quick: None) -> Callable[..., Any]:
    app = typer.Typer()
    app.command()(command)

    def run(*arguments: object) -> Any:
        fixed = ["--runtime", "ai-edge-litert", "--threads", "1"]
        return CliRunner().invoke(app, [*map(str, arguments), *fixed])

    return run


@pytest.mark.parametrize("loaded", [False, True])
def test_a_loaded_machine_is_said_in_table_record_and_exit_code(loaded, call, files, monkeypatch):
    others = cores.usable() if loaded else 0.0
    monkeypatch.setattr(machine.Watch, "others", lambda self, ours: others)
    monkeypatch.setattr(bench_rounds, "WIDTH", 9.0)
    model, out = files / "int8.tflite", files / "out.json"
    arguments = (model, model, "--kernels", "xnnpack", "--seconds", 2, "--output", out)
    done = call(*arguments)
    assert done.exit_code == 0
    record = json.loads(out.read_text())
    assert record["steady"] is not loaded
    assert ("~ not steady: at 1 thread" in done.stdout) is loaded
    assert ("warning: not steady: at 1 thread" in done.stderr) is loaded
    assert max(map(len, done.stdout.splitlines()[:9])) <= 100
    assert str(files) not in done.stdout
    assert call(*arguments, "--require-steady", "-q").exit_code == (3 if loaded else 0)


def test_a_record_is_not_written_over_what_is_measured(call, files, monkeypatch):
    bundle = files / "bundle"
    bundle.mkdir()
    model = files / "int8.tflite"
    before = model.read_bytes()
    (files / "link.tflite").symlink_to(model)
    monkeypatch.chdir(files)
    for output, given, where in (
        (model, model, "another file"),
        ("link.tflite", model, "another file"),
        ("int8.tflite", files / "link.tflite", "another file"),
        ("bundle/bundle.json", bundle, f"a place outside of {bundle}"),
    ):
        done = call(given, "--output", output)
        assert done.exit_code == 2
        assert done.stderr.splitlines() == [
            f"error: --output {output}: wanted {where}, which a model is read from"
        ]
    assert model.read_bytes() == before and not any(bundle.iterdir())


def test_json_alone_on_stdout(call, files):
    done = call(files / "int8.tflite", "--kernels", "builtin", "--seconds", 1, "--json", "-q")
    record = json.loads(done.stdout)
    assert record["command"].endswith("--kernels builtin --seconds 1 --seed 0")
    assert [row["kernels"] for row in record["configurations"]] == ["builtin"]


def test_threads_that_are_no_numbers_end_with_2(call, files):
    done = CliRunner().invoke(_app(), [str(files / "int8.tflite"), "--threads", "one"])
    assert done.exit_code == 2
    assert "error: --threads one: wanted numbers as 1,2" in done.output


def _app() -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


# The benchmark of the benchmark


def test_steadiness_can_be_wrong():
    def rows(ratios: tuple[float, ...], trouble: str | None = None) -> list[dict[str, Any]]:
        return [{"ratio": {"median": ratio}, "trouble": trouble} for ratio in ratios]

    assert bench_steady.verdict(rows((0.30, 0.31, 0.32))) == "repeats"
    assert bench_steady.verdict(rows((0.30, 0.31, 0.34))) == "WRONG"
    assert bench_steady.verdict(rows((0.30, 0.31, 0.34), "busy")) == "says it cannot"


def test_to_see_what_is_installed_loads_no_runtime():
    code = (
        "import sys\nfrom mobileclf.benchmark import bench\nbench._runtimes(None)\n"
        "print([m for m in ('tensorflow', 'ai_edge_litert.interpreter') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
