"""Tables on the screen: the one look that all of them have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from mobileclf.wording import plain


def table(title: str, columns: Sequence[object], rows: Sequence[Sequence[object]]) -> Table:
    """The first column is text, the others stand to the right. None is shown as a dash."""
    made = Table(title=text(title, "table.title"), title_justify="left")
    for i, column in enumerate(columns):
        made.add_column(text(column), justify="right" if i else "left", overflow="fold")
    for row in rows:
        made.add_row(*(text(value) for value in row))
    return made


def percent(share: float) -> str:
    """A share of 1 as `94.1 %`."""
    return f"{100 * share:.1f} %"


def facts(title: str, values: Mapping[str, object]) -> Table:
    """A table of names and values, one a line."""
    return table(title, ("what", "value"), list(values.items()))


def text(value: object, style: str = "") -> Text:
    """A value as it stands: names are anybody's, and none is markup or steers the terminal."""
    if value is None:
        return Text("–", style)
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return Text("\n".join(map(plain, shown.split("\n"))), style)
