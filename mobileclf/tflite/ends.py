"""The photo's bytes in and quanta of probabilities out, put around anyone's `.tflite`.

Operators are added before the first and after the last one; nothing between them is changed,
which is held against the file that comes out. Those added are of the first or second version, so
that a model runs on every runtime that ran it before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mobileclf.errors import DataError
from mobileclf.images import preprocess
from mobileclf.images.preprocess import Preprocess

from .edit import Edit, Grid, Step, check_kept
from .graph import Model, Operator, Subgraph, Tensor, read
from .metadata import ENTRY

# What may stand behind the softmax: these keep the numbers, or put them on a grid.
PASSED = ("RESHAPE", "SQUEEZE", "QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True, kw_only=True)
class Wrapped:
    """A model that takes bytes and gives quanta.

    notes: what was put around it, for people; none where the bytes are those that were given.
    probabilities: "as they were", "softmax added", "sigmoid added" or "sigmoid made into two".
    """

    model: bytes
    notes: tuple[str, ...]
    probabilities: str


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What stands at a model's output, as it is read off its graph.

    model: as given, with the output as one row (1, labels). probabilities: as in `Wrapped`.
    quantum: the coarsest step that the numbers are rounded to behind the operator that calculates
    them; 0.0 where they are not.
    """

    model: bytes
    probabilities: str
    quantum: float


FLOAT = Grid(dtype="float32")
BYTES = Grid(dtype="uint8", scale=1.0, zero_point=0)
QUANTA = Grid(dtype="uint8", scale=1 / 256, zero_point=0)
SIGNED_QUANTA = Grid(dtype="int8", scale=1 / 256, zero_point=-128)


def with_bytes_and_quanta(model: bytes, how: Preprocess) -> Wrapped:
    """The model with uint8 (1, height, width, 3 or 1) in, RGB or grey bytes as the photo has them,
    and uint8 (1, labels) out, quanta of 1/256 that are probabilities.

    In: what `preprocess.encoder` makes of the bytes. An integer input whose table is the byte is
    fed with it, exactly, and keeps its grid; before any other the formula is calculated in
    float32, and rounded to an integer input's grid. Out: an integer output from 0 in steps of
    1/256 is kept, exactly; any other is rounded to it. Softmax is put behind what has neither
    softmax nor sigmoid; a sigmoid unit p becomes 1 - p and p.

    The metadata and associated files describe other ends, and are dropped from what is changed.
    Raises DataError for a file that is broken, or whose ends are not those of a classifier of one
    photo with one answer; each with what to do.
    """
    found, graph, image, scores = _classifier(model)
    taken, before, notes = _before(image, how)
    after, probabilities, more = _after(graph, scores)
    notes += more
    if not before and not after:
        return Wrapped(model=model, notes=(), probabilities=probabilities)
    if ENTRY in found.metadata:
        notes.append("metadata: dropped, they describe the ends as they were")
    edit = Edit(model)
    if before:
        photo = edit.tensor("photo", taken, image.shape)
        edit.graph.operators[:0] = edit.chain(photo, before, into=graph.inputs[0])
        edit.ends("inputs", graph.inputs[0], photo)
    if after:
        _put_behind(edit, graph, after)
    changed = edit.packed(len(model))
    check_kept(model, found, changed, len(before))
    return Wrapped(model=changed, notes=tuple(notes), probabilities=probabilities)


def scores_of(model: bytes) -> Scores:
    """What the outputs of a model are, which `with_bytes_and_quanta` makes probabilities of.

    Raises DataError as it does.
    """
    found, graph, _, scores = _classifier(model)
    probabilities, row = _taken_for(graph, scores), _in_a_row(scores)
    if row:
        edit = Edit(model)
        _put_behind(edit, graph, row)
        changed = edit.packed(len(model))
        check_kept(model, found, changed, 0)
        model = changed
    steps = [scale for at in _way_back(graph) for scale in graph.tensors[at].scales]
    return Scores(model=model, probabilities=probabilities, quantum=max(steps, default=0.0))


def _put_behind(edit: Edit, graph: Subgraph, steps: list[Step]) -> None:
    edit.graph.operators += (added := edit.chain(graph.outputs[0], steps))
    edit.ends("outputs", graph.outputs[0], added[-1].outputs[0])


def _classifier(model: bytes) -> tuple[Model, Subgraph, Tensor, Tensor]:
    """The file, its graph, and the tensors of its photo and its scores."""
    found = read(model)
    graph = _only_graph(found)
    image, scores = _ends(graph)
    if found.is_constant(image):
        raise DataError("model: wanted an input, found a constant in its place")
    return found, graph, image, scores


def _only_graph(found: Model) -> Subgraph:
    if len(found.subgraphs) != 1 or len(found.signatures) > 1:
        raise DataError(
            f"model: wanted one subgraph and at most one signature, found {len(found.subgraphs)} "
            f"and {len(found.signatures)}; convert again the one function that labels a photo"
        )
    if found.external:
        raise DataError(
            f"model: wanted all of its data in the file, found {found.external} buffers in "
            "other files; convert it again into one file under 2 GB"
        )
    return found.subgraphs[0]


def _ends(graph: Subgraph) -> tuple[Tensor, Tensor]:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise DataError(
            f"model: wanted one input and one output, found {len(graph.inputs)} and "
            f"{len(graph.outputs)}; convert again the part of it from one photo to one vector"
        )
    image, scores = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    _check_image(image)
    _check_scores(scores)
    for what, tensor in (("input", image), ("output", scores)):
        if tensor.dtype not in ("float32", "uint8", "int8"):
            raise DataError(
                f"model: wanted float32, uint8 or int8 at its {what}, found {tensor.dtype}; "
                "convert it again with one of these"
            )
        if len(tensor.scales) > 1:
            raise DataError(
                f"model: wanted one scale at its {what}, found {len(tensor.scales)}; convert it "
                "again with float32 there"
            )
    return image, scores


def _check_image(image: Tensor) -> None:
    shape, dims = image.shape, image.signature or image.shape
    wanted = "model: wanted an input of (1, height, width, 3 or 1)"
    if len(shape) == 4 and len(dims) == 4:
        if shape[1] in (1, 3) and shape[3] not in (1, 3):
            raise DataError(
                f"{wanted}, found {shape}, channels first as PyTorch has them; convert it again "
                "from `litert_torch.to_channel_last_io(model, args=[0])` with a sample input of "
                f"(1, {shape[2]}, {shape[3]}, {shape[1]})"
            )
        if min(dims[1:]) < 0:
            raise DataError(f"{wanted} with a fixed size, found {dims}; convert it again with one")
        if shape[0] == 1 and min(shape) > 0 and shape[3] in (1, 3):
            return
    raise DataError(f"{wanted}, found {shape}; convert it again for one photo, channels last")


def _check_scores(scores: Tensor) -> None:
    shape, dims = scores.shape, scores.signature or scores.shape
    # Of the dimensions one alone, the last, is not 1, and a batch may be open.
    if not shape or min(shape) < 1 or math.prod(shape) != shape[-1] or min(dims[1:], default=1) < 0:
        raise DataError(
            f"model: wanted an output of (1, labels), found {dims}; convert again the part of it "
            "from one photo to one vector"
        )


# Before the graph


def _before(image: Tensor, how: Preprocess) -> tuple[Grid, list[Step], list[str]]:
    """The grid of the bytes, the steps from them to the model's own input, and notes."""
    shape, own = image.shape, _grid(image)
    integer = own.dtype != "float32"
    scale, zero_point = own.scale or 0.0, own.zero_point or 0
    encode = preprocess.encoder(
        how, dtype=own.dtype, scale=scale, zero_point=zero_point, channels=shape[3]
    )
    photo = np.repeat(np.arange(256, dtype=np.uint8)[:, None], shape[3], axis=1)
    least = np.iinfo(own.dtype).min if integer else 0
    is_byte = integer and bool(np.array_equal(encode(photo), photo.astype(np.int16) + least))

    steps: list[Step] = []
    notes: list[str] = []
    taken = _as_bytes(own) if is_byte else BYTES
    if how.bgr:
        order = np.array([2, 1, 0], np.int32)
        steps.append(Step(operator="GATHER", grid=taken, shape=shape, constant=order))
        notes.append("input: channels put in the order B, G, R (GATHER)")
    if is_byte:
        if own.dtype == "int8":
            steps.append(Step(operator="QUANTIZE", grid=own, shape=shape))
            notes.append("input: bytes as int8, each less 128 (QUANTIZE)")
        return taken, steps, notes
    formula = [Step(operator="DEQUANTIZE", grid=FLOAT, shape=shape)]
    # Subtracted and divided as the formula has it, each rounded once: with a mean that float32
    # can hold it is the encoder's number to the last bit.
    for operator, numbers, nothing in (("SUB", how.mean, 0.0), ("DIV", how.std, 1.0)):
        if any(number != nothing for number in numbers):
            value = np.array(numbers, np.float32).reshape(1, 1, 1, -1)
            formula.append(Step(operator=operator, grid=FLOAT, shape=shape, constant=value))
    if integer:
        formula.append(Step(operator="QUANTIZE", grid=own, shape=shape))
    names = ", ".join(step.operator for step in formula)
    notes.append(f"input: bytes to {own.dtype} by preprocessing {how.name} ({names})")
    return taken, steps + formula, notes


def _as_bytes(own: Grid) -> Grid:
    """The uint8 grid that stands for the same numbers as `own`, int8 or uint8.

    Raises DataError for an int8 one without quantization.
    """
    if own.dtype == "uint8":
        return own
    if own.scale is None or own.zero_point is None:
        raise DataError(
            "model: wanted an int8 input with a scale, found none; convert it again with uint8 "
            "or float32 at its input"
        )
    return Grid(dtype="uint8", scale=own.scale, zero_point=own.zero_point + 128)


# Behind it


def _taken_for(graph: Subgraph, scores: Tensor) -> str:
    """What the numbers at the output are, in the words of `Wrapped.probabilities`."""
    labels, own = scores.shape[-1], _grid(scores)
    if own.dtype != "float32" and not (own.scale or 0) > 0:
        raise DataError(
            f"model: wanted an {own.dtype} output with a scale, found none: what it means is "
            "unknown; convert it again with float32 at its output"
        )
    head = _head(graph, labels)
    if labels > 1 and head == "LOGISTIC":
        raise DataError(
            f"model: wanted one label a photo, found {labels} sigmoid outputs, any number of "
            "which may be true of it; train it with softmax"
        )
    if labels == 1 and head == "SOFTMAX":
        raise DataError(
            "model: wanted a sigmoid unit or an output for each label, found softmax of one "
            "output, which is always 1; train it with two outputs"
        )
    # The grid that TFLite fixes for the int8 softmax and sigmoid, whatever stands behind them.
    probable = head is not None or own in (QUANTA, SIGNED_QUANTA)
    if labels == 1:
        return "sigmoid made into two" if probable else "sigmoid added"
    return "as they were" if probable else "softmax added"


def _after(graph: Subgraph, scores: Tensor) -> tuple[list[Step], str, list[str]]:
    """From what stands at the output to quanta of probabilities; what they were, and notes."""
    said, labels, own = _taken_for(graph, scores), scores.shape[-1], _grid(scores)
    row, steps = (1, labels), _in_a_row(scores)
    notes = [f"output: {scores.shape} to {row} (RESHAPE)"] if steps else []
    if labels > 1 and own == QUANTA:
        return steps, said, notes
    if labels > 1 and own == SIGNED_QUANTA:
        steps.append(Step(operator="QUANTIZE", grid=QUANTA, shape=row))
        return steps, said, [*notes, "output: int8 to uint8 (QUANTIZE)"]
    if own.dtype != "float32":
        version = 2 if own.dtype == "int8" else 1
        steps.append(Step(operator="DEQUANTIZE", grid=FLOAT, shape=row, version=version))
    if said in ("sigmoid added", "softmax added"):
        operator = "SOFTMAX" if said == "softmax added" else "LOGISTIC"
        steps.append(Step(operator=operator, grid=FLOAT, shape=row))
    if labels == 1:
        both = (("MUL", [-1, 1]), ("ADD", [1, 0]))  # 1 - p and p; neither is rounded for p = q/256
        steps += (
            Step(operator=name, grid=FLOAT, shape=(1, 2), constant=np.array([by], np.float32))
            for name, by in both
        )
    steps.append(Step(operator="QUANTIZE", grid=QUANTA, shape=(1, max(2, labels))))
    names = ", ".join(step.operator for step in steps if step.operator != "RESHAPE")
    words = "" if said == "as they were" else f"{said}, "
    return steps, said, [*notes, f"output: {words}in quanta of 1/256 ({names})"]


def _in_a_row(scores: Tensor) -> list[Step]:
    """The step from the output to (1, labels), none where it is that."""
    row = (1, scores.shape[-1])
    if scores.shape == row:
        return []
    constant = np.array(row, np.int32)
    return [Step(operator="RESHAPE", grid=_grid(scores), shape=row, constant=constant)]


def _way_back(graph: Subgraph) -> list[int]:
    """The tensors from the output back to the one whose operator calculates the numbers."""
    maker = _makers(graph)
    way = [graph.outputs[0]]
    for _ in graph.operators:  # a broken graph may go in a circle
        op = maker.get(way[-1])
        if op is None or op.name not in PASSED or not op.inputs:
            break
        way.append(op.inputs[0])
    return way


def _makers(graph: Subgraph) -> dict[int, Operator]:
    return {tensor: op for op in graph.operators for tensor in op.outputs}


def _head(graph: Subgraph, labels: int) -> str | None:
    """SOFTMAX or LOGISTIC where the numbers at the output are one's, None where they are logits.

    Raises DataError for a softmax over something else than the labels.
    """
    maker, at = _makers(graph), _way_back(graph)[-1]
    op = maker.get(at)
    softmax = op is not None and (op.name == "SOFTMAX" or _is_share(op, maker))
    if softmax and graph.tensors[at].shape[-1:] != (labels,):
        raise DataError(
            f"model: wanted softmax over its {labels} outputs, found it over the last axis of "
            f"{graph.tensors[at].shape}; convert again the part of it that gives one answer"
        )
    if softmax:
        return "SOFTMAX"
    return "LOGISTIC" if op is not None and op.name == "LOGISTIC" else None


def _is_share(op: Operator, maker: dict[int, Operator]) -> bool:
    """Whether it is a softmax written out, as some converters leave it: e / SUM(e), e of EXP."""
    if op.name != "DIV" or len(op.inputs) != 2:
        return False
    top, bottom = (maker.get(tensor) for tensor in op.inputs)
    if bottom is not None and bottom.name == "RESHAPE" and bottom.inputs:
        bottom = maker.get(bottom.inputs[0])
    return (
        top is not None
        and bottom is not None
        and (top.name, bottom.name) == ("EXP", "SUM")
        and op.inputs[0] in bottom.inputs[:1]
    )


def _grid(tensor: Tensor) -> Grid:
    if tensor.dtype == "float32" or not tensor.scales:
        return Grid(dtype=tensor.dtype)
    return Grid(dtype=tensor.dtype, scale=tensor.scales[0], zero_point=tensor.zero_points[0])
