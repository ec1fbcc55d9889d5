"""Tools that build the sample Android app. None is needed to make or check a bundle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .line import Line

SECTION = "Android (to build the sample app)"
# Of the app, whose Android Gradle plugin is 9.
PLATFORM, BUILD_TOOLS, JAVA = 36, 36, 17
JAVA_LIMIT = 10  # seconds


def lines() -> Iterator[Line]:
    """SDK, its parts, adb, Java and Gradle."""
    sdk = _sdk()
    yield from _sdk_lines(sdk)
    yield _tool("adb", sdk, "platform-tools/adb", "sdkmanager platform-tools")
    yield _java()
    yield _gradle()


def _sdk() -> Path | None:
    """The SDK's folder: as the environment says, or where Android Studio puts it."""
    for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        if os.environ.get(name):
            return Path(os.environ[name])
    home = Path.home()
    usual = {"darwin": home / "Library/Android/sdk", "win32": home / "AppData/Local/Android/Sdk"}
    folder = usual.get(sys.platform, home / "Android/Sdk")
    return folder if folder.is_dir() else None


def _sdk_lines(sdk: Path | None) -> Iterator[Line]:
    if sdk is None or not sdk.is_dir():
        found = "not found" if sdk is None else f"{sdk}: there is no such folder"
        yield Line(
            section=SECTION, what="SDK", found=found, wanted="optional",
            state="missing" if sdk is None else "wrong",
            do="install Android Studio, or export ANDROID_HOME=FOLDER of the SDK",
        )  # fmt: skip
        return
    home, root = os.environ.get("ANDROID_HOME"), os.environ.get("ANDROID_SDK_ROOT")
    differ = bool(home and root) and Path(str(home)).resolve() != Path(str(root)).resolve()
    yield Line(
        section=SECTION, what="SDK", wanted="optional", state="warning" if differ else "ok",
        found=f"{sdk}, but ANDROID_SDK_ROOT is {root}" if differ else str(sdk),
        do="unset ANDROID_SDK_ROOT" if differ else "",
    )  # fmt: skip
    platforms = [int(m[1]) for m in _names(sdk / "platforms", r"android-(\d+)(?:\.\d+)?$")]
    yield _part("platform", platforms, PLATFORM, f"sdkmanager 'platforms;android-{PLATFORM}'")
    tools = [int(m[1]) for m in _names(sdk / "build-tools", r"(\d+)\.[\d.]+$")]
    yield _part("build-tools", tools, BUILD_TOOLS, f"sdkmanager 'build-tools;{BUILD_TOOLS}.0.0'")


def _names(folder: Path, pattern: str) -> list[re.Match[str]]:
    if not folder.is_dir():
        return []
    found = (re.match(pattern, entry.name) for entry in folder.iterdir())
    return [match for match in found if match]


def _part(what: str, versions: list[int], wanted: int, do: str) -> Line:
    newest = max(versions, default=None)
    fits = newest is not None and newest >= wanted
    return Line(
        section=SECTION, what=what, wanted=f"{wanted} or newer",
        found=", ".join(map(str, sorted(set(versions)))) or "none",
        state="ok" if fits else ("missing" if newest is None else "wrong"), do="" if fits else do,
    )  # fmt: skip


def _tool(name: str, sdk: Path | None, inside: str, do: str) -> Line:
    candidates = [shutil.which(name), str(sdk / inside) if sdk is not None else None]
    found = next((path for path in candidates if path and Path(path).is_file()), None)
    return Line(section=SECTION, what=name, found=found or "not found", wanted="optional",
                state="ok" if found else "missing", do="" if found else do)  # fmt: skip


def _java() -> Line:
    home = os.environ.get("JAVA_HOME")
    command = str(Path(home, "bin", "java")) if home else shutil.which("java")
    version, where = _java_version(command) if command else None, command or "not found"
    install = f"install a JDK {JAVA} or newer, or export JAVA_HOME=FOLDER of one"
    if version is None:
        found = f"{where} does not run" if command else where
        return Line(section=SECTION, what="Java", found=found, wanted=f"{JAVA} or newer",
                    state="wrong" if command else "missing", do=install)  # fmt: skip
    fits = version >= JAVA
    return Line(section=SECTION, what="Java", found=f"{version} ({where})",
                wanted=f"{JAVA} or newer", state="ok" if fits else "wrong",
                do="" if fits else install)  # fmt: skip


def _java_version(command: str) -> int | None:
    try:
        done = subprocess.run([command, "-version"], capture_output=True, text=True,
                              timeout=JAVA_LIMIT, errors="replace",
                              stdin=subprocess.DEVNULL)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(said[1]) if said and not done.returncode else None


def _gradle() -> Line:
    places = (Path("android_demo"), Path())
    wrapper = next((str(p / "gradlew") for p in places if (p / "gradlew").is_file()), None)
    found = wrapper or shutil.which("gradle")
    return Line(section=SECTION, what="Gradle", found=found or "not found", wanted="optional",
                state="ok" if found else "missing",
                do="" if found else "open the app in Android Studio, which brings it")  # fmt: skip
