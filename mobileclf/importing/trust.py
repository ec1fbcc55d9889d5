"""Nothing in somebody's model runs: its names are held against `known` before Keras reads them.

Keras finds classes and functions by the names in a file, among them everything that tf_keras can
import, and a Lambda layer brings its own code. So Keras only ever gets a copy that holds what was
checked here, and nothing else: no compile settings, optimizers or assets.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

from mobileclf.errors import DataError

from . import known
from .formats import WEIGHTS

DEEPEST = 100  # objects within objects; a layer of a model within a model takes six
MOST_VALUES = 5_000_000
LONGEST_CONFIG = 64 << 20  # bytes; InceptionV3's is 100,000
EXPANSION = 100  # a weight file may be compressed, but not by more than this
HALF = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")
SMALL = 1 << 24  # bytes that no one needs to be saved from

MODULE = re.compile(
    r"(tf_)?keras(\.api|\.src)*(\.(activations|constraints|dtype_policies|engine|initializers"
    r"|layers|mixed_precision|models|ops|random|regularizers)(\.\w+)*)?"
)
OPERATIONS_MODULE = re.compile(r"keras\.src\.ops\.\w+")
LEFT_OUT = ("compile_config", "training_config")  # loss, metrics, optimizer: custom ones are fine
AGAIN = "replace it by Keras's own layers and save again"


# The configuration


def checked(text: str | bytes, where: str) -> dict[str, Any]:
    """A model's configuration, parsed and found to name nothing but what only computes.

    What is needed for training alone is left out. Raises DataError, as `check_config` and for
    what is no JSON.
    """
    if len(text) > LONGEST_CONFIG:
        raise DataError(
            f"{where}: a configuration of {len(text):,} bytes, wanted {LONGEST_CONFIG:,}"
        )
    try:
        config = json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise DataError(f"{where}: objects within objects too deep to be a network") from error
    except ValueError as error:
        raise DataError(f"{where}: its configuration is no JSON ({error})") from error
    if not isinstance(config, dict):
        raise DataError(f"{where}: wanted a configuration, found a {type(config).__name__}")
    check_config(config, where)
    return config


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers may choose differently between two values of one key.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return {key: value for key, value in found.items() if key not in LEFT_OUT}


def check_config(config: Any, where: str) -> None:
    """Hold all that a configuration names against `known`.

    Raises DataError naming layer and class for a Lambda, a custom class, a function that is no
    built-in activation, a module outside Keras, and for what is too deep or too large.
    """
    waiting: list[tuple[Any, str, str, int]] = [(config, "", "", 0)]
    seen = 0
    while waiting:
        value, key, layer, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST or seen > MOST_VALUES:
            raise DataError(f"{where}: a configuration too deep or too large to be a network's")
        if isinstance(value, dict):
            if "class_name" in value:
                layer = _check_object(value, layer, where)
            waiting += [(inner, name, layer, depth + 1) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(inner, key, layer, depth + 1) for inner in value]
        elif isinstance(value, str):
            _check_name(value, key, layer, where)
        elif isinstance(value, float) and not math.isfinite(value):
            raise DataError(f"{where}: layer {layer!r}: {key} is {value}, wanted a number")


def _check_object(found: dict[str, Any], layer: str, where: str) -> str:
    """One object with a class; gives the name of the layer that it is or is in."""
    name, settings = found["class_name"], found.get("config")
    if not isinstance(name, str):
        raise DataError(f"{where}: layer {layer!r}: a class_name that is no name")
    own = settings.get("name") if isinstance(settings, dict) else None
    is_layer = name not in known.VALUES | known.PARTS
    if is_layer and isinstance(own or found.get("name"), str):
        layer = str(own or found.get("name"))
    what = f"{where}: layer {layer!r} ({name[:80]})"
    module, registered = found.get("module"), found.get("registered_name")
    if name == "function":
        names = (settings, settings if registered is None else registered)
        if not all(isinstance(n, str) and n in known.ACTIVATIONS for n in names):
            raise DataError(
                f"{what}: the function {str(settings)[:80]!r} is no activation of Keras's; {AGAIN}"
            )
        if module != "builtins" and not _of_keras(module):
            raise DataError(
                f"{what}: a function of {str(module)[:80]!r}, which is never run; {AGAIN}"
            )
        return layer
    if name == "__lambda__" or name in known.REFUSED_LAYERS:
        why = known.REFUSED_LAYERS.get(name, known.REFUSED_LAYERS["Lambda"])
        raise DataError(f"{what}: {why}; {AGAIN}")
    if name == "TypeSpec" and found.get("type_spec") == "tf.TensorSpec":
        return layer
    operation = isinstance(module, str) and OPERATIONS_MODULE.fullmatch(module) is not None
    names_known = known.OPERATIONS if operation else known.LAYERS | known.PARTS | known.VALUES
    if (
        name not in names_known
        or registered not in (None, name)
        or (module is not None and not _of_keras(module))
    ):
        raise DataError(
            f"{what}: no class of Keras's; its code is not in the file, and is never run; {AGAIN}"
        )
    if name in ("TFOpLambda", "SlicingOpLambda"):
        _check_function(settings, what)
    elif name == "TensorFlowOpLayer":
        _check_node(settings, what)
    return layer


def _of_keras(module: Any) -> bool:
    return isinstance(module, str) and MODULE.fullmatch(module) is not None


def _check_function(settings: Any, what: str) -> None:
    function = settings.get("function") if isinstance(settings, dict) else None
    if not isinstance(function, str) or function.removeprefix("compat.v1.") not in known.FUNCTIONS:
        raise DataError(
            f"{what}: it calls TensorFlow's {str(function)[:80]!r}, which is none of the functions "
            f"that only compute; {AGAIN}"
        )


def _check_node(settings: Any, what: str) -> None:
    """A TensorFlow operator as tf.keras 2.0 to 2.3 stores it, a protocol buffer or its JSON."""
    node = settings.get("node_def") if isinstance(settings, dict) else None
    operator: Any = None
    if isinstance(node, dict):
        operator = node.get("op")
    elif isinstance(node, str):
        from tensorflow.core.framework.node_def_pb2 import NodeDef

        try:
            operator = NodeDef.FromString(node.encode()).op
        except Exception as error:  # protobuf's errors have no base that is public
            raise DataError(f"{what}: its operator cannot be read") from error
    if operator not in known.OPERATORS:
        raise DataError(
            f"{what}: it runs TensorFlow's {str(operator)[:80]!r}, which is none of the operators "
            f"that only compute; {AGAIN}"
        )


def _check_name(value: str, key: str, layer: str, where: str) -> None:
    """A built-in by its name alone, which old Keras looks up among all that a module holds."""
    if key == "activation" or key.endswith("_activation"):
        wanted = known.ACTIVATIONS | {"softmax_v2"}
    elif key.endswith(("_initializer", "_regularizer", "_constraint")):
        wanted = known.PART_NAMES
    else:
        return
    if value not in wanted:
        raise DataError(
            f"{where}: layer {layer!r}: its {key} {value[:80]!r} is none of Keras's; {AGAIN}"
        )


def in_float32(config: Any) -> Any:
    """The configuration with every mixed or half precision policy made float32: what the weights
    are kept in, and what the flat model computes in. What a model casts to by itself stays."""
    if isinstance(config, list):
        return [in_float32(value) for value in config]
    if not isinstance(config, dict):
        return config
    casts = config.get("class_name") == "Cast"
    return {
        key: value
        if key == "inbound_nodes" or (casts and key == "config")
        else _without_half(value)
        if key == "dtype"
        else in_float32(value)
        for key, value in config.items()
    }


def _without_half(policy: Any) -> Any:
    """A data type by its name, or a policy with names in it."""
    if isinstance(policy, dict):
        return {key: _without_half(value) for key, value in policy.items()}
    return "float32" if isinstance(policy, str) and policy in HALF else policy


# The files


def copy_h5(path: Path, target: Path) -> str:
    """Write what Keras needs of the h5 file at `path` to `target`; gives its Keras's version.

    Raises DataError for what `check_config` refuses, for a file without a network, and for one
    whose data lie elsewhere or are larger than itself.
    """
    import h5py

    try:
        with h5py.File(path, "r") as source:
            text = source.attrs.get("model_config")
            if text is None:
                raise DataError(f"{path}: {WEIGHTS}, and give that")
            if not isinstance(text, str | bytes):
                raise DataError(f"{path}: its configuration is no text")
            config = checked(text, str(path))
            check_h5(source, path)
            if "model_weights" not in source:
                raise DataError(f"{path}: a network without weights; save it again with model.save")
            version = _text(source.attrs.get("keras_version", "1"))
            with h5py.File(target, "w") as clean:
                for key in ("keras_version", "backend"):
                    if key in source.attrs:
                        clean.attrs[key] = _text(source.attrs[key])
                clean.attrs["model_config"] = json.dumps(in_float32(config))
                source.copy("model_weights", clean)
    except DataError:
        raise
    except Exception as error:  # h5py raises whatever libhdf5 stumbles on
        raise DataError(f"{path}: a broken h5 file; get it again ({str(error)[:200]})") from error
    return version


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def check_h5(file: Any, path: Path) -> None:
    """All data of an open h5 file are in it, and are no larger than it can hold.

    A link into another file would have its bytes read as weights, and a data set may declare
    terabytes that are nowhere. Raises DataError.
    """
    import h5py

    most = SMALL + EXPANSION * path.stat().st_size
    waiting, seen, declared = [file["/"]], set(), 0
    while waiting:
        group = waiting.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise DataError(
                    f"{path}: {name!r} in it is a link, to this or another file; {AGAIN}"
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise DataError(f"{path}: the data of {name!r} lie in another file; {AGAIN}")
                declared += math.prod(item.shape or ()) * item.dtype.itemsize
        if declared > most:
            raise DataError(
                f"{path}: it declares {declared:,} bytes of weights, and has "
                f"{path.stat().st_size:,} in all"
            )


def copy_keras(path: Path, target: Path) -> str:
    """Write what Keras needs of the `.keras` file at `path` to `target`; gives its Keras's version.

    Raises DataError as `copy_h5`, and for a zip that unpacks to far more than itself.
    """
    import h5py

    weights = target.with_suffix(".weights.h5")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if missing := {"config.json", "metadata.json", "model.weights.h5"} - set(names):
                raise DataError(
                    f"{path}: {min(missing)} is missing in it; save it again with model.save"
                )
            for name in ("config.json", "metadata.json", "model.weights.h5"):
                entry = archive.getinfo(name)
                if names.count(name) > 1:
                    raise DataError(f"{path}: {name} stands in it twice; {AGAIN}")
                if entry.file_size > SMALL + EXPANSION * entry.compress_size:
                    raise DataError(f"{path}: {name} in it unpacks to {entry.file_size:,} bytes")
            config = checked(archive.read("config.json"), str(path))
            about = json.loads(archive.read("metadata.json"))
            version = about["keras_version"]
            with archive.open("model.weights.h5") as packed, weights.open("wb") as file:
                shutil.copyfileobj(packed, file)
        with h5py.File(weights, "r") as inner:
            check_h5(inner, weights)
        with zipfile.ZipFile(target, "w") as clean:
            clean.writestr("metadata.json", json.dumps({"keras_version": version}))
            clean.writestr("config.json", json.dumps(in_float32(config)))
            clean.write(weights, "model.weights.h5")
    except DataError as error:
        raise DataError(str(error).replace(str(weights), f"{path}: model.weights.h5")) from error
    except Exception as error:  # a broken zip or h5 raises whatever its library stumbles on
        raise DataError(
            f"{path}: a broken .keras file; get it again ({str(error)[:200]})"
        ) from error
    return str(version)
