"""From a photo's bytes to the numbers that a model takes: the names, their formulas, one table.

x is a byte 0..255 of one channel. Nothing here is guessed: a name is given by the person, or mean
and std stand in the model's metadata.

    0..255   x
    0..1     x / 255
    -1..1    (x - 127.5) / 127.5
    caffe    x - mean in the order B, G, R, mean = (103.939, 116.779, 123.68)
    torch    (x / 255 - mean) / std in the order R, G, B, mean = (0.485, 0.456, 0.406),
             std = (0.229, 0.224, 0.225)
    M,S      (x - M) / S for any two numbers; six: M of R, G, B, then S of R, G, B
    raw      the byte itself into an integer input: x for uint8, x - 128 for int8
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError, UsageError

# What a table must not do: put many bytes outside what the input can hold, or all on a few steps.
MOST_CLIPPED, FEWEST_STEPS = 32, 100


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """(x - mean) / std of each channel. mean, std: one number for all channels or one for each, in
    the order that the model takes them; std is not 0. raw: the byte itself, as an integer."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bgr: bool = False
    raw: bool = False

    def as_record(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**vars(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Preprocess:
        """What `as_record` wrote."""
        return cls(**{**record, "mean": tuple(record["mean"]), "std": tuple(record["std"])})


BYTES = Preprocess(name="0..255", mean=(0.0,), std=(1.0,))
RAW = Preprocess(name="raw", mean=(0.0,), std=(1.0,), raw=True)
TORCH_MEAN, TORCH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NAMED: Mapping[str, Preprocess] = {
    known.name: known
    for known in (
        BYTES,
        Preprocess(name="0..1", mean=(0.0,), std=(255.0,)),
        Preprocess(name="-1..1", mean=(127.5,), std=(127.5,)),
        Preprocess(name="caffe", mean=(103.939, 116.779, 123.68), std=(1.0,), bgr=True),
        Preprocess(
            name="torch",
            mean=tuple(255 * m for m in TORCH_MEAN),
            std=tuple(255 * s for s in TORCH_STD),
        ),
        RAW,
    )
}
WANTED = f"{', '.join(NAMED)}, or mean,std of a byte as 127.5,127.5 (six for R, G and B)"


def preprocess_of(text: str) -> Preprocess:
    """What `--preprocess` says. Raises UsageError."""
    if text in NAMED:
        return NAMED[text]
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 6) or not _sound(numbers[len(numbers) // 2 :], numbers):
        raise UsageError(f"--preprocess {text!r}: wanted one of {WANTED}")
    half = len(numbers) // 2
    return Preprocess(name=text, mean=tuple(numbers[:half]), std=tuple(numbers[half:]))


def from_metadata(normalization: Mapping[str, Any]) -> Preprocess:
    """The `normalization` of a model's metadata, mean and std by channel. Raises DataError."""
    mean, std = (tuple(map(float, normalization[key])) for key in ("mean", "std"))
    if not mean or not _sound(std, (*mean, *std)) or {len(mean), len(std)} - {1, 3}:
        raise DataError(
            "metadata: wanted one or three numbers as mean and as std, no std 0; "
            f"found {list(mean)} and {list(std)}"
        )
    shown = f"mean {_listed(mean)} and std {_listed(std)} of its metadata"
    return Preprocess(name=shown, mean=mean, std=std)


def inside(
    described: Mapping[str, Any] | None, *, dtype: Any, scale: float, zero_point: int
) -> tuple[Preprocess, str] | None:
    """What a `.tflite` itself says, and where: its metadata, or the input tensor where its own
    grid is the bytes, real values 0..255 in steps of 1. Nothing else does. Raises DataError.

    described: as `metadata.describe` gives it, None without metadata.
    """
    ends = described["inputs"] if described is not None else []
    if ends and (normalization := ends[0]["normalization"]):
        return from_metadata(normalization), "its metadata"
    if np.dtype(dtype) != np.float32 and holds(dtype, scale, zero_point) == (0.0, 255.0):
        return BYTES, "its input, whose grid is the bytes"
    return None


def _sound(std: Any, numbers: Any) -> bool:
    return bool(len(std) and np.all(std) and np.all(np.isfinite(numbers)))


def _listed(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def encoder(
    how: Preprocess, *, dtype: Any, scale: float, zero_point: int, channels: int
) -> Callable[[NDArray[np.uint8]], NDArray[Any]]:
    """The function from uint8 (..., channels), RGB or grey, to the model's input in `dtype`.

    scale, zero_point: the input's own quantization, for uint8 and int8: round(value / scale) +
    zero_point, half away from zero, clipped. Where that is the byte itself to within one step
    for all 256 of them, it is the byte: so TFLite's libraries feed an integer input, and a mean
    of 127.5 beside a zero point of 128 means just that. Raises DataError where values for three
    channels meet one, an integer input has no quantization, or the values do not fit into it.
    """
    several = max(len(how.mean), len(how.std))
    if (how.bgr or several > 1) and several != channels:
        raise DataError(f"preprocessing {how.name}: wanted {several} channels, found {channels}")
    x = np.arange(256, dtype=np.float64)[:, None]
    values = np.broadcast_to((x - np.array(how.mean)) / np.array(how.std), (256, several))
    if np.dtype(dtype) == np.float32:
        if how.raw:
            raise DataError("preprocessing raw: it is for an integer input, found float32; give "
                            "0..255 if it takes bytes as numbers")  # fmt: skip
        table = values.astype(np.float32)
    else:
        table = _quantized(how, values, np.dtype(dtype), scale, zero_point)
    return lambda pixels: _looked_up(table, pixels[..., ::-1] if how.bgr else pixels)


def _quantized(
    how: Preprocess, values: NDArray[np.float64], dtype: Any, scale: float, zero_point: int
) -> NDArray[Any]:
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    same = np.arange(256.0)[:, None] + least
    if how.raw:
        return same.astype(dtype)
    if not scale > 0:
        raise DataError("input: an integer one without quantization; give --preprocess raw if it "
                        "takes the photo's bytes")  # fmt: skip
    steps = values / scale
    steps = np.trunc(steps + np.copysign(0.5, steps)) + zero_point
    if np.all(np.abs(steps - same) <= 1):
        return same.astype(dtype)
    clipped = int(np.max(np.sum((steps < least - 1) | (steps > most + 1), axis=0)))
    table = np.clip(steps, least, most).astype(dtype)
    used = min(len(np.unique(column)) for column in table.T)
    if clipped > MOST_CLIPPED or used < FEWEST_STEPS:
        low, high = holds(dtype, scale, zero_point)
        raise DataError(
            f"preprocessing {how.name}: its values {values.min():.4g} to {values.max():.4g} do not "
            f"fit the input, which holds {low:.4g} to {high:.4g} in {most - least + 1} steps; "
            "give another with --preprocess"
        )
    return table


def holds(dtype: Any, scale: float, zero_point: int) -> tuple[float, float]:
    """The least and the largest value that an integer input stands for."""
    info = np.iinfo(dtype)
    return (info.min - zero_point) * scale, (info.max - zero_point) * scale


def _looked_up(table: NDArray[Any], pixels: NDArray[np.uint8]) -> NDArray[Any]:
    if table.dtype == np.uint8 and table.shape[1] == 1 and np.array_equal(table[:, 0], IDENTITY):
        return pixels
    if table.shape[1] == 1:
        return np.take(table[:, 0], pixels)
    columns = [np.take(table[:, c], pixels[..., c]) for c in range(table.shape[1])]
    return np.stack(columns, axis=-1)


IDENTITY = np.arange(256, dtype=np.uint8)
