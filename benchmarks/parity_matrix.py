"""Every variant of a run's model on every runtime at hand, as the table that the README shows.

    python benchmarks/parity_matrix.py RUN [--photos 1000] [--seconds 300] [--again]

RUN is a run's folder whose models are converted and scored, best with --fp16 --dynamic --int16x8.
Writes its matrix.json and matrix_times.json (where they are there already they are shown, unless
--again) and prints them as Markdown. Exit 1 when outputs that must be the same are not.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mobileclf import pipeline
from mobileclf.matrix import MATRIX, build, entries, latency
from mobileclf.records import Record
from mobileclf.report import matrix


def failed(record: Record) -> list[str]:
    """What does not hold of the pairs that are held."""
    return [pair["what"] for pair in record["identity"] if not pair["passed"]]


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--photos", type=int, default=entries.MOST, help="of the test part")
    parser.add_argument("--seconds", type=float, default=latency.SECONDS, help="of timing")
    parser.add_argument("--again", action="store_true", help="also where the records are there")
    given = parser.parse_args()
    if given.again or not (given.run / MATRIX).exists():
        settings = pipeline.settings_for({"run": given.run}, "score")
        build.build(given.run, settings, most=given.photos, seconds=given.seconds)
    record, times = matrix.read(given.run)
    print(matrix.markdown(record, times), end="")
    return 1 if failed(record) else 0


if __name__ == "__main__":
    sys.exit(main())
