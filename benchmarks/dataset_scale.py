"""Time and memory of `mobileclf dataset` as the number of images grows: both should be linear.

    python benchmarks/dataset_scale.py [--counts 10000 100000] [--classes 10] [--cluster ADDRESS]

Images are JPEGs of 64 to 96 pixels, each another gradient with noise, in a temporary folder.
Each count is a process of its own; memory is the largest sum over it and its own children.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SEED = 0
EVERY = 0.2  # seconds between two looks at the memory


def draw(number: int) -> bytes:
    """A JPEG, another for each number: a coarse random pattern, smoothly enlarged, with noise."""
    rng = np.random.default_rng((SEED, number))
    width, height = rng.integers(64, 97, 2)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
    data = io.BytesIO()
    Image.fromarray(noisy).save(data, "JPEG", quality=85)
    return data.getvalue()


def add_images(root: Path, start: int, stop: int, classes: int) -> None:
    """Images `start` to `stop` - 1 in class folders, in turn."""
    for number in range(start, stop):
        folder = root / f"class{number % classes:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:07d}.jpg").write_bytes(draw(number))


def measure(root: Path, run: Path, extra: list[str]) -> tuple[float, float]:
    """Seconds, and the most memory in MB, of `mobileclf dataset` on `root`."""
    command = [sys.executable, "-m", "mobileclf", "dataset", str(root), "--run", str(run)]
    start = time.perf_counter()
    most = 0
    with subprocess.Popen([*command, *extra, "--quiet", "--json"], stdout=subprocess.DEVNULL) as p:
        process = psutil.Process(p.pid)
        while p.poll() is None:
            most = max(most, memory(process))
            time.sleep(EVERY)
    if p.returncode:
        sys.exit(f"error: mobileclf dataset ended with exit code {p.returncode}")
    return time.perf_counter() - start, most / 1e6


def memory(process: psutil.Process) -> int:
    """Bytes of a process and its children. What forks share counts for each: a bound from above."""
    total = 0
    try:
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def main() -> None:
    """Print a line for each count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--cluster")
    given = parser.parse_args()
    extra = ["--cluster", given.cluster] if given.cluster else []
    print("images  seconds  ms/image  x images  x seconds  MB at most", flush=True)
    with tempfile.TemporaryDirectory() as name:
        root, made = Path(name) / "photos", 0
        first: tuple[int, float] | None = None
        for count in sorted(given.counts):
            add_images(root, made, count, given.classes)
            made = count
            seconds, megabytes = measure(root, Path(name) / f"run{count}", extra)
            first = first or (count, seconds)
            print(
                f"{count:6d}  {seconds:7.1f}  {1000 * seconds / count:8.2f}  "
                f"{count / first[0]:8.1f}  {seconds / first[1]:9.1f}  {megabytes:10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
