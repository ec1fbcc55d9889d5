"""Settings: every option of every command in one frozen record, each checked where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from .errors import UsageError
from .recipes import RECIPES
from .spelling import (
    augmentations_of,
    blocks_of,
    costs_of,
    fits_of,
    head_of,
    names_of,
    release_of,
    rewrites_of,
    seconds_of,
    shape_of,
)

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
    latency: float | None = None
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
        _within("latency", self.latency, 1, 3600)
        if self.latency is not None and self.baseline is None:
            raise UsageError(
                "--latency: it is measured beside an earlier bundle; give --baseline too"
            )
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
