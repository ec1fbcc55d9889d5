"""Contact sheets: all pictures of a class on one page, with what is wrong with them; and how a
page of pictures with words under them is drawn."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from mobileclf.records import write_bytes

from .load import FORMATS, ImageSpec, orientation, upright, without_warnings

MOST = 60  # tiles on a sheet
COLUMNS = 10
SIDE = 96  # pixels of a thumbnail
CELL = 116  # pixels from one thumbnail to the next
MARGIN, LINE, FRAME = 14, 13, 3  # pixels
TITLE_SIZE, TEXT_SIZE = 18, 11
MOST_LINES = 6  # under a thumbnail
PAPER, INK, FAINT, EMPTY, RED = "white", "black", "#666666", "#cccccc", "#cc0000"
MARK = "mobileclf sheet"  # the comment in the file, by which it is known from a photo
MAX_PIXELS = ImageSpec(width=1, height=1).max_pixels
# Pillow's own font has ASCII alone. Others are tried by name, where the system keeps its fonts.
FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc",
    "Arial Unicode.ttf", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "arial.ttf",
    "segoeui.ttf", "msyh.ttc", "msgothic.ttc", "malgun.ttf",
)  # fmt: skip
NO_CHARACTER = "\U0010fffe"  # never assigned: a font shows its sign for what it lacks

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One file on a sheet. picture: its thumbnail, None when nothing can be seen of it. problem:
    why it is left out, else empty. notes: what is said of one that is used."""

    name: str
    picture: Image.Image | None
    problem: str = ""
    notes: tuple[str, ...] = ()


def shown(marks: Sequence[object], most: int = MOST) -> list[int]:
    """Which of many files a sheet shows, `most` at most, in order: first of all those with a mark
    (a problem, say; true), then others taken evenly."""
    marked = [i for i, mark in enumerate(marks) if mark][:most]
    others = [i for i, mark in enumerate(marks) if not mark]
    free = most - len(marked)
    if len(others) > free:
        others = [others[k * len(others) // free] for k in range(free)]
    return sorted(marked + others)


def write_sheet(path: Path, title: str, tiles: Sequence[Tile], *, files: int | None = None) -> None:
    """Write one JPEG with the tiles in rows; equal tiles give equal bytes with one release of
    Pillow and the same fonts.

    files: how many the class has where `tiles` are only the `shown` ones. Of more than MOST
    tiles, the `shown` ones are drawn. Raises EnvironmentProblem where it cannot be written.
    """
    total = len(tiles) if files is None else files
    tiles = [tiles[i] for i in shown([tile.problem for tile in tiles])]
    counted = f"{total} files" if total == len(tiles) else f"{len(tiles)} of {total} files"
    marked = sum(bool(tile.problem) for tile in tiles)
    write_page(
        path,
        title,
        f"{counted}, {marked} left out (red)",
        [
            Cell(
                name=tile.name,
                picture=tile.picture,
                words=((tile.problem, RED),) if tile.problem else (("; ".join(tile.notes), FAINT),),
                frame=RED if tile.problem else "",
                crossed=tile.picture is None,
            )
            for tile in tiles
        ],
    )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One picture on a page. picture: None is a grey field. words: texts under the name, each
    with its colour. frame: its colour, empty for none. crossed: whether it is crossed out."""

    name: str
    picture: Image.Image | None
    words: tuple[tuple[str, str], ...] = ()
    frame: str = ""
    crossed: bool = False


def write_page(path: Path, title: str, line: str, cells: Sequence[Cell]) -> None:
    """Write one picture, PNG by that ending and else JPEG, with the cells in rows under `title`
    and `line`. Raises EnvironmentProblem where it cannot be written."""
    below = [_texts(cell) for cell in cells]
    heights = [
        SIDE + 2 * FRAME + LINE * max(map(len, below[start : start + COLUMNS])) + MARGIN
        for start in range(0, len(cells), COLUMNS)
    ]
    top = MARGIN + TITLE_SIZE + LINE + 2 * MARGIN
    sheet = Image.new("RGB", (2 * MARGIN + COLUMNS * CELL, top + sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    width = sheet.width - 2 * MARGIN
    _write(pen, (MARGIN, MARGIN), _cut(title, TITLE_SIZE, width), INK, TITLE_SIZE)
    line = _cut(line, TEXT_SIZE, width)
    _write(pen, (MARGIN, MARGIN + TITLE_SIZE + LINE // 2), line, FAINT)
    for i, (cell, texts) in enumerate(zip(cells, below, strict=True)):
        row, column = divmod(i, COLUMNS)
        at = MARGIN + column * CELL, top + sum(heights[:row])
        _draw(sheet, cell, texts, at)
    out = io.BytesIO()
    if path.suffix.lower() == ".png":
        mark = PngInfo()
        mark.add_text("comment", MARK)
        sheet.save(out, "PNG", pnginfo=mark)
    else:
        # Without subsampling red letters stay sharp.
        sheet.save(out, "JPEG", quality=85, subsampling=0, comment=MARK)
    write_bytes(path, out.getvalue())


def is_page(path: Path) -> bool:
    """Whether a file is one that `write_page` wrote."""
    try:
        with without_warnings(), Image.open(path, formats=("JPEG", "PNG")) as image:
            return image.info.get("comment") in (MARK, MARK.encode())
    except Exception:  # what a decoder raises on broken bytes has no common base
        return False


def _draw(
    sheet: Image.Image, cell: Cell, texts: Sequence[tuple[str, str]], at: tuple[int, int]
) -> None:
    pen = ImageDraw.Draw(sheet)
    left, top = at[0] + FRAME, at[1] + FRAME
    box = (left, top, left + SIDE - 1, top + SIDE - 1)
    picture = cell.picture
    if picture is None:
        pen.rectangle(box, fill=EMPTY)
    else:
        corner = left + (SIDE - picture.width) // 2, top + (SIDE - picture.height) // 2
        sheet.paste(picture, corner)
    if cell.crossed:
        pen.line(box, fill=FAINT, width=2)
        pen.line((box[0], box[3], box[2], box[1]), fill=FAINT, width=2)
    if cell.frame:
        frame = (at[0], at[1], box[2] + FRAME, box[3] + FRAME)
        pen.rectangle(frame, outline=cell.frame, width=FRAME)
    for number, (text, colour) in enumerate(texts):
        _write(pen, (at[0], box[3] + 2 * FRAME + number * LINE), text, colour)


def thumbnail(data: bytes) -> Image.Image | None:
    """A picture's thumbnail, RGB, upright, SIDE pixels on its longer side; None when nothing can
    be seen of it. One that is left out for its kind (animated, 16 bits) may be seen all the same.
    """
    try:
        with without_warnings():
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", (2 * SIDE, 2 * SIDE))  # a JPEG decodes at a fraction of its size
            image.load()
            orientation(image)
            picture = upright(image)
    except Exception:  # what a decoder raises on broken bytes has no common base
        return None
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    # The pixels of a digit of 8 x 8 are to be seen as such.
    kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return picture.resize((width, height), kind)


def _texts(cell: Cell) -> list[tuple[str, str]]:
    """Lines under a thumbnail, each with its colour: the name, then the words."""
    width = CELL - 2 * FRAME
    lines = [(line, colour) for words, colour in cell.words for line in _wrapped(words, width)]
    if len(lines) >= MOST_LINES:
        text, colour = lines[MOST_LINES - 2]
        lines = [*lines[: MOST_LINES - 2], (_cut(text + " ...", TEXT_SIZE, width), colour)]
    return [(_cut(cell.name, TEXT_SIZE, width), INK), *lines]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of words, each within `width` pixels; a longer word is cut in its middle."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else ""
        if longer and _width(longer, TEXT_SIZE) <= width:
            lines[-1] = longer
        else:
            lines.append(_cut(word, TEXT_SIZE, width))
    return lines


def _cut(text: str, size: int, width: int) -> str:
    """The text if it fits into `width` pixels, else its two ends."""
    if _width(text, size) <= width:
        return text
    low, high = 0, len(text)  # so many characters fit, so many do not
    while high - low > 1:
        kept = (low + high) // 2
        if _width(_ends(text, kept), size) <= width:
            low = kept
        else:
            high = kept
    return _ends(text, low)


def _ends(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"


def _width(text: str, size: int) -> float:
    shown_as, font = _font_for(text, size)
    return font.getlength(shown_as)


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str, size: int = TEXT_SIZE
) -> None:
    shown_as, font = _font_for(text, size)
    pen.text(at, shown_as, fill=colour, font=font)


def _font_for(text: str, size: int) -> tuple[str, Font]:
    """The first font that has every character, and the text; where none has, Pillow's own, and
    the text with \\u escapes: a name that can be told from others, not a row of boxes."""
    text = unicodedata.normalize("NFC", text)
    if text.isprintable():
        for name in ("", *FONTS):
            font = _font(name, size)
            if font is not None and all(_has(name, size, character) for character in set(text)):
                return text, font
    own = _font("", size)
    assert own is not None
    # unicode_escape leaves Latin-1 as it is for the eye, but not as ASCII.
    escaped = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
    return escaped, own


@lru_cache(maxsize=64)
def _font(name: str, size: int) -> Font | None:
    """A font of the system by file name, Pillow's own for no name; None where it is not there."""
    try:
        return ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _has(name: str, size: int, character: str) -> bool:
    font = _font(name, size)
    assert font is not None
    return " " <= character <= "~" or bytes(font.getmask(character)) != bytes(
        font.getmask(NO_CHARACTER)
    )
