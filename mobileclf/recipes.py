"""The models of the projects that this tool grew from, by name: each a set of options.

They stand where defaults do, so a flag or `mobileclf.toml` overrides any of them. All four held
20 % of the photos back; here that fifth is shared out to validation, threshold and test.
"""

from __future__ import annotations

from collections.abc import Mapping

_CNN = {"backbone": "plain_cnn", "weights": "none", "train_share": 0.8}

RECIPES: Mapping[str, Mapping[str, object]] = {
    # 28 x 28 grey pixels over 255. The source stops before its layers, so they are ours: two
    # convolutions with pooling, Dropout, Flatten, Dense. A mirrored digit is another digit.
    "seed-digits": {
        **_CNN, "channels": 1, "image_size": 28, "head": "128", "dropout": 0.25,
        "augment": "none", "seed": 42,
    },
    # A frozen InceptionV3, Dense 64 relu, softmax, no Dropout; fitted twice, the second time from
    # where the first ended. The size is ours: 224 pixels take half the time of 299. So are two
    # augmented views of each photo, whose features are computed once, where the source made new
    # ones in each epoch: four took twice as long and were no better.
    "seed-mushrooms": {
        "backbone": "inception_v3", "image_size": 224, "train_share": 0.8, "head": "64",
        "dropout": 0.0, "augment": "seeds", "views": 2, "epochs": "20+10",
    },
    # Two of (Conv 32 3 x 3 relu, MaxPool 2), Flatten, Dense 128 relu, one sigmoid unit.
    "seed-cats-dogs": {
        **_CNN, "image_size": 64, "head": "128,sigmoid", "dropout": 0.0, "augment": "seeds",
    },
    # The same network on rows of 100 x 100 x 3 numbers.
    "seed-pixels": {
        **_CNN, "form": "pixel-csv", "shape": "100,100,3", "image_size": 100,
        "head": "128,sigmoid", "dropout": 0.0, "augment": "none",
    },
}  # fmt: skip
