"""Settings: every option of every command in one frozen record, each checked where it is made.

Flags win over `mobileclf.toml`, which wins over the defaults. The defaults that depend on
others (backbone, weights, image size and the like) are filled in by `resolve`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .errors import UsageError
from .recipes import RECIPES
from .spelling import (
    augmentations_of,
    blocks_of,
    costs_of,
    costs_text,
    fits_of,
    head_of,
    names_of,
    release_of,
    rewrites_of,
    seconds_of,
    shape_of,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE = "mobileclf.toml"
FORMS = ("class-folders", "csv", "pixel-csv")
BACKBONES = ("inception_v3", "mobilenet_v2", "small_cnn", "plain_cnn")
IMAGE_SIZES = {"inception_v3": 299, "mobilenet_v2": 224, "small_cnn": 64, "plain_cnn": 64}
SMALLEST_IMAGE = {"inception_v3": 75, "mobilenet_v2": 32, "small_cnn": 16, "plain_cnn": 16}
UNTRAINED = ("small_cnn", "plain_cnn")  # no ImageNet weights exist for these
CLASS_WEIGHTS = ("none", "balanced")
BATCH_NORMS = ("frozen", "adapt")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
BACKENDS = ("tensorflow", "jax")
IO_TYPES = ("uint8", "int8", "float32")
POLICIES = ("youden", "max-f1", "min-cost", "fix-tpr", "fix-fpr", "guarantee")
ABSTAINS = ("none", "largest", "margin", "score")
COSTS = "missed=100,false-alarm=1,abstain=5"
NUMBERS_TOO = ("epochs", "head", "unfreeze")  # texts that are often one whole number
KINDS = {
    "Path": "a path as text",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
EXAMPLES = {
    "budget": "30s",
    "without": "average-pools,lone-relus",
    "coordinator": "10.0.0.1:1234",
    "costs": COSTS,
}  # texts that look otherwise
SAMPLE_NAME = "sample"
SAMPLE_HARMFUL = "NotEdible"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run is asked to do. Paths may be relative to the working directory.

    Raises UsageError when a value is out of its range.
    """

    name: str | None = None
    run: Path | None = None
    out: Path = Path("exported")
    recipe: str | None = None
    data: Path | None = None
    model: Path | None = None
    labels: Path | None = None
    form: str | None = None
    images: Path | None = None
    image_column: str | None = None
    label_column: str | None = None
    shape: str | None = None
    classes: str | None = None
    groups: Path | None = None
    group_by: str | None = None
    train_share: float = 0.6
    strict: bool = False
    cluster: str | None = None
    harmful: str | None = None
    preprocess: str | None = None
    trust: bool = False
    backbone: str | None = None
    weights: str | None = None
    image_size: int | None = None
    channels: int | None = None
    head: str = "64"
    dropout: float | None = None
    augment: str | None = None
    views: int = 2
    class_weights: str = "none"
    epochs: str = "40"
    batch_size: int = 32
    learning_rate: float = 1e-3
    patience: int = 6
    unfreeze: str = "0"
    tune_epochs: int = 10
    tune_rate: float = 1e-5
    batch_norm: str = "frozen"
    precision: str = "auto"
    backend: str = "tensorflow"
    decoded_cache: bool = True
    tensorboard: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process_index: int | None = None
    without: str | None = None
    budget: str | None = None
    fine_tune_epochs: int = 20
    fine_tune_rate: float = 0.003
    calibration_photos: int = 200
    fp16: bool = False
    dynamic: bool = False
    int16x8: bool = False
    io: str = "uint8"
    others: Path | None = None
    matrix: bool = False
    policy: str = "youden"
    tpr: float = 0.95
    fpr: float = 0.05
    most_missed: float = 0.01
    confidence: float = 0.95
    abstain: str = "none"
    answer_rate: float | None = None
    costs: str = COSTS
    max_drop: float = 0.01
    max_missed: float = 0.01
    require_proof: bool = False
    min_runtime: str | None = None
    baseline: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None
    golden_from: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("recipe", self.recipe, tuple(RECIPES))
        _one_of("form", self.form, FORMS)
        _one_of("backbone", self.backbone, BACKBONES)
        _one_of("class_weights", self.class_weights, CLASS_WEIGHTS)
        _one_of("batch_norm", self.batch_norm, BATCH_NORMS)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("backend", self.backend, BACKENDS)
        _one_of("io", self.io, IO_TYPES)
        _one_of("policy", self.policy, POLICIES)
        _one_of("abstain", self.abstain, ABSTAINS)
        if self.preprocess is not None:
            from .images.preprocess import preprocess_of  # which needs numpy

            preprocess_of(self.preprocess)
        head_of(self.head)
        fits_of(self.epochs)
        blocks_of(self.unfreeze)
        if self.shape is not None:
            shape_of(self.shape)
        if self.classes is not None:
            names_of(self.classes)
        if self.augment is not None:
            augmentations_of(self.augment)
        if self.without is not None:
            rewrites_of(self.without)
        if self.budget is not None:
            seconds_of(self.budget)
            if self.fine_tune_epochs == 0:
                raise UsageError(
                    "--fine-tune-epochs 0: wanted at least one epoch with --budget; leave out one "
                    "of the two"
                )
        if self.costs != COSTS:
            costs_of(self.costs)
        _within("train_share", self.train_share, 0.1, 0.95)
        if self.channels not in (None, 1, 3):
            raise UsageError(f"--channels {self.channels}: wanted 3 (colour) or 1 (grey)")
        _within("dropout", self.dropout, 0, 0.9)
        _within("views", self.views, 1, 100)
        _within("batch_size", self.batch_size, 1, 4096)
        _within("learning_rate", self.learning_rate, 1e-9, 10)
        _within("patience", self.patience, 1, 10_000)
        _within("tune_epochs", self.tune_epochs, 1, 10_000)
        _within("tune_rate", self.tune_rate, 1e-9, 10)
        _within("processes", self.processes, 1, 10_000)
        _within("process_index", self.process_index, 0, 9_999)
        _within("fine_tune_epochs", self.fine_tune_epochs, 0, 1000)
        _within("fine_tune_rate", self.fine_tune_rate, 1e-12, 1)
        _within("calibration_photos", self.calibration_photos, 128, 100_000)
        _within("tpr", self.tpr, 0.001, 1)
        _within("fpr", self.fpr, 0, 0.999)
        _within("most_missed", self.most_missed, 0.0001, 0.5)
        _within("confidence", self.confidence, 0.5, 0.9999)
        _within("answer_rate", self.answer_rate, 0, 1)
        _within("max_drop", self.max_drop, 0, 1)
        _within("max_missed", self.max_missed, 0, 1)
        if self.min_runtime is not None:
            release_of(self.min_runtime)
        _within("seed", self.seed, 0, 2**31 - 1)
        smallest = SMALLEST_IMAGE[self.backbone] if self.backbone else 16
        _within("image_size", self.image_size, smallest, 2048)
        if self.name is not None and (
            not self.name or self.name in (".", "..") or set(self.name) & set('/\\:*?"<>|\0')
        ):
            raise UsageError(
                f'--name {self.name!r}: wanted a plain folder name without / \\ : * ? " < > |'
            )

    @property
    def run_folder(self) -> Path:
        """The folder of this run. Only after `resolve`."""
        assert self.run is not None
        return self.run

    @property
    def purpose(self) -> str:
        """`demo` when the drawn sample is the data, else `real`."""
        return "demo" if self.data is None else "real"


# What is asked of training, or of a network of ours. With `model` nothing is trained.
TRAINING = (
    "recipe", "backbone", "weights", "channels", "head", "dropout", "augment", "views",
    "class_weights", "epochs", "batch_size", "learning_rate", "patience", "unfreeze",
    "tune_epochs", "tune_rate", "batch_norm", "precision", "backend", "decoded_cache",
    "tensorboard", "coordinator", "processes", "process_index",
)  # fmt: skip
# Of one command, not of the run: later commands do not go on with them.
OF_COMMAND = (
    "cluster", "coordinator", "processes", "process_index", "baseline", "junit", "markdown",
)  # fmt: skip
OF_MODEL = ("preprocess", "trust")
# What was given, or filled in, beside one value of a setting is nothing for another of it.
_OF_DATA = (
    "form", "images", "image_column", "label_column", "shape", "classes", "groups", "group_by",
    "channels", "harmful", "labels",
)  # fmt: skip
_OF_RECIPES = tuple({name for recipe in RECIPES.values() for name in recipe})
BELONGS: Mapping[str, tuple[str, ...]] = {
    "data": _OF_DATA,
    "model": ("labels", "image_size", *OF_MODEL, *TRAINING),
    "recipe": ("weights", "image_size", "channels", "augment", "dropout", *_OF_RECIPES),
    "backbone": ("weights", "image_size", "augment", "dropout"),
    "weights": ("augment", "dropout"),
    "policy": ("tpr", "fpr", "most_missed", "confidence"),
    "abstain": ("answer_rate",),
}
# What decides which of the options of the threshold have an effect.
DECIDING = ("policy", "abstain", "answer_rate")

DEFAULTS: Mapping[str, object] = {field.name: field.default for field in fields(Settings)}
OPTIONS = tuple(DEFAULTS)


def option_name(name: str) -> str:
    """The flag of a setting: `image_size` is `--image-size`."""
    return "--" + name.replace("_", "-")


def _one_of(name: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise UsageError(f"{option_name(name)} {value!r}: wanted one of {', '.join(allowed)}")


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise UsageError(f"{option_name(name)} {value}: wanted a value from {low} to {high}")


def _checked(name: str, value: object, where: str) -> Any:
    """`value` as the type of the setting `name`, or UsageError."""
    wanted = next(field.type for field in fields(Settings) if field.name == name)
    kind = str(wanted).split(" ")[0]
    if kind == "Path" and isinstance(value, (str, Path)):
        return Path(value).expanduser()
    if kind == "str" and isinstance(value, Path):
        return str(value)
    if name == "costs" and isinstance(value, Mapping):
        return costs_text(value, where)
    if name in NUMBERS_TOO and type(value) is int:
        return str(value)
    if kind == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    types: dict[str, type] = {"str": str, "int": int, "bool": bool}
    if kind in types and type(value) is types[kind]:
        return value
    such = f' such as "{EXAMPLES[name]}"' if name in EXAMPLES else ""
    raise UsageError(f"{where}: {name} wants {KINDS[kind]}{such}, found {value!r}")


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file, keys as flags are named, with `-` or `_`.

    Raises UsageError for a file that is not TOML, an unknown key or a wrong type.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not readable as TOML ({error})") from error
    found: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in OPTIONS:
            raise UsageError(f"{path}: unknown key {key!r}; known: {', '.join(OPTIONS)}")
        found[name] = _checked(name, value, str(path))
    return found


def configured(config: Path | None) -> dict[str, Any]:
    """The settings in `config`, or in `mobileclf.toml` if that is there. Raises UsageError."""
    path = config or Path(CONFIG_FILE)
    return read_config(path) if config is not None or path.exists() else {}


def make_settings(
    flags: Mapping[str, object],
    *,
    config: Path | None = None,
    base: Mapping[str, object] | None = None,
) -> Settings:
    """Settings from flags (None: not given) over `configured` over a recipe over `base`.

    base: what a run was made with. Where another value is given now, what BELONGS to the one in
    `base` is left out; a recipe that it was made with is in it already. Raises UsageError for an
    unknown name, a wrong type or a value out of range.
    """
    from_file, flagged = configured(config), {}
    for name, value in flags.items():
        if name not in OPTIONS:
            raise UsageError(f"unknown setting {name!r}; known: {', '.join(OPTIONS)}")
        if value is not None:
            flagged[name] = _checked(name, value, option_name(name))
    given = {**from_file, **flagged}
    values = {name: _checked(name, value, "run") for name, value in (base or {}).items()}
    _check_model(given, given.get("model", values.get("model")))
    changed = {name for name in given if not _same(given[name], values.get(name))}
    gone = {name for other in changed for name in BELONGS.get(other, ())}
    recipe = RECIPES.get(given.get("recipe") or values.get("recipe") or "", {})
    kept = {name: value for name, value in values.items() if name not in gone}
    fresh = recipe if "recipe" in changed else {k: v for k, v in recipe.items() if k in gone}
    settings = Settings(**{**kept, **fresh, **given})
    # A policy given as a flag also wins over what the file has for another one; and costs in the
    # file are those of the project, whether this command asks for them or not.
    by_file = {name: value for name, value in from_file.items() if name != "costs"}
    asked = {} if set(flagged) & set(DECIDING) else by_file
    _check_threshold({**asked, **flagged}, settings)
    return resolve(settings)


def _check_model(given: Mapping[str, object], model: object) -> None:
    """What does not go with a model that is given, or not without one. Raises UsageError."""
    wrong = TRAINING if model is not None else OF_MODEL
    for name in wrong:
        if given.get(name, DEFAULTS[name]) != DEFAULTS[name]:
            raise UsageError(
                f"{option_name(name)}: with --model nothing is trained; leave it out"
                if model is not None
                else f"{option_name(name)}: it says how a model of yours is read; give --model too"
            )


def _check_threshold(given: Mapping[str, object], settings: Settings) -> None:
    """What has no effect beside the policy and the abstain rule. Raises UsageError."""
    policy, rated = settings.policy, settings.answer_rate is not None
    abstains = settings.abstain != "none"
    wanted = {
        "tpr": (policy == "fix-tpr", "--policy fix-tpr"),
        "fpr": (policy == "fix-fpr", "--policy fix-fpr"),
        "most_missed": (policy == "guarantee", "--policy guarantee"),
        "confidence": (policy == "guarantee", "--policy guarantee"),
        "answer_rate": (abstains, f"--abstain {', '.join(ABSTAINS[1:-1])} or {ABSTAINS[-1]}"),
        "costs": (
            policy == "min-cost" or (abstains and not rated),
            "--policy min-cost, or --abstain without --answer-rate",
        ),
    }
    found = f"--policy {policy}, --abstain {settings.abstain}"
    found += f", --answer-rate {settings.answer_rate:g}" if rated else ""
    for name, (has_effect, where) in wanted.items():
        if given.get(name, DEFAULTS[name]) != DEFAULTS[name] and not has_effect:
            raise UsageError(
                f"{option_name(name)}: it goes with {where}; found {found}; leave it out, or give "
                "that too"
            )


def _same(one: object, other: object) -> bool:
    """Whether two values of a setting are the same: a path is, however it is spelled."""
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve()
    return one == other


def resolve(settings: Settings) -> Settings:
    """Fill in what depends on others: name, run, backbone, weights, sizes, dropout, augment.

    Of a model that is given, the model says them. Raises UsageError.
    """
    sample = settings.data is None
    name = settings.name or (SAMPLE_NAME if sample else _plain_name(Path(str(settings.data))))
    run = settings.run or Path("runs") / name
    if settings.model is not None:
        if sample:
            raise UsageError(
                f"--model {settings.model}: wanted photos to measure it on, found none; give "
                "--data with class folders, as it was trained on"
            )
        return replace(settings, name=name, run=run)
    backbone = settings.backbone or ("small_cnn" if sample else "inception_v3")
    weights = settings.weights or ("none" if backbone in UNTRAINED else "imagenet")
    if backbone in UNTRAINED and weights == "imagenet":
        raise UsageError(f"--weights imagenet: there are none for {backbone}; use none or a file")
    frozen = weights != "none"
    if not frozen and blocks_of(settings.unfreeze) != 0:
        raise UsageError(
            f"--unfreeze {settings.unfreeze}: from random weights every layer is trained as it is; "
            "leave it out, or give --weights"
        )
    shape = shape_of(settings.shape) if settings.shape else None
    own_size = shape[0] if shape and shape[0] == shape[1] and not frozen else None
    return replace(
        settings,
        name=name,
        harmful=settings.harmful or (SAMPLE_HARMFUL if sample else None),
        run=run,
        backbone=backbone,
        weights=weights,
        image_size=settings.image_size or own_size or IMAGE_SIZES[backbone],
        channels=settings.channels or (shape[2] if shape else 3),
        dropout=settings.dropout if settings.dropout is not None else (0.3 if frozen else 0.0),
        augment=settings.augment or ("flip" if frozen else "flip,rotate=15,translate=0.06"),
    )


def _plain_name(data: Path) -> str:
    """The name of a folder, or of a file without its ending."""
    path = data.resolve()
    return path.stem if path.suffix.lower() in (".zip", ".csv", ".tsv") else path.name


def as_record(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values, paths as text."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(settings).items()
    }
