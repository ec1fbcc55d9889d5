"""Operators between layers: arithmetic, channel picking and functions of tf.nn, of both Keras.

tf.keras wraps them as TFOpLambda layers, Keras 3 as operations; both are told apart by name only.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from mobileclf.errors import DataError
from mobileclf.models.graph import ACTIVATIONS

from . import activations, layers
from .sketch import Sketch, Value, joined

Found = Value | list[Value]
WRAPPERS = ("TFOpLambda", "SlicingOpLambda")
ALIASES = {
    "true_divide": "truediv", "divide": "truediv", "div": "truediv", "sub": "subtract",
    "mul": "multiply", "bias_add": "add", "add_v2": "add", "get_item": "getitem",
    "concatenate": "concat", "mean": "reduce_mean", "max": "reduce_max", "reverse": "flip",
    "clip_by_value": "clip", "exp": "exponential", "silu": "swish", "hard_silu": "hard_swish",
    "stop_gradient": "identity", "neg": "negative",
}  # fmt: skip
PAIRS = {
    "add": "Add",
    "subtract": "Subtract",
    "multiply": "Multiply",
    "maximum": "Maximum",
    "minimum": "Minimum",
}
BY_NAME = (*ACTIVATIONS, "hard_sigmoid", "hard_swish", "hard_tanh", "mish")


def is_operator(layer: Any) -> bool:
    """Whether a layer of tf.keras is an operator in a wrapper."""
    return type(layer).__name__ in WRAPPERS


def name_of(operator: Any) -> str:
    """The name in one spelling: truediv of tf.math.truediv and of Keras 3's TrueDivide."""
    symbol = getattr(operator, "symbol", None)
    if symbol is None:
        symbol = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(operator).__name__).lower()
    name = str(symbol).rpartition(".")[2]
    return ALIASES.get(name, name)


class _Use:
    """One use of an operator: its arguments by name, in order."""

    def __init__(self, k: ModuleType, sketch: Sketch, operator: Any, args: Any, kwargs: Any):
        self.k, self.sketch, self.operator = k, sketch, operator
        self.kind, self.name = name_of(operator), operator.name
        function = operator.function if is_operator(operator) else operator.call
        bound = inspect.signature(function).bind(*args, **kwargs)
        self.given: dict[str, Any] = dict(bound.arguments)

    def setting(self, *names: str, default: Any = None) -> Any:
        """An argument, or what Keras 3 keeps in the operation itself."""
        for name in names:
            if name in self.given:
                return self.given[name]
            if not is_operator(self.operator) and name in vars(self.operator):
                return vars(self.operator)[name]
        return default

    @property
    def value(self) -> Value:
        first = next(iter(self.given.values()))
        if not isinstance(first, Value):
            raise self.refusal("its first argument is no tensor of the model")
        return first

    def axes(self, rank: int) -> tuple[int, ...]:
        """`axis` as positive numbers; the batch is 0."""
        axis = self.setting("axis", default=None)
        if axis is None:
            raise self.refusal("works on the whole batch at once")
        several = axis if isinstance(axis, (list, tuple)) else [axis]
        return tuple(sorted(int(each) % rank for each in several))

    def refusal(self, why: str) -> DataError:
        return DataError(
            f"layer {self.name!r} (operator {self.kind}): {why}; replace it with layers of Keras "
            "and save again"
        )


def apply(k: ModuleType, sketch: Sketch, operator: Any, args: Any, kwargs: Any) -> Found:
    """What an operator gives, args and kwargs with a Value for each tensor of the model.

    Several values of one that splits. Raises DataError naming an operator that is not known.
    """
    use = _Use(k, sketch, operator, args, kwargs)
    if use.kind in BY_NAME:
        return _activation(use)
    if use.kind not in OPERATORS:
        raise use.refusal("not known here")
    return OPERATORS[use.kind](use)


def _activation(use: _Use) -> Value:
    exact = (
        float(use.setting("alpha", default=1.0)) == 1
        and not (use.kind == "gelu" and use.setting("approximate", default=False))
        and use.setting("beta", default=1.0) == 1
        and _over_the_last_axis(use)
        and (use.kind != "relu" or not use.setting("negative_slope", "max_value", default=0))
    )
    if not exact:
        raise use.refusal("its settings are not known here")
    return activations.activate(use.k, use.sketch, use.value, use.kind, use.name)


def _over_the_last_axis(use: _Use) -> bool:
    """None is the last axis to tf.nn, and all of them, the batch as well, to Keras 3."""
    axis = use.setting("axis", default=-1)
    if axis is None:
        return is_operator(use.operator)
    return int(axis) in (-1, len(use.value.shape))


def _leaky_relu(use: _Use) -> Value:
    slope = float(use.setting("negative_slope", "alpha", default=activations.LEAKY))
    return activations.relu(use.sketch, use.value, use.name, negative_slope=slope)


def _pair(use: _Use) -> Value:
    a, b = list(use.given.values())[:2]
    if isinstance(a, Value) and isinstance(b, Value):
        if use.kind not in PAIRS:
            raise use.refusal("divides by what the model computes")
        return use.sketch.add(PAIRS[use.kind], use.name, {}, [a, b])
    left = isinstance(a, Value)
    value = a if left else b
    constant = layers.per_channel(b if left else a, value, use.operator)
    if use.kind == "add":
        return value.affine(use.name, 1.0, constant)
    if use.kind == "multiply":
        return value.affine(use.name, constant, 0.0)
    if use.kind == "subtract":
        sign = 1.0 if left else -1.0
        return value.affine(use.name, sign, -sign * constant)
    if use.kind == "truediv" and left and constant.all():
        return value.affine(use.name, 1 / constant, 0.0)
    if use.kind == "maximum" and not constant.any():
        return activations.relu(use.sketch, value, use.name)
    raise use.refusal("not known here with a constant")


def _negative(use: _Use) -> Value:
    return use.value.affine(use.name, -1.0, 0.0)


def _clip(use: _Use) -> Value:
    low = float(use.setting("x_min", "clip_value_min"))
    high = float(use.setting("x_max", "clip_value_max"))
    return activations.clip(use.sketch, use.value, low, high, use.name)


def _getitem(use: _Use) -> Value:
    value = use.value
    key = use.setting("key", "slice_spec")
    parts = [_slice(part) for part in (key if isinstance(key, (list, tuple)) else [key])]
    rank = len(value.shape) + 1
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (rank - len(parts) + 1)
    parts += [slice(None)] * (rank - len(parts))
    *others, last = parts
    whole = all(part == slice(None) for part in others)
    if rank != 4 or value.squeezed or not whole or not isinstance(last, (int, slice)):
        raise use.refusal("takes a part of its input other than some channels of a picture")
    return value.take(use.name, last)


def _slice(part: Any) -> Any:
    if isinstance(part, dict):
        return slice(part["start"], part["stop"], part["step"])
    return part


def _flip(use: _Use) -> Value:
    value = use.value
    if len(value.shape) != 3 or value.squeezed or use.axes(4) != (3,):
        raise use.refusal("turns something other than the channels around")
    return value.take(use.name, slice(None, None, -1))


def _stack(use: _Use) -> Value:
    values = _values(use)
    same = {value.node for value in values}
    squeezed = all(value.squeezed for value in values)
    if len(same) != 1 or not squeezed or int(use.setting("axis", default=0)) not in (-1, 3):
        raise use.refusal("wanted single channels of one picture, put on the last axis")
    return joined(use.name, values)


def _concat(use: _Use) -> Value:
    values = _values(use)
    rank = len(values[0].shape) + 1
    if any(value.squeezed for value in values) or use.axes(rank) != (rank - 1,):
        raise use.refusal("wanted the last axis")
    return layers.concatenated(use.sketch, use.name, values)


def _values(use: _Use) -> list[Value]:
    values = next(iter(use.given.values()))
    if not isinstance(values, list) or not all(isinstance(value, Value) for value in values):
        raise use.refusal("puts constants beside what the model computes")
    return values


def _unstack(use: _Use) -> list[Value]:
    value = use.value
    if len(value.shape) != 3 or value.squeezed or use.axes(4) != (3,):
        raise use.refusal("takes something other than the channels apart")
    return [value.take(use.name, i) for i in range(value.channels)]


def _reshape(use: _Use) -> Value:
    shape = use.setting("shape", "newshape")
    shape = shape.tolist() if hasattr(shape, "tolist") else shape
    if hasattr(shape, "numpy"):
        shape = shape.numpy().tolist()
    if not isinstance(shape, (list, tuple)) or not all(n is None or _whole(n) for n in shape):
        raise use.refusal("its shape is computed by the model")
    return _reshaped(use, shape)


def _whole(n: Any) -> bool:
    return not isinstance(n, Value) and int(n) == n


def _reshaped(use: _Use, shape: Any) -> Value:
    """shape: with the batch first, -1 or None."""
    if use.value.squeezed:
        raise use.refusal("wanted all channels, found one without its axis")
    size = math.prod(use.sketch.shapes[use.sketch.write(use.value)])
    target = [int(n) for n in shape[1:]]
    if shape[0] not in (-1, None) or math.prod(target) != size:
        raise use.refusal(f"wanted the batch left alone, found the shape {list(shape)}")
    return use.sketch.add("Reshape", use.name, {"target_shape": target}, [use.value])


def _expand(use: _Use) -> Value:
    value = use.value
    rank = len(value.shape) + 1
    (axis,) = use.axes(rank + 1)
    if value.squeezed and axis == 3:
        return joined(use.name, [value])
    shape = [None, *value.shape]
    return _reshaped(use, [*shape[:axis], 1, *shape[axis:]])


def _squeeze(use: _Use) -> Value:
    value = use.value
    axes = use.axes(len(value.shape) + 1)
    if any(axis == 0 or value.shape[axis - 1] != 1 for axis in axes):
        raise use.refusal("takes away an axis that is not of length 1")
    return _reshaped(use, [n for i, n in enumerate([None, *value.shape]) if i not in axes])


def _pooled(use: _Use) -> Value:
    keepdims = bool(use.setting("keepdims", "keep_dims", default=False))
    if len(use.value.shape) != 3 or use.value.squeezed or use.axes(4) != (1, 2):
        raise use.refusal("wanted height and width, axes 1 and 2 of a picture")
    kind = "GlobalAveragePooling2D" if use.kind == "reduce_mean" else "GlobalMaxPooling2D"
    return use.sketch.add(kind, use.name, {"keepdims": keepdims}, [use.value])


def _same(use: _Use) -> Value:
    return use.value


def _cast(use: _Use) -> Value:
    dtype = use.setting("dtype")
    if "float" not in str(getattr(dtype, "name", dtype)):
        raise use.refusal(f"wanted floating point, found {dtype}")
    return use.value


OPERATORS: Mapping[str, Callable[[_Use], Found]] = {
    **dict.fromkeys(("add", "subtract", "multiply", "truediv", "maximum", "minimum"), _pair),
    "negative": _negative,
    "clip": _clip,
    "getitem": _getitem,
    "flip": _flip,
    "stack": _stack,
    "concat": _concat,
    "unstack": _unstack,
    "reshape": _reshape,
    "expand_dims": _expand,
    "squeeze": _squeeze,
    "reduce_mean": _pooled,
    "reduce_max": _pooled,
    "leaky_relu": _leaky_relu,
    "identity": _same,
    "cast": _cast,
}
