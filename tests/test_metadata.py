"""Metadata goes into a model, comes back, and a changed byte is noticed."""

from __future__ import annotations

import io
import zipfile
from functools import cache

import numpy as np
import pytest

from mobileclf.errors import DataError, ProofError
from mobileclf.tflite import metadata
from mobileclf.tflite.interpreter import open_interpreter, scores
from tests.models import tiny_int8

FILES = {"labels.txt": "grün\nl'autre\n".encode(), "decision.json": b"{}"}


@cache
def about(minimum_score=None, channels=3):
    return metadata.Description(
        name="n",
        description="d",
        version="1",
        author="a",
        size=16,
        channels=channels,
        minimum_score=minimum_score,
    )


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("minimum_score", [None, 0.25])
def test_what_is_written_reads_back(minimum_score, channels):
    model = metadata.write(tiny_int8(), about(minimum_score, channels), FILES)
    assert metadata.read(model) == (about(minimum_score, channels), FILES)


@pytest.mark.parametrize(("channels", "colour"), [(3, b"RGB photo"), (1, b"grey photo")])
def test_the_colour_space_is_named(channels, colour):
    data = metadata._metadata(about(channels=channels), ["labels.txt"])
    assert colour + b", the whole picture" in data
    assert metadata._description(data).channels == channels


def test_the_model_answers_as_before():
    photos = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    model = metadata.write(tiny_int8(), about(), FILES)
    before, after = (scores(open_interpreter(m), photos) for m in (tiny_int8(), model))
    np.testing.assert_array_equal(before, after)


def test_equal_inputs_give_equal_bytes():
    assert metadata.write(tiny_int8(), about(), FILES) == metadata.write(
        tiny_int8(), about(), FILES
    )


def test_writing_again_replaces_what_was_there():
    once = metadata.write(tiny_int8(), about(), FILES)
    other = {"labels.txt": b"x\ny\n", "decision.json": b"[]"}
    assert metadata.read(metadata.write(once, about(0.5), other)) == (about(0.5), other)


def test_the_associated_files_are_a_zip_that_counts_from_the_start():
    model = metadata.write(tiny_int8(), about(), FILES)
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            assert model[entry.header_offset : entry.header_offset + 4] == b"PK\x03\x04"


def test_metadata_that_does_not_read_back_is_an_error(monkeypatch):
    monkeypatch.setattr(metadata, "read", lambda model: (about(0.5), FILES))
    with pytest.raises(ProofError, match="read back as written"):
        metadata.write(tiny_int8(), about(), FILES)


def test_a_model_without_metadata_is_named():
    with pytest.raises(DataError, match="wanted TFLite Metadata in it, found none"):
        metadata.read(tiny_int8())
