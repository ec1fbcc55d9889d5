"""`mobileclf predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mobileclf import pipeline, progress
from mobileclf.errors import UsageError
from mobileclf.records import write_bytes

from .app import Json, Quiet, Verbose, reporting
from .stages import TABLE


def predict(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder export made.")],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES...", help="Images, folders and zips of them, CSVs of ids."),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", help="File for the result [stdout].")
    ] = None,
    image_folder: Annotated[
        Path | None, typer.Option("--images", help=TABLE["images"].help)
    ] = None,
    image_column: Annotated[
        str | None, typer.Option("--image-column", help=TABLE["image_column"].help)
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option("--submission", help="CSV to write: the ids of the one CSV, and labels [no]."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option("--label-column", help="Header of its labels [label].")
    ] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help=TABLE["cluster"].help)] = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Say of each image what the app would say, by the bundle's own decision. CSV on stdout."""
    with reporting(verbose=verbose, quiet=quiet):
        from mobileclf import prediction

        options: dict[str, Any] = {
            "image_folder": image_folder, "image_column": image_column, "cluster": cluster,
            "verbose": verbose,
        }  # fmt: skip
        if submission is not None:
            filled, rows = prediction.submit(
                bundle, images, label_column=label_column or "label", **options
            )
            write_bytes(submission, filled.encode())
            progress.say(f"{submission}: {len(rows)} labels")
            if output is None and not json:
                return
        elif label_column is not None:
            raise UsageError("--label-column: it names a column of --submission; give both")
        else:
            rows = prediction.predict(bundle, images, **options)
        if json:
            text = pipeline.as_json({"predictions": rows}) + "\n"
        else:
            text = prediction.as_csv(rows)
        if output is not None:
            write_bytes(output, text.encode("utf-8", "surrogateescape"))
        else:
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
            sys.stdout.flush()
