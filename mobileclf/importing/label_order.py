"""Which output of a given model is which class: as someone says, and held against photos.

A file of labels, a run's record or the labels in a `.tflite` give the order; where nothing does,
it is that of the class folders' names, as Keras' flow_from_directory has it. Photos show whether
it is that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.errors import DataError
from mobileclf.records import Record, read_json, sha256_file, sha256_json
from mobileclf.scores import read_labels
from mobileclf.settings import Settings
from mobileclf.source import label_file
from mobileclf.source.class_folders import FORM as CLASS_FOLDERS
from mobileclf.source.index import Index
from mobileclf.stats.assignment import (
    LEVEL,
    OrderTest,
    answers_of,
    order_test,
    undetectable_pairs,
)
from mobileclf.wording import counted

# At 32 photos of each class a swap of two of 16 is shown down to 50 % right, and with fewer
# classes there are more of each, so that two are told apart as well.
PER_CLASS, FEWEST = 32, 128
MOST_PLACES, MOST_PAIRS = 64, 3
TRAINED, DATASET = "train.json", "dataset.json"


@dataclass(frozen=True, kw_only=True)
class Given:
    """labels: in the order of the outputs, as they are spelled there. origin: where that is, in
    words. sure: a person or a record says so, so what does not fit is an error. sha256: of the
    file, or of the labels in a model."""

    labels: tuple[str, ...]
    origin: str
    sure: bool
    sha256: str


def given_labels(settings: Settings) -> Given | None:
    """What says the order, without a look at the photos; None where nothing does. Raises
    DataError for a file that cannot be read."""
    model = settings.model
    if settings.labels is not None:
        return Given(
            labels=label_file.read(settings.labels),
            origin=f"--labels {settings.labels.name}",
            sure=True,
            sha256=sha256_file(settings.labels),
        )
    if model is None:
        return None
    if (model / TRAINED).is_file():
        labels, _ = read_labels(model)
        origin, sure = f"{DATASET} of the run {model.resolve().name}", True
    else:
        found = _labels_of_tflite(model)
        if found is None:
            return None
        (labels, where), sure = found, False
        origin = f"{where} of {model.name}"
    return Given(labels=labels, origin=origin, sure=sure, sha256=sha256_json(labels))


def _labels_of_tflite(model: Path) -> tuple[tuple[str, ...], str] | None:
    """The labels in a `.tflite` and their place, where it holds some for each of its outputs."""
    from mobileclf.prediction.labels import labels_inside
    from mobileclf.tflite import graph, metadata

    if not model.is_file():
        return None
    with model.open("rb") as file:
        if file.read(8)[4:] != graph.IDENTIFIER:
            return None
    try:
        data = graph.file_bytes(model)
        ends = graph.contents(data).outputs
        if not ends or not ends[0].shape:
            return None
        outputs = max(ends[0].shape[-1], 2)  # a single unit tells two labels apart
        found, where = labels_inside(
            outputs, metadata.describe(data), metadata.associated_files(data)
        )
    except DataError as error:
        raise DataError(f"{model}: {error}") from error
    return None if found is None else (found, where.removeprefix("its ").removesuffix(" in it"))


@dataclass(frozen=True, kw_only=True)
class Order:
    """labels: (label, group), in the order of the outputs. origin: who says so. notes, warnings:
    one line each."""

    labels: tuple[tuple[str, str | None], ...]
    origin: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def ordered(index: Index, given: Given | None) -> Order:
    """The index's labels as `given` has them, else as they are there. Raises DataError where a
    person or a record names other classes than the photos have."""
    folders = index.form == CLASS_FOLDERS
    usual = "the class folders in alphabetical order" if folders else "the data set's own order"
    if given is None:
        return Order(labels=index.labels, origin=usual)
    try:
        matched = label_file.match(given.labels, _folders(index))
    except DataError as error:
        if given.sure:
            raise DataError(
                f"{given.origin}: {error}; wanted the name of a class or its folder on each line, "
                "in the order of the model's outputs"
            ) from error
        unused = f"{given.origin} do not name these classes, so {usual} is taken: {error}"
        return Order(labels=index.labels, origin=usual, warnings=(f"{unused}; --labels FILE says "
                     "the order",))  # fmt: skip
    notes = [f"{given.origin} say the order of the outputs"] if not given.sure else []
    if matched.loosely:
        said, label = matched.loosely[0]
        notes.append(
            f"{given.origin}: {counted(len(matched.loosely), 'label')} taken for a class that is "
            f"spelled another way, as {said!r} for {label!r}"
        )
    group = dict(index.labels)
    return Order(
        labels=tuple((label, group[label]) for label in matched.labels),
        origin=given.origin,
        notes=tuple(notes),
    )


def _folders(index: Index) -> dict[str, str]:
    """The name of each class's folder, or the label where it has none."""
    names = {label: label for label, _ in index.labels}
    if index.form == CLASS_FOLDERS:
        for entry in index.entries:
            if entry.label and not entry.problem:
                names[entry.label] = entry.path.split("/")[-2]
    return names


def origin(settings: Settings) -> str:
    """Who says the order of the labels of a run, as its dataset stage found it."""
    return str(read_json(settings.run_folder / DATASET)["order"])


def choose(truth: NDArray[np.int64], per_class: int = PER_CLASS) -> NDArray[np.int64]:
    """Rows of `per_class` photos of each class (all where it has fewer), spread evenly over its
    photos, in order; of few classes more each, so that they come to FEWEST. int64 (m,)."""
    classes = np.unique(truth)
    most = max(per_class, -(-FEWEST // max(len(classes), 1)))
    rows = [np.flatnonzero(truth == label) for label in classes]
    some = [own[np.linspace(0, len(own) - 1, min(most, len(own))).astype(int)] for own in rows]
    return np.sort(np.concatenate(some)) if some else np.zeros(0, dtype=np.int64)


def check(
    outputs: NDArray[np.floating[Any]],
    truth: NDArray[np.int64],
    labels: Sequence[str],
    *,
    given: str,
) -> Record:
    """Hold the order of the labels against photos. outputs: (n, k). truth: (n,), index into
    `labels`, k of them. given: who says the order, in words.

    Returns photos, right (under this order), best (under the order that has the most right), won,
    lost and p of `order_test`, and undetectable: the pairs of labels of which these photos would
    not show that they are swapped. Raises DataError, with the better order, where another one is
    shown to be meant.
    """
    answers, k = answers_of(outputs), len(labels)
    found = order_test(answers, truth, k)
    if found.better:
        raise DataError(_another(found, labels, given))
    pairs = undetectable_pairs(answers, truth, k)
    if pairs:
        progress.warn(_not_shown(pairs, found, answers, truth, labels))
    else:
        progress.say(
            f"order of the labels ({given}): {found.right} of {counted(found.photos, 'photo')} "
            "right; the photos would have shown any two that are swapped"
        )
    return {
        "given": given,
        "photos": found.photos,
        "right": found.right,
        "best": found.right_best,
        "won": found.won,
        "lost": found.lost,
        "p": found.p,
        "undetectable": [[labels[a], labels[b]] for a, b in pairs],
    }


def _another(found: OrderTest, labels: Sequence[str], given: str) -> str:
    k = len(labels)
    moved = [i for i in range(k) if found.best[i] != i]
    places = ", ".join(f"{i} {labels[found.best[i]]}" for i in moved[:MOST_PLACES])
    more = f", … ({len(moved)} in all)" if len(moved) > MOST_PLACES else ""
    whole = ", ".join(labels[i] for i in found.best) if k <= MOST_PLACES else ""
    return (
        f"order of the labels: wanted the one that the model was trained with, found {given}, "
        f"which has {found.right} of {counted(found.photos, 'photo')} right, and another with "
        f"{found.right_best} (p = {found.p:.1g}); there these outputs are others: {places}{more}. "
        "Give --labels FILE with one label a line in the order of the outputs"
        + (f"; by these photos: {whole}" if whole else "")
    )


def _not_shown(
    pairs: Sequence[tuple[int, int]],
    found: OrderTest,
    answers: NDArray[np.int64],
    truth: NDArray[np.int64],
    labels: Sequence[str],
) -> str:
    shown = ", ".join(f"{labels[a]} and {labels[b]}" for a, b in pairs[:MOST_PAIRS])
    more = f" and {len(pairs) - MOST_PAIRS} pairs more" if len(pairs) > MOST_PAIRS else ""
    a, b = pairs[0]
    either = np.isin(truth, (a, b))
    right = int((either & (answers == truth)).sum())
    return (
        f"order of the labels: {found.right} of {counted(found.photos, 'photo')} are right, too "
        f"few to show whether {shown}{more} are swapped (of {counted(int(either.sum()), 'photo')} "
        f"of {labels[a]} and {labels[b]} {right} are right; wanted p < {LEVEL}); give more photos "
        "of them, or check the order yourself"
    )
