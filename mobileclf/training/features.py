"""What a frozen network makes of each picture and each augmented view of it, computed once.

Features are kept as float16 in `<folder>/<key of the network>.rows`, one row for each picture
and view, by the picture's content, its preprocessing and what was done to it. So only what is
new or changed is computed, and what was killed goes on where it was.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError, EnvironmentProblem
from mobileclf.images.augment import Augmentations, as_record, augmented_batch
from mobileclf.images.load import ImageSpec, load_one
from mobileclf.parallel import each
from mobileclf.source.store import Store

from .pictures import Pictures, Pixels, Reader
from .rows import Rows

# Of pixels float32 (batch, height, width, channels) in 0..255 the features float32 (batch, ...).
Extract = Callable[[NDArray[np.float32]], Any]
AT_ONCE = 8  # pictures and views that a worker makes in one go


class Wanted(NamedTuple):
    """A picture, by its place and its path, and the views of it that are wanted. content: as of
    `Pictures.content`. All that a worker elsewhere needs to know of it."""

    row: int
    path: str
    content: np.uint64
    views: tuple[int, ...]


class Features:
    """Features of n pictures and `views` views of each, in files that stay open.

    Row view * n + picture is that view of that picture. Reading is for many threads.
    """

    def __init__(self, keys: Sequence[bytes], files: Sequence[Rows]) -> None:
        self.shape = files[0].shape
        self._keys = keys
        self._files = files

    def __len__(self) -> int:
        return len(self._keys)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features of these rows, float32 (len(rows), *shape)."""
        keys = [self._keys[row] for row in rows]
        found = np.empty((len(keys), *self.shape), np.float32)
        for file in self._files:
            if here := [i for i, key in enumerate(keys) if key in file]:
                found[here] = file.read([keys[i] for i in here])
        return found


def features(
    extract: Extract,
    pictures: Pictures,
    *,
    folder: Path,
    key: str,
    shape: tuple[int, ...],
    batch: int,
    title: str,
    augmentations: Augmentations = (),
    views: int = 1,
    seed: int = 0,
    read: Reader | None = None,
    share: tuple[int, int] = (0, 1),
    wait: Callable[[], None] = lambda: None,
) -> Features:
    """Features of each picture, or of `views` augmented views of each; what `folder` lacks of
    them is computed first, with a progress bar, each picture decoded once for all its views.

    extract: always gets exactly `batch` pictures, the last of them repeated to fill the last
    batch. key: names the network with its weights; another key is another file. shape: of the
    features of one picture. augmentations: none for the pictures as they are; else view v is what
    `augment.augmented_batch` shows in round v. read: of `pictures.reader` where there is a cache;
    None decodes. share: (i, n) where n processes do this together, each every n-th picture into a
    file of its own; `wait` returns once all of them are done.

    Raises DataError for a picture that cannot be used and for features that float16 cannot hold,
    EnvironmentProblem for files that cannot be written or, of another process, are not there.
    """
    index, count = share
    name = f"{key}.rows" if count == 1 else f"{key}.{index}.rows"
    keys = _keys(pictures, augmentations, views, seed)
    own = Rows(folder / name, shape, np.float16)
    present = [own, *_others(own, key)]
    wanted = _missing(pictures, keys, present, range(index, len(pictures), count))
    _compute(extract, pictures, wanted, keys, own, batch, title, augmentations, seed, read)
    own.sync()
    wait()
    flat = [one for of_view in keys for one in of_view]
    files = [own]
    if own.missing(flat):
        files += _others(own, key)
    if absent := [one for one in flat if not any(one in file for file in files)]:
        raise EnvironmentProblem(
            f"{folder}: wanted features of {len(flat)} pictures and views, {len(absent)} of them "
            "are not there; all processes of a run must see the same folder and run to the end"
        )
    return Features(flat, files)


def lacking(
    pictures: Pictures,
    *,
    folder: Path,
    key: str,
    shape: tuple[int, ...],
    augmentations: Augmentations = (),
    views: int = 1,
    seed: int = 0,
) -> int:
    """How many features `features` would compute, by all processes together."""
    own = Rows(folder / f"{key}.rows", shape, np.float16, write=False)
    keys = _keys(pictures, augmentations, views, seed)
    wanted = _missing(pictures, keys, [own, *_others(own, key)], range(len(pictures)))
    return sum(len(one.views) for one in wanted)


def _keys(
    pictures: Pictures, augmentations: Augmentations, views: int, seed: int
) -> list[list[bytes]]:
    """Of each view and picture."""
    return [pictures.keys(_use(augmentations, seed, view)) for view in range(views)]


def _use(augmentations: Augmentations, seed: int, view: int) -> object:
    """What makes a view another than the picture as it is, as JSON."""
    if not augmentations:
        return None
    return {"seed": seed, "augment": as_record(augmentations), "view": view}


def _others(own: Rows, key: str) -> list[Rows]:
    """The files of the same network that other processes write or wrote."""
    escaped = glob.escape(key)
    paths = {*own.path.parent.glob(f"{escaped}.rows"), *own.path.parent.glob(f"{escaped}.*.rows")}
    return [Rows(path, own.shape, own.dtype, write=False) for path in sorted(paths - {own.path})]


def _missing(
    pictures: Pictures,
    keys: Sequence[Sequence[bytes]],
    files: Sequence[Rows],
    rows: Iterable[int],
) -> list[Wanted]:
    """What is to be computed of the pictures in these places; keys: of each view and picture."""
    planned: set[bytes] = set()  # a picture may be there twice
    wanted = []
    for row in rows:
        views = []
        for view, of_view in enumerate(keys):
            one = of_view[row]
            if one not in planned and not any(one in file for file in files):
                planned.add(one)
                views.append(view)
        if views:
            wanted.append(Wanted(row, pictures.paths[row], pictures.content[row], tuple(views)))
    return wanted


def _compute(
    extract: Extract,
    pictures: Pictures,
    wanted: Sequence[Wanted],
    keys: Sequence[Sequence[bytes]],
    own: Rows,
    batch: int,
    title: str,
    augmentations: Augmentations,
    seed: int,
    read: Reader | None,
) -> None:
    shown = each(
        partial(_views, pictures.store, pictures.spec, augmentations, seed, read),
        wanted,
        title,
        cluster=pictures.cluster if read is None else None,
        # A worker's results are in memory together, so more views are fewer pictures.
        batch=max(1, AT_ONCE // len(keys)),
        shared=pictures.store.root,
    )
    order = [(one.row, view) for one in wanted for view in one.views]
    batches = _batches(shown, batch, pictures.spec.shape)
    done = 0
    # The next batch is made ready, by workers of its own, while the network has this one.
    with closing(batches), ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(next, batches, None)
        while (made := coming.result()) is not None:
            coming = ahead.submit(next, batches, None)
            pixels, count = made
            rows = order[done : done + count]
            values = np.asarray(extract(pixels))[:count]
            own.append(
                [keys[view][row] for row, view in rows],
                _half(values, [pictures.paths[row] for row, _ in rows]),
            )
            done += count


def _views(
    store: Store,
    spec: ImageSpec,
    augmentations: Augmentations,
    seed: int,
    read: Reader | None,
    wanted: Wanted,
) -> Pixels:
    """Views of one picture, uint8 (views, height, width, channels)."""
    views = wanted.views
    if read is None:
        photo = load_one(store, spec, wanted.path)[None]
    else:
        photo = read(np.array([wanted.row]))
    return augmented_batch(
        np.repeat(photo, len(views), axis=0), augmentations,
        seed=seed, content=np.repeat(wanted.content, len(views)), round=np.array(views),
    )  # fmt: skip


def _batches(
    shown: Iterable[Pixels], batch: int, shape: tuple[int, ...]
) -> Generator[tuple[NDArray[np.float32], int], None, None]:
    """float32 (batch, *shape) one after the other, and how many of each are no repetition."""
    pixels, count = np.empty((batch, *shape), np.float32), 0
    for views in shown:
        for view in views:
            pixels[count] = view
            count += 1
            if count == batch:
                yield pixels, count
                pixels, count = np.empty_like(pixels), 0
    if count:
        pixels[count:] = pixels[count - 1]
        yield pixels, count


def _half(values: NDArray[Any], paths: Sequence[str]) -> NDArray[np.float16]:
    """`values` as float16. Raises DataError where that cannot hold them."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    good = np.isfinite(half).reshape(len(half), -1).all(axis=1)
    if not good.all():
        bad = int(np.argmin(good))
        most = float(np.abs(values[bad].astype(np.float32)).max())
        raise DataError(
            f"features of {paths[bad]}: wanted numbers up to {np.finfo(np.float16).max:.0f}, which "
            f"float16 holds, found {most:g}; give weights that fit the network, or --precision "
            "float32 where it is float16"
        )
    return half
