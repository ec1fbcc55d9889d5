"""Outputs that are no probabilities, told by their sums: never a softmax, always a sigmoid."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mobileclf.scores import Scores
from mobileclf.stats.closeness import wrong_sums


def quantized(p) -> Scores:
    quanta = np.clip(np.rint(np.asarray(p) * 256), 0, 255).astype(np.int64)
    return Scores(probabilities=quanta / 256, quanta=quanta)


def of(*quanta) -> bool:
    row = np.array([quanta])
    return bool(wrong_sums(Scores(probabilities=row / 256, quanta=row))[0])


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("labels", [2, 3, 4, 16, 100, 1001])
def test_no_softmax_is_called_wrong(labels):
    rng = np.random.default_rng(labels)
    for sharp in (0, 0.1, 1, 5, 30):
        p = softmax(rng.normal(0, sharp, (400, labels)))
        assert not wrong_sums(quantized(p)).any()
        assert not wrong_sums(
            Scores(probabilities=p.astype(np.float32).astype(np.float64), quanta=None)
        ).any()


def test_no_rounding_whatever_is_called_wrong():
    """All that three of them in steps of an eighth of a quantum can become, ties both ways."""
    half = Fraction(1, 2)
    for i in range(0, 2049, 4):
        for j in range(0, 2049 - i, 32):
            p = [Fraction(i, 8), Fraction(j, 8), Fraction(2048 - i - j, 8)]
            down = [min(int(x + half) - (x % 1 == half), 255) for x in p]
            up = [min(int(x + half), 255) for x in p]
            assert not of(*down) and not of(*up), p


def test_the_bounds_are_reached_and_no_wider():
    assert not of(255, 0) and of(254, 0)
    assert not of(129, 128) and of(129, 129)
    # Halves all rounded up: 64.5 four times is no sum of 1, 63.5 + 64.5 twice is.
    assert not of(64, 65, 64, 65) and of(65, 65, 65, 64)
    assert not of(63, 64, 63, 64) and of(63, 63, 63, 64)
    assert not of(255, 1, 1, 1) and of(255, 2, 1, 1)
    assert not of(255, 2, 0, 0) and of(255, 3, 0, 0)  # zeros were not rounded up


def test_another_function_with_the_same_largest_output_is_seen():
    """A sigmoid in the softmax's place, logits, a power: each keeps every answer."""
    logits = np.random.default_rng(0).normal(0, 3, (200, 4))
    p = softmax(logits)
    for other in (1 / (1 + np.exp(-logits)), np.clip(logits / 10, 0, 1), p**3, p / 2):
        assert wrong_sums(quantized(other)).mean() > 0.8
        assert wrong_sums(Scores(probabilities=other, quanta=None)).mean() > 0.9


def test_float_outputs_under_0_and_no_numbers_are_wrong():
    rows = np.array([[0.5, 0.5], [1.5, -0.5], [np.nan, 1.0], [0.5, 0.500001]])
    found = wrong_sums(Scores(probabilities=rows, quanta=None))
    assert found.tolist() == [False, True, True, False]
    assert wrong_sums(Scores(probabilities=rows + 1e-5, quanta=None)).all()
