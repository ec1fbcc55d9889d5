"""Tables on the screen: the one look that all of them have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table


def table(title: str, columns: Sequence[object], rows: Sequence[Sequence[object]]) -> Table:
    """The first column is text, the others stand to the right. None is shown as a dash."""
    made = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        made.add_column(str(column), justify="right" if i else "left", overflow="fold")
    for row in rows:
        made.add_row(*(_text(value) for value in row))
    return made


def percent(share: float) -> str:
    """A share of 1 as `94.1 %`."""
    return f"{100 * share:.1f} %"


def facts(title: str, values: Mapping[str, object]) -> Table:
    """A table of names and values, one a line."""
    return table(title, ("what", "value"), list(values.items()))


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("[", "\\[")
