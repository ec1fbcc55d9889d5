"""How fast an int8 model is beside its float32 one and the stock converter's int8 of it.

    python benchmarks/quantized_latency.py FLOAT32 STOCK OURS [OTHER ...] [--seconds 120]

All are `.tflite` files, as `quantization.py --keep` leaves them. They are timed in turn in one
run, by the rounds of `mobileclf bench`, on LiteRT with XNNPACK at one thread and at two. Prints
each time against FLOAT32's and against OURS (ratios with 95 % intervals), and how XNNPACK takes
each file: the number of delegates, and the operators left to the built-in kernels (the softmax
and the bytes' change of type at the ends always are). Exit 1 where a goal for OURS is missed, or
where the machine was too busy to tell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mobileclf import cores
from mobileclf.benchmark.bench import bench
from mobileclf.records import Record, write_json
from mobileclf.tflite import delegates
from mobileclf.tflite.graph import read

OF_FLOAT = 0.27  # goals: of float32's time, at most
TIMES_STOCK = 1.3  # as fast as the stock converter's int8, at least


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A median over rounds and its 95 % interval; None where rounds were too few for one."""

    value: float
    interval: tuple[float, float] | None

    def inverse(self) -> Ratio:
        """Of the same two times the other way round."""
        turned = (1 / self.interval[1], 1 / self.interval[0]) if self.interval else None
        return Ratio(value=1 / self.value, interval=turned)

    def __str__(self) -> str:
        known = f" [{self.interval[0]:.3f}, {self.interval[1]:.3f}]" if self.interval else ""
        return f"{self.value:.3f}{known}"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A model at a number of threads. of_float: its time to FLOAT32's. to_ours: to OURS'."""

    model: Path
    threads: int
    milliseconds: float
    of_float: Ratio
    to_ours: Ratio


@dataclass(frozen=True, kw_only=True)
class Measured:
    """rows: models by thread count. shares: how XNNPACK takes each, as `delegates.shares` says it.
    record: of `bench`."""

    rows: tuple[Timed, ...]
    shares: dict[Path, Record]
    record: Record


def measure(models: Sequence[Path], seconds: float) -> Measured:
    """Of OURS, FLOAT32, STOCK and any others, in this order. seconds: of timing, at most."""
    shares = {model: _taken(model) for model in models}
    record = bench(
        models, threads=[n for n in (1, 2) if n <= cores.usable()], runtimes=[delegates.MAIN],
        kernels="xnnpack", seconds=seconds,
    )  # fmt: skip
    return Measured(rows=tuple(_timed(models, record)), shares=shares, record=record)


def _taken(path: Path) -> Record:
    (loaded,) = delegates.load(path, [delegates.MAIN])
    if not loaded.loads:
        raise SystemExit(f"{path}: {loaded.runtime} cannot load it ({loaded.reason})")
    return delegates.shares(read(path.read_bytes()).subgraphs[0], loaded)


def left(share: Record) -> str:
    """The operators that no delegate took."""
    each = (f"{one['count']} {one['operator']}" for one in share["operators_left"])
    return ", ".join(each) or "none"


def _timed(models: Sequence[Path], record: Record) -> Iterator[Timed]:
    """Rounds are paired with OURS, so that both ratios that there are goals for have intervals.
    That of two others is the quotient of theirs, without one."""
    for threads in record["settings"]["threads"]:
        rows = [row for row in record["configurations"] if row["threads"] == threads]
        to_ours = [_ratio(row) for row in rows]
        for i, (model, row, ratio) in enumerate(zip(models, rows, to_ours, strict=True)):
            quotient = Ratio(value=ratio.value / to_ours[1].value, interval=None)
            yield Timed(
                model=model,
                threads=threads,
                milliseconds=row["median_ms"],
                of_float=quotient if i else to_ours[1].inverse(),
                to_ours=ratio,
            )


def _ratio(row: Record) -> Ratio:
    if row["ratio"] is None:  # OURS itself
        return Ratio(value=1.0, interval=None)
    interval = row["ratio"]["interval"]
    return Ratio(value=row["ratio"]["median"], interval=tuple(interval) if interval else None)


def goals_of(measured: Measured, models: Sequence[Path]) -> Iterator[Record]:
    """Each goal, what was found, and whether it holds. models: OURS, FLOAT32, STOCK, ..."""
    ours, _, stock, *_ = models
    for row in measured.rows:
        at = f"{row.threads} thread{'s' if row.threads > 1 else ''}"
        if row.model == ours:
            yield _goal(f"{at}: at most {OF_FLOAT} of float32's time", row.of_float,
                        row.of_float.value <= OF_FLOAT)  # fmt: skip
        elif row.model == stock:
            yield _goal(f"{at}: at least {TIMES_STOCK} times as fast as stock", row.to_ours,
                        row.to_ours.value >= TIMES_STOCK)  # fmt: skip
    share = measured.shares[ours]
    found = f"{share['delegates']}, left: {left(share)}"
    yield _goal("one delegate", found, share["delegates"] == 1)


def _goal(goal: str, found: object, holds: bool) -> Record:
    return {"goal": goal, "found": str(found), "holds": holds}


def show(measured: Measured) -> None:
    """The table, and why it is not to be relied on, if it is not."""
    about = measured.record["machine"]
    print(f"{about['cpu']}, {about['cores']} cores, {', '.join(about['runtimes'])}\n")
    print("| model | threads | median ms | of float32's time | of ours | delegates | left |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in measured.rows:
        share = measured.shares[row.model]
        print(
            f"| {row.model.stem} | {row.threads} | {row.milliseconds:.2f} | {row.of_float} | "
            f"{row.to_ours} | {share['delegates']} | {left(share)} |"
        )
    for reason in measured.record["reasons"]:
        print(f"not steady: {reason}")


def main() -> int:
    """Print the table and the goals, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("float32", type=Path)
    parser.add_argument("stock", type=Path)
    parser.add_argument("ours", type=Path)
    parser.add_argument("others", type=Path, nargs="*", metavar="OTHER")
    parser.add_argument("--seconds", type=float, default=120, help="of timing, at most")
    parser.add_argument("--out", type=Path, help="JSON of the run")
    given = parser.parse_args()
    models = [given.ours, given.float32, given.stock, *given.others]
    measured = measure(models, given.seconds)
    goals = list(goals_of(measured, models))
    show(measured)
    print()
    for goal in goals:
        print(f"{'holds' if goal['holds'] else 'MISSED'}: {goal['goal']}: {goal['found']}")
    if given.out:
        named = {model.name: share for model, share in measured.shares.items()}
        write_json(given.out, {"bench": measured.record, "delegates": named, "goals": goals})
    return 0 if measured.record["steady"] and all(goal["holds"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
