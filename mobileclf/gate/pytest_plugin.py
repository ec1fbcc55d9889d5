"""A plugin for pytest: hold the bundle that an app ships to what it promises.

    pytest --mobileclf-bundle exported/mushrooms --mobileclf-data photos

There is a test for each check, beside the app's own tests if it has any. Without the option
nothing of mobileclf but this file is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .check import Check
    from .checks import CheckOf
    from .gate import Gate

NODE = "mobileclf"
CHANGE = "mobileclf: "  # before the name of a property of a report
OPTIONS = ("bundle", "data", "baseline", "max_drop", "max_missed", "latency")
GO_WITH = (
    *((name, "bundle") for name in OPTIONS[1:]),
    *((name, "baseline") for name in OPTIONS[3:]),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own in `pytest --help`."""
    group = parser.getgroup("mobileclf", "a mobileclf bundle held to what it promises")
    group.addoption(
        "--mobileclf-bundle", type=Path, metavar="DIR",
        help="the bundle: the folder with bundle.json; a test for each check",
    )  # fmt: skip
    group.addoption(
        "--mobileclf-data", type=Path, metavar="PATH",
        help="photos with their labels: class folders, a zip of them, or a CSV",
    )  # fmt: skip
    group.addoption(
        "--mobileclf-baseline", type=Path, metavar="PATH",
        help="an earlier bundle, or its parity.json, that the bundle must not be worse than",
    )  # fmt: skip
    group.addoption(
        "--mobileclf-max-drop", type=_share, metavar="SHARE",
        help="largest drop of accuracy from the baseline, as a fraction [0.01]",
    )  # fmt: skip
    group.addoption(
        "--mobileclf-max-missed", type=_share, metavar="SHARE",
        help="largest rise of the share of harmful photos called harmless [0.01]",
    )  # fmt: skip
    group.addoption(
        "--mobileclf-latency", type=_seconds, metavar="SECONDS",
        help="measure latency beside the earlier bundle, 1 to 3600 s [it is not measured]",
    )  # fmt: skip


def _share(text: str) -> float:
    return _within(text, 0, 1)


def _seconds(text: str) -> float:
    return _within(text, 1, 3600)


def _within(text: str, low: float, high: float) -> float:
    value = float(text)
    if not low <= value <= high:  # nan, too
        raise ValueError(text)
    return value


def _spelled(name: str) -> str:
    return f"--mobileclf-{name.replace('_', '-')}"


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose among the tests
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Put a test for each check behind the tests that were found. Raises UsageError for an option
    that would have no effect."""
    given = {name for name in OPTIONS if getattr(config.option, f"mobileclf_{name}") is not None}
    for name, needed in GO_WITH:
        if name in given and needed not in given:
            raise pytest.UsageError(f"{_spelled(name)} goes with {_spelled(needed)}")
    if "bundle" not in given:
        return
    items.extend(Bundle.from_parent(session, name=NODE, nodeid=NODE).collect())


class Bundle(pytest.Collector):
    """What the tests of a bundle share: the photos and answers, which take long to get."""

    gate: Gate

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each check."""
        from mobileclf.errors import MobileclfError

        from .baseline import is_bundle
        from .check import Limits
        from .checks import checks_for
        from .gate import Gate

        option = self.config.option
        # Tests of the repository may have gone to another folder by the time that checks run.
        bundle, data, baseline = (
            None if path is None else self.config.invocation_params.dir / path
            for path in (option.mobileclf_bundle, option.mobileclf_data, option.mobileclf_baseline)
        )
        limits = {
            "max_drop": option.mobileclf_max_drop,
            "max_missed": option.mobileclf_max_missed,
            "seconds": option.mobileclf_latency,
        }
        said = {name: value for name, value in limits.items() if value is not None}
        assert bundle is not None
        self.gate = Gate(bundle, data, baseline, Limits(**said))
        try:
            if baseline is not None:
                _check_effect(said.keys(), of_bundle=is_bundle(baseline), photos=data is not None)
            checks = checks_for(self.gate)
        except MobileclfError as error:
            raise pytest.UsageError(str(error)) from error
        for name, check in checks.items():
            yield BundleItem.from_parent(self, name=name, check=check)
        if self.gate.baseline is not None:
            yield ChangesItem.from_parent(self, name="baseline_changes")


def _check_effect(said: Set[str], *, of_bundle: bool, photos: bool) -> None:
    """Raises UsageError for a limit that no check would look at."""
    if "seconds" in said and not of_bundle:
        raise pytest.UsageError(
            f"{_spelled('latency')}: wanted a bundle as baseline, found a record, without a model"
        )
    for name in ("max_drop", "max_missed"):
        if name in said and of_bundle and not photos:
            raise pytest.UsageError(f"{_spelled(name)} beside a bundle goes with --mobileclf-data")


class Failed(Exception):
    """A check that did not pass."""

    def __init__(self, check: Check) -> None:
        super().__init__(check.found)
        self.check = check


class BundleItem(pytest.Item):
    """One check as a test."""

    def __init__(self, *, check: CheckOf, **given: Any) -> None:
        super().__init__(**given)
        self.check = check

    def runtest(self) -> None:
        """Raises Failed, or skips where it cannot be judged."""
        from .checks import run

        assert isinstance(self.parent, Bundle)
        found = run(self.name, self.check, self.parent.gate)
        if found.passed is None:
            pytest.skip(f"{found.name}: {found.found}")
        if not found.passed:
            raise Failed(found)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What was wanted and found, and the photos that are meant; no traceback."""
        from mobileclf.errors import MobileclfError

        from .summary import shown

        if isinstance(excinfo.value, Failed):
            check = excinfo.value.check
            lines = [f"wanted {check.wanted}", f"found  {check.found}"]
            return "\n".join([*lines, *(f"  {line}" for line in shown(check.details))])
        if isinstance(excinfo.value, MobileclfError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """A place that is the same wherever the bundle is and pytest is called from."""
        return self.config.rootpath / NODE, None, f"{NODE}::{self.name}"


class ChangesItem(BundleItem):
    """What changed since the baseline: told, and judged by the checks alone."""

    def __init__(self, **given: Any) -> None:
        super().__init__(check=_none, **given)

    def runtest(self) -> None:
        """The changes become properties of the report, which JUnit's XML has too."""
        from .checks import changes

        assert isinstance(self.parent, Bundle)
        for change in changes(self.parent.gate):
            said = f"{change.was} -> {change.now}" if change.was else change.now
            self.user_properties.append((CHANGE + change.what, said))


def _none(gate: Gate) -> Check:
    raise AssertionError("a list of changes is no check")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List what changed since the baseline."""
    lines = [
        f"{name.removeprefix(CHANGE)}: {value}"
        for report in terminalreporter.getreports("passed")
        for name, value in getattr(report, "user_properties", ())
        if isinstance(name, str) and name.startswith(CHANGE) and report.when == "call"
    ]
    if lines:
        terminalreporter.section("mobileclf: changed since the baseline")
        for line in lines:
            terminalreporter.line(line)
