"""Networks, written once for both Keras: `k` is the module `keras` (3) or `tf_keras`.

Every network takes float32 pixels 0..255 of shape (n, height, width, 3) and scales them itself,
so that the numbers of the preprocessing live in the model and nowhere else. It is flat: the
head stands on the backbone's output, with no model inside a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mobileclf.config import Settings
from mobileclf.errors import DataError, EnvironmentProblem

FEATURES = "features"
HIDDEN_UNITS = 64


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What it takes to build a network again: the same record gives the same graph."""

    backbone: str
    image_size: int
    labels: int
    seed: int

    def as_record(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dict(vars(self))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Architecture:
        """The architecture in `train.json`."""
        return cls(**record)


def build(k: ModuleType, architecture: Architecture, *, weights: str | None = None) -> Any:
    """A model of `k`: pixels to probabilities, float32 (n, labels).

    weights: None for random ones (seeded), `imagenet`, or the path of a Keras h5 without top.
    Raises DataError for weights that are absent, no h5 or of another network, and
    EnvironmentProblem when ImageNet's cannot be fetched.
    """
    import tensorflow as tf

    # Whatever is computed with the network from here on is computed the same way every time.
    tf.config.experimental.enable_op_determinism()
    k.backend.clear_session()  # layer names count up from here: equal in both Keras
    k.utils.set_random_seed(architecture.seed)
    size = architecture.image_size
    pixels = k.Input((size, size, 3), name="pixels")
    x = BACKBONES[architecture.backbone](k, pixels, weights)
    x = k.layers.GlobalAveragePooling2D(name=FEATURES)(x)
    x = k.layers.Dense(HIDDEN_UNITS, activation="relu", name="hidden")(x)
    x = k.layers.Dense(architecture.labels, activation="softmax", name="probabilities")(x)
    return k.Model(pixels, x, name=architecture.backbone)


def _inception_v3(k: ModuleType, pixels: Any, weights: str | None) -> Any:
    x = k.layers.Rescaling(1 / 127.5, offset=-1, name="scale")(pixels)
    return _application(k.applications.InceptionV3, x, weights)


def _mobilenet_v2(k: ModuleType, pixels: Any, weights: str | None) -> Any:
    x = k.layers.Rescaling(1 / 127.5, offset=-1, name="scale")(pixels)
    return _application(k.applications.MobileNetV2, x, weights)


def _application(make: Any, x: Any, weights: str | None) -> Any:
    shape = tuple(x.shape[1:])
    try:
        return make(include_top=False, weights=weights, input_tensor=x, input_shape=shape).output
    except (ValueError, OSError, KeyError) as error:
        if weights == "imagenet":
            raise EnvironmentProblem(
                "--weights imagenet: could not be fetched; "
                "give --weights FILE (a Keras h5 without top) or try again with a network"
            ) from error
        if weights is None:
            raise
        raise DataError(
            f"--weights {weights}: wanted a Keras h5 of this backbone without top, "
            f"found other layers or shapes ({str(error).splitlines()[0][:160]})"
        ) from error
    except Exception as error:
        # keras.utils.get_file raises a bare Exception when a download fails.
        if weights == "imagenet" and type(error) is Exception:
            raise EnvironmentProblem(
                "--weights imagenet: could not be fetched; "
                "give --weights FILE (a Keras h5 without top) or try again with a network"
            ) from error
        raise


def _small_cnn(k: ModuleType, pixels: Any, weights: str | None) -> Any:
    x = k.layers.Rescaling(1 / 255, name="scale")(pixels)
    for block, filters in enumerate((16, 32, 64), start=1):
        x = k.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"block{block}_conv")(
            x
        )
        x = k.layers.BatchNormalization(momentum=0.9, name=f"block{block}_bn")(x)
        x = k.layers.Activation("relu", name=f"block{block}_relu")(x)
        x = k.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    x = k.layers.Conv2D(96, 3, padding="same", use_bias=False, name="block4_conv")(x)
    x = k.layers.BatchNormalization(momentum=0.9, name="block4_bn")(x)
    x = k.layers.Activation("relu", name="block4_relu")(x)
    if weights is not None:
        _load_small_cnn(k.Model(pixels, x), weights)
    return x


def _load_small_cnn(base: Any, weights: str) -> None:
    try:
        base.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise DataError(
            f"--weights {weights}: wanted the weights of small_cnn without top, "
            f"found others ({str(error).splitlines()[0][:160]})"
        ) from error


BACKBONES = {
    "inception_v3": _inception_v3,
    "mobilenet_v2": _mobilenet_v2,
    "small_cnn": _small_cnn,
}


def check_weights(settings: Settings) -> None:
    """Refuse early what can be seen without building the network.

    Raises DataError when a weights file is absent or no h5.
    """
    weights = str(settings.weights)
    if weights in ("imagenet", "none"):
        return
    import h5py

    path = Path(weights)
    if not path.is_file():
        raise DataError(
            f"--weights {weights}: there is no such file; wanted imagenet, none or a Keras h5"
        )
    if not h5py.is_hdf5(path):
        raise DataError(f"--weights {weights}: wanted a Keras h5 file, found something else")
