"""Training: what is shown to the network, in which order, and what the record says of it."""

from __future__ import annotations

import ast
import csv
import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from mobileclf import config
from mobileclf.config import make_settings
from mobileclf.errors import DataError
from mobileclf.images import augment
from mobileclf.importing import adopt
from mobileclf.models import backbones, head, keras_file, qat, ranges
from mobileclf.models.deploy import deployable
from mobileclf.records import write_json
from mobileclf.spelling import head_of
from mobileclf.stages import train
from mobileclf.tflite import convert
from mobileclf.tflite.audit import audit
from mobileclf.tflite.interpreter import as_quanta, score_photos
from tests.models import SIZE

N = 48  # training photos
QUICK = {
    "backbone": "plain_cnn",
    "image_size": SIZE,
    "head": "8",
    "epochs": "1",
    "augment": "flip,rotate=10",
    "batch_size": 16,
}


def stripes(n, labels, channels=3, seed=0):
    """Noise with stripes across (0), down (1) or along the diagonal (2); balanced.

    Photos uint8 (n, SIZE, SIZE, channels) and labels.
    """
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % labels
    y, x = np.mgrid[:SIZE, :SIZE]
    waves = [np.sin(0.8 * place + rng.uniform(0, 6, (n, 1, 1))) for place in (y, x, x + y)]
    wave = np.choose(truth[:, None, None], waves)
    photos = 128 + 60 * wave[..., None] + rng.normal(0, 20, (n, SIZE, SIZE, channels))
    return photos.clip(0, 255).astype(np.uint8), truth


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """trained(**options) -> the body of train.json, of a run on drawn stripes in tmp_path."""

    def run(*, labels=2, n=N, rare=False, **options):
        settings = make_settings({"run": tmp_path, **QUICK, **options})
        parts = {
            "train": stripes(n, labels, settings.channels),
            "validation": stripes(24, labels, settings.channels, seed=1),
        }
        if rare:  # one photo in ten is of class 1, and looks like the others
            parts = {
                name: (p, (np.arange(len(p)) % 10 == 9).astype(int))
                for name, (p, _) in parts.items()
            }
        names = [f"class {i}" for i in range(labels)]
        monkeypatch.setattr(train, "read_labels", lambda folder: (names, None))
        monkeypatch.setattr(
            train,
            "load_part",
            lambda folder, settings, part, spec: (
                SimpleNamespace(truth=parts[part][1]),
                parts[part][0],
            ),
        )
        body = train.work(tmp_path, settings)
        write_json(tmp_path / "train.json", body)
        return body

    return run


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of plain_cnn's weights without top, so that training starts from given ones."""
    import keras

    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIZE, SIZE, 3))
    base = keras.Model(pixels, backbones.BACKBONES["plain_cnn"](keras, pixels, None))
    file = tmp_path_factory.mktemp("weights") / "own.weights.h5"
    base.save_weights(file)
    return str(file)


@pytest.fixture
def shown(monkeypatch):
    """What augment.augmented_batch was given: (pictures, indices, round), where it augments."""
    calls = []
    right = augment.augmented_batch

    def seen(photos, augmentations, *, seed, indices, round):
        if augmentations:
            calls.append((photos, list(indices), round))
        return right(photos, augmentations, seed=seed, indices=indices, round=round)

    monkeypatch.setattr(augment, "augmented_batch", seen)
    return calls


def classifiers(monkeypatch):
    """The heads that are made from here on, as they are trained."""
    made = []
    right = head.classifier

    def kept(*args, **kwargs):
        made.append(right(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(head, "classifier", kept)
    return made


def history_of(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def held_out_are_not_among(shown):
    """That the training photos are augmented, and none but they."""
    held = {photo.tobytes() for photo in stripes(24, 2, seed=1)[0]}
    ours = {photo.tobytes() for photo in stripes(N, 2)[0]}
    given = {photo.tobytes() for photos, *_ in shown for photo in photos}
    return given == ours and not given & held


def test_validation_photos_are_never_augmented_for_features(trained, shown, weights):
    trained(weights=weights)
    assert held_out_are_not_among(shown)


def test_each_epoch_is_a_round_over_the_training_photos_in_its_own_order(trained, shown):
    trained(epochs="2+1", patience=50)
    assert held_out_are_not_among(shown)
    rounds = {}
    for _, indices, round in shown:
        rounds.setdefault(round, []).append(indices)
    assert sorted(rounds) == [0, 1, 2]
    data = train.batches((*stripes(N, 2), None), (), batch=QUICK["batch_size"], seed=0)
    orders = []
    for number, batches in rounds.items():
        # Keras looks at the first batches of a fit once more to learn their shape.
        unique = [batch for i, batch in enumerate(batches) if batch not in batches[:i]]
        data.start(number)
        assert sum(unique, []) == list(data.order)
        orders.append(sorted(data.order) == list(range(N)) and tuple(data.order))
    assert all(orders) and len(set(orders)) == 3


def test_a_fit_sees_the_batches_in_their_order(monkeypatch):
    """As many steps as photos: what the network sees is what the data set says, in order."""
    import keras

    photos, truth = stripes(10, 2)
    data = train.batches((photos, truth, None), (), batch=1, seed=0)
    orders = []
    seen = []
    for number in range(2):
        data.start(number)
        orders += [int(i) for i in data.order]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(),
                              keras.layers.Dense(1)])  # fmt: skip

    def loss(wanted, got):
        return keras.ops.mean(got)

    model.compile("sgd", loss, run_eagerly=True)
    step = model.train_step
    sums = {int(photo.astype(int).sum()): i for i, photo in enumerate(photos)}

    def watched(batch):
        seen.append(sums[round(float(np.asarray(batch[0], np.float64).sum()))])
        return step(batch)

    monkeypatch.setattr(model, "train_step", watched)
    callbacks = [train.new_round(data, iter(range(2)))]
    model.fit(data, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
    assert seen == orders


@pytest.mark.parametrize("start", ["random", "given"])
def test_a_seed_gives_the_same_model(start, trained, tmp_path, weights):
    options = {"weights": weights} if start == "given" else {}
    options |= {"dropout": 0.3, "class_weights": "balanced", "epochs": "1+1"}
    found = []
    for seed in (0, 0, 1):
        trained(seed=seed, **options)
        found.append((tmp_path / "model.keras").read_bytes())
    assert found[0] == found[1] != found[2]


def test_the_views_of_a_flip_are_the_photo_and_its_mirror_image(trained, shown, weights):
    body = trained(weights=weights, augment="flip", views=2)
    assert (body["views"], [a["name"] for a in body["augment"]]) == (2, ["flip"])
    views = {}
    for photos, indices, round in shown:
        for photo, index in zip(photos, indices, strict=True):
            view = augment.augmented(photo, [("flip", 0)], seed=0, index=index, round=round)
            views.setdefault(index, []).append(view.tobytes())
    assert sorted(views) == list(range(N))
    for index, photo in enumerate(stripes(N, 2)[0]):
        assert sorted(views[index]) == sorted([photo.tobytes(), photo[:, ::-1].tobytes()])


@pytest.mark.parametrize("options", [{"augment": "none", "views": 5}, {"views": 1}])
def test_one_view_is_the_photo_as_it_is(options, trained, shown, weights):
    body = trained(weights=weights, **options)
    assert (body["views"], body["augment"], shown) == (1, [], [])


def test_the_record_says_how_it_was_trained_and_the_model_is_of_the_best_epoch(trained, tmp_path):
    import keras

    body = trained(epochs="2+3", patience=50, head="8,4", dropout=0.2, learning_rate=0.03)
    assert body["architecture"]["units"] == [8, 4]
    assert body["head"] == {"units": [8, 4], "output": "softmax"}
    assert body["fits"] == [{"most": 2, "epochs": 2}, {"most": 3, "epochs": 3}]
    assert (body["epochs"], body["dropout"], body["views"]) == (5, 0.2, None)
    assert body["class_weights"] is None
    assert body["augment"][1] == {"name": "rotate", "value": 10.0, "unit": "degrees"}
    rows = history_of(tmp_path)
    assert [(row["epoch"], row["fit"]) for row in rows] == list(zip("12345", "11222", strict=True))
    losses = [float(row["val_loss"]) for row in rows]
    assert body["best_epoch"] == int(np.argmin(losses)) + 1
    model = keras_file.load(tmp_path / "model.keras")
    assert body["parameters"] == model.count_params()
    head.divide_logits(model, 1 / body["temperature"])
    photos, truth = stripes(24, 2, seed=1)
    found = keras.losses.SparseCategoricalCrossentropy()(
        truth, np.asarray(model(photos.astype(np.float32)))
    )
    assert float(found) == pytest.approx(min(losses), abs=1e-4)


class Told:
    """Stands for a Keras model whose fits end as told: validation losses and weights by fit."""

    def __init__(self, *losses):
        self.losses, self.weights, self.started = list(losses), "start", []

    def fit(self, **given):
        self.started.append(self.weights)
        losses = self.losses.pop(0)
        self.weights = f"best of {losses}"
        return SimpleNamespace(history={"val_loss": losses})

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def test_the_best_of_all_fits_is_kept_and_gone_on_from():
    model = Told([3, 2], [2.5, 2.6], [1.5])
    found = head.fit_all(model, {}, None, fits=(2, 2, 1), patience=1, callbacks=lambda: [])
    assert model.started == ["start", "best of [3, 2]", "best of [3, 2]"]
    assert model.weights == "best of [1.5]"
    assert found.history == {"fit": [1, 1, 2, 2, 3], "val_loss": [3, 2, 2.5, 2.6, 1.5]}
    assert found.epochs == (2, 2, 1)


def test_the_optimizer_goes_on_from_fit_to_fit():
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    x, y = np.ones((8, 2), np.float32), np.ones(8, np.float32)
    given = {"x": x, "y": y, "batch_size": 4}
    found = head.fit_all(model, given, (x, y), fits=(3, 2), patience=50, callbacks=list)
    assert found.epochs == (3, 2) and int(model.optimizer.iterations) == 5 * 2


def test_a_fit_stops_when_the_validation_loss_gets_no_better(trained):
    body = trained(epochs="30+30", patience=2, learning_rate=1.0, augment="none")
    assert all(fit["epochs"] < 30 for fit in body["fits"])


def test_balanced_class_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    truth = np.array([0] * 5 + [1] * 2 + [2] * 13)
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=truth)
    found = head.class_weights(truth, ["a", "b", "c"])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert found[truth].mean() == pytest.approx(1)


def test_a_class_without_training_photos_has_no_weight():
    with pytest.raises(DataError, match="found none of 'b'; add some"):
        head.class_weights(np.array([0, 2, 2]), ["a", "b", "c"])


def test_weights_go_with_their_photos_on_features(trained, weights, monkeypatch):
    fits = []
    right = head.fit_all

    def fit_all(model, given, held, **options):
        fits.append((given, held))
        return right(model, given, held, **options)

    monkeypatch.setattr(head, "fit_all", fit_all)
    body = trained(rare=True, n=80, class_weights="balanced", weights=weights, views=3)
    wanted = {"class 0": pytest.approx(80 / (2 * 72)), "class 1": pytest.approx(80 / (2 * 8))}
    assert body["class_weights"] == wanted
    ((given, (_, truth, held)),) = fits
    assert len(given["x"]) == len(given["y"]) == 3 * 80
    for of, found in ((given["y"], given["sample_weight"]), (truth, held)):
        assert set(of) == {0, 1}
        np.testing.assert_allclose(found, np.where(of == 1, 80 / 16, 80 / 144), rtol=1e-6)


def test_weights_go_with_their_photos_from_random_weights(trained, monkeypatch):
    given = []
    right = train.batches
    monkeypatch.setattr(
        train, "batches", lambda part, *a, **k: given.append(right(part, *a, **k)) or given[-1]
    )
    trained(rare=True, n=80, class_weights="balanced", epochs="1")
    for data in given:  # training and validation
        _, truth, weights = (np.concatenate(parts) for parts in zip(*data, strict=True))
        np.testing.assert_allclose(weights, np.where(truth == 1, 80 / 16, 80 / 144), rtol=1e-6)
    assert len(given) == 2 and 1 in truth


def test_dropout_stands_before_the_head_in_training_only(trained, tmp_path, weights, monkeypatch):
    made = classifiers(monkeypatch)
    trained(dropout=0.4, weights=weights)
    kinds = [type(layer).__name__ for layer in made[0].layers]
    assert kinds == ["Dropout", "Dense", "Dense"] and made[0].layers[0].rate == 0.4
    deployed = keras_file.load(tmp_path / "model.keras")
    assert not any(type(layer).__name__ == "Dropout" for layer in deployed.layers)


@pytest.mark.parametrize("text", ["0,sigmoid", "16,8,sigmoid"])
def test_every_head_reaches_the_model(text, trained, tmp_path):
    body = trained(head=text)
    (check,) = body["checks"]
    assert check["passed"] and body["head"]["output"] == "sigmoid"
    model = keras_file.load(tmp_path / "model.keras")
    dense = [layer.units for layer in model.layers if type(layer).__name__ == "Dense"]
    assert dense == [*head_of(text).units, 2]


def test_the_trained_head_is_the_saved_one(trained, tmp_path, monkeypatch):
    """Logits of what was trained against the model in the file, hidden layers and all."""
    import keras

    made = classifiers(monkeypatch)
    body = trained(head="16,8", dropout=0.3, labels=3)
    assert [type(layer).__name__ for layer in made[0].layers] == ["Dropout", *["Dense"] * 3]
    model = keras_file.load(tmp_path / "model.keras")
    photos = stripes(24, 3, seed=1)[0].astype(np.float32)
    features = keras.Model(model.input, model.get_layer("features").output)(photos)
    logits = np.asarray(made[0](features, training=False)) / body["temperature"]
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(model(photos)), wanted, atol=1e-5)


def test_every_setting_that_is_read_makes_the_stage_anew():
    """Read from the source: `settings.x` in this stage, all but what it reads by content."""
    read = {
        node.attr
        for module in (train, adopt)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "settings"
    }
    # weights, model: by sha256, in `outside`. data: only for a warning; photos are in dataset.csv.
    assert read - {"weights", "model", "data"} == set(train.STAGE.settings)
    assert set(train.STAGE.settings) <= set(config.OPTIONS)


@pytest.mark.parametrize("text, channels", [("0", 1), ("64,32", 3)])
def test_plain_cnn_is_learnt_quantized_and_answers_alike(text, channels, trained, tmp_path):
    body = trained(
        head=text, channels=channels, epochs="12", labels=3, n=240, augment="flip", batch_size=16
    )
    assert body["validation"]["accuracy"] > 0.9
    models = deployable(tmp_path)
    photos, truth = stripes(128, 3, channels, seed=2)
    kinds = {type(layer).__name__ for layer in models.folded.layers}
    assert "Rescaling" not in kinds  # folded into the first convolution, which has no padding
    wanted = qat.forward(models.rebuilt, photos)
    np.testing.assert_allclose(qat.forward(models.folded, photos), wanted, atol=1e-5)
    graph = qat.quantized(models.graph)
    qat.prove_same_function(models.folded, graph, photos, 1e-4)
    ranges.calibrate(models.graph, graph, photos)
    model = convert.from_quantized_graph(graph, "uint8")
    audit(model, labels=3, io="uint8", shape=(SIZE, SIZE, channels))
    got = as_quanta(score_photos(model, photos, title="check"))
    assert np.mean(got.argmax(axis=1) == truth) > 0.9
    assert np.mean(got.argmax(axis=1) == wanted.argmax(axis=1)) > 0.97
    np.testing.assert_allclose(got / 256, wanted, atol=0.1)
