"""What a convolution or dense layer sees at some positions of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Node

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Where to look: for each, the photo, and its row and column in the layer's output."""

    photo: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]


def positions_of(node: Node, inputs: Array, most: int, random: np.random.Generator) -> Positions:
    """At most `most` positions of a layer's output over all photos, drawn without repetition.

    inputs: (n, h, w, channels) or (n, channels).
    """
    height, width = _output_size(node, inputs)
    total = len(inputs) * height * width
    chosen = np.arange(total) if total <= most else random.choice(total, most, replace=False)
    photo, rest = np.divmod(np.sort(chosen), height * width)
    row, column = np.divmod(rest, width)
    return Positions(photo=photo, row=row, column=column)


def patches(node: Node, inputs: Array, at: Positions) -> NDArray[np.float32]:
    """What the layer multiplies with its kernel there: float32 (positions, kernel rows, columns,
    channels), zeros beyond the border; of a dense layer (positions, 1, 1, inputs)."""
    if inputs.ndim == 2:
        return inputs[at.photo][:, None, None].astype(np.float32)
    (kh, kw), (sh, sw), (dh, dw) = _window(node)
    top, left = _before(node, inputs.shape[1:3])
    rows = at.row[:, None] * sh - top + np.arange(kh) * dh
    columns = at.column[:, None] * sw - left + np.arange(kw) * dw
    inside = ((rows >= 0) & (rows < inputs.shape[1]))[:, :, None] & (
        (columns >= 0) & (columns < inputs.shape[2])
    )[:, None, :]
    rows, columns = rows.clip(0, inputs.shape[1] - 1), columns.clip(0, inputs.shape[2] - 1)
    seen = inputs[at.photo[:, None, None], rows[:, :, None], columns[:, None, :]]
    return seen.astype(np.float32) * inside[..., None]


def _window(node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    if node.kind == "Dense":
        return (1, 1), (1, 1), (1, 1)
    config = node.config
    return _pair(config["kernel_size"]), _pair(config["strides"]), _pair(config["dilation_rate"])


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _output_size(node: Node, inputs: Array) -> tuple[int, int]:
    if inputs.ndim == 2:
        return 1, 1
    sizes = []
    for size, kernel, stride, dilation in zip(inputs.shape[1:3], *_window(node), strict=True):
        reach = 0 if node.config["padding"] == "same" else (kernel - 1) * dilation
        sizes.append(-(-(size - reach) // stride))
    return sizes[0], sizes[1]


def _before(node: Node, shape: tuple[int, ...]) -> tuple[int, int]:
    """Zeros above and to the left: half of what `same` adds, rounded down, as TensorFlow pads."""
    found = [0, 0]
    if node.config["padding"] == "same":
        for i, (size, kernel, stride, dilation) in enumerate(
            zip(shape, *_window(node), strict=True)
        ):
            outputs = -(-size // stride)
            missing = (outputs - 1) * stride + (kernel - 1) * dilation + 1 - size
            found[i] = max(missing, 0) // 2
    return found[0], found[1]
