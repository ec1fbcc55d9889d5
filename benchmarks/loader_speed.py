"""How fast photos reach training, against ImageDataGenerator and against Pillow alone.

    python benchmarks/loader_speed.py PHOTOS [--size 150] [--rounds 5] [--most 600]

PHOTOS holds class folders. Each round reads the same photos in every way, one after the other:

- the loader cold: `images.load.load_many`, which checks, decodes and resizes in parallel;
- the same from the decoded cache that training keeps, in batches of 32 in another order;
- both again with augmentation, as training shows photos (`--augment seeds`);
- `ImageDataGenerator.flow_from_directory` as the seed has it (TensorFlow's own, nearest pixel),
  with rescaling alone and with the seed's augmentations;
- Pillow: open, convert and one bilinear resize in as many threads.

All files are read once before, so none comes from the disk. Prints images a second and the ratios
with their range over the rounds. Exits with 1 where the middle ratio misses a goal: what an epoch
of training reads (cache and augmentations) 4 times as fast as ImageDataGenerator's with its own,
and the cold loader at least 0.9 of Pillow. Cold and without augmentation there is no goal against
ImageDataGenerator: both decode the same files, and taking the nearest pixel is all but free.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from seed_training import flow

from mobileclf import cores
from mobileclf.images.augment import augmented_batch
from mobileclf.images.load import ImageSpec, load_many
from mobileclf.records import sha256_file
from mobileclf.source.store import Store, open_store
from mobileclf.spelling import augmentations_of
from mobileclf.training import pictures

BATCH = 32
CACHED, COLD, PILLOW = "cache, augmented", "cold", "Pillow"
GENERATOR, AUGMENTING = "ImageDataGenerator", "ImageDataGenerator, augmented"
# (way, other way, how many times as fast it is to be at least; None: it is only said)
RATIOS: Sequence[tuple[str, str, float | None]] = (
    (CACHED, AUGMENTING, 4.0),
    (COLD, PILLOW, 0.9),
    ("cache", GENERATOR, None),
    (COLD, GENERATOR, None),
    ("cold, augmented", AUGMENTING, None),
)


def ours(store: Store, paths: Sequence[str], spec: ImageSpec, cache: Path) -> Mapping[str, Any]:
    """Our ways: each reads every photo once. cache: a folder for decoded photos, filled here."""
    digests = tuple(sha256_file(store.root / path) for path in paths)
    photos = pictures.Pictures(
        store=store, paths=tuple(paths), digests=digests, spec=spec, cluster=None
    )
    kept = pictures.kept_in(cache, spec)
    pictures.fill(kept, photos, "decode")
    read = pictures.reader(photos, kept)
    shown = augmentations_of("seeds")
    order = np.random.default_rng(0).permutation(len(paths))
    steps = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]

    def augmented(pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        some = augmented_batch(pixels, shown, seed=0, content=photos.content[rows], round=1)
        return some.astype(np.float32)

    def cold() -> NDArray[np.uint8]:
        return load_many(store, paths, spec, "load")

    def cold_augmented() -> None:
        pixels = cold()
        in_threads(lambda rows: augmented(pixels[rows], rows), steps)

    return {
        COLD: cold,
        "cold, augmented": cold_augmented,
        "cache": lambda: in_threads(lambda rows: read(rows).astype(np.float32), steps),
        CACHED: lambda: in_threads(lambda rows: augmented(read(rows), rows), steps),
    }


def in_threads(work: Callable[[Any], object], items: Sequence[Any]) -> None:
    """Each item in as many threads as there are cores; few results are in memory at once."""
    with ThreadPoolExecutor(cores.usable()) as pool:
        for _ in pool.map(lambda item: work(item) is None, items):
            pass


def generator(photos: Path, size: int, *, augmented: bool) -> Callable[[], None]:
    """ImageDataGenerator, a batch after the other, as `fit` asks it for them."""
    with contextlib.redirect_stdout(io.StringIO()):
        batches = flow(photos, size, augmented=augmented, shuffled=True, batch=BATCH)

    def every() -> None:
        for number in range(len(batches)):
            batches[number]

    return every


def pillow(photos: Path, paths: Sequence[str], size: int) -> Callable[[], None]:
    """Pillow alone."""

    def one(path: str) -> NDArray[np.uint8]:
        with Image.open(photos / path) as image:
            small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(small)

    return lambda: in_threads(one, paths)


def chosen(photos: Path, folder: Path, most: int) -> Iterator[str]:
    """Links in `folder` to at most so many photos, taken evenly; their names in it."""
    every = [path for path in sorted(photos.glob("*/*")) if path.is_file()]
    for i in np.unique(np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)):
        name = every[i].relative_to(photos)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(every[i].resolve())
        yield name.as_posix()


def rate(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def spread(values: Sequence[float], places: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{places}f}  ({low:.{places}f} to {high:.{places}f})"


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--size", type=int, default=150, help="side of the input, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, default=600, help="photos")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    spec = ImageSpec(width=given.size, height=given.size)
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        paths = list(chosen(given.photos, photos, given.most))
        ways: dict[str, Callable[[], object]] = {
            **ours(open_store(photos), paths, spec, Path(name) / "decoded"),
            GENERATOR: generator(photos, given.size, augmented=False),
            AUGMENTING: generator(photos, given.size, augmented=True),
            PILLOW: pillow(photos, paths, given.size),
        }
        for work in ways.values():  # opens what is used again
            work()
        rounds = [
            {way: rate(len(paths), work) for way, work in ways.items()} for _ in range(given.rounds)
        ]
    print(f"{len(paths)} photos, {given.size} px, {cores.usable()} cores, {given.rounds} rounds")
    for way in ways:
        print(f"{way:30} {spread([one[way] for one in rounds], 1)} images/s")
    print()
    held = True
    for way, other, least in RATIOS:
        values = [one[way] / one[other] for one in rounds]
        holds = least is None or statistics.median(values) >= least
        held = held and holds
        wanted = f": at least {least:g} times" if least is not None else ""
        said = "" if least is None else "holds: " if holds else "MISSED: "
        print(f"{said}{way} / {other}{wanted}: {spread(values, 2)}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
