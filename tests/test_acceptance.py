"""What MediaPipe Tasks and Android Studio take.

The verdicts of MediaPipe here are its own: benchmarks/mediapipe_accepts.py gives it these models.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from mobileclf.errors import DataError
from mobileclf.tflite import metadata
from mobileclf.tflite.acceptance import MEDIAPIPE, STUDIO, accepted_by
from tests.models import tiny_int8
from tests.variants import LABEL_LINES, UNIT, classifier, described, edited, variants

FILES = {"labels.txt": LABEL_LINES}
REFUSED = {
    "int8": "wants an input of uint8 or float32, found int8",
    "int16": "wants an input of uint8 or float32, found int16",
    "float16 input": "wants an input of uint8 or float32, found float16",
    "float32 without normalization": "wants the normalization of a float32 input",
    "float32 without metadata": "wants the normalization of a float32 input",
    "a normalization for each channel": "wants one normalization for all channels",
    "two means": "wants 1 or 3 means and as many deviations, found 2 and 2",
    "a mean and no deviation": "wants 1 or 3 means and as many deviations, found 1 and 0",
    "a normalization without numbers": "wants 1 or 3 means",
    "a normalization without options": "wants 1 or 3 means",
    "deviation 0": "wants a deviation other than 0",
    "two normalizations": "wants one normalization, found 2",
    "three dimensions": "wants an input of (1, height, width, 3), found (1, 16, 3)",
    "batch 2": "found (2, 16, 16, 3)",
    "one channel": "found (1, 16, 16, 1)",
    "four channels": "found (1, 16, 16, 4)",
    "grey by its metadata": "wants the colour space RGB, found GRAYSCALE",
    "unknown colours": "wants the colour space RGB, found UNKNOWN",
    "a feature, not an image": "wants metadata of an image, found FeatureProperties",
    "two inputs": "wants one input, found 2",
    "integers and floats out": "wants all outputs or none in integers, found 1 of 2",
    "whole numbers out": "wants outputs of uint8 or float32, found int32 at 0",
    "no outputs": "wants an output, found none",
    "output without a name": "wants a name of output 0 in the metadata, found none; it may crash",
    "too few labels": "wants a label for each of 3 scores of output 0, found 2",
    "too many labels": "found 4",
    "labels in Latin-1": "wants labels in UTF-8",
    "labels with two empty last lines": "found 4",
    "an empty label file": "wants labels in 'labels.txt', found none",
    "no such label file": "wants the label file 'labels.txt'",
    "metadata of two outputs": "wants metadata of 1 outputs, found 2",
    "metadata without inputs": "to describe the input",
    "compressed files": "stored without compression",
    "metadata 9.0.0": "reads metadata up to 1.5.0, found 9.0.0",
    "calibration without a file": "wants a calibration file",
    "two thresholds": "wants one unit of ScoreThresholdingOptions",
    "a threshold without options": "wants a threshold in the unit",
    "TensorFlow's operators": "has no TensorFlow operators, found FlexMatrixInverse",
    "a custom operator": "custom operator Erfinv is not known",
}
NOTES = {
    "uint8": [],
    "uint8 without metadata": ["gives numbers in place of labels at output 0"],
    "uint8, normalization for floats": ["gives the photo's bytes as they are"],
    "logits": ["gives the scores as MEAN leaves them"],
    "sigmoid of 3": [],
    "two outputs": ["gives 2 lists of scores"],
    "labels of values": ["gives numbers in place of labels"],
    "score threshold": ["hides each class with a score under 0.5 at output 0"],
    "open size": ["makes each photo (16, 16) high and wide", "gives numbers in place of labels"],
}


def of(by: str, model: bytes | metadata.Opened) -> dict:
    return next(row for row in accepted_by(model) if row["by"] == by)


def test_every_variant_is_judged_as_mediapipe_does():
    assert set(REFUSED) | set(NOTES) <= set(variants())
    for name, model in variants().items():
        found = of(MEDIAPIPE, model)
        assert found["accepted"] == (name not in REFUSED), (name, found)
        assert found["accepted"] == (not found["reasons"])
        if name in REFUSED:
            assert any(REFUSED[name] in reason for reason in found["reasons"]), (name, found)


@pytest.mark.parametrize("name", NOTES)
def test_what_mediapipe_does_otherwise(name):
    notes = of(MEDIAPIPE, variants()[name])["notes"]
    assert len(notes) == len(NOTES[name]), notes
    for note, wanted in zip(notes, NOTES[name], strict=True):
        assert note.startswith(wanted)


STUDIO_REFUSES = {
    "int8": "wants inputs of float32, int32, uint8, int64, found int8 at 0",
    "float16 input": "found float16 at 0",
    "truths out": "wants outputs of float32, int32, uint8, int64, found bool at 0",
    "three dimensions": "wants an image of 4 dimensions at input 0",
    "two inputs": "wants metadata of 2 inputs, found 1",
    "metadata of two outputs": "wants metadata of 1 outputs, found 2",
    "metadata without inputs": "wants metadata of 1 inputs, found 0",
    "metadata without subgraphs": "wants metadata of 1 inputs, found 0",
    "input without a name": "wants a name of input 0",
    "output without a name": "wants a name of output 0",
}
STUDIO_TAKES = (
    "uint8",
    "uint8 without metadata",
    "float32 without metadata",
    "grey by its metadata",
)


@pytest.mark.parametrize("name", STUDIO_REFUSES)
def test_what_android_studio_refuses(name):
    found = of(STUDIO, variants()[name])
    assert not found["accepted"]
    assert any(STUDIO_REFUSES[name] in reason for reason in found["reasons"]), found


@pytest.mark.parametrize("name", STUDIO_TAKES)
def test_what_android_studio_takes(name):
    found = of(STUDIO, variants()[name])
    assert found["accepted"] and found["notes"][0] == "by its source, not tried"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("uint8", "by the nearest pixel"),
        ("uint8 without metadata", "gives plain buffers"),
        ("grey by its metadata", "gives a plain buffer for input 0"),
        ("no label file named", "gives a plain buffer for output 0"),
        ("no such label file", "is not in the model"),
        ("too few labels", "has 3 scores, its label file another number"),
        ("score threshold", "is not known"),
        ("a custom operator", "does not look for Erfinv"),
        ("TensorFlow's operators", "does not look for FlexMatrixInverse"),
        ("metadata 9.0.0", "older than 9.0.0"),
    ],
)
def test_what_android_studio_does_otherwise(name, said):
    assert any(said in note for note in of(STUDIO, variants()[name])["notes"])


def test_two_outputs_of_one_name_in_java():
    def bare(tree):
        tree.metadata = []

    about = classifier(units=[UNIT], outputs=2)
    scores = about["subgraph_metadata"][0]["output_tensor_metadata"]
    scores[0]["name"], scores[1]["name"] = "the score", "the_score"
    model = described(edited(variants()["two outputs"], bare), about, FILES)
    assert of(STUDIO, model)["reasons"] == [
        "wants another name for each output, found TheScore twice"
    ]
    assert of(MEDIAPIPE, model)["accepted"]


def test_a_file_over_200_megabytes():
    model = metadata.opened(variants()["uint8"])
    largest = replace(model, size=200 * 1024**2)
    assert of(STUDIO, largest)["accepted"]
    assert "says it takes 200 MB" in of(STUDIO, largest)["notes"][1]
    larger = replace(model, size=largest.size + 1)
    assert of(STUDIO, larger)["reasons"] == ["wants at most 200 MB, found 200"]
    assert of(MEDIAPIPE, larger)["accepted"]


def test_each_scale_of_bytes_is_held_against_the_photo():
    """Mean and deviation that the input's scale undoes leave the bytes as they are."""
    units = [{"options_type": 1, "options": {"mean": [0.0], "std": [1.0]}}]
    model = described(tiny_int8(), classifier(units=units), FILES)
    assert of(MEDIAPIPE, model)["notes"] == []


@pytest.mark.parametrize("model", [b"", b"no model at all", bytes(100)])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(DataError):
        accepted_by(model)
