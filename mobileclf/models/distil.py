"""Fine-tuning of a quantization-aware model, taught by the float model that it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .qat import quantizers_of, set_kernel_ranges


def distil(
    aware: Any,
    photos: NDArray[np.uint8],
    teacher: NDArray[np.float32],
    *,
    epochs: int,
    rate: float,
    batch: int,
    seed: int,
    step_done: Callable[[], None] = lambda: None,
) -> list[float]:
    """Fine-tune a quantization-aware model's kernels and biases towards the float model's answers.

    Minimises KL(teacher || aware) with Adam (Hinton et al. 2015, without hard labels).
    Activation ranges stay as calibrated; kernel ranges follow the kernels. photos: uint8
    (n, h, w, 3); teacher: float32 (n, labels). Returns the mean loss of each epoch.
    """
    import tensorflow as tf
    import tf_keras

    optimizer = tf_keras.optimizers.Adam(rate)
    quantizers = quantizers_of(aware)
    variables = aware.trainable_variables

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            got = aware(tf.cast(x, tf.float32), training=False)
            kl = tf.reduce_sum(wanted * (_log(wanted) - _log(got)), axis=1)
            loss = tf.reduce_mean(kl)
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(
            (g, v) for g, v in zip(gradients, variables, strict=True) if g is not None
        )
        set_kernel_ranges(quantizers)
        return loss

    def _log(p: Any) -> Any:
        return tf.math.log(tf.maximum(p, 1e-7))

    order = np.random.default_rng(seed)
    means = []
    with _pixels_taken_before_pointwise(aware):
        for _ in range(epochs):
            losses = []
            chosen = order.permutation(len(photos))
            for i in range(0, len(chosen), batch):
                rows = chosen[i : i + batch]
                losses.append(float(step(tf.constant(photos[rows]), tf.constant(teacher[rows]))))
                step_done()
            means.append(float(np.mean(losses)))
    return means


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
