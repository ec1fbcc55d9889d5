"""Children run nothing of the working directory, and find mobileclf wherever it lies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mobileclf
from mobileclf import apart
from mobileclf.tflite import delegates
from mobileclf.tflite.delegates import MAIN
from mobileclf.tflite.interpreter import score_photos
from mobileclf.tflite.runtimes import OLDEST, at_hand
from tests.models import photos, tiny_int8

ROOT = Path(mobileclf.__file__).parents[1]
SHOW = "import json, sys\ndef main(*given): print(json.dumps([sys.path, given]))"


@pytest.fixture
def traps(monkeypatch, tmp_path):
    """A working directory, first on the path, whose modules say that they were run."""
    folder = tmp_path / "here"
    folder.mkdir()
    tiny_int8()  # made before, since this process, too, imports some things late
    for name in ("queue", "json", "numpy"):
        said = str(tmp_path / f"ran {name}")
        (folder / f"{name}.py").write_text(f"open({said!r}, 'w').close()")
    monkeypatch.chdir(folder)
    # As `python -c`, a script or `python -m` in that directory have it.
    monkeypatch.setattr(sys, "path", ["", str(folder), *sys.path])
    yield folder
    assert sorted(tmp_path.glob("ran *")) == []


def test_a_runtime_is_asked_without_what_lies_beside_the_model(traps):
    (traps / "model.tflite").write_bytes(tiny_int8())
    (found,) = delegates.load(Path("model.tflite"), [MAIN])
    assert found.loads is True


@pytest.mark.skipif(not at_hand(OLDEST), reason="tflite-runtime exists for Python < 3.12 on Linux")
def test_the_oldest_runtime_scores_without_it(traps):
    assert len(score_photos(tiny_int8(), photos(2), title="x", runtime=OLDEST)) == 2


def shown(monkeypatch, folder: Path, *arguments: str) -> list[list[str]]:
    (folder / "show_path.py").write_text(SHOW)
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    said = subprocess.run(
        apart.command("show_path", *arguments), capture_output=True, text=True, check=True
    )
    path, given = json.loads(said.stdout)
    return [path, given]


def test_the_arguments_arrive(monkeypatch, tmp_path):
    given = ["", "a b", "'\"\\", "ü\n"]
    assert shown(monkeypatch, tmp_path, *given)[1] == given


def test_a_checkout_that_is_the_working_directory_comes_last(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", ["", str(ROOT), *sys.path])
    path, _ = shown(monkeypatch, tmp_path)
    assert path.index(str(ROOT)) == len(path) - 1 and "" not in path
