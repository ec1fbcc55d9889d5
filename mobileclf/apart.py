"""Python in a process of its own that runs nothing of the working directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

START = (
    "import sys; sys.path[:] = {path}; from importlib import import_module; "
    "import_module(sys.argv[1]).main(*sys.argv[2:])"
)


def command(module: str, *arguments: str) -> list[str]:
    """The command that has `module.main` do its work with the `arguments`.

    The child imports from where this process does, but for the working directory: a `queue.py`
    that lies there beside somebody's model must not be run. Where mobileclf itself lies there,
    it comes last, behind all that such a file could hide.
    """
    path = [entry for entry in sys.path if isinstance(entry, str) and not _is_here(entry)]
    path.append(str(Path(__file__).parents[1]))
    return [sys.executable, "-c", START.format(path=path), module, *arguments]


def _is_here(entry: str) -> bool:
    try:
        return not entry or os.path.samefile(entry, os.curdir)
    except OSError:
        return False


def limit_memory() -> None:
    """In a child: a broken file must not ask for more memory than the machine has."""
    try:
        import resource
    except ImportError:  # Windows
        return
    import psutil

    most = psutil.Process().memory_info().vms + psutil.virtual_memory().total
    limits = resource.getrlimit(resource.RLIMIT_AS)
    lowest = min([most, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])
    try:
        resource.setrlimit(resource.RLIMIT_AS, (lowest, limits[1]))
    except (ValueError, OSError):
        pass  # some systems have no such limit
