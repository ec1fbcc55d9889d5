"""Rounds of short measurements, and what they show: ratios in which common drift cancels.

What is compared is a group. In each of its rounds every member is measured for a moment, one
right after the other in a random order: what slows the whole machine for seconds or minutes slows
both sides of a round's ratio, and the median over rounds ignores what struck only a few.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from mobileclf.stats.medians import median_interval, relative_width
from mobileclf.tflite.interpreter import Kernels
from mobileclf.tflite.runtimes import Runtime

# Fewer say little: the interval of the median is then their second least to their second largest.
LEAST_ROUNDS = 10
# A ratio is known well enough when its 95 % interval reaches no further from it than this.
WIDTH = 0.05
# Cores: what a machine at rest takes, and what ticks of 10 ms leave uncertain.
TOLERANCE = 0.15

Trouble = Literal["busy", "few rounds", "wide"]


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What is measured. model: its index among those given."""

    model: int
    runtime: Runtime
    kernels: Kernels
    threads: int


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One moment of one configuration. times_ms: of invokes, some of them if there were many.

    others: how many cores other processes kept busy meanwhile.
    """

    times_ms: tuple[float, ...]
    invokes: int
    load_ms: float
    first_ms: float
    others: float


# The first of a group is what the others are compared with.
Group = tuple[Configuration, ...]
Round = dict[Configuration, Slice]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A median over rounds, its 95 % interval, and why it is not to be relied on (or None).

    rounds: those it was taken over. quiet: those in which nobody else needed the cores.
    """

    value: float
    low: float
    high: float
    rounds: int
    quiet: int
    trouble: Trouble | None


def measure(
    groups: Sequence[Group],
    run: Callable[[Configuration], Slice],
    cores: int,
    *,
    seconds: float,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> list[list[Round]]:
    """The rounds of each group: until all is known of it, or none more fits in `seconds`.

    The group that had the least time goes next, so that slow ones do not starve the others. Each
    has at least one round.
    """
    generator = random.Random(seed)
    rounds: list[list[Round]] = [[] for _ in groups]
    spent, last = [0.0] * len(groups), [0.0] * len(groups)
    left, start = set(range(len(groups))), clock()
    while left:
        i = min(left, key=lambda i: (spent[i], i))
        before = clock()
        if rounds[i] and before - start + last[i] > seconds:
            left.remove(i)
            continue
        order = list(groups[i])
        generator.shuffle(order)
        rounds[i].append({configuration: run(configuration) for configuration in order})
        last[i] = clock() - before
        spent[i] += last[i]
        if all(v.trouble is None for v in verdicts(groups[i], rounds[i], cores).values()):
            left.remove(i)
    return rounds


def verdicts(group: Group, rounds: Sequence[Round], cores: int) -> dict[Configuration, Verdict]:
    """Of each ratio; of the latency where a configuration is alone."""
    if len(group) == 1:
        return {group[0]: judge(rounds, group[0], None, cores)}
    return {member: judge(rounds, member, group[0], cores) for member in group[1:]}


def is_busy(part: Slice, threads: int, cores: int) -> bool:
    """Whether others took so much that `threads` could not have had a core each."""
    return part.others > cores - threads + TOLERANCE


def quiet_rounds(
    rounds: Sequence[Round], configurations: Sequence[Configuration], cores: int
) -> list[Round]:
    """The rounds in which none of `configurations` was disturbed."""
    return [
        one for one in rounds if not any(is_busy(one[c], c.threads, cores) for c in configurations)
    ]


def judge(
    rounds: Sequence[Round],
    configuration: Configuration,
    reference: Configuration | None,
    cores: int,
) -> Verdict:
    """The ratio of `configuration` to `reference` by their medians in each round; without one,
    its latency in milliseconds.

    Disturbed rounds are left out as long as LEAST_ROUNDS are quiet. What is left out hangs on the
    load alone, never on the outcome. Looking after each round whether the interval is narrow
    enough yet costs it little of its level (Chow and Robbins 1965, "On the asymptotic theory of
    fixed-width sequential confidence intervals for the mean").
    """
    pair = [configuration] if reference is None else [configuration, reference]
    quiet = quiet_rounds(rounds, pair, cores)
    used = quiet if len(quiet) >= LEAST_ROUNDS else rounds
    values = [median(one[configuration].times_ms) for one in used]
    if reference is not None:
        values = [
            value / median(one[reference].times_ms) for value, one in zip(values, used, strict=True)
        ]
    middle, interval = median(values), median_interval(values)
    trouble: Trouble | None = None
    if len(rounds) < LEAST_ROUNDS:
        trouble = "few rounds"
    elif len(quiet) < LEAST_ROUNDS:
        trouble = "busy"
    elif relative_width(middle, interval) > WIDTH:
        trouble = "wide"
    return Verdict(
        value=middle,
        low=interval[0],
        high=interval[1],
        rounds=len(used),
        quiet=len(quiet),
        trouble=trouble,
    )
