"""Which output is which label: against all permutations, sums of binomials, and simulation."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, permutations
from math import comb

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mobileclf.stats import assignment
from mobileclf.stats.assignment import (
    LEVEL,
    NO_ANSWER,
    answers_of,
    best_order,
    cross_fitted,
    halves,
    order_test,
    undetectable_pairs,
)
from mobileclf.stats.paired import Pairs, count_pairs, mcnemar


def model(k, photos, accuracy, seed):
    """Answers of a model that is right so often, else anything, on as many photos of each label."""
    rng = np.random.default_rng(seed)
    truth = np.arange(photos) % k
    return np.where(rng.random(photos) < accuracy, truth, rng.integers(0, k, photos)), truth


def swap(answers, a, b, k):
    order = np.arange(k)
    order[[a, b]] = b, a
    return order[answers]


@st.composite
def answered(draw):
    k, n = draw(st.integers(1, 5)), draw(st.integers(1, 30))
    answers = draw(st.lists(st.integers(NO_ANSWER, k - 1), min_size=n, max_size=n))
    truth = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    return np.array(answers), np.array(truth), k


def right_under(order, answers, truth):
    return [a != NO_ANSWER and order[a] == t for a, t in zip(answers, truth, strict=True)]


@settings(deadline=None)
@given(answered())
def test_the_best_order_is_the_best_of_all_permutations(case):
    answers, truth, k = case

    def worth(order):
        return sum(right_under(order, answers, truth)), sum(order[i] == i for i in range(k))

    assert worth(best_order(*case)) == max(map(worth, permutations(range(k))))


def test_on_a_tie_the_given_order_stays():
    assert best_order(np.array([0, 1]), np.array([1, 1]), 3).tolist() == [0, 1, 2]
    assert best_order(np.array([], dtype=int), np.array([], dtype=int), 4).tolist() == [0, 1, 2, 3]
    assert best_order(np.array([0, 0]), np.array([1, 1]), 2).tolist() == [1, 0]


def test_halves_are_stratified_seeded_and_not_by_place():
    truth = np.repeat(np.arange(5), (40, 7, 1, 12, 3))
    half = halves(truth)
    for label in range(5):
        of = half[truth == label]
        assert abs(2 * of.sum() - len(of)) <= 1
    assert abs(2 * half.sum() - len(half)) <= 1
    assert np.array_equal(half, halves(truth)) and not np.array_equal(half, halves(truth, 1))
    assert 0 < half[:20].sum() < 20 and half[:40:2].sum() not in (0, 20)


@settings(deadline=None)
@given(answered(), st.integers(0, 3))
def test_each_photo_is_judged_by_the_order_of_the_other_half(case, seed):
    answers, truth, k = case
    half = halves(truth, seed)
    wanted = []
    for i in range(len(truth)):
        other = half != half[i]
        order = best_order(answers[other], truth[other], k)
        wanted.append(bool(answers[i] != NO_ANSWER and order[answers[i]] == truth[i]))
    assert cross_fitted(answers, truth, k, seed=seed).tolist() == wanted


@settings(deadline=None)
@given(answered(), st.integers(0, 3))
def test_the_test_is_mcnemars_on_the_changed_photos(case, seed):
    answers, truth, k = case
    found = order_test(answers, truth, k, seed=seed)
    own = np.array(right_under(range(k), answers, truth))
    pairs = count_pairs(own, cross_fitted(answers, truth, k, seed=seed))
    assert (found.won, found.lost) == (pairs.won, pairs.lost)
    assert (found.photos, found.right) == (len(truth), own.sum())
    assert found.right_best == sum(right_under(found.best, answers, truth)) >= found.right
    n, share = found.won + found.lost, max(Fraction(1, 2), chance(answers, truth, k, seed))
    least = min(found.won, found.lost)
    tail = sum(comb(n, i) * (1 - share) ** i * share ** (n - i) for i in range(least + 1))
    assert found.p == pytest.approx(float(min(1, 2 * tail)), rel=1e-9, abs=1e-300)
    assert found.p >= mcnemar(pairs) - 1e-12


def chance(answers, truth, k, seed):
    """Of what would change if answers and labels had nothing to do with each other, the share
    that would be won: each answer of a half against each label of it."""
    half, won, lost = halves(truth, seed), Fraction(0), Fraction(0)
    for judged in (half, ~half):
        order = best_order(answers[~judged], truth[~judged], k)
        seen = judged & (answers != NO_ANSWER)
        for a in answers[seen]:
            if order[a] != a:
                won += Fraction(int((truth[seen] == order[a]).sum()), int(seen.sum()))
                lost += Fraction(int((truth[seen] == a).sum()), int(seen.sum()))
    return won / (won + lost) if won + lost else Fraction(1, 2)


def test_a_model_that_knows_nothing_raises_the_alarm_in_less_than_one_of_a_hundred():
    rng, k, n, trials = np.random.default_rng(8), 16, 512, 1000
    truth, alarms, same_photos = np.arange(n) % k, 0, 0
    for seed in range(trials):
        answers = rng.integers(0, k, n)
        alarms += order_test(answers, truth, k, seed=seed).better
        order = best_order(answers, truth, k)
        same_photos += mcnemar(count_pairs(answers == truth, order[answers] == truth)) < LEVEL
    assert alarms <= 0.01 * trials
    assert (
        same_photos > 0.95 * trials
    )  # solved and judged on the same photos it nearly always would


@pytest.mark.parametrize("k", [2, 3, 16])
def test_nor_does_one_whose_answers_are_as_uneven_as_the_labels(k):
    rng, trials, n = np.random.default_rng(k), 300, 300
    alarms = plain = 0
    for seed in range(trials):
        labels, outputs = rng.dirichlet(np.full(k, 0.5), 2)
        truth, answers = rng.choice(k, n, p=labels), rng.choice(k, n, p=outputs)
        alarms += order_test(answers, truth, k, seed=seed).better
        fitted = cross_fitted(answers, truth, k, seed=seed)
        pairs = count_pairs(answers == truth, fitted)
        plain += pairs.won > pairs.lost and mcnemar(pairs) < LEVEL
    assert alarms <= 0.01 * trials
    assert plain > 0.2 * trials  # a fair coin would: the frequent label wins wherever it is put


@pytest.mark.parametrize("photos", [16, 32])
def test_every_swap_of_two_of_sixteen_is_found(photos):
    answers, truth = model(16, 16 * photos, 0.8, photos)
    assert not order_test(answers, truth, 16).better
    assert undetectable_pairs(answers, truth, 16) == []
    for a, b in combinations(range(16), 2):
        found = order_test(swap(answers, a, b, 16), truth, 16)
        wanted = swap(np.arange(16), a, b, 16)
        assert found.better and found.best == tuple(wanted), (a, b)
        # As many photos of each label in both halves: the exact p of McNemar.
        p = mcnemar(Pairs(both=0, won=found.won, lost=found.lost, neither=0))
        assert found.p == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize(("k", "photos", "shown"), [(2, 60, True), (2, 6, False), (3, 12, False)])
def test_two_labels_and_too_few_photos(k, photos, shown):
    answers, truth = model(k, photos, 0.9, 5)
    found = order_test(swap(answers, 0, 1, k), truth, k)
    assert found.better is shown
    assert ((0, 1) not in undetectable_pairs(answers, truth, k)) is shown
    if shown:
        assert found.best == (1, 0)


def test_longer_cycles_are_found_too():
    answers, truth = model(16, 512, 0.7, 3)
    order = np.random.default_rng(0).permutation(16)
    found = order_test(np.argsort(order)[answers], truth, 16)
    assert found.better and found.best == tuple(order)


def test_two_labels_that_the_model_takes_for_each_other_cannot_be_shown():
    answers, truth = model(6, 360, 0.9, 4)
    either = np.isin(truth, (1, 4))
    answers[either] = np.random.default_rng(0).choice([1, 4], either.sum())
    assert undetectable_pairs(answers, truth, 6) == [(1, 4)]
    assert not order_test(answers, truth, 6).better


@settings(max_examples=60, deadline=None)
@example(4, 5, 0.25, 0)
@given(st.integers(2, 7), st.integers(2, 14), st.floats(0.1, 1), st.integers(0, 10**6))
def test_undetectable_is_what_the_test_does_not_find_once_they_are_swapped(k, each, accuracy, seed):
    answers, truth = model(k, k * each, accuracy, seed)
    folds = assignment._folds(answers, truth, k, 0)
    if not all(unique(fold.solved) for fold in folds):
        return  # of several orders as good, another may be solved after the swap
    found = undetectable_pairs(answers, truth, k)
    changed = [assignment._changed_by_swap(fold) for fold in folds]
    for a, b in combinations(range(k), 2):
        wanted = order_test(swap(answers, a, b, k), truth, k)
        won, lost = (sum(fold[i][0, a, b] for fold in changed) for i in (0, 1))
        assert (won, lost) == (wanted.won, wanted.lost)
        assert wanted.better is ((a, b) not in found)


def test_a_half_that_cannot_tell_two_labels_shows_nothing_on_the_other():
    truth = np.arange(40) % 2
    half = halves(truth)
    answers = truth.copy()
    answers[np.flatnonzero(half)[:10]] ^= 1  # 10 of its 20 are wrong
    assert undetectable_pairs(answers, truth, 2) == [(0, 1)]
    assert not order_test(1 - answers, truth, 2).better
    assert undetectable_pairs(truth, truth, 2) == []


def unique(counts):
    """Whether any other order has fewer photos right, by the second best of all with one cell
    forbidden."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(counts, maximize=True)
    best = counts[rows, columns].sum()
    for i in rows:
        other = counts.copy()
        other[i, columns[i]] = -(10**6)
        again = linear_sum_assignment(other, maximize=True)
        if other[again].sum() == best:
            return False
    return True


def test_answers_are_the_largest_output_and_none_where_there_is_no_number():
    outputs = np.array([[0.2, 0.8], [0.5, 0.5], [np.nan, 1], [0, np.inf], [-np.inf, 0], [1, 0]])
    assert answers_of(outputs).tolist() == [1, 0, NO_ANSWER, NO_ANSWER, NO_ANSWER, 0]
    none = np.full(20, NO_ANSWER)
    found = order_test(none, np.arange(20) % 2, 2)
    assert (found.right, found.right_best, found.p, found.better) == (0, 0, 1.0, False)
    assert undetectable_pairs(none, np.arange(20) % 2, 2) == [(0, 1)]
