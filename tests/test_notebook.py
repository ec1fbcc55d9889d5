"""The notebook's file is as it should be, and its cells run; `test_wheel` runs all of them."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

import mobileclf

from .notebooks import execute, notebook_of

NOTEBOOK = Path(__file__).parent.parent / "examples" / "mushrooms.ipynb"
TEXT = NOTEBOOK.read_text(encoding="utf-8")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def wrong_with(text: str) -> list[str]:
    """What is not as a stored notebook should be."""
    found: Any = json.loads(text)
    wrong = []
    try:
        nbformat.validate(found)
    except nbformat.ValidationError as error:
        wrong.append(f"not valid: {error.message}")
    if (found["nbformat"], found["nbformat_minor"]) != (4, 5):
        wrong.append("not format 4.5")
    if found["metadata"] != METADATA:
        wrong.append("metadata")
    for cell in found["cells"]:
        name = cell.get("id", "")
        if not re.fullmatch(r"[a-z]+(-[a-z]+)*", name):
            wrong.append(f"id {name!r} is not one that was chosen")
        if cell.get("outputs") or cell.get("execution_count") is not None:
            wrong.append(f"{name} has outputs")
        if cell["metadata"]:
            wrong.append(f"{name} has metadata")
    if text != json.dumps(found, indent=1, ensure_ascii=False) + "\n":
        wrong.append("not written as Jupyter writes it")
    return wrong


def test_the_notebook_is_stored_clean() -> None:
    assert wrong_with(TEXT) == []


@pytest.mark.parametrize(
    ("defect", "wanted"),
    [
        ({"outputs": [{"output_type": "stream", "name": "stdout", "text": "x"}]}, "has outputs"),
        ({"execution_count": 3}, "has outputs"),
        ({"metadata": {"scrolled": True}}, "has metadata"),
        ({"id": "8f3a-11"}, "is not one that was chosen"),
        ({"cell_type": "cod"}, "not valid"),
    ],
)
def test_the_check_of_the_file_can_fail(defect: dict[str, Any], wanted: str) -> None:
    broken = json.loads(TEXT)
    next(c for c in broken["cells"] if c["cell_type"] == "code").update(defect)
    (found,) = wrong_with(json.dumps(broken, indent=1, ensure_ascii=False) + "\n")
    assert wanted in found


def test_only_public_functions_are_used() -> None:
    called = set(re.findall(r"\bmobileclf\.(\w+)\(", TEXT))
    assert {"dataset", "train", "select", "threshold", "parity", "export", "predict"} <= called
    assert called <= set(mobileclf.__all__)
    imported = set(re.findall(r"(?:from|import) (mobileclf[\w.]*)", TEXT))
    assert imported == {"mobileclf", "mobileclf.report"}


def test_a_broken_cell_is_found(tmp_path: Path) -> None:
    notebook: Any = copy.deepcopy(nbformat.reads(TEXT, as_version=4))
    (setup,) = [cell for cell in notebook.cells if cell.id == "setup"]
    notebook.cells = [setup]
    execute(notebook, tmp_path)
    setup.source += "\nmobileclf.trian()"
    with pytest.raises(CellExecutionError, match="trian"):
        execute(notebook, tmp_path)


PROGRAM = """
import os, sys
from pathlib import Path
from mobileclf import chatter, progress

streams = sys.stdout, sys.stderr, progress.console._file
def chat(word):
    os.write(1, f"native out {word}\\n".encode())
    os.write(2, f"native err {word}\\n".encode())
    print(f"python out {word}", flush=True)
    print(f"python err {word}", file=sys.stderr, flush=True)
    progress.say(f"said <i>[red]$x$ {word}")

try:
    with chatter.led_to(Path("log")):
        chat("within")
        for title in ("first", "second"):
            for _ in progress.track([1, 2], title, 2):
                pass
        progress.warn("careful")
        with progress.bar("third", 2):
            raise ValueError
except ValueError:
    chat("after")
assert streams == (sys.stdout, sys.stderr, progress.console._file)
"""
KINDS = ("native out", "native err", "python out", "python err")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[Any], str]:
    """A notebook after its run, what it was shown meanwhile, and the log."""
    folder = tmp_path_factory.mktemp("told")
    notebook = notebook_of(
        PROGRAM,
        "for _ in progress.track([1, 2], 'alone', 2): pass",
        "with chatter.led_to(Path('log')): raise RuntimeError('told')",
        "progress.console.quiet = True\n"
        "progress.say('hush')\n"
        "for _ in progress.track([1], 'quiet', 1): pass",
        "chat('at last')",
    )
    notebook.cells[2].metadata["tags"] = ["raises-exception"]
    notebook.cells[4].source = "progress.console.quiet = False\n" + notebook.cells[4].source
    shown = execute(notebook, folder)
    return notebook, shown, (folder / "log").read_text()


def streams_of(cell: Any) -> str:
    return "".join(o.text for o in cell.outputs if o.output_type == "stream")


def displays_of(cell: Any) -> list[Any]:
    return [o.data for o in cell.outputs if o.output_type == "display_data"]


def test_what_libraries_print_goes_to_the_log_also_in_a_notebook(told) -> None:
    notebook, _, log = told
    assert all(f"{kind} within" in log for kind in KINDS)
    assert "after" not in log and "said" not in log
    for cell, word in ((notebook.cells[0], "after"), (notebook.cells[4], "at last")):
        assert "within" not in streams_of(cell)
        assert all(f"{kind} {word}" in streams_of(cell) for kind in KINDS)


def test_messages_of_a_cell_are_one_output_and_no_bar_is_left(told) -> None:
    notebook, _, _ = told
    (only,) = displays_of(notebook.cells[0])
    said = ["said <i>[red]$x$ within", "warning: careful", "said <i>[red]$x$ after"]
    assert only["text/plain"].splitlines() == said
    assert "said &lt;i&gt;[red]$x$ within" in only["text/html"]
    assert "color" in only["text/html"]  # the warning


def test_bars_are_shown_while_they_last(told) -> None:
    _, shown, _ = told
    of_first = [s for s in shown if s["cell"] == 0]
    assert [s["type"] for s in of_first].count("display_data") == 1
    lines = [s["data"]["text/plain"].splitlines()[-1] for s in of_first]
    order = [line.split(" ")[0] for line in lines if "━" in line]
    assert list(dict.fromkeys(order)) == ["first", "second", "third"]


def test_a_bar_alone_stays_as_it_ended(told) -> None:
    notebook, _, _ = told
    (only,) = displays_of(notebook.cells[1])
    (line,) = only["text/plain"].splitlines()
    assert line.startswith("alone ━") and " 2/2 " in line


def test_an_error_is_shown_and_all_is_restored(told) -> None:
    notebook, _, log = told
    (error,) = [o for o in notebook.cells[2].outputs if o.output_type == "error"]
    assert (error.ename, error.evalue) == ("RuntimeError", "told")
    assert "RuntimeError" not in log


def test_quiet_shows_nothing(told) -> None:
    notebook, shown, _ = told
    assert notebook.cells[3].outputs == []
    assert not [s for s in shown if s["cell"] == 3]
    (last,) = displays_of(notebook.cells[4])
    assert last["text/plain"] == "said <i>[red]$x$ at last\n"
