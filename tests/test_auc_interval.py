"""Intervals of the AUC against the definition, published formulas and simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mobileclf.stats import auc_interval
from mobileclf.stats.auc_interval import bootstrap, delong, few_pairs
from mobileclf.stats.roc import auc
from tests.test_curves import photos


def slow_delong(score, positive):
    """AUC and variance from all pairs, as DeLong et al. 1988 write it."""
    x, y = score[positive].tolist(), score[~positive].tolist()
    psi = [[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x]
    m, n = len(x), len(y)
    theta = sum(map(sum, psi)) / (m * n)
    v10 = [sum(row) / n for row in psi]
    v01 = [sum(psi[i][j] for i in range(m)) / m for j in range(n)]
    s10 = sum((v - theta) ** 2 for v in v10) / (m - 1)
    s01 = sum((v - theta) ** 2 for v in v01) / (n - 1)
    return theta, s10 / m + s01 / n


@given(photos())
def test_delong_is_the_sum_over_pairs(case):
    score, positive = case
    found = delong(score, positive)
    assert found.auc == pytest.approx(auc(score, positive), abs=1e-12)
    assert 0 <= found.low <= found.auc <= found.high <= 1
    if 1 in (positive.sum(), (~positive).sum()):
        assert found.variance is None and found.degenerate
        return
    theta, variance = slow_delong(score, positive)
    assert found.auc == pytest.approx(theta, abs=1e-12)
    assert found.variance == pytest.approx(variance, abs=1e-12)
    assert found.degenerate == (variance < 1e-15)
    if not found.degenerate:
        # Even about the middle on the logit.
        low, middle, high = (math.log(a / (1 - a)) for a in (found.low, found.auc, found.high))
        assert high - middle == pytest.approx(middle - low, abs=1e-6)
        half = 1.959963984540054 * math.sqrt(variance) / (theta * (1 - theta))
        assert high - middle == pytest.approx(half, rel=1e-6)


@st.composite
def specimens(draw, most=30):
    """Photos with the number of the unit of each; units of one photo, of several, of both kinds."""
    score, positive = draw(photos(most=most))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    unit = rng.integers(0, draw(st.sampled_from([2, 4, 12, 1000])), len(score))
    if draw(st.booleans()):
        unit = 2 * unit + positive  # no unit of both kinds
    return score, positive, unit


def slow_clustered(score, positive, unit):
    """Variance from all pairs and units, as Obuchowski 1997 writes it; None where a kind has one
    unit only."""
    x, y = (list(zip(score[k], unit[k], strict=True)) for k in (positive, ~positive))
    m, n, own = len(x), len(y), sorted(set(unit.tolist()))
    i, i10, i01 = len(own), len({u for _, u in x}), len({u for _, u in y})
    if 1 in (i10, i01):
        return None

    def psi(a, b):
        return Fraction(1 if a > b else 0) if a != b else Fraction(1, 2)

    theta = sum(psi(a, b) for a, _ in x for b, _ in y) / (m * n)
    v10 = [(u, sum(psi(a, b) for b, _ in y) / n) for a, u in x]
    v01 = [(u, sum(psi(a, b) for a, _ in x) / m) for b, u in y]
    tens = [sum(v - theta for w, v in v10 if w == u) for u in own]
    ones = [sum(v - theta for w, v in v01 if w == u) for u in own]
    s10 = Fraction(i10, (i10 - 1) * m) * sum(a**2 for a in tens)
    s01 = Fraction(i01, (i01 - 1) * n) * sum(b**2 for b in ones)
    s11 = Fraction(i, i - 1) * sum(a * b for a, b in zip(tens, ones, strict=True))
    return s10 / m + s01 / n + 2 * s11 / (m * n)


@given(specimens())
def test_units_are_counted_as_obuchowski_does(case):
    score, positive, unit = case
    found = delong(score, positive, unit)
    assert found.units == len(set(unit.tolist()))
    assert found.auc == pytest.approx(auc(score, positive), abs=1e-12)
    assert 0 <= found.low <= found.auc <= found.high <= 1
    wanted = slow_clustered(score, positive, unit)
    assert found.degenerate == (not wanted)
    if wanted is None:
        assert found.variance is None
    else:
        assert found.variance == pytest.approx(float(wanted), rel=1e-9, abs=0)
    # What cannot be told by one cannot be told by the other.
    drawn = bootstrap(score, positive, unit, draws=20)
    assert (drawn.degenerate, drawn.units) == (found.degenerate, found.units)
    if found.degenerate:
        assert drawn == found


@given(photos(), st.integers(0, 99))
def test_units_of_one_photo_are_photos(case, seed):
    score, positive = case
    unit = np.random.default_rng(seed).permutation(len(score)) * 7 - 3
    assert delong(score, positive, unit) == delong(score, positive)
    assert bootstrap(score, positive, unit, draws=50) == bootstrap(score, positive, draws=50)


def test_a_copy_of_every_photo_adds_nothing():
    rng = np.random.default_rng(4)
    positive = rng.random(60) < 0.4
    score = rng.integers(0, 200, 60) + 60 * positive
    twice, both, unit = np.tile(score, 2), np.tile(positive, 2), np.tile(np.arange(60), 2)
    for interval in (delong, bootstrap):
        one, copied, blind = (
            interval(score, positive),
            interval(twice, both, unit),
            interval(twice, both),
        )
        assert (copied.low, copied.high) == pytest.approx((one.low, one.high), abs=1e-12)
        assert copied.units == 60 and blind.units == 120
        assert blind.high - blind.low < 0.8 * (one.high - one.low)


def most_pairs(units):
    """The most pairs of a positive and a negative of two units, no unit in two. units: kinds."""
    best = 0
    for i, one in enumerate(units):
        for j, other in enumerate(units[:i]):
            if ("+" in one and "-" in other) or ("-" in one and "+" in other):
                rest = units[:j] + units[j + 1 : i] + units[i + 1 :]
                best = max(best, 1 + most_pairs(rest))
    return best


@pytest.mark.parametrize(
    "units", ["+ + + - -", "+ - ++-", "+- +- +-", "+- +- +- - -", "+ + + +- -", "+- -", "++--"]
)
def test_without_spread_units_are_paired(units):
    kinds = units.split()
    positive = np.array([kind == "+" for each in kinds for kind in each])
    unit = np.array([i for i, each in enumerate(kinds) for _ in each])
    pairs = most_pairs(kinds)
    for interval in (delong, bootstrap):
        sure = interval(np.where(positive, 9, 1), positive, unit)
        assert (sure.auc, sure.high, sure.degenerate) == (1, 1, True)
        assert sure.low == pytest.approx(0.025 ** (1 / pairs) if pairs else 0)


def test_no_variance_by_the_mix_of_units_is_no_certainty():
    # Each unit of negatives is once under and once over the one score of the positives.
    score = np.array([5, 5, 5, 1, 9, 2, 8])
    positive, unit = score == 5, np.array([0, 1, 2, 3, 3, 4, 4])
    for interval in (delong, bootstrap):
        found = interval(score, positive, unit)
        assert (found.auc, found.variance, found.low, found.high) == (0.5, 0, 0, 1)


def test_scores_turned_round_turn_the_interval():
    rng = np.random.default_rng(1)
    positive = rng.random(50) < 0.4
    score = rng.normal(0, 1, 50) + positive
    one, other = delong(score, positive), delong(-score, positive)
    assert (1 - other.high, 1 - other.low) == pytest.approx((one.low, one.high))
    assert one.variance == pytest.approx(other.variance)


def test_no_spread_is_no_certainty():
    positive = np.array([True] * 20 + [False] * 30)
    q = 0.025 ** (1 / 20)
    for interval in (delong, bootstrap):
        sure = interval(np.where(positive, 9, 1), positive)
        assert (sure.auc, sure.high, sure.degenerate) == (1, 1, True)
        assert sure.low == pytest.approx(q)
        wrong = interval(np.where(positive, 1, 9), positive)
        assert (wrong.auc, wrong.low, wrong.high) == (0, 0, pytest.approx(1 - q))
        same = interval(np.full(50, 7), positive)
        assert (same.auc, same.low, same.high) == pytest.approx((0.5, q / 2, 1 - q / 2))
        alone = interval(np.arange(5), np.arange(5) == 2)
        assert (alone.auc, alone.low, alone.high, alone.variance) == (0.5, 0, 1, None)
        first = interval(np.arange(5), np.arange(5) == 4)
        assert (first.auc, first.low, first.high) == (1, pytest.approx(0.025), 1)
        for kind in (True, False):
            assert interval(np.arange(3), np.full(3, kind)) is None


def test_few_pairs_errs_as_said():
    """All of 8 positives outscore all of 8 negatives, though AUC is under q: in at most 2.5 %."""
    rng = np.random.default_rng(3)
    low, _ = few_pairs(1.0, 8)
    x = rng.normal(math.sqrt(2) * 0.3, 1, (20000, 8))  # AUC 0.618
    assert low == pytest.approx(0.63, abs=0.005)
    assert (x.min(axis=1) > rng.normal(0, 1, (20000, 8)).max(axis=1)).mean() <= 0.025


def slow_bootstrap(score, positive):
    """The AUC of every stratified redraw, each as likely as another."""
    x, y = score[positive].tolist(), score[~positive].tolist()
    return np.array(
        [
            auc(np.array(one + other), np.array([True] * len(one) + [False] * len(other)))
            for one in map(list, itertools.product(x, repeat=len(x)))
            for other in map(list, itertools.product(y, repeat=len(y)))
        ]
    )


def test_bootstrap_is_all_redraws():
    score = np.array([1, 4, 4, 2, 4, 3, 1])
    positive = np.array([False, True, True, True, False, False, False])
    every = slow_bootstrap(score, positive)
    found = bootstrap(score, positive, draws=100_000)
    assert found.variance == pytest.approx(every.var(), rel=0.02)
    # An area is a whole number of half wins, so an end holds its share to within one such step.
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        assert (every < end).mean() <= share + 0.002 and (every <= end).mean() >= share - 0.002


def test_bootstrap_of_units_is_all_redraws_of_them():
    score = np.array([1, 4, 4, 2, 4, 3, 1, 5, 2])
    positive = np.array([False, True, True, True, False, False, False, True, True])
    unit = np.array([0, 1, 1, 2, 3, 3, 4, 5, 4])
    of = [np.flatnonzero(unit == u) for u in range(6)]
    strata = [[of[1], of[2], of[5]], [of[0], of[3]], [of[4]]]
    redraws = [list(itertools.product(each, repeat=len(each))) for each in strata]
    every = []
    for parts in itertools.product(*redraws):
        drawn = np.concatenate([photo for part in parts for photo in part])
        every.append(auc(score[drawn], positive[drawn]))
    every = np.array(every)
    assert len(every) == 27 * 4
    found = bootstrap(score, positive, unit, draws=100_000)
    assert found.variance == pytest.approx(every.var(), rel=0.02)
    for end, share in ((found.low, 0.025), (found.high, 0.975)):
        assert (every < end - 1e-9).mean() <= share + 0.004
        assert (every <= end + 1e-9).mean() >= share - 0.004


@given(specimens(), st.integers(0, 99))
def test_bootstrap_of_units_knows_no_order(case, seed):
    score, positive, unit = case
    one = bootstrap(score, positive, unit, draws=50, seed=seed)
    turned = np.random.default_rng(seed).permutation(len(score))
    again = bootstrap(score[turned], positive[turned], 5 - 3 * unit[turned], draws=50, seed=seed)
    assert one == again


@given(photos(), st.integers(0, 99))
def test_bootstrap_repeats_and_knows_no_order(case, seed):
    score, positive = case
    one = bootstrap(score, positive, draws=50, seed=seed)
    assert one == bootstrap(score, positive, draws=50, seed=seed)
    turned = np.random.default_rng(seed).permutation(len(score))
    assert one == bootstrap(score[turned], positive[turned], draws=50, seed=seed)
    assert one.auc == pytest.approx(auc(score, positive), abs=1e-12)
    assert 0 <= one.low <= one.high <= 1


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    positive = rng.random(60) < 0.5
    score = rng.integers(0, 30, 60) + 5 * positive
    whole = bootstrap(score, positive, draws=500)
    monkeypatch.setattr(auc_interval, "BLOCK", 700)
    assert bootstrap(score, positive, draws=500) == whole
    assert bootstrap(score, positive, draws=500, seed=1) != whole


def test_intervals_hold_their_level_on_few_photos():
    """AUC 0.92 from 15 and 25 photos: DeLong's on the logit holds 95 %, plainly it does not."""
    rng = np.random.default_rng(8)
    true, draws = 0.92, 1500
    shift = math.sqrt(2) * 1.4050715603  # AUC = Phi(shift / sqrt 2)
    positive = np.arange(40) < 15
    inside = plain = 0
    for _ in range(draws):
        found = delong(rng.normal(0, 1, 40) + shift * positive, positive)
        inside += found.low <= true <= found.high
        half = 1.96 * math.sqrt(found.variance)
        plain += found.auc - half <= true <= found.auc + half
    assert binom.ppf(0.001, draws, 0.95) <= inside, inside
    assert plain < binom.ppf(0.001, draws, 0.95), plain


def test_intervals_of_units_hold_their_level():
    """20 harmful and 25 harmless specimens of 1 to 4 photos that are much alike: the interval that
    knows of specimens holds 95 %, the one that takes each photo for itself does not."""
    rng = np.random.default_rng(9)
    draws, photos_of = 800, rng.integers(1, 5, 45)
    unit = np.repeat(np.arange(45), photos_of)
    positive = unit < 20
    shift = (
        math.sqrt(2) * 1.0364333895
    )  # AUC 0.85 = Phi(shift / sqrt 2), the two spreads together 1
    inside = blind = drawn = 0
    for i in range(draws):
        own = rng.normal(0, math.sqrt(0.9), 45)[unit]
        score = own + rng.normal(0, math.sqrt(0.1), len(unit)) + shift * positive
        found, plain = delong(score, positive, unit), delong(score, positive)
        inside += found.low <= 0.85 <= found.high
        blind += plain.low <= 0.85 <= plain.high
        if i < 150:
            found = bootstrap(score, positive, unit, draws=200, seed=i)
            drawn += found.low <= 0.85 <= found.high
    assert binom.ppf(0.001, draws, 0.95) <= inside, inside
    assert blind < binom.ppf(0.001, draws, 0.95), blind
    assert binom.ppf(0.001, 150, 0.92) <= drawn, drawn  # a percentile interval is a little narrow
