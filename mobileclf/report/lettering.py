"""What is written on pictures of a run: names as they are, in fonts that have them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageFont

from mobileclf.images.contact_sheet import FONTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

# Told apart also by those who see no red or no green (Okabe and Ito 2008), and in grey.
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#888888"
MOST_LETTERS = 24  # of a label


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def headline(figure: Figure, text: str) -> None:
    shown, font = with_font(text)
    figure.suptitle(shown, fontproperties=font, fontsize=11, parse_math=False)


def name_ticks(axis: Any, places: Sequence[int], names: Sequence[str]) -> None:
    """Write `names` as they are: no mathematics where a $ is, each in a font that has it."""
    named = [with_font(short(names[place])) for place in places]
    axis.set_ticks(places, [shown for shown, _ in named], fontsize=8, parse_math=False)
    for label, (_, font) in zip(axis.get_ticklabels(), named, strict=True):
        label.set_fontproperties(font)
        label.set_fontsize(8)


def short(name: str) -> str:
    """A name with its middle left out where it is long."""
    if len(name) <= MOST_LETTERS:
        return name
    half = (MOST_LETTERS - 1) // 2
    return f"{name[:half]}…{name[-half:]}"


def with_font(text: str) -> tuple[str, FontProperties]:
    """The text and a font that has all of it: DejaVu Sans, which matplotlib brings, else one of
    the system. Where none has, the text with \\u escapes: a name that can be told from others,
    not a row of boxes."""
    import matplotlib
    from matplotlib.font_manager import FontProperties

    text = unicodedata.normalize("NFC", text)
    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    if text.isprintable():
        for path in (str(own), *filter(None, map(path_of, FONTS))):
            if characters(path).issuperset(text):
                return text, FontProperties(fname=path)
    escaped = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in text)
    return escaped, FontProperties(fname=str(own))


@lru_cache
def path_of(name: str) -> str | None:
    """Where the system keeps a font, None where it has none of that name."""
    try:
        return str(ImageFont.truetype(name, 10).path)
    except OSError:
        return None


@lru_cache
def characters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    return frozenset(map(chr, FT2Font(path).get_charmap()))
