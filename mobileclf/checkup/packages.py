"""Installed packages against the ranges that mobileclf asks for and the versions it is tested on.

Everything is read from package metadata; that a package also works is `probe`'s to show.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Iterator, Mapping
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from mobileclf.tflite import runtimes

from .line import Line, State
from .probe import Outcome

SECTION, EXTRAS_SECTION = "packages", "optional extras"
CONSTRAINTS = Path(__file__).parent.parent / "constraints-3.11.txt"
TESTED_PYTHON = (3, 11)
# Where the module has another name than the package.
MODULES = {
    "ai-edge-litert": runtimes.MODULES["ai-edge-litert"],
    "pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "scikit-learn": "sklearn",
}
EXTRAS = {
    "heif": "HEIC and AVIF photos",
    "jax": "training on JAX",
    "tensorboard": "curves of training in TensorBoard",
    "cluster": "work on a Dask cluster",
    "ray": "work on a Ray cluster",
    "oldest": "scores on the oldest runtime that apps ship",
}


def module_of(package: str) -> str:
    """The module that shows whether `package` can be imported."""
    return MODULES.get(package, package.replace("-", "_"))


def version_of(package: str) -> str | None:
    """The installed version, None when there is no metadata of such a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requires(package: str) -> list[str]:
    """What `package` asks for, as its metadata says it; empty when it is not installed."""
    try:
        return metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []


def needed() -> dict[str, str]:
    """The main dependencies that apply here: name and range, as `>=2.21`."""
    if (requirement := _parser()) is None:
        # Without a reader of markers, only what has none is known to apply.
        plain = [text for text in requires("mobileclf") if ";" not in text]
        parts = [re.match(r"([\w.-]+)(?:\[.*?\])?(.*)", text) for text in plain]
        return {part[1].lower(): part[2].strip() for part in parts if part}
    asked = [requirement(text) for text in requires("mobileclf")]
    return {r.name.lower(): _range(r) for r in asked if _applies(r, "")}


def tested() -> dict[str, str]:
    """The exact versions that the checks passed with, by package; for Python 3.11."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {name.strip().lower(): version.strip() for name, version in pairs}


def main_lines(outcomes: Mapping[str, Outcome]) -> Iterator[Line]:
    """A line for each main dependency, for the tested set, and for each conflict between others.

    outcomes: of `import MODULE` for each of `needed`.
    """
    yield from _without_metadata()
    ours = sys.version_info[:2] == TESTED_PYTHON
    exact = tested() if ours else {}
    lines = [
        _package(name, range_, exact.get(name), outcomes[f"import {module_of(name)}"])
        for name, range_ in needed().items()
    ]
    yield from lines
    yield _tested_set(lines, exact)
    if _parser() is not None:
        settled = {line.what for line in lines if line.state in ("missing", "wrong")}
        yield from conflicts(settled)


def extra_lines() -> Iterator[Line]:
    """A line for each optional extra."""
    if (requirement := _parser()) is None:
        return
    asked = [requirement(text) for text in requires("mobileclf")]
    main = set(needed())
    for extra, purpose in EXTRAS.items():
        wants = [r for r in asked if _applies(r, extra) and not _applies(r, "")]
        own = [r for r in wants if r.name.lower() not in main]
        pip = f"pip install 'mobileclf[{extra}]'"
        found = ", ".join(f"{r.name} {version_of(r.name)}" for r in wants if version_of(r.name))
        wanted = ", ".join(r.name + _range(r) for r in wants) + f": {purpose}"
        state: State = "ok"
        if not own:
            found, wanted, pip = "not for this system", purpose, ""
        elif any(version_of(r.name) is None for r in own):
            found, state = "not installed", "missing"
        elif any(not _within(r, str(version_of(r.name))) for r in wants):
            state = "wrong"
        elif lacking := [name for r in own for name in _lacking(r)]:
            found, state = f"{found}, without {', '.join(lacking)}", "wrong"
        yield Line(section=EXTRAS_SECTION, what=extra, found=found, wanted=wanted, state=state,
                   do="" if state == "ok" else pip)  # fmt: skip


def conflicts(settled: Container[str] = ()) -> Iterator[Line]:
    """What the packages that mobileclf asks for want of each other and do not find.

    settled: packages that need no second line. Nothing of this stops the main job: whether the
    packages work nevertheless is seen where they are tried.
    """
    requirement = _parser()
    assert requirement is not None
    direct = [requirement(text) for text in requires("mobileclf")]
    queue = [(r.name.lower(), tuple(sorted(r.extras))) for r in direct if _applies(r, "")]
    seen = set(queue)
    while queue:
        name, extras = queue.pop(0)
        for text in requires(name):
            want = requirement(text)
            if not any(_applies(want, extra) for extra in ("", *extras)):
                continue
            found = version_of(want.name)
            fits = found is not None and _within(want, found)
            if not fits and want.name.lower() not in settled:
                yield Line(
                    section=SECTION, what=f"{want.name} for {name}", wanted=_range(want) or "any",
                    found=found or "not installed",
                    state="missing" if found is None else "warning",
                    do=f"pip install '{want.name}{_range(want)}'",
                )  # fmt: skip
            node = (want.name.lower(), tuple(sorted(want.extras)))
            if found is not None and node not in seen:
                seen.add(node)
                queue.append(node)


def _package(name: str, range_: str, exact: str | None, outcome: Outcome) -> Line:
    version, problem = version_of(name), outcome.problem
    found, wanted, do = version or "not installed", range_ or "any", ""
    state: State = "ok"
    if version is None and problem is not None:
        state, do = "missing", f"pip install '{name}{range_}'"
    elif version is not None and not in_range(name, range_, version):
        state, do = "wrong", f"pip install '{name}{range_}'"
    elif problem is not None:
        state, do = "wrong", _repair(name, str(version), problem)
        found = f"{version}, cannot be imported: {problem}"
    elif version is None:
        found = f"{outcome.answer.get('version') or 'some version'}, without package metadata"
        state, do = "warning", f"pip install '{name}{range_}'"
    elif exact is not None and version != exact:
        found, wanted = f"{version}, not the one tested", f"{wanted}, tested {exact}"
        state, do = "warning", f"pip install --constraint {CONSTRAINTS} mobileclf"
    return Line(section=SECTION, what=name, found=found, wanted=wanted, state=state, do=do,
                needed=True)  # fmt: skip


def _repair(name: str, version: str, problem: str) -> str:
    if problem.startswith(("no answer", "not tried")):
        return f"python -c 'import {module_of(name)}' and see how long it takes"
    if problem.startswith("ModuleNotFoundError"):
        return f"pip install '{name}=={version}'"  # brings what it lacks
    return f"pip install --force-reinstall --no-deps '{name}=={version}'"


def _tested_set(lines: list[Line], exact: Mapping[str, str]) -> Line:
    here = ".".join(map(str, sys.version_info[:2]))
    of = ".".join(map(str, TESTED_PYTHON))
    if not exact:
        return Line(section=SECTION, what="tested set", wanted=f"Python {of}",
                    found=f"not compared: it is for Python {of}, this is {here}")  # fmt: skip
    same = sum(version_of(line.what) == exact.get(line.what) for line in lines)
    return Line(
        section=SECTION, what="tested set", found=f"{same} of {len(lines)} packages are as tested",
        wanted=CONSTRAINTS.name, state="ok" if same == len(lines) else "warning",
        do="" if same == len(lines) else f"pip install --constraint {CONSTRAINTS} mobileclf",
    )  # fmt: skip


def _without_metadata() -> Iterator[Line]:
    if version_of("mobileclf") is None:
        yield Line(
            section=SECTION, what="mobileclf", found="no package metadata", wanted="installed",
            state="wrong", do="pip install mobileclf (or `pip install --editable .` in a checkout)",
            needed=True,
        )  # fmt: skip
    if _parser() is None:
        yield Line(
            section=SECTION, what="packaging", found="not installed: no version is compared",
            wanted="any (TensorFlow and Keras need it)", state="missing",
            do="pip install packaging", needed=True,
        )  # fmt: skip


@cache
def _parser() -> Any:
    """packaging's Requirement, or None where that is missing."""
    try:
        return import_module("packaging.requirements").Requirement
    except ImportError:
        return None


def _applies(requirement: Any, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _lacking(requirement: Any) -> list[str]:
    """What the extras of an installed package ask for and is not installed."""
    parse = _parser()
    asked = [parse(text) for text in requires(requirement.name)]
    added = [
        r for r in asked
        if not _applies(r, "") and any(_applies(r, extra) for extra in requirement.extras)
    ]  # fmt: skip
    return [r.name for r in added if version_of(r.name) is None]


def _range(requirement: Any) -> str:
    return ",".join(sorted(str(requirement.specifier).split(","), reverse=True))


def _within(requirement: Any, version: str) -> bool:
    try:
        return bool(requirement.specifier.contains(version, prereleases=True))
    except ValueError:  # no version at all
        return False


def in_range(name: str, range_: str, version: str) -> bool:
    requirement = _parser()
    return requirement is None or _within(requirement(name + range_), version)
