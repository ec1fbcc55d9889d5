"""How fast `mobileclf train` is beside the seed's own way, and whether it is as accurate.

    python benchmarks/training_speed.py DATA [--photos N] [--epochs 20] [--seeds 3]

DATA holds `mushrooms4` and `weights/inception_v3_imagenet_notop.h5`. For each seed,
`mobileclf dataset` splits the photos 80/20 with copies of one picture kept together, and both
train a head of 64 units on a frozen InceptionV3 at 150 pixels on the same photos, each in a fresh
process: `seed_training.py` for `--epochs` epochs, and `mobileclf train` with its own epochs and
early stopping, once with one view of each photo and once with four, augmented as the seed's are.

Times are of whole processes, from the start of Python to the saved model. The split is made
before the clock starts, as both ways need it; the ratio with its time counted on our side alone
stands beside. The accuracy that is judged is over the held-out photos that we did not stop on
either (the threshold and test parts); the seed chooses nothing on any. That over all held-out
photos stands beside. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from seed_training import flow

from mobileclf.images.load import ImageSpec, load_many
from mobileclf.scores import HELD_BACK, read_part
from mobileclf.source.store import open_store

SIZE = 150
# Options of `mobileclf train` by way, and how many times as fast each is to be, at least.
OURS: Mapping[str, tuple[str, ...]] = {
    "one view": ("--views", "1", "--augment", "none"),
    "four views": ("--views", "4", "--augment", "seeds"),
}
GOALS: Mapping[str, float] = {"one view": 15.0, "four views": 4.0}
SEEDS_WAY = "the seed's way"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One training. seconds: of its process. split: of `mobileclf dataset` before it. run: the
    run that the split is in. model: what was saved."""

    way: str
    seed: int
    seconds: float
    split: float
    run: Path
    model: Path


@dataclass(frozen=True, kw_only=True)
class Right:
    """How many photos were answered rightly. unseen: of the threshold and test parts."""

    unseen: int
    of_unseen: int
    held: int
    of_held: int


def subset(photos: Path, folder: Path, most: int | None) -> Path:
    """Links to `most` photos (None: all) in class folders, each class with its share of them."""
    found = {one.name: sorted(one.iterdir()) for one in sorted(photos.iterdir()) if one.is_dir()}
    count = sum(map(len, found.values()))
    for label, paths in found.items():
        share = len(paths) if most is None else round(len(paths) * most / count)
        link(random.Random(0).sample(paths, min(share, len(paths))), folder / label)
    return folder


def link(paths: Sequence[Path], folder: Path) -> None:
    """Each file under its own name in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        (folder / path.name).symlink_to(path.resolve())


def seconds_of(command: Sequence[str]) -> float:
    """Of a Python process with these arguments. Ends this one where it fails."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return seconds


def trainings(photos: Path, weights: Path, work: Path, epochs: int, seed: int) -> Iterator[Timed]:
    """The three ways with one seed, one after the other."""
    split, data = ["--train-share", "0.8", "--seed", str(seed)], str(photos)
    for way, options in OURS.items():
        run = work / f"{way.replace(' ', '-')}-{seed}"
        before = seconds_of(
            ["-m", "mobileclf", "dataset", data, "--run", str(run), *split, "--quiet"]
        )
        seconds = seconds_of(
            ["-m", "mobileclf", "train", "--data", data, "--run", str(run), *split, "--quiet",
             "--weights", str(weights), "--image-size", str(SIZE), *options]
        )  # fmt: skip
        model = run / "model.keras"
        yield Timed(way=way, seed=seed, seconds=seconds, split=before, run=run, model=model)
    parts, model = work / f"parts-{seed}", work / f"seed-{seed}.keras"
    for part in ("train", *HELD_BACK):
        for path in read_part(run, part).paths:
            side = part if part == "train" else "held"
            link([photos / path], parts / side / Path(path).parent)
    script = str(Path(__file__).with_name("seed_training.py"))
    seconds = seconds_of(
        [script, str(parts), str(weights), str(model), "--size", str(SIZE),
         "--epochs", str(epochs), "--seed", str(seed)]
    )  # fmt: skip
    yield Timed(way=SEEDS_WAY, seed=seed, seconds=seconds, split=before, run=run, model=model)


def right(timed: Timed, photos: Path, work: Path) -> Right:
    """A model's answers to the held-out photos, with pixels prepared as its way prepares them."""
    import keras

    model = keras.saving.load_model(timed.model, compile=False)
    parts = {part: read_part(timed.run, part) for part in HELD_BACK}
    if timed.way == SEEDS_WAY:
        held = flow(work / f"parts-{timed.seed}" / "held", SIZE, augmented=False, shuffled=False)
        paths, truth = list(held.filenames), held.classes
        answers = model.predict(held, verbose=0).argmax(axis=1)
    else:
        paths = [path for part in parts.values() for path in part.paths]
        truth = np.concatenate([part.truth for part in parts.values()])
        spec = ImageSpec(width=SIZE, height=SIZE)
        pixels = load_many(open_store(photos), paths, spec, "held-out photos")
        answers = model.predict(pixels.astype(np.float32), verbose=0).argmax(axis=1)
    hits = dict(zip(paths, (answers == truth).tolist(), strict=True))
    unseen = [path for part in HELD_BACK[1:] for path in parts[part].paths]
    return Right(
        unseen=sum(hits[path] for path in unseen),
        of_unseen=len(unseen),
        held=sum(hits.values()),
        of_held=len(hits),
    )


def show(timed: Sequence[Timed], found: Sequence[Right]) -> None:
    """The table: a row for each training."""
    seeds = {one.seed: one for one in timed if one.way == SEEDS_WAY}
    print("| seed | way | seconds | times as fast | split counted | right, unseen | held out |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for one, hits in zip(timed, found, strict=True):
        theirs = seeds[one.seed].seconds
        ours = one.way != SEEDS_WAY
        ratio = f"{theirs / one.seconds:.1f}" if ours else ""
        counted = f"{theirs / (one.seconds + one.split):.1f}" if ours else ""
        print(
            f"| {one.seed} | {one.way} | {one.seconds:.1f} | {ratio} | {counted} | "
            f"{hits.unseen} of {hits.of_unseen} | {hits.held} of {hits.of_held} |"
        )


def goals_of(timed: Sequence[Timed], found: Sequence[Right]) -> Iterator[tuple[bool, str]]:
    """Each goal: whether it holds, and what was found."""
    theirs = {one.seed: one.seconds for one in timed if one.way == SEEDS_WAY}

    def share(way: str) -> tuple[float, str]:
        of_way = [hits for one, hits in zip(timed, found, strict=True) if one.way == way]
        held = f"{sum(hits.held for hits in of_way) / sum(hits.of_held for hits in of_way):.2%}"
        unseen = sum(hits.unseen for hits in of_way) / sum(hits.of_unseen for hits in of_way)
        return unseen, f"{unseen:.2%} ({held} of all held out)"

    wanted, said = share(SEEDS_WAY)
    for way, least in GOALS.items():
        ratios = [theirs[one.seed] / one.seconds for one in timed if one.way == way]
        middle = statistics.median(ratios)
        spread = f"{middle:.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        yield middle >= least, f"{way}: at least {least:g} times as fast: {spread}"
        reached, ours = share(way)
        yield reached >= wanted, f"{way}: accuracy not lower: {ours} against {said}"


def main() -> int:
    """Train, print the table and the goals, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--photos", type=int, help="so many of the photos, a share of each class")
    parser.add_argument("--epochs", type=int, default=20, help="of the seed's way")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 1 to so many")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    weights = (given.data / "weights" / "inception_v3_imagenet_notop.h5").resolve()
    timed: list[Timed] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        photos = subset(given.data / "mushrooms4", work / "photos", given.photos)
        for seed in range(1, given.seeds + 1):
            for one in trainings(photos, weights, work, given.epochs, seed):
                timed.append(one)
                print(f"seed {seed}, {one.way}: {one.seconds:.1f} s", file=sys.stderr, flush=True)
        # All after the last is timed: answering loads TensorFlow into this process.
        found = [right(one, photos, work) for one in timed]
    show(timed, found)
    print()
    goals = list(goals_of(timed, found))
    for holds, text in goals:
        print(f"{'holds' if holds else 'MISSED'}: {text}")
    return 0 if all(holds for holds, _ in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
