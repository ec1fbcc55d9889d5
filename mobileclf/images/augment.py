"""Augmentation: pictures moved, turned and lit otherwise, in training and nowhere else.

What is done to a picture follows from the seed, its own content and the round alone, in whatever
order, batch or process it comes, and whatever other photos there are. A round is an epoch, or a
view of the photo. Everything that moves pixels is one affine map, so a picture is resampled once;
numpy alone, so that every backend of Keras trains on the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.spelling import AUGMENTATIONS

Pixels = NDArray[np.uint8]
Words = NDArray[np.uint64]
Augmentations = Sequence[tuple[str, float]]
# What a number is drawn for: each use has its own, asked for or not, so that another
# augmentation beside one leaves its amounts as they were.
_ROTATE, _ZOOM_X, _ZOOM_Y, _SHEAR, _RIGHT, _DOWN, _BRIGHTNESS, _CONTRAST = range(8)
_AMOUNTS = np.arange(8, dtype=np.uint64)
_ORIENTATION = np.uint64(8)
_MOVE = {"rotate", "zoom", "shear", "translate"}
# Pixels that are worked on at once, in rows of whatever photos. What that needs beside, 60 bytes
# for each, stays in the cache and in memory that is not asked of the system anew each time:
# 2**17 took up to twice as long.
_AT_ONCE = 1 << 14
# SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA
# 2014; the shifts and factors are David Stafford's "Mix13".
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


def augmented_batch(
    photos: Pixels,
    augmentations: Augmentations,
    *,
    seed: int,
    content: Words,
    round: int | NDArray[np.int64],
) -> Pixels:
    """`photos`, uint8 (n, height, width, channels), as round `round` shows them; same shape and
    type. The same bytes for a photo whatever else is in the batch.

    augmentations: (name, value) as of `spelling.augmentations_of`. content: uint64 (n,), a number
    of each photo's own (`pictures.Pictures.content`). round: for all, or int64 (n,). Amounts
    are uniform in +-value: degrees for rotate and shear, the share of the size for translate, of
    255 for brightness; zoom and contrast are factors in 1 +- value, zoom one for each axis. Edge
    pixels are repeated outside; what moves nothing returns the pixels bit for bit. Pictures are
    at least 2 x 2.
    """
    if not augmentations or not len(photos):
        return photos
    values = dict(augmentations)
    rounds = np.broadcast_to(np.asarray(round, np.int64), (len(photos),))
    mirrored, upended = _orientation(values, seed, content, rounds)
    draws = _uniform(_hash(seed, content[:, None], rounds[:, None].astype(np.uint64), _AMOUNTS))
    matrices, shifts = _affine(values, draws)
    shifts = shifts * photos.shape[2:0:-1]
    light = 255 * values.get("brightness", 0.0) * draws[:, _BRIGHTNESS]
    contrast = 1 + values.get("contrast", 0.0) * draws[:, _CONTRAST]
    shown = _flipped(photos, mirrored, upended)
    if any(values.get(name) for name in _MOVE):
        shown = _mapped(shown, matrices, shifts)
    if values.get("brightness") or values.get("contrast"):
        shown = _lit(shown, light, contrast)
    return shown


def as_record(augmentations: Augmentations) -> list[dict[str, Any]]:
    """The list as JSON values: name, value and unit, both null for what takes no value."""
    return [
        {"name": name, "value": value or None, "unit": AUGMENTATIONS[name][1] or None}
        for name, value in augmentations
    ]


def _hash(seed: int, *words: Words | np.uint64) -> Words:
    """64 mixed bits for each seed and words, uint64 of the words' common shape: a step of
    SplitMix64 for each, the word put into what came of the one before."""
    bits = _mixed(np.array([seed & (2**64 - 1)], np.uint64))
    for word in words:
        bits = _mixed(bits ^ word)
    return bits


def _mixed(state: Words) -> Words:
    """What SplitMix64 gives in `state`, each uint64."""
    bits = state + _STEP
    for shift, factor in zip(_SHIFTS[:2], _FACTORS, strict=True):
        bits = (bits ^ (bits >> shift)) * factor
    return bits ^ (bits >> _SHIFTS[2])


def _uniform(bits: Words) -> NDArray[np.float64]:
    """Numbers in [-1, 1) from the upper 53 of 64 random bits."""
    return (bits >> np.uint64(11)) * 2.0**-52 - 1


def _orientation(
    values: Mapping[str, float], seed: int, content: Words, rounds: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """For each photo whether it is mirrored and whether it is upside down, by two bits of its own
    and the round: rounds 2k and 2k + 1 show both.

    With both flips, four rounds from a multiple of four show all four orientations.
    """
    own = (_hash(seed, content, np.uint64(0), _ORIENTATION) >> np.uint64(62)).astype(np.int64)
    turns = rounds ^ (rounds >> 1) if "flip" in values else rounds
    mirrored = ((own ^ rounds) & 1 == 1) & ("flip" in values)
    return mirrored, ((own >> 1 ^ turns) & 1 == 1) & ("vertical-flip" in values)


def _flipped(photos: Pixels, mirrored: NDArray[np.bool_], upended: NDArray[np.bool_]) -> Pixels:
    """`photos`, each left-right and upside down where so marked."""
    if not (mirrored.any() or upended.any()):
        return photos
    shown = np.array(photos, order="C")
    # A pixel as one element: numpy moves these several times faster than three bytes each.
    whole = np.dtype((np.void, photos.shape[3]))
    old = np.ascontiguousarray(photos).view(whole)[..., 0]
    new = shown.view(whole)[..., 0]
    for x, y in ((1, 0), (0, 1), (1, 1)):
        rows = np.flatnonzero((mirrored == x) & (upended == y))
        new[rows] = old[:, :: -1 if y else 1, :: -1 if x else 1][rows]
    return shown


def _affine(
    values: Mapping[str, float], draws: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For draws (n, 8) in +-1: matrices (n, 2, 2), from (x, y) of the new pictures to those of
    the old, both from the centre, and shifts (n, 2) as shares of width and height.

    A turn after a slant after a zoom; a zoom above 1 shows more of the picture, smaller.
    """
    angle = np.deg2rad(values.get("rotate", 0.0) * draws[:, _ROTATE])
    slant = np.tan(np.deg2rad(values.get("shear", 0.0) * draws[:, _SHEAR]))
    zoom = 1 + values.get("zoom", 0.0) * draws[:, [_ZOOM_X, _ZOOM_Y]]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([cos, cos * slant - sin, sin, sin * slant + cos], axis=1).reshape(-1, 2, 2)
    return turned * zoom[:, None, :], values.get("translate", 0.0) * draws[:, [_RIGHT, _DOWN]]


def _mapped(photos: Pixels, matrices: NDArray[np.float64], shifts: NDArray[np.float64]) -> Pixels:
    """`photos` (n, height, width, channels) read at matrix @ (x, y) + shift (pixels) from the
    centre, bilinear, edges repeated.

    Pillow's own affine transform cuts fractions off, which darkens, and does not repeat edges.
    """
    n, height, width, channels = photos.shape
    # A pixel as one number of four bytes: numpy gathers these many times faster than rows.
    packed = np.zeros((n * height * width, 4), np.uint8)
    for channel in range(channels):
        packed[:, channel] = photos.reshape(-1, channels)[:, channel]
    pixels = packed.view(np.uint32)[:, 0]
    (xx, xy), (yx, yy) = matrices.astype(np.float32).transpose(1, 2, 0)
    right, down = shifts.astype(np.float32).T
    x = np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)
    shown = np.empty(photos.shape, np.uint8)
    for rows in _pieces(photos):
        photo, row = np.divmod(np.arange(rows.start, rows.stop), height)
        y = row.astype(np.float32) - np.float32((height - 1) / 2)
        across = xy[photo] * y + right[photo]
        along = yy[photo] * y + down[photo]
        left, over = _cell(xx[photo, None] * x + across[:, None], width)
        top, under = _cell(yx[photo, None] * x + along[:, None], height)
        at = (top * width + left).astype(np.intp) + (photo * (height * width))[:, None]
        # Every place is inside; "clip" only keeps numpy from looking first whether it is.
        corners = [
            pixels[step:].take(at, mode="clip").view(np.uint8).reshape(*at.shape, 4)
            for step in (0, 1, width, width + 1)
        ]
        for channel in range(channels):
            upper, upper_right, lower, lower_right = (
                corner[..., channel].astype(np.float32) for corner in corners
            )
            upper = _between(upper, upper_right, over)
            lower = _between(lower, lower_right, over)
            value = _between(upper, lower, under) + np.float32(0.5)
            shown.reshape(-1, width, channels)[rows, :, channel] = value
    return shown


def _pieces(photos: Pixels) -> Iterator[slice]:
    """Rows to work on at once, of all rows of all photos, one photo's after the other's."""
    n, height, width = photos.shape[:3]
    count = max(1, _AT_ONCE // width)
    for start in range(0, n * height, count):
        yield slice(start, min(start + count, n * height))


def _between(
    first: NDArray[np.float32], second: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """first + (second - first) * share, in the memory of the two."""
    second -= first
    second *= share
    first += second
    return first


def _cell(places: NDArray[np.float32], size: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """For places along one axis of `size` pixels, from its centre: the pixel before each, that
    has one after it, and the share (0 to 1) of the way to the one after."""
    places += np.float32((size - 1) / 2)
    np.clip(places, 0, size - 1, out=places)
    before = np.minimum(places.astype(np.int32), size - 2)
    places -= before.astype(np.float32)
    return before, places


def _lit(photos: Pixels, light: NDArray[np.float64], contrast: NDArray[np.float64]) -> Pixels:
    """`photos` with each value's distance from its photo's mean times `contrast`, then `light`
    added."""
    n, height, width, channels = photos.shape
    lines = photos.reshape(n * height, width, channels)
    # Whole numbers, summed exactly: the same whatever else is in the batch.
    middle = lines.reshape(n, -1).sum(axis=1, dtype=np.uint64) / (height * width * channels)
    offset = middle * (1 - contrast) + light + 0.5  # to the nearest, once it is cut to an integer
    scales = np.repeat(contrast.astype(np.float32), height)[:, None, None]
    offsets = np.repeat(offset.astype(np.float32), height)[:, None, None]
    shown = np.empty(lines.shape, np.uint8)
    for rows in _pieces(photos):
        values = lines[rows].astype(np.float32)
        values *= scales[rows]
        values += offsets[rows]
        shown[rows] = np.clip(values, 0, 255, out=values)
    return shown.reshape(photos.shape)
