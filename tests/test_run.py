"""A run folder: what is current is kept, what is not is made again, what was cut off goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from mobileclf.config import make_settings
from mobileclf.errors import ProofError
from mobileclf.records import Record, write_bytes
from mobileclf.run import Stage, bring_up_to_date
from mobileclf.settings import Settings


class Pipeline:
    """Two stages, the second reading the first's file; `done` lists what was worked."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.photos = "a"

    def first(self) -> Stage:
        def work(folder: Path, settings: Settings) -> Record:
            self.done.append("first")
            write_bytes(folder / "first.txt", f"{settings.seed}".encode())
            return {"seed": settings.seed, "outputs": ["first.txt"]}

        return Stage(
            name="first", record="first.json", reads=(), settings=("seed",), work=work,
            outside=lambda settings: {"photos": self.photos},
        )  # fmt: skip

    def second(self) -> Stage:
        def work(folder: Path, settings: Settings) -> Record:
            self.done.append("second")
            write_bytes(folder / "second.txt", (folder / "first.txt").read_bytes() * 2)
            return {"outputs": ["second.txt"]}

        return Stage(
            name="second", record="second.json", reads=("first.json",), settings=("epochs",),
            work=work,
        )  # fmt: skip

    def run(self, settings: Settings) -> list[str]:
        """Bring both up to date; which were worked."""
        self.done.clear()
        bring_up_to_date(self.first(), settings)
        bring_up_to_date(self.second(), settings)
        return list(self.done)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return make_settings({"run": tmp_path / "run"})


def test_what_is_current_is_not_done_again(settings: Settings) -> None:
    pipeline = Pipeline()
    assert pipeline.run(settings) == ["first", "second"]
    assert pipeline.run(settings) == []


def test_a_record_of_an_earlier_form_is_made_anew(settings: Settings) -> None:
    pipeline = Pipeline()
    pipeline.run(settings)
    newer = replace(pipeline.first(), schema=2)
    bring_up_to_date(newer, settings)
    bring_up_to_date(newer, settings)
    assert pipeline.done == ["first", "second", "first"]


def test_a_changed_setting_reaches_the_stages_that_use_it_and_those_after(
    settings: Settings,
) -> None:
    pipeline = Pipeline()
    pipeline.run(settings)
    assert pipeline.run(replace(settings, epochs="3")) == ["second"]
    assert pipeline.run(replace(settings, epochs="3", patience=2)) == []
    assert pipeline.run(replace(settings, epochs="3", seed=1)) == ["first", "second"]
    assert (settings.run_folder / "second.txt").read_bytes() == b"11"


def test_changed_photos_make_it_stale(settings: Settings) -> None:
    pipeline = Pipeline()
    pipeline.run(settings)
    pipeline.photos = "b"
    assert pipeline.run(settings) == ["first", "second"]


@pytest.mark.parametrize("name", ["first.txt", "first.json"])
def test_a_lost_file_is_made_again_and_nothing_after_it(settings: Settings, name: str) -> None:
    pipeline = Pipeline()
    pipeline.run(settings)
    (settings.run_folder / name).unlink()
    # The record comes out the same, so what was made from it still stands.
    assert pipeline.run(settings) == ["first"]


def test_a_file_that_was_changed_by_hand_is_never_used(settings: Settings) -> None:
    pipeline = Pipeline()
    pipeline.run(settings)
    (settings.run_folder / "second.txt").write_text("x")
    assert pipeline.run(settings) == ["second"]


def test_a_stage_that_fails_leaves_no_record(settings: Settings) -> None:
    def fails(folder: Path, settings: Settings) -> Record:
        raise ProofError("no")

    pipeline = Pipeline()
    pipeline.run(settings)
    with pytest.raises(ProofError):
        bring_up_to_date(replace(pipeline.second(), work=fails), replace(settings, epochs="2"))
    assert not (settings.run_folder / "second.json").exists()
    assert pipeline.run(settings) == ["second"]


def test_equal_runs_have_equal_records_wherever_they_are(tmp_path: Path) -> None:
    pipeline, records = Pipeline(), []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = make_settings({"run": tmp_path / folder, "seed": seed})
        pipeline.run(settings)
        stages = (pipeline.first(), pipeline.second())
        records.append([(settings.run_folder / stage.record).read_bytes() for stage in stages])
    assert records[0] == records[1] != records[2]


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from mobileclf.config import make_settings
    from mobileclf.records import write_bytes
    from mobileclf.run import Stage, bring_up_to_date

    def work(name):
        def do(folder, settings):
            with (folder / "worked").open("a") as file:
                file.write(name)
            write_bytes(folder / name, name.encode())
            if sys.argv[2] == name:
                os.kill(os.getpid(), signal.SIGKILL)
            return {"outputs": [name]}
        return do

    settings = make_settings({"run": sys.argv[1]})
    settings.run_folder.mkdir(exist_ok=True)
    for name, before in (("a", ()), ("b", ("a.json",)), ("c", ("b.json",))):
        stage = Stage(name=name, record=f"{name}.json", reads=before, settings=(), work=work(name))
        bring_up_to_date(stage, settings)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize(("killed_in", "worked"), [("a", "aabc"), ("b", "abbc"), ("c", "abcc")])
def test_a_killed_run_goes_on_from_the_last_finished_stage(
    tmp_path: Path, killed_in: str, worked: str
) -> None:
    def go(folder: str, die: str) -> int:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / folder), die],
            capture_output=True,
        ).returncode

    assert go("run", killed_in) == -signal.SIGKILL
    assert not (tmp_path / "run" / f"{killed_in}.json").exists()
    assert go("run", "nowhere") == 0
    assert (tmp_path / "run" / "worked").read_text() == worked
    assert go("whole", "nowhere") == 0
    for name in ("a.json", "b.json", "c.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
