"""What belongs together, from what is known of pairs and groups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

Unit = tuple[int, ...]


def joined(count: int, groups: Iterable[Sequence[int]], among: Sequence[int]) -> list[Unit]:
    """Units of `among` (indices under `count`, ascending), each with all that a group joins it
    to, also by way of others. Units and their members are in ascending order."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for group in groups:
        for other in group[1:]:
            low, high = sorted((root(group[0]), root(other)))
            parent[high] = low
    members: dict[int, list[int]] = defaultdict(list)
    for i in among:
        members[root(i)].append(i)
    return [tuple(unit) for unit in members.values()]
