"""What stores share: names that can be trusted, listings, and errors of reading."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from mobileclf.errors import DataError

from .tables import is_table

# The largest file that is read as a picture: 128 million pixels of four bytes.
MAX_BYTES = 128_000_000 * 4
PIECE = 1 << 20
ODD_NAME = "the file's name is no plain one-line UTF-8; rename it"


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns what reading a file or a zip's member raises into DataError with `where`."""
    try:
        yield
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where}: cannot be read ({reason})") from error
    except (NotImplementedError, RuntimeError) as error:  # kinds of zip that zipfile cannot read
        raise DataError(f"{where}: cannot be read ({error}); zip it again") from error


def is_hidden(name: str) -> bool:
    """Whether one part of a path is no file of the user's: `.…`, and what macOS adds to zips."""
    return name.startswith(".") or name == "__MACOSX"


def is_plain(name: str) -> bool:
    """Whether a name fits on a line of UTF-8. Spaces of all kinds may be in it."""
    return name.isascii() and name.isprintable() or not any(map(_is_odd, name))


def escaped(name: str) -> str:
    """The name with every character that does not fit on a line of UTF-8 as `\\n`, `\\x07`, …"""
    if is_plain(name):
        return name
    return "".join(c.encode("unicode_escape").decode() if _is_odd(c) else c for c in name)


def _is_odd(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def leads_out(name: str) -> bool:
    """Whether a name is absolute, has a drive letter or climbs with `..`; `\\` counts as `/`."""
    parts = name.replace("\\", "/").split("/")
    return (
        ".." in parts or (len(parts) > 1 and not parts[0]) or bool(re.match(r"[A-Za-z]:", parts[0]))
    )


@dataclass(kw_only=True)
class Listing:
    """What a store holds. `add` takes names as they come; `done` sorts them."""

    names: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    odd: list[tuple[str, bool]] = field(default_factory=list)

    def add(self, name: str, *, folder: bool = False, problem: str = "") -> None:
        """A file's or folder's name, and why it cannot be read."""
        if not is_plain(name):
            self.odd.append((name, folder))
            return
        (self.folders if folder else self.names).append(name)
        if problem:
            self.problems[name] = problem

    def done(self) -> Listing:
        """The same, sorted, with names that are no plain text escaped."""
        taken = {*self.names, *self.folders} if self.odd else set()
        for name, folder in self.odd:
            shown = escaped(name)
            while shown in taken:  # a file may be called what another's odd name is shown as
                shown += "'"
            taken.add(shown)
            (self.folders if folder else self.names).append(shown)
            self.problems[shown] = ODD_NAME
        self.odd = []
        self.names.sort()
        self.folders.sort()
        return self


def sha256_of(file: BinaryIO) -> str:
    """Hex sha256 of what is left of a stream."""
    digest = hashlib.sha256()
    while piece := file.read(PIECE):
        digest.update(piece)
    return digest.hexdigest()


def is_never_read(name: str, size: int) -> bool:
    """Whether a file is too large for a picture and no table: those may be larger, as they are
    read in pieces."""
    return size > MAX_BYTES and not is_table(name)


def too_large(size: int) -> str:
    """The problem of a file larger than MAX_BYTES."""
    return f"too large for a picture: {size} bytes, at most {MAX_BYTES} are read; take it out"
