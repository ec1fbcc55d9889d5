"""From a folder of photos to a proven int8 TFLite bundle for Android.

One function for each command: `export`, `sample`, `dataset`, `train`, `quantize`, `convert`,
`score`, `select`, `threshold`, `parity`, `predict`, `inspect`, `bench` and `doctor`, and
`explain` for `inspect --explain`. Each returns its record.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .benchmark.bench import bench as bench
    from .checkup.doctor import doctor as doctor
    from .errors import DataError as DataError
    from .errors import EnvironmentProblem as EnvironmentProblem
    from .errors import MobileclfError as MobileclfError
    from .errors import ProofError as ProofError
    from .errors import UsageError as UsageError
    from .layers.explain import explain as explain
    from .pipeline import convert as convert
    from .pipeline import dataset as dataset
    from .pipeline import export as export
    from .pipeline import parity as parity
    from .pipeline import quantize as quantize
    from .pipeline import sample as sample
    from .pipeline import score as score
    from .pipeline import select as select
    from .pipeline import threshold as threshold
    from .pipeline import train as train
    from .prediction.predict import predict as predict
    from .settings import Settings as Settings
    from .tflite.inspect import inspect as inspect

__version__ = "0.1.0"

_HOMES = {
    "config": ("Settings",),
    "errors": ("DataError", "EnvironmentProblem", "MobileclfError", "ProofError", "UsageError"),
    "pipeline": (
        "convert",
        "dataset",
        "export",
        "parity",
        "quantize",
        "sample",
        "score",
        "select",
        "threshold",
        "train",
    ),
    "layers.explain": ("explain",),
    "checkup.doctor": ("doctor",),
    "prediction.predict": ("predict",),
    "benchmark.bench": ("bench",),
    "tflite.inspect": ("inspect",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    # On first use, so that importing mobileclf loads nothing more than this file.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
