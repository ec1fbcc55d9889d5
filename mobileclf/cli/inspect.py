"""`mobileclf inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Json, Quiet, Verbose, reporting


def inspect(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A .tflite, or a folder export made.")
    ],
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Say what a .tflite holds: tensors, operators, quantization, sizes, runtimes, metadata."""
    with reporting(verbose=verbose, quiet=quiet):
        from mobileclf import pipeline
        from mobileclf.tflite.inspect import inspect as inspected

        record = inspected(model)
        if json:
            typer.echo(pipeline.as_json(record))
        else:
            from mobileclf.report.inspection import show

            show(record)
