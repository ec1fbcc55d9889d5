"""Options that are more than one value spelled in one text: heads, fits, shapes, augmentations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from .errors import UsageError

if TYPE_CHECKING:
    from .stats.operating_point import Costs

OUTPUTS = ("softmax", "sigmoid")
HIDDEN_UNITS = 64
UNITS = {"s": 1, "m": 60, "h": 3600}  # of a time, in seconds
LONGEST = 168  # hours, which is 7 days
# Largest value and unit of each augmentation; 0: it takes none.
AUGMENTATIONS = {
    "flip": (0.0, ""),
    "vertical-flip": (0.0, ""),
    "rotate": (180.0, "degrees"),
    "zoom": (0.9, "of the size"),
    "shear": (60.0, "degrees"),
    "translate": (0.9, "of the size"),
    "brightness": (1.0, "of 255"),
    "contrast": (0.9, "of the contrast"),
}
# `seeds` is what the projects that this tool grew from all used. Their 0.2 for shear is 0.2
# degrees, as Keras' ImageDataGenerator reads it, and hardly moves a pixel.
SEEDS = "flip,shear=0.2,zoom=0.2"
MISTAKES = ("missed", "false-alarm", "abstain")  # that have a cost


@dataclass(frozen=True, kw_only=True)
class Head:
    """Hidden layers after the backbone, by units, and what the last layer is trained as."""

    units: tuple[int, ...]
    output: str


def head_of(text: str) -> Head:
    """`64,32` two hidden layers; `0` none; `sigmoid` or `softmax` may end it. Raises UsageError."""
    words = [word.strip() for word in text.split(",")]
    output = words.pop() if words[-1] in OUTPUTS else OUTPUTS[0]
    if words == ["0"]:
        return Head(units=(), output=output)
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 8192 for word in words):
        raise UsageError(
            f"--head {text!r}: wanted units of the hidden layers (64 or 64,32; 0 for none) "
            "and, at the end, softmax or sigmoid"
        )
    return Head(units=tuple(map(int, words)) or (HIDDEN_UNITS,), output=output)


def fits_of(text: str) -> tuple[int, ...]:
    """Most epochs of each fit: `40`, or `20+10` for two, one after the other. UsageError."""
    words = [word.strip() for word in text.split("+")]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 10_000 for word in words):
        raise UsageError(
            f"--epochs {text}: wanted a whole number from 1 to 10000, or several as in 20+10"
        )
    return tuple(map(int, words))


def blocks_of(text: str) -> int | None:
    """How many of the last blocks are unfrozen: `0`, `3`, ..., None for `all`. UsageError."""
    word = text.strip()
    if word == "all":
        return None
    if not (word.isascii() and word.isdigit() and len(word) < 5):
        raise UsageError(f"--unfreeze {text!r}: wanted a number of blocks, or all")
    return int(word)


def shape_of(text: str) -> tuple[int, int, int]:
    """(height, width, channels) of `100,100,3`. Raises UsageError."""
    words = [word.strip() for word in text.split(",")]
    fits = len(words) == 3 and all(word.isascii() and word.isdigit() for word in words)
    height, width, channels = map(int, words) if fits else (0, 0, 0)
    if not (1 <= height <= 4096 and 1 <= width <= 4096 and channels in (1, 3)):
        raise UsageError(
            f"--shape {text!r}: wanted height,width,channels as in 100,100,3 with 1 or 3 channels"
        )
    return height, width, channels


def names_of(text: str) -> tuple[str, ...]:
    """The names in `cat,dog`. Raises UsageError when one is empty or there twice."""
    names = tuple(word.strip() for word in text.split(","))
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--classes {text!r}: wanted two or more different names as in cat,dog")
    return names


def rewrites_of(text: str | None) -> tuple[str, ...]:
    """The names in `lone-relus,average-pools`; none of None and of an empty text. Raises
    UsageError for one that no rewrite has, or that int8 cannot do without."""
    listed = (text or "").rstrip(", ")
    if not listed:
        return ()
    from .models import rewrites  # which needs numpy

    names = tuple(word.strip() for word in listed.split(","))
    for name in names:
        near = get_close_matches(name.lower().replace("_", "-"), rewrites.OPTIONAL, 1)
        if near and name not in {rewrite.name for rewrite in rewrites.REWRITES}:
            raise UsageError(f"--without {name!r}: no such rewrite; did you mean {near[0]}?")
    rewrites.check(names)
    return names


def seconds_of(text: str) -> float:
    """`90s`, `20m` or `1h`. Raises UsageError."""
    number, unit = text.strip()[:-1].lstrip("0"), text.strip()[-1:]
    if unit not in UNITS or not (number.isascii() and number.isdigit()):
        raise UsageError(
            f"--budget {text!r}: wanted a whole number above 0 and one unit: 90s, 20m or 1h"
        )
    # More digits than any that is let pass: int() has a limit of its own.
    if len(number) > 6 or int(number) * UNITS[unit] > LONGEST * UNITS["h"]:
        raise UsageError(f"--budget: wanted at most {LONGEST}h, which is 7 days")
    return float(int(number) * UNITS[unit])


def release_of(text: str) -> tuple[int, ...]:
    """The numbers of a release of TensorFlow Lite as `2.14` or `2.14.1`. Raises UsageError."""
    words = text.strip().split(".")
    numbers = all(word.isascii() and word.isdigit() and len(word) < 4 for word in words)
    if not numbers or not 2 <= len(words) <= 3:
        raise UsageError(f"--min-runtime {text!r}: wanted a release of TensorFlow Lite, as 2.14")
    return tuple(map(int, words))


def augmentations_of(text: str) -> tuple[tuple[str, float], ...]:
    """(name, value) of each in `flip,rotate=15`, in the order of AUGMENTATIONS; `none` is
    none, `seeds` is SEEDS and may have others beside it. Raises UsageError."""
    if text.strip() == "none":
        return ()
    found: dict[str, float] = {}
    words = [SEEDS if word.strip() == "seeds" else word for word in text.split(",")]
    for word in ",".join(words).split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        most, unit = AUGMENTATIONS.get(name, (None, ""))
        try:
            amount = float(value) if equals else 0.0
        except ValueError:
            amount = -1.0
        sound = most is not None and (0 < amount <= most if most else not equals)
        if not sound:
            wanted = ", ".join(f"{n}=…" if high else n for n, (high, _) in AUGMENTATIONS.items())
            bound = f" ({name}: up to {most:g} {unit})" if most else ""
            raise UsageError(
                f"--augment {word.strip()!r}: wanted none, seeds, or some of {wanted}{bound}"
            )
        if name in found:
            raise UsageError(f"--augment {text!r}: {name} is there twice")
        found[name] = amount
    return tuple((name, found[name]) for name in AUGMENTATIONS if name in found)


def costs_of(text: str) -> Costs:
    """The costs in `missed=100,false-alarm=1,abstain=5`, in any one unit; what is left out is as
    `Costs` has it. Raises UsageError."""
    from .stats.operating_point import Costs  # which needs numpy

    found: dict[str, float] = {}
    for word in text.split(","):
        name, _, value = (part.strip() for part in word.partition("="))
        try:
            cost = float(value)
        except ValueError:
            cost = -1.0
        if name not in MISTAKES or not 0 <= cost < float("inf"):
            raise UsageError(
                f"--costs {word.strip()!r}: wanted some of {', '.join(MISTAKES)} with a number of "
                "at least 0, as in missed=100,false-alarm=1,abstain=5"
            )
        if name in found:
            raise UsageError(f"--costs {text!r}: {name} is there twice")
        found[name] = cost
    return Costs(**{name.replace("-", "_"): cost for name, cost in found.items()})


def costs_text(table: Mapping[str, object], where: str) -> str:
    """A table of costs, as [costs] in a TOML file, spelled as the flag is. Raises UsageError.

    where: what the table was found in.
    """
    for name, cost in table.items():
        number = isinstance(cost, (int, float)) and not isinstance(cost, bool)
        if name.replace("_", "-") not in MISTAKES or not number:
            raise UsageError(
                f"{where}: costs wants numbers for {', '.join(MISTAKES)}, found {name} = {cost!r}"
            )
    if not table:
        raise UsageError(f"{where}: costs wants some of {', '.join(MISTAKES)}, found none")
    return ",".join(f"{name.replace('_', '-')}={cost}" for name, cost in table.items())
