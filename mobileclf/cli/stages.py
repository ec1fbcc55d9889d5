"""The commands of the pipeline: `export`, `sample`, and one for each stage."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from mobileclf import pipeline
from mobileclf.config import make_settings
from mobileclf.settings import OPTIONS, Settings, option_name

from .app import Config, Json, Quiet, Verbose, app, reporting

ALWAYS = ""


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
    "model": _option(
        "dataset", "Your model: .keras, .h5, SavedModel, .tflite or a run [train one]."
    ),
    "labels": _option(
        "dataset", "File: a label a line, as the outputs are ordered [alphabetical]."
    ),
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
    "preprocess": _option("train", "Pixels as --model takes them: 0..1, -1..1, caffe ... [in it]."),
    "trust": _option("train", "Load a SavedModel with operators that may read or write [no]."),
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
    "unfreeze": _option("train", "Last blocks that are fine-tuned after the head, or all [0]."),
    "tune_epochs": _option("train", "Most epochs of that fine-tuning [10]."),
    "tune_rate": _option("train", "Adam's largest step size in it [0.00001]."),
    "batch_norm": _option("train", "Statistics in it: frozen, or adapt [frozen]."),
    "precision": _option("train", "float32, bfloat16, float16, or by the device [auto]."),
    "backend": _option("train", "tensorflow or jax, for training alone [tensorflow]."),
    "decoded_cache": _option("train", "Keep decoded photos in the run between epochs [yes]."),
    "tensorboard": _option("train", "Also write logs for TensorBoard, in the run [no]."),
    "coordinator": _option("train", "With jax on several hosts: host:port of the first process."),
    "processes": _option("train", "With jax on several hosts: number of processes."),
    "process_index": _option("train", "With jax on several hosts: which one this is, from 0."),
    "without": _option("quantize", "Rewrites to leave out, by name, comma-separated [none]."),
    "budget": _option("quantize", "Time to train int8 in, as 90s, 20m or 1h [it is not trained]."),
    "fine_tune_epochs": _option("quantize", "Most epochs that --budget trains for [20]."),
    "fine_tune_rate": _option("quantize", "Step size then, in quantization steps [0.003]."),
    "calibration_photos": _option("quantize", "Training images for ranges and rounding [200]."),
    "fp16": _option("convert", "Also a float16 model, in the run folder [no]."),
    "dynamic": _option("convert", "Also a dynamic-range model, in the run folder [no]."),
    "int16x8": _option("convert", "Also int16 activations, int8 weights, in the run folder [no]."),
    "io": _option("convert", "Type at input and output: uint8, int8 or float32 [uint8]."),
    "others": _option(
        "score", "Folder or zip of images of other things: how often it is not sure of them."
    ),
    "matrix": _option("score", "Also every variant on every runtime, kernels and threads [no]."),
    "policy": _option(
        "threshold", "youden, max-f1, min-cost, fix-tpr, fix-fpr or guarantee [youden]."
    ),
    "tpr": _option("threshold", "fix-tpr: least share of harmful photos that is caught [0.95]."),
    "fpr": _option("threshold", "fix-fpr: largest share of harmless photos with an alarm [0.05]."),
    "most_missed": _option(
        "threshold", "guarantee: largest share of harmful specimens called harmless [0.01]."
    ),
    "confidence": _option("threshold", "guarantee: how sure that promise is [0.95]."),
    "abstain": _option("threshold", "What makes it sure: none, largest, margin or score [none]."),
    "answer_rate": _option("threshold", "Least share of photos with an answer [by the costs]."),
    "costs": _option("threshold", "Of mistakes [missed=100,false-alarm=1,abstain=5]."),
    "max_drop": _option("parity", "Largest drop of accuracy, as a fraction [0.01]."),
    "max_missed": _option("parity", "Largest drop of harmful photos not called harmless [0.01]."),
    "require_proof": _option(
        "parity", "Exit 3 too when not proven: accuracy, harmful photos [no]."
    ),
    "min_runtime": _option("parity", "Oldest TensorFlow Lite of your apps, as 2.14 [any]."),
    "baseline": _option("parity", "Earlier bundle or parity.json that must not be worse."),
    "latency": _option("parity", "Seconds to time it in turns with the baseline [it is not]."),
    "junit": _option("parity", "JUnit XML of the checks to write, for CI."),
    "markdown": _option("parity", "Summary in Markdown to write, for CI."),
    "golden_from": _option("bundle", "Folder or zip of photos for the golden cases [drawn ones]."),
    "seed": _option("dataset", "Seed of everything random [0]."),
}
TYPES: dict[str, Any] = {"Path": Path, "str": str, "int": int, "float": float, "bool": bool}


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
            settings = pipeline.settings_for(given, name, config=config)
            report.log = settings.run_folder / pipeline.LOG
            record = pipeline.run_until(settings, stage, verbose=verbose)
            if as_json:
                typer.echo(pipeline.as_json(record))
            elif record:  # one that trains along with another process makes none
                from mobileclf.report.stages import show

                where = None
                if stage == "parity" and verbose:
                    from mobileclf.stages import parity

                    where = record["where"] or parity.where(record, settings)
                show(settings, stage, where=where)

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
