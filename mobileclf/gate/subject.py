"""What is checked: a model with all that decides about its answers, and photos with their truth."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from mobileclf.bundles import read_bundle
from mobileclf.config import resolve
from mobileclf.decision import NOT_SURE, Classes, Decision, read_decision, verdicts
from mobileclf.errors import DataError
from mobileclf.images.load import ImageSpec, load
from mobileclf.parallel import each
from mobileclf.records import Record, sha256_bytes
from mobileclf.settings import Settings
from mobileclf.source import forms
from mobileclf.source.index import PHOTO_ENDINGS
from mobileclf.source.store import Store
from mobileclf.wording import counted

from .figures import counts

BUNDLE = "bundle.json"
# What a bundle's test photos that are harmful were counted as.
OF_HARMFUL = ("caught", "missed", "harmful_not_sure")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model as a bundle or a run holds it. name: as messages call it. model: the file's bytes."""

    name: str
    model: bytes
    spec: ImageSpec
    classes: Classes
    decision: Decision


@dataclass(frozen=True, kw_only=True)
class Photos:
    """Photos with their truth, no file twice.

    names: as messages call them. digests: sha256 of each file, hex. labels: of each. pixels:
    uint8 (n, height, width, channels). left_out: a line for each photo that
    cannot be used; other files are not meant.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    labels: tuple[str, ...]
    pixels: NDArray[np.uint8]
    left_out: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a subject says of photos, as `judged` makes it. quanta: int64 (n, labels). right,
    harmless, missed: bool (n,)."""

    quanta: NDArray[np.int64]
    verdicts: tuple[str, ...]
    right: NDArray[np.bool_]
    harmless: NDArray[np.bool_] | None
    missed: NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.verdicts)


def open_bundle(folder: Path) -> tuple[Record, Subject]:
    """bundle.json and the model of a bundle, whose files have the sha256 that it names.

    Raises DataError.
    """
    record = read_bundle(folder)
    try:
        classes, decision = read_decision(record)
        spec = ImageSpec.from_record(record["input"])
        name, file = str(record["name"]), folder / record["model"]["file"]
        _check_metrics(record["metrics"])
        for proven in ("labels.txt", *(case["image"] for case in record["golden"])):
            if proven not in record["files"]:
                raise DataError(f"wanted {proven!r} among its files, found none; export it again")
        (folder / "labels.txt").read_text(encoding="utf-8")
    except DataError as error:
        raise DataError(f"{folder / BUNDLE}: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder / BUNDLE}: wanted a bundle's keys ({error!r}); export it again"
        ) from error
    return record, Subject(
        name=name, model=file.read_bytes(), spec=spec, classes=classes, decision=decision
    )


def _check_metrics(own: Record) -> None:
    """What new photos are held against. Raises KeyError, TypeError or ValueError."""
    counts(own["n"], own["int8"]["accuracy"])
    if guarantee := own.get("guarantee"):
        counts(1, guarantee["most"])
    if (test := own.get("decision")) and "missed" in test:
        said = [test[key] for key in OF_HARMFUL]
        if any(type(count) is not int or count < 0 for count in said):
            raise ValueError(f"wanted numbers of harmful photos, found {said}")


def load_photos(data: Path, classes: Classes, spec: ImageSpec) -> Photos:
    """The labelled photos in a folder or zip of class folders, or that a CSV names, as the model
    takes them, with a progress bar.

    A folder is called as the label, or as label and group: `Amanita_muscaria-NotEdible`. Of equal
    files the first alone is read, since each would count once more. Raises DataError for a label
    that is not among those of `classes`, and where nothing is left.
    """
    settings = resolve(Settings(data=data, name="gate"))  # no mobileclf.toml: it is of a run
    forms.check_source(settings)
    with tempfile.TemporaryDirectory() as kept:  # a CSV of pixels becomes pictures in it
        index, store = forms.read_index(settings, Path(kept))
        called = _labels_by_name(classes)
        unknown = sorted({e.label for e in index.entries if e.label} - called.keys())
        if unknown:
            raise DataError(
                f"{data}: wanted photos in folders named as the labels "
                f"{', '.join(classes.labels)}; found {', '.join(map(repr, unknown))}"
            )
        problems = {entry.path: entry.problem for entry in index.entries if entry.problem}
        wanted = [entry for entry in index.entries if not entry.problem]
        seen: set[str] = set()
        names, digests, labels, pixels = [], [], [], []
        read = each(
            partial(_read, store, spec), [e.path for e in wanted], "load photos",
            shared=store.root,
        )  # fmt: skip
        for entry, (digest, found) in zip(wanted, read, strict=True):
            if isinstance(found, str):
                problems[entry.path] = found
            elif digest not in seen:
                seen.add(digest)
                names.append(entry.path)
                digests.append(digest)
                labels.append(called[entry.label])
                pixels.append(found)
    if not names:
        raise DataError(
            f"{data}: wanted labelled photos, found none that can be used among "
            f"{counted(len(index.entries), 'file')}"
        )
    return Photos(
        names=tuple(names),
        digests=tuple(digests),
        labels=tuple(labels),
        pixels=np.stack(pixels),
        left_out=tuple(
            f"{path}: {why}"
            for path, why in sorted(problems.items())
            if PurePosixPath(path).suffix.lower() in PHOTO_ENDINGS
        ),
    )


def _labels_by_name(classes: Classes) -> dict[str, str]:
    grouped = {
        f"{label}-{group}": label
        for label, group in zip(classes.labels, classes.groups, strict=True)
        if group is not None
    }
    return grouped | {label: label for label in classes.labels}


def _read(store: Store, spec: ImageSpec, name: str) -> tuple[str, NDArray[np.uint8] | str]:
    """sha256 of a file, and the model's input or why there is none."""
    try:
        data = store.read(name)
        return sha256_bytes(data), load(data, spec)
    except DataError as error:
        return "", str(error)


def answers(subject: Subject, photos: Photos) -> Answers:
    """What `subject` says of photos, which have its labels and the size of its input.

    Raises DataError where the runtime cannot run the model.
    """
    from mobileclf.tflite.interpreter import as_quanta, score_photos

    quanta = as_quanta(score_photos(subject.model, photos.pixels, title=subject.name))
    return judged(subject.classes, subject.decision, quanta.astype(np.int64), photos.labels)


def judged(
    classes: Classes, decision: Decision, quanta: NDArray[np.int64], labels: Sequence[str]
) -> Answers:
    """Outputs (n, labels) with the verdicts that come of them, held against the photos' labels.

    right: the largest output is the label's, on a tie the lower index. harmless: called harmless,
    neither harmful nor "not sure", by the decision as of a real bundle: a demo calls none so, and
    nothing could be seen. missed: those of them that are harmful. Both are None without a harmful
    group.
    """
    right = np.array(
        [classes.labels[i] == label for i, label in zip(quanta.argmax(axis=1), labels, strict=True)]
    )
    truly, harmless = are_harmful(classes, labels), None
    if truly is not None:
        real = np.array(verdicts(quanta, classes, replace(decision, purpose="real")))
        harmless = (real != classes.harmful) & (real != NOT_SURE)
    return Answers(
        quanta=quanta,
        verdicts=tuple(verdicts(quanta, classes, decision)),
        right=right,
        harmless=harmless,
        missed=None if truly is None or harmless is None else truly & harmless,
    )


def are_harmful(classes: Classes, labels: Sequence[str]) -> NDArray[np.bool_] | None:
    """Which photos truly are of the harmful group. bool (n,); None where there is none."""
    if classes.harmful is None:
        return None
    group = dict(zip(classes.labels, classes.groups, strict=True))
    return np.array([group[label] == classes.harmful for label in labels], dtype=np.bool_)
