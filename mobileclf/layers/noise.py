"""How far a tensor of the int8 file lies from the float network's: sums over photos, and decibels.

Everything is kept as sums, so that no activations stay in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BIT = 20 * math.log10(2)  # decibels of one bit, 6.02


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What the integers low..high of a tensor stand for: (q - zero_point) * scale."""

    scale: float
    zero_point: int
    low: int
    high: int

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest number on it."""
        return (self.low - self.zero_point) * self.scale, (self.high - self.zero_point) * self.scale

    def of(self, integers: NDArray[Any]) -> NDArray[np.float32]:
        """The numbers that integers of any shape stand for."""
        return (integers.astype(np.float32) - self.zero_point) * np.float32(self.scale)

    def nearest(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """The point of the grid nearest to each number."""
        integers = np.rint(numbers / np.float32(self.scale)) + self.zero_point
        return self.of(np.clip(integers, self.low, self.high))


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Of one tensor over some photos, `wanted` being the float network's and `found` the file's.

    signal: of wanted^2. noise: of (wanted - found)^2. grid: of (wanted - its nearest point of the
    tensor's grid)^2, which no arithmetic on that grid can avoid; cut: the part of it at values
    beyond the grid's ends. values, clipped: how many, and how many of them lie beyond. low, high:
    of wanted. tops: largest |wanted| of each channel, that is along the last axis.
    """

    signal: float
    noise: float
    grid: float
    cut: float
    values: int
    clipped: int
    low: float
    high: float
    tops: NDArray[np.float32]


def sums(wanted: NDArray[np.float32], found: NDArray[np.float32], grid: Grid | None = None) -> Sums:
    """The sums of one photo. wanted, found: of one shape, (..., channels). grid: the tensor's,
    None of a float one, which rounds nothing."""
    off, cut, clipped = np.zeros(1), 0.0, 0
    if grid is not None:
        off = np.square(wanted - grid.nearest(wanted))
        least, most = grid.ends
        beyond = (wanted < least - grid.scale / 2) | (wanted > most + grid.scale / 2)
        cut, clipped = _total(off[beyond]), int(beyond.sum())
    return Sums(
        signal=_total(np.square(wanted)),
        noise=_total(np.square(wanted - found)),
        grid=_total(off),
        cut=cut,
        values=wanted.size,
        clipped=clipped,
        low=float(wanted.min()),
        high=float(wanted.max()),
        tops=np.abs(wanted).reshape(-1, wanted.shape[-1]).max(axis=0),
    )


def together(one: Sums, other: Sums) -> Sums:
    """The sums over the photos of both."""
    return Sums(
        signal=one.signal + other.signal,
        noise=one.noise + other.noise,
        grid=one.grid + other.grid,
        cut=one.cut + other.cut,
        values=one.values + other.values,
        clipped=one.clipped + other.clipped,
        low=min(one.low, other.low),
        high=max(one.high, other.high),
        tops=np.maximum(one.tops, other.tops),
    )


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise) of two sums of squares: inf without noise, -inf of noise alone."""
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def between(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    """Signal-to-noise ratio of `found` against `wanted`, decibels. Of one shape."""
    return decibels(_total(np.square(wanted)), _total(np.square(wanted - found)))


def outlier(tops: NDArray[np.float32]) -> tuple[float, int] | None:
    """How many times the median channel's largest value the largest channel has, and which it is.

    tops: (channels,), of `Sums`. Channels that are 0 on all photos do not count; None without two
    others.
    """
    alive = tops[tops > 0]
    if len(alive) < 2:
        return None
    return float(alive.max() / np.median(alive)), int(tops.argmax())


def _total(values: NDArray[Any]) -> float:
    return float(values.sum(dtype=np.float64))
