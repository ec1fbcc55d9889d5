"""The converter's settings, all in this file: from a TensorFlow function to `.tflite` bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import ProofError


def concrete(model: Any) -> Any:
    """The model as a concrete function of one photo, float32 (1, height, width, channels)."""
    import tensorflow as tf

    shape = (1, *model.input_shape[1:])
    signature = [tf.TensorSpec(shape, tf.float32, name="pixels")]
    function = tf.function(lambda pixels: model(pixels, training=False), input_signature=signature)
    return function.get_concrete_function()


def from_quantized_graph(graph: Any, io: str) -> bytes:
    """int8 by the ranges on the graph's own fake quantizers. io: uint8, int8 or float32."""
    import tensorflow as tf

    converter = _converter(graph)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return _converted(converter, io)


def post_training(
    model: Any, io: str, photos: NDArray[np.uint8], *, int16x8: bool = False
) -> bytes:
    """The converter's own post-training quantization, ranges from photos uint8 (n, h, w, c).

    int16x8: activations in 16 bits. The input range is 0..255 whatever the photos hold.
    """
    import tensorflow as tf

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _representative(photos)
    ops = tf.lite.OpsSet
    converter.target_spec.supported_ops = [
        ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        if int16x8
        else ops.TFLITE_BUILTINS_INT8
    ]
    return _converted(converter, "float32" if int16x8 else io)


def floating(model: Any, kind: str) -> bytes:
    """kind: `float32`; `fp16` stores weights in half; `dynamic` stores weights as int8."""
    import tensorflow as tf

    converter = _converter(model)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    return _converted(converter, "float32")


def _converter(model: Any) -> Any:
    # A bare module as trackable: the weights are constants of the function already, and handing
    # over the model makes the converter save and freeze it once more.
    import tensorflow as tf

    function = concrete(model)
    return tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())


def _converted(converter: Any, io: str) -> bytes:
    """Raises ProofError for a model that the converter has no such form of."""
    import tensorflow as tf

    types = {"uint8": tf.uint8, "int8": tf.int8, "float32": tf.float32}
    converter.inference_input_type = types[io]
    converter.inference_output_type = types[io]
    try:
        return bytes(converter.convert())
    except Exception as error:  # it raises its own kinds, and bare ones, for what it cannot do
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ProofError(
            f"convert: TensorFlow's converter refuses the model: {lines[0][:200]}"
        ) from error


def _representative(photos: NDArray[np.uint8]) -> Callable[[], Iterator[list[NDArray[Any]]]]:
    def batches() -> Iterator[list[NDArray[Any]]]:
        for i, photo in enumerate(photos.astype(np.float32)):
            if i == 0:
                # One black and one white corner: bytes go from 0 to 255 in any photo to come.
                photo[0, 0], photo[-1, -1] = 0, 255
            yield [photo[None]]

    return batches
