"""Label images with a bundle: its model, its preprocessing and its decision, nothing else.

A bundle whose files are not the ones that were proven is refused.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import chatter, parallel
from .decision import Classes, Decision, decision_file, decision_score, verdicts
from .errors import DataError, UsageError
from .golden import Judge
from .images.load import ImageSpec
from .pictures import Picture, Pictures, is_csv, load_picture, pictures_of
from .records import Record, read_json, sha256_file

SCHEMA = 1
NO_VERDICT = "no verdict"
TOP = 3
COLUMNS = ("path", "label", "score", "group_score", "verdict") + tuple(
    column for i in range(1, TOP + 1) for column in (f"top{i}", f"top{i}_score")
)
COLUMNS += ("problem",)


def predict(
    bundle: Path | str,
    images: Sequence[Path | str] | Path | str,
    *,
    image_folder: Path | None = None,
    image_column: str | None = None,
    cluster: str | None = None,
    verbose: bool = False,
) -> list[Record]:
    """What the app would say of each image, in the order given; folders are searched within.

    images: images, folders, zips (read in place) and CSVs, whose rows name images beside them or
    in `image_folder` (a folder or zip), in `image_column` [the usual names]. cluster: of workers
    that read the images, as in `parallel.each`.

    One row an image: path, label, score (quanta of 1/256), group_score (the same, None without
    groups), verdict, top (label and score of the best three) and problem (None, or why there is
    no verdict). Raises DataError when the bundle was changed since it was made, when a path does
    not exist, or when no image could be read, and UsageError for options without a CSV.
    """
    given = [Path(images)] if isinstance(images, (str, Path)) else [Path(path) for path in images]
    with _quiet(verbose):
        record = read_bundle(Path(bundle))
        found = pictures_of(given, image_folder, image_column)
        return _predict(Path(bundle), record, found, cluster)


def submit(
    bundle: Path | str,
    images: Sequence[Path | str] | Path | str,
    *,
    image_folder: Path | None = None,
    image_column: str | None = None,
    label_column: str = "label",
    cluster: str | None = None,
    verbose: bool = False,
) -> tuple[str, list[Record]]:
    """A CSV with the ids of a CSV, as written there and in its order, and a label for each; and
    the rows of `predict`.

    Raises what `predict` raises, UsageError unless `images` is one CSV, and DataError when a row
    has no image or one that cannot be read: a file with holes is worth nothing.
    """
    given = [Path(images)] if isinstance(images, (str, Path)) else [Path(path) for path in images]
    if len(given) != 1 or not is_csv(given[0]):
        shown = ", ".join(map(str, given))
        raise UsageError(f"--submission: wanted one CSV as IMAGES and nothing else, found {shown}")
    with _quiet(verbose):
        record = read_bundle(Path(bundle))
        found = pictures_of(given, image_folder, image_column)
        if label_column == found.id_column:
            raise UsageError(
                f"--label-column {label_column!r}: {given[0]} has its ids in the column of that "
                "name; wanted another"
            )
        problems = [picture.problem or None for picture in found.rows]
        _check_whole(given[0], found.rows, problems)
        rows = _predict(Path(bundle), record, found, cluster)
        _check_whole(given[0], found.rows, [row["problem"] for row in rows])
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((found.id_column, label_column))
    writer.writerows((p.id, row["label"]) for p, row in zip(found.rows, rows, strict=True))
    return text.getvalue(), rows


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


def _predict(folder: Path, record: Record, pictures: Pictures, cluster: str | None) -> list[Record]:
    from .tflite.interpreter import as_quanta, open_interpreter, scores

    where = folder / "bundle.json"
    try:
        classes = Classes.from_record(record)
        decision = Decision.from_record(record["decision"], purpose=record["purpose"])
        spec = ImageSpec.from_record(record["input"])
        model, kernels = folder / record["model"]["file"], record["output"]["kernels"]
        golden = {case["image"]: dict(case) for case in record["golden"]}
    except KeyError as error:
        raise DataError(f"{where}: wanted the key {error}, found none") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{where}: wanted the keys of schema {SCHEMA} ({error})") from error
    if kernels != "xnnpack":
        raise DataError(f"{where}: wanted kernels xnnpack, found {kernels!r}")
    _check_labels(folder, record)
    _check_proven(folder, model, classes, decision)
    interpreter = open_interpreter(model, kernels="xnnpack")
    judge = Judge(
        spec=spec,
        classes=classes,
        decision=decision,
        score=lambda photos: as_quanta(scores(interpreter, photos)),
    )
    _check_golden(folder, golden, set(record["files"]), judge)
    rows: list[Record] = []
    loaded = parallel.each(
        partial(load_picture, spec, pictures.stores),
        pictures.rows,
        "predict",
        cluster=cluster,
        shared=pictures.roots,
    )
    for picture, pixels in zip(pictures.rows, loaded, strict=True):
        if isinstance(pixels, str):
            rows.append(_without_verdict(picture.path, pixels))
        else:
            quanta = judge.score(pixels[np.newaxis])
            rows.append(_row(picture.path, quanta, classes, decision))
    if all(row["problem"] for row in rows):
        first = f"; the first: {rows[0]['problem']}" if rows else ""
        raise DataError(
            f"predict: wanted at least one readable image, found none of {len(rows)}{first}"
        )
    return rows


def read_bundle(folder: Path) -> Record:
    """`bundle.json`, once every file that it names is there with the sha256 it names.

    Raises DataError.
    """
    path = folder / "bundle.json"
    if not path.is_file():
        raise DataError(f"{folder}: wanted a bundle (a folder with bundle.json), found none")
    record = read_json(path)
    if record.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: wanted schema {SCHEMA}, found {record.get('schema')!r}; "
            "use the mobileclf that made it, or export again"
        )
    try:
        wanted = {record["model"]["file"]: record["model"]["sha256"]}
        wanted |= {name: entry["sha256"] for name, entry in record.get("files", {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: wanted model and files with their sha256 ({error!r})") from error
    _check_files(folder, wanted)
    return record


def _check_files(folder: Path, wanted: Mapping[str, str]) -> None:
    for name, digest in wanted.items():
        file = folder / name
        # A name that leads out of the bundle is not part of it.
        if not file.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{folder / 'bundle.json'}: {name!r} lies outside the bundle")
        found = sha256_file(file) if file.is_file() else "no such file"
        if found != digest:
            raise DataError(
                f"{file}: wanted sha256 {digest}, found {found}; the bundle was changed after it "
                "was proven: export it again"
            )


def _check_labels(folder: Path, record: Record) -> None:
    """labels.txt, which the hashes vouch for, must be the labels of bundle.json."""
    own = [row["label"] for row in record["labels"]]
    written = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    if own != written:
        raise DataError(
            f"{folder}: wanted the same labels in bundle.json and labels.txt, found "
            f"{', '.join(map(str, own))} and {', '.join(written)}; export it again"
        )


def _check_proven(folder: Path, model: Path, classes: Classes, decision: Decision) -> None:
    """What decides in bundle.json must be what lies in the model file, which the hash vouches for.

    Few golden cases lie so near the threshold that they would notice it moved.
    """
    from .tflite import metadata

    _, files = metadata.read(model.read_bytes())
    if files.get(metadata.DECISION_FILE) != decision_file(classes, decision):
        raise DataError(
            f"{folder / 'bundle.json'}: wanted the labels, groups and decision that lie in "
            f"{model.name}, found others; export it again"
        )


def _check_golden(
    folder: Path, golden: Mapping[str, Mapping[str, Any]], files: Set[str], judge: Judge
) -> None:
    """Every golden case, by image, must come out as recorded. Other keys may stand beside.

    files: those that the hashes vouch for, and no other is read.
    """
    if not golden:
        raise DataError(f"{folder / 'bundle.json'}: wanted golden cases, found none")
    for image, wanted in golden.items():
        if image not in files:
            raise DataError(f"{folder / 'bundle.json'}: {image!r} is not among its files")
        path = folder / image
        found = judge.case(path.read_bytes(), path.suffix).as_record(image)
        if other := [key for key in found if found[key] != wanted.get(key)]:
            raise DataError(
                f"{path}: wanted the golden case of bundle.json, found another "
                f"{', '.join(other)}; the bundle was changed, or this runtime is not "
                "the one that it was proven on: export it again"
            )


def _row(
    path: str, quanta: NDArray[np.integer[Any]], classes: Classes, decision: Decision
) -> Record:
    """The row of one photo; quanta: integers (1, labels)."""
    # Stable, so that on a tie the lower index comes first, as in the decision.
    order = np.argsort(-quanta[0].astype(np.int64), kind="stable")
    top = [{"label": classes.labels[i], "score": int(quanta[0, i])} for i in order[:TOP]]
    grouped = int(decision_score(quanta, classes)[0]) if decision.group is not None else None
    return {
        "path": path,
        **top[0],
        "group_score": grouped,
        "verdict": verdicts(quanta, classes, decision)[0],
        "top": top,
        "problem": None,
    }


def _without_verdict(path: str, problem: str) -> Record:
    nothing = {"label": None, "score": None, "group_score": None}
    return {"path": path, **nothing, "verdict": NO_VERDICT, "top": [], "problem": problem}


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
        for i, best in enumerate(row["top"], start=1):
            flat |= {f"top{i}": best["label"], f"top{i}_score": best["score"]}
        writer.writerow({key: _harmless(value) for key, value in flat.items()})
    return text.getvalue()


def _harmless(value: object) -> object:
    # "CSV injection": OWASP names these six first characters.
    risky = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if risky else value
