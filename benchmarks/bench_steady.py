"""Whether `mobileclf bench` repeats its ratios while another process keeps a core busy.

    python benchmarks/bench_steady.py FIRST.tflite SECOND.tflite [--runs 3] [--threads 1,2] ...

Starts a busy loop, benches both models some times over, and prints each ratio of each run with
the largest of the runs over the least. Exit 1 when a ratio that every run called steady differs
by more than 10 %: bench may say that it does not know, but not be wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence

from mobileclf import cores
from mobileclf.benchmark import SECONDS, machine
from mobileclf.benchmark.bench import bench
from mobileclf.records import Record

MOST = 0.10
# The loop ends when this script does, however that ends: then it has another parent.
LOOP = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    sum(range(100_000))\n"


def spread(ratios: Sequence[float]) -> float:
    """How much the largest is over the least, as a fraction; 0 of equal ones."""
    return max(ratios) / min(ratios) - 1


def verdict(rows: Sequence[Record]) -> str:
    """`repeats`, `says it cannot`, or `WRONG`: of the same configuration in several runs."""
    if any(row["trouble"] for row in rows):
        return "says it cannot"
    return "repeats" if spread([row["ratio"]["median"] for row in rows]) <= MOST else "WRONG"


def compare(records: Sequence[Record]) -> dict[tuple[str, str, int], list[Record]]:
    """The rows of each configuration of the second model, one from each run."""
    rows = defaultdict(list)
    for record in records:
        for row in record["configurations"]:
            if row.get("ratio") is not None:
                rows[row["runtime"], row["kernels"], row["threads"]].append(row)
    return dict(rows)


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs=2, metavar="MODEL")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", default=None, help="as 1,2")
    parser.add_argument("--runtime", action="append")
    parser.add_argument("--kernels", default="both")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument(
        "--busy", type=int, default=1, help="cores to keep busy; 0: an idle machine"
    )
    given = parser.parse_args()
    threads = [int(n) for n in given.threads.split(",")] if given.threads else None
    loops = [
        subprocess.Popen([sys.executable, "-c", LOOP, str(os.getpid())]) for _ in range(given.busy)
    ]
    try:
        records = [
            bench(given.models, threads=threads, runtimes=given.runtime, kernels=given.kernels,
                  seconds=given.seconds, seed=seed)
            for seed in range(given.runs)
        ]  # fmt: skip
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    print(f"{machine.description()['cpu']}, {cores.usable()} cores, {given.busy} kept busy")
    print(
        "| runtime | kernels | threads | ratios | ms of the second | rounds | differ by | verdict |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    verdicts = []
    for place, rows in compare(records).items():
        verdicts.append(verdict(rows))
        ratios = [row["ratio"]["median"] for row in rows]
        cells = [
            *map(str, place),
            ", ".join(("~" if r["trouble"] else "") + f"{r['ratio']['median']:.3f}" for r in rows),
            ", ".join(f"{row['median_ms']:.3g}" for row in rows),
            ", ".join(str(row["rounds"]) for row in rows),
            f"{spread(ratios):.1%}",
            verdicts[-1],
        ]
        print(f"| {' | '.join(cells)} |")
    for record in records:
        print("steady" if record["steady"] else f"not steady: {'; '.join(record['reasons'])}")
    return 1 if "WRONG" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())
