"""The Kotlin classifier against Python: cases are written here, repeated by the tests of
android_demo, and what those wrote is read here."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin

from mobileclf.decision import (
    Abstain,
    Classes,
    Decision,
    decision_file,
    decision_score,
    verdicts,
)
from mobileclf.errors import DataError
from mobileclf.golden import Judge
from mobileclf.images.load import (
    ImageSpec,
    decode,
    decoded_bytes,
    orientation,
    resize,
    stored,
    upright,
)
from mobileclf.images.sample import LABELS, draw
from mobileclf.records import read_json, sha256_bytes, write_json
from mobileclf.tflite import metadata
from mobileclf.tflite.interpreter import AnyKernels, as_quanta, open_interpreter, scores

PROJECT = Path(__file__).parents[1] / "android_demo"
SHIPPED = PROJECT / "app" / "src" / "main" / "assets" / "mobileclf"
AAPT2 = shutil.which("aapt2")
DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
PHOTOS = 240
SPECS = (
    ImageSpec(width=224, height=224),
    ImageSpec(width=61, height=97),
    ImageSpec(width=48, height=48, channels=1),
)
# Refused by Kotlin alone, which has no decoder that would say how much of them it understood.
STRICTER = {
    "bad_exif.jpg": "Pillow leaves out EXIF that is no TIFF, but only where there is no dpi",
    "cut1.bmp": "Pillow does without the padding behind the last row",
    "cut2.bmp": "Pillow does without the padding behind the last row",
}
Files = Iterator[tuple[str, bytes]]

pytestmark = [
    pytest.mark.skipif("ANDROID" not in os.environ, reason="run by `make android`"),
    pytest.mark.skipif(
        not shutil.which("mvn") or not shutil.which("javac"),
        reason="wanted a JDK and Maven to build android_demo, found none",
    ),
]


def noise(width: int, height: int, channels: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng((width, height, channels))
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(width: int, height: int, number: int = 0) -> Image.Image:
    """A picture as a camera makes them: decoders differ on noise that no photo has."""
    return Image.fromarray(noise(9 + number, 7)).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(number: int) -> bytes:
    found = Image.Exif()
    found[0x0112] = number
    return found.tobytes()


def swapped_profile() -> bytes:
    """A profile in which red and green have changed places: converting by it cannot be missed."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"TEMP", 1).replace(b"gXYZ", b"rXYZ", 1)
    return swapped.replace(b"TEMP", b"gXYZ", 1)


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment at its start."""
    return b"\xff\xd8" + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + jpeg[2:]


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    chunk = struct.pack(">I", len(body)) + kind + body
    return png[:33] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + png[33:]


def of_every_kind() -> Files:
    """Each format that is read here, in each form that its decoder treats otherwise."""
    photo, profile = smooth(90, 70), swapped_profile()
    grey, cmyk = photo.convert("L"), photo.convert("CMYK")
    palette = photo.quantize(40)
    clear = photo.copy()
    clear.putalpha(Image.fromarray(noise(90, 70, 1)[..., 0]))
    for name, subsampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"{name}.jpg", encoded(photo, "JPEG", subsampling=subsampling)
        yield f"{name}p.jpg", encoded(photo, "JPEG", subsampling=subsampling, progressive=True)
    yield "grey.jpg", encoded(grey, "JPEG")
    yield "cmyk.jpg", encoded(cmyk, "JPEG")
    yield "profile.jpg", encoded(photo, "JPEG", icc_profile=profile)
    yield "long_profile.jpg", encoded(photo, "JPEG", icc_profile=profile + bytes(150_000))
    yield "restarts.jpg", encoded(photo, "JPEG", restart_marker_rows=1)
    yield "comment.jpg", encoded(photo, "JPEG", comment=b"\xff\xd9 not the end")
    yield "mpo.jpg", encoded(photo, "MPO", save_all=True, append_images=[smooth(40, 30)])
    several = {"rgb": photo, "rgba": clear, "la": clear.convert("LA"), "l": grey}
    for name, image in {**several, "palette": palette, "bit": photo.convert("1")}.items():
        yield f"{name}.png", encoded(image, "PNG")
    yield "profile.png", encoded(photo, "PNG", icc_profile=profile)
    sound = encoded(photo, "PNG")
    yield "gamma.png", with_chunk(sound, b"gAMA", struct.pack(">I", 100_000))
    swapped = (31270, 32900, 30000, 60000, 64000, 33000, 15000, 6000)
    yield (
        "cHRM.png",
        with_chunk(
            with_chunk(sound, b"gAMA", struct.pack(">I", 45455)),
            b"cHRM",
            struct.pack(">8I", *swapped),
        ),
    )
    yield "sRGB.png", with_chunk(sound, b"sRGB", b"\0")
    yield "cICP.png", with_chunk(sound, b"cICP", b"\x0c\x10\0\1")
    yield "trns.png", encoded(photo, "PNG", transparency=(1, 2, 3))
    yield "palette_clear.png", encoded(palette, "PNG", transparency=bytes(range(40)))
    yield "still.png", with_chunk(sound, b"acTL", struct.pack(">II", 0, 0))
    for name, options in (("lossy", {}), ("lossless", {"lossless": True})):
        yield f"{name}.webp", encoded(photo, "WEBP", **options)
        yield f"{name}_profile.webp", encoded(photo, "WEBP", icc_profile=profile, **options)
        yield (
            f"{name}_odd.webp",
            encoded(photo, "WEBP", icc_profile=profile + b"x", exif=exif(6), **options),
        )
    yield "alpha.webp", encoded(clear, "WEBP", lossless=True, exact=True)
    yield "opaque.gif", encoded(palette, "GIF")
    yield "comment.gif", encoded(palette, "GIF", comment=b";,!")
    for mode in ("RGB", "L", "1", "P"):
        yield f"{mode}.bmp", encoded(palette if mode == "P" else photo.convert(mode), "BMP")


def of_every_turn() -> Files:
    photo = smooth(50, 34)
    sound, png = encoded(photo, "JPEG"), encoded(photo, "PNG")
    for number in range(10):
        yield f"turn{number}.jpg", encoded(photo, "JPEG", exif=exif(number))
        yield f"turn{number}.png", encoded(photo, "PNG", exif=exif(number))
        yield f"turn{number}.webp", encoded(photo, "WEBP", lossless=True, exif=exif(number))
        xmp = f'<x:xmpmeta tiff:Orientation="{number}"/>'.encode()
        yield f"xmp{number}.jpg", encoded(photo, "JPEG", xmp=xmp)
        yield f"xmp{number}.webp", encoded(photo, "WEBP", lossless=True, xmp=xmp)
        info = PngImagePlugin.PngInfo()
        text = f"<tiff:Orientation>{number}</tiff:Orientation>"
        info.add_itxt("XML:com.adobe.xmp", text, zip=number % 2 == 1)
        yield f"xmp{number}.png", encoded(photo, "PNG", pnginfo=info)
    both = with_segment(sound, 0xE1, b"http://ns.adobe.com/xap/1.0/\0<tiff:Orientation>3</")
    yield "both.jpg", with_segment(both, 0xE1, exif(8))
    yield "nine_and_xmp.jpg", with_segment(both, 0xE1, exif(9))
    little = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    yield "little.jpg", with_segment(sound, 0xE1, little)
    yield "long_number.jpg", with_segment(sound, 0xE1, little.replace(b"\x12\1\3", b"\x12\1\4"))
    yield "byte_number.jpg", with_segment(sound, 0xE1, little.replace(b"\x12\1\3", b"\x12\1\1"))
    yield "cut_exif.jpg", with_segment(both, 0xE1, little[:-14])
    yield "no_exif.jpg", with_segment(sound, 0xE1, b"Exif\0\0")
    yield "bad_exif.jpg", with_segment(sound, 0xE1, b"Exif\0\0what is this")
    yield "after_scan.jpg", sound[:-2] + with_segment(b"\xff\xd8\xff\xd9", 0xE1, exif(6))[2:]
    raw = "\nexif\n      42\n" + exif(6).hex() + "\n"
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", raw, zip=True)
    yield "raw_profile.png", encoded(photo, "PNG", pnginfo=info)
    exif_chunk = struct.pack(">I", len(exif(5)) - 6) + b"eXIf" + exif(5)[6:]
    late = exif_chunk + struct.pack(">I", zlib.crc32(exif_chunk[4:]))
    yield "late.png", png[:-12] + late + png[-12:]


def of_every_size() -> Files:
    for width, height in ((1, 1), (1, 5000), (5000, 1), (2, 3), (224, 224), (61, 97), (223, 225),
                          (448, 448), (640, 3), (7, 1000), (4000, 3000)):  # fmt: skip
        kind = "JPEG" if width * height > 1_000_000 else "PNG"
        picture = smooth(width, height) if kind == "JPEG" else Image.fromarray(noise(width, height))
        yield f"{width}x{height}.{kind[:4].lower()}", encoded(picture, kind)
    for number in (3, 6, 7):
        yield (
            f"tall{number}.png",
            encoded(Image.fromarray(noise(30, 900)), "PNG", exif=exif(number)),
        )


def refused() -> Files:
    photo = smooth(90, 70)
    palette = photo.quantize(40)
    jpeg, png = encoded(photo, "JPEG"), encoded(photo, "PNG")
    sound = {
        "jpg": jpeg, "progressive.jpg": encoded(photo, "JPEG", progressive=True), "png": png,
        "webp": encoded(photo, "WEBP"), "lossless.webp": encoded(photo, "WEBP", lossless=True),
        "gif": encoded(palette, "GIF"), "bmp": encoded(photo, "BMP"),
    }  # fmt: skip
    for name, data in sound.items():
        yield f"cut60.{name}", data[: len(data) * 6 // 10]
        yield f"cut1.{name}", data[:-1]
        yield f"cut2.{name}", data[:-2]
        yield f"zeros.{name}", data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    yield "thumbnail_only.jpg", with_segment(jpeg, 0xE1, exif(1) + jpeg)[: len(jpeg) + 60]
    yield "crc.png", png[:60] + bytes([png[60] ^ 1]) + png[61:]
    wide = Image.fromarray(noise(9, 9, 2).view(np.uint16)[..., 0])
    yield "deep.png", encoded(wide, "PNG")
    yield "deep_rgb.png", with_chunk(png, b"IHDR", struct.pack(">IIBBBBB", 9, 9, 16, 2, 0, 0, 0))
    yield "lossless.jpg", jpeg.replace(b"\xff\xc0", b"\xff\xc3")
    yield "arithmetic.jpg", jpeg.replace(b"\xff\xc0", b"\xff\xc9")
    yield "hierarchical.jpg", jpeg.replace(b"\xff\xc0", b"\xff\xc5")
    yield "twelve.jpg", jpeg.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c")
    several = {"save_all": True, "append_images": [photo.transpose(Image.Transpose.ROTATE_180)]}
    yield "animated.gif", encoded(palette, "GIF", **several)
    yield "animated.webp", encoded(photo, "WEBP", **several)
    yield "animated.png", encoded(photo, "PNG", **several)
    yield "clear.gif", encoded(palette, "GIF", transparency=3)
    whole = encoded(palette, "GIF")
    yield "margin.gif", whole[:6] + struct.pack("<HH", 100, 70) + whole[10:]
    size = struct.pack(">II", 12000, 11000)
    header = size + png[24:29]
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    yield "huge.png", png[:16] + header + checksum + png[33:]
    at = jpeg.index(b"\xff\xc0") + 5
    yield "huge.jpg", jpeg[:at] + struct.pack(">HH", 11000, 12000) + jpeg[at + 4 :]
    yield "picture.tif", encoded(photo, "TIFF")
    yield "picture.ico", encoded(photo, "ICO")
    yield "picture.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50)
    yield "picture.j2k", b"\xff\x4f\xff\x51" + bytes(50)
    yield "picture.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50)
    yield "codestream.jxl", b"\xff\x0a" + bytes(50)
    yield "picture.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(50)
    yield "paper.pdf", b"%PDF-1.7 and so on"
    yield "several.zip", b"PK\3\4 and so on"
    yield "pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yield "page.jpg", b"\xef\xbb\xbf \n<!DOCTYPE HTML><html><body>404</body></html>"
    yield "drawing.jpg", b'<?xml version="1.0"?><svg xmlns="x"/>'
    yield "other.jpg", b"<?xml version='1.0'?><x/>"
    yield "empty.jpg", b""
    yield "nothing.jpg", bytes(1000)
    yield "words.jpg", b"these are words"
    yield "riff.webp", b"RIFF\x10\0\0\0WAVEfmt 0123456789"


def photos() -> Files:
    """Real ones, every fourth turned by EXIF and every third with a profile."""
    paths = [
        *sorted((DATA / "mushrooms4").glob("*/*"))[::8],
        *sorted((DATA / "cats_dogs").glob("*/*/*"))[::9],
    ][:PHOTOS]
    for i, path in enumerate(paths):
        data = path.read_bytes()
        if data[:2] == b"\xff\xd8" and i % 4 == 0:
            data = with_segment(data, 0xE1, exif(i // 4 % 8 + 1))
        if data[:2] == b"\xff\xd8" and i % 3 == 0:
            data = with_segment(data, 0xE2, b"ICC_PROFILE\0\1\1" + swapped_profile())
        yield f"photo{i:03d}{path.suffix}", data


def file_case(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    """Write one file, its stored pixels, and what comes of it in Python."""
    (folder / "files" / name).write_bytes(data)
    case: dict[str, Any] = {"file": f"files/{name}", "rows": None, "refused": None}
    try:
        image = stored(data, SPECS[0])
    except DataError as error:
        said = str(error)
        broken = said.startswith("broken or cut short")
        return {**case, "refused": "broken or cut short" if broken else said.partition(";")[0]}
    if name in STRICTER:
        return {**case, "refused": "broken or cut short"}
    turned = orientation(image)
    kind = "JPEG" if image.format == "MPO" else image.format
    image.info.pop("transparency", None)
    pixels = image.convert("RGB")
    (folder / "rows" / name).write_bytes(pixels.tobytes())
    whole = upright(image)
    inputs = [
        {
            "width": spec.width,
            "height": spec.height,
            "channels": spec.channels,
            "sha256": sha256_bytes(resize(whole, spec).tobytes()),
        }
        for spec in SPECS
    ]
    return {
        **case,
        "rows": f"rows/{name}",
        "kind": kind,
        "width": image.width,
        "height": image.height,
        "orientation": turned,
        "decoded_sha256": sha256_bytes(decoded_bytes(whole)),
        "inputs": inputs,
    }


def decision_cases() -> Iterator[dict[str, Any]]:
    """Outputs near the threshold, with ties, of many rules, and their verdicts."""
    rng = np.random.default_rng(5)
    for i in range(160):
        many = int(rng.integers(2, 9))
        names = tuple(f"label {k}" for k in range(many))
        plain = i % 5 == 4
        if plain:
            classes = Classes(labels=names, groups=(None,) * many, harmful=None)
        else:
            groups = ("bad", "good", *rng.choice(["bad", "good", "fair"], many - 2).tolist())
            mixed = tuple(rng.permutation(groups).tolist())
            classes = Classes(labels=names, groups=mixed, harmful="bad")
        threshold = int(rng.integers(1, 256))
        rule = None
        if not plain and i % 2:
            by = ("largest", "margin", "score")[i % 3]
            most = threshold if by == "score" else 255
            rule = Abstain(by=by, cut_q=int(rng.integers(1, most + 1)))  # type: ignore[arg-type]
        decision = Decision(
            group=classes.harmful,
            threshold_q=threshold,
            abstain=rule,
            kernel_bound=0,
            purpose="demo" if i % 7 == 0 else "real",
        )
        spread = rng.integers(0, (256, 40, 4)[i % 3], (60, many))
        near = np.zeros_like(spread)
        near[:, 0] = np.clip(threshold + rng.integers(-2, 3, 60), 0, 255)
        outputs = np.concatenate([spread, near, np.clip(spread + near, 0, 255)])
        said = verdicts(outputs, classes, decision)
        yield {
            **classes.as_record(),
            "purpose": decision.purpose,
            "decision": decision.as_record(),
            "photos": [
                {"output": row.tolist(), "verdict": verdict}
                for row, verdict in zip(outputs, said, strict=True)
            ],
        }


def summing(pixels: NDArray[np.uint8], labels: int) -> NDArray[np.uint8]:
    """The model of the Kotlin tests' fixtures: output i of the bytes at i, i + labels, ..."""
    flat = pixels.reshape(-1).astype(np.int64)
    return np.array([[flat[i::labels].sum() * 7 // 64 % 256 for i in range(labels)]], np.uint8)


def bundle(folder: Path) -> int:
    """A bundle as export writes it, but with a model that is a sum. Returns how many cases."""
    labels = ("fly agaric", "death cap", "penny bun", "chanterelle ü")
    classes = Classes(labels=labels, groups=("bad", "bad", "good", "fair"), harmful="bad")
    decision = Decision(
        group="bad", threshold_q=250, kernel_bound=3, abstain=Abstain(by="margin", cut_q=20)
    )
    spec = SPECS[0]
    judge = Judge(spec=spec, classes=classes, decision=decision, score=lambda x: summing(x, 4))
    tiny = resources.files("mobileclf").joinpath("checkup/tiny.tflite").read_bytes()
    pictures = []
    for i in range(12):
        picture = smooth(60 + i, 80 - 3 * i, i)
        kind = "PNG" if i % 2 else "JPEG"
        pictures.append(encoded(picture, kind, exif=exif(i % 8 + 1)))
    verdicts_found = put_bundle(folder, with_rules(tiny, judge), judge, pictures)
    assert len(set(verdicts_found)) > 2
    return len(verdicts_found)


def with_rules(model: bytes, judge: Judge) -> bytes:
    """The model with metadata that decide as `judge` does."""
    about = metadata.Description(
        name="made", description="made", version="1", author="made", width=judge.spec.width,
        height=judge.spec.height, channels=3, minimum_score=None,
    )  # fmt: skip
    lines = "".join(f"{label}\n" for label in judge.classes.labels).encode()
    inside = {
        metadata.LABELS_FILE: lines,
        metadata.DECISION_FILE: decision_file(judge.classes, judge.decision),
    }
    return metadata.write(model, about, inside)


def put_bundle(folder: Path, model: bytes, judge: Judge, pictures: list[bytes]) -> list[str]:
    """A bundle as export writes it, in `folder`. Returns the verdicts of its golden cases."""
    lines = "".join(f"{label}\n" for label in judge.classes.labels).encode()
    files = {"model.tflite": model, "labels.txt": lines}
    cases = []
    for i, data in enumerate(pictures):
        suffix = ".png" if data[:4] == b"\x89PNG" else ".jpg"
        files[f"golden/{i}{suffix}"] = data
        cases.append(judge.case(data, suffix).as_record(f"golden/{i}{suffix}"))
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    body = {
        "schema": 1,
        "name": "made",
        "purpose": judge.decision.purpose,
        "model": {"file": "model.tflite", "sha256": sha256_bytes(files.pop("model.tflite"))},
        "input": {**judge.spec.as_record(), "dtype": "uint8", "scale": 1.0, "zero_point": 0},
        "output": {"dtype": "uint8", "scale": 1 / 256, "zero_point": 0, "kernels": "xnnpack"},
        **judge.classes.as_record(),
        "decision": judge.decision.as_record(),
        "golden": cases,
        "limits": "None of it is for eating.",
        "files": {
            name: {"sha256": sha256_bytes(data), "runtime": True} for name, data in files.items()
        },
    }
    write_json(folder / "bundle.json", body)
    return [str(case["verdict"]) for case in cases]


def screens(folder: Path) -> list[dict[str, Any]]:
    """Bundles and photos for the app's screens, whole and broken, and what is to stand there.

    The model is the one that the app ships with; who decides is made here.
    """
    shipped = (SHIPPED / "model.tflite").read_bytes()
    labels = tuple(sorted(LABELS))
    groups = tuple(LABELS[label] for label in labels)
    grouped = Classes(labels=labels, groups=groups, harmful="NotEdible")
    plain = Classes(labels=labels, groups=(None,) * len(labels), harmful=None)
    rule = Abstain(by="margin", cut_q=255)
    kinds = {
        "real": (grouped, decided("NotEdible", 60), "NotEdible", "Edible"),
        "careful": (grouped, decided("NotEdible", 60, abstain=rule), "not sure", "NotEdible"),
        "demo": (grouped, decided("NotEdible", 60, purpose="demo"), "not sure", "NotEdible"),
        "labels": (plain, decided(None, 200), "not sure", "Solaria_dulcis"),
    }
    rng = np.random.default_rng(11)
    drawn = [encoded(draw(label, rng, 240), "JPEG", quality=90) for label in labels * 6]
    spec = ImageSpec(width=64, height=64)
    pixels = np.stack([resize(decode(data, spec), spec) for data in drawn])
    apart = (scorer("xnnpack")(pixels) != scorer("builtin")(pixels)).any(axis=1)
    telling = drawn[int(apart.argmax())]  # other kernels answer it otherwise
    assert apart.any()
    found: list[dict[str, Any]] = []
    for kind, (classes, decision, *wanted) in kinds.items():
        judge = Judge(spec=spec, classes=classes, decision=decision, score=scorer("xnnpack"))
        put_bundle(folder / kind, with_rules(shipped, judge), judge, [*drawn[:2], telling])
        cases = [judge.case(data, ".jpg") for data in drawn]
        for verdict in wanted:
            case = next(case for case in cases if case.verdict == verdict)
            score = int(decision_score(np.array([case.output]), classes)[0])
            found.append(on_screen(folder, kind, case.data, verdict, f"{kind} {verdict}", score))
    cut = drawn[0][: len(drawn[0]) * 6 // 10]
    for name, data in {"cut": cut, "words": b"words", "zeros": bytes(100)}.items():
        found.append(on_screen(folder, "real", data, "no verdict", name))
    for name, breaks in BREAKS.items():
        place = shutil.copytree(folder / "real", folder / name)
        breaks(place)
        found.append(on_screen(folder, name, drawn[0], "no verdict", name))
    return found


def scorer(kernels: AnyKernels) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    engine = open_interpreter(SHIPPED / "model.tflite", kernels=kernels)
    return lambda pixels: as_quanta(scores(engine, pixels))


def decided(
    group: str | None, threshold: int, purpose: str = "real", abstain: Abstain | None = None
) -> Decision:
    return Decision(
        group=group, threshold_q=threshold, abstain=abstain, kernel_bound=3, purpose=purpose
    )


def on_screen(
    folder: Path, bundle: str, photo: bytes, verdict: str, name: str, score: int | None = None
) -> dict[str, Any]:
    name = name.replace(" ", "_")
    (folder / f"{name}.photo").write_bytes(photo)
    return {
        "name": name,
        "bundle": f"{folder.name}/{bundle}",
        "photo": f"{folder.name}/{name}.photo",
        "verdict": verdict,
        "score": score,
    }


def cut_model(place: Path) -> None:
    model = place / "model.tflite"
    model.write_bytes(model.read_bytes()[:-1000])


def flip_model(place: Path) -> None:
    data = bytearray((place / "model.tflite").read_bytes())
    data[len(data) // 2] ^= 1
    (place / "model.tflite").write_bytes(data)


def swap_labels(place: Path) -> None:
    lines = (place / "labels.txt").read_text().splitlines(keepends=True)
    (place / "labels.txt").write_text("".join([lines[1], lines[0], *lines[2:]]))


def move_threshold(place: Path) -> None:
    record = read_json(place / "bundle.json")
    record["decision"].update(threshold_q=61, threshold=61 / 256)
    write_json(place / "bundle.json", record)


def other_golden(place: Path) -> None:
    """A bundle whose files are all its own, but whose model gives other answers than recorded."""
    record = read_json(place / "bundle.json")
    harmful = next(i for i, row in enumerate(record["labels"]) if row["group"] == "NotEdible")
    record["golden"][0]["output"][harmful] ^= 8
    write_json(place / "bundle.json", record)


BREAKS: dict[str, Callable[[Path], None]] = {
    "cut_model": cut_model,
    "flipped_model": flip_model,
    "swapped_labels": swap_labels,
    "moved_threshold": move_threshold,
    "other_golden": other_golden,
}


def maven(folder: Path, *more: str) -> str:
    """Build and test android_demo with the cases in `folder`; returns what Maven printed."""
    command = ["mvn", "-B", "-ntp", "-Dstyle.color=never", *more]
    found = subprocess.run(
        [*command, f"-Dmobileclf.cases={folder}", "verify"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-6000:]
    return found.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases written, and repeated by Kotlin. Each test then looks at one part of it."""
    place = tmp_path_factory.mktemp("kotlin")
    write(place)
    maven(place, "-Papp" if AAPT2 else "-Pskia")
    return place


def write(place: Path) -> None:
    for part in ("files", "rows"):
        (place / part).mkdir()
    makers = (of_every_kind(), of_every_turn(), of_every_size(), refused(), photos())
    cases = [file_case(place, name, data) for made in makers for name, data in made]
    assert len({case["file"] for case in cases}) == len(cases)
    bundle(place / "bundle")
    (place / "app").mkdir()
    write_json(place / "screens.json", {"cases": screens(place / "app")})
    write_json(place / "cases.json", {"files": cases, "decisions": list(decision_cases())})


def read_cases(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_json(folder / "cases.json")["files"]
    return found


def compared(folder: Path, what: str) -> int:
    return int((folder / f"compared.{what}").read_text())


def test_every_file_is_read_or_refused_alike(folder: Path) -> None:
    cases = read_cases(folder)
    assert compared(folder, "containers") == len(cases)
    assert sum(case["refused"] is not None for case in cases) > 50


def test_every_input_is_the_same(folder: Path) -> None:
    with_rows = [case for case in read_cases(folder) if case["rows"]]
    assert compared(folder, "inputs") == len(SPECS) * len(with_rows)


def test_androids_own_decoder_gives_the_same_inputs(folder: Path) -> None:
    assert compared(folder, "skia") == compared(folder, "inputs")


def test_every_verdict_is_the_same(folder: Path) -> None:
    assert compared(folder, "verdicts") == 160 * 180


@pytest.mark.skipif(not AAPT2, reason="wanted aapt2 (Debian: apt install aapt), found none")
def test_every_screen_shows_the_verdict_of_python(folder: Path) -> None:
    shown = (folder / "compared.screens").read_text().split()
    wanted = [case["name"] for case in read_json(folder / "screens.json")["cases"]]
    golden = read_json(SHIPPED / "bundle.json")["golden"]
    assert sorted(shown) == sorted([*wanted, *(f"golden{i}" for i in range(len(golden)))])


def test_a_bundle_of_python_is_read(folder: Path) -> None:
    assert compared(folder, "golden") == 12


def test_nothing_of_colour_is_left_and_no_pixel_is_other(folder: Path) -> None:
    taken = 0
    for case in read_cases(folder):
        if case["refused"] is not None:
            continue
        before, after = (folder / part / Path(case["file"]).name for part in ("files", "cleaned"))
        with Image.open(after) as image:
            assert not {"icc_profile", "gamma", "chromaticity", "srgb"} & set(image.info), before
        whole = upright(stored(after.read_bytes(), SPECS[0]))
        assert sha256_bytes(decoded_bytes(whole)) == case["decoded_sha256"], before
        taken += before.read_bytes() != after.read_bytes()
    assert taken > 8


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no photos in {DATA}; set MOBILECLF_DATA")
def test_at_least_200_real_photos_are_among_them(folder: Path) -> None:
    real = [case for case in read_cases(folder) if "/photo" in case["file"] and case["rows"]]
    assert len(real) >= 200


def test_gradle_and_maven_build_the_same_app() -> None:
    lines = (PROJECT / "gradle" / "libs.versions.toml").read_text()
    catalog = dict(re.findall(r'^(\w+) = "(.+)"$', lines, re.MULTILINE))
    maven = {
        element.tag.rpartition("}")[2]: (element.text or "").strip()
        for element in ElementTree.parse(PROJECT / "pom.xml").iter()
    }
    pairs = {
        "kotlin": "kotlin.version",
        "junit": "junit.version",
        "jvmTarget": "kotlin.compiler.jvmTarget",
        "minSdk": "sdk.min",
        "targetSdk": "sdk.target",
    }
    assert {key: catalog[key] for key in pairs} == {key: maven[pairs[key]] for key in pairs}
    app = (PROJECT / "app" / "build.gradle.kts").read_text()
    screens_pom = (PROJECT / "screens" / "pom.xml").read_text()
    assert 'applicationId = "mobileclf.demo"' in app
    assert 'namespace = "mobileclf.demo"' in app
    assert "<app.id>mobileclf.demo</app.id>" in screens_pom
    assert 'noCompress += "tflite"' in app
    assert "-0 .tflite" in screens_pom
    # Every folder of the app's Kotlin is compiled on the host, by one module or the other.
    kotlin = PROJECT / "app" / "src" / "main" / "kotlin"
    folders = {path.parent.relative_to(kotlin).as_posix() for path in kotlin.rglob("*.kt")}
    poms = (PROJECT / "skia" / "pom.xml").read_text() + screens_pom
    assert all(f"kotlin/{folder}</sourceDir>" in poms for folder in folders)
    assert 'assets, "mobileclf"' in (kotlin / "mobileclf" / "demo" / "DemoApp.kt").read_text()
