"""The command line: each command parses, calls one function and prints.

Nothing heavy loads for `--help`.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.main import get_command

from mobileclf.errors import INTERRUPTED, UsageError

from . import stages
from .app import app
from .bench import bench
from .doctor import doctor
from .inspect import inspect
from .predict import predict

__all__ = ["app", "main", "stages"]

# In the order of `--help`, after those of the pipeline, which register themselves.
for _command in (predict, inspect, bench, doctor):
    app.command()(_command)

# Newer typers carry click inside, older ones import it: its base of usage errors, from either.
ClickException: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and end the process with its exit code."""
    command: Callable[..., Any] = get_command(app)
    for stream in (sys.stdout, sys.stderr):
        # Labels may be in any script, also where the console's own encoding knows few.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = command(args=arguments, prog_name="mobileclf", standalone_mode=False)
    except ClickException as error:
        message = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        typer.echo(f"error: {message}", err=True)
        code = UsageError.exit_code
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("error: interrupted", err=True)
        code = INTERRUPTED
    if code == INTERRUPTED:
        _leave(code)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(code: int) -> None:
    """End at once, after what is due at the end.

    Where the interrupt struck within a text that is executed (as dataclasses and named tuples do
    while a library is imported), CPython would end by the signal whatever code is asked for.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
