"""What a bundle is held to on photos: shares, against those of its own test photos.

Checks fail only on what the photos show: at most RISK of the time where the bundle is as good as
it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mobileclf.stats.fisher import fewer

from .check import RISK, Check, not_judged
from .gate import Gate
from .subject import OF_HARMFUL, Answers, Photos, Subject, are_harmful


def photos(gate: Gate) -> Check:
    """Every photo of the data can be used; one that cannot would be refused by the app, too."""
    out = gate.photos.left_out
    return Check(
        name="photos",
        passed=not out,
        wanted="every photo one that can be used",
        found=f"{len(gate.photos)} photos, {len(out)} that cannot be used{_without(gate)}",
        details=out,
    )


def accuracy(gate: Gate) -> Check:
    """The share of right answers is not shown to be below that on the bundle's own test photos."""
    own = gate.record["metrics"]
    n, right = len(gate.answers), int(gate.answers.right.sum())
    own_n, own_right = own["n"], round(own["int8"]["accuracy"] * own["n"])
    p = fewer(right, n, own_right, own_n)
    wrong = np.flatnonzero(~gate.answers.right)
    return Check(
        name="accuracy",
        passed=p > RISK,
        wanted=f"not below the bundle's own {own_right} of {own_n} ({own_right / own_n:.1%}), "
        f"p > {RISK}",
        found=f"{right} of {n} ({right / n:.1%}), p = {p:.2g}{_without(gate)}",
        details=_rows(gate.photos, gate.answers, wrong, gate.subject),
    )


def harmful(gate: Gate) -> Check:
    """The share of harmful photos called harmless is not shown to be above what the bundle
    guarantees or, without a guarantee, above that on its own test photos. Each is named."""
    from mobileclf.stats.exact import lower_bound

    name, one, found = "harmful", gate.subject, gate.answers
    truly = are_harmful(one.classes, gate.photos.labels)
    wanted = "harmful photos called harmless no more often than promised"
    if truly is None or found.missed is None:
        return not_judged(name, wanted, "there is no harmful group")
    n, missed = int(truly.sum()), int(found.missed.sum())
    details = _rows(gate.photos, found, np.flatnonzero(found.missed), one)
    said = f"{missed} of {n}"
    if not n:
        return not_judged(name, wanted, "no photo is of a harmful class")
    own = gate.record["metrics"]
    if guarantee := own.get("guarantee"):
        low = float(lower_bound(missed, n, confidence=1 - RISK))
        wanted = f"at most {guarantee['most']:.2%} of harmful photos called harmless (guarantee)"
        passed, said = low <= guarantee["most"], f"{said}, at least {low:.2%}"
    elif test := own.get("decision"):
        own_missed = test["missed"]
        own_n = sum(test[key] for key in OF_HARMFUL)
        p = fewer(n - missed, n, own_n - own_missed, own_n)
        wanted = f"no more than the bundle's own {own_missed} of {own_n}, p > {RISK}"
        passed, said = p > RISK, f"{said}, p = {p:.2g}"
    else:
        said += ", and the bundle does not say how many on its own test photos; export it again"
        return not_judged(name, wanted, said, details)
    said += _without(gate, one.classes.harmful)
    return Check(name=name, passed=passed, wanted=wanted, found=said, details=details)


def _without(gate: Gate, group: str | None = None) -> str:
    """Which classes, of a group or of all, there is no photo of: shares are of those there are."""
    one, there = gate.subject.classes, set(gate.photos.labels)
    absent = [
        label
        for label, own in zip(one.labels, one.groups, strict=True)
        if label not in there and group in (None, own)
    ]
    return f"; no photo of {', '.join(absent)}" if absent else ""


def _rows(
    of: Photos, said: Answers, indices: Sequence[int] | NDArray[np.int64], one: Subject
) -> tuple[str, ...]:
    """A line for each of these photos: what it is and what was said."""
    largest = said.quanta.argmax(axis=1)
    return tuple(
        f"{of.names[i]}: {of.labels[i]}, found {one.classes.labels[largest[i]]}, "
        f"verdict {said.verdicts[i]}"
        for i in indices
    )
