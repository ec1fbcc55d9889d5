"""Where files lie: a folder or a zip, read by relative name, never unpacked, never written."""

from __future__ import annotations

import os
import stat
import zipfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from mobileclf.errors import DataError

from .listing import (
    MAX_BYTES,
    Listing,
    is_hidden,
    is_never_read,
    is_plain,
    leads_out,
    reading,
    sha256_of,
    too_large,
)
from .zip_store import ZipStore

_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone has and needs it


class Store(Protocol):
    """Files by relative posix name. Picklable, so that workers elsewhere can read."""

    @property
    def root(self) -> Path:
        """The folder or zip, for messages."""

    def names(self) -> tuple[str, ...]:
        """Every file's name, sorted by code point; hidden ones (a part of the name begins with
        `.` or is `__MACOSX`) left out. What is no file and no folder is among them, see
        `problems`."""

    def top_names(self) -> tuple[str, ...]:
        """The names of files in no folder that can be read, sorted; nothing else is listed."""

    def folders(self) -> tuple[str, ...]:
        """Every folder's name, sorted by code point, empty ones too."""

    def top_folders(self) -> tuple[str, ...]:
        """The names of folders in no folder, sorted; cheap, as nothing else is listed."""

    def problems(self) -> Mapping[str, str]:
        """Why a name (of a file or a folder) cannot be read, where that shows without opening
        it. A name that is no plain text is listed with its odd characters escaped by `\\`."""

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises DataError, which does not repeat the name, for one that is
        absent, unreadable, no regular file or larger than MAX_BYTES (before reading it)."""

    def open(self, name: str) -> BinaryIO:
        """A file as a stream of bytes, for what is read in pieces. Raises DataError; read it
        under `reading`, since a zip's member may turn out broken on the way."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None when it cannot be read."""

    def digest(self, name: str) -> str | None:
        """sha256 of a file, streamed; None when it cannot be read, and for one that is never
        read: no table, and larger than MAX_BYTES."""


def open_store(path: Path) -> Store:
    """The store at `path`: a folder, or a zip by its content. Raises DataError for anything
    else, and for a zip that is broken or hostile (links, names that lead out, a bomb)."""
    with reading(str(path)):
        if path.is_dir():
            return FolderStore(path)
        if not path.exists():
            raise DataError(f"{path}: there is no such folder or zip; check the path")
        if not path.is_file():
            raise DataError(f"{path}: wanted a folder or a zip, found neither")
        if zipfile.is_zipfile(path):
            return ZipStore(path)
    if path.suffix.lower() == ".zip":
        raise DataError(f"{path}: a broken or incomplete zip; copy or download it again")
    raise DataError(f"{path}: wanted a folder or a zip, found another file")


class FolderStore:
    """A folder and everything below it. Links to files are read, links to folders followed once.

    Nothing is listed before it is asked for, so that making and pickling one costs nothing.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listing: Listing | None = None

    def __reduce__(self) -> tuple[type[FolderStore], tuple[Path]]:
        # Workers elsewhere have another working directory.
        return FolderStore, (self._root.absolute(),)

    @property
    def root(self) -> Path:
        return self._root

    def names(self) -> tuple[str, ...]:
        return tuple(self._listed().names)

    def top_names(self) -> tuple[str, ...]:
        with reading(str(self._root)), os.scandir(self._root) as entries:
            names = [entry.name for entry in entries if not _file_problem(entry)]
        return tuple(sorted(n for n in names if is_plain(n) and not is_hidden(n)))

    def top_folders(self) -> tuple[str, ...]:
        with reading(str(self._root)), os.scandir(self._root) as entries:
            return tuple(sorted(e.name for e in entries if e.is_dir() and not is_hidden(e.name)))

    def folders(self) -> tuple[str, ...]:
        return tuple(self._listed().folders)

    def problems(self) -> Mapping[str, str]:
        return self._listed().problems

    def read(self, name: str) -> bytes:
        with self._opened(name) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise DataError(too_large(size))
            try:
                # Not MAX_BYTES, for which room would be made first.
                return file.read(size + 1)[:size]
            except OSError as error:
                raise DataError(f"cannot be read ({error.strerror})") from error

    def open(self, name: str) -> BinaryIO:
        try:
            return self._opened(name)
        except DataError as error:
            raise DataError(f"{self._root / name}: {error}") from error

    def size(self, name: str) -> int | None:
        try:
            with self._opened(name) as file:
                return os.fstat(file.fileno()).st_size
        except DataError:
            return None

    def digest(self, name: str) -> str | None:
        try:
            with self._opened(name) as file:
                if is_never_read(name, os.fstat(file.fileno()).st_size):
                    return None
                return sha256_of(file)
        except (DataError, OSError):
            return None

    def _opened(self, name: str) -> BinaryIO:
        if leads_out(name):
            raise DataError("cannot be read (the name leads out of the folder)")
        path = self._root / name
        try:
            # Not blocking: a FIFO would wait for a writer, who may never come.
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read ({getattr(error, 'strerror', error)})") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise DataError("cannot be read (no regular file)")
        return os.fdopen(handle, "rb")

    def _listed(self) -> Listing:
        if self._listing is None:
            with reading(str(self._root)):
                self._listing = _list_folder(self._root)
        return self._listing


def _list_folder(root: Path) -> Listing:
    """Everything below `root`. A folder that is reached twice is listed once, so that links in
    a circle end; a link to a folder that `root` lies in is never followed."""
    listing = Listing()
    real = Path(os.path.realpath(root))
    seen = {_identity(path) for path in (real, *real.parents)}
    folders, links = deque([""]), deque[str]()
    # First what is really there, so that a link never takes the place of the folder itself.
    while folders or links:
        linked = not folders
        name = links.popleft() if linked else folders.popleft()
        path = root / name
        if name:
            try:
                identity = _identity(path)
            except OSError as error:
                listing.add(name, folder=True, problem=f"cannot be read ({error.strerror})")
                continue
            if identity in seen:
                listing.add(name, problem="a link to a folder that is read elsewhere; remove it")
                continue
            seen.add(identity)
        try:
            with os.scandir(path) as entries:
                inside = sorted((e for e in entries if not is_hidden(e.name)), key=lambda e: e.name)
        except OSError as error:
            if not name:
                raise
            listing.add(name, folder=True, problem=f"cannot be read ({error.strerror})")
            continue
        if name:
            listing.add(name, folder=True)
        for entry in inside:
            below = f"{name}/{entry.name}" if name else entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(below)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                links.append(below)
            else:
                listing.add(below, problem=_file_problem(entry))
    return listing.done()


def _identity(path: Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _file_problem(entry: os.DirEntry[str]) -> str:
    if entry.is_file(follow_symlinks=False):
        return ""
    if not entry.is_symlink():
        return "no regular file; take it out"
    try:
        return "" if stat.S_ISREG(entry.stat().st_mode) else "a link to no regular file; remove it"
    except OSError:
        return "a link to nothing; remove it or put the file back"
