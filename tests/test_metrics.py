"""Plain metrics against counting by hand, and the tables that show them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mobileclf.report import stages
from mobileclf.scores import PARTS
from mobileclf.stats.metrics import AVERAGES, RATES, metrics

LABELS = ("a", "b", "c", "d")
TRUTH = np.array([0, 0, 1, 2, 2, 2])
PROBABILITIES = np.array(
    [
        [0.7, 0.1, 0.1, 0.1],
        [0.2, 0.5, 0.2, 0.1],
        [0.1, 0.6, 0.2, 0.1],
        [0.1, 0.1, 0.7, 0.1],
        [0.4, 0.3, 0.2, 0.1],
        [0.1, 0.2, 0.6, 0.1],
    ]
)


def test_metrics_by_hand():
    found = metrics(PROBABILITIES, TRUTH, LABELS)
    assert found["n"] == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["top_3"] == 1.0
    assert found["confusion"] == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    own = PROBABILITIES[np.arange(6), TRUTH]
    assert found["loss"] == pytest.approx(-np.log(own).mean())
    assert found["classes"]["b"] == {
        "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "photos": 1,
    }  # fmt: skip
    assert found["classes"]["d"] == {"precision": 0, "recall": 0, "f1": 0, "photos": 0}
    assert found["macro"]["recall"] == pytest.approx((0.5 + 1 + 2 / 3 + 0) / 4)
    assert found["weighted"]["recall"] == pytest.approx((2 * 0.5 + 1 * 1 + 3 * 2 / 3) / 6)


def test_top_k_counts_the_lower_index_first_on_a_tie():
    tied = np.full((1, 5), 0.2)
    labels = ("a", "b", "c", "d", "e")
    assert metrics(tied, np.array([2]), labels)["top_3"] == 1.0
    assert metrics(tied, np.array([3]), labels)["top_3"] == 0.0


def test_an_output_of_zero_has_a_finite_loss_that_int8_can_mean():
    rows, truth = np.array([[255 / 256, 0.0]]), np.array([1])
    assert metrics(rows, truth, ("a", "b"), smallest=1 / 512)["loss"] == pytest.approx(
        -np.log((1 / 512) / (255 / 256 + 1 / 512))
    )
    assert metrics(rows, truth, ("a", "b"))["loss"] > 15


def counted(answers: list[int], truth: list[int], classes: int) -> dict[str, Any]:
    """Every figure by going through the photos, one class at a time."""
    rates = []
    for c in range(classes):
        both = sum(a == c == t for a, t in zip(answers, truth, strict=True))
        said, there = answers.count(c), truth.count(c)
        precision = both / said if said else 0.0
        recall = both / there if there else 0.0
        total = precision + recall
        rates.append((precision, recall, 2 * precision * recall / total if total else 0.0, there))
    n = len(truth)
    return {
        "classes": rates,
        "macro": [sum(r[i] for r in rates) / classes for i in range(3)],
        "weighted": [sum(r[i] * r[3] for r in rates) / n for i in range(3)],
    }


@given(st.data(), st.integers(2, 6), st.integers(1, 40))
def test_metrics_are_those_of_counting(data, classes, n):
    index = st.integers(0, classes - 1)
    answers = data.draw(st.lists(index, min_size=n, max_size=n))
    truth = data.draw(st.lists(index, min_size=n, max_size=n))
    labels = tuple(map(str, range(classes)))
    probabilities = np.full((n, classes), 0.1 / (classes - 1))
    probabilities[np.arange(n), answers] = 0.9
    found, wanted = (
        metrics(probabilities, np.array(truth), labels),
        counted(answers, truth, classes),
    )
    for label, (*rates, there) in zip(labels, wanted["classes"], strict=True):
        assert [found["classes"][label][rate] for rate in RATES] == pytest.approx(rates)
        assert found["classes"][label]["photos"] == there
    for average in AVERAGES:
        assert [found[average][rate] for rate in RATES] == pytest.approx(wanted[average])
    for t, row in enumerate(found["confusion"]):
        assert row == [list(zip(truth, answers, strict=True)).count((t, a)) for a in range(classes)]


def test_swapped_labels_are_seen():
    swapped = PROBABILITIES[:, [1, 0, 2, 3]]
    assert (
        metrics(swapped, TRUTH, LABELS)["accuracy"]
        < metrics(PROBABILITIES, TRUTH, LABELS)["accuracy"]
    )


def shown(classes: int, photos: int = 60) -> str:
    """The printed metrics of a float model that is right and an int8 one that errs on class 1."""
    labels = tuple(f"class_{i}" for i in range(classes))
    truth = np.arange(photos) % classes
    right = np.eye(classes)[truth]
    wrong = np.eye(classes)[np.where(truth == 1, 0, truth)]
    kinds = {
        "float": ("float", None, None, right),
        "made.xnnpack": ("int8", "made", "xnnpack", wrong),
        "made.builtin": ("int8", "made", "builtin", wrong),
    }
    variants = {
        name: {
            "kind": kind, "candidate": candidate, "kernels": kernels,
            "parts": {p: metrics(rows, truth, labels) for p in PARTS},
        }
        for name, (kind, candidate, kernels, rows) in kinds.items()
    }  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=100).print(stages._score({"variants": variants}))
    return " ".join(out.getvalue().split())


def test_the_tables_show_float_and_int8_side_by_side():
    text = shown(4)
    for part in PARTS:
        assert f"{part}, 60 photos" in text
    assert "│ float │ 100.0 % │ 100.0 % │ 100.0 % │" in text
    assert "│ made.xnnpack │ 75.0 % │" in text and "│ made.builtin │ 75.0 % │" in text
    assert "test by class, %, float / made " in text
    assert "│ class_1 │ 15 │ 100.0 / 0.0 │ 100.0 / 0.0 │ 100.0 / 0.0 │" in text
    assert "│ (macro average) │ │ 100.0 / 62.5 │ 100.0 / 75.0 │" in text
    assert "confusion, float" in text and "│ 1 class_1 │ │ 15 │ │ │" in text
    assert "confusion, made" in text and "│ 1 class_1 │ 15 │ │ │ │" in text


def test_of_many_classes_what_is_confused_is_shown():
    text = shown(12)
    assert "confusion on test (1 of 1; all in metrics.json)" in text
    assert "│ class_1 │ class_0 │ 0 │ 5 │" in text and "│ class_2 │ class_2 │" not in text
