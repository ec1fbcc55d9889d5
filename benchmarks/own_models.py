"""Models as people bring them, made by Keras alone, and what `export --model` makes of them.

    python benchmarks/own_models.py DATA --work FOLDER [--only NAME ...] [--train-only]

DATA holds `mushrooms4`, `cats_dogs` and `weights`. Each model is trained on the photos that the
run calls `train`, in class folders and with Keras' own readers, saved as its author would save it,
and given to the installed `mobileclf export --int8 --model`. Prints a table with one row a model:
the accuracy on the run's test photos by the saved file in its own Keras, by the run's float model
and by int8; on how many of those photos Keras and the run's float model differ, how many get the
same answer from float and int8; verdict, exit code and seconds. Models and splits already in the
work folder are used again; runs are made anew.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.images.load import ImageSpec, load
from mobileclf.scores import read_scores

MOBILECLF = str(Path(sys.executable).with_name("mobileclf"))
# What the authors' own programs do to a photo's bytes before the model sees them.
OUTSIDE: dict[str | None, Callable[[Any], Any]] = {
    None: lambda x: x,
    "0..1": lambda x: x / 255,
    "-1..1": lambda x: x / 127.5 - 1,
}


@dataclass(frozen=True, kw_only=True)
class Own:
    """A model to bring. preprocess: what stands outside of it, for `--preprocess`. side: of its
    input, pixels. keras: the module that saved it."""

    title: str
    keras: str
    photos: str
    side: int
    preprocess: str | None
    options: tuple[str, ...] = ()
    train: Callable[[Path, Path, Path], None]


# --- the authors' programs: photos of the train part, weights' folder, file to save ---


def nested(keras: Any, scaled: Callable[[Path, Any], Any], photos: Path, weights: Path) -> Any:
    """A mushroom app's model: InceptionV3, frozen, inside a Sequential.

    scaled: pictures -1..1 and one-hot labels, batch by batch, each photo twice. The frozen part
    sees them once; its features train the head.
    """
    keras.utils.set_random_seed(0)
    base = keras.applications.InceptionV3(
        include_top=False,
        weights=str(weights / "inception_v3_imagenet_notop.h5"),
        input_shape=(224, 224, 3),
    )
    base.trainable = False
    pooled = keras.Sequential([base, keras.layers.GlobalAveragePooling2D()])
    features, labels = [], []
    for x, y in scaled(photos, keras):
        features.append(np.asarray(pooled(x, training=False)))
        labels.append(np.asarray(y))
    head = keras.Sequential(
        [
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(len(list(photos.iterdir())), activation="softmax"),
        ]
    )
    head.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    head.fit(np.concatenate(features), np.concatenate(labels), epochs=20, verbose=2)
    model = keras.Sequential([*pooled.layers, *head.layers])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


def generator(photos: Path, keras: Any) -> Any:
    """The tf.keras 2 way."""
    reader = keras.preprocessing.image.ImageDataGenerator(
        preprocessing_function=keras.applications.inception_v3.preprocess_input,
        horizontal_flip=True,
    )
    flow = reader.flow_from_directory(str(photos), target_size=(224, 224), batch_size=32, seed=0)
    return (next(flow) for _ in range(2 * len(flow)))


def dataset(photos: Path, keras: Any) -> Any:
    """The Keras 3 way."""
    batches = keras.utils.image_dataset_from_directory(
        str(photos), image_size=(224, 224), label_mode="categorical", seed=0
    )
    flip = keras.layers.RandomFlip("horizontal", seed=0)
    scale = keras.applications.inception_v3.preprocess_input
    return ((scale(flip(x, training=True)), y) for x, y in batches.repeat(2))


def train_nested_tf(photos: Path, weights: Path, file: Path) -> None:
    """Saved as .h5 and as SavedModel, each by `model.save`."""
    import tf_keras

    model = nested(tf_keras, generator, photos, weights)
    model.save(file.with_name("nested.h5"))
    model.save(file.with_name("nested_saved_model"))


def train_nested(photos: Path, weights: Path, file: Path) -> None:
    import keras

    nested(keras, dataset, photos, weights).save(file)


def train_tutorial(photos: Path, weights: Path, file: Path) -> None:
    """TensorFlow's transfer learning tutorial: all that a photo goes through is in the model."""
    import keras

    keras.utils.set_random_seed(0)
    base = keras.applications.MobileNetV2(
        input_shape=(160, 160, 3),
        include_top=False,
        weights=str(weights / "mobilenet_v2_imagenet_notop.h5"),
    )
    base.trainable = False
    augmentation = keras.Sequential(
        [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.2)]
    )
    inputs = keras.Input((160, 160, 3))
    x = augmentation(inputs)
    x = keras.applications.mobilenet_v2.preprocess_input(x)
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(len(list(photos.iterdir())))(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    batches = keras.utils.image_dataset_from_directory(str(photos), image_size=(160, 160), seed=0)
    model.fit(batches, epochs=8, verbose=2)
    model.save(file)


def train_cats_dogs(photos: Path, weights: Path, file: Path) -> None:
    """A first CNN as courses have it: one sigmoid unit, saved as .h5."""
    import tf_keras
    from tf_keras import layers

    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential(
        [
            layers.Conv2D(32, 3, activation="relu", input_shape=(64, 64, 3)),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    reader = tf_keras.preprocessing.image.ImageDataGenerator(
        rescale=1 / 255, horizontal_flip=True, zoom_range=0.2, shear_range=0.2
    )
    flow = reader.flow_from_directory(
        str(photos), target_size=(64, 64), class_mode="binary", batch_size=32, seed=0
    )
    model.fit(flow, epochs=20, verbose=2)
    model.save(file)


MUSHROOMS = partial(Own, photos="mushrooms4", options=("--harmful", "NotEdible"))
MODELS = {
    "nested.h5": MUSHROOMS(
        title="InceptionV3 in a Sequential, tf.keras 2 .h5",
        keras="tf_keras", side=224, preprocess="-1..1", train=train_nested_tf,
    ),
    "nested_saved_model": MUSHROOMS(
        title="the same, SavedModel",
        keras="tf_keras", side=224, preprocess="-1..1", train=train_nested_tf,
    ),
    "nested.keras": MUSHROOMS(
        title="InceptionV3 in a Sequential, Keras 3 .keras",
        keras="keras", side=224, preprocess="-1..1", train=train_nested,
    ),
    "tutorial.keras": MUSHROOMS(
        title="MobileNetV2 as TensorFlow's tutorial, logits, Keras 3 .keras",
        keras="keras", side=160, preprocess=None, train=train_tutorial,
    ),
    "cats_dogs.h5": Own(
        title="small CNN, one sigmoid unit, tf.keras 2 .h5",
        keras="tf_keras", photos="cats_dogs", side=64, preprocess="0..1", train=train_cats_dogs,
    ),
}  # fmt: skip


# --- what is measured ---


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "dataset.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def split(data: Path, work: Path) -> Path:
    """The run whose dataset.csv says which photos train, which test. Folders of links beside it
    hold the train part, a folder for each class, as Keras' readers want them."""
    run = work / "split" / data.name
    if not (run / "dataset.csv").exists():
        subprocess.run([MOBILECLF, "dataset", str(data), "--run", str(run), "-q"], check=True)
    for row in rows_of(run):
        if row["split"] == "train":
            photo = data / row["path"]
            link = run / "train_photos" / photo.parent.name / photo.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(photo)
    return run


def by_keras(
    own: Own, file: Path, data: Path, run: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What the saved file answers to the test photos in its own Keras, and the truth: class
    indices (n,) in the alphabetical order of the folders."""
    if own.keras == "keras":
        import keras
    else:
        import tf_keras as keras
    rows = rows_of(run)
    classes = sorted({Path(row["path"]).parent.name for row in rows})
    paths = [Path(row["path"]) for row in rows if row["split"] == "test"]
    spec = ImageSpec(width=own.side, height=own.side)
    photos = np.stack([load(data / path, spec) for path in paths]).astype(np.float32)
    outputs = keras.models.load_model(file).predict(OUTSIDE[own.preprocess](photos), verbose=0)
    answers = outputs[:, 0] > 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
    return answers.astype(int), np.array([classes.index(path.parent.name) for path in paths])


def export(name: str, own: Own, file: Path, data: Path, work: Path) -> tuple[Path, int, float, str]:
    """Run folder, exit code, seconds and the message of one export."""
    run = work / "runs" / name.replace(".", "_")
    command = [MOBILECLF, "export", "--int8", "--model", str(file), "--data", str(data),
               "--run", str(run), "--out", str(work / "exported"), *own.options]  # fmt: skip
    if own.preprocess:
        command += ["--preprocess", own.preprocess]
    shutil.rmtree(run, ignore_errors=True)
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    reason = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    return run, done.returncode, time.monotonic() - start, "".join(reason)


def measure(name: str, own: Own, data: Path, work: Path, *, train_only: bool) -> list[str]:
    """Train what is not there yet, export it, and return the cells of its row."""
    photos = data / own.photos
    parts = split(photos, work)
    file = work / "models" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        own.train(parts / "train_photos", data / "weights", file)
    answers, truth = by_keras(own, file, photos, parts)
    cells = [f"{np.mean(answers == truth):.1%}"]
    if train_only:
        return cells
    run, code, seconds, reason = export(name, own, file, photos, work)
    if not (run / "parity.json").exists():
        return [*cells, *["–"] * 5, str(code), f"{seconds:.0f}", reason]
    same_split = [row["split"] for row in rows_of(run)] == [row["split"] for row in rows_of(parts)]
    if not same_split:
        raise SystemExit(f"{run}: another split than {parts}; remove {work} and start again")
    parity = json.loads((run / "parity.json").read_text())
    differ = int(np.sum(read_scores(run, "float", "test").answers != answers))
    return [
        *cells,
        f"{parity['float']['accuracy']:.1%}",
        str(differ),
        f"{parity['int8']['accuracy']:.1%}",
        f"{parity['agreement']:.1%}",
        parity["verdict"],
        str(code),
        f"{seconds:.0f}",
        reason,
    ]


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="kept; models are trained once")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--train-only", action="store_true", help="what Keras says, no export")
    given = parser.parse_args()
    titles = ["model", "Keras"]
    if not given.train_only:
        titles += ["float", "other than Keras", "int8", "same answers", "verdict", "exit",
                   "seconds"]  # fmt: skip
    print(f"| {' | '.join(titles)} |\n| {' | '.join(['---'] * len(titles))} |")
    for name in given.only:
        own = MODELS[name]
        cells = measure(
            name, own, given.data.resolve(), given.work.resolve(), train_only=given.train_only
        )
        print(f"| {' | '.join([own.title, *cells[: len(titles) - 1]])} |", flush=True)
        for reason in filter(None, cells[len(titles) - 1 :]):
            print(f"  {reason}", flush=True)


if __name__ == "__main__":
    main()
