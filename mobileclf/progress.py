"""Progress bars and messages, all on stderr; results alone go to stdout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True, soft_wrap=True, highlight=False)


def say(message: str) -> None:
    """One line to the person, unless `console.quiet`."""
    console.print(message, markup=False)


def warn(message: str) -> None:
    """One line that wants attention but stops nothing."""
    console.print(f"warning: {message}", style="yellow", markup=False)


@contextmanager
def bar(title: str, total: int) -> Iterator[Progress]:
    """A progress bar; call `.advance(task, n)` through `track` where it fits."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Left alone, it would show on the screen what libraries print to stdout and stderr.
    # And where nobody watches it, it would leave an empty line.
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False,
        disable=not console.is_terminal,
    ) as progress:  # fmt: skip
        progress.add_task(title, total=total)
        yield progress


def track(items: Iterable[T], title: str, total: int) -> Iterator[T]:
    """Yield `items` and move a bar by one for each."""
    with bar(title, total) as progress:
        for item in items:
            yield item
            progress.advance(progress.task_ids[0])
