"""The ImageNet weights that Keras keeps, and whether they are whole. No network is asked."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mobileclf.settings import BACKBONES, UNTRAINED

from .line import Line, megabytes
from .resources import nearest, why_not_writable

SECTION = "weights"


@dataclass(frozen=True, kw_only=True)
class File:
    """What Keras downloads for a backbone at its default size. md5: None where Keras has none,
    and so does not notice by itself when the file is broken."""

    name: str
    size: int
    md5: str | None


FILES = {
    "inception_v3": File(
        name="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        size=87_910_968,
        md5="bcbd6486424b2319ff4ef7d526e38f63",
    ),
    "mobilenet_v2": File(
        name="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        size=9_406_464,
        md5=None,
    ),
}
assert set(FILES) == set(BACKBONES) - set(UNTRAINED)


def wanted_cache() -> Path:
    """Where Keras is to keep its files: KERAS_HOME, or `.keras` in the home folder."""
    home = os.environ.get("KERAS_HOME")
    return Path(home).expanduser() if home else Path("~/.keras").expanduser()


def cache() -> Path:
    """Where Keras keeps them: it goes to /tmp when the wanted folder cannot be written."""
    wanted = wanted_cache()
    if os.access(nearest(wanted), os.W_OK):
        return wanted
    return Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()) / ".keras"


def lines() -> Iterator[Line]:
    """The folder, and the file of each backbone that has ImageNet weights."""
    wanted, used = wanted_cache(), cache()
    problem = why_not_writable(nearest(used))
    found, do = str(used), ""
    if used != wanted:
        found = f"{wanted} cannot be written, so Keras keeps them in {used}"
        do = f"make {wanted} writable, or export KERAS_HOME=FOLDER"
    elif problem is not None:
        found = f"{used} cannot be written: {problem}"
        do = f"make {used} writable, or export KERAS_HOME=FOLDER"
    yield Line(section=SECTION, what="folder", found=found, wanted="can be written",
               state="warning" if do else "ok", do=do)  # fmt: skip
    for backbone, file in FILES.items():
        yield _file(backbone, file, used / "models" / file.name)


def still_to_come() -> int:
    """Bytes of the weights that are not there yet."""
    folder = cache() / "models"
    return sum(file.size for file in FILES.values() if not (folder / file.name).exists())


def _file(backbone: str, file: File, path: Path) -> Line:
    size = megabytes(file.size)
    wanted = f"{size}, optional"
    if not path.exists():
        return Line(
            section=SECTION, what=backbone, found="not there", wanted=wanted, state="missing",
            do=f"will be downloaded once ({size}); without a network give --weights FILE",
        )  # fmt: skip
    problem = _problem(file, path)
    if problem is None:
        checked = "whole" if file.md5 else "of the right size"
        return Line(section=SECTION, what=backbone, found=f"{checked}, {path}", wanted=wanted)
    do = f"remove {path}; it will be downloaded again ({size})"
    return Line(section=SECTION, what=backbone, found=f"{problem}, {path}", wanted=wanted,
                state="wrong", do=do)  # fmt: skip


def _problem(file: File, path: Path) -> str | None:
    try:
        size = path.stat().st_size
        if size != file.size:
            return f"{size} bytes in place of {file.size}"
        if file.md5 is None:
            return None
        # Keras' own list is of md5.
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as opened:
            while piece := opened.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        return f"not readable ({error.strerror})"
    return None if digest.hexdigest() == file.md5 else "other bytes than Keras published"
