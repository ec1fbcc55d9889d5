"""The candidates, what each needs, and the run without one where a layer forbids it."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

from mobileclf.config import make_settings
from mobileclf.errors import ProofError
from mobileclf.images.load import ImageSpec
from mobileclf.models import deploy, graph, keras_file
from mobileclf.models.distil import distil
from mobileclf.models.reconstruct import reconstruct
from mobileclf.records import write_json
from mobileclf.stages import convert, quantize

SIZE = 32


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """stages(layer) -> the records of quantize and convert, of a small model with that layer."""
    photos = np.random.default_rng(0).integers(0, 256, (32, SIZE, SIZE, 3), dtype=np.uint8)

    def run(layer, **asked):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((SIZE, SIZE, 3)),
                layers.Rescaling(1 / 255),
                layers.Conv2D(8, 3),
                layer,
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, activation="softmax"),
            ]
        )
        keras_file.save(model, tmp_path / "model.keras")
        spec = ImageSpec(width=SIZE, height=SIZE, channels=3)
        write_json(tmp_path / "train.json", {"model": "model.keras", "input": spec.as_record()})
        for stage in (quantize, convert):
            monkeypatch.setattr(stage, "load_part", lambda *_, **__: (range(len(photos)), photos))
        monkeypatch.setattr(convert, "read_labels", lambda folder: (["a", "b", "c"], None))
        settings = make_settings({"run": tmp_path, **asked})
        quantized = quantize.work(tmp_path, settings)
        write_json(tmp_path / "quantize.json", quantized)
        return quantized, convert.work(tmp_path, settings)

    return run


@pytest.mark.parametrize(
    "layer, why",
    [
        (keras.layers.LeakyReLU(name="odd"), "odd: a ReLU with a slope"),
        (keras.layers.Conv2D(8, 3, groups=2, name="odd"), "odd: a convolution in groups"),
        (keras.layers.Activation("gelu", name="odd"), "odd: TFLite rounds inside"),
        (keras.layers.Activation("softplus", name="odd"), "odd: TFLite rounds inside"),
        (keras.layers.Activation("softsign", name="odd"), "odd: TFLite rounds inside"),
        (keras.layers.Activation("exponential", name="odd"), "odd: TFLite rounds inside"),
        (keras.layers.UpSampling2D(interpolation="bilinear", name="odd"), "odd: bilinear"),
    ],
)
def test_int8_after_training_alone_where_a_layer_has_no_other_form(layer, why, stages, capfd):
    quantized, converted = stages(layer)
    assert quantized["candidates"] == [] and quantized["reason"].startswith(why)
    assert [entry["candidate"] for entry in converted["candidates"]] == ["stock"]
    assert f"only int8 after training: {why}" in capfd.readouterr().err


def test_with_a_form_there_is_a_candidate_and_no_reason(stages):
    quantized, converted = stages(keras.layers.Activation("tanh"))
    assert quantized["candidates"] == ["calibrated", "reconstructed"]
    assert quantized["reason"] is None and quantized["distillation"] is None
    made = [row["candidate"] for row in converted["candidates"]]
    assert made == ["stock", "calibrated", "reconstructed"]
    assert all(row["float_layers"] == [] for row in converted["candidates"])


def test_what_was_reconstructed_is_recorded_and_its_float_network_kept(stages, tmp_path):
    quantized, _ = stages(keras.layers.ReLU())
    assert quantized["reconstruction"]["photos"] == quantized["calibration_photos"] == 32
    names = [check["what"] for check in quantized["checks"]]
    assert "before against after equalizing channels" in names
    assert set(quantized["outputs"]) == {
        "calibrated.npz", "reconstructed.npz", "reconstructed_graph/graph.json",
        "reconstructed_graph/weights.npz",
    }  # fmt: skip
    assert all((tmp_path / name).is_file() for name in quantized["outputs"])
    kept = graph.read(tmp_path / "reconstructed_graph")
    model = deploy.deployable(tmp_path)
    assert [node.name for node in kept.nodes] == [node.name for node in model.graph.nodes]


def test_what_an_earlier_time_left_is_taken_away(stages, tmp_path):
    left = tmp_path / ".reconstruct-killed", tmp_path / "mixed_graph"
    for folder in left:
        folder.mkdir()
        (folder / "file").touch()
    (tmp_path / "distilled.npz").touch()
    stages(keras.layers.ReLU())
    assert not any(folder.exists() for folder in left)
    assert not (tmp_path / "distilled.npz").exists()


def test_channels_in_other_scales_that_change_the_function_are_caught(stages, monkeypatch):
    def broken(*args, **kwargs):
        made = reconstruct(*args, **kwargs)
        *nodes, last = made.graph.nodes
        wrong = replace(last, weights=tuple(2 * w for w in last.weights))
        if not last.weights:
            nodes[-1] = replace(nodes[-1], weights=tuple(2 * w for w in nodes[-1].weights))
            wrong = last
        return replace(made, graph=graph.Graph(nodes=(*nodes, wrong)))

    monkeypatch.setattr(quantize, "reconstruct", broken)
    with pytest.raises(ProofError, match="equalizing channels: wanted the same function"):
        stages(keras.layers.ReLU())


@pytest.fixture
def spoiled(monkeypatch):
    """A start that training can better: each answer's bias is off."""

    def made(*args, **kwargs):
        found = reconstruct(*args, **kwargs)
        dense = [layer for layer in found.aware.layers if hasattr(layer, "layer")]
        bias = next(x.layer.bias for x in dense[::-1] if type(x.layer).__name__ == "Dense")
        bias.assign_add(np.linspace(-0.3, 0.3, bias.shape[0]))
        return found

    monkeypatch.setattr(quantize, "reconstruct", made)


@pytest.mark.usefixtures("spoiled")
def test_a_budget_trains_a_candidate_that_is_nearer_to_float(stages, tmp_path):
    quantized, converted = stages(
        keras.layers.ReLU(), budget="1h", fine_tune_epochs=3, fine_tune_rate=0.2
    )
    course = quantized["distillation"]
    assert (course["stopped"], course["steps"]) == ("epochs", 3 * 64 // quantize.DISTIL_BATCH)
    assert course["kl"][course["best_epoch"]] < course["kl"][0] and course["best_epoch"] > 0
    assert quantized["candidates"][-1] == converted["candidates"][-1]["candidate"] == "distilled"
    assert "distilled_graph/graph.json" in quantized["outputs"]
    assert not (tmp_path / quantize.DISTIL_STATE).exists()


def test_a_candidate_that_is_no_nearer_is_not_offered_and_it_is_said(stages, capfd):
    """At steps as wide as these nothing is learnt."""
    asked = {"budget": "1h", "fine_tune_epochs": 1, "fine_tune_rate": 1.0}
    quantized, _ = stages(keras.layers.ReLU(), **asked)
    course = quantized["distillation"]
    assert course["best_epoch"] == 0 and course["kl"][1] > course["kl"][0]
    assert quantized["candidates"] == ["calibrated", "reconstructed"]
    assert "no candidate distilled" in capfd.readouterr().err


@pytest.mark.usefixtures("spoiled")
def test_a_stage_that_was_killed_goes_on_where_its_training_was(stages, monkeypatch, tmp_path):
    asked = {"budget": "1h", "fine_tune_epochs": 3, "fine_tune_rate": 0.2}
    stages(keras.layers.ReLU(), **asked)
    undisturbed = (tmp_path / "distilled.npz").read_bytes()
    (tmp_path / "distilled.npz").unlink()
    done = []

    def killed(*args, **kwargs):
        def step_done():
            done.append(1)
            if len(done) == 6:  # of 4 in an epoch
                raise KeyboardInterrupt

        return distil(*args, **{**kwargs, "step_done": step_done})

    monkeypatch.setattr(quantize, "distil", killed)
    with pytest.raises(KeyboardInterrupt):
        stages(keras.layers.ReLU(), **asked)
    assert (tmp_path / quantize.DISTIL_STATE).exists()
    stages(keras.layers.ReLU(), **asked)
    assert len(done) == 6 + 2 * 4
    assert (tmp_path / "distilled.npz").read_bytes() == undisturbed


@pytest.mark.parametrize("activation", ["elu", "selu"])
def test_what_tflite_has_no_int8_kernel_for_stops_at_the_audit(activation, stages):
    with pytest.raises(ProofError, match="audit: wanted every operator int8"):
        stages(keras.layers.Activation(activation))
