"""Whether an app's old runtime runs a model: by its operators' versions, and for real by loading.

Releases are those of TensorFlow, as which TFLite counted too: an app's `tensorflow-lite:2.14.0`
is 2.14. LiteRT begins again at 1.0 after TensorFlow 2.16, so a model that passes here for 2.16
or before needs nothing that any LiteRT lacks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from mobileclf.errors import EnvironmentProblem, ProofError
from mobileclf.records import Record
from mobileclf.spelling import release_of

from . import delegates, graph
from .runtime_versions import first_release, release_key
from .runtimes import OLDEST, at_hand, runtime_name


class TooNew(ProofError):
    """A runtime cannot run a model. found: what stands against it, where `wanted` is known."""

    def __init__(self, *, wanted: str, found: str, advice: str) -> None:
        self.found = f"{found}; {advice}"
        super().__init__(f"min-runtime: wanted {wanted}, found {self.found}")


def check(model: bytes, wanted: str) -> Record:
    """Prove that the runtime of release `wanted`, as `2.14`, has every operator of a model.

    Where tflite-runtime is installed and no older than that, it loads the model and runs it once,
    in a process of its own. Returns `wanted`, the release that the operators need (`needs`; None
    of a model without any) and what loaded it (`loaded_by`; None where nothing could be asked).

    Raises TooNew naming the operators that are too new or that no release is known to have,
    or the runtime's reason; DataError for what is no `.tflite`; UsageError for another `wanted`.
    """
    most = _padded(wanted)
    every = tuple(op for each in graph.read(model).subgraphs for op in each.operators)
    found = [(name, version, first_release(name, version))
             for name, version, _ in graph.counts(every)]  # fmt: skip
    unknown = [f"{name} {version}" for name, version, release in found if release is None]
    known = [(name, version, release) for name, version, release in found if release is not None]
    new = [
        f"{name} {version} (since {_short(release)})"
        for name, version, release in known
        if release_key(release) > most
    ]
    needs = max((release for *_, release in known), key=release_key, default=None)
    operators = f"operators that TensorFlow Lite {wanted} has"
    if unknown:
        raise TooNew(
            wanted=operators,
            found=f"{', '.join(unknown)}, which no release is known to have",
            advice="leave them out of the model",
        )
    if new:
        raise TooNew(
            wanted=operators,
            found=", ".join(new),
            advice=f"ask for --min-runtime {_short(str(needs))} and give the app that runtime, or "
            "convert with fewer new operators",
        )
    return {"wanted": wanted, "needs": needs, "loaded_by": _loaded(model, wanted)}


def _loaded(model: bytes, wanted: str) -> str | None:
    """The oldest runtime at hand, once it has run the model. Raises TooNew where it cannot.

    An older one than `wanted` is not asked: what it lacks says nothing.
    """
    if not at_hand(OLDEST) or _padded(_version()) < _padded(wanted):
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(model)
        (found,) = delegates.load(file, [OLDEST], run=True)
    if found.loads is None:
        raise EnvironmentProblem(f"{found.runtime}: {found.reason}; repair or uninstall {OLDEST}")
    if not found.loads:
        raise TooNew(
            wanted=f"a model that runs on {found.runtime}",
            found=f"that {found.runtime} cannot run it ({found.reason})",
            advice="ask for a newer --min-runtime",
        )
    return found.runtime


def _padded(release: str) -> tuple[int, ...]:
    """With the patch, so that 2.14 and 2.14.0 are the same."""
    return (*release_of(release), 0)[:3]


def _version() -> str:
    """Of the oldest runtime that is installed, as `2.14.0`."""
    return runtime_name(OLDEST).split()[1]


def _short(release: str) -> str:
    return release.removesuffix(".0") if release.count(".") == 2 else release
