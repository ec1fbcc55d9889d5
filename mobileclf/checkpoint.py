"""What a long computation has come to, whole in one file: after a kill it goes on from there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from .records import Record, new_file


def write(path: Path, key: str, about: Record, arrays: Sequence[NDArray[Any]]) -> None:
    """Put `about` (JSON values) and `arrays` in the place of what was there.

    key: names everything that the computation is made of. Raises EnvironmentProblem.
    """
    text = json.dumps({"key": key, "about": about})
    with new_file(path) as file:
        np.savez(file, about=np.array(text), **{f"{i:05d}": a for i, a in enumerate(arrays)})


def read(path: Path, key: str, arrays: int) -> tuple[Record, list[NDArray[Any]]] | None:
    """What was written under the same key, with so many arrays; None where there is nothing,
    nothing whole, or what another computation left."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = json.loads(str(stored["about"]))
            if found["key"] != key:
                return None
            names = sorted(set(stored.files) - {"about"})
            return (found["about"], [stored[n] for n in names]) if len(names) == arrays else None
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile):
        return None
