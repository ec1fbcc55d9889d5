"""The bundle that `export` makes of drawn mushrooms, held to everything by the plugin.

What an app's repository runs on the bundle it ships runs here on one of ours: every check passes
on it, beside itself as the baseline, on all runtimes at hand. For another bundle:
`pytest --mobileclf-bundle DIR --mobileclf-data PATH`.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

import mobileclf
from mobileclf.config import make_settings
from mobileclf.gate import pytest_plugin
from mobileclf.gate.checks import OF_APPS, checks_for
from mobileclf.gate.gate import Gate
from mobileclf.gate.of_run import of_run
from mobileclf.images import sample
from mobileclf.records import read_json, write_json
from mobileclf.tflite.runtimes import at_hand

PER_CLASS = 30
# The plugin itself, where its entry point is not installed yet.
PLUGINS = [] if entry_points(group="pytest11", name="mobileclf") else [pytest_plugin]
ALWAYS = ["files", "labels", "decision", "input", "golden", "same_bytes"]
OF_PHOTOS = ["photos", "accuracy"]
BESIDE = ["labels", "size", "runtime", "accuracy", "harmful", "changes"]
CHECKS = [*ALWAYS, *OF_PHOTOS, "baseline", *(f"baseline_{name}" for name in BESIDE)]
LOADS = {f"loads[{runtime}]": at_hand(runtime) for runtime in OF_APPS}
CHECKS += [name for name, there in LOADS.items() if there]
# What it takes to judge them may be missing: the runtime, or the threshold's counts in the bundle.
MAY_BE_SKIPPED = ["operators", "harmful", *(name for name, there in LOADS.items() if not there)]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle and the photos that it was made of."""
    folder = tmp_path_factory.mktemp("parity")
    rng = np.random.default_rng(0)
    for label, group in [*sample.LABELS.items()][::2]:
        (folder / "photos" / f"{label}-{group}").mkdir(parents=True)
        for i in range(PER_CLASS):
            picture = sample.draw(label, rng, 48)
            picture.save(folder / "photos" / f"{label}-{group}" / f"{i}.png")
    mobileclf.export(
        int8=True, data=folder / "photos", run=folder / "run", out=folder / "out", name="small",
        backbone="small_cnn", image_size=32, epochs=20, patience=20, batch_size=8,
        harmful="NotEdible",
    )  # fmt: skip
    return folder / "out" / "small", folder / "photos"


def test_a_run_beside_its_own_bundle_is_not_worse(exported: tuple[Path, Path]) -> None:
    """Nor is it another: the metadata, which the run's file is without, do not count."""
    bundle, photos = exported
    run = bundle.parents[1] / "run"
    settings = make_settings({"run": run, "data": photos, "name": "small", "baseline": bundle})
    found = of_run(run, settings, read_json(run / "parity.json"))
    assert found is not None
    assert found["photos"] == read_json(run / "parity.json")["n"] and found["name"] == "small"
    assert [gate["gate"] for gate in found["gates"]] == [
        f"baseline_{name}" for name in ("labels", "size", "runtime", "accuracy", "harmful")
    ]
    assert all(gate["passed"] for gate in found["gates"])
    assert found["changes"] == [] == found["changed"] == found["not_judged"]


def test_a_run_beside_a_record_of_another_run(exported: tuple[Path, Path], tmp_path: Path) -> None:
    run = exported[0].parents[1] / "run"
    parity = read_json(run / "parity.json")
    better = {**parity, "n": 1000, "int8": {"accuracy": 1.0}, "changed": []}
    worse = {**parity, "int8": {"accuracy": 0.2}}
    write_json(tmp_path / "parity.json", better)
    settings = make_settings({"run": run, "name": "small", "baseline": tmp_path / "parity.json"})
    found = of_run(run, settings, worse)
    assert found is not None and found["of"] == "parity.json" and found["photos"] is None
    assert [(gate["gate"], gate["passed"]) for gate in found["gates"]] == [
        ("baseline_accuracy", False),
        ("baseline_harmful", True),
    ]
    assert of_run(run, make_settings({"run": run, "name": "small"}), parity) is None


class Recorder:
    """What came of each test of an inner run."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.found[report.nodeid.partition("::")[2]] = (report.outcome, report.longreprtext)


@pytest.fixture(scope="session")
def outcomes(
    exported: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str]]:
    """Outcome and words of every test that the plugin makes, in the order of the run."""
    recorder, empty = Recorder(), tmp_path_factory.mktemp("empty")
    bundle, photos = map(str, exported)
    options = ["--mobileclf-bundle", bundle, "--mobileclf-data", photos]
    options += ["--mobileclf-baseline", bundle]
    quiet = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:terminal", "-c", "/dev/null"]
    pytest.main([str(empty), f"--rootdir={empty}", *quiet, *options], [recorder, *PLUGINS])
    return recorder.found


def test_every_check_was_run(
    exported: tuple[Path, Path], outcomes: dict[str, tuple[str, str]]
) -> None:
    bundle, photos = exported
    assert list(outcomes) == [*checks_for(Gate(bundle, photos, bundle)), "baseline_changes"]
    assert set(outcomes) == {*CHECKS, *MAY_BE_SKIPPED}


@pytest.mark.parametrize("name", CHECKS)
def test_it_passes(outcomes: dict[str, tuple[str, str]], name: str) -> None:
    outcome, words = outcomes[name]
    assert outcome == "passed", words


@pytest.mark.parametrize("name", MAY_BE_SKIPPED)
def test_it_does_not_fail(outcomes: dict[str, tuple[str, str]], name: str) -> None:
    outcome, words = outcomes[name]
    assert outcome != "failed", words
