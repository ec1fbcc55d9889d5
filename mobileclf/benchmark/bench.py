"""Latency and memory of `.tflite` files on this machine, and whether the figures can be relied on.

First each configuration (model, runtime, kernels, threads) is loaded and run in a process of its
own, for its memory and for what XNNPACK takes of it. Then one process for each runtime times them
in turn, as `rounds` says. Processes are not bound to cores: the system moves them away from
a busy one, which a fixed choice could not.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Literal, get_args

from mobileclf import cores, progress
from mobileclf.errors import DataError, EnvironmentProblem, UsageError
from mobileclf.records import Record, sha256_file
from mobileclf.tflite.delegates import LARGEST_INPUT
from mobileclf.tflite.graph import file_bytes, read
from mobileclf.tflite.interpreter import Kernels
from mobileclf.tflite.runtimes import Runtime, at_hand, installed, runtime_name
from mobileclf.wording import counted

from . import SECONDS, machine
from .child import Child
from .rounds import Configuration, Group, Round, Slice, measure
from .summary import summary
from .worker import WARM_UP

# Of timed invokes in a slice: long against a tick of 10 ms, short against changes of load.
SLICE = 0.25
# Phones have more cores, but little gains from them.
MOST_THREADS = 4
# Rough seconds to start a process, for the plan.
START = {"ai-edge-litert": 1.0, "tensorflow": 6.0, "tflite-runtime": 1.0}


@dataclass(frozen=True, kw_only=True)
class _Model:
    """A model as shown and where it is."""

    name: str
    path: Path


def bench(
    models: Sequence[Path | str] | Path | str,
    *,
    threads: Sequence[int] | None = None,
    runtimes: Sequence[str] | None = None,
    kernels: Literal["xnnpack", "builtin", "both"] = "both",
    seconds: float = SECONDS,
    seed: int = 0,
    verbose: bool = False,
) -> Record:
    """Latency and memory of `.tflite` files or bundles, and ratios to the first of them.

    threads: of each interpreter [1 and powers of two up to the cores, at most 4]. runtimes: as in
    `interpreter.MODULES` [those installed]. kernels: with XNNPACK, without, or both. seconds: of
    timing at most; it ends sooner once every ratio is known to ±5 %. seed: of the order in each
    round and of the inputs, which are random bytes, or floats in 0..1.

    The record: `configurations` in the order of the table, latencies in ms, memory in bytes;
    `ratio` is to the first model in the same configuration or, with one model, to its first one.
    `steady` is False, with `reasons`, where a figure cannot be relied on. Raises UsageError;
    DataError when a file is no model or runs nowhere; EnvironmentProblem without the runtime.
    """
    given = [Path(models)] if isinstance(models, (str, Path)) else [Path(m) for m in models]
    chosen, counts = _runtimes(runtimes), _threads(threads)
    families = _kernels(kernels)
    if not (seconds > 0 and math.isfinite(seconds)):
        raise UsageError(f"--seconds {seconds:g}: wanted a number over 0")
    found = _models(given)
    wanted = [
        Configuration(model=model, runtime=runtime, kernels=family, threads=count)
        for runtime, family, count, model in product(chosen, families, counts, range(len(found)))
    ]
    _say_plan(found, wanted, seconds)
    probes = _probe_all(found, wanted, seed, verbose)
    running = [c for c, answer in probes.items() if "problem" not in answer]
    _check_running(found, running, probes)
    groups = _groups(running, probes)
    rounds, frequencies = _rounds(found, groups, probes, seconds, seed, verbose)
    return {
        "schema": 1,
        "command": _command(given, chosen, counts, kernels, seconds, seed),
        "machine": machine.description() | {"runtimes": [runtime_name(r) for r in chosen]},
        "settings": {"threads": counts, "runtimes": chosen, "kernels": kernels,
                     "seconds": seconds, "seed": seed},
        "models": [_describe(i, model, probes) for i, model in enumerate(found)],
        **summary([model.name for model in found], probes, groups, rounds,
                                cores=cores.usable(), seconds=seconds),
        "frequency_mhz": [min(frequencies), max(frequencies)] if frequencies else None,
    }  # fmt: skip


# What is asked for


def _runtimes(names: Sequence[str] | None) -> list[Runtime]:
    known: tuple[Runtime, ...] = get_args(Runtime)
    if names is None:
        return installed()
    if not names:
        raise UsageError(f"--runtime: wanted one or more of {', '.join(known)}, found none")
    for name in names:
        if name not in known:
            raise UsageError(f"--runtime {name}: wanted one of {', '.join(known)}")
    chosen = [runtime for runtime in known if runtime in names]
    for runtime in chosen:
        if not at_hand(runtime):
            raise EnvironmentProblem(
                f"{runtime} is not installed; `pip install {runtime}` brings it"
            )
    return chosen


def _threads(counts: Sequence[int] | None) -> list[int]:
    most = cores.usable()
    if counts is None:
        return [n for n in (1, 2, MOST_THREADS) if n <= most]
    if not counts:
        raise UsageError("--threads: wanted numbers as 1,2, found none")
    for count in counts:
        if not 1 <= count <= most:
            raise UsageError(
                f"--threads {count}: wanted 1 to {most}, the cores that may be used here; "
                "threads without a core each measure the system's scheduler"
            )
    return sorted(set(counts))


def _kernels(kernels: str) -> tuple[Kernels, ...]:
    known: tuple[Kernels, ...] = get_args(Kernels)
    if kernels != "both" and kernels not in known:
        raise UsageError(f"--kernels {kernels}: wanted {', '.join(known)} or both")
    return tuple(family for family in known if kernels in (family, "both"))


def _models(given: Sequence[Path]) -> list[_Model]:
    if not given:
        raise UsageError("bench: wanted one or more .tflite files or bundles, found none")
    paths = [_file(path) for path in given]
    return [_Model(name=n, path=p) for n, p in zip(_names(given), paths, strict=True)]


def _file(path: Path) -> Path:
    """The model file that `path` is, or that the bundle in it has."""
    if path.is_dir():
        from mobileclf.bundles import read_bundle

        path = path / str(read_bundle(path)["model"]["file"])
    data = file_bytes(path)
    try:
        graphs = read(data).subgraphs[:1]
    except DataError as error:
        raise DataError(f"{path}: {str(error).removeprefix('model: ')}") from error
    for tensor in (graph.tensors[i] for graph in graphs for i in graph.inputs):
        if (values := math.prod(tensor.shape)) > LARGEST_INPUT:
            raise DataError(
                f"{path}: wanted an input of at most {LARGEST_INPUT:,} values, found {values:,}"
            )
    return path


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell them apart; a number for the same path."""
    parts = [path.absolute().parts for path in paths]
    different = len(set(parts))
    depth = next(n for n in range(1, 1 + max(map(len, parts)))
                 if len({p[-n:] for p in parts}) == different)  # fmt: skip
    names: list[str] = []
    for part in parts:
        name = "/".join(part[-depth:])
        again = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({again + 1})" if again else name)
    return names


def _command(
    given: Sequence[Path],
    runtimes: Sequence[str],
    threads: Sequence[int],
    kernels: str,
    seconds: float,
    seed: int,
) -> str:
    """The command line that does the same again."""
    words = ["mobileclf", "bench", *map(str, given), "--threads", ",".join(map(str, threads))]
    for runtime in runtimes:
        words += ["--runtime", runtime]
    words += ["--kernels", kernels, "--seconds", f"{seconds:g}", "--seed", str(seed)]
    return shlex.join(words)


def _say_plan(models: Sequence[_Model], wanted: Sequence[Configuration], seconds: float) -> None:
    loading = sum(START[c.runtime] for c in wanted)
    progress.say(
        f"plan: {counted(len(models), 'model')}, up to {counted(len(wanted), 'configuration')}; "
        f"memory first, about {loading:.0f} s, then timing, at most {seconds:g} s"
    )


# Memory, and what runs at all


def _probe_all(
    models: Sequence[_Model], wanted: Sequence[Configuration], seed: int, verbose: bool
) -> dict[Configuration, Record]:
    """What a fresh process says of each configuration; not of those that XNNPACK leaves alone."""
    probes: dict[Configuration, Record] = {}
    for one in progress.track(wanted, "memory", len(wanted)):
        if (default := _counterpart(one, probes)) is None or probes[default]["delegates"]:
            with Child(one.runtime, verbose=verbose) as child:
                probes[one] = child.ask(**_request(models, one, 0.0, seed))
    return probes


def _counterpart(
    configuration: Configuration, probes: Mapping[Configuration, Record]
) -> Configuration | None:
    """The same with XNNPACK, if that ran, of a configuration without."""
    for other, answer in probes.items():
        if _place(other) == _place(configuration) and other.model == configuration.model:
            if configuration.kernels == "builtin" and "problem" not in answer:
                return other
    return None


def _place(configuration: Configuration) -> tuple[str, int]:
    return configuration.runtime, configuration.threads


def _request(
    models: Sequence[_Model], configuration: Configuration, seconds: float, seed: int
) -> Record:
    return {
        "model": str(models[configuration.model].path),
        "kernels": configuration.kernels,
        "threads": configuration.threads,
        "seconds": seconds,
        "seed": seed,
    }


def _check_running(
    models: Sequence[_Model],
    running: Sequence[Configuration],
    probes: Mapping[Configuration, Record],
) -> None:
    """Raises DataError for a model that runs nowhere."""
    for i, model in enumerate(models):
        if not any(c.model == i for c in running):
            first = next(c for c in probes if c.model == i)
            raise DataError(
                f"{model.name}: {first.runtime} cannot run it ({probes[first]['problem']})"
            )


def _groups(
    running: Sequence[Configuration], probes: Mapping[Configuration, Record]
) -> list[Group]:
    """What is compared with what: the models in each configuration, with the first of them.

    Of one model, its configurations with the first of them.
    """
    if len({c.model for c in running}) == 1:
        return [tuple(running)]
    groups: dict[Configuration, list[Configuration]] = {}
    for c in running:
        groups.setdefault(_leader(c, groups, probes), []).append(c)
    return [tuple(group) for group in groups.values()]


def _leader(
    c: Configuration,
    leaders: Iterable[Configuration],
    probes: Mapping[Configuration, Record],
) -> Configuration:
    """The first model in the same configuration; `c` itself where that does not run."""
    if c.model == 0:
        return c
    same = [other for other in leaders if other.model == 0 and _place(other) == _place(c)]
    for other in same:
        if other.kernels == c.kernels:
            return other
    # Where XNNPACK takes nothing of the first model, its one row is that of the built-in kernels.
    alone = [other for other in same if other.kernels == "xnnpack"]
    if c.kernels == "builtin" and alone and not probes[alone[0]]["delegates"]:
        return alone[0]
    return c


# Time


def _rounds(
    models: Sequence[_Model],
    groups: Sequence[Group],
    probes: Mapping[Configuration, Record],
    seconds: float,
    seed: int,
    verbose: bool,
) -> tuple[list[list[Round]], list[float]]:
    """The rounds of each group, and the frequencies in MHz at each slice where they are known."""
    running = [c for group in groups for c in group]
    expected = sum(_slice_seconds(probes[c]) for c in running)
    many = max(1, int(seconds / expected))
    progress.say(
        f"{counted(len(running), 'configuration')} run; a round of all takes about {expected:.1f} s"
    )
    frequencies: list[float] = []
    with _children({c.runtime for c in running}, verbose) as children:
        with progress.bar("slices", many * len(running)) as shown:

            def one(configuration: Configuration) -> Slice:
                if (now := machine.frequency()) is not None:
                    frequencies.append(now)
                request = _request(models, configuration, SLICE, seed)
                watch = machine.Watch()
                answer = children[configuration.runtime].ask(**request)
                if "problem" in answer:
                    raise DataError(
                        f"{models[configuration.model].name}: {configuration.runtime} could not go "
                        f"on with it ({answer['problem']})"
                    )
                others = watch.others(answer["cpu_seconds"])
                shown.advance(shown.task_ids[0])
                return Slice(
                    times_ms=tuple(answer["times_ms"]),
                    invokes=answer["invokes"],
                    load_ms=answer["load_ms"],
                    first_ms=answer["first_ms"],
                    others=others,
                )

            return measure(groups, one, cores.usable(), seconds=seconds, seed=seed), frequencies


@contextmanager
def _children(runtimes: Iterable[Runtime], verbose: bool) -> Iterator[dict[Runtime, Child]]:
    with ExitStack() as stack:
        yield {r: stack.enter_context(Child(r, verbose=verbose)) for r in sorted(runtimes)}


def _slice_seconds(probe: Record) -> float:
    """About how long a slice of it takes, warm-up and loading included."""
    invoke = median(probe["times_ms"]) / 1000
    return (
        (probe["load_ms"] + probe["first_ms"]) / 1000
        + max(WARM_UP * SLICE, invoke)
        + max(SLICE, 3 * invoke)
    )


def _describe(index: int, model: _Model, probes: Mapping[Configuration, Record]) -> Record:
    inputs = next(a["inputs"] for c, a in probes.items() if c.model == index and "inputs" in a)
    return {
        "model": model.name,
        "bytes": model.path.stat().st_size,
        "sha256": sha256_file(model.path),
        "inputs": inputs,
    }
