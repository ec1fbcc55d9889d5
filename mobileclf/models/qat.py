"""Quantization-aware graphs: the only file that knows tensorflow-model-optimization.

`quantize_model` of tfmot 0.8.1 is not used as it comes: it puts the inputs of some
concatenations in another order, leaves activation ranges at +-6 and kernel ranges unset, and
gives a depthwise kernel one range in all. Each is set right here; `prove_same_function` holds
the graph to the float model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import ProofError

from .rewrites import inbound
from .transfer import largest_difference

PREFIX = "quant_"
# TFLite computes these in the scale of their input, so input and output share one range.
SAME_RANGE = (
    "Concatenate", "MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D",
    "ZeroPadding2D", "Flatten", "Reshape", "Dropout",
)  # fmt: skip
Range = tuple[float, float]


def quantized(model: Any) -> Any:
    """The quantization-aware graph of a folded tf_keras model, the same weights in it.

    Fake quantizers are in place, their ranges not yet set. Concatenations have their inputs in
    the order of `model`.
    """
    import tensorflow_model_optimization as tfmot

    keras = tfmot.quantization.keras
    with keras.quantize_scope(_custom_objects()):
        import tf_keras

        annotated = tf_keras.models.clone_model(model, clone_function=_annotate)
        annotated.set_weights(model.get_weights())
        graph = keras.quantize_apply(annotated)
        return _restore_concatenations(graph, model)


def _annotate(layer: Any) -> Any:
    import tensorflow_model_optimization as tfmot

    annotate = tfmot.quantization.keras.quantize_annotate_layer
    kind = type(layer).__name__
    if kind == "InputLayer":
        return layer
    if kind == "DepthwiseConv2D":
        return annotate(layer, quantize_config=_custom_objects()["PerChannelDepthwise"]())
    return annotate(layer)


def _custom_objects() -> dict[str, Any]:
    # Built on demand: the base classes come from a package that takes seconds to import.
    if not _CUSTOM:
        import tensorflow as tf
        from tensorflow_model_optimization.python.core.quantization.keras import quantizers
        from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
            default_8bit_quantize_registry as registry,
        )

        class DepthwiseQuantizer(quantizers.LastValueQuantizer):  # type: ignore[misc]
            """One symmetric range for each channel of a depthwise kernel (h, w, channels, 1)."""

            def __init__(self) -> None:
                super().__init__(num_bits=8, per_axis=True, symmetric=True, narrow_range=True)

            def build(self, shape: Any, name: str, layer: Any) -> Any:
                return self._add_range_weights(layer, name, True, (shape[2],))

            def __call__(self, kernel: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
                swapped = tf.transpose(kernel, (0, 1, 3, 2))
                swapped = super().__call__(swapped, training, weights, **kwargs)
                return tf.transpose(swapped, (0, 1, 3, 2))

            def get_config(self) -> dict[str, Any]:
                return {}

        class PerChannelDepthwise(registry.Default8BitQuantizeConfig):  # type: ignore[misc]
            """The default configuration with a range for each channel."""

            def __init__(self) -> None:
                super().__init__(["depthwise_kernel"], ["activation"], False)
                self.weight_quantizer = DepthwiseQuantizer()

            def get_config(self) -> dict[str, Any]:
                return {}

        _CUSTOM.update(
            PerChannelDepthwise=PerChannelDepthwise, DepthwiseQuantizer=DepthwiseQuantizer
        )
    return _CUSTOM


_CUSTOM: dict[str, Any] = {}


def _restore_concatenations(graph: Any, model: Any) -> Any:
    """`graph` with each concatenation's inputs in the order that `model` has them."""
    config = graph.get_config()
    wanted = {
        PREFIX + layer.name: [PREFIX + name for name in inbound(layer)]
        for layer in model.layers
        if type(layer).__name__ == "Concatenate"
    }
    for layer in config["layers"]:
        layer.pop("build_config", None)  # else a QuantizeLayer is built twice, with two ranges
        if layer["name"] in wanted:
            (node,) = layer["inbound_nodes"]
            by_name = {connection[0]: connection for connection in node}
            layer["inbound_nodes"] = [[by_name[name] for name in wanted[layer["name"]]]]
    restored = type(graph).from_config(config, custom_objects=_custom_objects())
    for layer in restored.layers:
        layer.set_weights(graph.get_layer(layer.name).get_weights())
    return restored


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """One fake quantizer of the graph: where it sits and the variables of its range.

    layer: name in the float model. place: `kernel`, `before` or `after` the layer's activation,
    or `output`. kernel: the kernel's variable where place is `kernel`.
    """

    layer: str
    place: str
    low: Any
    high: Any
    kernel: Any = None

    @property
    def key(self) -> str:
        return f"{self.layer}/{self.place}"


def quantizers_of(graph: Any) -> list[Quantizer]:
    """All fake quantizers of a graph, in the order of its layers."""
    found: list[Quantizer] = []

    def add(layer: str, place: str, variables: Any, kernel: Any = None) -> None:
        found.append(Quantizer(layer=layer, place=place, low=variables["min_var"],
                               high=variables["max_var"], kernel=kernel))  # fmt: skip

    for layer in graph.layers:
        if type(layer).__name__ == "QuantizeLayer":
            add(inbound(layer)[0], "output", layer.quantizer_vars)
            continue
        name = layer.name.removeprefix(PREFIX)
        for kernel, _, variables in getattr(layer, "_weight_vars", ()):
            add(name, "kernel", variables, kernel)
        for activation in getattr(layer, "_quantize_activations", ()):
            for place in ("pre", "post"):
                variables = getattr(activation, f"_{place}_activation_vars", None)
                if variables is not None:
                    add(name, {"pre": "before", "post": "after"}[place], variables)
        if getattr(layer, "_output_quantizers", None):
            add(name, "output", layer._output_quantizer_vars)
    return found


@contextmanager
def quantizers_out_of_the_way(seen: Callable[[Any, Any], None] | None = None) -> Iterator[None]:
    """Every fake quantizer passes its tensor through untouched while this is open.

    seen(variables, tensor) is told of each. Works for graphs called eagerly, as `forward` does.
    """
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers

    classes = [
        quantizers.LastValueQuantizer,
        quantizers.MovingAverageQuantizer,
        quantizers.AllValuesQuantizer,
        _custom_objects()["DepthwiseQuantizer"],
    ]
    kept = [cls.__dict__["__call__"] for cls in classes]

    def through(self: Any, tensor: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
        if seen is not None:
            seen(weights, tensor)
        return tensor

    try:
        for cls in classes:
            cls.__call__ = through
        yield
    finally:
        for cls, call in zip(classes, kept, strict=True):
            cls.__call__ = call


def forward(model: Any, photos: NDArray[np.uint8], batch: int = 16) -> NDArray[np.float32]:
    """Outputs of a tf_keras model, eagerly and in batches. photos: uint8 (n, h, w, 3)."""
    pieces = [
        model(photos[i : i + batch].astype(np.float32), training=False).numpy()
        for i in range(0, len(photos), batch)
    ]
    return np.concatenate(pieces)


def prove_same_function(model: Any, graph: Any, photos: NDArray[np.uint8], bound: float) -> float:
    """Largest difference of the graph without fake quantizers from the float model.

    Raises ProofError naming the first layer whose output differs by more than `bound` relative
    to that layer's largest value.
    """
    with quantizers_out_of_the_way():
        difference = largest_difference(forward(model, photos), forward(graph, photos))
        if difference <= bound:
            return difference
        first = _first_difference(model, graph, photos[:4], bound)
    raise ProofError(
        f"quantize: the quantization graph is another function: {difference:.3g} off the float "
        f"model (wanted {bound:g}); the first layer that differs is {first}"
    )


def _first_difference(model: Any, graph: Any, photos: NDArray[np.uint8], bound: float) -> str:
    import tf_keras

    present = {layer.name for layer in graph.layers}
    names = [layer.name for layer in model.layers if PREFIX + layer.name in present]
    ours = tf_keras.Model(model.input, [model.get_layer(n).output for n in names])
    theirs = tf_keras.Model(graph.input, [graph.get_layer(PREFIX + n).output for n in names])
    x = photos.astype(np.float32)
    for name, a, b in zip(names, ours(x), theirs(x), strict=True):
        if largest_difference(a, b) > bound * max(1.0, float(np.max(np.abs(a)))):
            return name
    return names[-1]


def calibrate(model: Any, graph: Any, photos: NDArray[np.uint8], batch: int = 16) -> None:
    """Set every range: activations from `photos`, kernels from themselves, the input 0..255.

    model: the folded float model that the graph came from. photos: uint8 (n, h, w, 3), n >= 128.
    """
    quantizers = quantizers_of(graph)
    by_variable = {id(q.low): q for q in quantizers}
    ranges: dict[str, Range] = {}

    def widen(name: str, low: float, high: float) -> None:
        # Every range holds 0, which int8 arithmetic needs to represent exactly.
        known = ranges.get(name, (0.0, 0.0))
        ranges[name] = (min(known[0], low), max(known[1], high))

    shared = _shared_ranges(model)

    def range_of(quantizer: Quantizer) -> str:
        """Before its activation a layer has a range of its own, after it may share one."""
        own = quantizer.place == "before"
        return quantizer.key if own else shared[quantizer.layer]

    def seen(variables: Any, tensor: Any) -> None:
        quantizer = by_variable[id(variables["min_var"])]
        if quantizer.place != "kernel":
            values = tensor.numpy()
            widen(range_of(quantizer), float(values.min()), float(values.max()))

    with quantizers_out_of_the_way(seen):
        forward(graph, photos, batch)
    ranges[shared[model.layers[0].name]] = (0.0, 255.0)
    for quantizer in quantizers:
        if quantizer.place != "kernel":
            low, high = ranges[range_of(quantizer)]
            quantizer.low.assign(low)
            quantizer.high.assign(high)
    set_kernel_ranges(quantizers)


def set_kernel_ranges(quantizers: list[Quantizer]) -> None:
    """Set each kernel's ranges to +-max|w|, by channel where it has one range a channel."""
    import tensorflow as tf

    for quantizer in quantizers:
        if quantizer.place != "kernel":
            continue
        size = tf.abs(quantizer.kernel)
        if quantizer.low.shape.rank == 0:
            largest = tf.reduce_max(size)
        else:
            by_depth = "depthwise" in quantizer.kernel.name
            largest = tf.reduce_max(size, axis=(0, 1, 3) if by_depth else (0, 1, 2))
        # A channel of zeros still needs a range that is not empty.
        largest = tf.maximum(largest, 1e-8)
        quantizer.low.assign(-largest)
        quantizer.high.assign(largest)


def _shared_ranges(model: Any) -> dict[str, str]:
    """For each layer, the name that stands for all layers whose outputs share its range."""
    parent = {layer.name: layer.name for layer in model.layers}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for layer in model.layers:
        if type(layer).__name__ in SAME_RANGE:
            for source in inbound(layer):
                parent[root(source)] = root(layer.name)
    return {name: root(name) for name in parent}


def distil(
    graph: Any,
    photos: NDArray[np.uint8],
    teacher: NDArray[np.float32],
    *,
    epochs: int,
    rate: float,
    batch: int,
    seed: int,
    step_done: Callable[[], None] = lambda: None,
) -> list[float]:
    """Fine-tune the graph's kernels and biases towards the float model's own answers.

    Minimises KL(teacher || graph) with Adam (Hinton et al. 2015, without hard labels).
    Activation ranges stay as calibrated; kernel ranges follow the kernels. photos: uint8
    (n, h, w, 3); teacher: float32 (n, labels). Returns the mean loss of each epoch.
    """
    import tensorflow as tf
    import tf_keras

    optimizer = tf_keras.optimizers.Adam(rate)
    quantizers = quantizers_of(graph)
    variables = graph.trainable_variables

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(x: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            got = graph(tf.cast(x, tf.float32), training=False)
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
    for _ in range(epochs):
        losses = []
        chosen = order.permutation(len(photos))
        for i in range(0, len(chosen), batch):
            rows = chosen[i : i + batch]
            losses.append(float(step(tf.constant(photos[rows]), tf.constant(teacher[rows]))))
            step_done()
        means.append(float(np.mean(losses)))
    return means


def weights_of(graph: Any) -> dict[str, NDArray[Any]]:
    """All numbers of a graph by their place in it, for `numpy.savez`."""
    return {f"{i:05d}": value for i, value in enumerate(graph.get_weights())}


def set_weights(graph: Any, weights: dict[str, NDArray[Any]]) -> None:
    """Give a graph the numbers that `weights_of` took from one like it."""
    graph.set_weights([weights[place] for place in sorted(weights)])
