"""Models that would do more than compute; each writes the file `mark` once it gets to run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf
import tf_keras

SIZE = 8


def network(k: Any, *middle: Any, nested: Any = None) -> Any:
    """A small classifier of three labels, with `middle` in it, or in a model within it."""
    inputs = k.Input((SIZE, SIZE, 3))
    x = k.layers.Rescaling(1 / 255)(inputs)
    x = k.layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    x = k.layers.BatchNormalization()(x)
    for layer in middle:
        x = layer(x)
    if nested is not None:
        x = k.Sequential([k.Input(x.shape[1:]), k.layers.ReLU(6.0), nested], name="within")(x)
    x = k.layers.Dropout(0.2)(k.layers.GlobalAveragePooling2D()(x))
    return k.Model(inputs, k.layers.Dense(3, activation="softmax", name="labels")(x))


def marker(mark: Path) -> Callable[[Any], Any]:
    """A lambda that writes `mark`, of which all is stored in a file."""
    return lambda x, mark=str(mark): (__import__("pathlib").Path(mark).touch(), x)[1]


def with_lambda(k: Any, path: Path, mark: Path, *, nested: bool = False) -> Path:
    """A model with a Lambda layer named "note"."""
    evil = k.layers.Lambda(marker(mark), name="note", **_shape(k))
    model = network(k, nested=evil) if nested else network(k, evil)
    model.save(path)
    mark.unlink(missing_ok=True)  # it ran as the model was made
    return path


def _shape(k: Any) -> dict[str, Any]:
    return {} if k is tf_keras else {"output_shape": (SIZE - 2, SIZE - 2, 4)}


def edited_h5(path: Path, edit: Callable[[str], str]) -> Path:
    """The h5 file at `path` with another configuration."""
    with h5py.File(path, "a") as file:
        text = edit(file.attrs["model_config"])
        del file.attrs["model_config"]
        file.attrs["model_config"] = text
    return path


def edited_keras(path: Path, edit: Callable[[str], str]) -> Path:
    """The `.keras` file at `path` with another configuration."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = edit(members["config.json"].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def function_of_the_system(text: str) -> str:
    """tf_keras's safe mode imports any module that a configuration names."""
    config = json.loads(text)
    for layer in config["config"]["layers"]:
        if layer["config"]["name"] == "stem":
            layer["config"]["activation"] = {
                "module": "os", "class_name": "function", "config": "system",
                "registered_name": "system",
            }  # fmt: skip
    return json.dumps(config)


def saved(folder: Path, **more: Any) -> Path:
    """A sound model as a SavedModel of tf_keras."""
    network(tf_keras).save(folder, save_format="tf", **more)
    return folder


def signature_that_writes(folder: Path, mark: Path) -> Path:
    """Its serving signature writes a file."""
    return _with_signature(folder, lambda: tf.io.write_file(str(mark), "x"))


def signature_of_python(folder: Path, mark: Path) -> Path:
    """Its serving signature calls back into Python."""
    return _with_signature(folder, lambda: tf.py_function(mark.touch, [], []))


def _with_signature(folder: Path, act: Callable[[], Any]) -> Path:
    model = network(tf_keras)

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)])
    def serve(images: Any) -> Any:
        act()
        return {"labels": model(images, training=False)}

    model.save(folder, save_format="tf", signatures={"serving_default": serve})
    return folder


def initializer_that_writes(folder: Path, mark: Path) -> Path:
    """A resource in it writes a file as soon as it is loaded."""

    class Evil(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
        def _create_resource(self) -> Any:
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="evil")

        def _initialize(self) -> Any:
            tf.io.write_file(str(mark), "x")

    model = network(tf_keras)
    model.evil = Evil()
    model.save(folder, save_format="tf")
    mark.unlink(missing_ok=True)
    return folder


def edited_graphs(folder: Path, edit: Callable[[Any], None]) -> Path:
    """The SavedModel with another `saved_model.pb`."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file = folder / "saved_model.pb"
    model = SavedModel.FromString(file.read_bytes())
    edit(model.meta_graphs[0])
    file.write_bytes(model.SerializeToString())
    return folder


def init_op_that_writes(mark: Path) -> Callable[[Any], None]:
    """The graph's own initializer, which the loader of TensorFlow 1 runs."""

    def edit(meta: Any) -> None:
        with tf.Graph().as_default() as graph:
            tf.raw_ops.WriteFile(filename=str(mark), contents="x", name="evil")
        meta.graph_def.node.extend(graph.as_graph_def().node)
        meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "evil"

    return edit


def _functions(meta: Any) -> tuple[Any, Any, Any]:
    """The function of the serving signature, the node in it that calls, and what that calls."""
    library = meta.graph_def.library.function
    wrapper = next(f for f in library if "signature_wrapper" in f.signature.name)
    node = next(n for n in wrapper.node_def if n.op == "StatefulPartitionedCall")
    return wrapper, node, next(f for f in library if f.signature.name == node.attr["f"].func.name)


def _constant(body: Any, name: str, value: Any) -> str:
    node = body.node_def.add(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    node.attr["dtype"].type = node.attr["value"].tensor.dtype
    return f"{name}:output:0"


def implementation_that_saves(mark: Path) -> Callable[[Any], None]:
    """A function that nothing calls, which TensorFlow runs in the place of one that is called:
    both implement one thing, and this one prefers the device that there is."""

    def edit(meta: Any) -> None:
        _, _, called = _functions(meta)
        other = meta.graph_def.library.function.add()
        other.CopyFrom(called)
        other.signature.name = "other"
        for body, device in ((called, b"GPU"), (other, b"CPU")):
            body.attr["api_implements"].s = b"x"
            body.attr["api_preferred_device"].s = device
        values = (("file", str(mark)), ("names", ["a"]), ("data", [1.0]))
        ends = [_constant(other, name, value) for name, value in values]
        node = other.node_def.add(name="evil", op="Save", input=ends)
        node.attr["T"].list.type.append(tf.float32.as_datatype_enum)
        other.signature.is_stateful = True  # else it is left out, as it gives nothing
        other.control_ret["evil"] = "evil"
        other.signature.control_output.append("evil")

    return edit


def operator_as_branch(meta: Any) -> None:
    """A branch by the name of an operator, where a function's belongs."""
    node = _functions(meta)[2].node_def.add(name="evil", op="If")
    for name in ("then_branch", "else_branch"):
        node.attr[name].func.name = "WriteFile"


def _saver(meta: Any) -> str:
    """The name of the saver's function that writes."""
    return next(
        f.signature.name
        for f in meta.graph_def.library.function
        if any(node.op == "SaveV2" for node in f.node_def)
    )


def saver_from_a_function(meta: Any) -> None:
    """A function of the model calls the saver's."""
    node = _functions(meta)[0].node_def.add(name="evil", op="PartitionedCall")
    node.attr["f"].func.name = _saver(meta)


def saver_among_branches(meta: Any) -> None:
    """The saver's is one of a list of functions."""
    node = _functions(meta)[0].node_def.add(name="evil", op="Case")
    node.attr["branches"].list.func.add(name=_saver(meta))


def saver_within_an_attribute(meta: Any) -> None:
    """The saver's is given to a function that is called."""
    _, node, _ = _functions(meta)
    node.attr["f"].func.attr["g"].func.name = _saver(meta)


def saver_as_method(meta: Any) -> None:
    """The saver's function stands among those that can be called by name."""
    functions = meta.object_graph_def.concrete_functions
    functions[_saver(meta)].CopyFrom(next(iter(functions.values())))


def saver_as_object(meta: Any) -> None:
    """An object of the model is the saver's function."""
    node = next(n for n in meta.object_graph_def.nodes if n.HasField("bare_concrete_function"))
    node.bare_concrete_function.concrete_function_name = _saver(meta)


def saver_as_function(meta: Any) -> None:
    """A function of an object is the saver's."""
    node = next(n for n in meta.object_graph_def.nodes if n.function.concrete_functions)
    node.function.concrete_functions[0] = _saver(meta)


def two_of_a_name(meta: Any) -> None:
    """Readers may choose differently between two functions."""
    meta.graph_def.library.function.add().CopyFrom(_functions(meta)[2])


def function_as_operator(meta: Any) -> None:
    """A function by the name of an operator, which others then call for that operator."""
    other = meta.graph_def.library.function.add()
    other.CopyFrom(_functions(meta)[2])
    other.signature.name = "Relu"


def pictures(n: int = 5) -> Any:
    """Random pictures, each brighter than the last, float32 0..255."""
    drawn = np.random.default_rng(0).uniform(0, 255, (n, SIZE, SIZE, 3))
    return (drawn * np.linspace(0.1, 1, n)[:, None, None, None]).astype(np.float32)
