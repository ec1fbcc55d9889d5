"""Abstain rules against one photo at a time, and the best of all cuts."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobileclf.decision import Classes, sureness
from mobileclf.errors import DataError, ProofError, UsageError
from mobileclf.stats.abstain import (
    abstain_curve,
    band_for_cost,
    cut_for_cost,
    cut_for_rate,
    tally,
)
from mobileclf.stats.guarantee import guarantee
from mobileclf.stats.operating_point import Costs
from tests.test_curves import photos
from tests.test_operating_point import COSTS

BY = st.sampled_from(["largest", "margin", "score"])


def classes_of(labels):
    """The first half of so many labels is harmful."""
    groups = ["bad"] * (labels // 2) + ["good"] * (labels - labels // 2)
    return Classes(labels=tuple(map(str, range(labels))), groups=tuple(groups), harmful="bad")


def surenesses(quanta, threshold, by):
    return sureness(quanta, classes_of(quanta.shape[1]), threshold, by)


@st.composite
def outputs(draw):
    """uint8 outputs of a few photos, their harmful score, threshold and truth."""
    n, labels = draw(st.integers(2, 25)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    quanta = rng.integers(0, draw(st.sampled_from([2, 20, 256])), (n, labels)).astype(np.uint8)
    positive = rng.random(n) < 0.5
    positive[:2] = [True, False]
    score = quanta[:, : labels // 2].astype(np.int64).sum(axis=1)
    return quanta, score, draw(st.integers(1, 300)), positive


def say(row, score, threshold, by, cut):
    """The verdict on one photo, as the page of an app would spell it out."""
    if score >= threshold:
        return "harmful"
    first, second = sorted(map(int, row), reverse=True)[:2]
    if by == "largest" and first < cut or by == "margin" and first - second < cut:
        return "not sure"
    if by == "score" and threshold + 1 - cut <= score < threshold:
        return "not sure"
    return "harmless"


@given(outputs(), BY, st.integers(0, 260), COSTS)
def test_rules_one_photo_at_a_time(case, by, cut, costs):
    quanta, score, threshold, positive = case
    sure = surenesses(quanta, threshold, by)
    found = tally(score >= threshold, sure < cut, positive)
    verdicts = [
        say(row, s, threshold, by, cut) for row, s in zip(quanta, score.tolist(), strict=True)
    ]
    for verdict, harmful, harmless in (
        ("harmful", found.caught, found.false_alarms),
        ("harmless", found.missed, found.passed),
        ("not sure", found.harmful_not_sure, found.harmless_not_sure),
    ):
        which = [p for v, p in zip(verdicts, positive.tolist(), strict=True) if v == verdict]
        assert (harmful, harmless) == (sum(which), len(which) - sum(which))
    assert found.n == len(score)
    assert found.answer_rate == pytest.approx(1 - verdicts.count("not sure") / len(score))
    price = {
        ("harmless", True): costs.missed,
        ("harmful", False): costs.false_alarm,
        ("not sure", True): costs.abstain,
        ("not sure", False): costs.abstain,
    }
    wanted = sum(price.get(each, 0) for each in zip(verdicts, positive.tolist(), strict=True))
    assert float(found.cost(costs)) == pytest.approx(wanted)


@given(outputs(), BY, st.integers(0, 260), st.integers(0, 260))
def test_a_higher_cut_only_takes_from_harmless(case, by, one, other):
    quanta, score, threshold, positive = case
    sure, reached = surenesses(quanta, threshold, by), score >= threshold
    low, high = (tally(reached, sure < cut, positive) for cut in sorted((one, other)))
    assert (low.caught, low.false_alarms) == (high.caught, high.false_alarms)
    assert low.missed >= high.missed and low.passed >= high.passed
    nothing = tally(reached, sure < (1 if by == "score" else 0), positive)
    assert nothing.not_sure == 0


@given(outputs(), BY, st.sampled_from([0.0, 0.1, 0.5, 0.7, 0.9, 1.0]))
def test_cut_for_rate_is_the_highest_that_answers_enough(case, by, rate):
    quanta, score, threshold, positive = case
    sure, reached = surenesses(quanta, threshold, by), score >= threshold
    cut = cut_for_rate(sure, reached, rate)

    def answered(cut):
        return len(score) - tally(reached, sure < cut, positive).not_sure

    assert answered(cut) >= Fraction(str(rate)) * len(score)
    if not reached.all():
        everything = answered(cut) == reached.sum()
        assert everything or answered(cut + 1) < Fraction(str(rate)) * len(score)
    # It has looked at no label, and a copy of every photo changes nothing.
    assert cut_for_rate(np.tile(sure, 2), np.tile(reached, 2), rate) >= cut


@given(outputs(), BY, COSTS)
def test_cut_for_cost_is_the_best_of_all(case, by, costs):
    quanta, score, threshold, positive = case
    sure, reached = surenesses(quanta, threshold, by), score >= threshold
    if reached.all():
        assert cut_for_cost(sure, reached, positive, costs) == 0
        return
    under = sure[~reached]
    cost = {
        cut: tally(reached, sure < cut, positive).cost(costs)
        for cut in range(int(under.min()), int(under.max()) + 2)
    }
    best = min(cost.values())
    found = cut_for_cost(sure, reached, positive, costs)
    assert found == max(cut for cut in cost if cost[cut] == best)


@given(outputs(), BY)
def test_curve_is_the_tally_at_each_cut(case, by):
    quanta, score, threshold, positive = case
    sure, reached = surenesses(quanta, threshold, by), score >= threshold
    curve = abstain_curve(sure, reached, positive)
    for cut, answered, missed in zip(curve.cut, curve.answered, curve.missed, strict=True):
        counts = tally(reached, sure < cut, positive)
        assert (answered, missed) == (len(score) - counts.not_sure, counts.missed)
    assert (np.diff(curve.cut) > 0).all() and (np.diff(curve.answered) < 0).all()
    assert curve.missed[-1] == 0 and curve.answered[-1] == reached.sum()


@given(photos(most=25), COSTS, st.sampled_from([None, 1, 3, 12]))
def test_band_for_cost_is_the_best_of_all_pairs(case, costs, bound):
    score, positive = case
    score = np.minimum(score, 24)
    ends = range(1, int(score.max()) + 2)
    cost = {
        (low, threshold): tally(score >= threshold, score >= low, positive).cost(costs)
        for low in ends
        for threshold in ends
        if low <= threshold and (bound is None or low <= bound)
    }
    best = min(cost.values())
    wanted = min(pair for pair in cost if cost[pair] == best)
    if not (score < wanted[0]).any() or not (score >= wanted[0]).any():
        with pytest.raises(ProofError, match="every photo (not )?harmless costs least"):
            band_for_cost(score, positive, costs, lowest_at_most=bound)
        return
    assert band_for_cost(score, positive, costs, lowest_at_most=bound) == wanted


def test_a_band_under_a_guarantee_keeps_it():
    rng = np.random.default_rng(3)
    positive = np.arange(700) < 400
    score = np.clip(rng.normal(60 + 110 * positive, 30), 0, 255).astype(np.int64)
    promise = guarantee(score, positive)
    costs = Costs(missed=20, false_alarm=10, abstain=1)
    low, threshold = band_for_cost(score, positive, costs, lowest_at_most=promise.threshold_q)
    assert low <= promise.threshold_q and low < threshold
    assert band_for_cost(score, positive, costs)[0] > promise.threshold_q
    # The same band as a rule of the abstain measure "score".
    sure = surenesses(np.c_[score, 255 - score], threshold, "score")
    found = tally(score >= threshold, sure < threshold + 1 - low, positive)
    assert found.missed == int((score[positive] < low).sum())
    assert guarantee(score, positive).missed >= found.missed


def test_costs_as_they_come_leave_no_band():
    rng = np.random.default_rng(6)
    positive = rng.random(400) < 0.4
    score = np.clip(rng.normal(60 + 120 * positive, 25), 0, 255).astype(np.int64)
    low, threshold = band_for_cost(score, positive, Costs())
    assert low == threshold


def test_sureness_on_given_outputs():
    quanta = np.array([[250, 3, 3], [7, 7, 0], [0, 255, 1]], np.uint8)
    assert surenesses(quanta, 9, "margin").tolist() == [247, 0, 254]
    assert surenesses(quanta, 9, "largest").tolist() == [250, 7, 255]
    assert surenesses(quanta, 9, "score").tolist() == [-241, 2, 9]
    assert surenesses(quanta, 9, "margin").dtype == np.int64


def test_wrong_use():
    none = np.zeros(0, np.int64)
    with pytest.raises(UsageError, match="0..1"):
        cut_for_rate(none, none.astype(bool), 1.1)
    with pytest.raises(DataError, match="found none"):
        cut_for_rate(none, none.astype(bool), 0.9)
    score, positive = np.arange(4), np.arange(4) > 1
    with pytest.raises(UsageError, match="at least 1"):
        band_for_cost(score, positive, Costs(), lowest_at_most=0)
    with pytest.raises(DataError, match="both kinds"):
        band_for_cost(score, np.ones(4, bool), Costs())
