"""How pixels become a given model's input, tried on labelled photos: which of the usual ways gives
the most right answers. What is found is proposed or held against what was said, never used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobileclf.errors import DataError
from mobileclf.images.preprocess import NAMED, Preprocess
from mobileclf.records import Record
from mobileclf.stats.assignment import LEVEL, answers_of, cross_fitted
from mobileclf.stats.paired import beats_majority, count_pairs, mcnemar
from mobileclf.wording import counted

GREY, COLOUR = ("0..255", "0..1", "-1..1"), ("0..255", "0..1", "-1..1", "caffe", "torch")
# From so much on, two ways give the same answers, and the rest is no evidence for either.
ALIKE = 0.95


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One way. answers: int64 (n,). right: bool (n,), each photo judged by the order of labels
    that is best on the others, so that a wrong order does not hide the right way."""

    how: Preprocess
    answers: NDArray[np.int64]
    right: NDArray[np.bool_]

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


@dataclass(frozen=True, kw_only=True)
class Trial:
    """tried: in the order that they were given; none where no usual way fits the input. truth:
    int64 (n,)."""

    tried: tuple[Tried, ...]
    truth: NDArray[np.int64]

    @property
    def ranked(self) -> list[Tried]:
        """The most right first; of equals, in the order that they were tried."""
        return sorted(self.tried, key=lambda one: -int(one.right.sum()))

    @property
    def p(self) -> float:
        """McNemar's two-sided p of the best against each of the others: the largest."""
        best, *others = self.ranked
        return max((_p(one, best) for one in others), default=0.0)

    @property
    def clear(self) -> bool:
        """Whether the best beats every other, and the most frequent label, at LEVEL."""
        return len(self.tried) > 1 and self.p < LEVEL and _knows(self.ranked[0], self)

    def as_record(self) -> Record:
        """photos, accuracy by name, best, p and clear."""
        return {
            "photos": len(self.truth),
            "accuracy": {one.how.name: one.accuracy for one in self.tried},
            "best": self.ranked[0].how.name,
            "p": self.p,
            "clear": self.clear,
        }


def candidates(channels: int) -> tuple[Preprocess, ...]:
    """The ways that models are usually trained with; of grey, those that are the same for all
    channels."""
    return tuple(NAMED[name] for name in (COLOUR if channels == 3 else GREY))


def run(
    score: Callable[[Preprocess], NDArray[np.floating[Any]]],
    ways: Sequence[Preprocess],
    truth: NDArray[np.int64],
) -> Trial:
    """Try each of `ways`. score: what the model answers on the photos, (n, k).
    truth: (n,), 0..k-1; n at least 1. An answer that is NaN or infinite is not right."""
    tried = []
    for how in ways:
        outputs = score(how)
        answers = answers_of(outputs)
        right = cross_fitted(answers, truth, outputs.shape[1])
        tried.append(Tried(how=how, answers=answers, right=right))
    return Trial(tried=tuple(tried), truth=truth)


def propose(trial: Trial) -> str:
    """One line for who said nothing of it: what each way gives, and which one to give."""
    unknown = "wanted to know how pixels become its input, and nothing in it says so"
    if not trial.tried:
        return f"{unknown}; none of the usual ways fits it: give --preprocess as it was trained"
    best = trial.ranked[0]
    if len(trial.tried) == 1:
        return (
            f"{unknown}; {best.how.name} is the only usual way that fits it, and "
            f"{best.accuracy:.0%} of {counted(len(trial.truth), 'photo')} are right so: give "
            f"--preprocess {best.how.name} if it was trained so"
        )
    share, _ = beats_majority(best.right, trial.truth)
    advice = (
        f"{best.how.name} is clearly best (p = {trial.p:.1g}): give --preprocess {best.how.name} "
        "if it was trained so"
        if trial.clear
        else f"none is clearly best (the most frequent label alone has {share:.0%}): give "
        "--preprocess as it was trained"
    )
    return (
        f"{unknown}; of {counted(len(trial.truth), 'photo')} {_listed(trial)} are right; {advice}"
    )


def unclear(trial: Trial) -> str:
    """One line on what a trial without a clear best shows, and what it does not."""
    return (
        f"of {counted(len(trial.truth), 'photo')} {_listed(trial)} are right, which does not show "
        "which one is meant"
    )


def check_given(trial: Trial, given: Preprocess, said: str) -> None:
    """Raises DataError where another way is shown to be meant. given: one of those tried. said:
    who says so, in words.

    The p of each other way counts as often as there are others, so that of many none wins by
    luck; one that gives the same answers on ALIKE of the photos is no other way.
    """
    own = next(one for one in trial.tried if one.how == given)
    others = [one for one in trial.tried if one is not own]
    for one in sorted(others, key=lambda one: -int(one.right.sum())):
        p = min(1.0, len(others) * _p(own, one))
        differs = float((own.answers == one.answers).mean()) < ALIKE
        better = one.right.sum() > own.right.sum() and p < LEVEL
        if differs and better and _knows(one, trial):
            raise DataError(
                f"pixels as {given.name} ({said}): wanted as the model was trained, "
                f"found that {one.how.name} has {one.accuracy:.1%} of "
                f"{counted(len(trial.truth), 'photo')} right and {given.name} {own.accuracy:.1%} "
                f"(p = {p:.1g}); check it, or give --preprocess {one.how.name}"
            )


def _knows(one: Tried, trial: Trial) -> bool:
    """Whether it beats the most frequent label."""
    return beats_majority(one.right, trial.truth)[1] < LEVEL


def _p(one: Tried, other: Tried) -> float:
    return mcnemar(count_pairs(one.right, other.right))


def _listed(trial: Trial) -> str:
    return ", ".join(f"{one.accuracy:.0%} as {one.how.name}" for one in trial.tried)
