"""A model trained elsewhere goes the whole way: as people wrote it, saved in each of the forms.

One nested network with augmentation, trained by tf_keras on drawn mushrooms with pixels as
-1..1, which the file does not say, and one sigmoid network for two of the classes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mobileclf
from mobileclf.config import make_settings
from mobileclf.errors import DataError, ProofError, UsageError
from mobileclf.images import sample
from mobileclf.images.load import ImageSpec, load
from mobileclf.images.preprocess import BYTES, Preprocess
from mobileclf.importing import adopt, formats
from mobileclf.importing.given import Given
from mobileclf.records import read_csv, read_json, sha256_file
from mobileclf.report import stages as tables

SIZE, PER_CLASS = 48, 60
SPEC = ImageSpec(width=SIZE, height=SIZE, channels=3)
QUICK = {"harmful": "NotEdible", "name": "own"}


def body(k: Any) -> Any:
    return k.Sequential(
        [
            k.Input((SIZE, SIZE, 3)),
            k.layers.Conv2D(16, 3, strides=2, activation="relu"),
            k.layers.SeparableConv2D(32, 3, activation="relu"),
            k.layers.MaxPooling2D(),
            k.layers.Conv2D(48, 3, padding="same"),
            k.layers.BatchNormalization(),
            k.layers.Activation("relu"),
        ],
        name="body",
    )


def nested(k: Any, labels: int) -> Any:
    last = k.layers.Dense(labels, activation="softmax")
    if labels == 2:
        last = k.layers.Dense(1, activation="sigmoid")
    return k.Sequential(
        [
            k.Sequential([k.layers.RandomFlip("horizontal")], name="augmentation"),
            body(k),
            k.layers.GlobalAveragePooling2D(),
            k.layers.Dropout(0.1),
            k.layers.Dense(32, activation="relu"),
            last,
        ]
    )


def pixels_of(folder: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """As flow_from_directory has them: folders by name, pixels in -1..1."""
    folders = sorted(path for path in folder.iterdir())
    files = [(path, i) for i, one in enumerate(folders) for path in sorted(one.iterdir())]
    pixels = np.stack([load(path, SPEC) for path, _ in files])
    return (
        pixels.astype(np.float32) / 127.5 - 1,
        np.array([i for _, i in files]),
        [one.name for one in folders],
    )


def trained(k: Any, folder: Path, labels: int) -> Any:
    pixels, truth, _ = pixels_of(folder)
    k.utils.set_random_seed(0)
    model = nested(k, labels)
    loss = "sparse_categorical_crossentropy" if labels > 2 else "binary_crossentropy"
    model.compile(k.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    model.fit(pixels, truth, epochs=25, batch_size=16, verbose=0)
    right = model.evaluate(pixels, truth, verbose=0)[1]
    assert right > 0.85, right
    return model


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "four"
    sample.write_sample(folder, per_class=PER_CLASS)
    for one in sorted(folder.iterdir())[1::2]:
        shutil.rmtree(one)
    return folder


@pytest.fixture(scope="module")
def two(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "two"
    for one in sorted(photos.iterdir())[:2]:
        shutil.copytree(one, folder / one.name)
    return folder


@pytest.fixture(scope="module")
def model(photos: Path) -> Any:
    import tf_keras

    return trained(tf_keras, photos, 4)


@pytest.fixture(scope="module")
def h5(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "nested.h5"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def exported(photos: Path, h5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    mobileclf.export(
        int8=True,
        data=photos,
        model=h5,
        preprocess="-1..1",
        run=folder / "run",
        out=folder,
        **QUICK,
    )
    return folder


def accuracy_of(model: Any, run: Path, photos: Path) -> float:
    """What Keras itself says of the run's test photos."""
    rows = [row for row in read_csv(run / "dataset.csv") if row["split"] == "test"]
    names = [row["label"] for row in read_json(run / "dataset.json")["labels"]]
    pixels = np.stack([load(photos / row["path"], SPEC) for row in rows]).astype(np.float32)
    answers = np.asarray(model.predict(pixels / 127.5 - 1, verbose=0))
    if answers.shape[1] == 1:
        answers = np.hstack([1 - answers, answers])
    truth = [names.index(row["label"]) for row in rows]
    return float(np.mean(answers.argmax(axis=1) == truth))


def test_the_nested_h5_ends_in_a_bundle_as_accurate_as_keras_says(
    exported: Path, model: Any, photos: Path
) -> None:
    parity = read_json(exported / "run" / "parity.json")
    assert parity["float"]["accuracy"] == accuracy_of(model, exported / "run", photos)
    assert all(gate["passed"] for gate in parity["gates"])
    bundle = read_json(exported / "own" / "bundle.json")
    assert bundle["input"]["dtype"] == "uint8" and bundle["input"]["scale"] == 1.0
    assert bundle["model"]["arithmetic"] == "int8" and bundle["purpose"] == "real"
    case = bundle["golden"][0]
    (row,) = mobileclf.predict(exported / "own", [exported / "own" / case["image"]])
    assert (row["label"], row["verdict"]) == (case["label"], case["verdict"])


def test_the_record_says_how_it_was_read(exported: Path) -> None:
    record = read_json(exported / "run" / "train.json")
    given = record["given"]
    assert record["start"] == "given model" and record["network"] == "nested.h5"
    assert given["preprocess"]["name"] == "-1..1" and given["preprocess_from"] == "--preprocess"
    assert any("RandomFlip" in what for what in given["dropped"])
    assert [check["passed"] for check in record["checks"]] == [True, True]
    assert [check["bound"] for check in record["checks"]] == [1e-5, 1e-4]
    assert all(check["largest_difference"] < 1e-6 for check in record["checks"])
    assert read_json(exported / "run" / "quantize.json")["candidates"] == [
        "calibrated",
        "reconstructed",
    ]


def test_each_stage_has_a_table_for_it(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = make_settings({"run": exported / "run", "name": "own"})
    for stage in ("dataset", "train", "quantize", "convert", "parity"):
        tables.show(settings, stage)
        assert len(capsys.readouterr().out) > 100


def test_a_second_export_does_nothing_again(exported: Path, photos: Path, h5: Path) -> None:
    before = (exported / "run" / "train.json").stat().st_mtime_ns
    mobileclf.export(
        int8=True, data=photos, model=h5, preprocess="-1..1", run=exported / "run", out=exported,
        **QUICK,
    )  # fmt: skip
    assert (exported / "run" / "train.json").stat().st_mtime_ns == before


def test_predict_reads_the_h5_too(
    h5: Path, model: Any, exported: Path, photos: Path, tmp_path: Path
) -> None:
    names = [row["label"] for row in read_json(exported / "run" / "dataset.json")["labels"]]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    pictures = [
        path for folder in sorted(photos.iterdir()) for path in sorted(folder.iterdir())[:2]
    ]
    with pytest.raises(UsageError, match="how pixels become its input"):
        mobileclf.predict(h5, pictures, labels=tmp_path / "labels.txt")
    rows = mobileclf.predict(h5, pictures, labels=tmp_path / "labels.txt", preprocess="-1..1")
    pixels = np.stack([load(path, SPEC) for path in pictures]).astype(np.float32) / 127.5 - 1
    answers = np.asarray(model(pixels, training=False))
    assert [row["label"] for row in rows] == [names[i] for i in answers.argmax(axis=1)]
    assert np.allclose([row["score"] for row in rows], answers.max(axis=1), atol=1e-5)


def train(photos: Path, model: Path, run: Path, **options: Any) -> Any:
    return mobileclf.train(data=photos, model=model, run=run, **options)


def test_without_preprocessing_the_right_one_is_proposed_and_not_used(
    photos: Path, h5: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--preprocess -1\.\.1") as found:
        train(photos, h5, tmp_path / "run")
    assert all(name in str(found.value) for name in ("0..255", "0..1", "caffe", "torch"))
    assert not (tmp_path / "run" / "train.json").exists()


def test_a_wrong_preprocessing_is_caught(photos: Path, h5: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"-1\.\.1"):
        train(photos, h5, tmp_path / "run", preprocess="0..255")


def test_two_swapped_labels_are_caught_and_the_right_order_printed(
    photos: Path, h5: Path, tmp_path: Path
) -> None:
    names = sorted(path.name for path in photos.iterdir())
    swapped = [names[i] for i in (0, 2, 1, 3)]
    (tmp_path / "labels.txt").write_text("\n".join(swapped))
    with pytest.raises(DataError) as found:
        train(photos, h5, tmp_path / "run", preprocess="-1..1", labels=tmp_path / "labels.txt")
    words = str(found.value)
    assert names[1].split("-")[0] in words and names[2].split("-")[0] in words and "p" in words


def test_labels_in_the_order_of_the_model_are_kept(
    model: Any, photos: Path, tmp_path: Path
) -> None:
    """Its outputs turned round, and a file that says so: labels.txt has that order."""
    import tf_keras

    turned = tf_keras.models.clone_model(model)
    turned.set_weights(model.get_weights())
    last = turned.layers[-1]
    last.set_weights([value[..., ::-1] for value in last.get_weights()])
    turned.save(tmp_path / "turned.h5")
    names = sorted(path.name for path in photos.iterdir())[::-1]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    record = train(
        photos, tmp_path / "turned.h5", tmp_path / "run", preprocess="-1..1",
        labels=tmp_path / "labels.txt",
    )  # fmt: skip
    rows = read_json(tmp_path / "run" / "dataset.json")["labels"]
    assert [f"{row['label']}-{row['group']}" for row in rows] == names
    with pytest.raises(DataError):
        train(photos, tmp_path / "turned.h5", tmp_path / "other", preprocess="-1..1")
    assert record["given"]["label_order"]["right"] > 0.8 * record["given"]["label_order"]["photos"]


def test_saved_model_and_keras_files_give_the_same_model(
    model: Any, photos: Path, exported: Path, tmp_path: Path
) -> None:
    from mobileclf.models import keras_file

    model.save(tmp_path / "saved", save_format="tf")
    model.save(tmp_path / "two.keras")
    reference = keras_file.load(exported / "run" / "model.keras").get_weights()
    for name in ("saved", "two.keras"):
        record = train(photos, tmp_path / name, tmp_path / f"run_{name}", preprocess="-1..1")
        found = keras_file.load(tmp_path / f"run_{name}" / "model.keras").get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(reference, found, strict=True))
        assert record["checks"][0]["passed"]


def test_a_sigmoid_network_of_keras_3_and_a_run_of_it(two: Path, tmp_path: Path) -> None:
    import keras

    model = trained(keras, two, 2)
    model.save(tmp_path / "two.keras")
    common = {"data": two, "int8": True}
    mobileclf.export(
        model=tmp_path / "two.keras", preprocess="-1..1", run=tmp_path / "run", out=tmp_path,
        name="first", **common,
    )  # fmt: skip
    parity = read_json(tmp_path / "run" / "parity.json")
    assert parity["float"]["accuracy"] == accuracy_of(model, tmp_path / "run", two)
    assert read_json(tmp_path / "run" / "train.json")["given"]["head"] == "sigmoid"
    # The run itself as a model: it takes bytes and says so.
    mobileclf.export(
        model=tmp_path / "run", run=tmp_path / "again", out=tmp_path, name="second", **common
    )
    again = read_json(tmp_path / "again" / "parity.json")
    assert again["float"] == parity["float"] and again["int8"] == parity["int8"]


def test_a_tflite_gets_threshold_parity_and_bundle(
    exported: Path, photos: Path, tmp_path: Path
) -> None:
    float32 = exported / "run" / "model_float32.tflite"
    mobileclf.export(
        int8=True, data=photos, model=float32, preprocess="0..255", run=tmp_path / "run",
        out=tmp_path, **QUICK,
    )  # fmt: skip
    run, bundle = tmp_path / "run", read_json(tmp_path / "own" / "bundle.json")
    assert [c["candidate"] for c in read_json(run / "convert.json")["candidates"]] == ["given"]
    assert bundle["model"]["arithmetic"] == "float32" and bundle["input"]["dtype"] == "uint8"
    parity = read_json(run / "parity.json")
    assert parity["agreement"] == 1.0 and parity["largest_change"] < 1 / 256
    own = read_json(exported / "run" / "parity.json")
    assert parity["float"] == own["float"]
    assert (run / "given.tflite").read_bytes() == float32.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 3}, "--epochs: with --model nothing is trained"),
        ({"backbone": "small_cnn"}, "--backbone: with --model nothing is trained"),
        ({"recipe": "seed-digits"}, "--recipe: with --model nothing is trained"),
        ({"data": None}, "wanted photos to measure it on"),
        ({"preprocess": "bgr"}, "--preprocess 'bgr': wanted one of"),
    ],
)
def test_what_does_not_go_with_a_model_is_wrong_usage(
    photos: Path, h5: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        make_settings({"data": photos, "model": h5, **options})


def test_what_goes_with_a_model_alone_is_wrong_usage_without(photos: Path) -> None:
    for name, value in {"preprocess": "0..1", "trust": True}.items():
        with pytest.raises(UsageError, match=f"--{name}: .*give --model"):
            make_settings({"data": photos, name: value})


def test_a_model_that_scales_what_was_scaled_before_is_caught() -> None:
    """As with a Normalization adapted to pixels of 0..1, which looks like bytes scaled inside."""
    truth = np.repeat(np.arange(4), 32)

    def score(pixels: np.ndarray, how: Preprocess) -> np.ndarray:
        marked = pixels[:, 0, 0, 0]
        return np.eye(4)[marked if how.name == "0..1" else 0 * marked]

    given = Given(
        format="x", shape=(8, 8, 3), outputs=4, inside=BYTES, says="the model scales its pixels",
        takes=lambda how: True, score=score, finish=lambda *_: {},
    )  # fmt: skip
    pixels = np.broadcast_to(truth[:, None, None, None], (128, 8, 8, 3)).astype(np.uint8)
    photos = adopt._Photos(truth=truth, pixels=pixels)
    with pytest.raises(
        DataError, match=r"0\.\.255 .the model scales its pixels.*preprocess 0\.\.1"
    ):
        adopt._preprocessing(make_settings({"data": "x", "model": "y"}), given, photos)
    told = make_settings({"data": "x", "model": "y", "preprocess": "0..1"})
    assert adopt._preprocessing(told, given, photos).how.name == "0..1"


def test_a_run_is_not_made_of_itself(exported: Path, photos: Path) -> None:
    before = (exported / "run" / "dataset.json").read_bytes()
    for model in (exported / "run", exported / "run" / "model.keras"):
        with pytest.raises(UsageError, match="wanted a model outside of the run"):
            train(photos, model, exported / "run")
    assert (exported / "run" / "dataset.json").read_bytes() == before


def test_a_run_whose_model_was_changed_is_no_model(exported: Path, tmp_path: Path) -> None:
    shutil.copy(exported / "run" / "train.json", tmp_path)
    (tmp_path / "model.keras").write_bytes(b"another")
    with pytest.raises(DataError, match="model.keras is not as train.json has it"):
        formats.kind_of(tmp_path)


def test_an_int8_tflite_with_a_grid_of_its_own_is_predicted_as_it_was_measured(
    model: Any, photos: Path, tmp_path: Path
) -> None:
    """As the converter's guide makes it: its input says that byte 128 is 0, in steps of 1/127.5."""
    import tensorflow as tf

    pixels, _, _ = pixels_of(photos)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in pixels[::3])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    path = tmp_path / "theirs.tflite"
    path.write_bytes(converter.convert())
    mobileclf.export(
        int8=True, data=photos, model=path, preprocess="-1..1", run=tmp_path / "run",
        out=tmp_path, **QUICK,
    )  # fmt: skip
    bundle = read_json(tmp_path / "own" / "bundle.json")
    assert bundle["input"]["scale"] != 1.0 and bundle["model"]["arithmetic"] == "int8"
    rows = [row for row in read_csv(tmp_path / "run" / "dataset.csv") if row["split"] == "test"]
    for place in (tmp_path / "own", tmp_path / "run"):
        found = mobileclf.predict(place, [photos / row["path"] for row in rows])
        right = np.mean([a["label"] == b["label"] for a, b in zip(found, rows, strict=True)])
        assert right == read_json(tmp_path / "run" / "parity.json")["int8"]["accuracy"]


@pytest.mark.parametrize("options", [{"io": "int8"}, {"fp16": True}])
def test_formats_that_are_not_made_of_a_tflite(
    exported: Path, photos: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    model = exported / "run" / "model_float32.tflite"
    with pytest.raises(UsageError, match="a .tflite is not converted"):
        mobileclf.convert(data=photos, model=model, run=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_too_few_or_too_many_classes_are_named(two: Path, h5: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="each of the 2 classes of photos, found 4"):
        train(two, h5, tmp_path / "run", preprocess="-1..1")


def test_a_file_that_changed_is_another_input(h5: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.h5"
    shutil.copy(h5, own)
    same = adopt.fingerprint(own)
    data = bytearray(own.read_bytes())
    data[len(data) // 2] ^= 1
    own.write_bytes(bytes(data))
    assert same == {"": sha256_file(h5)} != adopt.fingerprint(own)


def test_a_flat_model_that_is_another_function_is_caught(
    photos: Path, h5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel changed on its way out of the child that reads the file."""
    from dataclasses import replace

    from mobileclf.importing import read

    honest = read.read_model

    def changed(*args: Any, **options: Any) -> Any:
        found = honest(*args, **options)
        *nodes, last = found.graph.nodes
        kernel, *rest = last.weights
        kernel = kernel.copy()
        kernel[0, 0] += 0.01
        graph = replace(found.graph, nodes=(*nodes, replace(last, weights=(kernel, *rest))))
        return replace(found, graph=graph)

    monkeypatch.setattr(read, "read_model", changed)
    with pytest.raises(ProofError, match="the given model against model.keras"):
        train(photos, h5, tmp_path / "run", preprocess="-1..1")
