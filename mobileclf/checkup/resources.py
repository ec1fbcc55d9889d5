"""Disk space, memory and cores, with the limits of a container where they can be read."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mobileclf import cores

from .line import Line, State, megabytes

SECTION = "disk and memory"
# Bytes. A run on 1,250 photos at 224 px takes 0.4 GB, on the drawn sample 10 MB; the bundles
# take 22 MB and 0.4 MB. Under a tenth of what is wanted not even the sample is sure of its place.
RUN, BUNDLE, TEMPORARY, MEMORY = 1_000_000_000, 100_000_000, 1_000_000_000, 4_000_000_000
LEAST = 0.1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a container leaves to its processes: bytes of memory, bytes still free."""

    memory: int | None = None
    free: int | None = None


def lines(run: Path, out: Path, cache: Path, cache_size: int) -> Iterator[Line]:
    """Space where a run, its bundle, temporary files and downloaded weights go; memory; cores.

    cache_size: bytes that are still to be downloaded to `cache`.
    """
    yield place("runs", run, RUN)
    yield place("bundles", out, BUNDLE)
    try:
        yield place("temporary files", Path(tempfile.gettempdir()), TEMPORARY)
    except FileNotFoundError:  # there is none; the settings have a line on it
        pass
    yield place("weights", cache, cache_size, needed=False)
    yield _memory()
    yield _cores()


def place(what: str, folder: Path, size: int, *, needed: bool = True) -> Line:
    """Whether `folder`, or what it will be made in, can be written and has `size` bytes free."""
    found = nearest(folder)
    problem = why_not_writable(found)
    wanted = f"{megabytes(size)} free" if size else "can be written"
    state: State = "ok"
    do = ""
    if problem is not None:
        said = f"{found} cannot be written: {problem}"
        state, do = "wrong", f"make {found} writable, or choose another folder"
    else:
        free = shutil.disk_usage(found).free
        said = f"{megabytes(free)} free in {found}"
        if free < size:
            state = "wrong" if free < size * LEAST else "warning"
            do = f"free {megabytes(size - free)} in {found}, or choose another folder"
    return Line(section=SECTION, what=what, found=said, wanted=wanted, state=state, do=do,
                needed=needed)  # fmt: skip


def nearest(folder: Path) -> Path:
    """`folder`, or the nearest above it that is there."""
    found = folder.expanduser().absolute()
    while not os.path.lexists(found) and found != found.parent:
        found = found.parent
    return found


def why_not_writable(folder: Path) -> str | None:
    """None when a file can be made in `folder`, which is tried; it is gone afterwards."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _memory() -> Line:
    total, free = memory()
    limits = container()
    if total is None or free is None:
        return Line(section=SECTION, what="memory", found="not known", state="warning",
                    wanted=megabytes(MEMORY), do="pip install psutil")  # fmt: skip
    where = ""
    if limits.memory is not None and limits.memory < total:
        total, where = limits.memory, " (the container's limit)"
    free = min(free, total if limits.free is None else limits.free)
    said = f"{megabytes(total)}{where}, {megabytes(free)} free"
    do = ""
    if total < MEMORY:
        do = "use smaller photos (--image-size) or the network mobilenet_v2, or more memory"
    elif free < MEMORY:
        do = "end other programs before a run"
    return Line(section=SECTION, what="memory", found=said, wanted=f"{megabytes(MEMORY)} free",
                state="warning" if do else "ok", do=do)  # fmt: skip


def memory() -> tuple[int | None, int | None]:
    """Bytes of memory of this machine, and bytes of it that can still be had."""
    try:
        import psutil

        found = psutil.virtual_memory()
        return int(found.total), int(found.available)
    except Exception:  # missing, or broken in any way; Linux says it without
        words = cores.text(Path("/proc/meminfo")).split()
        values = dict(zip(words, words[1:], strict=False))
        total, free = (values.get(f"{name}:") for name in ("MemTotal", "MemAvailable"))
        return (int(total) * 1024 if total else None), (int(free) * 1024 if free else None)


def _cores() -> Line:
    usable, quota = len(cores.numbers()), cores.quota()
    found = f"{os.cpu_count()}, {usable} usable"
    if quota is not None and quota < usable:
        found += f", {quota:g} by the container's limit"
    return Line(section=SECTION, what="cores", found=found, wanted="any")


def container(root: Path = cores.ROOT) -> Limits:
    """The tightest limits of this process's control groups, version 2 or 1, on Linux."""
    memory: list[int] = []
    free: list[int] = []
    for folder in cores.groups("memory", root):
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is not None and limit < 1 << 60:  # version 1 says "none" as a huge number
            memory.append(limit)
            # Files that were only read are given up when memory is wanted.
            free.append(max(0, limit - max(0, (used or 0) - _cached(folder))))
    return Limits(memory=min(memory, default=None), free=min(free, default=None))


def _cached(folder: Path) -> int:
    words = cores.text(folder / "memory.stat").split()
    values = dict(zip(words[::2], words[1::2], strict=False))
    return int(values.get("inactive_file") or values.get("total_inactive_file") or 0)


def _number(*paths: Path) -> int | None:
    for path in paths:
        text = cores.text(path).strip()
        if text.lstrip("-").isdigit():
            return int(text)
    return None
