"""What is in the matrix: each variant's file on each runtime, with each kind of kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mobileclf.records import Record
from mobileclf.tflite.audit import CASTS
from mobileclf.tflite.graph import contents
from mobileclf.tflite.interpreter import AnyKernels
from mobileclf.tflite.runtimes import Runtime
from mobileclf.tflite.scorer import Job
from mobileclf.wording import counted

Arithmetic = Literal["integers", "float", "hybrid"]
FLOATS = {"float32", "float16"}
THREADS = (1, 2)
# Photos, evenly over the test part. More would say no more of a runtime; with more threads, and
# with what takes a second or more a photo (reference kernels, int16 without XNNPACK), fewer do.
MOST = 1000
OF_THREADS = 48
OF_SLOW = 8
SLOW_VARIANTS = ("int16x8",)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model file of the run. quanta: its outputs are on the int8 softmax's grid of 1/256."""

    name: str
    file: Path
    quanta: bool
    arithmetic: Arithmetic


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A variant as one runtime is asked to run it, on the first `photos` of all.

    kernels: those asked for; what ran is known once it ran (`family_of`).
    """

    variant: Variant
    runtime: Runtime
    kernels: AnyKernels
    threads: int
    photos: int

    @property
    def job(self) -> Job:
        return Job(
            model=self.variant.file, kernels=self.kernels, threads=self.threads, photos=self.photos
        )


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of an entry: outputs (photos, labels), uint8 quanta or float32; or why not.
    delegates: how many nodes a delegate made of the graph."""

    entry: Entry
    scores: NDArray[Any] | None
    delegates: int | None
    problem: str | None


def variants_of(folder: Path, converted: Record) -> list[Variant]:
    """The files that a run's `convert.json` lists, the float ones before the candidates."""
    files = [(row["variant"], row["file"], False) for row in converted["others"]]
    files += [(row["candidate"], row["file"], True) for row in converted["candidates"]]
    return [
        Variant(
            name=name,
            file=folder / file,
            quanta=quanta,
            arithmetic=arithmetic_of((folder / file).read_bytes()),
        )
        for name, file, quanta in files
    ]


def arithmetic_of(model: bytes) -> Arithmetic:
    """`integers` where nothing but a change of type is in float; `float` where no activation is
    ever rounded to integers; else `hybrid`. Raises DataError for what is no `.tflite`."""
    types = [set(op.types) for op in contents(model).operators if op.name not in CASTS]
    if not any(one & FLOATS for one in types):
        return "integers"
    # int32 are shapes and axes.
    return "hybrid" if any(one & {"int8", "uint8", "int16"} for one in types) else "float"


def entries_of(
    variants: Sequence[Variant], runtimes: Sequence[Runtime], photos: int
) -> list[Entry]:
    """All of them, those of a variant together. photos: how many there are."""
    kinds: tuple[AnyKernels, ...] = get_args(AnyKernels)
    return [
        Entry(
            variant=variant,
            runtime=runtime,
            kernels=kernels,
            threads=threads,
            photos=min(photos, _enough(variant.name, kernels, threads)),
        )
        for variant, runtime, kernels, threads in product(variants, runtimes, kinds, THREADS)
    ]


def _enough(variant: str, kernels: AnyKernels, threads: int) -> int:
    if kernels == "reference" or variant in SLOW_VARIANTS:
        return OF_SLOW
    return OF_THREADS if threads > 1 else MOST


def evenly_first(n: int, most: int = MOST) -> NDArray[np.int64]:
    """Indices of at most `most` of n photos, evenly over all, in an order whose first OF_SLOW,
    and first OF_THREADS, are spread evenly, too: the photos of a part lie by class."""
    chosen = _evenly(n, most)
    some = chosen[_evenly(len(chosen), OF_THREADS)]
    few = some[_evenly(len(some), OF_SLOW)]  # of those, so that the first are no others
    return np.array(list(dict.fromkeys([*few, *some, *chosen])), dtype=np.int64)


def _evenly(n: int, many: int) -> NDArray[np.int64]:
    return np.linspace(0, n - 1, min(n, many)).round().astype(np.int64)


def family_of(result: Result) -> str:
    """Whose kernels gave the outputs, whatever was asked for. A delegate that takes the graph in
    parts leaves the rest to the built-in kernels, so the number of its parts is in the name."""
    if result.entry.kernels != "xnnpack":
        return result.entry.kernels
    if result.delegates is None:
        return "unknown"
    if not result.delegates:
        return "builtin"
    return "xnnpack" if result.delegates == 1 else f"xnnpack in {result.delegates} parts"


def name_of(entry: Entry) -> str:
    """As `ai-edge-litert, xnnpack, 1 thread`."""
    return f"{entry.runtime}, {entry.kernels}, {counted(entry.threads, 'thread')}"
