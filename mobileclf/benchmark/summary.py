"""What a benchmark's record says of its probes and rounds: rows, notes, load and reasons."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import median

from mobileclf.records import Record
from mobileclf.stats.medians import relative_width
from mobileclf.wording import counted

from .rounds import (
    LEAST_ROUNDS,
    WIDTH,
    Configuration,
    Group,
    Round,
    Verdict,
    is_busy,
    quiet_rounds,
    verdicts,
)


def summary(
    names: Sequence[str],
    probes: Mapping[Configuration, Record],
    groups: Sequence[Group],
    rounds: Sequence[Sequence[Round]],
    *,
    cores: int,
    seconds: float,
) -> Record:
    """The part of the record that is found out. names: of the models; rounds: of each group."""
    measured: dict[Configuration, Record] = {}
    troubled: list[tuple[Configuration, Configuration, Sequence[Round], Verdict]] = []
    for group, own in zip(groups, rounds, strict=True):
        found = verdicts(group, own, cores)
        for c in group:
            measured[c] = _figures(names, c, group[0], own, found.get(c), cores)
        troubled += [(c, group[0], own, v) for c, v in found.items() if v.trouble is not None]
    reasons = list(_reasons(names, troubled, cores, seconds))
    return {
        "configurations": [
            _identity(names, c) | probe
            if "problem" in probe
            else _identity(names, c)
            | {key: probe[key] for key in ("delegates", "memory_bytes")}
            | measured[c]
            for c, probe in probes.items()
        ],
        "notes": list(_notes(names, probes)),
        "load": _load([one for own in rounds for one in own], cores),
        "steady": not reasons,
        "reasons": reasons,
    }


def _identity(names: Sequence[str], configuration: Configuration) -> Record:
    return {**asdict(configuration), "model": names[configuration.model]}


def _figures(
    names: Sequence[str],
    configuration: Configuration,
    reference: Configuration,
    rounds: Sequence[Round],
    verdict: Verdict | None,
    cores: int,
) -> Record:
    """Latencies in ms over the quiet slices, if they are enough, else over all."""
    import numpy as np

    quiet = quiet_rounds(rounds, [configuration], cores)
    slices = [one[configuration] for one in (quiet if len(quiet) >= LEAST_ROUNDS else rounds)]
    times = np.concatenate([part.times_ms for part in slices])
    ratio: Record | None = None
    if verdict is not None:
        trouble = verdict.trouble
        if configuration != reference:
            known = math.isfinite(verdict.high)
            ratio = {
                "to": _identity(names, reference),
                "median": verdict.value,
                "interval": [verdict.low, verdict.high] if known else None,
                "rounds": verdict.rounds,
            }
    else:
        # What others are compared with: how well it is known shows in their ratios.
        trouble = "busy" if len(quiet) < LEAST_ROUNDS else None
        if len(rounds) < LEAST_ROUNDS:
            trouble = "few rounds"
    return {
        "median_ms": float(np.median(times)),
        "p90_ms": float(np.percentile(times, 90)),
        "invokes": sum(part.invokes for part in slices),
        "load_ms": median(part.load_ms for part in slices),
        "first_ms": median(part.first_ms for part in slices),
        "rounds": len(rounds),
        "busy_rounds": len(rounds) - len(quiet),
        "ratio": ratio,
        "trouble": trouble,
    }


def _notes(names: Sequence[str], probes: Mapping[Configuration, Record]) -> Iterator[str]:
    """What the figures do not say, once for each model, runtime and kernels."""
    seen = set()
    for c, answer in probes.items():
        key = (c.model, c.runtime, c.kernels)
        if key in seen:
            continue
        seen.add(key)
        name = f"{names[c.model]} on {c.runtime}"
        if "problem" in answer:
            yield f"{name}, {c.kernels}: cannot run ({answer['problem']})"
        elif c.kernels == "xnnpack" and not answer["delegates"]:
            yield f"{name}: XNNPACK takes nothing of it, so its built-in kernels ran"
        elif answer["delegates"] > 1:
            yield f"{name}: XNNPACK takes it in {answer['delegates']} parts, the rest is built-in"


def _load(rounds: Sequence[Round], cores: int) -> Record:
    """How busy others kept the machine, in cores, over all slices."""
    parts = [(part, c.threads) for one in rounds for c, part in one.items()]
    others = [part.others for part, _ in parts]
    return {
        "others_cores": {"median": median(others), "most": max(others)},
        "slices": len(parts),
        "busy_slices": sum(is_busy(part, threads, cores) for part, threads in parts),
    }


def _reasons(
    names: Sequence[str],
    troubled: Sequence[tuple[Configuration, Configuration, Sequence[Round], Verdict]],
    cores: int,
    seconds: float,
) -> Iterator[str]:
    """Why the run is not steady, one line for each cause; none when it is."""
    few = [len(own) for _, _, own, v in troubled if v.trouble == "few rounds"]
    if few:
        wanted = math.ceil(1.2 * LEAST_ROUNDS * seconds / min(few) / 10) * 10
        yield (
            f"{counted(len(few), 'figure')} from {counted(min(few), 'round')} in {seconds:g} s, "
            f"wanted {LEAST_ROUNDS}: give --seconds {wanted}, or fewer configurations"
        )
    busy = [(c, first, own) for c, first, own, v in troubled if v.trouble == "busy"]
    for threads in sorted({c.threads for c, _, _ in busy}):
        parts = [
            (one[member], member.threads)
            for c, first, own in busy
            for one in own
            for member in {c, first}
            if c.threads == threads
        ]
        others = [part.others for part, wanted in parts if is_busy(part, wanted, cores)]
        yield (
            f"at {counted(threads, 'thread')}, in {len(others)} of {len(parts)} slices others or a "
            f"quota took {median(others):.1f} of {counted(cores, 'core')}: these figures are of a "
            "loaded machine; measure again when it is idle"
        )
    wide = [
        (relative_width(v.value, (v.low, v.high)), c) for c, _, _, v in troubled
        if v.trouble == "wide"
    ]  # fmt: skip
    if wide:
        reach, c = max(wide, key=lambda pair: pair[0])
        yield (
            f"{counted(len(wide), 'figure')} not known to ±{WIDTH:.0%}, the worst to ±{reach:.0%} "
            f"({names[c.model]}, {c.runtime}, {c.kernels}, {counted(c.threads, 'thread')}); "
            "more --seconds may help"
        )
