"""Static int8 by Google's ai-edge-quantizer beside what this tool makes of the same networks.

    python benchmarks/ai_edge_quantizer.py KEPT [--seeds 5] [--algorithm NAME] [--seconds 120]

KEPT is a folder that `quantization.py --keep` filled. Of each seed in it both float32 files, the
network as it is and as this tool rewrites it, are quantized by the recipe `static_wi8_ai8` with
the photos that the stock converter got, and answer the same photos in the same way. Prints one
table of accuracy, agreement and KL, all seeds pooled, and one of latency in the first seed. The
quantizer is installed into a virtual environment of its own in a temporary folder, since its
requirements are not this tool's. --algorithm: one of its AlgorithmName [min_max_uniform_quantize].
Exit 1 where this tool is not shown to be ahead.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import answers
import numpy as np
import quantization as ours
import quantized_latency as latency
from numpy.typing import NDArray

from mobileclf import progress
from mobileclf.records import Record, write_json
from mobileclf.tflite.interpreter import Interpreter, answer, dequantized, open_interpreter

# It asks by signature, which files from a bare function do not have: one is written in.
QUANTIZE = """
import sys
from importlib.metadata import version
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import quantizer, recipe
model, photos, target, *algorithm = sys.argv[1:]
held = schema.ModelT.InitFromPackedBuf(open(model, "rb").read(), 0)
def named(name, index):
    pair = schema.TensorMapT()
    pair.name, pair.tensorIndex = name, index
    return pair
graph, signature = held.subgraphs[0], schema.SignatureDefT()
signature.signatureKey, signature.subgraphIndex = "serving_default", 0
signature.inputs = [named("pixels", graph.inputs[0])]
signature.outputs = [named("scores", graph.outputs[0])]
held.signatureDefs = [signature]
builder = flatbuffers.Builder()
builder.Finish(held.Pack(builder), b"TFL3")
tool = quantizer.Quantizer(bytearray(builder.Output()), recipe.static_wi8_ai8(*algorithm))
pixels = np.load(photos).astype(np.float32)
found = tool.calibrate({"serving_default": [{"pixels": photo[None]} for photo in pixels]})
tool.quantize(found).export_model(target, overwrite=True)
print("VERSION" + version("ai-edge-quantizer"))
"""
# Variant to the float32 file that it is made of.
THEIRS = {"ai-edge-quantizer": ours.FLOATS[0], "ai-edge-quantizer, rewritten": ours.FLOATS[1]}


def environment(folder: Path) -> Path:
    """A fresh Python with the quantizer in it."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "ai-edge-quantizer"], check=True)
    return python


def quantize(
    python: Path, model: Path, photos: NDArray[np.uint8], target: Path, algorithm: Sequence[str]
) -> str:
    """Write `target`, the int8 of a float32 model; returns the quantizer's version."""
    with tempfile.TemporaryDirectory() as folder:
        pixels = Path(folder) / "photos.npy"
        np.save(pixels, photos)
        command = [str(python), "-c", QUANTIZE, str(model), str(pixels), str(target), *algorithm]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("VERSION"):
            return line[len("VERSION") :]
    raise SystemExit(f"ai-edge-quantizer does not quantize {model}:\n{done.stderr[-2000:]}")


def probabilities(model: Path, photos: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What a file answers, on XNNPACK, whatever grids its ends have: float64 (n, labels)."""
    opened = open_interpreter(model, threads=2)
    shown = progress.track(photos, f"score {model.stem}", len(photos))
    rows = [answer(opened, _as_input(photo, opened)) for photo in shown]
    return dequantized(np.stack(rows), opened.output)


def _as_input(photo: NDArray[np.uint8], opened: Interpreter) -> NDArray[np.generic]:
    """Bytes on the grid of the file's input."""
    grid = opened.input
    if grid.dtype == np.float32:
        return photo.astype(np.float32)
    steps = np.rint(photo / grid.scale) + grid.zero_point
    info = np.iinfo(grid.dtype)
    return np.asarray(np.clip(steps, info.min, info.max).astype(grid.dtype))


def one_seed(
    python: Path, folder: Path, photos: ours.Photos, algorithm: Sequence[str]
) -> tuple[str, dict[str, answers.Answers]]:
    """Their version, and the answers of each variant in one seed: stock, ours and theirs."""
    with np.load(folder / "split.npz", allow_pickle=False) as split:
        train, test = split["train"], split["test"]
        calibration = ours.some(photos.pixels[train], ours.CALIBRATION)
        told = split["float"][test]
    found = {name: ours.answers_of(folder, name, photos) for name in (ours.STOCK, ours.OURS)}
    for name, source in THEIRS.items():
        target = theirs_in(folder, name)
        version = quantize(python, folder / f"{source}.tflite", calibration, target, algorithm)
        found[name] = answers.Answers(
            float=told,
            int8=probabilities(target, photos.pixels[test]),
            truth=photos.truth[test],
            unit=photos.unit[test],
        )
        progress.say(f"{folder.name}: {name} {version}")
    return version, found


def theirs_in(folder: Path, name: str) -> Path:
    """Where a file of theirs stands in a seed's folder."""
    return folder / f"{name.replace(', ', '_')}.tflite"


def goals_of(figures: Record, tests: Record) -> list[Record]:
    """Whether ours is ahead of each of theirs, by photo and beyond chance."""
    rows = []
    for name, test in tests.items():
        gain, p = test["agreement_gain"], test["p_agreement"]
        high = test["kl_ratio_interval"][1]
        ratio = figures[ours.OURS]["kl"] / figures[name]["kl"]
        rows += [
            (f"more answers like float's than {name}, p < 0.05 by photo",
             f"{100 * gain:+.2f} points, p = {p:.2g}", gain > 0 and p < 0.05),
            (f"less KL than {name}", f"{ratio:.3f} of its, at most {high:.3f}", high < 1),
        ]  # fmt: skip
    return [{"goal": goal, "found": found, "holds": bool(holds)} for goal, found, holds in rows]


def main() -> int:
    """Print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kept", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="at most so many of those kept")
    parser.add_argument("--algorithm", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=120, help="of timing, at most")
    parser.add_argument("--out", type=Path, help="JSON of all figures")
    given = parser.parse_args()
    photos = ours.read_photos(given.kept)
    folders = sorted(given.kept.glob("seed_*"), key=lambda path: int(path.name[5:]))
    folders = [path for path in folders if (path / f"{ours.OURS}.npy").exists()][: given.seeds]
    if not folders:
        raise SystemExit(f"{given.kept}: wanted seeds that quantization.py --keep left, found none")
    with tempfile.TemporaryDirectory() as folder:
        python = environment(Path(folder))
        seeds = [one_seed(python, path, photos, given.algorithm) for path in folders]
    total = {name: answers.pooled([found[name] for _, found in seeds]) for name in seeds[0][1]}
    figures = {name: answers.measured(one, total[ours.STOCK]) for name, one in total.items()}
    tests = {name: answers.compared(total[ours.OURS], total[name]) for name in THEIRS}
    goals = goals_of(figures, tests)
    print(f"ai-edge-quantizer {seeds[0][0]}, {', '.join(given.algorithm) or 'its own algorithm'}")
    answers.show_table(figures, len(folders))
    for name, test in tests.items():
        answers.show_test(ours.OURS, name, test)
    answers.show_goals(goals)
    first = folders[0]
    files = [first / f"{name}.tflite" for name in (ours.OURS, ours.FLOATS[0], ours.STOCK)]
    timing = latency.measure([*files, *(theirs_in(first, name) for name in THEIRS)], given.seconds)
    print()
    latency.show(timing)
    if given.out:
        write_json(
            given.out,
            {"version": seeds[0][0], "algorithm": given.algorithm, "figures": figures,
             "ours_against": tests, "goals": goals, "latency": timing.record},
        )  # fmt: skip
    return 0 if all(goal["holds"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
