"""The plugin in somebody's repository: a test a check, readable failures, and light without it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mobileclf.gate import checks
from mobileclf.gate.baseline import MOST_GROWTH
from mobileclf.gate.check import RISK, Limits
from mobileclf.gate.gate import Gate

from .bundles import decided, rehash, write_bundle, write_photos

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytest_plugins = ["pytester"]
MODULE = "mobileclf.gate.pytest_plugin"
# Installed since there is the entry point, it is there already, and may not be named again.
NAMED = [] if entry_points(group="pytest11", name="mobileclf") else ["-p", MODULE]
COMMON = [*NAMED, "-p", "no:cacheprovider", "-p", "no:xdist"]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", autouse=True)
def on_litert_alone():
    """TensorFlow's interpreter takes its seconds; tests/parity has it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checks, "ALIKE", ("ai-edge-litert",))
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """A bundle and its photos."""
    folder = tmp_path_factory.mktemp("made")
    return write_bundle(folder / "small"), write_photos(folder / "photos")


def run(pytester: pytest.Pytester, *options: object) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*COMMON, *map(str, options))


def number(bundle: Path, photos: Path | None = None) -> int:
    return len(checks.checks_for(Gate(bundle, photos)))


def test_the_entry_point_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"mobileclf": MODULE}


def test_there_is_a_test_for_each_check(pytester, made) -> None:
    bundle, photos = made
    result = run(pytester, "-v", "--mobileclf-bundle", bundle, "--mobileclf-data", photos)
    result.assert_outcomes(passed=number(bundle, photos) - 1, skipped=1)
    result.stdout.fnmatch_lines(["*mobileclf::golden PASSED*", "*mobileclf::accuracy PASSED*"])
    result.stdout.no_fnmatch_line("*changed since the baseline*")


def test_the_tests_of_the_repository_run_beside_them(pytester, made) -> None:
    pytester.makepyfile("def test_own(): pass")
    result = run(pytester, "--mobileclf-bundle", made[0], "-k", "own or golden")
    result.assert_outcomes(passed=2, deselected=number(made[0]) - 1)


def test_without_the_option_nothing_is_added(pytester) -> None:
    pytester.makepyfile("def test_own(): pass")
    run(pytester).assert_outcomes(passed=1)


def test_a_failure_says_what_was_wanted_and_found_and_names_the_photos(
    pytester, made, tmp_path
) -> None:
    for old, new in zip("abc", "bca", strict=True):
        shutil.copytree(made[1] / old, tmp_path / "all" / new)
    result = run(
        pytester, "--mobileclf-bundle", made[0], "--mobileclf-data", tmp_path / "all",
        "-k", "accuracy",
    )  # fmt: skip
    result.assert_outcomes(failed=1, deselected=number(*made) - 1)
    text = result.stdout.str()
    assert "wanted not below the bundle's own 60 of 60" in text
    assert "found  0 of 60" in text and "and 40 more" in text
    assert "Traceback" not in text and "checks.py" not in text


def test_a_broken_bundle_fails_its_files_and_skips_the_rest(pytester, made, tmp_path) -> None:
    bundle = Path(shutil.copytree(made[0], tmp_path / "small"))
    (bundle / "labels.txt").write_text("c\nb\na\n")
    result = run(pytester, "--mobileclf-bundle", bundle, "-rs")
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1 and outcomes["skipped"] > 5 and "passed" not in outcomes
    result.stdout.fnmatch_lines(["*labels.txt: wanted sha256*", "*not run: files failed*"])


def test_photos_that_are_none_end_in_one_line(pytester, made, tmp_path) -> None:
    result = run(
        pytester, "--mobileclf-bundle", made[0], "--mobileclf-data", tmp_path / "none",
        "-k", "photos or accuracy",
    )  # fmt: skip
    result.assert_outcomes(failed=1, skipped=1, deselected=number(*made) - 2)
    assert "Traceback" not in result.stdout.str() and "none" in result.stdout.str()


def test_a_worse_bundle_fails_beside_the_baseline_and_what_changed_is_listed(
    pytester, made, tmp_path
) -> None:
    worse = write_bundle(tmp_path / "worse", decision=decided(255))
    result = run(
        pytester, "--mobileclf-bundle", worse, "--mobileclf-data", made[1],
        "--mobileclf-baseline", made[0], "-k", "baseline",
    )  # fmt: skip
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], outcomes["passed"]) == (1, 6)
    result.stdout.fnmatch_lines(
        ["*baseline_harmful*", "*found  worse, *", "*changed since the baseline*",
         "threshold of 256: 100 -> 255"]
    )  # fmt: skip


def test_what_is_allowed_can_be_said(pytester, made, tmp_path) -> None:
    worse = write_bundle(tmp_path / "worse", decision=decided(255))
    result = run(
        pytester, "--mobileclf-bundle", worse, "--mobileclf-data", made[1],
        "--mobileclf-baseline", made[0], "-k", "baseline_harmful", "--mobileclf-max-missed", "1",
    )  # fmt: skip
    assert result.parseoutcomes()["passed"] == 1


def test_an_earlier_record_is_a_baseline_too(pytester, made) -> None:
    result = run(
        pytester, "--mobileclf-bundle", made[0], "--mobileclf-baseline", made[0] / "parity.json",
        "-k", "baseline",
    )  # fmt: skip
    assert result.parseoutcomes()["passed"] == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mobileclf-data", "x"], "--mobileclf-data goes with --mobileclf-bundle"),
        (["--mobileclf-baseline", "x"], "--mobileclf-baseline goes with --mobileclf-bundle"),
        (["--mobileclf-bundle", "x", "--mobileclf-baseline", "y"], "found neither"),
        (["--mobileclf-bundle", "x", "--mobileclf-latency", "3"], "goes with --mobileclf-baseline"),
        (["--mobileclf-bundle", "x", "--mobileclf-max-drop", "3"], "invalid"),
    ],
)
def test_options_that_do_not_go_together_are_refused(pytester, options, said) -> None:
    result = run(pytester, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_a_bundle_that_is_none_is_a_failure_in_one_line(pytester, tmp_path) -> None:
    result = run(pytester, "--mobileclf-bundle", tmp_path, "-k", "files")
    result.assert_outcomes(failed=1, deselected=number(tmp_path) - 1)
    result.stdout.fnmatch_lines(["*wanted a bundle (a folder with bundle.json), found none*"])


def test_nothing_is_loaded_without_the_option(tmp_path) -> None:
    (tmp_path / "test_own.py").write_text("def test_own(): pass\n")
    code = (
        "import sys, pytest\n"
        f"assert pytest.main(['-q', '-p', {MODULE!r}, *sys.argv[1:]]) in (0, 4, 1)\n"
        "found = {n for n in sys.modules if n.startswith('mobileclf')} | "
        "({'numpy', 'PIL', 'tensorflow'} & set(sys.modules))\n"
        "print('LOADED', *sorted(found))\n"
    )

    def loaded(*options: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), *options],
            cwd=tmp_path, capture_output=True, text=True, check=True,
            env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return done.stdout.split("LOADED ")[1].split()

    assert loaded() == ["mobileclf", "mobileclf.gate", MODULE]
    assert "numpy" in loaded("--mobileclf-bundle", str(tmp_path))  # the probe can fail


def test_the_page_on_ci_has_the_options_and_checks_of_the_code(pytester, made) -> None:
    page = (ROOT / "docs" / "ci.md").read_text()
    own = set(re.findall(r"(--mobileclf-[a-z-]+)", run(pytester, "--help").stdout.str()))
    assert set(re.findall(r"(--mobileclf-[a-z-]+)", page)) == own
    rows = set(re.findall(r"^\| `([a-z_.\[\]]+)` \|", page, re.M))
    limits = Limits(seconds=1)
    there = {
        re.sub(r"\[.*", "[...]", name) for name in checks.checks_for(Gate(*made, made[0], limits))
    }
    assert rows == there
    for text in (
        f"over {MOST_GROWTH:.0%} longer",
        f"more than {MOST_GROWTH:.0%}",
        f"at {RISK:.0%}",
    ):
        assert text.replace("%", " %") in page, text


def test_rehashed_bundles_are_the_helpers_own(made, tmp_path) -> None:
    """What the tests of the gate break is broken by them alone."""
    bundle = Path(shutil.copytree(made[0], tmp_path / "small"))
    before = (bundle / "bundle.json").read_bytes()
    assert (rehash(bundle) / "bundle.json").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--mobileclf-latency", "5"], "--mobileclf-latency goes with --mobileclf-bundle"),
        (["--mobileclf-bundle", "BUNDLE", "--mobileclf-max-drop", "0.1"],
         "--mobileclf-max-drop goes with --mobileclf-baseline"),
        (["--mobileclf-bundle", "BUNDLE", "--mobileclf-baseline", "BUNDLE/parity.json",
          "--mobileclf-latency", "5"], "wanted a bundle as baseline, found a record"),
        (["--mobileclf-bundle", "BUNDLE", "--mobileclf-latency", "nan"], "invalid"),
    ],
)  # fmt: skip
def test_an_option_without_effect_is_refused(pytester, made, given, said) -> None:
    result = run(pytester, *(each.replace("BUNDLE", str(made[0])) for each in given))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stdout.str() + result.stderr.str()
