"""Training: what is shown to the network, in which order, and what the record says of it."""

from __future__ import annotations

import ast
import csv
import hashlib
import inspect

import numpy as np
import pytest
from PIL import Image

from mobileclf.config import make_settings
from mobileclf.errors import DataError
from mobileclf.importing import adopt
from mobileclf.models import backbones, head, keras_file, qat, ranges
from mobileclf.models.deploy import deployable
from mobileclf.records import write_csv, write_json
from mobileclf.settings import OPTIONS
from mobileclf.spelling import head_of
from mobileclf.stages import train
from mobileclf.tflite import convert
from mobileclf.tflite.audit import audit
from mobileclf.tflite.interpreter import as_quanta, score_photos
from mobileclf.training import features, fit, phases, transfer
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


def written(folder, parts, labels, channels):
    """The records of a dataset stage and its photos, PNGs of (photos, labels) by part."""
    rows = []
    for part, (photos, truth) in parts.items():
        for i, (photo, label) in enumerate(zip(photos, truth, strict=True)):
            path = folder / "photos" / f"{part}_{i:03d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(photo[..., 0] if channels == 1 else photo).save(path)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            rows.append({"path": path.name, "label": f"class {label}", "group": "",
                         "split": part, "sha256": digest, "problem": ""})  # fmt: skip
    write_csv(folder / "dataset.csv", list(rows[0]), rows)
    names = [{"label": f"class {i}", "group": None} for i in range(labels)]
    write_json(folder / "dataset.json", {"labels": names, "kept": "photos", "harmful": None})


@pytest.fixture
def trained(tmp_path):
    """trained(**options) -> the body of train.json, of a run on drawn stripes in tmp_path."""

    def run(*, labels=2, n=N, rare=False, **options):
        settings = make_settings({"run": tmp_path, "data": tmp_path, **QUICK, **options})
        parts = {
            "train": stripes(n, labels, settings.channels),
            "validation": stripes(24, labels, settings.channels, seed=1),
        }
        if rare:  # one photo in ten is of class 1, and looks like the others
            parts = {
                name: (p, (np.arange(len(p)) % 10 == 9).astype(int))
                for name, (p, _) in parts.items()
            }
        written(tmp_path, parts, labels, settings.channels)
        body = train.work(tmp_path, settings)
        write_json(tmp_path / "train.json", body)
        train.STAGE.recorded(tmp_path)
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
    """What augmented_batch was given: (pictures, round of each), where it augments."""
    calls = []
    right = phases.augmented_batch

    def seen(photos, augmentations, *, seed, content, round):
        if augmentations:
            calls.append((np.array(photos), np.broadcast_to(round, len(photos)).tolist()))
        return right(photos, augmentations, seed=seed, content=content, round=round)

    for module in (phases, features):
        monkeypatch.setattr(module, "augmented_batch", seen)
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


def test_each_epoch_is_a_round_over_the_training_photos(trained, shown):
    trained(epochs="2+1", patience=50)
    assert held_out_are_not_among(shown)
    # Besides, a few steps of round 0 are timed for the plan.
    rounds = {}
    for photos, of_each in shown:
        for photo, number in zip(photos, of_each, strict=True):
            rounds.setdefault(number, []).append(photo.tobytes())
    assert sorted(rounds) == [0, 1, 2]
    ours = sorted(photo.tobytes() for photo in stripes(N, 2)[0])
    assert sorted(rounds[1]) == sorted(rounds[2]) == ours != rounds[1] != rounds[2]


@pytest.mark.parametrize("start", ["random", "given"])
def test_a_seed_gives_the_same_model(start, trained, tmp_path, weights):
    options = {"weights": weights} if start == "given" else {}
    options |= {"dropout": 0.3, "class_weights": "balanced", "epochs": "1+1"}
    found = []
    for seed in (0, 0, 1):
        trained(seed=seed, **options)
        found.append((tmp_path / "model.keras").read_bytes())
    assert found[0] == found[1] != found[2]


def test_the_views_of_a_flip_are_the_photo_and_its_mirror_image(trained, weights, monkeypatch):
    made = []
    right = features.augmented_batch

    def seen(photos, augmentations, **given):
        made.append(right(photos, augmentations, **given))
        return made[-1]

    monkeypatch.setattr(features, "augmented_batch", seen)
    body = trained(weights=weights, augment="flip", views=2)
    assert (body["views"], [a["name"] for a in body["augment"]]) == (2, ["flip"])
    pairs = sorted(tuple(sorted(p.tobytes() for p in pair)) for pair in made if len(pair) == 2)
    wanted = [(p.tobytes(), p[:, ::-1].tobytes()) for p in stripes(N, 2)[0]]
    assert pairs == sorted(tuple(sorted(pair)) for pair in wanted)


@pytest.mark.parametrize("options", [{"augment": "none", "views": 5}, {"views": 1}])
def test_one_view_is_the_photo_as_it_is(options, trained, shown, weights):
    body = trained(weights=weights, **options)
    assert (body["views"], body["augment"], shown) == (1, [], [])


def test_the_record_says_how_it_was_trained_and_the_model_is_of_the_best_epoch(trained, tmp_path):
    import keras

    body = trained(epochs="2+3", patience=50, head="8,4", dropout=0.2, learning_rate=0.03)
    assert body["architecture"]["units"] == [8, 4]
    assert body["head"] == {"units": [8, 4], "output": "softmax"}
    (phase,) = body["phases"]
    assert phase["fits"] == [{"most": 2, "epochs": 2}, {"most": 3, "epochs": 3}]
    assert (phase["phase"], phase["kept"], phase["loss_before"]) == ("every layer", True, None)
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


def test_a_fit_stops_when_the_validation_loss_gets_no_better(trained):
    body = trained(epochs="30+30", patience=2, learning_rate=1.0, augment="none")
    assert all(fit["epochs"] < 30 for fit in body["phases"][0]["fits"])


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


@pytest.mark.parametrize("start", ["random", "given"])
def test_weights_go_with_their_photos(start, trained, weights, monkeypatch):
    given = []
    right = phases.batches

    def seen(*args, **kwargs):
        given.append(right(*args, **kwargs))
        return given[-1]

    monkeypatch.setattr(phases, "batches", seen)
    options = {"weights": weights, "views": 3} if start == "given" else {}
    body = trained(rare=True, n=80, class_weights="balanced", **options)
    wanted = {"class 0": pytest.approx(80 / (2 * 72)), "class 1": pytest.approx(80 / (2 * 8))}
    assert body["class_weights"] == wanted
    train_on, held = given
    assert len(train_on) == (3 * 80 if options else 80) // 16
    for data in given:
        _, truth, found = (np.concatenate(parts) for parts in zip(*data, strict=True))
        counts = found > 0  # what fills the last batch does not
        assert set(truth[counts, 0]) == {0, 1}
        wanted = np.where(truth[:, 0] == 1, 80 / 16, 80 / 144)
        np.testing.assert_allclose(found[counts], wanted[counts], rtol=1e-6)
        assert counts.sum() == (24 if data is held else len(train_on) * 16)


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
        for module in (train, adopt, transfer, phases)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id == "settings")
            or (isinstance(node.value, ast.Attribute) and node.value.attr == "settings")
        )
    }
    # By sha256, in `outside`; or only for a warning, a log or how the pictures are read.
    beside = {"weights", "model", "data", "decoded_cache", "tensorboard"}
    # Read in `devices`.
    assert (read - beside) | {"precision"} == set(train.STAGE.settings)
    assert set(train.STAGE.settings) <= set(OPTIONS)


def tuned(trained, weights, **options):
    return trained(weights=weights, unfreeze="1", tune_epochs=3, epochs="3", **options)


def test_fine_tuning_that_helps_is_kept(trained, weights, tmp_path, monkeypatch):
    body = tuned(trained, weights, tune_rate=3e-3, augment="none", n=96)
    first, second = body["phases"]
    assert (first["phase"], second["phase"], second["kept"]) == ("head", "fine-tuning", True)
    assert second["loss"] < second["loss_before"]
    assert second["loss_before"] == pytest.approx(first["loss"], abs=2e-3)  # features are float16
    rows = history_of(tmp_path)
    assert [row["phase"] for row in rows] == ["head"] * 3 + ["fine-tuning"] * 3
    assert body["best_epoch"] == 3 + second["best_epoch"]
    # The frozen block is as it was given, the other is not.
    model = keras_file.load(tmp_path / "model.keras")
    pixels = keras_file_input(weights)
    for name, same in (("block1_conv", True), ("block2_conv", False)):
        pairs = zip(*(net.get_layer(name).get_weights() for net in (model, pixels)), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs) == same
    assert all(layer.trainable for layer in model.layers)
    # Once it is recorded, nothing of what a phase had come to is left; what was computed is.
    left = sorted(p.name for p in (tmp_path / "training").iterdir())
    assert left == ["decoded", "features"]


def keras_file_input(weights):
    """The backbone with the weights that were given."""
    import keras

    pixels = keras.Input((SIZE, SIZE, 3))
    base = keras.Model(pixels, backbones.BACKBONES["plain_cnn"](keras, pixels, None))
    base.load_weights(weights)
    return base


def test_fine_tuning_that_does_not_help_is_not_kept(trained, weights, tmp_path, capsys):
    alone = trained(weights=weights, epochs="3")
    wanted = (tmp_path / "model.keras").read_bytes()
    capsys.readouterr()
    body = tuned(trained, weights, tune_rate=9.0)  # which ruins it
    assert [phase["kept"] for phase in body["phases"]] == [True, False]
    assert body["best_epoch"] == alone["best_epoch"] and body["epochs"] > alone["epochs"]
    assert (tmp_path / "model.keras").read_bytes() == wanted
    said = " ".join(capsys.readouterr().err.split())
    assert "fine-tuning did no better than the head on validation" in said
    assert "the last 1 of 2 blocks" in said  # the plan, before


class Killed(Exception):
    pass


@pytest.mark.parametrize("start", ["random", "given"])
def test_a_killed_training_goes_on_to_the_same_bytes(
    start, trained, weights, tmp_path, monkeypatch
):
    options = {"dropout": 0.3, "epochs": "2+1"}
    if start == "given":
        options |= {"weights": weights, "unfreeze": "all", "tune_epochs": 3, "batch_norm": "adapt",
                    "tune_rate": 1e-3}  # fmt: skip
    trained(**options)
    names = ("model.keras", "history.csv")
    wanted = [(tmp_path / name).read_bytes() for name in names]
    right, written = fit.checkpoint.write, []

    def killing(*given):
        right(*given)
        written.append(given[0].name)
        raise Killed

    monkeypatch.setattr(fit.checkpoint, "write", killing)
    epochs = len(wanted[1].splitlines()) - 1
    for _ in range(epochs):  # killed after every epoch of every phase
        with pytest.raises(Killed):
            trained(**options)
    assert len(set(written)) == (2 if start == "given" else 1)

    # And once more between the last epoch and the record.
    def kill(*given):
        raise Killed

    monkeypatch.setattr(train, "note_time", kill)
    for _ in range(2):
        with pytest.raises(Killed):
            trained(**options)
    assert len(written) == epochs  # none was trained again
    monkeypatch.undo()
    (tmp_path / "training" / ".head.npz.a1b2").touch()  # what a kill in writing leaves
    trained(**options)
    assert not list((tmp_path / "training").glob("*.npz*"))
    assert [(tmp_path / name).read_bytes() for name in names] == wanted


def test_features_are_computed_again_for_what_changed_alone(trained, weights, monkeypatch):
    counts = []
    right = transfer.features

    def counted(extract, pictures, **given):
        def seen(pixels):
            counts[-1] += len(pixels)
            return extract(pixels)

        counts.append(0)
        return right(seen, pictures, **given)

    monkeypatch.setattr(transfer, "features", counted)
    monkeypatch.setattr(transfer, "BATCH", 1)
    trained(weights=weights)
    assert counts == [2 * N, 24]
    counts.clear()
    trained(weights=weights, learning_rate=0.01, dropout=0.1, head="4,4")
    assert counts == [0, 0]
    counts.clear()
    trained(weights=weights, views=3)
    assert counts == [N, 0]
    counts.clear()
    trained(weights=weights, n=N + 2)  # photos that are there draw other noise, too: all are new
    assert counts[1] == 0 < counts[0]
    counts.clear()
    right_version = transfer.version_of
    monkeypatch.setattr(
        transfer, "version_of", lambda name: "0.1" if name == "keras" else right_version(name)
    )
    trained(weights=weights, views=3, n=N + 2)
    assert counts == [3 * (N + 2), 24]


def test_the_plan_is_said_before_any_photo_is_decoded_and_each_is_decoded_once(
    trained, weights, monkeypatch
):
    """All but the few that are timed for it."""
    events = []
    say, fill, load_one = transfer.progress.say, transfer.fill, features.load_one
    monkeypatch.setattr(transfer.progress, "say", lambda text: (events.append(text), say(text)))
    monkeypatch.setattr(transfer, "fill", lambda *of: (events.append(of[2]), fill(*of)))
    monkeypatch.setattr(
        features, "load_one", lambda *of: (events.append("again"), load_one(*of))[1]
    )
    trained(weights=weights, unfreeze="1", tune_epochs=1)
    plan = [event for event in events if event.startswith(("plan:", " then"))]
    assert f"({2 * N + 24} of {2 * N + 24} to do, about " in plan[0]
    assert plan[0].endswith(", at most 1 epoch")
    assert events[: len(plan)] == plan
    assert events[len(plan) :][:2] == ["decode, train", "decode, validation"]
    assert "again" not in events
    events.clear()
    trained(weights=weights)
    assert " that are there already, " in events[0]


def test_a_rate_that_ruins_everything_is_said(trained, tmp_path, monkeypatch):
    right = phases.fit

    def ruined(*given, **options):
        course = right(*given, **options)
        course.val_loss = [float("nan") for _ in course.val_loss]
        return course

    monkeypatch.setattr(phases, "fit", ruined)
    with pytest.raises(DataError, match="found none in any epoch; try a lower --learning-rate"):
        trained(augment="none")
    assert not (tmp_path / "model.keras").exists()


def test_logs_for_tensorboard(trained, weights, tmp_path):
    pytest.importorskip("tensorboard")
    trained(weights=weights, epochs="2", tensorboard=True)
    (log,) = (tmp_path / "training" / "tensorboard" / "head").iterdir()
    assert b"val_loss" in log.read_bytes()


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
