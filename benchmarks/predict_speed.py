"""How fast `predict` labels photos, against the interpreters alone on pixels in memory.

    python benchmarks/predict_speed.py MODEL PHOTOS [--rounds 5] [--most 200] [predict's options]

MODEL: what `predict` takes, a `.tflite` inside. The interpreters alone are measured as one with a
thread for each core, as a single-threaded one for each core, and as pairs of threads between; the
fastest of a round is its limit. Each round measures, one after the other: that, `predict` itself
(its checks and the opening of the model taken off, since they do not grow with the photos),
decoding, and decoding with resizing, both in the same threads. Prints images a second, and the
ratios with their interval over the rounds. Exits with 1 where the middle ratio of `predict` to its
limit is under `--least`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mobileclf import bundles, cores
from mobileclf.images.load import decode
from mobileclf.prediction import predict as prediction
from mobileclf.prediction.classifier import Classifier, open_classifier
from mobileclf.prediction.pictures import load_picture, pictures_of, read_picture
from mobileclf.tflite.interpreter import open_interpreter


def model_bytes(model: Path) -> bytes:
    """The `.tflite` of a bundle, or a file."""
    return bundles.proven(model)[0] if model.is_dir() else model.read_bytes()


def invoking(data: bytes, pixels: Sequence[Any], interpreters: int, threads: int) -> float:
    """Images a second of set, invoke and get alone."""
    opened = [open_interpreter(data, threads=threads) for _ in range(interpreters)]
    inputs = [image.astype(opened[0].input.dtype)[None] for image in pixels]

    def work(place: int) -> None:
        one = opened[place]
        for image in inputs[place::interpreters]:
            one.engine.set_tensor(one.input.index, image)
            one.engine.invoke()
            one.engine.get_tensor(one.output.index)

    for place in range(interpreters):  # the first call packs weights
        opened[place].engine.set_tensor(opened[place].input.index, inputs[0])
        opened[place].engine.invoke()
    with ThreadPoolExecutor(interpreters) as pool:
        return rate(len(pixels), lambda: list(pool.map(work, range(interpreters))))


def rate(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def measured(classifier: Classifier, data: bytes, found: Any, pixels: Any, ways: Any) -> Any:
    """One round: images a second by name."""
    count = len(found.rows)

    def decoding(picture: Any) -> None:
        decode(read_picture(found.stores, picture), classifier.spec)

    def resizing(picture: Any) -> None:
        load_picture(classifier.spec, found.stores, picture)

    def each(work: Callable[[Any], None]) -> Callable[[], object]:
        return lambda: list(prediction._in_threads(work, found.rows))

    return {
        "limit": max(invoking(data, pixels, *way) for way in ways),
        "predict": rate(count, lambda: list(prediction._answers(classifier, found, None))),
        "decode": rate(count, each(decoding)),
        "decode and resize": rate(count, each(resizing)),
    }


def spread(values: Sequence[float], places: int) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{places}f}  ({low:.{places}f} to {high:.{places}f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--least", type=float, default=0.8)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--preprocess")
    given = parser.parse_args()
    classifier = open_classifier(given.model, labels=given.labels, how=given.preprocess)
    data = model_bytes(given.model)
    opened = prediction._pooled(classifier.scorer)
    classifier = replace(classifier, scorer=lambda: opened)
    every = pictures_of([given.photos], None, None)
    step = max(1, len(every.rows) // given.most)
    found = type(every)(
        rows=every.rows[::step][: given.most], stores=every.stores, roots=every.roots
    )
    pixels = [load_picture(classifier.spec, found.stores, picture) for picture in found.rows]
    if unread := [p for p in pixels if isinstance(p, str)]:
        parser.error(f"wanted readable photos, found {unread[0]}")
    usable = cores.usable()
    ways = sorted({(usable, 1), (1, usable), (max(1, usable // 2), min(usable, 2))})
    measured(classifier, data, found, pixels, ways)  # opens what is used again
    rounds = [measured(classifier, data, found, pixels, ways) for _ in range(given.rounds)]
    print(f"{len(pixels)} photos, {np.shape(pixels[0])}, {usable} cores, {given.rounds} rounds")
    for name in rounds[0]:
        print(f"{name:20} {spread([one[name] for one in rounds], 1)} images/s")
    whole = [1 / (1 / one["limit"] + 1 / one["decode and resize"]) for one in rounds]
    ratios = {
        "predict / limit": [one["predict"] / one["limit"] for one in rounds],
        # All cores do both, so that the times of both add up.
        "predict / both": [one["predict"] / both for one, both in zip(rounds, whole, strict=True)],
        "predict / slower": [
            one["predict"] / min(one["limit"], one["decode and resize"]) for one in rounds
        ],
    }
    for name, values in ratios.items():
        print(f"{name:20} {spread(values, 3)}")
    if (found := statistics.median(ratios["predict / limit"])) < given.least:
        sys.exit(f"predict / limit: wanted at least {given.least}, found {found:.3f}")


if __name__ == "__main__":
    main()
