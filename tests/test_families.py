"""The common families of networks, as their users build them: each ends in int8 files that pass
the audit and answer like the float model. docs/families.md says what was done to each.

The weights are random, and the last layer is set by the photos, so that every label's answer
changes from photo to photo: a network that answers the same to all could be broken without a sign.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

from mobileclf.images import sample
from mobileclf.images.preprocess import preprocess_of
from mobileclf.importing import ends
from mobileclf.importing.flatten import flatten
from mobileclf.models import equality, qat, ranges, rewrites
from mobileclf.models.graph import Graph, build
from mobileclf.tflite import convert, delegates
from mobileclf.tflite.audit import audit
from mobileclf.tflite.graph import read
from mobileclf.tflite.interpreter import as_quanta, score_photos

PAGE = Path(__file__).parents[1] / "docs" / "families.md"
PHOTOS, LABELS, COMPONENTS = 24, 16, 2
# Least correlation of a label's answers, float against int8, over the photos. One of another
# label's answers lies near 0.
ALIKE = 0.8
BOUND = 1e-4
BRANCH = 0.1
# What keeps the int8 graph in one piece on XNNPACK.
FOR_DELEGATES = ("pools-of-one", "pointwise-first", "average-pools", "lone-relus")
AT_THE_ENDS = ("QUANTIZE", "SOFTMAX")


@dataclass(frozen=True, kw_only=True)
class Family:
    """make: of a Keras and a picture's height and width. preprocess: what its users give it.
    alike: the least `likeness`, lower where rounding piles up over 200 layers with swish."""

    make: Callable[[Any, int], Any]
    size: int
    head: str
    k: Any = keras
    preprocess: str | None = None
    labels: int = LABELS
    alike: float = ALIKE


def whole(name: str, **more: Any) -> Callable[[Any, int], Any]:
    """The network of keras.applications with its own top."""

    def make(k: Any, size: int) -> Any:
        network = getattr(k.applications, name)
        return network(weights=None, classes=LABELS, input_shape=(size, size, 3), **more)

    return make


def headed(name: str, *head: Callable[[Any], Any], **more: Any) -> Callable[[Any, int], Any]:
    """The network without top as one layer of a Sequential, a head of one's own behind it."""

    def make(k: Any, size: int) -> Any:
        network = getattr(k.applications, name)
        base = network(weights=None, include_top=False, input_shape=(size, size, 3), **more)
        return k.Sequential([k.Input((size, size, 3)), base, *(layer(k) for layer in head)])

    return make


def small(k: Any, size: int) -> Any:
    """A CNN as beginners write it, batch norm behind the activation."""
    layers = k.layers
    return k.Sequential(
        [
            k.Input((size, size, 3)),
            layers.RandomFlip("horizontal"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, activation="relu", padding="same"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(LABELS, activation="softmax"),
        ]
    )


def pooled(k: Any) -> Any:
    return k.layers.GlobalAveragePooling2D()


def dense(units: int, activation: str | None) -> Callable[[Any], Any]:
    return lambda k: k.layers.Dense(units, activation=activation)


FAMILIES = {
    "InceptionV3": Family(
        make=whole("InceptionV3"), size=75, head="own top, softmax", preprocess="-1..1"
    ),
    "MobileNetV2": Family(
        make=headed(
            "MobileNetV2", pooled, lambda k: k.layers.Dropout(0.2), dense(LABELS, "softmax"),
        ),
        size=96, head="nested, softmax", preprocess="-1..1", k=tf_keras,
    ),
    "MobileNetV3Small": Family(
        make=headed("MobileNetV3Small", pooled, dense(1, "sigmoid")),
        size=64, head="nested, sigmoid", labels=2,
    ),
    "ResNet50V2": Family(
        make=headed("ResNet50V2", pooled, dense(LABELS, None)),
        size=64, head="nested, logits", preprocess="-1..1",
    ),
    "DenseNet121": Family(
        make=whole("DenseNet121"), size=32, head="own top, softmax", preprocess="torch"
    ),
    "EfficientNetB0": Family(
        make=headed("EfficientNetB0", pooled, dense(LABELS, "softmax")),
        size=64, head="nested, softmax", alike=0.7,
    ),
    "VGG16": Family(
        make=headed("VGG16", lambda k: k.layers.Flatten(), dense(32, "relu"), dense(1, "sigmoid")),
        size=32, head="nested, Flatten, sigmoid", preprocess="caffe", labels=2, k=tf_keras,
    ),
    "Xception": Family(
        make=whole("Xception"), size=71, head="own top, softmax", preprocess="-1..1"
    ),
    "Sequential CNN": Family(make=small, size=32, head="Flatten, softmax"),
}  # fmt: skip


@cache
def photos(size: int) -> np.ndarray:
    """Drawn mushrooms of all kinds, uint8 (PHOTOS, size, size, 3).

    Their colours are exchanged and every other one is a negative: a random network sees little
    of what they show, but much of this.
    """
    labels = list(sample.LABELS)
    drawn = []
    for i in range(PHOTOS):
        picture = sample.draw(labels[i % len(labels)], np.random.default_rng(i))
        pixels = np.roll(np.asarray(picture.resize((size, size))), i % 3, axis=2)
        drawn.append(255 - pixels if i % 2 else pixels)
    return np.stack(drawn)


def model_of(family: Family) -> Any:
    """The family's model, with batch norms of which no number is 0 or 1."""
    family.k.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = family.make(family.k, family.size)
    layers = [(type(layer).__name__, layer) for layer in model._flatten_layers()]
    for norm in (layer for kind, layer in layers if kind == "BatchNormalization"):
        width = norm.moving_mean.shape
        if norm.scale:
            norm.gamma.assign(rng.uniform(1.2, 1.8, width))
        norm.beta.assign(rng.uniform(-0.1, 0.1, width))
        norm.moving_mean.assign(rng.uniform(-0.1, 0.1, width))
        norm.moving_variance.assign(rng.uniform(0.7, 1.4, width))
    for depthwise in (layer for kind, layer in layers if kind == "DepthwiseConv2D"):
        # Blurs, where random ones find edges: few pixels far out, and all others rounded coarsely.
        depthwise.set_weights([np.abs(depthwise.get_weights()[0]), *depthwise.get_weights()[1:]])
    return model


def inputs_of(family: Family) -> np.ndarray:
    """The photos as the family's users give them to it, float32."""
    x = photos(family.size).astype(np.float32)
    if family.preprocess is None:
        return x
    how = preprocess_of(family.preprocess)
    x = x[..., ::-1] if how.bgr else x
    return ((x - np.array(how.mean)) / np.array(how.std)).astype(np.float32)


def own_answers(family: Family, model: Any) -> np.ndarray:
    """What the family's model itself says, as one probability for each label."""
    found = np.asarray(model(inputs_of(family), training=False), np.float64)
    if found.shape[1] == 1:
        return np.concatenate([1 - found, found], axis=1)
    return softmax(found) if "logits" in family.head else found


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def network_of(family: Family, model: Any) -> Graph:
    """The model as it goes to the phone: bytes in, a probability for each label out."""
    graph = flatten(model).graph
    if family.preprocess is not None:
        graph = ends.with_preprocess(graph, preprocess_of(family.preprocess))
    return ends.with_probabilities(graph)[0]


def settled(graph: Graph, family: Family) -> Graph:
    """The graph with batch norms that bring each channel to a mean square near 1 on the photos.

    As they do in training, but for the mean, of which half is taken off: to take all of it off
    time and again leaves little of the photos and much of the rounding in a random network.
    Branches are small beside the way through, for the same reason.
    """
    model = build(tf_keras, graph)
    order = [node.name for node in graph.nodes]
    branches = {max(node.inputs, key=order.index) for node in graph.nodes if node.kind == "Add"}
    found: dict[str, Any] = {graph.nodes[0].name: photos(family.size).astype(np.float32)}
    for node in graph.nodes[1:]:
        layer = model.get_layer(node.name)
        inputs = [found[name] for name in node.inputs]
        if node.kind == "BatchNormalization":
            x = np.asarray(inputs[0])
            axes = tuple(range(x.ndim - 1))
            mean = 0.5 * x.mean(axis=axes)
            *scales, _, _ = node.weights
            scales = [BRANCH * w if node.name in branches else w for w in scales]
            layer.set_weights([*scales, mean, ((x - mean) ** 2).mean(axis=axes)])
        found[node.name] = layer(inputs if len(inputs) > 1 else inputs[0], training=False)
    return Graph(
        nodes=tuple(
            replace(node, weights=tuple(model.get_layer(node.name).get_weights()))
            for node in graph.nodes
        )
    )


def spread(graph: Graph, family: Family) -> tuple[Graph, np.ndarray]:
    """The graph with a last layer that reads what differs most among the photos, as a trained one
    does: each label's logit is a random mixture of the first principal components of the features,
    of mean 0 and deviation 2.

    Also its answers, float64 (PHOTOS, labels).
    """
    last = graph.nodes[-1]
    assert last.kind == "Dense" and last.config["activation"] == "softmax"
    features = Graph(nodes=graph.nodes[:-1])
    seen = qat.forward(build(tf_keras, features), photos(family.size)).astype(np.float64)
    mean = seen.mean(axis=0)
    _, _, components = np.linalg.svd(seen - mean, full_matrices=False)
    mixture = np.random.default_rng(0).normal(size=(COMPONENTS, family.labels))
    kernel = components[:COMPONENTS].T @ mixture
    kernel *= 2 / ((seen - mean) @ kernel).std(axis=0)
    wide = (kernel.astype(np.float32), (-mean @ kernel).astype(np.float32))
    wanted = softmax((seen - mean) @ kernel)
    return Graph(nodes=(*graph.nodes[:-1], replace(last, weights=wide))), wanted


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """The least correlation of a label's answers over the photos."""
    found = [
        np.corrcoef(x, y)[0, 1] if x.std() and y.std() else 0.0
        for x, y in zip(a.T, b.T, strict=True)
    ]
    return float(min(found))


def broken(model: Any) -> Any:
    """The model with its first kernel of another sign."""
    layer = next(layer for layer in model.layers if type(layer).__name__ == "Conv2D")
    kernel, bias = layer.get_weights()
    layer.set_weights([-kernel, bias])
    return model


def cuts(model: bytes, path: Path) -> str:
    """How many pieces XNNPACK takes of a model, and what lies between them, the ends left out."""
    path.write_bytes(model)
    (loaded,) = delegates.load(path, [delegates.MAIN])
    found = delegates.shares(read(model).subgraphs[0], loaded)
    between = [
        f"{left['count']} {left['operator']}"
        for left in found["operators_left"]
        if left["operator"] not in AT_THE_ENDS
    ]
    return f"{found['delegates']}" + (f" ({', '.join(between)})" if between else "")


def row(name: str, family: Family, before: Graph, after: Graph, pieces: dict[str, str]) -> str:
    """The family's row in docs/families.md."""
    norms = sum(node.kind == "BatchNormalization" for node in before.nodes)
    kept = {node.name for node in after.nodes if node.kind == "DepthwiseConv2D"}
    apart = sum(node.kind == "BatchNormalization" and node.name in kept for node in before.nodes)
    reasons = qat.unsupported(after)
    how = "quantization-aware" if not reasons else f"post-training: {': '.join(reasons[0])}"
    entrance = family.preprocess or "its own"
    cells = (name, family.head, entrance, norms - apart, apart, pieces["stock"])
    return f"| {' | '.join(map(str, cells))} | {pieces['calibrated']} | {how} |"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_ends_in_int8_that_answers_alike(name, tmp_path):
    family = FAMILIES[name]
    keras.backend.clear_session()
    tf_keras.backend.clear_session()
    model = model_of(family)
    network = network_of(family, model)
    pictures = photos(family.size)
    rebuilt = qat.forward(build(tf_keras, network), pictures)
    assert equality.largest_difference(own_answers(family, model), rebuilt) <= BOUND
    assert rebuilt.std(axis=0).max() > 0

    network, wanted = spread(settled(network, family), family)
    graph = rewrites.rewritten(network)
    folded = build(tf_keras, graph)
    answers = qat.forward(folded, pictures)
    assert equality.largest_difference(wanted, answers) <= BOUND

    in_pieces = build(tf_keras, rewrites.rewritten(network, FOR_DELEGATES))
    files = {"stock": convert.post_training(in_pieces, "uint8", pictures)}
    if not qat.unsupported(graph):
        aware = qat.quantized(graph)
        qat.prove_same_function(folded, aware, pictures[:4], BOUND)
        ranges.calibrate(graph, aware, pictures)
        files["calibrated"] = convert.from_quantized_graph(aware, "uint8")
        told = score_photos(files["calibrated"], pictures, title=name)
        assert likeness(qat.forward(aware, pictures), as_quanta(told)) > family.alike
    pieces = {which: cuts(file, tmp_path / f"{which}.tflite") for which, file in files.items()}
    assert row(name, family, network, graph, pieces) in PAGE.read_text("utf-8").splitlines()
    for file in files.values():
        audit(file, labels=family.labels, io="uint8", shape=(family.size, family.size, 3))
        got = as_quanta(score_photos(file, pictures, title=name)) / 256
        assert likeness(wanted, got) > family.alike
        assert likeness(wanted[:, [1, 0, *range(2, family.labels)]], got) < family.alike
    assert likeness(wanted, qat.forward(broken(folded), pictures)) < family.alike


def test_an_average_with_padding_cuts_neither_kind_of_int8(tmp_path):
    layers = keras.layers
    block = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, activation="relu"),
            layers.AveragePooling2D(3, 1, padding="same"),
            layers.Conv2D(4, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(LABELS, activation="softmax"),
        ]
    )
    network, pictures = flatten(block).graph, photos(32)
    graph = rewrites.rewritten(network)
    aware = qat.quantized(graph)
    ranges.calibrate(graph, aware, pictures)
    before, after = (build(tf_keras, each) for each in (network, graph))
    path = tmp_path / "model.tflite"
    assert cuts(convert.post_training(before, "uint8", pictures), path) == "2 (1 AVERAGE_POOL_2D)"
    assert cuts(convert.post_training(after, "uint8", pictures), path) == "1"
    assert cuts(convert.from_quantized_graph(aware, "uint8"), path) == "1"


def test_the_page_has_no_other_family():
    table = PAGE.read_text("utf-8").split("| family |")[1].split("\n\n")[0].splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in table] == list(FAMILIES)


def test_the_page_has_every_rewrite():
    table = PAGE.read_text("utf-8").split("| rewrite |")[1].split("\n\n")[0].splitlines()[2:]
    assert table == [
        f"| `{rewrite.name}` | {rewrite.what} | {'no' if rewrite.required else 'yes'} |"
        for rewrite in rewrites.REWRITES
    ]
