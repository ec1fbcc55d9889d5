"""The runtimes for `.tflite` files: their modules, and which of them are installed."""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from typing import Literal, get_args

Runtime = Literal["ai-edge-litert", "tensorflow", "tflite-runtime"]
MODULES: dict[Runtime, str] = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
OLDEST: Runtime = "tflite-runtime"


def at_hand(runtime: Runtime) -> bool:
    """Whether `runtime` is installed."""
    # Of the package alone: to look for a module within it would import it, TensorFlow for seconds.
    return find_spec(_package(runtime)) is not None


def installed() -> list[Runtime]:
    """The runtimes that are installed, none of which is imported here."""
    return [runtime for runtime in get_args(Runtime) if at_hand(runtime)]


def runtime_name(runtime: Runtime) -> str:
    """Name and version of an installed runtime, as `ai-edge-litert 2.3.0`.

    With the distribution where that has another name: `tensorflow 2.21.0 (tensorflow-cpu)`. The
    name alone where nothing says the version.
    """
    try:
        return f"{runtime} {metadata.version(runtime)}"
    except metadata.PackageNotFoundError:
        for name in metadata.packages_distributions().get(_package(runtime), []):
            return f"{runtime} {metadata.version(name)} ({name})"
    return runtime


def _package(runtime: Runtime) -> str:
    return MODULES[runtime].partition(".")[0]
