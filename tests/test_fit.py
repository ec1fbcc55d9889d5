"""Fitting epoch by epoch: what is shown when, what ends it, what is kept, and after a kill."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.training import phases
from mobileclf.training.batches import Share, batch_size, batches
from mobileclf.training.fit import Course, compiled, fit, loss_of
from mobileclf.training.phases import Place
from mobileclf.training.plan import seconds_per_step

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6)).astype(np.float32)
Y = (X[:, 0] + 0.3 * RNG.normal(size=50) > 0).astype(np.int64)


def reader(rows, round):
    return X[rows]


def course_of(*losses):
    """Validation losses by fit."""
    found = Course()
    for number, of in enumerate(losses, start=1):
        for loss in of:
            found.fit.append(number)
            found.val_loss.append(loss)
    return found


def network(dropout=0.0, sigmoid=False, seed=0):
    import keras

    keras.utils.set_random_seed(seed)
    layers = [keras.Input((6,)), keras.layers.Dense(5, activation="relu")]
    if dropout:
        layers.append(keras.layers.Dropout(dropout, seed=seed))
    layers.append(keras.layers.Dense(1 if sigmoid else 2))
    return compiled(
        keras.Sequential(layers), optimizer=keras.optimizers.Adam(0.01), sigmoid=sigmoid
    )


def data(weights=None, size=8, seed=0):
    return (
        batches(reader, Y[:40], weights, size=size, seed=seed),
        batches(lambda rows, round: X[40:][rows], Y[40:], None, size=size),
    )


def everything(model):
    return [np.array(v.numpy()) for v in [*model.variables, *model.optimizer.variables]]


def test_a_round_is_every_example_in_an_order_of_its_own():
    shown = batches(reader, Y, None, size=8, seed=3)
    orders = []
    for round in (0, 1, 0):
        shown.start(round)
        x = np.concatenate([shown[i][0] for i in range(len(shown))])
        assert len(x) == 7 * 8
        orders.append([int(np.flatnonzero((X == row).all(axis=1))[0]) for row in x])
        assert sorted(orders[-1][:50]) == list(range(50))
        # What fills the last batch is the beginning once more.
        assert orders[-1][50:] == orders[-1][:6]
    assert orders[0] == orders[2] != orders[1]


def test_what_fills_a_validation_batch_counts_for_nothing():
    weights = np.linspace(1, 2, 50).astype(np.float32)
    held = batches(reader, Y, weights, size=8)
    found = np.concatenate([held[i][2] for i in range(len(held))])
    np.testing.assert_array_equal(found[:50], weights)
    assert not found[50:].any()
    model = network()
    logits = np.asarray(model(X), np.float64)
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted = np.average(-log[np.arange(50), Y], weights=weights)
    assert loss_of(model, held) == pytest.approx(wanted, rel=1e-5)


def test_processes_share_each_batch():
    whole = batches(reader, Y, None, size=8, seed=1)
    parts = [
        batches(reader, Y, None, size=8, seed=1, share=Share(index=i, count=2)) for i in (0, 1)
    ]
    for number in range(len(whole)):
        pieces = [part[number] for part in parts]
        for field in range(3):
            joined = np.concatenate([piece[field] for piece in pieces])
            np.testing.assert_array_equal(joined, whole[number][field])


@pytest.mark.parametrize(
    "asked, examples, devices, wanted", [(32, 100, 1, 32), (32, 10, 1, 10), (10, 100, 4, 12)]
)
def test_a_batch_is_whole_on_every_device(asked, examples, devices, wanted):
    assert batch_size(asked, examples, devices) == wanted


def test_threads_that_read_ahead_change_nothing():
    found = []
    for workers in (1, 3):
        model = network(dropout=0.3)
        shown = batches(reader, Y[:40], None, size=8, seed=0, workers=workers)
        fit(model, shown, data()[1], fits=(3,), patience=9)
        found.append(everything(model))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "losses, wanted",
    [
        ([], 1),
        ([[3, 2]], 1),
        ([[3, 2, 2.5, 2.4]], 2),  # two epochs after its best
        ([[5, 4, 3, 2]], 2),  # as many as it may have
        ([[5, 4, 3, 2], [2, 1]], 2),
        ([[5, 4, 3, 2], [2, 1, 0]], None),
        ([[5, 4, 3, 2], [1, 2, 3]], None),
    ],
)
def test_a_fit_ends_by_its_epochs_or_its_patience(losses, wanted):
    assert course_of(*losses).next_fit((4, 3), 2) == wanted


def test_the_rate_falls_at_a_plateau():
    assert course_of([3, 2, 1]).rate_after_plateaus(1.0, 2) == 1.0
    assert course_of([3, 2, 2, 2]).rate_after_plateaus(1.0, 2) == pytest.approx(0.3)
    assert course_of([3, 2, 2, 2, 2]).rate_after_plateaus(1.0, 2) == pytest.approx(0.3)
    assert course_of([3, 2, 2, 2, 2, 2]).rate_after_plateaus(1.0, 2) == pytest.approx(0.09)
    # A gain that is hardly one is none; a new fit waits anew.
    assert course_of([3, 2.99995, 2.9999]).rate_after_plateaus(1.0, 2) == pytest.approx(0.3)
    assert course_of([3, 3], [3, 3]).rate_after_plateaus(1.0, 2) == 1.0


@pytest.mark.parametrize("sigmoid", [False, True])
def test_it_learns_and_keeps_the_best(sigmoid):
    model = network(sigmoid=sigmoid)
    shown, held = data()
    start = loss_of(model, held)
    course = fit(model, shown, held, fits=(20, 10), patience=5)
    assert min(course.val_loss) < 0.7 * start
    assert loss_of(model, held) == pytest.approx(min(course.val_loss), rel=1e-5)
    assert course.val_accuracy[-1] > 0.6
    logits = np.asarray(model(X[40:]))
    answers = logits[:, 0] > 0 if sigmoid else logits.argmax(axis=1)
    accuracy = np.mean(answers == Y[40:])
    assert accuracy == pytest.approx(course.val_accuracy[course.best], abs=1e-6)


def test_a_fit_starts_from_the_best_before_it_and_the_optimizer_goes_on(monkeypatch):
    model = network()
    shown, held = data()
    seen = []
    right = type(model).fit

    def watched(self, *args, **kwargs):
        seen.append([w.copy() for w in self.get_weights()])
        found = right(self, *args, **kwargs)
        # The second epoch is made out to be worse than the first.
        found.history["val_cross_entropy"] = [1.0 + len(seen) % 2 * -0.5]
        return found

    monkeypatch.setattr(type(model), "fit", watched)
    fit(model, shown, held, fits=(2, 1), patience=5)
    after_first = seen[1]
    for one, other in zip(seen[2], after_first, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(model.optimizer.iterations) == 3 * 5


def test_a_loss_that_is_no_number_is_never_the_best(monkeypatch):
    nan = float("nan")
    assert (course_of([0.4, nan]).best, course_of([nan, 0.4]).best) == (0, 1)
    assert course_of([0.5, nan, 0.4]).next_fit((9,), 2) == 1
    assert course_of([0.5, nan, nan]).next_fit((9,), 2) is None
    assert course_of([nan]).lowest == float("inf")
    model = network()
    shown, held = data()
    before = [w.copy() for w in model.get_weights()]
    right = type(model).fit

    def ruined(self, *args, **kwargs):
        found = right(self, *args, **kwargs)
        found.history["val_cross_entropy"] = [nan]
        return found

    monkeypatch.setattr(type(model), "fit", ruined)
    course = fit(model, shown, held, fits=(5,), patience=2)
    assert len(course.fit) == 3
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_reader_raises_is_said_as_it_is():
    def broken(rows, round):
        if round == 1:
            raise DataError("photo.jpg: broken; take it out")
        return X[rows]

    shown = batches(broken, Y[:40], None, size=8, seed=0)
    with pytest.raises(DataError, match=r"^photo.jpg: broken; take it out$"):
        fit(network(), shown, data()[1], fits=(3,), patience=5)


def test_all_processes_go_on_from_the_same(tmp_path):
    said = []
    options = {"fits": (2,), "patience": 5, "state": tmp_path / "state.npz", "key": "k"}
    for writes in (False, True, False):
        fit(network(), *data(), writes=writes, agree=said.append, **options)
    assert said[0] == said[1] != said[2]


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5])
def test_after_a_kill_it_goes_on_to_the_same_numbers(stop_after, tmp_path):
    fits = {"fits": (3, 3), "patience": 2}

    def rate(course):
        return course.rate_after_plateaus(0.01, 1)

    undisturbed = network(dropout=0.4)
    wanted = fit(undisturbed, *data(), rate=rate, **fits)

    def kill(course):
        if len(course.fit) == stop_after:
            raise Killed

    state = tmp_path / "state.npz"
    with pytest.raises(Killed):
        fit(network(dropout=0.4), *data(), rate=rate, state=state, key="k", epoch_done=kill, **fits)
    # Another process: other numbers to begin with, but for the state.
    model = network(dropout=0.4, seed=9)
    done = []
    course = fit(
        model, *data(), rate=rate, state=state, key="k",
        epoch_done=lambda course: done.append(len(course.fit)), **fits,
    )  # fmt: skip
    assert course == wanted
    assert done == list(range(stop_after + 1, len(wanted.fit) + 1))
    for one, other in zip(everything(model), everything(undisturbed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_in_float16_the_loss_is_scaled_and_a_kill_changes_nothing(tmp_path):
    import keras

    place = Place(folder=tmp_path, key="k", share=Share(), devices=1, scaled=True,
                  agree=lambda text: None, logs=None)  # fmt: skip

    def half():
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy("mixed_float16")
        body = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="relu")])
        keras.config.set_dtype_policy("float32")
        body.add(keras.layers.Dense(2))
        return compiled(body, optimizer=phases._adam(0.01, place), sigmoid=False)

    undisturbed = half()
    rates = iter([0.01, 0.005, 0.02])
    wanted = fit(undisturbed, *data(), fits=(3,), patience=5, rate=lambda course: next(rates))
    assert float(undisturbed.optimizer.inner_optimizer.learning_rate) == pytest.approx(0.02)
    assert float(undisturbed.optimizer.dynamic_scale) > 1

    def kill(course):
        raise Killed

    state = {"fits": (3,), "patience": 5, "state": tmp_path / "state.npz", "key": "k"}
    with pytest.raises(Killed):
        fit(half(), *data(), rate=lambda course: 0.01, epoch_done=kill, **state)
    model = half()
    rates = iter([0.005, 0.02])
    assert fit(model, *data(), rate=lambda course: next(rates), **state) == wanted
    for one, other in zip(everything(model), everything(undisturbed), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("how", ["another key", "cut short", "empty", "no such file"])
def test_what_is_no_state_of_it_is_left(how, tmp_path):
    state = tmp_path / "state.npz"
    fit(network(), *data(), fits=(2,), patience=5, state=state, key="k")
    if how == "cut short":
        state.write_bytes(state.read_bytes()[:-100])
    if how == "empty":
        state.write_bytes(b"")
    if how == "no such file":
        state.unlink()
    done = []
    fit(
        network(), *data(), fits=(2,), patience=5, state=state,
        key="other" if how == "another key" else "k",
        epoch_done=lambda course: done.append(len(course.fit)),
    )  # fmt: skip
    assert done == [1, 2]


def test_a_finished_fit_is_not_run_again(tmp_path):
    state = tmp_path / "state.npz"
    first = network()
    fit(first, *data(), fits=(2,), patience=5, state=state, key="k")
    again = network(seed=5)
    fit(again, *data(), fits=(2,), patience=5, state=state, key="k",
        epoch_done=lambda course: pytest.fail("an epoch"))  # fmt: skip
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_frozen_layers_are_not_in_the_state(tmp_path):
    found = {}
    for name, frozen in (("all", []), ("last", [0])):
        model = network()
        layers = [model.layers[i] for i in frozen]
        for layer in layers:
            layer.trainable = False
        compiled(model, optimizer="adam", sigmoid=False)
        before = [w.copy() for w in model.layers[0].get_weights()]
        fit(model, *data(), fits=(2,), patience=5, state=tmp_path / name, key="k", frozen=layers)
        found[name] = (tmp_path / name).stat().st_size
        same = all(map(np.array_equal, before, model.layers[0].get_weights()))
        assert same == bool(frozen)
    assert found["last"] < found["all"]


def test_timing_a_step_leaves_everything_as_it_was():
    model = network(dropout=0.4)
    shown, held = data()
    undisturbed = network(dropout=0.4)
    assert seconds_per_step(model, shown) > 0
    fit(model, shown, held, fits=(2,), patience=5)
    fit(undisturbed, *data(), fits=(2,), patience=5)
    for one, other in zip(everything(model), everything(undisturbed), strict=True):
        np.testing.assert_array_equal(one, other)
