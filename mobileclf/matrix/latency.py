"""How fast the entries are that an app may run, as ratios to one of them, on this machine.

Each variant is a group with the reference in front, timed in interleaved rounds by the processes
of `benchmark`. Of one that takes seconds a photo a single entry is timed. TensorFlow's own
interpreter and the reference kernels are in no app and are not timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

from mobileclf import cores, progress
from mobileclf.benchmark import machine
from mobileclf.benchmark.bench import SLICE
from mobileclf.benchmark.child import Child
from mobileclf.benchmark.rounds import Configuration, Group, Round, Slice, measure, verdicts
from mobileclf.errors import DataError
from mobileclf.records import Record
from mobileclf.tflite.interpreter import Kernels
from mobileclf.tflite.runtimes import OLDEST, Runtime

from .entries import SLOW_VARIANTS, Result, family_of

SECONDS = 300.0  # of rounds at most; they end sooner once every ratio is known
APPS: Runtime = "ai-edge-litert"
REFERENCE = "float32"


def measured(results: Sequence[Result], *, seconds: float, seed: int) -> Record:
    """Latencies in ms and ratios to float32 on LiteRT with XNNPACK and one thread; where there is
    no float32, to the first entry. `trouble`: why a ratio is not to be relied on, or None.

    What cannot go on is a `problem` of the whole: an answer is not worth less for it.
    """
    timed = [result for result in results if _is_timed(result, results)]
    if not timed:
        return {"reference": None, "rows": [], "problem": None}
    files = list(dict.fromkeys(result.entry.variant.file for result in timed))
    names = {files.index(r.entry.variant.file): r.entry.variant.name for r in timed}
    every = [_configuration(result, files.index(result.entry.variant.file)) for result in timed]
    reference = next((c for c in every if names[c.model] == REFERENCE), every[0])
    groups: list[Group] = []
    for model in sorted(names):
        own = tuple(c for c in every if c.model == model and c != reference)
        if own:
            groups.append((reference, *own))
    about = {"machine": machine.description(), "reference": _named(names, reference)}
    try:
        rounds = _rounds([str(file) for file in files], groups, seconds, seed)
    except DataError as error:
        return {**about, "rows": [], "problem": str(error)}
    rows = [_row(names, reference, None, rounds[0])] if groups else []
    for group, own_rounds in zip(groups, rounds, strict=True):
        rows += [_row(names, c, group, own_rounds) for c in group[1:]]
    return {**about, "rows": rows, "problem": None}


def _is_timed(result: Result, results: Sequence[Result]) -> bool:
    entry = result.entry
    if result.scores is None or entry.runtime not in (APPS, OLDEST):
        return False
    if entry.kernels == "reference" or entry.threads > cores.usable():
        return False
    if entry.variant.name in SLOW_VARIANTS:
        return (entry.runtime, entry.kernels, entry.threads) == (APPS, "xnnpack", 1)
    # Where XNNPACK takes nothing, the built-in kernels have run already.
    return entry.kernels == "xnnpack" or not any(
        other.entry.kernels == "xnnpack" and family_of(other) == "builtin"
        for other in results
        if other.scores is not None
        and other.entry.variant == entry.variant
        and (other.entry.runtime, other.entry.threads) == (entry.runtime, entry.threads)
    )


def _configuration(result: Result, model: int) -> Configuration:
    kernels: Kernels = "builtin" if result.entry.kernels == "builtin" else "xnnpack"
    return Configuration(
        model=model, runtime=result.entry.runtime, kernels=kernels, threads=result.entry.threads
    )


def _rounds(
    files: Sequence[str], groups: Sequence[Group], seconds: float, seed: int
) -> list[list[Round]]:
    """Raises DataError where a runtime cannot go on with a model that it has run before."""
    runtimes = sorted({c.runtime for group in groups for c in group})
    with ExitStack() as stack:
        children = {r: stack.enter_context(Child(r)) for r in runtimes}
        shown = stack.enter_context(progress.bar("matrix, latency", round(seconds)))
        began = time.monotonic()

        def one(c: Configuration) -> Slice:
            watch = machine.Watch()
            answer = children[c.runtime].ask(
                model=files[c.model], kernels=c.kernels, threads=c.threads, seconds=SLICE,
                seed=seed,
            )  # fmt: skip
            if "problem" in answer:
                raise DataError(f"latency: {c.runtime} could not go on ({answer['problem']})")
            others = watch.others(answer["cpu_seconds"])
            shown.update(shown.task_ids[0], completed=min(seconds, time.monotonic() - began))
            return Slice(
                times_ms=tuple(answer["times_ms"]), invokes=answer["invokes"],
                load_ms=answer["load_ms"], first_ms=answer["first_ms"], others=others,
            )  # fmt: skip

        return measure(groups, one, cores.usable(), seconds=seconds, seed=seed)


def _row(
    names: Mapping[int, str],
    configuration: Configuration,
    group: Group | None,
    rounds: Sequence[Round],
) -> Record:
    """group: None of the reference itself, which has no ratio."""
    median_ms = median(median(one[configuration].times_ms) for one in rounds)
    row = {**_named(names, configuration), "median_ms": median_ms, "rounds": len(rounds)}
    if group is None:
        return {**row, "ratio": None, "interval": None, "trouble": None}
    found = verdicts(group, rounds, cores.usable())[configuration]
    known = math.isfinite(found.high)
    return {
        **row,
        "ratio": found.value,
        "interval": [found.low, found.high] if known else None,
        "trouble": found.trouble,
    }


def _named(names: Mapping[int, str], configuration: Configuration) -> Record:
    return {
        "variant": names[configuration.model],
        "runtime": configuration.runtime,
        "kernels": configuration.kernels,
        "threads": configuration.threads,
    }
