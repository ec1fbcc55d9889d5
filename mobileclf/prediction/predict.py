"""Label images with a model: a bundle, a run, or any `.tflite` or `.keras`.

What a model is, and where its labels, preprocessing and decision come from, is `classifier`'s.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from mobileclf import chatter, cores, parallel, progress
from mobileclf.decision import NOT_SURE, QUANTA, decision_score, to_quanta, verdicts
from mobileclf.errors import DataError, UsageError
from mobileclf.images import verdict_sheet
from mobileclf.images.contact_sheet import thumbnail
from mobileclf.records import Record, write_bytes
from mobileclf.source.store import Store
from mobileclf.wording import counted

from .classifier import Classifier, Scorer, open_classifier
from .outputs import check_outputs
from .pictures import Picture, Pictures, is_csv, load_picture, pictures_of, read_picture
from .run_model import Rule

T = TypeVar("T")
R = TypeVar("R")

NO_VERDICT = "no verdict"
TOP = 3
COLUMNS = ("path", "label", "score", "group_score", "verdict", "abstain") + tuple(
    column for i in range(1, TOP + 1) for column in (f"top{i}", f"top{i}_score")
)
COLUMNS += ("problem",)
# Images for each thread that may be taken up before the first of them is done.
AHEAD = 64
# How far outputs of float32 may be from a sum of 1.
ADRIFT = 1e-3


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """One image's row, and why its outputs are no probabilities (empty: they are)."""

    row: Record
    odd: str = ""


def predict(
    model: Path | str,
    images: Sequence[Path | str] | Path | str,
    *,
    labels: Path | str | None = None,
    preprocess: str | None = None,
    sheet: Path | str | None = None,
    image_folder: Path | None = None,
    image_column: str | None = None,
    submission: Path | str | None = None,
    label_column: str | None = None,
    cluster: str | None = None,
    verbose: bool = False,
) -> list[Record]:
    """What a model, and the app with it, says of each image, in the order given.

    model: a bundle's or a run's folder, or a `.tflite` or `.keras` file; labels and preprocess:
    as in `classifier.open_classifier`. images: images, folders (searched within), zips (read in
    place) and CSVs, whose rows name images beside them or in `image_folder` (a folder or zip), in
    `image_column` [the usual names]. sheet: a .jpg or .png to draw of them. submission: a CSV to
    write, where `images` is one CSV: its ids as written there and in its order, and a label for
    each under `label_column` [label]. cluster: of workers that read the images, as in
    `parallel.each`.

    One row an image: path; label and score of the largest output, on a tie the lower index;
    group_score (the harmful group's sum, what the threshold is compared with, in steps of 1/256;
    it may exceed 1 by the outputs' rounding); verdict and abstain (whether it is "not sure"), both
    None where the model comes with no decision, group_score also without groups; top (label and
    score of the best three); problem (None, or why there is no verdict). Scores are the model's
    outputs: probabilities 0..1, of an int8 model exactly n/256; where they are none, a warning
    says so. Raises UsageError, also where an output would be written over an input or a picture,
    and DataError when the model was changed since it was made or cannot be used, when a path does
    not exist, when no image could be read, or for a submission any: one with holes is worth
    nothing.
    """
    given, sheet = _paths(images), _path(sheet)
    model, labels, submission = Path(model), _path(labels), _path(submission)
    outputs = {"--sheet": sheet, "--submission": submission}
    check_outputs(outputs, model, given, labels, image_folder)
    if label_column is not None and submission is None:
        raise UsageError("--label-column: it names a column of --submission; give both")
    if submission is not None and (len(given) != 1 or not is_csv(given[0])):
        shown = ", ".join(map(str, given))
        raise UsageError(f"--submission: wanted one CSV as IMAGES and nothing else, found {shown}")
    with _quiet(verbose):
        verdict_sheet.check(sheet)
        classifier = _opened(model, labels, preprocess)
        found = pictures_of(given, image_folder, image_column)
        if submission is None:
            return _predict(str(model), classifier, found, cluster, sheet)
        header = (found.id_column, label_column or "label")
        if header[0] == header[1]:
            raise UsageError(
                f"--label-column {header[1]!r}: {given[0]} has its ids in the column of that "
                "name; wanted another"
            )
        _check_whole(given[0], found.rows, [picture.problem or None for picture in found.rows])
        rows = _predict(str(model), classifier, found, cluster, sheet)
        _check_whole(given[0], found.rows, [row["problem"] for row in rows])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows((p.id, row["label"]) for p, row in zip(found.rows, rows, strict=True))
    write_bytes(submission, text.getvalue().encode())
    return rows


def _path(given: Path | str | None) -> Path | None:
    return Path(given) if given is not None else None


def _paths(images: Sequence[Path | str] | Path | str) -> list[Path]:
    return [Path(images)] if isinstance(images, (str, Path)) else [Path(path) for path in images]


def _opened(model: Path, labels: Path | None, preprocess: str | None) -> Classifier:
    classifier = open_classifier(model, labels=labels, how=preprocess)
    if classifier.about:
        progress.say(f"{model}: {classifier.about}")
    return classifier


def _check_whole(table: Path, pictures: Sequence[Picture], problems: Sequence[str | None]) -> None:
    holes = [(p.id, problem) for p, problem in zip(pictures, problems, strict=True) if problem]
    if holes:
        raise DataError(
            f"{table}: wanted a readable image for each of {len(pictures)} rows, found "
            f"{len(holes)} without; the first: {holes[0][0]} ({holes[0][1]}); nothing was written"
        )


@contextmanager
def _quiet(verbose: bool) -> Iterator[None]:
    """Keeps what libraries print off the screen, unless `verbose`."""
    with TemporaryDirectory() as apart:
        with nullcontext() if verbose else chatter.led_to(Path(apart) / "log"):
            yield


def _predict(
    name: str, classifier: Classifier, pictures: Pictures, cluster: str | None, sheet: Path | None
) -> list[Record]:
    rows, odd = [], []
    for answer in _answers(classifier, pictures, cluster):
        rows.append(answer.row)
        if answer.odd:
            odd.append(f"{answer.row['path']}: {answer.odd}")
    if all(row["problem"] for row in rows):
        first = f"; the first: {rows[0]['problem']}" if rows else ""
        raise DataError(
            f"predict: wanted at least one readable image, found none of {len(rows)}{first}"
        )
    if odd:
        progress.warn(
            f"{name}: the outputs are no probabilities for {counted(len(odd), 'image')} of "
            f"{len(rows)} (the first: {odd[0]}); the scores are the outputs as they are"
        )
    if sheet is not None:
        _draw(sheet, name, classifier.rule, pictures, rows)
    return rows


def _answers(classifier: Classifier, pictures: Pictures, cluster: str | None) -> Iterator[_Answer]:
    """One an image, in order; few images are in memory at once."""
    read = partial(load_picture, classifier.spec, pictures.stores)
    if cluster is None and classifier.batch == 1:
        # Each thread reads, decodes, resizes and scores by itself, so that no core waits.
        score = _pooled(classifier.scorer)

        def work(picture: Picture) -> _Answer:
            pixels = read(picture)
            if isinstance(pixels, str):
                return _unread(picture.path, pixels)
            return _answer(picture.path, score(pixels[np.newaxis])[0], classifier)

        yield from progress.track(_in_threads(work, pictures.rows), "predict", len(pictures.rows))
        return
    scorer = classifier.scorer()
    loaded = parallel.each(read, pictures.rows, "predict", cluster=cluster, shared=pictures.roots)
    pairs = zip(pictures.rows, loaded, strict=True)
    while block := list(islice(pairs, classifier.batch)):
        readable = [pixels for _, pixels in block if not isinstance(pixels, str)]
        outputs = iter(scorer(np.stack(readable)) if readable else ())
        for picture, pixels in block:
            if isinstance(pixels, str):
                yield _unread(picture.path, pixels)
            else:
                yield _answer(picture.path, next(outputs), classifier)


def _in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work(item)` of each item, in order, in a thread for each core, none of which waits for
    another: `parallel.each` waits after each block, which pixels need and small results do not."""
    workers = cores.usable()
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _pooled(open_scorer: Callable[[], Scorer]) -> Scorer:
    """A scorer for many threads: each call takes one that is free, or opens another."""
    free: SimpleQueue[Scorer] = SimpleQueue()

    def score(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        try:
            own = free.get_nowait()
        except Empty:
            own = open_scorer()
        try:
            return own(images)
        finally:
            free.put(own)

    return score


def _answer(path: str, outputs: NDArray[np.float64], classifier: Classifier) -> _Answer:
    """The row of one image; outputs: (labels,)."""
    if not np.isfinite(outputs).all():
        return _unread(path, f"{path}: the model's outputs are no numbers (NaN or infinite)")
    labels, rule = classifier.labels, classifier.rule
    # Stable, so that on a tie the lower index comes first, as in the decision.
    order = np.argsort(-outputs, kind="stable")
    top = [{"label": labels[i], "score": float(outputs[i])} for i in order[:TOP]]
    row = {"path": path, **top[0], "group_score": None, "verdict": None, "abstain": None}
    if rule is not None:
        quanta = to_quanta(outputs[np.newaxis])
        if rule.decision.group is not None:
            row["group_score"] = int(decision_score(quanta, rule.classes)[0]) / QUANTA
        (row["verdict"],) = verdicts(quanta, rule.classes, rule.decision)
        row["abstain"] = row["verdict"] == NOT_SURE
    return _Answer(row={**row, "top": top, "problem": None}, odd=odd_of(outputs, classifier.step))


def odd_of(outputs: NDArray[np.float64], step: float) -> str:
    """Why outputs (labels,) are no probabilities; empty where they are.

    They are when none is negative and their sum is 1, to within ADRIFT and, on a grid of `step`,
    one step for each output: down by all of them, since small ones become 0, but up only by
    those over 0.
    """
    total = float(outputs.sum())
    if outputs.min() < 0:
        return f"one is {outputs.min():.4g}"
    least = 1 - ADRIFT - step * len(outputs)
    most = 1 + ADRIFT + step * int(np.count_nonzero(outputs))
    return "" if least <= total <= most else f"they add up to {total:.4g}"


def _unread(path: str, problem: str) -> _Answer:
    nothing = {"label": None, "score": None, "group_score": None}
    verdict = {"verdict": NO_VERDICT, "abstain": None}
    return _Answer(row={"path": path, **nothing, **verdict, "top": [], "problem": problem})


def _draw(
    sheet: Path, name: str, rule: Rule | None, pictures: Pictures, rows: Sequence[Record]
) -> None:
    harmful = rule.decision.group if rule is not None else None
    shown = verdict_sheet.shown(rows, harmful)
    asked = [pictures.rows[i] for i in shown]
    thumbnails = list(parallel.each(partial(_thumbnail, pictures.stores), asked, "sheet"))
    verdict_sheet.write(
        sheet, name, rows, dict(zip(shown, thumbnails, strict=True)), harmful=harmful
    )


def _thumbnail(stores: Sequence[Store], picture: Picture) -> Image | None:
    try:
        return thumbnail(read_picture(stores, picture))
    except DataError:
        return None  # its row says why


def as_csv(rows: Sequence[Record]) -> str:
    """The rows as CSV with a header, columns COLUMNS, `\\n` line ends.

    A text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a
    carriage return) gets a ' in front; nothing else is changed.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        flat = {key: value for key, value in row.items() if key != "top"}
        flat["abstain"] = {True: "yes", False: "no", None: ""}[row["abstain"]]
        for i, best in enumerate(row["top"], start=1):
            flat |= {f"top{i}": best["label"], f"top{i}_score": best["score"]}
        writer.writerow({key: _harmless(value) for key, value in flat.items()})
    return text.getvalue()


def _harmless(value: object) -> object:
    # "CSV injection": OWASP names these six first characters.
    risky = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if risky else value
