"""The machine that a benchmark runs on: what it is, and how much of it other processes take."""

from __future__ import annotations

import platform
import subprocess
import time
from pathlib import Path

from mobileclf import cores
from mobileclf.records import Record

from .rounds import TOLERANCE

# What counts as work, where the system has it. `guest` is part of `user` on Linux, `interrupt` and
# `dpc` part of `system` on Windows; `steal` is what a hypervisor gave to others.
BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


def description() -> Record:
    """Processor, cores that may be used, system, Python and the frequency governor (or None)."""
    return {
        "cpu": _processor(),
        "cores": cores.usable(),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "governor": _first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
    }


def busy_seconds() -> float:
    """CPU seconds that everybody's work has taken so far on the cores that may be used.

    It advances in the system's ticks, 10 ms a core on most: short spans are known roughly.
    """
    import psutil

    times = psutil.cpu_times(percpu=True)
    usable = [times[i] for i in cores.numbers() if i < len(times)]
    return sum(getattr(core, kind, 0.0) for core in usable for kind in BUSY)


def frequency() -> float | None:
    """Mean frequency of the cores now in MHz, or None where the system does not say."""
    import psutil

    try:
        found = psutil.cpu_freq()
    except (AttributeError, NotImplementedError, OSError, RuntimeError):
        return None
    return float(found.current) if found is not None and found.current else None


class Watch:
    """How many cores others kept busy since it was made: their CPU seconds over wall seconds.

    Of a container's quota they have what is left of the machine for nothing. All cores where the
    quota kept time from us: it does so to everything in the container at once.
    """

    def __init__(self) -> None:
        self._throttled = cores.throttled_seconds()
        self._wall, self._own, self._busy = time.perf_counter(), time.process_time(), busy_seconds()

    def others(self, ours: float) -> float:
        """Cores, at least 0. ours: CPU seconds that our children took meanwhile."""
        own = time.process_time() - self._own + ours
        busy = busy_seconds() - self._busy
        wall = max(time.perf_counter() - self._wall, 1e-9)
        if (cores.throttled_seconds() - self._throttled) / wall > TOLERANCE:
            return float(cores.usable())
        spare = len(cores.numbers()) - cores.usable()
        return max(0.0, (busy - own) / wall - spare)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            pass
    return platform.processor() or platform.machine()


def _memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
