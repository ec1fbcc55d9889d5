"""Put a finished folder in the place of another, so that there is always one whole folder there."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

from .errors import EnvironmentProblem

RENAME_EXCHANGE = 2
AT_FDCWD = -100


def building_place(target: Path) -> Path:
    """Where to build what will be `target`: beside it, hidden, empty."""
    place = target.with_name(f".{target.name}.building")
    _remove(place)
    return place


def put_in_place(built: Path, target: Path) -> None:
    """Make `built` the folder at `target`; what was there is removed after.

    On Linux in one step (renameat2 with RENAME_EXCHANGE); elsewhere, or on a file system
    without it, by two renames, which `repair` completes if they were cut off between.
    Raises EnvironmentProblem.
    """
    aside = _aside(target)
    try:
        if not target.exists():
            os.rename(built, target)
        elif _exchange(built, target):
            _remove(built)
        else:
            os.rename(target, aside)
            os.rename(built, target)
            _remove(aside)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot put the bundle at {target}: {error.strerror or error}; "
            "choose another folder with --out"
        ) from error


def repair(target: Path) -> None:
    """Undo what a cut-off `put_in_place` left: bring the earlier folder back if none is there."""
    aside = _aside(target)
    if aside.exists():
        if target.exists():
            _remove(aside)
        else:
            os.rename(aside, target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.before")


def _remove(folder: Path) -> None:
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    done: int = rename(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), ctypes.c_uint(RENAME_EXCHANGE)
    )
    return done == 0
