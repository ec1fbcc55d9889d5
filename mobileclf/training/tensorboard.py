"""Curves for TensorBoard, by its own library; training does not need it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
    """A function that logs the last epoch of a course; it does nothing without a folder."""
    if folder is None:
        return lambda course: None
    from tensorboard.summary import Writer

    target = Writer(str(folder / phase.replace(" ", "_")))

    def log(course: Course) -> None:
        step = len(course.fit)
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            target.add_scalar(name, getattr(course, name)[-1], step)
        target.flush()

    return log
