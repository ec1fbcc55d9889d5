"""A model that someone already has takes the place of training: from their file to the run's.

Its preprocessing and its order of labels are held against photos, and what is written is proven
to be the function that it was. Nothing is trained, and nothing is chosen without being told.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.errors import DataError, UsageError
from mobileclf.images.load import ImageSpec
from mobileclf.images.preprocess import Preprocess, preprocess_of
from mobileclf.models.deploy import MODEL
from mobileclf.photos import load_photos
from mobileclf.records import Record, sha256_file
from mobileclf.scores import read_labels, read_part
from mobileclf.settings import Settings
from mobileclf.wording import counted

from . import formats, from_keras, from_tflite, label_order, trial
from .given import Given, in_batches

PROOF_PHOTOS = 32
TRIAL_PER_CLASS = 8  # every candidate for the preprocessing takes them all through the network
SEEN = ("train", "validation")  # what is held back for the end is not looked at here


def adopt(folder: Path, settings: Settings) -> Record:
    """Write the given model as the run's own. Returns the body of `train.json`.

    Raises UsageError where the preprocessing is not known, DataError for a model that cannot be
    read or whose labels are in another order, ProofError where what is written is another
    function.
    """
    path = settings.model
    assert path is not None
    kind = formats.kind_of(path)
    given = _open(path, kind, settings)
    progress.say(f"{path}: {given.format}, {_input(given)}, {counted(given.outputs, 'label')}")
    labels, _ = read_labels(folder)
    if given.outputs != len(labels):
        raise DataError(
            f"{path}: wanted an output for each of the {len(labels)} classes of photos, found "
            f"{given.outputs}; give the photos of all its classes, and of no others"
        )
    height, width, channels = given.shape
    spec = ImageSpec(width=width, height=height, channels=channels)
    photos = _some_photos(folder, settings, spec)
    chosen = _preprocessing(settings, given, photos)
    outputs = _answers(given, photos, chosen.how)
    order = label_order.check(outputs, photos.truth, labels, given=label_order.origin(settings))
    body = given.finish(folder, chosen.how, photos.spread(PROOF_PHOTOS))
    for earlier in {MODEL, from_tflite.FILE} - {body["model"]}:
        (folder / earlier).unlink(missing_ok=True)
    return {
        "stage": "train",
        "network": path.resolve().name,
        "start": "given model",
        "input": spec.as_record(),
        "model": body.pop("model"),
        "given": {
            "format": given.format,
            "kind": kind,
            "preprocess": chosen.how.as_record(),
            "preprocess_from": chosen.origin,
            "trial": chosen.trial,
            "label_order": order,
            "dropped": body.pop("dropped"),
            "head": body.pop("head"),
        },
        **body,
    }


def _open(path: Path, kind: str, settings: Settings) -> Given:
    side = settings.image_size
    if kind == "tflite":
        return from_tflite.open_given(path)
    return from_keras.open_given(
        path, trust=settings.trust, size=None if side is None else (side, side)
    )


def _input(given: Given) -> str:
    height, width, channels = given.shape
    return f"{width} x {height} x {channels}"


@dataclass(frozen=True, kw_only=True)
class _Photos:
    """Photos to hold the model against: as many of each class, where there are so many."""

    truth: NDArray[np.int64]
    pixels: NDArray[np.uint8]

    def spread(self, most: int) -> NDArray[np.uint8]:
        """Pixels of so many, evenly over all, so that every class is among them."""
        rows = np.linspace(0, len(self.truth) - 1, min(most, len(self.truth))).round().astype(int)
        return self.pixels[rows]

    def fewer(self, per_class: int) -> _Photos:
        rows = label_order.choose(self.truth, per_class)
        return _Photos(truth=self.truth[rows], pixels=self.pixels[rows])


def _some_photos(folder: Path, settings: Settings, spec: ImageSpec) -> _Photos:
    all_of_them = read_part(folder, *SEEN)
    some = all_of_them[label_order.choose(all_of_them.truth)]
    pixels = load_photos(folder, settings, some, "load photos", spec=spec)
    return _Photos(truth=some.truth, pixels=pixels)


def _answers(given: Given, photos: _Photos, how: Preprocess) -> NDArray[np.float64]:
    title = f"answers, pixels as {how.name}"
    return in_batches(lambda pixels: given.score(pixels, how), photos.pixels, title)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The preprocessing, where it comes from, and the trial's record if there was one."""

    how: Preprocess
    origin: str
    trial: Record | None


def _preprocessing(settings: Settings, given: Given, photos: _Photos) -> _Chosen:
    """As told, or as the model itself says; in either case held against photos, since a model
    may scale pixels that were scaled before.

    Raises UsageError, with what the trial proposes, where neither says it, and DataError where
    another one is clearly better.
    """
    told: Preprocess | None
    if settings.preprocess is not None:
        told, said = preprocess_of(settings.preprocess), "--preprocess"
    else:
        told, said = given.inside, given.says
    some = photos.fewer(TRIAL_PER_CLASS)
    candidates = [how for how in trial.candidates(given.shape[2]) if given.takes(how)]
    if told is not None:
        candidates = [told, *(how for how in candidates if how != told)]
    tried = trial.run(partial(_answers, given, some), candidates, some.truth)
    if told is None:
        raise UsageError(f"{settings.model}: {trial.propose(tried)}")
    trial.check_given(tried, told, said)
    if not (tried.clear and tried.ranked[0].how == told):
        progress.say(f"pixels as {told.name} ({said}): {trial.unclear(tried)}")
    return _Chosen(how=told, origin=said, trial=tried.as_record())


def fingerprint(path: Path) -> dict[str, str]:
    """sha256 of the model's file, or of each file in its folder, by relative name.

    Raises DataError as `formats.kind_of`.
    """
    if formats.kind_of(path) == "run":
        path = path / MODEL
    if path.is_file():
        return {"": sha256_file(path)}  # under whatever name
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return {name: sha256_file(path / name) for name in names}
