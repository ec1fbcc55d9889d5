"""Anyone's `.tflite` as the model of a run: what its outputs mean is held against photos."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.images.preprocess import NAMED, RAW
from mobileclf.importing import from_tflite, label_order
from mobileclf.settings import Settings
from mobileclf.tflite import ends, metadata
from mobileclf.tflite.interpreter import open_interpreter
from tests.test_tflite_ends import (
    MOBILENET,
    SIGNED,
    SIZE,
    TORCH,
    encoded,
    expected,
    made,
    network,
    on_another_grid,
    pictures,
    raw,
    reshaped,
    traced,
    written_out,
)
from tests.variants import classifier, described, edited

UNIT = NAMED["0..1"]


def heads(name, labels=4):
    """A function that `tf` ends another way than with softmax, sigmoid or logits."""
    import tensorflow as tf

    soft, sigmoid, logits = (
        network(head, labels=labels) for head in ("softmax", "sigmoid", "logits")
    )
    other = network("softmax", labels=labels, channels=3, how=UNIT)

    def average(x):
        return (soft(x) + other(x * 0.3)) / 2

    def unit(x):
        return (sigmoid(x) + sigmoid(x * 0.5)) / 2

    def over_the_photos(x):
        powers = tf.exp(logits(x))
        return powers / tf.reduce_sum(powers, axis=0)

    return {
        "average": average,
        "unit": unit,
        "clipped": lambda x: tf.clip_by_value(soft(x), 1e-7, 1 - 1e-7),
        "clipped at a hundredth": lambda x: tf.clip_by_value(soft(x), 0.01, 0.99),
        "shares": lambda x: sigmoid(x) / tf.reduce_sum(sigmoid(x), 1, keepdims=True),
        "average, then softmax": lambda x: tf.nn.softmax(tf.math.log(average(x))),
        "unit, then sigmoid": lambda x: tf.sigmoid(tf.math.log(unit(x)) - tf.math.log(1 - unit(x))),
        "over the photos": over_the_photos,
        "one row": lambda x: tf.reshape(logits(x), (labels,)),
    }[name]


def converted(name, labels=4):
    return traced(heads(name, labels))


def on_the_grid_of_probabilities():
    """int8 logits that are said to be in 256ths from 0, as those of a softmax are."""

    def change(tree):
        first = tree.subgraphs[0]
        grid = first.tensors[first.outputs[0]].quantization
        grid.scale, grid.zeroPoint = np.array([1 / 256], np.float32), np.array([0], np.int64)

    return edited(made("logits", int8=True, ends="uint8", how=SIGNED), change)


# ---------------------------------------------------------------------------------------------
# what the outputs are


PROBABLE = {
    "average": 4, "clipped": 4, "clipped at a hundredth": 4, "shares": 4, "unit": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", PROBABLE)
def test_probabilities_that_would_get_a_second_softmax_are_refused(name):
    labels = PROBABLE[name]
    reference = from_tflite.opened(converted(name, labels))
    assert reference.scores.probabilities in ("softmax added", "sigmoid added")
    numbers = reference.outputs(pictures(), TORCH)
    assert -1e-6 < numbers.min() and numbers.max() < 1 + 1e-6
    assert np.ptp(numbers, axis=0).max() > 0.1
    behind = "softmax" if labels > 1 else "sigmoid"
    with pytest.raises(DataError) as error:
        reference.check_reading(pictures(), TORCH)
    words = str(error.value)
    assert words.startswith("model: wanted logits, as neither softmax nor sigmoid calculates its")
    assert f"found numbers of {numbers.min():.3g} to {numbers.max():.3g}" in words
    assert (
        f"on 6 photos, as of probabilities p; let it end with its logits, or put {behind}(" in words
    )
    assert ("add up to" in words) == (labels > 1)


def test_the_averaged_softmax_in_int8_is_refused():
    import tensorflow as tf

    spec = tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32)
    concrete = tf.function(heads("average"), input_signature=[spec]).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    inputs = encoded(made(), TORCH, pictures())
    converter.representative_dataset = lambda: ([photo[None]] for photo in inputs)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    reference = from_tflite.opened(bytes(converter.convert()))
    assert reference.scores.probabilities == "softmax added"
    with pytest.raises(DataError, match="wanted logits, .* as of probabilities p"):
        reference.check_reading(pictures(), TORCH)


@pytest.mark.parametrize(
    ("name", "labels"), [("average, then softmax", 4), ("unit, then sigmoid", 1)]
)
def test_what_is_advised_is_taken_and_changes_no_answer(name, labels):
    probable, advised = name.split(", then ")
    reference = from_tflite.opened(converted(name, labels))
    assert not reference.scores.probabilities.endswith("added")
    reference.check_reading(pictures(), TORCH)
    before = from_tflite.opened(converted(probable, labels)).outputs(pictures(), TORCH)
    after = reference.outputs(pictures(), TORCH)
    assert np.ptp(after, axis=0).max() > 0.1 and np.abs(after - before).max() < 1e-6, advised


SOUND = {
    "softmax": (made, TORCH),
    "logits": (lambda: made("logits"), TORCH),
    "sigmoid": (lambda: made("sigmoid", labels=1), TORCH),
    "one logit": (lambda: made("logits", labels=1), TORCH),
    "softmax written out": (written_out, TORCH),
    "int8, float32 at its ends": (lambda: made(int8=True), TORCH),
    "int8": (lambda: made(int8=True, ends="int8", how=SIGNED), SIGNED),
    "int8 logits": (lambda: made("logits", int8=True, ends="int8", how=SIGNED), SIGNED),
    "int8 unit": (lambda: made("sigmoid", labels=1, int8=True, ends="int8", how=SIGNED), SIGNED),
    "another grid": (on_another_grid, SIGNED),
    "many labels in int8": (lambda: made(int8=True, ends="uint8", labels=600, how=SIGNED), SIGNED),
}


@pytest.mark.parametrize("name", SOUND)
def test_heads_that_are_read_right_are_taken(name):
    model, how = SOUND[name]
    from_tflite.opened(model()).check_reading(pictures(), how)


def test_int8_probabilities_need_not_add_up_to_1_in_all_digits():
    """As float32 at the output they are still in 256ths."""
    reference = from_tflite.opened(made(int8=True))
    sums = reference.outputs(pictures(), TORCH).sum(axis=1)
    assert reference.scores.quantum == 1 / 256 and np.abs(sums - 1).max() > from_tflite.SLACK
    assert from_tflite.opened(made()).scores.quantum == 0


@pytest.mark.skipif(not MOBILENET.is_file(), reason=f"no {MOBILENET}; set MOBILECLF_DATA")
def test_a_mobilenet_of_others_with_1001_labels_is_taken():
    from_tflite.opened(MOBILENET.read_bytes()).check_reading(pictures(size=128), RAW)


@pytest.mark.parametrize(
    ("model", "how", "words"),
    [
        (lambda: converted("over the photos"), TORCH, "add up to 4 to 4, on 6 photos; end it with"),
        (on_the_grid_of_probabilities, SIGNED, "wanted probabilities, as its last operators or"),
    ],
    ids=["softmax over the batch", "logits on the grid of probabilities"],
)
def test_what_is_taken_for_probabilities_and_is_none_is_refused(model, how, words):
    reference = from_tflite.opened(model())
    assert reference.scores.probabilities == "as they were"
    with pytest.raises(DataError, match=words):
        reference.check_reading(pictures(), how)


def test_a_run_is_not_finished_with_outputs_that_are_misread(tmp_path):
    path = tmp_path / "averaged.tflite"
    path.write_bytes(converted("average"))
    given = from_tflite.open_given(path)
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(DataError, match="wanted logits"):
        given.finish(run, TORCH, pictures())
    assert not list(run.iterdir())


# ---------------------------------------------------------------------------------------------
# the answers


ANSWERS = {
    **{name: SOUND[name] for name in ("softmax", "logits", "sigmoid", "one logit", "int8 logits")},
    "(1, 1, 1, labels)": (lambda: reshaped("logits"), TORCH),
    "(labels,)": (lambda: converted("one row"), TORCH),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_answers_are_the_files_own(name):
    make, how = ANSWERS[name]
    model = make()
    reference = from_tflite.opened(model)
    assert reference.interpreter.shape == (SIZE, SIZE, 3)
    got = reference.answers(pictures(), how)
    outputs = raw(model, encoded(model, how, pictures()), "xnnpack", "ai-edge-litert")
    wanted = expected(model, outputs, reference.scores.probabilities)
    assert got.shape == wanted.shape and np.allclose(got.sum(axis=1), 1, atol=0.02)
    assert np.abs(np.floor(got * 256 + 0.5).clip(0, 255) - wanted).max() <= 1


def test_only_the_shape_is_another_in_a_row():
    model = reshaped("logits")
    with pytest.raises(DataError, match=r"found .* and \(1, 1, 1, 4\)"):
        open_interpreter(model)
    row = ends.scores_of(model)
    inputs = encoded(model, TORCH, pictures())
    was, now = (raw(m, inputs, "xnnpack", "ai-edge-litert") for m in (model, row.model))
    assert now.shape[1:] == (1, 4)
    np.testing.assert_array_equal(was.reshape(-1, 4), now.reshape(-1, 4))
    assert ends.scores_of(made()).model == made(), "nothing is changed where nothing has to be"


def test_a_model_is_opened_once_for_all_photos(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(made("logits"))
    given = from_tflite.open_given(path)

    def again(*args, **options):
        raise AssertionError("read or opened again")

    for module, name in (
        (from_tflite, "open_interpreter"), (ends, "scores_of"), (ends, "with_bytes_and_quanta"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, again)
    both = [given.score(pictures(), how) for how in (TORCH, SIGNED)]
    assert np.abs(both[0] - both[1]).max() > 0.01
    given.finish(tmp_path, TORCH, pictures())
    with pytest.raises(AssertionError, match="again"):
        from_tflite.open_given(path)


def test_what_cannot_be_taken_is_refused_with_what_to_do(tmp_path):
    import tensorflow as tf

    path = tmp_path / "model.tflite"
    path.write_bytes(traced(lambda x: network()(tf.transpose(x, (0, 2, 3, 1))), 1, 3, SIZE, SIZE))
    with pytest.raises(DataError, match="channels first as PyTorch has them; convert it again"):
        from_tflite.open_given(path)


def test_labels_and_normalization_are_those_of_the_file_as_it_was(tmp_path):
    unit = {"options_type": 1, "options": {"mean": [127.5], "std": [127.5]}}
    about = classifier(units=[unit], label_files=[{"name": "labels.txt", "type": 2}])
    labels = ("d", "c", "b", "a")
    files = {"labels.txt": "".join(f"{label}\n" for label in labels).encode()}
    path = tmp_path / "model.tflite"
    path.write_bytes(described(reshaped("logits"), about, files))
    given = from_tflite.open_given(path)
    assert given.inside is not None and given.inside.mean == (127.5,) and given.outputs == 4
    given.finish(tmp_path, given.inside, pictures())
    wrapped = ends.with_bytes_and_quanta(path.read_bytes(), given.inside)
    assert metadata.describe(wrapped.model) is None, "the wrapped one has none to read"
    for file in (path, tmp_path / from_tflite.FILE):
        found = label_order.given_labels(Settings(model=file))
        assert found is not None and found.labels == labels
