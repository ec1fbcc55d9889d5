"""Data sets with one defect each, made on the spot: sixteen sound pictures in two classes, and
what is wrong beside them. `test_bad_data.py` holds what must be said of each."""

from __future__ import annotations

import csv
import io
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("left", "right")
EACH = 10
Make = Callable[[Path], Path]
DEFECTS: dict[str, Make] = {}


def defect(make: Make) -> Make:
    """Register a maker under its name: it gets an empty folder and returns what `--data` gets."""
    DEFECTS[make.__name__] = make
    return make


def picture(number: int, size: tuple[int, int] = (72, 80)) -> Image.Image:
    """Smooth random colours, another picture for each number."""
    rng = np.random.default_rng((7, number))
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def sound(root: Path, *above: str) -> Path:
    """The sound data set, below the folders `above` (given parts) where there are some."""
    for number, part in enumerate(above or ("",)):
        for at, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(EACH):
                picture(1000 * number + 100 * at + i).save(folder / f"{i}.png")
    return root


def beside(root: Path, name: str, data: bytes) -> Path:
    """The sound data set with one more file in the class `left`."""
    (sound(root) / "left" / name).write_bytes(data)
    return root


def table(
    root: Path, rows: list[tuple[str, str]], *, head: tuple[str, str] = ("id", "label")
) -> Path:
    """A data set in the form csv: its pictures in `images/`, its rows and then `rows`."""
    (root / "images").mkdir(parents=True)
    sound_rows = []
    for at, name in enumerate(CLASSES):
        for i in range(EACH):
            picture(100 * at + i).save(root / "images" / f"{name}{i}.png")
            sound_rows.append((f"{name}{i}", name))
    with (root / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *sound_rows, *rows])
    return root


def zipped(root: Path, extra: Callable[[zipfile.ZipFile], None]) -> Path:
    """The sound data set as a zip, with what `extra` adds to it."""
    sound(root / "d")
    path = root / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((root / "d").rglob("*.png")):
            archive.write(file, f"photos/{file.relative_to(root / 'd').as_posix()}")
        extra(archive)
    shutil.rmtree(root / "d")
    return path


@defect
def not_an_image(root: Path) -> Path:
    return beside(root, "x.jpg", b"shopping list: milk, bread\n" * 20)


@defect
def web_page(root: Path) -> Path:
    return beside(root, "x.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>")


@defect
def zero_bytes(root: Path) -> Path:
    return beside(root, "x.jpg", b"")


@defect
def truncated_jpeg(root: Path) -> Path:
    data = encoded(picture(5), "JPEG")
    return beside(root, "x.jpg", data[: len(data) * 6 // 10])


@defect
def jpeg_without_its_end(root: Path) -> Path:
    return beside(root, "x.jpg", encoded(picture(5), "JPEG")[:-2])


@defect
def truncated_png(root: Path) -> Path:
    return beside(root, "x.png", encoded(picture(5), "PNG")[:-30])


@defect
def corrupt_png(root: Path) -> Path:
    data = bytearray(encoded(picture(5), "PNG"))
    data[len(data) // 2] ^= 1
    return beside(root, "x.png", bytes(data))


@defect
def wrong_extension(root: Path) -> Path:
    return beside(root, "x.jpg", encoded(picture(500), "PNG"))


@defect
def decompression_bomb(root: Path) -> Path:
    import zlib

    data = encoded(picture(5), "PNG")
    head = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + data[24:29]
    return beside(root, "x.png", data[:12] + head + zlib.crc32(head).to_bytes(4, "big") + data[33:])


@defect
def animated_gif(root: Path) -> Path:
    frames = [picture(i).convert("P") for i in (600, 601)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    return beside(root, "x.gif", data)


@defect
def animated_png(root: Path) -> Path:
    data = encoded(picture(600), "PNG", save_all=True, append_images=[picture(601)])
    return beside(root, "x.png", data)


@defect
def animated_webp(root: Path) -> Path:
    data = encoded(picture(600), "WEBP", save_all=True, append_images=[picture(601)])
    return beside(root, "x.webp", data)


@defect
def sixteen_bit_grey(root: Path) -> Path:
    values = np.arange(72 * 80, dtype=np.uint16).reshape(80, 72) * 9
    return beside(root, "x.png", encoded(Image.fromarray(values), "PNG"))


@defect
def transparent_gif(root: Path) -> Path:
    return beside(root, "x.gif", encoded(picture(5).quantize(16), "GIF", transparency=3))


@defect
def cmyk(root: Path) -> Path:
    return beside(root, "x.jpg", encoded(picture(500).convert("CMYK"), "JPEG"))


@defect
def palette(root: Path) -> Path:
    return beside(root, "x.png", encoded(picture(500).convert("P"), "PNG"))


@defect
def alpha(root: Path) -> Path:
    image = picture(500)
    image.putalpha(128)
    return beside(root, "x.png", encoded(image, "PNG"))


@defect
def turned_by_exif(root: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6
    return beside(root, "x.jpg", encoded(picture(500), "JPEG", exif=exif))


@defect
def several_pictures_in_a_jpeg(root: Path) -> Path:
    data = encoded(picture(500), "MPO", save_all=True, append_images=[picture(501)])
    return beside(root, "x.jpg", data)


@defect
def heic(root: Path) -> Path:
    return beside(root, "x.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200)


@defect
def tiff(root: Path) -> Path:
    return beside(root, "x.jpg", encoded(picture(5), "TIFF"))


@defect
def drawing(root: Path) -> Path:
    return beside(root, "x.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9"></svg>')


@defect
def large_file_storage(root: Path) -> Path:
    text = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
    return beside(root, "x.jpg", text)


@defect
def tiny(root: Path) -> Path:
    return beside(root, "x.png", encoded(picture(5, (7, 90)), "PNG"))


@defect
def uniform(root: Path) -> Path:
    return beside(root, "x.png", encoded(Image.new("RGB", (64, 64), (9, 9, 9)), "PNG"))


@defect
def pipe(root: Path) -> Path:
    os.mkfifo(sound(root) / "left" / "x.jpg")
    return root


@defect
def dead_link(root: Path) -> Path:
    (sound(root) / "left" / "x.jpg").symlink_to("nowhere.jpg")
    return root


@defect
def ten_gigabytes_of_zeros(root: Path) -> Path:
    with (sound(root) / "left" / "x.jpg").open("wb") as file:
        file.truncate(10 * 1024**3)
    return root


@defect
def folder_in_a_class(root: Path) -> Path:
    (sound(root) / "left" / "more").mkdir()
    picture(700).save(root / "left" / "more" / "a.png")
    return root


@defect
def file_beside_the_classes(root: Path) -> Path:
    (sound(root) / "notes.txt").write_text("hello")
    return root


@defect
def same_bytes_in_two_classes(root: Path) -> Path:
    shutil.copy(sound(root) / "left" / "3.png", root / "right" / "x.png")
    return root


@defect
def same_pixels_in_two_classes(root: Path) -> Path:
    Image.open(sound(root) / "left" / "3.png").save(root / "right" / "x.bmp")
    return root


@defect
def near_copy_in_two_classes(root: Path) -> Path:
    image = Image.open(sound(root) / "left" / "3.png").resize((130, 140))
    image.save(root / "right" / "x.jpg", quality=80)
    return root


@defect
def copy_across_given_parts(root: Path) -> Path:
    sound(root, "train", "test")
    image = Image.open(root / "test" / "left" / "3.png").resize((100, 111))
    image.save(root / "train" / "left" / "x.jpg", quality=85)
    return root


@defect
def class_under_the_minimum(root: Path) -> Path:
    (sound(root) / "few").mkdir()
    picture(800).save(root / "few" / "only.png")
    return root


@defect
def empty_class(root: Path) -> Path:
    (sound(root) / "few").mkdir()
    return root


@defect
def one_class(root: Path) -> Path:
    shutil.rmtree(sound(root) / "right")
    return root


@defect
def class_without_training_photos(root: Path) -> Path:
    sound(root, "train", "test")
    shutil.move(root / "train" / "right", root / "away")
    shutil.rmtree(root / "away")
    return root


@defect
def labels_that_differ_in_case(root: Path) -> Path:
    sound(root)
    shutil.copytree(root / "left", root / "Left")
    return root


@defect
def unknown_group(root: Path) -> Path:
    (sound(root) / "classes.csv").write_text("label,group\nleft,good\nright,bad\nmiddle,bad\n")
    return root


@defect
def class_without_a_group(root: Path) -> Path:
    (sound(root) / "classes.csv").write_text("label,group\nleft,good\n")
    return root


@defect
def two_harmful_groups(root: Path) -> Path:
    text = "label,group,harmful\nleft,good,yes\nright,bad,yes\n"
    (sound(root) / "classes.csv").write_text(text)
    return root


@defect
def row_without_a_file(root: Path) -> Path:
    return table(root, [("gone", "left")])


@defect
def file_without_a_row(root: Path) -> Path:
    picture(900).save(table(root, []) / "images" / "x.png")
    return root


@defect
def duplicate_row(root: Path) -> Path:
    return table(root, [("left3", "left")])


@defect
def row_under_two_labels(root: Path) -> Path:
    return table(root, [("left3", "right")])


@defect
def row_without_a_label(root: Path) -> Path:
    picture(900).save(table(root, [("x", "")]) / "images" / "x.png")
    return root


@defect
def two_files_for_an_id(root: Path) -> Path:
    table(root, [("x", "left")])
    picture(900).save(root / "images" / "x.png")
    picture(901).save(root / "images" / "x.jpg")
    return root


@defect
def labels_that_differ_in_spaces(root: Path) -> Path:
    picture(900).save(table(root, [("x", " left")]) / "images" / "x.png")
    return root


@defect
def absolute_path_in_a_table(root: Path) -> Path:
    return table(root, [("/etc/passwd", "left")])


@defect
def path_that_leads_out_of_a_table(root: Path) -> Path:
    return table(root, [("../../secret.png", "left")])


@defect
def unknown_columns(root: Path) -> Path:
    return table(root, [], head=("what", "kind"))


@defect
def table_of_zeros(root: Path) -> Path:
    with (table(root, []) / "train.csv").open("wb") as file:
        file.truncate(10 * 1024**3)
    return root


@defect
def pixels_of_another_length(root: Path) -> Path:
    rows = [",".join(["7"] * 12), ",".join(["7"] * 11)]
    (root / "input.csv").write_text("\n".join(rows) + "\n")
    (root / "labels.csv").write_text("0\n1\n")
    return root


@defect
def pixels_out_of_range(root: Path) -> Path:
    (root / "input.csv").write_text(",".join(["7"] * 11 + ["256"]) + "\n")
    (root / "labels.csv").write_text("0\n")
    return root


@defect
def more_pixels_than_labels(root: Path) -> Path:
    (root / "input.csv").write_text((",".join(["7"] * 12) + "\n") * 3)
    (root / "labels.csv").write_text("0\n1\n")
    return root


@defect
def zip_that_leads_out(root: Path) -> Path:
    return zipped(root, lambda archive: archive.writestr("../../evil.png", b"x"))


@defect
def zip_with_an_absolute_name(root: Path) -> Path:
    return zipped(root, lambda archive: archive.writestr("/tmp/evil.png", b"x"))


@defect
def zip_with_a_link(root: Path) -> Path:
    def add(archive: zipfile.ZipFile) -> None:
        link = zipfile.ZipInfo("photos/left/x.png")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")

    return zipped(root, add)


@defect
def zip_bomb(root: Path) -> Path:
    def add(archive: zipfile.ZipFile) -> None:
        bomb = zipfile.ZipInfo("photos/left/x.png")
        bomb.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(bomb, "w", force_zip64=True) as member:
            member.write(b"\0" * 2**25)

    path = zipped(root, add)
    # The same member, said to hold ten gigabytes.
    data, size = path.read_bytes(), (2**25).to_bytes(4, "little")
    path.write_bytes(data.replace(size, (0xFFF00000).to_bytes(4, "little")))
    return path


@defect
def broken_zip(root: Path) -> Path:
    path = zipped(root, lambda archive: None)
    path.write_bytes(path.read_bytes()[:-40])
    return path
