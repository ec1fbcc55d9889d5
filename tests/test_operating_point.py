"""Policies against a walk over every integer threshold, in whole numbers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from mobileclf.errors import DataError, ProofError, UsageError
from mobileclf.stats.curves import hull
from mobileclf.stats.operating_point import Costs, fix_fpr, fix_tpr, max_f1, min_cost, youden
from mobileclf.stats.roc import roc
from tests.test_curves import photos, reached

PREFER = st.sampled_from(["lower", "higher"])
RATES = st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9, 0.95, 1.0])
COSTS = st.builds(
    Costs,
    missed=st.sampled_from([100, 20, 1, 0.3]),
    false_alarm=st.sampled_from([0, 0.1, 1, 3]),
    abstain=st.sampled_from([0, 0.1, 0.4, 5]),
)


def check(find, case, prefer, worth):
    """`find` gives the best of all integers by worth(caught, alarms), or refuses with reason."""
    score, positive = case
    m, n = int(positive.sum()), int((~positive).sum())
    top = int(score.max()) + 1
    worths = {t: worth(*reached(score, positive, t)) for t in range(int(score.min()), top + 1)}
    best = max(worths.values())
    if best in (worth(m, n), worth(0, 0)):
        with pytest.raises(ProofError, match="calling every photo"):
            find(score, positive, prefer=prefer)
        return
    point = find(score, positive, prefer=prefer)
    equal = [t for t, each in worths.items() if each == best]
    assert point.threshold_q == (min(equal) if prefer == "lower" else max(equal))
    caught, alarms = reached(score, positive, point.threshold_q)
    assert (point.tpr, point.fpr, point.j) == (caught / m, alarms / n, caught / m - alarms / n)
    below = len({s for s in score.tolist() if s < point.threshold_q})
    assert (point.warning is not None) == (below < 4)
    assert point.threshold_q >= 1


@given(photos(), PREFER)
def test_max_f1(case, prefer):
    m = int(case[1].sum())
    check(max_f1, case, prefer, lambda tp, fp: Fraction(2 * tp, 2 * tp + fp + m - tp))


def test_f1_is_scikit_learns():
    rng = np.random.default_rng(0)
    positive = rng.random(80) < 0.4
    score = rng.integers(0, 60, 80) + 30 * positive
    point = max_f1(score, positive)
    best = max(f1_score(positive, score >= t) for t in range(91))
    assert f1_score(positive, score >= point.threshold_q) == pytest.approx(best)


@given(photos(), PREFER, COSTS)
def test_min_cost(case, prefer, costs):
    m = int(case[1].sum())
    missed, alarm = Fraction(str(costs.missed)), Fraction(str(costs.false_alarm))

    def find(score, positive, prefer):
        return min_cost(score, positive, costs, prefer=prefer)

    check(find, case, prefer, lambda tp, fp: -missed * (m - tp) - alarm * fp)


@given(photos(), PREFER, RATES)
def test_fix_tpr(case, prefer, rate):
    m, n = int(case[1].sum()), int((~case[1]).sum())
    enough = Fraction(str(rate)) * m

    def find(score, positive, prefer):
        return fix_tpr(score, positive, rate, prefer=prefer)

    check(find, case, prefer, lambda tp, fp: -fp if tp >= enough else -m - n - 1)


@given(photos(), PREFER, RATES)
def test_fix_fpr(case, prefer, rate):
    rate = 1 - rate
    allowed = Fraction(str(rate)) * int((~case[1]).sum())

    def find(score, positive, prefer):
        return fix_fpr(score, positive, rate, prefer=prefer)

    check(find, case, prefer, lambda tp, fp: tp if fp <= allowed else -1)


@given(photos(), PREFER)
def test_youden(case, prefer):
    m, n = int(case[1].sum()), int((~case[1]).sum())
    check(youden, case, prefer, lambda tp, fp: tp * n - fp * m)


@given(photos(), COSTS)
def test_a_cheapest_threshold_is_a_corner_of_the_hull(case, costs):
    score, positive = case
    corners = hull(roc(score, positive), positive)
    m, n = int(positive.sum()), int((~positive).sum())
    cheapest = (costs.missed * (1 - corners.tpr) * m + costs.false_alarm * corners.fpr * n).min()
    try:
        point = min_cost(score, positive, costs)
    except ProofError:
        cost = min(costs.missed * m, costs.false_alarm * n)
    else:
        cost = costs.missed * (1 - point.tpr) * m + costs.false_alarm * point.fpr * n
    assert cost == pytest.approx(cheapest, abs=1e-9)


def test_equal_costs_are_equal_though_their_floats_are_not():
    # Cut at 4: 3 false alarms of 0.1; cut at 9: 1 missed of 0.3. 3 * 0.1 > 0.3 in floats.
    score = np.array([1, 1, 1, 1, 4, 5, 6, 5, 9])
    positive = np.array([0, 0, 0, 0, 1, 0, 0, 0, 1], bool)
    costs = Costs(missed=0.3, false_alarm=0.1)
    assert min_cost(score, positive, costs).threshold_q == 2
    assert min_cost(score, positive, costs, prefer="higher").threshold_q == 9


def test_ties_fail_safe():
    # All from 4 to 9 catch both with no false alarm.
    score, positive = np.array([1, 2, 3, 9, 9]), np.array([0, 0, 0, 1, 1], bool)
    for find in (max_f1, lambda s, p, **k: fix_tpr(s, p, 0.9, **k)):
        assert find(score, positive).threshold_q == 4
        assert find(score, positive, prefer="higher").threshold_q == 9
    # fix-fpr spends what it may: lower than it must for these two.
    assert fix_fpr(score, positive, 0.4).threshold_q == 3


def test_refusals_say_why():
    score, positive = np.array([1, 5, 9, 9]), np.array([1, 0, 1, 0], bool)
    with pytest.raises(ProofError, match="positive rate of at least 0.9.*every photo positive"):
        fix_tpr(score, positive, 0.9)
    with pytest.raises(ProofError, match="positive rate of at most 0.3.*every photo negative"):
        fix_fpr(score, positive, 0.3)
    with pytest.raises(ProofError, match="least cost"):
        min_cost(score, positive, Costs(missed=100, false_alarm=1))
    with pytest.raises(DataError, match="both kinds"):
        max_f1(score, np.ones(4, bool))
    with pytest.raises(DataError, match="integer"):
        max_f1(score / 2, positive)
    for find, rate in ((fix_tpr, 0), (fix_tpr, 1.1), (fix_fpr, 1), (fix_fpr, -0.1)):
        with pytest.raises(UsageError, match="wanted a rate"):
            find(score, positive, rate)
    for bad in ({"missed": 0}, {"abstain": -1}, {"false_alarm": float("inf")}):
        with pytest.raises(UsageError, match=r"\[costs\]"):
            Costs(**bad)


@given(COSTS)
def test_abstaining_pays_somewhere_or_nowhere(costs):
    chances = [Fraction(i, 600) for i in range(601)]
    missed, alarm, abstain = (
        Fraction(str(each)) for each in (costs.missed, costs.false_alarm, costs.abstain)
    )
    pays = any(abstain < min(missed * p, alarm * (1 - p)) for p in chances)
    assert costs.abstaining_can_pay == pays


def test_with_the_costs_as_they_come_abstaining_never_pays():
    assert not Costs().abstaining_can_pay
    assert Costs(abstain=0.9).abstaining_can_pay
