"""Fine-tuning of a quantization-aware model, taught by the float model that it came from."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf import checkpoint
from mobileclf.stats.calibration import mean_kl

from .qat import PREFIX, quantizers_of

PATIENCE = 2  # epochs in a row that are no better than the best
# Adam's (Kingma and Ba 2015); the last far below theirs, since gradients of a small KL are small.
DECAY, SQUARE_DECAY, NOTHING = 0.9, 0.999, 1e-12
SMALLEST = 1e-7  # of a probability, for its logarithm


@dataclass(kw_only=True)
class Course:
    """How a fine-tuning went.

    kl: mean KL to the float model on the held-out photos, in nats, at the start and after each
    epoch, the last of which may have been cut short. loss: mean over the steps of each epoch.
    stopped: what ended it, `epochs`, `patience`, `budget` or `not finite`, answers that were no
    numbers; empty while it goes on.
    """

    kl: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    steps: int = 0
    stopped: str = ""

    @property
    def best(self) -> int:
        """The first epoch of the lowest KL; 0 where none was better than the start."""
        return self.kl.index(min(self.kl))

    def why_stop(self, epochs: int) -> str:
        """What ends it now, after a whole epoch; empty where nothing does."""
        done = len(self.kl) - 1
        if done >= epochs:
            return "epochs"
        return "patience" if done - self.best >= PATIENCE else ""


def distil(
    aware: Any,
    teacher: Any,
    photos: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    *,
    epochs: int,
    rate: float,
    batch: int,
    seed: int,
    budget: float = math.inf,
    state: Path | None = None,
    step_done: Callable[[], None] = lambda: None,
    epoch_done: Callable[[Course], None] = lambda course: None,
) -> Course:
    """Fine-tune a quantization-aware model's kernels and biases towards the float model's answers.

    Minimises KL(teacher || aware) on photos and their mirror images (Hinton et al. 2015, without
    hard labels). All ranges stay as they are, kernels' too: rounding that was chosen with care is
    undone only where the answers gain by it for many steps. Adam moves a number by about `rate`
    quantization steps, a kernel's by those of its channel, a bias by those of the activation that
    it ends in. It ends after `epochs`, PATIENCE epochs without a lower KL on `held_out`, or
    `budget` seconds, also within an epoch, and leaves `aware` with the numbers of the lowest KL,
    those that it came with included.

    photos, held_out: uint8 (n, h, w, c). state: a file that is written after each epoch. What an
    earlier call with the same models, photos, rate, batch and seed left there is gone on from, to
    the same numbers as undisturbed. The same arguments give the same numbers, unless it is the
    budget that ends it: how many steps it holds depends on the machine.
    """
    import tensorflow as tf

    began = time.monotonic()
    key = _key(aware, teacher, photos, held_out, (rate, batch, seed))
    trained = aware.trainable_variables
    with _pixels_taken_before_pointwise(aware):
        step, moments = _adam(aware, teacher, rate)
        wanted, answer = answers(compiled(teacher), held_out, batch), compiled(aware)

        def timed_kl() -> tuple[float, float]:
            before = time.monotonic()
            return mean_kl(wanted, answers(answer, held_out, batch)), time.monotonic() - before

        course, best, spent = _read(state, key, trained, moments)
        first, evaluation = timed_kl()  # also when going on: how long it will take at the end
        if not course.kl:
            course.kl.append(first)

        def over() -> bool:
            return spent + time.monotonic() - began + evaluation >= budget

        while not course.stopped:
            course.stopped = course.why_stop(epochs)
            order = np.random.default_rng((seed, len(course.kl))).permutation(2 * len(photos))
            losses = []
            for i in range(0, 0 if course.stopped else len(order), batch):
                if over():
                    course.stopped = "budget"
                    break
                course.steps += 1
                pixels = _mirrored(photos, order[i : i + batch])
                losses.append(float(step(tf.constant(pixels), tf.constant(float(course.steps)))))
                step_done()
            if losses:
                now, evaluation = timed_kl()
                if not math.isfinite(now):
                    course.stopped = "not finite"
                    break
                course.kl.append(now)
                course.loss.append(float(np.mean(losses)))
                if course.best == len(course.kl) - 1:
                    best = [variable.numpy() for variable in trained]
                if state is not None and not course.stopped:
                    about = {"course": asdict(course), "spent": spent + time.monotonic() - began}
                    numbers = [*(v.numpy() for v in (*trained, *moments)), *best]
                    checkpoint.write(state, key, about, numbers)
                epoch_done(course)
    for variable, value in zip(trained, best, strict=True):
        variable.assign(value)
    return course


def _adam(aware: Any, teacher: Any, rate: float) -> tuple[Callable[[Any, Any], Any], list[Any]]:
    """One step on pixels uint8 (n, h, w, c) and its number, from 1; and the moments that it keeps,
    of all trained variables the means, then the squares."""
    import tensorflow as tf

    trained = aware.trainable_variables
    moments = [tf.Variable(tf.zeros_like(variable)) for variable in [*trained, *trained]]
    sizes = _quantization_steps(aware)

    def log(p: Any) -> Any:
        return tf.math.log(tf.maximum(p, SMALLEST))

    def step(pixels: Any, number: Any) -> Any:
        x = tf.cast(pixels, tf.float32)
        wanted = teacher(x, training=False)
        with tf.GradientTape() as tape:
            got = aware(x, training=False)
            loss = tf.reduce_mean(tf.reduce_sum(wanted * (log(wanted) - log(got)), axis=1))
        gradients = tape.gradient(loss, trained, unconnected_gradients="zero")
        means, squares = moments[: len(trained)], moments[len(trained) :]
        for variable, gradient, size, mean, square in zip(
            trained, gradients, sizes, means, squares, strict=True
        ):
            mean.assign(DECAY * mean + (1 - DECAY) * gradient)
            square.assign(SQUARE_DECAY * square + (1 - SQUARE_DECAY) * gradient**2)
            speed = mean / (1 - DECAY**number)
            spread = tf.sqrt(square / (1 - SQUARE_DECAY**number))
            variable.assign_sub(rate * size * speed / (spread + NOTHING))
        return loss

    shapes = [
        tf.TensorSpec((None, *aware.input_shape[1:]), tf.uint8),
        tf.TensorSpec((), tf.float32),
    ]
    return tf.function(step, input_signature=shapes).get_concrete_function(), moments


def _quantization_steps(aware: Any) -> list[NDArray[np.float32]]:
    """How far apart two quanta are, for each trained variable in a shape that goes with its own:
    of a kernel its channels', of a bias those of the first activation after it that is rounded."""
    kernels: dict[Any, Any] = {}
    activations: dict[str, Any] = {}
    for one in quantizers_of(aware):
        width = np.asarray(one.high) - np.asarray(one.low)
        if one.place == "kernel":
            shape = (-1, 1) if width.ndim and "depthwise" in one.kernel.name else (-1,)
            kernels[one.kernel.ref()] = (width / 254).reshape(shape)
        elif one.kernel is None:
            activations.setdefault(one.layer, width / 255)
    owners = {v.ref(): layer for layer in aware.layers for v in layer.trainable_variables}

    def after(layer: Any) -> Any:
        found = activations.get(layer.name.removeprefix(PREFIX))
        if found is not None:
            return found
        following = layer.outbound_nodes
        return after(following[0].outbound_layer) if following else np.float32(1 / 256)

    return [
        np.asarray(kernels[v.ref()] if v.ref() in kernels else after(owners[v.ref()]), np.float32)
        for v in aware.trainable_variables
    ]


def compiled(model: Any) -> Callable[[Any], Any]:
    """A tf_keras model as a function of pixels uint8 (n, h, w, c), several times as fast, where
    fake quantizers are in it, as it is eagerly."""
    import tensorflow as tf

    function = tf.function(
        lambda pixels: model(tf.cast(pixels, tf.float32), training=False),
        input_signature=[tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8)],
    )
    # Traced here and now, so that how long a call takes is known from the first on.
    return function.get_concrete_function()  # type: ignore[no-any-return]


def answers(
    model: Callable[[Any], Any], photos: NDArray[np.uint8], batch: int = 16
) -> NDArray[np.float64]:
    """Of a `compiled` model: (n, labels) of photos uint8 (n, h, w, c)."""
    import tensorflow as tf

    starts = range(0, len(photos), batch)
    pieces = [model(tf.constant(photos[i : i + batch])).numpy() for i in starts]
    return np.concatenate(pieces).astype(np.float64)


def _mirrored(photos: NDArray[np.uint8], chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The chosen of n photos and, from n on, of their mirror images."""
    turned = chosen >= len(photos)
    found = photos[chosen % len(photos)]
    found[turned] = found[turned, :, ::-1]
    return found


def _key(aware: Any, teacher: Any, *photos: Any) -> str:
    """sha256 of all that a fine-tuning is made of, but for when it ends."""
    *pictures, settings = photos
    digest = hashlib.sha256(json.dumps(settings).encode())
    for numbers in (*aware.get_weights(), *teacher.get_weights(), *pictures):
        digest.update(np.ascontiguousarray(numbers).data)
    return digest.hexdigest()


def _read(
    state: Path | None, key: str, trained: Sequence[Any], moments: Sequence[Any]
) -> tuple[Course, list[Any], float]:
    """Course, best numbers and seconds spent; variables are set to what they were."""
    variables = [*trained, *moments]
    arrays = len(variables) + len(trained)
    found = checkpoint.read(state, key, arrays) if state is not None else None
    if found is None:
        return Course(), [variable.numpy() for variable in trained], 0.0
    about, numbers = found
    for variable, value in zip(variables, numbers, strict=False):
        variable.assign(value)
    return Course(**about["course"]), numbers[len(variables) :], about["spent"]


@contextmanager
def _pixels_taken_before_pointwise(aware: Any) -> Iterator[None]:
    """While this is open, a 1x1 convolution with strides takes every s-th pixel, and then has none.

    The numbers are the same. TensorFlow 2.21 on CPUs (oneDNN) writes beyond its memory in the
    gradient of such a convolution with strides: at 60 x 60 x 8 the process ends.
    """
    convolutions = [layer for layer in map(_wrapped, aware.layers) if _is_strided_pointwise(layer)]
    try:
        for convolution in convolutions:
            convolution.convolution_op = _sliced(*convolution.strides)
        yield
    finally:
        for convolution in convolutions:
            del convolution.convolution_op  # the class's own again


def _wrapped(layer: Any) -> Any:
    return getattr(layer, "layer", layer)


def _is_strided_pointwise(layer: Any) -> bool:
    return type(layer).__name__ == "Conv2D" and layer.kernel_size == (1, 1) != layer.strides


def _sliced(down: int, across: int) -> Callable[[Any, Any], Any]:
    import tensorflow as tf

    return lambda inputs, kernel: tf.nn.conv2d(inputs[:, ::down, ::across], kernel, 1, "VALID")
