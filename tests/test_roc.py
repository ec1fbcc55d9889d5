"""ROC, AUC and operating points against slow oracles and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from mobileclf.errors import DataError, ProofError
from mobileclf.stats.operating_point import minimum_confidence, youden
from mobileclf.stats.roc import auc, roc


def cases():
    rng = np.random.default_rng(7)
    for _ in range(60):
        n = int(rng.integers(2, 40))
        score = rng.integers(0, int(rng.integers(2, 300)), n)
        positive = rng.random(n) < 0.5
        if 0 < positive.sum() < n:
            yield score, positive


def slow_auc(score, positive):
    wins = [
        1.0 if p > q else 0.5 if p == q else 0.0 for p in score[positive] for q in score[~positive]
    ]
    return sum(wins) / len(wins)


def slow_j(score, positive, threshold):
    """J as a fraction over a common denominator: whole numbers, no rounding."""
    caught = sum(1 for s, p in zip(score, positive, strict=True) if p and s >= threshold)
    alarms = sum(1 for s, p in zip(score, positive, strict=True) if not p and s >= threshold)
    return caught * int((~positive).sum()) - alarms * int(positive.sum())


def test_auc_is_the_chance_to_outscore_and_sklearns():
    seen = set()
    for score, positive in cases():
        assert auc(score, positive) == pytest.approx(slow_auc(score, positive), abs=1e-12)
        assert auc(score, positive) == pytest.approx(roc_auc_score(positive, score), abs=1e-12)
        seen.add(auc(score, positive))
    assert len(seen) > 20


def test_points_are_sklearns():
    for score, positive in cases():
        fpr, tpr, threshold = roc_curve(positive, score, drop_intermediate=False)
        curve = roc(score, positive)
        assert curve is not None
        np.testing.assert_array_equal(curve.threshold, threshold)
        np.testing.assert_allclose(curve.fpr, fpr, atol=1e-15)
        np.testing.assert_allclose(curve.tpr, tpr, atol=1e-15)


def test_conventions():
    curve = roc(np.array([1, 1, 2]), np.array([True, False, True]))
    assert curve is not None
    assert curve.threshold.tolist() == [np.inf, 2, 1]
    assert curve.fpr.tolist() == [0, 0, 1] and curve.tpr.tolist() == [0, 0.5, 1]
    for one_class in (np.zeros(3, bool), np.ones(3, bool)):
        assert roc(np.arange(3), one_class) is None and auc(np.arange(3), one_class) is None


@pytest.mark.parametrize("prefer", ["lower", "higher"])
def test_youden_is_the_best_of_all_integers(prefer):
    found = 0
    for score, positive in cases():
        gains = {t: slow_j(score, positive, t) for t in range(0, int(score.max()) + 2)}
        best = max(gains.values())
        if best <= 0:
            with pytest.raises(ProofError):
                youden(score, positive, prefer=prefer)
            continue
        equal = [t for t, gain in gains.items() if gain == best]
        point = youden(score, positive, prefer=prefer)
        assert point.threshold_q == (min(equal) if prefer == "lower" else max(equal))
        assert point.threshold_q >= 1
        assert point.j == pytest.approx(point.tpr - point.fpr)
        assert point.tpr == (score[positive] >= point.threshold_q).mean()
        assert point.fpr == (score[~positive] >= point.threshold_q).mean()
        found += 1
    assert found > 30


def test_a_tie_fails_safe():
    # 10 and 30 both give J = 1/2; the lower one calls more harmful.
    score = np.array([5, 10, 20, 30])
    positive = np.array([False, True, False, True])
    assert youden(score, positive).threshold_q == 6
    assert youden(score, positive, prefer="higher").threshold_q == 30


def test_separable_ends_just_above_the_highest_harmless():
    score = np.array([1, 2, 3, 4, 200, 250])
    point = youden(score, score > 100)
    assert (point.threshold_q, point.j, point.warning) == (5, 1.0, None)


def test_few_scores_below_warn():
    score = np.array([1, 2, 3, 200])
    assert "3 distinct scores below" in str(youden(score, score > 100).warning)


def test_no_threshold_is_refused():
    upside_down = np.array([9, 8, 2, 1])
    with pytest.raises(ProofError, match="Youden's J over 0, found that calling every photo"):
        youden(upside_down, upside_down < 5)
    with pytest.raises(ProofError):
        youden(np.full(4, 7), np.array([True, False, True, False]))
    with pytest.raises(DataError, match="both kinds"):
        youden(np.arange(4), np.ones(4, bool))
    with pytest.raises(DataError, match="integer"):
        youden(np.linspace(0, 1, 4), np.arange(4) > 1)


def test_minimum_confidence():
    confidence = np.array([90, 100, 110, 120, 130, 200])
    point = minimum_confidence(confidence, confidence > 110)
    assert (point.threshold_q, point.warning) == (120, "threshold 120 of 256 has only 3 distinct "
        "scores below it (wanted 4): a small change of the outputs may flip verdicts")  # fmt: skip
    sure = minimum_confidence(confidence, np.ones(6, bool))
    assert sure.threshold_q == 90 and "no wrong answer" in str(sure.warning)
    blind = minimum_confidence(confidence, confidence < 110)
    assert blind.threshold_q == 90 and "does not tell" in str(blind.warning)
    with pytest.raises(ProofError, match="found none in 6"):
        minimum_confidence(confidence, np.zeros(6, bool))
