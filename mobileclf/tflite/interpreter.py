"""Running a `.tflite`, on each runtime and kernel family, always through the same three lines.

An int8 model's outputs come back as quanta: uint8, 256 of which are probability 1, whatever
type stands at the file's output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mobileclf import cores, parallel, progress
from mobileclf.errors import DataError, EnvironmentProblem

from . import scorer
from .runtimes import MODULES, OLDEST, Runtime, at_hand

Kernels = Literal["xnnpack", "builtin"]
# The reference kernels, too, which no app runs: plain loops that the others are held against.
AnyKernels = Literal["xnnpack", "builtin", "reference"]
# Each resolver of a runtime; XNNPACK is in its default one.
RESOLVERS: dict[str, str] = {
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}
DELEGATE = "DELEGATE"  # the name of a node that stands for the operators a delegate took
# Photos that a worker on a cluster gets at once: a few megabytes, and work enough for a new
# interpreter.
BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """The input or the output. scale, zero_point: 0 and 0 without quantization."""

    index: int
    dtype: np.dtype[Any]
    scale: float
    zero_point: int


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A loaded model with one input and one output, its tensors allocated.

    shape: (height, width, channels) of the input. labels: number of outputs. Not for two threads
    at once.
    """

    engine: Any
    shape: tuple[int, int, int]
    labels: int
    input: Tensor
    output: Tensor


@cache
def _module(runtime: Runtime) -> Any:
    from importlib import import_module

    if not at_hand(runtime):
        raise EnvironmentProblem(f"{runtime} is not installed; `pip install {runtime}` brings it")
    return import_module(MODULES[runtime])


def open_interpreter(
    model: bytes | Path,
    *,
    kernels: AnyKernels = "xnnpack",
    runtime: Runtime = "ai-edge-litert",
    threads: int = 1,
    keep_all: bool = False,
) -> Interpreter:
    """Load a classifier. tflite-runtime has built-in kernels alone for int8, whatever is asked.

    keep_all: every tensor still has its values after a run, which takes memory for each; only
    the built-in kernels fill them all. Raises DataError when the file is no model with one image
    in and one vector out, and EnvironmentProblem when the runtime is not installed.
    """
    module = _module(runtime)
    options: dict[str, Any] = {"num_threads": threads}
    if kernels in RESOLVERS:
        resolver = getattr(module.OpResolverType, RESOLVERS[kernels])
        options["experimental_op_resolver_type"] = resolver
    if keep_all:
        options["experimental_preserve_all_tensors"] = True
    data = model if isinstance(model, bytes) else model.read_bytes()
    try:
        engine = module.Interpreter(model_content=data, **options)
        engine.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"model: {runtime} cannot load it ({str(error).splitlines()[0]})"
        ) from error
    inputs, outputs = engine.get_input_details(), engine.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise DataError(
            f"model: wanted one input and one output, found {len(inputs)} and {len(outputs)}"
        )
    shape, out = inputs[0]["shape"], outputs[0]["shape"]
    if len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3) or len(out) != 2 or out[0] != 1:
        raise DataError(
            "model: wanted an input of (1, height, width, 3 or 1) and an output of (1, labels), "
            f"found {tuple(shape)} and {tuple(out)}"
        )
    height, width, channels = map(int, shape[1:])
    return Interpreter(
        engine=engine,
        shape=(height, width, channels),
        labels=int(out[1]),
        input=_tensor(inputs[0]),
        output=_tensor(outputs[0]),
    )


def delegates_of(interpreter: Interpreter) -> int | None:
    """How many nodes stand for operators that a delegate took; None where the runtime cannot tell,
    as of a file with names that are no text."""
    try:
        nodes = interpreter.engine._get_ops_details()
    except (ValueError, RuntimeError):
        return None
    return sum(node["op_name"] == DELEGATE for node in nodes)


def _tensor(details: Any) -> Tensor:
    """Raises DataError for a type that no classifier of photos has at its ends."""
    dtype = np.dtype(details["dtype"])
    if dtype not in (np.uint8, np.int8, np.float32):
        raise DataError(f"model: wanted uint8, int8 or float32 at its ends, found {dtype}")
    scale, zero_point = details["quantization"]
    return Tensor(
        index=int(details["index"]), dtype=dtype, scale=float(scale), zero_point=int(zero_point)
    )


def scores(interpreter: Interpreter, images: NDArray[np.uint8]) -> NDArray[Any]:
    """What the model answers: uint8 quanta (n, labels), or float32 of a model without int8.

    images: uint8 (n, height, width, channels), RGB or grey. Raises DataError for another shape,
    and for an output in another scale than 1/256.
    """
    if images.shape[1:] != interpreter.shape:
        wanted = ", ".join(map(str, interpreter.shape))
        raise DataError(f"images: wanted (n, {wanted}), found {images.shape}")
    rows = [_as_scores(_one(interpreter, image), interpreter.output) for image in images]
    return np.stack(rows) if rows else np.empty((0, interpreter.labels), np.uint8)


def _one(interpreter: Interpreter, image: NDArray[np.uint8]) -> NDArray[Any]:
    return answer(interpreter, _as_input(image, interpreter.input.dtype))


def answer(interpreter: Interpreter, pixels: NDArray[Any]) -> NDArray[Any]:
    """What stands at the output, in its own type (labels,), of one input (height, width,
    channels) in the input's type. Raises DataError where the runtime cannot run the model."""
    engine = interpreter.engine
    try:
        engine.set_tensor(interpreter.input.index, pixels[None])
        engine.invoke()
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"model: the runtime cannot run it ({str(error).splitlines()[0]})"
        ) from error
    found: NDArray[Any] = engine.get_tensor(interpreter.output.index)[0]
    return found


def dequantized(values: NDArray[Any], tensor: Tensor) -> NDArray[np.float64]:
    """The numbers that values of `tensor` stand for; exactly n/256 where the scale is 1/256.

    Raises DataError for integers without quantization.
    """
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if not tensor.scale > 0:
        raise DataError("model: an integer output without quantization: what it means is unknown")
    return (values.astype(np.int64) - tensor.zero_point) * tensor.scale


def _as_input(image: NDArray[np.uint8], dtype: Any) -> NDArray[Any]:
    """Bytes as the file's input type has them: int8 is the byte minus 128, exactly."""
    if dtype == np.int8:
        return (image.astype(np.int16) - 128).astype(np.int8)
    return image.astype(dtype)


def _as_scores(values: NDArray[Any], tensor: Tensor) -> NDArray[Any]:
    if values.dtype == np.float32:
        return values.copy()
    wanted = {np.dtype(np.uint8): 0, np.dtype(np.int8): -128}.get(values.dtype)
    if tensor.scale != 1 / 256 or tensor.zero_point != wanted:
        raise DataError(
            f"model: wanted an output in scale 1/256 from zero point {wanted}, found scale "
            f"{tensor.scale} and zero point {tensor.zero_point}"
        )
    return (values.astype(np.int16) - tensor.zero_point).astype(np.uint8)


def as_quanta(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Quanta of an int8 model, also of one with float32 at its output.

    Raises DataError when a float output is not on the grid of 1/256, as no int8 softmax gives.
    """
    if values.dtype == np.uint8:
        return values
    quanta = values * 256
    if np.any(quanta != np.rint(quanta)) or np.any(quanta > 255):
        raise DataError("model: wanted outputs on the int8 softmax's grid of 1/256, found others")
    return quanta.astype(np.uint8)


def score_photos(
    model: bytes,
    photos: NDArray[np.uint8],
    *,
    title: str,
    kernels: Kernels = "xnnpack",
    runtime: Runtime = "ai-edge-litert",
    cluster: str | None = None,
) -> NDArray[Any]:
    """`scores` of many photos: one single-threaded interpreter on each core.

    The order and the values are those of one interpreter after another; photos are independent.
    The oldest runtime works in a process of its own. cluster: as in `parallel.each`, which says
    what it raises.
    """
    if cluster is not None:
        blocks = [photos[i : i + BLOCK] for i in range(0, len(photos), BLOCK)]
        work = partial(_score_block, model, kernels, runtime)
        return np.concatenate(list(parallel.each(work, blocks, title, cluster=cluster, batch=1)))
    with progress.bar(title, len(photos)) as shown:

        def done() -> None:
            shown.advance(shown.task_ids[0])

        if runtime == OLDEST:
            return _score_apart(model, photos, done)
        return score_in_threads(model, photos, kernels=kernels, runtime=runtime, done=done)


def _score_block(
    model: bytes, kernels: Kernels, runtime: Runtime, photos: NDArray[np.uint8]
) -> NDArray[Any]:
    """The scores of a few photos on a worker, which has many such blocks at once."""
    if runtime == OLDEST:
        return _score_apart(model, photos, lambda: None)
    return scores(open_interpreter(model, kernels=kernels, runtime=runtime), photos)


def score_in_threads(
    model: bytes,
    photos: NDArray[np.uint8],
    *,
    kernels: Kernels,
    runtime: Runtime,
    done: Callable[[], None],
) -> NDArray[Any]:
    """`score_photos` in this process; `done` is called for each photo."""
    opened = open_interpreters(model, kernels=kernels, runtime=runtime, many=cores.usable())
    return score_on(opened, photos, done=done)


def open_interpreters(
    model: bytes | Path,
    *,
    kernels: AnyKernels,
    runtime: Runtime,
    threads: int = 1,
    many: int,
) -> list[Interpreter]:
    """So `many` of the same, as `open_interpreter` makes them."""
    data = model if isinstance(model, bytes) else model.read_bytes()
    return [
        open_interpreter(data, kernels=kernels, runtime=runtime, threads=threads)
        for _ in range(many)
    ]


def score_on(
    interpreters: Sequence[Interpreter], photos: NDArray[np.uint8], *, done: Callable[[], None]
) -> NDArray[Any]:
    """`scores` of photos, each on one of these interpreters of one model, side by side."""
    free: SimpleQueue[Interpreter] = SimpleQueue()
    for interpreter in interpreters:
        free.put(interpreter)

    def one(photo: NDArray[np.uint8]) -> NDArray[Any]:
        interpreter = free.get()
        try:
            return scores(interpreter, photo[None])[0]
        finally:
            free.put(interpreter)
            done()

    with ThreadPoolExecutor(len(interpreters)) as pool:
        return np.stack(list(pool.map(one, photos)))


def _score_apart(model: bytes, photos: NDArray[np.uint8], done: Callable[[], None]) -> NDArray[Any]:
    """Scores on the oldest runtime, in a child (`scorer`)."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "model.tflite"
        file.write_bytes(model)
        job = scorer.Job(model=file, kernels="xnnpack", threads=1, photos=len(photos))
        (found,) = scorer.score_apart(OLDEST, [job], photos, done)
    if found.scores is None:
        raise DataError(f"model: {OLDEST} cannot run it ({found.problem})")
    return found.scores
