"""Curves for TensorBoard, by its own library; training does not need it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from mobileclf.errors import EnvironmentProblem

from .fit import Course


def check() -> None:
    """Raises EnvironmentProblem where TensorBoard is not installed."""
    try:
        import tensorboard.summary  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            "--tensorboard: TensorBoard is not installed; `pip install 'mobileclf[tensorboard]'`"
        ) from error


def writer(folder: Path | None, phase: str) -> Callable[[Course], None]:
    """A function that logs the last epoch of a course; it does nothing without a folder.

    With the first epoch the curves of an earlier training go; later ones go on with theirs.
    """
    if folder is None:
        return lambda course: None
    place = folder / phase.replace(" ", "_")

    @cache
    def opened() -> Any:
        from tensorboard.summary import Writer

        return Writer(str(place))

    def log(course: Course) -> None:
        step = len(course.fit)
        if step == 1 and place.exists():
            shutil.rmtree(place)
        target = opened()
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            target.add_scalar(name, getattr(course, name)[-1], step)
        target.flush()

    return log
