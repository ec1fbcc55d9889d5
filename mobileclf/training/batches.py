"""Training examples a batch at a time, for `keras.Model.fit` on every backend.

Every batch has the same size, so that a step is compiled once; what fills a batch up counts for
nothing in validation, and in training is the beginning of the same order once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import MobileclfError

Batch = tuple[NDArray[Any], ...]
# Inputs of the examples at these places, int64 (n,), as a round (an epoch) shows them.
Reader = Callable[[NDArray[np.int64], int], NDArray[np.float32]]
ORDER = 3  # last word of the seed of an epoch's order; augment.py has words of its own
PEEKED = 3  # batches that Keras reads twice, to learn their shape first


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of each batch is this process's: the index-th of `count` equal pieces."""

    index: int = 0
    count: int = 1


def batch_size(asked: int, examples: int, devices: int = 1) -> int:
    """Examples in a step: as asked, no more than there are, in equal parts for each device."""
    return -(-min(asked, examples) // devices) * devices


def batches(
    read: Reader,
    truth: NDArray[np.int64],
    weights: NDArray[np.float32] | None,
    *,
    size: int,
    seed: int | None = None,
    share: Share = Share(),  # noqa: B008, which is frozen
    workers: int = 1,
) -> Any:
    """A `keras.utils.PyDataset` of (inputs, labels int64 (size, 1), weights float32).

    truth, weights: of each example, weights None for all 1. seed: in training, where each round
    has an order of its own, from the seed; `start(round)` begins one. None: in their order, the
    last batch filled up with examples of weight 0. workers: threads that read ahead.
    """
    import keras

    count = len(truth)
    steps = -(-count // size)
    all_weights = np.ones(count, np.float32) if weights is None else weights
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.failed: MobileclfError | None = None
            self.coming: dict[int, Future[Batch]] = {}
            self.start(0)

        def start(self, round: int, most: int = steps) -> None:
            for waiting in self.coming.values():
                waiting.cancel()
            self.coming = {}
            self.round, self.steps = round, min(most, steps)
            order = np.arange(count)
            if seed is not None:
                order = np.random.default_rng((seed, round, 0, ORDER)).permutation(order)
            self.order = np.resize(order, steps * size)

        def __len__(self) -> int:
            return self.steps

        def __getitem__(self, number: int) -> Batch:
            # Keras' own threads, with `workers`, show a model that is new on JAX wrong batches.
            for ahead in range(number, min(number + 2 * workers, self.steps)):
                if ahead not in self.coming:
                    self.coming[ahead] = pool.submit(self._read, ahead, self.round)
            if number >= PEEKED:
                for done in [other for other in self.coming if other < number]:
                    del self.coming[done]
            try:
                return self.coming[number].result()
            except MobileclfError as error:
                self.failed = error  # TensorFlow would tell it in words of its own
                raise

        def _read(self, number: int, round: int) -> Batch:
            own = size // share.count
            places = number * size + share.index * own + np.arange(own)
            rows = self.order[places]
            chosen = all_weights[rows]
            if seed is None:
                chosen = np.where(places < count, chosen, np.float32(0))
            return read(rows, round), truth[rows, None], chosen

    return Batches()


@contextmanager
def what_failed(*data: Any) -> Iterator[None]:
    """Around what reads `batches`: raises the MobileclfError that a read of theirs ended in."""
    try:
        yield
    except Exception:
        for one in data:
            if one.failed is not None:
                raise one.failed from None
        raise
