"""Augmentation: pictures moved, turned and lit otherwise, in training and nowhere else.

What is done to a picture follows from the seed, its place among the photos and the round alone,
in whatever order or batch it comes. A round is an epoch, or a view of the photo. Everything
that moves pixels is one affine map, so a picture is resampled once; numpy alone, so that every
backend of Keras trains on the same pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.spelling import AUGMENTATIONS

Pixels = NDArray[np.uint8]
Augmentations = Sequence[tuple[str, float]]
# Last word of a seed: one stream of numbers for each use, whatever the words before it.
_AMOUNTS, _ORIENTATION = 1, 2


def augmented(
    photo: Pixels, augmentations: Augmentations, *, seed: int, index: int, round: int
) -> Pixels:
    """`photo`, uint8 (height, width, channels), as round `round` shows it; same shape and type.

    augmentations: (name, value) as of `spelling.augmentations_of`. index: the photo's place
    among all. Amounts are uniform in +-value: degrees for rotate and shear, the share of the
    size for translate, of 255 for brightness; zoom and contrast are factors in 1 +- value, zoom
    one for each axis. Edge pixels are repeated outside; what moves nothing returns the pixels
    bit for bit. Pictures are at least 2 x 2.
    """
    values = dict(augmentations)
    # One number for each use whether it is asked for or not: another augmentation beside one
    # leaves its amounts as they were.
    draws = np.random.default_rng((seed, index, round, _AMOUNTS)).uniform(-1, 1, 8)
    turned, *zoomed, sheared, right, down, lighter, stronger = draws
    shown = _flipped(photo, values, seed, index, round)
    matrix = _affine(
        angle=np.deg2rad(values.get("rotate", 0.0) * turned),
        zoom=1 + values.get("zoom", 0.0) * np.array(zoomed),
        shear=np.deg2rad(values.get("shear", 0.0) * sheared),
    )
    height, width = photo.shape[:2]
    shift = values.get("translate", 0.0) * np.array([right * width, down * height])
    if not np.array_equal(matrix, np.eye(2)) or shift.any():
        shown = _mapped(shown, matrix, shift)
    light = 255 * values.get("brightness", 0.0) * lighter
    contrast = 1 + values.get("contrast", 0.0) * stronger
    if light or contrast != 1:
        shown = _lit(shown, light, contrast)
    return np.ascontiguousarray(shown)


def augmented_batch(
    photos: Pixels, augmentations: Augmentations, *, seed: int, indices: Iterable[int], round: int
) -> Pixels:
    """`augmented` of each of `photos`, uint8 (n, height, width, channels), `indices` their places.

    The same bytes for a photo whatever else is in the batch.
    """
    if not augmentations:
        return photos
    return np.stack(
        [
            augmented(photo, augmentations, seed=seed, index=int(index), round=round)
            for photo, index in zip(photos, indices, strict=True)
        ]
    )


def as_record(augmentations: Augmentations) -> list[dict[str, Any]]:
    """The list as JSON values: name, value and unit, both null for what takes no value."""
    return [
        {"name": name, "value": value or None, "unit": AUGMENTATIONS[name][1] or None}
        for name, value in augmentations
    ]


def _flipped(
    photo: Pixels, values: Mapping[str, float], seed: int, index: int, round: int
) -> Pixels:
    """Mirrored or not by a bit of the photo's own and the round: rounds 2k and 2k + 1 show both.

    With both flips, four rounds from a multiple of four show all four orientations.
    """
    if not values.keys() & {"flip", "vertical-flip"}:
        return photo
    own = np.random.default_rng((seed, index, 0, _ORIENTATION)).integers(0, 2, 2)
    if "flip" in values and (own[0] ^ round) & 1:
        photo = photo[:, ::-1]
    turns = round ^ (round >> 1) if "flip" in values else round
    if "vertical-flip" in values and (own[1] ^ turns) & 1:
        photo = photo[::-1]
    return photo


def _affine(*, angle: float, zoom: NDArray[np.float64], shear: float) -> NDArray[np.float64]:
    """2 x 2, from (x, y) of the new picture to those of the old, both from the centre.

    Angles in radians; a zoom above 1 shows more of the picture, smaller.
    """
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slant = np.array([[1.0, np.tan(shear)], [0.0, 1.0]])
    return turn @ slant @ np.diag(zoom)


def _mapped(photo: Pixels, matrix: NDArray[np.float64], shift: NDArray[np.float64]) -> Pixels:
    """`photo` read at matrix @ (x, y) + shift from the centre, bilinear, edges repeated.

    Pillow's own affine transform cuts fractions off, which darkens, and does not repeat edges.
    """
    height, width, channels = photo.shape
    x = np.arange(width) - (width - 1) / 2
    y = (np.arange(height) - (height - 1) / 2)[:, None]
    left, over = _cell(matrix[0, 0] * x + matrix[0, 1] * y + shift[0], width)
    top, under = _cell(matrix[1, 0] * x + matrix[1, 1] * y + shift[1], height)
    at = top * width + left
    # Channel by channel in memory: numpy gathers single numbers many times faster than rows.
    planes = np.moveaxis(photo, 2, 0).reshape(channels, -1).astype(np.float32)
    corners = [planes.take(at + step, axis=1) for step in (0, 1, width, width + 1)]
    upper = corners[0] + (corners[1] - corners[0]) * over
    lower = corners[2] + (corners[3] - corners[2]) * over
    mixed = upper + (lower - upper) * under
    return np.moveaxis((mixed + np.float32(0.5)).astype(np.uint8), 0, 2)


def _cell(places: NDArray[np.float64], size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For places along one axis of `size` pixels, from its centre: the pixel before each, that
    has one after it, and the share (0 to 1) of the way to the one after."""
    inside = np.clip(places + (size - 1) / 2, 0, size - 1)
    before = np.minimum(inside.astype(np.intp), size - 2)
    return before, (inside - before).astype(np.float32)


def _lit(photo: Pixels, light: float, contrast: float) -> Pixels:
    """`photo` with each value's distance from the mean times `contrast`, then `light` added."""
    middle = photo.mean()
    table = (np.arange(256) - middle) * contrast + middle + light
    return np.rint(table).clip(0, 255).astype(np.uint8)[photo]
