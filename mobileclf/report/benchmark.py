"""What `mobileclf bench` shows: a table for each runtime, then what the figures do not say."""

from __future__ import annotations

from rich.console import Console

from mobileclf.records import Record
from mobileclf.wording import counted

from .table import table, text

MEGABYTE = 1e6
LEAST_WIDTH = 100
COLUMNS = ("model", "kernels", "thr.", "median\nms", "p90\nms", "ratio [interval]",
           "memory\nMB", "file\nMB")  # fmt: skip


def show(record: Record, *, console: Console | None = None) -> None:
    """Print the tables of a record of `bench`."""
    out = console or Console(highlight=False)
    if not out.is_terminal:
        out.width = max(out.width, LEAST_WIDTH)
    sizes = {model["model"]: model["bytes"] for model in record["models"]}
    about = record["machine"]
    for runtime in about["runtimes"]:
        rows = [
            _cells(row, sizes[row["model"]])
            for row in record["configurations"]
            if row["runtime"] == runtime.split(" ")[0] and "problem" not in row
        ]
        if rows:
            out.print(table(runtime, COLUMNS, rows))
    lines = [f"{about['cpu']}, {counted(about['cores'], 'core')}, {about['system']}"]
    lines += ["ratio: to " + _reference(record) + "; memory: peak over the imported runtime's"]
    lines += [f"note: {note}" for note in record["notes"]]
    lines += [f"~ not steady: {reason}" for reason in record["reasons"]]
    for line in lines:
        out.print(text(line), soft_wrap=True)


def _reference(record: Record) -> str:
    first = record["models"][0]["model"]
    if len(record["models"]) > 1:
        return f"{first} in the same configuration"
    return f"the first row of {first}"


def _cells(row: Record, size: int) -> tuple[object, ...]:
    mark = "~" if row["trouble"] else ""
    return (
        row["model"],
        row["kernels"] if row["delegates"] or row["kernels"] == "builtin" else "built-in",
        row["threads"],
        mark + _short(row["median_ms"]),
        _short(row["p90_ms"]),
        _ratio(row, mark),
        f"{row['memory_bytes'] / MEGABYTE:.1f}",
        f"{size / MEGABYTE:.1f}",
    )


def _ratio(row: Record, mark: str) -> str | None:
    ratio = row["ratio"]
    if ratio is None:
        return None
    if ratio["interval"] is None:
        return f"{mark}{ratio['median']:#.3g}"
    low, high = ratio["interval"]
    return f"{mark}{ratio['median']:#.3g} [{low:#.3g}, {high:#.3g}]"


def _short(milliseconds: float) -> str:
    """Three digits, without an exponent."""
    if milliseconds >= 100:
        return f"{milliseconds:.0f}"
    return f"{milliseconds:#.3g}" if milliseconds >= 0.001 else f"{milliseconds:.6f}"
