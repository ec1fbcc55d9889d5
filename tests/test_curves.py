"""Precision-recall, hull, band and areas against slow oracles, scikit-learn and simulation."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from mobileclf.stats.curves import (
    average_precision,
    band,
    hull,
    one_against_rest,
    precision_recall,
)
from mobileclf.stats.exact import lower_bound, upper_bound
from mobileclf.stats.roc import auc, roc


@st.composite
def photos(draw, most=40):
    """Integer scores, often tied, and positives of both kinds."""
    n = draw(st.integers(2, most))
    top = draw(st.sampled_from([0, 1, 3, 20, 300]))
    score = draw(st.lists(st.integers(0, top), min_size=n, max_size=n))
    positive = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    positive[:2] = [True, False]
    return np.array(score), np.array(positive)


def reached(score, positive, threshold):
    """Positives and negatives with score >= threshold, one photo at a time."""
    caught = sum(1 for s, p in zip(score, positive, strict=True) if p and s >= threshold)
    return caught, sum(1 for s, p in zip(score, positive, strict=True) if not p and s >= threshold)


@given(photos())
def test_precision_recall_is_counted_and_scikit_learns(case):
    score, positive = case
    curve = precision_recall(score, positive)
    assert curve.threshold.tolist() == [np.inf, *sorted(set(score.tolist()), reverse=True)]
    assert (curve.recall[0], curve.precision[0]) == (0, 1)
    for threshold, recall, precision in zip(
        curve.threshold[1:], curve.recall[1:], curve.precision[1:], strict=True
    ):
        caught, alarms = reached(score, positive, threshold)
        assert recall == pytest.approx(caught / positive.sum(), abs=1e-12)
        assert precision == pytest.approx(caught / (caught + alarms), abs=1e-12)
    precisions, recalls, _ = precision_recall_curve(positive, score)
    np.testing.assert_allclose(curve.precision, precisions[::-1])
    np.testing.assert_allclose(curve.recall, recalls[::-1])
    wanted = average_precision_score(positive, score)
    assert average_precision(score, positive) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_has_no_curve(kind):
    score, positive = np.arange(4), np.full(4, kind)
    assert precision_recall(score, positive) is None
    assert average_precision(score, positive) is None
    assert band(score, positive, np.zeros(1)) is None


@given(photos())
def test_hull_has_the_corners_and_no_other_point(case):
    score, positive = case
    curve = roc(score, positive)
    corners = hull(curve, positive)
    points = [tuple(reversed(reached(score, positive, threshold))) for threshold in curve.threshold]

    def is_corner(point):
        """No two other points have it on or under the line between them, nor is one over it."""
        x, y = point
        for x1, y1 in points:
            for x2, y2 in points:
                if point in ((x1, y1), (x2, y2)) or not x1 <= x <= x2:
                    continue
                height = max(y1, y2) if x1 == x2 else Fraction(y2 - y1, x2 - x1) * (x - x1) + y1
                if y <= height:
                    return False
        return True

    ends = (points[0], points[-1])
    wanted = [
        threshold
        for point, threshold in zip(points, curve.threshold, strict=True)
        if point in ends or is_corner(point)
    ]
    assert corners.threshold.tolist() == wanted
    assert set(corners.threshold) <= set(curve.threshold)
    area = (np.diff(corners.fpr) * (corners.tpr[1:] + corners.tpr[:-1]) / 2).sum()
    assert area >= max(auc(score, positive), 0.5) - 1e-12


@given(st.integers(0, 10**6), st.integers(2, 4), st.integers(6, 40))
def test_areas_over_classes_are_scikit_learns(seed, classes, n):
    rng = np.random.default_rng(seed)
    truth = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    scores = rng.integers(1, 9, (n, classes)).astype(float)
    scores /= scores.sum(axis=1, keepdims=True)
    found = one_against_rest(scores, truth)
    by_class = [roc_auc_score(truth == i, scores[:, i]) for i in range(classes)]
    assert found.by_class == pytest.approx(by_class, abs=1e-12)
    assert found.macro == pytest.approx(np.mean(by_class), abs=1e-12)
    assert found.weighted == pytest.approx(
        np.average(by_class, weights=np.bincount(truth)), abs=1e-12
    )
    if classes > 2:
        wanted = roc_auc_score(truth, scores, multi_class="ovr", average="weighted")
        assert found.weighted == pytest.approx(wanted, abs=1e-12)
    # A class that nothing is of, in neither mean.
    more = one_against_rest(np.c_[scores, np.zeros(n)], truth)
    assert more.by_class == (*found.by_class, None)
    assert (more.macro, more.weighted) == (found.macro, found.weighted)


def test_one_class_only_has_no_areas():
    found = one_against_rest(np.eye(3), np.zeros(3, np.int64))
    assert (found.by_class, found.macro, found.weighted) == ((None, None, None), None, None)


@given(photos(most=60), st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9, 1.0]))
def test_band_is_the_walk_over_all_thresholds(case, fpr):
    score, positive = case
    m, n = int(positive.sum()), int((~positive).sum())
    tail = 0.05 / 4
    low, high = 0.0, 1.0
    # From above every score downward, while the fpr is shown to be under `fpr`.
    for threshold in range(int(score.max()) + 1, -1, -1):
        caught, alarms = reached(score, positive, threshold)
        if not binom.cdf(alarms, n, fpr) <= tail:
            break
        low = float(lower_bound(caught, m, confidence=1 - tail))
    # From under every score upward, while it is shown to be over it.
    for threshold in range(0, int(score.max()) + 2):
        caught, alarms = reached(score, positive, threshold)
        if alarms and binom.sf(alarms - 1, n, fpr) <= tail:
            above, _ = reached(score, positive, threshold + 1)
            high = float(upper_bound(above, m, confidence=1 - tail))
    found = band(score, positive, np.array([fpr]))
    assert (found.low[0], found.high[0]) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("levels", [6, 256])
def test_band_holds_its_level(levels):
    """On tied and on fine scores with a curve that is known: outside in at most 5 % of draws."""
    rng = np.random.default_rng(4)
    grid = np.arange(levels)
    chance = np.stack([(grid + 1.0) ** 3, (levels - grid) ** 1.0])
    chance /= chance.sum(axis=1, keepdims=True)
    above = np.cumsum(chance[:, ::-1], axis=1)  # tpr and fpr of thresholds, falling
    rates = np.array([0.0, 0.03, 0.1, 0.3, 0.7])
    true = np.array([max([0.0, *above[0][above[1] <= rate + 1e-12]]) for rate in rates])
    draws, outside = 300, np.zeros(len(rates))
    positive = np.arange(110) < 50
    for _ in range(draws):
        score = np.r_[rng.choice(levels, 50, p=chance[0]), rng.choice(levels, 60, p=chance[1])]
        found = band(score, positive, rates)
        assert (found.low <= found.high).all()
        outside += (true < found.low - 1e-12) | (true > found.high + 1e-12)
    assert (outside <= binom.ppf(0.999, draws, 0.05)).all(), outside
    # Not so wide that it says nothing.
    assert (found.low[3] > 0.25 or levels == 6) and found.high[0] < 0.85
