"""The package: it resolves wherever it promises to, and what is built holds what it should."""

from __future__ import annotations

import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from .wheels import ROOT, UNREACHABLE, UV, build

CONSTRAINTS = "mobileclf/constraints-3.11.txt"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORMS = ("linux", "macos", "windows")
EXTRAS = ("oldest", "gpu", "jax", "heif", "cluster", "ray", "dev")
MARKER = "; sys_platform == 'linux' and python_version < '3.12'"

pytestmark = pytest.mark.skipif(not UV.exists(), reason="needs uv beside python (extra dev)")


def resolve(
    project: Path, python: str, platform: str, extras: tuple[str, ...] = EXTRAS
) -> subprocess.CompletedProcess[str]:
    """What would be installed there, wheels only; uv evaluates markers for the target."""
    command = [str(UV), "pip", "compile", str(project), "--no-header", "--no-annotate", "--quiet"]
    command += ["--python-version", python, "--python-platform", platform]
    command += ["--only-binary", ":all:", "--no-python-downloads"]
    for extra in extras:
        command += ["--extra", extra]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if UNREACHABLE.search(done.stderr):
        pytest.skip("needs the package index, which cannot be reached")
    return done


def versions(resolved: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?==(\S+)", resolved, re.M))


def wrong_in(done: subprocess.CompletedProcess[str], python: str, platform: str) -> list[str]:
    """What of the promise does not hold of a resolution; empty when all of it does."""
    if done.returncode:
        return [done.stderr]
    found = versions(done.stdout)
    oldest = platform == "linux" and python in ("3.10", "3.11")
    checks = {
        "what it cannot do without": {"tensorflow", "tf-keras", "keras", "ai-edge-litert", "jax"}
        <= set(found),
        "tflite-runtime only where it exists": ("tflite-runtime" in found) is oldest,
        "numpy 1 only beside tflite-runtime": found.get("numpy", "").startswith("1.") is oldest,
        "tomli where Python has no tomllib": "tomli" in found or python != "3.10",
    }
    return [what for what, holds in checks.items() if not holds]


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_resolves_with_every_extra(python: str, platform: str) -> None:
    done = resolve(ROOT / "pyproject.toml", python, platform)
    assert wrong_in(done, python, platform) == []


@pytest.mark.parametrize("requirement", ["tflite-runtime==2.14.*", "numpy<2"])
@pytest.mark.parametrize(("python", "platform"), [("3.12", "linux"), ("3.11", "windows")])
def test_a_lost_marker_is_found(
    tmp_path: Path, requirement: str, python: str, platform: str
) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert text.count(requirement + MARKER) == 1
    broken = tmp_path / "pyproject.toml"
    broken.write_text(text.replace(requirement + MARKER, requirement))
    found = wrong_in(resolve(broken, python, platform), python, platform)
    assert found and any(re.search(requirement[:5], what) for what in found)


def test_the_constraints_are_exact_and_fit_the_ranges() -> None:
    lines = (ROOT / CONSTRAINTS).read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+(\[[a-z,-]+\])?==[^ ]+( ; .*)?", pin) for pin in pins)
    done = subprocess.run(
        [
            UV, "pip", "compile", ROOT / "pyproject.toml", "--extra", "oldest", "--extra", "dev",
            "--constraint", ROOT / CONSTRAINTS, "--python-version", "3.11",
            "--python-platform", "linux", "--only-binary", ":all:", "--no-header",
            "--no-annotate", "--quiet", "--no-python-downloads",
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    if UNREACHABLE.search(done.stderr):
        pytest.skip("needs the package index, which cannot be reached")
    assert done.returncode == 0, done.stderr
    assert versions(done.stdout) == versions("\n".join(pins))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    build(out)
    return out


def test_the_wheel_holds_every_module_the_licence_and_the_typing_mark(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mobileclf").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "mobileclf/py.typed" in wanted
    assert wanted <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "runs/", "exported/")) for name in names)


def test_the_sdist_holds_what_make_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"LICENSE", "README.md", "Makefile", CONSTRAINTS, "pyproject.toml"}
    assert wanted <= names
    assert "tests/test_packaging.py" in names and "mobileclf/py.typed" in names
    assert not any(name.startswith(("runs/", "dist/", ".venv")) for name in names)


def test_the_version_is_one_fact() -> None:
    import mobileclf

    assert f'version = "{mobileclf.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {mobileclf.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_registry_is_named() -> None:
    for name in ("Makefile", ".ci/run", "pyproject.toml", CONSTRAINTS, "README.md"):
        text = (ROOT / name).read_text()
        assert not re.search(r"index.url|find.links|https?://[^ ]*simple|pypi", text), name
