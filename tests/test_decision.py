"""The decision rule, its edges and its messages."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mobileclf.decision import (
    NOT_SURE,
    Classes,
    Decision,
    classes_for,
    decision_file,
    group_score,
    possible_verdicts,
    read_decision,
    verdicts,
)
from mobileclf.errors import DataError, UsageError

LABELS = ("a", "b", "c", "d")
GROUPS = ("Good", "Bad", "Fine", "Bad")
GROUPED = Classes(labels=LABELS, groups=GROUPS, harmful="Bad")
PLAIN = Classes(labels=LABELS, groups=(None,) * 4, harmful=None)
BAD = Decision(group="Bad", threshold_q=100, kernel_bound=3)
SURE = Decision(group=None, threshold_q=100, kernel_bound=3)


def rows(*values):
    return np.array(values, dtype=np.uint8)


def test_the_group_score_passes_255():
    assert group_score(rows([0, 200, 0, 100]), GROUPED).tolist() == [300]
    assert verdicts(rows([0, 200, 0, 100]), GROUPED, BAD) == ["Bad"]


def test_harmful_from_the_threshold_on():
    assert verdicts(rows([150, 50, 6, 50], [150, 50, 7, 49]), GROUPED, BAD) == ["Bad", "Good"]


def test_harmless_is_the_largest_sum_and_the_first_on_a_tie():
    photos = rows([20, 9, 30, 9], [30, 9, 30, 9], [31, 9, 30, 9])
    assert verdicts(photos, GROUPED, BAD) == ["Fine", "Good", "Good"]
    turned = Classes(labels=LABELS, groups=("Fine", "Bad", "Good", "Bad"), harmful="Bad")
    assert verdicts(photos, turned, BAD) == ["Good", "Fine", "Fine"]


def test_a_demo_never_says_harmless():
    demo = dataclasses.replace(BAD, purpose="demo")
    assert verdicts(rows([150, 50, 6, 50], [255, 0, 0, 0]), GROUPED, demo) == ["Bad", NOT_SURE]
    assert possible_verdicts(GROUPED, demo) == ("Bad", NOT_SURE)


def test_without_groups_the_largest_output_or_not_sure():
    photos = rows([0, 100, 100, 0], [99, 99, 0, 0], [0, 0, 0, 255])
    wanted = ["b", NOT_SURE, "d"]
    assert verdicts(photos, PLAIN, SURE) == wanted
    assert verdicts(photos, PLAIN, dataclasses.replace(SURE, purpose="demo")) == wanted


def test_possible_verdicts_are_all_and_only_those_given():
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (2000, 4))
    for classes, decision in ((GROUPED, BAD), (PLAIN, SURE)):
        assert set(verdicts(photos, classes, decision)) == set(possible_verdicts(classes, decision))


def test_verdicts_against_loops():
    rng = np.random.default_rng(1)
    for photo in rng.integers(0, 120, (300, 4)).tolist():
        if photo[1] + photo[3] >= 100:
            wanted = "Bad"
        else:
            wanted = "Good" if photo[0] >= photo[2] else "Fine"
        assert verdicts(np.array([photo]), GROUPED, BAD) == [wanted]


def test_groups_want_harmful():
    with pytest.raises(UsageError, match="--harmful.*Good, Bad, Fine"):
        classes_for(LABELS, GROUPS, None)
    with pytest.raises(UsageError, match="'Ugly'.*groups Good, Bad, Fine; classes a, b, c, d"):
        classes_for(LABELS, GROUPS, "Ugly")
    assert classes_for(LABELS, GROUPS, "Bad") == GROUPED


def test_a_named_class_makes_each_label_a_group():
    named = Classes(labels=LABELS, groups=LABELS, harmful="c")
    assert classes_for(LABELS, GROUPS, "c") == named == classes_for(LABELS, (None,) * 4, "c")


def test_two_classes_the_second_by_name_and_it_is_said(capsys):
    classes = classes_for(("dogs", "cats"), (None, None), None)
    assert classes == Classes(labels=("dogs", "cats"), groups=("dogs", "cats"), harmful="dogs")
    assert "harmful: dogs" in capsys.readouterr().err
    assert classes_for(("dogs", "cats"), (None, None), "cats").harmful == "cats"
    assert not capsys.readouterr().err


def test_otherwise_no_groups():
    assert classes_for(LABELS, (None,) * 4, None) == PLAIN


def test_records_go_there_and_back():
    for classes in (GROUPED, PLAIN):
        assert Classes.from_record(classes.as_record()) == classes
    record = BAD.as_record()
    assert record == {
        "group": "Bad", "threshold": 100 / 256, "threshold_q": 100, "abstain": None,
        "kernel_bound": 3,
    }  # fmt: skip
    assert Decision.from_record(record, purpose="real") == BAD


@pytest.mark.parametrize(
    "change",
    [{"threshold_q": 0}, {"threshold_q": 99}, {"threshold_q": 100.0}, {"kernel_bound": -1},
     {"abstain": {"below": 3}}],
)  # fmt: skip
def test_a_broken_decision_is_refused(change):
    with pytest.raises(DataError):
        Decision.from_record({**BAD.as_record(), **change}, purpose="real")
    lacking = {k: v for k, v in BAD.as_record().items() if k not in change}
    with pytest.raises(DataError, match="missing"):
        Decision.from_record(lacking, purpose="real")


def test_a_decision_for_other_classes_is_refused():
    photo = rows([0, 200, 0, 100])
    with pytest.raises(DataError, match="'Bad'"):
        verdicts(photo, GROUPED, SURE)
    with pytest.raises(DataError, match="shape"):
        verdicts(photo[:, :3], GROUPED, BAD)
    with pytest.raises(DataError, match="integers"):
        verdicts(photo / 256, GROUPED, BAD)


def test_half_grouped_classes_are_refused():
    with pytest.raises(DataError):
        Classes(labels=LABELS, groups=("Good", "Bad", None, "Bad"), harmful="Bad")
    with pytest.raises(DataError):
        Classes(labels=LABELS, groups=GROUPS, harmful=None)


def test_a_decision_is_read_back_from_each_record_that_holds_one():
    whole = json.loads(decision_file(GROUPED, BAD))
    assert read_decision(whole) == (GROUPED, BAD)
    apart = {"classes": GROUPED.as_record(), "decision": BAD.as_record(), "purpose": "real"}
    assert read_decision(apart) == (GROUPED, BAD)
    for key in ("decision", "purpose"):
        with pytest.raises(DataError, match=f"wanted the key '{key}', found none"):
            read_decision({k: v for k, v in whole.items() if k != key})
    with pytest.raises(DataError, match="labels and groups: wanted"):
        read_decision({k: v for k, v in whole.items() if k != "labels"})
    with pytest.raises(DataError, match="for the harmful group 'Bad', found one for None"):
        read_decision({**whole, "decision": SURE.as_record()})
