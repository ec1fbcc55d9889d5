"""A model beside an earlier one: what changed, and whether something got worse.

The earlier one is a bundle, whose model is run on the very same photos (held to be the same by
the sha256 of their files), or a parity.json, of which there are only figures (see `figures`).
Worse is what the photos show, as in parity; size and oldest runtime are not matters of chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobileclf import bundles
from mobileclf.decision import group_score
from mobileclf.errors import DataError
from mobileclf.stats.paired import count_pairs, newcombe, outcome

from .check import MOST_GROWTH, Change, Check, Limits, not_judged
from .figures import PARITY
from .subject import (
    BUNDLE,
    Answers,
    Photos,
    Subject,
    answers,
    are_harmful,
    load_photos,
    open_bundle,
)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models on the same photos. digests: sha256 of each file. labels: true, of each. unit: as
    in `scores.Part`, None where it is not known which photos belong together."""

    earlier: Subject
    now: Subject
    names: tuple[str, ...]
    digests: tuple[str, ...]
    labels: tuple[str, ...]
    was: Answers
    found: Answers
    unit: NDArray[np.int64] | None = None


def is_bundle(path: Path) -> bool:
    """Whether `path` is a bundle's folder rather than a parity.json. Raises DataError for what is
    neither."""
    if path.is_dir() and (path / BUNDLE).is_file():
        return True
    if path.is_file() and path.suffix == ".json":
        return False
    raise DataError(
        f"--baseline {path}: wanted an earlier bundle's folder or a {PARITY}, found neither"
    )


# Two models


def changes(earlier: Subject, now: Subject) -> Iterator[Change]:
    """What differs between two files and their decisions, without running them."""
    for what, was, found in (
        ("size in bytes", size(earlier.model), size(now.model)),
        ("oldest runtime", needs(earlier.model), needs(now.model)),
        ("threshold of 256", earlier.decision.threshold_q, now.decision.threshold_q),
        ("abstain rule", _abstain(earlier), _abstain(now)),
        ("input", earlier.spec.shape, now.spec.shape),
    ):
        if was != found:
            yield Change(what=what, was=str(was), now=str(found))
    before, after = _operators(earlier.model), _operators(now.model)
    for name in sorted(before.keys() | after.keys()):
        was_version, version = before.get(name, "none"), after.get(name, "none")
        if was_version != version:
            yield Change(what=f"operator {name}", was=was_version, now=version)


def _abstain(subject: Subject) -> str:
    rule = subject.decision.abstain
    return "none" if rule is None else f"{rule.by} under {rule.cut_q} of 256"


def changes_on_photos(pair: Pair) -> Iterator[Change]:
    """What differs in the answers of two models on the same photos."""
    n = len(pair.names)
    was, now = int(pair.was.right.sum()), int(pair.found.right.sum())
    if was != now:
        yield Change(what=f"right of {n} photos", was=str(was), now=str(now))
    moved = changed_verdicts(pair)
    if len(moved):
        yield Change(what=f"verdicts of {n} photos", was="", now=f"{len(moved)} others")
    if pair.was.missed is not None and pair.found.missed is not None:
        was, now = int(pair.was.missed.sum()), int(pair.found.missed.sum())
        if was != now:
            yield Change(what="harmful photos called harmless", was=str(was), now=str(now))


def changed_verdicts(pair: Pair) -> NDArray[np.int64]:
    """Indices of the photos that each model, at its own operating point, calls otherwise."""
    return np.flatnonzero(np.array(pair.was.verdicts) != np.array(pair.found.verdicts))


def to_harmless(pair: Pair) -> NDArray[np.int64]:
    """Indices of the photos that the earlier model calls harmful and this one harmless, whatever
    they truly are. None of them without a harmful group."""
    if pair.was.harmless is None or pair.found.harmless is None:
        return np.empty(0, dtype=np.int64)
    called = group_score(pair.was.quanta, pair.earlier.classes) >= pair.earlier.decision.threshold_q
    return np.flatnonzero(called & pair.found.harmless)


def same_labels(earlier: Subject, now: Subject) -> Check:
    """An app may know labels by their place, so another order is another model."""
    one, other = earlier.classes, now.classes
    wanted = f"the labels and groups of {earlier.name}: {', '.join(one.labels)}"
    found = "the same" if one == other else ", ".join(other.labels)
    if one != other and one.labels == other.labels:
        found = f"the same labels in other groups, or {other.harmful!r} harmful"
    return Check(name="baseline_labels", passed=one == other, wanted=wanted, found=found)


def no_larger(earlier: Subject, now: Subject) -> Check:
    """The model file has not grown by more than MOST_GROWTH."""
    was, found = size(earlier.model), size(now.model)
    return Check(
        name="baseline_size",
        passed=found <= was * (1 + MOST_GROWTH),
        wanted=f"at most {MOST_GROWTH:.0%} over the earlier {was} bytes",
        found=f"{found} bytes ({found / was - 1:+.1%})",
    )


def no_newer(earlier: Subject, now: Subject) -> Check:
    """The model runs on every runtime that the earlier one ran on, by its operators."""
    from mobileclf.tflite.runtime_versions import release_key

    was, found = needs(earlier.model), needs(now.model)
    passed = was is None or (found is not None and release_key(found) <= release_key(was))
    wanted = f"a model for runtimes from {was or 'an unknown release'}, as the earlier one"
    return Check(
        name="baseline_runtime", passed=passed, wanted=wanted, found=found or "an unknown release"
    )


def accuracy(pair: Pair, limits: Limits) -> Check:
    """Accuracy is not shown to have dropped by more than `max_drop`, by photos in pairs."""
    lost = np.flatnonzero(pair.was.right & ~pair.found.right)
    wanted = f"a drop of accuracy not shown to be over {limits.max_drop}"
    return _paired(
        "baseline_accuracy", pair.was.right, pair.found.right, pair.unit, limits.max_drop, wanted,
        _rows(pair, lost),
    )  # fmt: skip


def harmful(pair: Pair, limits: Limits) -> Check:
    """Of the truly harmful photos, no more are called harmless than before, by `max_missed` and
    in pairs; named are all that were called harmful and now harmless, whatever they truly are."""
    name = "baseline_harmful"
    wanted = f"a rise of harmful photos called harmless not shown to be over {limits.max_missed}"
    truly = are_harmful(pair.now.classes, pair.labels)
    if truly is None or pair.was.missed is None or pair.found.missed is None:
        return not_judged(name, wanted, "there is no harmful group")
    if not truly.any():
        return not_judged(name, wanted, "no photo is truly harmful")
    unit = None if pair.unit is None else pair.unit[truly]
    return _paired(
        name, ~pair.was.missed[truly], ~pair.found.missed[truly], unit, limits.max_missed, wanted,
        _rows(pair, to_harmless(pair)),
    )  # fmt: skip


def _paired(
    name: str,
    was: NDArray[np.bool_],
    found: NDArray[np.bool_],
    unit: NDArray[np.int64] | None,
    most: float,
    wanted: str,
    details: tuple[str, ...],
) -> Check:
    """Judged with every unit weighing one, told in photos."""
    pairs, photos = count_pairs(was, found, unit), count_pairs(was, found)
    low, high = newcombe(pairs)
    verdict = outcome(pairs, most)
    return Check(
        name=name,
        passed=verdict != "worse",
        wanted=wanted,
        found=f"{verdict}, change {pairs.difference:+.4f} ({low:+.4f} to {high:+.4f}) on "
        f"{photos.n} photos, {photos.lost} lost and {photos.won} won",
        details=details,
    )


def _rows(pair: Pair, indices: NDArray[np.int64]) -> tuple[str, ...]:
    was, now = pair.was.quanta.argmax(axis=1), pair.found.quanta.argmax(axis=1)
    before, after = pair.earlier.classes.labels, pair.now.classes.labels
    return tuple(
        f"{pair.names[i]}: {pair.labels[i]}, was {before[was[i]]} ({pair.was.verdicts[i]}), "
        f"is {after[now[i]]} ({pair.found.verdicts[i]})"
        for i in indices
    )


def size(model: bytes) -> int:
    """Bytes of a model file written again without TFLite Metadata, which a run's file has not yet;
    the same for the same model, however the data lay in its file. Raises DataError."""
    import flatbuffers

    from mobileclf.tflite import graph
    from mobileclf.tflite.metadata import ENTRY

    tree = graph.parse(model)
    own = [entry for entry in tree.metadata or () if entry.name == ENTRY.encode()]
    tree.metadata = [entry for entry in tree.metadata or () if entry not in own]
    for entry in own:
        if entry.buffer == len(tree.buffers) - 1:  # as `metadata.write` puts it
            tree.buffers.pop()
        else:
            tree.buffers[entry.buffer].data = None
    builder = flatbuffers.Builder(len(model) + 4096)
    builder.Finish(tree.Pack(builder), file_identifier=graph.IDENTIFIER)
    return len(builder.Output())


def needs(model: bytes) -> str | None:
    """The release that has all operators of a model; None where one is not known."""
    from mobileclf.tflite.runtime_versions import first_release, release_key

    releases = [first_release(name, version) for name, version in _versions(model)]
    known = [release for release in releases if release is not None]
    return max(known, key=release_key) if known and len(known) == len(releases) else None


def _versions(model: bytes) -> list[tuple[str, int]]:
    from mobileclf.tflite import graph

    every = tuple(op for each in graph.read(model).subgraphs for op in each.operators)
    return [(name, version) for name, version, _ in graph.counts(every)]


def _operators(model: bytes) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for name, version in _versions(model):
        found.setdefault(name, []).append(f"version {version}")
    return {name: ", ".join(versions) for name, versions in found.items()}


# A bundle's gate


def open_baseline(folder: Path) -> Subject:
    """The model of an earlier bundle, once labels and decision are those that were proven, and it
    has run in a process of its own. Raises DataError, which names the bundle."""
    from mobileclf.tflite import delegates

    record, subject = open_bundle(folder)
    file = folder / record["model"]["file"]
    bundles.check_labels(folder, record)
    try:
        bundles.check_proven(file, subject.model, subject.classes, subject.decision)
        delegates.check_runs(file)
    except DataError as error:
        raise DataError(f"--baseline {file}: {error}") from error
    return subject


def pair_on(
    earlier: Subject, now: Subject, photos: Photos, data: Path | None, found: Answers
) -> Pair:
    """Both on the photos of a gate. Raises DataError where the earlier one cannot use them.

    found: what `now` says of them. data: where they are read again for an input of another size.
    """
    theirs = photos
    if earlier.spec != now.spec:
        assert data is not None
        theirs = load_photos(data, earlier.classes, earlier.spec)
        if theirs.digests != photos.digests:
            raise DataError(
                f"{data}: wanted the same {len(photos)} photos for {earlier.name}, found "
                f"{len(theirs)} that it can use"
            )
    return Pair(
        earlier=earlier,
        now=now,
        names=photos.names,
        digests=photos.digests,
        labels=photos.labels,
        was=answers(earlier, theirs),
        found=found,
    )
