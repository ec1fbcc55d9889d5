"""What `doctor` found: a table a section, then what to do, the most pressing first."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from mobileclf.records import Record

from .table import table, text

# Words say it all; colours only help to find them.
STYLES = {"ok": "green", "warning": "yellow", "missing": "red", "wrong": "bold red",
          "optional": "dim"}  # fmt: skip
COLUMNS = ("what", "state", "found", "wanted")


def show(record: Record) -> None:
    """Print the tables and the list on stdout."""
    console = Console(highlight=False)
    for section in dict.fromkeys(line["section"] for line in record["lines"]):
        console.print(_section(section, record))
    todo = _todo(record)
    if todo:
        # Not wrapped: these lines are there to be copied.
        console.print("what to do")
        for what, do in todo:
            console.print(text(f"  {what}: {do}"), soft_wrap=True)
    console.print("ready for the main job" if record["ready"] else "not ready for the main job")


def word(line: Record) -> str:
    """The state as the table has it: what is missing and not needed is `optional`."""
    return "optional" if line["state"] == "missing" and not line["needed"] else str(line["state"])


def _section(section: str, record: Record) -> Table:
    lines = [line for line in record["lines"] if line["section"] == section]
    rows = [(line["what"], word(line), line["found"], line["wanted"]) for line in lines]
    made = table(section, COLUMNS, rows)
    for column in made.columns:
        column.justify = "left"
    for i in (0, 1):
        made.columns[i].no_wrap = True
    for row, line in zip(made.rows, lines, strict=True):
        row.style = STYLES[word(line)]
    return made


def _todo(record: Record) -> list[tuple[str, str]]:
    """Who wants it, and what to do: the same thing once, what stops the main job first."""
    order = {"wrong": 1, "missing": 1, "warning": 2, "optional": 3}
    lines = [line for line in record["lines"] if line["do"]]
    lines.sort(key=lambda line: 0 if line["stops"] else order[word(line)])
    whats: dict[str, list[str]] = {}
    for line in lines:
        whats.setdefault(line["do"], []).append(line["what"])
    return [(", ".join(names), do) for do, names in whats.items()]
