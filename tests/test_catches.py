"""What goes wrong on the way to a phone, done on purpose to a small real network, and which check
sees it. Each fault is held to the name of its gate, so that none passes for another's reason.

Four classes of drawn stripes, red or blue, across or up, as JPEG files that lie on their side and
say so: whoever swaps colours, or forgets the orientation, sees another class.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mobileclf.bundles import proven
from mobileclf.decision import Classes, Decision, decision_file
from mobileclf.errors import DataError
from mobileclf.golden import Judge
from mobileclf.images import load
from mobileclf.images.load import ImageSpec
from mobileclf.importing.flatten import flatten
from mobileclf.models import qat, ranges, rewrites
from mobileclf.records import read_json, sha256_bytes, sha256_file, write_json
from mobileclf.tflite import convert, metadata
from mobileclf.tflite.graph import parse
from mobileclf.tflite.interpreter import as_quanta, open_interpreter, score_photos, scores
from tests.test_parity import BUILTIN, SHIPPED, Chosen, failed
from tests.test_select_threshold_parity import GROUPS, LABELS
from tests.variants import edited

SIDE = 24
COUNTS = {"train": 400, "validation": 0, "threshold": 160, "test": 240}
DROPS = {f"{gate}_{kernels}" for gate in ("accuracy_drop", "harmful_missed")
         for kernels in ("xnnpack", "builtin")}  # fmt: skip
ACROSS = Image.Transpose.ROTATE_90


def drawn(kind: int, rng: np.random.Generator) -> bytes:
    """A JPEG of stripes: kind 0 and 1 red, 2 and 3 blue; the even ones across, the odd ones up."""
    place = np.arange(SIDE)[:, None] + np.zeros((1, SIDE))
    stripes = np.sin(place * rng.uniform(0.9, 1.3) + rng.uniform(0, 6)) * rng.uniform(20, 60)
    pixels = 110 + rng.normal(0, 30, (SIDE, SIDE, 3))
    pixels[:, :, 0 if kind < 2 else 2] += (stripes if kind % 2 == 0 else stripes.T) + 30
    upright = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    upright.transpose(ACROSS).save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


@cache
def files(part: str) -> list[bytes]:
    rng = np.random.default_rng([1, len(part), COUNTS[part]])
    return [drawn(i % 4, rng) for i in range(COUNTS[part])]


@cache
def pixels(part: str) -> NDArray[np.uint8]:
    spec = ImageSpec(width=SIDE, height=SIDE)
    return np.stack([load.load(data, spec) for data in files(part)])


@cache
def network(seed: int = 0) -> Any:
    """Two branches, of red and of blue edges, a concatenation and a mixture of both. The kernels
    are edges with something drawn by lot added; the head is fitted, so nothing is trained."""
    import tf_keras
    from sklearn.linear_model import LogisticRegression

    rng, layers = np.random.default_rng(seed), tf_keras.layers
    given = layers.Input((SIDE, SIDE, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, -1, name="scaled")(given)
    branches = [layers.Conv2D(4, 3, activation="relu", name=name)(x) for name in ("red", "blue")]
    x = layers.Concatenate(name="both")(branches)
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="mixed")(x)
    features = layers.GlobalAveragePooling2D(name="features")(x)
    head = layers.Dense(4, activation="softmax", name="probabilities")
    model = tf_keras.Model(given, head(features))
    edge = np.outer([1, 2, 1], [-1, 0, 1]) / 4
    for name, colour in (("red", 0), ("blue", 2)):
        kernel = rng.normal(0, 0.05, (3, 3, 3, 4))
        kernel[:, :, colour] += np.stack([edge, -edge, edge.T, -edge.T], axis=-1)
        model.get_layer(name).set_weights([kernel, np.zeros(4)])
    kernel = rng.normal(0, 0.2, (3, 3, 8, 16))
    model.get_layer("mixed").set_weights([kernel, rng.normal(0, 0.05, 16)])
    seen = tf_keras.Model(given, features)(pixels("train").astype(np.float32)).numpy()
    fitted = LogisticRegression(C=300, max_iter=2000).fit(seen, np.arange(COUNTS["train"]) % 4)
    head.set_weights([fitted.coef_.T, fitted.intercept_])
    return model


def converted(model: Any, calibration: NDArray[np.uint8] | None = None) -> bytes:
    """The int8 file as quantize and convert make it, ranges from training photos or from these."""
    graph = rewrites.rewritten(flatten(model).graph)
    aware = qat.quantized(graph)
    ranges.calibrate(graph, aware, pixels("train")[:128] if calibration is None else calibration)
    return convert.from_quantized_graph(aware, "uint8")


@cache
def sound() -> bytes:
    return converted(network())


@dataclass
class Real(Chosen):
    """A run of that network, with the operating points of the sound file."""

    def __post_init__(self) -> None:
        for part in ("validation", "threshold", "test"):
            self.truth[part] = np.arange(COUNTS[part]) % 4
        for part in ("threshold", "test"):
            found = network()(pixels(part).astype(np.float32), training=False)
            self.scores["float", part] = np.asarray(found)
            self.score(sound(), part, pixels(part))
        self.identical = [{"what": "LiteRT, TensorFlow", "largest_difference": 0, "passed": True}]

    def score(self, model: bytes, part: str, photos: NDArray[np.uint8]) -> None:
        for variant in (SHIPPED, BUILTIN):
            kernels: Any = variant.rpartition(".")[2]
            found = score_photos(model, photos, title="score", kernels=kernels)
            self.scores[variant, part] = found

    def gates(self, model: bytes, photos: NDArray[np.uint8] | None = None) -> set[str]:
        """What fails of the gates with that file, on these pixels of the test photos."""
        self.score(model, "test", pixels("test") if photos is None else photos)
        return failed(self.parity())


@pytest.fixture
def run(tmp_path) -> Real:
    return Real(folder=tmp_path)


def flipped(model: bytes, byte: int, bit: int = 7, layer: int = 2) -> bytes:
    """One bit of a kernel turned over. byte: of the kernel; layer: index of its operator."""

    def turn(tree: Any) -> None:
        graph = tree.subgraphs[0]
        kernel = graph.tensors[graph.operators[layer].inputs[1]]
        data = np.array(tree.buffers[kernel.buffer].data, dtype=np.uint8)
        data[byte] ^= 1 << bit
        tree.buffers[kernel.buffer].data = data

    return edited(model, turn)


def named(tree: Any, operator: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    code = tree.operatorCodes[operator.opcodeIndex]
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return next(k for k, v in vars(schema.BuiltinOperator).items() if v == number)


def operator(tree: Any, name: str) -> Any:
    (found,) = (op for op in tree.subgraphs[0].operators if named(tree, op) == name)
    return found


def other_order(tree: Any) -> None:
    concatenation = operator(tree, "CONCATENATION")
    concatenation.inputs = list(concatenation.inputs)[::-1]


def sigmoid_at_the_end(tree: Any) -> None:
    """Its output has the softmax's own grid, so that nothing else in the file is to be changed."""
    from ai_edge_litert import schema_py_generated as schema

    softmax = operator(tree, "SOFTMAX")
    code = tree.operatorCodes[softmax.opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.LOGISTIC
    code.version = 2
    softmax.builtinOptions, softmax.builtinOptionsType = None, 0


def no_softmax(tree: Any) -> None:
    """The logits go to the output as they are."""
    graph, softmax = tree.subgraphs[0], operator(tree, "SOFTMAX")
    last = graph.operators[-1]
    last.inputs = list(softmax.inputs)
    graph.tensors[last.outputs[0]].quantization = graph.tensors[softmax.inputs[0]].quantization
    graph.operators.remove(softmax)


def other_labels() -> Any:
    """The same network for labels in another order."""
    import tf_keras

    model = tf_keras.models.clone_model(network())
    model.set_weights(network().get_weights())
    head = model.get_layer("probabilities")
    head.set_weights([each[..., [2, 3, 0, 1]] for each in head.get_weights()])
    return model


def test_the_sound_file_passes_every_gate(run):
    assert run.gates(sound()) == set()
    record = run.parity()
    assert record["int8"]["accuracy"] > 0.97 and record["agreement"] > 0.97


def test_a_concatenation_in_the_wrong_order(run):
    assert run.gates(edited(sound(), other_order)) == DROPS


def test_a_softmax_left_out(run):
    """A sigmoid in its place keeps every answer and fails the sums; logits are not even read."""
    found = run.gates(edited(sound(), sigmoid_at_the_end))
    assert {"probabilities_xnnpack", "probabilities_builtin"} <= found
    assert not any(gate.startswith("accuracy") for gate in found)
    with pytest.raises(DataError, match="wanted an output in scale 1/256"):
        run.gates(edited(sound(), no_softmax))


def test_input_as_bgr(run):
    found = run.gates(sound(), pixels("test")[..., ::-1].copy())
    # Colour is not what is harmful here: whether stripes are across is.
    assert found == {gate for gate in DROPS if gate.startswith("accuracy")}


def test_a_missing_exif_rotation(run, monkeypatch):
    monkeypatch.setattr(load, "upright", lambda image: image)
    spec = ImageSpec(width=SIDE, height=SIDE)
    lying = np.stack([load.load(data, spec) for data in files("test")])
    assert not np.array_equal(lying, pixels("test"))
    assert run.gates(sound(), lying) == DROPS


def test_calibration_on_noise(run):
    faint = np.random.default_rng(0).normal(128, 2, (128, SIDE, SIDE, 3)).astype(np.uint8)
    assert run.gates(converted(network(), faint)) == DROPS


def test_labels_in_another_order(run):
    found = run.gates(converted(other_labels()))
    assert found == {gate for gate in DROPS if gate.startswith("accuracy")}


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A bundle of the sound file, as far as reading one goes: four golden cases."""
    return bundled(tmp_path / "bundle", sound())


def bundled(folder: Path, model: bytes) -> Path:
    spec = ImageSpec(width=SIDE, height=SIDE)
    classes = Classes(labels=LABELS, groups=GROUPS, harmful="NotEdible")
    decision = Decision(group="NotEdible", threshold_q=145, kernel_bound=3)
    about = metadata.Description(
        name="stripes", description="", version="0", author="", width=SIDE, height=SIDE, channels=3,
        minimum_score=None,
    )  # fmt: skip
    lines = "".join(f"{label}\n" for label in LABELS).encode()
    inside = {
        metadata.LABELS_FILE: lines,
        metadata.DECISION_FILE: decision_file(classes, decision),
    }
    model = metadata.write(model, about, inside)
    interpreter = open_interpreter(model)
    judge = Judge(
        spec=spec, classes=classes, decision=decision,
        score=lambda photos: as_quanta(scores(interpreter, photos)),
    )  # fmt: skip
    (folder / "golden").mkdir(parents=True)
    (folder / "model.tflite").write_bytes(model)
    (folder / "labels.txt").write_bytes(lines)
    golden = []
    for i, data in enumerate(files("test")[:4]):
        (folder / f"golden/{i}.jpg").write_bytes(data)
        golden.append(judge.case(data, ".jpg").as_record(f"golden/{i}.jpg"))
    names = ["labels.txt", *(case["image"] for case in golden)]
    write_json(
        folder / "bundle.json",
        {
            "schema": 1, "name": "stripes", "purpose": "real",
            "model": {"file": "model.tflite", "sha256": sha256_bytes(model)},
            "input": spec.as_record(), "output": {"kernels": "xnnpack"},
            **classes.as_record(), "decision": decision.as_record(), "golden": golden,
            "files": {name: {"sha256": sha256_file(folder / name)} for name in names},
        },
    )  # fmt: skip
    return folder


def replaced(bundle: Path, model: bytes, *, hash_too: bool) -> Path:
    """The bundle with another model file; hash_too: as whoever knows of the hash would do it."""
    (bundle / "model.tflite").write_bytes(model)
    if hash_too:
        record = read_json(bundle / "bundle.json")
        record["model"]["sha256"] = sha256_bytes(model)
        write_json(bundle / "bundle.json", record)
    return bundle


def test_the_sound_bundle_is_read(bundle):
    proven(bundle)


def test_one_flipped_bit_in_a_kernel_of_a_bundle(bundle):
    """The lowest bit of a weight moves no answer, and hardly an output: the hash sees it. Where the
    hash was made anew, golden cases see a high one, whose outputs are held to the byte."""
    whole = (bundle / "model.tflite").read_bytes()
    kernel = bytes(_kernel(whole, layer=5))
    at = whole.index(kernel)
    for byte in (0, 500, len(kernel) - 1):
        one = bytearray(whole)
        one[at + byte] ^= 1
        with pytest.raises(DataError, match="model.tflite: wanted sha256 .* found"):
            proven(replaced(bundle, bytes(one), hash_too=False))
    one = bytearray(whole)
    one[at] ^= 128
    with pytest.raises(DataError, match="golden/.*found another output"):
        proven(replaced(bundle, bytes(one), hash_too=True))


def _kernel(model: bytes, layer: int) -> Any:
    tree = parse(model)
    graph = tree.subgraphs[0]
    return tree.buffers[graph.tensors[graph.operators[layer].inputs[1]].buffer].data


def test_one_flipped_bit_in_a_kernel_fails_the_gates_where_it_costs_answers(run):
    """Of the sign bits of the first kernels about half do, of the last one as well."""
    kernel = _kernel(sound(), layer=7)
    worst = int(np.argmin(np.abs(np.array(kernel).view(np.int8))))
    assert run.gates(flipped(sound(), worst, layer=7)) & DROPS
    assert run.gates(flipped(sound(), worst, bit=0, layer=7)) == set()


def test_a_model_of_another_run(run, bundle, tmp_path):
    """It answers as well, so that no count of answers may call it worse: hash and golden cases
    tell that it is not the one that was proven."""
    other = converted(network(7))
    assert not any(gate.startswith(("accuracy", "prob")) for gate in run.gates(other))
    foreign = (bundled(tmp_path / "other", other) / "model.tflite").read_bytes()
    with pytest.raises(DataError, match="model.tflite: wanted sha256"):
        proven(replaced(bundle, foreign, hash_too=False))
    with pytest.raises(DataError, match="golden/.*found another output"):
        proven(replaced(bundle, foreign, hash_too=True))


def test_labels_of_a_bundle_in_another_order(bundle):
    """As the outputs are not: in labels.txt and its hash, then in bundle.json as well."""
    record = read_json(bundle / "bundle.json")
    record["labels"] = [record["labels"][i] for i in (2, 3, 0, 1)]
    lines = "".join(f"{row['label']}\n" for row in record["labels"])
    (bundle / "labels.txt").write_text(lines)
    record["files"]["labels.txt"]["sha256"] = sha256_file(bundle / "labels.txt")
    write_json(bundle / "bundle.json", record)
    with pytest.raises(DataError, match="wanted the labels, groups and decision that lie in"):
        proven(bundle)
