"""Whether the memory that training takes grows with the number of photos.

    python benchmarks/training_memory.py DATA [--counts 1250 10000] [--size 96]

DATA holds `mushrooms4` and `weights/mobilenet_v2_imagenet_notop.h5`. Each count is made of its
1,250 photos by repetition: another part of the photo in other light each time, so that no two
files are the same, saved as JPEGs of 128 pixels in a temporary folder. `mobileclf train` of a
head on a frozen MobileNetV2 runs twice on each: the first run computes the features, the second,
with another learning rate, finds them. What is judged is the peak of resident memory of the second
(the process and the largest of its children, as the kernel counts it). Exits with 1 where the
largest count takes more than 1.05 times the memory of the smallest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

MOST = 1.05  # times the memory
SIDE = 128  # of the photos that are made, pixels
LEAST_PART = 0.6  # of a photo's width and height
LIGHT = (0.6, 1.4)  # of its brightness


@dataclass(frozen=True, kw_only=True)
class Ran:
    """seconds and peak resident memory in MB of a command."""

    seconds: float
    megabytes: float


def make(photo: Path, folder: Path, turn: int, seed: int) -> None:
    """A part of `photo` as a JPEG under its class folder's name.

    turn: how often the photo was taken before; at 0 the whole of it, as it is. seed: of the photo.
    """
    rng = np.random.default_rng((seed, turn))
    with Image.open(photo) as opened:
        image = opened.convert("RGB")
    if turn:
        width, height = (round(side * rng.uniform(LEAST_PART, 1)) for side in image.size)
        left = int(rng.integers(0, image.width - width + 1))
        top = int(rng.integers(0, image.height - height + 1))
        image = image.crop((left, top, left + width, top + height))
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(*LIGHT))
    target = folder / photo.parent.name / f"{photo.stem}_{turn}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    image.resize((SIDE, SIDE), Image.Resampling.BILINEAR).save(target, "JPEG", quality=85)


def repeat(photos: Path, folder: Path, count: int) -> None:
    """`count` photos in class folders: a share of each class in every repetition."""
    every = sorted(path for path in photos.glob("*/*") if path.is_file())
    mixed = [every[i] for i in np.random.default_rng(0).permutation(len(every))]

    def one(number: int) -> None:
        place = number % len(mixed)
        make(mixed[place], folder, number // len(mixed), place)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(count)))


def run(command: Sequence[str]) -> Ran:
    """Run `mobileclf` with these arguments. Ends this process where it fails."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mobileclf", *command], stdout=said, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            end = said.read().decode(errors="replace")[-2000:]
            sys.exit(f"mobileclf {' '.join(command)}: exit code {process.returncode}\n{end}")
    unit = 1 if sys.platform == "darwin" else 1024  # bytes in one of ru_maxrss
    return Ran(seconds=time.perf_counter() - start, megabytes=used.ru_maxrss * unit / 1e6)


def main() -> int:
    """Print a line for each count and the goal, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[1250, 10_000])
    parser.add_argument("--size", type=int, default=96, help="side of the input, pixels")
    parser.add_argument("--views", type=int, default=2, help="of each photo")
    given = parser.parse_args()
    weights = (given.data / "weights" / "mobilenet_v2_imagenet_notop.h5").resolve()
    peaks: dict[int, float] = {}
    print("photos  features computed: s, MB at most  features cached: s, MB at most", flush=True)
    for count in sorted(given.counts):
        with tempfile.TemporaryDirectory() as name:
            photos, folder = Path(name) / "photos", Path(name) / "run"
            repeat(given.data / "mushrooms4", photos, count)
            train = [
                "train", "--data", str(photos), "--run", str(folder), "--quiet",
                "--backbone", "mobilenet_v2", "--weights", str(weights), "--epochs", "5",
                "--image-size", str(given.size), "--views", str(given.views),
            ]  # fmt: skip
            first = run(train)
            second = run([*train, "--learning-rate", "0.002"])
        peaks[count] = second.megabytes
        print(
            f"{count:6d}  {first.seconds:20.1f} {first.megabytes:15.0f}  "
            f"{second.seconds:18.1f} {second.megabytes:15.0f}",
            flush=True,
        )
    ratio = peaks[max(peaks)] / peaks[min(peaks)]
    holds = ratio <= MOST
    print(
        f"\n{'holds' if holds else 'MISSED'}: {max(peaks)} photos take at most {MOST:g} times the "
        f"memory of {min(peaks)}: {ratio:.3f} times"
    )
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
