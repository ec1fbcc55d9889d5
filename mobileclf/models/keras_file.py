"""`.keras` files with equal bytes for equal models."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from mobileclf.records import write_bytes

ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def save(model: Any, path: Path) -> None:
    """Save a Keras 3 model without the times and addresses that Keras writes into the file."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.keras"
        model.save(plain)
        packed = io.BytesIO()
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w") as target:
            for name in sorted(source.namelist()):
                data = source.read(name)
                if name == "metadata.json":
                    about = json.loads(data)
                    about.pop("date_saved", None)
                    data = json.dumps(about, sort_keys=True).encode()
                elif name == "config.json":
                    data = _numbered(data.decode()).encode()
                target.writestr(zipfile.ZipInfo(name, ZIP_DATE), data)
    write_bytes(path, packed.getvalue())


def _numbered(config: str) -> str:
    """The configuration with shared objects counted, where Keras writes their addresses."""
    seen: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        return found[1] + str(seen.setdefault(found[2], len(seen)))

    return re.sub(r'("shared_object_id": )(\d+)', number, config)


def load(path: Path) -> Any:
    """Load a `.keras` file in safe mode, for inference."""
    import keras

    return keras.saving.load_model(path, compile=False, safe_mode=True)


def is_keras_3(path: Path) -> bool:
    """Whether a `.keras` file says that Keras 3 wrote it, and not tf.keras before it."""
    try:
        with zipfile.ZipFile(path) as packed:
            version = json.loads(packed.read("metadata.json"))["keras_version"]
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
        return True  # loading it will say what is wrong
    return not str(version).startswith("2.")
