"""Nothing in somebody's model runs. Every refusal is shown with what would have happened."""

from __future__ import annotations

import json
import math
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from mobileclf.errors import DataError
from mobileclf.importing import child, known, saved_model, trust

from . import hostile

AGAIN = "replace it by Keras's own layers and save again"
LAMBDA = f"a Lambda layer holds code, which is never run; {AGAIN}"
CUSTOM = f"no class of Keras's; its code is not in the file, and is never run; {AGAIN}"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one sound model in each form."""
    folder = tmp_path_factory.mktemp("sound")
    model = hostile.network(tf_keras)
    model.save(folder / "two.h5")
    model.save(folder / "two.keras")
    model.save(folder / "two", save_format="tf")
    hostile.network(keras).save(folder / "three.keras")
    hostile.network(keras).save(folder / "three.h5")
    return folder


def copied(path: Path, target: Path) -> Path:
    return shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)


def clean(path: Path, folder: Path) -> str:
    """What each form goes through before a Keras gets it."""
    if path.is_dir():
        return saved_model.copy(path, folder / "clean", trust=False)
    if path.suffix == ".keras":
        return trust.copy_keras(path, folder / "clean.keras")
    return trust.copy_h5(path, folder / "clean.h5")


def refusal(path: Path, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        clean(path, folder)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "X")


@pytest.mark.parametrize("name", ["two.h5", "two.keras", "two", "three.keras", "three.h5"])
def test_what_only_computes_passes(sound: Path, tmp_path: Path, name: str) -> None:
    assert clean(sound / name, tmp_path)[0] in "23"


# Lambda layers


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("k", [tf_keras, keras], ids=["2", "3"])
def test_a_lambda_is_refused_and_not_run(k: Any, nested: bool, suffix: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = hostile.with_lambda(k, tmp_path / f"evil{suffix}", mark, nested=nested)
    assert refusal(path, tmp_path) == f"X: layer 'note' (Lambda): {LAMBDA}"
    assert not mark.exists()


def test_without_the_check_a_lambda_does_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    path = hostile.with_lambda(tf_keras, tmp_path / "evil.h5", mark)
    monkeypatch.setattr(trust, "check_config", lambda config, where: None)
    clean(path, tmp_path)
    assert not mark.exists()
    tf_keras.models.load_model(tmp_path / "clean.h5", compile=False)
    assert mark.exists()


def test_a_lambda_in_a_saved_model(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    model = hostile.network(tf_keras, tf_keras.layers.Lambda(hostile.marker(mark), name="note"))
    model.save(tmp_path / "evil", save_format="tf")
    mark.unlink()
    assert f"layer 'note' (Lambda): {LAMBDA}" in refusal(tmp_path / "evil", tmp_path)
    assert not mark.exists()


# Names that lead elsewhere


def test_a_function_of_another_module(sound: Path, tmp_path: Path) -> None:
    path = copied(sound / "two.keras", tmp_path / "evil.keras")
    hostile.edited_keras(path, hostile.function_of_the_system)
    assert refusal(path, tmp_path) == (
        f"X: layer 'stem' (function): the function 'system' is no activation of Keras's; {AGAIN}"
    )
    # tf_keras's own safe mode imports the module and calls the function.
    found = tf_keras.saving.deserialize_keras_object(
        {"module": "os", "class_name": "function", "config": "getpid", "registered_name": "x"}
    )
    assert found.__name__ == "getpid"


def test_tensorflow_functions_by_name(tmp_path: Path) -> None:
    model = hostile.network(tf_keras, tf_keras.layers.Lambda(lambda x: x, name="two"))
    path = tmp_path / "evil.h5"
    model.save(path)

    def edit(text: str) -> str:
        config = json.loads(text)
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "Lambda":
                layer["class_name"] = "TFOpLambda"
                layer["config"] = {"name": "two", "function": function}
        return json.dumps(config)

    for function in ("io.write_file", "io.read_file", "py_function", "load_library", "compat.v1.x"):
        hostile.edited_h5(path, edit)
        assert refusal(path, tmp_path) == (
            f"X: layer 'two' (TFOpLambda): it calls TensorFlow's '{function}', which is none of "
            f"the functions that only compute; {AGAIN}"
        )
        hostile.edited_h5(path, lambda text: text.replace("TFOpLambda", "Lambda"))
    # What the name would have led to.
    layer = tf_keras.layers.deserialize(
        {"class_name": "TFOpLambda", "config": {"name": "a", "function": "io.write_file"}},
        use_legacy_format=True,
    )
    assert layer.function is tf.io.write_file


def layer(name: str, **settings: Any) -> dict[str, Any]:
    return {"class_name": name, "config": {"name": "it", **settings}}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (layer("MyBlock"), f"layer 'it' (MyBlock): {CUSTOM}"),
        ({**layer("Dense"), "registered_name": "mine>Dense"}, f"layer 'it' (Dense): {CUSTOM}"),
        ({**layer("Dense"), "module": "os"}, f"layer 'it' (Dense): {CUSTOM}"),
        ({**layer("Dense"), "module": "keras.utils"}, f"layer 'it' (Dense): {CUSTOM}"),
        ({**layer("Dense"), "module": "keras.layers\n"}, f"layer 'it' (Dense): {CUSTOM}"),
        ({**layer("Map"), "module": "keras.src.ops.core"}, f"layer 'it' (Map): {CUSTOM}"),
        (layer("TFSMLayer", filepath="x"), "it loads a SavedModel of its own by a path"),
        (layer("StringLookup", vocabulary="/etc/passwd"), "it is for text, and may read files"),
        (layer("TorchModuleWrapper", module="x"), "it holds a pickle, which is code"),
        (layer("InstanceMethod", attr_name="x"), "it calls any method of TensorFlow by its name"),
        (layer("Dense", activation="deserialize"), "its activation 'deserialize' is none of"),
        (layer("Dense", kernel_regularizer="math"), "its kernel_regularizer 'math' is none of"),
        (layer("Dense", kernel_constraint="math"), "its kernel_constraint 'math' is none of"),
        (
            layer("Dense", activation={"class_name": "function", "module": "os", "config": "relu"}),
            f"layer 'it' (function): a function of 'os', which is never run; {AGAIN}",
        ),
        (layer("Dense", x=[{"class_name": "__lambda__", "config": {"value": "x"}}]), LAMBDA),
        (layer("Dense", activation={"class_name": "MyAct", "config": {}}), f"(MyAct): {CUSTOM}"),
        ({"class_name": {"class_name": "__bytes__", "value": "Lambda"}}, "that is no name"),
        ({"class_name": "TypeSpec", "type_spec": "mine", "serialized": []}, "(TypeSpec)"),
        ({"class_name": "CompositeTensor", "spec": {}}, "(CompositeTensor)"),
        (layer("SlicingOpLambda", function=["x"]), "it calls TensorFlow's \"['x']\""),
        (layer("TensorFlowOpLayer", node_def={"op": "WriteFile"}), "it runs TensorFlow's 'WriteF"),
        (layer("TensorFlowOpLayer", node_def="\n\x01a\x12\x08ReadFile"), "TensorFlow's 'ReadFile'"),
        (layer("Dense", units=math.nan), "units is nan, wanted a number"),
        (layer("Dense", units=-math.inf), "units is -inf, wanted a number"),
    ],
)
def test_names_of_no_known_thing(config: dict[str, Any], wanted: str) -> None:
    with pytest.raises(DataError) as caught:
        trust.checked(json.dumps({"class_name": "Sequential", "config": [config]}), "X")
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        layer("Dense", activation={"class_name": "LeakyReLU", "config": {"alpha": 0.1}}),
        {**layer("Dense", activation="relu"), "module": "keras.layers", "registered_name": None},
        {**layer("Functional"), "module": "keras.src.engine.functional",
         "registered_name": "Functional"},
        {**layer("Mean"), "module": "keras.src.ops.numpy", "registered_name": "Mean"},
        layer("TFOpLambda", function="math.truediv"),
        layer("SlicingOpLambda", function="__operators__.getitem"),
        layer("TensorFlowOpLayer", node_def="\n\x01a\x12\x03Mul"),
        {**layer("Model"), "compile_config": {"loss": {"class_name": "Mine", "config": {}}}},
    ],
)  # fmt: skip
def test_names_of_known_things(config: dict[str, Any]) -> None:
    trust.checked(json.dumps({"class_name": "Sequential", "config": [config]}), "X")


def test_compile_settings_never_reach_keras() -> None:
    text = (
        '{"class_name": "Model", "compile_config": {"loss": 1}, "config": {"training_config": 1}}'
    )
    assert trust.checked(text, "X") == {"class_name": "Model", "config": {}}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{", "X: its configuration is no JSON ("),
        ("[]", "X: wanted a configuration, found a list"),
        ('{"class_name": "Dense", "class_name": "Lambda"}', "a key stands twice"),
        ("[" * 100_000, "too deep"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "too deep"),
        ('{"a":' * 300 + "1" + "}" * 300, "too deep"),
        ('{"a": 1' + "0" * 5000 + "}", "no JSON"),
    ],
)
def test_configurations_that_are_none(text: str, wanted: str) -> None:
    with pytest.raises(DataError) as caught:
        trust.checked(text, "X")
    assert wanted in str(caught.value)


def test_all_of_the_lists_exist() -> None:
    """A name that TensorFlow does not have would be a slip of the pen."""
    from tensorflow.python.framework import op_def_registry
    from tensorflow.python.util.tf_export import get_symbol_from_name

    def exists(name: str) -> bool:
        return any(get_symbol_from_name(prefix + name) for prefix in ("", "compat.v1."))

    operators = known.OPERATORS | known.SAVER_OPERATORS
    assert [name for name in operators if op_def_registry.get(name) is None] == []
    ours = [name for name in known.FUNCTIONS if not name.startswith("keras.")]
    assert [name for name in ours if not exists(name)] == []
    assert not known.LAYERS & set(known.REFUSED_LAYERS)


# Data that lie elsewhere, or nowhere


def external_link(file: Any, other: Path) -> None:
    file["model_weights/labels/more"] = h5py.ExternalLink(str(other), "/")


def soft_link(file: Any, other: Path) -> None:
    file["model_weights/labels/more"] = h5py.SoftLink("/")


def external_storage(file: Any, other: Path) -> None:
    other.write_bytes(bytes(64))
    file.create_dataset("model_weights/more", (16,), "f4", external=[(str(other), 0, 64)])


def virtual(file: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((16,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "x", (16,))
    file.create_virtual_dataset("model_weights/more", layout)


def huge(file: Any, other: Path) -> None:
    file.create_dataset("model_weights/more", (10**6, 10**6), "f4", chunks=(100, 100))


LINK = "X: 'more' in it is a link, to this or another file; "
OTHER = "X: the data of 'more' lie in another file; "
H5 = [
    (external_link, LINK),
    (soft_link, LINK),
    (external_storage, OTHER),
    (virtual, OTHER),
    (huge, "X: it declares 4,000,0"),
]


@pytest.mark.parametrize(("edit", "wanted"), H5)
def test_h5_data_that_are_not_in_the_file(
    edit: Callable[[Any, Path], None], wanted: str, sound: Path, tmp_path: Path
) -> None:
    path = copied(sound / "two.h5", tmp_path / "evil.h5")
    with h5py.File(path, "a") as file:
        edit(file, tmp_path / "other")
    assert refusal(path, tmp_path).startswith(wanted)


def test_the_weights_of_a_keras_file_too(sound: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.h5"
    with zipfile.ZipFile(sound / "three.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights.write_bytes(members["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        file["more"] = h5py.ExternalLink("/etc/passwd", "/")
    members["model.weights.h5"] = weights.read_bytes()
    path = tmp_path / "evil.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert refusal(path, tmp_path).startswith("X: model.weights.h5: 'more' in it is a link")


def test_a_zip_bomb(sound: Path, tmp_path: Path) -> None:
    path = copied(sound / "three.keras", tmp_path / "evil.keras")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = bytes(200_000_000)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert refusal(path, tmp_path) == "X: model.weights.h5 in it unpacks to 200,000,000 bytes"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["config.json", "metadata.json", "model.weights.h5"])
def test_a_member_that_stands_twice(name: str, sound: Path, tmp_path: Path) -> None:
    path = copied(sound / "three.keras", tmp_path / "evil.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, archive.read(name))
    assert refusal(path, tmp_path) == f"X: {name} stands in it twice; {AGAIN}"


HALF = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
KERAS_3 = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}}


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (layer("Dense", dtype="float16"), layer("Dense", dtype="float32")),
        (
            layer("Dense", dtype=HALF, layer=layer("GRU", dtype=KERAS_3)),
            layer(
                "Dense",
                dtype={**HALF, "config": {"name": "float32"}},
                layer=layer("GRU", dtype={**KERAS_3, "config": {"name": "float32"}}),
            ),
        ),
        (layer("Dense", dtype="int32", name2="float16"), None),
        ({"class_name": "Dense", "config": {"name": "float16", "dtype": "float32"}}, None),
        ({"layers": [], "input_layers": [["float16", 0, 0]]}, None),
        ({**layer("TFOpLambda", function="cast"),
          "inbound_nodes": [["float16", 0, 0, {"dtype": "float16"}]]}, None),
        ({**layer("Cast", dtype="float16"), "module": "keras.src.ops.core"}, None),
    ],
)  # fmt: skip
def test_policies_alone_are_made_float32(config: dict[str, Any], wanted: Any) -> None:
    found = trust.in_float32({"config": {"layers": [config]}})
    assert found == {"config": {"layers": [wanted or config]}}


def test_assets_are_left_out(sound: Path, tmp_path: Path) -> None:
    path = copied(sound / "three.keras", tmp_path / "more.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/../../x", "x")
    clean(path, tmp_path)
    with zipfile.ZipFile(tmp_path / "clean.keras") as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]


# SavedModels

RUNS = "which is none of the operators that only compute; --trust loads it all the same"
SAVES = (
    "which is no function in it, or reads and writes files as a saver does; --trust loads it all "
    "the same"
)


@pytest.mark.parametrize(
    ("make", "operator"),
    [
        (hostile.signature_that_writes, "WriteFile"),
        (hostile.signature_of_python, "EagerPyFunc"),
        (hostile.initializer_that_writes, "WriteFile"),
    ],
)
def test_a_saved_model_that_does_more(
    make: Callable[[Path, Path], Path], operator: str, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    found = refusal(make(tmp_path / "evil", mark), tmp_path)
    assert found.startswith(f"X: it runs TensorFlow's '{operator}' (in __inference_")
    assert found.endswith(RUNS)
    assert not mark.exists()


def test_without_the_check_an_initializer_does_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    hostile.initializer_that_writes(tmp_path / "evil", mark)
    saved_model.copy(tmp_path / "evil", tmp_path / "clean", trust=True)
    assert not mark.exists()
    tf_keras.models.load_model(str(tmp_path / "clean"), compile=False)
    assert mark.exists()


def test_an_init_op_is_left_out(sound: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = copied(sound / "two", tmp_path / "evil")
    hostile.edited_graphs(path, hostile.init_op_that_writes(mark))
    clean(path, tmp_path)
    for folder, written in ((tmp_path / "clean", False), (path, True)):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        assert mark.exists() == written


def test_what_tensorflow_runs_in_anothers_place(sound: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = copied(sound / "two", tmp_path / "evil")
    hostile.edited_graphs(path, hostile.implementation_that_saves(mark))
    assert refusal(path, tmp_path) == f"X: it runs TensorFlow's 'Save' (in other), {RUNS}"
    assert not mark.exists()
    saved_model.copy(path, tmp_path / "trusted", trust=True)
    serve = child._signature(tmp_path / "trusted", path)
    assert serve is not None
    assert not mark.exists()
    serve(hostile.pictures(2), training=False)
    assert mark.exists()


@pytest.mark.parametrize(
    "edit",
    [
        hostile.saver_from_a_function,
        hostile.saver_among_branches,
        hostile.saver_within_an_attribute,
        hostile.saver_as_method,
        hostile.saver_as_object,
        hostile.saver_as_function,
    ],
)
def test_the_saver_is_for_the_saver(
    edit: Callable[[Any], None], sound: Path, tmp_path: Path
) -> None:
    path = copied(sound / "two", tmp_path / "evil")
    hostile.edited_graphs(path, edit)
    found = refusal(path, tmp_path)
    assert found.startswith("X: it calls '__inference__traced_save_")
    assert found.endswith(SAVES)


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (hostile.operator_as_branch, f"X: it calls 'WriteFile', {SAVES}"),
        (hostile.two_of_a_name, "X: two functions '__inference_"),
        (hostile.function_as_operator, "X: a function 'Relu' in it, as an operator; save it again"),
    ],
)
def test_names_of_functions(
    edit: Callable[[Any], None], wanted: str, sound: Path, tmp_path: Path
) -> None:
    path = copied(sound / "two", tmp_path / "evil")
    hostile.edited_graphs(path, edit)
    assert refusal(path, tmp_path).startswith(wanted)


def test_what_is_left_of_functions(sound: Path, tmp_path: Path) -> None:
    path = copied(sound / "two", tmp_path / "more")

    def edit(meta: Any) -> None:
        library = meta.graph_def.library
        for function in library.function:
            function.attr["api_implements"].s = b"x"
        name = library.function[0].signature.name
        library.gradient.add(function_name=name, gradient_func=name)
        library.registered_gradients.add(gradient_func=name, registered_op_type="Relu")

    hostile.edited_graphs(path, edit)
    clean(path, tmp_path)

    def check(meta: Any) -> None:
        library = meta.graph_def.library
        assert not library.gradient
        assert not library.registered_gradients
        assert {name for f in library.function for name in f.attr} == set(saved_model.ATTRIBUTES)
        assert {node.op for node in meta.graph_def.node} == {"Const"}

    hostile.edited_graphs(tmp_path / "clean", check)


def test_augmentation_and_constants_of_a_saved_model(tmp_path: Path) -> None:
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential([
        layers.Input((hostile.SIZE, hostile.SIZE, 3)),
        tf_keras.Sequential([
            layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1),
            layers.RandomTranslation(0.1, 0.1), layers.RandomContrast(0.1),
            layers.RandomBrightness(0.1), layers.RandomCrop(6, 6), layers.Resizing(8, 8),
            layers.CenterCrop(6, 6), layers.GaussianNoise(0.1), layers.SpatialDropout2D(0.1),
        ]),
        layers.Rescaling(1 / 255),
        layers.Normalization(),  # its mean stands among the graph's constants
        layers.Flatten(),
        layers.Dense(3),
    ])  # fmt: skip
    model.save(tmp_path / "two", save_format="tf")
    clean(tmp_path / "two", tmp_path)
    loaded = child._load(tmp_path / "clean", "tf.keras 2", tmp_path)
    serve = child._signature(tmp_path / "clean", tmp_path)
    assert serve is not None
    wanted = model(hostile.pictures(), training=False)
    assert np.ptp(wanted, axis=0).max() > 1e-3
    for call in (loaded, serve):
        np.testing.assert_allclose(call(hostile.pictures(), training=False), wanted, atol=1e-5)


# A SavedModel's files


@pytest.mark.parametrize(
    "name",
    ["saved_model.pb", "keras_metadata.pb", "variables/variables.index",
     "variables/variables.data-00000-of-00001"],
)  # fmt: skip
def test_links_are_not_followed(name: str, sound: Path, tmp_path: Path) -> None:
    path = copied(sound / "two", tmp_path / "evil")
    (path / name).rename(tmp_path / "secret")
    (path / name).symlink_to(tmp_path / "secret")
    assert refusal(path, tmp_path) == (
        f"X/{name}: wanted a file, found a link or device; put the file itself there (`cp -L`)"
    )


def test_a_folder_of_links(sound: Path, tmp_path: Path) -> None:
    path = copied(sound / "two", tmp_path / "evil")
    (path / "variables").rename(tmp_path / "secret")
    (path / "variables").symlink_to(tmp_path / "secret")
    assert refusal(path, tmp_path).startswith("X/variables: wanted a folder, found a link")


def test_other_files_stay_where_they_are(sound: Path, tmp_path: Path) -> None:
    path = copied(sound / "two", tmp_path / "more")
    (path / "variables" / "more").symlink_to("/dev/zero")
    clean(path, tmp_path)
    found = sorted(file.name for file in (tmp_path / "clean").rglob("*") if file.is_file())
    assert found == [
        "keras_metadata.pb", "saved_model.pb", "variables.data-00000-of-00001", "variables.index",
    ]  # fmt: skip


def test_files_too_large(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copied(sound / "two", tmp_path / "large")
    file = path / "variables" / "variables.data-00000-of-00001"
    for limit, name in (("LARGEST_WEIGHTS", file), ("LARGEST_GRAPHS", path / "saved_model.pb")):
        monkeypatch.setattr(saved_model, limit, 10)
        wanted = f"{name}: wanted 10 bytes at most, found {name.stat().st_size:,}"
        with pytest.raises(DataError) as caught:
            clean(path, tmp_path)
        assert str(caught.value) in (wanted, wanted.replace(".data-00000-of-00001", ".index"))
        shutil.rmtree(tmp_path / "clean", ignore_errors=True)


# Layers of a SavedModel


def test_metrics_of_ones_own_are_left_out(tmp_path: Path) -> None:
    class Mine(tf_keras.metrics.CategoricalAccuracy):  # type: ignore[misc]
        pass

    model = hostile.network(tf_keras)
    model.compile("adam", "categorical_crossentropy", metrics=[Mine(name="mine")])
    model.fit(hostile.pictures(2), np.eye(3, dtype="float32")[:2], verbose=0)
    model.save(tmp_path / "two", save_format="tf")
    clean(tmp_path / "two", tmp_path)
    loaded = tf_keras.models.load_model(str(tmp_path / "clean"), compile=False)
    wanted = model(hostile.pictures(), training=False)
    np.testing.assert_allclose(loaded(hostile.pictures(), training=False), wanted, atol=1e-6)


def test_a_saved_model_of_another_program(tmp_path: Path) -> None:
    hostile.network(keras).export(tmp_path / "plain", verbose=False)
    found = refusal(tmp_path / "plain", tmp_path)
    assert found.startswith("X: a SavedModel without Keras layers in it, as model.export")


# Mutations


def mutated(data: bytes, seed: int) -> bytes:
    random_ = random.Random(seed)
    broken = bytearray(data)
    for _ in range(random_.choice((1, 4, 64))):
        place = random_.randrange(len(broken))
        match random_.randrange(4):
            case 0:
                broken[place] ^= 1 << random_.randrange(8)
            case 1:
                broken[place] = random_.randrange(256)
            case 2:
                del broken[place : place + random_.randrange(1, 16)]
            case _:
                broken[place:place] = random_.randbytes(random_.randrange(1, 16))
    return bytes(broken)


@pytest.mark.parametrize("name", ["two.h5", "three.keras", "two"])
def test_mutations_pass_or_are_refused(name: str, sound: Path, tmp_path: Path) -> None:
    refused = 0
    for seed in range(60):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = copied(sound / name, folder / name)
        if path.suffix == ".keras" and seed % 2:  # past the checksums
            hostile.edited_keras(
                path, lambda text, seed=seed: mutated(text.encode(), seed).decode(errors="replace")
            )
        else:
            file = path / "saved_model.pb" if path.is_dir() else path
            file.write_bytes(mutated(file.read_bytes(), seed))
        try:
            clean(path, folder)
        except DataError as error:
            assert "\n" not in str(error)
            refused += 1
        shutil.rmtree(folder)
    assert 0 < refused < 60
