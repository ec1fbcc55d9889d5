"""What a form of data says of its files, whatever the form is: one index for all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

# The parts that a source may give, by the name of a folder or a CSV.
GIVEN_PARTS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "threshold": "threshold",
    "test": "test",
    "testing": "test",
}
WORDS = re.compile(r"[\W_]+")


def part_in(folder: str) -> str:
    """The part that a folder of photos is named after, alone or beside other words: test,
    test_images, images-train; "" for none, and for two."""
    found = {GIVEN_PARTS.get(word, "") for word in WORDS.split(folder.casefold())} - {""}
    return found.pop() if len(found) == 1 else ""


# Endings of what may be a photo, refused kinds among them: those get their reason when opened.
PHOTO_ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .heic .heif .tif .tiff .avif .svg .ico".split()
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file, or one row that should have had a file.

    path: relative posix path in the store of photos. label: as in `Index.labels`; empty when it
    is not known, with the reason in `problem`. part: train, validation, threshold or test where
    the source gives the split, else empty. specimen: photos with the same one, when not empty,
    stay in one part. problem: why the file is left out, found without opening it; else empty.
    """

    path: str
    label: str = ""
    part: str = ""
    specimen: str = ""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Index:
    """Everything a source says. Entries are sorted by path and no usable path is there twice.

    labels: (label, group or None), in the order of the outputs. harmful: the group that a
    classes file marks, else None. kept: name of the zip of photos that was made in the run
    folder, None when the photos are read where they lie. warnings: one line each, for what may
    be wrong. notes: one line each, for what was decided and is likely right. columns: of
    the CSVs that name the photos, each once, for messages.
    """

    form: str
    entries: tuple[Entry, ...]
    labels: tuple[tuple[str, str | None], ...]
    harmful: str | None = None
    kept: str | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
