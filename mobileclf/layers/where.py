"""Where a difference between float and int8 comes from, once a gate on answers has failed: the
layers that lose most on the photos that changed, the first layer at which runtimes part, and which
operators each runtime's delegate takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import chatter, progress
from mobileclf.errors import MobileclfError
from mobileclf.photos import load_photos
from mobileclf.pipeline import LOG
from mobileclf.records import Record
from mobileclf.scores import read_part
from mobileclf.settings import Settings
from mobileclf.tflite import delegates
from mobileclf.tflite.graph import file_bytes, read
from mobileclf.tflite.runtimes import installed

from . import explain, files
from .noise import decibels
from .parting import partings
from .reading import ceiling, summary

KERNELS = ("builtin", "oldest_runtime")  # beside what ships, as parity.json names them
MOST_PHOTOS = 8  # through all layers, which takes a second each
PARTING_PHOTOS = 2  # of these; kernels that compute otherwise do so on any photo
MOST_LAYERS = 5
SHOWN = ("layer", "operator", "snr_db", "input_db", "fall_db", "cause", "cause_share")


def where(record: Mapping[str, Any], settings: Settings) -> Record:
    """What can be told. record: the body of parity.json. settings: of its run.

    photos: paths, the changed ones first; layers: what `inspect --explain` says of them, shortened;
    runtimes: as `partings`; delegates: of each installed runtime, the operators that are left to
    its built-in kernels. Each is None where it cannot be told, and `problems` says why: this comes
    after a failure, and must not hide it. What libraries print goes to the run's log, also under
    `-v`: it would stand between the tables.
    """
    with chatter.led_to(settings.run_folder / LOG):
        return _where(record, settings)


def _where(record: Mapping[str, Any], settings: Settings) -> Record:
    folder, problems = settings.run_folder, list[str]()

    def told(what: str, look: Callable[[], Any]) -> Any:
        try:
            return look()
        except Exception as error:  # whatever it is, the gate's reason stands before it
            problems.append(f"{what}: {_plain(error, folder)}")
            return None

    progress.say("parity: looking for where it comes from …")
    seen = told("photos", lambda: _seen(record, settings))
    if seen is None:
        return {"photos": [], "layers": None, "runtimes": None, "delegates": None,
                "problems": problems}  # fmt: skip
    return {
        "photos": list(seen.paths),
        "layers": told("layers", lambda: _layers(seen, folder)),
        "runtimes": told("runtimes", lambda: partings(seen.model, seen.pixels[:PARTING_PHOTOS])),
        "delegates": told("delegates", lambda: _delegates(seen)),
        "problems": problems,
    }


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The file that is gated, and photos to see it by. pixels: uint8 (n, h, w, channels)."""

    file: files.File
    model: bytes
    paths: tuple[str, ...]
    pixels: NDArray[np.uint8]


def _seen(record: Mapping[str, Any], settings: Settings) -> _Seen:
    folder = settings.run_folder
    file = files.file_of(None, record["candidate"], folder)
    part = read_part(folder, record["split"])
    own = part[_rows(record, part.paths)]
    return _Seen(
        file=file,
        model=file_bytes(file.path),
        paths=own.paths,
        pixels=load_photos(folder, settings, own, "load changed"),
    )


def _rows(record: Mapping[str, Any], paths: tuple[str, ...]) -> NDArray[np.int64]:
    """Places in the part of at most MOST_PHOTOS that changed on any kernels, lost answers first;
    where none did, of the first photos."""
    families = [record, *(record[name] for name in KERNELS if name in record)]
    changed = [row for figures in families for row in figures["changed"]]
    lost_first = sorted(changed, key=lambda row: row["float"] != row["truth"])
    names = list(dict.fromkeys(row["path"] for row in lost_first)) or list(paths)
    return np.array([paths.index(name) for name in names[:MOST_PHOTOS]], dtype=np.int64)


def _layers(seen: _Seen, folder: Path) -> Record:
    """The layer report on these photos: its summary, and what falls most in it.

    Raises DataError as `explain` does, so also where the file is not of the run's network.
    """
    model = read(seen.model)
    networks = files.networks(folder).graphs
    compared = explain._closest(seen.file.path, seen.model, model, networks, folder)
    tensors = model.subgraphs[0].tensors
    grids = {each.tensor: explain._grid(tensors[each.tensor]) for each in compared.found.layers}
    measured = explain._measured(seen.model, compared, grids, seen.pixels)
    most = ceiling([decibels(own.signal, own.grid) for own in measured[0].values() if own.grid])
    rows = explain._rows(model, compared, grids, measured, most)
    falls = [row for row in rows if row["fall_db"] is not None]
    largest = sorted(falls, key=lambda row: -row["fall_db"])[:MOST_LAYERS]
    return {
        "network": compared.name,
        **summary(rows, most),
        "largest_falls": [{key: row[key] for key in SHOWN} for row in largest],
    }


def _delegates(seen: _Seen) -> list[Record]:
    graph = read(seen.model).subgraphs[0]
    rows = []
    for loaded in delegates.load(seen.file.path, installed()):
        row = loaded.as_record()
        if loaded.loads and loaded.nodes:
            shares = delegates.shares(graph, loaded)
            left = {each["operator"]: each["count"] for each in shares.pop("operators_left")}
            row |= {**shares, "operators_left": left}
        rows.append(row)
    return rows


def _plain(error: Exception, folder: Path) -> str:
    """The error in one line, without where the run lies: this stands in a record."""
    words = " ".join(str(error).split())
    for place in {str(folder), str(folder.absolute()), str(folder.resolve())}:
        words = words.replace(f"{place}/", "").replace(place, "the run")
    known = isinstance(error, MobileclfError)
    return words if known else f"{type(error).__name__}: {words}"
