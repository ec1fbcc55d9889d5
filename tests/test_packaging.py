"""The package: it resolves wherever it promises to, and what is built holds what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).parent / "uv"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PLATFORMS = ("linux", "macos", "windows")
EXTRAS = ("oldest", "gpu", "jax", "dev")
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
    if re.search(r"dns error|error sending request|Failed to fetch|offline", done.stderr):
        pytest.skip("needs the package index, which cannot be reached")
    return done


def versions(resolved: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?==(\S+)", resolved, re.M))


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("python", PYTHONS)
def test_resolves_with_every_extra(python: str, platform: str) -> None:
    done = resolve(ROOT / "pyproject.toml", python, platform)
    assert done.returncode == 0, done.stderr
    found = versions(done.stdout)
    assert {"tensorflow", "tf-keras", "keras", "ai-edge-litert", "jax", "ruff"} <= set(found)
    oldest = platform == "linux" and python in ("3.10", "3.11")
    assert ("tflite-runtime" in found) is oldest
    assert (int(found["numpy"].split(".")[0]) < 2) is oldest
    assert ("tomli" in found) or python != "3.10"


@pytest.mark.parametrize(("python", "platform"), [("3.13", "linux"), ("3.11", "windows")])
def test_a_lost_marker_is_found(tmp_path: Path, python: str, platform: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert text.count(MARKER) == 2
    broken = tmp_path / "pyproject.toml"
    broken.write_text(text.replace(f"tflite-runtime==2.14.*{MARKER}", "tflite-runtime==2.14.*"))
    done = resolve(broken, python, platform)
    assert done.returncode != 0
    assert "tflite-runtime" in done.stderr


def test_a_lost_marker_of_numpy_is_found(tmp_path: Path) -> None:
    broken = tmp_path / "pyproject.toml"
    broken.write_text((ROOT / "pyproject.toml").read_text().replace(f"numpy<2{MARKER}", "numpy<2"))
    done = resolve(broken, "3.13", "linux")
    # Old numpy may still resolve there; that it does is what the test above would trip over.
    assert done.returncode != 0 or versions(done.stdout)["numpy"].startswith("1.")


def test_the_constraints_are_exact_and_fit_the_ranges() -> None:
    lines = (ROOT / "constraints-3.11.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+(\[[a-z,-]+\])?==[^ ]+( ; .*)?", pin) for pin in pins)
    done = subprocess.run(
        [
            UV, "pip", "compile", ROOT / "pyproject.toml", "--extra", "oldest", "--extra", "dev",
            "--constraint", ROOT / "constraints-3.11.txt", "--python-version", "3.11",
            "--python-platform", "linux", "--only-binary", ":all:", "--no-header",
            "--no-annotate", "--quiet", "--no-python-downloads",
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    if re.search(r"dns error|error sending request|Failed to fetch", done.stderr):
        pytest.skip("needs the package index, which cannot be reached")
    assert done.returncode == 0, done.stderr
    assert versions(done.stdout) == versions("\n".join(pins))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="needs hatchling (extra dev)")
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True, capture_output=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
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
    wanted = {"LICENSE", "README.md", "Makefile", "constraints-3.11.txt", "pyproject.toml"}
    assert wanted <= names
    assert "tests/test_packaging.py" in names and "mobileclf/py.typed" in names
    assert not any(name.startswith(("runs/", "dist/", ".venv")) for name in names)


def test_the_version_is_one_fact() -> None:
    import mobileclf

    assert f'version = "{mobileclf.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {mobileclf.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_registry_is_named() -> None:
    for name in ("Makefile", ".ci/run", "pyproject.toml", "constraints-3.11.txt", "README.md"):
        text = (ROOT / name).read_text()
        assert not re.search(r"index-url|find-links|https?://[^ ]*simple|pypi", text), name
