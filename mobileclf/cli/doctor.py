"""`mobileclf doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mobileclf.errors import EnvironmentProblem

from .app import Json, Quiet, Verbose, reporting


def doctor(
    run: Annotated[
        Path | None, typer.Option("--run", help="Folder that runs are to go to [runs].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder that bundles are to go to [exported].")
    ] = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Say what this machine has and lacks, and what to do; exit 5 when the main job cannot run."""
    with reporting(verbose=verbose, quiet=quiet):
        from mobileclf.checkup import doctor as checkup

        record = checkup.doctor(run=run, out=out)
        if json:
            from mobileclf import pipeline

            typer.echo(pipeline.as_json(record))
        else:
            from mobileclf.report.checkup import show

            show(record)
        stops = [line for line in record["lines"] if line["stops"]]
        if stops:
            first = stops[0]
            more = f"; {len(stops) - 1} more in the list" if len(stops) > 1 else ""
            raise EnvironmentProblem(
                f"{first['what']}: wanted {first['wanted']}, found {first['found']}; "
                f"{first['do']}{more}"
            )
