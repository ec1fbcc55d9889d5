"""Leaks: pictures that lie on two sides at once, under two labels or in two parts of the data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .images.checks import Checked, check_file
from .images.duplicates import Copies, find_copies
from .scores import PARTS
from .source.index import Entry
from .source.store import Store
from .split import TRAIN
from .unions import Unit, joined


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One file: what the source says of it, what was found in it, and why it is left out.

    problem: empty for a photo that can be used.
    """

    entry: Entry
    found: Checked | None
    problem: str

    @property
    def path(self) -> str:
        """As in the source."""
        return self.entry.path

    @property
    def label(self) -> str:
        """As in the source; empty when it is not known."""
        return self.entry.label

    @property
    def side(self) -> str:
        """The part that the source gives; what it leaves open is to train on, or cut from that."""
        return self.entry.part or TRAIN


def examine(entry: Entry, store: Store) -> Photo:
    """Open, decode and measure the file of one entry."""
    if entry.problem:
        return Photo(entry=entry, found=None, problem=entry.problem)
    found = check_file(store, entry.path)
    return Photo(entry=entry, found=found, problem=found.problem)


def left_out(photo: Photo, why: str) -> Photo:
    """The same photo, which cannot be used."""
    return replace(photo, problem=why)


def copies_of(photos: Sequence[Photo]) -> Copies:
    """Groups of copies among the photos that can be used, by their indices."""
    seen = [
        (i, photo.found.signature)
        for i, photo in enumerate(photos)
        if not photo.problem and photo.found is not None and photo.found.signature is not None
    ]
    found = find_copies([signature for _, signature in seen])
    return Copies(
        groups=tuple(tuple(seen[i][0] for i in group) for group in found.groups),
        too_small=tuple((seen[i][0], seen[j][0]) for i, j in found.too_small),
    )


def settle(
    photos: Sequence[Photo], copies: Sequence[Unit]
) -> tuple[list[Photo], list[Unit], list[str]]:
    """Leave out what lies on two sides at once: under two labels, or in two given parts.

    The same picture under two labels is left out of both, since either may be the wrong one;
    what was given as test stays. What copies and specimens tie together belongs in one part:
    where the given parts tear it apart, the latest of PARTS keeps its own and the rest is left
    out, so test never changes. Returns the photos, the units that remain, and warnings.
    """
    photos, warnings = list(photos), []
    for group in copies:
        warnings += _leave_out_contradiction(photos, group)
    units = joined(len(photos), [*copies, *_specimens(photos)], usable(photos))
    for unit in units:
        last = max((photos[i].side for i in unit), key=PARTS.index)
        stay = [i for i in unit if photos[i].side == last]
        for i in unit:
            if photos[i].side != last:
                photos[i] = left_out(photos[i], _why_torn(photos, i, stay, copies, last))
    left = set(usable(photos))
    return photos, [tuple(i for i in unit if i in left) for unit in units], warnings


def usable(photos: Sequence[Photo]) -> list[int]:
    """Indices of the photos that can be used."""
    return [i for i, photo in enumerate(photos) if not photo.problem]


def _specimens(photos: Sequence[Photo]) -> list[list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for i in usable(photos):
        if photos[i].entry.specimen:
            found[photos[i].entry.specimen].append(i)
    return list(found.values())


def _leave_out_contradiction(photos: list[Photo], group: Unit) -> list[str]:
    """Where copies have two labels, leave out all but those given as test; returns warnings."""
    if len({photos[i].label for i in group}) == 1:
        return []
    for i in group:
        if photos[i].side != "test":
            other = next(j for j in group if photos[j].label != photos[i].label)
            why = f"the same picture is in another class ({photos[other].path})"
            photos[i] = left_out(photos[i], why)
    first, *rest = [i for i in group if photos[i].side == "test"] or [group[0]]
    for other in rest:
        if photos[other].label != photos[first].label:
            return [
                f"{photos[first].path} and {photos[other].path} are the same picture under two "
                "labels, given as test and left there; one of them is wrong"
            ]
    return []


def _why_torn(
    photos: Sequence[Photo], i: int, stay: Sequence[int], copies: Sequence[Unit], last: str
) -> str:
    own = next((set(group) for group in copies if i in group), set())
    copy = next((j for j in stay if j in own), None)
    if copy is not None:
        return f"the same picture is in {last} ({photos[copy].path})"
    specimen = photos[i].entry.specimen
    if specimen and any(photos[j].entry.specimen == specimen for j in stay):
        return f"specimen {specimen!r} is in {last} too"
    return f"tied by copies and specimens to {last} ({photos[stay[0]].path})"
