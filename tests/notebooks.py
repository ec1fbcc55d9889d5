"""Run notebooks as a person would, in a kernel of a given Python, and keep what was sent."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

NAME = "of-the-tests"
# What a shell of its own would have: nothing here may make up for what an install lacks.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("PYTHON", "PYTEST", "JUPYTER", "VIRTUAL_ENV"))
}


def notebook_of(*cells: str) -> Any:
    """A notebook of code cells."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def execute(
    notebook: Any, folder: Path, *, python: str = sys.executable, timeout: int = 300
) -> list[Any]:
    """Run every cell in `folder`, in a kernel of `python`; outputs go into the notebook.

    Returns the messages that made and changed displays, in order. Raises CellExecutionError when
    a cell fails. No kernel of the system is used: the specification lies in `folder`.
    """
    specs = folder / ".kernels"
    (specs / NAME).mkdir(parents=True, exist_ok=True)
    start = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {"argv": start, "display_name": NAME, "language": "python"}
    (specs / NAME / "kernel.json").write_text(json.dumps(described))
    found = KernelSpecManager(kernel_dirs=[str(specs)], ensure_native_kernel=False)
    shown: list[Any] = []

    class Client(NotebookClient):
        def create_kernel_manager(self) -> Any:
            manager = super().create_kernel_manager()
            manager.kernel_spec_manager = found
            return manager

        def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
            if msg["msg_type"] in ("display_data", "update_display_data"):
                shown.append({"cell": cell_index, "type": msg["msg_type"], **msg["content"]})
            return super().process_message(msg, cell, cell_index)

    resources = {"metadata": {"path": str(folder)}}
    Client(notebook, kernel_name=NAME, timeout=timeout, resources=resources).execute(
        env={**ENVIRONMENT, "IPYTHONDIR": str(folder / ".ipython")}
    )
    return shown
