"""From a file to the pixels that the model sees: the preprocessing spec, its one implementation.

Training, calibration, scoring and prediction all come through here, and the Kotlin app repeats
it: Pillow's decoder, EXIF orientation applied, colours as stored (no profile conversion), the
whole picture warped to the input size. What Python and Android decode to different bytes is
refused, with the reason, on both sides alike.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mobileclf.errors import DataError
from mobileclf.progress import track

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # JPEG opens MPO too
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
# The only preprocessing there is: other values in a record are another program's.
KNOWN: Mapping[str, object] = {
    "channels": 3,
    "fit": "warp",
    "resize": "bilinear, horizontal then vertical",
    "exif": True,
    "colour": "as stored",
}


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How a photo becomes the model's input. Sizes in pixels.

    Raises DataError for a value that this module cannot do.
    """

    width: int
    height: int
    channels: int = 3
    max_pixels: int = 128_000_000
    fit: str = "warp"
    resize: str = "bilinear, horizontal then vertical"
    exif: bool = True
    colour: str = "as stored"

    def __post_init__(self) -> None:
        for name, only in KNOWN.items():
            found = getattr(self, name)
            if found != only or type(found) is not type(only):
                raise DataError(
                    f"preprocessing: {name} {found!r} is not known to this version of mobileclf; "
                    f"wanted {only!r}; use the version that made the bundle"
                )
        for name in ("width", "height", "max_pixels"):
            found = getattr(self, name)
            if type(found) is not int or found < 1:
                raise DataError(
                    f"preprocessing: {name} wants a whole number of pixels, found {found!r}"
                )

    def as_record(self) -> dict[str, Any]:
        """The spec as JSON values, keys as in bundle.json's "input"."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ImageSpec:
        """The spec in a record, which may hold other keys beside. Raises DataError."""
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in record]:
            raise DataError(f"preprocessing: the record lacks {', '.join(missing)}; build it again")
        return cls(**{name: record[name] for name in names})


def decode(source: Path | bytes, spec: ImageSpec) -> Image.Image:
    """The whole picture as RGB, upright, colours as stored; transparency is dropped.

    `source` is a file, or its bytes (messages then name no file). Raises DataError, one line,
    for a file that cannot be read, is not complete, is of a kind that Android decodes to other
    pixels, or has more than `spec.max_pixels` pixels (found before decoding).
    """
    where = "" if isinstance(source, bytes) else f"{source}: "
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{where}cannot be read ({getattr(error, 'strerror', error)})") from error
    try:
        return _decode(data, spec)
    except DataError as error:
        raise DataError(f"{where}{error}") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        raise DataError(f"{where}photo too large ({error})") from error
    except Exception as error:  # what a decoder raises on broken bytes has no common base
        raise DataError(f"{where}broken or cut short ({error}); take it out") from error


def _decode(data: bytes, spec: ImageSpec) -> Image.Image:
    _check_container(data)
    if _is_heif(data):
        image = _open_heif(data)
    else:
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise DataError(
                "not a picture that is read here; wanted JPEG, PNG, WebP, GIF or BMP"
            ) from error
    width, height = image.size
    if width * height > spec.max_pixels:
        raise DataError(
            f"photo too large: {width} x {height} pixels, at most {spec.max_pixels} are read; "
            "make it smaller"
        )
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise DataError("animated; wanted one picture: convert it to PNG")
    if image.format == "GIF" and "transparency" in image.info:
        raise DataError("GIF with transparency, decoded differently on phones; convert it to PNG")
    image.load()
    # Pillow would warn of it, and nothing here uses it.
    image.info.pop("transparency", None)
    return ImageOps.exif_transpose(image).convert("RGB")


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in HEIF_BRANDS


def _open_heif(data: bytes) -> Image.Image:
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise DataError("HEIC: `pip install pillow-heif`, or convert it to JPEG") from error
    heif = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    image: Image.Image = heif.to_pillow()
    return image


def _check_container(data: bytes) -> None:
    """Refuse by the first bytes, and what Pillow would let pass incomplete."""
    if not data:
        raise DataError("an empty file; take it out")
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        raise DataError("TIFF or DNG, which phones do not decode alike; convert it to JPEG or PNG")
    if data[:4] == b"\0\0\1\0":
        raise DataError("ICO, which phones do not decode alike; convert it to PNG")
    if data.startswith(b"version https://git-lfs"):
        raise DataError("a Git LFS pointer, not the picture; run `git lfs pull`")
    if b"<svg" in data[:1000].lower():
        raise DataError("SVG, which is a drawing and no photo; convert it to PNG")
    if data.startswith(PNG_SIGNATURE):
        _check_png(data)
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise DataError("WebP cut short; take it out or copy it again")
    if data[:3] == b"GIF" and not data.rstrip(b"\0").endswith(b";"):
        raise DataError("GIF cut short; take it out or copy it again")


def _check_png(data: bytes) -> None:
    """Walk the chunks to IEND with their CRCs: Pillow checks neither to the end."""
    at, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            raise DataError("PNG cut short; take it out or copy it again")
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise DataError("PNG with a wrong checksum; take it out or copy it again")
        if kind == b"IHDR" and data[at + 16] == 16:
            raise DataError("PNG with 16 bits a channel, decoded differently on phones; save as 8")
        at = end


def decoded_bytes(image: Image.Image) -> bytes:
    """The pixels of a decoded picture, row by row, RGB: what golden cases hash."""
    return image.tobytes()


def resize(image: Image.Image, spec: ImageSpec) -> NDArray[np.uint8]:
    """The model's input, uint8 (height, width, 3), from a decoded picture.

    Two passes of one axis each, horizontal first: one call leaves the order to Pillow, which
    changed it for tall pictures in release 13.
    """
    bilinear = Image.Resampling.BILINEAR
    narrow = image.resize((spec.width, image.height), bilinear)
    return np.asarray(narrow.resize((spec.width, spec.height), bilinear), dtype=np.uint8)


def load(source: Path | bytes, spec: ImageSpec) -> NDArray[np.uint8]:
    """A photo as the model's input, uint8 (height, width, 3). Raises DataError as `decode`."""
    return resize(decode(source, spec), spec)


def load_many(paths: Sequence[Path], spec: ImageSpec, title: str) -> NDArray[np.uint8]:
    """Photos as uint8 (n, height, width, 3), in order, in threads, with a progress bar.

    Raises DataError for the first that cannot be used.
    """
    images = np.empty((len(paths), spec.height, spec.width, spec.channels), dtype=np.uint8)
    with ThreadPoolExecutor() as pool:
        loaded: Iterator[NDArray[np.uint8]] = pool.map(lambda path: load(path, spec), paths)
        for i, image in enumerate(track(loaded, title, len(paths))):
            images[i] = image
    return images
