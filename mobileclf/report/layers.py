"""What `mobileclf inspect --explain` shows: tables on stdout, and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from mobileclf.records import Record, write_bytes
from mobileclf.wording import counted

from .figures import written
from .lettering import BLUE, GREY, RED
from .table import facts, table, text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = (".png", ".svg")
MOST_NAMED = 8  # falls, the largest, with their names in the picture
LEAST_APART = 60  # names beside each other at most
EXACT = "exact"
BORDER = 3  # characters of a table that each column has beside its values


def show(record: Record) -> None:
    """Print the record of `mobileclf.layers.explain`."""
    console = Console(soft_wrap=False, highlight=False)
    for made in tables(record, console.width):
        console.print(made)


def tables(record: Record, width: int) -> Iterator[Table]:
    """Every layer, then what follows from them. width: of the screen, in characters."""
    rows = record["layers"]
    yield _fitting(
        "signal to noise, dB",
        ("layer", "output", "input", "fall", "cause", "kernel", "weights", "grid"),
        [_noise(row) for row in rows],
        ("kernel", "weights", "grid"),
        width,
    )
    yield _fitting(
        "ranges of the outputs",
        ("layer", "int8", "float", "clipped", "reach"),
        [_ranges(row) for row in rows],
        ("reach", "float"),
        width,
    )
    if record["untold"]:
        yield table(
            f"not told which layer: {counted(len(record['untold']), 'operator')}",
            ("operator", "tensor", "why"),
            [(row["operator"], _short(row["tensor"]), row["why"]) for row in record["untold"]],
        )
    yield facts("what falls", _summary(record))


def _fitting(
    title: str,
    columns: Sequence[str],
    rows: Sequence[tuple[object, ...]],
    spare: Sequence[str],
    width: int,
) -> Table:
    """A table without as many of the `spare` columns, in their order, as it takes to keep every
    value on one line; the title says which."""
    shown = [[text(value).cell_len for value in row] for row in (columns, *rows)]
    widths = dict(zip(columns, map(max, zip(*shown, strict=True)), strict=True))
    left_out: list[str] = []
    for name in spare:
        if sum(widths[kept] + BORDER for kept in columns if kept not in left_out) + 1 > width:
            left_out.append(name)
    at = [i for i, name in enumerate(columns) if name not in left_out]
    if left_out:
        title += f" ({', '.join(left_out)}: on a wider screen, or with --json)"
    return table(title, [columns[i] for i in at], [[row[i] for i in at] for row in rows])


def _noise(row: Mapping[str, Any]) -> tuple[object, ...]:
    known = [each["snr_db"] for each in row["inputs"] if each["snr_db"] is not None]
    share = "" if row["cause_share"] is None else f" {100 * row['cause_share']:.0f} %"
    return (
        row["layer"],
        "silent" if row["snr_db"] is None and not row["exact"] else _decibels(row["snr_db"]),
        _decibels(min(known, default=None)),
        None if row["fall_db"] is None else f"{row['fall_db']:.1f}",
        f"{row['cause']}{share}" if row["falls"] else None,
        *(row[key] and f"{row[key]:.1f}" for key in ("kernel_db", "weights_db", "grid_db")),
    )


def _decibels(ratio: float | None) -> str:
    return EXACT if ratio is None else f"{ratio:.1f}"


def _ranges(row: Mapping[str, Any]) -> tuple[object, ...]:
    far = row["outlier"]
    return (
        row["layer"],
        row["range"] and _span(row["range"]),
        _span(row["float_range"]),
        f"{100 * row['clipped']:.2g} %" if row["clipped"] else None,
        far and f"{far['times_median']:.1f} ({far['channel']})",
    )


def _span(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3g} .. {ends[1]:.3g}"


def _summary(record: Record) -> dict[str, object]:
    found: dict[str, object] = {
        "file": record["model"],
        "beside": f"the {record['network']} network of {record['run']}",
        "photos": f"{record['photos']} of {record['part']}",
        "runtime": f"{record['runtime']}, kernels {record['kernels']}",
        "rule": record["rule"],
        **_falls(record),
        "worst": ", ".join(record["worst"]),
        "at the output": record["output_db"] and f"{record['output_db']:.1f} dB",
    }
    return found | {
        f"advice {i}" if i else "advice": line for i, line in enumerate(record["advice"])
    }


def _falls(record: Record) -> dict[str, object]:
    if record["first_fall"] is None:
        return {"first fall": "none", "nearest to a fall": record["nearest_to_a_fall"]}
    return {"first fall": record["first_fall"], "largest fall": record["largest_fall"]}


def _short(tensor: str) -> str:
    return tensor.partition(";")[0]


def draw(record: Record, path: Path) -> None:
    """Signal to noise of every layer's output against its depth, with the falls named.

    path: ends in one of KINDS, and is written whole. Equal records give equal bytes with one
    release of matplotlib.
    """
    write_bytes(path, written(partial(_drawn, record=record), path.suffix[1:]))


def _drawn(figure: Figure, record: Record) -> None:
    rows = [row for row in record["layers"] if row["snr_db"] is not None]
    figure.set_size_inches(10, 5)
    axes = figure.subplots()
    rounding = [row for row in rows if row["grid_db"] is not None]
    axes.plot(
        [row["depth"] for row in rounding], [row["grid_db"] for row in rounding], color=GREY,
        linewidth=0.8, label="float output, only put on the layer's grid",
    )  # fmt: skip
    axes.plot(
        [row["depth"] for row in rows], [row["snr_db"] for row in rows], color=BLUE, marker=".",
        linewidth=1, label="output of the file",
    )  # fmt: skip
    falls = sorted((row for row in rows if row["falls"]), key=lambda row: -row["fall_db"])
    if falls:
        axes.plot(
            [row["depth"] for row in falls], [row["snr_db"] for row in falls], color=RED,
            marker="o", linestyle="none", label="falls by a bit or more",
        )  # fmt: skip
    named: list[int] = []
    for row in falls[:MOST_NAMED]:
        if any(abs(row["depth"] - depth) < len(rows) / LEAST_APART for depth in named):
            continue  # one name over another could not be read
        named.append(row["depth"])
        axes.annotate(
            f"{row['layer']}: {row['fall_db']:.1f} dB, {row['cause']}",
            (row["depth"], row["snr_db"]), (0, -7), textcoords="offset points", color=RED,
            fontsize=8, va="top", ha="center", rotation=90, parse_math=False,
        )  # fmt: skip
    axes.set(xlabel="operator, in the order they run in", ylabel="signal to noise, dB")
    axes.set_ylim(bottom=axes.get_ylim()[0] - (18 if falls else 0))  # room for the names
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8)
    axes.set_title(
        f"{Path(record['model']).name} beside the float network, "
        f"{counted(record['photos'], 'photo')} of {record['part']}",
        fontsize=11, parse_math=False,
    )  # fmt: skip
