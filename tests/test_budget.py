"""The time that int8 may be trained for: in the plan, on the bar, and what is said of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mobileclf import pipeline, progress
from mobileclf.config import make_settings, resolve
from mobileclf.errors import DataError, UsageError
from mobileclf.models.distil import Course
from mobileclf.records import write_json
from mobileclf.settings import Settings
from mobileclf.spelling import seconds_of
from mobileclf.stages import quantize


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["0s", "00m", "1.5m", "1h30m", "20", "m", "", "-1s", "²s", "5 "])
def test_a_time_is_a_whole_number_and_one_unit(text: str) -> None:
    wanted = "wanted a whole number above 0 and one unit: 90s, 20m or 1h"
    with pytest.raises(UsageError, match=f"--budget {text!r}: {wanted}"):
        seconds_of(text)


def test_a_time_is_at_most_a_week() -> None:
    assert (seconds_of("90s"), seconds_of(" 20m "), seconds_of("168h")) == (90, 1200, 604800)
    for text in ("169h", "604801s", "9" * 5000 + "s"):
        with pytest.raises(UsageError, match="--budget: wanted at most 168h, which is 7 days"):
            seconds_of(text)


def test_a_budget_wants_an_epoch() -> None:
    with pytest.raises(UsageError, match="wanted at least one epoch with --budget"):
        make_settings({"budget": "30s", "fine_tune_epochs": 0})
    assert make_settings({"fine_tune_epochs": 0}).fine_tune_epochs == 0


def expected(last: float | None, spent: str | None, now: str | None) -> float:
    """Minutes that the plan gives quantize, after a run of `last` minutes with budget `spent`."""
    settings = make_settings({"run": Path("r"), **({"budget": now} if now else {})})
    settings.run_folder.mkdir(exist_ok=True)
    course = {"steps": 3} if spent else None
    record = {"distillation": course, "inputs": {"settings": {"budget": spent}}}
    write_json(settings.run_folder / "quantize.json", record)
    times = {} if last is None else {"quantize": 60 * last}
    return pipeline._expected(settings, "quantize", 1000, times)


def test_the_plan_holds_the_budget() -> None:
    guess = expected(None, None, None)
    assert expected(None, None, "10h") == pytest.approx(guess + 600)
    assert expected(5, None, None) == 5
    assert expected(5, None, "10h") == 605
    assert expected(605, "10h", "10h") == 605
    assert expected(605, "10h", None) == 5
    assert expected(605, "10h", "20m") == 25
    # Over before its budget was, which may be otherwise with another.
    assert expected(20, "10h", "10h") == pytest.approx(guess + 600)
    assert expected(20, "10h", None) == guess


def test_the_plan_goes_without_the_record_of_the_last_time() -> None:
    settings = make_settings({"run": Path("r"), "budget": "1h"})
    assert pipeline._expected(settings, "quantize", 1000, {"quantize": 120}) == 62
    assert pipeline._expected(settings, "score", 1000, {"score": 120}) == 2


def test_the_plan_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    settings = make_settings({"run": Path("r"), "budget": "10h"})
    write_json(settings.run_folder / "times.json", {"quantize": 60})
    pipeline._say_plan(settings, ("quantize",))
    assert "  quantize   about 601 min" in said


class Bar:
    """What a bar was told, and what it shows."""

    task_ids = (0,)

    def __init__(self) -> None:
        self.total = 0
        self.seen: list[dict[str, Any]] = []

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, task: int, **told: Any) -> None:
        self.seen.append(told)


def test_the_bar_is_one_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, clock = Bar(), iter([100.0, 107.0, 112.0, 171.0])

    def bar(title: str, total: int) -> Bar:
        shown.total = total
        return shown

    def distil(*_: object, **asked: Any) -> Course:
        asked["step_done"]()
        asked["epoch_done"](Course(kl=[0.5, 0.25], loss=[1.0], steps=1))
        asked["step_done"]()
        return Course()

    monkeypatch.setattr(progress, "bar", bar)
    monkeypatch.setattr(quantize, "distil", distil)
    monkeypatch.setattr(quantize, "load_part", lambda *_, **__: ((), ()))
    monkeypatch.setattr("mobileclf.stages.quantize.time.monotonic", lambda: next(clock))
    models: Any = type("models", (), {"folded": None})
    quantize._distil(Path(), Settings(budget="1m"), models, None)
    assert shown.total == 60
    assert [told["completed"] for told in shown.seen] == [7, 12, 60]
    assert shown.seen[1]["description"] == "distil, epoch 1, KL 0.50000 to 0.25000"


def test_a_budget_that_was_over_before_the_first_step_is_said_so() -> None:
    settings = Settings(budget="1s")
    none = quantize._why_not_distilled(Course(kl=[0.5], stopped="budget"), settings)
    assert none == "the budget was over before the first step; give more than --budget 1s"
    worse = quantize._why_not_distilled(
        Course(kl=[0.5, math.nan], loss=[1.0], steps=4, stopped="budget"), settings
    )
    assert worse == "no epoch came nearer to float than the start"


def made_from(data: str | None, folder: Path) -> None:
    folder.mkdir(parents=True)
    write_json(folder / pipeline.CONFIG_RECORD, {"data": data, "name": folder.name})


def test_an_export_does_not_turn_a_run_of_photos_into_the_drawn_sample() -> None:
    made_from("/photos", Path("runs/mn"))
    said = "runs/mn was made from /photos; give --data, or another --name"
    for given in ("name", "mn"), ("run", Path("runs/mn")):
        with pytest.raises(UsageError, match=said):
            pipeline.settings_for(dict([given]), "export")
    others = pipeline.settings_for({"name": "mn", "data": Path("others")}, "export")
    assert others.data == Path("others")
    Path("mobileclf.toml").write_text('data = "photos"')
    assert pipeline.settings_for({"name": "mn"}, "export").data == Path("photos")


def test_an_export_goes_on_with_the_drawn_sample() -> None:
    made_from(None, Path("runs/drawn"))
    assert pipeline.settings_for({"name": "drawn"}, "export").data is None
    assert pipeline.settings_for({}, "export") == resolve(Settings())


def test_a_damaged_record_of_the_settings_is_not_taken_for_the_sample() -> None:
    Path("runs/mn").mkdir(parents=True)
    Path("runs/mn", pipeline.CONFIG_RECORD).write_text("{")
    with pytest.raises(DataError, match="not readable as JSON"):
        pipeline.settings_for({"name": "mn"}, "export")
