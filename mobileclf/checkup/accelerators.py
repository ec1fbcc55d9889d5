"""GPUs as the driver, TensorFlow and JAX see them, and the TFLite runtimes that run a model."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

from mobileclf.tflite.runtimes import MODULES, OLDEST, Runtime

from .line import Line
from .packages import module_of, version_of
from .probe import WANTED, Outcome

GPU, RUNTIMES = "GPU", "TFLite runtimes"
NVIDIA_SMI = 10  # seconds that it may take
USES: dict[Runtime, str] = {
    "ai-edge-litert": "needed: every score and golden case is taken on it",
    "tensorflow": "needed: scores of ai-edge-litert are held against it",
    "tflite-runtime": "optional: the oldest that apps ship",
}


def driver() -> Outcome:
    """What nvidia-smi says, in `gpus`; a problem of None without `gpus`: there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return Outcome()
    query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI,
                              stdin=subprocess.DEVNULL, errors="replace")  # fmt: skip
    except subprocess.TimeoutExpired:
        return Outcome(problem=f"nvidia-smi gave no answer in {NVIDIA_SMI} s")
    except OSError as error:
        return Outcome(problem=f"nvidia-smi cannot be started ({error.strerror})")
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode or not said:
        return Outcome(problem=f"nvidia-smi: {said[0] if said else 'no answer'}"[:200])
    return Outcome(answer={"gpus": said})


def gpu_lines(nvidia: Outcome, outcomes: Mapping[str, Outcome]) -> Iterator[Line]:
    """The driver, what each library sees, and the variables that hide or hold GPUs.

    outcomes: of `devices tensorflow`, and of `devices jax` where that is installed.
    """
    cards = nvidia.answer.get("gpus", [])
    if nvidia.problem is not None:
        yield Line(section=GPU, what="NVIDIA driver", found=nvidia.problem, wanted="optional",
                   state="wrong", do="load or reinstall the NVIDIA driver")  # fmt: skip
    elif cards:
        yield Line(section=GPU, what="NVIDIA driver", found="; ".join(cards), wanted="optional")
    else:
        yield Line(section=GPU, what="NVIDIA driver", found="none", state="missing",
                   wanted="optional: without it training runs on the CPU")  # fmt: skip
    hidden = _hidden()
    yield _seen(
        "TensorFlow", outcomes["devices tensorflow"], bool(cards), hidden,
        "use WSL 2: TensorFlow for Windows sees no GPU" if sys.platform == "win32"
        else "pip install 'mobileclf[gpu]'",
    )  # fmt: skip
    if "devices jax" in outcomes:
        yield _seen("JAX", outcomes["devices jax"], bool(cards), hidden,
                    "pip install --upgrade 'jax[cuda12]'")  # fmt: skip
    else:
        yield Line(section=GPU, what="JAX", found="not installed", wanted="optional (extra jax)",
                   state="missing")  # fmt: skip
    if hidden is not None:
        yield Line(section=GPU, what="CUDA_VISIBLE_DEVICES", found=hidden, wanted="unset",
                   state="warning" if cards else "ok",
                   do="unset CUDA_VISIBLE_DEVICES" if cards else "")  # fmt: skip
    yield from _growth()


def _hidden() -> str | None:
    """How CUDA_VISIBLE_DEVICES hides every GPU, or None."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None or (value.strip() and not value.strip().startswith("-")):
        return None
    return f"{'empty' if not value.strip() else value}: it hides every GPU"


def _seen(what: str, outcome: Outcome, card: bool, hidden: str | None, do: str) -> Line:
    gpus = outcome.answer.get("gpus", [])
    wanted = "a GPU, since there is one" if card else "optional"
    if outcome.problem is not None:
        return Line(section=GPU, what=what, found=outcome.problem, wanted=wanted, state="warning",
                    do=f"first repair {what}")  # fmt: skip
    if gpus:
        return Line(section=GPU, what=what, found=f"sees {', '.join(gpus)}", wanted=wanted)
    built = " (built without CUDA)" if outcome.answer.get("cuda") is False else ""
    found = f"sees no GPU{built}"
    if not card:
        return Line(section=GPU, what=what, found=found, wanted=wanted)
    return Line(section=GPU, what=what, found=found, wanted=wanted, state="warning",
                do="unset CUDA_VISIBLE_DEVICES" if hidden else do)  # fmt: skip


def _growth() -> Iterator[Line]:
    name = "TF_FORCE_GPU_ALLOW_GROWTH"
    value = os.environ.get(name)
    if value is not None:
        known = value in ("true", "false")
        yield Line(section=GPU, what=name, found=value or "empty", wanted="true or false",
                   state="ok" if known else "warning",
                   do="" if known else f"export {name}=true: another value is ignored")  # fmt: skip


def runtime_lines(outcomes: Mapping[str, Outcome]) -> Iterator[Line]:
    """Whether each runtime computes a tiny int8 model, and with which kernels.

    outcomes: of `run MODULE`, for those that are installed.
    """
    for name, module in MODULES.items():
        version, outcome = version_of(name), outcomes.get(f"run {module}")
        if outcome is None or (version is None and outcome.problem is not None):
            do = f"pip install {name}"
            if name == OLDEST:
                # It exists for Linux and Python before 3.12 alone.
                fits = sys.platform == "linux" and sys.version_info < (3, 12)
                do = "pip install 'mobileclf[oldest]'" if fits else ""
            yield Line(section=RUNTIMES, what=name, found="not installed", wanted=USES[name],
                       state="missing", do=do, needed=name != OLDEST)  # fmt: skip
            continue
        version = version or "some version"
        found, do = f"{version}, int8 by {_kernels(outcome)}", ""
        if outcome.problem is not None:
            found, do = f"{version}, does not run: {outcome.problem}", _repair(name)
        elif outcome.answer["output"] != WANTED:
            found = f"{version}, computes {outcome.answer['output']} in place of {WANTED}"
            do = _repair(name)
        elif name == "ai-edge-litert" and not outcome.answer["xnnpack"]:
            # The shipped answers are XNNPACK's; others would be called golden.
            found, do = f"{version}, runs without XNNPACK", _repair(name)
        # An installed runtime that does not run stops `score`, also the one that may be absent.
        yield Line(section=RUNTIMES, what=name, found=found, wanted=USES[name],
                   state="wrong" if do else "ok", do=do, needed=True)  # fmt: skip


def _kernels(outcome: Outcome) -> str:
    return "XNNPACK" if outcome.answer.get("xnnpack") else "built-in kernels"


def _repair(name: str) -> str:
    if name == OLDEST:
        return "pip install 'mobileclf[oldest]' (it wants numpy 1), or pip uninstall tflite-runtime"
    return f"pip install --force-reinstall {name}"


def steps() -> list[list[str]]:
    """What is to be tried, a list for each process: TensorFlow and its kin, the oldest runtime
    (its symbols clash with TensorFlow's), JAX."""
    kin = ["tensorflow", "keras", "tf-keras", "tensorflow-model-optimization"]
    first = [f"import {module_of(name)}" for name in kin]
    made = [[*first[:1], "devices tensorflow", f"run {MODULES['tensorflow']}", *first[1:]]]
    if version_of(OLDEST) is not None:
        made.append([f"run {MODULES[OLDEST]}"])
    if version_of("jax") is not None:
        made.append(["devices jax"])
    return made
