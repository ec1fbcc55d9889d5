"""The plan: lengths of time and sizes as a person says them."""

from __future__ import annotations

import pytest

from mobileclf.training.plan import about, weights


@pytest.mark.parametrize(
    "seconds, wanted",
    [
        (0.1, "about 1 s"), (89, "about 89 s"), (100, "about 2 min"), (5300, "about 88 min"),
        (5400, "about 1.5 h"), (3 * 3600, "about 3 h"), (100 * 3600, "about 100 h"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_in_the_unit_that_fits(seconds: float, wanted: str) -> None:
    assert about(seconds) == wanted


@pytest.mark.parametrize(
    "count, wanted",
    [(7, "7"), (12_340, "12.3 thousand"), (999_999, "1000.0 thousand"), (2_257_984, "2.3 million")],
)
def test_a_number_of_weights_is_never_nought(count: int, wanted: str) -> None:
    assert weights(count) == wanted
