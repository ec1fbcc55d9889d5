"""What every command shares: the app, the common flags, and how an error ends.

Results go to stdout; messages and progress go to stderr. Exit codes are those of `errors`.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mobileclf import __version__, progress
from mobileclf.errors import INTERRUPTED, EnvironmentProblem, MobileclfError
from mobileclf.wording import plain

# What the machine is to blame for, wherever it is met: no space, no permission, no such device.
MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}

Config = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file for what flags do not give [mobileclf.toml]."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on stdout in place of tables.")]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Show what libraries print, and tracebacks.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No messages and no progress.")]

app = typer.Typer(
    name="mobileclf",
    help="From a folder of photos to a proven int8 TFLite bundle for Android.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mobileclf {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say which.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@dataclass(kw_only=True)
class _Report:
    """Where a defect's traceback goes; None until the run is known."""

    log: Path | None = None


@contextmanager
def reporting(*, verbose: bool, quiet: bool) -> Iterator[_Report]:
    """Turn every error into one line on stderr and its exit code, for one command."""
    report = _Report()
    progress.console.quiet = quiet
    try:
        yield report
    except MobileclfError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        # Only a run is gone on with; what has no log keeps nothing.
        again = "; run the same command again to go on" if report.log is not None else ""
        _fail(f"interrupted{again}", INTERRUPTED)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            place = error.filename or "a file"
            _fail(f"{place}: {error.strerror}; free space or permissions, and run the same command",
                  EnvironmentProblem.exit_code)  # fmt: skip
        where = _keep_traceback(report.log, verbose)
        words = " ".join(str(error).split())[:300]
        _fail(f"a defect in mobileclf: {type(error).__name__}: {words}; {where}", 1)
    finally:
        progress.console.quiet = False


def _keep_traceback(log: Path | None, verbose: bool) -> str:
    if verbose:
        traceback.print_exc()
        return "the traceback is above"
    try:
        if log is not None and log.parent.is_dir():
            with log.open("a", encoding="utf-8") as file:
                traceback.print_exc(file=file)
            return f"the traceback is in {log}"
    except OSError:
        pass
    return "-v shows the traceback"


def _fail(message: str, code: int) -> None:
    typer.echo(plain(f"error: {message}"), err=True)
    raise typer.Exit(code)
