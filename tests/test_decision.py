"""The decision rule, its edges and its messages."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from mobileclf.decision import (
    NOT_SURE,
    Abstain,
    Classes,
    Decision,
    classes_for,
    decision_file,
    group_score,
    not_sure,
    possible_verdicts,
    read_decision,
    sureness,
    to_quanta,
    verdicts,
)
from mobileclf.errors import DataError, UsageError

LABELS = ("a", "b", "c", "d")
GROUPS = ("Good", "Bad", "Fine", "Bad")
GROUPED = Classes(labels=LABELS, groups=GROUPS, harmful="Bad")
PLAIN = Classes(labels=LABELS, groups=(None,) * 4, harmful=None)
BAD = Decision(group="Bad", threshold_q=100, kernel_bound=3)
SURE = Decision(group=None, threshold_q=100, kernel_bound=3)
HELD = dataclasses.replace(BAD, abstain=Abstain(by="margin", cut_q=31))


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


def test_sureness_by_hand():
    photos = rows([150, 40, 6, 50], [7, 0, 7, 0], [0, 0, 0, 255])
    assert sureness(photos, GROUPED, 100, "largest").tolist() == [150, 7, 255]
    assert sureness(photos, GROUPED, 100, "margin").tolist() == [100, 0, 255]
    assert sureness(photos, GROUPED, 100, "score").tolist() == [10, 100, -155]
    assert sureness(photos[:, :1], Classes(labels=("a",), groups=(None,), harmful=None), 1,
                    "margin").tolist() == [150, 7, 0]  # fmt: skip


@pytest.mark.parametrize(
    ("by", "cut_q", "photo"),
    [
        ("largest", 120, [119, 9, 60, 9]),
        ("margin", 31, [90, 9, 60, 9]),
        ("score", 6, [99, 45, 60, 50]),
    ],
)
def test_not_sure_is_sureness_under_the_cut(by, cut_q, photo):
    at = dataclasses.replace(BAD, abstain=Abstain(by=by, cut_q=cut_q))
    assert verdicts(rows(photo), GROUPED, at) == [NOT_SURE]
    surer = dataclasses.replace(BAD, abstain=Abstain(by=by, cut_q=cut_q - 1))
    assert verdicts(rows(photo), GROUPED, surer) == ["Good"]


@pytest.mark.parametrize("by", ["largest", "margin", "score"])
def test_no_rule_takes_a_warning_back(by):
    photos = np.random.default_rng(2).integers(0, 256, (500, 4))
    plain = verdicts(photos, GROUPED, BAD)
    for cut_q in (1, 40, 100):
        held = dataclasses.replace(BAD, abstain=Abstain(by=by, cut_q=cut_q))
        for was, now in zip(plain, verdicts(photos, GROUPED, held), strict=True):
            assert now == was or (now == NOT_SURE and was != "Bad")


def test_verdicts_with_a_rule_against_loops():
    rng = np.random.default_rng(3)
    for demo in ("real", "demo"):
        for by, cut_q in (("largest", 70), ("margin", 15), ("score", 40), ("score", 1)):
            rule = Abstain(by=by, cut_q=cut_q)
            decision = dataclasses.replace(BAD, abstain=rule, purpose=demo)
            photos = rng.integers(0, 120, (300, 4))
            wanted = []
            for photo in photos.tolist():
                ranked = sorted(photo)
                sure = {"largest": ranked[3], "margin": ranked[3] - ranked[2],
                        "score": 100 - photo[1] - photo[3]}[by]  # fmt: skip
                if photo[1] + photo[3] >= 100:
                    wanted.append("Bad")
                elif demo == "demo" or sure < cut_q:
                    wanted.append(NOT_SURE)
                else:
                    wanted.append("Good" if photo[0] >= photo[2] else "Fine")
            assert verdicts(photos, GROUPED, decision) == wanted
            assert set(wanted) == set(possible_verdicts(GROUPED, decision))
            held = [verdict == NOT_SURE for verdict in wanted]
            assert not_sure(photos, GROUPED, decision).tolist() == held


def test_not_sure_without_groups_is_under_the_minimum():
    photos = rows([0, 100, 100, 0], [99, 99, 0, 0])
    assert not_sure(photos, PLAIN, SURE).tolist() == [False, True]
    assert not_sure(photos, GROUPED, BAD).tolist() == [False, False]


@pytest.mark.parametrize("classes", [GROUPED, PLAIN])
def test_a_threshold_that_the_outputs_cannot_reach_is_refused(classes):
    most = 510 if classes is GROUPED else 255
    kind = "called Bad, the harmful one" if classes is GROUPED else "sure"
    last = Decision(group=classes.harmful, threshold_q=most, kernel_bound=0)
    over = dataclasses.replace(last, threshold_q=most + 1)
    photo = rows([255, 255, 255, 255])
    assert verdicts(photo, classes, last) == [classes.harmful or "a"]
    said = f"at most {most}, .* found {most + 1}: no photo would ever be {kind}"
    whole = json.loads(decision_file(classes, over))
    for refused in (
        lambda: verdicts(photo, classes, over),
        lambda: not_sure(photo, classes, over),
        lambda: possible_verdicts(classes, over),
        lambda: read_decision(whole),
    ):
        with pytest.raises(DataError, match=said):
            refused()


def test_probabilities_become_what_a_byte_can_hold():
    found = to_quanta(np.array([0, 0.5 / 256, 0.6 / 256, 0.37, 254.6 / 256, 1.0]))
    assert found.tolist() == [0, 0, 1, 95, 255, 255]


def test_possible_verdicts_are_all_and_only_those_given():
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 256, (2000, 4))
    for classes, decision in ((GROUPED, BAD), (GROUPED, HELD), (PLAIN, SURE)):
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
    held = HELD.as_record()
    assert held == {**record, "abstain": {"by": "margin", "cut": 31 / 256, "cut_q": 31}}
    assert Decision.from_record(json.loads(json.dumps(held)), purpose="real") == HELD
    assert read_decision(json.loads(decision_file(GROUPED, HELD))) == (GROUPED, HELD)
    assert decision_file(GROUPED, HELD) != decision_file(GROUPED, BAD)


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


ABSTAIN = {"by": "score", "cut": 31 / 256, "cut_q": 31}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ([], "wanted by, cut and cut_q, or null; found"),
        (31, "wanted by, cut and cut_q, or null; found"),
        ({**ABSTAIN, "above": 1}, "'above': 1}; update mobileclf"),
        ({"by": "score", "cut_q": 31}, "wanted by, cut and cut_q"),
        ({**ABSTAIN, "by": "entropy"}, "wanted by one of largest, margin, score, found 'entropy'"),
        ({**ABSTAIN, "by": ["score"]}, "found .'score'.; update"),
        ({**ABSTAIN, "cut_q": 30}, "found 30 and 0.12109375"),
        ({**ABSTAIN, "cut": "0.1"}, "found 31 and '0.1'"),
        ({**ABSTAIN, "cut": None}, "found 31 and None"),
        ({**ABSTAIN, "cut_q": 31.0}, "found 31.0"),
        ({"by": "margin", "cut": True, "cut_q": 256}, "found 256 and True"),
        ({"by": "margin", "cut": 1.0, "cut_q": 256}, "from 1 to 255, found 'margin' and 256"),
        ({"by": "largest", "cut": 0, "cut_q": 0}, "from 1 to 255, found 'largest' and 0"),
        ({"by": "score", "cut": 0, "cut_q": 0}, "found 'score' and 0"),
        ({"by": "score", "cut": 101 / 256, "cut_q": 101}, "the threshold_q, 100, by score; found"),
    ],
)
def test_a_broken_abstain_rule_is_refused(rule, said):
    with pytest.raises(DataError, match=said):
        Decision.from_record({**BAD.as_record(), "abstain": rule}, purpose="real")
    whole = {**json.loads(decision_file(GROUPED, BAD)), "abstain": None}
    with pytest.raises(DataError, match=said):
        read_decision({**whole, "decision": {**BAD.as_record(), "abstain": rule}})


def test_without_groups_there_is_no_abstain_rule():
    with pytest.raises(DataError, match="no abstain rule without a harmful group"):
        Decision.from_record({**SURE.as_record(), "abstain": ABSTAIN}, purpose="real")


def test_a_score_may_be_asked_to_lie_as_far_under_the_threshold_as_it_can():
    last = dataclasses.replace(BAD, abstain=Abstain(by="score", cut_q=100))
    assert verdicts(rows([9, 0, 0, 0], [9, 1, 0, 0]), GROUPED, last) == ["Good", NOT_SURE]


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
