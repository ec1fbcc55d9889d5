"""Messages and bars in a notebook: one output of each cell, redrawn in place.

Rich's own bars there want ipywidgets, and leave an empty output each when they are done. An output
that is redrawn wants IPython alone, which is there wherever there is a notebook. It reaches the
page past stdout and stderr, so it is seen also while `chatter` leads these to a log.
"""

from __future__ import annotations

import io
import time
import uuid
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group
from rich.progress import Progress
from rich.text import Text

WIDTH = 100  # characters
REFRESH = 0.2  # seconds from one redrawing for a bar that moved to the next
HTML = '<pre style="white-space:pre-wrap;line-height:normal;font-family:monospace">{code}</pre>'


class Area:
    """The output of the cell that runs: what was said in it, and below the bars at work."""

    def __init__(self) -> None:
        self._begin(None)

    def _begin(self, cell: object) -> None:
        self._cell = cell
        self._id: str | None = None
        self._lines: list[Text] = []
        self._bars: list[Progress] = []
        self._drawn = 0.0

    def _meet(self) -> None:
        """Begin anew where another cell runs than last time."""
        from IPython import get_ipython

        cell = get_ipython().execution_count  # type: ignore[no-untyped-call,unused-ignore]
        if cell != self._cell:
            self._begin(cell)

    def say(self, line: Text) -> None:
        """Add a line."""
        self._meet()
        self._lines.append(line)
        self._draw(self._bars)

    def show(self, bar: Progress) -> None:
        """Draw `bar` below the lines until `remove`, now and whenever it `moved`."""
        self._meet()
        self._bars.append(bar)
        self._draw(self._bars)

    def moved(self) -> None:
        """Redraw, unless that was done just now."""
        if time.monotonic() - self._drawn >= REFRESH:
            self._draw(self._bars)

    def remove(self, bar: Progress) -> None:
        """Take `bar` away; where nothing else is in the output, it stays as it ended."""
        if bar in self._bars:
            self._bars.remove(bar)
            left = self._lines or self._bars
            self._draw(self._bars if left else [bar])

    def _draw(self, bars: Sequence[Progress]) -> None:
        from IPython.display import display, update_display

        data = _rendered(self._lines, bars)
        if self._id is None:
            self._id = uuid.uuid4().hex
            display(data, raw=True, display_id=self._id)  # type: ignore[no-untyped-call,unused-ignore]
        else:
            update_display(data, raw=True, display_id=self._id)  # type: ignore[no-untyped-call,unused-ignore]
        self._drawn = time.monotonic()


class NotebookProgress(Progress):
    """A Progress that is drawn in an Area; rich itself draws nothing of it."""

    def __init__(self, *columns: Any, area: Area) -> None:
        super().__init__(*columns, disable=True)
        self._area = area

    def __enter__(self) -> NotebookProgress:
        self._area.show(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._area.remove(self)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As Progress does, and the area shows it."""
        super().update(*args, **kwargs)
        self._area.moved()

    def advance(self, *args: Any, **kwargs: Any) -> None:
        """As Progress does, and the area shows it."""
        super().advance(*args, **kwargs)
        self._area.moved()


def _rendered(lines: Sequence[Text], bars: Sequence[Progress]) -> dict[str, str]:
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, force_jupyter=False, highlight=False,
        color_system="truecolor", force_terminal=True, legacy_windows=False,
    )  # fmt: skip
    for line in lines:
        console.print(line, soft_wrap=True)
    console.print(Group(*(bar.get_renderable() for bar in bars)), end="")
    text = console.export_text(clear=False)
    return {
        "text/plain": text,
        "text/html": console.export_html(inline_styles=True, code_format=HTML),
    }
