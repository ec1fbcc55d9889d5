"""The flat graph while it grows, node by node, and the values between the nodes.

A value is a node's output, with a scale and an offset for each channel not yet written down. So
`x / 127.5 - 1`, a Normalization and a swap of the channels are followed as numbers, whatever they
were made of, and end as one Rescaling before the first layer that reads them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError
from mobileclf.models.graph import INPUT, Float, Graph, Node

Shape = tuple[int | None, ...]
REVERSED = (2, 1, 0)


@dataclass(eq=False, kw_only=True)
class Value:
    """Channel c is scale[c] * (channel index[c] of node) + offset[c].

    name: of the layer that gave it. shape: without the batch; None where the input's size is
    still open. squeezed: one channel, its axis taken away. written: the node that gives just this
    value, once there is one.
    """

    name: str
    node: str
    shape: Shape
    index: NDArray[np.intp]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    squeezed: bool = False
    written: str | None = None

    @property
    def channels(self) -> int:
        return len(self.index)

    def affine(self, name: str, scale: Any, offset: Any) -> Value:
        """scale * self + offset, of one number or one for each channel."""
        return replace(
            self,
            name=name,
            scale=self.scale * scale,
            offset=self.offset * scale + offset,
            written=None,
        )

    def take(self, name: str, which: slice | int) -> Value:
        """Some channels of it; an int takes the axis away."""
        one = isinstance(which, int)
        row = np.atleast_1d(np.arange(self.channels)[which])
        return replace(
            self,
            name=name,
            shape=self.shape[:-1] if one else (*self.shape[:-1], len(row)),
            index=self.index[row],
            scale=self.scale[row],
            offset=self.offset[row],
            squeezed=one,
            written=None,
        )


def joined(name: str, values: Sequence[Value]) -> Value:
    """The channels of values of one node, one after the other."""
    first = values[0]
    index = np.concatenate([value.index for value in values])
    spatial = first.shape if first.squeezed else first.shape[:-1]
    return Value(
        name=name,
        node=first.node,
        shape=(*spatial, len(index)),
        index=index,
        scale=np.concatenate([value.scale for value in values]),
        offset=np.concatenate([value.offset for value in values]),
    )


class Sketch:
    """The nodes so far. Layers are added in the order in which they are computed.

    name, shape: of the input; its height and width may be None. size: the height and width that
    the person asks for, or None. Raises DataError for a shape that is no picture.
    """

    def __init__(self, name: str, shape: Sequence[int | None], size: tuple[int, int] | None):
        if len(shape) != 3 or shape[-1] not in (1, 3):
            raise DataError(
                f"input {name!r}: wanted (height, width, channels) with 1 or 3 channels, channels "
                f"last, found {tuple(shape)}; put a Reshape of it behind an input of such a shape "
                "and save again"
            )
        self.names: set[str] = set()
        self.input = self.unique(name)
        self.size = size
        self.nodes: list[Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dropped: list[str] = []
        self.start = self._value(self.input, self.input, tuple(shape))

    def unique(self, name: str) -> str:
        """The name where it is free, else with a number behind; as TensorFlow's scopes take it."""
        clean = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_.-") or "layer"
        found, number = clean, 2
        while found in self.names:
            found, number = f"{clean}_{number}", number + 1
        self.names.add(found)
        return found

    def add(
        self,
        kind: str,
        name: str,
        config: Mapping[str, Any],
        inputs: Sequence[Value],
        weights: Sequence[Float] = (),
    ) -> Value:
        """One more node that reads these values. Raises DataError where it cannot take them."""
        sources = tuple(self.write(value) for value in inputs)
        shapes = [self.shapes[source] for source in sources]
        wanted = len(weights[0]) if kind == "Dense" else None
        if wanted is not None and wanted != shapes[0][-1]:
            raise DataError(
                f"layer {name!r} (Dense): its weights are for {wanted} features, found "
                f"{shapes[0][-1]} at this size of the picture; give --image-size as the model "
                "was trained"
            )
        shape = _shape(kind, name, config, shapes)
        node = Node(
            name=self.unique(name),
            kind=kind,
            config=dict(config),
            inputs=sources,
            weights=tuple(weights),
        )
        self.nodes.append(node)
        self.shapes[node.name] = shape
        return self._value(name, node.name, shape)

    def write(self, value: Value) -> str:
        """The name of a node that gives this value; what it takes is added."""
        if value.written is None:
            if value.node == self.input:
                self._fix(value)
            value.written = self._written(value)
        return value.written

    def resize(self, value: Value, name: str, size: tuple[int, int]) -> Value:
        """The input at another size: what the photo is brought to before the graph.

        Raises DataError where layers stand between the input and this, and where the input has
        a size of its own: that resize would be another one than the photo's.
        """
        if value.node != self.input or self.shapes or len(value.shape) != 3:
            raise DataError(
                f"layer {name!r}: wanted pictures resized or cropped before all other layers, "
                "found layers before it; take it out and save again"
            )
        own = value.shape[:2]
        if None not in own and own != size:
            raise DataError(
                f"layer {name!r}: it brings pictures of {own[0]} x {own[1]} to {size[0]} x "
                f"{size[1]} in its own way, and photos come at one size; save the model again "
                f"without it, or with an input of {size[0]} x {size[1]} or of open size"
            )
        return replace(value, name=name, shape=(*size, value.shape[-1]), written=None)

    def graph(self, output: Value) -> Graph:
        """What leads to the output."""
        name = self.write(output)
        if name == self.input:
            raise DataError("model: wanted layers between input and output, found none")
        needed = {name}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed |= set(node.inputs)
        kept = [node for node in self.nodes if node.name in needed]
        first = Node(name=self.input, kind=INPUT, config={"shape": list(self.shapes[self.input])})
        last = next(node for node in kept if node.name == name)
        return Graph(nodes=(first, *(node for node in kept if node is not last), last))

    def _value(self, name: str, node: str, shape: Shape) -> Value:
        channels = int(shape[-1] or 0)
        return Value(
            name=name,
            node=node,
            shape=shape,
            index=np.arange(channels),
            scale=np.ones(channels),
            offset=np.zeros(channels),
        )

    def _fix(self, value: Value) -> None:
        """From the first layer that reads the input on, its size stands."""
        height, width = value.shape[:2]
        if None in (height, width):
            if self.size is None:
                raise DataError(
                    f"input {self.input!r}: its height and width are open; give --image-size with "
                    "the size that the model was trained at"
                )
            height, width = (
                own or asked for own, asked in zip((height, width), self.size, strict=True)
            )
        if self.size is not None and (height, width) != self.size:
            raise DataError(
                f"input {self.input!r}: wanted {self.size[0]} x {self.size[1]} pixels of "
                f"--image-size, found {height} x {width} in the model; leave --image-size out"
            )
        shape = (int(height or 0), int(width or 0), self.start.channels)
        if self.shapes.setdefault(self.input, shape) != shape:
            raise DataError(
                f"layer {value.name!r}: the picture goes into the model at {shape[0]} x "
                f"{shape[1]} and at {self.shapes[self.input][0]} x {self.shapes[self.input][1]} "
                "pixels; wanted one size"
            )

    def _written(self, value: Value) -> str:
        if value.squeezed:
            raise DataError(
                f"layer {value.name!r}: takes one channel without its axis; wanted all channels, "
                "or channels put together again with a stack; use x[..., :1] and save again"
            )
        source, channels = value.node, self.shapes[value.node][-1]
        if not np.array_equal(value.index, np.arange(channels)):
            if len(self.shapes[source]) != 3:
                raise DataError(
                    f"layer {value.name!r}: picks among features, which is not known here; take it "
                    "out and save again"
                )
            kernel = picking(value.index, channels)
            swap = channels == 3 and tuple(value.index) == REVERSED
            name = "bgr" if swap else f"{value.name}_channels"
            plain = self._value(name, source, self.shapes[source])
            plain.written = source
            source = self.add("Conv2D", name, pointwise(value.channels), [plain], [kernel]).node
        if np.all(value.scale == 1) and not value.offset.any():
            return source
        plain = self._value(value.name, source, self.shapes[source])
        plain.written = source
        config = {"scale": plainly(value.scale), "offset": plainly(value.offset)}
        return self.add("Rescaling", value.name, config, [plain]).node


def pointwise(filters: int) -> dict[str, Any]:
    """The settings of a 1x1 convolution without bias and activation."""
    return {
        "filters": filters,
        "kernel_size": [1, 1],
        "strides": [1, 1],
        "padding": "valid",
        "dilation_rate": [1, 1],
        "groups": 1,
        "use_bias": False,
        "activation": "linear",
    }


def picking(index: Sequence[int] | NDArray[np.intp], channels: int) -> Float:
    """The kernel of the 1x1 convolution whose channel c is channel index[c] of its input."""
    kernel = np.zeros((1, 1, channels, len(index)), np.float32)
    kernel[0, 0, index, np.arange(len(index))] = 1
    return kernel


def shapes_of(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The shape of each node's output, without the batch."""
    shapes = {graph.nodes[0].name: tuple(graph.shape)}
    for node in graph.nodes[1:]:
        inputs = [shapes[name] for name in node.inputs]
        shapes[node.name] = _shape(node.kind, node.name, node.config, inputs)
    return shapes


def plainly(numbers: NDArray[np.float64]) -> float | list[float]:
    """One number where all are the same, else one for each channel. Raises DataError on nan."""
    if not np.all(np.isfinite(numbers)):
        raise DataError("model: the scaling of its pixels holds numbers that are not finite")
    return float(numbers[0]) if np.all(numbers == numbers[0]) else [float(n) for n in numbers]


def _shape(
    kind: str, name: str, config: Mapping[str, Any], inputs: Sequence[tuple[int, ...]]
) -> tuple[int, ...]:
    """Without the batch, as Keras has it."""
    import keras

    batched = [(None, *shape) for shape in inputs]
    try:
        layer = getattr(keras.layers, kind)(**config)
        shape = layer.compute_output_shape(batched if len(batched) > 1 else batched[0])
    except ValueError as error:
        found = " and ".join(str(tuple(shape)) for shape in inputs)
        raise DataError(
            f"layer {name!r} ({kind}): cannot take a picture of {found} "
            f"({str(error).splitlines()[0][:160]}); give a larger --image-size"
        ) from error
    made = tuple(int(n) for n in shape[1:])
    if math.prod(made) <= 0:
        raise DataError(
            f"layer {name!r} ({kind}): nothing is left of a picture of {inputs[0]}; give a larger "
            "--image-size"
        )
    return made
