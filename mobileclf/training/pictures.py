"""Pictures to train on: decoded in parallel, in order or when asked for, once with a cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileclf import cores
from mobileclf.errors import DataError
from mobileclf.images.load import ImageSpec, load
from mobileclf.parallel import each
from mobileclf.records import canonical
from mobileclf.source.store import Store

from .rows import KEY, Rows

Pixels = NDArray[np.uint8]
# Pictures at these places, int64 (n,), as uint8 (n, height, width, channels); for many threads.
Reader = Callable[[NDArray[np.int64]], Pixels]
WRITTEN = 1 << 23  # bytes of pictures that go to the cache at once


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures in an order, and how each becomes the model's input.

    paths: names in the store. digests: sha256 of each file, hex. cluster: as of `parallel.each`.
    """

    store: Store
    paths: tuple[str, ...]
    digests: tuple[str, ...]
    spec: ImageSpec
    cluster: str | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @cached_property
    def content(self) -> NDArray[np.uint64]:
        """A number of each picture's own, (n,): the first 8 bytes of its sha256."""
        return np.array([int(digest[:16], 16) for digest in self.digests], np.uint64)

    def keys(self, use: object = None) -> list[bytes]:
        """16 bytes for each that stand for the picture's content as `spec` shows it, and for
        `use`: what else is done to it, as JSON."""
        shown = hashlib.sha256(canonical([self.spec.as_record(), use])).digest()
        return [
            hashlib.sha256(shown + bytes.fromhex(digest)).digest()[:KEY] for digest in self.digests
        ]


def decode(store: Store, spec: ImageSpec, name: str) -> Pixels:
    """One picture, uint8 (height, width, channels). Raises DataError, which names it."""
    try:
        return load(store.read(name), spec)
    except DataError as error:
        raise DataError(f"{store.root / name}: {error}") from error


def decoded(pictures: Pictures, rows: Sequence[int], title: str) -> Iterator[Pixels]:
    """Pictures at these places one by one, uint8 (height, width, channels), decoded ahead in
    parallel, with a progress bar; few are in memory at once. Raises DataError for the first that
    cannot be used.
    """
    return each(
        partial(decode, pictures.store, pictures.spec),
        [pictures.paths[row] for row in rows],
        title,
        cluster=pictures.cluster,
        shared=pictures.store.root,
    )


def reader(pictures: Pictures, cache: Path | None, title: str) -> Reader:
    """How pictures are read from now on: decoded when asked for, on all cores; or from the file
    `cache`, which is filled first with what it lacks, in parallel, with a progress bar.

    Raises DataError for a picture that cannot be used, EnvironmentProblem for a cache that cannot
    be read or written.
    """
    if cache is None:
        return _on_demand(pictures)
    keys = pictures.keys()
    kept = Rows(cache, pictures.spec.shape, np.uint8)
    _fill(kept, pictures, keys, title)

    def read(rows: NDArray[np.int64]) -> Pixels:
        return kept.read([keys[row] for row in rows])

    return read


def _on_demand(pictures: Pictures) -> Reader:
    pool = ThreadPoolExecutor(cores.usable(), thread_name_prefix="decode")
    work = partial(decode, pictures.store, pictures.spec)

    def read(rows: NDArray[np.int64]) -> Pixels:
        found = np.empty((len(rows), *pictures.spec.shape), np.uint8)
        for i, pixels in enumerate(pool.map(work, [pictures.paths[row] for row in rows])):
            found[i] = pixels
        return found

    return read


def _fill(kept: Rows, pictures: Pictures, keys: Sequence[bytes], title: str) -> None:
    rows = {key: row for row, key in enumerate(keys)}
    missing = kept.missing(keys)
    if not missing:
        return
    at_once = max(1, WRITTEN // int(np.prod(pictures.spec.shape)))
    some: list[Pixels] = []
    done = 0
    for pixels in decoded(pictures, [rows[key] for key in missing], title):
        some.append(pixels)
        if len(some) == at_once or done + len(some) == len(missing):
            kept.append(missing[done : done + len(some)], np.stack(some))
            done += len(some)
            some.clear()
    kept.sync()
