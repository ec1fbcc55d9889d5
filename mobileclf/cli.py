"""The command line: it parses, calls one function and prints. Nothing heavy loads for `--help`.

Results go to stdout; messages and progress go to stderr. Exit codes are those of `errors`.
"""

from __future__ import annotations

import errno
import inspect
import io
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.main import get_command

from . import __version__, pipeline, progress
from .config import OPTIONS, Settings, make_settings, option_name
from .errors import INTERRUPTED, EnvironmentProblem, MobileclfError, UsageError
from .records import write_bytes

ALWAYS = ""
# What the machine is to blame for, wherever it is met: no space, no permission, no such device.
MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
# Newer typers carry click inside, older ones import it: its base of usage errors, from either.
ClickException: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


@dataclass(frozen=True, kw_only=True)
class Option:
    """A setting as a flag: the first stage that uses it (ALWAYS: every command), and its help."""

    stage: str
    help: str


def _option(stage: str, text: str) -> Option:
    return Option(stage=stage, help=text)


# One entry for each field of Settings; defaults and units are in the text.
TABLE: dict[str, Option] = {
    "name": _option(ALWAYS, "Name of run and bundle [the data folder's name, or sample]."),
    "run": _option(ALWAYS, "Folder of the run [runs/<name>]."),
    "out": _option(ALWAYS, "Folder that bundles are put in [exported]."),
    "recipe": _option("dataset", "Options of a known project, by name: seed-digits and others."),
    "data": _option("dataset", "Folder, zip or CSV with the images [the embedded sample]."),
    "form": _option("dataset", "class-folders, csv or pixel-csv [recognised]."),
    "images": _option("dataset", "Folder of the images that a CSV names [beside the CSV]."),
    "image_column": _option("dataset", "Column of a CSV that names the image [the usual names]."),
    "label_column": _option("dataset", "Column of a CSV with the label [the usual names]."),
    "shape": _option("dataset", "Height,width,channels of a row of pixels, as 100,100,3."),
    "classes": _option("dataset", "Names for labels 0, 1, ..., as cat,dog [the numbers]."),
    "groups": _option("dataset", "CSV with label,group,harmful [classes.csv, or folder names]."),
    "group_by": _option("dataset", "CSV column, or pattern in paths: one specimen, one part."),
    "train_share": _option(
        "dataset", "Share of the photos that train; others are held back [0.6]."
    ),
    "strict": _option("dataset", "Exit 4 on what is otherwise a warning [no]."),
    "cluster": _option("dataset", "Dask or Ray cluster that reads the photos [this machine]."),
    "harmful": _option("threshold", "Group or class that must not be missed."),
    "backbone": _option("train", "inception_v3, mobilenet_v2, small_cnn, plain_cnn [the first]."),
    "weights": _option("train", "imagenet, none, or an h5 file [imagenet; the CNNs: none]."),
    "image_size": _option("train", "Side of the input, pixels [299, 224 or 64, by backbone]."),
    "channels": _option("dataset", "Of the input: 3 for colour, 1 for grey [3]."),
    "head": _option("train", "Hidden units, as 64,32; sigmoid at the end for two classes [64]."),
    "dropout": _option("train", "Share dropped before the head [0.3 on frozen features, else 0]."),
    "augment": _option("train", "none, seeds, or a list as flip,zoom=0.2 [flip, or more]."),
    "views": _option("train", "Augmented views of each photo for frozen features [2]."),
    "class_weights": _option("train", "none, or balanced: rare classes weigh more [none]."),
    "epochs": _option("train", "Most epochs of training; 20+10 for two fits [40]."),
    "batch_size": _option("train", "Images in a step [32]."),
    "learning_rate": _option("train", "Adam's step size in training [0.001]."),
    "patience": _option("train", "Epochs without a better validation loss before the stop [6]."),
    "fine_tune_epochs": _option("quantize", "Epochs of distillation, quantized [1]."),
    "fine_tune_rate": _option("quantize", "Adam's step size in distillation [1e-6]."),
    "calibration_photos": _option("quantize", "Training images that set the ranges [128]."),
    "fp16": _option("convert", "Also a float16 model, in the run folder [no]."),
    "dynamic": _option("convert", "Also a dynamic-range model, in the run folder [no]."),
    "int16x8": _option("convert", "Also int16 activations, int8 weights, in the run folder [no]."),
    "io": _option("convert", "Type at input and output: uint8, int8 or float32 [uint8]."),
    "max_drop": _option("parity", "Largest drop of accuracy, as a fraction [0.01]."),
    "require_proof": _option("parity", "Exit 3 also when the test photos are too few [no]."),
    "golden_from": _option("bundle", "Folder or zip of photos for the golden cases [drawn ones]."),
    "seed": _option("dataset", "Seed of everything random [0]."),
}
TYPES: dict[str, Any] = {"Path": Path, "str": str, "int": int, "float": float, "bool": bool}

Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file for what flags do not give [mobileclf.toml]."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout in place of tables.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Show what libraries print, and tracebacks.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No messages and no progress.")]

app = typer.Typer(
    name="mobileclf",
    help="From a folder of photos to a proven int8 TFLite bundle for Android.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mobileclf {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say which.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def options_of(stage: str) -> tuple[str, ...]:
    """The settings that a command up to `stage` uses, in the order of Settings."""
    upto = (ALWAYS, *pipeline.STAGES[: pipeline.STAGES.index(stage) + 1])
    return tuple(name for name in OPTIONS if TABLE[name].stage in upto)


def _flag(name: str) -> inspect.Parameter:
    """The parameter that typer makes a flag of; None stands for a flag that was not given."""
    kind = TYPES[str(Settings.__dataclass_fields__[name].type).split(" ")[0]]
    flag = option_name(name)
    spelled = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
    hint: Any = Annotated[Optional[kind], typer.Option(spelled, help=TABLE[name].help)]  # noqa: UP045
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hint)


def _command(name: str, stage: str, *, summary: str, leading: dict[str, Any] | None = None) -> None:
    """Register the command `name`, which runs up to `stage`.

    leading: parameters before the settings, by name; each is a typer annotation. SOURCE is --data.
    """
    extra = leading or {}
    hidden = {"data"} if "source" in extra else set()

    def run(**given: Any) -> None:
        config, as_json = given.pop("config"), given.pop("json")
        verbose, quiet = given.pop("verbose"), given.pop("quiet")
        if "source" in given:
            given["data"] = given.pop("source")
        with reporting(verbose=verbose, quiet=quiet) as report:
            if "int8" in extra:
                pipeline.require_int8(given.pop("int8"))
            settings = pipeline.settings_for(given, config=config, recall=name != "export")
            report.log = settings.run_folder / pipeline.LOG
            record = pipeline.run_until(settings, stage, verbose=verbose)
            if as_json:
                typer.echo(pipeline.as_json(record))
            else:
                from .report.tables import show

                show(settings, stage)

    common = {"config": Config, "json": Json, "verbose": Verbose, "quiet": Quiet}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(
            inspect.Parameter(key, keyword, annotation=hint, default=default)
            for key, (hint, default) in extra.items()
        ),
        *(_flag(option) for option in options_of(stage) if option not in hidden),
        *(
            inspect.Parameter(
                key, keyword, annotation=hint, default=None if key == "config" else False
            )
            for key, hint in common.items()
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, help=summary)(run)


@dataclass(kw_only=True)
class _Report:
    """Where a defect's traceback goes; None until the run is known."""

    log: Path | None = None


@contextmanager
def reporting(*, verbose: bool, quiet: bool) -> Iterator[_Report]:
    """Turn every error into one line on stderr and its exit code, for one command."""
    report = _Report()
    progress.console.quiet = quiet
    try:
        yield report
    except MobileclfError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to go on", INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            place = error.filename or "a file"
            _fail(f"{place}: {error.strerror}; free space or permissions, and run the same command",
                  EnvironmentProblem.exit_code)  # fmt: skip
        where = _keep_traceback(report.log, verbose)
        words = " ".join(str(error).split())[:300]
        _fail(f"a defect in mobileclf: {type(error).__name__}: {words}; {where}", 1)
    finally:
        progress.console.quiet = False


def _keep_traceback(log: Path | None, verbose: bool) -> str:
    if verbose:
        traceback.print_exc()
        return "the traceback is above"
    try:
        if log is not None and log.parent.is_dir():
            with log.open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
            return f"the traceback is in {log}"
    except OSError:
        pass
    return "-v shows the traceback"


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(code)


_command(
    "export",
    "bundle",
    summary="Bring every stage up to date, then bundle into <out>/<name>: the main job.",
    leading={
        "int8": (
            Annotated[bool, typer.Option("--int8", help="Required: the kind of bundle.")],
            False,
        )
    },
)


@app.command("sample")
def _sample(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    seed: Annotated[int | None, typer.Option("--seed", help=TABLE["seed"].help)] = None,
    config: Config = None,
    json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Write the embedded sample data set: drawn mushrooms in class folders."""
    with reporting(verbose=verbose, quiet=quiet):
        chosen = make_settings({"seed": seed}, config=config).seed
        record = pipeline.sample(folder, seed=chosen)
        if json:
            typer.echo(pipeline.as_json(record))
        else:
            for label, count in record["images"].items():
                typer.echo(f"{label}\t{count}")


_command(
    "dataset",
    "dataset",
    summary="Index and check the images under SOURCE, and split them in four parts.",
    leading={
        "source": (
            Annotated[Path, typer.Argument(metavar="SOURCE", help=TABLE["data"].help)],
            inspect.Parameter.empty,
        )
    },
)
for _name, _summary in {
    "train": "Train the float model: transfer learning, or a small network from random weights.",
    "quantize": "Make the int8 candidates from the float model.",
    "convert": "Write one audited .tflite for each candidate.",
    "score": "Score every variant on the validation, threshold and test photos.",
    "select": "Choose the int8 candidate that ships, by its agreement on validation.",
    "threshold": "Set the operating point: ROC, AUC and the threshold.",
    "parity": "Compare int8 with float on the test photos; exit 3 when it is worse.",
}.items():
    _command(_name, _name, summary=_summary)


@app.command("predict")
def _predict(
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
        from . import prediction

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


def main(arguments: list[str] | None = None) -> None:
    """Run a command and end the process with its exit code."""
    command: Callable[..., Any] = get_command(app)
    for stream in (sys.stdout, sys.stderr):
        # Labels may be in any script, also where the console's own encoding knows few.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = command(args=arguments, prog_name="mobileclf", standalone_mode=False)
    except ClickException as error:
        message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        typer.echo(f"error: {message}", err=True)
        code = UsageError.exit_code
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("error: interrupted", err=True)
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)
