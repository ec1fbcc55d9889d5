"""What `quantize_model` used as its guide says gives, beside what this tool ships.

    python benchmarks/quantize_guide.py RUN [--epochs 1] [--rate 0.001]

RUN is the folder of a finished export of an ImageNet backbone. Its trained float model is
rebuilt without the input scale (the guide has preprocessing outside), given to
`tfmot.quantization.keras.quantize_model`, fine-tuned on hard labels with the guide's optimizer,
converted with `from_keras_model`, and scored on the same test photos as the run's candidates.
The guide's optimizer is Adam as it comes (0.001); --rate tries a gentler one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mobileclf.models import backbones, keras_file
from mobileclf.photos import load_part
from mobileclf.pipeline import settings_for
from mobileclf.records import read_json
from mobileclf.scores import read_scores
from mobileclf.tflite.interpreter import open_interpreter


def unscaled(folder: Path) -> Any:
    """The trained network in tf_keras, on pixels -1..1, flat, batch norm in place."""
    import tf_keras

    record = read_json(folder / "train.json")["architecture"]
    architecture = backbones.Architecture.from_record(record)
    trained = keras_file.load(folder / "model.keras")
    make = {
        "inception_v3": tf_keras.applications.InceptionV3,
        "mobilenet_v2": tf_keras.applications.MobileNetV2,
    }[architecture.backbone]
    tf_keras.backend.clear_session()
    size = architecture.image_size
    base = make(include_top=False, weights=None, input_shape=(size, size, architecture.channels))
    x = tf_keras.layers.GlobalAveragePooling2D()(base.output)
    for name, units in zip(architecture.hidden, architecture.units, strict=True):
        x = tf_keras.layers.Dense(units, activation="relu", name=name)(x)
    x = tf_keras.layers.Dense(architecture.labels, activation="softmax", name="probabilities")(x)
    model = tf_keras.Model(base.input, x)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(trained.get_layer(layer.name).get_weights())
    return model


def converted(model: Any) -> bytes:
    """As the guide converts: from the Keras model, default optimizations, float ends."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return bytes(converter.convert())


def answers(model: bytes, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Outputs of a file with float ends, on pixels -1..1."""
    engine = open_interpreter(model, threads=2).engine
    given, got = engine.get_input_details()[0]["index"], engine.get_output_details()[0]["index"]
    rows = []
    for photo in photos:
        engine.set_tensor(given, (photo[None] / 127.5 - 1).astype(np.float32))
        engine.invoke()
        rows.append(engine.get_tensor(got)[0].copy())
    return np.stack(rows)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    import tensorflow_model_optimization as tfmot
    import tf_keras

    folder = arguments.run
    settings = settings_for({"run": folder}, recall=True)
    test, photos = load_part(folder, settings, "test")
    train, train_photos = load_part(folder, settings, "train")
    truth = test.truth
    reference = read_scores(folder, "float", "test")
    table = Table("int8 by", "test accuracy", "same answers as float")

    def row(name: str, chosen: NDArray[np.int64]) -> None:
        table.add_row(
            name, f"{np.mean(chosen == truth):.1%}", f"{np.mean(chosen == reference.answers):.1%}"
        )

    row("(float)", reference.answers)
    graph = tfmot.quantization.keras.quantize_model(unscaled(folder))
    graph.compile(
        optimizer=tf_keras.optimizers.Adam(arguments.rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    graph.fit(
        (train_photos / np.float32(127.5) - 1).astype(np.float32), train.truth,
        epochs=arguments.epochs, batch_size=16, verbose=2,
    )  # fmt: skip
    row(
        f"quantize_model, {arguments.epochs} epoch(s), Adam {arguments.rate:g}",
        answers(converted(graph), photos).argmax(axis=1),
    )
    selected = read_json(folder / "selection.json")["selected"]
    for entry in read_json(folder / "convert.json")["candidates"]:
        name = entry["candidate"]
        mark = " (ships)" if name == selected else ""
        row(f"mobileclf, {name}{mark}", read_scores(folder, f"{name}.xnnpack", "test").answers)
    Console().print(table)


if __name__ == "__main__":
    main()
