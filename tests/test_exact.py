"""Exact bounds of a proportion against whole-number arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mobileclf.stats.exact import (
    fewest_unbelievable,
    lower_bound,
    most_believable,
    upper_bound,
)


def tail(k, n, p):
    """P(Bin(n, p) <= k), as a fraction."""
    return sum((comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1)), Fraction(0))


@given(st.data())
def test_bounds_are_clopper_and_pearsons(data):
    n = data.draw(st.integers(1, 400))
    k = data.draw(st.integers(0, n))
    confidence = data.draw(st.sampled_from([0.8, 0.95, 0.975, 0.99]))
    high = binomtest(k, n, alternative="less").proportion_ci(confidence, "exact").high
    low = binomtest(k, n, alternative="greater").proportion_ci(confidence, "exact").low
    assert float(upper_bound(k, n, confidence=confidence)) == pytest.approx(high, abs=1e-9)
    assert float(lower_bound(k, n, confidence=confidence)) == pytest.approx(low, abs=1e-9)


@given(
    n=st.integers(0, 40),
    p=st.fractions(0, 1, max_denominator=50),
    risk=st.fractions(Fraction(1, 100), Fraction(1, 2), max_denominator=100),
)
def test_what_counts_allow_is_counted(n, p, risk):
    tails = [tail(k, n, p) for k in range(n + 1)]
    if any(abs(each - risk) < Fraction(1, 10**12) for each in [*tails, *(1 - t for t in tails)]):
        return  # equal but for rounding: either count will do
    wanted = max((k for k in range(n + 1) if tails[k] <= risk), default=-1)
    assert most_believable(n, float(p), risk=float(risk)) == wanted
    above = [1, *(1 - each for each in tails)]  # P(B >= k), k = 0..n + 1
    wanted = min(k for k in range(n + 2) if above[k] <= risk)
    assert fewest_unbelievable(n, float(p), risk=float(risk)) == wanted


def test_a_bound_on_the_edge():
    # 299 photos without a miss show 1 %, 298 do not: 0.99^299 = 0.0495.
    assert float(upper_bound(0, 299, confidence=0.95)) < 0.01 < upper_bound(0, 298, confidence=0.95)
    assert most_believable(299, 0.01, risk=0.05) == 0 and most_believable(298, 0.01, risk=0.05) < 0
    assert upper_bound([0, 3], 3, confidence=0.95).tolist() == pytest.approx(
        [1 - 0.05 ** (1 / 3), 1]
    )
    # Equal to the risk is believed no more: both halves of a coin's throw.
    assert most_believable(1, 0.5, risk=0.5) == 0 and fewest_unbelievable(1, 0.5, risk=0.5) == 1
    assert lower_bound([0, 3], 3, confidence=0.95).tolist() == pytest.approx([0, 0.05 ** (1 / 3)])
