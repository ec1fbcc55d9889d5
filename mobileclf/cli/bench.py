"""`mobileclf bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mobileclf import pipeline, progress
from mobileclf.benchmark import SECONDS
from mobileclf.errors import ProofError, UsageError
from mobileclf.records import write_json

from .app import Json, Quiet, Verbose, reporting


def bench(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL...", help=".tflite files, or folders of bundles.")
    ],
    threads: Annotated[
        str | None, typer.Option("--threads", help="As 1,2 [1, 2 and 4, up to the cores].")
    ] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            "--runtime",
            help="ai-edge-litert, tensorflow or tflite-runtime; may be repeated [those installed].",
        ),
    ] = None,
    kernels: Annotated[
        str, typer.Option("--kernels", help="xnnpack, builtin or both.", show_default=False)
    ] = "both",
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            help=f"Of timing, at most [{SECONDS:g}]; it ends once ratios are known.",
            show_default=False,
        ),
    ] = SECONDS,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Of inputs and the order of slices [0].", show_default=False),
    ] = 0,
    require_steady: Annotated[
        bool,
        typer.Option("--require-steady", help="Exit 3 when a figure cannot be relied on [no]."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", help="JSON file for the record [none].")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Measure latency and memory of .tflite files here, and their ratios to the first of them."""
    with reporting(verbose=verbose, quiet=quiet):
        from mobileclf.benchmark import bench as benchmark

        if output is not None:
            _check_output(output, models)
        choice: Any = kernels
        record = benchmark.bench(
            models, threads=_numbers(threads), runtimes=runtime or None, kernels=choice,
            seconds=seconds, seed=seed, verbose=verbose,
        )  # fmt: skip
        if output is not None:
            write_json(output, record)
        if json:
            typer.echo(pipeline.as_json(record))
        else:
            from mobileclf.report.benchmark import show

            show(record)
        if record["steady"]:
            return
        if require_steady:
            raise ProofError(f"--require-steady: not steady: {'; '.join(record['reasons'])}")
        for reason in record["reasons"]:
            progress.warn(f"not steady: {reason}")


def _check_output(output: Path, models: Sequence[Path]) -> None:
    """Raises UsageError when `output` is one of the models, or lies in a bundle of them, or in no
    folder at all."""
    if not output.resolve().parent.is_dir():
        raise UsageError(f"--output {output}: wanted a place in a folder that is there")
    for model in models:
        if output.resolve().is_relative_to(model.resolve()):
            where = f"a place outside of {model}" if model.is_dir() else "another file"
            raise UsageError(f"--output {output}: wanted {where}, which a model is read from")


def _numbers(text: str | None) -> list[int] | None:
    """`1,2` as numbers. Raises UsageError."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--threads {text}: wanted numbers as 1,2") from error
