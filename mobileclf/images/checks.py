"""What is wrong with one picture, and what is done to it before it is used.

Why a file cannot be read at all is said by `load`, since `predict` and the app say the same of a
photo. Here are the reasons that hold in a data set only, and the remarks on what is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from PIL import Image

from mobileclf.errors import DataError
from mobileclf.records import sha256_bytes
from mobileclf.source.store import Store

from .duplicates import Signature, signature
from .load import ImageSpec, orientation, stored, upright

# Only `max_pixels` matters here: no picture is resized with it.
SPEC = ImageSpec(width=1, height=1)
TINY = 8  # pixels; scikit-learn's digits have 8 x 8
KINDS = {
    "JPEG": ("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "MPO": ("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "PNG": ("PNG", (".png", ".apng")),
    "WEBP": ("WebP", (".webp",)),
    "GIF": ("GIF", (".gif",)),
    "BMP": ("BMP", (".bmp", ".dib")),
}
HEIC = ("HEIC", (".heic", ".heif", ".hif"))
MODES = {
    "CMYK": "CMYK, converted to RGB",
    "P": "palette, converted to RGB",
    "PA": "palette, converted to RGB",
    "1": "grey",
    "L": "grey",
    "LA": "grey",
}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found in one file.

    sha256: of its bytes; empty when they cannot be had. width, height: pixels, upright.
    signature: None when it is left out. problem: why it is left out, else empty. notes: what was
    done to it, or is odd; it is used all the same.
    """

    sha256: str = ""
    width: int = 0
    height: int = 0
    signature: Signature | None = field(default=None, compare=False)
    problem: str = ""
    notes: tuple[str, ...] = ()


def check_file(store: Store, name: str) -> Checked:
    """`check` of a file in a store; one that cannot be read from it is a problem too."""
    try:
        data = store.read(name)
    except DataError as error:
        return Checked(problem=str(error))
    return check(data, name)


def check(data: bytes, name: str) -> Checked:
    """All about the bytes of a picture file. Nothing but the ending of `name` matters."""
    checked = Checked(sha256=sha256_bytes(data))
    try:
        image = stored(data, SPEC)
        notes = (*_misnamed(image, name), *_changes(image))
        image = upright(image)
    except DataError as error:
        return replace(checked, problem=str(error))
    checked = replace(checked, width=image.width, height=image.height, notes=notes)
    if problem := _useless(image):
        return replace(checked, problem=problem)
    return replace(checked, signature=signature(image))


def _misnamed(image: Image.Image, name: str) -> tuple[str, ...]:
    """The content decides what a file is. One without any ending is nothing odd."""
    kind, endings = KINDS.get(str(image.format), HEIC)
    ending = PurePosixPath(name).suffix
    return () if not ending or ending.lower() in endings else (f"a {kind} named {ending}",)


def _changes(image: Image.Image) -> tuple[str, ...]:
    """What makes an upright RGB picture of it. image: from `stored`."""
    notes = []
    if image.format == "MPO":
        notes.append("several pictures in one JPEG (MPO); the first is used")
    if image.mode in MODES:
        notes.append(MODES[image.mode])
    if _see_through(image):
        notes.append("transparency dropped, the colours under it are used")
    if (turned := orientation(image)) != 1:
        notes.append(f"turned upright (EXIF orientation {turned})")
    return tuple(notes)


def _see_through(image: Image.Image) -> bool:
    """Whether any pixel may be; most RGBA pictures have none."""
    if "A" in image.getbands():
        low, _ = image.getchannel("A").getextrema()
        return low < 255  # type: ignore[operator]
    return "transparency" in image.info


def _useless(image: Image.Image) -> str:
    if min(image.size) < TINY:
        return (
            f"{image.width} x {image.height} pixels; wanted at least {TINY} on each side: "
            "take it out or find a larger one"
        )
    if all(low == high for low, high in image.getextrema()):  # type: ignore[misc]
        return "one single colour; take it out"
    return ""
