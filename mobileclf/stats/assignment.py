"""Which label each output of a model stands for, solved from photos whose labels are known.

counts[i, j]: photos of label j that the model answers with output i. An order is a permutation:
order[i] is the label of output i, and the given order is the identity. numpy, and scipy inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.01
TABLES = 2  # the counts, and those by chance
NO_ANSWER = -1  # of a photo whose outputs are no numbers; it is never right


@dataclass(frozen=True, kw_only=True)
class OrderTest:
    """Whether these photos show that another order than the given one is meant.

    right: photos right under the given order. best: the order with the most right, right_best so
    many. won, lost: photos that only a solved order, or only the given one, gets right, where the
    order was solved on other photos. p: two-sided. better: won > lost and p < LEVEL.
    """

    photos: int
    right: int
    best: tuple[int, ...]
    right_best: int
    won: int
    lost: int
    p: float

    @property
    def better(self) -> bool:
        return self.won > self.lost and self.p < LEVEL


def answers_of(outputs: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Index of the largest output of each photo, the lower on a tie; NO_ANSWER where one is NaN or
    infinite. outputs: (n, k). int64 (n,)."""
    finite = np.isfinite(outputs).all(axis=1)
    return np.where(finite, np.argmax(outputs, axis=1), NO_ANSWER)


def best_order(answers: NDArray[np.int64], truth: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The order with the most photos right, by the assignment problem (Kuhn 1955, "The Hungarian
    method"); of several, one that agrees with the given order at the most outputs. int64 (k,).

    answers: (n,), 0..k-1 or NO_ANSWER. truth: (n,), 0..k-1. k: labels, at least 1.
    """
    return _solved(_counts(answers, truth, k))


def halves(truth: NDArray[np.int64], seed: int = 0) -> NDArray[np.bool_]:
    """A seeded half of the photos, stratified by label: of each label half, to within one photo.
    bool (n,)."""
    shuffled = np.random.default_rng(seed).permutation(len(truth))
    by_label = shuffled[np.argsort(truth[shuffled], kind="stable")]
    half = np.zeros(len(truth), dtype=np.bool_)
    half[by_label[::2]] = True
    return half


def cross_fitted(
    answers: NDArray[np.int64], truth: NDArray[np.int64], k: int, *, seed: int = 0
) -> NDArray[np.bool_]:
    """Whether each photo is right under the best order of the other half of the photos. bool (n,).

    So a model that knows nothing gains nothing from the freedom to choose an order.
    """
    half = halves(truth, seed)
    right = np.zeros(len(truth), dtype=np.bool_)
    for judged in (half, ~half):
        order = best_order(answers[~judged], truth[~judged], k)
        # NO_ANSWER indexes the last one, so it is taken out apart.
        right[judged] = order[answers[judged]] == truth[judged]
    return right & (answers != NO_ANSWER)


def order_test(
    answers: NDArray[np.int64], truth: NDArray[np.int64], k: int, *, seed: int = 0
) -> OrderTest:
    """Cross-fitted McNemar: the order is solved on one half of the photos and judged against the
    given one on the other, both ways round, and the photos that changed are pooled.

    Solved and judged on the same photos, the best order of any model would win. And a model that
    gives one answer to everything wins by the order that puts the most frequent label there. So
    won and lost are held against the larger of 1/2 and the share of changed photos that would be
    won if answers had nothing to do with labels. Where labels are even that is 1/2 and p is
    McNemar's exact one; a label with far fewer photos than another is harder to tell from it.
    """
    counts = _counts(answers, truth, k)
    best = _solved(counts)
    won, lost = np.zeros((2, TABLES))
    for fold in _folds(answers, truth, k, seed):
        for total, changed in zip((won, lost), _changed(fold), strict=True):
            total += changed
    return OrderTest(
        photos=len(truth),
        right=int(np.trace(counts)),
        best=tuple(map(int, best)),
        right_best=int(counts[np.arange(k), best].sum()),
        won=int(won[0]),
        lost=int(lost[0]),
        p=float(_p(won, lost)),
    )


def undetectable_pairs(
    answers: NDArray[np.int64], truth: NDArray[np.int64], k: int, *, seed: int = 0
) -> list[tuple[int, int]]:
    """The pairs of labels a < b whose swap `order_test` would not show with these very photos.

    If the given order is right and one with a and b swapped had been given in its place, the
    photos right now, counts[a, a] + counts[b, b], would be won, and those that are taken for the
    other of the two, counts[a, b] + counts[b, a], lost. That is put through the test itself, for
    all pairs at once: to swap two labels of the given order is to swap two rows of the counts,
    and with them two places of the order that is solved, so nothing is solved again.
    """
    won, lost = np.zeros((2, TABLES, k, k))
    for fold in _folds(answers, truth, k, seed):
        for total, changed in zip((won, lost), _changed_by_swap(fold), strict=True):
            total += changed
    shown = (won[0] > lost[0]) & (_p(won, lost) < LEVEL)
    a, b = np.nonzero(np.triu(~shown, k=1))
    return list(zip(a.tolist(), b.tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class _Fold:
    """solved: counts of one half, (k, k). order: solved on them, (k,). judged: (TABLES, k, k), the
    counts of the other half, and what they would be, on average, if answers had nothing to do
    with labels."""

    solved: NDArray[np.int64]
    order: NDArray[np.int64]
    judged: NDArray[np.float64]


def _folds(
    answers: NDArray[np.int64], truth: NDArray[np.int64], k: int, seed: int
) -> tuple[_Fold, _Fold]:
    half = halves(truth, seed)
    one, two = (_counts(answers[part], truth[part], k) for part in (half, ~half))
    return _fold(one, two), _fold(two, one)


def _fold(solved: NDArray[np.int64], judged: NDArray[np.int64]) -> _Fold:
    margins = np.outer(judged.sum(axis=1), judged.sum(axis=0))
    by_chance = margins / max(int(judged.sum()), 1)
    return _Fold(solved=solved, order=_solved(solved), judged=np.stack([judged, by_chance]))


def _counts(answers: NDArray[np.int64], truth: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """int64 (k, k): photos by answer and label; those without an answer are in none."""
    some = answers != NO_ANSWER
    cells = answers[some] * k + truth[some]
    return np.bincount(cells, minlength=k * k).reshape(k, k).astype(np.int64)


def _solved(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment

    k = len(counts)
    # One photo more outweighs agreeing with the given order at all k outputs.
    weights = counts * (k + 1) + np.eye(k, dtype=np.int64)
    return np.asarray(linear_sum_assignment(weights, maximize=True)[1], dtype=np.int64)


def _changed(fold: _Fold) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Photos that the solved order wins and loses against the given one. (TABLES,) each."""
    order = fold.order
    rows = np.flatnonzero(order != np.arange(len(order)))
    won, lost = fold.judged[:, rows, order[rows]], fold.judged[:, rows, rows]
    return won.sum(axis=1), lost.sum(axis=1)


def _changed_by_swap(fold: _Fold) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same for each pair (a, b) against the given order with a and b swapped. (TABLES, k, k)
    each.

    Only the rows a and b are others than in `_changed`: a is held against label b, b against a.
    """
    places, order, judged, solved = np.arange(len(fold.order)), fold.order, fold.judged, fold.solved
    best = solved[places, order]
    # Where both stand at their places and would do as well exchanged, the order as it is then given
    # is kept, and nothing changes at either place.
    home = order == places
    found = ~(home[:, None] & home & (best[:, None] + best <= solved + solved.T))
    elsewhere = found & (order[:, None] != places)
    before = order != places
    own, given = judged[:, places, order], judged[:, places, places]
    won = elsewhere * own[:, :, None] - (before * own)[:, :, None]
    lost = elsewhere * judged - (before * given)[:, :, None]
    all_won, all_lost = (total[:, None, None] for total in _changed(fold))
    return all_won + won + won.swapaxes(1, 2), all_lost + lost + lost.swapaxes(1, 2)


def _p(won: NDArray[np.float64], lost: NDArray[np.float64]) -> NDArray[np.float64]:
    """As in `order_test`, (...) of (TABLES, ...); 1 where nothing changed."""
    from scipy.stats import binom

    changed = won + lost
    share = np.divide(won[1], changed[1], out=np.full_like(won[1], 0.5), where=changed[1] > 0)
    tail = binom.cdf(np.minimum(won[0], lost[0]), changed[0], 1 - np.maximum(share, 0.5))
    return np.asarray(np.minimum(1.0, 2 * tail))
