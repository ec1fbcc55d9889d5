"""The head: one output for each label, and a temperature folded in, are the same function."""

from __future__ import annotations

import numpy as np
import pytest

from mobileclf.errors import ProofError
from mobileclf.models import backbones, head
from mobileclf.stages import train
from tests.models import architecture, photos

RNG = np.random.default_rng(0)
PIXELS = photos().astype(np.float32)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_a_sigmoid_unit_is_two_softmax_outputs():
    x, kernel, bias = RNG.normal(size=(50, 8)), RNG.normal(size=(8, 1)), RNG.normal(size=1)
    two_kernels, two_biases = head.one_output_per_label(kernel, bias)
    wanted = 1 / (1 + np.exp(-(x @ kernel + bias)))
    got = softmax(x @ two_kernels + two_biases)
    np.testing.assert_allclose(got[:, 1:], wanted, atol=1e-12)


@pytest.fixture
def model():
    import keras

    return backbones.build(keras, architecture(labels=2))


def test_the_network_gets_the_sigmoid_with_its_proof(model):
    kernel = RNG.normal(size=(64, 1)).astype(np.float32)
    (check,) = train._set_last(model, kernel, np.ones(1, np.float32), True, PIXELS)
    assert check["passed"] and check["largest_difference"] <= check["bound"]


def test_a_sigmoid_turned_around_is_caught(model, monkeypatch):
    right = head.one_output_per_label
    monkeypatch.setattr(
        head, "one_output_per_label", lambda k, b: [w[..., ::-1] for w in right(k, b)]
    )
    kernel = RNG.normal(size=(64, 1)).astype(np.float32)
    with pytest.raises(ProofError, match="a sigmoid unit against two outputs"):
        train._set_last(model, kernel, np.ones(1, np.float32), True, PIXELS)


def test_a_temperature_divides_the_logits(model):
    pixels = photos().astype(np.float32)
    before = head.logits(np.asarray(model(pixels)))
    head.divide_logits(model, 2.5)
    np.testing.assert_allclose(np.asarray(model(pixels)), softmax(before / 2.5), atol=1e-6)
