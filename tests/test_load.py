"""The preprocessing: what is read, what is refused, and the bytes that come out."""

from __future__ import annotations

import io
import math
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile

from mobileclf.errors import DataError
from mobileclf.images import load as module
from mobileclf.images.load import ImageSpec, decode, decoded_bytes, load, load_many, resize
from mobileclf.source.store import open_store

SPEC = ImageSpec(width=32, height=24)
GREY = ImageSpec(width=32, height=24, channels=1)


def picture(width: int = 60, height: int = 40, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(7)
    small = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pixels(image: Image.Image) -> NDArray[np.int64]:
    return np.asarray(image, dtype=np.int64)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_lossless_formats_give_the_stored_pixels(kind: str) -> None:
    image = picture().quantize(64).convert("RGB")
    data = encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert decoded_bytes(decode(data, SPEC)) == image.tobytes()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_of_each_colour_space_is_rgb(mode: str) -> None:
    image = picture(mode=mode)
    found = decode(encoded(image, "JPEG", quality=95), SPEC)
    assert found.mode == "RGB"
    assert np.abs(pixels(found) - pixels(image.convert("RGB"))).mean() < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_dropped_and_the_colours_below_are_kept(mode: str) -> None:
    base = picture().convert("L").convert("RGB")
    image = base.convert("P") if mode == "P" else base.convert(mode)
    if mode == "P":
        data = encoded(image, "PNG", transparency=bytes(range(256)))
    else:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        data = encoded(image, "PNG")
    expected = image.convert("RGB") if mode == "P" else base
    assert decoded_bytes(decode(data, SPEC)) == expected.tobytes()


def test_mpo_counts_as_jpeg_and_other_animations_are_refused() -> None:
    frames = [picture(), picture().rotate(90)]
    mpo = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(mpo)).format == "MPO"
    assert decode(mpo, SPEC).size == (60, 40)
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match="animated"):
            decode(data, SPEC)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    turns = Image.Transpose
    stored_to_upright = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain, tagged = encoded(picture(), kind), encoded(picture(), kind, exif=exif)
    expected = decode(plain, SPEC)
    if orientation in stored_to_upright:
        expected = expected.transpose(stored_to_upright[orientation])
        assert decoded_bytes(expected) != decoded_bytes(decode(plain, SPEC))
    found = decode(tagged, SPEC)
    assert found.size == expected.size
    assert decoded_bytes(found) == decoded_bytes(expected)


def test_orientation_from_xmp_is_applied() -> None:
    packet = b'http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation="6"/>'
    plain = encoded(picture(), "JPEG")
    tagged = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet + plain[2:]
    expected = decode(plain, SPEC).transpose(Image.Transpose.ROTATE_270)
    assert decoded_bytes(decode(tagged, SPEC)) == decoded_bytes(expected)


def test_exif_that_is_broken_or_odd_costs_no_picture_and_says_nothing() -> None:
    """ImageOps.exif_transpose fails where it cannot write again what it turned."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a text that is kept at an offset"
    plain, tagged = encoded(picture(), "JPEG"), encoded(picture(), "JPEG", exif=exif)
    start = tagged.index(b"Exif\0\0") + 6
    sizes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for at in range(start, start + 60):
            for value in (0, 255, tagged[at] ^ 1):
                found = decode(tagged[:at] + bytes([value]) + tagged[at + 1 :], SPEC)
                sizes.add(found.size)
    assert sizes == {(60, 40), (40, 60)}
    assert len(plain) < len(tagged)


def test_no_remark_of_pillow_reaches_the_screen_from_any_thread() -> None:
    frames = [picture(), picture()]
    mpo = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    at = mpo.index(b"MPF\0") + 8
    odd = mpo[:at] + b"\xff" * 8 + mpo[at + 8 :]
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.open(io.BytesIO(odd))
        assert seen, "Pillow no longer warns of this file: take another"
        seen.clear()
        filters = warnings.filters
        together = threading.Barrier(4)

        def work(_: int) -> None:
            together.wait()
            decode(odd, SPEC)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(40)))
        assert seen == [] and warnings.filters is filters
        warnings.warn("still heard", stacklevel=1)
        assert len(seen) == 1


def test_a_colour_profile_changes_no_pixel() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain, tagged = encoded(picture(), "PNG"), encoded(picture(), "PNG", icc_profile=profile)
    assert len(tagged) > len(plain)
    assert decoded_bytes(decode(tagged, SPEC)) == decoded_bytes(decode(plain, SPEC))


@pytest.mark.parametrize("kind", ["JPEG", "PROGRESSIVE", "PNG", "WEBP", "GIF", "BMP"])
def test_a_picture_that_is_cut_short_is_refused(kind: str) -> None:
    image = picture(200, 160)
    if kind == "PROGRESSIVE":
        data = encoded(image, "JPEG", progressive=True)
    else:
        data = encoded(image, kind)
    decode(data, SPEC)
    for kept in (len(data) * 3 // 5, len(data) - 40, len(data) - 2, len(data) - 1):
        with pytest.raises(DataError, match=r"cut short|empty"):
            decode(data[:kept], SPEC)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_was_cut_and_filled_with_zeros_is_refused(progressive: bool) -> None:
    data = encoded(picture(200, 160), "JPEG", progressive=progressive)
    for filled in (data[:-2] + bytes(500), data[: len(data) - 30] + bytes(500)):
        if not progressive:
            Image.open(io.BytesIO(filled)).load()  # Pillow lets it pass
        with pytest.raises(DataError, match="JPEG cut short"):
            decode(filled, SPEC)
    decode(data + b"what phones put behind a picture", SPEC)


def test_a_png_with_a_changed_byte_is_refused() -> None:
    data = bytearray(encoded(picture(), "PNG"))
    data[-6] ^= 1  # in the checksum of IEND, which Pillow never reads
    Image.open(io.BytesIO(data)).load()
    with pytest.raises(DataError, match="checksum"):
        decode(bytes(data), SPEC)


def deep_png(colour: int) -> bytes:
    """2 x 1 pixels of 16 bits a channel; colour: 2 for RGB."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        whole = kind + body
        return struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", 2, 1, 16, colour, 0, 0, 0)
    rows = zlib.compress(b"\0" + bytes(range(12)))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return module.PNG_SIGNATURE + b"".join(parts)


def refused_kinds() -> dict[str, tuple[bytes, str]]:
    transparent = picture().quantize(16)
    deep = Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16))
    margin = bytearray(encoded(picture().quantize(16), "GIF"))
    margin[6] += 5  # the width of its screen
    jpeg = encoded(picture(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    kinds = {
        name: jpeg[: frame + 1] + bytes([code]) + jpeg[frame + 2 :]
        for name, code in (("lossless", 0xC3), ("hierarchical", 0xC5), ("arithmetic", 0xC9))
    }
    return {
        **{f"{name} JPEG": (data, name) for name, data in kinds.items()},
        "12-bit JPEG": (jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :], "12 bits"),
        "16-bit RGB PNG": (deep_png(2), "16 bits"),
        "AVIF": (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF.*convert it to JPEG"),
        "JPEG 2000": (encoded(picture(), "JPEG2000"), "JPEG 2000"),
        "web page": (b"\n <!DOCTYPE html><html><svg/>404</html>", "web page"),
        "PDF": (b"%PDF-1.7\n", "PDF"),
        "zip": (b"PK\3\4....", "unpack it"),
        "zeros": (bytes(3000), "nothing but zero bytes"),
        "transparent GIF": (encoded(transparent, "GIF", transparency=3), "transparency"),
        "GIF with a margin": (bytes(margin), "empty margin"),
        "16-bit PNG": (encoded(deep, "PNG"), "16 bits"),
        "TIFF": (encoded(picture(), "TIFF"), "TIFF or DNG"),
        "ICO": (encoded(picture(32, 32), "ICO"), "ICO"),
        "SVG": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        "text": (b"name,age\nAda,36\n", "not a picture"),
        "nothing": (b"", "empty"),
    }


@pytest.mark.parametrize("kind", refused_kinds())
def test_what_phones_decode_differently_is_refused_with_the_reason(kind: str) -> None:
    data, reason = refused_kinds()[kind]
    with pytest.raises(DataError, match=reason) as caught:
        decode(data, SPEC)
    assert "\n" not in str(caught.value)


def test_heic_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(DataError, match="pip install pillow-heif"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", SPEC)


def test_too_many_pixels_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(
            ">I", zlib.crc32(kind + body)
        )  # fmt: skip

    # A header that promises 30 000 x 30 000 pixels, and no pixel at all.
    for side in (9_000, 30_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        data = module.PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", b"")
        with pytest.raises(DataError, match="photo too large"):
            decode(data + chunk(b"IEND", b""), ImageSpec(width=8, height=8, max_pixels=10**6))
    limit = 60 * 40
    assert decode(encoded(picture(), "PNG"), ImageSpec(width=8, height=8, max_pixels=limit))
    with pytest.raises(DataError, match="photo too large"):
        decode(encoded(picture(), "PNG"), ImageSpec(width=8, height=8, max_pixels=limit - 1))


def test_pillows_global_state_is_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    load(encoded(picture(), "JPEG"), SPEC)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before


def one_axis(values: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Slow oracle of Pillow's fixed-point bilinear pass along axis 0: weights of 22 bits, sums
    rounded half up, clipped."""
    length = values.shape[0]
    ratio = length / size
    reach = max(ratio, 1.0)
    out = np.zeros((size, *values.shape[1:]), dtype=np.uint8)
    for i in range(size):
        centre = (i + 0.5) * ratio
        low = max(int(centre - reach + 0.5), 0)
        high = min(int(centre + reach + 0.5), length)
        weights = [max(0.0, 1 - abs((j - centre + 0.5) / reach)) for j in range(low, high)]
        total = sum(weights)
        fixed = [math.floor(w / total * (1 << 22) + 0.5) for w in weights]
        sums = np.full(values.shape[1:], 1 << 21, dtype=np.int64)
        for weight, row in zip(fixed, values[low:high].astype(np.int64), strict=True):
            sums += weight * row
        out[i] = np.clip(sums >> 22, 0, 255)
    return out


@pytest.mark.parametrize("size", [(50, 230), (230, 50), (20, 16), (32, 24)])
def test_resize_is_two_passes_of_one_axis_horizontal_first(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    values = np.asarray(image)
    narrow = one_axis(values.swapaxes(0, 1), SPEC.width).swapaxes(0, 1)
    expected = one_axis(narrow, SPEC.height)
    found = resize(image, SPEC)
    assert found.shape == (24, 32, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    if size == (50, 230):  # the other order is another picture, so the order matters
        other = one_axis(values, SPEC.height).swapaxes(0, 1)
        assert (one_axis(other, SPEC.width).swapaxes(0, 1) != expected).any()


@pytest.mark.skipif(
    int(Image.__version__.split(".")[0]) < 13, reason="Pillow < 13 resizes horizontally first"
)
def test_a_tall_picture_differs_from_one_call_of_resize() -> None:
    rng = np.random.default_rng(3)
    image = Image.fromarray(rng.integers(0, 256, (900, 300, 3), dtype=np.uint8))
    one_call = np.asarray(image.resize((32, 24), Image.Resampling.BILINEAR))
    assert (resize(image, SPEC) != one_call).any()


def luma(rgb: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The formula of `resize`, in whole numbers."""
    red, green, blue = np.moveaxis(rgb.astype(np.int64), -1, 0)
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def test_grey_is_the_fixed_point_formula_for_every_colour() -> None:
    green, blue = np.divmod(np.arange(1 << 16), 256)
    spec = ImageSpec(width=256, height=256, channels=1)
    for red in range(256):
        rgb = np.stack([np.full(1 << 16, red), green, blue], axis=-1).astype(np.uint8)
        found = resize(Image.fromarray(rgb.reshape(256, 256, 3)), spec)
        np.testing.assert_array_equal(found.ravel(), luma(rgb))


def test_a_picture_is_made_grey_before_it_is_resized() -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 256, (61, 90, 3), dtype=np.uint8)
    grey = luma(values).astype(np.uint8)
    narrow = one_axis(grey.swapaxes(0, 1), GREY.width).swapaxes(0, 1)
    found = resize(Image.fromarray(values), GREY)
    assert found.shape == (24, 32, 1) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[..., 0], one_axis(narrow, GREY.height))
    assert (luma(resize(Image.fromarray(values), SPEC)) != found[..., 0]).any()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_grey_file_keeps_its_values_and_is_decoded_to_rgb(kind: str) -> None:
    data = encoded(picture(32, 24, "L"), kind)
    values = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(load(data, GREY)[..., 0], values)
    assert decode(data, GREY).mode == "RGB"


@pytest.mark.parametrize("spec", [SPEC, GREY], ids=["rgb", "grey"])
def test_load_many_keeps_the_order_and_names_the_file_that_fails(
    tmp_path: Path, spec: ImageSpec
) -> None:
    names = [f"a/{i}.png" for i in range(12)]
    (tmp_path / "a").mkdir()
    for i, name in enumerate(names):
        Image.new("RGB", (30 - i, 20 + i), (i * 20,) * 3).save(tmp_path / name)
    store = open_store(tmp_path)
    found = load_many(store, names, spec, "reading")
    assert found.shape == (12, 24, 32, spec.channels) and found.dtype == np.uint8
    assert [int(image[0, 0, 0]) for image in found] == [i * 20 for i in range(12)]
    assert load_many(store, [], spec, "reading").shape == (0, 24, 32, spec.channels)
    broken = tmp_path / names[5]
    broken.write_bytes(broken.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"a/5\.png: PNG cut short"):
        load_many(store, names, spec, "reading")
    with pytest.raises(DataError, match=r"a/absent\.png: "):
        load_many(store, ["a/absent.png"], spec, "reading")
    with pytest.raises(DataError, match=r"absent\.png: cannot be read"):
        load(tmp_path / "absent.png", spec)


def test_the_spec_survives_a_record_with_other_keys_beside() -> None:
    for spec in (SPEC, GREY):
        record = {**spec.as_record(), "dtype": "uint8", "scale": 1.0}
        assert ImageSpec.from_record(record) == spec
    assert record["resize"] == "bilinear, horizontal then vertical"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fit", "crop"),
        ("resize", "bicubic"),
        ("exif", False),
        ("exif", 1),
        ("colour", "sRGB"),
        ("channels", 2),
        ("channels", True),
        ("channels", "3"),
        ("width", 0),
        ("height", "24"),
        ("max_pixels", None),
    ],
)
def test_preprocessing_that_is_not_known_is_never_guessed(key: str, value: object) -> None:
    with pytest.raises(DataError, match=key):
        ImageSpec.from_record({**SPEC.as_record(), key: value})
    record = SPEC.as_record()
    del record[key]
    with pytest.raises(DataError, match=f"lacks {key}"):
        ImageSpec.from_record(record)
