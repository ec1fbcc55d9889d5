"""How long a model takes beside an earlier one, measured in turns."""

from __future__ import annotations

import tempfile
from pathlib import Path

from .check import MOST_GROWTH, Check, not_judged
from .subject import Subject

NAME = "baseline_latency"


def latency(earlier: Subject, now: Subject, seconds: float) -> Check:
    """The model takes no longer than the earlier one on this machine, one thread, XNNPACK: the
    whole 95 % interval of the ratio over 1 + MOST_GROWTH is worse. Not judged on a busy machine."""
    from mobileclf.benchmark.bench import bench

    wanted = f"at most {MOST_GROWTH:.0%} slower than {earlier.name}"
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "earlier.tflite", Path(folder) / "now.tflite"]
        for file, subject in zip(files, (earlier, now), strict=True):
            file.write_bytes(subject.model)
        record = bench(
            files, threads=[1], runtimes=["ai-edge-litert"], kernels="xnnpack", seconds=seconds
        )
    row = record["configurations"][1]
    ratio, trouble = row["ratio"], row["trouble"]
    if ratio is None or ratio["interval"] is None or trouble is not None:
        return not_judged(NAME, wanted, f"not to be relied on: {trouble or 'no ratio'}")
    low, high = ratio["interval"]
    return Check(
        name=NAME,
        passed=low <= 1 + MOST_GROWTH,
        wanted=wanted,
        found=f"{ratio['median']:.3f} times as long ({low:.3f} to {high:.3f})",
    )
