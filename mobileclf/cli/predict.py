"""`mobileclf predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mobileclf import pipeline, progress
from mobileclf.records import write_bytes

from .app import Json, Quiet, Verbose, reporting
from .stages import TABLE


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Bundle or run folder, or a .tflite or .keras file of anyone's."
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES...", help="Images, folders and zips of them, CSVs of ids."),
    ],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Labels, one a line, of a model without [those in it]."),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            "--preprocess",
            help="Pixels as 0..1, -1..1, 0..255, caffe, torch, raw or mean,std [the model's].",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", help="A .jpg or .png of the images with their verdicts [no]."),
    ] = None,
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
    """Label images; of a bundle by its own decision, as the app would. CSV on stdout."""
    with reporting(verbose=verbose, quiet=quiet):
        from mobileclf.prediction import predict as prediction
        from mobileclf.prediction.outputs import check_outputs

        outputs = {"--output": output, "--submission": submission, "--sheet": sheet}
        check_outputs(outputs, model, images, labels, image_folder)
        rows = prediction.predict(
            model, images, labels=labels, preprocess=preprocess, sheet=sheet,
            image_folder=image_folder, image_column=image_column, submission=submission,
            label_column=label_column, cluster=cluster, verbose=verbose,
        )  # fmt: skip
        if submission is not None:
            progress.say(f"{submission}: {len(rows)} labels")
            if output is None and not json:
                return
        if json:
            text = pipeline.as_json({"predictions": rows}) + "\n"
        else:
            text = prediction.as_csv(rows)
        if output is not None:
            write_bytes(output, text.encode("utf-8", "surrogateescape"))
        else:
            sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
            sys.stdout.flush()
