"""Which photo goes to which of the four parts: stratified by class, seeded, units kept whole.

A unit is what must not be torn apart: a photo with its copies, or all photos of one specimen.
Where the source gives parts, they stay as they are and only the missing ones are cut, from the
photos to train on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .scores import PARTS
from .unions import Unit

TRAIN = "train"
# What is not trained on is shared out in these proportions.
HELD_BACK = {"validation": 10, "threshold": 15, "test": 15}
# Which parts a class with few pictures reaches first.
NEEDED_FIRST = ("train", "test", "validation", "threshold")


def shares(train_share: float, parts: Sequence[str] = PARTS) -> dict[str, float]:
    """The share of the photos of each of `parts`, which sum to 1: what `train_share` leaves is
    HELD_BACK's; where parts are missing, the others keep their proportions to one another."""
    held = {part: (1 - train_share) * n / sum(HELD_BACK.values()) for part, n in HELD_BACK.items()}
    whole = {TRAIN: train_share, **held}
    total = sum(whole[part] for part in parts)
    return {part: whole[part] / total for part in PARTS if part in parts}


def targets(count: int, units: int, share: Mapping[str, float]) -> dict[str, int]:
    """How many of a class's `count` photos each part of `share` should get, by largest remainder;
    each part that its `units` can reach gets at least one."""
    parts = tuple(share)
    quotas = {part: count * share[part] for part in parts}
    wanted = {part: int(quotas[part] + 1e-9) for part in parts}
    by_remainder = sorted(parts, key=lambda part: round(wanted[part] - quotas[part], 9))
    for part in by_remainder[: count - sum(wanted.values())]:
        wanted[part] += 1
    reachable = [part for part in NEEDED_FIRST if part in share][:units]
    for part in parts:
        if part not in reachable:
            wanted[parts[0]] += wanted[part]
            wanted[part] = 0
    for part in reachable:
        if wanted[part] == 0:
            largest = max(parts, key=lambda p: wanted[p])
            wanted[largest] -= 1
            wanted[part] = 1
    return wanted


def split_class(
    units: Sequence[Unit], rng: np.random.Generator, share: Mapping[str, float]
) -> dict[int, str]:
    """Part of each photo of one class. Units come in random order, each to the part that is
    furthest from full."""
    wanted = targets(sum(len(unit) for unit in units), len(units), share)
    left = dict(wanted)
    split: dict[int, str] = {}
    for number in rng.permutation(len(units)):
        part = max((p for p in wanted if wanted[p]), key=lambda p: left[p] / wanted[p])
        left[part] -= len(units[number])
        split.update((i, part) for i in units[number])
    return split


def split_photos(
    label: Mapping[int, str],
    labels: Sequence[str],
    units: Iterable[Unit],
    given: Mapping[int, str],
    *,
    train_share: float,
    seed: int,
) -> dict[int, str]:
    """Part of each photo by index.

    label: of each photo to be split, one of `labels`. units: every one of these photos in one.
    given: the parts that the source gives, for the photos that have one; a unit lies in one.
    """
    split = {i: part for i, part in given.items() if part != TRAIN}
    kept = set(split.values())
    share = shares(train_share, [part for part in PARTS if part not in kept])
    of_class: dict[str, list[Unit]] = {name: [] for name in labels}
    mixed: list[Unit] = []
    for unit in units:
        if unit[0] in split:
            continue
        classes = {label[i] for i in unit}
        (of_class[label[unit[0]]] if len(classes) == 1 else mixed).append(unit)
    split |= _split_mixed(mixed, label, share, np.random.default_rng((seed, len(labels))))
    for number, name in enumerate(labels):
        # A generator for each class: adding photos to one leaves the others' split alone.
        if of_class[name]:
            rng = np.random.default_rng((seed, number))
            split |= split_class(of_class[name], rng, share)
    return split


def _split_mixed(
    units: Sequence[Unit],
    label: Mapping[int, str],
    share: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[int, str]:
    """Units with photos of several classes, in random order, each to the part that its classes
    have furthest from full."""
    total = Counter(label[i] for unit in units for i in unit)
    taken = {part: Counter[str]() for part in share}
    split: dict[int, str] = {}
    for number in rng.permutation(len(units)):
        own = Counter(label[i] for i in units[number])

        def need(part: str, own: Counter[str] = own) -> float:
            return sum(
                n * (1 - taken[part][name] / (total[name] * share[part])) for name, n in own.items()
            )

        part = max(share, key=need)
        taken[part].update(own)
        split.update((i, part) for i in units[number])
    return split
