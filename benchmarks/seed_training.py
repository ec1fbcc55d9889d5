"""The seed's own way to train on photos: what `training_speed.py` compares with.

    python benchmarks/seed_training.py PHOTOS WEIGHTS MODEL [--epochs 20] [--seed 0]

PHOTOS holds `train` and `held`, each with class folders. `ImageDataGenerator` (TensorFlow's own,
`tf.keras.preprocessing.image`: Keras 3 as ours) decodes, augments and scales each photo anew in
each epoch; the head on a frozen InceptionV3 is fitted on what comes out, with the held-out photos
scored after each epoch. MODEL is the `.keras` that is written.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

SCALE = 1 / 255
AUGMENTED = {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True}
BATCH = 32  # both of ImageDataGenerator's own defaults
RESIZED = "nearest"


def flow(photos: Path, size: int, *, augmented: bool, shuffled: bool, batch: int = BATCH) -> Any:
    """Batches of (pixels float32 0..1, one-hot labels) of class folders, as the seed has them."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(rescale=SCALE, **(AUGMENTED if augmented else {}))
    return generator.flow_from_directory(
        photos, target_size=(size, size), batch_size=batch, interpolation=RESIZED,
        class_mode="categorical", shuffle=shuffled,
    )  # fmt: skip


def train(photos: Path, weights: Path, *, size: int, epochs: int, seed: int) -> Any:
    """The fitted model, from pixels 0..1 to a probability for each class folder by name."""
    import keras

    keras.utils.set_random_seed(seed)
    shown = flow(photos / "train", size, augmented=True, shuffled=True)
    held = flow(photos / "held", size, augmented=False, shuffled=False)
    base = keras.applications.InceptionV3(
        include_top=False, weights=str(weights), input_shape=(size, size, 3)
    )
    base.trainable = False
    features = keras.layers.GlobalAveragePooling2D()(base.output)
    hidden = keras.layers.Dense(64, activation="relu")(features)
    outputs = keras.layers.Dense(shown.num_classes, activation="softmax")(hidden)
    model = keras.Model(base.input, outputs)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    model.fit(shown, validation_data=held, epochs=epochs, verbose=2)
    return model


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--size", type=int, default=150, help="side of the input, pixels")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    model = train(
        given.photos, given.weights, size=given.size, epochs=given.epochs, seed=given.seed
    )
    model.save(given.model)


if __name__ == "__main__":
    main()
