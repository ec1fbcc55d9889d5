"""A zip as a store: checked as a whole before anything of it is read."""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

from mobileclf.errors import DataError

from .listing import (
    MAX_BYTES,
    Listing,
    escaped,
    is_hidden,
    is_never_read,
    leads_out,
    reading,
    sha256_of,
    too_large,
)

# A zip is refused as a bomb when its members together are larger than BOMB_BYTES and more than
# BOMB_RATIO times the file; so it is for one member that is too large to be read. Deflate reaches
# 1032; photos lie near 1, tables of pixels near 10.
BOMB_BYTES = 1 << 30
BOMB_RATIO = 100
# The comment of a zip that was written here: its names are taken as they are.
OWN_ZIP = b"written by mobileclf"


class ZipStore:
    """A zip, read in place: no member is ever written anywhere. Safe to read in threads.

    One folder that everything lies in (`photos/…`) is left out of the names, and so is what
    macOS adds (`__MACOSX`).
    """

    def __init__(self, path: Path) -> None:
        """Raises DataError for a zip that is broken or hostile."""
        self._path = path
        with reading(str(path)):
            found = os.stat(path)
        self._version = (found.st_size, found.st_mtime_ns)
        self._archive()

    def __reduce__(self) -> tuple[type[ZipStore], tuple[Path]]:
        # Workers elsewhere have another working directory.
        return ZipStore, (self._path.absolute(),)

    @property
    def root(self) -> Path:
        return self._path

    def names(self) -> tuple[str, ...]:
        return tuple(self._archive().listing.names)

    def top_names(self) -> tuple[str, ...]:
        problems = self.problems()
        return tuple(name for name in self.names() if "/" not in name and name not in problems)

    def folders(self) -> tuple[str, ...]:
        return tuple(self._archive().listing.folders)

    def top_folders(self) -> tuple[str, ...]:
        return tuple(name for name in self.folders() if "/" not in name)

    def problems(self) -> Mapping[str, str]:
        return self._archive().listing.problems

    def read(self, name: str) -> bytes:
        size = self._member(name).file_size
        if size > MAX_BYTES:
            raise DataError(too_large(size))
        try:
            with reading(name), self._opened(name) as file:
                return file.read()
        except DataError as error:
            raise DataError(str(error).removeprefix(f"{name}: ")) from error

    def open(self, name: str) -> BinaryIO:
        where = f"{self._path}, {name}"
        try:
            with reading(where):
                return self._opened(name)
        except DataError as error:
            raise DataError(f"{where}: {str(error).removeprefix(f'{where}: ')}") from error

    def size(self, name: str) -> int | None:
        member = self._archive().members.get(name)
        return member.file_size if member is not None else None

    def digest(self, name: str) -> str | None:
        try:
            if is_never_read(name, self._member(name).file_size):
                return None
            with reading(name), self._opened(name) as file:
                return sha256_of(file)
        except DataError:
            return None

    def _member(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._archive().members[name]
        except KeyError as error:
            raise DataError("cannot be read (there is no such file in the zip)") from error

    def _opened(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._archive().zip.open(self._member(name)))

    def _archive(self) -> _Archive:
        # By process: a file handle that a fork shares would be moved by both.
        return _open_zip(self._path, *self._version, os.getpid())


@dataclass(frozen=True, kw_only=True)
class _Archive:
    zip: zipfile.ZipFile
    listing: Listing
    members: Mapping[str, zipfile.ZipInfo]


@lru_cache(maxsize=8)
def _open_zip(path: Path, size: int, changed: int, process: int) -> _Archive:
    """The zip's members by name, all of them checked. Raises DataError."""
    with reading(str(path)):
        # Handed over open: zipfile then never closes it, whichever thread is done first.
        file = path.open("rb")
        found = os.fstat(file.fileno())
        if (found.st_size, found.st_mtime_ns) != (size, changed):
            raise DataError(f"{path}: changed while it was read; start again")
        archive = zipfile.ZipFile(file)
        infos = archive.infolist()
    _refuse_hostile(path, size, infos)
    listing, members = Listing(), {}
    named = [(_name_of(path, info), info) for info in infos]
    seen = [name for name, _ in named if not name.endswith("/")]
    if twice := [name for name, n in Counter(seen).items() if n > 1]:
        raise DataError(f"{path}: {twice[0]!r} is in the zip twice; make it again")
    named = [(name, info) for name, info in named if not _has_hidden(name)]
    top = "" if archive.comment == OWN_ZIP else _common_top([name for name, _ in named])
    folders: set[str] = set()
    for name, info in named:
        inside = name[len(top) :]
        parent = inside.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
        if inside and not inside.endswith("/"):
            listing.add(inside)
            members[inside] = info
    for folder in folders:
        listing.add(folder, folder=True)
    if both := folders & members.keys():
        raise DataError(f"{path}: {min(both)!r} is both a file and a folder; make the zip again")
    return _Archive(zip=archive, listing=listing.done(), members=members)


def _refuse_hostile(path: Path, size: int, infos: Sequence[zipfile.ZipInfo]) -> None:
    """What the members' headers claim, before any is read. Raises DataError for the first."""
    for info in infos:
        where, name = f"{path}, {escaped(info.orig_filename)}", info.orig_filename
        mode = info.external_attr >> 16
        if "\0" in name or leads_out(name):
            raise DataError(f"{where}: the name leads out of the zip; nothing of it is read")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{where}: a link or no regular file; zip the photos themselves")
        if info.flag_bits & 0x1:
            raise DataError(f"{where}: encrypted; zip it again without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{where}: packed in a way that is not read here; wanted deflate")
        # A member that is too large is left out when it is read; what claims to be, stops.
        unread = is_never_read(name, info.file_size)
        if unread and info.file_size > BOMB_RATIO * info.compress_size:
            raise DataError(
                f"{where}: a bomb: it claims {info.file_size} bytes, more than {BOMB_RATIO} times "
                "what is in the zip of it; nothing of it is read"
            )
    expanded = sum(info.file_size for info in infos)
    if expanded > BOMB_BYTES and expanded > BOMB_RATIO * size:
        raise DataError(
            f"{path}: a bomb: its {size} bytes claim to hold {expanded}, more than {BOMB_RATIO} "
            "times as many; nothing of it is read"
        )
    by_place = sorted(infos, key=lambda info: info.header_offset)
    for info, following in zip(by_place, by_place[1:], strict=False):
        # A local header has 30 bytes and the name, which is there in bytes only.
        end = info.header_offset + 30 + info.compress_size
        if following.header_offset < end:
            raise DataError(
                f"{path}: {escaped(info.filename)} and {escaped(following.filename)} overlap in "
                "the zip; nothing of it is read"
            )


def _name_of(path: Path, info: zipfile.ZipInfo) -> str:
    """The member's name with `/` alone between its parts; a folder's ends in `/`."""
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        # Without the flag for UTF-8 zipfile reads it as DOS did; macOS writes UTF-8 all the same.
        try:
            name = name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/".join(parts) + ("/" if name.endswith("/") else "")


def _has_hidden(name: str) -> bool:
    return any(map(is_hidden, name.split("/")))


def _common_top(names: Sequence[str]) -> str:
    """`photos/` when everything lies in that one folder, else nothing."""
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or not all("/" in name for name in names):
        return ""
    return f"{tops.pop()}/"
