"""Distillation: nearer to the teacher or as before, in its time, and as undisturbed when it was."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from mobileclf.models import distil as distil_module
from mobileclf.models import qat, ranges
from mobileclf.models.distil import distil
from mobileclf.models.graph import Graph, Node, build
from mobileclf.stats.calibration import mean_kl
from tests.models import SIZE, tiny_network


@pytest.fixture(scope="module")
def trial():
    """A network, photos to learn from and to be judged on, and a start with something to learn."""
    import tf_keras

    graph = tiny_network()
    drawn = np.random.default_rng(3).integers(0, 256, (96, SIZE, SIZE, 3), dtype=np.uint8)
    photos, held_out = drawn[:64], drawn[64:]

    def start():
        aware = qat.quantized(graph)
        ranges.calibrate(graph, aware, photos)
        kernel = next(q.kernel for q in qat.quantizers_of(aware) if q.key == "hidden/kernel")
        kernel.assign(kernel * 0.8)
        return aware

    teacher = build(tf_keras, graph)
    asked = {"epochs": 3, "rate": 0.05, "batch": 16, "seed": 0}

    def run(aware, **other):
        return distil(aware, teacher, photos, held_out, **{**asked, **other})

    def kl(aware):
        wanted, got = (qat.forward(m, held_out).astype(float) for m in (teacher, aware))
        return mean_kl(wanted, got)

    return SimpleNamespace(start=start, run=run, kl=kl, batches=2 * 64 // 16)


def ranges_of(aware):
    return {q.key: np.asarray([q.low, q.high]).tolist() for q in qat.quantizers_of(aware)}


def same(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_distilling_brings_the_graph_nearer_to_its_teacher(trial):
    aware = trial.start()
    before, start = ranges_of(aware), trial.kl(aware)
    course = trial.run(aware)
    assert course.kl[0] == pytest.approx(start, rel=1e-3)
    assert course.best > 0 and min(course.kl) < course.kl[0] / 4
    assert trial.kl(aware) == pytest.approx(min(course.kl), rel=1e-3)
    assert course.loss[-1] < course.loss[0]
    assert (course.stopped, course.steps) == ("epochs", 3 * trial.batches)
    assert ranges_of(aware) == before


def test_it_never_ends_worse_than_it_began(trial):
    """With steps that wreck it: the start is the best, patience ends it, and the start is back."""
    aware, start = trial.start(), trial.start()
    course = trial.run(aware, rate=30.0, epochs=9)
    assert min(course.kl[1:]) > course.kl[0] and course.best == 0
    assert (course.stopped, len(course.loss)) == ("patience", distil_module.PATIENCE)
    same(aware, start)


def test_the_best_epoch_is_kept_and_not_the_last(trial, monkeypatch):
    measured = iter([3.0, 2.0, 1.0, 1.5, 1.0, 0.1])
    monkeypatch.setattr(distil_module, "mean_kl", lambda *_: next(measured))
    aware, undisturbed = trial.start(), trial.start()
    course = trial.run(aware, epochs=9)
    assert (course.best, course.kl, course.stopped) == (2, [3.0, 2.0, 1.0, 1.5, 1.0], "patience")
    measured = iter([3.0, 2.0, 1.0])
    trial.run(undisturbed, epochs=2)
    same(aware, undisturbed)


class Killed(Exception):
    pass


@pytest.mark.parametrize("where", ["step", "epoch"])
def test_interrupted_it_goes_on_to_the_same_numbers(where, trial, tmp_path):
    undisturbed = trial.start()
    whole = trial.run(undisturbed)
    state, calls = tmp_path / "state.npz", 0

    def kill():
        nonlocal calls
        calls += 1
        if calls == (trial.batches + 3 if where == "step" else 2):
            raise Killed

    stop = {"step_done": kill} if where == "step" else {"epoch_done": lambda course: kill()}
    with pytest.raises(Killed):
        trial.run(trial.start(), state=state, **stop)
    steps = []
    aware = trial.start()
    assert trial.run(aware, state=state, step_done=lambda: steps.append(1)) == whole
    assert len(steps) == trial.batches * (2 if where == "step" else 1)
    same(aware, undisturbed)


@pytest.mark.parametrize("damage", ["other seed", "cut", "gone"])
def test_a_state_of_something_else_is_not_gone_on_from(damage, trial, tmp_path):
    state = tmp_path / "state.npz"
    trial.run(trial.start(), epochs=1, state=state, seed=int(damage == "other seed"))
    if damage == "cut":
        state.write_bytes(state.read_bytes()[:1000])
    elif damage == "gone":
        state.unlink()
    undisturbed, aware = trial.start(), trial.start()
    assert trial.run(aware, epochs=1, state=state) == trial.run(undisturbed, epochs=1)
    same(aware, undisturbed)


def clock(monkeypatch, seconds):
    """Each look at the clock takes so long."""
    looks = itertools.count()
    fake = SimpleNamespace(monotonic=lambda: seconds * next(looks))
    monkeypatch.setattr(distil_module, "time", fake)


def test_a_budget_ends_it_within_an_epoch(trial, monkeypatch):
    clock(monkeypatch, 1.0)
    aware = trial.start()
    course = trial.run(aware, epochs=9, budget=trial.batches + 9.0)
    assert course.stopped == "budget" and trial.batches < course.steps < 2 * trial.batches
    assert len(course.kl) == len(course.loss) + 1 == 3  # also the epoch that was cut is judged
    assert trial.kl(aware) == pytest.approx(min(course.kl), rel=1e-3)


def test_a_budget_that_holds_no_step_leaves_the_start(trial, monkeypatch):
    clock(monkeypatch, 1.0)
    aware, start = trial.start(), trial.start()
    course = trial.run(aware, budget=2.0)
    assert (course.stopped, course.steps, course.best, course.loss) == ("budget", 0, 0, [])
    same(aware, start)


def test_time_that_an_interrupted_run_spent_counts(trial, monkeypatch, tmp_path):
    clock(monkeypatch, 1.0)
    state, steps = tmp_path / "state.npz", []
    trial.run(trial.start(), epochs=1, state=state)
    course = trial.run(
        trial.start(), epochs=9, state=state, budget=trial.batches + 9.0,
        step_done=lambda: steps.append(1),
    )  # fmt: skip
    assert course.stopped == "budget" and course.steps - len(steps) == trial.batches
    assert len(steps) < trial.batches


def test_steps_are_as_wide_as_quanta_are(trial):
    aware = trial.start()
    quantizers = {q.key: q for q in qat.quantizers_of(aware)}
    found = distil_module._quantization_steps(aware)
    sizes = {v.ref(): size for v, size in zip(aware.trainable_variables, found, strict=True)}
    kernel, rounded = quantizers["hidden/kernel"], quantizers["hidden/after"]
    np.testing.assert_allclose(sizes[kernel.kernel.ref()], [float(kernel.high) / 127], rtol=1e-6)
    own = aware.get_layer("quant_hidden").layer.bias
    assert sizes[own.ref()] == pytest.approx(float(rounded.high - rounded.low) / 255)
    # Where a ReLU is a layer of its own, a bias ends in the range after that.
    bias, relu = aware.get_layer("quant_block1_conv").layer.bias, quantizers["block1_relu/output"]
    assert sizes[bias.ref()] == pytest.approx(float(relu.high - relu.low) / 255)
    for variable in aware.trainable_variables:
        assert np.broadcast_to(sizes[variable.ref()], variable.shape).shape == variable.shape


def strided(padding):
    """A 1x1 convolution with strides at the size at which its gradient ends the process."""
    rng = np.random.default_rng(0)

    def convolution(name, source, channels, filters, strides):
        kernel = rng.normal(0, 0.3, (1, 1, channels, filters)).astype(np.float32)
        config = {
            "filters": filters, "kernel_size": [1, 1], "strides": [strides, strides],
            "padding": padding, "dilation_rate": [1, 1], "groups": 1, "use_bias": True,
            "activation": "relu",
        }  # fmt: skip
        weights = (kernel, np.zeros(filters, np.float32))
        return Node(name=name, kind="Conv2D", config=config, inputs=(source,), weights=weights)

    dense = rng.normal(0, 0.1, (16, 3)).astype(np.float32)
    return Graph(
        nodes=(
            Node(name="pixels", kind="InputLayer", config={"shape": [60, 60, 3]}),
            convolution("first", "pixels", 3, 8, 1),
            convolution("second", "first", 8, 16, 2),
            Node(
                name="pooled", kind="GlobalAveragePooling2D", config={"keepdims": False},
                inputs=("second",),
            ),
            Node(
                name="last", kind="Dense",
                config={"units": 3, "use_bias": True, "activation": "softmax"},
                inputs=("pooled",), weights=(dense, np.zeros(3, np.float32)),
            ),
        )
    )  # fmt: skip


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_strided_pointwise_convolution_is_trained_without_its_gradient(padding):
    """TensorFlow's own gradient of it ends this process: segmentation fault."""
    import tf_keras

    graph = strided(padding)
    aware = qat.quantized(graph)
    photos = np.random.default_rng(1).integers(0, 256, (48, 60, 60, 3), dtype=np.uint8)
    ranges.calibrate(graph, aware, photos)
    before = qat.forward(aware, photos)
    head = next(v for v in aware.trainable_variables if v.shape == (16, 3))
    head.assign(head * 0.8)
    teacher = build(tf_keras, graph)
    course = distil(aware, teacher, photos, photos, epochs=2, rate=0.01, batch=16, seed=0)
    assert course.kl[-1] < course.kl[0]
    after = qat.forward(aware, photos)
    assert np.abs(after - before).max() > 0
    # Outside of training it is the plain layer again, with the same answers as a fresh one.
    fresh = qat.quantized(graph)
    qat.set_weights(fresh, qat.weights_of(aware))
    np.testing.assert_array_equal(qat.forward(fresh, photos), after)
