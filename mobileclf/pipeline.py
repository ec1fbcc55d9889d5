"""The stages in order, and the functions behind the commands: one for each stage, and `export`.

Each brings every stage up to its own to date and returns that stage's record. What can be
checked early is: data, then what is harmful, then where to write, then weights.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from . import chatter, progress
from .config import OF_COMMAND, as_record, make_settings
from .errors import DataError, EnvironmentProblem, MobileclfError, ProofError, UsageError
from .records import Record, read_json, write_json
from .run import Stage, bring_up_to_date, inputs_of, is_current
from .settings import DEFAULTS, OPTIONS, Settings, option_name
from .spelling import blocks_of, fits_of, head_of, seconds_of

STAGES = (
    "dataset",
    "train",
    "quantize",
    "convert",
    "score",
    "select",
    "threshold",
    "parity",
    "bundle",
)
CONFIG_RECORD = "config.json"
OF_CONVERSION = ("io", "fp16", "dynamic", "int16x8")
BEGIN = ("dataset", "train")  # and `export`: what may begin a run on the drawn sample
SAMPLE_FORM = "class-folders"
LOG = "run.log"

# Rough cost of one photo through the network, forward, on two cores at the usual size: seconds.
_FORWARD = {
    "inception_v3": (0.06, 299),
    "mobilenet_v2": (0.015, 224),
    "small_cnn": (0.001, 64),
    "plain_cnn": (0.001, 64),
}
# How many times a stage takes each photo through the network, and what it takes besides: minutes.
# Of quantize the photos are those that it sets ranges and rounding from.
_PASSES = {"train": (3.0, 0.3), "quantize": (25.0, 0.7), "convert": (0.0, 0.7), "score": (3.0, 0.2)}


def stage(name: str) -> Stage:
    """The stage of that name, its module imported now."""
    found: Stage = import_module(f".stages.{name}", __package__).STAGE
    return found


def settings_for(
    options: Mapping[str, object], command: str, *, config: Path | None = None
) -> Settings:
    """Settings for a command from options over the configuration file over the defaults.

    For any but `export` what a run was made with stands in for the defaults, so that `train
    --name x` goes on with the photos that `dataset SOURCE --name x` was given. Raises UsageError
    also where a command that only goes on finds no run and no data: a mistyped name must not
    begin one on the drawn sample, nor an `export` without data turn a run of photos into it.
    """
    settings = make_settings(options, config=config)
    path = settings.run_folder / CONFIG_RECORD
    if command == "export":
        _check_not_the_sample(settings, path)
        return settings
    if not path.exists():
        if command not in BEGIN and settings.data is None:
            raise UsageError(
                f"{command}: wanted a run, found none in {settings.run_folder}; give --run or "
                "--name of one, or --data with photos to begin one"
            )
        return settings
    remembered = {k: v for k, v in read_json(path).items() if k in OPTIONS and v is not None}
    # A run folder that was moved is where it is now.
    base = {k: v for k, v in remembered.items() if k not in OF_COMMAND}
    base["run"] = settings.run_folder
    return make_settings(options, config=config, base=base)


def _check_not_the_sample(settings: Settings, remembered: Path) -> None:
    """Raises UsageError where no data are given for a run that was made from some."""
    if settings.data is not None or not remembered.exists():
        return
    data = read_json(remembered).get("data")
    if data is not None:
        raise UsageError(
            f"export: {settings.run_folder} was made from {data}; give --data, or another --name"
        )


def run_until(settings: Settings, stage_name: str, *, verbose: bool = False) -> Record:
    """Bring every stage up to `stage_name` to date and return that one's record.

    verbose: what libraries print goes to the screen and not to `run.log`. Raises what the stages
    raise; EnvironmentProblem where the run is in use or a folder cannot be written.
    """
    from .source import forms
    from .training import child

    # Before the run folder is made: a mistyped path leaves nothing behind.
    if settings.model is not None:
        _check_model(settings, settings.model)
    if settings.data is not None:
        forms.check_source(settings)
    elif settings.form not in (None, SAMPLE_FORM):
        raise UsageError(f"--form {settings.form}: the drawn sample is {SAMPLE_FORM}; give --data")
    else:
        forms.check_options(SAMPLE_FORM, settings)
    names = STAGES[: STAGES.index(stage_name) + 1]
    if "train" in names:
        child.check(settings)
    folder = settings.run_folder
    _writable(folder)
    if "train" in names and child.follows(settings):
        return child.follow(settings, verbose=verbose)
    with _locked(folder), chatter.led_to(None if verbose else folder / LOG):
        inputs = _say_plan(settings, names)
        record: Record = {}
        for name in names:
            record = bring_up_to_date(stage(name), settings, inputs if name == "dataset" else None)
            if name == "dataset":
                _check_warnings(settings, record)
                _check_rest(settings, record, stage_name)
                # Only now: later commands on this run go on with these, so they must be sound.
                write_json(folder / CONFIG_RECORD, _remembered(settings))
            elif name == "score":
                _check_learnt(folder)
            elif name == "parity":
                from .gate.of_run import latency_of_run, write_reports
                from .stages import parity

                latency = latency_of_run(folder, settings)
                write_reports(settings, record, latency)
                parity.check(record, require_proof=settings.require_proof)
                if latency is not None:
                    progress.say(f"latency: {latency.found}, wanted {latency.wanted}")
                    latency.require()
                progress.say(f"parity: {parity.advice(record)}")
            elif name == "bundle":
                from .stages import bundle

                bundle.place(settings)
    return record


def _check_model(settings: Settings, model: Path) -> None:
    """Raises DataError for what is no model that is read, and UsageError for one that this very
    run would write over, or for formats that are not made of a `.tflite`."""
    from .importing import formats

    kind = formats.kind_of(model)
    run = settings.run_folder.resolve()
    if run in (model.resolve(), *model.resolve().parents):
        raise UsageError(
            f"--model {model}: wanted a model outside of the run that is made of it, found it in "
            f"{settings.run_folder}; choose another --name or --run"
        )
    asked = [name for name in OF_CONVERSION if getattr(settings, name) != DEFAULTS[name]]
    if kind == "tflite" and asked:
        raise UsageError(
            f"{option_name(asked[0])}: a .tflite is not converted, its bundle takes and gives "
            "uint8; leave it out"
        )


def _remembered(settings: Settings) -> Record:
    """The settings for later commands, which may be given in another working directory."""
    here = {
        name: str(path.absolute())
        for name in ("data", "images", "groups", "golden_from", "model", "labels")
        if (path := getattr(settings, name)) is not None and path.exists()
    }
    weights = Path(str(settings.weights))
    if weights.is_file():
        here["weights"] = str(weights.absolute())
    return {**as_record(settings), **here}


def _check_learnt(folder: Path) -> None:
    """Before an operating point is sought: of a model that learnt nothing there is none.

    Raises ProofError.
    """
    from .scores import FLOAT, read_labels, read_part, read_scores
    from .stages import parity

    labels, _ = read_labels(folder)
    gates = parity.learnt(
        read_scores(folder, FLOAT, parity.PART), read_part(folder, parity.PART).truth, labels
    )
    if failed := [gate for gate in gates if not gate["passed"]]:
        raise ProofError(
            "train: the float model learnt too little to ship, or the test photos are too few to "
            "show what it learnt: "
            + "; ".join(f"wanted {gate['wanted']}, found {gate['found']}" for gate in failed)
            + "; more photos, other weights or more epochs may help"
        )


def _check_warnings(settings: Settings, dataset: Record) -> None:
    """Raises DataError under --strict when the data gave rise to any."""
    if settings.strict and (warnings := dataset["warnings"]):
        raise DataError(
            f"--strict: wanted no warnings, found {len(warnings)}; the first: {warnings[0]}"
        )


def _check_rest(settings: Settings, dataset: Record, stage_name: str) -> None:
    """What later stages would stumble on, as soon as the data are known to be sound."""
    from .decision import classes_for

    if STAGES.index(stage_name) >= STAGES.index("threshold"):
        rows = dataset["labels"]
        harmful = settings.harmful or dataset["harmful"]
        classes_for([r["label"] for r in rows], [r["group"] for r in rows], harmful)
    if stage_name == "bundle":
        from .stages import bundle

        bundle.check_target(settings)
        _writable(settings.out)
        if settings.golden_from is not None:
            from .golden import pictures_in

            pictures_in(settings.golden_from)
    if stage_name != "dataset" and settings.model is None:
        from .models.backbones import check_weights

        if head_of(settings.head).output == "sigmoid" and len(dataset["labels"]) != 2:
            raise UsageError(
                f"--head {settings.head}: sigmoid wants two classes, found "
                f"{len(dataset['labels'])}; use softmax"
            )
        check_weights(settings)


def _writable(folder: Path) -> None:
    """Make `folder` and try to write in it. Raises EnvironmentProblem."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-"):
            pass
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write in {folder}: {error.strerror or error}; "
            "choose another folder with --run or --out, or free space and permissions"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the run folder. Raises EnvironmentProblem when another process does.

    The system lets go of the lock when the process ends, however it ends.
    """
    with (folder / ".lock").open("a+") as file:
        try:
            _lock(file)
        except OSError as error:
            raise EnvironmentProblem(
                f"{folder}: another mobileclf is at work in this run; wait for it, or choose "
                "another folder with --run"
            ) from error
        yield


def _lock(file: IO[str]) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _say_plan(settings: Settings, names: tuple[str, ...]) -> Record | None:
    """Print what is about to be done and how long it may take.

    Returns the inputs of the first stage, for which every photo was read, unless they are wrong.
    """
    times = settings.run_folder / "times.json"
    last = read_json(times) if times.exists() else {}
    photos = _count_photos(settings)
    source = "the embedded sample of drawn mushrooms" if settings.data is None else settings.data
    lines = [f"plan: {settings.name} from {source}, in {settings.run_folder}"]
    if settings.data is None and settings.weights == "none":
        lines.append(f"  {settings.backbone} from random weights: no download; a demo, not a tool")
    todo, minutes = False, 0.0
    first: Record | None = None
    for name in names:
        # Once one stage is made anew, what the later ones read is not known yet.
        if not todo:
            inputs = _inputs(stage(name), settings)
            first = first or inputs
            todo = inputs is None or not is_current(stage(name), settings, inputs)
        expected = _expected(settings, name, photos, last)
        minutes += expected if todo else 0
        if todo:  # of the others their turn will say that they are up to date
            lines.append(f"  {name:<10} {_about(expected)}")
    lines.append(f"  together   {_about(minutes)} on two cores" if todo else "  nothing to do")
    for line in lines:
        progress.say(line)
    return first


def _inputs(step: Stage, settings: Settings) -> Record | None:
    try:
        return inputs_of(step, settings)
    except MobileclfError:
        return None  # the stage itself will say what is wrong, in its turn


def _about(minutes: float) -> str:
    return "under a minute" if minutes < 0.75 else f"about {max(1, round(minutes))} min"


def _count_photos(settings: Settings) -> int:
    if settings.data is None:
        return 1000
    from .source.store import open_store

    try:
        return len(open_store(settings.data).names())
    except DataError:
        return 1000  # a CSV alone, or what the dataset stage will say is wrong


def _expected(settings: Settings, name: str, photos: int, last: Mapping[str, float]) -> float:
    """Minutes that a stage will take, by the seconds that it took last time, where there was one.

    Of quantize the budget of now stands in for the one that was in that time.
    """
    guess = _minutes(settings, name, photos)
    if name not in last:
        return guess
    expected = last[name] / 60
    if name == "quantize":
        before = _budget_spent(settings.run_folder / stage(name).record)
        expected += _budget(settings.budget) - before
        if before:  # it may have ended early, and need not again
            expected = max(expected, guess)
    return expected


def _budget_spent(path: Path) -> float:
    """Minutes of the budget of a distillation in a record of quantize, 0 where there was none."""
    record = read_json(path) if path.exists() else {}
    return _budget(record["inputs"]["settings"].get("budget")) if record.get("distillation") else 0


def _budget(text: str | None) -> float:
    """Minutes."""
    return seconds_of(text) / 60 if text else 0.0


def _minutes(settings: Settings, name: str, photos: int) -> float:
    """A rough estimate for a stage that has not run yet."""
    # Of a model that is given the size is not known before it is read: the largest stands for it.
    seconds, usual = _FORWARD[settings.backbone or "inception_v3"]
    once = photos * seconds * ((settings.image_size or usual) / usual) ** 2 / 60
    passes, besides = _PASSES.get(name, (0.0, 0.1))
    if name == "train" and settings.weights == "none":
        # Forward and backward through the whole network, for the photos that train.
        passes = 3.0 * settings.train_share * sum(fits_of(settings.epochs))
    elif name == "train" and settings.model is not None:
        passes = 0.5
    elif name == "train":
        views = settings.views if settings.augment != "none" else 1
        passes = settings.train_share * views + 0.2
        if blocks_of(settings.unfreeze) != 0:
            passes += 2.5 * settings.train_share * settings.tune_epochs
    if name == "quantize":
        once *= min(1.0, settings.calibration_photos / max(photos, 1))
        besides += _budget(settings.budget)
    return passes * once + besides


def _stage_function(name: str, options: Mapping[str, Any], config: Path | None) -> Record:
    return run_until(settings_for(options, name, config=config), name)


def export(*, int8: bool = False, config: Path | None = None, **options: Any) -> Record:
    """Bring every stage up to date and bundle; returns the bundle stage's record.

    int8 has to be True: there is no other kind of bundle. options: fields of
    `mobileclf.Settings`; without `data` it uses the embedded sample. config: a TOML file for
    what options do not give, by default `mobileclf.toml` if there. Raises MobileclfError.
    """
    require_int8(int8)
    return run_until(settings_for(options, "export", config=config), "bundle")


def require_int8(int8: bool) -> None:
    """Raises UsageError unless int8 was asked for."""
    if not int8:
        raise UsageError("export: wanted --int8, found nothing; there is no other kind of bundle")


def dataset(
    source: Path | str | None = None, *, config: Path | None = None, **options: Any
) -> Record:
    """Index and check the images under `source` and split them in four parts.

    None: those that the run was made with, else the embedded sample.
    """
    options["data"] = source
    return _stage_function("dataset", options, config)


def train(*, config: Path | None = None, **options: Any) -> Record:
    """Transfer learning: the float model, and its temperature."""
    return _stage_function("train", options, config)


def quantize(*, config: Path | None = None, **options: Any) -> Record:
    """Rewrites, ranges and quantization-aware fine-tuning: the candidates."""
    return _stage_function("quantize", options, config)


def convert(*, config: Path | None = None, **options: Any) -> Record:
    """One audited `.tflite` for each candidate."""
    return _stage_function("convert", options, config)


def score(*, config: Path | None = None, **options: Any) -> Record:
    """Scores and plain metrics of every variant on validation, threshold and test photos."""
    return _stage_function("score", options, config)


def select(*, config: Path | None = None, **options: Any) -> Record:
    """Which int8 candidate ships, by its agreement with the float model on validation."""
    return _stage_function("select", options, config)


def threshold(*, config: Path | None = None, **options: Any) -> Record:
    """ROC, AUC and the operating point, on the threshold photos."""
    return _stage_function("threshold", options, config)


def parity(*, config: Path | None = None, **options: Any) -> Record:
    """Whether the int8 model answers as well as the float model, on the test photos."""
    return _stage_function("parity", options, config)


def sample(folder: Path | str, *, seed: int = 0) -> Record:
    """Write the embedded sample, drawn mushrooms in class folders, to a new or empty `folder`.

    Returns the number of images of each class. Raises UsageError when the folder is in use.
    """
    from .images import sample as drawn

    target = Path(folder)
    drawn.write_sample(target, seed=seed)
    counts = {p.name: sum(1 for _ in p.iterdir()) for p in sorted(target.iterdir()) if p.is_dir()}
    return {"folder": str(target), "seed": seed, "images": counts}


def as_json(record: Record) -> str:
    """A record for machines: JSON as the records on disk are."""
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
