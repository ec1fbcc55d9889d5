"""The four seed recipes from their own form of data to an int8 bundle, in one run.

    python benchmarks/seeds.py DATA [--only NAME]

DATA holds `mushrooms4`, `cats_dogs` and `weights/inception_v3_imagenet_notop.h5`. Prints a table
with one row a recipe and data set: test accuracy of float and int8 model, how many test photos
get the same answer from both, the verdict, the exit code and the minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from seed_data import link_classes, write_digits, write_pixels

SPECIES = ("Amanita_Muscaria-NotEdible", "Boletus_Edulis-Edible")


def commands(data: Path, made: Path) -> dict[str, tuple[str, list[str]]]:
    """Title and options of each row, by name. Writes what has to be written under `made`."""
    weights = data / "weights" / "inception_v3_imagenet_notop.h5"
    species = [data / "mushrooms4" / name for name in SPECIES]
    pets = sorted((data / "cats_dogs" / "train").iterdir())
    pixels = ["--shape", "100,100,3", "--classes"]
    return {
        "digits": (
            "seed-digits on scikit-learn's digits",
            ["--recipe", "seed-digits", "--data", str(write_digits(made / "digits"))],
        ),
        "mushrooms": (
            "seed-mushrooms on mushrooms4",
            ["--recipe", "seed-mushrooms", "--data", str(data / "mushrooms4"),
             "--weights", str(weights), "--harmful", "NotEdible"],
        ),
        "cats-dogs": (
            "seed-cats-dogs on cats_dogs",
            ["--recipe", "seed-cats-dogs", "--data", str(data / "cats_dogs")],
        ),
        "species": (
            "seed-cats-dogs on two species of mushrooms4",
            ["--recipe", "seed-cats-dogs",
             "--data", str(link_classes(made / "species", species)),
             "--harmful", SPECIES[0]],
        ),
        "pixels": (
            "seed-pixels on cats_dogs as pixel CSVs",
            ["--recipe", "seed-pixels", "--data", str(write_pixels(made / "pixels", pets)),
             *pixels, "cat,dog"],
        ),
        "pixel-species": (
            "seed-pixels on two species as pixel CSVs",
            ["--recipe", "seed-pixels",
             "--data", str(write_pixels(made / "pixel_species", species)),
             *pixels, "muscaria,edulis", "--harmful", "muscaria"],
        ),
    }  # fmt: skip


def measure(name: str, options: list[str], work: Path) -> list[str]:
    """Run one export and return the cells of its row."""
    run = work / "runs" / name
    command = [sys.executable, "-m", "mobileclf", "export", "--int8", "--name", name,
               "--run", str(run), "--out", str(work / "exported"), *options]  # fmt: skip
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    minutes = (time.monotonic() - start) / 60
    cells = ["–", "–", "–", "–"]
    if (run / "parity.json").exists():
        parity = json.loads((run / "parity.json").read_text())
        cells = [
            f"{parity['float']['accuracy']:.1%}",
            f"{parity['int8']['accuracy']:.1%}",
            f"{parity['agreement']:.1%}",
            parity["verdict"],
        ]
    reason = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    return [*cells, str(done.returncode), f"{minutes:.1f}", reason]


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", help="one row, by name")
    given = parser.parse_args()
    print("| recipe and data | float | int8 | same answers | verdict | exit | minutes |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, (title, options) in commands(given.data.resolve(), work).items():
            if given.only in (None, name):
                *cells, reason = measure(name, options, work)
                print(f"| {' | '.join([title, *cells])} |", flush=True)
                if reason:
                    print(f"  {reason}", flush=True)


if __name__ == "__main__":
    main()
