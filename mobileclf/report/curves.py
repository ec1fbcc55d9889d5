"""Curves of a run's threshold, each drawn on a figure from `threshold.json` and the rows beside it.

rows: of `roc.csv` or `abstain.csv`, as written or as read. What is chosen and what is reported is
told apart by line and marker, not by colour alone, and no legend lies over a curve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError
from mobileclf.records import Record
from mobileclf.wording import counted

from .lettering import BLUE, GREEN, GREY, ORANGE, RED, headline, percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
GRID = "#dddddd"
FLOAT, INT8, REPORTED = "float", "int8", "test"
CLOSE_UP = 0.5  # of the axes; where the points lie further apart than that, there is none
SHIPS = {"marker": "o", "markersize": 11, "color": RED, "linestyle": "none"}
OF_FLOAT = {
    "marker": "D", "markersize": 11, "color": "black", "linestyle": "none",
    "markerfacecolor": "none", "markeredgewidth": 1.6,
}  # fmt: skip
ON_TEST = {
    "marker": "x", "markersize": 9, "color": BLUE, "linestyle": "none", "markeredgewidth": 2.8,
}  # fmt: skip
MEASURES = {
    "largest": ("largest output", BLUE, "-", "o"),
    "margin": ("largest less second", ORANGE, "--", "s"),
    "score": ("group’s score", GREEN, "-.", "^"),
}
PART_ORDER = ("validation", "threshold", "test")


def drawings(record: Record, roc: Rows, abstain: Rows) -> dict[str, Callable[[Figure], None]]:
    """What draws each picture of a threshold, by the name of its file. roc, abstain: rows of the
    files of that name; without any of the second there is no picture of it."""
    drawn: dict[str, Callable[[Figure], None]] = {
        "roc.png": partial(draw_roc, record=record, rows=roc),
        "precision_recall.png": partial(draw_precision_recall, record=record, rows=roc),
        "reliability.png": partial(draw_reliability, record=record),
    }
    if abstain:
        drawn["abstain.png"] = partial(draw_abstain, record=record, rows=abstain)
    return drawn


def draw_roc(figure: Figure, record: Record, rows: Rows) -> None:
    """ROC of the decision's score: int8 with its band and hull, float beside it, int8 on test;
    the operating points of both, and what int8's does on test. In a close-up where they crowd."""
    of_group = record["rule"] == "group"
    points = _points(record)
    across = _reach(fpr for fpr, _, _, _ in points)
    up = _reach(1 - tpr for _, tpr, _, _ in points)
    panels = 1 if min(across, up) > CLOSE_UP else 2
    figure.set_size_inches(6.2 * panels, 9.2 - 0.9 * panels)
    axes = np.atleast_1d(figure.subplots(1, panels)).tolist()
    for one in axes:
        _roc_curves(one, record, rows)
        # All of them where they can be told apart, in the overview what ships.
        for fpr, tpr, look, label in points if one is axes[-1] else points[:1]:
            one.plot([fpr], [tpr], **look, zorder=5,
                     clip_on=False, label=label)  # fmt: skip
        _percent_axes(one)
        one.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1)
        if of_group:
            one.set_xlabel("harmless photos called harmful (false alarms)")
            one.set_ylabel("harmful photos called harmful (caught)")
        else:
            one.set_xlabel("wrong answers that are given")
            one.set_ylabel("right answers that are given")
    if panels == 2:
        axes[0].add_patch(_frame(across, up))
        axes[0].set_title("all of it", fontsize=9)
        axes[1].set(xlim=(0, across), ylim=(1 - up, 1))
        axes[1].set_title("the corner in the frame", fontsize=9)
    _legend(figure, axes[-1], columns=panels)
    wanted = f"harmful: {short(str(record['decision']['group']))}"
    headline(figure, wanted if of_group else "an answer, or “not sure”: the least confidence")


def draw_precision_recall(figure: Figure, record: Record, rows: Rows) -> None:
    """Precision at each recall of the decision's score, drawn as the steps whose area the average
    precision is; the operating points as in the ROC picture."""
    figure.set_size_inches(6.2, 6.4)
    axes = figure.subplots()
    lowest = 1.0
    for name, part, look in _lines(record):
        curve = _decision(rows, name, part)
        if not curve:
            continue
        precision = _numbers(curve, "precision")
        lowest = min(lowest, float(precision.min()))
        area = record["average_precision"][name][part]
        axes.plot(
            _numbers(curve, "tpr"), precision, **look, drawstyle="steps-pre",
            label=f"{name}, {part} photos: average precision {area:.4f}",
        )  # fmt: skip
        if (name, part) == (INT8, record["chosen_on"]):
            axes.axhline(precision[-1], color=GREY, linewidth=1, linestyle=":",
                         label=f"said of every photo: {percent(precision[-1])}")  # fmt: skip
    points = _points(record)
    for (fpr, tpr, look, _), (name, part, words) in zip(
        points,
        (
            (INT8, record["chosen_on"], "int8 ships with"),
            (FLOAT, record["chosen_on"], "float’s own"),
            (INT8, REPORTED, "what ships, on test"),
        ),
        strict=True,
    ):
        precision_there = _precision_at(_decision(rows, name, part), fpr, tpr)
        if precision_there is not None:
            axes.plot([tpr], [precision_there], **look, zorder=5, clip_on=False,
                      label=f"{words}: precision {percent(precision_there)}, "
                      f"recall {percent(tpr)}")  # fmt: skip
    _percent_axes(axes)
    floor = max(np.floor(10 * (lowest - 0.02)) / 10, 0.0)
    # Where there is something to see: far below the points precision hardly moves.
    left = max(np.floor(10 * (min(tpr for _, tpr, _, _ in points) - 0.15)) / 10, 0.0)
    axes.set(xlim=(left, 1), ylim=(floor, 1))
    if record["rule"] == "group":
        axes.set_xlabel("recall: harmful photos called harmful")
        axes.set_ylabel("precision: harmful of all called harmful")
        headline(figure, f"harmful: {short(str(record['decision']['group']))}")
    else:
        axes.set_xlabel("recall: right answers that are given")
        axes.set_ylabel("precision: right of all answers that are given")
        headline(figure, "an answer, or “not sure”: the least confidence")
    _legend(figure, axes)


def draw_reliability(figure: Figure, record: Record, rows: Rows = ()) -> None:
    """How often the answer is right, by how sure it is of it: bins of equally many test photos,
    each with its exact 95 % interval. On the line what is said can be believed."""
    calibration = record["calibration"]
    variants: Mapping[str, Record] = calibration["variants"]
    figure.set_size_inches(4.0 * len(variants), 4.8)
    panels = np.atleast_1d(figure.subplots(1, len(variants), sharey=True)).tolist()
    every = [min(one["bins"][key]) for one in variants.values() for key in ("confidence", "low")]
    floor = max(np.floor(10 * (min(every) - 0.02)) / 10, 0.0)
    for axes, (name, one) in zip(panels, variants.items(), strict=True):
        bins = {key: np.array(values, dtype=float) for key, values in one["bins"].items()}
        axes.fill_between([floor, 1], [floor, 1], floor, color="#eeeeee", linewidth=0,
                          zorder=0)  # fmt: skip
        axes.plot([floor, 1], [floor, 1], color=GREY, linewidth=1, linestyle=":")
        below, above = bins["accuracy"] - bins["low"], bins["high"] - bins["accuracy"]
        axes.errorbar(
            bins["confidence"], bins["accuracy"], yerr=(below.clip(0), above.clip(0)),
            fmt="o", color=BLUE, markersize=6, capsize=3, linewidth=1.2, clip_on=False,
        )  # fmt: skip
        for text, x, y, across, up in (
            ("too sure", 0.98, 0.02, "right", "bottom"),
            ("not sure enough", 0.02, 0.98, "left", "top"),
        ):
            axes.text(x, y, text, transform=axes.transAxes, ha=across, va=up, fontsize=10,
                      color="#444444", style="italic", zorder=0.5)  # fmt: skip
        axes.set_title(f"{name}\nECE {one['ece']:.3f}, Brier {one['brier']:.3f}", fontsize=10)
        axes.set_xlabel("largest output")
        _percent_axes(axes)
        axes.set(xlim=(floor, 1), ylim=(floor, 1), aspect="equal")
    panels[0].set_ylabel("answers that are right")
    photos = int(sum(next(iter(variants.values()))["bins"]["photos"]))
    fitted = calibration["temperature"]
    about = f"temperature {fitted:.3f}" if fitted is not None else "no temperature was fitted"
    headline(
        figure,
        f"{counted(photos, calibration['part'] + ' photo')}, "
        f"{counted(bins['photos'].size, 'bin')} of equally many, 95 % intervals; {about}",
    )


def draw_abstain(figure: Figure, record: Record, rows: Rows) -> None:
    """Harmful photos called harmless, by how many photos get an answer at all, for each measure
    of how sure an answer is; the chosen cut. One panel for each part that there are rows of.

    Raises DataError without rows.
    """
    parts = [part for part in PART_ORDER if any(row["part"] == part for row in rows)]
    if not parts:
        raise DataError(
            "abstain.csv: wanted what each cut does, found nothing; only a rule with a harmful "
            "group is ever “not sure” by a cut: give --harmful"
        )
    chosen, point = (record["operating_point"][INT8][key] for key in ("abstain", "threshold_q"))
    figure.set_size_inches(5.4 * len(parts) + 0.4, 5.6)
    panels = np.atleast_1d(figure.subplots(1, len(parts), sharex=True, sharey=True)).tolist()
    for axes, part in zip(panels, parts, strict=True):
        for by, (words, colour, line, marker) in MEASURES.items():
            curve = _of(rows, part=part, by=by)
            answered, missed = _numbers(curve, "answered"), _numbers(curve, "missed")
            n, harmful = int(curve[0]["n"]), int(curve[0]["harmful"])
            axes.plot(
                answered / n, missed / max(harmful, 1), color=colour, linestyle=line,
                drawstyle="steps-post", linewidth=1.8, marker=marker, markersize=5,
                markevery=max(len(curve) // 8, 1), markerfacecolor="white", label=words,
                clip_on=False,
            )  # fmt: skip
        place = _chosen_row(rows, part, chosen)
        share = int(place["answered"]) / n, int(place["missed"]) / max(harmful, 1)
        words = f"ships, “not sure”: {not_sure_words(chosen, point)}"
        axes.plot(*([v] for v in share), **SHIPS, zorder=5, clip_on=False,
                  label=words)  # fmt: skip
        axes.set_title(
            f"{part}, {counted(n, 'photo')}, {harmful} harmful: {percent(share[0])} answered,\n"
            f"{place['missed']} harmful called harmless",
            fontsize=10,
        )
        axes.set_xlabel("photos that get an answer")
        _percent_axes(axes)
        axes.set_xlim(right=1)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("harmful photos called harmless")
    _legend(figure, panels[0], columns=2)
    headline(
        figure,
        f"harmful: {short(str(record['decision']['group']))}, from {point} of 256 on",
    )


def not_sure_words(abstain: Mapping[str, Any] | None, threshold_q: int) -> str:
    """Of which outputs an app is not sure. abstain, threshold_q: as in a decision's record."""
    if abstain is None:
        return "never"
    cut = abstain["cut_q"]
    if abstain["by"] == "score":
        return f"from {threshold_q + 1 - cut} to {threshold_q - 1} of 256"
    return f"{MEASURES[abstain['by']][0]} under {cut} of 256"


def _lines(record: Record) -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Variant, part and look of each curve: what ships is thick, float thin and over it, what is
    only reported dashed."""
    chosen_on = record["chosen_on"]
    return (
        (INT8, chosen_on, {"color": BLUE, "linestyle": "-", "linewidth": 3.2}),
        (FLOAT, chosen_on, {"color": ORANGE, "linestyle": "-", "linewidth": 1.6}),
        (INT8, REPORTED, {"color": BLUE, "linestyle": "--", "linewidth": 1.4}),
    )


def _roc_curves(axes: Axes, record: Record, rows: Rows) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for name, part, look in _lines(record):
        curve = _decision(rows, name, part)
        area = record["auc"][name][part]
        if area is None or not curve:
            continue  # photos of one kind only: there is no curve
        fpr, tpr = _numbers(curve, "fpr"), _numbers(curve, "tpr")
        words = f"{name}, {part} photos: AUC {area:.4f}"
        interval = (record["intervals"][name][part] or {}).get("delong")
        if interval is not None:
            words += " ({:.3f} to {:.3f})".format(*interval)
        axes.plot(fpr, tpr, **look, label=words)
        if (name, part) == (INT8, record["chosen_on"]):
            if curve[0]["low"] not in ("", None):
                axes.fill_between(
                    *_band(fpr, _numbers(curve, "low"), _numbers(curve, "high")), color=BLUE,
                    alpha=0.13, linewidth=0, label="where int8’s lies with 95 % at each point",
                )  # fmt: skip
            corners = [row for row in curve if row["hull"] == "yes"]
            axes.plot(
                _numbers(corners, "fpr"), _numbers(corners, "tpr"), color="black", linewidth=1.0,
                linestyle=":", label="its hull: best points for some cost",
            )  # fmt: skip


def _points(record: Record) -> tuple[tuple[float, float, dict[str, Any], str], ...]:
    """fpr, tpr, look and label: int8's point, float's, and what int8's does on test."""
    words = (
        "caught {}, false alarms {}"
        if record["rule"] == "group"
        else "given {} of the right answers and {} of the wrong"
    )
    found = []
    own = {name: record["operating_point"][name] for name in (INT8, FLOAT)}
    for name, look, title in ((INT8, SHIPS, "int8 ships with"), (FLOAT, OF_FLOAT, "float’s own:")):
        point = own[name]
        rates = words.format(percent(point["tpr"]), percent(point["fpr"]))
        label = f"{title} {point['threshold_q']} of 256: {rates}"
        found.append((point["fpr"], point["tpr"], look, label))
    fpr, tpr = _rates(record[REPORTED][INT8])
    rates = words.format(percent(tpr), percent(fpr))
    found.append((fpr, tpr, ON_TEST, f"what ships, on test: {rates}"))
    return tuple(found)


def _rates(counts: Mapping[str, int]) -> tuple[float, float]:
    """fpr and tpr of a record's counts; 0 where there are none of a kind."""
    if "caught" in counts:
        hits, alarms = counts["caught"], counts["false_alarms"]
        positives = hits + counts["missed"] + counts["harmful_not_sure"]
        negatives = alarms + counts["passed"] + counts["harmless_not_sure"]
    else:
        hits, alarms = counts["right"], counts["wrong"]
        positives = hits + counts["right_not_sure"]
        negatives = alarms + counts["wrong_not_sure"]
    return alarms / max(negatives, 1), hits / max(positives, 1)


def _precision_at(curve: Rows, fpr: float, tpr: float) -> float | None:
    """Of the point of the curve that is there; None without a curve."""
    if not curve:
        return None
    far = np.abs(_numbers(curve, "fpr") - fpr) + np.abs(_numbers(curve, "tpr") - tpr)
    return float(_numbers(curve, "precision")[int(far.argmin())])


def _band(
    fpr: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """A band known at some fprs, between them no narrower than it may be: both rise with the fpr,
    so between two of them low is that of the left and high that of the right."""
    steps = np.repeat(high, 2)
    return np.repeat(fpr, 2)[1:], np.repeat(low, 2)[:-1], np.r_[steps[2:], steps[-1]]


def _chosen_row(rows: Rows, part: str, chosen: Record | None) -> Mapping[str, Any]:
    """The row of the cut that makes the chosen one's calls: the least that is no lower. Without
    one the row that answers all photos."""
    curve = _of(rows, part=part, by="largest" if chosen is None else chosen["by"])
    if chosen is None:
        return curve[0]
    no_lower = [row for row in curve if int(row["cut_q"]) >= chosen["cut_q"]]
    return no_lower[0] if no_lower else curve[-1]


def _of(rows: Rows, **wanted: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def _decision(rows: Rows, variant: str, part: str) -> list[Mapping[str, Any]]:
    return _of(rows, variant=variant, part=part, of="decision")


def _numbers(rows: Rows, key: str) -> NDArray[np.float64]:
    return np.array([float(row[key]) for row in rows])


def _reach(from_the_corner: Iterable[float]) -> float:
    """How much of an axis to show, so that these are well inside."""
    return min(max(1.6 * max(from_the_corner), 0.1), 1.0)


def _frame(across: float, up: float) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((0, 1 - up), across, up, fill=False, color="black", linewidth=0.8)


def _percent_axes(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _legend(figure: Figure, axes: Axes, *, columns: int = 1) -> None:
    """Of one of several panels that show the same, below them all, so that it covers nothing."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=8.5,
                  ncols=columns, frameon=False)  # fmt: skip
