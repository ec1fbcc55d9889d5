"""Bytes in and quanta out around other people's models: the same answers, or a reason why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobileclf.errors import DataError, ProofError
from mobileclf.images.preprocess import NAMED, RAW, Preprocess, encoder, preprocess_of
from mobileclf.tflite import delegates, ends, graph, inspect
from mobileclf.tflite.audit import audit_ends, is_int8
from mobileclf.tflite.edit import Edit
from mobileclf.tflite.ends import with_bytes_and_quanta
from mobileclf.tflite.runtimes import MODULES, OLDEST, at_hand
from tests.models import photos
from tests.variants import classifier, described, edited, with_metadata

DATA = Path(os.environ.get("MOBILECLF_DATA", Path(__file__).parents[2] / "shared" / "data"))
MOBILENET = DATA / "tflite" / "mobilenet_v1_0.25_128_quant.tflite"
SIZE = 32
PHOTOS = 6
TORCH, CAFFE, SIGNED, UNIT, PLAIN = (
    NAMED[name] for name in ("torch", "caffe", "-1..1", "0..1", "0..255")
)


# Models as others make them


def network(
    head: str = "softmax", *, labels: int = 4, channels: int = 3, how: Preprocess = TORCH
) -> Callable[[Any], Any]:
    """Two convolutions and a dense layer on what `how` makes of bytes, with spread answers."""
    import tensorflow as tf

    random = np.random.default_rng(labels + channels)
    reach = float(np.max((255 - np.array(how.mean)) / np.array(how.std)))
    first, second, dense, shift = (
        tf.constant(random.normal(0, scale, shape), tf.float32)
        for shape, scale in (
            ((3, 3, channels, 8), 0.5 / reach), ((3, 3, 8, 8), 0.4), ((8, labels), 0.5),
            ((labels,), 0.5),
        )
    )  # fmt: skip

    def answer(x: Any) -> Any:
        x = tf.nn.relu(tf.nn.conv2d(x, first, 2, "VALID"))
        # The means of a quarter of the picture differ more from photo to photo than those of all.
        x = tf.nn.relu(tf.nn.conv2d(x, second, 2, "VALID"))[:, :3, :3]
        z = tf.reduce_mean(x, axis=[1, 2]) @ dense + shift
        return {"softmax": tf.nn.softmax, "sigmoid": tf.sigmoid, "logits": tf.identity}[head](z)

    return answer


@cache
def made(
    head: str = "softmax",
    *,
    ends: str = "float32",
    int8: bool = False,
    labels: int = 4,
    channels: int = 3,
    how: Preprocess = TORCH,
    shape: tuple[int, ...] | None = None,
) -> bytes:
    """That network as a `.tflite`, float or int8 inside. shape: of the input, None where open."""
    import tensorflow as tf

    spec = tf.TensorSpec(shape or (1, SIZE, SIZE, channels), tf.float32, name="x")
    answer = network(head, labels=labels, channels=channels, how=how)
    concrete = tf.function(answer, input_signature=[spec]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    if int8:
        encode = encoder(how, dtype=np.float32, scale=0, zero_point=0, channels=channels)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [encode(photo)[None]] for photo in pictures(channels)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, ends)
    return bytes(converter.convert())


@cache
def traced(function: Callable[[Any], Any], *shape: int | None) -> bytes:
    import tensorflow as tf

    spec = tf.TensorSpec(shape or (1, SIZE, SIZE, 3), tf.float32, name="x")
    concrete = tf.function(function, input_signature=[spec]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    return bytes(converter.convert())


@cache
def pictures(channels: int = 3, size: int = SIZE) -> np.ndarray:
    """Random bytes, each picture within a range of its own, and all of black and of white."""
    noise = photos(PHOTOS, size, channels)
    lows, highs = (
        np.linspace(*pair, PHOTOS)[:, None, None, None] for pair in ((0, 120), (60, 255))
    )
    found = (lows + noise / 255 * (highs - lows)).astype(np.uint8)
    found[0, 0, 0], found[-1, -1, -1] = 0, 255
    return found


# What is to come out of it


def raw(model: bytes, inputs: np.ndarray, kernels: str, runtime: str) -> np.ndarray:
    """What stands at the output, in the file's own type, of each input in the file's own."""
    from importlib import import_module

    module = import_module(MODULES[runtime])
    options = {}
    if kernels == "builtin":
        resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = resolver
    engine = module.Interpreter(model_content=model, num_threads=1, **options)
    engine.allocate_tensors()
    found = []
    for one in inputs:
        engine.set_tensor(engine.get_input_details()[0]["index"], one[None])
        engine.invoke()
        found.append(engine.get_tensor(engine.get_output_details()[0]["index"]).copy())
    return np.stack(found)


def first_and_last(model: bytes) -> tuple[graph.End, graph.End]:
    found = graph.contents(model)
    return found.inputs[0], found.outputs[0]


def encoded(model: bytes, how: Preprocess, pixels: np.ndarray) -> np.ndarray:
    end, _ = first_and_last(model)
    return encoder(
        how, dtype=end.dtype, scale=end.scale or 0, zero_point=end.zero_point or 0,
        channels=end.shape[-1],
    )(pixels)  # fmt: skip


def expected(model: bytes, outputs: np.ndarray, said: str) -> np.ndarray:
    """Probabilities in quanta (n, labels), in numpy from what the model itself answers."""
    _, end = first_and_last(model)
    numbers = outputs.reshape(len(outputs), -1).astype(np.float64)
    if end.dtype != "float32":
        numbers = (numbers - end.zero_point) * end.scale
    if said == "softmax added":
        powers = np.exp(numbers - numbers.max(axis=1, keepdims=True))
        numbers = powers / powers.sum(axis=1, keepdims=True)
    if said == "sigmoid added":
        numbers = 1 / (1 + np.exp(-numbers))
    if numbers.shape[1] == 1:
        numbers = np.hstack([1 - numbers, numbers])
    return np.clip(np.floor(numbers * 256 + 0.5), 0, 255).astype(int)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model, how photos become its input, and what has to be put around it.

    apart: quanta by which the answers may differ from those that numpy makes of the model's own.
    0 where all that is added is exact. 1 where float32 is rounded to 1/256, which two correct
    roundings of nearly the same number do differently next to a half; where it is rounded to an
    integer input first, next to a half there.
    """

    model: Callable[[], bytes]
    how: Preprocess
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    said: str = "as they were"
    apart: int = 1


FORMULA = ("DEQUANTIZE", "SUB", "DIV")
CASES = {
    "float, torch": Case(model=made, how=TORCH, before=FORMULA, after=("QUANTIZE",)),
    "float, caffe": Case(
        model=lambda: made(how=CAFFE),
        how=CAFFE,
        before=("GATHER", "DEQUANTIZE", "SUB"),
        after=("QUANTIZE",),
    ),
    "float, -1..1": Case(
        model=lambda: made(how=SIGNED), how=SIGNED, before=FORMULA, after=("QUANTIZE",)
    ),
    "float, 0..1": Case(
        model=lambda: made(how=UNIT), how=UNIT, before=("DEQUANTIZE", "DIV"), after=("QUANTIZE",)
    ),
    "float, bytes": Case(
        model=lambda: made(how=PLAIN), how=PLAIN, before=("DEQUANTIZE",), after=("QUANTIZE",)
    ),
    "float, grey": Case(
        model=lambda: made(how=SIGNED, channels=1), how=SIGNED, before=FORMULA, after=("QUANTIZE",)
    ),
    "float, six numbers": Case(
        model=made,
        how=preprocess_of("120,110,100,60,61,62"),
        before=FORMULA,
        after=("QUANTIZE",),
    ),
    "float logits": Case(
        model=lambda: made("logits"),
        how=TORCH,
        before=FORMULA,
        after=("SOFTMAX", "QUANTIZE"),
        said="softmax added",
    ),
    "float sigmoid unit": Case(
        model=lambda: made("sigmoid", labels=1),
        how=TORCH,
        before=FORMULA,
        after=("MUL", "ADD", "QUANTIZE"),
        said="sigmoid made into two",
    ),
    "float logit": Case(
        model=lambda: made("logits", labels=1),
        how=TORCH,
        before=FORMULA,
        after=("LOGISTIC", "MUL", "ADD", "QUANTIZE"),
        said="sigmoid added",
    ),
    "open batch": Case(
        model=lambda: made(shape=(None, SIZE, SIZE, 3)),
        how=TORCH,
        before=FORMULA,
        after=("QUANTIZE",),
    ),
    "four dimensions out": Case(
        model=lambda: reshaped("logits"),
        how=TORCH,
        before=FORMULA,
        after=("RESHAPE", "SOFTMAX", "QUANTIZE"),
        said="softmax added",
    ),
    "reshaped softmax": Case(
        model=lambda: reshaped("softmax"),
        how=TORCH,
        before=FORMULA,
        after=("RESHAPE", "QUANTIZE"),
    ),
    "softmax written out": Case(
        model=lambda: written_out(), how=TORCH, before=FORMULA, after=("QUANTIZE",)
    ),
    "int8, float ends": Case(
        model=lambda: made(int8=True), how=TORCH, before=FORMULA, after=("QUANTIZE",)
    ),
    "int8, its grid is the byte's": Case(
        model=lambda: made(int8=True, ends="int8", how=SIGNED),
        how=SIGNED,
        before=("QUANTIZE",),
        after=("QUANTIZE",),
        apart=0,
    ),
    "int8, its grid is the byte's, B first": Case(
        model=lambda: made(int8=True, ends="int8", how=PLAIN),
        how=replace(PLAIN, mean=(0.0, 0.0, 0.0), bgr=True),
        before=("GATHER", "QUANTIZE"),
        after=("QUANTIZE",),
        apart=0,
    ),
    "int8, raw": Case(
        model=lambda: made(int8=True, ends="int8"),
        how=RAW,
        before=("QUANTIZE",),
        after=("QUANTIZE",),
        apart=0,
    ),
    "int8, another grid": Case(
        model=lambda: made(int8=True, ends="int8"),
        how=TORCH,
        before=(*FORMULA, "QUANTIZE"),
        after=("QUANTIZE",),
    ),
    "uint8, another grid": Case(
        model=lambda: made(int8=True, ends="uint8"), how=TORCH, before=(*FORMULA, "QUANTIZE")
    ),
    "uint8, nothing to do": Case(
        model=lambda: made(int8=True, ends="uint8", how=SIGNED), how=SIGNED, apart=0
    ),
    "int8 logits": Case(
        model=lambda: made("logits", int8=True, ends="int8", how=SIGNED),
        how=SIGNED,
        before=("QUANTIZE",),
        after=("DEQUANTIZE", "SOFTMAX", "QUANTIZE"),
        said="softmax added",
    ),
    "uint8 logits": Case(
        model=lambda: made("logits", int8=True, ends="uint8", how=SIGNED),
        how=SIGNED,
        after=("DEQUANTIZE", "SOFTMAX", "QUANTIZE"),
        said="softmax added",
    ),
    "int8 sigmoid unit": Case(
        model=lambda: made("sigmoid", labels=1, int8=True, ends="int8", how=SIGNED),
        how=SIGNED,
        before=("QUANTIZE",),
        after=("DEQUANTIZE", "MUL", "ADD", "QUANTIZE"),
        said="sigmoid made into two",
        apart=0,
    ),
    "uint8 softmax on another grid": Case(
        model=lambda: on_another_grid(), how=SIGNED, after=("DEQUANTIZE", "QUANTIZE")
    ),
}


@cache
def reshaped(head: str) -> bytes:
    import tensorflow as tf

    answer = network(head)
    return traced(lambda x: tf.reshape(answer(x), (1, 1, 1, 4)))


@cache
def written_out() -> bytes:
    """Softmax as EXP, SUM and DIV, so that the converter does not know it again."""
    import tensorflow as tf

    answer = network("logits")

    def function(x: Any) -> Any:
        powers = tf.exp(answer(x))
        return powers / tf.reduce_sum(powers)

    model = traced(function)
    assert operators(model)[-3:] == ["EXP", "SUM", "DIV"]
    return model


@cache
def on_another_grid() -> bytes:
    def change(tree: Any) -> None:
        first = tree.subgraphs[0]
        first.tensors[first.outputs[0]].quantization.scale = np.array([1 / 255], np.float32)

    return edited(made(int8=True, ends="uint8", how=SIGNED), change)


def operators(model: bytes) -> list[str]:
    return [op.name for op in graph.contents(model).operators]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_put_around_is_named_and_nothing_else_is_changed(case):
    model = case.model()
    wrapped = with_bytes_and_quanta(model, case.how)
    assert operators(wrapped.model) == [*case.before, *operators(model), *case.after]
    assert wrapped.probabilities == case.said
    words = " ".join(wrapped.notes)
    assert all(name in words for name in (*case.before, *case.after))
    image, scores = first_and_last(wrapped.model)
    channels, labels = image.shape[-1], scores.shape[-1]
    audit_ends(
        wrapped.model, labels=labels, io="uint8", shape=(SIZE, SIZE, channels), any_scale=True
    )
    assert with_bytes_and_quanta(model, case.how) == wrapped
    if case.before:
        # It takes bytes and gives quanta now: once more there is nothing to do.
        again = with_bytes_and_quanta(wrapped.model, RAW)
        assert (again.model, again.notes) == (wrapped.model, ())


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tensorflow"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_answers_are_the_models_own(case, runtime, kernels):
    model = case.model()
    wrapped = with_bytes_and_quanta(model, case.how).model
    pixels = pictures(first_and_last(model)[0].shape[-1])
    outputs = raw(model, encoded(model, case.how, pixels), kernels, runtime)
    wanted = expected(model, outputs, case.said)
    found = raw(wrapped, pixels, kernels, runtime)[:, 0].astype(int)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= case.apart
    # The pictures have answers of their own, few at the ends of the range, where all look alike.
    assert np.ptp(wanted, axis=0).max() > 50
    assert np.mean((wanted > 0) & (wanted < 255)) > 0.7


APART = """
import sys
import numpy as np
from tests.test_tflite_ends import raw

def main(folder):
    for name in open(folder + "/names").read().split():
        inputs = np.load(f"{folder}/{name}.npy")
        model = open(f"{folder}/{name}.tflite", "rb").read()
        np.save(f"{folder}/{name}.out.npy", raw(model, inputs, "xnnpack", "tflite-runtime"))
"""


@pytest.mark.skipif(not at_hand(OLDEST), reason=f"{OLDEST} is not installed")
def test_the_oldest_runtime_runs_them_all(tmp_path):
    names = []
    for i, case in enumerate(CASES.values()):
        model = case.model()
        pixels = pictures(first_and_last(model)[0].shape[-1])
        pair = {
            f"{i}a": (model, encoded(model, case.how, pixels)),
            f"{i}b": (with_bytes_and_quanta(model, case.how).model, pixels),
        }
        for name, (data, inputs) in pair.items():
            (tmp_path / f"{name}.tflite").write_bytes(data)
            np.save(tmp_path / f"{name}.npy", inputs)
            names.append(name)
    (tmp_path / "names").write_text("\n".join(names))
    code = APART + f"\nmain({str(tmp_path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for i, case in enumerate(CASES.values()):
        own, found = (np.load(tmp_path / f"{i}{which}.out.npy") for which in "ab")
        wanted = expected(case.model(), own, case.said)
        assert np.abs(found[:, 0].astype(int) - wanted).max() <= case.apart, list(CASES)[i]


def farthest(wrapped: bytes, case: Case) -> int:
    """Quanta between what `wrapped` answers and what `case` has to."""
    model, pixels = case.model(), pictures()
    outputs = raw(model, encoded(model, case.how, pixels), "builtin", "ai-edge-litert")
    found = raw(wrapped, pixels, "builtin", "ai-edge-litert")[:, 0].astype(int)
    return int(np.abs(found - expected(model, outputs, case.said)).max())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("float, torch", SIGNED),
        ("float, torch", replace(TORCH, bgr=True)),
        ("float, caffe", replace(CAFFE, bgr=False)),
        ("float, torch", replace(TORCH, std=TORCH.std[::-1], mean=TORCH.mean[::-1])),
        ("int8, another grid", replace(TORCH, mean=(127.5,))),
    ],
    ids=["-1..1 for torch", "B first", "R first", "means of B for R", "another mean"],
)
def test_another_preprocessing_would_be_seen(name, wrong):
    case = CASES[name]
    assert farthest(with_bytes_and_quanta(case.model(), case.how).model, case) <= case.apart
    assert farthest(with_bytes_and_quanta(case.model(), wrong).model, case) > 2 * case.apart


def test_softmax_put_behind_softmax_would_be_seen(monkeypatch):
    case = CASES["float, torch"]
    monkeypatch.setattr(ends, "_head", lambda graph, labels: None)
    twice = with_bytes_and_quanta(case.model(), case.how)
    assert twice.probabilities == "softmax added"
    assert farthest(twice.model, case) > 2 * case.apart


def test_a_weight_that_changed_on_the_way_would_be_seen(monkeypatch):
    packed = Edit.packed

    def broken(self, size):
        weights = max(self.tree.buffers, key=lambda b: 0 if b.data is None else len(b.data))
        weights.data = weights.data.copy()
        weights.data[0] ^= 1
        return packed(self, size)

    monkeypatch.setattr(Edit, "packed", broken)
    with pytest.raises(DataError, match="the same once written again"):
        with_bytes_and_quanta(made(), TORCH)


# What stands in the file beside the graph


def test_constants_lie_as_the_schema_asks():
    found = graph.read(with_bytes_and_quanta(made(), TORCH).model)
    places = [buffer.start for buffer in found.buffers if buffer.bytes]
    assert len(places) > 8 and {start % 16 for start in places} == {0}


def signed(tree):
    """The graph as the function `serving_default`, as the converter writes those of Keras."""
    from ai_edge_litert import schema_py_generated as schema

    first, signature = tree.subgraphs[0], schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    for which, name in (("inputs", "image"), ("outputs", "scores")):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, int(getattr(first, which)[0])
        setattr(signature, which, [entry])
    tree.signatureDefs = [signature]


def test_the_signature_is_of_the_new_ends():
    from ai_edge_litert.interpreter import Interpreter

    model = edited(made("logits"), signed)
    wrapped = with_bytes_and_quanta(model, TORCH).model
    runner = Interpreter(model_content=wrapped).get_signature_runner("serving_default")
    found = [runner(image=photo[None])["scores"] for photo in pictures()]
    wanted = raw(wrapped, pictures(), "xnnpack", "ai-edge-litert")
    np.testing.assert_array_equal(np.stack(found), wanted)


def test_metadata_of_the_old_ends_are_dropped_and_the_rest_is_kept():
    unit = {"options_type": 1, "options": {"mean": [127.5], "std": [127.5]}}
    model = described(made(), classifier(units=[unit]), {"labels.txt": b"a\nb\nc\nd\n"})
    model = with_metadata(model, b"mine", "OTHER")
    wrapped = with_bytes_and_quanta(model, TORCH)
    assert "TFLITE_METADATA" in graph.read(model).metadata
    found = graph.read(wrapped.model)
    assert "TFLITE_METADATA" not in found.metadata and "OTHER" in found.metadata
    assert wrapped.notes[-1].startswith("metadata: dropped")
    assert b"labels.txt" in model and b"labels.txt" not in wrapped.model


def test_what_needs_nothing_comes_back_byte_for_byte_metadata_and_all():
    model = described(
        made(int8=True, ends="uint8", how=SIGNED), classifier(), {"labels.txt": b"a\nb\nc\nd\n"}
    )
    wrapped = with_bytes_and_quanta(model, SIGNED)
    assert wrapped.model == model and wrapped.notes == ()


@pytest.mark.parametrize(
    ("written", "then"), [("1.5.0", b"1.14.0"), ("2.3.0", b"2.3.0"), ("new", b"new")]
)
def test_the_oldest_runtime_written_in_it_holds_for_what_is_added(written, then):
    def rewritten(tree):
        entry = next(m for m in tree.metadata if m.name == inspect.MIN_RUNTIME.encode())
        data = written.encode().ljust(16, b"\0")
        tree.buffers[entry.buffer].data = np.frombuffer(data, np.uint8)

    wrapped = with_bytes_and_quanta(edited(made(), rewritten), TORCH).model
    found = graph.read(wrapped)
    buffer = found.buffers[found.metadata[inspect.MIN_RUNTIME]]
    data = wrapped[buffer.start : buffer.start + buffer.bytes]
    assert len(data) == 16 and data.rstrip(b"\0") == then


# What cannot be taken


def channels_first(x):
    import tensorflow as tf

    return network()(tf.transpose(x, (0, 2, 3, 1)))


def two_answers(x):
    return network("logits")(x), network("softmax")(x)


def softmax_of_pairs(x):
    import tensorflow as tf

    return tf.reshape(tf.nn.softmax(tf.reshape(network("logits")(x), (1, 2, 2))), (1, 4))


def the_label(x):
    import tensorflow as tf

    return tf.argmax(network()(x), axis=1)


def picture_out(x):
    return x * 2.0


def of_end(which, **changes):
    def change(tree):
        first = tree.subgraphs[0]
        vars(first.tensors[getattr(first, which)[0]]).update(changes)

    return change


def with_two_subgraphs(tree):
    tree.subgraphs.append(tree.subgraphs[0])


def with_two_signatures(tree):
    signed(tree)
    tree.signatureDefs *= 2


def with_another_signature(tree):
    signed(tree)
    tree.signatureDefs[0].inputs[0].tensorIndex = 1


def with_data_behind(tree):
    tree.buffers[-1].data, tree.buffers[-1].offset, tree.buffers[-1].size = None, 64, 16


def with_options_to_come(tree):
    tree.subgraphs[0].operators[0].builtinOptionsType = 250


def with_two_inputs(tree):
    tree.subgraphs[0].inputs = [tree.subgraphs[0].inputs[0], 1]


REFUSED = {
    "channels first": (
        lambda: traced(channels_first, 1, 3, SIZE, SIZE),
        TORCH,
        r"found \(1, 3, 32, 32\), channels first as PyTorch .*`litert_torch.to_channel_last_io.*"
        r"\(1, 32, 32, 3\)",
    ),
    "open size": (
        lambda: edited(made(), of_end("inputs", shapeSignature=[1, -1, -1, 3])),
        TORCH,
        r"with a fixed size, found \(1, -1, -1, 3\)",
    ),
    "batch of 2": (
        lambda: made(shape=(2, SIZE, SIZE, 3)),
        TORCH,
        r"found \(2, 32, 32, 3\); convert it again for one photo",
    ),
    "two inputs": (
        lambda: edited(made(), with_two_inputs), TORCH, "one input and one output, found 2 and 1"
    ),
    "two outputs": (lambda: traced(two_answers), TORCH, "one input and one output, found 1 and 2"),
    "a picture": (lambda: traced(picture_out), TORCH, r"an output of \(1, labels\), found \(1, 32"),
    "the label": (lambda: traced(the_label), TORCH, "at its output, found int64"),
    "int16": (lambda: edited(made(), of_end("inputs", type=7)), TORCH, "its input, found int16"),
    "sigmoid of 4": (
        lambda: made("sigmoid"), TORCH, "wanted one label a photo, found 4 sigmoid outputs"
    ),
    "sigmoid of 4 in int8": (
        lambda: made("sigmoid", int8=True, ends="uint8", how=SIGNED), SIGNED, "4 sigmoid outputs"
    ),
    "softmax of 1": (lambda: made(labels=1), TORCH, "softmax of one output, which is always 1"),
    "softmax of pairs": (
        lambda: traced(softmax_of_pairs), TORCH, r"softmax over its 4 outputs, found .*\(1, 2, 2\)"
    ),
    "two subgraphs": (
        lambda: edited(made(), with_two_subgraphs), TORCH, "one subgraph .*, found 2 and 1"
    ),
    "two signatures": (
        lambda: edited(made(), with_two_signatures), TORCH, "one signature, found 1 and 2;"
    ),
    "another signature": (
        lambda: edited(made(), with_another_signature), TORCH, "inputs of its signature"
    ),
    "data behind": (lambda: edited(made(), with_data_behind), TORCH, "found some behind it"),
    "options to come": (
        lambda: edited(made(), with_options_to_come), TORCH, "options of another schema"
    ),
    "output without a scale": (
        lambda: edited(made(int8=True, ends="int8"), of_end("outputs", quantization=None)),
        RAW,
        "an int8 output with a scale, found none",
    ),
    "input without a scale": (
        lambda: edited(made(int8=True, ends="int8"), of_end("inputs", quantization=None)),
        RAW,
        "an int8 input with a scale, found none",
    ),
    "grey": (lambda: made(how=SIGNED, channels=1), TORCH, "wanted 3 channels, found 1"),
    "raw into float32": (made, RAW, "it is for an integer input, found float32"),
    "other bytes": (lambda: b"PK\x03\x04 and more", TORCH, "wanted a .tflite file"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "how", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_is_named(model, how, message):
    with pytest.raises(DataError, match=message):
        with_bytes_and_quanta(model(), how)


@pytest.mark.parametrize("kind", ["float", "int8"])
def test_broken_files_end_in_an_error_or_a_model(kind):
    model, how = {
        "float": (made("logits"), CAFFE),
        "int8": (made(int8=True, ends="int8", how=SIGNED), SIGNED),
    }[kind]
    random = np.random.default_rng(0)
    refused = taken = 0
    for _ in range(100):
        data = np.frombuffer(model, np.uint8).copy()
        places = random.integers(0, len(data), random.integers(1, 5))
        data[places] = random.integers(0, 256, len(places))
        data[4:8] = np.frombuffer(b"TFL3", np.uint8)
        cut = random.integers(0, len(data)) if random.random() < 0.1 else 0
        broken = bytes(data[: len(data) - cut])
        try:
            assert with_bytes_and_quanta(broken, how).model
            taken += 1
        except DataError:
            refused += 1
    assert refused > 20 and taken > 20


# XNNPACK, and a model from elsewhere


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("float, torch", set()),
        ("float, caffe", {"GATHER"}),
        ("int8, its grid is the byte's", {"QUANTIZE", "SOFTMAX"}),
    ],
)
def test_xnnpack_takes_the_graph_as_before(name, left, tmp_path):
    case, taken = CASES[name], []
    for data in (case.model(), with_bytes_and_quanta(case.model(), case.how).model):
        path = tmp_path / "model.tflite"
        path.write_bytes(data)
        (loaded,) = delegates.load(path, [delegates.MAIN])
        taken.append(delegates.shares(graph.read(data).subgraphs[0], loaded))
    before, after = taken
    assert before["delegates"] == after["delegates"] == 1
    assert after["operators_taken"] >= before["operators_taken"] > 4
    assert {row["operator"] for row in after["operators_left"]} == left


def test_an_int8_model_with_bytes_around_it_is_still_int8():
    model = made(int8=True, ends="int8", how=SIGNED)
    assert is_int8(model) is None
    assert is_int8(with_bytes_and_quanta(model, SIGNED).model) is None
    reason = is_int8(with_bytes_and_quanta(made(int8=True, ends="int8"), TORCH).model)
    assert reason is not None and "found SUB on float32" in reason


@pytest.mark.skipif(not MOBILENET.is_file(), reason=f"no {MOBILENET}; set MOBILECLF_DATA")
@pytest.mark.parametrize(
    ("how", "same"),
    [(SIGNED, True), (RAW, True), (replace(SIGNED, mean=(127.5,) * 3, bgr=True), False)],
)
def test_a_mobilenet_of_others(how, same):
    model = MOBILENET.read_bytes()
    wrapped = with_bytes_and_quanta(model, how)
    assert (wrapped.model == model) == same and wrapped.probabilities == "as they were"
    pixels = pictures(size=128)
    for kernels in ("xnnpack", "builtin"):
        outputs = raw(model, encoded(model, how, pixels), kernels, "ai-edge-litert")
        found = raw(wrapped.model, pixels, kernels, "ai-edge-litert")
        np.testing.assert_array_equal(found, outputs)
    audit_ends(wrapped.model, labels=1001, io="uint8", shape=(128, 128, 3), any_scale=True)
    with pytest.raises(ProofError, match="wanted the input to be"):
        audit_ends(model, labels=1001, io="uint8", shape=(128, 128, 3))
    assert (
        is_int8(model) == "wanted every operator int8, found CONV_2D on uint8, uint8, int32, uint8"
    )
