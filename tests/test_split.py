"""The four parts: shares, units kept whole, given parts kept as they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobileclf.scores import PARTS
from mobileclf.split import NEEDED_FIRST, shares, split_class, split_photos, targets
from mobileclf.unions import joined

DEFAULT = shares(0.6)


def test_shares_are_60_10_15_15() -> None:
    assert DEFAULT == pytest.approx(
        {"train": 0.6, "validation": 0.1, "threshold": 0.15, "test": 0.15}
    )
    assert targets(100, 100, DEFAULT) == {
        "train": 60, "validation": 10, "threshold": 15, "test": 15,
    }  # fmt: skip
    assert targets(4, 4, DEFAULT) == dict.fromkeys(PARTS, 1)
    assert targets(3, 3, DEFAULT) == {"train": 1, "validation": 1, "threshold": 0, "test": 1}
    assert targets(2, 2, DEFAULT) == {"train": 1, "validation": 0, "threshold": 0, "test": 1}


def test_a_fifth_held_back_is_shared_out_in_the_same_proportions() -> None:
    assert shares(0.8) == pytest.approx(
        {"train": 0.8, "validation": 0.05, "threshold": 0.075, "test": 0.075}
    )
    assert targets(400, 400, shares(0.8)) == {
        "train": 320, "validation": 20, "threshold": 30, "test": 30,
    }  # fmt: skip


def test_parts_that_are_missing_are_cut_in_proportion_to_train() -> None:
    two = shares(0.6, ["train", "validation", "threshold"])
    assert two == pytest.approx({"train": 60 / 85, "validation": 10 / 85, "threshold": 15 / 85})
    assert shares(0.6, ["train"]) == {"train": 1.0}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=80),
    st.integers(0, 2**31),
    st.sampled_from([PARTS, ("train", "threshold", "test"), ("train", "validation"), ("train",)]),
    st.sampled_from([0.6, 0.8, 0.33]),
)
def test_each_part_gets_its_share_and_units_stay_whole(
    sizes: list[int], seed: int, parts: tuple[str, ...], train_share: float
) -> None:
    units, start = [], 0
    for size in sizes:
        units.append(tuple(range(start, start + size)))
        start += size
    share = shares(train_share, parts)
    split = split_class(units, np.random.default_rng(seed), share)
    assert sorted(split) == list(range(start))
    assert all(len({split[i] for i in unit}) == 1 for unit in units)
    counts = Counter(split.values())
    wanted = targets(start, len(units), share)
    assert sum(wanted.values()) == start
    assert set(counts) == set([part for part in NEEDED_FIRST if part in parts][: len(units)])
    if len(units) >= 4 and max(sizes) == 1:
        assert counts == {part: n for part, n in wanted.items() if n}
    assert all(abs(counts[part] - wanted[part]) <= 3 * max(sizes) for part in parts)


def test_given_parts_stay_and_the_missing_ones_come_from_train() -> None:
    label = {i: "ab"[i % 2] for i in range(200)}
    given_parts = {i: "test" if i < 60 else "train" for i in range(200)}
    units = [(i,) for i in range(200)]
    split = split_photos(label, ["a", "b"], units, given_parts, train_share=0.6, seed=0)
    assert [i for i, part in split.items() if part == "test"] == list(range(60))
    counts = Counter(part for i, part in split.items() if i >= 60)
    assert counts == {"train": 100, "validation": 16, "threshold": 24}
    assert sorted(split) == list(range(200))


def test_a_specimen_with_photos_of_several_classes_stays_in_one_part() -> None:
    label = {i: "abc"[i % 3] for i in range(240)}
    sites = [tuple(range(start, start + 6)) for start in range(0, 120, 6)]
    units = [*sites, *[(i,) for i in range(120, 240)]]
    split = split_photos(label, ["a", "b", "c"], units, {}, train_share=0.6, seed=1)
    assert sorted(split) == list(range(240))
    assert all(len({split[i] for i in site}) == 1 for site in sites)
    for name in "abc":
        counts = Counter(split[i] for i in label if label[i] == name)
        assert counts["train"] == pytest.approx(48, abs=5)
        assert min(counts[part] for part in PARTS) >= 4


def test_what_groups_join_is_one_unit() -> None:
    units = joined(8, [(0, 2), (2, 5), (6, 7), (1,)], [0, 1, 2, 4, 5, 6])
    assert units == [(0, 2, 5), (1,), (4,), (6,)]


def test_photos_added_to_one_class_leave_the_others_as_they_were() -> None:
    label = {i: "a" if i < 40 else "b" for i in range(90)}
    few = {i: name for i, name in label.items() if i < 70}
    one, two = (
        split_photos(x, ["a", "b"], [(i,) for i in x], {}, train_share=0.6, seed=3)
        for x in (label, few)
    )
    assert {i: one[i] for i in range(40)} == {i: two[i] for i in range(40)}
    assert one != {**one, **two}
