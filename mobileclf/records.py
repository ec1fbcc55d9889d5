"""Records: what a stage read, decided and wrote, as JSON files that are whole or absent.

A record never holds times, absolute paths or the host's name, so that equal inputs give
equal bytes. Times go to `times.json` of the run.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .errors import DataError, EnvironmentProblem

Record = dict[str, Any]


def sha256_bytes(data: bytes) -> str:
    """Hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else _digest(file)
        )


def _digest(file: io.BufferedReader) -> str:
    # Python 3.10 has no hashlib.file_digest.
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def canonical(value: object) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: the bytes that a hash is taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256_json(value: object) -> str:
    """Hex sha256 of `canonical(value)`."""
    return sha256_bytes(canonical(value))


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which is whole under its name once the block is left well; else what was
    there stays. A link is followed, a file that was there keeps its permissions, and a device or
    pipe is written to. Raises EnvironmentProblem when the place cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as pipe:
                yield pipe
            return
        path = path.resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {path}: {error.strerror or error}; "
            "choose another folder or free space and permissions"
        ) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file, as `new_file`."""
    with new_file(path) as file:
        file.write(data)


def write_json(path: Path, value: object) -> None:
    """Write indented JSON, keys in the order given, ending in a newline."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> Record:
    """Read a JSON object. Raises DataError when it is absent, broken or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such record; run the stage that writes it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path}: wanted a JSON object, found {type(value).__name__}")
    return value


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as UTF-8 CSV with a header and `\\n` line ends."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a CSV with a header. Raises DataError when it is absent or not text."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: not readable as CSV ({error})") from error
