"""The paired comparison of two areas, against every pair written out and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mobileclf.stats.auc_difference import auc_difference


def photos(rng, m=15, n=22, levels=None):
    """Two models' scores of the same photos, which they find hard alike. (n,), (n,), kinds."""
    positive = np.arange(m + n) < m
    shared = rng.normal(0, 1, m + n) + 1.5 * positive
    scores = [shared + rng.normal(0, 0.6, m + n) for _ in range(2)]
    if levels:
        scores = [np.round(each * levels) for each in scores]
    return *scores, positive


def wins(score, positive):
    """(positives, negatives): 1 where the positive outscores the negative, 1/2 on a tie."""
    x, y = score[positive], score[~positive]
    return np.array([[(a > b) + (a == b) / 2 for b in y] for a in x])


def slow(first, second, positive):
    """DeLong 1988, eq. 4 to 6, as it is written: S10 and S01 are 2 x 2 covariance matrices."""
    both = [wins(first, positive), wins(second, positive)]
    v10 = np.array([each.mean(axis=1) for each in both])
    v01 = np.array([each.mean(axis=0) for each in both])
    s = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    contrast = np.array([-1, 1])
    return [each.mean() for each in both], float(contrast @ s @ contrast)


def slow_by_unit(first, second, positive, unit):
    """Obuchowski 1997 for the difference, unit by unit."""
    difference = wins(second, positive) - wins(first, positive)
    total, (m, n) = difference.mean(), difference.shape
    x = {u: difference[unit[positive] == u].mean(axis=1) for u in set(unit)}
    y = {u: difference[:, unit[~positive] == u].mean(axis=0) for u in set(unit)}
    dx = {u: x[u].sum() - len(x[u]) * total for u in x}
    dy = {u: y[u].sum() - len(y[u]) * total for u in y}
    i10, i01 = sum(len(each) > 0 for each in x.values()), sum(len(each) > 0 for each in y.values())
    s10 = i10 / ((i10 - 1) * m) * sum(each**2 for each in dx.values())
    s01 = i01 / ((i01 - 1) * n) * sum(each**2 for each in dy.values())
    s11 = len(x) / (len(x) - 1) * sum(dx[u] * dy[u] for u in x)
    return float(s10 / m + s01 / n + 2 * s11 / (m * n))


@pytest.mark.parametrize("levels", [None, 2])
def test_it_is_delongs_as_written(levels):
    rng = np.random.default_rng(1)
    for _ in range(20):
        first, second, positive = photos(rng, levels=levels)
        found = auc_difference(first, second, positive)
        areas, variance = slow(first, second, positive)
        assert (found.first, found.second) == pytest.approx(tuple(areas), abs=1e-12)
        half = 1.959963984540054 * np.sqrt(variance)
        assert (found.high - found.low) / 2 == pytest.approx(half, abs=1e-9)
        assert (found.high + found.low) / 2 == pytest.approx(areas[1] - areas[0], abs=1e-9)
        p = 2 * norm.sf(abs(areas[1] - areas[0]) / np.sqrt(variance))
        assert found.p == pytest.approx(p, abs=1e-9)


def test_units_are_obuchowskis():
    rng = np.random.default_rng(2)
    for _ in range(10):
        first, second, positive = photos(rng)
        unit = rng.integers(0, 14, len(positive))  # with both kinds in some
        found = auc_difference(first, second, positive, unit=unit)
        half = 1.959963984540054 * np.sqrt(slow_by_unit(first, second, positive, unit))
        assert (found.high - found.low) / 2 == pytest.approx(half, abs=1e-9)
        alone = auc_difference(first, second, positive, unit=rng.permutation(len(positive)))
        plain = auc_difference(first, second, positive)
        assert (alone.low, alone.high) == pytest.approx((plain.low, plain.high), abs=1e-12)


def test_copies_tell_nothing_more():
    """Every photo four times over: half the interval, if nobody says that they are copies."""
    first, second, positive = photos(np.random.default_rng(3))
    once = auc_difference(first, second, positive)
    four = [np.tile(each, 4) for each in (first, second, positive)]
    blind = auc_difference(*four)
    told = auc_difference(*four, unit=np.tile(np.arange(len(positive)), 4))
    assert blind.high - blind.low == pytest.approx((once.high - once.low) / 2, rel=0.05)
    assert (told.low, told.high, told.p) == pytest.approx((once.low, once.high, once.p), abs=1e-9)


def test_the_interval_holds_its_level():
    """95 % of draws, where the two areas are truly the same; p under 5 % in 5 % of them."""
    rng = np.random.default_rng(4)
    found = [auc_difference(*photos(rng, 40, 60)) for _ in range(1500)]
    held = np.mean([one.low <= 0 <= one.high for one in found])
    assert 0.93 < held < 0.97
    assert held == pytest.approx(np.mean([one.p >= 0.05 for one in found]), abs=0.005)


def test_what_shows_no_spread_is_no_certainty():
    positive = np.arange(20) < 8
    score = np.arange(20)
    found = auc_difference(score, 3 * score + 1, positive)
    q = 0.025 ** (1 / 8)
    assert found.degenerate and found.difference == 0 and found.p == 1
    assert (found.low, found.high) == pytest.approx((q - 1, 1 - q))
    single = auc_difference(score, score[::-1], np.arange(20) < 1)
    assert single.degenerate and (single.low, single.high) == (-1, 1)
    assert auc_difference(score, score, np.zeros(20, bool)) is None
    # Copies of one specimen are one.
    of_one = auc_difference(score, score, positive, unit=np.where(positive, 0, np.arange(20)))
    assert (of_one.low, of_one.high) == (-1, 1)


def test_all_moved_alike_is_no_certainty():
    """Two and two photos whose placements all fall by a half: no spread, and no proof of it."""
    positive = np.array([True, True, False, False])
    first, second = np.array([3, 4, 1, 2]), np.array([1, 3, 0, 2])
    assert auc_difference(first, second, positive).p < 1  # these do not all move alike
    second = np.array([2, 2, 2, 2])
    found = auc_difference(first, second, positive)
    assert found.difference == -0.5 and found.degenerate
    assert (found.low, found.high, found.p) == (-1, 1, 1)
    # Units that moved alike: 0 but for rounding, 5e-17.
    first, second = np.array([6, 2, 4, 1, 5, 3, 0]), np.array([4, 0, 2, 1, 5, 6, 3])
    unit = np.array([2, 2, 3, 2, 3, 3, 2])
    rounded = auc_difference(first, second, np.arange(7) < 3, unit=unit)
    assert rounded.degenerate and (rounded.low, rounded.high, rounded.p) == (-1, 1, 1)


def test_a_model_that_is_worse_is_shown_to_be():
    rng = np.random.default_rng(5)
    first, second, positive = photos(rng, 60, 60)
    worse = auc_difference(first, rng.permutation(second), positive)
    assert worse.high < 0 and worse.p < 0.001
