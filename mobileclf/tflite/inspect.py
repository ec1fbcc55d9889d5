"""What a `.tflite` holds, where its bytes are, what runs it: any file, ours or not."""

from __future__ import annotations

import json
from pathlib import Path

from mobileclf.decision import NOT_SURE, QUANTA, read_decision
from mobileclf.errors import DataError
from mobileclf.records import Record, read_json, sha256_bytes

from . import delegates, graph, metadata, runtimes
from .graph import Model, Subgraph, Tensor
from .metadata import Opened
from .quantization import quantization, unpacked
from .runtime_versions import first_release, release_key

BUNDLE = "bundle.json"
MIN_RUNTIME = "min_runtime_version"
# The integers of a quantized type, for the range that scale and zero point give.
LIMITS = {
    "int2": (-2, 1),
    "int4": (-8, 7),
    "uint4": (0, 15),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(2**31), 2**31 - 1),
}
# What people give instead of a .tflite, by how such files begin.


def inspect(model: Path | str) -> Record:
    """Everything that can be said of a `.tflite`, or of the model of a bundle folder.

    The file is read, hashed and taken apart in this process; the runtimes at hand load it in
    processes of their own. What is not known is None in the record. Sizes are bytes, indices and
    shapes as in the file.

    Raises DataError for what is no sound `.tflite`, also when it makes LiteRT crash or hang, and
    EnvironmentProblem when it cannot be read.
    """
    path, bundle = located(Path(model))
    data = graph.file_bytes(path)
    try:
        record = _described(path, data, metadata.opened(data))
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix('model: ')}") from error
    if bundle is not None:
        bundle["sha256_agrees"] = bundle["sha256"] == record["file"]["sha256"]
    return {"model": str(model), "bundle": bundle, **record}


def located(path: Path) -> tuple[Path, Record | None]:
    """The model file, and what bundle.json says of it when `path` is a bundle."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file; give a .tflite or a bundle's folder")
    if not path.is_dir():
        return path, None
    if not (path / BUNDLE).is_file():
        raise DataError(
            f"{path}: wanted a .tflite or a bundle's folder, found a folder without {BUNDLE}"
        )
    body = read_json(path / BUNDLE)
    try:
        about = body["model"]
        name, sha256 = str(about["file"]), str(about["sha256"])
        said: Record = {
            "name": body["name"], "sha256": sha256, "min_runtime": about.get("min_runtime")
        }  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path / BUNDLE}: wanted name, and file and sha256 of the model; missing {error}; "
            "export the bundle again"
        ) from error
    if Path(name).name != name or not (path / name).is_file():
        raise DataError(
            f"{path}: wanted the model file {name!r} that {BUNDLE} names, found none; "
            "export the bundle again"
        )
    return path / name, said


def _described(path: Path, data: bytes, opened: Opened) -> Record:
    from . import acceptance

    found, first = opened.graph, opened.graph.subgraphs[0]
    sizes = _sizes(opened)  # before a runtime sees it: overlapping buffers end here
    at_work = delegates.load(path, runtimes.installed())
    return {
        "file": {"bytes": len(data), "sha256": sha256_bytes(data)},
        "schema_version": found.version,
        "description": found.description or None,
        "subgraphs": [
            {"name": each.name, "tensors": len(each.tensors), "operators": len(each.operators)}
            for each in found.subgraphs
        ],
        "external_buffers": found.external,
        "signatures": [
            {
                "key": each.key,
                "subgraph": each.subgraph,
                "inputs": list(each.inputs),
                "outputs": list(each.outputs),
            }
            for each in found.signatures
        ],
        "inputs": [_end(first.tensors[i]) for i in first.inputs],
        "outputs": [_end(first.tensors[i]) for i in first.outputs],
        "quantization": quantization(found),
        "operators": _operators(found),
        "sizes": sizes,
        "oldest_runtime": _oldest_runtime(data, found),
        **_runtimes(first, at_work),
        "metadata": metadata.describe(opened),
        "decision": _decision(opened.files),
        "accepted_by": acceptance.accepted_by(opened),
    }


def _end(tensor: Tensor) -> Record:
    record: Record = {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "shape_signature": None if tensor.signature is None else list(tensor.signature),
        "quantization": None,
        "range": None,
    }
    if not tensor.scales:
        return record
    channels = len(tensor.scales) > 1
    record["quantization"] = {
        "per": "channel" if channels else "tensor",
        "axis": tensor.axis if channels else None,
        "scale": list(tensor.scales),
        "zero_point": list(tensor.zero_points),
    }
    if tensor.dtype in LIMITS:
        pairs = list(zip(tensor.scales, tensor.zero_points, strict=True))
        ends = [(q - zero) * scale for scale, zero in pairs for q in LIMITS[tensor.dtype]]
        record["range"] = [min(ends), max(ends)]
    return record


def _operators(found: Model) -> list[Record]:
    every = tuple(op for each in found.subgraphs for op in each.operators)
    return [
        {
            "operator": name,
            "version": version,
            "count": count,
            "custom": name.startswith("CUSTOM"),
            "flex": name.startswith("CUSTOM Flex"),
            "first_release": first_release(name, version),
        }
        for name, version, count in graph.counts(every)
    ]


def _sizes(opened: Opened) -> Record:
    """Where the file's bytes are; `parts` add up to its size.

    A constant belongs to the first operator that works on it, also where a DEQUANTIZE stands
    between, and counts once; `shared_with` names the others.
    """
    found = opened.graph
    # Two buffers may be the same bytes of the file, so the place is what tells them apart.
    places = {(b.start, b.bytes) for b in found.buffers if b.bytes}
    of_files = opened.size - opened.files_at
    end = 0
    for start, count in [*sorted(places), (opened.files_at, of_files)]:
        if start < end:
            raise DataError("model: wanted data that lie apart, found buffers that overlap")
        end = start + count
    users: dict[tuple[int, int], list[int]] = {}
    layers: list[Record] = []
    for each in found.subgraphs:
        stored = unpacked(found, each)
        for op in each.operators:
            row = len(layers)
            name = each.tensors[op.outputs[0]].name if op.outputs else op.name
            layers.append({"layer": name, "operator": op.name, "bytes": 0, "shared_with": []})
            if set(op.outputs) & stored.keys():
                continue
            for i in op.inputs:
                buffer = found.buffers[each.tensors[stored.get(i, i)].buffer]
                mine = users.setdefault((buffer.start, buffer.bytes), [])
                if buffer.bytes and row not in mine[-1:]:  # rows rise
                    mine.append(row)
    for (_, count), rows in users.items():
        if rows:
            layers[rows[0]]["bytes"] += count
            layers[rows[0]]["shared_with"] += [layers[row]["layer"] for row in rows[1:]]
    of_layers = sum(layer["bytes"] for layer in layers)
    described = [found.buffers[index] for index in found.metadata.values()]
    of_metadata = sum(
        count for start, count in {(b.start, b.bytes) for b in described} - users.keys()
    )
    constants = sum(count for _, count in places) - of_metadata
    parts = {
        "constants of operators": of_layers,
        "other buffers": constants - of_layers,
        "metadata": of_metadata,
        "associated files": of_files,
    }
    return {
        "parts": {**parts, "graph and padding": opened.size - sum(parts.values())},
        "layers": [layer for layer in layers if layer["bytes"]],
    }


def _oldest_runtime(data: bytes, found: Model) -> Record:
    """The oldest release by the operators' versions, and what the converter wrote.

    `by_operators` is None when some operator is not known, then the answer is `at_least`.
    """
    rows = _operators(found)
    known = [row for row in rows if row["first_release"] is not None]
    newest = max((row["first_release"] for row in known), key=release_key, default=None)
    unknown = [
        f"{row['operator']} {row['version']}" for row in rows if row["first_release"] is None
    ]
    written = None
    if MIN_RUNTIME in found.metadata:
        buffer = found.buffers[found.metadata[MIN_RUNTIME]]
        text = data[buffer.start : buffer.start + buffer.bytes].split(b"\0")[0]
        written = text.decode("ascii", errors="replace").strip() or None
    by_operators = newest if not unknown else None
    return {
        "by_operators": by_operators,
        "at_least": newest,
        "because": [
            f"{row['operator']} {row['version']}" for row in known if row["first_release"] == newest
        ],
        "unknown": unknown,
        "by_converter": written,
        "agree": None if None in (by_operators, written) else by_operators == written,
    }


def _runtimes(first: Subgraph, at_work: list[delegates.Loaded]) -> Record:
    """`runtimes`: which of those at hand load the file. `xnnpack`: what LiteRT's delegate takes."""
    rows, xnnpack = [], None
    for each in at_work:
        is_main = each.runtime.startswith(delegates.MAIN)
        if is_main and each.ended:
            raise DataError(f"model: {each.runtime} cannot load it: {each.reason}")
        share: Record | None = None
        row = each.as_record()
        if each.loads and each.reason is None:
            try:
                share = delegates.shares(first, each)
            except DataError as error:
                row["reason"] = str(error).removeprefix("model: ")
        row["delegates"] = share and share["delegates"]
        row["operators_taken"] = share and share["operators_taken"]
        rows.append(row)
        if is_main:
            xnnpack = share
    return {"runtimes": rows, "xnnpack": xnnpack}


def _decision(files: dict[str, bytes]) -> Record | None:
    """The rule that `export` put into the file; None where there is none of ours."""
    if metadata.DECISION_FILE not in files:
        return None
    try:
        classes, decision = read_decision(json.loads(files[metadata.DECISION_FILE]))
    except (DataError, ValueError, AttributeError, TypeError) as error:
        return {"rule": None, "problem": f"not a decision of mobileclf ({error})"}
    at = f"{decision.threshold_q} of {QUANTA}"
    if decision.group is None:
        rule = f"the label of the largest output; {NOT_SURE} under {at}"
    else:
        labels = [label for label, own in zip(classes.labels, classes.groups, strict=True)
                  if own == decision.group]  # fmt: skip
        rule = f"{decision.group} from {at} for the sum of {', '.join(labels)}"
        if decision.abstain is not None:
            what = {
                "largest": "largest output",
                "margin": "largest output less the second",
                "score": "threshold less that sum",
            }[decision.abstain.by]
            rule += f"; under it {NOT_SURE} where the {what} < {decision.abstain.cut_q}"
    return {"rule": rule, "purpose": decision.purpose, **decision.as_record()}
