"""One picture: the reason for which it is left out, and what is said of one that is used."""

from __future__ import annotations

import hashlib
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobileclf.images import checks
from mobileclf.images.checks import Checked, check, check_file
from mobileclf.source.store import open_store

from .test_load import encoded, picture


def png_of(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG whose header promises this, with no pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)), (b"IEND", b""))
    found = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        found += struct.pack(">I", len(body)) + kind + body
        found += struct.pack(">I", zlib.crc32(kind + body))
    return found


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_a_sound_picture_has_all_figures_and_nothing_to_say() -> None:
    data = encoded(picture(), "PNG")
    found = check(data, "a/b.PNG")
    assert (found.problem, found.notes) == ("", ())
    assert (found.width, found.height) == (60, 40)
    assert found.sha256 == hashlib.sha256(data).hexdigest()
    assert found.signature is not None
    assert found.signature.pixels == hashlib.sha256(b"60 40 " + picture().tobytes()).hexdigest()
    assert found == check(data, "a/b.png")


JPEG, PNG = encoded(picture(), "JPEG"), encoded(picture(), "PNG")
FRAMES = {"save_all": True, "append_images": [picture().rotate(90)]}
LEFT_OUT = {
    "no picture": (b"name,age\nAda,36\n", "not a picture that is read here"),
    "zero bytes": (b"", "an empty file"),
    "only zeros": (bytes(500), "nothing but zero bytes"),
    "cut JPEG": (JPEG[: len(JPEG) * 3 // 5], "JPEG cut short"),
    "JPEG without its end": (JPEG[:-2], "JPEG cut short"),
    "cut PNG": (PNG[: len(PNG) * 3 // 5], "PNG cut short"),
    "cut WebP": (encoded(picture(), "WEBP")[:-9], "WebP cut short"),
    "cut GIF": (encoded(picture(mode="P"), "GIF")[:-1], "GIF cut short"),
    "cut BMP": (encoded(picture(), "BMP")[:-1], "broken or cut short"),
    "bomb": (png_of(30_000, 30_000), "photo too large (Image size (900000000 pixels)"),
    "large": (png_of(12_000, 12_000), "photo too large: 12000 x 12000 pixels, at most 128000000"),
    "animated GIF": (encoded(picture(), "GIF", **FRAMES), "animated; wanted one picture"),
    "animated PNG": (encoded(picture(), "PNG", **FRAMES), "animated; wanted one picture"),
    "animated WebP": (encoded(picture(), "WEBP", **FRAMES), "animated; wanted one picture"),
    "16-bit RGB": (png_of(60, 40, depth=16), "PNG with 16 bits a channel"),
    "16-bit grey": (
        encoded(Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)), "PNG"),
        "PNG with 16 bits a channel",
    ),
    "transparent GIF": (
        encoded(picture().quantize(16), "GIF", transparency=3),
        "GIF with transparency",
    ),
    "TIFF": (encoded(picture(), "TIFF"), "TIFF or DNG"),
    "ICO": (encoded(picture(32, 32), "ICO"), "ICO"),
    "SVG": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF, which phones before Android 12"),
    "HTML": (b"<html><body>404</body></html>", "a web page (HTML)"),
    "tiny": (encoded(picture(60, 7), "PNG"), "60 x 7 pixels; wanted at least 8 on each side"),
    "uniform": (encoded(Image.new("RGB", (60, 40), (9, 8, 7)), "PNG"), "one single colour"),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_is_left_out_says_why_and_what_to_do_in_one_line(kind: str) -> None:
    data, reason = LEFT_OUT[kind]
    found = check(data, "x.jpg")
    assert found.problem.startswith(reason) and "\n" not in found.problem
    assert found.signature is None
    assert found.sha256 == hashlib.sha256(data).hexdigest()


def test_heic_is_left_out_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    found = check(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "x.heic")
    assert found.problem == "HEIC: `pip install pillow-heif`, or convert it to JPEG"


def test_eight_pixels_and_a_second_colour_are_enough() -> None:
    image = Image.new("RGB", (8, 8))
    image.putpixel((3, 3), (0, 0, 1))
    assert check(encoded(image, "PNG"), "x.png").problem == ""


def transparent() -> Image.Image:
    image = picture(mode="RGBA")
    image.putpixel((0, 0), (1, 2, 3, 254))
    return image


DROPPED = "transparency dropped, the colours under it are used"
SAID = {
    "wrong ending": (PNG, "x.jpg", ("a PNG named .jpg",)),
    "wrong ending, as written": (JPEG, "x.Png", ("a JPEG named .Png",)),
    "not a picture's ending": (JPEG, "x.txt", ("a JPEG named .txt",)),
    "no ending": (JPEG, "train/0001", ()),
    "another ending of JPEG": (JPEG, "x.JFIF", ()),
    "CMYK": (encoded(picture(mode="CMYK"), "JPEG"), "x.jpg", ("CMYK, converted to RGB",)),
    "palette": (encoded(picture(mode="P"), "PNG"), "x.png", ("palette, converted to RGB",)),
    "grey": (encoded(picture(mode="L"), "JPEG"), "x.jpg", ("grey",)),
    "black and white": (encoded(picture(mode="1"), "PNG"), "x.png", ("grey",)),
    "alpha": (encoded(transparent(), "PNG"), "x.png", (DROPPED,)),
    "alpha in WebP": (encoded(transparent(), "WEBP", lossless=True), "x.webp", (DROPPED,)),
    "alpha that hides nothing": (encoded(picture(mode="RGBA"), "PNG"), "x.png", ()),
    "transparent colour": (encoded(picture(), "PNG", transparency=(1, 2, 3)), "x.png", (DROPPED,)),
    "several in one": (
        encoded(picture(), "MPO", **FRAMES),
        "x.jpg",
        ("several pictures in one JPEG (MPO); the first is used",),
    ),
    "turned, grey and misnamed": (
        encoded(picture(mode="L"), "JPEG", exif=turned(6)),
        "x.png",
        ("a JPEG named .png", "grey", "turned upright (EXIF orientation 6)"),
    ),
}


@pytest.mark.parametrize("kind", SAID)
def test_what_is_used_says_what_was_done_to_it(kind: str) -> None:
    data, name, notes = SAID[kind]
    found = check(data, name)
    assert (found.problem, found.notes) == ("", notes)
    assert found.signature is not None


def test_figures_are_of_the_upright_picture() -> None:
    lying = picture().transpose(Image.Transpose.ROTATE_90)
    found = check(encoded(lying, "PNG", exif=turned(6)), "x.png")
    plain = check(PNG, "x.png")
    assert (found.width, found.height) == (60, 40)
    assert found.signature is not None and plain.signature is not None
    assert found.signature.pixels == plain.signature.pixels


def test_a_file_of_a_store_is_checked_and_one_that_cannot_be_read_is_a_problem(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.jpg").write_bytes(PNG)
    store = open_store(tmp_path)
    assert check_file(store, "a/b.jpg") == check(PNG, "a/b.jpg")
    absent = check_file(store, "a/c.jpg")
    assert absent == Checked(problem=absent.problem) and absent.problem
    assert str(tmp_path) not in absent.problem


def samples() -> dict[str, bytes]:
    """One file of every format and kind that is read."""
    small = picture(24, 16)
    exif = turned(6)
    exif[0x010E] = "a text that is kept at an offset"
    return {
        "jpeg": encoded(small, "JPEG", exif=exif),
        "progressive": encoded(small, "JPEG", progressive=True),
        "cmyk": encoded(small.convert("CMYK"), "JPEG"),
        "mpo": encoded(small, "MPO", **FRAMES),
        "png": encoded(small, "PNG", exif=exif),
        "palette": encoded(small.quantize(16), "PNG", transparency=bytes(range(16))),
        "apng": encoded(small, "PNG", **FRAMES),
        "webp": encoded(small, "WEBP", exif=exif),
        "lossless": encoded(transparent().resize((24, 16)), "WEBP", lossless=True),
        "gif": encoded(small.quantize(16), "GIF"),
        "bmp": encoded(small, "BMP"),
    }


@pytest.mark.parametrize("kind", samples())
def test_broken_bytes_are_a_problem_or_a_picture_and_nothing_else(kind: str) -> None:
    """Bytes changed, cut out, doubled and zeroed, most of them where the structure is. Every
    other PNG gets right checksums, so that what is behind them is reached too."""
    data = samples()[kind]
    rng = random.Random(kind)
    right = kind in ("png", "palette", "apng")
    problems = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for i in range(150):
            broken = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 8))):
                at = rng.randrange(min(len(broken), rng.choice((40, 200, len(broken)))))
                size = rng.choice((1, 1, 1, 4, 30))
                how = rng.randrange(4)
                if how == 0:
                    broken[at] = rng.choice((0, 1, 127, 255, broken[at] ^ 1 << rng.randrange(8)))
                elif how == 1:
                    del broken[at : at + size]
                elif how == 2:
                    broken[at:at] = broken[at : at + size]
                else:
                    broken[at : at + size] = bytes(size)
                broken = broken or bytearray(1)
            if right and i % 2:
                broken = mended(broken)
            found = check(bytes(broken), "x." + kind)
            assert bool(found.problem) != (found.signature is not None)
            assert "\n" not in found.problem
            problems += bool(found.problem)
    assert problems


def mended(data: bytearray) -> bytearray:
    """A PNG with every checksum that can be found made right."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 <= len(data):
            data[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return data


def test_an_error_that_is_no_problem_of_the_file_is_not_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def defect(image: Image.Image) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(checks, "signature", defect)
    with pytest.raises(ZeroDivisionError):
        check(PNG, "x.png")
