"""The wheel in a plain install, away from the checkout: its notebook and its commands.

One export, that of the notebook, serves all of them. There is no tflite-runtime there.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

import mobileclf

from .notebooks import ENVIRONMENT, execute
from .wheels import ROOT, UV, install

pytestmark = pytest.mark.skipif(not UV.exists(), reason="needs uv beside python (extra dev)")
DEMO = "mushrooms"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything is done."""
    return tmp_path_factory.mktemp("away")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The commands of a plain install, None where the package index cannot be reached."""
    return install(tmp_path_factory.mktemp("install"), "ipykernel")


@pytest.fixture(scope="module")
def executed(folder: Path, commands: Path | None) -> tuple[Any, list[Any]]:
    """The notebook after its run, in the plain install if there is one; what it showed."""
    notebook: Any = nbformat.read(ROOT / "examples" / "mushrooms.ipynb", as_version=4)
    python = str(commands / "python") if commands else sys.executable
    return notebook, execute(notebook, folder, python=python, timeout=600)


@pytest.fixture
def run(folder: Path, commands: Path | None) -> Any:
    """Runs a command of the plain install in `folder`; gives its stdout, wanted its exit code."""
    if commands is None:
        pytest.skip("needs the package index, which cannot be reached")

    def run(program: str, *words: object, code: int = 0) -> str:
        done = subprocess.run(
            [commands / program, *map(str, words)],
            cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return run


def of(executed: tuple[Any, list[Any]], name: str) -> Any:
    """A cell by its id."""
    (cell,) = [cell for cell in executed[0].cells if cell.id == name]
    return cell


def printed(executed: tuple[Any, list[Any]], name: str) -> str:
    streams = [o for o in of(executed, name).outputs if o.output_type == "stream"]
    assert {o.name for o in streams} <= {"stdout"}
    return "".join(o.text for o in streams)


def pictures(executed: tuple[Any, list[Any]], name: str) -> list[str]:
    shown = [o.data for o in of(executed, name).outputs if "data" in o]
    return [data["image/png"] for data in shown if "image/png" in data]


def record(folder: Path, name: str) -> Any:
    return json.loads((folder / "runs" / DEMO / name).read_text())


def test_the_install_is_plain_and_away_from_the_checkout(run: Any) -> None:
    code = (
        "import importlib.util as found, mobileclf\n"
        "print(mobileclf.__file__)\n"
        "print([n for n in ('tflite_runtime', 'pytest', 'dask', 'jax') if found.find_spec(n)])"
    )
    where, others = run("python", "-c", code).splitlines()
    assert not Path(where).is_relative_to(ROOT)
    assert others == "[]"
    assert run("mobileclf", "--version") == f"mobileclf {mobileclf.__version__}\n"


def test_every_cell_ran_in_order_without_complaint(executed: Any) -> None:
    cells = [cell for cell in executed[0].cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        printed(executed, cell.id)
        assert not [o for o in cell.outputs if o.output_type == "error"], cell.id


def test_the_pictures_are_there(executed: Any) -> None:
    wanted = {"sheets": 2, "train": 1, "threshold": 1, "confusion": 1, "predict": 1}
    found = {
        cell.id: len(pictures(executed, cell.id))
        for cell in executed[0].cells
        if cell.cell_type == "code" and pictures(executed, cell.id)
    }
    assert found == wanted


def test_bars_were_shown_and_none_was_left_in_the_way(executed: Any) -> None:
    notebook, shown = executed
    names = [cell.id for cell in notebook.cells]
    seen: dict[str, set[str]] = {}
    for message in shown:
        for line in message["data"].get("text/plain", "").splitlines():
            if "━" in line:
                seen.setdefault(names[message["cell"]], set()).add(line.partition(" ━")[0])
    assert "check photos" in seen["data"]
    assert "train every layer" in seen["train"]
    assert {"reconstruct", "convert"} <= seen["quantize"]
    for name in ("data", "train", "quantize", "export"):
        (said,) = [
            o.data["text/plain"]
            for o in of(executed, name).outputs
            if o.output_type == "display_data" and "plan:" in o.data.get("text/plain", "")
        ]
        assert "━" not in said


def test_the_numbers_are_those_of_the_records(executed: Any, folder: Path) -> None:
    accuracy = record(folder, "train.json")["validation"]["accuracy"]
    assert f"validation accuracy: {accuracy:.4f}\n" in printed(executed, "train")
    selected = record(folder, "selection.json")
    assert f"ships: {selected['selected']}\n" in printed(executed, "quantize")
    point = record(folder, "threshold.json")
    found = re.findall(r"\d+", printed(executed, "threshold"))
    tested = point["test"]["int8"]
    counts = [tested[key] for key in ("n", "caught", "missed", "false_alarms", "passed")]
    assert found == [str(number) for number in (point["decision"]["threshold_q"], 256, *counts)]
    parity = record(folder, "parity.json")
    said = printed(executed, "parity")
    assert f"float {parity['float']['accuracy']:.4f}, int8 {parity['int8']['accuracy']:.4f}" in said
    assert f"same answers: {parity['agreement']:.4f} of {parity['n']} photos" in said
    assert f"verdict: {parity['verdict']}\n" in said
    listed = dict(
        reversed(line.replace(",", "").split(maxsplit=1))  # type: ignore[misc]
        for line in printed(executed, "export").splitlines()
        if re.match(r" *[\d,]+  ", line)
    )
    bundle = folder / "exported" / DEMO
    files = {
        path.relative_to(bundle).as_posix(): str(path.stat().st_size)
        for path in bundle.rglob("*")
        if path.is_file()
    }
    assert listed == files and {"model.tflite", "labels.txt", "bundle.json"} <= set(files)
    assert f"{files['model.tflite']} bytes" in printed(executed, "inspect").replace(",", "")


def test_without_the_oldest_runtime_it_says_so(executed: Any, commands: Path | None) -> None:
    if commands is None:
        pytest.skip("needs the package index, which cannot be reached")
    texts = [o.data["text/plain"] for o in of(executed, "quantize").outputs if "data" in o]
    assert any("tflite-runtime is not installed" in text for text in texts)


def test_export_goes_on_where_the_notebook_stopped(executed: Any, run: Any, folder: Path) -> None:
    place = folder / "runs" / DEMO
    first = {p.name: p.read_bytes() for p in (folder / "exported" / DEMO).iterdir() if p.is_file()}
    for name in ("parity.json", "bundled.json"):
        (place / name).unlink()
    out = run("mobileclf", "export", "--int8", "--name", DEMO, "--out", "again", "-q")
    assert "parity: " in out
    again = {p.name: p.read_bytes() for p in (folder / "again" / DEMO).iterdir() if p.is_file()}
    assert again == first


def test_predict_says_what_the_golden_cases_say(executed: Any, run: Any, folder: Path) -> None:
    bundle = folder / "exported" / DEMO
    cases = json.loads((bundle / "bundle.json").read_text())["golden"]
    images = [bundle / case["image"] for case in cases]
    sheet = folder / "golden.png"
    rows = list(csv.DictReader(io.StringIO(
        run("mobileclf", "predict", bundle, *images, "--sheet", sheet)
    )))  # fmt: skip
    found = [(row["label"], row["verdict"]) for row in rows]
    assert found == [(case["label"], case["verdict"]) for case in cases]
    assert sheet.read_bytes().startswith(b"\x89PNG")
    (bundle / "labels.txt").rename(bundle / "labels")
    try:
        run("mobileclf", "predict", bundle, *images, code=4)
    finally:
        (bundle / "labels").rename(bundle / "labels.txt")


def test_inspect_reads_the_bundle(executed: Any, run: Any, folder: Path) -> None:
    model = folder / "exported" / DEMO / "model.tflite"
    found = json.loads(run("mobileclf", "inspect", model, "--json"))
    assert found["file"]["bytes"] == model.stat().st_size
    assert found["quantization"]["kind"] == "int8"


def test_bench_measures_the_bundle(executed: Any, run: Any, folder: Path) -> None:
    bundle = folder / "exported" / DEMO
    options = ["--threads", "1", "--kernels", "xnnpack", "--seconds", "2", "--json"]
    options += ["--runtime", "ai-edge-litert"]
    found = json.loads(run("mobileclf", "bench", bundle, *options))
    measured = [row for row in found["configurations"] if "problem" not in row]
    assert measured and all(0 < row["median_ms"] <= row["p90_ms"] for row in measured)


def test_doctor_finds_this_install_ready(run: Any, commands: Path) -> None:
    found = json.loads(run("mobileclf", "doctor", "--json"))
    assert found["ready"] is True
    (python,) = [line for line in found["lines"] if line["what"] == "Python"]
    assert python["found"].endswith(f" in {commands.parent}")
