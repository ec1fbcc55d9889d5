"""A photo of known colours, turned as cameras do, against the reading of EXIF."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mobileclf.images.load import ImageSpec

FIELD = 32  # pixels, whole blocks of a JPEG, so that its colours are plain
NEAR = 8  # of 256, what a JPEG does to a plain colour
# What is seen at the top left and right, and at the bottom left and right.
SEEN = np.array([[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]], dtype=np.uint8)
# What is stored of a picture that EXIF's number then turns upright (JEITA CP-3451, Orientation).
STORED: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda seen: seen,
    2: lambda seen: seen[:, ::-1],
    3: lambda seen: seen[::-1, ::-1],
    4: lambda seen: seen[::-1],
    5: lambda seen: seen.swapaxes(0, 1),
    6: lambda seen: np.rot90(seen, 1),
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),
    8: lambda seen: np.rot90(seen, -1),
}


def turned(orientation: int) -> bytes:
    """A JPEG that shows SEEN, twice as wide as high, by the orientation in its EXIF."""
    from PIL import Image

    seen = SEEN.repeat(FIELD, axis=0).repeat(2 * FIELD, axis=1)
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](seen))
    Image.fromarray(stored).save(file, "JPEG", exif=exif, quality=95, subsampling=0)
    return file.getvalue()


def misread(load: Callable[[bytes, ImageSpec], NDArray[np.uint8]], spec: ImageSpec) -> list[int]:
    """The orientations whose photo `load` does not give as it is seen, in the order of channels."""
    from PIL import Image

    rows = np.array([spec.height // 4, spec.height - 1 - spec.height // 4])
    columns = np.array([spec.width // 4, spec.width - 1 - spec.width // 4])
    mode = "RGB" if spec.channels == 3 else "L"
    wanted = np.asarray(Image.fromarray(SEEN).convert(mode)).reshape(2, 2, -1).astype(int)
    wrong = []
    for orientation in STORED:
        found = load(turned(orientation), spec)[np.ix_(rows, columns)].astype(int)
        if np.abs(found - wanted).max() > NEAR:
            wrong.append(orientation)
    return wrong
