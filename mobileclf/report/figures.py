"""Pictures of a run, drawn from its records: RGB images that a notebook and a page can show.

Equal records give equal bytes with one release of matplotlib. What a person has set up for
matplotlib does not matter, and none of its global state is changed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFont

from mobileclf.errors import DataError
from mobileclf.images.contact_sheet import FONTS
from mobileclf.records import Record, read_csv, read_json
from mobileclf.scores import FLOAT, PARTS, read_labels
from mobileclf.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

DOTS = 100  # an inch
BLUE, ORANGE, RED, GREY = "#1f77b4", "#d95f02", "#d40000", "#888888"
MOST_NUMBERED = 20  # classes whose counts can still be read
MOST_NAMED = 40  # labels along one side
MOST_LETTERS = 24  # of a label
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
    """ROC curves of float and int8 on the threshold and test photos, and the operating point.

    run: the run's folder, with a threshold. RGB. Raises DataError when the records are not there.
    """
    return _image(lambda figure: _roc(figure, Path(run)))


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
        axes.set_title(f"{title}: {_percent(found['accuracy'])} right", fontsize=11)
        axes.set_xlabel("answer")
        if len(labels) <= MOST_NUMBERED:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    ink = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(column, row, str(count), ha="center", va="center", color=ink,
                              fontsize=8)  # fmt: skip
    step = -(-len(labels) // MOST_NAMED)
    for axis in (panels[0].xaxis, panels[1].xaxis, panels[0].yaxis):
        _name_ticks(axis, range(0, len(labels), step), labels)
    for axes in panels:
        axes.tick_params(axis="x", labelrotation=90)
    panels[0].set_ylabel("true class")
    figure.colorbar(painted, ax=panels, label="share of the class", shrink=0.8)
    notes = []
    if len(labels) > MOST_NUMBERED:
        notes.append("the counts are left out (they are in metrics.json)")
    if step > 1:
        notes.append(f"one class in {step} is named")
    _title(
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


def _roc(figure: Figure, run: Path) -> None:
    record = read_json(run / "threshold.json")
    decision, point = record["decision"], record["operating_point"]["int8"]
    figure.set_size_inches(6.4, 6.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    rows = read_csv(run / "roc.csv")
    for name, colour in ((FLOAT, ORANGE), ("int8", BLUE)):
        for part, line in ((record["chosen_on"], "-"), ("test", "--")):
            area = record["auc"][name][part]
            if area is None:
                continue  # photos of one kind only: there is no curve
            curve = [row for row in rows if (row["variant"], row["part"]) == (name, part)]
            axes.plot(
                [float(row["fpr"]) for row in curve], [float(row["tpr"]) for row in curve],
                color=colour, linestyle=line, linewidth=1.4,
                label=f"{name}, {part} photos: AUC {area:.4f}",
            )  # fmt: skip
    axes.plot(
        [point["fpr"]], [point["tpr"]], marker="o", markersize=10, color=RED, linestyle="none",
        zorder=5, clip_on=False,
        label=f"chosen: {decision['threshold_q']} of 256, "
        f"TPR {_percent(point['tpr'])}, FPR {_percent(point['fpr'])}",
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(loc="lower right", fontsize=8)
    if record["rule"] == "group":
        axes.set_xlabel("harmless photos called harmful (false alarms)")
        axes.set_ylabel("harmful photos called harmful (caught)")
        _title(figure, f"harmful: {_short(decision['group'])}")
    else:
        axes.set_xlabel("wrong answers that are given")
        axes.set_ylabel("right answers that are given")
        _title(figure, "an answer, or “not sure”: the least confidence")


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
                epochs[turn] - 0.5, color="#888888", linewidth=1, linestyle=":",
                label=f"{rows[turn]['phase']} from here",
            )  # fmt: skip
        axes.axvline(record["best_epoch"], color=RED, linewidth=1, label="kept")
        axes.set_xlabel("epoch")
        axes.set_ylabel(what)
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.legend(fontsize=8)
    axes.set_ylim(0, 1.02)
    _title(figure, f"{counted(len(rows), 'epoch')}, the weights of epoch {record['best_epoch']}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _title(figure: Figure, text: str) -> None:
    shown, font = _with_font(text)
    figure.suptitle(shown, fontproperties=font, fontsize=11, parse_math=False)


def _name_ticks(axis: Any, places: Sequence[int], names: Sequence[str]) -> None:
    """Write `names` as they are: no mathematics where a $ is, each in a font that has it."""
    named = [_with_font(_short(names[place])) for place in places]
    axis.set_ticks(places, [shown for shown, _ in named], fontsize=8, parse_math=False)
    for label, (_, font) in zip(axis.get_ticklabels(), named, strict=True):
        label.set_fontproperties(font)
        label.set_fontsize(8)


def _short(name: str) -> str:
    """A name with its middle left out where it is long."""
    if len(name) <= MOST_LETTERS:
        return name
    half = (MOST_LETTERS - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def _with_font(text: str) -> tuple[str, FontProperties]:
    """The text and a font that has all of it: DejaVu Sans, which matplotlib brings, else one of
    the system. Where none has, the text with \\u escapes: a name that can be told from others,
    not a row of boxes."""
    import matplotlib
    from matplotlib.font_manager import FontProperties

    text = unicodedata.normalize("NFC", text)
    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    if text.isprintable():
        for path in (str(own), *filter(None, map(_path_of, FONTS))):
            if _characters(path).issuperset(text):
                return text, FontProperties(fname=path)
    escaped = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
    return escaped, FontProperties(fname=str(own))


@lru_cache
def _path_of(name: str) -> str | None:
    """Where the system keeps a font, None where it has none of that name."""
    try:
        return str(ImageFont.truetype(name, 10).path)
    except OSError:
        return None


@lru_cache
def _characters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(path).get_charmap()))
