"""The promise: by a walk over all thresholds, and by drawing many data sets and counting."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from mobileclf.errors import DataError, ProofError, UsageError
from mobileclf.stats.exact import most_believable
from mobileclf.stats.guarantee import guarantee, photos_needed
from tests.test_curves import photos

DRAWS, MOST, CONFIDENCE = 1000, 0.01, 0.95


def slow_guarantee(score, positive, held, most, delta):
    """Fixed-sequence testing as written: from 1 upward, an exact test at each integer, up to the
    first that is not rejected. None where the first is not."""
    harmful = int(positive.sum())
    last = None
    for threshold in range(1, int(score[positive].max()) + 1):
        missed = sum(
            1
            for s, p, h in zip(score, positive, held, strict=True)
            if p and not h and s < threshold
        )
        if binomtest(missed, harmful, most, alternative="less").pvalue > delta:
            break
        last = threshold
    return last


@given(
    photos(most=60),
    st.sampled_from([0.05, 0.1, 0.3, 0.6]),
    st.sampled_from([0.5, 0.8, 0.95]),
    st.sampled_from([0, 0.1, 0.5, 1]),
)
def test_guarantee_is_the_walk(case, most, confidence, share):
    score, positive = case
    held = np.random.default_rng(len(score)).random(len(score)) < share
    wanted = slow_guarantee(score, positive, held, most, 1 - confidence)
    passes = wanted and ((score < wanted) & ~held & ~positive).any()
    if not passes:
        with pytest.raises(ProofError):
            guarantee(score, positive, most=most, confidence=confidence, not_sure=held)
        return
    found = guarantee(score, positive, most=most, confidence=confidence, not_sure=held)
    assert found.threshold_q == wanted
    under = (score < wanted) & ~held
    assert (found.missed, found.passed) == ((under & positive).sum(), (under & ~positive).sum())
    assert (found.harmful, found.harmless) == (positive.sum(), (~positive).sum())
    below = len({s for s in score.tolist() if s < wanted})
    assert (found.warning is not None) == (below < 4)
    assert found.missed / found.harmful <= found.bound <= most + 1e-9


# What a rule does to the chance of each integer score, and the risk of each threshold under it.
def tight():
    """Integer scores with a threshold whose risk is just over what is allowed: 1 % and a trace at
    0 and 1, so thresholds of 1 hold and 2 do not."""
    chance = np.zeros(256)
    chance[0], chance[1] = 0.004, 0.00600001
    chance[2:] = (1 - chance.sum()) / 254
    return chance


def fine():
    return np.full(100_000, 1e-5)


def tied():
    chance = np.zeros(256)
    chance[[0, 3, 90, 200]] = 0.002, 0.007, 0.2, 0.791
    return chance


def broken(choose, chance, harmful, *, seed=0, held=0.0):
    """In how many of DRAWS data sets the threshold that `choose` gives is riskier than allowed."""
    rng = np.random.default_rng(seed)
    risk = np.r_[0, np.cumsum(chance)] * (1 - held)
    positive = np.r_[np.ones(harmful, bool), False]
    scores = rng.choice(len(chance), (DRAWS, harmful), p=chance / chance.sum())
    count = 0
    for row in scores:
        threshold = choose(np.r_[row, 0], positive, np.r_[rng.random(harmful) < held, False])
        count += risk[min(threshold, len(risk) - 1)] > MOST + 1e-12
    return count


def promised(score, positive, held):
    try:
        return guarantee(
            score, positive, most=MOST, confidence=CONFIDENCE, not_sure=held
        ).threshold_q
    except ProofError:
        return 0


def as_seen(score, positive, held):
    """The mistake that the promise guards against: the largest threshold that misses 1 % here."""
    risky = np.sort(score[positive & ~held])
    return int(risky[int(MOST * positive.sum())])


def conformal(score, positive, held):
    """Conformal risk control: bounds the mean over draws, (misses + 1) / (n + 1) <= 1 %."""
    risky = np.sort(score[positive & ~held])
    return int(risky[int(MOST * (positive.sum() + 1)) - 1])


def all_harmful(score, positive, held):
    return 0


def holds(count):
    return count <= binom.ppf(0.999, DRAWS, 1 - CONFIDENCE)


def is_tight(count):
    return count >= 0.01 * DRAWS


@pytest.mark.parametrize("chance", [tight(), fine(), tied()], ids=["tight", "fine", "tied"])
@pytest.mark.parametrize("harmful", [299, 473, 700])
def test_the_promise_is_kept(chance, harmful):
    assert holds(broken(promised, chance, harmful))


@pytest.mark.parametrize("harmful", [299, 473])
def test_a_tight_case_shows_that_it_is_not_given_away(harmful):
    """473 photos, the most at which one miss is just believed: both near 5 % in theory."""
    k = most_believable(harmful, MOST, risk=1 - CONFIDENCE)
    assert binom.cdf(k, harmful, MOST) == pytest.approx(0.05, abs=0.001)
    count = broken(promised, tight(), harmful)
    assert holds(count) and is_tight(count), count


def test_the_simulation_can_fail():
    """It catches what is too safe to be of use and what is not safe."""
    assert not is_tight(broken(all_harmful, tight(), 299))
    assert not holds(broken(as_seen, fine(), 299))
    assert not holds(broken(conformal, fine(), 250))


def test_the_promise_is_kept_with_not_sure():
    """A fixed abstain rule that holds back a third: kept, tight, and at a higher threshold."""
    count = broken(promised, fine(), 299, held=1 / 3)
    assert holds(count) and is_tight(count), count
    rng = np.random.default_rng(5)
    score, positive = rng.integers(0, 256, 600), np.arange(600) < 400
    held = rng.random(600) < 1 / 3
    more = guarantee(score, positive, most=0.05, not_sure=held)
    assert more.threshold_q > guarantee(score, positive, most=0.05).threshold_q


def test_the_best_of_several_abstain_rules_breaks_the_promise():
    """Why one has to be fixed without these photos: of 20 that hold back at random the one with
    the highest threshold is taken."""
    rng = np.random.default_rng(9)
    positive = np.r_[np.ones(299, bool), False]
    broken = 0
    for _ in range(200):
        score = np.r_[rng.integers(0, 10_000, 299), 0]
        best = 0
        for _ in range(20):
            held = np.r_[rng.random(299) < 0.5, False]
            best = max(best, guarantee(score, positive, most=0.05, not_sure=held).threshold_q)
        broken += best / 10_000 * 0.5 > 0.05
    assert broken > binom.ppf(0.999, 200, 0.05)


def test_a_lower_threshold_keeps_it_and_kernels_are_held_by_the_least_score():
    rng = np.random.default_rng(2)
    positive = np.arange(500) < 350
    score = rng.integers(0, 200, 500) + 56 * positive
    other = np.clip(score + rng.integers(-4, 5, 500), 0, None)
    both = guarantee(np.minimum(score, other), positive)
    for each in (score, other):
        assert both.threshold_q <= guarantee(each, positive).threshold_q
        missed = int((each[positive] < both.threshold_q).sum())
        assert binomtest(missed, 350, 0.01, alternative="less").pvalue <= 0.05


def test_too_few_photos_are_refused_with_the_number_needed():
    score, positive = np.r_[np.full(298, 90), 3], np.arange(299) < 298
    with pytest.raises(ProofError, match="0 of 298 missed.*; 299 harmful photos are needed") as no:
        guarantee(score, positive)
    allowed = float(re.search(r"or allow ([\d.]+)", str(no.value)).group(1))
    assert guarantee(score, positive, most=allowed).missed == 0
    score, positive = np.r_[np.full(299, 90), 3], np.arange(300) < 299
    found = guarantee(score, positive)
    assert (found.threshold_q, found.missed, found.passed) == (90, 0, 1)
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 299))


def test_what_is_missed_already_at_the_safest_threshold():
    # 2 of 400 harmful photos have a score of 0: 0.5 %, and 400 are too few for that.
    score, positive = np.r_[np.zeros(2, int), np.full(398, 90), 3], np.arange(401) < 400
    needed = photos_needed(0.01, 0.05, rate=2 / 400)
    with pytest.raises(ProofError, match=f"2 of 400 missed.*{needed} harmful photos"):
        guarantee(score, positive)
    score[:4] = 0
    with pytest.raises(ProofError, match="no number of photos would do.*or allow more than"):
        guarantee(score, positive)


def test_a_promise_of_nothing_is_refused():
    score, positive = np.r_[np.full(400, 7), 9, 9], np.arange(402) < 400
    with pytest.raises(ProofError, match="passes none of 2 harmless"):
        guarantee(score, positive)


def test_wrong_use():
    score, positive = np.arange(10), np.arange(10) < 5
    with pytest.raises(DataError, match="integer"):
        guarantee(score / 2, positive)
    for kind in (True, False):
        with pytest.raises(DataError, match="harmful and harmless"):
            guarantee(score, np.full(10, kind))
    for wrong in ({"most": 0}, {"most": 1}, {"confidence": 1}):
        with pytest.raises(UsageError, match="between 0 and 1"):
            guarantee(score, positive, **wrong)


@given(
    st.fractions(Fraction(1, 500), Fraction(1, 2), max_denominator=500),
    st.sampled_from([Fraction(1, 100), Fraction(1, 20), Fraction(1, 5)]),
)
def test_photos_needed_without_a_miss_is_the_formula(most, delta):
    needed = photos_needed(float(most), float(delta))
    assert (1 - most) ** needed <= delta < (1 - most) ** (needed - 1)
    assert needed == math.ceil(math.log(delta) / math.log(1 - most))


def test_photos_needed_with_misses():
    assert photos_needed(0.01, 0.05) == 299
    assert photos_needed(0.01, 0.05, rate=0.01) is None
    # Where the rate makes a whole count, the exact binomial is on either side of delta.
    for most, rate in ((0.05, 0.01), (0.05, 0.02), (0.01, 0.005)):
        needed = photos_needed(most, 0.05, rate=rate)
        step = round(1 / rate)
        after, before = -(-needed // step) * step, (needed - 1) // step * step
        assert binom.cdf(round(after * rate), after, most) <= 0.05
        assert binom.cdf(round(before * rate), before, most) > 0.05
        # About every second draw succeeds with so many.
        k = most_believable(needed, most, risk=0.05)
        assert 0.4 < binom.cdf(k, needed, rate) < 0.8
