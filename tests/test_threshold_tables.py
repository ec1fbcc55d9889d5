"""What is shown and written of a threshold: tables, the bundle's pages, docs/threshold.md."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mobileclf.report.curves import not_sure_words
from mobileclf.report.threshold import guarantee_words, policy_words, threshold_tables
from mobileclf.settings import ABSTAINS, POLICIES, Settings
from mobileclf.spelling import costs_of
from mobileclf.stats.guarantee import photos_needed
from tests.test_figures import threshold_record

PAGE = (Path(__file__).parent.parent / "docs" / "threshold.md").read_text()
PROMISE = {
    "threshold_q": 32, "most": 0.05, "confidence": 0.95, "kernels": ["xnnpack", "builtin"],
    "harmful": 124, "missed": 2, "bound": 0.0499, "harmless": 41, "passed": 22,
    "test": {"harmful": 120, "missed": 1, "at_least": 0.0004},
}  # fmt: skip
OTHERS = {
    "images": 40,
    "int8": {"not_sure": 10, "harmful": 24, "harmless": 6},
    "builtin": {"not_sure": 11, "harmful": 24, "harmless": 5},
    "float": {"not_sure": 12, "harmful": 24, "harmless": 4},
    "separation": {"largest": 0.8125, "margin": 0.75, "energy": None, "max_logit": None},
}


def shown(record: dict[str, Any], width: int = 120) -> str:
    console = Console(width=width, record=True, file=StringIO())
    console.print(threshold_tables(record))
    return console.export_text()


def row(text: str, name: str) -> list[str]:
    """The cells of the row that begins with `name`."""
    (line,) = [x for x in text.split("\n") if re.match(rf"│ {re.escape(name)} +│", x)]
    return [cell.strip() for cell in line.strip("│").split("│")[1:]]


def test_the_table_has_both_points_side_by_side_and_the_counts_of_test() -> None:
    text = shown(threshold_record(abstain={"by": "margin", "cut": 31 / 256, "cut_q": 31}))
    decision, points = text.split("operating points")
    assert row(decision, "threshold, of 256") == ["95"]
    assert row(points, "threshold, of 256") == ["96", "95", "95"]
    assert row(points, "caught, threshold") == ["75.0 %", "75.0 %", "–"]
    assert row(points, "caught, test") == ["5", "5", "5"]
    assert row(points, "harmless not sure, test") == ["2", "2", "2"]
    assert row(text, "chosen by") == ["fix-tpr: tpr 0.75"]
    assert "largest less second under 31 of 256" in text
    assert row(text, "95 %, DeLong") == ["0.800–0.950"] * 4
    assert row(text, "photos, copies once") == ["18"] * 4
    assert row(text, "the same by photos") == ["–"] * 4
    assert row(text, "float before temperature") == ["0.0612", "0.2500"]
    assert "promised" not in text and "other things" not in text and "warning" not in text


def test_a_promise_other_things_and_warnings_are_shown_where_there_are_any() -> None:
    record = threshold_record() | {"guarantee": PROMISE, "others": OTHERS, "warnings": ["look [b]"]}
    text = shown(record)
    assert "promised" in text and "warning: look [b]" in text
    assert row(text[text.index("other things, 40 images") :], "int8") == [
        "10 (25.0 %)", "24 (60.0 %)", "6 (15.0 %)"]  # fmt: skip
    assert row(text, "largest") == ["0.8125"]
    assert row(text, "energy") == ["–"]


def test_what_is_answered_and_that_it_is_a_demo_are_said() -> None:
    rule = {"by": "margin", "cut_q": 31, "answered": {"threshold": 0.9, "test": 0.875}}
    text = shown(threshold_record() | {"abstain": rule, "purpose": "demo"})
    assert row(text, "answered") == ["threshold 90.0 %, test 87.5 %"]
    assert "as a demo" in text and "as a demo" not in shown(threshold_record())


def test_without_a_harmful_group_answers_are_counted() -> None:
    said = {name: {"not_sure": 1, "answered": 3} for name in ("float", "int8", "builtin")}
    others = {"images": 4, "separation": OTHERS["separation"], **said}
    record = threshold_record(group=None, area=None) | {"others": others}
    text = shown(record)
    assert row(text, "wrong, given, threshold") == ["25.0 %", "25.0 %", "–"]
    assert row(text, "right not sure, test") == ["4", "4", "4"]
    assert row(text, "area under ROC") == ["–"] * 4
    assert "3 (75.0 %)" in text


def test_a_promise_is_one_sentence_with_all_that_it_rests_on() -> None:
    assert guarantee_words(PROMISE) == (
        "with 95 % confidence at most 5 % of harmful ones are called harmless (2 of 124 were, so "
        "at most 4.99 % are; 22 of 41 harmless ones are called so; “not sure” is neither), on the "
        "kernels xnnpack and builtin; on test photos 1 of 120 were"
    )


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"name": "youden"}, "youden"),
        ({"name": "guarantee", "most_missed": 0.01, "confidence": 0.95},
         "guarantee: most missed 0.01, confidence 0.95"),
        ({"name": "min-cost", "costs": {"missed": 100.0, "false_alarm": 1.5}},
         "min-cost: missed 100, false alarm 1.5"),
    ],
)  # fmt: skip
def test_a_policy_is_shown_with_what_was_asked_of_it(policy: Any, words: str) -> None:
    assert policy_words(policy) == words


def test_the_band_of_scores_that_is_not_sure() -> None:
    """By the rule itself: not sure where threshold - score < cut, of the scores under it."""
    held = [score for score in range(95) if 95 - score < 64]
    words = not_sure_words({"by": "score", "cut_q": 64}, 95)
    assert words == f"from {held[0]} to {held[-1]} of 256"


def test_the_page_has_the_policies_measures_and_defaults_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)`", PAGE, re.M)
    assert set(POLICIES) | set(ABSTAINS) - {"none"} <= set(rows)
    default = Settings()
    assert f"`{default.policy}` (default)" in PAGE
    promised = f"--most-missed {default.most_missed} --confidence {default.confidence}"
    for text in (f"--tpr {default.tpr}", f"--fpr {default.fpr}", promised):
        assert f"| `{text}` |" in PAGE
    costs = costs_of(default.costs)
    assert f"{costs.missed:g}, {costs.false_alarm:g} and {costs.abstain:g}" in PAGE
    pays = costs.missed * costs.false_alarm / (costs.missed + costs.false_alarm)
    assert f"that bound is {pays:.2f}" in PAGE and not costs.abstaining_can_pay
    cheaper = costs_of("missed=100,false-alarm=10,abstain=5")
    assert cheaper.abstaining_can_pay and "With a false alarm at 10 the bound is 9.1" in PAGE


def test_the_photos_that_a_promise_takes_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| (\d+) % \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.M)
    assert [int(row[0]) for row in rows] == [10, 5, 2, 1]
    for percent, *found in rows:
        most = int(percent) / 100
        wanted = [photos_needed(most, 0.05, rate=share * most) for share in (0, 0.25, 0.5)]
        assert [int(number.replace(",", "")) for number in found] == wanted
