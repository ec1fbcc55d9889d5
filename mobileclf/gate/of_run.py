"""What a run would ship, beside an earlier bundle or record: `mobileclf parity --baseline`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mobileclf.decision import read_decision
from mobileclf.errors import UsageError
from mobileclf.photos import load_part, spec_of
from mobileclf.records import Record, read_json, sha256_file, write_bytes
from mobileclf.scores import read_scores
from mobileclf.settings import Settings

from .baseline import (
    Pair,
    accuracy,
    changed_verdicts,
    changes,
    changes_on_photos,
    harmful,
    is_bundle,
    no_larger,
    no_newer,
    open_baseline,
    same_labels,
)
from .check import Change, Check, Limits, of_gates
from .figures import PARITY, compare, figures_of, read_figures
from .junit import junit
from .latency import latency
from .subject import BUNDLE, Photos, Subject, answers, judged
from .summary import markdown


def of_run(folder: Path, settings: Settings, parity: Record) -> Record | None:
    """The value of "baseline" in a run's parity.json; None without `--baseline`.

    of: "bundle" or "parity.json", with its `name` and `sha256`. photos: on which both were run,
    None of a record. changes: what, was and now of each. changed: the photos with another
    verdict. gates: as parity's own, which they are to be put behind. not_judged: gate, wanted and
    found (the reason) of those that could not be.

    parity: what parity.json will hold of n, int8, harmful, agreement, verdict, lost, won, changed.
    Raises DataError for a baseline that is none, or whose model cannot run the run's photos.
    """
    if settings.baseline is None:
        return None
    limits = Limits(max_drop=settings.max_drop, max_missed=settings.max_missed)
    if not is_bundle(settings.baseline):
        earlier_figures, figures = read_figures(settings.baseline), figures_of(parity, PARITY)
        found, checks = compare(earlier_figures, figures, limits)
        about: Record = {"of": PARITY, "name": None}
        changed: list[Record] = []
        photos = None
    else:
        earlier, now = open_baseline(settings.baseline), _subject_of(folder)
        found = [*changes(earlier, now)]
        checks = [same_labels(earlier, now), no_larger(earlier, now), no_newer(earlier, now)]
        about, photos, changed = {"of": "bundle", "name": earlier.name}, None, []
        if set(earlier.classes.labels) == set(now.classes.labels):
            pair = _pair_of_run(folder, settings, earlier, now)
            found += changes_on_photos(pair)
            checks += [accuracy(pair, limits), harmful(pair, limits)]
            photos, changed = len(pair.names), _changed(pair)
    return {
        **about,
        "photos": photos,
        "sha256": digest(settings.baseline),
        "changes": [vars(one) for one in found],
        "changed": changed,
        "gates": [check.as_gate() for check in checks if check.passed is not None],
        "not_judged": [
            {"gate": check.name, "wanted": check.wanted, "found": check.found}
            for check in checks
            if check.passed is None
        ],
    }


def outside(settings: Settings) -> Record:
    """What a stage that calls `of_run` hangs on besides its records: the baseline, by content.

    Asked before the stage's own earlier record is taken away, so a baseline that is none costs
    nothing. Raises DataError for one that cannot be used, UsageError for the run's own record,
    which is to be written anew, and for `--latency` beside a record, which has no model.
    """
    path = settings.baseline
    if path is None:
        return {}
    if path.resolve() == (settings.run_folder / PARITY).resolve():
        raise UsageError(
            f"--baseline {path}: wanted an earlier bundle or record, found the one that this run "
            "writes; copy it to another place first"
        )
    if is_bundle(path):
        open_baseline(path)
    elif settings.latency is not None:
        raise UsageError(f"--latency: wanted a bundle as --baseline, found the record {path}")
    else:
        read_figures(path)
    return {"baseline": digest(path)}


def latency_of_run(folder: Path, settings: Settings) -> Check | None:
    """How long what a run ships takes beside the bundle that is its baseline; None without
    `--latency`.

    Apart from `of_run`, since no record holds times: it is measured each time.
    """
    if settings.baseline is None or settings.latency is None:
        return None
    return latency(open_baseline(settings.baseline), _subject_of(folder), settings.latency)


def write_reports(settings: Settings, parity: Record, beside: Check | None) -> None:
    """Write what `--junit` and `--markdown` ask for: the gates of parity.json, and what changed
    since the baseline. beside: another check, of no record. Raises EnvironmentProblem where a
    file cannot be written."""
    checks, title = of_gates(parity), f"mobileclf parity: {settings.name}"
    checks = [*checks, *([beside] if beside is not None else [])]
    if settings.junit is not None:
        write_bytes(settings.junit, junit(title, checks))
    if settings.markdown is not None:
        found = (parity.get("baseline") or {}).get("changes", ())
        changes_since = [Change(**row) for row in found]
        write_bytes(settings.markdown, markdown(title, checks, changes_since).encode())


def digest(path: Path) -> str:
    """sha256 of what a baseline is known by: the record, which names a bundle's files."""
    return sha256_file(path / BUNDLE if is_bundle(path) else path)


def _subject_of(folder: Path) -> Subject:
    """What a run ships, before it is a bundle: the model file without metadata."""
    metrics, threshold = read_json(folder / "metrics.json"), read_json(folder / "threshold.json")
    classes, decision = read_decision(threshold)
    file = metrics["variants"][_shipped(folder)]["file"]
    return Subject(
        name="this run",
        model=(folder / file).read_bytes(),
        spec=spec_of(folder),
        classes=classes,
        decision=decision,
    )


def _shipped(folder: Path) -> str:
    return f"{read_json(folder / 'selection.json')['selected']}.xnnpack"


def _pair_of_run(folder: Path, settings: Settings, earlier: Subject, now: Subject) -> Pair:
    """Both on the run's test photos, of files that are equal the first."""
    part, pixels = load_part(folder, settings, "test", spec=earlier.spec)
    _, first = np.unique(np.array(part.digests), return_index=True)
    first.sort()
    part, scores = part[first], read_scores(folder, _shipped(folder), "test")
    assert scores.quanta is not None
    labels = tuple(now.classes.labels[i] for i in part.truth)
    photos = Photos(names=part.paths, digests=part.digests, labels=labels, pixels=pixels[first])
    return Pair(
        earlier=earlier,
        now=now,
        names=part.paths,
        digests=part.digests,
        labels=labels,
        was=answers(earlier, photos),
        found=judged(now.classes, now.decision, scores.quanta[first], labels),
        unit=part.unit,
    )


def _changed(pair: Pair) -> list[Record]:
    return [
        {
            "path": pair.names[i],
            "sha256": pair.digests[i],
            "truth": pair.labels[i],
            "was": pair.was.verdicts[i],
            "now": pair.found.verdicts[i],
        }
        for i in changed_verdicts(pair)
    ]
