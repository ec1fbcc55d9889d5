"""What `mobileclf inspect` shows: tables on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mobileclf.records import Record
from mobileclf.wording import counted

from .table import facts, table

MOST_LAYERS = 15  # the largest; the others are one row
MOST_LABELS = 5


def show(record: Record) -> None:
    """Print the record of `mobileclf.tflite.inspect`."""
    console = Console(soft_wrap=False, highlight=False)
    for made in tables(record):
        console.print(made)


def tables(record: Record) -> Iterator[Table]:
    """The tables, the most wanted first."""
    yield facts("model", _model(record))
    yield _ends(record)
    yield _operators(record)
    yield from _sizes(record["sizes"], record["file"]["bytes"])
    yield _runtimes(record)
    if record["xnnpack"] is not None:
        yield _delegates(record["xnnpack"])
    if record["metadata"] is not None:
        yield from _metadata(record["metadata"])
    if record["decision"] is not None:
        yield facts("decision of mobileclf", record["decision"])
    rows = [
        (row["by"], _yes(row["accepted"]), _lines(row["reasons"]), _lines(row["notes"]))
        for row in record["accepted_by"]
    ]
    yield table("accepted by", ("what", "accepted", "why not", "notes"), rows)


def _model(record: Record) -> dict[str, object]:
    quantized, oldest, bundle = (
        record["quantization"], record["oldest_runtime"], record["bundle"],
    )  # fmt: skip
    subgraphs = len(record["subgraphs"])
    found: dict[str, object] = {"file": record["model"]}
    if bundle is not None:
        found["bundle"] = bundle["name"]
        found["sha256 in bundle.json"] = (
            "the same" if bundle["sha256_agrees"] else f"another: {bundle['sha256']}"
        )
        found["runtime in bundle.json"] = bundle["min_runtime"]
    found |= {
        "bytes": f"{record['file']['bytes']:,}",
        "sha256": record["file"]["sha256"],
        "schema version": record["schema_version"],
        "description": record["description"],
    }
    if subgraphs > 1:
        found["subgraphs"] = f"{subgraphs}; inputs, outputs and XNNPACK are those of the first"
    if record["signatures"]:
        found["signatures"] = ", ".join(
            f"{each['key']} ({', '.join(each['inputs'])} → {', '.join(each['outputs'])})"
            for each in record["signatures"]
        )
    if record["external_buffers"]:
        found["data in other files"] = counted(record["external_buffers"], "buffer")
    found |= {
        "quantization": quantized["verdict"],
        "operators work in": _counts(quantized["operators"]),
        "weights": _counts(quantized["weights"]),
        "oldest runtime, by operators": _oldest(oldest),
        "oldest runtime, by converter": oldest["by_converter"] or "not written",
        "these two": {True: "agree", False: "do not agree", None: "cannot be compared"}[
            oldest["agree"]
        ],
    }
    return found


def _oldest(oldest: Record) -> str:
    if not oldest["unknown"]:
        if oldest["by_operators"] is None:
            return "unknown"
        return f"TensorFlow {oldest['by_operators']}, by {', '.join(oldest['because'])}"
    least = f"at least {oldest['at_least']}; " if oldest["at_least"] else ""
    return f"unknown ({least}no release known for {', '.join(oldest['unknown'])})"


def _ends(record: Record) -> Table:
    rows = []
    for which in ("inputs", "outputs"):
        for end in record[which]:
            shape, free = end["shape"], end["shape_signature"]
            quantized, reach = end["quantization"] or {}, end["range"]
            rows.append(
                (
                    f"{which[:-1]} {end['name']}",
                    end["dtype"],
                    f"{shape}" + (f", free: {free}" if free else ""),
                    _one_of(quantized, "scale"),
                    _one_of(quantized, "zero_point"),
                    None if reach is None else f"{reach[0]:.6g} .. {reach[1]:.6g}",
                )
            )
    return table("ends", ("tensor", "type", "shape", "scale", "zero point", "range"), rows)


def _one_of(quantized: Mapping[str, Any], key: str) -> object:
    values = quantized.get(key)
    if not values:
        return None
    if len(values) == 1:
        return f"{values[0]:.8g}"
    return f"{len(values)} on axis {quantized['axis']}: {min(values):.6g} .. {max(values):.6g}"


def _operators(record: Record) -> Table:
    rows = [
        (
            row["operator"] + (" (TensorFlow's)" if row["flex"] else ""),
            row["version"],
            row["count"],
            row["first_release"] or "unknown",
        )
        for row in record["operators"]
    ]
    total = sum(row["count"] for row in record["operators"])
    return table(f"operators, {total}", ("operator", "version", "count", "since"), rows)


def _sizes(sizes: Record, size: int) -> Iterator[Table]:
    largest = sorted(sizes["layers"], key=lambda layer: -layer["bytes"])
    shown, others = largest[:MOST_LAYERS], largest[MOST_LAYERS:]
    rows: list[tuple[object, ...]] = [
        (
            _short(layer["layer"]),
            layer["operator"],
            f"{layer['bytes']:,}",
            f"{layer['bytes'] / size:.1%}",
            len(layer["shared_with"]) or None,
        )
        for layer in shown
    ]
    if others:
        rest = sum(layer["bytes"] for layer in others)
        rows.append((f"{len(others)} others", None, f"{rest:,}", f"{rest / size:.1%}", None))
    yield table(
        "constants by layer", ("layer", "operator", "bytes", "of the file", "shared with"), rows
    )
    parts = [(name, f"{count:,}") for name, count in sizes["parts"].items()]
    yield table("bytes of the file", ("part", "bytes"), [*parts, ("all", f"{size:,}")])


def _runtimes(record: Record) -> Table:
    rows = [
        (
            row["runtime"],
            _yes(row["loads"]),
            row["delegates"],
            row["operators_taken"],
            row["reason"],
        )
        for row in record["runtimes"]
    ]
    columns = ("runtime", "loads it", "delegates", "operators taken", "why not")
    return table("runtimes at hand", columns, rows)


def _delegates(found: Record) -> Table:
    each = ", ".join(map(str, found["taken_by_each"])) or None
    rows: list[tuple[object, ...]] = [("taken", found["operators_taken"], each)]
    rows += [
        (
            f"left: {row['operator']}",
            row["count"],
            _lines(_some([_short(layer) for layer in row["layers"]], MOST_LAYERS)),
        )
        for row in found["operators_left"]
    ]
    if found["untold"]:
        rows.append(("cannot be told (nothing uses their outputs)", found["untold"], None))
    by = f"{found['delegate']}: " if found["delegate"] else ""
    title = f"{by}{counted(found['delegates'], 'delegate')}, as {found['runtime']} says"
    columns = (f"of {counted(found['operators'], 'operator')}", "count", "by each, or layers")
    return table(title, columns, rows)


def _metadata(about: Record) -> Iterator[Table]:
    texts = ("name", "description", "version", "author", "license", "min_parser_version")
    found: dict[str, object] = {key: about[key] for key in texts if about[key] is not None}
    for end in about["inputs"]:
        parts = [end["content"], end["colour_space"]]
        if end["size"]:
            parts.append("x".join(map(str, end["size"])))
        if end["normalization"]:
            parts.append(f"normalization {end['normalization']}")
        found[f"input {end['name'] or ''}".strip()] = ", ".join(p for p in parts if p) or None
    for end in about["outputs"]:
        parts = [end["content"]]
        if end["labels"] is not None:
            first = ", ".join(_some(end["labels"], MOST_LABELS))
            parts.append(f"{counted(len(end['labels']), 'label')}: {first}")
        if end["score_threshold"] is not None:
            parts.append(f"score threshold {end['score_threshold']}")
        found[f"output {end['name'] or ''}".strip()] = ", ".join(p for p in parts if p) or None
    yield facts("metadata", found)
    rows = [(file["name"], file["type"], file["bytes"]) for file in about["files"]]
    if rows:
        yield table("associated files", ("file", "type", "bytes"), rows)


def _short(layer: str) -> str:
    """The converter joins the names of all that it fused into a layer; the first will do."""
    first, more, _ = layer.partition(";")
    return f"{first}; …" if more else first


def _some(values: Sequence[str], most: int) -> list[str]:
    more = len(values) - most
    return [*values[:most], f"and {more} more"] if more > 0 else list(values)


def _counts(counts: Mapping[str, int]) -> str | None:
    return ", ".join(f"{kind}: {count}" for kind, count in counts.items()) or None


def _lines(values: Sequence[str]) -> str | None:
    return "\n".join(values) or None


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[value]
