"""Calibration figures against slow oracles."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.metrics import log_loss as sklearn_log_loss

from mobileclf.stats.calibration import (
    SMALLEST,
    brier,
    calibration_error,
    fit_temperature,
    log_loss,
    mean_kl,
    reliability,
    untempered,
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


@st.composite
def answers(draw):
    """Probabilities of a few photos, often of equal confidence, and which label is true."""
    n, labels = draw(st.integers(1, 40)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    quanta = rng.integers(1, draw(st.sampled_from([2, 4, 200])), (n, labels))
    return quanta / quanta.sum(axis=1, keepdims=True), rng.integers(0, labels, n)


def slow_bins(p, truth, bins):
    """Confidences and shared accuracies of each bin, one photo at a time."""
    tops = [max(row) for row in p.tolist()]
    hits = [int(np.argmax(row)) == t for row, t in zip(p, truth, strict=True)]
    alike = [[h for c, h in zip(tops, hits, strict=True) if c == own] for own in tops]
    shared = [Fraction(sum(each), len(each)) for each in alike]
    order, bins = sorted(range(len(tops)), key=lambda i: tops[i]), min(bins, len(tops))
    start = 0
    for b in range(bins):
        size = len(tops) // bins + (b < len(tops) % bins)
        part = order[start : start + size]
        start += size
        yield [tops[i] for i in part], sum(shared[i] for i in part)


@given(answers(), st.integers(1, 20))
def test_reliability_is_counted(case, bins):
    p, truth = case
    found = reliability(p, truth, bins=bins)
    slow = list(slow_bins(p, truth, bins))
    assert len(slow) == len(found.photos) and found.photos.sum() == len(truth)
    for i, (tops, hits) in enumerate(slow):
        n = len(tops)
        assert found.photos[i] == n
        assert found.confidence[i] == pytest.approx(sum(tops) / n)
        assert found.accuracy[i] == pytest.approx(float(hits / n))
        low = binomtest(math.floor(hits), n).proportion_ci(0.95, method="exact").low
        high = binomtest(math.ceil(hits), n).proportion_ci(0.95, method="exact").high
        assert (found.low[i], found.high[i]) == pytest.approx((low, high), abs=1e-9)
        assert found.low[i] <= found.accuracy[i] <= found.high[i]
    gaps = sum(abs(float(hits) - sum(tops)) for tops, hits in slow)
    assert calibration_error(p, truth, bins=bins) == pytest.approx(gaps / len(truth), abs=1e-12)


def test_reliability_holds_its_level(drawn):
    """The truth is drawn from these very outputs: a bin's mean confidence is its accuracy."""
    logits, truth = drawn
    inside = bins = 0
    for start in range(0, 4000, 200):
        found = reliability(softmax(logits[start : start + 200]), truth[start : start + 200])
        inside += ((found.low <= found.confidence) & (found.confidence <= found.high)).sum()
        bins += len(found.photos)
        assert (found.low < found.high).all() and (np.diff(found.confidence) >= 0).all()
    assert inside >= binom.ppf(0.001, bins, 0.95)
    blind = reliability(softmax(3 * logits), truth)
    assert ((blind.confidence > blind.high) | (blind.confidence < blind.low)).mean() > 0.5


def test_untempered_takes_the_temperature_back(drawn):
    logits, _ = drawn
    for temperature in (0.1, 0.7, 1.0, 2.5, 10.0):
        found = untempered(softmax(logits / temperature), temperature)
        np.testing.assert_allclose(found, softmax(logits), rtol=1e-6, atol=1e-9)


def test_untempered_keeps_nothing_nothing_and_does_not_underflow():
    p = np.array([[1.0, 0.0, 0.0], [1e-40, 1e-40, 0.0], [0.5, 0.25, 0.25]])
    found = untempered(p, 10.0)
    np.testing.assert_allclose(found[:2], [[1, 0, 0], [0.5, 0.5, 0]])
    assert found[2].tolist() == pytest.approx([1024 / 1026, 1 / 1026, 1 / 1026])
    assert untempered(np.float32([[0.75, 0.25]]), 1.0).dtype == np.float64


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
