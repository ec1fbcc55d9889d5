"""How pixels become the input, tried on photos: what is proposed, and what is held against it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mobileclf.errors import DataError
from mobileclf.images.preprocess import NAMED, preprocess_of
from mobileclf.importing.trial import candidates, check_given, propose, run

K, N = 4, 200
TRUTH = np.arange(N) % K
WAYS = candidates(3)


def outputs(accuracy, seed, *, k=K, truth=TRUTH, order=None):
    """Scores whose largest is right so often, by an order of the labels."""
    rng = np.random.default_rng(seed)
    answers = np.where(rng.random(len(truth)) < accuracy, truth, rng.integers(0, k, len(truth)))
    scores = rng.uniform(0, 0.5, (len(truth), k))
    at = answers if order is None else np.argsort(order)[answers]
    scores[np.arange(len(truth)), at] = 0.9
    return scores


def tried(accuracies, *, truth=TRUTH, order=None, ways=WAYS):
    scores = {
        how.name: outputs(accuracy, i, truth=truth, order=order)
        for i, (how, accuracy) in enumerate(zip(ways, accuracies, strict=True))
    }
    return run(lambda how: scores[how.name], ways, truth)


def test_grey_has_only_what_is_the_same_for_each_channel():
    assert [how.name for how in candidates(3)] == ["0..255", "0..1", "-1..1", "caffe", "torch"]
    assert [how.name for how in candidates(1)] == ["0..255", "0..1", "-1..1"]


def test_a_clear_winner_is_proposed():
    found = tried([0.1, 0.4, 0.95, 0.0, 0.6])
    assert found.clear and found.ranked[0].how.name == "-1..1" and found.p < 1e-6
    said = propose(found)
    assert said.startswith("wanted to know how pixels become its input, and nothing in it says so;")
    assert "-1..1 is clearly best (p = " in said and "give --preprocess -1..1" in said
    for how in WAYS:
        assert f" as {how.name}" in said
    assert found.as_record()["accuracy"]["-1..1"] == found.ranked[0].accuracy > 0.9
    assert found.as_record()["clear"] is True and found.as_record()["photos"] == N


def test_a_wrong_order_of_the_labels_does_not_hide_it():
    # Each label at the next output: under the order as given, hardly any photo is right.
    found = tried([0.1, 0.4, 0.95, 0.0, 0.6], order=np.roll(np.arange(K), 1))
    assert found.clear and found.ranked[0].how.name == "-1..1"
    assert found.ranked[0].accuracy > 0.9
    assert (found.ranked[0].answers == TRUTH).mean() < 0.1


@pytest.mark.parametrize(
    "accuracies", [[0, 0, 0, 0, 0], [0.2, 0.9, 0.2, 0.2, 0.9], [0.0, 0.7, 0.74, 0, 0]]
)
def test_where_none_is_clear_none_is_proposed(accuracies):
    found = tried(accuracies)
    assert not found.clear
    said = propose(found)
    assert "none is clearly best (the most frequent label alone has 25%)" in said
    assert (
        said.endswith("give --preprocess as it was trained") and "give --preprocess -" not in said
    )


def test_the_most_frequent_label_alone_proves_nothing():
    truth = np.where(np.arange(N) % 10, 0, 1)
    always = np.tile([0.9, 0.1], (N, 1))
    rng = np.random.default_rng(0)
    scores = {"0..255": always, "0..1": rng.random((N, 2)), "-1..1": rng.random((N, 2))}
    found = run(lambda how: scores[how.name], candidates(1), truth)
    assert found.ranked[0].how.name == "0..255" and found.p < 0.01 and not found.clear
    check_given(found, NAMED["0..1"], "--preprocess")  # is beaten, but by a constant


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_right(bad):
    scores = {how.name: outputs(0.9, 1) for how in WAYS}
    scores["0..255"] = np.full((N, K), bad)
    found = run(lambda how: scores[how.name], WAYS, TRUTH)
    assert found.tried[0].accuracy == 0 and found.ranked[-1].how.name == "0..255"
    everywhere = run(lambda how: np.full((N, K), bad), WAYS, TRUTH)
    assert not everywhere.clear and everywhere.p == 1
    check_given(everywhere, WAYS[0], "--preprocess")


def test_a_given_way_that_another_beats_is_refused_with_figures():
    found = tried([0.3, 0.9, 0.4, 0.0, 0.5])
    with pytest.raises(DataError) as caught:
        check_given(found, NAMED["torch"], "--preprocess")
    said, right = str(caught.value), {one.how.name: f"{one.accuracy:.1%}" for one in found.tried}
    assert caught.value.exit_code == 4
    assert f"0..1 has {right['0..1']} of 200 photos right and torch {right['torch']}" in said
    assert "pixels as torch (--preprocess): wanted" in said and said.endswith(
        "or give --preprocess 0..1"
    )
    check_given(found, NAMED["0..1"], "--preprocess")


def test_a_way_of_ones_own_is_held_against_the_usual_ones():
    own = preprocess_of("120,60")
    good, bad = tried([0.9, 0.2, 0.3], ways=(own, *WAYS[:2])), (own, *WAYS[:2])
    check_given(good, own, "--preprocess")
    with pytest.raises(
        DataError, match="pixels as 120,60 .--preprocess.: wanted .* found that 0..1 has"
    ):
        check_given(tried([0.2, 0.2, 0.9], ways=bad), own, "--preprocess")


def test_nearly_the_same_answers_are_no_evidence():
    scores = outputs(0.8, 2)
    better = scores.copy()
    wrong = np.flatnonzero(scores.argmax(axis=1) != TRUTH)
    ways = candidates(1)

    def with_right(count):
        better[:] = scores
        better[wrong[:count], TRUTH[wrong[:count]]] = 2
        by_name = {"0..255": scores, "0..1": better, "-1..1": outputs(0, 3)}
        return run(lambda how: by_name[how.name], ways, TRUTH)

    found = with_right(10)  # 5 % of 200; all of them won, so that p alone would do
    right = [one.right for one in found.tried]
    assert (right[1] & ~right[0]).sum() >= 9 and not (right[0] & ~right[1]).any()
    check_given(found, ways[0], "--preprocess")
    with pytest.raises(DataError):
        check_given(with_right(12), ways[0], "--preprocess")


def test_a_rival_has_to_win_by_more_the_more_of_them_there_are():
    scores, truth, many = outputs(0.5, 4), TRUTH, candidates(3)
    wrong = np.flatnonzero(scores.argmax(axis=1) != truth)
    right = np.flatnonzero(scores.argmax(axis=1) == truth)
    rival = scores.copy()
    rival[wrong[:30], truth[wrong[:30]]] = 2
    rival[right[:12], (truth[right[:12]] + 1) % K] = 2  # 30 won, 12 lost: p = 0.008
    others = {how.name: outputs(0, 5) for how in many} | {"0..255": scores, "0..1": rival}
    with pytest.raises(DataError, match=r"p = 0\.008"):
        check_given(run(lambda how: others[how.name], many[:2], truth), many[0], "--preprocess")
    check_given(run(lambda how: others[how.name], many, truth), many[0], "--preprocess")


def test_given_rightly_it_is_hardly_ever_refused_though_all_are_as_good():
    rng, refused = np.random.default_rng(1), 0
    for _ in range(200):
        scores = {how.name: outputs(0.6, int(rng.integers(2**31))) for how in WAYS}
        try:
            check_given(
                run(lambda how, s=scores: s[how.name], WAYS, TRUTH), WAYS[2], "--preprocess"
            )
        except DataError:
            refused += 1
    assert refused <= 2


def test_one_way_alone_and_none_at_all():
    alone = run(lambda how: outputs(0.9, 0), WAYS[:1], TRUTH)
    assert not alone.clear  # there is nothing that it is better than
    assert "0..255 is the only usual way that fits it, and 89% of 200 photos" in propose(alone)
    none = run(lambda how: outputs(0.9, 0), (), TRUTH)
    assert propose(none).endswith("none of the usual ways fits it: give --preprocess as it was "
                                  "trained")  # fmt: skip
