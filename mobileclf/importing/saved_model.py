"""A SavedModel of tf.keras: which operators its graphs hold, and a copy without the rest.

A SavedModel is a program. Its functions may read and write files and call back into Python, some
of them run as it is loaded, and TensorFlow may run one in the place of another. So its saver, which
reads and writes files, is left out, and each operator of every function that is left is held
against `known.OPERATORS`, whether anything calls that function or not. TensorFlow reads the weights
without that saver.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mobileclf.errors import DataError

from . import known
from .trust import checked, in_float32

GRAPHS, LAYERS, WEIGHTS = "saved_model.pb", "keras_metadata.pb", "variables"
METRIC, PLAIN = "_tf_keras_metric", "_generic_user_object"
KERAS = "_tf_keras_"
TRUST = "--trust loads it all the same"
# All that TensorFlow needs to know of a function besides its body. Others have it run another
# function in this one's place: api_implements, api_preferred_device, forward_function_name, ...
ATTRIBUTES = ("_input_shapes", "_construction_context")

WEIGHT_FILE = re.compile(r"variables\.(index|data-\d{5}-of-\d{5})")
LARGEST_GRAPHS = 256 << 20  # bytes; EfficientNetB0's are 6 million
LARGEST_WEIGHTS = 8 << 30  # bytes; VGG16's with an optimizer's are 1.7 billion


def copy(folder: Path, target: Path, *, trust: bool) -> str:
    """Write what tf_keras needs of the SavedModel at `folder` to `target`; gives TensorFlow's
    version that saved it.

    Metrics, assets and compile settings are left out. trust: with all functions as they are;
    else without the saver's, and with what `check_functions` lets pass. Raises DataError as that,
    as `trust.check_config` for its layers, where it has no layers of Keras, and for a file of it
    that is a link or a device.
    """
    model = _parse(folder / GRAPHS, _saved_model())
    if len(model.meta_graphs) != 1:
        raise DataError(
            f"{folder}: wanted one graph, found {len(model.meta_graphs)}; save it again"
        )
    if not trust:
        _strip(model.meta_graphs[0])
        check_functions(model.meta_graphs[0], folder)
    target.mkdir()
    _copy_layers(model, folder, target)
    (target / GRAPHS).write_bytes(model.SerializeToString())
    _copy_weights(folder / WEIGHTS, target / WEIGHTS)
    return str(model.meta_graphs[0].meta_info_def.tensorflow_version)


def _saved_model() -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    return SavedModel()


def _parse(path: Path, message: Any) -> Any:
    _check_regular(path, LARGEST_GRAPHS)
    try:
        message.ParseFromString(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's errors have no base that is public
        raise DataError(f"{path}: broken or cut off; get it again") from error
    return message


def _check_regular(path: Path, most: int) -> None:
    """A link leads to any file that a user may read, and a device may never end."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise DataError(
            f"{path}: wanted a file, found a link or device; put the file itself there (`cp -L`)"
        )
    if found.st_size > most:
        raise DataError(f"{path}: wanted {most:,} bytes at most, found {found.st_size:,}")


def _copy_weights(folder: Path, target: Path) -> None:
    if folder.is_symlink():
        raise DataError(f"{folder}: wanted a folder, found a link; copy the folder itself there")
    if not (folder / "variables.index").exists():
        raise DataError(
            f"{folder.parent}: {WEIGHTS}/variables.index is missing; copy the whole folder"
        )
    target.mkdir()
    for file in sorted(folder.iterdir()):
        if WEIGHT_FILE.fullmatch(file.name):
            _check_regular(file, LARGEST_WEIGHTS)
            shutil.copyfile(file, target / file.name, follow_symlinks=False)


# Layers


def _copy_layers(model: Any, folder: Path, target: Path) -> None:
    """Check the layers, and leave out metrics: custom ones are fine, as none is needed."""
    from tf_keras.protobuf.saved_metadata_pb2 import SavedMetadata

    objects = model.meta_graphs[0].object_graph_def.nodes
    if (folder / LAYERS).is_file():
        about = _parse(folder / LAYERS, SavedMetadata())
        nodes = [node for node in about.nodes if node.identifier != METRIC]
        for node in nodes:
            node.metadata = json.dumps(in_float32(checked(node.metadata, str(folder))))
        del about.nodes[:]
        about.nodes.extend(nodes)
        (target / LAYERS).write_bytes(about.SerializeToString())
    else:  # before TensorFlow 2.5 the layers stand among the objects
        for node in objects:
            if node.user_object.identifier == METRIC:
                node.user_object.identifier = PLAIN
        nodes = [
            node.user_object
            for node in objects
            if node.user_object.identifier.startswith(KERAS) and node.user_object.metadata
        ]
        for node in nodes:
            node.metadata = json.dumps(in_float32(checked(node.metadata, str(folder))))
    if not nodes:
        raise DataError(
            f"{folder}: a SavedModel without Keras layers in it, as model.export and "
            "tf.saved_model.save write them; save the model itself with model.save('model.keras'), "
            "or convert it with tf.lite.TFLiteConverter.from_saved_model and give the .tflite"
        )


# Functions


def _strip(meta: Any) -> None:
    """Leave out what only a saver or the loader of TensorFlow 1 needs, and gradients."""
    library = meta.graph_def.library
    kept = [
        function
        for function in library.function
        if not any(node.op in known.SAVER_OPERATORS for node in function.node_def)
    ]
    for function in kept:
        for name in set(function.attr) - set(ATTRIBUTES):
            del function.attr[name]
    library.Clear()
    library.function.extend(kept)
    constants = [node for node in meta.graph_def.node if node.op == "Const"]
    del meta.graph_def.node[:]
    meta.graph_def.node.extend(constants)  # functions take these from there, as a graph's weights
    for field in ("saver_def", "collection_def", "signature_def"):
        meta.ClearField(field)


def check_functions(meta: Any, folder: Path) -> None:
    """Hold all operators of all functions of a graph against `known`.

    Raises DataError naming the first that is not among them, and for a name of a function that is
    not there, that two have, or that is an operator's.
    """
    from tensorflow.python.framework import op_def_registry

    functions = meta.graph_def.library.function
    names: set[str] = set()
    for function in functions:
        name = function.signature.name
        if name in names:
            raise DataError(f"{folder}: two functions {name!r} in it; save it again")
        if op_def_registry.get(name) is not None:
            raise DataError(f"{folder}: a function {name!r} in it, as an operator; save it again")
        names.add(name)
    for function in functions:
        for node in function.node_def:
            if node.op not in known.OPERATORS:
                raise DataError(
                    f"{folder}: it runs TensorFlow's {node.op!r} (in {function.signature.name}), "
                    f"which is none of the operators that only compute; {TRUST}"
                )
            # A name that is not there might be found elsewhere, as an operator's.
            for called in _called(node.attr):
                _check_called(called, names, folder)
    objects = meta.object_graph_def
    for called in objects.concrete_functions:
        _check_called(called, names, folder)
    for item in objects.nodes:
        for called in item.function.concrete_functions:
            _check_called(called, names, folder)
        if item.HasField("bare_concrete_function"):
            called = item.bare_concrete_function.concrete_function_name
            _check_called(called, names, folder)


def _check_called(name: str, names: set[str], folder: Path) -> None:
    if name not in names:
        raise DataError(
            f"{folder}: it calls {name!r}, which is no function in it, or reads and writes files "
            f"as a saver does; {TRUST}"
        )


def _called(attributes: Any) -> Iterator[str]:
    """The functions that are named in attributes, and in those of these functions."""
    waiting = [attributes]
    while waiting:
        for value in waiting.pop().values():
            named = [value.func] if value.HasField("func") else list(value.list.func)
            yield from (function.name for function in named)
            waiting += [function.attr for function in named]
