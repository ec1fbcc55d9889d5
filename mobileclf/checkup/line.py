"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "missing", "wrong"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """What was looked at, what was found and wanted, and what to do about it.

    do: a command or a sentence to act on; empty where there is nothing to do. needed: the main
    job cannot run while the state is missing or wrong.
    """

    section: str
    what: str
    found: str
    wanted: str
    state: State = "ok"
    do: str = ""
    needed: bool = False

    @property
    def stops(self) -> bool:
        """Whether the main job cannot run because of this."""
        return self.needed and self.state in ("missing", "wrong")


def megabytes(size: int) -> str:
    """A size as `84 MB` or `1.5 GB`, in powers of ten as disks are sold."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
