"""Copies: pictures that are the same but for their size or encoding.

Pictures of one size with the same pixels are copies, however small. Else a perceptual hash
(imagehash's phash: the signs of the lowest 8 x 8 DCT coefficients against their median, 64 bits)
names candidates, and the correlation of the pixels decides. Copies must lie in one part of the
data, or the test photos are partly training photos.

What decides: hashes at most MAX_DISTANCE bits apart, pixels at SIDE x SIDE that correlate above
MIN_CORRELATION, and both pictures at least SMALLEST pixels on each side. A crop, a mirror image
or another photo of the same thing is another picture. Time and memory grow with the number of
pictures and not with that of the pairs, for which three limits stand: CROWDED, NEIGHBOURS and
ROUNDS. They can cost a copy among many pictures that look much alike; never add one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mobileclf.unions import joined

HASH_BITS = 64
BAND_WIDTHS = (7, 7, 7, 7, 6, 6, 6, 6, 6, 6)  # bits, HASH_BITS in sum
MAX_DISTANCE = 7
EQUAL_BANDS = len(BAND_WIDTHS) - MAX_DISTANCE  # so few differing bits leave so many bands equal
# At 32 pixels, what a copy's smaller size has lost no longer shows: copies correlate above 0.997
# (above 0.991 at half the size and JPEG quality 40) and the most alike different photos of four
# mushroom species below 0.95, of cats and dogs below 0.83. At 64 they overlap.
SIDE = 32
MIN_CORRELATION = 0.99
SMALLEST = 64  # pixels on the shorter side, below which looking the same proves little
PIECE = 1 << 22  # pixels hashed at once
BLOCK = 1 << 12  # pictures or pairs worked on at once

# Where more pictures than this agree in the bits that name candidates (all have the same
# background, say), each is compared with its next NEIGHBOURS in the order of the hash only, and
# all of them are looked at again by what tells them apart, ROUNDS times at most.
CROWDED = 100
NEIGHBOURS = 4
ROUNDS = 4
COARSE = 16  # pixels a side of what the second look compares
COMPONENTS = 32


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What is kept of a picture to find its copies.

    hash: 64-bit perceptual hash. grey: uint8 (SIDE, SIDE). short_side: pixels of the original.
    pixels: sha256 over its size and RGB bytes.
    """

    hash: int
    grey: NDArray[np.uint8]
    short_side: int
    pixels: str


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Indices of pictures. `groups`: copies of one another, each picture in one group at most.
    `too_small`: pairs that look alike where one is too small to be sure, each later picture in
    one pair; never merged."""

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
        pixels=_digest(image),
    )


def _digest(image: Image.Image) -> str:
    """Hex sha256 over "<width> <height> " and the pixels, row by row, RGB."""
    digest = hashlib.sha256(f"{image.width} {image.height} ".encode())
    rows = max(1, PIECE // image.width)  # in pieces: no second copy of a large photo
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        digest.update(image.crop((0, top, image.width, bottom)).tobytes())
    return digest.hexdigest()


def find_copies(signatures: Sequence[Signature]) -> Copies:
    """Groups of copies, by equal pixels or by what the module's docstring says. Groups and their
    members are in ascending order."""
    first: dict[str, int] = {}
    equal = [(first.setdefault(s.pixels, i), i) for i, s in enumerate(signatures)]
    different = list(first.values())
    copies: list[tuple[int, int]] = []
    too_small: dict[int, int] = {}
    for a, b in confirmed([signatures[i] for i in different]):
        i, j = different[a], different[b]
        if min(signatures[i].short_side, signatures[j].short_side) < SMALLEST:
            too_small.setdefault(j, i)
        else:
            copies.append((i, j))
    units = joined(len(signatures), [*equal, *copies], range(len(signatures)))
    return Copies(
        groups=tuple(unit for unit in units if len(unit) > 1),
        too_small=tuple(sorted((i, j) for j, i in too_small.items())),
    )


def confirmed(signatures: Sequence[Signature]) -> Iterator[tuple[int, int]]:
    """Pairs (i < j) whose hashes and pixels say that they are the same picture."""
    if not signatures:
        return
    hashes = np.array([s.hash for s in signatures], dtype=np.uint64)
    pairs, crowded = candidates(hashes)
    found = [pairs]
    for turn in range(ROUNDS):
        if len(crowded) == 0:
            break
        apart = _hashes_apart([signatures[i].grey for i in crowded], turn)
        pairs, still = candidates(apart)
        pairs = crowded[pairs]
        near = distance(hashes[pairs[:, 0]], hashes[pairs[:, 1]]) <= MAX_DISTANCE
        found.append(pairs[near])
        crowded = crowded[still]
    coarse = np.concatenate([_sketch(block) for block in _blocks(signatures)])
    pairs = np.unique(np.concatenate(found), axis=0)
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        # The sketch is a projection, and a projection is never longer: no copy is lost here.
        apart = coarse[block[:, 0]] - coarse[block[:, 1]]
        block = block[(apart * apart).sum(axis=1) <= 2 * (1 - MIN_CORRELATION) + 1e-3]
        left = np.array([signatures[i].grey for i in block[:, 0]]).reshape(-1, SIDE, SIDE)
        right = np.array([signatures[j].grey for j in block[:, 1]]).reshape(-1, SIDE, SIDE)
        for i, j in block[correlation(left, right) > MIN_CORRELATION]:
            yield int(i), int(j)


def _blocks(signatures: Sequence[Signature]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(signatures), BLOCK):
        yield np.stack([s.grey for s in signatures[start : start + BLOCK]])


def _sketch(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures of mean 0 and length 1 projected on 8 x 8 blocks: float32 (n, 64). Two whose
    correlation is r lie at most sqrt(2 - 2 r) apart; those without contrast are at 0."""
    values = _standardized(grey.reshape(len(grey), -1).astype(np.float32))
    block = SIDE // 8
    sums = values.reshape(-1, 8, block, 8, block).sum(axis=(2, 4)) / block
    return sums.reshape(len(grey), -1)


def _standardized(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of mean 0 and length 1, or all 0. float32 (n, m)."""
    values = values - values.mean(axis=1, keepdims=True)
    length = np.sqrt((values * values).sum(axis=1, keepdims=True))
    return values / np.where(length > 0, length, 1)


def _hashes_apart(greys: Sequence[NDArray[np.uint8]], turn: int) -> NDArray[np.uint64]:
    """A 64-bit hash, uint64 (n,), of what tells these pictures apart: signs of random directions
    in their principal components, each scaled to variance 1, so that what they share has no
    weight (PCA-RR of Gong & Lazebnik 2011). turn: another one gives other directions."""
    step = SIDE // COARSE
    rows = []
    for start in range(0, len(greys), BLOCK):
        grey = np.stack(greys[start : start + BLOCK]).reshape(-1, COARSE, step, COARSE, step)
        means = grey.mean(axis=(2, 4), dtype=np.float32)
        rows.append(_standardized(means.reshape(len(means), -1)))
    values = np.concatenate(rows).astype(np.float64)
    values -= values.mean(axis=0)
    variances, components = np.linalg.eigh(values.T @ values / len(values))
    scale = np.sqrt(np.maximum(variances[-COMPONENTS:], 1e-12))
    # The sign of a component is the library's choice; the same copies are to be found everywhere.
    components = components[:, -COMPONENTS:]
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(COMPONENTS)])
    rng = np.random.default_rng(turn)
    directions = (components / scale) @ rng.normal(size=(COMPONENTS, HASH_BITS))
    bits = np.packbits(values @ directions > 0, axis=1)
    return bits.view(np.uint64).ravel()


def correlation(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Pearson correlation of the pixels of each pair, float64 (n,), from two uint8 (n, h, w).

    Two pictures without any contrast: 1 if equal, else 0.
    """
    a, b = (x.reshape(len(x), x.shape[1] * x.shape[2]).astype(np.float64) for x in (left, right))
    equal = (a == b).all(axis=1)
    a -= a.mean(axis=1, keepdims=True)
    b -= b.mean(axis=1, keepdims=True)
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    product: NDArray[np.float64] = (a * b).sum(axis=1)
    return np.where(scale > 0, product / np.where(scale > 0, scale, 1), equal.astype(np.float64))


def candidates(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (i < j) at most MAX_DISTANCE bits apart, int64 (pairs, 2), sorted, from uint64 (n,),
    and the pictures, int64 (m,), for which not all may be among them.

    Multi-index hashing (Norouzi, Punjani & Fleet 2012): each differing bit spoils one band at
    most, so hashes that are near have EQUAL_BANDS of the bands in common, and for each choice of
    so many only pictures that agree in all of their bits (about 19) are compared.
    """
    count = len(hashes)
    by_hash = np.argsort(hashes, kind="stable")
    hashes = hashes[by_hash]
    crowded = np.zeros(count, dtype=bool)
    found = [np.empty(0, dtype=np.int64)]
    for mask in _masks():
        keys = hashes & mask
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[:count])
        sizes = np.diff(np.append(starts, count))
        many = np.repeat(sizes > CROWDED, sizes)
        crowded[order[many]] = True
        # Each with the next of its bucket, then with the one after that, and so on.
        at, step = np.arange(count), 0
        while len(at):
            step += 1
            at = at[at + step < count]
            at = at[keys[at] == keys[at + step]]
            if step > NEIGHBOURS:
                at = at[~many[at]]
            i, j = order[at], order[at + step]
            near = distance(hashes[i], hashes[j]) <= MAX_DISTANCE
            i, j = by_hash[i[near]], by_hash[j[near]]
            found.append(np.minimum(i, j) * count + np.maximum(i, j))
        # Near pairs agree in many of the choices: what is there twice goes now and then.
        if sum(map(len, found[1:])) > max(1 << 21, len(found[0])):
            found = [np.unique(np.concatenate(found))]
    pairs = np.unique(np.concatenate(found))
    return np.stack([pairs // max(count, 1), pairs % max(count, 1)], axis=1), np.sort(
        by_hash[crowded]
    )


def _masks() -> Iterator[np.uint64]:
    """The bits of each choice of EQUAL_BANDS bands."""
    bands, start = [], 0
    for width in BAND_WIDTHS:
        bands.append(((1 << width) - 1) << start)
        start += width
    for chosen in combinations(bands, EQUAL_BANDS):
        yield np.uint64(sum(chosen))


def distance(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of differing bits of each pair, int64 (n,)."""
    # A multiplication sums the counts of the eight bytes: the population count of numpy 2 alone
    # would do without.
    x = left ^ right
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((x * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)
