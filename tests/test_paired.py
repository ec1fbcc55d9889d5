"""Paired intervals and tests against published values, slow oracles and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from mobileclf.stats.paired import (
    Pairs,
    beats_majority,
    bootstrap,
    count_pairs,
    holm,
    mcnemar,
    newcombe,
    outcome,
    photos_to_prove,
    wilson,
)


def table(both, won, lost, neither):
    return Pairs(both=both, won=won, lost=lost, neither=neither)


def random_tables(count=200):
    rng = np.random.default_rng(3)
    for _ in range(count):
        yield table(*rng.integers(0, rng.integers(2, 60), 4).tolist()[:3], int(rng.integers(1, 9)))


def slow_newcombe(pairs):
    """Method 10 written out by roots: Wilson limits solve (p - q)^2 = z^2 q (1 - q) / n."""
    z, n = 1.959963984540054, pairs.n

    def limits(k):
        p = k / n
        a, b, c = 1 + z * z / n, -(2 * p + z * z / n), p * p
        root = math.sqrt(max(b * b - 4 * a * c, 0))
        return (-b - root) / (2 * a), (-b + root) / (2 * a)

    x, y = pairs.both + pairs.won, pairs.both + pairs.lost
    (lx, ux), (ly, uy) = limits(x), limits(y)
    e, f, g, h = pairs.both, pairs.won, pairs.lost, pairs.neither
    denominator = math.sqrt((e + f) * (g + h) * (e + g) * (f + h))
    top = e * h - f * g
    top = top - n / 2 if top > n / 2 else 0 if top > 0 else top
    phi = top / denominator if denominator else 0
    dx, ex, dy, ey = x / n - lx, ux - x / n, y / n - ly, uy - y / n
    delta = math.sqrt(dx**2 - 2 * phi * dx * ey + ey**2)
    epsilon = math.sqrt(ex**2 - 2 * phi * ex * dy + dy**2)
    return (x - y) / n - delta, (x - y) / n + epsilon


def test_wilson_is_scipys():
    for right, n in ((0, 7), (3, 7), (7, 7), (150, 188)):
        found = binomtest(right, n).proportion_ci(method="wilson")
        assert wilson(right, n) == pytest.approx((found.low, found.high), abs=1e-12)


def test_newcombe_against_published_values():
    # Bentur et al. 2009, airway hyper-responsiveness, as in Fagerland, Lydersen and Laake 2014.
    assert newcombe(table(1, 1, 7, 12)) == pytest.approx((-0.507, -0.026), abs=5e-4)


def test_newcombe_against_a_slow_oracle():
    for pairs in random_tables():
        assert newcombe(pairs) == pytest.approx(slow_newcombe(pairs), abs=1e-9)


def test_newcombe_is_antisymmetric_and_holds_the_estimate():
    for pairs in random_tables():
        low, high = newcombe(pairs)
        swapped = newcombe(table(pairs.both, pairs.lost, pairs.won, pairs.neither))
        assert swapped == pytest.approx((-high, -low), abs=1e-12)
        assert -1 <= low <= pairs.difference + 1e-12 and pairs.difference - 1e-12 <= high <= 1


def test_pairs_are_counted():
    first = np.array([1, 1, 1, 0, 0, 1], dtype=bool)
    second = np.array([1, 1, 0, 1, 0, 0], dtype=bool)
    pairs = count_pairs(first, second)
    assert (pairs.both, pairs.won, pairs.lost, pairs.neither) == (2, 1, 2, 1)
    assert pairs.difference == pytest.approx(second.mean() - first.mean())


def test_each_unit_counts_one():
    first = np.array([1, 1, 1, 0, 0, 1], dtype=bool)
    second = np.array([1, 1, 0, 1, 0, 0], dtype=bool)
    pairs = count_pairs(first, second, np.array([7, 7, 7, 3, 3, 5]))
    found = (pairs.both, pairs.won, pairs.lost, pairs.neither, pairs.n)
    assert found == pytest.approx((2 / 3, 1 / 2, 1 / 3 + 1, 1 / 2, 3))
    assert count_pairs(first, second, np.arange(6)) == count_pairs(first, second)
    # Copies of every photo, and copies of one: as if there were one of each.
    for times in (np.full(6, 3), np.array([1, 1, 9, 1, 1, 1])):
        photo = np.repeat(np.arange(6), times)
        copied = count_pairs(first[photo], second[photo], photo)
        assert newcombe(copied) == pytest.approx(newcombe(count_pairs(first, second)))


def specimens(n, limit, together, *, photos=3):
    """Outcomes and p of draws at a true drop of exactly `limit`, n specimens of `photos` each:
    the photos of one change together, or each with a chance of its own."""
    rng, unit = np.random.default_rng(14), np.repeat(np.arange(n), photos)
    chances = np.array([0.93 - limit, 0.01, 0.01 + limit, 0.05])
    for _ in range(2000):
        kind = rng.choice(4, n if together else n * photos, p=chances)
        kind = np.repeat(kind, photos) if together else kind
        first, second = np.isin(kind, (0, 2)), np.isin(kind, (0, 1))
        pairs = count_pairs(first, second, unit)
        yield (
            outcome(pairs, limit or 0.01),
            mcnemar(pairs),
            outcome(count_pairs(first, second), limit),
        )


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("n", "limit"), [(60, 0.02), (130, 0.01), (300, 0.01)])
def test_each_outcome_errs_rarely_with_photos_of_one_specimen(n, limit, together):
    found = list(specimens(n, limit, together))
    for wrong in ("proven", "worse"):
        assert np.mean([one == wrong for one, *_ in found]) < 0.035
    if together:  # which is what the units are there for: by photos it errs
        assert np.mean([blind != "not shown" for *_, blind in found]) > 0.1


@pytest.mark.parametrize("together", [True, False])
def test_mcnemar_errs_rarely_with_photos_of_one_specimen(together):
    assert np.mean([p < 0.05 for _, p, _ in specimens(200, 0.0, together)]) < 0.05


def test_mcnemar_of_fractions_is_on_the_safe_side():
    for won, lost in ((1.5, 6.5), (0.4, 5.9), (2.0, 7.3), (1.2, 1.4), (0.0, 0.9)):
        whole = [(a, b) for a in (math.floor(won), math.ceil(won))
                 for b in (math.floor(lost), math.ceil(lost))]  # fmt: skip
        largest = max(mcnemar(table(9, *each, 9)) for each in whole)
        assert mcnemar(table(9, won, lost, 9)) == pytest.approx(largest)
    thirds = sum([1 / 3] * 6), sum([1 / 3] * 21)  # 2 and 7, but for rounding
    assert mcnemar(table(9, *thirds, 9)) == mcnemar(table(9, 2, 7, 9))


def test_outcomes():
    assert outcome(table(900, 0, 0, 100), 0.01) == "proven"
    assert outcome(table(177, 2, 1, 8), 0.01) == "not shown"
    assert outcome(table(100, 0, 60, 28), 0.01) == "worse"
    # Just on either side of the bounds.
    pairs = table(150, 1, 9, 28)
    low, high = newcombe(pairs)
    assert outcome(pairs, -low) == "proven" and outcome(pairs, -low - 1e-9) == "not shown"
    assert high < 0
    assert outcome(pairs, -high) == "not shown" and outcome(pairs, -high - 1e-9) == "worse"


@pytest.mark.parametrize("pairs", [table(177, 2, 1, 8), table(90, 0, 0, 10), table(40, 3, 3, 4)])
def test_photos_to_prove_is_the_fewest(pairs):
    needed = photos_to_prove(pairs, 0.01)
    assert needed is not None and needed > pairs.n

    def at(n):
        k = n / pairs.n
        return table(pairs.both * k, pairs.won * k, pairs.lost * k, pairs.neither * k)

    assert outcome(at(needed), 0.01) == "proven" and outcome(at(needed - 1), 0.01) != "proven"


def test_no_number_of_photos_proves_a_drop_seen():
    assert photos_to_prove(table(90, 0, 1, 9), 0.01) is None
    assert photos_to_prove(table(90, 0, 1, 9), 0.02) is not None


# Of accuracy, and of harmful photos caught: few photos, nearly all right, a small limit.
SIMULATED = [
    (400, 0.05, (0.80, 0.02, 0.07, 0.11)),
    (141, 0.01, (0.93, 0.01, 0.02, 0.04)),
    (1000, 0.01, (0.97, 0.005, 0.015, 0.01)),
]


@pytest.mark.parametrize(("n", "limit", "chances"), SIMULATED)
def test_each_outcome_errs_rarely(n, limit, chances):
    """At a true drop of exactly the limit "proven" and "worse" are wrong to come up, each in 2.5 %
    of draws; the interval is an approximation, and may stand a little over that."""
    draws = np.random.default_rng(11).multinomial(n, chances, size=4000)
    found = [outcome(table(*row.tolist()), limit) for row in draws]
    assert found.count("proven") / len(found) < 0.035
    assert found.count("worse") / len(found) < 0.035
    assert found.count("not shown") / len(found) > 0.93


def test_outcomes_come_up_when_they_are_true():
    """A rule that never says anything would pass the test above."""
    rng = np.random.default_rng(12)
    same = rng.multinomial(4000, (0.95, 0.004, 0.004, 0.042), size=200)
    broken = rng.multinomial(188, (0.80, 0.01, 0.12, 0.07), size=200)
    assert sum(outcome(table(*row.tolist()), 0.01) == "proven" for row in same) > 190
    assert sum(outcome(table(*row.tolist()), 0.01) == "worse" for row in broken) > 190


def test_bootstrap_is_redrawn_photos():
    """Against photos redrawn one by one."""
    pairs = table(60, 6, 11, 13)
    changes = np.repeat([0, 1, -1, 0], [60, 6, 11, 13])
    rng = np.random.default_rng(5)
    drawn = [rng.choice(changes, len(changes)).mean() for _ in range(20_000)]
    assert bootstrap(pairs) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.006)
    assert bootstrap(pairs) == bootstrap(pairs)
    assert bootstrap(table(90, 0, 0, 10)) == (0, 0)
    low, high = bootstrap(pairs, level=0.5)
    assert bootstrap(pairs)[0] < low < pairs.difference < high < bootstrap(pairs)[1]


def test_holm_by_hand_and_step_by_step():
    assert holm([]) == [] and holm([0.2]) == [0.2]
    # Holm 1979: 0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06 as well, then 0.9.
    assert holm([0.02, 0.9, 0.01, 0.03]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    rng = np.random.default_rng(6)
    for _ in range(50):
        p = (rng.random(6) ** 3).tolist()
        for level in (0.01, 0.05, 0.2, 0.5):
            rejected, left = set(), sorted(range(6), key=lambda i: p[i])
            while left and p[left[0]] <= level / len(left):
                rejected.add(left.pop(0))
            assert {i for i, one in enumerate(holm(p)) if one <= level} == rejected


def test_holm_errs_no_more_often_than_one_test():
    """Sixteen classes in which nothing changed but by chance."""
    rng = np.random.default_rng(7)
    wrong = 0
    for _ in range(1500):
        rows = rng.multinomial(60, (0.85, 0.05, 0.05, 0.05), size=16)
        wrong += min(holm([mcnemar(table(*row.tolist())) for row in rows])) < 0.05
    assert wrong / 1500 < 0.06
    alone = rng.multinomial(60, (0.85, 0.05, 0.05, 0.05), size=(300, 16))
    some = [min(mcnemar(table(*row.tolist())) for row in rows) < 0.05 for rows in alone]
    assert np.mean(some) > 0.15  # which is what the correction is there for


def test_mcnemar_is_the_exact_binomial():
    for won in range(8):
        for lost in range(8):
            wanted = binomtest(won, won + lost).pvalue if won + lost else 1.0
            assert mcnemar(table(50, won, lost, 5)) == pytest.approx(wanted, abs=1e-12)


def test_beats_majority_is_the_exact_binomial():
    truth = np.repeat([0, 1, 2], [20, 15, 15])
    right = np.arange(50) < 30
    share, p = beats_majority(right, truth)
    assert share == 0.4
    assert p == pytest.approx(binomtest(30, 50, 0.4, alternative="greater").pvalue)
    assert beats_majority(np.ones(9, bool), np.zeros(9, int)) == (1.0, 1.0)
