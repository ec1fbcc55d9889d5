"""Python, the mobileclf that answers, and the settings around them."""

from __future__ import annotations

import json
import locale
import os
import platform
import struct
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mobileclf
from mobileclf.config import CONFIG_FILE, make_settings
from mobileclf.errors import UsageError

from .line import Line
from .packages import in_range, version_of

PYTHON, SETTINGS = "Python", "settings"
# What TensorFlow is built for: wheels exist for these alone.
BUILT_FOR = {("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"), ("Windows", "AMD64")}
BACKENDS = ("tensorflow", "jax")


def python_lines() -> Iterator[Line]:
    """Version, system, and where mobileclf comes from."""
    version = platform.python_version()
    wanted = _requires_python()
    fits = wanted is None or in_range("python", wanted, version)
    yield Line(
        section=PYTHON, what="Python", found=f"{version} in {sys.prefix}", wanted=wanted or "any",
        state="ok" if fits else "wrong", needed=True,
        do="" if fits else f"make a virtual environment with a Python {wanted} and install there",
    )  # fmt: skip
    bits = struct.calcsize("P") * 8
    yield Line(
        section=PYTHON, what="word size", found=f"{bits} bit", wanted="64 bit", needed=True,
        state="ok" if bits == 64 else "wrong",
        do="" if bits == 64 else "install a 64-bit Python: TensorFlow has no other",
    )  # fmt: skip
    known = (platform.system(), platform.machine()) in BUILT_FOR
    if known and platform.system() == "Linux":
        known = platform.libc_ver()[0] == "glibc"
    yield Line(
        section=PYTHON, what="system",
        found=" ".join((platform.system(), platform.release(), platform.machine())),
        wanted="Linux with glibc, macOS on Apple silicon, or Windows on x86-64",
        state="ok" if known else "warning",
        do="" if known else "use one of these (a container will do): TensorFlow is built for them",
    )  # fmt: skip
    yield _location()


def _requires_python() -> str | None:
    try:
        return metadata.metadata("mobileclf")["Requires-Python"]
    except (metadata.PackageNotFoundError, KeyError):
        return None


def _location() -> Line:
    """Whether the mobileclf that was imported is the one that is installed, and the only one."""
    here = Path(mobileclf.__file__).resolve().parent
    installed = _installed_at()
    version = version_of("mobileclf")
    others = sorted(
        {
            str(folder)
            for entry in sys.path
            if (folder := Path(entry or ".").resolve() / "mobileclf") != here
            and (folder / "__init__.py").is_file()
        }
    )
    found, do = f"{mobileclf.__version__} in {here}", ""
    if installed is not None and installed != here:
        found += f", but {version} is installed in {installed}"
        do = "leave that folder, or clear PYTHONPATH, so that the installed one is found"
    elif version is not None and version != mobileclf.__version__:
        found += f", but its package metadata say {version}"
        do = "install it again: `pip install --force-reinstall --no-deps mobileclf`"
    elif others:
        found += f"; another lies in {', '.join(others)}"
        do = f"remove {', '.join(others)} from sys.path"
    return Line(section=PYTHON, what="mobileclf", found=found, wanted="the installed one, alone",
                state="warning" if do else "ok", do=do)  # fmt: skip


def _installed_at() -> Path | None:
    """The package's folder by its metadata; of an editable install, None where it may be
    anywhere below the project."""
    try:
        distribution = metadata.distribution("mobileclf")
    except metadata.PackageNotFoundError:
        return None
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        folder = Path(url2pathname(urlsplit(origin["url"]).path)) / "mobileclf"
        return folder.resolve() if folder.is_dir() else None
    return Path(str(distribution.locate_file("mobileclf"))).resolve()


def setting_lines() -> Iterator[Line]:
    """What is set in this folder and in the environment, where it can stand in the way."""
    yield _config()
    yield _encoding()
    yield _temporary()
    yield _backend()


def _config() -> Line:
    path = Path(CONFIG_FILE)
    if not path.exists():
        return Line(section=SETTINGS, what=CONFIG_FILE, found="none here", wanted="optional")
    try:
        make_settings({})
    except UsageError as error:
        return Line(
            section=SETTINGS, what=CONFIG_FILE, found=str(error), wanted="optional", state="wrong",
            do=f"correct {path.resolve()}, or remove it", needed=True,
        )  # fmt: skip
    return Line(section=SETTINGS, what=CONFIG_FILE, found="read", wanted="optional")


def _encoding() -> Line:
    # Not the encoding of stdout now: the command has made that UTF-8 by itself.
    found = {
        "locale": locale.getpreferredencoding(False),
        "file names": sys.getfilesystemencoding(),
    }
    other = [name for name, encoding in found.items() if not _is_utf8(encoding)]
    do = "set PYTHONUTF8=1" if os.name == "nt" else "export LC_ALL=C.UTF-8"
    return Line(
        section=SETTINGS, what="encoding", wanted="UTF-8", state="warning" if other else "ok",
        found=", ".join(f"{name}: {encoding}" for name, encoding in found.items()),
        do=do if other else "",
    )  # fmt: skip


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") == "utf8"


def _temporary() -> Line:
    wanted = next((os.environ[n] for n in ("TMPDIR", "TEMP", "TMP") if os.environ.get(n)), None)
    try:
        found = tempfile.gettempdir()
    except OSError:
        return Line(section=SETTINGS, what="temporary folder", found="none can be written",
                    wanted="a folder that can be written", state="wrong", needed=True,
                    do="export TMPDIR=FOLDER, one that can be written")  # fmt: skip
    same = wanted is None or Path(wanted).resolve() == Path(found).resolve()
    return Line(
        section=SETTINGS, what="temporary folder", wanted="a folder that can be written",
        found=found if same else f"{wanted} cannot be written, so {found} is used",
        state="ok" if same else "warning",
        do="" if same else f"make {wanted} writable, or export TMPDIR=FOLDER with another",
    )  # fmt: skip


def _backend() -> Line:
    found = os.environ.get("KERAS_BACKEND", "tensorflow")
    do = ""
    if found not in BACKENDS:
        do = "unset KERAS_BACKEND"
    elif version_of(found) is None:
        do = "pip install 'mobileclf[jax]', or unset KERAS_BACKEND" if found == "jax" else ""
    return Line(section=SETTINGS, what="Keras backend", found=found, wanted=" or ".join(BACKENDS),
                state="wrong" if do else "ok", do=do, needed=True)  # fmt: skip
