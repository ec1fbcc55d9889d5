"""The rule that is chosen from scores, held against every rule that there is, by its verdicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from mobileclf import policy
from mobileclf.decision import (
    NOT_SURE,
    Abstain,
    Classes,
    Decision,
    decision_score,
    not_sure,
    verdicts,
)
from mobileclf.errors import ProofError, UsageError
from mobileclf.policy import Seen
from mobileclf.settings import Settings

CLASSES = Classes(labels=("A", "B", "C", "D"), groups=("H", "O", "H", "O"), harmful="H")
PLAIN = Classes(labels=("A", "B", "C", "D"), groups=(None,) * 4, harmful=None)


def photos(seed: int, n: int = 400, *, classes: Classes = CLASSES, noise: float = 1.0) -> Seen:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 4
    logits = rng.normal(0, noise, (n, 4)) + 3 * np.eye(4)[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    quanta = np.clip(np.rint(p * 256), 0, 255).astype(np.int64)
    positive = truth % 2 == 0 if classes.harmful else quanta.argmax(axis=1) == truth
    return Seen(
        classes=classes,
        quanta=quanta,
        score=decision_score(quanta, classes),
        positive=positive,
        unit=np.arange(n),
    )


def asked(**settings) -> Settings:
    return Settings(**{"data": Path("photos"), "harmful": "H", **settings})


def moved(seen: Seen, seed: int) -> Seen:
    """The same photos on other kernels."""
    quanta = seen.quanta + np.random.default_rng(seed).integers(-4, 5, seen.quanta.shape)
    quanta = np.clip(quanta, 0, 255)
    return replace(seen, quanta=quanta, score=decision_score(quanta, seen.classes))


def decided(rule: policy.Rule) -> Decision:
    return Decision(
        group="H", threshold_q=rule.point.threshold_q, abstain=rule.abstain, kernel_bound=0
    )


def said(seen: Seen, rule: policy.Rule) -> np.ndarray:
    return np.array(verdicts(seen.quanta, seen.classes, decided(rule)))


def cost(seen: Seen, verdict: np.ndarray, costs=(100, 1, 5)) -> float:
    missed, alarm, abstain = costs
    return (
        missed * np.sum(seen.positive & (verdict == "O"))
        + alarm * np.sum(~seen.positive & (verdict == "H"))
        + abstain * np.sum(verdict == NOT_SURE)
    )


def with_cut(rule: policy.Rule, by: str, cut: int) -> policy.Rule:
    return replace(rule, abstain=Abstain(by=by, cut_q=cut))


@pytest.mark.parametrize(
    ("name", "more"),
    [("youden", {}), ("max-f1", {}), ("min-cost", {}), ("fix-tpr", {"tpr": 0.9}),
     ("fix-fpr", {"fpr": 0.1})],
)  # fmt: skip
def test_each_policy_is_the_best_of_all_thresholds(name, more):
    seen = photos(1)
    rule = policy.choose(asked(policy=name, **more), {"xnnpack": seen}, photos(2))

    def worth(threshold: int) -> float:
        reached = seen.score >= threshold
        tpr, fpr = reached[seen.positive].mean(), reached[~seen.positive].mean()
        caught, alarms = reached[seen.positive].sum(), reached[~seen.positive].sum()
        return {
            "youden": tpr - fpr,
            "max-f1": 2 * caught / (caught + alarms + seen.positive.sum()),
            "min-cost": -(100 * (seen.positive.sum() - caught) + alarms),
            "fix-tpr": -alarms if tpr >= 0.9 else -1e9,
            "fix-fpr": caught if fpr <= 0.1 else -1e9,
        }[name]

    best = max(worth(t) for t in range(1, 512))
    assert worth(rule.point.threshold_q) == pytest.approx(best)
    first = min(t for t in range(1, 512) if worth(t) > best - 1e-9)
    assert rule.point.threshold_q == first  # of equals the one that calls more harmful
    assert rule.abstain is None and rule.promise is None


def test_without_groups_the_higher_of_equals_is_taken():
    seen = photos(3, classes=PLAIN, noise=2.0)
    rule = policy.choose(asked(policy="max-f1", harmful=None), {"xnnpack": seen}, seen)
    f1 = []
    for t in range(1, 257):
        reached = seen.score >= t
        caught, alarms = (reached & seen.positive).sum(), (reached & ~seen.positive).sum()
        f1.append(2 * caught / (caught + alarms + seen.positive.sum()))
    assert rule.point.threshold_q == max(t for t in range(1, 257) if f1[t - 1] == max(f1))


@pytest.mark.parametrize("by", ["largest", "margin", "score"])
def test_an_answer_rate_holds_back_as_much_as_it_may(by):
    seen = photos(4)
    rule = policy.choose(asked(abstain=by, answer_rate=0.9), {"xnnpack": seen}, photos(5))
    rate = np.mean(said(seen, rule) != NOT_SURE)
    assert 0.9 <= rate < 1
    more = replace(rule, abstain=replace(rule.abstain, cut_q=rule.abstain.cut_q + 1))
    assert np.mean(said(seen, more) != NOT_SURE) < 0.9


@pytest.mark.parametrize("by", ["largest", "margin", "score"])
def test_costs_choose_the_cheapest_cut_below_the_threshold(by):
    seen = photos(6, noise=1.6)
    rule = policy.choose(asked(abstain=by), {"xnnpack": seen}, photos(7))
    most = rule.point.threshold_q if by == "score" else 255
    every = [cost(seen, said(seen, with_cut(rule, by, cut))) for cut in range(1, most + 1)]
    assert cost(seen, said(seen, rule)) == min(every) < every[0]


def test_least_cost_and_a_band_are_chosen_together():
    seen = photos(8, 60, noise=2.2)
    settings = asked(policy="min-cost", abstain="score", costs="missed=20,false-alarm=10,abstain=2")
    rule = policy.choose(settings, {"xnnpack": seen}, photos(9))
    costs = (20, 10, 2)
    cheapest = min(
        cost(seen, np.where(seen.score >= high, "H", np.where(seen.score >= low, NOT_SURE, "O")),
             costs)
        for low in range(1, 512)
        for high in range(low, 512)
    )  # fmt: skip
    assert cost(seen, said(seen, rule), costs) == cheapest
    assert rule.abstain is not None


def test_a_guarantee_is_the_largest_threshold_on_both_kernels():
    seen = photos(10, 1200)
    other = moved(seen, 1)
    settings = asked(policy="guarantee", most_missed=0.05)
    rule = policy.choose(settings, {"xnnpack": seen, "builtin": other}, photos(11))
    harmful = seen.positive
    least = np.minimum(seen.score, other.score)[harmful]

    def kept(threshold: int) -> bool:
        return binom.cdf((least < threshold).sum(), harmful.sum(), 0.05) <= 0.05 + 1e-12

    wanted = 1
    while kept(wanted + 1):
        wanted += 1
    assert rule.point.threshold_q == rule.promise.threshold_q == wanted
    assert rule.kernels == ("xnnpack", "builtin")
    assert rule.promise.missed == (least < wanted).sum()
    # On one kernel alone more would be allowed: the other one counts.
    alone = policy.choose(settings, {"xnnpack": seen}, photos(11))
    assert alone.point.threshold_q > wanted


def test_a_guarantee_names_the_kernels_that_it_needs():
    seen = photos(12, 1200)
    quanta = seen.quanta.copy()
    quanta[np.flatnonzero(seen.positive)[:100]] = (0, 255, 0, 0)
    broken = replace(seen, quanta=quanta, score=decision_score(quanta, CLASSES))
    settings = asked(policy="guarantee", most_missed=0.05)
    rule = policy.choose(settings, {"xnnpack": seen, "builtin": broken}, photos(13))
    assert rule.kernels == ("xnnpack",)
    with pytest.raises(ProofError, match="guarantee: wanted at most"):
        policy.choose(settings, {"xnnpack": broken, "builtin": seen}, photos(13))


def test_copies_are_one_photo_to_a_guarantee():
    seen = photos(14, 240)
    settings = asked(policy="guarantee", most_missed=0.025)
    single = policy.choose(settings, {"xnnpack": seen}, photos(15))  # 120 harmful: 118 needed
    halves = replace(seen, unit=np.repeat(np.arange(60), 4))
    with pytest.raises(ProofError, match="of 60 missed"):
        policy.choose(settings, {"xnnpack": halves}, photos(15))
    assert single.promise.harmful == 120


def test_a_specimen_is_missed_with_its_least_photo():
    seen = photos(16, 600)
    pairs = replace(seen, unit=np.repeat(np.arange(150), 4))  # two harmful, two harmless in each
    settings = asked(policy="guarantee", most_missed=0.05)
    rule = policy.choose(settings, {"xnnpack": pairs}, photos(17))
    least = seen.score[seen.positive].reshape(-1, 2).min(axis=1)
    assert rule.promise.harmful == 150
    assert rule.promise.missed == (least < rule.point.threshold_q).sum()


@pytest.mark.parametrize("by", ["largest", "margin"])
def test_a_guarantee_over_a_cut_counts_what_is_called_harmless(by):
    seen, validation = photos(18, 1200, noise=1.4), photos(19, 200, noise=1.4)
    other = moved(seen, 2)
    settings = asked(policy="guarantee", most_missed=0.05, abstain=by, answer_rate=0.9)
    rule = policy.choose(settings, {"xnnpack": seen, "builtin": other}, validation)
    assert rule.tuned_on == "validation" and rule.abstain is not None
    # Missed is what either kernel family's verdict is, on a harmful photo.
    either = (said(seen, rule) == "O") | (said(other, rule) == "O")
    assert rule.promise.missed == (either & seen.positive).sum()
    assert rule.promise.bound <= 0.05
    plain = policy.choose(
        replace(settings, abstain="none", answer_rate=None), {"xnnpack": seen}, validation
    )
    assert rule.point.threshold_q > plain.point.threshold_q
    # The cut does not move with the photos that the promise is shown on.
    fewer = replace(settings, most_missed=0.1)
    others = policy.choose(fewer, {"xnnpack": photos(24, 1200, noise=1.2)}, validation)
    assert others.abstain == rule.abstain and others.point != rule.point


def test_a_guarantee_with_a_band_keeps_its_promise_below_it():
    seen = photos(20, 1200, noise=1.4)
    settings = asked(policy="guarantee", most_missed=0.05, abstain="score", answer_rate=0.9)
    rule = policy.choose(settings, {"xnnpack": seen}, photos(21))
    verdict = said(seen, rule)
    assert (verdict[seen.score < rule.promise.threshold_q] == "O").all()
    assert (verdict[seen.score >= rule.promise.threshold_q] != "O").all()
    assert 0.9 <= np.mean(verdict != NOT_SURE) < 0.92


@pytest.mark.parametrize(
    "costs", ["missed=100,false-alarm=10,abstain=2", "missed=1,false-alarm=10,abstain=0.5"]
)
def test_a_band_by_cost_lies_below_the_promise_and_is_what_is_counted(costs):
    """Dear misses move the lower end down, cheap ones would move it past the promise."""
    seen = photos(20, 1200, noise=1.4)
    other = moved(seen, 3)
    settings = asked(policy="guarantee", most_missed=0.05, abstain="score")
    most = policy.choose(
        replace(settings, abstain="none"), {"xnnpack": seen, "builtin": other}, photos(21)
    ).promise
    rule = policy.choose(
        replace(settings, costs=costs), {"xnnpack": seen, "builtin": other}, photos(21)
    )
    assert rule.promise.threshold_q <= most.threshold_q
    assert (rule.promise.threshold_q < most.threshold_q) == costs.startswith("missed=100")
    either = (said(seen, rule) == "O") | (said(other, rule) == "O")
    assert rule.promise.missed == (either & seen.positive).sum() <= most.missed
    assert rule.promise.passed == (either & ~seen.positive).sum()
    assert rule.promise.bound <= most.bound and rule.abstain is not None


def test_the_confidence_asked_for_is_that_of_the_promise():
    seen = photos(27, 1200)
    sure, less = (
        policy.choose(
            asked(policy="guarantee", most_missed=0.05, confidence=confidence),
            {"xnnpack": seen},
            seen,
        )
        for confidence in (0.99, 0.8)
    )
    assert binom.cdf(sure.promise.missed, 600, 0.05) <= 0.01 < binom.cdf(
        less.promise.missed, 600, 0.05
    ) <= 0.2  # fmt: skip
    assert sure.point.threshold_q < less.point.threshold_q


def test_a_rule_that_warns_of_nothing_is_refused():
    seen = photos(28, 1200)
    low = np.zeros_like(seen.quanta)
    low[:, 1] = 200
    weak = replace(seen, quanta=low, score=decision_score(low, CLASSES))
    with pytest.raises(ProofError, match="calls some harmful photos harmful"):
        policy.choose(asked(), {"xnnpack": seen, "builtin": weak}, seen)
    settings = asked(policy="guarantee", most_missed=0.05, abstain="score", answer_rate=0.0)
    rule = policy.choose(settings, {"xnnpack": seen}, seen)
    assert rule.point.threshold_q == seen.score.max()


def test_few_scores_under_the_lower_end_of_a_band_are_said():
    rng = np.random.default_rng(0)
    quanta = np.zeros((400, 4), np.int64)
    quanta[:, 0] = np.where(np.arange(400) < 200, rng.integers(40, 250, 400), 0)
    quanta[300:, 0] = rng.integers(40, 250, 100)
    quanta[:, 1] = 250 - quanta[:, 0]
    seen = Seen(
        classes=CLASSES,
        quanta=quanta,
        score=decision_score(quanta, CLASSES),
        positive=np.arange(400) < 200,
        unit=np.arange(400),
    )
    settings = asked(policy="guarantee", most_missed=0.02, abstain="score", answer_rate=0.8)
    rule = policy.choose(settings, {"xnnpack": seen}, seen)
    assert "has only 1 distinct scores below it" in rule.point.warning


def test_what_calls_nothing_harmless_is_refused():
    seen = photos(22)
    with pytest.raises(ProofError, match="holds back all"):
        policy.choose(asked(abstain="margin", answer_rate=0.1), {"xnnpack": seen}, seen)


def test_groups_are_wanted_where_they_are_needed():
    for settings in ({"policy": "guarantee"}, {"policy": "min-cost"}, {"abstain": "margin"}):
        with pytest.raises(UsageError, match="give --harmful"):
            policy.check(asked(harmful=None, **settings), PLAIN)
    assert policy.check(asked(), CLASSES) is None


def test_costs_at_which_not_sure_never_pays_are_said():
    assert "0.99" in policy.check(asked(abstain="score"), CLASSES)
    cheap = "missed=100,false-alarm=10,abstain=5"
    assert policy.check(asked(abstain="score", costs=cheap), CLASSES) is None
    assert policy.check(asked(abstain="score", answer_rate=0.9), CLASSES) is None


def test_seen_is_what_the_verdict_is_by():
    seen = photos(23)
    rule = policy.choose(asked(abstain="margin", answer_rate=0.9), {"xnnpack": seen}, seen)
    held = not_sure(seen.quanta, CLASSES, decided(rule))
    under = seen.score < rule.point.threshold_q
    assert (held == (under & (seen.sureness(1, "margin") < rule.abstain.cut_q))).all()


def test_a_guarantee_over_a_cut_that_calls_nothing_harmless_is_refused_too():
    settings = asked(policy="guarantee", most_missed=0.05, abstain="largest", answer_rate=0.1)
    with pytest.raises(ProofError, match="holds back all"):
        policy.choose(settings, {"xnnpack": photos(25, 1200)}, photos(26))
