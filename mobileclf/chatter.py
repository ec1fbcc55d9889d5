"""Keep what libraries print apart from what mobileclf says.

TensorFlow, its converter and the TFLite runtimes write to the file descriptors themselves, so
replacing `sys.stderr` is not enough: for the time of a `with`, descriptors 1 and 2 lead to a log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import IO

from . import progress

# Read by TensorFlow when it is imported, so they have to stand before that.
QUIET_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "1", "KERAS_BACKEND": "tensorflow"}


def set_environment() -> None:
    """Set what TensorFlow and Keras read at import, where the person has not set it."""
    for name, value in QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def led_to(log: Path | None) -> Iterator[None]:
    """Append all that is printed meanwhile to `log`, but for `progress.console`'s messages.

    None: let everything through, for `-v`. Restores the descriptors on any way out.
    """
    set_environment()
    if log is None:
        yield
        return
    with ExitStack() as stack:
        file = stack.enter_context(log.open("a", encoding="utf-8", errors="replace", buffering=1))
        before = progress.console._file  # the property would hide that none was set
        stack.callback(setattr, progress.console, "_file", before)
        progress.console.file = _own_way_out(stack)
        for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
            stream.flush()
            stack.callback(_restore, descriptor, os.dup(descriptor))
            os.dup2(file.fileno(), descriptor)
        stack.enter_context(redirect_stdout(file))
        stack.enter_context(redirect_stderr(file))
        yield


def _own_way_out(stack: ExitStack) -> IO[str]:
    """stderr as it is now, on a descriptor of its own if it is descriptor 2."""
    current = progress.console.file
    try:
        descriptor = current.fileno()
    except (OSError, ValueError, AttributeError):
        return current
    if descriptor != 2:
        return current
    return stack.enter_context(
        os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="replace", buffering=1)
    )


def _restore(descriptor: int, saved: int) -> None:
    os.dup2(saved, descriptor)
    os.close(saved)
