"""Calibration figures against slow oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss

from mobileclf.stats.calibration import (
    SMALLEST,
    brier,
    calibration_error,
    fit_temperature,
    log_loss,
    mean_kl,
)


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


@pytest.fixture
def drawn():
    """Logits whose softmax is the true distribution of the truth."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (4000, 4))
    truth = np.array([rng.choice(4, p=row) for row in softmax(logits)])
    return logits, truth


def test_calibration_error_against_loops(drawn):
    logits, truth = drawn
    p = softmax(3 * logits)[:100]
    order = sorted(range(100), key=lambda i: p[i].max())
    wanted = 0.0
    for b in range(10):
        bin_ = order[10 * b : 10 * b + 10]
        right = sum(p[i].argmax() == truth[i] for i in bin_) / 10
        wanted += abs(right - sum(p[i].max() for i in bin_) / 10) / 10
    assert calibration_error(p, truth[:100], bins=10) == pytest.approx(wanted)


def test_calibration_error_tells_calibrated_from_not(drawn):
    logits, truth = drawn
    assert calibration_error(softmax(logits), truth) < 0.03
    assert calibration_error(softmax(3 * logits), truth) > 0.1


def test_calibration_error_knows_no_order():
    # All confidences equal: whichever photo comes first, each bin sees the mean accuracy.
    p = np.tile([0.75, 0.25], (40, 1))
    truth = np.repeat([0, 1], [30, 10])
    for order in (np.arange(40), np.arange(40)[::-1], np.random.default_rng(0).permutation(40)):
        assert calibration_error(p, truth[order], bins=7) == pytest.approx(0, abs=1e-12)
    assert calibration_error(p, 1 - truth) == pytest.approx(0.5)


def test_brier_against_loops():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    wanted = (0.3**2 + 0.2**2 + 0.1**2 + 0.9**2 + 0.1**2 + 0.8**2) / 2
    assert brier(p, np.array([0, 0])) == pytest.approx(wanted)
    assert brier(np.eye(3), np.arange(3)) == 0


def test_kl_against_loops():
    rng = np.random.default_rng(2)
    p, q = softmax(rng.normal(0, 3, (20, 4))), softmax(rng.normal(0, 3, (20, 4)))
    total = 0.0
    for a, b in zip(p, q, strict=True):
        one, other = ([max(x, SMALLEST) for x in each] for each in (a, b))
        for x, y in zip(one, other, strict=True):
            total += x / sum(one) * math.log(x / sum(one) / (y / sum(other)))
    assert mean_kl(p, q) == pytest.approx(total / 20)
    assert mean_kl(p, p) == 0 < mean_kl(p, q)


def test_kl_is_finite_where_int8_says_zero():
    p, q = np.array([[0.999, 0.001, 0.0]]), np.array([[0.0, 0.0, 255 / 256]])
    assert 0 < mean_kl(p, q) < 10


def test_log_loss_is_sklearns(drawn):
    logits, truth = drawn
    assert log_loss(logits, truth) == pytest.approx(sklearn_log_loss(truth, softmax(logits)))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(drawn, factor):
    logits, truth = drawn
    found = fit_temperature(factor * logits, truth)
    assert found == pytest.approx(factor, rel=0.1)
    grid = np.exp(np.linspace(np.log(0.1), np.log(10), 4001))
    losses = [log_loss(factor * logits[:300] / t, truth[:300]) for t in grid]
    best = grid[int(np.argmin(losses))]
    assert fit_temperature(factor * logits[:300], truth[:300]) == pytest.approx(best, rel=2e-3)


def test_temperature_without_evidence_is_one():
    assert fit_temperature(5 * np.eye(3), np.arange(3)) == 1.0
