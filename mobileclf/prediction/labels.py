"""The labels of a model that someone has: from the model, or from a file, never invented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from mobileclf import progress
from mobileclf.decision import Classes
from mobileclf.errors import DataError, UsageError
from mobileclf.records import Record
from mobileclf.source import label_file
from mobileclf.wording import counted

# Of the types that the metadata gives to an associated file.
LABEL_TYPES = ("TENSOR_AXIS_LABELS", "TENSOR_VALUE_LABELS")


def labels_of(
    outputs: int,
    given: tuple[str, ...] | None,
    classes: Classes | None,
    described: Record | None,
    files: Mapping[str, bytes],
) -> tuple[tuple[str, ...], str]:
    """The labels and where they come from.

    outputs: how many the model has. given: of --labels. classes: of the decision in it, which
    must be for these very labels. described, files: metadata and associated files. Raises
    UsageError where there are none, and DataError.
    """
    # A single unit, as Keras' class_mode="binary" trains it, says how much of the second it is.
    outputs = max(outputs, 2)
    own, where = labels_inside(outputs, described, files)
    if given is not None:
        check_count(given, outputs, "--labels")
        if own is not None and own != given and classes is None:
            differ = sum(a != b for a, b in zip(own, given, strict=True))
            progress.warn(
                f"--labels: {differ} of {outputs} labels are not those in the model; "
                "those of --labels are used"
            )
    labels, said = (given, "--labels") if given is not None else (own, where)
    if labels is None:
        raise UsageError(
            f"wanted labels for its {counted(outputs, 'output')}, found {where}; give --labels "
            "FILE, one a line in the order of the outputs"
        )
    if classes is not None and classes.labels != labels:
        raise DataError(
            f"wanted the labels of its decision.json ({', '.join(classes.labels)}), found "
            f"others in {said} ({', '.join(labels)}); its decision holds for those alone"
        )
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        more = f" and {len(twice) - 1} others" if twice[1:] else ""
        progress.warn(
            f"{said}: more than one output is called {twice[0]!r}{more}; their scores cannot be "
            "told apart by name"
        )
    return labels, said


def labels_inside(
    outputs: int, described: Record | None, files: Mapping[str, bytes]
) -> tuple[tuple[str, ...] | None, str]:
    """The labels in the model and their place, or None and what was found."""
    ends = described["outputs"] if described is not None else []
    listed = ends[0]["labels"] if ends else None
    if listed:
        if len(listed) == outputs:
            return tuple(listed), "its metadata"
        return None, f"{len(listed)} in its metadata"
    types = {file["name"]: file["type"] for file in described["files"]} if described else {}
    named = {name: data for name, data in files.items() if _may_be_labels(name, types.get(name))}
    fitting = {}
    for name, data in named.items():
        try:
            lines = tuple(label_file.lines(data))
        except UnicodeDecodeError:
            continue
        if len(lines) == outputs and all(lines):
            fitting[name] = lines
    if len(fitting) == 1:
        ((name, lines),) = fitting.items()
        return lines, f"{name} in it"
    if fitting:
        return None, f"{len(fitting)} files in it with so many lines ({', '.join(fitting)})"
    return None, "no label file in it with so many lines" if named else "none in it"


def _may_be_labels(name: str, kind: str | None) -> bool:
    """By what the metadata says that it is, and where they say nothing by its name."""
    if kind in (None, "UNKNOWN"):
        return fnmatchcase(name.lower(), "*label*.txt")
    return kind in LABEL_TYPES


def check_count(labels: Sequence[str], outputs: int, where: str) -> None:
    if len(labels) != outputs:
        raise DataError(
            f"wanted {outputs} labels, one for each output, found {len(labels)} in {where}; "
            "give those of this model with --labels"
        )
