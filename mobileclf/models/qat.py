"""Quantization-aware graphs: the only file that knows tensorflow-model-optimization.

Its `quantize_model` is not used: it (0.8.1) puts the inputs of some concatenations in another
order, leaves activation ranges at +-6 and kernel ranges unset, gives a depthwise kernel one range
in all, and takes fewer kinds of layers than TFLite has int8 kernels for. Its wrappers are put
around the layers right here, with a fake quantizer wherever TFLite rounds;
`prove_same_function` holds the graph to the float model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import ProofError

from .equality import largest_difference
from .graph import EDGE, INPUT, Graph, Node, layer_of
from .grid import (
    FIXED,
    KERNELS,
    SAME_RANGE,
    relu_of,
    shared_ranges,
    unrounded,
)

PREFIX = "quant_"
OTHERS = ("Add", "Subtract", "Multiply", "GlobalAveragePooling2D", "ReLU", "Activation", EDGE)
WEIGHTS = ("kernel", "mask")  # the places where a quantizer holds no activation
ACTIVATIONS = ("relu", "swish", *FIXED)


def unsupported(graph: Graph) -> list[tuple[str, str]]:
    """Layers of a folded graph that no quantization-aware graph is made for: name and why.

    None of them keeps TFLite's converter from quantizing the model after training.
    """
    found = []
    for node in graph.nodes:
        why = _unsupported(node)
        if why:
            found.append((node.name, why))
    return found


def _unsupported(node: Node) -> str | None:
    config = node.config
    if node.kind == "Activation" and config["activation"] not in ACTIVATIONS:
        return f"TFLite rounds inside {config['activation']}"
    if node.kind == "ReLU" and (config["negative_slope"] or config["threshold"]):
        return "a ReLU with a slope or threshold is not one with the layer before it"
    if node.kind == "ReLU" and config["max_value"] not in (None, 6):
        return f"a ReLU that ends at {config['max_value']:g} has no int8 kernel"
    if node.kind == "UpSampling2D" and config["interpolation"] != "nearest":
        return f"{config['interpolation']} interpolation rounds unlike its float form"
    if node.kind == "Conv2D" and config["groups"] > 1:
        return "a convolution in groups is split by the converter"
    if node.kind == "DepthwiseConv2D" and config["depth_multiplier"] != 1:
        return f"{config['depth_multiplier']} kernels for each channel want a range each"
    known = (INPUT, *KERNELS, *SAME_RANGE, *OTHERS)
    return None if node.kind in known else f"a {node.kind} has no fake quantizer"


def quantized(graph: Graph, in_float: Collection[str] = ()) -> Any:
    """The quantization-aware tf_keras model of a folded graph, the same weights in it.

    Fake quantizers are in place, their ranges not yet set. Only for a graph of which nothing is
    `unsupported`. in_float: layers whose kernels are not rounded, nor what passes between them
    alone (see `grid.float_units`).
    """
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras import (
        quantize_layer,
        quantize_wrapper,
        quantizers,
    )

    tensors: dict[str, Any] = {}
    left_out = unrounded(graph, in_float) if in_float else set()
    shared = shared_ranges(graph)
    for node in graph.nodes:
        if node.kind == INPUT:
            pixels = tf_keras.Input(tuple(node.config["shape"]), name=node.name)
            bytes_ = quantizers.AllValuesQuantizer(
                num_bits=8, per_axis=False, symmetric=False, narrow_range=False
            )
            tensors[node.name] = quantize_layer.QuantizeLayer(bytes_, name=f"{PREFIX}{node.name}")(
                pixels, training=False
            )
            continue
        made = _tfmot()["EdgeCorrection"] if node.kind == EDGE else None
        layer = made(name=node.name) if made else layer_of(tf_keras, node)
        sources = [tensors[name] for name in node.inputs]
        if node.weights:
            layer.build(sources[0].shape)
            kernel, *bias = node.weights
            layer.set_weights([kernel, *map(not_uniform, bias)])
        if node.name in in_float:
            rounded = shared[node.name] not in left_out and not relu_of(graph, node)
            places = _tfmot()["Places"](None, activation=False, output=rounded)
        else:
            places = _places(graph, node)
        wrapped = quantize_wrapper.QuantizeWrapperV2(layer, places)
        tensors[node.name] = wrapped(sources if len(sources) > 1 else sources[0], training=False)
    return tf_keras.Model(pixels, tensors[graph.nodes[-1].name], name="classifier")


def not_uniform(bias: NDArray[np.float32]) -> NDArray[np.float32]:
    """A bias that is one number for all channels moved by one float in the last.

    The converter keeps such a bias as one number and divides it by the first channel's scale
    alone, for all: with a scale for each channel, all others are then wrong.
    """
    if len(set(bias.tolist())) != 1:
        return bias
    moved = bias.copy()
    moved[-1] = np.nextafter(bias[-1], np.float32(np.inf)) if bias[-1] else 0.0
    return moved


def _places(graph: Graph, node: Node) -> Any:
    """Where the fake quantizers of a layer stand: at its kernel, its activation, its output."""
    config = _tfmot()["Places"]
    kernel = "mask" if node.kind == EDGE else KERNELS.get(node.kind)
    if relu_of(graph, node):
        return config(kernel, activation=False, output=False)
    if node.kind in KERNELS:
        return config(kernel, activation=True, output=False)
    # Also where nothing is rounded anew, as after a maximum: the converter leaves what follows in
    # float where it has to find the range of such an output by itself. The grid of the answers
    # themselves is its own.
    answers = node.config.get("activation") == "softmax" and node is graph.nodes[-1]
    return config(kernel, activation=False, output=not answers)


def _tfmot() -> dict[str, Any]:
    # Built on demand: the base classes come from a package that takes seconds to import.
    if not _CLASSES:
        import tensorflow as tf
        import tf_keras
        from tensorflow_model_optimization.python.core.quantization.keras import quantizers
        from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
            default_8bit_quantize_registry as registry,
        )
        from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
            default_8bit_quantizers,
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

        class EdgeCorrection(tf_keras.layers.Layer):  # type: ignore[misc]
            """The input times a mask by position, which is a weight, so that it has a range."""

            def build(self, shape: Any) -> None:
                self.mask = self.add_weight("mask", (*shape[1:3], 1), trainable=False)
                super().build(shape)

            def call(self, inputs: Any) -> Any:
                return inputs * self.mask

        class Places(registry.Default8BitQuantizeConfig):  # type: ignore[misc]
            """kernel: name of the layer's kernel, in one range a channel; a dense one in one."""

            def __init__(self, kernel: str | None, *, activation: bool, output: bool) -> None:
                super().__init__([kernel] * bool(kernel), ["activation"] * activation, output)
                if kernel == "depthwise_kernel":
                    self.weight_quantizer = DepthwiseQuantizer()
                elif kernel == "mask":
                    self.weight_quantizer = quantizers.LastValueQuantizer(
                        num_bits=8, per_axis=False, symmetric=False, narrow_range=False
                    )

            def get_weights_and_quantizers(self, layer: Any) -> Any:
                if type(layer).__name__ == "Conv2D":
                    self.weight_quantizer = (
                        default_8bit_quantizers.Default8BitConvWeightsQuantizer()
                    )
                return super().get_weights_and_quantizers(layer)

        _CLASSES.update(
            Places=Places, DepthwiseQuantizer=DepthwiseQuantizer, EdgeCorrection=EdgeCorrection
        )
    return _CLASSES


_CLASSES: dict[str, Any] = {}


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """One fake quantizer of the graph: where it sits and the variables of its range.

    layer: name in the float model. place: `kernel`, `mask`, `before` or `after` the layer's
    activation, or `output`. kernel: the variable where place is `kernel` or `mask`.
    """

    layer: str
    place: str
    low: Any
    high: Any
    kernel: Any = None

    @property
    def key(self) -> str:
        return f"{self.layer}/{self.place}"


def quantizers_of(aware: Any) -> list[Quantizer]:
    """All fake quantizers of a quantization-aware model, in the order of its layers."""
    found: list[Quantizer] = []

    def add(layer: str, place: str, variables: Any, kernel: Any = None) -> None:
        found.append(Quantizer(layer=layer, place=place, low=variables["min_var"],
                               high=variables["max_var"], kernel=kernel))  # fmt: skip

    for layer in aware.layers:
        if type(layer).__name__ == "QuantizeLayer":
            add(layer.input.node.layer.name, "output", layer.quantizer_vars)
            continue
        name = layer.name.removeprefix(PREFIX)
        for kernel, _, variables in getattr(layer, "_weight_vars", ()):
            add(
                name,
                "mask" if kernel.name.split("/")[-1].startswith("mask") else "kernel",
                variables,
                kernel,
            )
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

    seen(variables, tensor) is told of each. Works for models called eagerly, as `forward` does.
    """

    def through(rounded: Callable[[], Any], tensor: Any, variables: Any) -> Any:
        if seen is not None:
            seen(variables, tensor)
        return tensor

    with _quantizers_as(through):
        yield


@contextmanager
def quantizers_switched(on: Mapping[int, Any]) -> Iterator[None]:
    """Models that are compiled while this is open have fake quantizers that can be switched.

    on: by the id of the variable of a range's low end, a boolean variable: whether it rounds.
    """
    import tensorflow as tf

    def switched(rounded: Callable[[], Any], tensor: Any, variables: Any) -> Any:
        return tf.cond(on[id(variables["min_var"])], rounded, lambda: tf.identity(tensor))

    with _quantizers_as(switched):
        yield


@contextmanager
def _quantizers_as(call: Callable[[Callable[[], Any], Any, Any], Any]) -> Iterator[None]:
    """While this is open, call(rounded, tensor, variables) is what a fake quantizer gives, where
    rounded() is what it would have given."""
    from tensorflow_model_optimization.python.core.quantization.keras import quantizers

    classes = [
        quantizers.LastValueQuantizer,
        quantizers.MovingAverageQuantizer,
        quantizers.AllValuesQuantizer,
        _tfmot()["DepthwiseQuantizer"],
    ]
    kept = [cls.__dict__["__call__"] for cls in classes]

    def instead(own: Any) -> Any:
        def __call__(self: Any, tensor: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
            return call(lambda: own(self, tensor, training, weights, **kwargs), tensor, weights)

        return __call__

    try:
        for cls, own in zip(classes, kept, strict=True):
            cls.__call__ = instead(own)
        yield
    finally:
        for cls, own in zip(classes, kept, strict=True):
            cls.__call__ = own


def forward(model: Any, photos: NDArray[np.uint8], batch: int = 16) -> NDArray[np.float32]:
    """Outputs of a tf_keras model, eagerly and in batches. photos: uint8 (n, h, w, 3)."""
    pieces = [
        model(photos[i : i + batch].astype(np.float32), training=False).numpy()
        for i in range(0, len(photos), batch)
    ]
    return np.concatenate(pieces)


def prove_same_function(model: Any, aware: Any, photos: NDArray[np.uint8], bound: float) -> float:
    """Largest difference of the graph without fake quantizers from the float model.

    Raises ProofError naming the first layer whose output differs by more than `bound` relative
    to that layer's largest value.
    """
    with quantizers_out_of_the_way():
        difference = largest_difference(forward(model, photos), forward(aware, photos))
        if difference <= bound:
            return difference
        first = _first_difference(model, aware, photos[:4], bound)
    raise ProofError(
        f"quantize: the quantization graph is another function: {difference:.3g} off the float "
        f"model (wanted {bound:g}); the first layer that differs is {first}"
    )


def _first_difference(model: Any, aware: Any, photos: NDArray[np.uint8], bound: float) -> str:
    import tf_keras

    present = {layer.name for layer in aware.layers}
    names = [layer.name for layer in model.layers if PREFIX + layer.name in present]
    ours = tf_keras.Model(model.input, [model.get_layer(n).output for n in names])
    theirs = tf_keras.Model(aware.input, [aware.get_layer(PREFIX + n).output for n in names])
    x = photos.astype(np.float32)
    for name, a, b in zip(names, ours(x), theirs(x), strict=True):
        if largest_difference(a, b) > bound * max(1.0, float(np.max(np.abs(a)))):
            return name
    return names[-1]


def copy_numbers(source: Any, target: Any) -> None:
    """Give `target`, made of the same graph with layers in float, the numbers of `source`.

    Ranges go by layer and place, and after an activation is the same place as at the output. The
    answers of a softmax in float have TFLite's grid of them. Layers that `target` has in float
    keep their numbers.
    """

    def place(quantizer: Quantizer) -> tuple[str, str]:
        return quantizer.layer, "output" if quantizer.place == "after" else quantizer.place

    given = {place(quantizer): quantizer for quantizer in quantizers_of(source)}
    for quantizer in quantizers_of(target):
        one = given.get(place(quantizer))
        low, high = (one.low, one.high) if one is not None else FIXED["softmax"]
        quantizer.low.assign(low)
        quantizer.high.assign(high)
        if one is None or one.kernel is None:
            continue
        quantizer.kernel.assign(one.kernel)
        if quantizer.place == "kernel":
            layers = (model.get_layer(PREFIX + one.layer).layer for model in (source, target))
            biases = [layer.bias for layer in layers]
            biases[1].assign(biases[0])


def weights_of(aware: Any) -> dict[str, NDArray[Any]]:
    """All numbers of a model by their place in it, for `numpy.savez`."""
    return {f"{i:05d}": value for i, value in enumerate(aware.get_weights())}


def set_weights(aware: Any, weights: dict[str, NDArray[Any]]) -> None:
    """Give a model the numbers that `weights_of` took from one like it."""
    aware.set_weights([weights[place] for place in sorted(weights)])
