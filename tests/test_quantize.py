"""Where no quantization-aware model can be made, the run says why and goes on without one."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from mobileclf.config import make_settings
from mobileclf.errors import ProofError
from mobileclf.images.load import ImageSpec
from mobileclf.models import keras_file
from mobileclf.records import write_json
from mobileclf.stages import convert, quantize

SIZE = 32


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """stages(layer) -> the records of quantize and convert, of a small model with that layer."""
    photos = np.random.default_rng(0).integers(0, 256, (32, SIZE, SIZE, 3), dtype=np.uint8)

    def run(layer):
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
        settings = make_settings({"run": tmp_path, "fine_tune_epochs": 0})
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
    assert quantized["candidates"] == ["calibrated"] and quantized["reason"] is None
    assert [c["candidate"] for c in converted["candidates"]] == ["stock", "calibrated"]


@pytest.mark.parametrize("activation", ["elu", "selu"])
def test_what_tflite_has_no_int8_kernel_for_stops_at_the_audit(activation, stages):
    with pytest.raises(ProofError, match="audit: wanted every operator int8"):
        stages(keras.layers.Activation(activation))
