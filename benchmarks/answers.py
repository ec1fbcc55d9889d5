"""What int8 answers show beside the float model's on the same photos: figures, tests, tables.

For the scripts that compare ways to int8 over several splits of one data set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobileclf.records import Record
from mobileclf.stats.calibration import mean_kl
from mobileclf.stats.paired import count_pairs, mcnemar, newcombe, wilson
from mobileclf.wording import counted

MARGIN = 0.15  # of float's best answer over its second, above which no answer should change
RESAMPLES = 10_000
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Of the float model and one candidate on the same photos, which may come again in another
    seed: probabilities float64 (n, labels), label index and unit of each."""

    float: NDArray[np.float64]
    int8: NDArray[np.float64]
    truth: NDArray[np.int64]
    unit: NDArray[np.int64]

    @property
    def same(self) -> Flags:
        """Where both give the same answer."""
        return np.asarray(self.float.argmax(axis=1) == self.int8.argmax(axis=1))

    @property
    def margin(self) -> NDArray[np.float64]:
        """How far the float model's best answer is above its second."""
        top = np.sort(self.float, axis=1)
        return np.asarray(top[:, -1] - top[:, -2])

    def right(self, probabilities: NDArray[np.float64]) -> Flags:
        """Where these probabilities' answer is the truth."""
        return np.asarray(probabilities.argmax(axis=1) == self.truth)


def pooled(each: Sequence[Answers]) -> Answers:
    """The answers of all seeds as one."""
    return Answers(
        **{
            name: np.concatenate([getattr(one, name) for one in each])
            for name in ("float", "int8", "truth", "unit")
        }
    )


def kl_of(answers: Answers) -> NDArray[np.float64]:
    """KL(float || int8) in nats of each photo."""
    rows = zip(answers.float, answers.int8, strict=True)
    return np.array([mean_kl(p[None], q[None]) for p, q in rows])


def measured(answers: Answers, stock: Answers) -> Record:
    """The figures of one candidate. Intervals are of 95 % and take each answer as a photo of its
    own, which those of one photo in several seeds are not: see `compared`."""
    same, n = answers.same, len(answers.truth)
    before, after = answers.right(answers.float), answers.right(answers.int8)
    pairs = count_pairs(before, after)
    low, high = newcombe(pairs)
    kl = float(kl_of(answers).mean())
    return {
        "answers": n,
        "float_accuracy": float(before.mean()),
        "float_accuracy_interval": wilson(int(before.sum()), n),
        "accuracy": float(after.mean()),
        "accuracy_interval": wilson(int(after.sum()), n),
        "cost": (pairs.lost - pairs.won) / n,
        "cost_interval": (-high, -low),
        "agreement": float(same.mean()),
        "agreement_interval": wilson(int(same.sum()), n),
        "flips": int((~same).sum()),
        "flips_over_margin": int((~same & (answers.margin > MARGIN)).sum()),
        "largest_margin_of_flip": float(answers.margin[~same].max(initial=0.0)),
        "kl": kl,
        "kl_of_stock": kl / float(kl_of(stock).mean()),
        "largest_change": float(np.abs(answers.float - answers.int8).max()),
    }


def compared(ours: Answers, other: Answers) -> Record:
    """Ours against another's answers to the same photos: how often each alone agrees with float,
    and what that shows.

    McNemar's test takes each answer as a photo of its own. All else has the photo, with its
    copies, as what is drawn: `p_agreement` is of `sign_flips` of each photo's difference, summed
    over its seeds; the intervals are of 95 % of a bootstrap over photos. Seeds and heads are taken
    as they are.
    """
    pairs = count_pairs(other.same, ours.same)
    columns = np.stack(
        [
            np.ones(len(ours.truth)),
            ours.same.astype(float) - other.same,
            ours.right(ours.float).astype(float) - ours.right(ours.int8),
            kl_of(ours),
            kl_of(other),
        ],
        axis=1,
    )
    units, place = np.unique(ours.unit, return_inverse=True)
    sums = np.zeros((len(units), columns.shape[1]))
    np.add.at(sums, place, columns)
    rng = np.random.default_rng(0)
    times = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=RESAMPLES)
    drawn = times @ sums
    return {
        "only_ours_agrees": pairs.won,
        "only_other_agrees": pairs.lost,
        "agreement_gain": pairs.difference,
        "mcnemar_p": mcnemar(pairs),
        "photos": len(units),
        "p_agreement": sign_flips(sums[:, 1], rng),
        "agreement_gain_interval": _middle(drawn[:, 1] / drawn[:, 0]),
        "cost_interval": _middle(drawn[:, 2] / drawn[:, 0]),
        "kl_ratio_interval": _middle(drawn[:, 3] / drawn[:, 4]),
    }


def sign_flips(sums: NDArray[np.float64], rng: np.random.Generator) -> float:
    """Two-sided p of the sum of `sums` when each might as well have had the other sign (Fisher
    1935, from RESAMPLES draws); of one answer a photo this is McNemar's exact test."""
    left = sums[sums != 0]
    signs = rng.choice((-1.0, 1.0), size=(RESAMPLES, len(left)))
    as_far = np.abs(signs @ left) >= abs(left.sum()) - 1e-9
    return float((1 + as_far.sum()) / (1 + RESAMPLES))


def _middle(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def show_table(figures: Mapping[str, Record], seeds: int) -> None:
    """A row for each candidate, all seeds pooled."""
    first = next(iter(figures.values()))
    print(
        f"\n{counted(seeds, 'seed')}, {first['answers']} answers; float accuracy "
        f"{100 * first['float_accuracy']:.2f} {_between(first['float_accuracy_interval'])} %\n\n"
        "| int8 | accuracy, % | cost, points | agreement, % | flips | "
        f"of them over {MARGIN} | largest margin | mean KL | of stock's | largest change |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for name, row in figures.items():
        print(
            f"| {name} | {100 * row['accuracy']:.2f} {_between(row['accuracy_interval'])} | "
            f"{100 * row['cost']:.2f} {_between(row['cost_interval'])} | "
            f"{100 * row['agreement']:.2f} {_between(row['agreement_interval'])} | "
            f"{row['flips']} | {row['flips_over_margin']} | {row['largest_margin_of_flip']:.3f} | "
            f"{row['kl']:.5f} | {row['kl_of_stock']:.3f} | {row['largest_change']:.3f} |"
        )


def show_test(ours: str, other: str, test: Record) -> None:
    """What `compared` found, in words."""
    low, high = test["kl_ratio_interval"]
    print(
        f"\n{ours} against {other}: {test['only_ours_agrees']} answers like float's from the first "
        f"alone, {test['only_other_agrees']} from the second alone; McNemar's exact p = "
        f"{test['mcnemar_p']:.2g}. One photo's answers in several seeds are not independent; "
        f"with the photo as the unit ({test['photos']} of them): permutation p = "
        f"{test['p_agreement']:.2g}, agreement gained {100 * test['agreement_gain']:.2f} points "
        f"{_between(test['agreement_gain_interval'])}, accuracy cost of the first "
        f"{_between(test['cost_interval'])} points, its KL {low:.3f} to {high:.3f} of the second's."
    )


def show_goals(goals: Sequence[Record]) -> None:
    """A line for each."""
    print()
    for goal in goals:
        print(f"{'holds' if goal['holds'] else 'MISSED'}: {goal['goal']}: {goal['found']}")


def _between(interval: Sequence[float]) -> str:
    """In percent or points."""
    return f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
