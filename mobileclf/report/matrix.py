"""The matrix as tables: on the screen, and as Markdown for a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType

from mobileclf.matrix import MATRIX, TIMES
from mobileclf.records import Record, read_json
from mobileclf.wording import counted

from .table import percent, table, text

MEGABYTE = 1e6
LITERT, TENSORFLOW = "ai-edge-litert", "tensorflow"
COLUMNS = ("variant", "runtime", "kernels", "threads", "photos", "right", "as float",
           "lost / won", "latency", "MB")  # fmt: skip
MOST_REASON = 90  # characters of a runtime's own words


def read(folder: Path) -> tuple[Record, Record | None]:
    """The matrix of a run and its latencies, None where they were not measured."""
    times = folder / TIMES
    return read_json(folder / MATRIX), read_json(times) if times.exists() else None


def show(record: Record, times: Record | None = None) -> RenderableType:
    """Tables of a `matrix.json`, and what they do not say."""
    made = table(title(record), COLUMNS, rows(record, times))
    return Group(made, *(text(line) for line in notes(record, times)))


def markdown(record: Record, times: Record | None = None) -> str:
    """The same as Markdown, ending in a newline."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    for row in rows(record, times):
        cells = ("–" if cell is None else str(cell) for cell in row)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", *(f"- {note}" for note in notes(record, times))]
    return "\n".join(lines) + "\n"


def title(record: Record) -> str:
    return f"variants on runtimes, {record['photos']} {record['part']} photos"


def rows(record: Record, times: Record | None) -> list[tuple[object, ...]]:
    """A row for each variant, runtime and kernels. More threads and TensorFlow are in it where
    they gave the same bytes, on as many photos or fewer; the figures are those of the first. What
    a runtime cannot take is one row for all its kernels."""
    found: list[tuple[object, ...]] = []
    for group in _together(record["entries"]):
        first = group[0]
        runtimes = dict.fromkeys(entry["runtime"] for entry in group)
        name = (first["variant"], ", ".join(runtimes))
        if "problem" in first:
            found.append((*name, "–", None, None, f"cannot: {_cut(first['problem'])}",
                          None, None, None, _size(first)))  # fmt: skip
            continue
        ran = first["kernels"] if first["family"].startswith(first["kernels"]) else "builtin *"
        counts = dict.fromkeys(str(row["threads"]) for row in group if row["threads"])
        threads = ", ".join(counts) or None
        found.append(
            (*name, ran, threads, first["photos"], percent(first["accuracy"]),
             percent(first["agreement"]), f"{first['lost']} / {first['won']}",
             _latency(group, times), _size(first))
        )  # fmt: skip
    return found


def notes(record: Record, times: Record | None) -> list[str]:
    """What holds of the pairs, what is not there, and what the latencies are."""
    held = [pair for pair in record["identity"] if pair["bound"] is not None]
    bytes_ = [pair for pair in held if pair["bound"] == 0]
    found = [
        f"{sum(p['passed'] for p in bytes_)} of {len(bytes_)} pairs that must be the same bytes "
        f"are; {sum(p['passed'] for p in held if p['bound'])} of {len(held) - len(bytes_)} others "
        "are within their bounds"
    ]
    found += [
        f"FAILED: {p['what']}: {p['largest_difference']} apart on {p['photos']} photos, "
        f"wanted at most {p['bound']:g}"
        for p in held
        if not p["passed"]
    ]
    if any("builtin *" in map(str, row) for row in rows(record, times)):
        found.append("* asked for XNNPACK, which takes nothing of it")
    found.append(f"on {', '.join(record['runtimes'])}")
    absent = record["absent"]
    found += [f"not installed: {name}" for name in absent["runtimes"]]
    found += [f"not converted: {name} (--{name})" for name in absent["variants"]]
    if times and times["reference"]:
        about = times["reference"]
        found.append(
            f"latency: to {about['variant']} on {about['runtime']}, {about['kernels']}, "
            f"{about['threads']} thread, on {times['machine']['cpu']}; ~ not known to ±5 %"
        )
        if times["problem"]:
            found.append(f"no latencies: {times['problem']}")
    return found


def _together(entries: Sequence[Record]) -> list[list[Record]]:
    """Those that one row stands for: of the same kernels with the same outputs, whatever was
    asked for; and the kernels of a runtime that cannot take the variant for one reason."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for entry in entries:
        groups.setdefault(_place(entry), []).append(entry)
    return list(groups.values())


def _place(entry: Record) -> tuple[object, ...]:
    # TensorFlow's interpreter, which is not timed, is in LiteRT's row where it gave the same.
    runtime = entry["runtime"] if entry["runtime"] != TENSORFLOW else LITERT
    if "problem" in entry:
        return (entry["variant"], entry["runtime"], entry["problem"])
    own = f"{entry['runtime']}, {entry['kernels']}, {counted(entry['threads'] or 0, 'thread')}"
    return (entry["variant"], runtime, entry["family"], entry["identical_to"] or own)


def _latency(group: Sequence[Record], times: Record | None) -> str | None:
    keys = ("variant", "runtime", "kernels", "threads")
    shown = []
    for entry in group:
        for row in times["rows"] if times else ():
            if all(row[key] == entry[key] for key in keys):
                mark = "~" if row["trouble"] else ""
                ratio = 1.0 if row["ratio"] is None else row["ratio"]
                shown.append(f"{mark}{ratio:.2f}")
    return ", ".join(shown) or None


def _size(entry: Record) -> str | None:
    return None if entry["bytes"] is None else f"{entry['bytes'] / MEGABYTE:.1f}"


def _cut(words: str) -> str:
    return words if len(words) <= MOST_REASON else words[: MOST_REASON - 1] + "…"
