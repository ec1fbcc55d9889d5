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
from mobileclf.images.load import ImageSpec, load_one
from mobileclf.parallel import each
from mobileclf.records import canonical, sha256_json
from mobileclf.run import version_of
from mobileclf.source.store import Store

from .rows import KEY, Rows

Pixels = NDArray[np.uint8]
# Pictures at these places, int64 (n,), as uint8 (n, height, width, channels); for many threads.
Reader = Callable[[NDArray[np.int64]], Pixels]
DECODED_BY = ("mobileclf", "pillow", "pillow-heif")  # packages that pixels depend on
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
        """16 bytes for each that stand for the picture's content as `spec` and the installed
        decoder show it, and for `use`: what else is done to it, as JSON."""
        shown = hashlib.sha256(canonical([_shown(self.spec), use])).digest()
        return [
            hashlib.sha256(shown + bytes.fromhex(digest)).digest()[:KEY] for digest in self.digests
        ]


def _shown(spec: ImageSpec) -> object:
    """All that pixels depend on besides the picture, as JSON."""
    return [spec.as_record(), {package: version_of(package) for package in DECODED_BY}]


def decoded(pictures: Pictures, rows: Sequence[int], title: str) -> Iterator[Pixels]:
    """Pictures at these places one by one, uint8 (height, width, channels), decoded ahead in
    parallel, with a progress bar; few are in memory at once. Raises DataError for the first that
    cannot be used.
    """
    return each(
        partial(load_one, pictures.store, pictures.spec),
        [pictures.paths[row] for row in rows],
        title,
        cluster=pictures.cluster,
        shared=pictures.store.root,
    )


def kept_in(folder: Path, spec: ImageSpec, *, write: bool = True) -> Rows:
    """The file of `folder` for decoded pictures, of one spec and the installed decoder; of all
    parts of the data, so that a picture which changes its part is there."""
    return Rows(
        folder / f"{sha256_json(_shown(spec))[:32]}.rows", spec.shape, np.uint8, write=write
    )


def fill(kept: Rows, pictures: Pictures, title: str) -> None:
    """Decode into `kept` what it lacks, in parallel, with a progress bar.

    Raises DataError for a picture that cannot be used, EnvironmentProblem where it cannot be
    written.
    """
    rows = {key: row for row, key in enumerate(pictures.keys())}
    missing = kept.missing(rows)
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


def reader(pictures: Pictures, kept: Rows | None = None) -> Reader:
    """How pictures are read from now on: what `kept` has by then from there, all else decoded
    when it is asked for, on all cores.

    Reading raises DataError for a picture that cannot be used.
    """
    keys = pictures.keys()
    # Its threads end when nobody has the reader any more.
    pool = ThreadPoolExecutor(cores.usable(), thread_name_prefix="decode")
    work = partial(load_one, pictures.store, pictures.spec)

    def read(rows: NDArray[np.int64]) -> Pixels:
        if kept is not None and all(keys[row] in kept for row in rows):
            return kept.read([keys[row] for row in rows])
        found = np.empty((len(rows), *pictures.spec.shape), np.uint8)
        there = np.array([kept is not None and keys[row] in kept for row in rows], bool)
        if kept is not None and there.any():
            found[there] = kept.read([keys[row] for row in rows[there]])
        absent = np.flatnonzero(~there)
        names = [pictures.paths[row] for row in rows[absent]]
        for i, pixels in zip(absent, pool.map(work, names), strict=True):
            found[i] = pixels
        return found

    return read
