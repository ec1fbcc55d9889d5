"""Energy and largest logit against loops, and what they see that a softmax does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mobileclf.stats.outliers import energy, max_logit, separation

LOGITS = st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=9)


@given(LOGITS)
def test_energy_and_largest_logit_against_loops(rows):
    logits = np.array(rows)
    for row, e, top in zip(rows, energy(logits), max_logit(logits), strict=True):
        assert e == pytest.approx(math.log(sum(map(math.exp, row))), abs=1e-9)
        assert top == max(row)
        # One number added to all logits: no softmax sees it, these do.
    np.testing.assert_allclose(energy(logits + 3), energy(logits) + 3)


def test_large_logits_do_not_overflow():
    assert energy(np.float32([[1000, 0], [-1000, -1000]])).tolist() == pytest.approx(
        [1000, math.log(2) - 1000]
    )
    assert energy(np.float32([[1, 2]])).dtype == max_logit(np.float32([[1, 2]])).dtype == np.float64


values = st.lists(st.integers(0, 5), min_size=1, max_size=20)


@given(values, values)
def test_separation_is_the_chance_to_outscore(inside, outside):
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside]
    found = separation(np.array(inside), np.array(outside))
    assert found == pytest.approx(sum(wins) / len(wins))
    truth = [1] * len(inside) + [0] * len(outside)
    assert found == pytest.approx(roc_auc_score(truth, inside + outside))


def test_separation_of_nothing():
    some, none = np.arange(3.0), np.zeros(0)
    assert separation(some, none) is None and separation(none, some) is None


def test_larger_is_more_like_the_classes():
    rng = np.random.default_rng(0)
    inside = rng.normal(0, 1, (200, 4))
    inside[np.arange(200), rng.integers(0, 4, 200)] += 8
    outside = rng.normal(0, 1, (200, 4))
    for measure in (energy, max_logit):
        assert separation(measure(inside), measure(outside)) > 0.95
