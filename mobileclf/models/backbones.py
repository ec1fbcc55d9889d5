"""Networks, written once for both Keras: `k` is the module `keras` (3) or `tf_keras`.

Every network takes float32 pixels 0..255 of shape (n, height, width, channels) and scales them
itself, so that the numbers of the preprocessing live in the model and nowhere else. It is flat:
the head stands on the backbone's output, with no model inside a model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from mobileclf.errors import DataError, EnvironmentProblem
from mobileclf.settings import Settings

FEATURES = "features"
PROBABILITIES = "probabilities"
FLATTENED = ("plain_cnn",)  # the others average over the picture
# Names of the layers that end a block; Keras orders layers by depth, so that a block's are
# between two of them.
BLOCK_ENDS = {
    "inception_v3": r"mixed\d+",
    "mobilenet_v2": r"(bn_Conv1|expanded_conv_project_BN|block_\d+_(project_BN|add))",
    "small_cnn": r"block\d_relu",
    "plain_cnn": r"block\d_pool",
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What it takes to build a network again: the same record gives the same graph.

    image_size: pixels, height and width. channels: 3 for colour, 1 for grey. units: of each
    hidden layer between features and probabilities, from first to last.
    """

    backbone: str
    image_size: int
    channels: int
    units: tuple[int, ...]
    labels: int
    seed: int

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of the hidden layers: hidden, hidden_2, ..."""
        return tuple("hidden" if i == 0 else f"hidden_{i + 1}" for i in range(len(self.units)))

    def as_record(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**vars(self), "units": list(self.units)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Architecture:
        """The architecture in `train.json`."""
        return cls(**{**record, "units": tuple(record["units"])})


def build(
    k: ModuleType,
    architecture: Architecture,
    *,
    weights: str | None = None,
    cleared: Callable[[], None] = lambda: None,
) -> Any:
    """A model of `k`: pixels to probabilities, float32 (n, labels).

    cleared: what sets Keras' own settings (dtype policy, distribution) once they were cleared,
    which is how the names of layers come to count up from the beginning.

    weights: None for random ones (seeded), `imagenet`, or the path of a Keras h5 without top.
    They are the colour network's; the grey one with them is the colour one fed with the grey
    picture three times over. Raises DataError for weights that are absent, no h5 or of another
    network, and EnvironmentProblem when ImageNet's cannot be fetched.
    """
    if k.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Whatever is computed with the network from here on is computed the same way every time.
        tf.config.experimental.enable_op_determinism()
    grey = weights is not None and architecture.channels == 1
    colour = _backbone(k, replace(architecture, channels=3), weights, cleared) if grey else None
    base = _backbone(k, architecture, None if grey else weights, cleared)
    if colour is not None:
        _sum_colours(colour, base)
    flat = architecture.backbone in FLATTENED
    features = k.layers.Flatten if flat else k.layers.GlobalAveragePooling2D
    x = features(name=FEATURES)(base.output)
    for name, units in zip(architecture.hidden, architecture.units, strict=True):
        x = k.layers.Dense(units, activation="relu", name=name)(x)
    x = k.layers.Dense(architecture.labels, activation="softmax", name=PROBABILITIES)(x)
    return k.Model(base.input, x, name=architecture.backbone)


def blocks(model: Any, backbone: str) -> list[list[Any]]:
    """The layers up to the features, from pixels on, in the blocks that the network is made of:
    InceptionV3's modules, MobileNetV2's bottlenecks, a plain network's convolutions.

    Every block has weights; the first is the stem where there is one, and layers without weights
    stand with the block before them.
    """
    body = model.layers[: model.layers.index(model.get_layer(FEATURES))]
    found: list[list[Any]] = [[]]
    for layer in body:
        found[-1].append(layer)
        if re.fullmatch(BLOCK_ENDS[backbone], layer.name):
            found.append([])
    whole: list[list[Any]] = []
    for block in found:
        if whole and not any(layer.weights for layer in block):
            whole[-1] += block
        else:
            whole.append(block)
    return whole


def _backbone(
    k: ModuleType, architecture: Architecture, weights: str | None, cleared: Callable[[], None]
) -> Any:
    """A model from pixels to what the features are taken of."""
    k.backend.clear_session()  # layer names count up from here: equal in both Keras
    cleared()
    k.utils.set_random_seed(architecture.seed)
    size = architecture.image_size
    pixels = k.Input((size, size, architecture.channels), name="pixels")
    return k.Model(pixels, BACKBONES[architecture.backbone](k, pixels, weights))


def _sum_colours(colour: Any, grey: Any) -> None:
    """Give `grey` the weights of `colour`, the first kernel summed over its input channels:
    sum_c conv(x; w_c) = conv(x; sum_c w_c)."""
    pairs = zip(_with_weights(colour), _with_weights(grey), strict=True)
    for i, (ours, theirs) in enumerate(pairs):
        weights = ours.get_weights()
        if i == 0:
            weights[0] = weights[0].sum(axis=2, keepdims=True)
        theirs.set_weights(weights)


def _with_weights(model: Any) -> list[Any]:
    return [layer for layer in model.layers if layer.weights]


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
    except Exception as error:
        # keras.utils.get_file raises a bare Exception when a download fails.
        known = isinstance(error, (ValueError, OSError, KeyError)) or type(error) is Exception
        if weights is None or not known:
            raise
        if weights == "imagenet":
            raise EnvironmentProblem(
                "--weights imagenet: could not be fetched; "
                "give --weights FILE (a Keras h5 without top) or try again with a network"
            ) from error
        raise DataError(
            f"--weights {weights}: wanted a Keras h5 of this backbone without top, "
            f"found other layers or shapes ({str(error).splitlines()[0][:160]})"
        ) from error


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
    return _loaded(k.Model(pixels, x, name="small_cnn"), weights)


def _plain_cnn(k: ModuleType, pixels: Any, weights: str | None) -> Any:
    x = k.layers.Rescaling(1 / 255, name="scale")(pixels)
    for block in (1, 2):
        x = k.layers.Conv2D(32, 3, activation="relu", name=f"block{block}_conv")(x)
        x = k.layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return _loaded(k.Model(pixels, x, name="plain_cnn"), weights)


def _loaded(base: Any, weights: str | None) -> Any:
    """The output of `base`, with the weights of a file where one is given. Raises DataError."""
    if weights is not None:
        try:
            base.load_weights(weights)
        except (ValueError, OSError, KeyError) as error:
            raise DataError(
                f"--weights {weights}: wanted the weights of {base.name} without top, "
                f"found others ({str(error).splitlines()[0][:160]})"
            ) from error
    return base.output


BACKBONES = {
    "inception_v3": _inception_v3,
    "mobilenet_v2": _mobilenet_v2,
    "small_cnn": _small_cnn,
    "plain_cnn": _plain_cnn,
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
