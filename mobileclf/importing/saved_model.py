"""A SavedModel of tf.keras: which operators its graphs hold, and a copy without the rest.

A SavedModel is a program. Its graphs may read and write files and call back into Python, and some
of them run as it is loaded. So each operator in it is held against `known.OPERATORS`; those of
its saver, which read and write its weights, may be where only the saver comes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mobileclf.errors import DataError

from . import known
from .trust import checked, in_float32

GRAPHS, LAYERS, WEIGHTS = "saved_model.pb", "keras_metadata.pb", "variables"
METRIC, PLAIN = "_tf_keras_metric", "_generic_user_object"
KERAS = "_tf_keras_"
INIT = "__saved_model_init_op"
TRUST = "--trust loads it all the same"


def copy(folder: Path, target: Path, *, trust: bool) -> str:
    """Write what tf_keras needs of the SavedModel at `folder` to `target`; gives TensorFlow's
    version that saved it.

    Metrics, assets and compile settings are left out. trust: with the operators as they are.
    Raises DataError as `check_operators`, as `trust.check_config` for its layers, and where it
    has no layers of Keras.
    """
    model = _parse(folder / GRAPHS, _saved_model())
    if not trust:
        check_operators(model, folder)
    if not (folder / WEIGHTS / "variables.index").is_file():
        raise DataError(f"{folder}: {WEIGHTS}/variables.index is missing; copy the whole folder")
    target.mkdir()
    _copy_layers(model, folder, target)
    (target / GRAPHS).write_bytes(model.SerializeToString())
    try:
        shutil.copytree(folder / WEIGHTS, target / WEIGHTS)
    except shutil.Error as error:
        raise DataError(f"{folder / WEIGHTS}: cannot be read ({str(error)[:200]})") from error
    return str(model.meta_graphs[0].meta_info_def.tensorflow_version)


def _saved_model() -> Any:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    return SavedModel()


def _parse(path: Path, message: Any) -> Any:
    try:
        message.ParseFromString(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # protobuf's errors have no base that is public
        raise DataError(f"{path}: broken or cut off; get it again") from error
    return message


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


# Operators


def check_operators(model: Any, folder: Path) -> None:
    """Hold all operators of a parsed SavedModel against `known`.

    Raises DataError naming the first that is not among them, and where the saver's own are within
    reach of anything but the saver: a signature, an initializer, a function that can be called.
    """
    if len(model.meta_graphs) != 1:
        raise DataError(
            f"{folder}: wanted one graph, found {len(model.meta_graphs)}; save it again"
        )
    meta = model.meta_graphs[0]
    library = {function.signature.name: function for function in meta.graph_def.library.function}
    allowed = known.OPERATORS | known.SAVER_OPERATORS | set(library)
    bodies = [("the graph", meta.graph_def.node)]
    bodies += [(name, function.node_def) for name, function in library.items()]
    for name, nodes in bodies:
        for node in nodes:
            if node.op not in allowed or (node.op in library and node.op in known.OPERATORS):
                raise DataError(
                    f"{folder}: it runs TensorFlow's {node.op!r} (in {name}), which is none of the "
                    f"operators that only compute; {TRUST}"
                )
    savers = _that_save(library)
    own = {
        _node_of(name)
        for name in (
            meta.saver_def.save_tensor_name,
            meta.saver_def.restore_op_name,
            meta.saver_def.filename_tensor_name,
        )
        if name
    }
    saving = {node.name for node in meta.graph_def.node if _saves(node, savers)}
    reached = _reached(meta)
    callable_ = set(meta.object_graph_def.concrete_functions) | {
        node.bare_concrete_function.concrete_function_name for node in meta.object_graph_def.nodes
    }
    for found in (saving - own, saving & reached, savers & callable_):
        if found:
            raise DataError(
                f"{folder}: {min(found)} in it reads or writes files as a saver does, and is not "
                f"the saver's alone; {TRUST}"
            )


def _saves(node: Any, savers: Iterable[str]) -> bool:
    return node.op in known.SAVER_OPERATORS or any(name in savers for name in _calls(node))


def _calls(node: Any) -> Iterator[str]:
    """The functions that a node may call, in any of its attributes or as its operator."""
    yield node.op
    for value in node.attr.values():
        yield value.func.name
        yield from (function.name for function in value.list.func)


def _that_save(library: dict[str, Any]) -> set[str]:
    """The functions with a saver's operator in them, or in one that they call."""
    found: set[str] = set()
    while True:
        more = {
            name
            for name, function in library.items()
            if name not in found and any(_saves(node, found) for node in function.node_def)
        }
        if not more:
            return found
        found |= more


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]


def _reached(meta: Any) -> set[str]:
    """The nodes of the graph that a signature or an initializer runs."""
    inputs = {node.name: [_node_of(name) for name in node.input] for node in meta.graph_def.node}
    waiting: list[str] = []
    for signature in meta.signature_def.values():
        for ends in (signature.inputs, signature.outputs):
            waiting += [_node_of(end.name) for end in ends.values()]
    for collection in meta.collection_def.values():
        waiting += [_node_of(name) for name in collection.node_list.value]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += inputs.get(name, ())
    return found
