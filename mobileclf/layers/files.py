"""What the layer report reads of a run: which file is explained, and the networks it was made of.

What does not belong together is refused: a file of an earlier quantize beside the graph of a later
one would be given causes that it does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobileclf.config import make_settings
from mobileclf.errors import DataError, UsageError
from mobileclf.models import deploy
from mobileclf.models import graph as graphs
from mobileclf.models.graph import Graph
from mobileclf.pipeline import CONFIG_RECORD, settings_for
from mobileclf.records import read_json, sha256_file
from mobileclf.settings import Settings
from mobileclf.spelling import rewrites_of
from mobileclf.tflite.inspect import located

TRAINED = "trained"
STOCK = "stock"
GRAPHS = "_graph"  # after a candidate's name: the folder of a network of the same function
INTEGER = "int16x8"  # of the other variants of a run, the one that computes in integers
MADE_FROM = ("train.json", "quantize.json")


@dataclass(frozen=True, kw_only=True)
class File:
    """A file to explain. candidate: which one of the run it is, None of one that lies elsewhere."""

    path: Path
    candidate: str | None


def settings_of(
    model: Path | str | None, given: Mapping[str, object], config: Path | None
) -> Settings:
    """The run's; that of the folder where `model` lies, when none is given.

    Raises UsageError where there is none, or where `model` itself is a run.
    """
    if model is not None and (Path(model) / CONFIG_RECORD).is_file():
        raise UsageError(
            f"{model}: wanted a .tflite or a bundle's folder, found a run; give --run {model}"
        )
    beside = Path(model).parent if model is not None else None
    if beside is not None and not any(given.values()) and (beside / CONFIG_RECORD).is_file():
        given = {"run": beside}
    folder = make_settings(given, config=config).run_folder
    if not (folder / CONFIG_RECORD).is_file():
        raise UsageError(
            f"--explain: wanted a run, found none in {folder}; give --run or --name of one"
        )
    return settings_for(given, "inspect", config=config)


def file_of(model: Path | str | None, candidate: str | None, folder: Path) -> File:
    """The file that is meant: `model`, else the run's of `candidate`, else the selected one.

    Raises UsageError for a candidate that is none of the run's int8 files, DataError where a file
    of the run is not there or was made from something else than the run has now.
    """
    if model is not None:
        path, _ = located(Path(model))
        if path.resolve().parent != folder.resolve():
            return File(path=path, candidate=None)
        files = {file: name for name, file in _files(folder).items()}
        return File(path=path, candidate=files.get(path.name))
    files = _files(folder)
    if candidate is not None:
        if candidate not in files:
            raise UsageError(
                f"--candidate {candidate}: wanted an int8 file of {folder}, one of "
                f"{', '.join(files)}"
            )
        return File(path=folder / files[candidate], candidate=candidate)
    chosen = folder / "selection.json"
    selected = str(read_json(chosen)["selected"]) if chosen.is_file() else None
    if selected not in files:
        raise DataError(
            f"{folder}: wanted a selected file, found none; run `mobileclf select --run {folder}`, "
            f"or give --candidate, one of {', '.join(files)}"
        )
    return File(path=folder / files[selected], candidate=selected)


def _files(folder: Path) -> dict[str, str]:
    """The run's int8 files, and that with 16-bit activations, by name. Raises DataError where they
    are not there, or were made from an earlier network."""
    again = f"run `mobileclf convert --run {folder}`"
    if not (folder / "convert.json").is_file():
        raise DataError(f"{folder}: wanted converted files, found no convert.json; {again}")
    made = read_json(folder / "convert.json")
    for name in MADE_FROM:
        now = sha256_file(folder / name) if (folder / name).is_file() else None
        if made["inputs"]["files"][name] != now:
            stage = name.removesuffix(".json")
            raise DataError(
                f"{folder}: wanted files of the run as it is, found ones made from an earlier "
                f"{stage}; {again}"
            )
    files = {entry["candidate"]: entry["file"] for entry in made["candidates"]}
    return files | {
        entry["variant"]: entry["file"] for entry in made["others"] if entry["variant"] == INTEGER
    }


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The float networks that a run's files were made of, by name: the trained one, rewritten, and
    those of the same function in other numbers, as equalized channels give them. candidates: what
    was made of them."""

    graphs: Mapping[str, Graph]
    candidates: tuple[str, ...]


def networks(folder: Path) -> Networks:
    """Those that quantize.json lists. Raises DataError where one is not as it was left."""
    again = f"run `mobileclf quantize --run {folder}`"
    if not (folder / "quantize.json").is_file():
        raise DataError(f"{folder}: wanted a quantized run, found no quantize.json; {again}")
    made: Mapping[str, Any] = read_json(folder / "quantize.json")
    without = made["inputs"]["settings"].get("without")
    found = {TRAINED: deploy.deployable(folder, rewrites_of(without)).graph}
    known = set()
    for candidate in made["candidates"]:
        own = folder / f"{candidate}{GRAPHS}"
        listed = {name: digest for name, digest in made["outputs"].items()
                  if name.startswith(f"{own.name}/")}  # fmt: skip
        for name, digest in listed.items():
            if not (folder / name).is_file() or sha256_file(folder / name) != digest:
                raise DataError(
                    f"{folder / name}: wanted what quantize left there, found other bytes; {again}"
                )
        weights = listed.get(f"{own.name}/weights.npz")
        if weights is not None and weights not in known:
            known.add(weights)
            found[candidate] = graphs.read(own)
    return Networks(graphs=found, candidates=(STOCK, *made["candidates"]))
