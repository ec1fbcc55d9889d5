"""`doctor`: every state is met once, its words are exact, and no broken package stops it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from mobileclf import cores
from mobileclf.checkup import accelerators, android, packages, probe, resources, system, weights
from mobileclf.checkup import doctor as checkup
from mobileclf.checkup.line import Line
from mobileclf.checkup.probe import Outcome
from mobileclf.records import Record
from mobileclf.report import checkup as tables
from mobileclf.report.table import table
from mobileclf.tflite import runtimes

# As if what GONE names had never been installed, or, of BLOCKED, could not be imported.
SITE = """
import importlib.abc, importlib.metadata as metadata, os, sys
blocked, gone = (os.environ.get(name, "").split() for name in ("BLOCKED", "GONE"))
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
real = metadata.Distribution.from_name.__func__
def from_name(cls, name):
    if name in gone:
        raise metadata.PackageNotFoundError(name)
    return real(cls, name)
metadata.Distribution.from_name = classmethod(from_name)
"""
posix = pytest.mark.skipif(os.name != "posix", reason="the stand-in for a tool is a shell script")


def _permissions_hold() -> bool:
    """Whether a folder without permission to write cannot be written; root may write it."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o500)
        held = not os.access(name, os.W_OK)
        os.chmod(name, 0o700)
        return held


permissions = pytest.mark.skipif(not _permissions_hold(), reason="who runs this writes anywhere")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux' own files")


def only(lines: Iterable[Line], what: str) -> Line:
    (line,) = (line for line in lines if line.what == what)
    return line


def installed(folder: Path, name: str, version: str) -> None:
    """Metadata of a package, found before any other of its name once `folder` is on the path."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def script(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def steps_of(*steps: str, limit: float = 60) -> dict[str, Outcome]:
    return probe.tried(steps, done=lambda: None, stop=Event(), limit=limit)


@pytest.fixture
def first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is searched before all others, here and in child processes."""
    folder = tmp_path / "first"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture
def imported() -> dict[str, Outcome]:
    """As if every main dependency had been imported."""
    return {f"import {packages.module_of(n)}": Outcome() for n in packages.needed()}


# The whole


@pytest.fixture(scope="module")
def healthy() -> Record:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH"):
            patch.delenv(name, raising=False)
        return checkup.doctor()


def test_a_machine_on_which_all_tests_run_is_ready(healthy: Record) -> None:
    assert healthy["ready"]
    states = {(x["section"], x["what"]): x["state"] for x in healthy["lines"]}
    assert len(states) == len(healthy["lines"]), "a line is named twice"
    for name in packages.needed():
        assert states["packages", name] in ("ok", "warning"), name
    assert states["TFLite runtimes", "ai-edge-litert"] == "ok"
    assert states["TFLite runtimes", "tensorflow"] == "ok"
    for line in healthy["lines"]:
        assert line["do"] or line["state"] in ("ok", "missing"), line
        assert not line["stops"]


def test_all_main_dependencies_are_looked_at() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    listed = text.split("\ndependencies = [")[1].split("]")[0]
    names = set(re.findall(r'"([\w-]+)', listed))
    if sys.version_info >= (3, 11):
        names.remove("tomli")
    assert set(packages.needed()) == names
    extras = text.split("[project.optional-dependencies]")[1].split("[project.scripts]")[0]
    found = set(re.findall(r"^(\w+) = ", extras, re.M))
    assert set(packages.EXTRAS) == found - {"dev", "gpu"}


def test_the_table_holds_what_the_record_holds(
    healthy: Record, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    tables.show(healthy)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    rows = [tuple(c.strip() for c in r.split("│")[1:-1]) for r in shown.splitlines() if "│" in r]
    assert rows == [(x["what"], tables.word(x), x["found"], x["wanted"]) for x in healthy["lines"]]
    for line in healthy["lines"]:
        if line["do"]:
            assert re.search(rf"^  .*{re.escape(line['what'])}.*: {re.escape(line['do'])}$",
                             shown, re.M), line  # fmt: skip
    assert shown.endswith("ready for the main job\n")


def test_names_are_shown_as_they_stand() -> None:
    name = "\\[/x] [bold]a[/] :smile: \x1b[2J\r\nb"
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(table(name, (name, "value"), [(name, 0.5), (None, name)]))
    shown = console.file.getvalue()
    assert shown.count("\\[/x] [bold]a[/] :smile: \\x1b[2J\\r") == 4
    assert "\x1b" not in shown and "\r" not in shown


def test_what_stops_the_main_job_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [
        Line(section="s", what="a", found="x", wanted="y", state="missing", do="get a"),
        Line(section="s", what="b", found="x", wanted="y", state="warning", do="look at b"),
        Line(section="s", what="c", found="[x]", wanted="y", state="wrong", do="mend", needed=True),
        Line(section="s", what="d", found="x", wanted="y", state="wrong", do="mend", needed=True),
    ]
    record = {"ready": False, "lines": [{**vars(x), "stops": x.stops} for x in lines]}
    tables.show(record)
    shown = capsys.readouterr().out
    assert shown.endswith(
        "what to do\n  c, d: mend\n  b: look at b\n  a: get a\nnot ready for the main job\n"
    )
    assert re.search(r"│ a +│ optional │", shown) and re.search(r"│ c +│ wrong +│ \[x\]", shown)


def call(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, "-m", "mobileclf", "doctor", *arguments], cwd=folder, capture_output=True,
        encoding="utf-8", timeout=300,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "300", **variables},
    )  # fmt: skip


HEAVY = "tensorflow keras tf_keras tensorflow_model_optimization ai_edge_litert psutil numpy"


def test_broken_packages_are_reported_and_nothing_else_breaks(tmp_path: Path) -> None:
    done = call(tmp_path, BLOCKED=HEAVY)
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert re.fullmatch(
        r"error: ai-edge-litert: wanted >=2\.0, found \S+, cannot be imported: "
        r"ImportError: ai_edge_litert is blocked; "
        r"pip install --force-reinstall --no-deps 'ai-edge-litert==\S+'; \d+ more in the list",
        done.stderr.strip().splitlines()[-1],
    )
    for name in ("tensorflow", "keras", "tf-keras", "psutil", "numpy"):
        assert re.search(rf"│ {name} +│ wrong +│ \S+, cannot be imported: ", done.stdout), name
    assert re.search(r"│ rich +│ (ok|warning)", done.stdout)
    assert re.search(r"│ memory +│ ", done.stdout)
    assert re.search(r"│ ai-edge-litert +│ wrong +│ \S+, does not run: ", done.stdout)
    assert done.stdout.endswith("not ready for the main job\n")


def test_missing_packages_are_reported_as_missing(tmp_path: Path) -> None:
    gone = "tensorflow keras tf-keras tensorflow-model-optimization ai-edge-litert psutil packaging"
    done = call(tmp_path, "--json", BLOCKED=f"{HEAVY} packaging", GONE=f"{gone} numpy")
    assert done.returncode == 5, done.stderr
    record = json.loads(done.stdout)
    assert not record["ready"]
    lines = {(x["section"], x["what"]): x for x in record["lines"]}
    for name in gone.split():
        line = lines["packages", name]
        assert (line["state"], line["needed"]) == ("missing", True), line
    assert lines["packages", "tensorflow"]["found"] == "not installed"
    assert lines["packages", "tensorflow"]["do"] == "pip install 'tensorflow>=2.21'"
    assert lines["TFLite runtimes", "ai-edge-litert"]["do"] == "pip install ai-edge-litert"
    assert lines["GPU", "TensorFlow"]["do"] == "first repair TensorFlow"
    assert done.stderr.splitlines()[-1] == (
        "error: packaging: wanted any (TensorFlow and Keras need it), found not installed: no "
        "version is compared; pip install packaging; "
        f"{sum(x['stops'] for x in record['lines']) - 1} more in the list"
    )


# Packages


def test_a_version_out_of_range_is_wrong(first: Path, imported: dict[str, Outcome]) -> None:
    installed(first, "tensorflow", "2.15.0")
    line = only(packages.main_lines(imported), "tensorflow")
    assert (line.found, line.wanted, line.state) == ("2.15.0", ">=2.21", "wrong")
    assert line.do == "pip install 'tensorflow>=2.21'" and line.stops


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the tested set is for Python 3.11")
def test_another_version_than_the_tested_one_is_a_warning(
    first: Path, imported: dict[str, Outcome]
) -> None:
    installed(first, "pillow", "99.0.0")
    line = only(packages.main_lines(imported), "pillow")
    assert line.found == "99.0.0, not the one tested" and line.state == "warning"
    assert line.wanted == f">=11, tested {packages.tested()['pillow']}"
    assert line.do == f"pip install --constraint {packages.CONSTRAINTS} mobileclf"
    whole = only(packages.main_lines(imported), "tested set")
    found = re.fullmatch(r"(\d+) of (\d+) packages are as tested", whole.found)
    assert found and int(found[1]) < int(found[2]) and whole.state == "warning"


def test_on_another_python_the_tested_set_is_said_not_to_be_for_it(
    first: Path, imported: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(first, "pillow", "99.0.0")
    monkeypatch.setattr(packages, "TESTED_PYTHON", (3, 9))
    lines = [*packages.main_lines(imported)]
    here = ".".join(map(str, sys.version_info[:2]))
    assert only(lines, "tested set").found == f"not compared: it is for Python 3.9, this is {here}"
    assert only(lines, "pillow").state == only(lines, "tested set").state == "ok"


def test_every_main_dependency_has_a_tested_version() -> None:
    assert set(packages.needed()) - {"tomli"} <= set(packages.tested())


def test_a_package_without_metadata_is_a_warning(
    imported: dict[str, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = packages.version_of
    monkeypatch.setattr(packages, "version_of", lambda n: None if n == "scipy" else real(n))
    imported["import scipy"] = Outcome(answer={"version": "1.16"})
    line = only(packages.main_lines(imported), "scipy")
    assert (line.found, line.state) == ("1.16, without package metadata", "warning")


@pytest.mark.parametrize(
    ("problem", "do"),
    [
        ("OSError: no symbol", "pip install --force-reinstall --no-deps 'h5py=={}'"),
        ("ModuleNotFoundError: No module named 'x'", "pip install 'h5py=={}'"),
        ("no answer in 60 s", "python -c 'import h5py' and see how long it takes"),
    ],
)
def test_what_to_do_about_a_package_that_cannot_be_imported(
    problem: str, do: str, imported: dict[str, Outcome]
) -> None:
    imported["import h5py"] = Outcome(problem=problem)
    line = only(packages.main_lines(imported), "h5py")
    version = packages.version_of("h5py")
    assert line.found == f"{version}, cannot be imported: {problem}"
    assert line.do == do.format(version) and line.stops


def test_conflicts_between_packages_are_found(first: Path) -> None:
    assert "protobuf for tensorflow" not in [line.what for line in packages.conflicts()]
    installed(first, "protobuf", "3.20.3")
    line = only(packages.conflicts(), "protobuf for tensorflow")
    assert line.found == "3.20.3" and line.state == "warning" and not line.needed
    assert re.fullmatch(r">=\S+,<\S+", line.wanted)
    assert re.fullmatch(r"pip install 'protobuf>=\S+,<\S+'", line.do)


def test_what_a_package_lacks_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    real = packages.version_of
    monkeypatch.setattr(packages, "version_of", lambda n: None if n == "wrapt" else real(n))
    line = only(packages.conflicts(), "wrapt for tensorflow")
    assert (line.found, line.state) == ("not installed", "missing")
    assert not [line for line in packages.conflicts({"wrapt"}) if line.what.startswith("wrapt ")]


# Extras


def extras_with(
    monkeypatch: pytest.MonkeyPatch, versions: Mapping[str, str | None]
) -> dict[str, Line]:
    real = packages.version_of
    monkeypatch.setattr(packages, "version_of", lambda n: versions[n] if n in versions else real(n))
    return {line.what: line for line in packages.extra_lines()}


def test_an_extra_that_is_not_installed_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    line = extras_with(monkeypatch, {"pillow-heif": None})["heif"]
    assert (line.found, line.state, line.needed) == ("not installed", "missing", False)
    assert line.do == "pip install 'mobileclf[heif]'"
    line = extras_with(monkeypatch, {"pillow-heif": "0.20.0"})["heif"]
    assert (line.found, line.state, line.do) == ("pillow-heif 0.20.0", "ok", "")


def test_half_an_extra_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    line = extras_with(monkeypatch, {"dask": "2026.1.0", "distributed": None})["cluster"]
    if "distributed" not in " ".join(packages.requires("dask")):
        pytest.skip("needs dask's metadata")
    assert (line.found, line.state) == ("dask 2026.1.0, without distributed", "wrong")


@pytest.mark.skipif(
    sys.platform != "linux" or sys.version_info >= (3, 12), reason="tflite-runtime is not for it"
)
def test_numpy_2_beside_the_oldest_runtime_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "2.3.0", "tflite-runtime": "2.14.0"}
    line = extras_with(monkeypatch, versions)["oldest"]
    assert (line.found, line.state) == ("numpy 2.3.0, tflite-runtime 2.14.0", "wrong")
    assert line.wanted.startswith("numpy<2, ")
    assert line.do == "pip install 'mobileclf[oldest]'"


# Packages that are tried


def test_a_package_that_aborts_takes_no_other_with_it(first: Path) -> None:
    (first / "aborts.py").write_text("import os\nos.abort()")
    (first / "leaves.py").write_text("import sys\nprint('bye', file=sys.stderr)\nimport os\n"
                                     "sys.stderr.flush()\nos._exit(3)")  # fmt: skip
    (first / "prints.py").write_text("print('not an answer')\n__version__ = '1'")
    (first / "quits.py").write_text("raise SystemExit('enough')")
    found = steps_of(*(f"import {name}" for name in ("aborts", "prints", "leaves", "quits", "x_y")))
    aborted = str(found["import aborts"].problem)
    if os.name == "posix":
        assert aborted.startswith("the process was ended by a signal: Aborted")
    else:
        assert aborted.startswith("the process ended with exit code")
    assert found["import prints"] == Outcome(answer={"version": "1"})
    assert found["import leaves"].problem == "the process ended with exit code 3 (bye)"
    assert found["import quits"].problem == "SystemExit: enough"
    assert found["import x_y"].problem == "ModuleNotFoundError: No module named 'x_y'"


def test_a_package_that_hangs_is_given_up_in_time(first: Path) -> None:
    (first / "hangs.py").write_text("import time\ntime.sleep(600)")
    start = time.monotonic()
    found = steps_of("import json", "import hangs", "import csv", limit=2)
    assert time.monotonic() - start < 10
    assert found["import json"].problem is None
    assert found["import hangs"].problem == "no answer in 2 s"
    assert found["import csv"].problem == "not tried, since 'import hangs' gave no answer"


@pytest.mark.parametrize(
    ("name", "limit"), [("lingers", 50), ("leaves_another", 2), ("hangs_with_another", 2)]
)
def test_nobody_is_waited_for_who_has_nothing_to_say(name: str, limit: int, first: Path) -> None:
    (first / "lingers.py").write_text("import atexit, time\natexit.register(time.sleep, 60)")
    another = "import subprocess, sys, time, os\nsubprocess.Popen(['sleep', '60'])\n"
    (first / "leaves_another.py").write_text(f"{another}os._exit(3)")  # which holds the pipes
    (first / "hangs_with_another.py").write_text(f"{another}time.sleep(60)")
    start = time.monotonic()
    found = steps_of(f"import {name}", limit=limit)
    assert time.monotonic() - start < 10
    assert (found[f"import {name}"].problem is None) is (name == "lingers")


def test_a_package_that_hangs_bounds_the_whole(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first / "tensorflow.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.chdir(tmp_path)
    start = time.monotonic()
    record = checkup.doctor(limit=3)
    assert time.monotonic() - start < 15
    assert not record["ready"]
    lines = {(x["section"], x["what"]): x for x in record["lines"]}
    assert lines["packages", "tensorflow"]["found"].endswith("imported: no answer in 3 s")
    assert lines["packages", "tensorflow"]["do"] == (
        "python -c 'import tensorflow' and see how long it takes"
    )


def test_the_working_directory_is_not_imported_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert steps_of("import colorsys")["import colorsys"].problem is None


# Runtimes


def test_the_tiny_model_is_what_it_is_said_to_be() -> None:
    """One int8 ADD of the input and (10, 20, 30, 40), all in scale 1."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name: bytes, buffer: int) -> Any:
        quantization = schema.QuantizationParametersT(scale=[1.0], zeroPoint=[0])
        return schema.TensorT(shape=[1, 4], type=schema.TensorType.INT8, buffer=buffer, name=name,
                              quantization=quantization)  # fmt: skip

    add = schema.OperatorT(
        opcodeIndex=0, inputs=[0, 1], outputs=[2],
        builtinOptionsType=schema.BuiltinOptions.AddOptions, builtinOptions=schema.AddOptionsT(),
    )  # fmt: skip
    graph = schema.SubGraphT(
        tensors=[tensor(b"x", 1), tensor(b"c", 2), tensor(b"y", 3)], inputs=[0], outputs=[2],
        operators=[add], name=b"main",
    )  # fmt: skip
    buffers = [schema.BufferT() for _ in range(4)]
    buffers[2].data = [10, 20, 30, 40]
    code = schema.OperatorCodeT(version=2)
    assert code.builtinCode == schema.BuiltinOperator.ADD
    model = schema.ModelT(version=3, operatorCodes=[code], subgraphs=[graph], description=b"",
                          buffers=buffers)  # fmt: skip
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    made, kept = bytes(builder.Output()), probe.MODEL.read_bytes()
    read = [schema.ModelT.InitFromObj(schema.Model.GetRootAs(data)) for data in (made, kept)]
    assert as_plain(read[0]) == as_plain(read[1])


def as_plain(value: Any) -> Any:
    if isinstance(value, list):
        return [as_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return {k: as_plain(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value


def runtime(name: str, outcome: Outcome | None) -> Line:
    outcomes = {} if outcome is None else {f"run {runtimes.MODULES[name]}": outcome}
    return only(accelerators.runtime_lines(outcomes), name)


def test_a_runtime_that_computes_something_else_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = runtimes.MODULES["ai-edge-litert"]
    right = probe.WORK["run"](module)
    assert right == {"output": probe.WANTED, "xnnpack": True}
    data = probe.MODEL.read_bytes()
    constant = bytes([10, 20, 30, 40])
    assert data.count(constant) == 1
    (tmp_path / "m.tflite").write_bytes(data.replace(constant, bytes([10, 20, 30, 41])))
    monkeypatch.setattr(probe, "MODEL", tmp_path / "m.tflite")
    line = runtime("ai-edge-litert", Outcome(answer=probe.WORK["run"](module)))
    assert line.found.endswith(", computes [11, 22, 33, 45] in place of [11, 22, 33, 44]")
    assert line.stops and line.do == "pip install --force-reinstall ai-edge-litert"
    (tmp_path / "m.tflite").write_bytes(data[:100])
    broken = steps_of(f"run {module}")  # in a child, which has the model of the package
    assert broken[f"run {module}"].answer == right


def test_without_xnnpack_the_answers_are_not_those_that_ship() -> None:
    outcome = Outcome(answer={"output": probe.WANTED, "xnnpack": False})
    assert runtime("ai-edge-litert", outcome).found.endswith(", runs without XNNPACK")
    assert runtime("ai-edge-litert", outcome).stops
    assert runtime("tensorflow", outcome).state == "ok"


def test_without_tensorflows_runtime_nothing_is_scored() -> None:
    for outcome, state in ((Outcome(problem="ImportError: no"), "wrong"), (None, "missing")):
        line = runtime("tensorflow", outcome)
        assert (line.state, line.stops) == (state, True)


def test_the_oldest_runtime_may_be_absent_but_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = runtime("tflite-runtime", None)
    assert (absent.state, absent.stops) == ("missing", False)
    monkeypatch.setattr(accelerators, "version_of", lambda name: "2.14.0")
    broken = runtime("tflite-runtime", Outcome(problem="ImportError: numpy failed"))
    assert broken.found == "2.14.0, does not run: ImportError: numpy failed" and broken.stops
    assert broken.do == (
        "pip install 'mobileclf[oldest]' (it wants numpy 1), or pip uninstall tflite-runtime"
    )


# GPU


def gpus(*, tensorflow: Outcome | None = None, jax: Outcome | None = None) -> Callable[[str], Line]:
    outcomes = {"devices tensorflow": tensorflow or Outcome(answer={"gpus": [], "cuda": False})}
    if jax is not None:
        outcomes["devices jax"] = jax
    lines = [*accelerators.gpu_lines(accelerators.driver(), outcomes)]
    return lambda what: only(lines, what)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of this folder alone, and none of the variables that bear on GPUs."""
    for name in ("CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


CARD = "echo 'NVIDIA T4, 550.54.15, 15360 MiB'"


def test_without_a_gpu_nothing_is_to_be_done(tools: Path) -> None:
    line = gpus()
    assert (line("NVIDIA driver").state, line("NVIDIA driver").do) == ("missing", "")
    assert (line("TensorFlow").found, line("TensorFlow").state, line("TensorFlow").do) == (
        "sees no GPU (built without CUDA)", "ok", "",
    )  # fmt: skip
    assert line("JAX").found == "not installed"


@posix
def test_a_gpu_that_tensorflow_does_not_see(tools: Path) -> None:
    script(tools, "nvidia-smi", CARD)
    line = gpus(jax=Outcome(answer={"gpus": []}))
    assert line("NVIDIA driver").found == "NVIDIA T4, 550.54.15, 15360 MiB"
    assert line("TensorFlow").state == "warning"
    assert line("TensorFlow").wanted == "a GPU, since there is one"
    assert line("TensorFlow").do == "pip install 'mobileclf[gpu]'"
    assert line("JAX").do == "pip install --upgrade 'jax[cuda12]'"
    seen = gpus(tensorflow=Outcome(answer={"gpus": ["T4"], "cuda": True}))("TensorFlow")
    assert (seen.found, seen.state, seen.do) == ("sees T4", "ok", "")


@posix
@pytest.mark.parametrize(("value", "found"), [("", "empty"), ("-1", "-1")])
def test_a_gpu_that_is_hidden(
    value: str, found: str, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tools, "nvidia-smi", CARD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    line = gpus()
    assert line("CUDA_VISIBLE_DEVICES").found == f"{found}: it hides every GPU"
    assert line("CUDA_VISIBLE_DEVICES").state == "warning"
    assert line("TensorFlow").do == "unset CUDA_VISIBLE_DEVICES"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ValueError):
        gpus()("CUDA_VISIBLE_DEVICES")


@posix
def test_a_driver_that_fails(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tools, "nvidia-smi", "echo 'NVIDIA-SMI has failed'; exit 9")
    line = gpus()("NVIDIA driver")
    assert (line.found, line.state) == ("nvidia-smi: NVIDIA-SMI has failed", "wrong")
    script(tools, "nvidia-smi", "exec /bin/sleep 60")
    monkeypatch.setattr(accelerators, "NVIDIA_SMI", 1)
    assert gpus()("NVIDIA driver").found == "nvidia-smi gave no answer in 1 s"


def test_how_tensorflow_takes_gpu_memory(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "yes")
    assert gpus()("TF_FORCE_GPU_ALLOW_GROWTH").state == "warning"
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    assert gpus()("TF_FORCE_GPU_ALLOW_GROWTH").state == "ok"


# Weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras/models").mkdir(parents=True)
    return tmp_path / "keras/models"


def test_weights_that_are_not_there_are_downloaded(cache: Path) -> None:
    line = only(weights.lines(), "inception_v3")
    assert (line.found, line.state, line.needed) == ("not there", "missing", False)
    assert line.do == "will be downloaded once (88 MB); without a network give --weights FILE"
    assert weights.still_to_come() == sum(file.size for file in weights.FILES.values())


def test_weights_that_are_cut_or_changed_are_wrong(cache: Path) -> None:
    for backbone, file in weights.FILES.items():
        path = cache / file.name
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
        line = only(weights.lines(), backbone)
        assert line.found == f"8 bytes in place of {file.size}, {path}" and line.state == "wrong"
        assert line.do.startswith(f"remove {path}; ")
    path = cache / weights.FILES["inception_v3"].name
    os.truncate(path, weights.FILES["inception_v3"].size)  # the right size, zeros
    line = only(weights.lines(), "inception_v3")
    assert line.found == f"other bytes than Keras published, {path}" and line.state == "wrong"


def test_whole_weights_are_whole(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = weights.FILES["inception_v3"]
    data = b"weights"
    (cache / file.name).write_bytes(data)
    small = replace(file, size=len(data), md5=hashlib.md5(data).hexdigest())
    monkeypatch.setitem(weights.FILES, "inception_v3", small)
    line = only(weights.lines(), "inception_v3")
    assert (line.found, line.state) == (f"whole, {cache / file.name}", "ok")
    assert weights.still_to_come() == weights.FILES["mobilenet_v2"].size


def test_the_weights_are_those_that_keras_asks_for() -> None:
    folder = Path(str(metadata.distribution("keras").locate_file("keras/src/applications")))
    text = (folder / "inception_v3.py").read_text()
    file = weights.FILES["inception_v3"]
    assert re.search(rf'"{file.name}",\s+WEIGHTS_PATH_NO_TOP,[^)]*file_hash="{file.md5}"', text)
    text = (folder / "mobilenet_v2.py").read_text()
    kept = re.search(r'"([a-z0-9_]+_)"\s+f"\{float\(alpha\)\}_\{rows\}(_no_top\.h5)"', text)
    assert kept and f"{kept[1]}1.0_224{kept[2]}" == weights.FILES["mobilenet_v2"].name
    assert "hash" not in text


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file/keras"))
    line = only(weights.lines(), "folder")
    assert (line.found, line.state) == (
        f"{tmp_path / 'file/keras'} cannot be written: Not a directory", "warning",
    )  # fmt: skip


@permissions
def test_keras_goes_elsewhere_when_its_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keras").mkdir(mode=0o500)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    line = only(weights.lines(), "folder")
    assert line.state == "warning" and line.found.endswith("so Keras keeps them in /tmp/.keras")


# Disk, memory, cores

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "state", "do"),
    [
        (2_000_000_000, "ok", ""),
        (700_000_000, "warning", "free 300 MB in {}, or choose another folder"),
        (50_000_000, "wrong", "free 950 MB in {}, or choose another folder"),
    ],
)
def test_disk_space(
    free: int, state: str, do: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free))
    line = resources.place("runs", tmp_path / "not/there/yet", resources.RUN)
    assert (line.state, line.do) == (state, do.format(tmp_path))
    assert line.wanted == "1.0 GB free" and line.stops is (state == "wrong")
    assert [*tmp_path.iterdir()] == []


def test_a_place_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    line = resources.place("runs", tmp_path / "runs/mushrooms", resources.RUN)
    assert line.found == f"{tmp_path / 'runs'} cannot be written: Not a directory" and line.stops


@permissions
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o500)
    line = resources.place("runs", tmp_path / "runs", resources.RUN)
    assert line.found == f"{tmp_path / 'runs'} cannot be written: Permission denied" and line.stops


def test_little_memory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "container", lambda: resources.Limits())
    monkeypatch.setattr(resources, "memory", lambda: (2_000_000_000, 1_500_000_000))
    line = only(resources.lines(tmp_path, tmp_path, tmp_path, 0), "memory")
    assert (line.found, line.state) == ("2.0 GB, 1.5 GB free", "warning")
    assert "mobilenet_v2" in line.do
    monkeypatch.setattr(resources, "memory", lambda: (64_000_000_000, 1_000_000_000))
    line = only(resources.lines(tmp_path, tmp_path, tmp_path, 0), "memory")
    assert (line.state, line.do) == ("warning", "end other programs before a run")


def test_the_containers_limits_are_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resources.Limits(memory=3_000_000_000, free=2_000_000_000)
    monkeypatch.setattr(resources, "container", lambda: limits)
    monkeypatch.setattr(cores, "quota", lambda: 0.5)
    lines = [*resources.lines(tmp_path, tmp_path, tmp_path, 0)]
    assert only(lines, "memory").found == "3.0 GB (the container's limit), 2.0 GB free"
    assert only(lines, "cores").found.endswith(", 0.5 by the container's limit")


def files(root: Path, texts: Mapping[str, str]) -> Path:
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_control_groups_of_version_2(tmp_path: Path) -> None:
    root = files(tmp_path, {
        "proc/self/cgroup": "0::/user/job\n",
        "sys/fs/cgroup/user/memory.max": "8000\n",
        "sys/fs/cgroup/user/memory.current": "5000\n",
        "sys/fs/cgroup/user/memory.stat": "anon 10\ninactive_file 1000\n",
        "sys/fs/cgroup/user/job/memory.max": "max\n",
        "sys/fs/cgroup/user/job/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/user/job/cpu.stat": "usage_usec 9\nthrottled_usec 250000\n",
        "sys/fs/cgroup/user/cpu.max": "max 100000\n",
    })  # fmt: skip
    assert resources.container(root) == resources.Limits(memory=8000, free=4000)
    assert cores.quota(root) == 1.5
    assert cores.throttled_seconds(root) == 0.25


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    # As inside a container: the path is the host's, and only the top is mounted.
    root = files(tmp_path, {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "6000",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/cpu/cpu.stat": "nr_throttled 3\nthrottled_time 1500000000\n",
    })  # fmt: skip
    assert resources.container(root) == resources.Limits(memory=6000, free=5000)
    assert cores.quota(root) == 2.0
    assert cores.throttled_seconds(root) == 1.5
    files(root, {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
    })  # fmt: skip
    for nothing in (root, tmp_path / "none"):
        assert resources.container(nothing) == resources.Limits()
        assert cores.quota(nothing) is None
    assert cores.throttled_seconds(tmp_path / "none") == 0


@pytest.mark.parametrize(("quota", "usable"), [(None, 4), (0.5, 1), (1.0, 1), (1.5, 2), (9.0, 4)])
def test_usable_cores(quota: float | None, usable: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "numbers", lambda: [0, 2, 5, 7])
    monkeypatch.setattr(cores, "quota", lambda: quota)
    assert cores.usable() == usable


@linux
def test_memory_is_known_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    total, free = resources.memory()
    monkeypatch.setitem(sys.modules, "psutil", None)
    plain_total, plain_free = resources.memory()
    assert plain_total == total and plain_free is not None and free is not None
    assert abs(plain_free - free) < 0.2 * free


# Python and settings


def test_another_python_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "python_version", lambda: "3.9.18")
    line = only(system.python_lines(), "Python")
    assert line.wanted == "<3.14,>=3.10" and line.stops
    assert line.do == "make a virtual environment with a Python <3.14,>=3.10 and install there"


def test_32_bits_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "struct", SimpleNamespace(calcsize=lambda code: 4))
    line = only(system.python_lines(), "word size")
    assert line.found == "32 bit" and line.stops
    assert struct.calcsize("P") == 8


@pytest.mark.parametrize(
    ("name", "libc", "state"),
    [("Linux", "glibc", "ok"), ("Linux", "", "warning"), ("FreeBSD", "", "warning")],
)
def test_systems(name: str, libc: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: name)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    assert only(system.python_lines(), "system").state == state


def test_another_mobileclf_on_the_path(first: Path) -> None:
    assert only(system.python_lines(), "mobileclf").state == "ok"
    (first / "mobileclf").mkdir()
    (first / "mobileclf/__init__.py").write_text("")
    line = only(system.python_lines(), "mobileclf")
    assert line.state == "warning" and line.do == f"remove {first / 'mobileclf'} from sys.path"


def test_another_mobileclf_than_the_installed_one(first: Path) -> None:
    installed(first, "mobileclf", "9.9")
    (first / "mobileclf").mkdir()
    (first / "mobileclf/__init__.py").write_text("")
    line = only(system.python_lines(), "mobileclf")
    assert line.found.endswith(f", but 9.9 is installed in {first / 'mobileclf'}")
    assert line.state == "warning"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epochs = ", "not readable as TOML"),
        ("epoks = 3", "unknown key 'epoks'"),
        ("dropout = 7.0", "--dropout 7.0: wanted a value from 0 to 0.9"),
    ],
)
def test_a_broken_configuration_stops_everything(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert only(system.setting_lines(), "mobileclf.toml").found == "none here"
    (tmp_path / "mobileclf.toml").write_text(text)
    line = only(system.setting_lines(), "mobileclf.toml")
    assert words in line.found and line.stops
    assert line.do == f"correct {tmp_path / 'mobileclf.toml'}, or remove it"
    assert checkup._folders(None, None) == (Path("runs"), Path("exported"))


def test_the_places_of_a_configuration_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mobileclf.toml").write_text('run = "a"\nout = "b"')
    assert only(system.setting_lines(), "mobileclf.toml").state == "ok"
    assert checkup._folders(None, None) == (Path("a"), Path("b"))
    assert checkup._folders(Path("c"), None) == (Path("c"), Path("b"))


def test_another_encoding_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locale.getpreferredencoding", lambda do: "ISO-8859-1")
    line = only(system.setting_lines(), "encoding")
    assert line.found.startswith("locale: ISO-8859-1, ") and line.state == "warning"
    assert line.do in ("export LC_ALL=C.UTF-8", "set PYTHONUTF8=1")


def test_a_temporary_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    line = only(system.setting_lines(), "temporary folder")
    assert line.found.startswith(f"{tmp_path / 'none'} cannot be written, so ")
    assert line.state == "warning" and not line.stops

    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert only(system.setting_lines(), "temporary folder").stops
    places = [line.what for line in resources.lines(tmp_path, tmp_path, tmp_path, 0)]
    assert "runs" in places and "temporary files" not in places


def test_a_keras_backend_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    line = only(system.setting_lines(), "Keras backend")
    assert (line.found, line.do) == ("torch", "unset KERAS_BACKEND") and line.stops
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(system, "version_of", lambda name: None)
    line = only(system.setting_lines(), "Keras backend")
    assert line.do == "pip install 'mobileclf[jax]', or unset KERAS_BACKEND"


# Android


@pytest.fixture
def sdk(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake SDK that is too old, with nothing else at hand."""
    for name in ("JAVA_HOME", "ANDROID_SDK_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    monkeypatch.chdir(tmp_path)
    for part in ("platforms/android-34", "build-tools/34.0.0", "build-tools/35.0.1"):
        (tmp_path / "sdk" / part).mkdir(parents=True)
    return tmp_path / "sdk"


def test_an_old_sdk(sdk: Path) -> None:
    lines = [*android.lines()]
    assert not any(line.needed for line in lines)
    part = only(lines, "platform")
    assert (part.found, part.state) == ("34", "wrong")
    assert part.do == "sdkmanager 'platforms;android-36'"
    assert only(lines, "build-tools").found == "34, 35"
    for name in ("adb", "Java", "Gradle"):
        assert (only(lines, name).found, only(lines, name).state) == ("not found", "missing")


def test_a_fitting_sdk(sdk: Path) -> None:
    for part in ("platforms/android-36.1", "build-tools/36.0.0", "platform-tools"):
        (sdk / part).mkdir(parents=True)
    (sdk / "platform-tools/adb").write_text("")
    (sdk.parent / "android_demo").mkdir()
    (sdk.parent / "android_demo/gradlew").write_text("")
    lines = [*android.lines()]
    for name in ("SDK", "platform", "build-tools", "adb", "Gradle"):
        assert only(lines, name).state == "ok", name
        assert only(lines, name).do == ""


def test_an_sdk_that_is_not_there_or_twice(sdk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_SDK_ROOT", str(sdk.parent))
    line = only(android.lines(), "SDK")
    assert line.found == f"{sdk}, but ANDROID_SDK_ROOT is {sdk.parent}"
    assert (line.state, line.do) == ("warning", "unset ANDROID_SDK_ROOT")
    monkeypatch.setenv("ANDROID_HOME", str(sdk / "none"))
    line = only(android.lines(), "SDK")
    assert (line.found, line.state) == (f"{sdk / 'none'}: there is no such folder", "wrong")
    monkeypatch.delenv("ANDROID_HOME")
    monkeypatch.delenv("ANDROID_SDK_ROOT")
    monkeypatch.setattr(Path, "home", lambda: sdk.parent)
    assert (only(android.lines(), "SDK").found, only(android.lines(), "SDK").state) == (
        "not found", "missing",
    )  # fmt: skip


@posix
@pytest.mark.parametrize(
    ("said", "found", "state"),
    [
        ('openjdk version "17.0.15" 2025-04-15', "17", "ok"),
        ('openjdk version "25" 2025-09-16', "25", "ok"),
        ('openjdk version "11.0.2"', "11", "wrong"),
        ('java version "1.8.0_292"', "8", "wrong"),
    ],
)
def test_java(said: str, found: str, state: str, sdk: Path, tools: Path) -> None:
    path = script(tools, "java", f"echo '{said}' >&2")
    line = only(android.lines(), "Java")
    assert (line.found, line.state) == (f"{found} ({path})", state)


@posix
def test_java_home_goes_before_the_path(
    sdk: Path, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tools, "java", "echo 'version \"17\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    line = only(android.lines(), "Java")
    assert (line.found, line.state) == (f"{tmp_path / 'jdk/bin/java'} does not run", "wrong")
