"""Curves: of one training, however often it was gone on with."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from mobileclf.training.fit import Course
from mobileclf.training.tensorboard import writer

pytest.importorskip("tensorboard")


def course(epochs: int, loss: float) -> Course:
    values = [loss] * epochs
    return Course(
        fit=[1] * epochs, loss=values, accuracy=values, val_loss=values, val_accuracy=values
    )


def curve(folder) -> list[tuple[int, float]]:
    """Epoch and validation loss, as they were written."""
    from tensorboard.compat.proto.event_pb2 import Event

    return [
        (event.step, value.tensor.float_val[0])
        for file in sorted(folder.iterdir())
        for event in map(Event.FromString, records(file.read_bytes()))
        for value in event.summary.value
        if value.tag == "val_loss"
    ]


def records(data: bytes) -> Iterator[bytes]:
    """Of a TFRecord file: each after its length (8 bytes) and that one's checksum (4), and before
    its own checksum. TensorBoard's reader would import TensorFlow."""
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield data[12 : 12 + length]
        data = data[16 + length :]


def test_a_training_that_begins_anew_has_curves_of_its_own(tmp_path, monkeypatch):
    # Where this can be imported TensorBoard does without TensorFlow, whose import takes seconds.
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))
    place = tmp_path / "fine-tuning"
    logged = writer(tmp_path, "fine-tuning")
    logged(course(1, 0.5))
    logged(course(2, 0.5))
    # After a kill it goes on from an epoch that was kept.
    writer(tmp_path, "fine-tuning")(course(3, 0.25))
    assert sorted(curve(place)) == [(1, 0.5), (2, 0.5), (3, 0.25)]
    another = writer(tmp_path, "fine-tuning")
    assert len(curve(place)) == 3  # until it has an epoch, those that are there stay
    another(course(1, 0.125))
    another(course(2, 0.125))
    assert curve(place) == [(1, 0.125), (2, 0.125)]
    writer(None, "fine-tuning")(course(1, 0.5))
    assert len(curve(place)) == 2
