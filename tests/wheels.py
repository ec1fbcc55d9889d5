"""The package as it would be published, and a plain install of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "mobileclf" / "constraints-3.11.txt"
UV = Path(sys.executable).parent / "uv"
UNREACHABLE = re.compile(r"dns error|error sending request|Failed to fetch|offline")


def build(out: Path) -> None:
    """Write the wheel and the sdist of the working tree to `out`. Skips without hatchling."""
    pytest.importorskip("hatchling", reason="needs hatchling (extra dev)")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True, capture_output=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def install(folder: Path, *more: str) -> Path | None:
    """The commands' folder of a new environment with the wheel, no extras, and `more` beside.

    None where the package index cannot be reached.
    """
    build(folder / "dist")
    (wheel,) = (folder / "dist").glob("*.whl")
    environment = folder / "plain"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    commands = environment / ("Scripts" if os.name == "nt" else "bin")
    pinned = ["--constraint", CONSTRAINTS] if sys.version_info[:2] == (3, 11) else []
    done = subprocess.run(
        [UV, "pip", "install", "--python", environment, *pinned, wheel, *more],
        capture_output=True, text=True,
    )  # fmt: skip
    if UNREACHABLE.search(done.stderr):
        return None
    assert done.returncode == 0, done.stderr
    return commands
