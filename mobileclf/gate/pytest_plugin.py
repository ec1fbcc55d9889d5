"""A plugin for pytest: hold the bundle that an app ships to what it promises.

    pytest --mobileclf-bundle exported/mushrooms --mobileclf-data photos

There is a test for each check, beside the app's own tests if it has any. Without the option
nothing of mobileclf but this file is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .check import Check
    from .checks import CheckOf
    from .gate import Gate

NODE = "mobileclf"
CHANGE = "mobileclf: "  # before the name of a property of a report


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
        "--mobileclf-max-drop", type=_share, default=0.01, metavar="SHARE",
        help="largest drop of accuracy from the baseline, as a fraction [0.01]",
    )  # fmt: skip
    group.addoption(
        "--mobileclf-max-missed", type=_share, default=0.01, metavar="SHARE",
        help="largest rise of the share of harmful photos called harmless [0.01]",
    )  # fmt: skip
    group.addoption(
        "--mobileclf-latency", type=float, default=0.0, metavar="SECONDS",
        help="measure latency beside the baseline for so long [it is not measured]",
    )  # fmt: skip


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


@pytest.hookimpl(tryfirst=True)  # before -k and -m choose among the tests
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Put a test for each check behind the tests that were found."""
    option = config.option
    if option.mobileclf_bundle is None:
        for name in ("data", "baseline"):
            if getattr(option, f"mobileclf_{name}") is not None:
                raise pytest.UsageError(f"--mobileclf-{name} goes with --mobileclf-bundle")
        return
    if option.mobileclf_latency and option.mobileclf_baseline is None:
        raise pytest.UsageError("--mobileclf-latency goes with --mobileclf-baseline")
    items.extend(Bundle.from_parent(session, name=NODE, nodeid=NODE).collect())


class Bundle(pytest.Collector):
    """What the tests of a bundle share: the photos and answers, which take long to get."""

    gate: Gate

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each check."""
        from mobileclf.errors import MobileclfError

        from .check import Limits
        from .checks import checks_for
        from .gate import Gate

        option = self.config.option
        self.gate = Gate(
            option.mobileclf_bundle,
            option.mobileclf_data,
            option.mobileclf_baseline,
            Limits(
                max_drop=option.mobileclf_max_drop,
                max_missed=option.mobileclf_max_missed,
                seconds=option.mobileclf_latency,
            ),
        )
        try:
            checks = checks_for(self.gate)
        except MobileclfError as error:
            raise pytest.UsageError(str(error)) from error
        for name, check in checks.items():
            yield BundleItem.from_parent(self, name=name, check=check)
        if self.gate.baseline is not None:
            yield ChangesItem.from_parent(self, name="baseline_changes")


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
        """The bundle, and the name of the check."""
        return self.config.option.mobileclf_bundle, None, f"{NODE}::{self.name}"


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
