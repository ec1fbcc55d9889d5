"""A loaded model of either Keras as one flat graph of plain numbers: what the phone computes.

Models inside models are taken apart, what only training needs is left out, and a model, layer or
operator that is not known is named.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from mobileclf.errors import DataError
from mobileclf.models.graph import Graph

from . import layers, operators
from .sketch import Sketch, Value


@dataclass(frozen=True, kw_only=True)
class Flat:
    """dropped: the layers that are not in the graph, as "random_flip (RandomFlip)"."""

    graph: Graph
    dropped: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Call:
    """One call of a functional model: what its tensors are, by their identity, so far."""

    model: Any
    values: dict[int, list[Value]] = field(default_factory=dict)
    calls: dict[int, _Call] = field(default_factory=dict)


def flatten(model: Any, *, size: tuple[int, int] | None = None) -> Flat:
    """The graph of a model of `keras` 3 or `tf_keras`, one picture in, one answer out.

    size: height, width for a model whose input leaves them open. Weights are float32 copies.
    Raises DataError naming the layer and what to do for whatever cannot be taken over exactly.
    """
    k = keras_of(model)
    name, shape = _input(k, model)
    sketch = Sketch(name, shape, size)
    output = _called(k, sketch, model, [sketch.start], 0)
    return Flat(graph=sketch.graph(output), dropped=tuple(dict.fromkeys(sketch.dropped)))


def keras_of(model: Any) -> ModuleType:
    """The Keras that a model is of, `keras` or `tf_keras`. Raises DataError."""
    # Whoever loaded the model has loaded its Keras.
    for name in ("keras", "tf_keras"):
        k = sys.modules.get(name)
        if k is not None and isinstance(model, k.Model):
            return k
    raise DataError(f"model: wanted one of Keras, found a {type(model).__name__}")


def _input(k: ModuleType, model: Any) -> tuple[str, Sequence[int | None]]:
    """Name and shape, without the batch, of the one input of a model with one output."""
    _check_plain(k, model)
    try:
        inputs, outputs = list(model.inputs or ()), list(model.outputs or ())
    except (AttributeError, ValueError):
        inputs, outputs = [], []
    if not inputs or not outputs:
        raise DataError(
            f"model {model.name!r}: it does not say what shape its input has; put an Input layer "
            "first and save again"
        )
    for what, tensors in (("input", inputs), ("output", outputs)):
        if len(tensors) != 1:
            names = ", ".join(repr(tensor._keras_history[0].name) for tensor in tensors)
            raise DataError(
                f"model {model.name!r}: wanted one {what}, found {len(tensors)} ({names}); save "
                f"keras.Model(inputs, outputs) with the one that classifies a photo"
            )
    return inputs[0]._keras_history[0].name, tuple(inputs[0].shape)[1:]


def _check_plain(k: ModuleType, model: Any) -> None:
    """Raise DataError where what a model computes stands in code of its own."""
    own = not type(model).call.__module__.startswith(f"{k.__name__}.")
    if own or not (isinstance(model, k.Sequential) or hasattr(model, "_nodes_by_depth")):
        raise DataError(
            f"model {model.name!r} ({type(model).__name__}): a subclass of Model, which only its "
            "own code can run; build it as keras.Model(inputs, outputs) and save again"
        )


def _called(
    k: ModuleType, sketch: Sketch, model: Any, inputs: Sequence[Value], which: int
) -> Value:
    """Output number `which` of a model on these values."""
    _check_plain(k, model)
    if isinstance(model, k.Sequential):
        value = inputs[0]
        for layer in model.layers:
            if type(layer).__name__ != "InputLayer":
                value = _layer(k, sketch, layer, [value])
        return value
    return _wanted(k, sketch, _begun(model, inputs), model.outputs[which])


def _begun(model: Any, inputs: Sequence[Value]) -> _Call:
    given = {id(t): [value] for t, value in zip(model.inputs, inputs, strict=True)}
    return _Call(model=model, values=given)


def _wanted(k: ModuleType, sketch: Sketch, call: _Call, output: Any) -> Value:
    """What a tensor of a functional model is; all that leads to it is computed first.

    Tensors are followed back, not layers: a layer that is called twice is two nodes.
    """
    waiting = [output]
    while waiting:
        tensor = waiting[-1]
        if id(tensor) in call.values:
            waiting.pop()
            continue
        layer, number, place = tensor._keras_history
        node = layer._inbound_nodes[number]
        missing = [t for t in _tensors(node) if id(t) not in call.values]
        if missing:
            waiting += reversed(missing)
            continue
        call.values[id(tensor)] = [_computed(k, sketch, call, layer, node, place)]
    return call.values[id(output)][0]


def _arguments(node: Any) -> tuple[Any, Any]:
    if hasattr(node, "arguments"):  # Keras 3
        return node.arguments.args, node.arguments.kwargs
    return node.call_args, node.call_kwargs


def _tensors(node: Any) -> list[Any]:
    return _leaves(_arguments(node), lambda leaf: hasattr(leaf, "_keras_history"))


def _leaves(tree: Any, wanted: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = [tree[key] for key in sorted(tree)]  # as both Keras put a dict's tensors in order
    elif not isinstance(tree, (list, tuple)):
        return [tree] if wanted(tree) else []
    return [leaf for branch in tree for leaf in _leaves(branch, wanted)]


def _filled(tree: Any, call: _Call) -> Any:
    """The arguments of a call, each tensor replaced by its value."""
    if isinstance(tree, dict):
        return {key: _filled(branch, call) for key, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_filled(branch, call) for branch in tree]
    return call.values[id(tree)][0] if hasattr(tree, "_keras_history") else tree


def _computed(
    k: ModuleType, sketch: Sketch, call: _Call, layer: Any, node: Any, place: int
) -> Value:
    args, kwargs = _filled(_arguments(node), call)
    if isinstance(layer, k.layers.Layer) and not operators.is_operator(layer):
        # In Keras 3 what the whole model is called with goes before what is written down here.
        if kwargs.get("training") is True and k.__name__ == "tf_keras":
            raise layers.refuse(
                layer, "called with training=True, so that its answers are not those of a trained "
                "model; call it without and save again"
            )  # fmt: skip
        values = _leaves([args, kwargs], lambda leaf: isinstance(leaf, Value))
        if isinstance(layer, k.Model) and not isinstance(layer, k.Sequential):
            # Each output of one call is wanted on its own, and shares what it has with the others.
            _check_plain(k, layer)
            inner = call.calls.setdefault(id(node), _begun(layer, values))
            return _wanted(k, sketch, inner, layer.outputs[place])
        return _layer(k, sketch, layer, values)
    found = operators.apply(k, sketch, layer, args, kwargs)
    return found[place] if isinstance(found, list) else found


def _layer(k: ModuleType, sketch: Sketch, layer: Any, inputs: Sequence[Value]) -> Value:
    if isinstance(layer, k.Model):
        return _called(k, sketch, layer, inputs, 0)
    return layers.apply(k, sketch, layer, inputs)
