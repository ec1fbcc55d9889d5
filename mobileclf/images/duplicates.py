"""Copies: pictures that are the same but for their size or encoding.

A perceptual hash (imagehash's phash: the signs of the lowest 8 x 8 DCT coefficients against
their median, 64 bits) names candidates; the correlation of the pixels decides. Copies must lie
in one part of the data, or the test photos are partly training photos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BITS = 64
BANDS = 8
MAX_DISTANCE = BANDS - 1  # at most so many differing bits leave one of the bands equal
# At 32 pixels, what a copy's smaller size has lost no longer shows: copies correlate above 0.997
# and the most alike different photos of four mushroom species below 0.95. At 64 they overlap.
SIDE = 32
MIN_CORRELATION = 0.99
SMALLEST = 64  # pixels on the shorter side, below which looking the same proves little
# A band that this many pictures share says nothing about them (all the same background, say);
# they are compared with their neighbours in the order of the whole hash only.
CROWDED = 2000
NEIGHBOURS = 200


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What is kept of a picture to find its copies.

    hash: 64-bit perceptual hash. grey: uint8 (SIDE, SIDE). short_side: pixels of the original.
    """

    hash: int
    grey: NDArray[np.uint8]
    short_side: int


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Indices of pictures. `groups`: copies of one another, each picture in one group at most.
    `too_small`: pairs that look alike where one is too small to be sure; never merged."""

    groups: tuple[tuple[int, ...], ...]
    too_small: tuple[tuple[int, int], ...]


def signature(image: Image.Image) -> Signature:
    """The signature of a decoded RGB picture."""
    import imagehash

    picture = image.convert("L")
    bits = np.packbits(imagehash.phash(picture, hash_size=8).hash.ravel())
    grey = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return Signature(
        hash=int.from_bytes(bits.tobytes(), "big"),
        grey=np.asarray(grey, dtype=np.uint8),
        short_side=min(image.size),
    )


def find_copies(signatures: Sequence[Signature]) -> Copies:
    """Groups of copies, by hashes at most MAX_DISTANCE bits apart and a correlation of the grey
    pixels above MIN_CORRELATION. Groups and their members are in ascending order."""
    parent = list(range(len(signatures)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    too_small = []
    for i, j in confirmed(signatures):
        if min(signatures[i].short_side, signatures[j].short_side) < SMALLEST:
            too_small.append((i, j))
        else:
            low, high = sorted((root(i), root(j)))
            parent[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(signatures)):
        members[root(i)].append(i)
    groups = tuple(tuple(group) for group in members.values() if len(group) > 1)
    return Copies(groups=groups, too_small=tuple(sorted(too_small)))


def confirmed(signatures: Sequence[Signature]) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) whose hashes and pixels say that they are the same picture."""
    pairs = candidates(np.array([s.hash for s in signatures], dtype=np.uint64))
    for start in range(0, len(pairs), 1024):
        block = pairs[start : start + 1024]
        left = np.stack([signatures[i].grey for i in block[:, 0]])
        right = np.stack([signatures[j].grey for j in block[:, 1]])
        for (i, j), same in zip(block, correlation(left, right) > MIN_CORRELATION, strict=True):
            if same:
                yield int(i), int(j)


def correlation(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pearson correlation of the pixels of each pair, float64 (n,), from two uint8 (n, h, w).

    Two pictures without any contrast: 1 if equal, else 0.
    """
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (left, right))
    equal = (a == b).all(axis=1)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    product: NDArray[np.float64] = (a * b).sum(axis=1)
    return np.where(scale > 0, product / np.where(scale > 0, scale, 1), equal.astype(np.float64))


def candidates(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Pairs (i < j) at most MAX_DISTANCE bits apart, int64 (pairs, 2), sorted, from uint64 (n,).

    Multi-index hashing (Norouzi, Punjani & Fleet 2012): by the pigeonhole principle, hashes
    that differ in fewer bits than there are bands have one band in common, so only pictures
    within one bucket are compared. Complete up to CROWDED pictures a bucket.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    width = HASH_BITS // BANDS
    for band in range(BANDS):
        keys = (hashes >> np.uint64(band * width)) & np.uint64((1 << width) - 1)
        order = np.lexsort((hashes, keys))
        edges = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, edges):
            reach = len(bucket) if len(bucket) <= CROWDED else NEIGHBOURS
            for step in range(1, min(reach, len(bucket))):
                i, j = bucket[:-step], bucket[step:]
                near = distance(hashes[i], hashes[j]) <= MAX_DISTANCE
                found.append(np.sort(np.stack([i[near], j[near]], axis=1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def distance(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of differing bits of each pair, int64 (n,)."""
    octets = (left ^ right).view(np.uint8).reshape(-1, HASH_BITS // 8)
    return np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.int64)
