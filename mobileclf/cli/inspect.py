"""`mobileclf inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobileclf.errors import UsageError
from mobileclf.layers import PHOTOS

from .app import Config, Json, Quiet, Verbose, reporting


def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="A .tflite, or a folder export made. With --explain [the run's that was selected]",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Where it loses what the run's float network says [no]."),
    ] = False,
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder of the run, to explain [runs/<name>].")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run [sample].")] = None,
    candidate: Annotated[
        str | None,
        typer.Option("--candidate", help="File of the run to explain, by name [the selected]."),
    ] = None,
    photos: Annotated[
        int | None,
        typer.Option("--photos", help=f"Validation photos to explain it on [{PHOTOS}]."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Picture of the layers, .png or .svg [none].")
    ] = None,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Say what a .tflite holds: tensors, operators, quantization, sizes, runtimes, metadata.

    With --explain: where an int8 file of a run loses what the float network says, layer by layer.
    """
    with reporting(verbose=verbose, quiet=quiet):
        from mobileclf import pipeline

        if explain:
            from mobileclf.layers.explain import explain as explained
            from mobileclf.report import layers

            if plot is not None:
                _check_plot(plot)
            record = explained(
                model, run=run, name=name, candidate=candidate,
                photos=PHOTOS if photos is None else photos, config=config, verbose=verbose,
            )  # fmt: skip
            if plot is not None:
                layers.draw(record, plot)
            show = layers.show
        else:
            from mobileclf.report.inspection import show
            from mobileclf.tflite.inspect import inspect as inspected

            given = {"--run": run, "--name": name, "--candidate": candidate, "--photos": photos,
                     "--plot": plot, "--config": config}  # fmt: skip
            for flag, value in given.items():
                if value is not None:
                    raise UsageError(f"{flag}: it is for --explain; give that too, or leave it out")
            if model is None:
                raise UsageError(
                    "inspect: wanted MODEL, a .tflite or a bundle's folder, found none; or give "
                    "--explain and a run"
                )
            record = inspected(model)
        if json:
            typer.echo(pipeline.as_json(record))
        else:
            show(record)


def _check_plot(plot: Path) -> None:
    """Raises UsageError, before the work, where no picture can be put there."""
    from mobileclf.report.figures import is_written
    from mobileclf.report.layers import KINDS

    if plot.suffix not in KINDS:
        raise UsageError(f"--plot {plot}: wanted a name that ends in {' or '.join(KINDS)}")
    if plot.is_dir() or not plot.resolve().parent.is_dir():
        raise UsageError(f"--plot {plot}: wanted a place in a folder that is there")
    if plot.is_file() and not is_written(plot):
        raise UsageError(
            f"--plot {plot}: wanted a new name or an earlier such picture, found another file, "
            "which would be lost; give another name"
        )
