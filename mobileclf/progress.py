"""Progress bars and messages, all on stderr; results alone go to stdout. In a notebook they are in
an output of the cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from .notebook import Area, NotebookProgress
from .wording import plain

T = TypeVar("T")

console = Console(stderr=True, soft_wrap=True, highlight=False)
area = Area()


def say(message: str) -> None:
    """One line to the person, unless `console.quiet`."""
    _print(Text(plain(message)))


def warn(message: str) -> None:
    """One line that wants attention but stops nothing."""
    _print(Text(plain(f"warning: {message}"), style="yellow"))


def _print(line: Text) -> None:
    if not console.is_jupyter:
        console.print(line)
    elif not console.quiet:
        area.say(line)


@contextmanager
def bar(title: str, total: int) -> Iterator[Progress]:
    """A progress bar; call `.advance(task, n)` through `track` where it fits."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    if console.is_jupyter and not console.quiet:
        shown: Progress = NotebookProgress(*columns, area=area)
        shown.add_task(title, total=total)
        with shown:
            yield shown
        return
    # Left alone, it would show on the screen what libraries print to stdout and stderr.
    # And where nobody watches it, it would leave an empty line.
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False,
        disable=console.is_jupyter or not console.is_terminal,
    ) as progress:  # fmt: skip
        progress.add_task(title, total=total)
        yield progress


def track(items: Iterable[T], title: str, total: int) -> Iterator[T]:
    """Yield `items` and move a bar by one for each."""
    with bar(title, total) as progress:
        for item in items:
            yield item
            progress.advance(progress.task_ids[0])
