"""Pictures of a run, drawn from its records: RGB images that a notebook and a page can show.

Equal records give equal bytes with one release of matplotlib. What a person has set up for
matplotlib does not matter, and none of its global state is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mobileclf.errors import DataError
from mobileclf.records import Record, read_csv, read_json
from mobileclf.scores import FLOAT, PARTS, read_labels
from mobileclf.wording import counted

from .curves import Rows, draw_abstain, draw_precision_recall, draw_reliability, draw_roc
from .lettering import BLUE, GREY, ORANGE, RED, headline, name_ticks, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS = 100  # an inch
ROC_FILE, ABSTAIN_FILE = "roc.csv", "abstain.csv"
MOST_NUMBERED = 20  # classes whose counts can still be read
MOST_NAMED = 40  # labels along one side
BEGINNINGS = {"png": b"\x89PNG\r\n", "svg": b"<?xml"}
HEAD = 4096  # bytes, which hold the mark
MARK = "mobileclf figure"  # in a file, by which it is known from other pictures


def confusion(run: Path | str, part: str = "test") -> Image.Image:
    """Answers by true class, float and int8 side by side, coloured by the share of their row.

    run: the run's folder, scored and selected. part: of `scores.PARTS`. RGB. Raises DataError
    when the records are not there.
    """
    if part not in PARTS:
        raise DataError(f"confusion: wanted one of the parts {', '.join(PARTS)}, found {part!r}")
    return _image(lambda figure: _confusion(figure, Path(run), part))


def roc(run: Path | str) -> Image.Image:
    """ROC curves of float and int8 on the threshold photos, int8's with its band, and on the test
    photos; the operating points.

    run: the run's folder, with a threshold. RGB. Raises DataError when the records are not there.
    """
    return _image(lambda figure: _curve(draw_roc, figure, Path(run), ROC_FILE))


def precision_recall(run: Path | str) -> Image.Image:
    """Precision at each recall, of the same as in `roc`; likewise."""
    return _image(lambda figure: _curve(draw_precision_recall, figure, Path(run), ROC_FILE))


def reliability(run: Path | str) -> Image.Image:
    """How often test answers are right by how sure they are, float before and after its
    temperature and int8; as `roc`."""
    return _image(lambda figure: _curve(draw_reliability, figure, Path(run), None))


def abstain(run: Path | str) -> Image.Image:
    """Harmful photos called harmless by how many photos are answered, for each measure of how
    sure an answer is; as `roc`. Raises DataError also for a run without a harmful group."""
    return _image(lambda figure: _curve(draw_abstain, figure, Path(run), ABSTAIN_FILE))


def history(run: Path | str) -> Image.Image:
    """Loss and accuracy by epoch; the epoch whose weights were kept is marked.

    run: the run's folder, trained. RGB. Raises DataError when the records are not there.
    """
    return _image(lambda figure: _history(figure, Path(run)))


def _image(draw: Callable[[Figure], None]) -> Image.Image:
    canvas = _canvas(draw)
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def written(draw: Callable[[Figure], None], kind: str) -> bytes:
    """What `draw` puts on a figure, as the bytes of a file. kind: `png` or `svg`."""
    from matplotlib import rc_context, style
    from matplotlib.figure import Figure

    about = {"Date": None, "Description": MARK} if kind == "svg" else {"Description": MARK}
    # An svg has its date and random names in it unless told otherwise.
    with style.context("default"), rc_context({"svg.hashsalt": "mobileclf"}), BytesIO() as file:
        figure = Figure(dpi=DOTS, layout="constrained")
        draw(figure)
        figure.savefig(file, format=kind, metadata=about)
        return file.getvalue()


def is_written(path: Path) -> bool:
    """Whether a file is one that `written` made, of the kind that its name ends in."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return head.startswith(BEGINNINGS[path.suffix[1:]]) and MARK.encode() in head


def _canvas(draw: Callable[[Figure], None]) -> Any:
    """A canvas with what `draw` put on its figure, drawn."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # The defaults that matplotlib comes with, whatever a matplotlibrc or a notebook has set.
    with style.context("default"):
        figure = Figure(dpi=DOTS, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        draw(figure)
        canvas.draw()
    return canvas


def _confusion(figure: Figure, run: Path, part: str) -> None:
    labels, _ = read_labels(run)
    variants = read_json(run / "metrics.json")["variants"]
    chosen = read_json(run / "selection.json")["selected"]
    side = min(max(0.42 * len(labels), 3.2), 9.0)
    figure.set_size_inches(2 * side + 3.0, side + 2.2)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, name, title in zip(
        panels, (FLOAT, f"{chosen}.xnnpack"), (FLOAT, f"int8 ({chosen})"), strict=True
    ):
        found = _of_part(run, variants, name, part)
        counts = np.array(found["confusion"])
        photos = counts.sum(axis=1, keepdims=True)
        shares = counts / np.maximum(photos, 1)
        painted = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"{title}: {percent(found['accuracy'])} right", fontsize=11)
        axes.set_xlabel("answer")
        if len(labels) <= MOST_NUMBERED:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    ink = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=ink,
                              fontsize=8)  # fmt: skip
    step = -(-len(labels) // MOST_NAMED)
    for axis in (panels[0].xaxis, panels[1].xaxis, panels[0].yaxis):
        name_ticks(axis, range(0, len(labels), step), labels)
    for axes in panels:
        axes.tick_params(axis="x", labelrotation=90)
    panels[0].set_ylabel("true class")
    figure.colorbar(painted, ax=panels, label="share of the class", shrink=0.8)
    notes = []
    if len(labels) > MOST_NUMBERED:
        notes.append("the counts are left out (they are in metrics.json)")
    if step > 1:
        notes.append(f"one class in {step} is named")
    headline(
        figure, "; ".join([f"{part} photos, {counted(len(labels), 'class', 'classes')}", *notes])
    )


def _of_part(run: Path, variants: Mapping[str, Any], name: str, part: str) -> Record:
    try:
        found: Record = variants[name]["parts"][part]
    except KeyError as error:
        raise DataError(
            f"{run / 'metrics.json'}: wanted {name} scored on {part}, found none; run score again"
        ) from error
    return found


def _curve(
    draw: Callable[[Figure, Record, Rows], None], figure: Figure, run: Path, file: str | None
) -> None:
    record = read_json(run / "threshold.json")
    # Without a harmful group no file of cuts is written, which `draw` says.
    there = file is not None and (file == ROC_FILE or (run / file).exists())
    draw(figure, record, read_csv(run / file) if file and there else [])


def _history(figure: Figure, run: Path) -> None:
    record = read_json(run / "train.json")
    if "given" in record:
        raise DataError(f"{run}: nothing was trained, the model was given; there is no history")
    rows = read_csv(run / "history.csv")
    epochs = [int(row["epoch"]) for row in rows]
    turns = [i for i in range(1, len(rows)) if rows[i]["phase"] != rows[i - 1]["phase"]]
    figure.set_size_inches(9.6, 3.8)
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, name, colour in (
            (what, "train", ORANGE), (f"val_{what}", "validation", BLUE),
        ):  # fmt: skip
            axes.plot(
                epochs, [float(row[key]) for row in rows], marker=".", color=colour, label=name
            )
        for turn in turns:
            axes.axvline(
                epochs[turn] - 0.5, color=GREY, linewidth=1, linestyle=":",
                label=f"{rows[turn]['phase']} from here",
            )  # fmt: skip
        axes.axvline(record["best_epoch"], color=RED, linewidth=1, label="kept")
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.legend(fontsize=8)
    axes.set_ylim(0, 1.02)
    headline(figure, f"{counted(len(rows), 'epoch')}, the weights of epoch {record['best_epoch']}")
