"""Pictures of a run: what is drawn is what the records say, where it belongs."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mobileclf.errors import DataError
from mobileclf.report import figures

LABELS = ("a", "b", "c")
FLOAT = [[9, 1, 0], [2, 8, 0], [0, 0, 4]]
INT8 = [[10, 0, 0], [2, 8, 0], [1, 0, 3]]


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
    areas = {name: {"threshold": area, "test": area} for name in ("float", "int8")}
    point = {"threshold_q": 95, "tpr": tpr, "fpr": fpr, "j": tpr - fpr, "warning": None}
    decision = {"group": group, "threshold_q": 95}
    write("threshold.json", {
        "chosen_on": "threshold", "rule": "group" if group else "minimum confidence",
        "decision": decision, "operating_point": {"float": point, "int8": point}, "auc": areas,
    })  # fmt: skip
    corners = [(0.0, 0.0), (0.0, 0.5), (fpr, tpr), (1.0, 1.0)]
    table("roc.csv", [
        {"variant": name, "part": part, "threshold": "0.5", "fpr": x, "tpr": y}
        for name in areas for part in areas[name] for x, y in corners
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


def bytes_of(colour: Any) -> tuple[int, ...]:
    return tuple(round(255 * v) for v in to_rgb(colour))


@pytest.mark.parametrize(("fpr", "tpr"), [(0.25, 0.75), (0.0, 1.0), (0.6, 0.7)])
def test_the_operating_point_is_drawn_where_it_is(tmp_path: Path, fpr: float, tpr: float) -> None:
    run = make_run(tmp_path, fpr=fpr, tpr=tpr)
    figure, pixels = canvas_of(figures._roc, run)
    (axes,) = figure.axes
    red = bytes_of(figures.RED)
    assert colour_at(pixels, axes, fpr, tpr) == red
    height = pixels.shape[0]
    rows, columns = np.nonzero((pixels == red).all(axis=2))
    # The middle of all red outside the legend; at the rim of the axes too it is whole.
    legend = axes.get_legend().get_window_extent()
    outside = ~((columns > legend.x0) & (height - rows < legend.y1))
    at = axes.transData.transform((fpr, tpr))
    assert columns[outside].mean() == pytest.approx(at[0], abs=1.5)
    assert height - rows[outside].mean() == pytest.approx(at[1], abs=1.5)


def test_the_picture_of_a_curve_is_what_the_canvas_held(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    picture = figures.roc(run)
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), canvas_of(figures._roc, run)[1])


@pytest.mark.parametrize("name", ["confusion", "roc", "history"])
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
    figure, _ = canvas_of(figures._roc, make_run(tmp_path, area=0.8765))
    written = texts(figure)
    assert "int8, test photos: AUC 0.8765" in written
    assert "chosen: 95 of 256, TPR 75.0 %, FPR 25.0 %" in written
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
    figure, _ = canvas_of(figures._roc, run)
    assert f"harmful: {label}" in texts(figure)


def test_a_label_that_no_font_has_is_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(figures, "FONTS", ("no such font.ttf",))
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
    held = figures._characters.__wrapped__
    monkeypatch.setattr(figures, "FONTS", ("none.ttf", wide))
    monkeypatch.setattr(figures, "_path_of", lambda name: name if name == wide else None)
    monkeypatch.setattr(
        figures, "_characters", lambda path: frozenset("毒") if path == wide else held(path)
    )
    text, font = figures._with_font("毒")
    assert (text, font.get_file()) == ("毒", wide)
    assert figures._with_font("Гриб")[1].get_file().endswith("DejaVuSans.ttf")


def test_a_long_label_is_cut_in_its_middle(tmp_path: Path) -> None:
    run = make_run(tmp_path, labels=("A" * 50 + "Z" * 50, "b", "c"))
    figure, _ = canvas_of(figures._confusion, run, "test")
    shown = figure.axes[0].get_yticklabels()[0].get_text()
    assert len(shown) <= figures.MOST_LETTERS and shown.startswith("AA") and shown.endswith("ZZ")


def test_history_marks_the_epoch_that_was_kept(tmp_path: Path) -> None:
    figure, pixels = canvas_of(figures._history, make_run(tmp_path))
    for axes in figure.axes:
        box = axes.get_window_extent()
        # Near the bottom of the axes nothing else is drawn but the grid.
        left, right = int(box.x0), int(box.x1)
        row = pixels[pixels.shape[0] - 1 - int(box.y0 + 6), left:right].astype(int)
        redness = row[:, 0] - row[:, 1]
        assert redness.max() > 150
        there = axes.transData.transform((2, 0))[0]
        assert left + int(redness.argmax()) == pytest.approx(there, abs=1)


@pytest.mark.parametrize("name", ["confusion", "roc", "history"])
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
        "for draw in (figures.confusion, figures.roc, figures.history): draw(sys.argv[1])\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
