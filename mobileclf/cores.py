"""The processor cores that this process may use: by its affinity, and by a container's quota."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def usable() -> int:
    """How many cores are worth a thread each; a part of one, which a quota may leave, counts."""
    limit = quota()
    return len(numbers()) if limit is None else min(len(numbers()), math.ceil(limit))


def numbers() -> list[int]:
    """The logical cores that this process may run on, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def quota(root: Path = ROOT) -> float | None:
    """Cores' worth of time that the control groups leave to this process; None: all of it."""
    return min((found for folder in groups("cpu", root) if (found := _quota(folder))), default=None)


def throttled_seconds(root: Path = ROOT) -> float:
    """CPU seconds that a quota has so far kept from this process and what shares its group."""
    return max(map(_throttled, groups("cpu", root)), default=0.0)


def groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Folders of the control groups that `cpu` or `memory` of this process is limited by, on
    Linux: version 2, or 1, which has a tree for each controller."""
    for line in text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if controllers else "")
        # Inside a container the group's own path may lie outside of what is mounted.
        own = top / group.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(top))


def text(path: Path) -> str:
    """What is in one of the system's files; nothing where it has none such."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _quota(folder: Path) -> float | None:
    words = text(folder / "cpu.max").split() or [
        text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    ]
    if not all(word.isdigit() and int(word) for word in words):  # "max" or -1: none
        return None
    return int(words[0]) / int(words[1])


def _throttled(folder: Path) -> float:
    words = text(folder / "cpu.stat").split()
    values = dict(zip(words[::2], words[1::2], strict=False))
    # Version 1 counts nanoseconds.
    return int(values.get("throttled_usec", 0)) / 1e6 + int(values.get("throttled_time", 0)) / 1e9
