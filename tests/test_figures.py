"""Pictures of a run: what is drawn is what the records say, where it belongs."""

from __future__ import annotations

import csv
import json
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from mobileclf.errors import DataError
from mobileclf.report import curves, figures, lettering

LABELS = ("a", "b", "c")
CURVES = ("roc", "precision_recall", "reliability", "abstain")
FLOAT = [[9, 1, 0], [2, 8, 0], [0, 0, 4]]
INT8 = [[10, 0, 0], [2, 8, 0], [1, 0, 3]]


def threshold_record(
    *,
    group: str | None = "NotEdible",
    fpr: float = 0.25,
    tpr: float = 0.75,
    area: float | None = 0.9,
    abstain: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A `threshold.json` with all that is drawn and shown of it."""

    def each(value: Any) -> dict[str, Any]:
        return {name: {part: value for part in ("threshold", "test")} for name in ("float", "int8")}

    point = {"threshold_q": 95, "threshold": 95 / 256, "tpr": tpr, "fpr": fpr, "j": tpr - fpr,
             "warning": None, "abstain": abstain}  # fmt: skip
    group_counts = {"n": 20, "caught": 5, "missed": 2, "harmful_not_sure": 1, "false_alarms": 6,
                    "passed": 4, "harmless_not_sure": 2}  # fmt: skip
    answers = {"n": 20, "right": 12, "right_not_sure": 4, "wrong": 1, "wrong_not_sure": 3}
    bins = {"confidence": [0.5, 0.9], "accuracy": [0.6, 1.0], "low": [0.4, 0.7],
            "high": [0.8, 1.0], "photos": [10, 10]}  # fmt: skip
    calibrated = {"ece": 0.0612, "brier": 0.25, "bins": bins}
    interval = {"delong": [0.8, 0.95], "bootstrap": [0.81, 0.96], "units": 18}
    return {
        "chosen_on": "threshold", "rule": "group" if group else "minimum confidence",
        "policy": {"name": "fix-tpr", "tpr": 0.75},
        "decision": {"group": group, "threshold_q": 95, "threshold": 95 / 256,
                     "kernel_bound": 3, "abstain": abstain},
        "operating_point": {"float": {**point, "threshold_q": 96}, "int8": point},
        "auc": each(area),
        "intervals": each(interval if area else None),
        "average_precision": each(area),
        "one_against_rest": each({"classes": {}, "macro": 0.83, "weighted": None}),
        "guarantee": None,
        "abstain": None,
        "purpose": "real",
        "test": {name: group_counts if group else answers for name in ("float", "int8", "builtin")},
        "calibration": {"part": "test", "temperature": 0.84, "variants": {
            name: calibrated for name in ("float before temperature", "float", "int8")}},
        "others": None,
        "warnings": [],
    }  # fmt: skip


def make_run(
    folder: Path,
    *,
    labels: tuple[str, ...] = LABELS,
    counts: tuple[Any, Any] = (FLOAT, INT8),
    group: str | None = "NotEdible",
    fpr: float = 0.25,
    tpr: float = 0.75,
    area: float | None = 0.9,
) -> Path:
    """The records that figures read, with no more in them than that."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, record: object) -> None:
        (folder / name).write_text(json.dumps(record))

    def table(name: str, rows: list[dict[str, object]]) -> None:
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write("dataset.json", {"labels": [{"label": label, "group": group} for label in labels]})
    write("selection.json", {"selected": "stock"})
    variants = {}
    for name, found in zip(("float", "stock.xnnpack"), counts, strict=True):
        square = np.array(found)
        right = float(np.trace(square) / max(square.sum(), 1))
        part = {"n": int(square.sum()), "accuracy": right, "confusion": square.tolist()}
        variants[name] = {"parts": {"test": part}}
    write("metrics.json", {"variants": variants})
    write("threshold.json", threshold_record(group=group, fpr=fpr, tpr=tpr, area=area))
    corners = [(0.0, 0.0), (0.0, 0.5), (fpr, tpr), (1.0, 1.0)]
    table("roc.csv", [
        {"variant": name, "part": part, "of": of, "threshold": "0.5", "fpr": x, "tpr": y,
         "precision": 1 - x / 2, "hull": "no" if y == 0.5 else "yes",
         "low": max(y - 0.2, 0) if of == "decision" else "",
         "high": min(y + 0.1, 1) if of == "decision" else ""}
        for name in ("float", "int8") for part in ("threshold", "test")
        for of in ("decision", "class:a") for x, y in corners
    ])  # fmt: skip
    if group:
        table("abstain.csv", [
            {"part": part, "by": by, "cut_q": cut, "answered": answered, "missed": missed,
             "n": 20, "harmful": 8}
            for part in ("threshold", "test") for by in ("largest", "margin", "score")
            for cut, answered, missed in ((10, 20, 4), (40, 16, 2), (90, 12, 0))
        ])  # fmt: skip
    write("train.json", {"best_epoch": 2})
    table("history.csv", [
        {"epoch": i, "phase": "head" if i < 3 else "fine-tuning", "accuracy": i / 4, "loss": 1 / i,
         "val_accuracy": i / 5, "val_loss": 1.2 / i}
        for i in (1, 2, 3)
    ])  # fmt: skip
    return folder


def canvas_of(draw: Any, *arguments: Any) -> tuple[Any, np.ndarray]:
    """The figure, for its transforms, and its pixels (height, width, 3)."""
    canvas = figures._canvas(lambda figure: draw(figure, *arguments))
    return canvas.figure, np.asarray(canvas.buffer_rgba())[:, :, :3]


def colour_at(pixels: np.ndarray, axes: Any, x: float, y: float) -> tuple[int, ...]:
    """The pixel where a point of the data lies."""
    across, up = axes.transData.transform((x, y))
    return tuple(int(v) for v in pixels[pixels.shape[0] - 1 - int(up), int(across)])


def curve_of(draw: Any) -> Any:
    """What draws it from a run's folder."""
    file = {"draw_abstain": "abstain.csv", "draw_reliability": None}.get(draw.__name__, "roc.csv")
    return lambda figure, run: figures._curve(draw, figure, run, file)


def bytes_of(colour: Any) -> tuple[int, ...]:
    return tuple(round(255 * v) for v in to_rgb(colour))


@pytest.mark.parametrize(("fpr", "tpr"), [(0.25, 0.75), (0.0, 1.0), (0.6, 0.7)])
def test_the_operating_point_is_drawn_where_it_is(tmp_path: Path, fpr: float, tpr: float) -> None:
    run = make_run(tmp_path, fpr=fpr, tpr=tpr)
    figure, pixels = canvas_of(curve_of(curves.draw_roc), run)
    red, height = bytes_of(lettering.RED), pixels.shape[0]
    # What it does on test is drawn too.
    assert colour_at(pixels, figure.axes[-1], 6 / 12, 5 / 8) == bytes_of(lettering.BLUE)
    for axes in figure.axes:
        assert colour_at(pixels, axes, fpr, tpr) == red
        # The middle of all red of the axes; at the rim too it is whole.
        rows, columns = np.nonzero((pixels == red).all(axis=2))
        box = axes.get_window_extent().padded(9)
        inside = (columns > box.x0) & (columns < box.x1) & (height - rows > box.y0)
        at = axes.transData.transform((fpr, tpr))
        assert columns[inside].mean() == pytest.approx(at[0], abs=1.5)
        assert height - rows[inside].mean() == pytest.approx(at[1], abs=1.5)


def test_points_that_crowd_are_drawn_close_up(tmp_path: Path) -> None:
    close = threshold_record(fpr=0.02, tpr=0.97)
    close["test"]["int8"] = {**close["test"]["int8"], "caught": 200, "false_alarms": 0}
    rows = [
        {"variant": name, "part": part, "of": "decision", "fpr": x, "tpr": x, "precision": 1,
         "hull": "yes", "low": "", "high": ""}
        for name in ("float", "int8") for part in ("threshold", "test") for x in (0, 1)
    ]  # fmt: skip
    figure, _ = canvas_of(curves.draw_roc, close, rows)
    whole, near = figure.axes
    assert whole.get_xlim() == whole.get_ylim() == (0, 1)
    assert near.get_xlim() == pytest.approx((0, 0.1)) and near.get_ylim() == pytest.approx((0.9, 1))
    figure, _ = canvas_of(curves.draw_roc, threshold_record(fpr=0.4), rows)
    assert len(figure.axes) == 1


@pytest.mark.parametrize("name", CURVES)
def test_no_legend_lies_over_a_curve(tmp_path: Path, name: str) -> None:
    draw = getattr(curves, f"draw_{name}")
    figure, _ = canvas_of(curve_of(draw), make_run(tmp_path))
    labels = [axes.xaxis.label.get_window_extent() for axes in figure.axes]
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
        assert not any(box.overlaps(label) for label in labels)
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert bool(figure.legends) is (name != "reliability")


def test_the_band_is_shaded_and_no_narrower_between_its_points() -> None:
    fpr, low, high = np.array([0.0, 0.5, 1.0]), np.array([0, 0.4, 0.8]), np.array([0.3, 0.9, 1])
    x, below, above = curves._band(fpr, low, high)
    # Just right of 0 the lower side is that of 0, the upper one that of 0.5.
    assert list(zip(x, below, above, strict=True)) == [
        (0, 0, 0.9), (0.5, 0, 0.9), (0.5, 0.4, 1), (1, 0.4, 1), (1, 0.8, 1)]  # fmt: skip


def test_the_band_and_the_hull_are_of_the_decision_on_the_threshold_photos(tmp_path: Path) -> None:
    figure, _ = canvas_of(curve_of(curves.draw_roc), make_run(tmp_path, fpr=0.4))
    (axes,) = figure.axes
    (band,) = axes.collections
    path = band.get_paths()[0].vertices
    assert {(0.4, 0.55), (0.0, 0.6)} <= {tuple(point) for point in path.round(6)}
    hulls = [line for line in axes.lines if "hull" in str(line.get_label())]
    assert [len(line.get_xdata()) for line in hulls] == [3]


@pytest.mark.parametrize(
    ("abstain", "place", "words"),
    [
        (None, (1.0, 0.5), "“not sure”: never"),
        ({"by": "margin", "cut_q": 31}, (0.8, 0.25),
         "“not sure”: largest less second under 31 of 256"),
        ({"by": "largest", "cut_q": 40}, (0.8, 0.25), "“not sure”: largest output under 40 of 256"),
        ({"by": "score", "cut_q": 64}, (0.6, 0.0), "“not sure”: from 32 to 94 of 256"),
        ({"by": "score", "cut_q": 95}, (0.6, 0.0), "“not sure”: from 1 to 94 of 256"),
    ],
)  # fmt: skip
def test_the_chosen_cut_is_where_its_calls_are(
    tmp_path: Path, abstain: Any, place: tuple[float, float], words: str
) -> None:
    run = make_run(tmp_path)
    (run / "threshold.json").write_text(json.dumps(threshold_record(abstain=abstain)))
    figure, pixels = canvas_of(curve_of(curves.draw_abstain), run)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        assert colour_at(pixels, axes, *place) == bytes_of(lettering.RED)
        shown = axes.get_title()
        assert f"{100 * place[0]:.1f} % answered" in shown
        assert f"{round(8 * place[1])} harmful called harmless" in shown
    assert words in texts(figure)


def test_precision_at_the_point_is_that_of_the_curve(tmp_path: Path) -> None:
    figure, _ = canvas_of(curve_of(curves.draw_precision_recall), make_run(tmp_path))
    assert "int8 ships with: precision 87.5 %, recall 75.0 %" in texts(figure)
    assert "said of every photo: 50.0 %" in texts(figure)
    # Steps back from each recall: the average precision is the area under them.
    drawn = [line for line in figure.axes[0].lines if "average" in str(line.get_label())]
    assert [line.get_drawstyle() for line in drawn] == ["steps-pre"] * 3


def test_the_bins_of_a_reliability_diagram_are_where_they_are(tmp_path: Path) -> None:
    figure, pixels = canvas_of(curve_of(curves.draw_reliability), make_run(tmp_path))
    assert len(figure.axes) == 3
    for axes in figure.axes:
        for at in ((0.5, 0.6), (0.9, 1.0), (0.5, 0.45), (0.9, 0.75)):
            drawn = colour_at(pixels, axes, *at)
            assert drawn == pytest.approx(bytes_of(lettering.BLUE), abs=60)  # its edge is soft
        assert "ECE 0.061, Brier 0.250" in axes.get_title()
    assert "20 test photos, 2 bins" in texts(figure) and "temperature 0.840" in texts(figure)


def test_what_is_drawn_of_a_threshold(tmp_path: Path) -> None:
    record = threshold_record()
    names = ["roc.png", "precision_recall.png", "reliability.png"]
    assert list(curves.drawings(record, [], [])) == names
    assert list(curves.drawings(record, [], [{}])) == [*names, "abstain.png"]
    make_run(tmp_path)
    rows = [list(csv.DictReader((tmp_path / f"{n}.csv").open())) for n in ("roc", "abstain")]
    drawn = curves.drawings(record, *rows)["abstain.png"]
    picture = Image.open(BytesIO(figures.written(drawn, "png"))).convert("RGB")
    assert picture.tobytes() == figures.abstain(tmp_path).tobytes()


def test_without_a_harmful_group_there_is_nothing_of_cuts(tmp_path: Path) -> None:
    run = make_run(tmp_path, group=None)
    figures.roc(run)
    figures.precision_recall(run)
    with pytest.raises(DataError, match=r"abstain\.csv.*--harmful"):
        figures.abstain(run)


def test_the_picture_of_a_curve_is_what_the_canvas_held(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    picture = figures.roc(run)
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), canvas_of(curve_of(curves.draw_roc), run)[1])


@pytest.mark.parametrize("name", ["confusion", "history", *CURVES])
def test_equal_records_give_equal_bytes_whatever_is_set_up(tmp_path: Path, name: str) -> None:
    import matplotlib

    draw = getattr(figures, name)
    run = make_run(tmp_path)
    first = draw(run).tobytes()
    changed = {"font.size": 31.0, "axes.facecolor": "black", "text.color": "green"}
    with matplotlib.rc_context(changed):
        assert draw(str(run)).tobytes() == first
        assert {key: matplotlib.rcParams[key] for key in changed} == changed


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("confusion", {"counts": (FLOAT, FLOAT)}),
        ("confusion", {"labels": ("a", "b", "d")}),
        ("roc", {"tpr": 0.8}),
        ("roc", {"area": 0.8}),
        ("roc", {"area": None}),
        ("roc", {"group": "Poison"}),
        ("roc", {"group": None}),
    ],
)
def test_other_records_give_another_picture(tmp_path: Path, name: str, change: Any) -> None:
    draw = getattr(figures, name)
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other", **change)
    assert draw(one).tobytes() != draw(other).tobytes()


def test_each_cell_has_the_colour_of_its_share_of_the_row(tmp_path: Path) -> None:
    import matplotlib

    run = make_run(tmp_path, counts=(FLOAT, [[5, 5, 0], [0, 0, 0], [1, 0, 3]]))
    figure, pixels = canvas_of(figures._confusion, run, "test")
    blues = matplotlib.colormaps["Blues"]
    shown = (FLOAT, [[5, 5, 0], [0, 0, 0], [1, 0, 3]])
    for axes, counts in zip(figure.axes[:2], shown, strict=True):
        for (row, column), count in np.ndenumerate(np.array(counts)):
            share = count / max(sum(counts[row]), 1)
            corner = colour_at(pixels, axes, column - 0.35, row - 0.35)
            # The colours are 256 steps; one step of the share is one of up to 3 in a channel.
            assert corner == pytest.approx(bytes_of(blues(share)), abs=3), (row, column)


def texts(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_counts_and_numbers_are_written(tmp_path: Path) -> None:
    figure, _ = canvas_of(figures._confusion, make_run(tmp_path), "test")
    found = [text.get_text() for axes in figure.axes[:2] for text in axes.texts]
    assert found == ["9", "1", "2", "8", "4", "10", "2", "8", "1", "3"]
    assert "float: 87.5 % right" in texts(figure)
    figure, _ = canvas_of(curve_of(curves.draw_roc), make_run(tmp_path, area=0.8765))
    written = texts(figure)
    assert "int8, test photos: AUC 0.8765 (0.800 to 0.950)" in written
    assert "int8 ships with 95 of 256: caught 75.0 %, false alarms 25.0 %" in written
    assert "float’s own: 96 of 256: caught 75.0 %" in written
    assert "what ships, on test: caught 62.5 %, false alarms 50.0 %" in written
    assert "harmful: NotEdible" in written


@pytest.mark.parametrize("many", [16, 100])
def test_many_classes_stay_readable(tmp_path: Path, many: int) -> None:
    labels = tuple(f"Species_number_{i}" for i in range(many))
    square = np.eye(many, dtype=int) * 12
    run = make_run(tmp_path, labels=labels, counts=(square, square))
    figure, pixels = canvas_of(figures._confusion, run, "test")
    assert max(pixels.shape) < 2500
    assert ("left out" in texts(figure)) is (many == 100)
    assert bool(figure.axes[0].texts) is (many == 16)
    for axis in (figure.axes[0].xaxis, figure.axes[1].xaxis, figure.axes[0].yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert len(boxes) >= 16
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    whole = figure.bbox
    for axes in figure.axes[:2]:
        for label in axes.get_xticklabels():
            box = label.get_window_extent()
            assert whole.y0 <= box.y0 and box.y1 <= axes.get_window_extent().y0


@pytest.mark.parametrize("label", ["$x^2$", r"a_b^c\frac{1}{2}", "50% $ off", "{", "$", "%d"])
def test_marks_of_mathematics_are_only_marks(tmp_path: Path, label: str) -> None:
    run = make_run(tmp_path, labels=(label, "b", "c"), group=label)
    figure, _ = canvas_of(figures._confusion, run, "test")
    named = figure.axes[0].get_yticklabels()[0]
    assert named.get_text() == label and not named.get_parse_math()
    figure, _ = canvas_of(curve_of(curves.draw_roc), run)
    assert f"harmful: {label}" in texts(figure)


def test_a_label_that_no_font_has_is_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(lettering, "FONTS", ("no such font.ttf",))
    run = make_run(tmp_path, labels=("毒蘑菇", "香菇", "Гриб"), group="毒")
    figure, _ = canvas_of(figures._confusion, run, "test")
    shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert shown == ["\\u6bd2\\u8611\\u83c7", "\\u9999\\u83c7", "Гриб"]
    figures.roc(run)
    assert not [w for w in recwarn if "lyph" in str(w.message)]  # "Glyph 27602 missing"


def test_a_font_of_the_system_is_used_where_it_has_the_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = "wide.ttf"
    held = lettering.characters.__wrapped__
    monkeypatch.setattr(lettering, "FONTS", ("none.ttf", wide))
    monkeypatch.setattr(lettering, "path_of", lambda name: name if name == wide else None)
    monkeypatch.setattr(
        lettering, "characters", lambda path: frozenset("毒") if path == wide else held(path)
    )
    text, font = lettering.with_font("毒")
    assert (text, font.get_file()) == ("毒", wide)
    assert lettering.with_font("Гриб")[1].get_file().endswith("DejaVuSans.ttf")


def test_a_long_label_is_cut_in_its_middle(tmp_path: Path) -> None:
    run = make_run(tmp_path, labels=("A" * 50 + "Z" * 50, "b", "c"))
    figure, _ = canvas_of(figures._confusion, run, "test")
    shown = figure.axes[0].get_yticklabels()[0].get_text()
    assert len(shown) <= lettering.MOST_LETTERS and shown.startswith("AA") and shown.endswith("ZZ")


def test_history_marks_the_epoch_that_was_kept(tmp_path: Path) -> None:
    figure, pixels = canvas_of(figures._history, make_run(tmp_path))
    for axes in figure.axes:
        box = axes.get_window_extent()
        # Near the bottom of the axes nothing else is drawn but the grid.
        left, right = int(box.x0), int(box.x1)
        row = pixels[pixels.shape[0] - 1 - int(box.y0 + 6), left:right].astype(int)
        redness = row[:, 0] - row[:, 1]
        assert redness.max() > 100
        there = axes.transData.transform((2, 0))[0]
        assert left + int(redness.argmax()) == pytest.approx(there, abs=1)


@pytest.mark.parametrize("name", ["confusion", "history", *CURVES])
def test_a_folder_without_records_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"(dataset|threshold|train)\.json"):
        getattr(figures, name)(tmp_path)


def test_a_part_that_is_none_or_not_scored_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    with pytest.raises(DataError, match="wanted one of the parts train, .* found 'tests'"):
        figures.confusion(run, "tests")
    with pytest.raises(DataError, match="wanted float scored on validation, found none"):
        figures.confusion(run, "validation")


def test_nothing_of_pyplot_is_touched(tmp_path: Path) -> None:
    import subprocess
    import sys

    run = make_run(tmp_path)
    code = (
        "import sys; from mobileclf.report import figures\n"
        "d = figures.confusion, figures.roc, figures.history, figures.abstain\n"
        "for draw in d: draw(sys.argv[1])\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
