"""Arrays of one shape and type by key, in one file that a kill at any moment leaves sound.

The file is a header that pins shape and type, then records of one size, only ever appended:

    [key 16][crc32 of key and data, 4, little-endian][zero 4][data]

What was cut short or damaged is found by its crc when the file is opened, and is then as if it
had never been there. Data is read where it lies, by place, never mapped: memory in use is the
index (some 110 bytes for each record), however large the file is.
"""

from __future__ import annotations

import os
import threading
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mobileclf.errors import EnvironmentProblem

KEY = 16  # bytes
HEADER = 128  # bytes
MAGIC = "mobileclf rows 1"
PIECE = 1 << 22  # bytes that are read at once when a file is opened
_BINARY = getattr(os, "O_BINARY", 0)  # Windows alone has and needs it


class Rows:
    """A file of arrays `shape`, `dtype` (in the file little-endian) by keys of 16 bytes.

    One writer at a time, which whoever calls sees to. A file that is absent, or of another shape
    or type, is begun anew, and a torn tail is cut off. write=False: only read, absent is empty,
    and nothing is changed, so that it may be another process's file; what that adds is there
    after `refresh`. Reading is for many threads. Raises EnvironmentProblem when the file cannot
    be read or written.
    """

    def __init__(
        self, path: Path, shape: Sequence[int], dtype: DTypeLike, *, write: bool = True
    ) -> None:
        self.path = path
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self._record = np.dtype(
            [("key", "V16"), ("crc", "<u4"), ("zero", "<u4"), ("data", self.dtype, self.shape)]
        )
        self._write = write
        self._lock = threading.Lock()
        self._unsynced = False
        self._file = -1
        self._open()

    def _open(self) -> None:
        self._places: dict[bytes, int] = {}  # record number; of equal keys the later
        self._count = 0
        with self._errors("write" if self._write else "read"):
            if self._write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            elif not self.path.exists():
                return
            how = os.O_RDWR | os.O_CREAT if self._write else os.O_RDONLY
            self._file = os.open(self.path, how | _BINARY, 0o644)
            # Closed with the object too, so that a reader need not be a context manager.
            self._closing = weakref.finalize(self, os.close, self._file)
            self._index()

    def _index(self) -> None:
        header = f"{MAGIC} {self.dtype.str} {'x'.join(map(str, self.shape))}\n".encode()
        header = header.ljust(HEADER, b"\0")
        assert len(header) == HEADER, "too many axes"
        size = os.fstat(self._file).st_size
        if self._at(0, HEADER) != header:
            if self._write:
                os.ftruncate(self._file, 0)
                self._put(header, 0)
            return
        itemsize = self._record.itemsize
        self._count = (size - HEADER) // itemsize
        at_once = max(1, PIECE // itemsize)
        for first in range(0, self._count, at_once):
            last = min(first + at_once, self._count)
            piece = self._at(HEADER + first * itemsize, (last - first) * itemsize)
            for i in range(len(piece) // itemsize):
                record = memoryview(piece)[i * itemsize : (i + 1) * itemsize]
                if _sound(record):
                    self._places[bytes(record[:KEY])] = first + i
        if self._write:
            os.ftruncate(self._file, HEADER + self._count * itemsize)

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Keys that there are."""
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def close(self) -> None:
        """Have what was written on the disk, and let go of the file."""
        if self._file < 0:
            return
        try:
            self.sync()
        finally:
            self._file = -1
            self._closing()

    def refresh(self) -> None:
        """Open the file anew and see all that is there now; while no other thread reads."""
        self.close()
        self._open()

    def sync(self) -> None:
        """Have what was written on the disk, so that a power cut loses none of it."""
        if self._unsynced:
            with self._errors("write"):
                os.fsync(self._file)
            self._unsynced = False

    def missing(self, keys: Iterable[bytes]) -> list[bytes]:
        """Those of `keys` that are not there, in their order, each once."""
        return [key for key in dict.fromkeys(keys) if key not in self._places]

    def append(self, keys: Sequence[bytes], values: NDArray[Any]) -> None:
        """Put values (n, *shape) under n keys, in one write; a key that is there has it anew.

        Raises EnvironmentProblem when there is no room; the file is then as it was before.
        """
        assert self._write and all(len(key) == KEY for key in keys)
        records = np.zeros(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), "V16")
        records["data"] = values
        for record, key in zip(records, keys, strict=True):
            data = record["data"].tobytes()
            record["crc"] = zlib.crc32(data, zlib.crc32(key))
        with self._lock:
            end = HEADER + self._count * self._record.itemsize
            with self._errors("write"):
                try:
                    self._put(records.view(np.uint8).data, end)
                except OSError:
                    os.ftruncate(self._file, end)
                    raise
            for i, key in enumerate(keys):
                self._places[key] = self._count + i
            self._count += len(keys)

    def read(self, keys: Sequence[bytes]) -> NDArray[Any]:
        """What is under `keys`: (n, *shape), each by a call to the system of its own.

        Raises KeyError for one that is not there, EnvironmentProblem where a row is no longer
        what it was, as when two processes write the file.
        """
        found = np.empty((len(keys), *self.shape), self.dtype)
        length = self._record.itemsize
        with self._errors("read"):
            for i, key in enumerate(keys):
                record = self._at(HEADER + self._places[key] * length, length)
                if record[:KEY] != key or len(record) != length or not _sound(memoryview(record)):
                    raise OSError("it was changed from outside while it was in use")
                data = np.frombuffer(record, self.dtype, offset=KEY + 8)
                found[i] = data.reshape(self.shape)
        return found

    def _at(self, start: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file, length, start)
        with self._lock:  # Windows has no reading by place
            os.lseek(self._file, start, os.SEEK_SET)
            return os.read(self._file, length)

    def _put(self, data: bytes | memoryview, start: int) -> None:
        os.lseek(self._file, start, os.SEEK_SET)
        self._unsynced = True
        rest = memoryview(data)
        while rest:  # the system may take a part, as it does on a disk that is nearly full
            rest = rest[os.write(self._file, rest) :]

    @contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot {verb} {self.path}: {error.strerror or error}; free space, or see to "
                "permissions, and run the same command again: what is done is kept"
            ) from error


def _sound(record: memoryview) -> bool:
    """Whether a whole record's crc is that of its key and data."""
    crc = zlib.crc32(record[KEY + 8 :], zlib.crc32(record[:KEY]))
    return crc == int.from_bytes(record[KEY : KEY + 4], "little")
