"""What is asked for, made into settings: flags win over `mobileclf.toml`, which wins over the
defaults. The defaults that depend on others (backbone, weights, image size and the like) are
filled in by `resolve`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from .errors import UsageError
from .recipes import RECIPES
from .settings import (
    ABSTAINS,
    COSTS,
    DEFAULTS,
    IMAGE_SIZES,
    OPTIONS,
    UNTRAINED,
    Settings,
    option_name,
)
from .spelling import blocks_of, costs_text, shape_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE = "mobileclf.toml"
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

# What is asked of training, or of a network of ours. With `model` nothing is trained.
TRAINING = (
    "recipe", "backbone", "weights", "channels", "head", "dropout", "augment", "views",
    "class_weights", "epochs", "batch_size", "learning_rate", "patience", "unfreeze",
    "tune_epochs", "tune_rate", "batch_norm", "precision", "backend", "decoded_cache",
    "tensorboard", "coordinator", "processes", "process_index",
)  # fmt: skip
# Of one command, not of the run: later commands do not go on with them.
OF_COMMAND = (
    "cluster", "coordinator", "processes", "process_index", "baseline", "latency", "junit",
    "markdown",
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
