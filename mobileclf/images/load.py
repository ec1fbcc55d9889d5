"""From a file to the pixels that the model sees: the preprocessing spec, its one implementation.

Training, calibration, scoring and prediction all come through here, and the Kotlin app repeats
it: Pillow's decoder, EXIF orientation applied, colours as stored (no profile conversion), the
whole picture warped to the input size; for a grey input, made grey before that. What Python and
Android decode to different bytes is refused, with the reason, on both sides alike.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mobileclf.errors import DataError
from mobileclf.parallel import each
from mobileclf.source.store import Store

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # JPEG opens MPO too
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
AVIF_BRANDS = (b"avif", b"avis")
# What often lies among photos and is none, by its first bytes.
OTHER_KINDS = {
    b"II*\0": "TIFF or DNG, which phones do not decode alike; convert it to JPEG or PNG",
    b"MM\0*": "TIFF or DNG, which phones do not decode alike; convert it to JPEG or PNG",
    b"II+\0": "TIFF or DNG, which phones do not decode alike; convert it to JPEG or PNG",
    b"MM\0+": "TIFF or DNG, which phones do not decode alike; convert it to JPEG or PNG",
    b"\0\0\1\0": "ICO, which phones do not decode alike; convert it to PNG",
    b"version https://git-lfs": "a Git LFS pointer, not the picture; run `git lfs pull`",
    b"\0\0\0\x0cjP  ": "JPEG 2000, which phones do not decode; convert it to JPEG or PNG",
    b"\xff\x4f\xff\x51": "JPEG 2000, which phones do not decode; convert it to JPEG or PNG",
    b"\0\0\0\x0cJXL ": "JPEG XL, which phones do not decode; convert it to JPEG or PNG",
    b"\xff\x0a": "JPEG XL, which phones do not decode; convert it to JPEG or PNG",
    b"%PDF": "a PDF, not a picture; save its pictures as JPEG or PNG",
    b"PK\3\4": "a zip, not a picture; unpack it",
}
# A marker of a JPEG: FF and a code. FF00 is a data byte, FFD0 to FFD7 are restarts within data.
JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
JPEG_END, JPEG_WITHOUT_LENGTH = 0xD9, (0x01, 0xD8)
JPEG_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, all with Huffman coding
JPEG_RARE = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA, 0xCD, 0xCE), "arithmetic"),
}
ORIENTATION = 0x0112
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([0-9])")
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The only preprocessing there is: other values in a record are another program's.
KNOWN: Mapping[str, tuple[object, ...]] = {
    "channels": (3, 1),
    "fit": ("warp",),
    "resize": ("bilinear, horizontal then vertical",),
    "exif": (True,),
    "colour": ("as stored",),
}


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How a photo becomes the model's input. Sizes in pixels; channels: 3 is RGB, 1 grey.

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
        for name, known in KNOWN.items():
            found = getattr(self, name)
            if found not in known or type(found) is not type(known[0]):
                raise DataError(
                    f"preprocessing: {name} {found!r} is not known to this version of mobileclf; "
                    f"wanted {' or '.join(map(repr, known))}; use the version that made the bundle"
                )
        for name in ("width", "height", "max_pixels"):
            found = getattr(self, name)
            if type(found) is not int or found < 1:
                raise DataError(
                    f"preprocessing: {name} wants a whole number of pixels, found {found!r}"
                )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one input: (height, width, channels)."""
        return self.height, self.width, self.channels

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
    return upright(stored(source, spec))


def stored(source: Path | bytes, spec: ImageSpec) -> Image.Image:
    """The picture as its file holds it, decoded: own mode, not turned. Raises as `decode`."""
    where = "" if isinstance(source, bytes) else f"{source}: "
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"{where}cannot be read ({getattr(error, 'strerror', error)})") from error
    try:
        with without_warnings():
            image = _open(data, spec)
            # All that may fail on broken bytes happens here, the orientation too.
            image.load()
            orientation(image)
            return image
    except DataError as error:
        raise DataError(f"{where}{error}") from error
    except (Image.DecompressionBombError, MemoryError) as error:
        reason = str(error).partition(",")[0] or "out of memory"
        raise DataError(f"{where}photo too large ({reason}); make it smaller") from error
    except Exception as error:  # what a decoder raises on broken bytes has no common base
        raise DataError(f"{where}broken or cut short ({error}); take it out") from error


def orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF counts it, from EXIF or else XMP; 1 for none and for what is no such number.

    image: from `stored`.
    """
    found = image.getexif().get(ORIENTATION)
    if found is None:  # an older Pillow (11.0) looks for XMP in fewer places
        xmp = image.info.get("xmp") or b""
        text = xmp if isinstance(xmp, bytes) else str(xmp).encode()
        in_xmp = XMP_ORIENTATION.search(text)
        found = int(in_xmp[1]) if in_xmp else None
    return int(found) if found in UPRIGHT else 1


def upright(image: Image.Image) -> Image.Image:
    """A picture from `stored` as `decode` gives it. ImageOps.exif_transpose would turn it alike,
    but fails on EXIF that it cannot write again."""
    # Pillow would warn of it, and nothing here uses it.
    image.info.pop("transparency", None)
    turn = UPRIGHT.get(orientation(image))
    image = image if turn is None else image.transpose(turn)
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


_quiet = threading.Lock()
_quiet_depth = 0
_quiet_filters: Any = None


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow's remarks on odd files do not reach the screen. For threads too, where leaving
    `warnings.catch_warnings` in another order than entering it would silence the process."""
    global _quiet_depth, _quiet_filters
    with _quiet:
        if _quiet_depth == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.simplefilter("ignore")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_filters.__exit__(None, None, None)


def _open(data: bytes, spec: ImageSpec) -> Image.Image:
    """The picture, not yet decoded, or DataError."""
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
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise DataError("animated; wanted one picture: convert it to PNG")
    if image.format == "GIF" and "transparency" in image.info:
        raise DataError("GIF with transparency, decoded differently on phones; convert it to PNG")
    if image.format == "GIF" and any(
        tile[1] != (0, 0, *image.size) for tile in getattr(image, "tile", ())
    ):
        # Around it Pillow shows the first colour of the palette, and a phone sees through.
        raise DataError("GIF with an empty margin, decoded differently on phones; convert to PNG")
    return image


def _brands(data: bytes) -> tuple[bytes, ...]:
    """The brands, first the major one, of a file in ISO's base media format; else none."""
    if data[4:8] != b"ftyp":
        return ()
    box = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    return tuple(box[i : i + 4] for i in range(0, len(box) - 3, 4) if i != 4)  # 4: a version


def _is_heif(data: bytes) -> bool:
    return _brands(data)[:1] != () and _brands(data)[0] in HEIF_BRANDS


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
        raise DataError("an empty file; take it out or copy it again")
    if not data.strip(b"\0"):
        raise DataError("nothing but zero bytes; take it out or copy it again")
    for start, reason in OTHER_KINDS.items():
        if data.startswith(start):
            raise DataError(reason)
    _check_text(data)
    if any(brand in AVIF_BRANDS for brand in _brands(data)):
        raise DataError("AVIF, which phones before Android 12 do not decode; convert it to JPEG")
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    if data.startswith(PNG_SIGNATURE):
        _check_png(data)
    if data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise DataError("WebP cut short; take it out or copy it again")
    if data[:3] == b"GIF" and not data.rstrip(b"\0").endswith(b";"):
        raise DataError("GIF cut short; take it out or copy it again")


def _check_text(data: bytes) -> None:
    head = data[:1000].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head.startswith(b"<"):
        return
    if b"<html" in head or b"<!doctype html" in head:
        raise DataError("a web page (HTML), as a failed download leaves; fetch the picture again")
    if b"<svg" in head:
        raise DataError("SVG, which is a drawing and no photo; convert it to PNG")


def _check_jpeg(data: bytes) -> None:
    """Walk the markers to the end of the first picture: Pillow takes zeros after a cut for it."""
    at = 2
    while marker := JPEG_MARKER.search(data, at):
        code, at = marker[1][0], marker.end()
        if code == JPEG_END:
            return
        if code in JPEG_RARE:
            raise DataError(
                f"JPEG of a rare kind ({JPEG_RARE[code]}), which not all phones decode; save it as "
                "an ordinary JPEG"
            )
        if code in JPEG_FRAMES and data[at + 2 : at + 3] not in (b"", b"\x08"):
            raise DataError(
                f"JPEG with {data[at + 2]} bits a channel, which phones do not decode; save as 8"
            )
        if code not in JPEG_WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
    raise DataError("JPEG cut short; take it out or copy it again")


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
    """The model's input, uint8 (height, width, channels), from a decoded picture.

    For one channel the picture is made grey first, at its own size, pixel by pixel, by the luma
    of ITU-R 601-2 in fixed point: (19595 R + 38470 G + 7471 B + 32768) >> 16. The weights sum
    to 65536, so what is grey already stays as it is.

    Then two passes of one axis each, horizontal first: one call leaves the order to Pillow,
    which changed it for tall pictures in release 13.
    """
    if spec.channels == 1:
        image = image.convert("L")
    bilinear = Image.Resampling.BILINEAR
    narrow = image.resize((spec.width, image.height), bilinear)
    pixels = np.asarray(narrow.resize((spec.width, spec.height), bilinear), dtype=np.uint8)
    return pixels.reshape(spec.height, spec.width, spec.channels)


def load(source: Path | bytes, spec: ImageSpec) -> NDArray[np.uint8]:
    """A photo as the model's input, uint8 (height, width, channels). Raises DataError as
    `decode`."""
    return resize(decode(source, spec), spec)


def load_many(
    store: Store, names: Sequence[str], spec: ImageSpec, title: str, *, cluster: str | None = None
) -> NDArray[np.uint8]:
    """Photos of a store as uint8 (n, height, width, channels), in the order of `names`, read in
    parallel (on `cluster` if given), with a progress bar.

    Raises DataError for the first that cannot be used.
    """
    images = np.empty((len(names), spec.height, spec.width, spec.channels), dtype=np.uint8)
    for i, image in enumerate(
        each(partial(load_one, store, spec), names, title, cluster=cluster, shared=store.root)
    ):
        images[i] = image
    return images


def load_one(store: Store, spec: ImageSpec, name: str) -> NDArray[np.uint8]:
    """A photo of a store as `load` gives it. Raises DataError, which names it."""
    try:
        return load(store.read(name), spec)
    except DataError as error:
        raise DataError(f"{store.root / name}: {error}") from error
